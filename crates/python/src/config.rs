//! The configuration: environment, `gunicorn.conf.py`, `GUNICORN_CMD_ARGS` and command line, put together.
//!
//! Python runs the file and keeps its objects (hooks, classes); the settings crate decides what every value means.
//! Not for: acting on any of it.

use crate::prevention;
use ferricorn_offload::webhook::Key;
use ferricorn_settings::OffloadRoute;
use ferricorn_settings::{
    Kind, ParsedArgs, SETTINGS, Said, Settings, Source, Surroundings, Value, environment, merge, parse_args,
    resolve, split_words, warnings,
};
use ferricorn_worker::Route;
use ferricorn_worker::http::error_page::{ErrorPage, SIZE_MAX};
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that was said, and what it means.
pub(crate) struct Configured {
    /// What was said, by whom.
    pub(crate) said: Said,
    /// What it means.
    pub(crate) settings: Settings,
    /// `route_timeouts`.
    pub(crate) routes: Vec<(Route, Duration)>,
    /// `offload`.
    pub(crate) offloaded: Vec<Route>,
    /// `offload_prefer`.
    pub(crate) offloadable: Vec<Route>,
    /// `offload_webhook_secret`.
    pub(crate) webhook_keys: Vec<Key>,
    /// `error_page`.
    pub(crate) error_page: Option<ErrorPage>,
    /// Lines for the log: settings that are not served, names that are none.
    pub(crate) warnings: Vec<String>,
    /// The application, `module:name`.
    pub(crate) app: Option<String>,
    objects: HashMap<&'static str, Py<PyAny>>,
}

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user's mistake: the text and the exit status.
    Said(String, i32),
    /// The configuration file called `sys.exit`.
    Exit(PyErr),
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Python::attach(|py| match error.is_instance_of::<PySystemExit>(py) {
            true => Self::Exit(error),
            false => {
                let text = error.value(py).to_string();
                Self::Said(format!("Error: {}", text.strip_prefix("Error: ").unwrap_or(&text)), 1)
            }
        })
    }
}

/// Reads the configuration. Called at start and at every reload; `cli` is the parsed command line.
pub(crate) fn load(py: Python<'_>, cli: &ParsedArgs) -> Result<Configured, Failure> {
    let directory = working_directory();
    let variable = |name: &str| std::env::var(name).ok();
    let exists = |path: &Path| path.exists();
    let surroundings = Surroundings {
        variable: &variable,
        directory: &directory,
        exists: &exists,
        user: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
    };
    let said = |text: String| Failure::Said(text, 1);
    let defaults = environment(&surroundings).map_err(|error| said(error.message()))?;
    let words = split_words(&variable("GUNICORN_CMD_ARGS").unwrap_or_default())
        .map_err(|error| Failure::Said(format!("GUNICORN_CMD_ARGS: {error}"), 2))?;
    let args = parse_args(&words, Source::CmdArgs).map_err(|error| Failure::Said(error.to_string(), 2))?;
    let location = [&cli.said, &args.said].into_iter().find(|said| said.source("config") != Source::Default);
    let location = location.map(|said| said.value("config"));
    let file = read_file(py, location)?;
    let layers = [defaults, file.said, args.said.clone(), cli.said.clone()];
    let said = merge(layers, &surroundings).map_err(|error| Failure::Said(error.message(), 1))?;
    let settings = resolve(&said, &surroundings).map_err(|error| Failure::Said(error.message(), 1))?;
    let app = cli.app.clone().or_else(|| match said.value("wsgi_app") {
        Value::Str(app) => Some(app),
        _ => None,
    });
    let route = |setting: &str, text: &str| {
        Route::parse(text)
            .map_err(|reason| Failure::Said(format!("Invalid value for {setting}: {reason}"), 1))
    };
    let all = |setting: &'static str, routes: &[OffloadRoute]| {
        routes.iter().map(|one| route(setting, &one.route)).collect::<Result<Vec<_>, Failure>>()
    };
    let routes =
        settings.route_timeouts.iter().map(|(text, time)| Ok((route("route_timeouts", text)?, *time)));
    let routes = routes.collect::<Result<_, Failure>>()?;
    let offloaded = all("offload", &settings.offload.routes)?;
    let offloadable = all("offload_prefer", &settings.offload.prefer)?;
    let secrets = settings.offload.webhooks.iter().flat_map(|webhooks| &webhooks.secrets);
    let webhook_keys = secrets
        .map(|secret| {
            Key::parse(secret)
                .map_err(|why| Failure::Said(format!("Invalid value for offload_webhook_secret: {why}"), 1))
        })
        .collect::<Result<_, _>>()?;
    let error_page = settings.error_page.as_deref().map(read_page).transpose()?;
    let mut lines = warnings(&said);
    lines.extend(file.unknown);
    lines.extend(prevention::warning(&settings));
    let objects = file.objects;
    Ok(Configured {
        said,
        settings,
        routes,
        offloaded,
        offloadable,
        webhook_keys,
        error_page,
        warnings: lines,
        app,
        objects,
    })
}

