//! Ends a statement in the database that works on it: which one is meant, and what became of it. The session lives on; its client
//! gets the driver's error. Not for: deciding whether ([`crate::act`]).

use ferricorn_core::evidence::Session;

/// A statement that is to end: by three marks, so that no other can be meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Victim {
    /// The database, by [`ferricorn_core::evidence::Database::name`].
    pub database: String,
    /// Its backend, or the number of its connection.
    pub pid: u32,
    /// When the session began, microseconds since 1970; 0 where the database does not tell.
    pub session_us: i64,
    /// When the statement began, microseconds since 1970.
    pub statement_us: i64,
}

impl Victim {
    /// Returns the statement that a session is at; none if it is at none, or could not be told from the next.
    pub fn of(database: &str, session: &Session) -> Option<Self> {
        let Session { pid, session_us, statement_us, .. } = *session;
        let is_known = session.state == "active" && statement_us > 0;
        is_known.then(|| Self { database: database.to_owned(), pid, session_us, statement_us })
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The database ends it.
    Yes,
    /// It is not there any more: it has ended by itself, or its session has.
    Over,
    /// It could not be ended, and why.
    Refused(String),
}

/// A request to end one.
#[derive(Debug)]
pub(super) struct Order {
    /// By which it is answered.
    pub id: u64,
    pub victim: Victim,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_statement_at_work_that_is_known_can_be_meant() {
        let session = |state: &str, statement_us| Session {
            pid: 7,
            state: state.into(),
            session_us: 3,
            statement_us,
            ..Session::default()
        };
        let victim = Victim::of("db", &session("active", 5));
        assert_eq!(victim, Some(Victim { database: "db".into(), pid: 7, session_us: 3, statement_us: 5 }));
        assert_eq!(Victim::of("db", &session("idle", 5)), None);
        assert_eq!(Victim::of("db", &session("active", 0)), None);
    }
}
