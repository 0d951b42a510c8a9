//! What a PostgreSQL allows: connections, and limits on time. Not for: what goes on in it.

use super::CONNECTIONS;
use super::session::get;
use super::standing::{self, BEGIN};
use crate::database::book::Book;
use crate::database::connect::{connect, words};
use crate::database::facts::{Facts, Limit};
use crate::database::target::Target;
use ferricorn_core::evidence::Service;
use tokio_postgres::Error;

const SERVER: &str = "
SELECT current_setting('server_version'), current_setting('superuser_reserved_connections')::int
     + coalesce(current_setting('reserved_connections', true)::int, 0)";

/// Those of everybody (as far as our own role is like everybody), then those of roles and databases.
const LIMITS: &str = "
WITH names(name) AS (VALUES ('statement_timeout'), ('lock_timeout'), ('transaction_timeout'),
     ('idle_in_transaction_session_timeout'), ('idle_session_timeout'), ('client_connection_check_interval'))
SELECT '', '', n.name, s.setting || coalesce(s.unit, '') FROM names n
  JOIN (SELECT p.name, p.reset_val AS setting, p.unit FROM pg_settings p) s ON s.name = n.name
UNION ALL
SELECT coalesce(r.rolname::text, ''), coalesce(d.datname::text, ''), split_part(c, '=', 1),
       substr(c, strpos(c, '=') + 1)
  FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c
  LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
 WHERE split_part(c, '=', 1) IN (SELECT n.name FROM names n)
 LIMIT 200";

/// Asks for them.
pub(in crate::database) async fn facts(target: &Target, book: &Book) -> Result<Facts, String> {
    let wire = connect(target, book).await?;
    let standing = standing::look(&wire).await.map_err(|error| words(&error))?;
    let asked: Result<Facts, Error> = async {
        let client = &wire.client;
        client.batch_execute(BEGIN).await?;
        let server = client.query_typed_one(SERVER, &[]).await?;
        let connections = client.query_typed_one(CONNECTIONS, &[]).await?;
        let limits = client.query_typed(LIMITS, &[]).await?;
        let count = |number: Option<i32>| number.unwrap_or_default().max(0).cast_unsigned();
        let limits = limits.iter().map(|row| {
            let text = |at: usize| get::<String>(row, at).unwrap_or_default();
            Limit { role: text(0), database: text(1), name: text(2), value: text(3) }
        });
        Ok(Facts {
            service: Service::Postgres,
            name: target.name(),
            version: get(&server, 0).unwrap_or_default(),
            connections: count(get(&connections, 0)),
            connections_max: standing.connections_max,
            reserved: count(get(&server, 1)),
            limits: limits.collect(),
            gaps: standing.gaps.clone(),
            ..Facts::default()
        })
    }
    .await;
    asked.map_err(|error| words(&error))
}
