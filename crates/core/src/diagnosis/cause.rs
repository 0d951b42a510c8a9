//! The causes that can be named, with what they mean and what to do about each. One table: reports, documentation and the
//! benchmark read it. Not for: finding out which it is (the rules).

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! causes {
    ($($name:ident $code:literal $means:literal,)*) => {
        /// Why a request was slow or stuck, or a worker ended.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "`means` says each in words")]
        pub enum Cause {
            $(#[serde(rename = $code)] $name,)*
            #[default]
            #[serde(rename = "unknown")]
            Unknown,
        }

        impl Cause {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)* Self::Unknown];

            /// Returns its code, which is public: `external.no_timeout`.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unknown => "unknown",
                }
            }

            /// Returns what it means, as the end of a sentence that begins with "because".
            pub fn means(self) -> &'static str {
                match self {
                    $(Self::$name => $means,)*
                    Self::Unknown => "what was seen fits no cause, or several",
                }
            }
        }
    };
}

causes! {
    ExternalNoTimeout "external.no_timeout" "a service does not answer, and the call has no timeout",
    ExternalTimeoutTooLong "external.timeout_too_long" "a service does not answer, and the call's timeout is longer than the request's deadline",
    ExternalConnectBlackhole "external.connect_blackhole" "nobody answers at an address: packets vanish, or its queue is full",
    ExternalDns "external.dns" "a name server does not answer",
    ExternalTlsStall "external.tls_stall" "a service accepts the connection and does not go on with TLS",
    ExternalRetryLoop "external.retry_loop" "a call that fails is tried again and again, with pauses",
    DbSlowQuery "db.slow_query" "a database works on a statement that takes long",
    DbBigResult "db.big_result" "a statement returns more rows than the request can work on in its time",
    DbLock "db.lock" "a statement waits for a lock that another session holds",
    DbQueryOrLock "db.query_or_lock" "a database has not answered a statement; it could not be asked why",
    DbDead "db.connection_dead" "the database has no such session any more, and the process waits for its answer",
    PoolExhausted "pool.exhausted" "all connections of a pool are in use",
    PoolLeak "pool.leak" "all connections of a pool are held by code that does not use them and does not give them back",
    PoolPgbouncer "pool.pgbouncer_exhausted" "PgBouncer has no server connection left",
    CpuBound "cpu.bound" "the code computes",
    CpuRegex "cpu.regex" "a regular expression tries without end (catastrophic backtracking)",
    InfiniteLoop "infinite_loop" "the code goes round in a loop that does not end",
    Deadlock "deadlock" "threads wait for locks that nobody will release",
    ExplicitSleep "explicit_sleep" "the code sleeps",
    Subprocess "subprocess" "the code waits for a process that it has started",
    ClientSlow "client.slow" "the client does not send its request, or does not read its response",
    BootSlowImport "boot.slow_import" "a new worker takes long to load the application",
    HostPaused "host.paused" "the process, or the whole host, was stopped",
    HostCpuStarved "host.cpu_starved" "the process is ready to run and gets no processor",
    HostDiskOrSwap "host.disk_or_swap" "the process waits for a disk, or for memory that was swapped out",
    TimeoutTooLow "config.timeout_too_low" "the request takes as long as it always does, and the deadline is too short for it",
    SyncForIo "worker_class.sync_for_io" "every thread waits for somebody else while the host has nothing to do: there are too few of them",
    BlockingInLoop "worker_class.blocking_in_loop" "a blocking call holds the event loop, and everybody else in it",
    DeployRegression "deploy.regression" "new code fails more often than the code before it, on the same traffic",
    ArbiterWedged "arbiter.wedged" "the arbiter's loop stands: nobody replaces workers that end, and no signal is answered",
    WorkerMemory "worker.memory" "a worker needs more memory than there is",
}

impl Cause {
    /// Returns that of a code.
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.code() == code)
    }

    /// Returns the part of its code before the dot: `external`.
    pub fn family(self) -> &'static str {
        self.code().split('.').next().unwrap_or_default()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_one_each_and_are_read_back() {
        let codes: std::collections::BTreeSet<&str> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        assert_eq!(codes.len(), Cause::ALL.len());
        for cause in Cause::ALL {
            assert_eq!(Cause::of(cause.code()), Some(*cause));
            assert_eq!(serde_json::to_string(cause).expect("JSON"), format!("{:?}", cause.code()));
            assert!(!cause.means().ends_with('.'));
        }
        assert_eq!(Cause::of("external"), None);
        assert_eq!((Cause::DbLock.family(), Cause::Deadlock.family()), ("db", "deadlock"));
    }
}
