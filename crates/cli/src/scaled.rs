//! `ferricornctl why scale`: how many workers there are, and why. Not for: deciding.

use crate::failure::Failure;
use crate::stores;
use crate::workers::write_json;
use ferricorn_core::record::Server;
use ferricorn_core::scale::{Decision, Wish};
use ferricorn_reflex::store::{Scaled, Store};
use ferricorn_sys::clock;
use serde_json::json;
use std::io::{self, Write};

/// Reads what was decided.
pub(crate) fn find(stores: &[Store]) -> Result<Vec<(Server, Scaled)>, Failure> {
    let found = stores::read(stores, Store::scaled)?;
    if found.is_empty() {
        return Err(Failure::new(
            "nothing was decided about the number of workers",
            "no server here has `workers_max`, so that its number is fixed",
            "set `--workers-max N`; name the folder of its records with --state-dir",
        ));
    }
    Ok(found)
}

/// Writes it in words.
pub(crate) fn text(found: &[(Server, Scaled)], out: &mut dyn Write) -> io::Result<()> {
    for (server, scaled) in found {
        writeln!(out, "{} (pid {})", server.name, server.pid)?;
        if let Some(last) = &scaled.last {
            writeln!(out, "  now         {}", line(last))?;
        }
        for change in scaled.changes.iter().rev() {
            writeln!(out, "  {}  {}", clock::stamp(change.at as u64), line(change))?;
        }
    }
    Ok(())
}

fn line(decision: &Decision) -> String {
    let wish = match decision.wish {
        Wish::Add(count) => format!("{} and {count} more", decision.workers),
        Wish::Remove => format!("{} and one less", decision.workers),
        Wish::Stay => format!("{} stay", decision.workers),
    };
    format!("{wish}: {}", decision.why)
}

/// Writes the JSON.
pub(crate) fn json(found: &[(Server, Scaled)], out: &mut dyn Write) -> io::Result<()> {
    let one = |(server, scaled): &(Server, Scaled)| json!({ "server": { "pid": server.pid, "name": server.name }, "last": scaled.last, "changes": scaled.changes });
    write_json(&found.iter().map(one).collect::<Vec<_>>(), out)
}
