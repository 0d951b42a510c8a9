//! `ferricornctl timeouts`: the records of late requests and dead workers, one line each.
//! Not for: one of them in full (`why`), and not for writing them (the observer's).

use crate::failure::Failure;
use crate::stores;
use crate::table::{self, Align, Cell, Ink};
use crate::units::{printable, span};
use crate::workers::write_json;
use ferricorn_core::evidence::Frame;
use ferricorn_core::record::{Record, Request, Timeout};
use ferricorn_reflex::store::{RecordFilter, Store};
use ferricorn_sys::clock;
use serde::Serialize;
use std::io::{self, Write};

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

/// Reads the last records, the newest first.
pub(crate) fn find(stores: &[Store], limit: usize) -> Result<Vec<Record>, Failure> {
    let filter = RecordFilter { limit, ..RecordFilter::default() };
    let mut records = stores::read(stores, |store| store.records(&filter))?;
    records.sort_by(|one, other| other.at_s().total_cmp(&one.at_s()));
    records.truncate(limit);
    Ok(records)
}

/// Writes the table of the last records.
pub(crate) fn table(records: &[Record], colours: bool, out: &mut dyn Write) -> io::Result<()> {
    if records.is_empty() {
        return writeln!(out, "no request has been late, no event loop blocked, and no worker has died");
    }
    let rows: Vec<_> = records.iter().map(row).collect();
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
pub(crate) fn json(records: &[Record], out: &mut dyn Write) -> io::Result<()> {
    write_json(&Document { schema: 1, records }, out)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    records: &'a [Record],
}
