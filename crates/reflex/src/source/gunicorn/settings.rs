//! What can be seen of a Gunicorn's settings from outside: its command line, `GUNICORN_CMD_ARGS` in its environment, lines of
//! its configuration file that set a name to a plain value, and what its control socket shows. The file is read, never run.
//! What is not readable is said. Not for: settings that change nothing in what is seen of the server.

use crate::process;
use ferricorn_settings::{Said, Source, parse_args, split_words};
use ferricorn_sys::sockets::{Table, Wanted};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Most bytes of a configuration file that are read.
const FILE_MAX: usize = 256 << 10;

/// The settings that matter here, and their flags; long ones match as argparse lets them be cut.
const NAMES: &[(&str, &[&str])] = &[
    ("bind", &["-b", "--bind"]),
    ("workers", &["-w", "--workers"]),
    ("worker_class", &["-k", "--worker-class"]),
    ("threads", &["--threads"]),
    ("timeout", &["-t", "--timeout"]),
    ("graceful_timeout", &["--graceful-timeout"]),
    ("max_requests", &["--max-requests"]),
    ("accesslog", &["--access-logfile"]),
    ("access_log_format", &["--access-logformat"]),
    ("errorlog", &["--error-logfile", "--log-file"]),
    ("statsd_host", &["--statsd-host"]),
    ("proc_name", &["-n", "--name"]),
    ("chdir", &["--chdir"]),
    ("pythonpath", &["--pythonpath"]),
    ("preload_app", &["--preload"]),
    ("config", &["-c", "--config"]),
    ("control_socket", &["--control-socket"]),
    ("pidfile", &["-p", "--pid"]),
];

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, String>,
    /// Folder of relative paths.
    pub(super) folder: PathBuf,
    /// Where its control socket is, if it has one.
    pub(super) control: Option<String>,
    /// What could not be read.
    pub(super) gaps: Vec<String>,
    /// The command line was not to be seen: what is not known is not the default.
    pub(super) hidden: bool,
}

