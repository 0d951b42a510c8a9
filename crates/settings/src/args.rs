//! Reads a command line as Python's argparse does, with the flags of the table.
//!
//! Words are told apart first, all of them; then flags take their values from left to right. The first run of words
//! that belong to no flag names the application. Not for: whether a setting takes its value ([`crate::merge`]).

use crate::help::{PROGRAM, usage};
use crate::name::closest;
use crate::number;
use crate::said::{Said, Source};
use crate::setting::{Kind, Numeral, Origin, Setting};
use crate::table::SETTINGS;
use crate::value::{Value, quoted};

/// What a command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedArgs {
    /// The settings.
    pub said: Said,
    /// The application, as `MODULE:NAME`.
    pub app: Option<String>,
    /// What to show instead of serving.
    pub wanted: Option<Wanted>,
}

/// Something to show, after which the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The help text.
    Help,
    /// The version.
    Version,
}

/// A command line that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}\n{PROGRAM}: error: {message}", usage())]
pub struct UsageError {
    /// What is wrong with it.
    pub message: String,
}

impl UsageError {
    /// The exit status of a program that was called wrongly.
    pub const EXIT_STATUS: i32 = 2;
}

/// Reads the words of a command line, without the program's name.
///
/// # Errors
/// When a flag is unknown, ambiguous, or has no value or a wrong one.
pub fn parse_args(args: &[String], source: Source) -> Result<ParsedArgs, UsageError> {
    let mut reader = Reader {
        words: classify(args)?,
        next: 0,
        source,
        parsed: ParsedArgs::default(),
        unknown: Vec::new(),
        positionals: None,
    };
    while reader.parsed.wanted.is_none() && reader.next < reader.words.len() {
        reader.step()?;
    }
    reader.finish()
}

/// A flag: one of a setting, or one of the two that show something.
#[derive(Clone, Copy)]
enum Flag {
    Setting(&'static Setting),
    Wanted(Wanted),
}

impl Flag {
    /// Returns the spellings, as argparse names the flag in errors.
    fn spellings(self) -> String {
        match self {
            Flag::Setting(setting) => setting.flags.join("/"),
            Flag::Wanted(Wanted::Help) => "-h/--help".to_owned(),
            Flag::Wanted(Wanted::Version) => "-v/--version".to_owned(),
        }
    }

    fn takes_value(self) -> bool {
        matches!(self, Flag::Setting(setting) if !matches!(setting.kind, Kind::Flag { .. }))
    }

    fn error(self, message: &str) -> UsageError {
        UsageError { message: format!("argument {}: {message}", self.spellings()) }
    }
}

const SHOWING: [(&str, Wanted); 4] =
    [("-h", Wanted::Help), ("--help", Wanted::Help), ("-v", Wanted::Version), ("--version", Wanted::Version)];

/// Returns every spelling of every flag.
fn spellings() -> impl Iterator<Item = (&'static str, Flag)> {
    let showing = SHOWING.iter().map(|(spelling, wanted)| (*spelling, Flag::Wanted(*wanted)));
    let setting = |setting: &'static Setting| {
        setting.flags.iter().map(move |spelling| (*spelling, Flag::Setting(setting)))
    };
    showing.chain(SETTINGS.iter().flat_map(setting))
}

fn exact(spelling: &str) -> Option<(&'static str, Flag)> {
    spellings().find(|(known, _)| *known == spelling)
}