fn read_page(path: &Path) -> Result<ErrorPage, Failure> {
    let said = |reason: String| {
        Failure::Said(format!("Invalid value for error_page: {}: {reason}", path.display()), 1)
    };
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One more tells that it is too large.
        std::fs::File::open(path)?.take(SIZE_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    ErrorPage::parse(read().map_err(|error| said(error.to_string()))?).map_err(said)
}

impl Configured {
    /// Returns the values that somebody chose and the defaults of all, as Python sees them.
    pub(crate) fn for_python<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
        let (values, defaults) = (PyDict::new(py), PyDict::new(py));
        for (setting, value, source) in self.said.all() {
            match self.objects.get(setting.name) {
                Some(object) if source == Source::File => {
                    values.set_item(setting.name, object)?;
                    defaults.set_item(setting.name, object_of(py, &setting.default.value())?)?;
                }
                _ if source >= Source::File => {
                    values.set_item(setting.name, object_of(py, &value)?)?;
                    defaults.set_item(setting.name, object_of(py, &setting.default.value())?)?;
                }
                _ => defaults.set_item(setting.name, object_of(py, &value)?)?,
            }
        }
        Ok((values, defaults))
    }
}

#[derive(Default)]
struct File {
    said: Said,
    objects: HashMap<&'static str, Py<PyAny>>,
    unknown: Vec<String>,
}

fn read_file(py: Python<'_>, location: Option<Value>) -> Result<File, Failure> {
    let module = py.import("ferricorn.config_file")?;
    let location = match location {
        Some(Value::Str(location)) => Some(location),
        _ => module.call_method0("default_location")?.extract()?,
    };
    let Some(location): Option<String> = location else { return Ok(File::default()) };
    let namespace = module.call_method1("load", (&location,))?.cast_into::<PyDict>().map_err(PyErr::from)?;
    let mut file = File::default();
    for setting in SETTINGS {
        let Some(object) = namespace.get_item(setting.name)? else { continue };
        let value = match setting.kind {
            Kind::Times => times_of(&object)?,
            Kind::Limit => limit_of(&object)?,
            _ => value_of(&object)?,
        };
        if matches!(value, Value::Object(_)) {
            file.objects.insert(setting.name, object.unbind());
        }
        let known = file.said.say(setting.name, value, Source::File);
        known.map_err(|error| Failure::Said(error.message(), 1))?;
    }
    let names = PyList::new(py, SETTINGS.iter().map(|setting| setting.name))?;
    let flags = PyDict::new(py);
    for (word, name) in
        SETTINGS.iter().flat_map(|setting| setting.flags.iter().map(|flag| (*flag, setting.name)))
    {
        flags.set_item(word.trim_start_matches('-').replace('-', "_"), name)?;
    }
    let misspelt: Vec<(String, String)> = module
        .call_method1("misspelt", (&namespace, names, flags))?
        .call_method0("items")?
        .try_iter()?
        .map(|item| item?.extract())
        .collect::<PyResult<_>>()?;
    file.unknown = misspelt
        .into_iter()
        .map(|(name, meant)| format!("unknown setting '{name}' in {location}: did you mean '{meant}'?"))
        .collect();
    Ok(file)
}

/// The working directory as the shell names it, where that is true.
fn working_directory() -> PathBuf {
    let real = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let named = std::env::var_os("PWD").map(PathBuf::from);
    named
        .filter(|named| named.is_absolute() && named.canonicalize().is_ok_and(|path| path == real))
        .unwrap_or(real)
}

/// A Python value as the settings crate knows it.
fn value_of(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if object.is_none() {
        return Ok(Value::None);
    }
    if let Ok(flag) = object.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if object.is_instance_of::<PyInt>() {
        return Ok(object.extract().map_or_else(|_| Value::Str(object.to_string()), Value::Int));
    }
    if object.is_instance_of::<PyString>() {
        return Ok(Value::Str(object.extract()?));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Value::Str(String::from_utf8_lossy(bytes.as_bytes()).into_owned()));
    }
    if object.is_instance_of::<PyDict>() {
        return map_of(object);
    }
    let sequence = object.is_instance_of::<PyList>()
        || object.is_instance_of::<PyTuple>()
        || object.is_instance_of::<PySet>()
        || object.is_instance_of::<PyFrozenSet>();
    if sequence {
        let texts = object.try_iter()?.map(|item| Ok(item?.str()?.to_string())).collect::<PyResult<_>>()?;
        return Ok(Value::List(texts));
    }
    described(object)
}

/// A dict of texts; one that holds more (`logconfig_dict`) stays Python's.
fn map_of(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    let pairs: PyResult<Vec<(String, String)>> =
        object.call_method0("items")?.try_iter()?.map(|item| item?.extract()).collect();
    match pairs {
        Ok(pairs) => Ok(Value::Map(pairs)),
        Err(_) => described(object),
    }
}

/// A dict of texts and numbers.
fn times_of(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    let Ok(dict) = object.cast::<PyDict>() else { return value_of(object) };
    let text = |(name, time): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        Ok((name.str()?.extract()?, time.str()?.extract()?))
    };
    dict.iter().map(text).collect::<PyResult<_>>().map(Value::Map)
}

/// A number as text, for parts of a second.
fn limit_of(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    match object.is_instance_of::<PyFloat>() {
        true => Ok(Value::Str(object.str()?.extract()?)),
        false => value_of(object),
    }
}

fn described(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    let name = match object.getattr_opt("__qualname__")? {
        Some(name) => name.extract()?,
        None => object.repr()?.to_string(),
    };
    Ok(Value::Object(name))
}

fn object_of<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::None | Value::Object(_) => py.None().into_bound(py),
        Value::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Str(text) => PyString::new(py, text).into_any(),
        Value::List(texts) => PyList::new(py, texts)?.into_any(),
        Value::Map(pairs) => {
            let dict = PyDict::new(py);
            for (name, value) in pairs {
                dict.set_item(name, value)?;
            }
            dict.into_any()
        }
    })
}
