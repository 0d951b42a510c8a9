//! From keys to wishes. Not for: what a wish does (`state`).

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    NextPanel,
    PreviousPanel,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Enter,
    Back,
    Sort,
    Pause,
    Help,
}

/// The keys and what they do, for the help.
pub(super) const HELP: [(&str, &str); 9] = [
    ("tab, left, right", "the next table, or the one before"),
    ("up, down, k, j", "another line; also page up, page down, home, end, g, G"),
    ("enter", "look closer: the stacks of a worker, the stack of a request,"),
    ("", "the numbers of a route, the report of an incident"),
    ("esc", "back from a closer look"),
    ("s", "sort the table by its next column"),
    ("p, space", "hold the screen still, and let it go on"),
    ("?, h", "this help"),
    ("q, ctrl-c", "quit"),
];

/// What has to be known to read the numbers, for the help.
pub(super) const READING: [&str; 4] = [
    "REQ/S, P50, P99 and CPU are of the time since the last frame; TIME, COUNT and",
    "LOST since the server started, +N of them in the last frame.",
    "A lost request was answered or cut at its deadline, or died with its worker;",
    "it counts with the age at which it was given up.",
];

/// Returns what is asked for; none if nothing is.
pub(super) fn wish(event: &Event) -> Option<Wish> {
    match event {
        // A release is told on some terminals, too.
        Event::Key(key) if key.kind != KeyEventKind::Release => of_key(key),
        _ => None,
    }
}

fn of_key(key: &KeyEvent) -> Option<Wish> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c' | 'd') if control => Wish::Quit,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char('q' | 'Q') => Wish::Quit,
        KeyCode::Char('s') => Wish::Sort,
        KeyCode::Char('p' | ' ') => Wish::Pause,
        KeyCode::Char('?' | 'h') => Wish::Help,
        KeyCode::Char('k') | KeyCode::Up => Wish::Up,
        KeyCode::Char('j') | KeyCode::Down => Wish::Down,
        KeyCode::Char('g') | KeyCode::Home => Wish::First,
        KeyCode::Char('G') | KeyCode::End => Wish::Last,
        KeyCode::PageUp => Wish::PageUp,
        KeyCode::PageDown => Wish::PageDown,
        KeyCode::Tab | KeyCode::Right => Wish::NextPanel,
        KeyCode::BackTab | KeyCode::Left => Wish::PreviousPanel,
        KeyCode::Enter => Wish::Enter,
        KeyCode::Esc | KeyCode::Backspace => Wish::Back,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_wishes() {
        let press = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = KeyModifiers::NONE;
        assert_eq!(press(KeyCode::Char('q'), plain), Some(Wish::Quit));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(press(KeyCode::Char('c'), plain), None);
        assert_eq!(press(KeyCode::Char('s'), KeyModifiers::CONTROL), None);
        assert_eq!(press(KeyCode::BackTab, KeyModifiers::SHIFT), Some(Wish::PreviousPanel));
        assert_eq!(press(KeyCode::Char('G'), KeyModifiers::SHIFT), Some(Wish::Last));
        assert_eq!(wish(&Event::Resize(80, 24)), None);
        let mut release = KeyEvent::new(KeyCode::Char('q'), plain);
        release.kind = KeyEventKind::Release;
        assert_eq!(wish(&Event::Key(release)), None);
    }
}
