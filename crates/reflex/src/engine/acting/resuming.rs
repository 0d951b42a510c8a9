//! What was begun when an observer ends in the middle of it. A succession is gone on with, by whoever observes next: the old master, the
//! new one, or both. Of everything else nobody knows the end, and that is written down. Not for: how a succession goes on
//! ([`crate::act`]).

use super::{Begun, KEY, Kept};
use crate::act::{Done, UnderWay};
use crate::engine::Engine;
use ferricorn_core::incident::Outcome;
use ferricorn_core::policy::{Kind, Mode};
use ferricorn_core::record::Server;

impl Engine<'_> {
    /// Takes up what the last observer has left.
    pub(in crate::engine) fn resume_acting(&mut self, now_s: f64) {
        if let Some(kept) = self.outlet.remembered(KEY, now_s) {
            self.acting.kept = serde_json::from_value(kept).unwrap_or_default();
        }
        self.inherit(now_s);
        for number in self.acting.kept.open() {
            let Some(begun) = self.acting.kept.begun.get(&number).cloned() else { continue };
            match (&begun.succession, begun.proposal.step.kind) {
                // Two observe the same, and it is the other's.
                (Some(known), _) if known.is_in_hand() => {}
                (Some(known), _) => self.take_up(number, known.clone(), now_s),
                (None, kind) => {
                    let what = match kind {
                        Kind::RestartMaster => "before it: nothing was done",
                        _ => "in the middle of it: whether it was done is not known",
                    };
                    self.ended(number, &Done::Failed(format!("the observer has ended {what}")), now_s);
                }
            }
        }
    }

    /// Takes over what the observer of the old master has left of the succession by which this one has come.
    fn inherit(&mut self, now_s: f64) {
        let others: Vec<(Server, Kept)> = self.outlet.remembered_by_others(KEY, now_s);
        for (other, mut theirs) in others {
            let leads_here = |known: &UnderWay| known.leads_to(&self.server) && !known.is_in_hand();
            let is_ours = |begun: &Begun| !begun.ended && begun.succession.as_ref().is_some_and(leads_here);
            let found = theirs.begun.iter().find(|(_, begun)| is_ours(begun)).map(|(number, _)| *number);
            let Some(number) = found else { continue };
            let Some(begun) = theirs.begun.remove(&number) else { continue };
            // Whoever is ended between the two finds it here.
            if !self.acting.kept.begun.contains_key(&number) {
                self.acting.kept = std::mem::take(&mut self.acting.kept).with(number, begun);
                self.outlet.remember(KEY, &self.acting.kept, now_s);
            }
            self.outlet.remember_for(&other, KEY, &theirs, now_s);
            self.desk.resume(self.outlet.unfinished_of(&other, now_s));
        }
    }

    fn take_up(&mut self, number: u64, known: UnderWay, now_s: f64) {
        let ended = "the observer has ended in the middle of it";
        if self.acting.policy.mode() != Mode::Act || self.acting.switch.is_off() {
            let left = "nothing may be done by itself now: if both serve, one has to be ended";
            self.ended(number, &Done::Failed(format!("{ended}: {}; {left}", known.told())), now_s);
            return;
        }
        self.acting.hands.resume(number, known, now_s);
        self.write_down(number, &format!("{ended}, and another goes on with it: "), now_s);
    }

    /// Writes down what must be known of a succession to go on with it, and before it what has led to it; before that nothing is changed.
    pub(super) fn write_down(&mut self, number: u64, before: &str, now_s: f64) {
        let Some(known) = self.acting.hands.under_way(number) else { return };
        let Some(begun) = self.acting.kept.begun.get_mut(&number) else { return };
        if begun.succession.as_ref() == Some(known) {
            return;
        }
        begun.succession = Some(known.clone());
        let (begun, text) = (begun.clone(), format!("{before}{}", known.told()));
        let is_written = self.tell_end(number, &begun, Outcome::Begun, &text, now_s);
        if let Some(done) = self.acting.hands.written_down(number, is_written) {
            self.ended(number, &done, now_s);
        }
    }
}
