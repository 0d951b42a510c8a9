//! Which code the workers of a server run now, and two findings that only who looks at both disk and processes can make: workers
//! that live with different code, and code on disk that a reload would bring in. Not for: finding out what they run.

use super::{Fingerprint, Kind, LISTED_MAX, compare};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A worker that stays.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// Its pid.
    pub pid: u32,
    /// The reload that it belongs to.
    pub generation: u32,
    /// When it was started, seconds since 1970.
    pub started: f64,
    /// What it was made of; none where it was started before anybody looked.
    pub made_of: Option<&'a Fingerprint>,
}

/// What the workers run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The version of each worker's code, by its pid; empty where it is not known.
    pub versions: BTreeMap<u32, String>,
    /// The version of the code on disk.
    pub disk: String,
    /// Workers that live with different code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixed: Option<Mixed>,
    /// What a reload would bring in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

/// Workers of one reload with different code: one was replaced after the files had changed, and has read the new ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mixed {
    /// Versions with their workers, in the order of these.
    pub groups: Vec<(String, Vec<u32>)>,
    /// In a sentence.
    pub text: String,
}

/// Code that is on disk and runs nowhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The version that runs; empty where it is not known.
    pub from: String,
    /// The version on disk.
    pub to: String,
    /// Files that are others; the first [`LISTED_MAX`].
    pub files: Vec<String>,
    /// How many these are.
    pub files_count: u64,
    /// In a sentence.
    pub text: String,
}

impl Standing {
    /// Returns the findings as sentences.
    pub fn findings(&self) -> Vec<&str> {
        let mixed = self.mixed.as_ref().map(|mixed| mixed.text.as_str());
        mixed.into_iter().chain(self.pending.as_ref().map(|pending| pending.text.as_str())).collect()
    }
}

