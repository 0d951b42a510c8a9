//! What all hosts of a service may do together, though any of them may be cut off from the others at any moment: never more than the
//! budget, on whatever side of a cut.
//!
//! One value in the bus, [`Shared`], is changed by compare-and-swap. Who reaches it claims each action there. A quarter of the budget
//! is dealt out beforehand as shares: what a host that reaches nobody may still do ([`Purse`]). Claims may use what is not dealt out.
//! What was done out of a share is told afterwards, as claims. `simulation` tries it with cuts, lost answers and clocks that differ.
//!
//! Not for: the budgets of one host by itself ([`crate::policy`]).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Clocks of hosts may differ by so much, seconds.
const SKEW_S: f64 = 60.0;
/// A share is nobody's any more after so long without a word, seconds; who has it stops to use it a little sooner.
const SHARE_S: f64 = 6.0 * 3600.0;
const SURELY: f64 = 0.9;
/// One in so many actions of a budget, its own or that of all, may be done by a host that is cut off.
pub const CUT_OFF: u32 = 4;

/// What limits the hosts of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Actions that touch more than one request, of all hosts together.
    pub count: u32,
    /// In so long, seconds.
    pub window_s: f64,
    /// Share of the hosts on which something may be done at once; one may always.
    pub hosts: f64,
    /// For how long after an action its host counts among these, seconds.
    pub at_once_s: f64,
}

impl Limits {
    /// Returns what one of so many hosts may do in the budget's time while it is cut off; one of them may always do something, if
    /// anything can be spared at all.
    pub fn fair(&self, hosts: usize) -> u32 {
        let pot = self.pot();
        (pot / hosts.max(1) as u32).max(u32::from(pot > 0))
    }

    fn pot(&self) -> u32 {
        self.count / CUT_OFF
    }
}

/// An action that a host has done or is about to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// The host.
    pub host: String,
    /// The server there: one that was started again has new books.
    pub server: String,
    /// Tells it from the server's others.
    pub number: u64,
    /// What, and about which incident.
    pub what: String,
    /// When, seconds since 1970, by that host's clock.
    pub at: f64,
}

/// What a host may do that is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Share {
    /// So many actions within the budget's time.
    pub count: u32,
    /// When the server was heard of last, seconds since 1970.
    pub at: f64,
}

/// The value in the bus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shared {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// The oldest first.
    pub claims: Vec<Claim>,
    /// By server.
    pub shares: BTreeMap<String, Share>,
}

impl Shared {
    /// Adds a claim, unless the budget is used up, or something was just done on as many hosts as may be touched at once.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn claim(&mut self, claim: Claim, hosts: usize, limits: &Limits, now: f64) -> Result<(), String> {
        self.expire(limits, now);
        if self.knows(&claim) {
            return Ok(());
        }
        let dealt = self.dealt();
        if self.claims.len() as u32 + dealt >= limits.count {
            let (count, window_s) = (limits.count, limits.window_s);
            let kept = if dealt > 0 {
                format!(", {dealt} of them kept for hosts that are cut off")
            } else {
                String::new()
            };
            return Err(format!(
                "all hosts of this service may do {count} such actions in {window_s:.0} s{kept}"
            ));
        }
        let recent = self.claims.iter().filter(|known| now - known.at < limits.at_once_s);
        let touched: BTreeSet<&str> =
            recent.map(|known| known.host.as_str()).filter(|host| *host != claim.host).collect();
        let most = (hosts as f64 * limits.hosts).floor().max(1.0) as usize;
        if touched.len() >= most {
            let names: Vec<&str> = touched.into_iter().collect();
            let names = names.join(", ");
            return Err(format!(
                "something was just done on {names}: no more than {most} of {hosts} hosts at once"
            ));
        }
        self.claims.push(claim);
        Ok(())
    }

    /// A server that is here tells what it has done while it was cut off, and takes its part of what may be done then; `hosts` are
    /// there. Returns that part.
    pub fn renew(&mut self, server: &str, told: &[Claim], hosts: usize, limits: &Limits, now: f64) -> u32 {
        self.expire(limits, now);
        for claim in told {
            if !self.knows(claim) {
                self.claims.push(claim.clone());
            }
        }
        let own = self.shares.remove(server).map_or(0, |share| share.count);
        let fair = limits.fair(hosts);
        let dealt = self.dealt();
        // What is claimed already cannot be dealt out any more.
        let free = limits.count.saturating_sub(dealt + self.claims.len() as u32);
        let more = fair.min(limits.pot().saturating_sub(dealt)).min(free);
        // The host counts on that much as soon as it has asked.
        let count = more.max(own.min(fair));
        self.shares.insert(server.to_owned(), Share { count, at: now });
        count
    }

    /// A server goes for good: its part is for others, once what it has done is told.
    pub fn leave(&mut self, server: &str, told: &[Claim], limits: &Limits, now: f64) {
        self.renew(server, told, 1, limits, now);
        self.shares.remove(server);
    }

    fn knows(&self, claim: &Claim) -> bool {
        self.claims.iter().any(|known| known.server == claim.server && known.number == claim.number)
    }

    fn dealt(&self) -> u32 {
        self.shares.values().map(|share| share.count).sum()
    }

    fn expire(&mut self, limits: &Limits, now: f64) {
        self.schema = super::SCHEMA;
        self.claims.retain(|claim| now - claim.at < limits.window_s + SKEW_S);
        self.shares.retain(|_, share| now - share.at < SHARE_S + limits.window_s + SKEW_S);
    }
}

/// A server's own books: its part, and what it has done out of it. Survives the observer, and is written down with each action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Purse {
    share: Share,
    /// What was done out of it.
    spent: VecDeque<Claim>,
    /// The number of the last of these that the others were told of.
    told: u64,
    /// The last number that was given to a claim.
    last: u64,
}

impl Purse {
    /// Returns a claim with a number of its own. The time is part of it: who has lost their books must not give one twice.
    pub fn number(&mut self, claim: Claim) -> Claim {
        self.last = (self.last + 1).max((claim.at * 1e6) as u64);
        Claim { number: self.last, ..claim }
    }

    /// Returns how many actions the share has, done or not.
    pub fn part(&self) -> u32 {
        self.share.count
    }

    /// Takes an action out of the share, unless it is empty.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn spend(&mut self, claim: Claim, limits: &Limits, now: f64) -> Result<(), String> {
        self.spent.retain(|spent| now - spent.at < limits.window_s + SKEW_S);
        if now - self.share.at > SHARE_S * SURELY || now < self.share.at - SKEW_S {
            return Err("the other hosts of this service were not heard of for too long".to_owned());
        }
        let (count, spent) = (self.share.count, self.spent.len() as u32);
        if spent >= count {
            return Err(format!(
                "the other hosts of this service cannot be reached, and without them this one may do {count} such actions in {:.0} s",
                limits.window_s
            ));
        }
        self.spent.push_back(claim);
        Ok(())
    }

    /// Returns what the others have to be told.
    pub fn untold(&self) -> Vec<Claim> {
        self.spent.iter().filter(|spent| spent.number > self.told).cloned().collect()
    }

    /// The part is about to be asked for anew. Whether the answer ever comes is not known: until then it is what it will be in any
    /// case. Returns whether it has become smaller.
    pub fn ask(&mut self, fair: u32) -> bool {
        let before = self.share.count;
        self.share.count = before.min(fair);
        self.share.count < before
    }

    /// The others were told of everything up to a number, and this is the part.
    pub fn renewed(&mut self, count: u32, told: u64, now: f64) {
        self.told = self.told.max(told);
        self.share = Share { count, at: now };
    }
}
