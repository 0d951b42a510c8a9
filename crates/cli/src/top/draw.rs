//! Puts a frame on a screen. Colour is never the only carrier of a fact, and there is none where the user wants none. Not for:
//! what stands in a frame (`frame`) and what is chosen (`state`).

mod cover;
mod tables;

use super::frame::{Frame, Sums};
use super::layout::{Wanted, heights};
use super::state::{Cover, Panel, State, shows_incidents};
use crate::units::{count, millis, printable, rate, span};
use ferricorn_core::life::Life;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Lines of the head and of the foot.
const HEAD: u16 = 2;
const FOOT: u16 = 1;

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub colours: bool,
    /// Whether the terminal shows more than ASCII.
    pub unicode: bool,
    /// Seconds between frames.
    pub interval_s: f64,
}

impl Paint {
    fn ink(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.ink(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn warn(self) -> Style {
        self.ink(Color::Yellow)
    }

    fn faint(self) -> Style {
        self.ink(Color::DarkGray)
    }

    fn life(self, life: Life) -> Style {
        match life {
            Life::Ready => self.ink(Color::Green),
            Life::Busy => self.ink(Color::Cyan),
            Life::Stuck | Life::Condemned => self.bad(),
            Life::Booting | Life::Draining => self.warn(),
            Life::Exited => self.faint(),
        }
    }

    /// Returns a bar for a share of a deadline, and its style.
    fn bar(self, share: Option<f64>, width: usize) -> (String, Style) {
        let Some(share) = share else { return (String::new(), Style::new()) };
        let full = ((share.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
        let (on, off) = if self.unicode { ("█", "░") } else { ("#", ".") };
        let style = match share {
            0.8.. => self.bad(),
            0.5.. => self.warn(),
            _ => self.ink(Color::Green),
        };
        (format!("{}{}", on.repeat(full), off.repeat(width - full)), style)
    }
}

/// Draws a frame.
pub(super) fn draw(screen: &mut ratatui::Frame<'_>, frame: &Frame, state: &State, paint: Paint) {
    let [head, middle, foot] =
        Layout::vertical([Constraint::Length(HEAD), Constraint::Fill(1), Constraint::Length(FOOT)])
            .areas(screen.area());
    screen.render_widget(
        Paragraph::new(vec![who(frame, state, paint, head.width), how(&frame.sums, paint)]),
        head,
    );
    let rows = |lines: usize, names, rows_max| {
        Some(Wanted { rows: u16::try_from(lines.max(1)).unwrap_or(u16::MAX), names, rows_max })
    };
    let crowd = (middle.height / 3).max(3);
    let incidents = frame.incidents.as_ref().map_or(0, Vec::len);
    let wanted = [
        if shows_incidents(frame) { rows(incidents, false, 2) } else { None },
        rows(frame.workers.len(), true, crowd),
        rows(frame.requests.len(), true, crowd),
        rows(frame.routes.len(), true, crowd),
    ];
    let mut top = middle.y;
    for (panel, height) in Panel::ALL.into_iter().zip(heights(middle.height, wanted)) {
        let area = Rect { y: top, height, ..middle };
        top += height;
        if height > 0 {
            tables::table(screen, area, panel, frame, state, paint);
        }
    }
    screen.render_widget(Paragraph::new(foot_line(state, paint)), foot);
    match &state.cover {
        Cover::Nothing => {}
        Cover::Help => cover::help(screen, paint),
        Cover::Page { title, lines, scroll } => cover::page(screen, title, lines, *scroll, paint),
    }
}

/// The first line: which server it is.
fn who(frame: &Frame, state: &State, paint: Paint, width: u16) -> Line<'static> {
    let server = &frame.server;
    let class = match server.threads {
        0 | 1 => server.worker_class.clone(),
        threads => format!("{} x{threads}", server.worker_class),
    };
    let timeout = server.timeout_s.map_or("none".to_owned(), |timeout_s| format!("{timeout_s}s"));
    let left = format!(
        "{} {} {}  pid {}  up {}  {}  timeout {timeout}",
        server.kind.name(),
        printable(&server.version),
        printable(&server.name),
        server.arbiter_pid,
        span(server.uptime_s),
        printable(&class),
    );
    let (right, style) = match (&state.trouble, state.paused) {
        (Some(trouble), _) => (printable(trouble), paint.bad()),
        (None, true) => ("PAUSED".to_owned(), paint.warn()),
        (None, false) if frame.warning.is_some() => {
            (frame.warning.unwrap_or_default().to_owned(), paint.warn())
        }
        (None, false) => (format!("every {}s", paint.interval_s), paint.faint()),
    };
    let room = usize::from(width).saturating_sub(right.chars().count() + 1);
    let left: String = left.chars().take(room).collect();
    let gap = " ".repeat(usize::from(width).saturating_sub(left.chars().count() + right.chars().count()));
    let bold = Style::new().add_modifier(Modifier::BOLD);
    Line::from(vec![Span::styled(left, bold), Span::raw(gap), Span::styled(right, style)])
}

/// The second line: how it is.
fn how(sums: &Sums, paint: Paint) -> Line<'static> {
    let mut spans = Vec::new();
    let mut add = |text: String, is_loud: bool, style: Style| {
        if !spans.is_empty() {
            spans.push(Span::raw("  "));
        }
        spans.push(if is_loud { Span::styled(text, style) } else { Span::raw(text) });
    };
    let short = sums.workers_ready < u64::from(sums.workers_target);
    add(format!("workers {}/{}", sums.workers_ready, sums.workers_target), short, paint.bad());
    let full = sums.threads > 0 && sums.threads_busy >= sums.threads;
    add(format!("busy {}/{}", sums.threads_busy, sums.threads), full, paint.warn());
    add(format!("queued {}", count(sums.queued)), sums.queued > 0, paint.warn());
    add(format!("{} req/s", sums.requests_per_s.map_or("-".to_owned(), rate)), false, Style::new());
    add(format!("p50 {}", ms(sums.p50_ms)), false, Style::new());
    add(format!("p99 {} ms", ms(sums.p99_ms)), false, Style::new());
    let now = if sums.lost_now > 0 { format!(" (+{})", count(sums.lost_now)) } else { String::new() };
    add(format!("lost {}{now}", count(sums.lost)), sums.lost > 0, paint.bad());
    Line::from(spans)
}

fn foot_line(state: &State, paint: Paint) -> Line<'static> {
    let keys = match state.cover {
        Cover::Page { .. } => "esc back  up/down scroll  q quit",
        Cover::Help => "any key back  q quit",
        Cover::Nothing => "q quit  tab next table  up/down move  enter look closer  s sort  p pause  ? help",
    };
    Line::from(Span::styled(keys, paint.faint()))
}

/// Returns milliseconds as all tables show them.
pub(super) fn ms(ms: Option<f64>) -> String {
    millis(ms.map(|ms| (ms * 1000.0).round() as u64))
}
