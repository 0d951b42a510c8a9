//! `ferricornctl jobs`: requests that are worked on later, as they stand, and what is to be done about one of them. Not for: keeping or
//! running them (`offload`).

use crate::failure::Failure;
use crate::stores;
use crate::table::{self, Align, Cell, Ink};
use crate::units::printable;
use crate::workers::write_json;
use ferricorn_core::offload::{State, Status};
use ferricorn_offload::StoreError;
use ferricorn_offload::store::{Store, Told};
use ferricorn_settings::shown;
use ferricorn_sys::clock;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// What is asked of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Jobs {
    /// The newest, in one state or in any, at most so many.
    List(Option<State>, usize),
    /// One in full.
    Show(String),
    /// Withdraw one.
    Cancel(String),
    /// Begin one again.
    Retry(String),
}

/// What was found, in the form that scripts read.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    schema: u32,
    /// How many there are in each state.
    counts: Vec<(State, u64)>,
    /// For how long the one has waited that has waited longest, seconds.
    oldest_s: Option<f64>,
    jobs: Vec<Status>,
}

/// One in full.
#[derive(Debug, Serialize)]
pub(crate) struct One {
    #[serde(flatten)]
    job: Status,
    /// Who is told of its end.
    webhooks: Vec<Webhook>,
}

