//! What covers the tables: the help, and a closer look. Not for: what stands on such a page (`details`).

use super::Paint;
use crate::top::keys::{HELP, READING};
use crate::units::printable;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Wrap};

/// Shows what the keys do.
pub(super) fn help(screen: &mut ratatui::Frame<'_>, paint: Paint) {
    let area = within(screen.area(), 80, 16);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let key = |(key, deed): (&str, &'static str)| {
        Line::from(vec![Span::styled(format!("{key:<17}"), bold), Span::raw(deed)])
    };
    let mut lines: Vec<Line<'_>> = HELP.into_iter().map(key).collect();
    lines.push(Line::raw(""));
    lines.extend(READING.map(Line::raw));
    open(screen, area, " Help ", lines, 0, paint);
}

/// Shows a closer look, from a line on.
pub(super) fn page(
    screen: &mut ratatui::Frame<'_>,
    title: &str,
    lines: &[String],
    scroll: usize,
    paint: Paint,
) {
    let area = screen.area();
    let area = Rect { height: area.height.saturating_sub(super::FOOT), ..area };
    // Only what is seen is drawn: a page may be long.
    let seen = lines.iter().skip(scroll).take(usize::from(area.height));
    let lines = seen.map(|line| Line::from(Span::raw(printable(line)))).collect();
    open(screen, area, &format!(" {} ", printable(title)), lines, 0, paint);
}

fn open(
    screen: &mut ratatui::Frame<'_>,
    area: Rect,
    title: &str,
    lines: Vec<Line<'_>>,
    scroll: u16,
    paint: Paint,
) {
    let mut block = Block::new().borders(Borders::ALL).title(Line::raw(title.to_owned()));
    if !paint.unicode {
        block = block.border_set(super::tables::ASCII);
    }
    screen.render_widget(Clear, area);
    screen.render_widget(
        Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((scroll, 0)).block(block),
        area,
    );
}

/// Returns an area in the middle of another, at most so large.
fn within(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    let [_, across, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(width), Constraint::Fill(1)]).areas(area);
    let [_, middle, _] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(height), Constraint::Fill(1)])
            .areas(across);
    middle
}
