//! The listeners of a server: opened with patience at the start, exchanged by a reload, kept for as long as a worker of
//! before needs them.

use crate::host::{Host, Options};
use ferricorn_core::log::Level;
use ferricorn_sys::listener::{Bind, Listener, Manner};
use std::env;
use std::fmt;
use std::io;
use std::os::fd::RawFd;

/// Attempts to open an address at the start, a second apart.
const ATTEMPTS: u32 = 5;
/// The first descriptor that systemd hands over.
const FIRST_FD: RawFd = 3;

/// The listeners.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    current: Vec<(Bind, Listener)>,
    /// With the first generation that does without.
    retired: Vec<(u32, Listener)>,
    /// They were handed over by systemd: a reload does not change them.
    from_systemd: bool,
}

/// Why there are no listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpen {
    /// The log says it.
    Failed,
    /// A signal came while we waited.
    Stopped,
}

impl Sockets {
    /// Opens the listeners of a server that starts. `wait` lasts a second and tells whether to give up.
    pub(crate) fn open<H: Host>(
        options: &Options,
        host: &mut H,
        mut wait: impl FnMut() -> bool,
    ) -> Result<Self, NotOpen> {
        if options.reuse_port {
            return Ok(Self::default());
        }
        let inherited = inherited_count(&env_number("LISTEN_PID"), &env_number("LISTEN_FDS"));
        let mut binds: Vec<Bind> =
            options.bind.iter().filter(|bind| matches!(bind, Bind::Fd(_))).cloned().collect();
        binds.extend((0..inherited).map(|number| Bind::Fd(FIRST_FD + number)));
        if binds.is_empty() {
            binds.clone_from(&options.bind);
        }
        let mut sockets = Self { from_systemd: inherited > 0, ..Self::default() };
        for bind in binds {
            match open_one(&bind, &options.manner(), ATTEMPTS, host, &mut wait) {
                Ok(listener) => sockets.current.push((bind, listener)),
                Err(why) => {
                    sockets.close();
                    return Err(why);
                }
            }
        }
        Ok(sockets)
    }

    /// Opens what a reload adds and retires what it drops, or changes nothing. `generation` is the new one. Returns whether
    /// the server listens elsewhere now.
    pub(crate) fn change<H: Host>(&mut self, options: &Options, generation: u32, host: &mut H) -> bool {
        let before: Vec<&Bind> = self.current.iter().map(|(bind, _)| bind).collect();
        let same = before.iter().copied().eq(&options.bind);
        if same || self.from_systemd || options.reuse_port || self.current.is_empty() {
            return false;
        }
        let mut opened = Vec::new();
        for bind in options.bind.iter().filter(|bind| !before.contains(bind)) {
            match open_one(bind, &options.manner(), 1, host, &mut || false) {
                Ok(listener) => opened.push((bind.clone(), listener)),
                Err(_) => {
                    opened.iter().for_each(|(_, listener)| listener.unlink());
                    host.log(Level::Error, "Reload: still listening at the old addresses");
                    return false;
                }
            }
        }
        let mut old = std::mem::take(&mut self.current);
        old.extend(opened);
        for bind in &options.bind {
            let found = old.iter().position(|(held, _)| held == bind);
            self.current.extend(found.map(|index| old.remove(index)));
        }
        self.retired.extend(old.into_iter().map(|(_, listener)| (generation, listener)));
        true
    }

    /// Closes what no worker from `generation` on needs.
    pub(crate) fn release(&mut self, generation: u32) {
        let (done, needed) =
            std::mem::take(&mut self.retired).into_iter().partition(|(first, _)| generation >= *first);
        self.retired = needed;
        let done: Vec<(u32, Listener)> = done;
        done.iter().for_each(|(_, listener)| listener.unlink());
    }

    /// Closes everything and removes socket files.
    pub(crate) fn close(&mut self) {
        self.release(u32::MAX);
        self.current.drain(..).for_each(|(_, listener)| listener.unlink());
    }

    pub(crate) fn current(&self) -> Vec<&Listener> {
        self.current.iter().map(|(_, listener)| listener).collect()
    }

    /// Gives the listeners to a worker; those of workers before it are closed.
    pub(crate) fn into_current(self) -> Vec<Listener> {
        self.current.into_iter().map(|(_, listener)| listener).collect()
    }
}

/// The addresses as the log shows them.
impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<&str> = self.current.iter().map(|(_, listener)| listener.display.as_str()).collect();
        f.write_str(&shown.join(","))
    }
}

/// Opens the sockets of one worker (`reuse_port`).
pub(crate) fn open_own<H: Host>(options: &Options, host: &mut H) -> Result<Vec<Listener>, NotOpen> {
    let manner = options.manner();
    options.bind.iter().map(|bind| open_one(bind, &manner, 1, host, &mut || false)).collect()
}

fn open_one<H: Host>(
    bind: &Bind,
    manner: &Manner,
    attempts: u32,
    host: &mut H,
    wait: &mut impl FnMut() -> bool,
) -> Result<Listener, NotOpen> {
    for attempt in 1..=attempts {
        let error = match Listener::open(bind, manner) {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::AddrInUse => host.log(Level::Error, &format!("Connection in use: {bind}")),
            io::ErrorKind::AddrNotAvailable => host.log(Level::Error, &format!("Invalid address: {bind}")),
            _ => {}
        }
        host.log(Level::Error, &format!("connection to {bind} failed: {}", as_python_says(&error)));
        if error.kind() == io::ErrorKind::InvalidInput {
            break;
        }
        if attempt < attempts {
            host.log(Level::Debug, "Retrying in 1 second.");
            if wait() {
                return Err(NotOpen::Stopped);
            }
        }
    }
    host.log(Level::Error, &format!("Can't connect to {bind}"));
    Err(NotOpen::Failed)
}

/// `[Errno 98] Address already in use`.
fn as_python_says(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => {
            let suffix = format!(" (os error {number})");
            format!("[Errno {number}] {}", text.strip_suffix(&suffix).unwrap_or(&text))
        }
        None => text,
    }
}

fn env_number(name: &str) -> Option<i32> {
    env::var(name).ok()?.parse().ok()
}

/// Returns how many sockets systemd has handed to this process.
fn inherited_count(listen_pid: &Option<i32>, listen_fds: &Option<i32>) -> i32 {
    let mine = *listen_pid == i32::try_from(std::process::id()).ok();
    if mine { listen_fds.unwrap_or(0).clamp(0, 1024) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_in_python() {
        let in_use = io::Error::from_raw_os_error(98);
        assert_eq!(as_python_says(&in_use), "[Errno 98] Address already in use");
        assert_eq!(as_python_says(&io::Error::other("no")), "no");
    }

    #[test]
    fn sockets_are_inherited_by_the_process_they_are_meant_for() {
        let me = i32::try_from(std::process::id()).expect("a pid");
        let table = [
            (Some(me), Some(2), 2),
            (Some(me), None, 0),
            (Some(me), Some(-1), 0),
            (Some(1), Some(2), 0),
            (None, Some(2), 0),
        ];
        for (pid, count, expected) in table {
            assert_eq!(inherited_count(&pid, &count), expected, "{pid:?} {count:?}");
        }
    }
}
