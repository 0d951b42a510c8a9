//! From arguments to an exit status. Not for: the shape of any output, which is its verb's.

use crate::command::{self, Command, Verb};
use crate::failure::{FOUND, Failure, OK, UNREADABLE, USAGE};
use crate::jobs::Jobs;
use crate::source::Source;
use crate::workers::write_json;
use crate::{
    actions, attach, changes, check, deploy, hosts, incidents, jobs, policy, records, requests, scaled, slow,
    stack, stores, top, why, workers,
};
use ferricorn_core::change::Standing;
use ferricorn_core::snapshot::Snapshot;
use std::io::{self, Write};
use std::path::Path;

/// What a verb shows, and how.
pub(crate) struct View<'a> {
    /// The server at one moment.
    pub snapshot: &'a Snapshot,
    /// What its workers run, where an observer tells.
    pub standing: Option<&'a Standing>,
    /// Whether somebody who likes colours looks.
    pub colours: bool,
}

/// Runs `ferricornctl` and returns its exit status: 0 shown, 1 nothing found or not readable, 2 wrong usage.
///
/// `argv[0]` is the program's name. `terminal` tells whether `out` is one; colours also need an empty `NO_COLOR`.
/// `configured` reads a configuration file, which is Python; it returns lines `name = value`, or why it cannot.
pub fn run(
    argv: &[String],
    out: &mut dyn Write,
    err: &mut dyn Write,
    terminal: bool,
    configured: &dyn Fn(&Path) -> Result<String, String>,
) -> i32 {
    let command = match command::parse(argv) {
        Ok(command) => command,
        Err(error) => return usage(&error, out, err),
    };
    let colours = terminal && wants_colours();
    if let Verb::Top(options) = &command.verb
        && terminal
        && !(options.once || command.json)
    {
        return match open(&command).and_then(|source| top::interactive(source, options, colours, err)) {
            Ok(status) => status,
            Err(failure) => {
                let _ = failure.write(err);
                UNREADABLE
            }
        };
    }
    if let Verb::Attach(wanted) = &command.verb {
        return attach::run(wanted, err).unwrap_or_else(|failure| {
            let _ = failure.write(err);
            UNREADABLE
        });
    }
    let (text, status) = match text(&command, colours, configured) {
        Ok(shown) => shown,
        Err(failure) => {
            // Where the reason cannot be written, the exit status still tells.
            let _ = failure.write(err);
            return UNREADABLE;
        }
    };
    match out.write_all(&text).and_then(|()| out.flush()) {
        // A reader such as `head` that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = unwritten(&error).write(err);
            UNREADABLE
        }
        _ => status,
    }
}

