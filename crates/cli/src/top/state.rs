//! What the person at the keyboard has chosen: a table, a line in it, an order, a closer look. Pure: a wish and a frame lead to
//! the next state and to what is to be done. Not for: how it looks (`draw`).

use super::frame::{Frame, RequestLine, RouteLine, WorkerLine};
use super::keys::Wish;

/// Lines that a page key moves by.
const PAGE: usize = 10;

/// A table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Panel {
    Incidents,
    #[default]
    Workers,
    Requests,
    Routes,
}

impl Panel {
    pub(super) const ALL: [Self; 4] = [Self::Incidents, Self::Workers, Self::Requests, Self::Routes];

    /// The orders that its lines can have.
    fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Incidents => &["losses"],
            Self::Workers => &["age", "requests", "p99", "memory", "processor", "oldest request"],
            Self::Requests => &["age", "deadline"],
            Self::Routes => &["time", "requests", "p99", "lost", "route"],
        }
    }
}

/// What covers the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Cover {
    #[default]
    Nothing,
    Help,
    /// A closer look.
    Page {
        title: String,
        lines: Vec<String>,
        scroll: usize,
    },
}

/// What is to be done after a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Nothing,
    Quit,
    /// Show the stacks of a worker.
    LookAtWorker(u32),
    /// Show the stack of a request.
    LookAtRequest {
        pid: u32,
        id: String,
    },
    /// Show an incident.
    ShowIncident(String),
    /// Show a route: path and method.
    ShowRoute {
        route: String,
        method: String,
    },
}

/// A line that is chosen: by what it is, and where it was, in case that it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chosen {
    name: String,
    at: usize,
}

/// What has been chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    pub focus: Panel,
    pub paused: bool,
    pub cover: Cover,
    /// What is wrong with the picture, if something is: a reading that failed.
    pub trouble: Option<String>,
    chosen: [Chosen; Panel::ALL.len()],
    order: [usize; Panel::ALL.len()],
}

impl State {
    /// Follows a wish.
    pub(super) fn follow(&mut self, wish: Wish, frame: &Frame) -> Deed {
        if wish == Wish::Quit {
            return Deed::Quit;
        }
        if self.cover != Cover::Nothing {
            self.turn(wish);
            return Deed::Nothing;
        }
        match wish {
            Wish::NextPanel => self.move_focus(frame, 1),
            Wish::PreviousPanel => self.move_focus(frame, Panel::ALL.len() - 1),
            Wish::Sort => {
                let order = &mut self.order[self.focus as usize];
                *order = (*order + 1) % self.focus.orders().len();
                // The first line is what the order is for.
                self.choose(frame, 0);
            }
            Wish::Pause => self.paused = !self.paused,
            Wish::Help => self.cover = Cover::Help,
            Wish::Enter => return self.closer(frame),
            Wish::Up => self.step(frame, |at, _| at.saturating_sub(1)),
            Wish::Down => self.step(frame, |at, last| (at + 1).min(last)),
            Wish::PageUp => self.step(frame, |at, _| at.saturating_sub(PAGE)),
            Wish::PageDown => self.step(frame, |at, last| (at + PAGE).min(last)),
            Wish::First => self.step(frame, |_, _| 0),
            Wish::Last => self.step(frame, |_, last| last),
            Wish::Back | Wish::Quit => {}
        }
        Deed::Nothing
    }

    /// Shows a page over the tables.
    pub(super) fn show(&mut self, title: String, lines: Vec<String>) {
        self.cover = Cover::Page { title, lines, scroll: 0 };
    }

    fn turn(&mut self, wish: Wish) {
        let Cover::Page { lines, scroll, .. } = &mut self.cover else {
            // Any key ends the help.
            self.cover = Cover::Nothing;
            return;
        };
        let last = lines.len().saturating_sub(1);
        match wish {
            Wish::Up => *scroll = scroll.saturating_sub(1),
            Wish::Down => *scroll = (*scroll + 1).min(last),
            Wish::PageUp => *scroll = scroll.saturating_sub(PAGE),
            Wish::PageDown => *scroll = (*scroll + PAGE).min(last),
            Wish::First => *scroll = 0,
            Wish::Last => *scroll = last,
            Wish::Help => self.cover = Cover::Help,
            Wish::Pause => self.paused = !self.paused,
            _ => self.cover = Cover::Nothing,
        }
    }

    /// Moves to the next table that has lines, or that always stands there.
    fn move_focus(&mut self, frame: &Frame, by: usize) {
        let count = Panel::ALL.len();
        let mut at = self.focus as usize;
        loop {
            at = (at + by) % count;
            if Panel::ALL[at] != Panel::Incidents || shows_incidents(frame) {
                break;
            }
        }
        self.focus = Panel::ALL[at];
    }

    fn step(&mut self, frame: &Frame, to: impl Fn(usize, usize) -> usize) {
        let last = self.names(self.focus, frame).len().saturating_sub(1);
        let at = self.at(self.focus, frame).unwrap_or(0);
        self.choose(frame, to(at, last));
    }

