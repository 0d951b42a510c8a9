//! The table of all settings, put together from its sections. Not for: what the columns mean ([`crate::Setting`]).

mod control;
mod debugging;
mod dirty;
mod files;
mod hooks;
mod http2;
mod logging;
mod mechanics;
mod naming;
mod offload;
mod own;
mod prevention;
mod security;
mod socket;
mod strictness;
mod tls;
mod workers;

use crate::setting::{Circumstance, DefaultValue, Kind, Setting};

/// The sections in the order of help and reference, each with its rows.
const ROWS: &[(&str, &[&[Setting]])] = &[
    ("Config File", &[files::ROWS]),
    ("Server Socket", &[socket::ROWS]),
    ("Worker Processes", &[workers::ROWS, workers::ASYNC]),
    ("Security", &[security::ROWS]),
    ("Ferricorn", &[own::ROWS, offload::ROWS, prevention::ROWS]),
    ("Debugging", &[debugging::ROWS]),
    ("Server Mechanics", &[mechanics::ROWS, mechanics::PROXIES, strictness::ROWS]),
    ("Logging", &[logging::ROWS, logging::STATSD]),
    ("Process Naming", &[naming::ROWS]),
    ("Server Hooks", &[hooks::ROWS]),
    ("SSL", &[tls::ROWS]),
    ("HTTP/2", &[http2::ROWS]),
    ("Dirty Arbiters", &[dirty::ROWS]),
    ("Dirty Arbiter Hooks", &[dirty::HOOKS]),
    ("Control", &[control::ROWS]),
];

/// The headings, in the order of help and reference.
pub const SECTIONS: [&str; ROWS.len()] = {
    let mut names = [""; ROWS.len()];
    let mut index = 0;
    while index < ROWS.len() {
        names[index] = ROWS[index].0;
        index += 1;
    }
    names
};

/// Every setting, section by section.
pub static SETTINGS: &[Setting] = &ALL;

static ALL: [Setting; count()] = join();

const fn count() -> usize {
    let mut sum = 0;
    let mut section = 0;
    while section < ROWS.len() {
        let mut part = 0;
        while part < ROWS[section].1.len() {
            sum += ROWS[section].1[part].len();
            part += 1;
        }
        section += 1;
    }
    sum
}

const fn join() -> [Setting; count()] {
    let blank = Setting::new("", Kind::Str, DefaultValue::None, "");
    let mut all = [blank; count()];
    let mut next = 0;
    let mut section = 0;
    while section < ROWS.len() {
        let mut part = 0;
        while part < ROWS[section].1.len() {
            let mut row = 0;
            while row < ROWS[section].1[part].len() {
                all[next] = ROWS[section].1[part][row];
                all[next].section = ROWS[section].0;
                next += 1;
                row += 1;
            }
            part += 1;
        }
        section += 1;
    }
    all
}

// The words that most rows are made of.

const STR: Kind = Kind::Str;
const PATH: Kind = Kind::Path;
const COUNT: Kind = Kind::COUNT;
const SWITCH: Kind = Kind::SWITCH;
const NONE: DefaultValue = DefaultValue::None;
const OFF: DefaultValue = DefaultValue::Bool(false);
const EMPTY: DefaultValue = DefaultValue::List(&[]);
const LOCALHOST: DefaultValue = DefaultValue::List(&["127.0.0.1", "::1"]);

const fn int(number: i64) -> DefaultValue {
    DefaultValue::Int(number)
}

const fn text(text: &'static str) -> DefaultValue {
    DefaultValue::Str(text)
}

const fn of(circumstance: Circumstance) -> DefaultValue {
    DefaultValue::Of(circumstance)
}

const fn choice(names: &'static [&'static str]) -> Kind {
    Kind::Choice { names, aliases: &[], bare: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Origin;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_whole() {
        let hooks = SETTINGS.iter().filter(|setting| matches!(setting.kind, Kind::Hook { .. })).count();
        let ours = SETTINGS.iter().filter(|setting| setting.origin == Origin::Ferricorn).count();
        assert_eq!((SETTINGS.len(), hooks, ours), (174, 20, 54));
        assert_eq!(SECTIONS.len(), 15);
    }

    #[test]
    fn names_and_flags_are_unique() {
        let mut names = HashSet::new();
        let mut flags = HashSet::from(["-h", "--help", "-v", "--version"]);
        for setting in SETTINGS {
            assert!(names.insert(setting.name), "{} twice", setting.name);
            for flag in setting.flags {
                assert!(flags.insert(flag), "{flag} twice");
            }
        }
    }

    #[test]
    fn every_default_is_valid() {
        for setting in SETTINGS {
            let value = setting.default.value();
            let in_shape = crate::check(setting.name, value.clone());
            assert_eq!(in_shape.as_ref(), Ok(&value), "{}", setting.name);
        }
    }

    #[test]
    fn every_doc_opens_with_a_short_sentence() {
        for setting in SETTINGS {
            let short = setting.short();
            assert!(short.ends_with('.') && short.len() <= 100, "{}: {short}", setting.name);
            assert!(setting.doc.ends_with('.'), "{}", setting.name);
        }
    }
}
