//! Who is to be told that a job is over: written down when the job is taken, due when it is over, with how it stood then; outlives the job
//! until it was told or given up. Not for: telling.

use super::Store;
use crate::StoreError;
use ferricorn_core::offload::Status;
use rusqlite::{Row, params};

/// Somebody who is to be told of a job's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise<'a> {
    /// Who.
    pub url: &'a str,
    /// Whether the settings name the URL, and no client.
    pub is_own: bool,
}

/// Somebody who is to be told now.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Which entry it is, and for which end of its job.
    number: i64,
    round: i64,
    /// Who.
    pub url: String,
    /// Whether the settings name the URL, and no client.
    pub is_own: bool,
    /// How often it was tried.
    pub tries: u32,
    /// How the job stood when it was over.
    pub status: Status,
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
    pub(super) fn promise(&self, id: &str, promises: &[Promise<'_>]) -> Result<(), StoreError> {
        for Promise { url, is_own } in promises {
            let query = "INSERT INTO webhooks (job, service, url, own) VALUES (?1, ?2, ?3, ?4)";
            self.connection.prepare_cached(query)?.execute(params![id, self.service, url, is_own])?;
        }
        Ok(())
    }

    /// A job is over: who waits for that is to be told from now on.
    pub(super) fn announce(&self, id: &str, now_s: f64) -> Result<(), StoreError> {
        let query = "SELECT EXISTS (SELECT 1 FROM webhooks WHERE job = ?1)";
        if !self.connection.prepare_cached(query)?.query_row([id], |row| row.get(0))? {
            return Ok(());
        }
        let status = serde_json::to_string(&self.status(id)?.unwrap_or_default()).unwrap_or_default();
        let query = "UPDATE webhooks SET due = ?2, status = ?3, round = round + 1, told = NULL, error = NULL, tries = 0 WHERE job = ?1";
        Ok(self.connection.prepare_cached(query)?.execute(params![id, now_s, status]).map(drop)?)
    }

    /// A job is begun again: its next end is told in place of the last.
    pub(super) fn unannounce(&self, id: &str) -> Result<(), StoreError> {
        let query = "UPDATE webhooks SET due = NULL, told = NULL, error = NULL, tries = 0 WHERE job = ?1";
        Ok(self.connection.prepare_cached(query)?.execute([id]).map(drop)?)
    }

    /// A job is removed: who was told, or given up, is not kept any more.
    pub(super) fn forget_told(&self, id: &str) -> Result<(), StoreError> {
        let query = "DELETE FROM webhooks WHERE job = ?1 AND due IS NULL";
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
        let query = "SELECT number, round, url, own, tries, status FROM webhooks WHERE service = ?1 AND due <= ?2 ORDER BY due LIMIT ?3";
        let mut statement = self.connection.prepare_cached(query)?;
        let due = |row: &Row<'_>| {
            let status: Option<String> = row.get(5)?;
            Ok(Due {
                number: row.get(0)?,
                round: row.get(1)?,
                url: row.get(2)?,
                is_own: row.get(3)?,
                tries: row.get(4)?,
                status: status.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            })
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
                     WHERE number = ?1 AND due IS NOT NULL AND tries = ?5 AND round = ?6";
        let values = params![due.number, told, error, again_at, due.tries, due.round];
        self.connection.prepare_cached(query)?.execute(values)?;
        let query = "DELETE FROM webhooks WHERE number = ?1 AND due IS NULL AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = job)";
        Ok(self.connection.prepare_cached(query)?.execute([due.number]).map(drop)?)
    }

    /// Returns who is to be told of a job, and whether they were.
    ///
    /// # Errors
    /// The store's.
    pub fn webhooks(&self, id: &str) -> Result<Vec<Told>, StoreError> {
        let query = "SELECT url, tries, told, due, error FROM webhooks WHERE job = ?1 ORDER BY number";
        let mut statement = self.connection.prepare_cached(query)?;
        let told = |row: &Row<'_>| {
            let (url, tries) = (row.get(0)?, row.get(1)?);
            Ok(Told { url, tries, told_at: row.get(2)?, due_at: row.get(3)?, error: row.get(4)? })
        };
        let rows = statement.query_map([id], told)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
