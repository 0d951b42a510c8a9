//! Who is to be told that a job is over: written down when the job is taken, due when it is over, kept until it is removed. Not for:
//! telling, and not for what is told.

use super::Store;
use crate::StoreError;
use rusqlite::{Row, params};

/// Somebody who is to be told now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which entry it is.
    pub number: i64,
    /// The job that is over.
    pub id: String,
    /// Who.
    pub url: String,
    /// How often it was tried.
    pub tries: u32,
}

/// Whether somebody was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Who.
    pub url: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it succeeded, seconds since 1970.
    pub told_at: Option<f64>,
    /// When it is tried, or tried again.
    pub due_at: Option<f64>,
    /// Why it has not succeeded.
    pub error: Option<String>,
}

impl Store {
    /// Writes down that these are to be told of a job when it is over.
    pub(super) fn promise(&self, job: i64, urls: &[&str]) -> Result<(), StoreError> {
        for url in urls {
            let query = "INSERT INTO webhooks (job, service, url) VALUES (?1, ?2, ?3)";
            self.connection.prepare_cached(query)?.execute(params![job, self.service, url])?;
        }
        Ok(())
    }

    /// A job is over: who waits for that is to be told from now on.
    pub(super) fn announce(&self, id: &str, now_s: f64) -> Result<(), StoreError> {
        let query = "UPDATE webhooks SET due = ?2 WHERE job = (SELECT number FROM jobs WHERE id = ?1) AND due IS NULL \
                     AND told IS NULL AND tries = 0";
        Ok(self.connection.prepare_cached(query)?.execute(params![id, now_s]).map(drop)?)
    }

    /// A job is begun again: its next end is told anew.
    pub(super) fn unannounce(&self, id: &str) -> Result<(), StoreError> {
        let query = "UPDATE webhooks SET due = NULL, told = NULL, error = NULL, tries = 0 \
                     WHERE job = (SELECT number FROM jobs WHERE id = ?1)";
        Ok(self.connection.prepare_cached(query)?.execute([id]).map(drop)?)
    }

    /// Returns when the next one is to be told, if one is.
    ///
    /// # Errors
    /// The store's.
    pub fn next_webhook(&self) -> Result<Option<f64>, StoreError> {
        let query = "SELECT min(due) FROM webhooks WHERE service = ?1 AND due IS NOT NULL";
        Ok(self.connection.prepare_cached(query)?.query_row([&self.service], |row| row.get(0))?)
    }

    /// Takes those who are to be told by now, who has waited longest first; if nobody says what became of that, they are due again at
    /// `again_s`.
    ///
    /// # Errors
    /// The store's.
    pub fn claim_webhooks(&self, most: usize, again_s: f64, now_s: f64) -> Result<Vec<Due>, StoreError> {
        let query = "SELECT webhooks.number, id, url, tries FROM webhooks JOIN jobs ON jobs.number = job \
                     WHERE webhooks.service = ?1 AND webhooks.due <= ?2 ORDER BY webhooks.due LIMIT ?3";
        let mut statement = self.connection.prepare_cached(query)?;
        let due = |row: &Row<'_>| {
            Ok(Due { number: row.get(0)?, id: row.get(1)?, url: row.get(2)?, tries: row.get(3)? })
        };
        let rows = statement.query_map(params![self.service, now_s, most as i64], due)?;
        let claimed: Vec<Due> = rows.collect::<Result<_, _>>()?;
        let mut statement =
            self.connection.prepare_cached("UPDATE webhooks SET due = ?2 WHERE number = ?1")?;
        for one in &claimed {
            statement.execute(params![one.number, again_s])?;
        }
        Ok(claimed)
    }

    /// Writes down what has become of telling: with an error it was not told, and is again when it is due, or never. Who was told of an
    /// end that is none any more is told of the next.
    ///
    /// # Errors
    /// The store's.
    pub fn tried(
        &self,
        due: &Due,
        error: Option<&str>,
        again_at: Option<f64>,
        now_s: f64,
    ) -> Result<(), StoreError> {
        let told = error.is_none().then_some(now_s);
        let query = "UPDATE webhooks SET tries = tries + 1, told = ?2, error = ?3, due = ?4 \
                     WHERE number = ?1 AND due IS NOT NULL AND tries = ?5";
        let values = params![due.number, told, error, again_at, due.tries];
        Ok(self.connection.prepare_cached(query)?.execute(values).map(drop)?)
    }

    /// Returns who is to be told of a job, and whether they were.
    ///
    /// # Errors
    /// The store's.
    pub fn webhooks(&self, id: &str) -> Result<Vec<Told>, StoreError> {
        let query = "SELECT url, tries, told, due, error FROM webhooks WHERE job = (SELECT number FROM jobs WHERE id = ?1) \
                     ORDER BY number";
        let mut statement = self.connection.prepare_cached(query)?;
        let told = |row: &Row<'_>| {
            let (url, tries) = (row.get(0)?, row.get(1)?);
            Ok(Told { url, tries, told_at: row.get(2)?, due_at: row.get(3)?, error: row.get(4)? })
        };
        let rows = statement.query_map([id], told)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
