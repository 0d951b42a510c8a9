//! The thread of one receiver: sends letters in order, tries again within bounds, and lets a newer letter about the same incident take
//! the place of one that does not get through. Alertmanager is sent what is open again and again, as it wants to be.
//!
//! Not for: what a letter says.

use super::form::{Labels, alert, labels, message, slack};
use super::{Letter, News};
use crate::export::figures::Fate;
use crate::export::mailbox::{Mailbox, Taken};
use crate::export::shared::Shared;
use ferricorn_core::incident::{Incident, State};
use ferricorn_core::log::Level;
use ferricorn_post::{Outcome, Poster, backoff};
use ferricorn_settings::{Destination, Form};
use ferricorn_sys::clock;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one attempt may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Attempts until a letter is given up: about two minutes.
const ATTEMPTS_MAX: u32 = 8;
/// How often Alertmanager is told that an alert goes on.
const RESEND: Duration = Duration::from_secs(60);
/// How long an alert stays without being sent again, seconds: five times.
const STAYS_S: f64 = 300.0;
/// Most alerts that are kept open.
const OPEN_MAX: usize = 256;
/// A thread that waits for nothing looks up so often.
const IDLE: Duration = Duration::from_secs(3600);
const JSON: &str = "application/json";

/// Who is told, by whom.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) destination: Destination,
    /// The name of this host.
    pub(crate) host: String,
}

/// Sends letters until no more come.
pub(crate) fn run(receiver: &Receiver, mailbox: &Mailbox<Letter>, shared: &Shared) {
    let poster = Poster::new(WITHIN);
    let mut sender = Sender { receiver, mailbox, shared, poster, open: BTreeMap::new() };
    let mut resend = Instant::now() + RESEND;
    loop {
        let wait =
            if sender.open.is_empty() { IDLE } else { resend.saturating_duration_since(Instant::now()) };
        match mailbox.take(wait) {
            Taken::Letter(letter) => sender.letter(&letter),
            Taken::Nothing => {}
            Taken::Stopped => return,
        }
        if Instant::now() >= resend {
            sender.again();
            resend = Instant::now() + RESEND;
        }
    }
}

struct Sender<'a> {
    receiver: &'a Receiver,
    mailbox: &'a Mailbox<Letter>,
    shared: &'a Shared,
    poster: Poster,
    /// What Alertmanager is to be told again, by incident.
    open: BTreeMap<String, (Labels, Arc<Incident>)>,
}

impl Sender<'_> {
    fn letter(&mut self, letter: &Letter) {
        let Letter { news, incident } = letter;
        match self.receiver.destination.form {
            Form::Alertmanager => self.alert(letter),
            _ if *news == News::Nothing => {}
            Form::Webhook => {
                let body = serde_json::to_vec(&**incident).unwrap_or_default();
                let headers = [
                    ("Ferricorn-Event".to_owned(), news.name().to_owned()),
                    ("Ferricorn-Incident".to_owned(), incident.id.clone()),
                ];
                self.deliver(letter, &self.receiver.destination.url, &headers, &body);
            }
            Form::Slack => {
                let body = slack(&message(*news, incident, &self.receiver.host)).to_string();
                self.deliver(letter, &self.receiver.destination.url, &[], body.as_bytes());
            }
        }
    }

    /// Tells Alertmanager. An alert is its labels: where these have changed, the one before ends.
    fn alert(&mut self, letter: &Letter) {
        let Letter { news, incident } = letter;
        let now_s = clock::wall_time_s();
        let now = labels(incident, &self.receiver.host);
        let is_over = incident.state == State::Closed;
        let ends_at_s = if is_over { incident.closed_at.unwrap_or(now_s) } else { now_s + STAYS_S };
        let mut alerts = vec![alert(incident, &now, ends_at_s)];
        let before = self.open.remove(&incident.id);
        let changed = before.as_ref().is_some_and(|(labels, _)| *labels != now);
        if let Some((labels, incident)) = before.filter(|_| changed) {
            alerts.push(alert(&incident, &labels, now_s));
        }
        if !is_over {
            while self.open.len() >= OPEN_MAX {
                self.open.pop_first();
            }
            self.open.insert(incident.id.clone(), (now, incident.clone()));
        }
        if *news != News::Nothing || changed {
            let body = Value::from(alerts).to_string();
            self.deliver(letter, &alerts_url(&self.receiver.destination.url), &[], body.as_bytes());
        }
    }

    /// Sends what is open again. If that does not succeed, the next time will do.
    fn again(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let ends_at_s = clock::wall_time_s() + STAYS_S;
        let alerts = self.open.values().map(|(labels, incident)| alert(incident, labels, ends_at_s));
        let body = Value::from_iter(alerts).to_string();
        let url = alerts_url(&self.receiver.destination.url);
        let fate = match self.poster.post(&url, &[], JSON, body.as_bytes()) {
            Outcome::Accepted(_) => Fate::Sent,
            _ => Fate::Failed,
        };
        self.shared.count(self.name(), fate);
    }

    fn deliver(&self, letter: &Letter, url: &str, headers: &[(String, String)], body: &[u8]) {
        let newer =
            |waiting: &Letter| waiting.incident.id == letter.incident.id && waiting.news != News::Nothing;
        for attempt in 1.. {
            match self.poster.post(url, headers, JSON, body) {
                Outcome::Accepted(_) => return self.shared.count(self.name(), Fate::Sent),
                Outcome::Refused { why, .. } => return self.give_up(letter, &why),
                Outcome::Later { why, .. } if attempt >= ATTEMPTS_MAX => return self.give_up(letter, &why),
                Outcome::Later { after, .. } => {
                    self.shared.count(self.name(), Fate::Failed);
                    if !self.mailbox.pause(after.unwrap_or(backoff(attempt)), newer) {
                        return self.shared.count(self.name(), Fate::Dropped);
                    }
                }
            }
        }
    }

    fn give_up(&self, letter: &Letter, why: &str) {
        self.shared.count(self.name(), Fate::Dropped);
        let (id, news) = (&letter.incident.id, letter.news.name());
        let line = format!(
            "{} could not be told that incident {id} is {news}: {why}. See `ferricornctl why {id}`; check `notify`",
            self.receiver.destination
        );
        self.shared.say(Level::Warning, line);
    }

    fn name(&self) -> &'static str {
        self.receiver.destination.form.name()
    }
}

