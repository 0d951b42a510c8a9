//! `ferricornctl incidents`: what goes wrong again and again, one line each. Not for: one of them in full (`why`).

use crate::failure::Failure;
use crate::stores;
use crate::table::{self, Align, Cell, Ink};
use crate::units::{count, printable};
use crate::workers::write_json;
use ferricorn_core::incident::{Incident, State};
use ferricorn_reflex::store::{IncidentFilter, Store};
use ferricorn_sys::clock;
use std::io::{self, Write};

const COLUMNS: [(&str, Align); 8] = [
    ("ID", Align::Left),
    ("STATE", Align::Left),
    ("SINCE", Align::Left),
    ("CAUSE", Align::Left),
    ("CONF", Align::Right),
    ("ROUTE", Align::Left),
    ("LOST", Align::Right),
    ("VERDICT", Align::Left),
];
/// Lines of the table, unless somebody says otherwise. A script gets all there are.
const LINES: usize = 20;

/// Which incidents are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The newest so many.
    pub limit: Option<usize>,
    /// Notes, too.
    pub notes: bool,
}

/// Reads incidents, the newest first.
pub(crate) fn find(stores: &[Store], wanted: Wanted, json: bool) -> Result<Vec<Incident>, Failure> {
    let all = IncidentFilter { notes: wanted.notes, ..IncidentFilter::default() };
    let limit = wanted.limit.unwrap_or(if json { all.limit } else { LINES });
    let filter = IncidentFilter { limit, ..all };
    let mut found = stores::read(stores, |store| store.incidents(&filter))?;
    // The sort is stable: those of one store are in order already.
    found.sort_by(|one, other| since(other).total_cmp(&since(one)));
    found.truncate(limit);
    Ok(found)
}

fn since(incident: &Incident) -> f64 {
    incident.opened_at.unwrap_or(incident.noted_at)
}

/// Writes the table.
pub(crate) fn table(incidents: &[Incident], colours: bool, out: &mut dyn Write) -> io::Result<()> {
    if incidents.is_empty() {
        return writeln!(out, "there has been no incident");
    }
    let rows: Vec<_> = incidents.iter().map(row).collect();
    table::write(out, COLUMNS, &rows, colours)
}

fn row(incident: &Incident) -> [Cell; COLUMNS.len()] {
    let ink = match incident.state {
        State::Open => Ink::Bad,
        State::Mitigated => Ink::Warn,
        State::Note | State::Closed => Ink::Plain,
    };
    let route = if incident.route.is_empty() { "-" } else { &incident.route };
    [
        printable(&incident.id).into(),
        Cell::inked(incident.state.name(), ink),
        clock::stamp(since(incident) as u64).into(),
        incident.cause.code().into(),
        format!("{:.2}", incident.confidence).into(),
        printable(route).into(),
        count(incident.requests_lost).into(),
        printable(&incident.verdict).into(),
    ]
}

/// Writes the JSON: an array of incidents.
pub(crate) fn json(incidents: &[Incident], out: &mut dyn Write) -> io::Result<()> {
    write_json(&incidents, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::diagnosis::Cause;

    fn incident(id: &str, state: State, at: f64) -> Incident {
        Incident {
            id: id.into(),
            state,
            cause: Cause::DbLock,
            confidence: 0.957,
            verdict: "a statement waits \u{1b}[2J for a lock".into(),
            route: if state == State::Note { String::new() } else { "/report".into() },
            noted_at: at,
            opened_at: (state != State::Note).then_some(at),
            requests_lost: 1234,
            ..Incident::default()
        }
    }

    /// Two folders, each with its own store.
    fn two() -> (tempfile::TempDir, Vec<Store>) {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = ["a", "b"].map(|name| Store::create(&folder.path().join(name)).expect("a store"));
        stores[0].save(&incident("20261126-1", State::Closed, 100.0)).expect("kept");
        stores[1].save(&incident("20261126-1", State::Open, 200.0)).expect("kept");
        stores[0].save(&incident("20261126-2", State::Note, 300.0)).expect("kept");
        stores[0].save(&incident("20261126-3", State::Mitigated, 400.0)).expect("kept");
        (folder, stores.into())
    }

    fn times(stores: &[Store], wanted: Wanted) -> Vec<f64> {
        find(stores, wanted, true).expect("read").iter().map(since).collect()
    }

    #[test]
    fn the_newest_of_all_stores_come_first() {
        let (_folder, stores) = two();
        assert_eq!(times(&stores, Wanted::default()), [400.0, 200.0, 100.0]);
        assert_eq!(times(&stores, Wanted { limit: None, notes: true }), [400.0, 300.0, 200.0, 100.0]);
        assert_eq!(times(&stores, Wanted { limit: Some(2), notes: false }), [400.0, 200.0]);
    }

    #[test]
    fn a_person_sees_the_newest_and_a_script_all() {
        let (_folder, stores) = two();
        for number in 0..LINES {
            stores[0].save(&incident(&format!("20261127-{number}"), State::Closed, 500.0)).expect("kept");
        }
        let found = |json| find(&stores, Wanted::default(), json).expect("read").len();
        assert_eq!((found(false), found(true)), (LINES, LINES + 3));
    }

    #[test]
    fn incidents_for_a_person() {
        let mut out = Vec::new();
        let shown = [incident("20261126-3", State::Open, 0.0), incident("20261126-2", State::Note, 0.0)];
        table(&shown, false, &mut out).expect("memory");
        let stamp = clock::stamp(0);
        let expected = format!(
            "ID          STATE  SINCE                      CAUSE    CONF  ROUTE     LOST  VERDICT\n\
             20261126-3  open   {stamp}  db.lock  0.96  /report  1,234  a statement waits \\u{{1b}}[2J for a lock\n\
             20261126-2  note   {stamp}  db.lock  0.96  -        1,234  a statement waits \\u{{1b}}[2J for a lock\n"
        );
        assert_eq!(String::from_utf8(out).expect("text"), expected);
        let mut out = Vec::new();
        table(&[], false, &mut out).expect("memory");
        assert_eq!(out, b"there has been no incident\n");
    }

    #[test]
    fn incidents_for_a_script_are_one_array() {
        let mut out = Vec::new();
        json(&[incident("20261126-3", State::Open, 7.0)], &mut out).expect("memory");
        let document: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let first = &document[0];
        assert_eq!(document.as_array().map(Vec::len), Some(1));
        assert_eq!((&first["id"], &first["state"]), (&"20261126-3".into(), &"open".into()));
        assert_eq!((&first["cause"], &first["opened_at"]), (&"db.lock".into(), &7.0.into()));
        assert_eq!((&first["route"], &first["requests_lost"]), (&"/report".into(), &1234.into()));
        assert!(first["confidence"].is_f64() && first["evidence"].is_array());
        out.clear();
        json(&[], &mut out).expect("memory");
        assert_eq!(out, b"[]\n");
    }
}
