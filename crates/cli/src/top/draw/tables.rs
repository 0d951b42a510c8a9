//! The tables: columns, cells, the chosen line. Not for: where they stand on the screen.

use super::{Frame, Paint, Panel, State, ms};
use crate::top::frame::{Incident, RequestLine, RouteLine, WorkerLine};
use crate::units::{bytes, count, printable, rate, span};
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState};

/// Cells of a bar.
const BAR: usize = 10;
/// Rules made of what every terminal has.
pub(super) const ASCII: border::Set<'static> = border::Set {
    top_left: "-",
    top_right: "-",
    bottom_left: "-",
    bottom_right: "-",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// A column of a table of `T`s.
struct Column<T> {
    name: &'static str,
    width: Constraint,
    right: bool,
    /// From which width of the screen on there is room for it.
    from: u16,
    cell: fn(&T, Paint) -> (String, Style),
}

fn plain(text: impl Into<String>) -> (String, Style) {
    (text.into(), Style::new())
}

fn number<T>(name: &'static str, width: u16, cell: fn(&T, Paint) -> (String, Style)) -> Column<T> {
    Column { name, width: Constraint::Length(width), right: true, from: 0, cell }
}

fn word<T>(name: &'static str, width: u16, cell: fn(&T, Paint) -> (String, Style)) -> Column<T> {
    Column { name, width: Constraint::Length(width), right: false, from: 0, cell }
}

fn rest<T>(name: &'static str, cell: fn(&T, Paint) -> (String, Style)) -> Column<T> {
    Column { name, width: Constraint::Fill(1), right: false, from: 0, cell }
}

fn from<T>(width: u16, column: Column<T>) -> Column<T> {
    Column { from: width, ..column }
}

/// Draws one of the tables.
pub(super) fn table(
    screen: &mut ratatui::Frame<'_>,
    area: Rect,
    panel: Panel,
    frame: &Frame,
    state: &State,
    paint: Paint,
) {
    let at = state.at(panel, frame);
    let order = state.order(panel);
    let focused = state.focus == panel;
    let title = |name: &str, number: usize| format!(" {name} ({number}) by {order} ");
    match panel {
        Panel::Incidents => {
            let lines: Vec<&Incident> = frame.incidents.iter().flatten().collect();
            let block = block(format!(" Incidents ({}) ", lines.len()), focused, paint);
            render(screen, area, block, &incidents(), &lines, at.filter(|_| focused), paint, false);
        }
        Panel::Workers => {
            let lines = state.workers(frame);
            let block = block(title("Workers", lines.len()), focused, paint);
            render(screen, area, block, &workers(), &lines, at.filter(|_| focused), paint, true);
        }
        Panel::Requests => {
            let lines = state.requests(frame);
            let block = block(title("Requests in flight", lines.len()), focused, paint);
            render(screen, area, block, &requests(), &lines, at.filter(|_| focused), paint, true);
        }
        Panel::Routes => {
            let lines = state.routes(frame);
            let block = block(title("Routes", lines.len()), focused, paint);
            render(screen, area, block, &routes(), &lines, at.filter(|_| focused), paint, true);
        }
    }
}

fn block(title: String, focused: bool, paint: Paint) -> Block<'static> {
    let style = if focused { paint.ink(Color::Cyan).add_modifier(Modifier::BOLD) } else { paint.faint() };
    let set = if paint.unicode { border::PLAIN } else { ASCII };
    Block::new().borders(Borders::TOP).border_set(set).border_style(style).title(Line::styled(title, style))
}

#[expect(clippy::too_many_arguments, reason = "all of them are one table's, and it has one caller")]
fn render<T>(
    screen: &mut ratatui::Frame<'_>,
    area: Rect,
    block: Block<'static>,
    columns: &[Column<T>],
    lines: &[&T],
    at: Option<usize>,
    paint: Paint,
    names: bool,
) {
    if lines.is_empty() {
        screen.render_widget(Paragraph::new("none").style(paint.faint()).block(block), area);
        return;
    }
    let columns: Vec<&Column<T>> = columns.iter().filter(|column| area.width >= column.from).collect();
    let align = |column: &Column<T>| if column.right { Alignment::Right } else { Alignment::Left };
    let cell = |column: &&Column<T>, line: &T| {
        let (text, style) = (column.cell)(line, paint);
        Cell::from(Text::from(text).alignment(align(column)).style(style))
    };
    let rows = lines.iter().map(|line| Row::new(columns.iter().map(|column| cell(column, line))));
    let mut table = Table::new(rows, columns.iter().map(|column| column.width))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(block);
    if names {
        let heads = columns.iter().map(|column| Cell::from(Text::from(column.name).alignment(align(column))));
        table = table.header(Row::new(heads).style(Style::new().add_modifier(Modifier::BOLD)));
    }
    screen.render_stateful_widget(table, area, &mut TableState::new().with_selected(at));
}

