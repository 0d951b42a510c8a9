//! `ferricornctl timeouts`: the records of late requests and dead workers, one line each.
//! Not for: one of them in full (`why`), and not for writing them (the observer's).

use crate::failure::Failure;
use crate::locate;
use crate::table::{self, Align, Cell, Ink};
use crate::units::{printable, span};
use crate::workers::write_json;
use ferricorn_core::evidence::Frame;
use ferricorn_core::record::{Record, Request, Timeout};
use ferricorn_reflex::journal::{self, Journal};
use ferricorn_sys::clock;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

const COLUMNS: [(&str, Align); 8] = [
    ("AT", Align::Left),
    ("ID", Align::Left),
    ("WHAT", Align::Left),
    ("TOOK", Align::Right),
    ("DEADLINE", Align::Right),
    ("METHOD", Align::Left),
    ("PATH", Align::Left),
    ("WHERE", Align::Left),
];

/// Reads the records of a folder, or of all folders where servers keep them that this user knows of; newest first.
pub(crate) fn find(folder: Option<&Path>) -> Result<Vec<Record>, Failure> {
    if let Some(folder) = folder {
        return Journal::read(folder).map_err(|error| unreadable(folder, &error));
    }
    let mut folders: BTreeSet<PathBuf> = locate::state_dirs().into_iter().collect();
    folders.extend(journal::default_folder());
    let mut records = Vec::new();
    for folder in &folders {
        match Journal::read(folder) {
            Ok(found) => records.extend(found),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(folder, &error)),
        }
    }
    records.sort_by(|one, other| other.at_s().total_cmp(&one.at_s()));
    Ok(records)
}

fn unreadable(folder: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => {
            "run this as the server's user (`sudo -u USER ferricornctl ...`) or as root"
        }
        _ => "give the folder that the server's `state_dir` names: `--state-dir DIR`",
    };
    Failure::new(format!("the records in {} could not be read", folder.display()), error.to_string(), hint)
}

/// Writes the table of the last records.
pub(crate) fn table(records: &[Record], limit: usize, colours: bool, out: &mut dyn Write) -> io::Result<()> {
    if records.is_empty() {
        return writeln!(out, "no request has been late, no event loop blocked, and no worker has died");
    }
    let rows: Vec<_> = records.iter().take(limit).map(row).collect();
    table::write(out, COLUMNS, &rows, colours)
}

fn row(record: &Record) -> [Cell; COLUMNS.len()] {
    let at = clock::stamp(record.at_s() as u64);
    match record {
        Record::Timeout(timeout) => {
            let request = &timeout.request;
            [
                at.into(),
                printable(&request.id).into(),
                Cell::inked(printable(&timeout.answer), Ink::Bad),
                span(request.app_s).into(),
                request.deadline_s.map_or("-".to_owned(), span).into(),
                printable(&request.method).into(),
                printable(&request.path).into(),
                printable(&place(timeout)).into(),
            ]
        }
        Record::Death(death) => [
            at.into(),
            death.worker.pid.to_string().into(),
            Cell::inked("died", Ink::Bad),
            "-".into(),
            "-".into(),
            "-".into(),
            format!("({} requests)", death.requests.len()).into(),
            printable(&death.cause).into(),
        ],
        Record::Blocked(blocked) => {
            let hold = &blocked.hold;
            let unknown = Request { id: blocked.worker.pid.to_string(), ..Request::default() };
            let request = hold.request.as_ref().unwrap_or(&unknown);
            let frame = hold.frames.iter().find(|frame| frame.is_application()).or(hold.frames.first());
            [
                at.into(),
                printable(&request.id).into(),
                Cell::inked("loop blocked", Ink::Bad),
                span(hold.lasted_s).into(),
                "-".into(),
                printable(&request.method).into(),
                printable(&request.path).into(),
                printable(&frame.map_or_else(|| hold.doing.clone(), Frame::to_string)).into(),
            ]
        }
    }
}

/// Returns where a late request was: the application's line, else what its thread did.
fn place(timeout: &Timeout) -> String {
    let frame = timeout.frames.iter().find(|frame| frame.is_application()).or(timeout.frames.first());
    frame.map_or_else(|| timeout.doing.clone(), Frame::to_string)
}

/// Writes the JSON document of the last records.
pub(crate) fn json(records: &[Record], limit: usize, out: &mut dyn Write) -> io::Result<()> {
    write_json(&Document { schema: 1, records: records.iter().take(limit).collect() }, out)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    records: Vec<&'a Record>,
}