impl Settings {
    /// Reads those of the arbiter with this pid.
    pub(super) fn of(pid: u32) -> Self {
        let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let mut settings = Self { folder, ..Self::default() };
        let words = process::command_line(pid);
        let variables =
            process::environment(pid, &["GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "XDG_RUNTIME_DIR", "HOME"]);
        let arguments = arguments(&words);
        // `gunicorn: master [NAME]`
        if arguments.is_none()
            && let Some((_, name)) = words.first().and_then(|title| title.split_once('['))
        {
            settings.values.insert("proc_name", name.trim_end_matches(']').to_owned());
        }
        settings.hidden = arguments.is_none();
        if settings.hidden {
            settings.gaps.push(
                "the arbiter shows a title in place of its command line (setproctitle), so its settings are known from \
                 elsewhere only, or are taken for the defaults"
                    .to_owned(),
            );
        }
        if variables.is_none() {
            settings.gaps.push(
                "the arbiter's environment may not be read (GUNICORN_CMD_ARGS): run as its user, or as root"
                    .to_owned(),
            );
        }
        let variables = variables.unwrap_or_default();
        let given = variables.get("GUNICORN_CMD_ARGS").map(String::as_str).unwrap_or_default();
        let given = split_words(given).unwrap_or_default();
        let said = [said(&given, Source::CmdArgs), said(arguments.unwrap_or_default(), Source::CommandLine)];
        let file = said.iter().rev().find_map(|said| said.get("config").cloned());
        if let Some(workers) = variables.get("WEB_CONCURRENCY") {
            settings.values.insert("workers", workers.clone());
        }
        settings.read_file(file.as_deref());
        said.into_iter().for_each(|said| settings.values.extend(said));
        if let Some(chdir) = settings.values.get("chdir").filter(|chdir| !chdir.is_empty()) {
            settings.folder = settings.folder.join(chdir);
        }
        let folder = |name: &str| variables.get(name).filter(|value| !value.is_empty());
        let usual = folder("XDG_RUNTIME_DIR").map(|folder| format!("{folder}/gunicorn.ctl"));
        let usual = usual.or(folder("HOME").map(|folder| format!("{folder}/.gunicorn/gunicorn.ctl")));
        let named = settings.values.get("control_socket").map(|path| settings.folder.join(path));
        let control = named.map(|path| path.to_string_lossy().into_owned()).or(usual).or(listening(pid));
        let reachable =
            |path: String| process::reachable(pid, Path::new(&path)).to_string_lossy().into_owned();
        settings.control = control.map(reachable);
        settings
    }

    fn read_file(&mut self, named: Option<&str>) {
        if named.is_some_and(|name| name.starts_with("python:")) {
            self.gaps.push("the settings are in a Python module, which is not read".to_owned());
            return;
        }
        let path = named.map(|name| name.strip_prefix("file:").unwrap_or(name)).unwrap_or("gunicorn.conf.py");
        let path = self.folder.join(path);
        let Ok(mut text) = fs::read_to_string(&path) else {
            if named.is_some() {
                self.gaps.push(format!("the configuration file {} may not be read", path.display()));
            }
            return;
        };
        let mut end = text.len().min(FILE_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        let (values, unreadable) = literals(&text);
        self.values.extend(values);
        if !unreadable.is_empty() {
            self.gaps.push(format!(
                "{} computes {}, which is therefore not known from there",
                path.display(),
                unreadable.join(", ")
            ));
        }
    }

    /// Takes what the control socket shows, which is what holds.
    pub(super) fn shown(&mut self, config: &Value) {
        for (name, _) in NAMES {
            let text = match &config[*name] {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
                _ => continue,
            };
            self.values.insert(name, text);
        }
        self.hidden = false;
        self.gaps.retain(|gap| !gap.contains("setproctitle") && !gap.contains("computes"));
    }

    /// Returns a value, if it is known.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty() && *value != "None")
    }

    /// Tells whether a switch is known to be on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Returns a number, or what holds without one.
    pub(super) fn number(&self, name: &str, otherwise: u32) -> u32 {
        self.get(name).and_then(|value| value.trim().parse().ok()).unwrap_or(otherwise)
    }

    /// `timeout`, which is off at 0; what was found out elsewhere holds where it was not seen set.
    pub(super) fn timeout_s(&self, found_s: Option<f64>) -> Option<f64> {
        match self.get("timeout").and_then(|value| value.trim().parse::<f64>().ok()) {
            Some(set_s) => Some(set_s).filter(|seconds| *seconds > 0.0),
            None => found_s.or(Some(30.0)),
        }
    }

    /// What says where the logs are, and how they are written.
    pub(super) fn logs(&self) -> [Option<String>; 3] {
        ["accesslog", "errorlog", "access_log_format"].map(|name| self.get(name).map(str::to_owned))
    }

    /// The file of a setting; none for the standard output and for none.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).filter(|path| *path != "-").map(|path| self.folder.join(path))
    }
}

/// Returns the path that a process accepts connections at which is called as Gunicorn's control socket usually is.
fn listening(pid: u32) -> Option<String> {
    let held = Table::read(pid, Wanted::Unix).of(pid).ok()?;
    let mut sockets = held.into_iter().map(|held| held.socket);
    sockets.find(|socket| socket.is_listener() && socket.path.ends_with(".ctl")).map(|socket| socket.path)
}

/// Returns the words behind the program: `python .../gunicorn ...`, `python -m gunicorn ...`, `gunicorn ...`; none of a
/// title that stands in their place.
fn arguments(words: &[String]) -> Option<&[String]> {
    if words.len() <= 1 && words.first().is_none_or(|word| word.starts_with("gunicorn: ")) {
        return None;
    }
    let is_program = |word: &String| {
        let name = Path::new(word).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("gunicorn") || word.contains("gunicorn/__main__.py")
    };
    // Another program may carry Gunicorn within it: then all words are its own.
    Some(words.iter().position(is_program).map_or(&[], |at| &words[at + 1..]))
}

/// Reads a command line: by the table of settings, and where that does not understand it, flag by flag.
fn said(words: &[String], source: Source) -> BTreeMap<&'static str, String> {
    match parse_args(words, source) {
        Ok(parsed) => {
            NAMES.iter().filter_map(|(name, _)| Some((*name, spoken(&parsed.said, name)?))).collect()
        }
        Err(_) => by_flag(words),
    }
}

fn spoken(said: &Said, name: &str) -> Option<String> {
    use ferricorn_settings::Value::{Bool, Int, List, Str};
    let (_, value, _) = said.spoken().find(|(spoken, ..)| *spoken == name)?;
    match value {
        Str(text) => Some(text.clone()),
        List(texts) => Some(texts.join(",")),
        Int(number) => Some(number.to_string()),
        Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Reads the flags that matter and passes over all others: another version's, and what is no flag.
fn by_flag(words: &[String]) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        let Some((name, _)) = NAMES.iter().find(|(_, flags)| flags.contains(&flag)) else { continue };
        // The one switch among them.
        let value = if *name == "preload_app" { Some("true".to_owned()) } else { value };
        let value = value.or_else(|| words.next_if(|next| !next.starts_with("--")).cloned());
        found.extend(value.map(|value| (*name, value)));
    }
    found
}

/// Reads lines of Python that set one of the names to a plain value: the values, and the names that are set otherwise.
fn literals(text: &str) -> (BTreeMap<&'static str, String>, Vec<&'static str>) {
    let mut values = BTreeMap::new();
    let mut unreadable: Vec<&'static str> = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=').filter(|(_, value)| !value.starts_with('=')) else {
            continue;
        };
        let Some((name, _)) = NAMES.iter().find(|(known, _)| *known == name.trim()) else { continue };
        // Within a condition, it may or may not hold.
        match literal(value).filter(|_| !line.starts_with([' ', '\t'])) {
            Some(value) => {
                unreadable.retain(|unreadable| unreadable != name);
                values.insert(*name, value);
            }
            None if unreadable.contains(name) => {}
            None => {
                values.remove(name);
                unreadable.push(name);
            }
        }
    }
    (values, unreadable)
}

