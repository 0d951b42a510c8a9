//! `ferricornctl deploy`: marks a change by hand, at the observer of a server; or in the store, if nobody is there to be told.
//! Not for: what a mark explains.

use crate::command::{Deploy, Server, When};
use crate::failure::Failure;
use crate::source::{self, Source};
use crate::units::printable;
use crate::{socket, units};
use ferricorn_core::change::{Change, Mark};
use ferricorn_reflex::store::{Store, StoreError};
use ferricorn_sys::clock;
use serde::Deserialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes of an answer that are shown where it is not understood.
const SHOWN_MAX: usize = 200;

/// Marks it; returns what was marked, once for each server.
pub(crate) fn mark(
    wanted: &Deploy,
    server: &Server,
    state_dir: Option<&Path>,
) -> Result<Vec<Change>, Failure> {
    let now = clock::wall_time_s();
    let at = match wanted.at {
        Some(When::At(seconds)) => Some(seconds as f64),
        Some(When::Ago(ago)) => Some(now - ago.as_secs_f64()),
        None => None,
    };
    let mark = Mark { name: wanted.name.clone(), at, link: wanted.link.clone() };
    // Before anybody is bothered.
    let change = mark.change("", now).map_err(|why| {
        let hint = "`ferricornctl deploy --help` shows what a mark is made of";
        Failure::new("the mark makes no sense", why, hint)
    })?;
    let sockets: Vec<PathBuf> = match (server, state_dir) {
        (Server::TheOne, Some(folder)) => source::live_sockets(folder),
        _ => vec![Source::open(server, state_dir)?.socket().ok_or_else(nobody)?],
    };
    if let (true, Some(folder)) = (sockets.is_empty(), state_dir) {
        leave(folder, &change)?;
        return Ok(vec![change]);
    }
    sockets.iter().map(|socket| tell(socket, &mark)).collect()
}

fn nobody() -> Failure {
    Failure::new(
        "the mark could not be set",
        "the server has no observer that answers (`reflex`), or keeps no records",
        "name the folder of its records: `--state-dir DIR`",
    )
}

/// Leaves it in the store, where the next observer finds it.
fn leave(folder: &Path, change: &Change) -> Result<(), Failure> {
    let kept = Store::open(folder).and_then(|_| Store::create(folder)?.keep_deploy("", change, None));
    kept.map_err(|error: StoreError| {
        let what = format!("the mark could not be left in {}", folder.display());
        Failure::new(what, error.to_string(), "give the folder that the server's `state_dir` names")
    })
}

fn tell(socket: &Path, mark: &Mark) -> Result<Change, Failure> {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    let what = || format!("the observer at {} has not taken the mark", socket.display());
    let document = serde_json::to_string(mark).unwrap_or_default();
    let (status, body) = socket::post(socket, "/deploys", &document).map_err(|error| {
        Failure::new(what(), error.to_string(), "look whether its server still runs; run this as its user")
    })?;
    if let Ok(change) = serde_json::from_slice::<Change>(&body)
        && status == 201
    {
        return Ok(change);
    }
    let shown = String::from_utf8_lossy(&body);
    let why = serde_json::from_slice::<Problem>(&body)
        .map_or_else(|_| units::cut(&shown, SHOWN_MAX).to_owned(), |problem| problem.detail);
    let hint = match status {
        404 | 405 => "use the `ferricornctl` of the server's own installation",
        _ => "try again in a moment",
    };
    Err(Failure::new(what(), format!("{why} (status {status})"), hint))
}

/// Writes what was marked.
pub(crate) fn text(marked: &[Change], out: &mut dyn Write) -> io::Result<()> {
    for change in marked {
        let server = match change.server.as_str() {
            "" => "in the store".to_owned(),
            server => format!("at {}", printable(server)),
        };
        writeln!(out, "marked {server}: {} ({})", printable(&change.name), clock::stamp(change.at as u64))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_left_in_the_store_where_nobody_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        let wanted = Deploy { name: "v1".into(), ..Deploy::default() };
        let failure = mark(&wanted, &Server::TheOne, Some(folder.path())).expect_err("no store");
        assert!(failure.what.contains("could not be left"), "{failure:?}");
        drop(Store::create(folder.path()).expect("a store"));
        let marked = mark(&wanted, &Server::TheOne, Some(folder.path())).expect("marked");
        let found = Store::open(folder.path()).expect("a store").deploys(None, 0.0, 9).expect("read");
        assert_eq!((found.len(), found[0].name.as_str()), (1, "v1"));
        let mut out = Vec::new();
        text(&marked, &mut out).expect("memory");
        assert!(String::from_utf8_lossy(&out).starts_with("marked in the store: v1 ("));
        let wrong = Deploy { link: Some("x".into()), ..wanted };
        assert!(mark(&wrong, &Server::TheOne, Some(folder.path())).is_err());
    }
}
