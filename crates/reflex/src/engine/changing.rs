//! What has changed about the service, and what that is worth to others: takes what was read of workers and disk, keeps changes, says
//! them. Not for: reading ([`crate::changes`]), and not for what a change explains.

use super::Engine;
use crate::changes::{self, Chronicle, Keep, Scene};
use ferricorn_core::change::{Change, Standing};
use ferricorn_core::log::Level;
use tokio::sync::oneshot;

/// Changes that are taken up from the store: as many as an engine remembers.
const TAKEN_UP: usize = 256;
/// How far back these go, seconds: as long as they are kept.
const BACK_S: f64 = 30.0 * 86_400.0;

/// A service that is followed.
#[derive(Debug, Default)]
pub(super) struct Changing {
    pub(super) service: String,
    pub(super) chronicle: Chronicle,
}

impl Engine<'_> {
    /// Follows what the service is made of.
    pub(crate) fn following(mut self, scene: Scene, now_s: f64) -> Self {
        let service = changes::service(&self.server, &scene);
        let kept = self.outlet.service(&service, now_s);
        let recent = self.outlet.deploys(&service, now_s - BACK_S, TAKEN_UP, now_s);
        match Chronicle::open(self.server.clone(), scene, kept, recent, now_s) {
            Ok(chronicle) => self.changing = Some(Changing { service, chronicle }),
            Err(error) => self.outlet.say(Level::Error, &format!("Changes are not followed: {error}")),
        }
        self.show_changes();
        self
    }

    /// Takes what has been read of workers and disk, and what somebody has marked.
    pub(super) fn hear_changes(&mut self, now_s: f64) {
        let marks = self.outlet.marks();
        let Some(changing) = &mut self.changing else { return };
        let noticed = changing.chronicle.take().into_iter().map(|keep| (keep, None));
        let mut keep: Vec<(Keep, Option<oneshot::Sender<bool>>)> = noticed.collect();
        for (mark, done) in marks {
            if let Ok(change) = mark.change(&self.server.name, now_s) {
                keep.push((changing.chronicle.mark(change), Some(done)));
            }
        }
        let (standing, before) = changing.chronicle.standing();
        let service = changing.service.clone();
        let is_news = !keep.is_empty() || before.is_some();
        for (keep, done) in keep {
            let kept = self.keep_change(&service, keep, now_s);
            if let Some(done) = done {
                // Who has marked it may not wait any more.
                let _ = done.send(kept);
            }
        }
        if let Some(before) = before {
            self.say_standing(&before, &standing);
        }
        if is_news {
            self.show_changes();
        }
    }

    fn keep_change(&mut self, service: &str, keep: Keep, now_s: f64) -> bool {
        let (change, instead_of) = match keep {
            Keep::First => {
                self.keep_service(now_s);
                return true;
            }
            Keep::New(change) => (change, None),
            Keep::Instead(part, change) => (change, Some(part)),
        };
        if change.is_news() {
            self.outlet.say(Level::Info, &format!("Change: {}", change.name));
        }
        let kept = self.outlet.keep_deploy(service, &change, instead_of.as_deref(), now_s);
        self.keep_service(now_s);
        kept
    }

    /// Says a finding once, when it is new.
    fn say_standing(&self, before: &Standing, now: &Standing) {
        let news = |new: bool, old: bool, level: Level, text: Option<&str>| {
            if let Some(text) = text.filter(|_| new && !old) {
                let mut letters = text.chars();
                let first = letters.next().map(|letter| letter.to_ascii_uppercase());
                self.outlet.say(level, &first.into_iter().chain(letters).collect::<String>());
            }
        };
        let mixed = now.mixed.as_ref().map(|mixed| mixed.text.as_str());
        news(now.mixed.is_some(), before.mixed.is_some(), Level::Warning, mixed);
        let pending = now.pending.as_ref().map(|pending| pending.text.as_str());
        news(now.pending.is_some(), before.pending.is_some(), Level::Info, pending);
    }

    fn show_changes(&mut self) {
        let Some(changing) = &mut self.changing else { return };
        let changes: Vec<Change> = changing.chronicle.recent().iter().rev().cloned().collect();
        self.outlet.show_changes(changes, changing.chronicle.standing().0);
    }

    /// Keeps what the service is made of, if that has changed.
    pub(super) fn keep_service(&mut self, now_s: f64) {
        let Some(changing) = &mut self.changing else { return };
        let service = changing.service.clone();
        if let Some(kept) = changing.chronicle.unsaved()
            && self.outlet.keep_service(&service, kept, now_s)
        {
            changing.chronicle.saved();
        }
    }
}
