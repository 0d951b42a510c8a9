//! The loop: reads, draws, waits for a key, a signal, the next frame, or the server's end. The terminal is put back as it was,
//! whatever happens. Not for: what is shown.

use super::draw::{Paint, draw};
use super::frame::{Frame, frame};
use super::keys::wish;
use super::reading::{Reader, Reading};
use super::state::{Deed, State};
use super::{details, plain};
use crate::command::Top;
use crate::failure::{Failure, OK, UNREADABLE};
use crate::source::Source;
use crate::workers::write_json;
use ferricorn_reflex::evidence::Lens;
use ferricorn_sys::signal::{Signal, SignalPipe};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Readings that may fail one after another before it is given up.
const FAILURES_MAX: u32 = 5;
/// What a shell says of a process that a signal has ended: this and the signal's number.
const BY_SIGNAL: i32 = 128;

/// Shows one frame, made of two readings.
pub(crate) fn once(
    source: Source,
    options: &Top,
    colours: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<io::Result<()>, Failure> {
    let mut reader = Reader::new(source);
    let before = reader.read()?;
    let end = Instant::now() + options.interval;
    if reader.source().ended.as_ref().is_some_and(|ended| ends(ended, end)) {
        return Err(has_ended(&before));
    }
    let frame = frame(&reader.read()?, Some(&before));
    Ok(if json { write_json(&frame, out) } else { plain::write(&frame, colours, out) })
}

/// Waits until a moment, or for the end of a process: true if that came first.
fn ends(ended: &OwnedFd, end: Instant) -> bool {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(ended, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn has_ended(last: &Reading) -> Failure {
    let snapshot = &last.snapshot;
    Failure::new(
        format!("server {} ({}) has ended", snapshot.arbiter_pid, snapshot.name),
        "its arbiter is not there any more",
        "its log says why; `ferricornctl timeouts` shows what was recorded",
    )
}

fn timespec(span: Duration) -> Timespec {
    Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: span.subsec_nanos().into() }
}

/// How it has ended.
enum End {
    Quit,
    Signal(Signal),
    Failed(Failure),
}

/// Shows frames on the terminal until told to stop; returns the exit status.
pub(crate) fn interactive(
    source: Source,
    options: &Top,
    colours: bool,
    err: &mut dyn Write,
) -> Result<i32, Failure> {
    let unusable = |error: io::Error| {
        Failure::new(
            "the terminal could not be used",
            error.to_string(),
            "`ferricornctl top --once` writes one frame without a terminal",
        )
    };
    let mut reader = Reader::new(source);
    let first = reader.read()?;
    let keyboard = Keyboard::open().map_err(unusable)?;
    let signals =
        SignalPipe::install(&[Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT]).map_err(unusable)?;
    let paint = Paint { colours, unicode: is_unicode(), interval_s: options.interval.as_secs_f64() };
    let end = {
        let mut screen = Screen::open().map_err(unusable)?;
        let mut top = Session::new(reader, first, options.interval, paint);
        top.run(&mut screen.terminal, &keyboard, &signals).map_err(unusable)?
    };
    drop(signals);
    match end {
        End::Quit => Ok(OK),
        End::Signal(signal) => Ok(BY_SIGNAL + signal.as_raw()),
        End::Failed(failure) => {
            // Where it cannot be said, the status still tells.
            let _ = failure.write(err);
            Ok(UNREADABLE)
        }
    }
}

/// Tells whether the terminal shows more than ASCII, as its user has said.
fn is_unicode() -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    said.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// The terminal's input, to wait for.
enum Keyboard {
    Stdin(io::Stdin),
    Terminal(File),
}

impl Keyboard {
    /// Keys come from the terminal, whatever standard input is.
    fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Ok(Self::Stdin(stdin));
        }
        File::options().read(true).write(true).open("/dev/tty").map(Self::Terminal)
    }
}

impl AsFd for Keyboard {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Stdin(stdin) => stdin.as_fd(),
            Self::Terminal(file) => file.as_fd(),
        }
    }
}