/// Alertmanager is named by its address, or by that of its alerts.
fn alerts_url(url: &str) -> String {
    let base = url.trim_end_matches('/');
    if base.ends_with("/api/v2/alerts") { base.to_owned() } else { format!("{base}/api/v2/alerts") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fake::{Reply, Server};
    use ferricorn_core::diagnosis::Cause;

    fn receiver(form: Form, server: &Server, path: &str) -> Receiver {
        let destination = Destination { form, url: format!("{}{path}", server.url()) };
        Receiver { destination, host: "h".to_owned() }
    }

    fn incident(state: State, cause: Cause) -> Incident {
        let opened_at = Some(1_000.0);
        let closed_at = (state == State::Closed).then_some(2_000.0);
        Incident {
            id: "1".to_owned(),
            route: "/a".to_owned(),
            state,
            cause,
            opened_at,
            closed_at,
            ..Incident::default()
        }
    }

    fn letter(news: News, state: State, cause: Cause) -> Letter {
        Letter { news, incident: Arc::new(incident(state, cause)) }
    }

    /// Runs a receiver with letters until all are sent.
    fn deliver(receiver: &Receiver, letters: Vec<Letter>) -> Arc<Shared> {
        let shared = Shared::new().expect("a place");
        let mailbox = Mailbox::new(super::super::LETTERS_MAX);
        letters.into_iter().for_each(|letter| drop(mailbox.put(letter, |_| false)));
        mailbox.stop();
        run(receiver, &mailbox, &shared);
        shared
    }

    #[test]
    fn a_webhook_gets_the_incident_as_it_is() {
        let server = Server::start(Vec::new());
        let sent = letter(News::Opened, State::Open, Cause::DbLock);
        let unchanged = letter(News::Nothing, State::Open, Cause::DbLock);
        let shared = deliver(&receiver(Form::Webhook, &server, "/hook"), vec![sent.clone(), unchanged]);
        let request = server.next();
        assert_eq!((request.path.as_str(), request.field("ferricorn-event")), ("/hook", Some("opened")));
        let read: Incident = serde_json::from_slice(&request.body).expect("an incident");
        assert_eq!(read, *sent.incident);
        assert!(server.is_quiet());
        assert_eq!(shared.figures().sent[&("webhook", "sent")], 1);
    }

    #[test]
    fn slack_gets_text() {
        let server = Server::start(Vec::new());
        deliver(
            &receiver(Form::Slack, &server, "/services/x"),
            vec![letter(News::Closed, State::Closed, Cause::DbLock)],
        );
        let text = server.next().json()["text"].as_str().expect("text").to_owned();
        assert!(text.starts_with("[closed] server@h:") && text.lines().count() == 3, "{text}");
    }

    #[test]
    fn an_alert_whose_labels_change_ends_and_another_begins() {
        let server = Server::start(Vec::new());
        let letters = vec![
            letter(News::Opened, State::Open, Cause::Unknown),
            letter(News::Changed, State::Open, Cause::DbLock),
            letter(News::Mitigated, State::Mitigated, Cause::DbLock),
            letter(News::Closed, State::Closed, Cause::DbLock),
        ];
        deliver(&receiver(Form::Alertmanager, &server, "/"), letters);
        let requests: Vec<_> = (0..4).map(|_| server.next()).collect();
        assert!(requests.iter().all(|request| request.path == "/api/v2/alerts"));
        let bodies: Vec<Value> = requests.iter().map(|request| request.json()).collect();
        let told = |body: &Value| -> Vec<(String, bool)> {
            let now = ferricorn_core::stamp::rfc3339(clock::wall_time_s() + 10.0);
            let alerts = body.as_array().expect("a list").iter();
            alerts
                .map(|alert| {
                    let cause = alert["labels"]["cause"].as_str().expect("a cause").to_owned();
                    (cause, alert["endsAt"].as_str().expect("a time") > now.as_str())
                })
                .collect()
        };
        let alert = |cause: &str, goes_on| (cause.to_owned(), goes_on);
        assert_eq!(told(&bodies[0]), [alert("unknown", true)]);
        assert_eq!(told(&bodies[1]), [alert("db.lock", true), alert("unknown", false)]);
        assert_eq!(told(&bodies[2]), [alert("db.lock", true)]);
        assert_eq!(told(&bodies[3]), [alert("db.lock", false)]);
        assert_eq!(bodies[3][0]["endsAt"], "1970-01-01T00:33:20.000Z");
    }

    #[test]
    fn what_goes_on_is_sent_again() {
        let server = Server::start(Vec::new());
        let receiver = receiver(Form::Alertmanager, &server, "/api/v2/alerts/");
        let shared = Shared::new().expect("a place");
        let mailbox = Mailbox::new(4);
        let poster = Poster::new(WITHIN);
        let mut sender =
            Sender { receiver: &receiver, mailbox: &mailbox, shared: &shared, poster, open: BTreeMap::new() };
        sender.again();
        // Known from before: no news, but to be kept open.
        sender.letter(&letter(News::Nothing, State::Open, Cause::DbLock));
        sender.again();
        let request = server.next();
        assert_eq!(request.path, "/api/v2/alerts");
        assert_eq!(request.json().as_array().map(Vec::len), Some(1));
        sender.letter(&letter(News::Closed, State::Closed, Cause::DbLock));
        server.next();
        sender.again();
        assert!(server.is_quiet());
    }

    #[test]
    fn a_letter_is_tried_again_and_given_up() {
        let server = Server::start(vec![Reply::status(500).header("Retry-After", "0"); 20]);
        let receiver = receiver(Form::Webhook, &server, "/s3cret");
        let shared = Shared::new().expect("a place");
        let mailbox = Mailbox::new(4);
        let poster = Poster::new(WITHIN);
        let sender =
            Sender { receiver: &receiver, mailbox: &mailbox, shared: &shared, poster, open: BTreeMap::new() };
        let opened = letter(News::Opened, State::Open, Cause::DbLock);
        sender.deliver(&opened, &receiver.destination.url, &[], b"{}");
        (0..ATTEMPTS_MAX).for_each(|_| drop(server.next()));
        assert!(server.is_quiet());
        let (level, line) = shared.lines().remove(0);
        assert_eq!(level, Level::Warning);
        assert!(line.contains("incident 1 is opened: it answered 500") && !line.contains("s3cret"), "{line}");
        let sent = shared.figures().sent;
        assert_eq!((sent[&("webhook", "failed")], sent[&("webhook", "dropped")]), (7, 1));
        // Newer news of the same incident ends the waiting for the older.
        mailbox.put(letter(News::Closed, State::Closed, Cause::DbLock), |_| false);
        let later = Server::start(vec![Reply::status(503)]);
        sender.deliver(&opened, &later.url(), &[], b"{}");
        assert_eq!(shared.figures().sent[&("webhook", "dropped")], 2);
    }

    #[test]
    fn a_refusal_is_final() {
        let server = Server::start(vec![Reply::status(404).body("no_service")]);
        let letters = vec![letter(News::Opened, State::Open, Cause::DbLock)];
        let shared = deliver(&receiver(Form::Slack, &server, "/x"), letters);
        server.next();
        assert!(server.is_quiet());
        assert!(shared.lines()[0].1.contains("it answered 404 (no_service)"));
    }
}
