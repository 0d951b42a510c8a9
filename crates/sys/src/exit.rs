//! Leaving at once.

/// Ends the process without running exit handlers or destructors: for the one case where another thread of ours is
/// stuck in foreign code and would never let them finish.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(code) }
}
