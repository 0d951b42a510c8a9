//! Which session is that of which connection: by address and port, by the inode of a unix socket, by the pooler's word, and
//! where all that fails, by what little is left, said as such. Pure.
//!
//! Not for: reading either side.

use super::session::Activity;
use crate::database::answer::{End, Wanted};
use crate::database::inodes::Inodes;
use std::net::SocketAddr;

/// What is known of how well the database sees connections.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// The sessions of all roles can be seen.
    pub all: bool,
    /// Where our own connection comes from as the database sees it, if that is not how we see it.
    pub translated: Option<String>,
    /// What grants the right to see all sessions.
    pub grant: String,
    /// The address that is asked; none for a unix socket.
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

/// Finds the sessions of connections.
pub(super) fn find(rows: &[Activity], wanted: &[Wanted], view: &View, inodes: &Inodes) -> Vec<Found> {
    wanted
        .iter()
        .map(|one| match &one.end {
            End::Tcp(_) => tcp(rows, one, view),
            End::Unix(_) => unix(rows, one, wanted, view, inodes),
            End::Pooled { .. } => pooled(rows, one, view),
            End::Unknown => Found::Nothing,
        })
        .collect()
}

fn tcp(rows: &[Activity], wanted: &Wanted, view: &View) -> Found {
    let End::Tcp(address) = wanted.end else { return Found::Nothing };
    if let Some(at) = rows.iter().position(|row| row.client == Some(address)) {
        return Found::Session(at, None);
    }
    if !wanted.sure {
        return Found::Nothing;
    }
    let fd = wanted.fd;
    if !view.all {
        return Found::Unclear(unseen(view));
    }
    if wanted.leads_elsewhere(view.server) {
        return Found::Unclear(format!(
            "Descriptor {fd} leads to another server of this name than the one that is asked: say that as a \
             database of its own"
        ));
    }
    let Some(seen) = &view.translated else { return Found::Missing };
    // Something between us translates addresses; many leave ports as they are.
    let by_port = |row: &Activity| row.client.is_some_and(|client| client.port() == address.port());
    if let Some(at) = only(rows, by_port) {
        let doubt = format!(
            "Descriptor {fd} was found by its port alone: the database sees other addresses than there are here"
        );
        return Found::Session(at, Some(doubt));
    }
    by_name(rows, wanted, |row| row.client.is_some()).unwrap_or_else(|| {
        Found::Unclear(format!(
            "The session of descriptor {fd} was not found by its port: something between (a proxy, address \
             translation) changes ports; our own connection comes from {seen} there. Ask PgBouncer's console as \
             well, or name each worker's pid in application_name"
        ))
    })
}

fn unix(rows: &[Activity], wanted: &Wanted, all: &[Wanted], view: &View, inodes: &Inodes) -> Found {
    let End::Unix(inode) = wanted.end else { return Found::Nothing };
    let holder = inode.and_then(|inode| inodes.holder(inode));
    if let Some(at) = holder.and_then(|pid| rows.iter().position(|row| row.pid == pid)) {
        return Found::Session(at, None);
    }
    if !wanted.sure {
        return Found::Nothing;
    }
    if !view.all {
        return Found::Unclear(unseen(view));
    }
    let candidates = rows.iter().filter(|row| row.is_unix).count();
    if candidates == 0 || (inode.is_some() && inodes.is_complete) {
        return Found::Missing;
    }
    if let Some(found) = by_name(rows, wanted, |row| row.is_unix) {
        return found;
    }
    // What is begun within the request, if nobody else of the process could be meant.
    let is_mine = |other: &&Wanted| other.worker == wanted.worker && matches!(other.end, End::Unix(_));
    let began = |row: &Activity| wanted.since_s.is_none_or(|since_s| row.statement_s <= since_s + 1.0);
    let at_work = |row: &Activity| row.is_unix && row.state != "idle" && began(row);
    let fd = wanted.fd;
    match only(rows, at_work).filter(|_| all.iter().filter(is_mine).count() == 1) {
        Some(at) => Found::Session(
            at,
            Some(format!(
                "Descriptor {fd} is a unix socket whose other end cannot be seen: its session is the only one at work"
            )),
        ),
        None => Found::Unclear(format!(
            "Descriptor {fd} is a unix socket whose other end cannot be seen: {candidates} sessions may be its \
             own. Run the observer as root or as the database's user, connect by TCP, or name each worker's pid \
             in application_name"
        )),
    }
}

fn pooled(rows: &[Activity], wanted: &Wanted, view: &View) -> Found {
    let End::Pooled { pid, from } = wanted.end else { return Found::Nothing };
    let same =
        |row: &Activity| row.pid == pid && (from.is_none() || row.client.is_none() || row.client == from);
    match rows.iter().position(same) {
        Some(at) if view.all => Found::Session(at, None),
        Some(_) => Found::Unclear(unseen(view)),
        // The pooler may have closed it since.
        None => Found::Nothing,
    }
}

/// A worker's session that says its pid in `application_name`.
fn by_name(rows: &[Activity], wanted: &Wanted, may_be: impl Fn(&Activity) -> bool) -> Option<Found> {
    let names = |row: &Activity| {
        let digits = row.application.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        row.application[digits..].parse() == Ok(wanted.worker)
    };
    let at = only(rows, |row| may_be(row) && names(row) && row.state != "idle")
        .or_else(|| only(rows, |row| may_be(row) && names(row)))?;
    Some(Found::Session(at, Some(format!("Descriptor {} was found by application_name", wanted.fd))))
}

