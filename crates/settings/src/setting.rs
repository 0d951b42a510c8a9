//! What a row of the table says about a setting. Not for: the rows ([`crate::SETTINGS`]).

use crate::value::Value;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name in configuration files, in hooks and everywhere else.
    pub name: &'static str,
    /// The heading under which it is documented.
    pub section: &'static str,
    /// Its command line flags; none means: configuration file only.
    pub flags: &'static [&'static str],
    /// What stands for the flag's value in the help text.
    pub metavar: Option<&'static str>,
    /// Which values it takes.
    pub kind: Kind,
    /// Its value if nobody says anything.
    pub default: DefaultValue,
    /// One sentence that tells what it does, then what else is worth knowing.
    pub doc: &'static str,
    /// The version of the origin that introduced it, where that is known.
    pub since: Option<&'static str>,
    /// Who defined it.
    pub origin: Origin,
    /// Whether it does anything here.
    pub served: Served,
    /// What of its value is not shown.
    pub secrecy: Secrecy,
}

/// What of a value is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// All of it may be.
    None,
    /// A password in a URL, or in a list of `key=value`, is not.
    Password,
    /// Nothing is, but that there is one.
    All,
}

impl Setting {
    /// Starts a row; the section is filled in when the table is put together.
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        default: DefaultValue,
        doc: &'static str,
    ) -> Setting {
        Setting {
            name,
            section: "",
            flags: &[],
            metavar: None,
            kind,
            default,
            doc,
            since: None,
            origin: Origin::Gunicorn,
            served: Served::Yes,
            secrecy: Secrecy::None,
        }
    }

    pub(crate) const fn flags(mut self, flags: &'static [&'static str]) -> Setting {
        self.flags = flags;
        self
    }

    pub(crate) const fn metavar(mut self, metavar: &'static str) -> Setting {
        self.metavar = Some(metavar);
        self
    }

    pub(crate) const fn since(mut self, version: &'static str) -> Setting {
        self.since = Some(version);
        self
    }

    pub(crate) const fn ours(mut self) -> Setting {
        self.origin = Origin::Ferricorn;
        self
    }

    /// Its value may hold a password.
    pub(crate) const fn secret(mut self) -> Setting {
        self.secrecy = Secrecy::Password;
        self
    }

    /// Its value is nobody's business.
    pub(crate) const fn unshown(mut self) -> Setting {
        self.secrecy = Secrecy::All;
        self
    }

    pub(crate) const fn not_yet(mut self, reason: &'static str) -> Setting {
        self.served = Served::NotYet(reason);
        self
    }

    pub(crate) const fn only(mut self, values: Values, reason: &'static str) -> Setting {
        self.served = Served::Only { values, reason };
        self
    }

    pub(crate) const fn inert(mut self, reason: &'static str) -> Setting {
        self.served = Served::Inert(reason);
        self
    }

    /// Returns the first sentence of the documentation.
    pub fn short(&self) -> &'static str {
        let first = self.doc.split("\n\n").next().unwrap_or(self.doc);
        match first.find(". ") {
            Some(end) => &first[..=end],
            None => first,
        }
    }
}

/// Which values a setting takes, and how they are brought into shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, or nothing.
    Str,
    /// The name of a file or directory, or nothing.
    Path,
    /// A directory that must exist.
    Dir,
    /// Yes or no; the flag takes no value and means `sets`.
    Flag {
        /// What the bare flag says.
        sets: bool,
    },
    /// A whole number within bounds.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// How the flag's value is written.
        numeral: Numeral,
    },
    /// One of a few words.
    Choice {
        /// The words.
        names: &'static [&'static str],
        /// Other ways to say them.
        aliases: &'static [(&'static str, &'static str)],
        /// What the flag means without a value, if it may stand alone.
        bare: Option<&'static str>,
    },
    /// Texts; the flag may be repeated.
    List,
    /// Files and glob patterns; the flag may be repeated.
    Files,
    /// Words between commas.
    Csv,
    /// Addresses and networks between commas, or `*`.
    Networks,
    /// `h1` and `h2` between commas, in the order of preference.
    Protocols,
    /// A Python dictionary.
    Dict,
    /// A Python dictionary whose values are seconds.
    Times,
    /// A time: `off`, `auto`, or seconds.
    Limit,
    /// A Python function with these parameters.
    Hook {
        /// Names of the parameters.
        parameters: &'static [&'static str],
    },
    /// A Python class, or its name.
    Class,
    /// A user name or number.
    User,
    /// A group name or number.
    Group,
    /// A host and port, or a Unix socket, for datagrams.
    Address,
    /// Anything; nobody looks at it.
    Anything,
}

