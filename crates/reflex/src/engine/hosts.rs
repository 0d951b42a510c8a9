//! Other hosts: tells them what goes wrong here, hears what goes wrong there, and asks them before anything is done that touches more
//! than one request. Where nobody can be reached, this host's own part of the budget of all must do.
//!
//! Not for: how they are reached ([`crate::bus`]), and not for the budget itself ([`ferricorn_core::hosts`]).

use super::outlet::Log;
use super::{Engine, Outlet};
use crate::bus::{Address, Bus, News, Order, Own};
use crate::database::Target;
use crate::store::{HOSTS as KEY, Neighbours};
use ferricorn_core::evidence::Service;
use ferricorn_core::hosts::{Beacon, Claim, Limits, Purse, STALE_S, elsewhere};
use ferricorn_core::incident::Incident;
use ferricorn_core::log::Level;
use ferricorn_core::policy::Kind;
use ferricorn_core::record::Server;
use ferricorn_settings::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::env;

/// How often the others are told that we are here, seconds; of news within a second.
const TELL_S: f64 = 10.0;
/// How often it is kept for viewers, seconds.
const SHOW_S: f64 = 5.0;
/// For how long an answer holds: what was decided is decided anew by then.
const GRANTED_S: f64 = 5.0;
const REFUSED_S: f64 = 10.0;
/// After so long without an answer the bus cannot be reached, seconds.
const ANSWER_S: f64 = 5.0;
/// What waits is sent in portions of so many.
const PORTION: usize = 32;

/// Whether something may be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// It may.
    Yes,
    /// The others were asked: decide anew in a moment.
    Wait,
    /// It may not, and why.
    No(String),
}

/// What became of a question.
#[derive(Debug)]
enum Asked {
    Open(u64),
    Granted,
    Refused(String),
    /// Nobody knows.
    Lost,
}

/// The others, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    own: Option<Own>,
    bus: Option<Bus>,
    /// Whether the bus can be reached now.
    here: bool,
    /// By key, with when it was written.
    others: BTreeMap<String, (f64, Beacon)>,
    /// By incident: how many other hosts have it at the same time.
    joint: BTreeMap<String, u32>,
    beacon: Beacon,
    told_s: f64,
    renewed_s: f64,
    shown_s: f64,
    /// By incident and kind of action, with when that was.
    asked: BTreeMap<(String, Kind), (f64, Asked)>,
    ticket: u64,
    /// A portion of what waits is under way, since then.
    sending_s: Option<f64>,
}

impl Hosts {
    /// Begins to hear of others, if the settings name a bus.
    pub(crate) fn open(settings: &Settings, server: &Server, outlet: &mut Outlet<'_>, log: Log<'_>) -> Self {
        let Some(said) = &settings.reflex_fleet else {
            if settings.reflex_history.is_some() {
                log(Level::Warning, "The history is not written: `reflex_history` needs `reflex_fleet`");
            }
            return Self::default();
        };
        let host = settings.reflex_host.clone().unwrap_or_else(crate::export::host);
        let service = settings.proc_name.clone();
        let own = Own { service, host, pid: server.pid, started_ns: server.started_ns };
        outlet.stream_as(own.clone());
        let opened = Address::parse(said, |name| env::var(name).ok())
            .map_err(|error| error.to_string())
            .and_then(|address| {
                let history = history(settings)?;
                Bus::start(address, own.clone(), history).map_err(|error| error.to_string())
            });
        let wrong = |error: &String| log(Level::Error, &format!("Other hosts are not heard of: {error}"));
        Self { own: Some(own), bus: opened.inspect_err(wrong).ok(), ..Self::default() }
    }

    /// Tells whether others are to be heard of.
    pub(super) fn is_among_others(&self) -> bool {
        self.own.is_some()
    }

    /// Tells whether they cannot be reached.
    pub(super) fn is_cut_off(&self) -> bool {
        self.own.is_some() && !self.here
    }