    fn choose(&mut self, frame: &Frame, at: usize) {
        let name = self.names(self.focus, frame).get(at).cloned().unwrap_or_default();
        self.chosen[self.focus as usize] = Chosen { name, at };
    }

    /// Returns the place of the chosen line of a table; none if it has no lines.
    pub(super) fn at(&self, panel: Panel, frame: &Frame) -> Option<usize> {
        let names = self.names(panel, frame);
        let chosen = &self.chosen[panel as usize];
        let found = names.iter().position(|name| *name == chosen.name);
        found.or_else(|| Some(chosen.at.min(names.len().checked_sub(1)?)))
    }

    /// Returns the name of a table's order.
    pub(super) fn order(&self, panel: Panel) -> &'static str {
        panel.orders()[self.order[panel as usize]]
    }

    fn closer(&self, frame: &Frame) -> Deed {
        let Some(at) = self.at(self.focus, frame) else { return Deed::Nothing };
        match self.focus {
            Panel::Incidents => {
                let found = frame.incidents.iter().flatten().nth(at);
                found.map_or(Deed::Nothing, |incident| Deed::ShowIncident(incident.id.clone()))
            }
            Panel::Workers => {
                self.workers(frame).get(at).map_or(Deed::Nothing, |line| Deed::LookAtWorker(line.pid))
            }
            Panel::Requests => self.requests(frame).get(at).map_or(Deed::Nothing, |line| {
                Deed::LookAtRequest { pid: line.worker_pid, id: line.request_id.clone() }
            }),
            Panel::Routes => self.routes(frame).get(at).map_or(Deed::Nothing, |line| Deed::ShowRoute {
                route: line.route.clone(),
                method: line.method.clone(),
            }),
        }
    }

    /// Returns the names of a table's lines, in their order.
    fn names(&self, panel: Panel, frame: &Frame) -> Vec<String> {
        match panel {
            Panel::Incidents => {
                frame.incidents.iter().flatten().map(|incident| incident.id.clone()).collect()
            }
            Panel::Workers => self.workers(frame).into_iter().map(|line| line.pid.to_string()).collect(),
            Panel::Requests => self.requests(frame).into_iter().map(|line| line.request_id.clone()).collect(),
            Panel::Routes => {
                self.routes(frame).into_iter().map(|line| format!("{} {}", line.method, line.route)).collect()
            }
        }
    }

    /// Returns the workers in the chosen order.
    pub(super) fn workers<'a>(&self, frame: &'a Frame) -> Vec<&'a WorkerLine> {
        let mut lines: Vec<&WorkerLine> = frame.workers.iter().collect();
        let by: Option<fn(&WorkerLine) -> f64> = match self.order(Panel::Workers) {
            "requests" => Some(|line| line.requests_per_s.unwrap_or(-1.0)),
            "p99" => Some(|line| line.p99_ms.unwrap_or(-1.0)),
            "memory" => Some(|line| line.rss_bytes.map_or(-1.0, |bytes| bytes as f64)),
            "processor" => Some(|line| line.cpu.unwrap_or(-1.0)),
            "oldest request" => Some(|line| line.oldest_s.unwrap_or(-1.0)),
            _ => None,
        };
        if let Some(by) = by {
            lines.sort_by(|one, other| by(other).total_cmp(&by(one)));
        }
        lines
    }

    /// Returns the requests in the chosen order.
    pub(super) fn requests<'a>(&self, frame: &'a Frame) -> Vec<&'a RequestLine> {
        let mut lines: Vec<&RequestLine> = frame.requests.iter().collect();
        if self.order(Panel::Requests) == "deadline" {
            let share = |line: &RequestLine| line.share.unwrap_or(-1.0);
            lines.sort_by(|one, other| share(other).total_cmp(&share(one)));
        }
        lines
    }

    /// Returns the routes in the chosen order.
    pub(super) fn routes<'a>(&self, frame: &'a Frame) -> Vec<&'a RouteLine> {
        let mut lines: Vec<&RouteLine> = frame.routes.iter().collect();
        let by: Option<fn(&RouteLine) -> f64> = match self.order(Panel::Routes) {
            "requests" => Some(|line| line.requests_per_s.unwrap_or(-1.0)),
            "p99" => Some(|line| line.p99_ms.unwrap_or(-1.0)),
            "lost" => Some(|line| line.lost as f64),
            _ => None,
        };
        if let Some(by) = by {
            lines.sort_by(|one, other| by(other).total_cmp(&by(one)));
        }
        if self.order(Panel::Routes) == "route" {
            lines.sort_by(|one, other| (&one.route, &one.method).cmp(&(&other.route, &other.method)));
        }
        lines
    }
}

/// Tells whether incidents have a table: only while there are any.
pub(super) fn shows_incidents(frame: &Frame) -> bool {
    frame.incidents.as_ref().is_some_and(|incidents| !incidents.is_empty())
}
