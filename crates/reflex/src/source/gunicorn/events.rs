//! What Gunicorn's error log says of the lives of its processes: the messages of versions 23 to 27 (`arbiter.py`,
//! `workers/*.py`). A line is read by its message alone, so that a format of one's own does no harm.
//!
//! Not for: tracebacks and whatever else stands in that log.

use ferricorn_core::fleet::ExitStatus;

/// Something that the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// `Starting gunicorn VERSION`
    Starting(String),
    /// `Using worker: CLASS`
    Class(String),
    /// `Listening at: ADDRESS (PID)`, of an arbiter.
    Listening(u32),
    /// `Booting worker with pid: PID`
    Booting(u32),
    /// `WORKER TIMEOUT (pid:PID)`
    Timeout(u32),
    /// `Worker (pid:PID) was sent SIGNAL!`, `Worker (pid:PID) exited with code CODE`
    Ended(u32, ExitStatus),
    /// `Autorestarting worker after current request.`, of the worker that writes it.
    Retiring(u32),
    /// `Worker exiting (pid: PID)`
    Exiting(u32),
    /// `Handling signal: NAME`, of the arbiter that writes it.
    Signal(u32, String),
    /// `Shutting down: Master`, of the arbiter that writes it.
    Stopping(u32),
}

/// Reads a line: `[DATE] [PID] [LEVEL] MESSAGE`, or any other that has such a message.
pub(super) fn read(line: &str) -> Option<Event> {
    let (writer, message) = parts(line);
    let after = |words: &str| message.split_once(words).map(|(_, rest)| rest);
    let number = |text: &str| {
        let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse::<u32>().ok()
    };
    let word = |text: &str| {
        text.split_ascii_whitespace().next().map(|word| word.chars().take(64).collect::<String>())
    };
    if let Some(rest) = after("WORKER TIMEOUT (pid:") {
        return number(rest).map(Event::Timeout);
    }
    if let Some(rest) = after("Booting worker with pid: ") {
        return number(rest).map(Event::Booting);
    }
    if let Some(rest) = after("Worker exiting (pid: ") {
        return number(rest).map(Event::Exiting);
    }
    if let Some(rest) = after("Worker (pid:") {
        return ended(number(rest)?, rest);
    }
    if message.contains("Autorestarting worker after current request.") {
        return writer.map(Event::Retiring);
    }
    if let Some(rest) = after("Handling signal: ") {
        return Some(Event::Signal(writer?, word(rest)?));
    }
    if message.contains("Shutting down: Master") {
        return writer.map(Event::Stopping);
    }
    if let Some(rest) = after("Starting gunicorn ") {
        return word(rest).map(Event::Starting);
    }
    if let Some(rest) = after("Using worker: ") {
        return word(rest).map(Event::Class);
    }
    if let Some(rest) = after("Listening at: ") {
        return rest.rsplit_once('(').and_then(|(_, pid)| number(pid)).map(Event::Listening);
    }
    None
}

fn ended(pid: u32, rest: &str) -> Option<Event> {
    if let Some((_, code)) = rest.split_once("exited with code ") {
        let code: String = code.chars().take_while(char::is_ascii_digit).collect();
        return Some(Event::Ended(pid, ExitStatus::Code(code.parse().ok()?)));
    }
    let (_, name) = rest.split_once("was sent ")?;
    let name = name.split('!').next()?;
    Some(Event::Ended(pid, ExitStatus::Signal(signal(name)?)))
}

/// Returns the number of a signal by its name, or of `code N`, which Gunicorn writes of those without one.
fn signal(name: &str) -> Option<i32> {
    if let Some(number) = name.strip_prefix("code ") {
        return number.parse::<i32>().ok().map(|status| status & 0x7f);
    }
    (1..=31).find(|number| ferricorn_core::fleet::signal_name(*number) == name)
}

/// Returns who has written a line, and its message.
fn parts(line: &str) -> (Option<u32>, &str) {
    let Some((head, rest)) = line.split_once("] [") else { return (None, line) };
    let Some((pid, rest)) = rest.split_once("] [").filter(|_| head.starts_with('[')) else {
        return (None, line);
    };
    (pid.parse().ok(), rest.split_once("] ").map_or(rest, |(_, message)| message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_all_versions_are_understood() {
        let table = [
            ("Starting gunicorn 27.0.1", Event::Starting("27.0.1".into())),
            ("Using worker: gthread", Event::Class("gthread".into())),
            ("Listening at: http://127.0.0.1:8000,unix:/x (7) (41)", Event::Listening(41)),
            ("Booting worker with pid: 12", Event::Booting(12)),
            ("WORKER TIMEOUT (pid:12)", Event::Timeout(12)),
            (
                "Worker (pid:12) was sent SIGKILL! Perhaps out of memory?",
                Event::Ended(12, ExitStatus::Signal(9)),
            ),
            ("Worker (pid:12) was sent SIGTERM!", Event::Ended(12, ExitStatus::Signal(15))),
            ("Worker (pid:12) was sent code 134!", Event::Ended(12, ExitStatus::Signal(6))),
            ("Worker (pid:12) exited with code 3", Event::Ended(12, ExitStatus::Code(3))),
            ("Worker (pid:12) exited with code 255.", Event::Ended(12, ExitStatus::Code(255))),
            ("Autorestarting worker after current request.", Event::Retiring(7)),
            ("Worker exiting (pid: 12)", Event::Exiting(12)),
            ("Handling signal: hup", Event::Signal(7, "hup".into())),
            ("Shutting down: Master", Event::Stopping(7)),
        ];
        for (message, event) in table {
            let line = format!("[2026-11-26 10:00:00 +0000] [7] [INFO] {message}");
            assert_eq!(read(&line), Some(event.clone()), "{message}");
            // A format of one's own.
            let needs_writer = matches!(event, Event::Retiring(_) | Event::Signal(..) | Event::Stopping(_));
            assert_eq!(
                read(&format!("host gunicorn: {message}")),
                (!needs_writer).then_some(event),
                "{message}"
            );
        }
    }

    #[test]
    fn other_lines_say_nothing() {
        for line in [
            "",
            "Traceback (most recent call last):",
            "[2026-11-26 10:00:00 +0000] [7] [ERROR] Error handling request GET /x",
            "WORKER TIMEOUT (pid:",
            "Worker (pid:99999999999) exited with code 1",
            "Worker (pid:12) was sent SIGNOTHING!",
            "[] [] []",
            "] [ ] [",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
