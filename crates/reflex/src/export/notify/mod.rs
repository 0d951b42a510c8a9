//! Tells people and programs of incidents: one message per incident and receiver, brought up to date when it opens, when its cause
//! changes, when it stops, and when it is over. Each receiver has a thread and a mailbox of its own: none waits for another.
//!
//! Not for: deciding what an incident is, and not for acknowledging, silencing or escalating, which receivers do.

mod form;
mod sender;

use super::figures::Fate;
use super::locked;
use super::mailbox::Mailbox;
use super::shared::Shared;
use ferricorn_core::diagnosis::Cause;
use ferricorn_core::incident::{Incident, State};
use ferricorn_settings::Form;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(crate) use sender::{Receiver, run};

/// Most letters that wait for one receiver: there is one per incident.
const LETTERS_MAX: usize = 64;
/// Most incidents that are remembered as told; the oldest are forgotten.
const TOLD_MAX: usize = 512;

/// What has happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It is more than a note now, or has come back.
    Opened,
    /// Its cause is another.
    Changed,
    /// It has stopped for now.
    Mitigated,
    /// It is over.
    Closed,
    /// Nothing that anybody is told: its numbers.
    Nothing,
}

impl News {
    /// Returns its name, which is public.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Changed => "changed",
            Self::Mitigated => "mitigated",
            Self::Closed => "closed",
            Self::Nothing => "unchanged",
        }
    }
}

/// An incident on its way to a receiver.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) news: News,
    pub(crate) incident: Arc<Incident>,
}

/// Finds out what is news, and hands it to the receivers.
#[derive(Debug)]
pub(crate) struct Notifier {
    shared: Arc<Shared>,
    told: Mutex<Told>,
    mailboxes: Vec<(Form, Arc<Mailbox<Letter>>)>,
}

impl Notifier {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, told: Mutex::default(), mailboxes: Vec::new() }
    }

    /// Returns a mailbox for another receiver.
    pub(crate) fn mailbox(&mut self, form: Form) -> Arc<Mailbox<Letter>> {
        let mailbox = Arc::new(Mailbox::new(LETTERS_MAX));
        self.mailboxes.push((form, mailbox.clone()));
        mailbox
    }

    /// Tells everybody what is new about an incident.
    pub(crate) fn incident_changed(&self, incident: &Incident) {
        let news = locked(&self.told).news(incident);
        if news.is_none() && !incident.is_open() {
            return;
        }
        self.send(news.unwrap_or(News::Nothing), incident);
    }

    /// Takes an incident that has been told before this process began, as known.
    pub(crate) fn knows(&self, incident: &Incident) {
        if incident.is_open() {
            let _ = locked(&self.told).news(incident);
            self.send(News::Nothing, incident);
        }
    }

    fn send(&self, news: News, incident: &Incident) {
        // Only who is told again and again cares for numbers.
        let cares = |form: Form| news != News::Nothing || form == Form::Alertmanager;
        let mailboxes: Vec<_> = self.mailboxes.iter().filter(|(form, _)| cares(*form)).collect();
        if mailboxes.is_empty() {
            return;
        }
        let letter = Letter { news, incident: Arc::new(incident.clone()) };
        for (form, mailbox) in mailboxes {
            let old = |waiting: &Letter| waiting.news == News::Nothing && waiting.incident.id == incident.id;
            if mailbox.put(letter.clone(), old).is_some() {
                self.shared.count(form.name(), Fate::Dropped);
            }
        }
    }

    /// Says that nothing more will come.
    pub(crate) fn stop(&self) {
        self.mailboxes.iter().for_each(|(_, mailbox)| mailbox.stop());
    }
}

/// What has been told of which incident.
#[derive(Debug, Default)]
struct Told {
    incidents: BTreeMap<String, (State, Cause)>,
}

