//! Brings one value into the shape that its setting wants, or says why it has none, as Gunicorn's validators do.
//! Lists are taken where Gunicorn wants text with commas, so that a value in shape stays as it is.
//! Not for: what needs the system, such as whether a directory exists ([`crate::merge`]).

use crate::address::BindAddress;
use crate::name::{closest, find};
use crate::network::AllowList;
use crate::number;
use crate::said::Source;
use crate::secret::HIDDEN;
use crate::setting::{Kind, Secrecy};
use crate::table::SETTINGS;
use crate::value::{Value, quoted};
use std::time::Duration;

/// A value that its setting does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value for {name}: {value}: {reason}")]
pub struct Invalid {
    /// The setting.
    pub name: String,
    /// The value, as Python shows it.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
    /// Who said it, where that is known.
    pub origin: Option<Source>,
}

impl Invalid {
    pub(crate) fn new(name: &str, value: &Value, reason: String) -> Invalid {
        Invalid { name: name.to_owned(), value: value.shown(), reason, origin: None }
    }

    /// The same of a value that nobody is to see.
    pub(crate) fn unshown(name: &str, origin: Source, reason: String) -> Invalid {
        let (name, value) = (name.to_owned(), HIDDEN.to_owned());
        Invalid { name, value, reason, origin: Some(origin) }
    }

    /// Returns what to write to standard error before exiting with status 1: the lines that Gunicorn writes.
    pub fn message(&self) -> String {
        let Invalid { name, value, reason, origin } = self;
        let place = origin.map(|source| format!(" ({})", source.words())).unwrap_or_default();
        format!("Invalid value for {name}: {value}\n\n\nError: {reason}{place}\n")
    }
}

/// Brings a value into shape.
///
/// # Errors
/// When there is no such setting, or it does not take the value.
pub fn check(name: &str, value: Value) -> Result<Value, Invalid> {
    let Some(setting) = find(name) else {
        let near = closest(name, SETTINGS.iter().map(|setting| setting.name));
        let hint = near.map(|near| format!(": did you mean {}?", quoted(near))).unwrap_or_default();
        return Err(Invalid::new(name, &value, format!("unknown setting {}{hint}", quoted(name))));
    };
    // Hook or class: the caller holds the object, so there is nothing to bring into shape.
    let checked = setting.kind.check(name, value.clone());
    if setting.secrecy != Secrecy::None {
        // Messages repeat what was said.
        let reason =
            if matches!(setting.kind, Kind::List) { "Not a list of strings" } else { "Not a string" };
        return checked.map_err(|_| Invalid::new(name, &Value::from(HIDDEN), reason.to_owned()));
    }
    checked.map_err(|reason| Invalid::new(name, &value, reason))
}

impl Kind {
    fn check(&self, name: &str, value: Value) -> Result<Value, String> {
        match self {
            Kind::Anything => Ok(value),
            Kind::Str | Kind::Path | Kind::Dir => text(value),
            Kind::Flag { .. } => flag(value),
            Kind::Int { min, max, .. } => int(value, *min, *max),
            Kind::Choice { names, aliases, .. } => choice(name, value, names, aliases),
            Kind::List | Kind::Files => list(value),
            Kind::Csv => words(value).map(Value::List),
            Kind::Networks => networks(value),
            Kind::Protocols => protocols(value),
            Kind::Dict => dict(value),
            Kind::Times => times(value),
            Kind::Limit => limit(value),
            Kind::Hook { .. } => hook(value),
            Kind::Class => class(value),
            Kind::User | Kind::Group => identity(value),
            Kind::Address => address(value),
        }
    }
}

fn text(value: Value) -> Result<Value, String> {
    match value {
        Value::None => Ok(Value::None),
        Value::Str(text) => Ok(Value::Str(text.trim().to_owned())),
        other => Err(format!("Not a string: {}", other.shown())),
    }
}

fn flag(value: Value) -> Result<Value, String> {
    match value {
        Value::None | Value::Bool(_) => Ok(value),
        Value::Str(text) => match text.trim().to_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(format!("Invalid boolean: {text}")),
        },
        other => Err(format!("Invalid type for casting: {}", other.shown())),
    }
}

fn int(value: Value, min: i64, max: i64) -> Result<Value, String> {
    let number = match value {
        Value::Int(number) => number,
        Value::Bool(flag) => i64::from(flag),
        Value::Str(text) => number::source(&text)
            .ok_or_else(|| format!("invalid literal for int() with base 0: {}", quoted(&text)))?,
        other => return Err(format!("not a whole number: {}", other.shown())),
    };
    if number < 0 && min == 0 {
        return Err(format!("Value must be positive: {number}"));
    }
    if number < min {
        return Err(format!("Value must be at least {min}: {number}"));
    }
    if number > max {
        return Err(format!("Value must be at most {max}: {number}"));
    }
    Ok(Value::Int(number))
}

