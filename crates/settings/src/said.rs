//! What somebody said of the settings, and who: the raw form. Not for: what it means ([`crate::resolve`]).

use crate::check::{Invalid, check};
use crate::name::find;
use crate::setting::{Kind, Setting};
use crate::surroundings::Surroundings;
use crate::table::SETTINGS;
use crate::value::{Value, quoted};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Who said something. A later one of these wins over an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody.
    Default,
    /// An environment variable that changes a default.
    Environment,
    /// The configuration file.
    File,
    /// `GUNICORN_CMD_ARGS`.
    CmdArgs,
    /// The command line.
    CommandLine,
}

impl Source {
    /// Returns words that tell where.
    pub fn words(&self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::Environment => "environment",
            Source::File => "configuration file",
            Source::CmdArgs => "GUNICORN_CMD_ARGS",
            Source::CommandLine => "command line",
        }
    }
}

/// A value, and who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The value.
    pub value: Value,
    /// Who said it.
    pub source: Source,
}

/// What has been said of the settings; those of whom nothing was said have their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    spoken: BTreeMap<&'static str, Spoken>,
}

impl Said {
    /// Notes a value; an earlier one of the same setting is forgotten.
    ///
    /// # Errors
    /// When there is no such setting. Whether it takes the value is found out by [`merge`].
    pub fn say(&mut self, name: &str, value: Value, source: Source) -> Result<(), Invalid> {
        match find(name) {
            Some(setting) => {
                self.spoken.insert(setting.name, Spoken { value, source });
                Ok(())
            }
            // For an unknown name, this only words the error.
            None => check(name, value).map(drop),
        }
    }

    /// Returns the value of a setting: what was said, or the default of the table. An unknown name has none.
    pub fn value(&self, name: &str) -> Value {
        let default = || find(name).map_or(Value::None, |setting| setting.default.value());
        self.spoken.get(name).map_or_else(default, |spoken| spoken.value.clone())
    }

    /// Returns who said the value.
    pub fn source(&self, name: &str) -> Source {
        self.spoken.get(name).map_or(Source::Default, |spoken| spoken.source)
    }

    /// Returns every setting, in the order of the table, with its value and who said it.
    pub fn all(&self) -> impl Iterator<Item = (&'static Setting, Value, Source)> + '_ {
        SETTINGS.iter().map(|setting| (setting, self.value(setting.name), self.source(setting.name)))
    }

    /// Returns only what was said, by name.
    pub fn spoken(&self) -> impl Iterator<Item = (&'static str, &Value, Source)> {
        self.spoken.iter().map(|(name, spoken)| (*name, &spoken.value, spoken.source))
    }

    /// Adds a value of a flag that may be repeated.
    pub(crate) fn append(&mut self, name: &'static str, text: String, source: Source) {
        let entry = self.spoken.entry(name);
        let spoken = entry.or_insert_with(|| Spoken { value: Value::List(Vec::new()), source });
        if let Value::List(texts) = &mut spoken.value {
            texts.push(text);
        }
    }
}

/// Puts together what several sources said, in any order of them: the value whose source wins, in shape.
///
/// # Errors
/// When a setting does not take a value, even one that another overrules.
pub fn merge(
    layers: impl IntoIterator<Item = Said>,
    surroundings: &Surroundings<'_>,
) -> Result<Said, Invalid> {
    let mut merged = Said::default();
    for layer in layers {
        for (name, spoken) in layer.spoken {
            let source = spoken.source;
            let blame = |error| Invalid { origin: Some(source), ..error };
            let value = check(name, spoken.value).and_then(|value| settle(name, value, surroundings));
            let value = value.map_err(blame)?;
            if source >= merged.source(name) {
                merged.spoken.insert(name, Spoken { value, source });
            }
        }
    }
    Ok(merged)
}

/// Does the part of a check that needs the system.
fn settle(name: &str, value: Value, surroundings: &Surroundings<'_>) -> Result<Value, Invalid> {
    let kind = find(name).map(|setting| setting.kind);
    match (kind, &value) {
        (Some(Kind::Dir), Value::None) => {
            Ok(Value::Str(surroundings.directory.to_string_lossy().into_owned()))
        }
        (Some(Kind::Dir), Value::Str(text)) => {
            let path = absolute(surroundings.directory, text);
            if !(surroundings.exists)(&path) {
                return Err(Invalid::new(name, &value, format!("can't chdir to {}", quoted(text))));
            }
            Ok(Value::Str(path.to_string_lossy().into_owned()))
        }
        (Some(Kind::Files), Value::List(files)) => {
            let pattern = |file: &str| file.contains(['*', '?', '[']);
            let missing = |file: &&String| {
                !pattern(file) && !(surroundings.exists)(&surroundings.directory.join(file.as_str()))
            };
            match files.iter().find(missing) {
                Some(file) => Err(Invalid::new(name, &value, format!("there is no file {}", quoted(file)))),
                None => Ok(value),
            }
        }
        _ => Ok(value),
    }
}

/// Joins and tidies up by the letters alone, without following links, as Python's `abspath` does.
fn absolute(directory: &Path, text: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for component in directory.join(text).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
    }
    path
}

#[cfg(test)]
#[path = "said_tests.rs"]
mod tests;