impl Kind {
    /// Any whole number from zero on, as most settings take it.
    pub(crate) const COUNT: Kind = Kind::Int { min: 0, max: i64::MAX, numeral: Numeral::Decimal };
    /// A switch that the flag turns on.
    pub(crate) const SWITCH: Kind = Kind::Flag { sets: true };

    /// Returns how argparse stores a flag of this kind.
    pub fn action(&self) -> &'static str {
        match self {
            Kind::Flag { sets: true } => "store_true",
            Kind::Flag { sets: false } => "store_const",
            Kind::List | Kind::Files => "append",
            _ => "store",
        }
    }

    /// Returns the name of the kind, for people and for other programs.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Str => "str",
            Kind::Path => "path",
            Kind::Dir => "directory",
            Kind::Flag { .. } => "bool",
            Kind::Int { .. } => "int",
            Kind::Choice { .. } => "choice",
            Kind::List => "list",
            Kind::Files => "files",
            Kind::Csv => "comma list",
            Kind::Networks => "networks",
            Kind::Protocols => "protocols",
            Kind::Dict => "dict",
            Kind::Times => "times",
            Kind::Limit => "limit",
            Kind::Hook { .. } => "hook",
            Kind::Class => "class",
            Kind::User => "user",
            Kind::Group => "group",
            Kind::Address => "address",
            Kind::Anything => "anything",
        }
    }
}

/// How a number is written on the command line. In configuration files, text always counts as Python source would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numeral {
    /// Digits.
    Decimal,
    /// As in Python source, and with a leading zero octal: file modes.
    Mode,
    /// As in Python source, read when the value is checked.
    Source,
}

/// A default that can be written down in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// Nothing.
    None,
    /// Yes or no.
    Bool(bool),
    /// A number.
    Int(i64),
    /// Text.
    Str(&'static str),
    /// Texts.
    List(&'static [&'static str]),
    /// Names and values.
    Map(&'static [(&'static str, &'static str)]),
    /// The qualified name under which Gunicorn shows the hook that does nothing.
    Hook(&'static str),
    /// Something of the process; [`crate::environment`] finds it out.
    Of(Circumstance),
}

/// What a default depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circumstance {
    /// The working directory.
    Directory,
    /// The effective user.
    User,
    /// The effective group.
    Group,
    /// The runtime directory of the user.
    RuntimeDir,
}

impl Circumstance {
    /// Returns words for it.
    pub fn words(&self) -> &'static str {
        match self {
            Circumstance::Directory => "the working directory",
            Circumstance::User => "the user who starts the server",
            Circumstance::Group => "the group that starts the server",
            Circumstance::RuntimeDir => "`$XDG_RUNTIME_DIR/gunicorn.ctl`, else `~/.gunicorn/gunicorn.ctl`",
        }
    }
}

impl DefaultValue {
    /// Returns the default as a value; what depends on the process is `None`.
    pub fn value(&self) -> Value {
        let owned = |text: &&str| (*text).to_owned();
        match self {
            DefaultValue::None | DefaultValue::Of(_) => Value::None,
            DefaultValue::Bool(flag) => Value::Bool(*flag),
            DefaultValue::Int(number) => Value::Int(*number),
            DefaultValue::Str(text) => Value::Str((*text).to_owned()),
            DefaultValue::List(texts) => Value::List(texts.iter().map(owned).collect()),
            DefaultValue::Map(pairs) => {
                Value::Map(pairs.iter().map(|(name, value)| (owned(name), owned(value))).collect())
            }
            DefaultValue::Hook(name) => Value::Object((*name).to_owned()),
        }
    }
}

/// Who defined a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Gunicorn 27.0.1 has it too.
    Gunicorn,
    /// Only Ferricorn has it.
    Ferricorn,
}

/// Some of the values of a setting, as they are shown.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// These.
    In(&'static [&'static str]),
    /// These, and others for which this is true.
    Like(&'static [&'static str], fn(&str) -> bool),
}

impl Values {
    pub(crate) fn have(self, shown: &str) -> bool {
        match self {
            Values::In(values) => values.contains(&shown),
            Values::Like(_, is) => is(shown),
        }
    }

    /// Returns those that have names.
    pub(crate) fn named(self) -> &'static [&'static str] {
        match self {
            Values::In(values) | Values::Like(values, _) => values,
        }
    }
}

/// Whether a setting does anything here.
#[derive(Clone, Copy, Debug)]
pub enum Served {
    /// It works.
    Yes,
    /// It is read and has no effect; who sets it gets a warning with this reason.
    NotYet(&'static str),
    /// These values work; who sets another gets a warning with this reason.
    Only {
        /// The values that work.
        values: Values,
        /// Why the others do not.
        reason: &'static str,
    },
    /// It is read, has no effect and nothing is lost by that, for this reason.
    Inert(&'static str),
}
