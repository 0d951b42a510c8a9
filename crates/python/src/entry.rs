//! `ferricorn` and `ferricornctl`: from the words of a command line to an exit code.
//!
//! Not for: what the words mean (`settings`), running workers (`arbiter`, `host`).

use crate::config::{self, Failure};
use crate::host;
use ferricorn_settings::{ParsedArgs, Source, Wanted, help, parse_args, print_config, told};
use pyo3::prelude::*;
use std::io::{IsTerminal, Write};
use std::path::Path;

/// Serves; returns the exit code. `argv` begins with the program's name.
#[pyfunction]
pub(crate) fn run(py: Python<'_>, argv: Vec<String>) -> PyResult<i32> {
    py.import("ferricorn._alias")?.call_method0("install")?;
    let cli = match parse_args(argv.get(1..).unwrap_or_default(), Source::CommandLine) {
        Ok(cli) => cli,
        Err(error) => return Ok(complain(&error.to_string(), 2)),
    };
    match cli.wanted {
        Some(Wanted::Help) => return Ok(tell(&help())),
        Some(Wanted::Version) => {
            return Ok(tell(&format!("ferricorn (version {})\n", env!("CARGO_PKG_VERSION"))));
        }
        None => {}
    }
    match start(py, &cli) {
        Ok(code) => Ok(code),
        Err(Failure::Said(text, code)) => Ok(complain(&text, code)),
        Err(Failure::Exit(error)) => Err(error),
    }
}

fn start(py: Python<'_>, cli: &ParsedArgs) -> Result<i32, Failure> {
    let configured = config::load(py, cli)?;
    if configured.settings.print_config {
        tell(&print_config(&configured.said));
    }
    let Some(app) = configured.app.clone() else {
        return Err(Failure::Said("Error: No application module specified.".to_owned(), 1));
    };
    let server = host::server(py, &configured, &app)?;
    if configured.settings.check_config || configured.settings.print_config {
        for line in &configured.warnings {
            complain(line, 0);
        }
        return Ok(server.call_method0("check")?.extract()?);
    }
    host::serve(py, cli, configured, server)
}

/// Runs `ferricornctl`; returns the exit code.
#[pyfunction]
pub(crate) fn ctl(py: Python<'_>, argv: Vec<String>) -> i32 {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let terminal = std::io::stdout().is_terminal();
    ferricorn_cli::run(&argv, &mut out, &mut err, terminal, &|path| configured(py, path))
}

/// Reads a configuration file as the server does; returns its settings as lines.
fn configured(py: Python<'_>, path: &Path) -> Result<String, String> {
    let words = ["--config".to_owned(), path.display().to_string()];
    let cli = parse_args(&words, Source::CommandLine).map_err(|error| error.message)?;
    let install = || py.import("ferricorn._alias")?.call_method0("install");
    install().map_err(|error| error.to_string())?;
    match config::load(py, &cli) {
        Ok(configured) => Ok(told(&configured.said)),
        Err(Failure::Said(text, _)) => Err(text.trim().trim_start_matches("Error: ").to_owned()),
        Err(Failure::Exit(_)) => Err("it ends the process".to_owned()),
    }
}

/// Returns the table of settings as JSON.
#[pyfunction]
pub(crate) fn settings_json() -> String {
    ferricorn_settings::export_json()
}

/// A reader that has gone (`ferricorn --help | head`) is no error.
fn tell(text: &str) -> i32 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
    0
}

fn complain(text: &str, code: i32) -> i32 {
    let _ = std::io::stderr().write_all(format!("{}\n", text.trim_end()).as_bytes());
    code
}
