//! How much the store keeps, and for how long. Not for: making room (`upkeep`).

/// Most bytes of the whole store: database and SQLite's journal.
const TOTAL_BYTES: u64 = 64 << 20;
/// Of these, what the journal may have before a transaction. SQLite writes it back every 4 MB, unless somebody is in the way.
const JOURNAL_BYTES: u64 = 16 << 20;
/// What a transaction may add.
const TRANSACTION_BYTES: u64 = 4 << 20;
const DAY_S: f64 = 86_400.0;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most bytes of the database.
    pub database_bytes: u64,
    /// Most bytes of SQLite's journal before a transaction.
    pub journal_bytes: u64,
    /// How long records and lives are kept.
    pub records_s: f64,
    /// How long an incident is kept after its end.
    pub incidents_s: f64,
    /// How long a note is kept.
    pub notes_s: f64,
    /// For so many minutes durations are kept by the minute; then by ten.
    pub fine_minutes: u64,
    /// For so many minutes they are kept at all.
    pub coarse_minutes: u64,
    /// Records of one signature and hour that keep all their evidence: the first, and the last.
    pub whole_per_hour: u64,
    /// Records of one signature and hour that are kept at all: the first, and the last.
    pub records_per_hour: u64,
    /// Rows of the audit; the oldest go.
    pub audit_rows: u64,
    /// A server that has not been seen for so long is gone.
    pub gone_s: f64,
    /// Values that observers want back, of all servers; the oldest go.
    pub state_rows: u64,
    /// Changes of services; the oldest go, and those that are as old as records may be.
    pub deploys: u64,
    /// Services whose fingerprints are kept; those that were not seen for longest go.
    pub services: u64,
    /// What is on its way to other hosts; the oldest is given up.
    pub outgoing: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            database_bytes: TOTAL_BYTES - JOURNAL_BYTES - TRANSACTION_BYTES,
            journal_bytes: JOURNAL_BYTES,
            records_s: 30.0 * DAY_S,
            incidents_s: 90.0 * DAY_S,
            notes_s: 14.0 * DAY_S,
            fine_minutes: 48 * 60,
            coarse_minutes: 30 * 24 * 60,
            whole_per_hour: 20,
            records_per_hour: 500,
            audit_rows: 5_000,
            gone_s: 600.0,
            state_rows: 48,
            deploys: 5_000,
            services: 16,
            outgoing: 1_000,
        }
    }
}