/// Reads a number, a string, None, True or False, or a list of strings; none of anything else.
fn literal(text: &str) -> Option<String> {
    let text = text.trim();
    if let Some(list) = text.strip_prefix(['[', '(']) {
        let end = list.rfind([']', ')'])?;
        let items: Option<Vec<String>> =
            list[..end].split(',').filter(|item| !item.trim().is_empty()).map(literal).collect();
        return items.map(|items| items.join(","));
    }
    let prefixed = text.strip_prefix(['r', 'u']).filter(|rest| rest.starts_with(['"', '\'']));
    if let Some(quote) = prefixed.unwrap_or(text).chars().next().filter(|first| matches!(first, '"' | '\'')) {
        let inner = &prefixed.unwrap_or(text)[1..];
        let mut value = String::new();
        let mut characters = inner.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' if prefixed.is_none() => match characters.next()? {
                    'n' => value.push('\n'),
                    't' => value.push('\t'),
                    other => value.push(other),
                },
                other if other == quote => {
                    let rest = characters.as_str().trim();
                    return (rest.is_empty() || rest.starts_with('#')).then_some(value);
                }
                other => value.push(other),
            }
        }
        return None;
    }
    let word = text.split('#').next()?.trim();
    let plain = matches!(word, "None" | "True" | "False");
    let numeric =
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'_');
    (plain || numeric).then(|| word.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_is_found_behind_the_program() {
        let table = [
            ("/usr/bin/python3 /venv/bin/gunicorn -w 4 app:app", Some("-w 4 app:app")),
            ("python -m gunicorn app:app", Some("app:app")),
            ("python /x/gunicorn/__main__.py -t 5 app", Some("-t 5 app")),
            ("/venv/bin/gunicorn app:app", Some("app:app")),
            ("python manage.py serve", Some("")),
        ];
        for (line, expected) in table {
            assert_eq!(arguments(&words(line)).map(|rest| rest.join(" ")).as_deref(), expected, "{line}");
        }
        assert_eq!(arguments(&["gunicorn: master [app:app]".to_owned()]), None);
    }

    #[test]
    fn flags_are_read_even_of_another_version() {
        let line = "-w 3 --timeout=7 --bind :80 -b unix:/s --worker-class gthread --threads 2 app:app";
        let known = said(&words(line), Source::CommandLine);
        let get = |name: &str| known.get(name).map(String::as_str);
        assert_eq!(
            (get("workers"), get("timeout"), get("worker_class")),
            (Some("3"), Some("7"), Some("gthread"))
        );
        assert_eq!(get("bind"), Some(":80,unix:/s"));
        let other = said(&words("--no-such-flag x -t 9 --access-logfile - app:app"), Source::CommandLine);
        assert_eq!(other, [("timeout", "9".to_owned()), ("accesslog", "-".to_owned())].into());
    }

    #[test]
    fn plain_values_of_a_configuration_file_are_read() {
        let (values, unreadable) = literals(
            r#"
import os
bind = ["0.0.0.0:80", 'unix:/run/x.sock']
workers = os.cpu_count() * 2  # many
timeout = 1_20  # seconds
accesslog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s # %(D)s'
threads = int("4")
threads = 4
if os.environ.get("X"):
    graceful_timeout = 5
def on_exit(server): pass
max_requests == 3
"#,
        );
        assert_eq!(
            values,
            [
                ("access_log_format", "%(h)s \"%(r)s\" %(s)s # %(D)s".to_owned()),
                ("accesslog", "-".to_owned()),
                ("bind", "0.0.0.0:80,unix:/run/x.sock".to_owned()),
                ("threads", "4".to_owned()),
                ("timeout", "120".to_owned()),
            ]
            .into()
        );
        assert_eq!(unreadable, ["workers", "graceful_timeout"]);
        for text in ["f('x')", "'a' + b", "\"a", "x", "", "1 + 2", "'a' if b else 'c'"] {
            assert_eq!(literal(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_server_shows_holds() {
        let mut settings = Settings::default();
        settings.values.insert("timeout", "30".to_owned());
        settings.shown(&serde_json::json!({ "timeout": 7, "bind": ["a", "b"], "worker_class": "<class 'X'>", "other": 1 }));
        assert_eq!((settings.timeout_s(Some(9.0)), settings.get("bind")), (Some(7.0), Some("a,b")));
        settings.values.insert("timeout", "0".to_owned());
        assert_eq!(settings.timeout_s(None), None);
        assert_eq!(Settings::default().timeout_s(None), Some(30.0));
        assert_eq!(Settings::default().timeout_s(Some(9.0)), Some(9.0));
    }
}