impl Told {
    /// Returns what is new about an incident, and counts it as told.
    fn news(&mut self, incident: &Incident) -> Option<News> {
        let now = (incident.state, incident.cause);
        let before = self.incidents.get(&incident.id).copied();
        let news = match (incident.state, before) {
            (State::Note, _) => return None,
            (State::Closed, None) => return None,
            (State::Closed, Some(_)) => {
                self.incidents.remove(&incident.id);
                return Some(News::Closed);
            }
            (_, Some(before)) if before == now => return None,
            (State::Open, None | Some((State::Mitigated, _))) => News::Opened,
            (State::Mitigated, None | Some((State::Open, _))) => News::Mitigated,
            _ => News::Changed,
        };
        while self.incidents.len() >= TOLD_MAX && !self.incidents.contains_key(&incident.id) {
            self.incidents.pop_first();
        }
        self.incidents.insert(incident.id.clone(), now);
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mailbox::Taken;
    use super::*;
    use std::time::Duration;

    fn incident(id: &str, state: State, cause: Cause) -> Incident {
        Incident { id: id.to_owned(), state, cause, ..Incident::default() }
    }

    #[test]
    fn each_news_is_told_once() {
        use Cause::{DbLock, Unknown};
        use State::{Closed, Mitigated, Note, Open};
        let mut told = Told::default();
        let table = [
            ((Note, Unknown), None),
            ((Open, Unknown), Some(News::Opened)),
            ((Open, Unknown), None),
            ((Open, DbLock), Some(News::Changed)),
            ((Mitigated, DbLock), Some(News::Mitigated)),
            ((Mitigated, DbLock), None),
            ((Mitigated, Unknown), Some(News::Changed)),
            ((Open, DbLock), Some(News::Opened)),
            ((Closed, DbLock), Some(News::Closed)),
            ((Closed, DbLock), None),
        ];
        for (step, ((state, cause), expected)) in table.into_iter().enumerate() {
            assert_eq!(told.news(&incident("a", state, cause)), expected, "step {step}");
        }
        assert!(told.incidents.is_empty());
    }

    #[test]
    fn what_was_told_is_remembered_within_bounds() {
        let mut told = Told::default();
        for number in 0..TOLD_MAX + 10 {
            told.news(&incident(&format!("{number:06}"), State::Open, Cause::Unknown));
        }
        assert_eq!(told.incidents.len(), TOLD_MAX);
        let newest = incident(&format!("{:06}", TOLD_MAX + 9), State::Open, Cause::Unknown);
        assert_eq!(told.news(&newest), None);
    }

    fn all(mailbox: &Mailbox<Letter>) -> Vec<(String, News)> {
        let mut all = Vec::new();
        while let Taken::Letter(letter) = mailbox.take(Duration::ZERO) {
            all.push((letter.incident.id.clone(), letter.news));
        }
        all
    }

    #[test]
    fn who_is_known_is_no_news() {
        let mut notifier = Notifier::new(Shared::new().expect("a place"));
        let (alerts, hook) = (notifier.mailbox(Form::Alertmanager), notifier.mailbox(Form::Webhook));
        let open = incident("a", State::Open, Cause::DbLock);
        notifier.knows(&open);
        notifier.knows(&incident("b", State::Closed, Cause::DbLock));
        assert_eq!(all(&alerts), [("a".to_owned(), News::Nothing)]);
        // Its numbers are different each time; the newest are enough.
        notifier.incident_changed(&open);
        notifier.incident_changed(&open);
        notifier.incident_changed(&incident("a", State::Closed, Cause::DbLock));
        assert_eq!(all(&alerts), [("a".to_owned(), News::Closed)]);
        assert_eq!(all(&hook), [("a".to_owned(), News::Closed)]);
    }

    #[test]
    fn letters_wait_within_bounds() {
        let shared = Shared::new().expect("a place");
        let mut notifier = Notifier::new(shared.clone());
        let mailbox = notifier.mailbox(Form::Slack);
        for number in 0..LETTERS_MAX + 3 {
            notifier.incident_changed(&incident(&number.to_string(), State::Open, Cause::Unknown));
        }
        assert_eq!(all(&mailbox).len(), LETTERS_MAX);
        assert_eq!(shared.figures().sent[&("slack", "dropped")], 3);
    }
}
