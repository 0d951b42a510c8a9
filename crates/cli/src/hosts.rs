//! `ferricornctl hosts`: the servers that observers hear of, and what goes wrong there. Not for: hearing of them (`reflex`).

use crate::failure::Failure;
use crate::stores;
use crate::table::{self, Align, Cell, Ink};
use crate::units::printable;
use crate::workers::write_json;
use ferricorn_core::hosts::{Beacon, STALE_S};
use ferricorn_reflex::store::{Neighbours, Store};
use ferricorn_sys::clock;
use std::io::{self, Write};

const COLUMNS: [(&str, Align); 7] = [
    ("HOST", Align::Left),
    ("SERVICE", Align::Left),
    ("PID", Align::Right),
    ("WORKERS", Align::Right),
    ("VERSION", Align::Left),
    ("HEARD", Align::Right),
    ("TROUBLE", Align::Left),
];

/// Returns what the observer with the newest word knows.
pub(crate) fn find(stores: &[Store]) -> Result<Neighbours, Failure> {
    let mut found = stores::read(stores, Store::neighbours)?;
    found.sort_by(|(_, one, _), (_, other, _)| other.total_cmp(one));
    let now_s = clock::wall_time_s();
    let newest = found.into_iter().find(|(_, at, _)| now_s - at < STALE_S);
    newest.map(|(_, _, known)| known).ok_or_else(|| {
        Failure::new(
            "no other hosts are known",
            "no observer here hears of others: none has `reflex_fleet`, or none runs",
            "start the servers with `--reflex-fleet nats://HOST:4222`; name the folder of their records with --state-dir",
        )
    })
}

/// Writes the table.
pub(crate) fn table(known: &Neighbours, colours: bool, out: &mut dyn Write) -> io::Result<()> {
    if !known.here {
        writeln!(
            out,
            "{}",
            Ink::Warn.paint("the bus cannot be reached: this is what was heard last", colours)
        )?;
    }
    let mut servers: Vec<&Beacon> = known.servers.iter().collect();
    servers.sort_by(|one, other| {
        (&one.service, &one.host, one.pid).cmp(&(&other.service, &other.host, other.pid))
    });
    let now_s = clock::wall_time_s();
    let rows: Vec<_> = servers.into_iter().map(|beacon| row(beacon, now_s)).collect();
    table::write(out, COLUMNS, &rows, colours)?;
    match known.part {
        0 => Ok(()),
        part => writeln!(
            out,
            "\ncut off from the others, this host may do {part} of what all of them may do together"
        ),
    }
}

fn row(beacon: &Beacon, now_s: f64) -> [Cell; COLUMNS.len()] {
    let ago = format!("{:.0}s ago", (now_s - beacon.at).max(0.0));
    let troubles: Vec<String> =
        beacon.troubles.iter().map(|trouble| format!("{} {}", trouble.cause, trouble.route)).collect();
    let trouble = match troubles.is_empty() {
        true => Cell::inked("-", Ink::Good),
        false => Cell::inked(printable(&troubles.join(", ")), Ink::Bad),
    };
    let version = if beacon.version.is_empty() { "-" } else { &beacon.version };
    [
        printable(&beacon.host).into(),
        printable(&beacon.service).into(),
        beacon.pid.to_string().into(),
        beacon.workers.to_string().into(),
        printable(version).into(),
        ago.into(),
        trouble,
    ]
}

/// Writes the JSON.
pub(crate) fn json(known: &Neighbours, out: &mut dyn Write) -> io::Result<()> {
    write_json(known, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::hosts::Trouble;
    use ferricorn_core::record::Server;

    #[test]
    fn servers_stand_in_their_order_with_what_goes_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::create(folder.path()).expect("a store");
        let stores = [store];
        let failure = format!("{:?}", find(&stores).expect_err("nobody is heard of"));
        assert!(failure.contains("reflex_fleet"), "{failure}");
        let now_s = clock::wall_time_s();
        let trouble = Trouble { cause: "db.lock".into(), route: "GET /stock".into(), ..Trouble::default() };
        let beacon = |host: &str, troubles: Vec<Trouble>| Beacon {
            host: host.into(),
            service: "shop".into(),
            pid: 7,
            workers: 4,
            at: now_s - 2.0,
            troubles,
            ..Beacon::default()
        };
        let servers = vec![beacon("web-2", Vec::new()), beacon("web-1", vec![trouble])];
        let server = |pid: u32| Server { pid, name: "shop".into(), ..Server::default() };
        let old = Neighbours { here: true, ..Neighbours::default() };
        stores[0].remember(&server(1), "hosts", now_s - 10.0, &old).expect("kept");
        stores[0]
            .remember(&server(2), "hosts", now_s, &Neighbours { here: false, part: 1, servers })
            .expect("kept");
        let mut out = Vec::new();
        table(&find(&stores).expect("heard"), false, &mut out).expect("memory");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "the bus cannot be reached: this is what was heard last\n\
             HOST   SERVICE  PID  WORKERS  VERSION   HEARD  TROUBLE\n\
             web-1  shop       7        4  -        2s ago  db.lock GET /stock\n\
             web-2  shop       7        4  -        2s ago  -\n\n\
             cut off from the others, this host may do 1 of what all of them may do together\n"
        );
    }
}