/// The terminal while it is ours. A panic puts it back before it says anything.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> io::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // What is left to do where this fails, nobody knows.
        let _ = ratatui::try_restore();
        let _ = self.terminal.show_cursor();
    }
}

/// All that goes on while frames are shown.
struct Session {
    reader: Reader,
    now: Reading,
    before: Option<Reading>,
    frame: Frame,
    state: State,
    lens: Lens,
    interval: Duration,
    due: Instant,
    failures: u32,
    paint: Paint,
}

/// What has happened while we waited.
#[derive(Default)]
struct Woken {
    signal: bool,
    ended: bool,
}

impl Session {
    fn new(reader: Reader, first: Reading, interval: Duration, paint: Paint) -> Self {
        Self {
            reader,
            frame: frame(&first, None),
            now: first,
            before: None,
            state: State::default(),
            lens: Lens::default(),
            interval,
            due: Instant::now() + interval,
            failures: 0,
            paint,
        }
    }

    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        keyboard: &Keyboard,
        signals: &SignalPipe,
    ) -> io::Result<End> {
        loop {
            terminal.draw(|screen| draw(screen, &self.frame, &self.state, self.paint))?;
            let woken = self.wait(keyboard, signals)?;
            if let Some(signal) = signals.read().first().filter(|_| woken.signal) {
                return Ok(End::Signal(*signal));
            }
            if woken.ended {
                return Ok(End::Failed(has_ended(&self.now)));
            }
            // Also without a key: a change of the terminal's size is told the same way.
            while event::poll(Duration::ZERO)? {
                let Some(wish) = wish(&event::read()?) else { continue };
                let deed = self.state.follow(wish, &self.frame);
                if deed == Deed::Quit {
                    return Ok(End::Quit);
                }
                self.act(deed);
            }
            if Instant::now() >= self.due {
                self.due = Instant::now() + self.interval;
                if !self.state.paused
                    && let Err(failure) = self.look()
                {
                    return Ok(End::Failed(failure));
                }
            }
        }
    }

    /// Waits for whatever comes first.
    fn wait(&self, keyboard: &Keyboard, signals: &SignalPipe) -> io::Result<Woken> {
        let signals = signals.fd();
        let mut fds = vec![PollFd::new(keyboard, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        if let Some(ended) = &self.reader.source().ended {
            fds.push(PollFd::new(ended, PollFlags::IN));
        }
        let left = self.due.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) => {}
            // A signal: its byte is in the pipe, or it was the terminal's size that has changed.
            Err(Errno::INTR) => return Ok(Woken { signal: true, ..Woken::default() }),
            Err(error) => return Err(error.into()),
        }
        let is = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the terminal has been closed"));
        }
        Ok(Woken { signal: is(1), ended: is(2) })
    }

    /// Reads the server. What fails now and then is told on the screen, what fails again and again ends it.
    fn look(&mut self) -> Result<(), Failure> {
        match self.reader.read() {
            Ok(now) => {
                self.failures = 0;
                self.state.trouble = None;
                // An observer may tell the same moment twice.
                if now.snapshot.at_s != self.now.snapshot.at_s {
                    self.before = Some(std::mem::replace(&mut self.now, now));
                    self.frame = frame(&self.now, self.before.as_ref());
                }
                Ok(())
            }
            Err(failure) => {
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    return Err(failure);
                }
                self.state.trouble = Some(format!("OLD: {}", failure.why));
                Ok(())
            }
        }
    }

    fn act(&mut self, deed: Deed) {
        let (title, lines) = match deed {
            Deed::Nothing | Deed::Quit => return,
            Deed::LookAtWorker(pid) => details::worker(&mut self.lens, pid, &self.now),
            Deed::LookAtRequest { pid, id } => details::request(&mut self.lens, pid, &id, &self.now),
            Deed::ShowIncident(id) => details::incident(&id, &self.now),
            Deed::ShowRoute { route, method } => details::route(&route, &method, &self.now),
        };
        self.state.show(title, lines);
    }
}
