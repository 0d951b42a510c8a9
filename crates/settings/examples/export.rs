//! Writes the table of settings to standard output: `json` (the default), `schema`, `stub`, `help` or `markdown`; or,
//! with `config FLAGS...`, what these flags come to. Not for: users; the server itself shows help and configuration.

use ferricorn_settings::{Said, Source, Surroundings, UsageError};
use std::error::Error;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match text(&words).and_then(|text| Ok(io::stdout().write_all(text.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if standard error is closed.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

fn text(words: &[String]) -> Result<String, Box<dyn Error>> {
    Ok(match words.first().map(String::as_str) {
        None | Some("json") => ferricorn_settings::export_json(),
        Some("schema") => ferricorn_settings::schema_json(),
        Some("stub") => ferricorn_settings::python_stub(),
        Some("help") => ferricorn_settings::help(),
        Some("markdown") => ferricorn_settings::reference_markdown(),
        Some("config") => config(&words[1..])?,
        Some(other) => {
            let known = "json, schema, stub, help, markdown, config";
            return Err(format!("unknown form {other}: choose one of {known}").into());
        }
    })
}

/// Reads variables and flags as the server does, and a configuration file not at all.
fn config(words: &[String]) -> Result<String, Box<dyn Error>> {
    let own = std::fs::metadata("/proc/self")?;
    let surroundings = Surroundings {
        variable: &|name| std::env::var(name).ok(),
        directory: &std::env::current_dir()?,
        exists: &Path::exists,
        user: own.uid(),
        group: own.gid(),
    };
    let variable = std::env::var("GUNICORN_CMD_ARGS").unwrap_or_default();
    let mut layers: Vec<Said> = vec![ferricorn_settings::environment(&surroundings)?];
    let variable = ferricorn_settings::split_words(&variable)?;
    layers.push(ferricorn_settings::parse_args(&variable, Source::CmdArgs)?.said);
    layers.push(ferricorn_settings::parse_args(words, Source::CommandLine)?.said);
    let said = ferricorn_settings::merge(layers, &surroundings)?;
    Ok(ferricorn_settings::print_config(&said))
}