    /// Returns on how many hosts an incident is, this one included.
    pub(super) fn with(&self, incident: &str) -> u32 {
        1 + self.joint.get(incident).copied().unwrap_or(0)
    }

    /// Returns how many hosts this service has, this one included.
    fn of_service(&self, now_s: f64) -> usize {
        let Some(own) = &self.own else { return 1 };
        let of_service = self.fresh(now_s).filter(|beacon| beacon.service == own.service);
        let names: BTreeSet<&str> =
            of_service.map(|beacon| beacon.host.as_str()).chain([own.host.as_str()]).collect();
        names.len()
    }

    fn fresh(&self, now_s: f64) -> impl Iterator<Item = &Beacon> {
        self.others.values().filter(move |(at, _)| now_s - at < STALE_S).map(|(_, beacon)| beacon)
    }

    /// Tells whether something may be done about an incident; `purse` is what we may do by ourselves.
    pub(super) fn permit(
        &mut self,
        incident: &str,
        kind: Kind,
        purse: &mut Purse,
        limits: &Limits,
        now_s: f64,
    ) -> Permit {
        let Some(own) = self.own.clone().filter(|_| !kind.is_a_hosts_own()) else { return Permit::Yes };
        let key = (incident.to_owned(), kind);
        let claim = |purse: &mut Purse| {
            let (host, server) = (own.host.clone(), own.server());
            let what = format!("{kind} for incident {incident}");
            purse.number(Claim { host, server, number: 0, what, at: now_s })
        };
        match self.asked.get(&key) {
            Some((at_s, Asked::Open(_))) if now_s - at_s < ANSWER_S => return Permit::Wait,
            Some((at_s, Asked::Refused(why))) if now_s - at_s < REFUSED_S => return Permit::No(why.clone()),
            Some((at_s, Asked::Granted)) if now_s - at_s < GRANTED_S => {
                self.asked.remove(&key);
                return Permit::Yes;
            }
            Some((_, Asked::Granted | Asked::Refused(_))) | None if self.here => {
                self.ticket += 1;
                let (ticket, hosts) = (self.ticket, self.of_service(now_s));
                let order = Order::Claim { ticket, claim: claim(purse), hosts, limits: *limits };
                if self.bus.as_ref().is_some_and(|bus| bus.order(order)) {
                    self.asked.insert(key, (now_s, Asked::Open(ticket)));
                    return Permit::Wait;
                }
            }
            _ => {}
        }
        self.asked.remove(&key);
        let claim = claim(purse);
        match purse.spend(claim, limits, now_s) {
            Ok(()) => Permit::Yes,
            Err(why) => Permit::No(why),
        }
    }

    /// Takes in what has come; returns lines for the log, and what has arrived of what was sent.
    fn hear(&mut self, purse: &mut Purse, now_s: f64) -> (Vec<(Level, String)>, Vec<i64>) {
        let (mut lines, mut arrived) = (Vec::new(), Vec::new());
        for news in self.bus.as_ref().map(Bus::news).unwrap_or_default() {
            match news {
                News::Here if self.here => {}
                News::Here => {
                    // What was said meanwhile, nobody has heard.
                    (self.here, self.told_s, self.renewed_s) = (true, 0.0, 0.0);
                }
                News::Away => {
                    self.here = false;
                    self.sending_s = None;
                }
                // A deleted one has no host.
                News::Told { key, beacon, .. } if beacon.host.is_empty() => drop(self.others.remove(&key)),
                News::Told { key, at, beacon } => drop(self.others.insert(key, (at.min(now_s), *beacon))),
                News::Claimed { ticket, answer } => {
                    let found = self
                        .asked
                        .values_mut()
                        .find(|(_, asked)| matches!(asked, Asked::Open(open) if *open == ticket));
                    if let Some(found) = found {
                        let asked = match answer {
                            Some(Ok(())) => Asked::Granted,
                            Some(Err(why)) => Asked::Refused(why),
                            None => Asked::Lost,
                        };
                        *found = (now_s, asked);
                    }
                }
                News::Renewed { count, told, at } => purse.renewed(count, told, at),
                News::Published(numbers) => {
                    self.sending_s = None;
                    arrived.extend(numbers);
                }
                News::Line(level, text) => lines.push((level, text)),
            }
        }
        self.others.retain(|_, (at, _)| now_s - *at < STALE_S);
        self.asked.retain(|_, (at_s, _)| now_s - *at_s < REFUSED_S);
        (lines, arrived)
    }
}