/// Somebody who is told of a job's end. Times are seconds since 1970.
#[derive(Debug, Serialize)]
struct Webhook {
    /// Its URL, without what may be a secret.
    url: String,
    /// `waiting`, `delivered` or `given_up`; or `promised`, before the end.
    state: &'static str,
    tries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    told_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<Told> for Webhook {
    fn from(told: Told) -> Self {
        let Told { url, tries, told_at, due_at, error } = told;
        let state = match (told_at, due_at) {
            (Some(_), _) => "delivered",
            (None, Some(_)) => "waiting",
            (None, None) if tries > 0 => "given_up",
            (None, None) => "promised",
        };
        Self { url: shown(&url), state, tries, told_at, due_at, error }
    }
}

/// Opens the stores of a folder, or of all folders that this user knows of.
pub(crate) fn open(folder: Option<&Path>) -> Result<Vec<Store>, Failure> {
    let (mut stores, mut old) = (Vec::new(), None);
    for folder in stores::folders(folder) {
        match Store::open(&folder) {
            Ok(store) => stores.push(store),
            Err(StoreError::Absent(_)) => {}
            Err(error @ StoreError::Old) => old = Some(error),
            Err(error) => return Err(unreadable(&error)),
        }
    }
    if let Some(error) = old.filter(|_| stores.is_empty()) {
        let fix = "start the server anew, or use the `ferricornctl` of its version";
        return Err(Failure::new("the jobs could not be read", error.to_string(), fix));
    }
    if stores.is_empty() {
        return Err(Failure::new(
            "no jobs are kept here",
            "no server that you may look into has kept any",
            "name the folder that the server's `state_dir` names: `--state-dir DIR`; \
             which requests become jobs is said by the setting `offload`",
        ));
    }
    Ok(stores)
}

fn unreadable(error: &StoreError) -> Failure {
    Failure::new("the jobs could not be read", error.to_string(), "run this as the server's user, or as root")
}

/// Finds the newest.
pub(crate) fn list(stores: &[Store], state: Option<State>, most: usize) -> Result<Found, Failure> {
    let mut found = Found { schema: 1, counts: Vec::new(), oldest_s: None, jobs: Vec::new() };
    let now_s = clock::wall_time_s();
    for store in stores {
        found.jobs.extend(store.list(state, most).map_err(|error| unreadable(&error))?);
        let depth = store.depth().map_err(|error| unreadable(&error))?;
        if found.counts.is_empty() {
            found.counts = depth.counts;
        } else {
            found.counts.iter_mut().zip(depth.counts).for_each(|(all, more)| all.1 += more.1);
        }
        let oldest_s = depth.oldest.map(|since_s| (now_s - since_s).max(0.0));
        found.oldest_s = found.oldest_s.into_iter().chain(oldest_s).reduce(f64::max);
    }
    found.jobs.sort_by(|one, other| other.created_at.total_cmp(&one.created_at));
    found.jobs.truncate(most);
    Ok(found)
}

/// Finds one, withdraws it or begins it again, and returns how it stands then.
pub(crate) fn one(stores: &mut [Store], wanted: &Jobs) -> Result<One, Failure> {
    let (Jobs::Show(id) | Jobs::Cancel(id) | Jobs::Retry(id)) = wanted else {
        return Err(Failure::new("no job is named", "an id is missing", "`ferricornctl jobs` lists them"));
    };
    let now_s = clock::wall_time_s();
    for store in stores {
        let status = changed(store, wanted, id, now_s).map_err(|error| unreadable(&error))?;
        let Some((status, is_done)) = status else { continue };
        if !is_done {
            return Err(Failure::new(
                format!("job {id} is not begun again"),
                format!(
                    "it is {}, and only one that failed or was cancelled can be, while its request is kept",
                    status.state.name()
                ),
                format!("`ferricornctl jobs show {id}` tells more"),
            ));
        }
        let webhooks = store.webhooks(id).map_err(|error| unreadable(&error))?;
        return Ok(One { job: status, webhooks: webhooks.into_iter().map(Webhook::from).collect() });
    }
    Err(Failure::new(
        format!("there is no job {id}"),
        "it never was one, or is not kept any more",
        "`ferricornctl jobs` lists them",
    ))
}

/// Does what is wanted; tells whether it could be done. None if the job is not of this store.
fn changed(
    store: &mut Store,
    wanted: &Jobs,
    id: &str,
    now_s: f64,
) -> Result<Option<(Status, bool)>, StoreError> {
    if store.status(id)?.is_none() {
        return Ok(None);
    }
    store.begin()?;
    let done = match wanted {
        Jobs::Cancel(_) => store.cancel(id, false, now_s).map(|_| true),
        Jobs::Retry(_) => store.retry(id, now_s).map(|done| done == Some(true)),
        _ => Ok(true),
    };
    match done {
        Ok(is_done) => {
            store.commit()?;
            Ok(store.status(id)?.map(|status| (status, is_done)))
        }
        Err(error) => {
            store.roll_back();
            Err(error)
        }
    }
}

const COLUMNS: [(&str, Align); 6] = [
    ("ID", Align::Left),
    ("STATE", Align::Left),
    ("AGE", Align::Right),
    ("RAN", Align::Right),
    ("TRY", Align::Right),
    ("REQUEST", Align::Left),
];

/// Writes the table.
pub(crate) fn table(found: &Found, colours: bool, out: &mut dyn Write) -> io::Result<()> {
    let now_s = clock::wall_time_s();
    let rows: Vec<_> = found.jobs.iter().map(|job| row(job, now_s)).collect();
    table::write(out, COLUMNS, &rows, colours)?;
    let counts: Vec<String> = found
        .counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", state.name()))
        .collect();
    let all = if counts.is_empty() { "no jobs".to_owned() } else { counts.join(", ") };
    match found.oldest_s {
        Some(oldest_s) => writeln!(out, "\n{all}; the first in line has waited {}", lasted(oldest_s)),
        None => writeln!(out, "\n{all}"),
    }
}

fn row(job: &Status, now_s: f64) -> [Cell; COLUMNS.len()] {
    let ink = match job.state {
        State::Failed => Ink::Bad,
        State::Done => Ink::Good,
        _ => Ink::Warn,
    };
    let ran = job.started_at.map(|since_s| lasted(job.ended_at.unwrap_or(now_s) - since_s));
    let note = job.progress.as_ref().filter(|_| !job.state.is_over());
    let note = note.map(|progress| format!("  {:.0} % {}", progress.share * 100.0, progress.note));
    let error = job.error.as_ref().map(|error| format!("  {}", error.detail));
    let more = note.or(error).unwrap_or_default();
    [
        printable(&job.id).into(),
        Cell::inked(job.state.name(), ink),
        lasted(now_s - job.created_at).into(),
        ran.unwrap_or_else(|| "-".to_owned()).into(),
        format!("{}/{}", job.attempts, job.attempts_max).into(),
        printable(&format!("{} {}{more}", job.method, job.path)).into(),
    ]
}

/// Writes one in full.
pub(crate) fn text(one: &One, out: &mut dyn Write) -> io::Result<()> {
    let One { job, webhooks } = one;
    let now_s = clock::wall_time_s();
    writeln!(out, "job       {}", printable(&job.id))?;
    writeln!(out, "request   {}", printable(&format!("{} {}", job.method, job.path)))?;
    writeln!(out, "state     {}", job.state.name())?;
    writeln!(out, "taken     {} ago", lasted(now_s - job.created_at))?;
    writeln!(out, "attempts  {} of {}", job.attempts, job.attempts_max)?;
    if let Some(started_s) = job.started_at {
        let ended_s = job.ended_at.unwrap_or(now_s);
        writeln!(out, "ran       {}", lasted(ended_s - started_s))?;
    }
    if let Some(progress) = &job.progress {
        writeln!(out, "progress  {:.0} % {}", progress.share * 100.0, printable(&progress.note))?;
    }
    if let Some(status) = job.status {
        writeln!(out, "answered  {status}")?;
    }
    if let Some(error) = &job.error {
        writeln!(out, "error     {}", printable(&error.detail))?;
        if let Some(id) = &error.request_id {
            writeln!(out, "more      ferricornctl why {}", printable(id))?;
        }
    }
    if let Some(until_s) = job.expires_at.filter(|until_s| *until_s > now_s) {
        writeln!(out, "kept      for {} more", lasted(until_s - now_s))?;
    }
    for webhook in webhooks {
        writeln!(out, "webhook   {}", printable(&told(webhook, now_s)))?;
    }
    Ok(())
}

fn told(webhook: &Webhook, now_s: f64) -> String {
    let Webhook { url, state, tries, told_at, due_at, error } = webhook;
    let why = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    match (*state, told_at, due_at) {
        (_, Some(told_s), _) => format!("{url} told {} ago", lasted(now_s - told_s)),
        ("waiting", _, Some(due_s)) => {
            format!("{url} not told yet{why}; again in {}", lasted(due_s - now_s))
        }
        ("given_up", ..) => format!("{url} given up after {tries} tries{why}"),
        _ => format!("{url} is told of its end"),
    }
}

fn lasted(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    match seconds {
        _ if seconds < 60.0 => format!("{seconds:.1}s"),
        _ if seconds < 3600.0 => format!("{:.0}m", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.0}h", seconds / 3600.0),
        _ => format!("{:.0}d", seconds / 86_400.0),
    }
}

/// Writes what was found as JSON.
pub(crate) fn json(found: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    write_json(found, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::offload::{Request, id};
    use ferricorn_offload::store::{Body, Bounds, Entry, Promise};

    #[test]
    fn jobs_are_listed_shown_withdrawn_and_begun_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let failure = open(Some(folder.path())).err().map(|failure| format!("{failure:?}"));
        assert!(failure.expect("none").contains("offload"));
        let bounds = Bounds { jobs: 9, bytes: 9000 };
        let mut store = Store::create(folder.path(), "shop", bounds).expect("a store");
        let now_s = clock::wall_time_s();
        let id = id([1; 16]);
        let request =
            Request { id: id.clone(), method: "POST".into(), path: "/r".into(), ..Request::default() };
        let entry = Entry {
            request: &request,
            head: b"",
            body: &Body::Inline(Vec::new()),
            attempts_max: 1,
            retention_s: 600.0,
            lane: Some(""),
            webhooks: &[Promise { url: "https://hooks.example/t0ken", is_own: true }],
        };
        store.keep(&entry, now_s - 90.0).expect("kept");
        let mut stores = open(Some(folder.path())).expect("a store");
        let mut out = Vec::new();
        table(&list(&stores, None, 20).expect("read"), false, &mut out).expect("memory");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            format!(
                "ID                                STATE   AGE  RAN  TRY  REQUEST\n\
                 {id}  queued   2m    -  0/1  POST /r\n\n\
                 1 queued; the first in line has waited 2m\n"
            )
        );
        assert!(list(&stores, Some(State::Done), 20).expect("read").jobs.is_empty());
        let refused = one(&mut stores, &Jobs::Retry(id.clone())).expect_err("it waits already");
        assert!(format!("{refused:?}").contains("queued"));
        assert_eq!(one(&mut stores, &Jobs::Cancel(id.clone())).expect("done").job.state, State::Cancelled);
        assert_eq!(one(&mut stores, &Jobs::Retry(id.clone())).expect("done").job.state, State::Queued);
        let mut out = Vec::new();
        text(&one(&mut stores, &Jobs::Show(id.clone())).expect("read"), &mut out).expect("memory");
        let shown = String::from_utf8(out).expect("text");
        assert!(shown.contains("state     queued"), "{shown}");
        assert!(shown.contains("webhook   https://hooks.example/... is told of its end"), "{shown}");
        let webhook = |told_at, due_at, tries, error: Option<&str>| {
            let (url, error) = ("https://hooks.example/t0ken".to_owned(), error.map(str::to_owned));
            told(&Webhook::from(Told { url, tries, told_at, due_at, error }), 100.0)
        };
        assert_eq!(webhook(Some(90.0), None, 1, None), "https://hooks.example/... told 10.0s ago");
        let waits = webhook(None, Some(130.0), 2, Some("it answered 500"));
        assert_eq!(waits, "https://hooks.example/... not told yet: it answered 500; again in 30.0s");
        let given_up = webhook(None, None, 8, Some("it answered 500"));
        assert_eq!(given_up, "https://hooks.example/... given up after 8 tries: it answered 500");
        assert!(one(&mut stores, &Jobs::Show("x".into())).is_err());
    }
}
