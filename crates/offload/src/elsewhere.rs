//! Jobs that other hosts have taken, where all of them hand jobs to one Celery: asks a relay, which asks the results. Not for: jobs that
//! are kept here.

use crate::attempt::{Attempt, Exactly, Framing, Heard, is_own};
use crate::store::{Body, Work, is_short};
use ferricorn_core::offload::{Answer, Request, Response, Status};
use ferricorn_sys::packets;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long a relay may take for an answer, and how often one is asked while a client waits for news.
const PATIENCE: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(1);
/// The field by which a relay says how a job stands.
const STATUS: &str = "Ferricorn-Status";

/// What is to be known of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// How it stands; if its tag is this one, or while it is not over, not before that time is over.
    Status {
        /// What is known of it.
        tag: Option<String>,
        /// Whether only its end is news.
        end: bool,
        /// For how long an answer can wait.
        wait: Duration,
    },
    /// What it has come to.
    Response,
}

/// A job that is asked for.
#[derive(Debug)]
pub struct Question {
    /// Which.
    pub id: String,
    /// What only the server's own processes know.
    pub token: String,
    /// The name of the relays' listener.
    pub relays: Vec<u8>,
}

/// An answer, with the short or the long body that belongs to it.
pub type Told = (Answer, Vec<u8>, Option<OwnedFd>);

impl Question {
    /// Asks until there is an answer that is worth one.
    pub fn told(&self, wanted: &Wanted) -> Told {
        let since = Instant::now();
        loop {
            let target = if *wanted == Wanted::Response { "/response" } else { "/status" };
            let (status, response) = match self.heard("GET", target) {
                Ok(Some(known)) => known,
                Ok(None) => return (Answer::Absent, Vec::new(), None),
                Err(error) => {
                    let detail = format!("jobs of other hosts cannot be asked for: {error}");
                    return (Answer::Full { detail }, Vec::new(), None);
                }
            };
            match wanted {
                Wanted::Response => match response {
                    Some((response, body, file)) => return (Answer::Response(response), body, file),
                    None => return (Answer::Status(Box::new(status)), Vec::new(), None),
                },
                Wanted::Status { tag, end, wait } => {
                    if status.is_news(tag.as_deref(), *end) || since.elapsed() >= *wait {
                        return (Answer::Status(Box::new(status)), Vec::new(), None);
                    }
                    thread::sleep(EVERY.min(wait.saturating_sub(since.elapsed())));
                }
            }
        }
    }

    /// Says that nobody wants the job any more, up to this attempt.
    pub fn withdraw(&self, attempt: u32) {
        // Who has not heard it works for nobody, and no more.
        let _ = self.heard("DELETE", &format!("/{attempt}"));
    }

    #[expect(
        clippy::type_complexity,
        reason = "how it stands; and its response, with its body or the file that holds it"
    )]
    fn heard(
        &self,
        method: &str,
        target: &str,
    ) -> io::Result<Option<(Status, Option<(Response, Vec<u8>, Option<OwnedFd>)>)>> {
        let stream = UnixStream::from(packets::stream_to(&self.relays)?);
        stream.set_read_timeout(Some(PATIENCE))?;
        self.attempt(method, target).say(&stream)?;
        let mut reader = BufReader::new(&stream);
        let heard = Heard::read(&mut reader)?;
        if heard.code == 404 {
            return Ok(None);
        }
        let Some(text) = heard.field(STATUS) else {
            return Err(io::Error::other("the results cannot be reached"));
        };
        let mut status: Status = serde_json::from_str(text)?;
        status.id.clone_from(&self.id);
        if target != "/response" || status.status.is_none() {
            return Ok(Some((status, None)));
        }
        let Framing::Length(left) = heard.framing("GET") else { return Ok(Some((status, None))) };
        let mut from = Exactly { left, reader: &mut reader };
        let (mut body, mut file) = (Vec::new(), None);
        if is_short(left) {
            from.read_to_end(&mut body)?;
        } else {
            let mut long = File::from(memfd_create("ferricorn-response", MemfdFlags::CLOEXEC)?);
            io::copy(&mut from, &mut long)?;
            file = Some(OwnedFd::from(long));
        }
        let fields =
            heard.fields.into_iter().filter(|(name, _)| !is_own(name) && !name.eq_ignore_ascii_case(STATUS));
        let response =
            Response { status: heard.status, fields: fields.collect(), body: left, promised: None };
        Ok(Some((status, Some((response, body, file)))))
    }

    /// The question as a relay gets it: that of attempt 0.
    fn attempt(&self, method: &str, target: &str) -> Attempt {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: jobs\r\n\r\n").into_bytes();
        let request = Request {
            id: self.id.clone(),
            method: method.to_owned(),
            path: target.to_owned(),
            head: head.len(),
            ..Request::default()
        };
        let work = Work { request, head, body: Body::Inline(Vec::new()), attempt: 0, lane: String::new() };
        let (token, nowhere) = (self.token.clone(), PathBuf::new());
        Attempt { work, token, patience: PATIENCE, relayed: true, from: nowhere.clone(), part: nowhere }
    }
}
