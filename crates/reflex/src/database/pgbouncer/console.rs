//! The tables of PgBouncer's console. Their columns differ between versions: they are read by name, and what is not there is
//! empty. Not for: what they mean.

use crate::database::book::canonical;
use std::net::{IpAddr, SocketAddr};
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

/// Most rows that are read of a table.
const ROWS_MAX: usize = 20_000;

/// A row.
pub(super) struct Row(SimpleQueryRow);

/// Reads a table: `CLIENTS`, `SERVERS`.
pub(super) async fn show(client: &Client, table: &str) -> Result<Vec<Row>, Error> {
    let messages = client.simple_query(&format!("SHOW {table}")).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(Row(row)),
        _ => None,
    });
    Ok(rows.take(ROWS_MAX).collect())
}

impl Row {
    pub(super) fn text(&self, column: &str) -> &str {
        self.0.try_get(column).ok().flatten().unwrap_or_default()
    }

    pub(super) fn number(&self, column: &str) -> u32 {
        self.text(column).parse().unwrap_or_default()
    }

    /// Seconds in one column, and the rest of them in another.
    pub(super) fn seconds(&self, column: &str, micros: &str) -> f64 {
        f64::from(self.number(column)) + f64::from(self.number(micros)) / 1e6
    }

    /// None for unix sockets.
    pub(super) fn address(&self, ip: &str, port: &str) -> Option<SocketAddr> {
        let ip: IpAddr = self.text(ip).parse().ok()?;
        Some(canonical(SocketAddr::new(ip, self.text(port).parse().ok()?)))
    }
}
