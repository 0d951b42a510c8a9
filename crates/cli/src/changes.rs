//! `ferricornctl changes`: what has changed about services, one line each. Not for: noticing it (`reflex`).

use crate::command::Since;
use crate::failure::Failure;
use crate::stores;
use crate::table::{self, Align, Cell};
use crate::units::printable;
use crate::workers::write_json;
use ferricorn_core::change::Change;
use ferricorn_reflex::store::Store;
use ferricorn_sys::clock;
use std::io::{self, Write};

const COLUMNS: [(&str, Align); 4] =
    [("AT", Align::Left), ("KIND", Align::Left), ("SERVER", Align::Left), ("CHANGE", Align::Left)];
/// Lines of the table, unless somebody says otherwise. A script gets all there are.
const LINES: usize = 20;
const ALL: usize = 10_000;

/// Reads changes, the newest first.
pub(crate) fn find(stores: &[Store], wanted: Since, json: bool) -> Result<Vec<Change>, Failure> {
    let limit = wanted.limit.unwrap_or(if json { ALL } else { LINES });
    let since_s = wanted.since.map_or(0.0, |since| clock::wall_time_s() - since.as_secs_f64());
    let mut found = stores::read(stores, |store| store.deploys(None, since_s, limit))?;
    found.sort_by(|one, other| other.at.total_cmp(&one.at));
    found.truncate(limit);
    Ok(found)
}

/// Writes the table.
pub(crate) fn table(changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "nothing has changed since an observer looks");
    }
    let rows: Vec<_> = changes.iter().map(row).collect();
    table::write(out, COLUMNS, &rows, false)
}

fn row(change: &Change) -> [Cell; COLUMNS.len()] {
    let server = if change.server.is_empty() { "-" } else { &change.server };
    let link = change.link.as_deref().map_or(String::new(), |link| format!(" ({link})"));
    [
        clock::stamp(change.at.max(0.0) as u64).into(),
        change.kind.name().into(),
        printable(server).into(),
        printable(&format!("{}{link}", change.name)).into(),
    ]
}

/// Writes the JSON: an array of changes.
pub(crate) fn json(changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    write_json(&changes, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::change::Kind;
    use std::time::Duration;

    fn change(at: f64, kind: Kind, name: &str) -> Change {
        Change { at, kind, name: name.into(), server: "shop".into(), ..Change::default() }
    }

    #[test]
    fn the_newest_of_all_stores_come_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = ["a", "b"].map(|name| Store::create(&folder.path().join(name)).expect("a store"));
        let now = clock::wall_time_s().floor();
        for (store, at) in [(0, now - 5000.0), (1, now - 50.0), (0, now - 10.0)] {
            stores[store].keep_deploy("x", &change(at, Kind::Deploy, "deploy"), None).expect("kept");
        }
        let times = |since: Option<u64>, limit| -> Vec<f64> {
            let wanted = Since { since: since.map(Duration::from_secs), limit };
            find(&stores, wanted, false).expect("read").iter().map(|change| change.at).collect()
        };
        assert_eq!(times(None, None), [now - 10.0, now - 50.0, now - 5000.0]);
        assert_eq!(times(Some(3600), None), [now - 10.0, now - 50.0]);
        assert_eq!(times(None, Some(1)), [now - 10.0]);
    }

    #[test]
    fn changes_for_a_person() {
        let mut out = Vec::new();
        let mark =
            Change { link: Some("https://ci/7".into()), ..change(0.0, Kind::Mark, "flag \u{1b}[2J on") };
        table(&[change(0.0, Kind::Deploy, "deploy 3f2a91c → 8be01d2, 4 files"), mark], &mut out)
            .expect("memory");
        let stamp = clock::stamp(0);
        let expected = format!(
            "AT                         KIND    SERVER  CHANGE\n\
             {stamp}  deploy  shop    deploy 3f2a91c → 8be01d2, 4 files\n\
             {stamp}  mark    shop    flag \\u{{1b}}[2J on (https://ci/7)\n"
        );
        assert_eq!(String::from_utf8(out).expect("text"), expected);
        let mut out = Vec::new();
        table(&[], &mut out).expect("memory");
        assert_eq!(out, b"nothing has changed since an observer looks\n");
    }
}
