//! When is it more than chance? Detectors that turn counts and durations into alarms: [`Scan`] for what should hardly
//! ever happen (lost requests, deaths of workers, boots that fail), [`Slow`] for a route whose requests take longer than
//! they did, and [`control()`] for many of them at once. Each is a small state that is fed every ten seconds, survives its
//! process as JSON, and carries its own idea of what is usual; there is nothing to configure.
//!
//! The same settings serve a server that loses a request a month and one that loses thirty an hour. What they cost in
//! false alarms, and how fast they are, is measured in `simulation`, and asserted there.
//!
//! They are made of: time as ticks (`ticks`), the tails of distributions (`tail`), the variation from hour to hour and
//! over the week (`hours`), what is usual for a route (`baseline`), and alarms that belong together (`alarm`).
//!
//! Not for: what is counted, and which series there are (`reflex`), what an alarm means ([`crate::incident`]),
//! objectives that a user has stated, or stuck requests, of which a single one is evidence by itself.

mod alarm;
mod baseline;
mod control;
mod fixed;
mod hours;
mod scan;
mod slow;
mod tail;
mod ticks;

#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod slow_tests;

pub use alarm::{ALPHA, Alarm, Among, EVENTS_MIN, MERGE_S};
pub use control::{control, limit};
pub use scan::Scan;
pub use slow::{Slow, Slowdown};
pub(crate) use tail::incomplete_beta as beta;
pub use ticks::TICK_S;