fn unseen(view: &View) -> String {
    format!("The sessions of other roles cannot be seen: {}", view.grant)
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

    fn row(pid: u32, client: &str, state: &str) -> Activity {
        let application = format!("shop:w{}", pid * 10);
        let client = client.parse().ok();
        Activity {
            pid,
            is_unix: client.is_none(),
            client,
            state: state.into(),
            application,
            ..Activity::default()
        }
    }

    fn wanted(sure: bool, end: End) -> Wanted {
        Wanted { worker: 7, fd: 3, sure, end, ..Wanted::default() }
    }

    fn view(all: bool, translated: bool) -> View {
        View {
            all,
            translated: translated.then(|| "10.9.9.9:1".into()),
            grant: "GRANT it".into(),
            server: None,
        }
    }

    fn one(rows: &[Activity], wanted: Wanted, view: &View) -> Found {
        find(rows, &[wanted], view, &Inodes::default()).remove(0)
    }

    fn is_unclear(found: &Found, part: &str) -> bool {
        matches!(found, Found::Unclear(gap) if gap.contains(part))
    }

    #[test]
    fn ports_and_addresses_find_sessions() {
        let rows = [
            row(1, "10.0.0.5:700", "idle"),
            row(2, "10.0.0.6:700", "active"),
            row(3, "10.0.0.6:701", "active"),
        ];
        let tcp = |address: &str| End::Tcp(address.parse().expect("an address"));
        let (plain, nat) = (view(true, false), view(true, true));
        assert_eq!(one(&rows, wanted(true, tcp("10.0.0.6:700")), &plain), Found::Session(1, None));
        assert_eq!(one(&rows, wanted(true, tcp("10.0.0.7:700")), &plain), Found::Missing);
        assert_eq!(one(&rows, wanted(false, tcp("10.0.0.7:700")), &plain), Found::Nothing);
        assert!(is_unclear(&one(&rows, wanted(true, tcp("10.0.0.7:700")), &view(false, false)), "GRANT it"));
        let peer = |text: &str| Wanted { peer: text.parse().ok(), ..wanted(true, tcp("10.0.0.7:700")) };
        let of_one = View { server: "10.0.0.1:5432".parse().ok(), ..plain.clone() };
        assert_eq!(one(&rows, peer("10.0.0.1:5432"), &of_one), Found::Missing);
        assert!(is_unclear(&one(&rows, peer("10.0.0.2:5432"), &of_one), "another server of this name"));
        // Behind address translation a port that is there once is good enough, and a name is.
        assert!(matches!(one(&rows, wanted(true, tcp("172.17.0.2:701")), &nat), Found::Session(2, Some(_))));
        assert!(is_unclear(&one(&rows, wanted(true, tcp("172.17.0.2:700")), &nat), "from 10.9.9.9:1"));
        let mine = Wanted { worker: 20, ..wanted(true, tcp("172.17.0.2:999")) };
        assert_eq!(
            one(&rows, mine, &nat),
            Found::Session(1, Some("Descriptor 3 was found by application_name".into()))
        );
    }

    #[test]
    fn what_is_at_a_unix_socket_is_found_by_what_is_left() {
        let slow = Activity { statement_s: 9.0, ..row(4, "", "active") };
        let rows =
            [row(1, "", "idle"), row(2, "", "idle in transaction"), row(3, "10.0.0.6:701", "active"), slow];
        let view = view(true, false);
        let unix = || wanted(true, End::Unix(Some(5)));
        assert!(is_unclear(&one(&rows, unix(), &view), "3 sessions"));
        let recent = Wanted { since_s: Some(2.0), ..unix() };
        assert!(matches!(one(&rows, recent.clone(), &view), Found::Session(1, Some(_))));
        assert!(matches!(one(&rows, Wanted { worker: 40, ..unix() }, &view), Found::Session(3, Some(_))));
        // Two of them cannot both be the only one.
        let both = find(&rows, &[recent.clone(), Wanted { fd: 4, ..recent }], &view, &Inodes::default());
        assert!(both.iter().all(|found| is_unclear(found, "3 sessions")));
        assert_eq!(one(&rows[2..3], unix(), &view), Found::Missing);
        let complete = Inodes::look(std::iter::empty(), "postgres");
        assert_eq!(find(&rows, &[unix()], &view, &complete), [Found::Missing]);
    }

    #[test]
    fn a_poolers_word_counts_where_its_port_agrees() {
        let rows = [row(1, "10.0.0.5:700", "active"), row(2, "", "active")];
        let view = view(true, false);
        let pooled = |pid, from: &str| wanted(true, End::Pooled { pid, from: from.parse().ok() });
        assert_eq!(one(&rows, pooled(1, "10.0.0.5:700"), &view), Found::Session(0, None));
        assert_eq!(one(&rows, pooled(1, "10.0.0.5:701"), &view), Found::Nothing);
        assert_eq!(one(&rows, pooled(2, ""), &view), Found::Session(1, None));
        assert_eq!(one(&rows, wanted(true, End::Unknown), &view), Found::Nothing);
    }
}
