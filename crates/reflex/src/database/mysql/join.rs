//! Which session of the process list is that of which connection: by address and port, by port alone where the server says
//! names, by the pid that the driver has said. Pure. Not for: reading either side.

use super::session::Activity;
use crate::database::answer::{End, Wanted};
use std::net::{IpAddr, SocketAddr};

/// What is known of how well the server sees connections.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// The sessions of all users can be seen.
    pub all: bool,
    /// Nothing translates addresses on the way there.
    pub direct: bool,
    /// What grants the right to see all sessions.
    pub grant: String,
    /// The address that is asked, if it is known.
    pub server: Option<SocketAddr>,
}

/// What was found of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The session of this place in the list, perhaps with a doubt.
    Session(usize, Option<String>),
    /// There is none any more.
    Missing,
    /// That cannot be told.
    Unclear(String),
    /// It was never said to be ours.
    Nothing,
}

/// Finds the session of a connection.
pub(super) fn find(rows: &[Activity], one: &Wanted, view: &View) -> Found {
    match one.end {
        End::Tcp(address) => tcp(rows, one, address, view),
        End::Unix(_) if one.sure && !view.all => Found::Unclear(unseen(view)),
        End::Unix(_) if one.sure => unix(rows, one),
        _ => Found::Nothing,
    }
}

fn tcp(rows: &[Activity], one: &Wanted, address: SocketAddr, view: &View) -> Found {
    if let Some(at) = rows.iter().position(|row| row.client() == Some(address)) {
        return Found::Session(at, None);
    }
    if !one.sure {
        return Found::Nothing;
    }
    // A host that is said by its name may be the right one.
    let named = |row: &Activity| row.port == Some(address.port()) && row.host.parse::<IpAddr>().is_err();
    if let Some(at) = only(rows, named) {
        return Found::Session(at, None);
    }
    if !view.all {
        return Found::Unclear(unseen(view));
    }
    if let Some(found) = by_pid(rows, one, |_| true) {
        return found;
    }
    let fd = one.fd;
    if one.leads_elsewhere(view.server) {
        return Found::Unclear(format!(
            "Descriptor {fd} leads to another server of this name than the one that is asked: say that as a \
             database of its own"
        ));
    }
    if view.direct {
        return Found::Missing;
    }
    Found::Unclear(format!(
        "The session of descriptor {fd} was not found by its port: something between (a proxy, address \
         translation) may change ports. With performance_schema on, drivers that say their pid are found by it"
    ))
}

fn unix(rows: &[Activity], one: &Wanted) -> Found {
    let fd = one.fd;
    let is_unix = |row: &Activity| row.port.is_none();
    if let Some(found) = by_pid(rows, one, is_unix) {
        return found;
    }
    match only(rows, |row| is_unix(row) && !row.is_idle() && row.pid.is_none()) {
        Some(at) => Found::Session(
            at,
            Some(format!(
                "Descriptor {fd} is a unix socket: its session is taken to be the only one at work"
            )),
        ),
        None => Found::Unclear(format!(
            "Descriptor {fd} is a unix socket, and the server does not say whose sessions those are: connect by \
             TCP, or set performance_schema = ON for drivers that say their pid"
        )),
    }
}

fn unseen(view: &View) -> String {
    format!("The sessions of other users cannot be seen: {}", view.grant)
}

fn by_pid(rows: &[Activity], one: &Wanted, may_be: impl Fn(&Activity) -> bool) -> Option<Found> {
    let mine = |row: &Activity| may_be(row) && row.pid == Some(one.worker);
    let at = only(rows, mine).or_else(|| only(rows, |row| mine(row) && !row.is_idle()))?;
    Some(Found::Session(at, Some(format!("Descriptor {} was found by the pid that its driver says", one.fd))))
}

/// The place of the one that fits; none if several do.
fn only(rows: &[Activity], fits: impl Fn(&Activity) -> bool) -> Option<usize> {
    let mut places = rows.iter().enumerate().filter(|(_, row)| fits(row)).map(|(at, _)| at);
    let first = places.next()?;
    places.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u32, host: &str, port: Option<u16>, command: &str, pid: Option<u32>) -> Activity {
        Activity { id, host: host.into(), port, command: command.into(), pid, ..Activity::default() }
    }

    #[test]
    fn sessions_are_found_by_what_the_server_says() {
        let rows = [
            row(1, "10.0.0.5", Some(700), "Query", None),
            row(2, "app.example", Some(701), "Sleep", Some(20)),
            row(3, "localhost", None, "Sleep", Some(30)),
            row(4, "localhost", None, "Query", None),
        ];
        let all = |direct| View { all: true, direct, grant: "GRANT PROCESS".into(), server: None };
        let one = |worker, end| Wanted { worker, fd: 3, sure: true, end, ..Wanted::default() };
        let tcp = |text: &str| End::Tcp(text.parse().expect("an address"));
        let session = |found: Found| match found {
            Found::Session(at, doubt) => (at, doubt.is_some()),
            other => panic!("{other:?}"),
        };
        assert_eq!(find(&rows, &one(1, tcp("10.0.0.5:700")), &all(true)), Found::Session(0, None));
        assert_eq!(session(find(&rows, &one(1, tcp("10.0.0.9:701")), &all(true))), (1, false));
        assert_eq!(session(find(&rows, &one(20, tcp("10.0.0.9:9")), &all(false))), (1, true));
        assert_eq!(find(&rows, &one(1, tcp("10.0.0.9:9")), &all(true)), Found::Missing);
        assert!(matches!(find(&rows, &one(1, tcp("10.0.0.9:9")), &all(false)), Found::Unclear(_)));
        assert!(matches!(find(&rows, &one(1, tcp("10.0.0.9:9")), &View::default()), Found::Unclear(_)));
        assert_eq!(session(find(&rows, &one(30, End::Unix(None)), &all(true))), (2, true));
        assert_eq!(session(find(&rows, &one(1, End::Unix(None)), &all(true))), (3, true));
        let unsure = Wanted { sure: false, ..one(30, tcp("10.0.0.9:9")) };
        assert_eq!(find(&rows, &unsure, &all(true)), Found::Nothing);
    }
}
