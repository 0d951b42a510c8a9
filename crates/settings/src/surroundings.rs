//! What settings depend on in the process that reads them: environment variables, directory, user.
//! Not for: asking the system; the caller does.

use crate::check::{Invalid, check};
use crate::number;
use crate::said::{Said, Source};
use crate::value::{Value, quoted};
use std::path::Path;

/// What has to be known of the process.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Looks an environment variable up.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The working directory, absolute; `$PWD` where that is another name for it.
    pub directory: &'a Path,
    /// Tells whether there is a file or directory of this name.
    pub exists: &'a dyn Fn(&Path) -> bool,
    /// The effective user.
    pub user: u32,
    /// The effective group.
    pub group: u32,
}

/// An environment variable that changes settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Every environment variable that settings depend on.
pub const VARIABLES: [Variable; 7] = [
    Variable { name: "GUNICORN_CMD_ARGS", doc: "Flags that stand before those of the command line." },
    Variable { name: "PORT", doc: "Makes `0.0.0.0:$PORT` the default of `bind`." },
    Variable { name: "WEB_CONCURRENCY", doc: "The default of `workers`." },
    Variable { name: "FORWARDED_ALLOW_IPS", doc: "The default of `forwarded_allow_ips`." },
    Variable { name: "SENDFILE", doc: "Whether files are sent by the kernel, unless `sendfile` is set." },
    Variable { name: "XDG_RUNTIME_DIR", doc: "Where the default of `control_socket` lies." },
    Variable { name: "HOME", doc: "Where it lies without `XDG_RUNTIME_DIR`." },
];

/// Returns the defaults that depend on the process: the lowest layer for [`crate::merge`].
///
/// # Errors
/// When a variable holds a value that its setting does not take.
pub fn environment(surroundings: &Surroundings<'_>) -> Result<Said, Invalid> {
    let variable = |name: &str| (surroundings.variable)(name);
    let mut said = Said::default();
    let directory = surroundings.directory.to_string_lossy().into_owned();
    said.say("chdir", Value::Str(directory), Source::Default)?;
    said.say("user", Value::Int(surroundings.user.into()), Source::Default)?;
    said.say("group", Value::Int(surroundings.group.into()), Source::Default)?;
    said.say("control_socket", control_socket(surroundings), Source::Default)?;

    if let Some(port) = variable("PORT") {
        said.say("bind", Value::List(vec![format!("0.0.0.0:{port}")]), Source::Environment)?;
    }
    if let Some(text) = variable("WEB_CONCURRENCY") {
        let number = number::decimal(&text).map(Value::Int).ok_or_else(|| Invalid {
            name: "workers".to_owned(),
            value: text.clone(),
            reason: format!("WEB_CONCURRENCY is not a whole number: {}", quoted(&text)),
            origin: Some(Source::Environment),
        })?;
        said.say("workers", number, Source::Environment)?;
    }
    if let Some(text) = variable("FORWARDED_ALLOW_IPS") {
        said.say("forwarded_allow_ips", Value::Str(text), Source::Environment)?;
    }
    for (name, value, source) in said.spoken() {
        check(name, value.clone()).map_err(|error| Invalid { origin: Some(source), ..error })?;
    }
    Ok(said)
}

fn control_socket(surroundings: &Surroundings<'_>) -> Value {
    let variable = |name: &str| (surroundings.variable)(name).filter(|value| !value.is_empty());
    let runtime = variable("XDG_RUNTIME_DIR").filter(|path| (surroundings.exists)(Path::new(path)));
    match (runtime, variable("HOME")) {
        (Some(runtime), _) => Value::Str(format!("{}/gunicorn.ctl", runtime.trim_end_matches('/'))),
        (None, Some(home)) => Value::Str(format!("{}/.gunicorn/gunicorn.ctl", home.trim_end_matches('/'))),
        (None, None) => Value::None,
    }
}
