//! What differs between two fingerprints, as one change with a name for people. Not for: when it is worth comparing.

use super::{Change, Fingerprint, Kind, LISTED_MAX, SCHEMA};
use std::collections::{BTreeMap, BTreeSet};

/// Names within a change's own name; the others are counted.
const NAMED_MAX: usize = 2;

/// One aspect of a change.
struct Part {
    kind: Kind,
    name: String,
    details: Vec<String>,
}

/// Returns what has changed from one fingerprint to another; none if nothing has. `earlier` are the ids of fingerprints that
/// have been there before the old one: code that comes back is a rollback.
pub fn compare(old: &Fingerprint, new: &Fingerprint, earlier: &[String]) -> Option<Change> {
    let mut change = Change { schema: SCHEMA, from: old.version(), to: new.version(), ..Change::default() };
    let mut parts: Vec<Part> = Vec::new();
    parts.extend(code(old, new, earlier, &mut change));
    parts.extend(distributions(old, new, &mut change));
    parts.extend(config(old, new, &mut change));
    parts.extend(environment(old, new, &mut change));
    parts.extend(runtime(old, new));
    change.kind = parts.first()?.kind;
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    change.name = names.join("; ");
    change.details = parts.into_iter().flat_map(|part| part.details).collect();
    Some(change)
}

fn code(old: &Fingerprint, new: &Fingerprint, earlier: &[String], change: &mut Change) -> Option<Part> {
    if old.has_code_of(new) {
        return None;
    }
    // Of two that are both cut, nobody knows what else differs: commits and revisions have told that something does.
    let files = old.code.changed_to(&new.code);
    change.files_count = files.len() as u64;
    change.files = files.iter().take(LISTED_MAX).map(|file| (*file).to_owned()).collect();
    let is_back = earlier.iter().any(|id| *id == new.id());
    let (kind, word) = if is_back { (Kind::Rollback, "rollback") } else { (Kind::Deploy, "deploy") };
    let versions = match (change.from.as_str(), change.to.as_str()) {
        ("", "") => String::new(),
        (from, to) if from == to => format!(" on {to}"),
        ("", to) => format!(" to {to}"),
        (from, "") => format!(" from {from}"),
        (from, to) => format!(" {from} → {to}"),
    };
    let count = match files.len() {
        0 => String::new(),
        1 => ", 1 file".to_owned(),
        many => format!(", {many} files"),
    };
    let mut details = Vec::new();
    if !files.is_empty() {
        details.push(format!("files: {}", listed(&change.files, files.len())));
    }
    if new.code.dirty == Some(true) {
        details.push(format!("files differ from commit {}", new.code.head));
    }
    Some(Part { kind, name: format!("{word}{versions}{count}"), details })
}

fn distributions(old: &Fingerprint, new: &Fingerprint, change: &mut Change) -> Option<Part> {
    if old.distributions == new.distributions || old.distributions.is_empty() || new.distributions.is_empty()
    {
        return None;
    }
    let (before, after) = (versions(&old.distributions), versions(&new.distributions));
    let none = Vec::new();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut told: Vec<(String, String)> = Vec::new();
    for name in names {
        let (was, is) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
        // One that is installed in two folders may be another in one of them.
        let lacks = |all: &[&str], others: &[&str]| -> Vec<String> {
            all.iter()
                .filter(|version| !others.contains(version))
                .map(|version| (*version).to_owned())
                .collect()
        };
        let (gone, come) = (lacks(was, is).join(", "), lacks(is, was).join(", "));
        let text = match (gone.is_empty(), come.is_empty()) {
            (true, true) => continue,
            (true, false) => format!("{name} {come} installed"),
            (false, true) => format!("{name} {gone} removed"),
            (false, false) => format!("{name} {gone} → {come}"),
        };
        told.push((name.clone(), text));
    }
    if told.is_empty() {
        return None;
    }
    change.distributions = told.iter().take(LISTED_MAX).map(|(name, _)| name.clone()).collect();
    let texts: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
    let name = match texts.as_slice() {
        [one] => one.clone(),
        [first, rest @ ..] => {
            format!("{first} and {} more {}", rest.len(), plural(rest.len(), "distribution"))
        }
        [] => return None,
    };
    let details =
        vec![format!("distributions: {}", listed(&texts[..texts.len().min(LISTED_MAX)], texts.len()))];
    Some(Part { kind: Kind::Dependency, name, details })
}