/// Returns where the stream is to be written to.
fn history(settings: &Settings) -> Result<Option<Target>, String> {
    let Some(said) = &settings.reflex_history else { return Ok(None) };
    let targets = Target::all(std::slice::from_ref(said)).map_err(|wrong| wrong.to_string())?;
    match targets.into_iter().next() {
        Some(target) if target.service == Service::Postgres => Ok(Some(target)),
        _ => Err("the history is written to a PostgreSQL: `reflex_history` names another kind".to_owned()),
    }
}

impl Engine<'_> {
    /// Hears of other hosts.
    pub(crate) fn among(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    /// Every tick.
    pub(super) fn tick_hosts(&mut self, now_s: f64) {
        if self.hosts.own.is_none() {
            return;
        }
        let (lines, arrived) = self.hosts.hear(self.acting.purse(), now_s);
        for (level, text) in lines {
            self.outlet.say(level, &text);
        }
        self.outlet.arrived(&arrived, now_s);
    }

    /// Every second.
    pub(super) fn second_hosts(&mut self, now_s: f64) {
        let Some(own) = self.hosts.own.clone() else { return };
        let incidents = self.desk.incidents();
        let open = incidents.iter().filter(|incident| incident.is_open());
        let with_others = |incident: &&Incident| {
            (incident.id.clone(), elsewhere(incident, &own.host, self.hosts.fresh(now_s)))
        };
        let joint: Vec<(String, Vec<String>)> = open.map(with_others).collect();
        let mut beacon = Beacon {
            schema: ferricorn_core::hosts::SCHEMA,
            host: own.host.clone(),
            service: own.service.clone(),
            pid: own.pid,
            workers: self.facts.ready() as u32,
            version: self
                .changing
                .as_ref()
                .map(|changing| changing.chronicle.version_of_all())
                .unwrap_or_default(),
            at: self.hosts.beacon.at,
            ..Beacon::default()
        };
        beacon.tell(incidents);
        self.hosts.joint = joint.iter().map(|(id, hosts)| (id.clone(), hosts.len() as u32)).collect();
        for (id, hosts) in joint {
            let effects = self.desk.join(&id, &hosts, now_s);
            self.carry_out(effects, now_s);
        }
        let hosts = &mut self.hosts;
        let is_due = now_s - hosts.told_s >= TELL_S || hosts.beacon.troubles != beacon.troubles;
        if is_due && let Some(bus) = &hosts.bus {
            beacon.at = now_s;
            if bus.order(Order::Tell(Box::new(beacon.clone()))) {
                hosts.told_s = now_s;
                hosts.beacon = beacon;
            }
        }
        self.renew_part(now_s);
        self.send_what_waits(now_s);
        self.show_hosts(now_s);
    }

    /// Keeps what viewers are shown.
    fn show_hosts(&mut self, now_s: f64) {
        if now_s - self.hosts.shown_s >= SHOW_S {
            self.hosts.shown_s = now_s;
            let part = self.acting.purse().part();
            let shown = Neighbours {
                here: self.hosts.here,
                part,
                servers: self.hosts.fresh(now_s).cloned().collect(),
            };
            self.outlet.remember(KEY, &shown, now_s);
        }
    }

    /// Tells the others what was done without them, and takes the part for when they cannot be reached.
    fn renew_part(&mut self, now_s: f64) {
        if !self.hosts.here || now_s - self.hosts.renewed_s < TELL_S {
            return;
        }
        self.hosts.renewed_s = now_s;
        let limits = self.acting.of_hosts();
        let hosts = self.hosts.of_service(now_s);
        let purse = self.acting.purse();
        let order = Order::Renew { told: purse.untold(), hosts, limits };
        if purse.ask(limits.fair(hosts)) {
            // Who is started again must not take it for more.
            self.keep_acting(now_s);
        }
        if let Some(bus) = &self.hosts.bus {
            bus.order(order);
        }
    }

    fn send_what_waits(&mut self, now_s: f64) {
        let is_under_way = self.hosts.sending_s.is_some_and(|since_s| now_s - since_s < TELL_S);
        if !self.hosts.here || is_under_way {
            return;
        }
        let waiting = self.outlet.outgoing(PORTION, now_s);
        if let Some(bus) = self.hosts.bus.as_ref().filter(|_| !waiting.is_empty())
            && bus.order(Order::Publish(waiting))
        {
            self.hosts.sending_s = Some(now_s);
        }
    }

    /// The server has ended for good.
    pub(super) fn leave_hosts(&mut self) {
        let limits = self.acting.of_hosts();
        let told = self.acting.purse().untold();
        if let Some(bus) = &self.hosts.bus {
            bus.order(Order::Leave { told, limits });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { count: 8, window_s: 600.0, hosts: 1.0, at_once_s: 0.0 };

    fn cut_off() -> Hosts {
        let own = Own { service: "shop".into(), host: "web-1".into(), pid: 7, started_ns: 1 };
        Hosts { own: Some(own), ..Hosts::default() }
    }

    fn ask(hosts: &mut Hosts, purse: &mut Purse, kind: Kind, now_s: f64) -> Permit {
        hosts.permit("20261127-1", kind, purse, &LIMITS, now_s)
    }

    #[test]
    fn who_is_alone_asks_nobody() {
        let (mut alone, mut purse) = (Hosts::default(), Purse::default());
        assert!(!alone.is_cut_off());
        assert_eq!(ask(&mut alone, &mut purse, Kind::Recycle, 1.0), Permit::Yes);
    }

    #[test]
    fn who_is_cut_off_has_its_part_and_no_more() {
        let (mut hosts, mut purse) = (cut_off(), Purse::default());
        assert!(hosts.is_cut_off());
        assert_eq!(
            ask(&mut hosts, &mut purse, Kind::CancelQuery, 1.0),
            Permit::Yes,
            "one request is its own matter"
        );
        purse.renewed(1, 0, 1.0);
        assert_eq!(ask(&mut hosts, &mut purse, Kind::Recycle, 2.0), Permit::Yes);
        let Permit::No(why) = ask(&mut hosts, &mut purse, Kind::Recycle, 3.0) else { panic!("one was all") };
        assert!(why.contains("without them this one may do 1 such actions in 600 s"), "{why}");
        assert_eq!(purse.untold().len(), 1);
    }

    #[test]
    fn an_answer_holds_for_a_moment() {
        let (mut hosts, mut purse) = (cut_off(), Purse::default());
        hosts.here = true;
        let key = ("20261127-1".to_owned(), Kind::Recycle);
        hosts.asked.insert(key.clone(), (10.0, Asked::Open(1)));
        assert_eq!(ask(&mut hosts, &mut purse, Kind::Recycle, 11.0), Permit::Wait);
        hosts.asked.insert(key.clone(), (11.0, Asked::Refused("no".into())));
        assert_eq!(ask(&mut hosts, &mut purse, Kind::Recycle, 12.0), Permit::No("no".into()));
        hosts.asked.insert(key.clone(), (11.0, Asked::Granted));
        assert_eq!(ask(&mut hosts, &mut purse, Kind::Recycle, 12.0), Permit::Yes);
        // Once; and what nobody has answered comes out of the own part, which is empty.
        hosts.asked.insert(key, (11.0, Asked::Lost));
        assert!(matches!(ask(&mut hosts, &mut purse, Kind::Recycle, 12.0), Permit::No(_)));
    }
}
