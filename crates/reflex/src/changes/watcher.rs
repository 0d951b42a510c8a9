//! The thread that reads: a worker's fingerprint when it is asked for one, and every ten seconds what is on disk. Nobody waits for
//! it; what it has read lies in a channel. It ends with its owner, unless a disk holds it, and then with the process.
//!
//! Not for: what a fingerprint means.

use super::gather::Gatherer;
use super::scene::Scene;
use ferricorn_core::change::Fingerprint;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Most workers that wait to be read. Beyond that they are asked for again.
const ASKED_MAX: usize = 64;
/// Most fingerprints that wait to be taken.
const READ_MAX: usize = 16;
/// How often the disk is looked at.
const EVERY: Duration = Duration::from_secs(10);

/// What was read.
#[derive(Debug)]
pub(super) enum Read {
    /// What a worker is made of.
    Worker(u32, Box<Fingerprint>),
    /// There is no such process.
    Gone(u32),
    /// What is on disk now; said when it is another than the last time.
    Disk(Box<Fingerprint>),
}

/// The thread, from outside.
#[derive(Debug)]
pub(super) struct Watcher {
    asked: SyncSender<u32>,
    read: Receiver<Read>,
}

impl Watcher {
    /// Begins to look.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(scene: Scene, salt: String) -> io::Result<Self> {
        let (asked, wanted) = sync_channel(ASKED_MAX);
        let (told, read) = sync_channel(READ_MAX);
        let arbiter = scene.arbiter;
        let mut gatherer = Gatherer::new(scene, salt);
        std::thread::Builder::new()
            .name("reflex-changes".to_owned())
            .spawn(move || look(&mut gatherer, arbiter, &wanted, &told))?;
        Ok(Self { asked, read })
    }

    /// Asks for a worker; false if too many wait.
    pub(super) fn ask(&self, pid: u32) -> bool {
        self.asked.try_send(pid).is_ok()
    }

    /// Takes what has been read.
    pub(super) fn read(&self) -> Vec<Read> {
        self.read.try_iter().collect()
    }
}

/// Looks until nobody is there to be told.
fn look(gatherer: &mut Gatherer, arbiter: u32, wanted: &Receiver<u32>, told: &SyncSender<Read>) {
    let mut last: Option<Fingerprint> = None;
    let mut due = Instant::now();
    loop {
        match wanted.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(pid) => {
                let read = match gatherer.worker(pid) {
                    Some(fingerprint) => Read::Worker(pid, Box::new(fingerprint)),
                    None => Read::Gone(pid),
                };
                if told.send(read).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let disk = gatherer.disk(arbiter);
                due = Instant::now() + EVERY;
                if last.as_ref() != Some(&disk) {
                    last = Some(disk.clone());
                    match told.try_send(Read::Disk(Box::new(disk))) {
                        Err(TrySendError::Disconnected(_)) => return,
                        // Told the next time.
                        Err(TrySendError::Full(_)) => last = None,
                        Ok(()) => {}
                    }
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_and_the_disk_besides() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("app.py"), "x = 1\n").expect("written");
        let own = std::process::id();
        let scene = Scene { arbiter: own, folder: Some(folder.path().to_owned()), ..Scene::default() };
        let watcher = Watcher::start(scene, "salt".into()).expect("a thread");
        assert!(watcher.ask(own) && watcher.ask(u32::MAX >> 1));
        let end = Instant::now() + Duration::from_secs(20);
        let (mut worker, mut disk, mut gone) = (None, None, false);
        while worker.is_none() || disk.is_none() || !gone {
            assert!(Instant::now() < end, "nothing was read");
            // The channel wakes whoever waits at it.
            match watcher.read.recv_timeout(Duration::from_secs(1)) {
                Ok(Read::Worker(pid, read)) => worker = Some((pid, read)),
                Ok(Read::Disk(read)) => disk = Some(read),
                Ok(Read::Gone(_)) => gone = true,
                Err(_) => {}
            }
        }
        let (pid, worker) = worker.expect("read");
        assert_eq!((pid, worker.code.files.len()), (own, 1));
        assert!(!worker.environment.is_empty() && disk.expect("read").environment.is_empty());
    }
}
