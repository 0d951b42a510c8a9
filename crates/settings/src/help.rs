//! What `--help` shows. Not for: the whole documentation ([`crate::reference_markdown`]).

use crate::setting::{DefaultValue, Kind, Served, Setting};
use crate::table::{SECTIONS, SETTINGS};
use crate::value::Value;
use std::fmt::Write;

/// The name of the program.
pub const PROGRAM: &str = "ferricorn";

/// Width of the text, and where its second column begins.
const WIDTH: usize = 100;
const COLUMN: usize = 28;

/// Returns the line that tells how the program is called.
pub fn usage() -> String {
    format!("usage: {PROGRAM} [OPTIONS] [APP_MODULE]")
}

/// Returns the help text: how to begin, then every flag by section.
pub fn help() -> String {
    let mut text = format!("{}\n{INTRODUCTION}", usage());
    for section in SECTIONS {
        let settings: Vec<&Setting> = SETTINGS
            .iter()
            .filter(|setting| setting.section == section && !setting.flags.is_empty())
            .collect();
        if !settings.is_empty() {
            text.push_str(&format!("\n{section}:\n"));
            text.extend(settings.into_iter().map(entry));
        }
    }
    text.push_str(CLOSE);
    text
}

const INTRODUCTION: &str = "
Serves a Python web application. Takes Gunicorn's flags, configuration file and signals.

APP_MODULE is MODULE:NAME, such as myproject.wsgi:application; NAME may be a call, such as app:create_app().
Without NAME it is `application`.

Examples:
  ferricorn myproject.wsgi                              serve at http://127.0.0.1:8000
  ferricorn -w 4 --threads 8 -b 0.0.0.0:80 app:app      4 workers of 8 threads each, all addresses
  ferricorn -b unix:/run/app.sock app:app               behind a proxy, on a Unix socket
  ferricorn -c gunicorn.conf.py app:app                 settings from a file
  ferricorn --check-config app:app                      is everything right? exit status 0 or 1

Later ones win: configuration file, then GUNICORN_CMD_ARGS, then command line. Flags may be shortened.

  -h, --help                show this text and exit
  -v, --version             show the version and exit
";

const CLOSE: &str = "
Settings without a flag (hooks and a few more) are set in the configuration file. Operate a running server
with ferricornctl. Every setting in full: docs/settings.md
";

fn entry(setting: &'static Setting) -> String {
    let left = invocation(setting);
    let right = wrapped(&description(setting));
    let mut text = format!("  {left}");
    let mut lines = right.iter();
    if left.len() + 4 <= COLUMN {
        let pad = COLUMN - 2;
        text = format!("  {left:pad$}{}", lines.next().map_or("", String::as_str));
    }
    text.push('\n');
    for line in lines {
        writeln!(text, "{:COLUMN$}{line}", "").expect("writing to a String cannot fail");
    }
    text
}

/// Returns the spellings of a flag and what stands for its value.
pub(crate) fn invocation(setting: &Setting) -> String {
    let flags = setting.flags.join(", ");
    match setting.kind {
        Kind::Flag { .. } => flags,
        Kind::Choice { bare: Some(_), .. } => format!("{flags} [{}]", metavar(setting)),
        _ => format!("{flags} {}", metavar(setting)),
    }
}

fn metavar(setting: &Setting) -> String {
    match setting.kind {
        Kind::Choice { names, .. } => format!("{{{}}}", names.join(",")),
        _ => setting.metavar.map_or_else(|| setting.name.to_uppercase(), str::to_owned),
    }
}

fn description(setting: &Setting) -> String {
    let doc = setting.short().replace('`', "");
    let default = match setting.default {
        DefaultValue::Of(circumstance) => format!(" [{}]", circumstance.words().replace('`', "")),
        _ => match setting.default.value() {
            Value::None | Value::Bool(_) => String::new(),
            Value::List(texts) if texts.is_empty() => String::new(),
            Value::Str(text) if text.is_empty() => String::new(),
            Value::List(texts) => format!(" [{}]", texts.join(",")),
            other => format!(" [{}]", other.shown()),
        },
    };
    let served = match setting.served {
        Served::NotYet(_) => " (no effect yet)",
        Served::Inert(_) => " (has no effect)",
        Served::Yes | Served::Only { .. } => "",
    };
    format!("{doc}{default}{served}")
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH - COLUMN => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_its_line() {
        let text = help();
        for setting in SETTINGS {
            for flag in setting.flags {
                assert!(text.contains(flag), "{flag}");
            }
        }
        let wide: Vec<&str> = text.lines().filter(|line| line.len() > 112).collect();
        assert!(wide.is_empty(), "{wide:?}");
    }

    #[test]
    fn entries_tell_flag_meaning_and_default() {
        let table = [
            ("workers", "  -w, --workers INT         How many worker processes serve requests. [1]\n"),
            (
                "proxy_protocol",
                "  --proxy-protocol [{off,v1,v2,auto}]\n                            Whether connections open with a PROXY protocol header, and of which\n                            version. [off] (no effect yet)\n",
            ),
            ("daemon", "  -D, --daemon              Detach from the terminal and run in the background.\n"),
        ];
        for (name, wanted) in table {
            assert_eq!(entry(crate::find(name).expect(name)), wanted);
        }
    }
}
