//! `ferricornctl actions`, `off`, `on`: what the observer has done by itself, and the switch that stops it. Not for: why it would
//! (`policy`).

use crate::failure::{FOUND, Failure, OK};
use crate::locate;
use crate::stores;
use crate::table::{self, Align, Cell};
use crate::units::printable;
use crate::workers::write_json;
use ferricorn_reflex::store::{Act, Chain, OFF, Store, default_folder};
use ferricorn_sys::clock;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

const COLUMNS: [(&str, Align); 4] =
    [("NO", Align::Right), ("AT", Align::Left), ("WHAT", Align::Left), ("WHY", Align::Left)];
/// Lines of the table, unless somebody says otherwise, and rows that a script gets.
const LINES: usize = 20;
const ALL: usize = 100_000;

/// What was done, and whether the audit is whole.
pub(crate) struct Audit {
    acts: Vec<(i64, Act)>,
    /// Folders in which it is not, and from which number on.
    broken: Vec<(PathBuf, i64)>,
}

/// Reads what was done, the newest first.
pub(crate) fn find(stores: &[Store], wanted: Option<usize>, json: bool) -> Result<Audit, Failure> {
    let limit = wanted.unwrap_or(if json { ALL } else { LINES });
    let mut acts = stores::read(stores, |store| store.acts(limit))?;
    acts.sort_by_key(|(number, act)| std::cmp::Reverse((act.at_us, *number)));
    acts.truncate(limit);
    let chain = |store: &Store| {
        let folder = store.folder().to_owned();
        Ok(vec![(folder, store.verify()?)])
    };
    let broken = stores::read(stores, chain)?.into_iter().filter_map(|(folder, chain)| match chain {
        Chain::Whole { .. } => None,
        Chain::Broken { at } => Some((folder, at)),
    });
    Ok(Audit { acts, broken: broken.collect() })
}

impl Audit {
    /// Returns the exit status.
    pub(crate) fn status(&self) -> i32 {
        if self.broken.is_empty() { OK } else { FOUND }
    }
}

/// Writes the table.
pub(crate) fn table(audit: &Audit, colours: bool, out: &mut dyn Write) -> io::Result<()> {
    if audit.acts.is_empty() {
        writeln!(out, "nothing has been done")?;
    } else {
        let rows: Vec<[Cell; COLUMNS.len()]> = audit.acts.iter().map(row).collect();
        table::write(out, COLUMNS, &rows, colours)?;
    }
    for (folder, at) in &audit.broken {
        writeln!(out, "the audit in {} is not as it was written, from number {at} on", folder.display())?;
    }
    Ok(())
}

fn row((number, act): &(i64, Act)) -> [Cell; COLUMNS.len()] {
    let what = if act.after.is_empty() { act.what.clone() } else { format!("{}: {}", act.what, act.after) };
    [
        number.to_string().into(),
        clock::stamp((act.at_us / 1_000_000).unsigned_abs()).into(),
        printable(&what).into(),
        printable(&act.why).into(),
    ]
}

/// Writes the JSON.
pub(crate) fn json(audit: &Audit, out: &mut dyn Write) -> io::Result<()> {
    let one = |(number, act): &(i64, Act)| {
        json!({
            "number": number, "at": act.at_us as f64 / 1e6, "who": act.who, "what": act.what, "why": act.why,
            "before": act.before, "after": act.after,
        })
    };
    let broken = |(folder, at): &(PathBuf, i64)| json!({ "state_dir": folder, "from": at });
    let page = json!({
        "actions": audit.acts.iter().map(one).collect::<Vec<_>>(),
        "broken": audit.broken.iter().map(broken).collect::<Vec<_>>(),
    });
    write_json(&page, out)
}

/// Turns the observers of a folder on or off, or those of all folders that are known; says which.
pub(crate) fn switch(
    on: bool,
    folder: Option<&Path>,
    out: &mut dyn Write,
) -> Result<io::Result<()>, Failure> {
    let mut folders: BTreeSet<PathBuf> = folder.map(Path::to_owned).into_iter().collect();
    if folder.is_none() {
        folders.extend(locate::state_dirs());
        folders.extend(default_folder());
        folders.retain(|folder| folder.is_dir());
    }
    if folders.is_empty() {
        return Err(Failure::new(
            "there is nobody to turn on or off",
            "no server runs that keeps anything, and this user has no state folder",
            "name the folder: --state-dir DIR",
        ));
    }
    for folder in &folders {
        let file = folder.join(OFF);
        let done = match on {
            true => fs::remove_file(&file).or_else(|error| match error.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }),
            false => fs::write(&file, "made by `ferricornctl off`; `ferricornctl on` removes it\n"),
        };
        done.map_err(|error| {
            let what = format!(
                "actions in {} could not be turned {}",
                folder.display(),
                if on { "on" } else { "off" }
            );
            Failure::new(
                what,
                error.to_string(),
                "run this as the server's user or as root, or name its --state-dir",
            )
        })?;
    }
    let word = if on { "on" } else { "off: nothing is done by itself" };
    let told = folders.iter().try_for_each(|folder| writeln!(out, "{}: {word}", folder.display()));
    Ok(told)
}