fn choice(name: &str, value: Value, names: &[&str], aliases: &[(&str, &str)]) -> Result<Value, String> {
    let said = match &value {
        Value::None => return Ok(Value::from(names[0])),
        Value::Bool(flag) => flag.to_string(),
        Value::Str(text) => text.trim().to_lowercase(),
        other => return Err(format!("Invalid type for casting: {}", other.shown())),
    };
    let alias = aliases.iter().find(|(alias, _)| *alias == said);
    let found = names.iter().find(|name| **name == said).or(alias.map(|(_, name)| name));
    found
        .map(|name| Value::from(*name))
        .ok_or_else(|| format!("Invalid {name}: {} (must be one of: {})", value.repr(), names.join(", ")))
}

fn list(value: Value) -> Result<Value, String> {
    if !value.is_truthy() {
        return Ok(Value::List(Vec::new()));
    }
    match value {
        Value::Str(text) => Ok(Value::List(vec![text.trim().to_owned()])),
        Value::List(texts) => Ok(Value::List(texts.iter().map(|text| text.trim().to_owned()).collect())),
        other => Err(format!("Not a list of strings: {}", other.shown())),
    }
}

fn words(value: Value) -> Result<Vec<String>, String> {
    let trimmed = |text: &str| text.trim().to_owned();
    match value {
        Value::None => Ok(Vec::new()),
        Value::Str(text) => Ok(text.trim().split(',').filter(|word| !word.is_empty()).map(trimmed).collect()),
        Value::List(texts) => Ok(texts.iter().map(|text| trimmed(text)).collect()),
        other => Err(format!("Not a string: {}", other.shown())),
    }
}

fn networks(value: Value) -> Result<Value, String> {
    let words = words(value)?;
    AllowList::parse(words.iter().map(String::as_str)).map_err(|error| error.to_string())?;
    Ok(Value::List(words))
}

fn protocols(value: Value) -> Result<Value, String> {
    let mut protocols: Vec<String> = Vec::new();
    for word in words(value)?.into_iter().filter(|word| !word.is_empty()) {
        let protocol = word.to_lowercase();
        if !["h1", "h2"].contains(&protocol.as_str()) {
            return Err(format!("Invalid protocol '{protocol}'. Valid protocols: h1, h2"));
        }
        if protocols.contains(&protocol) {
            return Err("Duplicate protocols specified".to_owned());
        }
        protocols.push(protocol);
    }
    if protocols.is_empty() {
        protocols.push("h1".to_owned());
    }
    Ok(Value::List(protocols))
}

fn dict(value: Value) -> Result<Value, String> {
    match value {
        Value::Map(_) => Ok(value),
        // Its values are not all text, so that the caller keeps it.
        Value::Object(ref repr) if repr.starts_with('{') => Ok(value),
        other => Err(format!("Value is not a dictionary: {}", other.shown())),
    }
}

fn times(value: Value) -> Result<Value, String> {
    let Value::Map(pairs) = &value else {
        return Err(format!("Value is not a dictionary of names and seconds: {}", value.shown()));
    };
    match pairs.iter().find(|(_, text)| seconds(text).is_none()) {
        Some((name, text)) => Err(format!("'{text}' of '{name}' is no number of seconds")),
        None => Ok(value),
    }
}

/// A limit in shape is text: `off`, `auto`, or a number of seconds above zero.
fn limit(value: Value) -> Result<Value, String> {
    let text = match &value {
        Value::None | Value::Bool(false) => "off".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Str(text) | Value::Object(text) => text.trim().to_lowercase(),
        other => return Err(format!("Not `auto`, `off` or a number of seconds: {}", other.shown())),
    };
    match (text.as_str(), seconds(&text)) {
        ("off" | "auto", _) => Ok(Value::Str(text)),
        (_, Some(Duration::ZERO)) => Ok(Value::from("off")),
        (_, Some(_)) => Ok(Value::Str(text)),
        _ => Err(format!("Not `auto`, `off` or a number of seconds: {}", value.shown())),
    }
}

/// Reads a time; a part of a second may be named.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok())
}

fn hook(value: Value) -> Result<Value, String> {
    match value {
        Value::Object(_) => Ok(value),
        Value::Str(ref path) if path.contains('.') => Ok(value),
        Value::Str(path) => {
            Err(format!("Value '{path}' is not import string. Format: module[.submodules...].object"))
        }
        other => Err(format!("Value is not callable: {}", other.shown())),
    }
}

fn class(value: Value) -> Result<Value, String> {
    match value {
        Value::Object(_) => Ok(value),
        other => text(other),
    }
}

fn identity(value: Value) -> Result<Value, String> {
    match value {
        Value::None | Value::Int(_) => Ok(value),
        Value::Bool(flag) => Ok(Value::Int(i64::from(flag))),
        Value::Str(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map(Value::Int).map_err(|_| format!("Value is too large: {text}"))
        }
        Value::Str(_) => Ok(value),
        other => Err(format!("Not a name or number: {}", other.shown())),
    }
}

fn address(value: Value) -> Result<Value, String> {
    let value = text(value)?;
    if let Value::Str(text) = &value {
        BindAddress::with_port(text, 8125)
            .map_err(|_| "Value must be one of ('host:port', 'unix://PATH')".to_owned())?;
    }
    Ok(value)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
