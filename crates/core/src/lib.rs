//! Pure decisions and shared vocabulary. For: what every process of a Ferricorn agrees on (the scoreboard's layout,
//! histograms, records) and what the arbiter decides (`fleet`). Not for: I/O, clocks, threads, logging; `now` is an argument
//! and decisions are returned as actions.
#![forbid(unsafe_code)]

pub mod advice;
pub mod change;
pub mod check;
pub mod circuits;
pub mod claim;
pub mod deadline;
pub mod detect;
pub mod diagnosis;
pub mod event;
pub mod evidence;
pub mod figures;
pub mod fleet;
pub mod growth;
pub mod histogram;
pub mod hosts;
pub mod incident;
pub mod latency;
pub mod life;
pub mod locals;
pub mod log;
pub mod offload;
pub mod pattern;
pub mod policy;
pub mod prevention;
pub mod record;
pub mod route;
pub mod scale;
pub mod scoreboard;
pub mod snapshot;
pub mod sql;
pub mod stack;
pub mod stamp;
pub mod sums;
pub mod totals;
pub mod units;
