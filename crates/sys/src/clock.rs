//! The clocks of the server: monotonic nanoseconds, comparable between processes of a host, and the wall clock for
//! dates that people read.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::mem::MaybeUninit;

/// Returns the monotonic time in nanoseconds.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Returns the seconds since the host has booted, suspended or not: by this clock the kernel tells when processes began.
pub fn boot_time_s() -> f64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Returns a duration in nanoseconds as system calls want it.
pub fn timespec(ns: u64) -> Timespec {
    const SECOND: u64 = 1_000_000_000;
    Timespec { tv_sec: (ns / SECOND).cast_signed(), tv_nsec: (ns % SECOND).cast_signed() }
}

/// Returns the nanoseconds since 1970.
pub fn wall_ns() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Returns the seconds since 1970; the coarse clock, at most 4 ms behind.
pub fn wall_seconds() -> u64 {
    clock_gettime(ClockId::RealtimeCoarse).tv_sec as u64
}

/// Returns the seconds since 1970 with their fraction.
pub fn wall_time_s() -> f64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// A moment as a local calendar shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Year, 4 digits.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, from 1.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute.
    pub minute: u32,
    /// Second, 0 to 60.
    pub second: u32,
    /// Offset from UTC in seconds, east positive.
    pub offset_s: i64,
}

/// Returns the local time of a moment given in seconds since 1970; UTC where there is no time zone.
pub fn local(seconds: u64) -> Local {
    let time = seconds as libc::time_t;
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call; `localtime_r` writes a whole `tm` or returns null, and an all-zero
    // `tm` is valid as well.
    let parts = unsafe {
        libc::localtime_r(&time, parts.as_mut_ptr());
        parts.assume_init()
    };
    Local {
        year: parts.tm_year + 1900,
        month: parts.tm_mon as u32 + 1,
        day: parts.tm_mday as u32,
        hour: parts.tm_hour as u32,
        minute: parts.tm_min as u32,
        second: parts.tm_sec as u32,
        offset_s: parts.tm_gmtoff,
    }
}

/// Writes a moment (seconds since 1970) as Gunicorn's logs have it: `2026-11-23 02:20:28 +0000`, local time.
pub fn stamp(seconds: u64) -> String {
    let at = local(seconds);
    let (sign, offset) = if at.offset_s < 0 { ('-', -at.offset_s) } else { ('+', at.offset_s) };
    let (hours, minutes) = (offset / 3600, offset / 60 % 60);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} {sign}{hours:02}{minutes:02}",
        at.year, at.month, at.day, at.hour, at.minute, at.second
    )
}