/// Returns distributions as names and versions. One may be installed twice, in two folders.
fn versions(distributions: &[String]) -> BTreeMap<String, Vec<&str>> {
    let mut all: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for text in distributions {
        let (name, version) = text.split_once('-').unwrap_or((text, ""));
        all.entry(normal(name)).or_default().push(version);
    }
    all
}

/// Returns a distribution's name as PEP 503 compares it.
pub(super) fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

fn config(old: &Fingerprint, new: &Fingerprint, change: &mut Change) -> Option<Part> {
    let mut settings = differing(&old.settings, &new.settings);
    if old.settings.is_empty() || new.settings.is_empty() {
        settings.clear();
    }
    let file = old.config != new.config;
    let known = !old.command.is_empty() && !new.command.is_empty();
    let command = known && old.command != new.command;
    if !file && !command && settings.is_empty() {
        return None;
    }
    change.settings = settings.iter().take(LISTED_MAX).cloned().collect();
    let path = if new.config.path.is_empty() { &old.config.path } else { &new.config.path };
    let what = match (path.rsplit('/').next(), file) {
        (Some(name), true) => format!("config {name}"),
        _ if command => "command line".to_owned(),
        _ => "settings".to_owned(),
    };
    let name = match settings.len() {
        0 => format!("{what} changed"),
        _ => format!("{what} changed: {}", first(&settings)),
    };
    let mut details = Vec::new();
    if file {
        details.push(format!("configuration file: {path}"));
    }
    if command {
        details.push("the command line is another".to_owned());
    }
    if !settings.is_empty() {
        details.push(format!("settings: {}", listed(&change.settings, settings.len())));
    }
    Some(Part { kind: Kind::Config, name, details })
}

fn environment(old: &Fingerprint, new: &Fingerprint, change: &mut Change) -> Option<Part> {
    // Where it was not to be seen, it has not become empty.
    if old.environment.is_empty() || new.environment.is_empty() {
        return None;
    }
    let names = differing(&old.environment, &new.environment);
    if names.is_empty() {
        return None;
    }
    change.environment = names.iter().take(LISTED_MAX).cloned().collect();
    let details = vec![format!("variables: {}", listed(&change.environment, names.len()))];
    Some(Part { kind: Kind::Environment, name: format!("environment changed: {}", first(&names)), details })
}

fn runtime(old: &Fingerprint, new: &Fingerprint) -> Option<Part> {
    let (before, after) = (&old.python, &new.python);
    if before == after || before.path.is_empty() || after.path.is_empty() {
        return None;
    }
    let name = match before.version == after.version {
        false => format!("Python {} → {}", or_unknown(&before.version), or_unknown(&after.version)),
        true => format!("another build of Python {}", or_unknown(&after.version)),
    };
    let details = match before.path == after.path {
        true => Vec::new(),
        false => vec![format!("interpreter: {} → {}", before.path, after.path)],
    };
    Some(Part { kind: Kind::Runtime, name, details })
}

fn or_unknown(version: &str) -> &str {
    if version.is_empty() { "of unknown version" } else { version }
}

/// Returns the names whose values differ, or that only one of both has.
fn differing(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(value)).map(|(name, _)| name);
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let mut names: Vec<String> = changed.chain(gone).cloned().collect();
    names.sort_unstable();
    names
}

