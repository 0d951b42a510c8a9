//! `ferricornctl attach`: an observer beside a stock Gunicorn. Not for: what it sees and makes of it (`reflex`).

use crate::command::Attach;
use crate::failure::{Failure, OK};
use ferricorn_core::log::Level;
use ferricorn_reflex::attached::{self, Context};
use ferricorn_reflex::source::gunicorn::{AttachError, Options};
use ferricorn_reflex::store;
use ferricorn_settings::{Settings, Source, Surroundings, environment, merge, parse_args, resolve};
use ferricorn_sys::clock;
use ferricorn_sys::signal::{Signal, SignalPipe};
use std::cell::RefCell;
use std::io::Write;
use std::path::Path;

/// Observes until there is nothing to observe any more, or until told to stop; returns the exit status.
pub(crate) fn run(wanted: &Attach, err: &mut dyn Write) -> Result<i32, Failure> {
    let settings = settings(&wanted.settings)?;
    let folder = settings.state_dir.clone().or_else(store::default_folder);
    let signals = SignalPipe::install(&[Signal::INT, Signal::TERM, Signal::HUP])
        .map_err(|error| Failure::new("signals could not be caught", error.to_string(), "try again"))?;
    let err = RefCell::new(err);
    let log = |level: Level, text: &str| {
        let at = clock::stamp(clock::wall_seconds());
        let line = format!("[{at}] [{}] [{}] {text}\n", std::process::id(), level.name());
        let mut err = err.borrow_mut();
        // Where nobody reads it, what is found is kept all the same.
        let _ = err.write_all(line.as_bytes()).and_then(|()| err.flush());
    };
    let context = Context {
        options: Options {
            pid: wanted.pid,
            pidfile: wanted.pidfile.clone(),
            access_log: wanted.access_log.clone(),
            error_log: wanted.error_log.clone(),
            statsd: wanted.statsd.clone(),
        },
        folder: folder.as_deref(),
        settings,
        stop: signals.fd(),
        log: &log,
    };
    match attached::run(&context) {
        Ok(None) => {
            log(Level::Info, "Told to stop");
            Ok(OK)
        }
        Ok(Some(text)) => Err(Failure::new(
            "there is nothing to observe any more",
            text,
            "with `--pidfile FILE` the next Gunicorn is observed as soon as its pid stands there",
        )),
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &AttachError) -> Failure {
    let hint = match error {
        AttachError::PidFile { .. } => "name the file of Gunicorn's `pidfile` setting, or use --pid",
        AttachError::NoProcess { .. } | AttachError::NotGunicorn { .. } => {
            "look for its arbiter: `pgrep -of gunicorn`"
        }
        AttachError::TooOld { .. } => "upgrade Gunicorn, or run the application with `ferricorn`",
        AttachError::Statsd { .. } => "name a free address, the one in Gunicorn's `statsd_host`",
        AttachError::System(_) => "raise the limit on open files (`ulimit -n`)",
        AttachError::Nobody => "use --pid or --pidfile",
    };
    Failure::new("there is nothing to attach to", error.to_string(), hint)
}

/// Returns what flags say, by the rules that the server has for the same settings.
fn settings(flags: &[String]) -> Result<Settings, Failure> {
    let invalid = |why: String| {
        Failure::new(
            "an option has a value that makes no sense",
            why,
            "`ferricornctl attach --help` shows what each takes",
        )
    };
    let said = parse_args(flags, Source::CommandLine).map_err(|error| invalid(error.message))?.said;
    let surroundings = Surroundings {
        // Those that the server reads speak of the server.
        variable: &|_| None,
        directory: Path::new("/"),
        exists: &|path| path.exists(),
        user: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
    };
    let defaults = environment(&surroundings).map_err(|error| invalid(error.message()))?;
    let said = merge([defaults, said], &surroundings).map_err(|error| invalid(error.message()))?;
    resolve(&said, &surroundings).map_err(|error| invalid(error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn options_are_settings() {
        let found =
            settings(&words(&["--admin-bind", "127.0.0.1:9100", "--notify", "slack=https://x.example/y"]));
        let found = found.expect("valid");
        assert!(found.admin_bind.is_some() && found.notify.len() == 1);
        let failure = settings(&words(&["--admin-bind", "nowhere:port"])).expect_err("no port");
        assert!(failure.why.contains("admin_bind"), "{failure:?}");
    }

    #[test]
    fn who_cannot_be_observed_is_said() {
        let wanted = Attach { pid: Some(u32::MAX >> 1), ..Attach::default() };
        let failure = run(&wanted, &mut Vec::new()).expect_err("nobody");
        assert!(failure.why.contains("no process"), "{failure:?}");
    }
}