fn incidents() -> [Column<Incident>; 4] {
    [
        word("ID", 12, |line, paint| (printable(&line.id), paint.bad())),
        number("FOR", 7, |line, _| plain(line.since_s.map_or("-".to_owned(), span))),
        number("LOST", 6, |line, _| plain(count(line.requests_lost))),
        rest("VERDICT", |line, _| plain(printable(&line.verdict))),
    ]
}

fn workers() -> [Column<WorkerLine>; 12] {
    [
        number("PID", 7, |line, _| plain(line.pid.to_string())),
        word("LIFE", 9, |line, paint| (line.life.name().to_owned(), paint.life(line.life))),
        from(110, number("AGE", 4, |line, _| plain(line.age.to_string()))),
        from(90, number("UP", 7, |line, _| plain(span(line.uptime_s)))),
        number("BUSY", 5, |line, paint| {
            let full = line.threads > 0 && line.threads_busy >= line.threads;
            (
                format!("{}/{}", line.threads_busy, line.threads),
                if full { paint.warn() } else { Style::new() },
            )
        }),
        number("QUEUE", 5, |line, paint| {
            (count(line.queued.into()), if line.queued > 0 { paint.warn() } else { Style::new() })
        }),
        from(110, number("CONNS", 6, |line, _| plain(count(line.connections.into())))),
        number("REQ/S", 6, |line, _| plain(line.requests_per_s.map_or("-".to_owned(), rate))),
        number("P99 ms", 7, |line, _| plain(ms(line.p99_ms))),
        number("CPU", 5, |line, _| {
            plain(line.cpu.map_or("-".to_owned(), |cpu| format!("{:.0}%", cpu * 100.0)))
        }),
        from(76, number("MEMORY", 8, |line, _| plain(line.rss_bytes.map_or("-".to_owned(), bytes)))),
        rest("OLDEST REQUEST", |line, _| {
            let waits =
                line.waits_for.as_ref().map_or(String::new(), |waits| format!(" {}", printable(waits)));
            plain(line.oldest_s.map_or(String::new(), |oldest_s| format!("{}{waits}", span(oldest_s))))
        }),
    ]
}

fn requests() -> [Column<RequestLine>; 8] {
    [
        number("AGE", 7, |line, _| plain(span(line.age_s))),
        word("TO DEADLINE", BAR as u16 + 1, |line, paint| paint.bar(line.share, BAR)),
        number("LEFT", 7, |line, paint| match line.deadline_left_s {
            None => plain("-"),
            Some(left_s) if left_s < 0.0 => (format!("-{}", span(-left_s)), paint.bad()),
            Some(left_s) => plain(span(left_s)),
        }),
        from(70, word("PHASE", 9, |line, _| plain(printable(&line.phase)))),
        number("WORKER", 7, |line, _| plain(line.worker_pid.to_string())),
        from(
            110,
            word("CLIENT", 21, |line, _| {
                plain(printable(if line.client.is_empty() { "-" } else { &line.client }))
            }),
        ),
        word("METHOD", 7, |line, _| plain(printable(&line.method))),
        rest("PATH", |line, _| plain(printable(&line.path))),
    ]
}

fn routes() -> [Column<RouteLine>; 8] {
    [
        number("TIME", 6, |line, _| plain(format!("{:.0} %", line.time_share * 100.0))),
        number("COUNT", 9, |line, _| plain(count(line.count))),
        number("REQ/S", 7, |line, _| plain(line.requests_per_s.map_or("-".to_owned(), rate))),
        number("P50 ms", 7, |line, _| plain(ms(line.p50_ms))),
        number("P99 ms", 7, |line, _| plain(ms(line.p99_ms))),
        number("LOST", 9, |line, paint| {
            let now = if line.lost_now > 0 { format!(" +{}", count(line.lost_now)) } else { String::new() };
            (format!("{}{now}", count(line.lost)), if line.lost > 0 { paint.bad() } else { Style::new() })
        }),
        word("METHOD", 7, |line, _| plain(printable(&line.method))),
        rest("ROUTE", |line, _| plain(printable(&line.route))),
    ]
}