/// Returns what these workers run, beside what is on disk. With `preload` the arbiter has loaded it for all of them.
pub fn standing(live: &[Live<'_>], disk: Option<&Fingerprint>, preload: bool) -> Standing {
    let version = |live: &Live<'_>| live.made_of.map(Fingerprint::version).unwrap_or_default();
    Standing {
        versions: live.iter().map(|live| (live.pid, version(live))).collect(),
        disk: disk.map(Fingerprint::version).unwrap_or_default(),
        mixed: mixed(live),
        pending: disk.and_then(|disk| pending(live, disk, preload)),
    }
}

fn mixed(live: &[Live<'_>]) -> Option<Mixed> {
    // While a reload goes on, two generations differ as they should.
    let newest = live.iter().map(|live| live.generation).max()?;
    let mut groups: Vec<(&Fingerprint, Vec<u32>)> = Vec::new();
    for worker in live.iter().filter(|live| live.generation == newest) {
        let Some(made_of) = worker.made_of else { continue };
        match groups.iter_mut().find(|(known, _)| known.has_code_of(made_of)) {
            Some((_, pids)) => pids.push(worker.pid),
            None => groups.push((made_of, vec![worker.pid])),
        }
    }
    if groups.len() < 2 {
        return None;
    }
    let named: Vec<(String, Vec<u32>)> =
        groups.into_iter().map(|(made_of, pids)| (made_of.version(), pids)).collect();
    let part = |(version, pids): &(String, Vec<u32>)| {
        let pids: Vec<String> = pids.iter().take(8).map(u32::to_string).collect();
        format!("{version} in {} {}", if pids.len() == 1 { "worker" } else { "workers" }, pids.join(", "))
    };
    let parts: Vec<String> = named.iter().map(part).collect();
    let text = format!(
        "mixed versions: {}; a worker that was replaced has read newer files. A reload (HUP) makes them one",
        parts.join("; ")
    );
    Some(Mixed { groups: named, text })
}

fn pending(live: &[Live<'_>], disk: &Fingerprint, preload: bool) -> Option<Pending> {
    let newest = live.iter().max_by(|one, other| one.started.total_cmp(&other.started))?;
    let Some(made_of) = newest.made_of else { return newer(newest, disk) };
    // What only a worker tells of itself is not on disk.
    let seen = Fingerprint {
        environment: Default::default(),
        command: String::new(),
        settings: Default::default(),
        python: disk.python.clone(),
        ..made_of.clone()
    };
    let change = compare(&seen, disk, &[])?;
    let (who, would) = match preload {
        true => ("a restart", "would bring in"),
        false => ("HUP", "would deploy"),
    };
    let also = if preload { "" } else { "; so would a worker that is replaced" };
    let what = if change.kind == Kind::Config { "settings" } else { "code" };
    let text = format!("{who} {would} {what} that is not running: {}{also}", change.name);
    Some(Pending {
        from: change.from,
        to: change.to,
        files: change.files,
        files_count: change.files_count,
        text,
    })
}

/// What a worker has read is not known: what was written since is not what it runs.
fn newer(newest: &Live<'_>, disk: &Fingerprint) -> Option<Pending> {
    let since = |mtime_ns: u64| mtime_ns as f64 / 1e9 > newest.started + 1.0;
    let newer: Vec<String> =
        disk.code.files.iter().filter(|file| since(file.mtime_ns)).map(|file| file.path.clone()).collect();
    let first = newer.first()?;
    let count = if newer.len() == 1 { "1 file is".to_owned() } else { format!("{} files are", newer.len()) };
    let text = format!(
        "HUP would deploy code that is not running: {count} newer than all workers, {first} among them; so would a worker that is replaced"
    );
    Some(Pending {
        from: String::new(),
        to: disk.version(),
        files_count: newer.len() as u64,
        files: newer.into_iter().take(LISTED_MAX).collect(),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Code, File};

    fn of(head: &str, mtime_s: u64) -> Fingerprint {
        let file = File {
            path: "shop/views.py".into(),
            size: 1,
            mtime_ns: mtime_s * 1_000_000_000,
            content: head.into(),
        };
        Fingerprint {
            code: Code { head: head.into(), files: vec![file], ..Code::default() },
            ..Fingerprint::default()
        }
    }

    #[test]
    fn workers_of_one_generation_with_different_code_are_mixed() {
        let (old, new) = (of("aaa", 1), of("bbb", 9));
        let live = |pid, generation, made_of| Live { pid, generation, started: f64::from(pid), made_of };
        let found = |live: &[Live<'_>]| standing(live, Some(&new), false);
        let mixed = found(&[live(1, 0, Some(&old)), live(2, 0, Some(&old)), live(3, 0, Some(&new))]);
        let groups = mixed.mixed.expect("mixed").groups;
        assert_eq!(groups, [("aaa".to_owned(), vec![1, 2]), ("bbb".to_owned(), vec![3])]);
        assert_eq!(mixed.pending, None, "the newest worker has it");
        // A reload that goes on, and one worker of which nothing is known.
        assert_eq!(found(&[live(1, 0, Some(&old)), live(3, 1, Some(&new))]).mixed, None);
        assert_eq!(found(&[live(1, 0, None), live(3, 0, Some(&new))]).mixed, None);
        assert_eq!(found(&[]).mixed, None);
    }

    #[test]
    fn code_on_disk_that_nobody_runs_is_told() {
        let (old, new) = (of("aaa", 1), of("bbb", 9));
        let live = |made_of| [Live { pid: 1, generation: 0, started: 5.0, made_of }];
        let pending = standing(&live(Some(&old)), Some(&new), false).pending.expect("pending");
        assert_eq!((pending.from.as_str(), pending.to.as_str(), pending.files_count), ("aaa", "bbb", 1));
        assert_eq!(
            pending.text,
            "HUP would deploy code that is not running: deploy aaa → bbb, 1 file; so would a worker that is replaced"
        );
        let preloaded = standing(&live(Some(&old)), Some(&new), true).pending.expect("pending");
        assert!(preloaded.text.starts_with("a restart would bring in code"), "{}", preloaded.text);
        assert_eq!(standing(&live(Some(&new)), Some(&new), false).pending, None);
        // Nobody saw it start: the files are newer than it is, or they are not.
        let pending = standing(&live(None), Some(&new), false).pending.expect("newer");
        assert_eq!((pending.from.as_str(), pending.files), ("", vec!["shop/views.py".to_owned()]));
        assert_eq!(standing(&live(None), Some(&of("aaa", 1)), false).pending, None);
        assert_eq!(standing(&live(None), None, false).pending, None);
    }
}