/// Returns what the command shows, and its exit status.
fn text(
    command: &Command,
    colours: bool,
    configured: check::Configured<'_>,
) -> Result<(Vec<u8>, i32), Failure> {
    let mut text = Vec::new();
    let mut status = OK;
    let written = match &command.verb {
        Verb::Timeouts(limit) => {
            let found = records::find(&stores::open(command.state_dir.as_deref())?, *limit)?;
            if command.json {
                records::json(&found, &mut text)
            } else {
                records::table(&found, colours, &mut text)
            }
        }
        Verb::Incidents(wanted) => {
            let stores = stores::open(command.state_dir.as_deref())?;
            let found = incidents::find(&stores, *wanted, command.json)?;
            if command.json {
                incidents::json(&found, &mut text)
            } else {
                incidents::table(&found, colours, &mut text)
            }
        }
        Verb::Changes(wanted) => {
            let found = changes::find(&stores::open(command.state_dir.as_deref())?, *wanted, command.json)?;
            if command.json { changes::json(&found, &mut text) } else { changes::table(&found, &mut text) }
        }
        Verb::Deploy(wanted) => {
            let marked = deploy::mark(wanted, &command.server, command.state_dir.as_deref())?;
            if command.json { write_json(&marked, &mut text) } else { deploy::text(&marked, &mut text) }
        }
        Verb::Why(name, format) => {
            let found = why::find(&stores::open(command.state_dir.as_deref())?, name)?;
            why::write(&found, *format, &mut text)
        }
        Verb::Stack(pid) => {
            let found = stack::find(*pid)?;
            if command.json { stack::json(&found, &mut text) } else { stack::text(&found, &mut text) }
        }
        Verb::Policy(wanted) => {
            let (written, found) =
                policy::run(wanted, command.state_dir.as_deref(), command.json, &mut text)?;
            status = found;
            written
        }
        Verb::Actions(limit) => {
            let audit = actions::find(&stores::open(command.state_dir.as_deref())?, *limit, command.json)?;
            status = audit.status();
            if command.json {
                actions::json(&audit, &mut text)
            } else {
                actions::table(&audit, colours, &mut text)
            }
        }
        Verb::Switch { on } => actions::switch(*on, command.state_dir.as_deref(), &mut text)?,
        Verb::WhyScale => {
            let found = scaled::find(&stores::open(command.state_dir.as_deref())?)?;
            if command.json { scaled::json(&found, &mut text) } else { scaled::text(&found, &mut text) }
        }
        Verb::Hosts => {
            let known = hosts::find(&stores::open(command.state_dir.as_deref())?)?;
            if command.json {
                hosts::json(&known, &mut text)
            } else {
                hosts::table(&known, colours, &mut text)
            }
        }
        Verb::Jobs(Jobs::List(state, most)) => {
            let found = jobs::list(&jobs::open(command.state_dir.as_deref())?, *state, *most)?;
            if command.json { jobs::json(&found, &mut text) } else { jobs::table(&found, colours, &mut text) }
        }
        Verb::Jobs(wanted) => {
            let job = jobs::one(&mut jobs::open(command.state_dir.as_deref())?, wanted)?;
            if command.json { jobs::json(&job, &mut text) } else { jobs::text(&job, &mut text) }
        }
        // It has no end of its own.
        Verb::Attach(_) => Ok(()),
        Verb::Top(options) => top::once(open(command)?, options, colours, command.json, &mut text)?,
        Verb::Check(options) => {
            let alone = options.config.is_some() && !options.server_is_named;
            let source = if alone { None } else { Some(open(command)?) };
            let page = check::find(options, source.as_ref(), configured)?;
            if page.is_alarming() {
                status = FOUND;
            }
            if command.json { check::json(&page, &mut text) } else { check::text(&page, colours, &mut text) }
        }
        Verb::Snapshot => write_json(&open(command)?.read()?, &mut text),
        Verb::Slow(options) => {
            let page = slow::find(options, command.state_dir.as_deref(), || open(command))?;
            if command.json { slow::json(&page, &mut text) } else { slow::table(&page, colours, &mut text) }
        }
        Verb::Workers | Verb::Requests | Verb::Recent(_) => {
            let source = open(command)?;
            if matches!(command.verb, Verb::Recent(_)) && !source.remembers() {
                return Err(no_recorder());
            }
            let snapshot = source.read()?;
            let standing = if command.verb == Verb::Workers { source.standing() } else { None };
            let view = View { snapshot: &snapshot, standing: standing.as_ref(), colours };
            show(command, &view, &mut text)
        }
    };
    written.map(|()| (text, status)).map_err(|error| unwritten(&error))
}

fn open(command: &Command) -> Result<Source, Failure> {
    Source::open(&command.server, command.state_dir.as_deref())
}

fn unwritten(error: &io::Error) -> Failure {
    Failure::new("the output could not be written", error.to_string(), "free the place it goes to")
}

fn no_recorder() -> Failure {
    Failure::new(
        "the last finished requests could not be shown",
        "this server is a stock Gunicorn, which has no flight recorder",
        "leave out `--recent` to see what is running; its access log has what has finished",
    )
}

fn show(command: &Command, view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    match (&command.verb, command.json) {
        (Verb::Requests, false) => requests::table(view, out),
        (Verb::Requests, true) => requests::json(view, out),
        (Verb::Recent(limit), false) => requests::recent_table(view, *limit, out),
        (Verb::Recent(limit), true) => requests::recent_json(view, *limit, out),
        (_, false) => workers::table(view, out),
        (_, true) => workers::json(view, out),
    }
}

fn usage(error: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let text = error.render().to_string();
    // `--help` and `--version` reach here too, and are for standard output.
    if error.use_stderr() {
        let _ = err.write_all(text.as_bytes());
        USAGE
    } else {
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        OK
    }
}

fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