/// Names the first of several for the name of a change.
fn first(names: &[String]) -> String {
    let shown = &names[..names.len().min(NAMED_MAX)];
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Names those that are listed, and counts the others.
fn listed(names: &[String], all: usize) -> String {
    match all.saturating_sub(names.len()) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Code, Config, File, Python};

    const ONE: &str = "3f2a91cd5e6f708192a3b4c5d6e7f80910111213";
    const OTHER: &str = "8be01d2f00112233445566778899aabbccddeeff";

    fn base() -> Fingerprint {
        let file = |path: &str| File { path: path.into(), size: 1, mtime_ns: 1, content: "x".into() };
        let text = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect::<BTreeMap<String, String>>()
        };
        Fingerprint {
            code: Code {
                head: ONE.into(),
                files: ["a.py", "b.py", "c.py", "d.py"].map(file).into(),
                ..Code::default()
            },
            distributions: vec!["Flask-3.1".into(), "requests-2.31".into()],
            config: Config { path: "/srv/gunicorn.conf.py".into(), content: "1".into() },
            command: "c".into(),
            environment: text(&[("HOME", "1"), ("DATABASE_URL", "2")]),
            python: Python { version: "3.11".into(), path: "/usr/bin/python3.11".into(), build: "b".into() },
            ..Fingerprint::default()
        }
    }

    fn told(edit: impl Fn(&mut Fingerprint), earlier: &[String]) -> Option<(Kind, String)> {
        let mut new = base();
        edit(&mut new);
        compare(&base(), &new, earlier).map(|change| (change.kind, change.name))
    }

    #[test]
    fn each_kind_has_a_name_for_people() {
        type Edit = fn(&mut Fingerprint);
        let deploy: Edit = |new| {
            new.code.head = OTHER.into();
            new.code.files.iter_mut().for_each(|file| file.content = "y".into());
        };
        let table: [(Edit, Kind, &str); 14] = [
            (deploy, Kind::Deploy, "deploy 3f2a91c → 8be01d2, 4 files"),
            (|new| new.code.head = OTHER.into(), Kind::Deploy, "deploy 3f2a91c → 8be01d2"),
            (|new| new.code.files[0].content = "y".into(), Kind::Deploy, "deploy on 3f2a91c, 1 file"),
            (
                |new| {
                    new.code.files[0].content = "y".into();
                    new.code.dirty = Some(true);
                },
                Kind::Deploy,
                "deploy 3f2a91c → 3f2a91c+, 1 file",
            ),
            (|new| new.distributions[1] = "requests-2.32".into(), Kind::Dependency, "requests 2.31 → 2.32"),
            (
                |new| new.distributions = vec!["Flask-3.2".into(), "requests-2.31".into(), "zope_x-1".into()],
                Kind::Dependency,
                "flask 3.1 → 3.2 and 1 more distribution",
            ),
            (
                |new| new.distributions.push("requests-2.33".into()),
                Kind::Dependency,
                "requests 2.33 installed",
            ),
            (|new| drop(new.distributions.pop()), Kind::Dependency, "requests 2.31 removed"),
            (|new| new.config.content = "2".into(), Kind::Config, "config gunicorn.conf.py changed"),
            (|new| new.command = "d".into(), Kind::Config, "command line changed"),
            (
                |new| drop(new.environment.insert("DATABASE_URL".into(), "3".into())),
                Kind::Environment,
                "environment changed: DATABASE_URL",
            ),
            (|new| new.python.version = "3.12".into(), Kind::Runtime, "Python 3.11 → 3.12"),
            (|new| new.python.build = "c".into(), Kind::Runtime, "another build of Python 3.11"),
            (
                |new| {
                    new.code.head = OTHER.into();
                    new.distributions[1] = "requests-2.32".into();
                    new.config.content = "2".into();
                },
                Kind::Deploy,
                "deploy 3f2a91c → 8be01d2; requests 2.31 → 2.32; config gunicorn.conf.py changed",
            ),
        ];
        for (edit, kind, name) in table {
            assert_eq!(told(edit, &[]), Some((kind, name.to_owned())));
        }
        let mut before = base();
        deploy(&mut before);
        let back = Some((Kind::Rollback, "rollback 3f2a91c → 8be01d2, 4 files".to_owned()));
        assert_eq!(told(deploy, &[before.id()]), back);
        assert_eq!(told(|_| {}, &[base().id()]), None);
    }

    #[test]
    fn what_was_not_to_be_seen_has_not_changed() {
        let table: [fn(&mut Fingerprint); 5] = [
            |new| new.distributions.clear(),
            |new| new.environment.clear(),
            |new| new.command.clear(),
            |new| new.python = Python::default(),
            |new| {
                new.code.partial = true;
                new.code.files.clear();
            },
        ];
        for edit in table {
            assert_eq!(told(edit, &[]), None);
        }
    }

    #[test]
    fn lists_have_a_limit_and_are_counted() {
        let mut new = base();
        let files =
            (0..LISTED_MAX + 3).map(|number| File { path: format!("x{number:03}.py"), ..File::default() });
        new.code.files.extend(files);
        let change = compare(&base(), &new, &[]).expect("changed");
        assert_eq!((change.files.len(), change.files_count), (LISTED_MAX, LISTED_MAX as u64 + 3));
        assert!(change.details[0].ends_with("x031.py and 3 more"), "{:?}", change.details);
    }
}