enum Word {
    /// Belongs to no flag, or is the value of one.
    Plain(String),
    /// A flag, and a value in the same word.
    Flag { spelling: &'static str, flag: Flag, value: Option<String> },
    /// Looks like a flag and is none.
    Unknown(String),
    /// The first `--`, after which all words are plain.
    End,
}

fn classify(args: &[String]) -> Result<Vec<Word>, UsageError> {
    let mut words = Vec::with_capacity(args.len());
    let mut ended = false;
    for arg in args {
        words.push(match arg.as_str() {
            _ if ended => Word::Plain(arg.clone()),
            "--" => {
                ended = true;
                Word::End
            }
            _ => classify_one(arg)?,
        });
    }
    Ok(words)
}

fn classify_one(arg: &str) -> Result<Word, UsageError> {
    let plain = || Ok(Word::Plain(arg.to_owned()));
    if !arg.starts_with('-') || arg.len() == 1 {
        return plain();
    }
    if let Some((spelling, flag)) = exact(arg) {
        return Ok(Word::Flag { spelling, flag, value: None });
    }
    let (stem, value) = match arg.split_once('=') {
        Some((stem, value)) => (stem, Some(value.to_owned())),
        None => (arg, None),
    };
    if let (Some((spelling, flag)), Some(_)) = (exact(stem), &value) {
        return Ok(Word::Flag { spelling, flag, value });
    }
    let mut found = if arg.starts_with("--") { beginning_with(stem, value) } else { joined(arg) };
    if found.len() > 1 {
        let known: Vec<&str> = found.iter().map(|(spelling, ..)| *spelling).collect();
        let message = format!("ambiguous option: {arg} could match {}", known.join(", "));
        return Err(UsageError { message });
    }
    match found.pop() {
        Some((spelling, flag, value)) => Ok(Word::Flag { spelling, flag, value }),
        None if is_negative_number(arg) || arg.contains(' ') => plain(),
        None => Ok(Word::Unknown(arg.to_owned())),
    }
}

type Found = (&'static str, Flag, Option<String>);

/// Finds the long flags that a shortened one may stand for.
/// What is short for a flag of Gunicorn's stays so, whatever flags of our own begin like it.
fn beginning_with(stem: &str, value: Option<String>) -> Vec<Found> {
    let fits: Vec<(&'static str, Flag)> =
        spellings().filter(|(spelling, _)| spelling.starts_with(stem)).collect();
    let is_own = |flag: &Flag| matches!(flag, Flag::Setting(setting) if setting.origin == Origin::Ferricorn);
    let theirs = fits.iter().any(|(_, flag)| !is_own(flag));
    fits.into_iter()
        .filter(|(_, flag)| !theirs || !is_own(flag))
        .map(|(spelling, flag)| (spelling, flag, value.clone()))
        .collect()
}

/// Finds the short flag of a word that goes on with its value, or with more flags: `-w3`, `-Dw3`.
fn joined(arg: &str) -> Vec<Found> {
    let end = arg.char_indices().nth(2).map_or(arg.len(), |(index, _)| index);
    let (short, rest) = arg.split_at(end);
    exact(short).map(|(spelling, flag)| (spelling, flag, Some(rest.to_owned()))).into_iter().collect()
}

fn is_negative_number(arg: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match arg[1..].split_once('.') {
        None => digits(&arg[1..]),
        Some((whole, fraction)) => digits(whole) && digits(fraction) && !fraction.is_empty(),
    }
}

struct Reader {
    words: Vec<Word>,
    next: usize,
    source: Source,
    parsed: ParsedArgs,
    unknown: Vec<String>,
    positionals: Option<Vec<String>>,
}

impl Reader {
    fn step(&mut self) -> Result<(), UsageError> {
        match &self.words[self.next] {
            Word::Plain(_) | Word::End => {
                self.take_positionals();
                Ok(())
            }
            Word::Unknown(word) => {
                self.unknown.push(word.clone());
                self.next += 1;
                Ok(())
            }
            Word::Flag { spelling, flag, value } => {
                let (spelling, flag, value) = (*spelling, *flag, value.clone());
                self.next += 1;
                self.take_flag(spelling, flag, value)
            }
        }
    }

    /// Takes a run of plain words. Only the first run counts; argparse knows no place for a second one.
    fn take_positionals(&mut self) {
        let mut run = Vec::new();
        while let Some(word @ (Word::Plain(_) | Word::End)) = self.words.get(self.next) {
            if let Word::Plain(word) = word {
                run.push(word.clone());
            }
            self.next += 1;
        }
        match self.positionals {
            None => self.positionals = Some(run),
            Some(_) => self.unknown.extend(run),
        }
    }

    fn take_flag(
        &mut self,
        mut spelling: &'static str,
        mut flag: Flag,
        mut value: Option<String>,
    ) -> Result<(), UsageError> {
        // Short flags without values may share a word: `-Dw3` is `-D -w 3`.
        while !flag.takes_value() {
            let Some(rest) = value.take() else { return self.apply(flag, None) };
            let ignored = || flag.error(&format!("ignored explicit argument {}", quoted(&rest)));
            let first = rest.chars().next().filter(|_| !spelling.starts_with("--")).ok_or_else(ignored)?;
            let (next, next_flag) = exact(&format!("-{first}")).ok_or_else(ignored)?;
            self.apply(flag, None)?;
            if self.parsed.wanted.is_some() {
                return Ok(());
            }
            let rest = &rest[first.len_utf8()..];
            value = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest).to_owned());
            (spelling, flag) = (next, next_flag);
        }
        let value = value.or_else(|| match self.words.get(self.next) {
            Some(Word::Plain(word)) => {
                self.next += 1;
                Some(word.clone())
            }
            _ => None,
        });
        self.apply(flag, value)
    }

    fn apply(&mut self, flag: Flag, value: Option<String>) -> Result<(), UsageError> {
        let setting = match flag {
            Flag::Wanted(wanted) => {
                self.parsed.wanted = Some(wanted);
                return Ok(());
            }
            Flag::Setting(setting) => setting,
        };
        let value = match (setting.kind, value) {
            (Kind::Flag { sets }, _) => Value::Bool(sets),
            (Kind::Choice { bare: Some(bare), .. }, None) => Value::from(bare),
            (_, None) => return Err(flag.error("expected one argument")),
            (Kind::List | Kind::Files, Some(text)) => {
                self.parsed.said.append(setting.name, text, self.source);
                return Ok(());
            }
            (Kind::Int { numeral: Numeral::Decimal, .. }, Some(text)) => number::decimal(&text)
                .map(Value::Int)
                .ok_or_else(|| flag.error(&format!("invalid int value: {}", quoted(&text))))?,
            (Kind::Int { numeral: Numeral::Mode, .. }, Some(text)) => number::mode(&text)
                .map(Value::Int)
                .ok_or_else(|| flag.error(&format!("invalid auto_int value: {}", quoted(&text))))?,
            (_, Some(text)) => Value::Str(text),
        };
        let known = self.parsed.said.say(setting.name, value, self.source);
        known.expect("the setting comes from the table");
        Ok(())
    }

    fn finish(mut self) -> Result<ParsedArgs, UsageError> {
        if self.parsed.wanted.is_some() {
            return Ok(self.parsed);
        }
        if !self.unknown.is_empty() {
            let hint = self.unknown.iter().find_map(|word| meant(word));
            let hint = hint.map(|flag| format!(" (did you mean {flag}?)")).unwrap_or_default();
            return Err(UsageError {
                message: format!("unrecognized arguments: {}{hint}", self.unknown.join(" ")),
            });
        }
        self.parsed.app = self.positionals.unwrap_or_default().into_iter().next();
        // The variable's application is ignored, as in Gunicorn: only the command line names one.
        if self.source != Source::CommandLine {
            self.parsed.app = None;
        }
        if let Some(app) = &self.parsed.app {
            let named = self.parsed.said.say("default_proc_name", Value::Str(app.clone()), self.source);
            named.expect("the table has the name of the process");
        }
        Ok(self.parsed)
    }
}

/// Returns the flag that a word is probably a misspelling of, or the flag of a setting written as in a file.
fn meant(word: &str) -> Option<&'static str> {
    let stem = word.split('=').next().unwrap_or(word);
    if !stem.starts_with("--") {
        return None;
    }
    let name = stem[2..].replace('-', "_");
    let by_name =
        SETTINGS.iter().find(|setting| setting.name == name).and_then(|setting| setting.flags.last());
    let long = spellings().map(|(spelling, _)| spelling).filter(|spelling| spelling.starts_with("--"));
    by_name.copied().or_else(|| closest(stem, long))
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
