//! The line of code that an application is at, and the loop around it: whether it goes round in a `while` tells an endless loop
//! from work. Reads the application's files, as its worker sees them. Not for: libraries, and not a parser of Python.

use ferricorn_core::evidence::Frame;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

/// Larger files are not read.
const FILE_MAX: u64 = 4 << 20;
/// Most files that are remembered.
const FILES_MAX: usize = 64;
/// Most characters of a line.
const LINE_MAX: usize = 160;
/// How far above a line its loop is looked for.
const ABOVE_MAX: usize = 400;
/// The innermost calls of the application whose code is shown.
const SHOWN: usize = 3;

/// Files that have been read, by worker and path.
#[derive(Debug, Default)]
pub(super) struct Code {
    files: BTreeMap<(u32, String), Vec<String>>,
}

impl Code {
    /// Adds the code to the innermost calls of the application.
    pub(super) fn show(&mut self, pid: u32, frames: &mut [Frame]) {
        for frame in frames.iter_mut().filter(|frame| frame.is_application() && frame.line > 0).take(SHOWN) {
            let lines = self.lines(pid, &frame.file);
            let at = frame.line as usize - 1;
            frame.code =
                lines.get(at).map(|line| line.trim().chars().take(LINE_MAX).collect()).unwrap_or_default();
            frame.within = loop_around(lines, at).to_owned();
        }
    }

    /// Forgets a worker.
    pub(super) fn forget(&mut self, pid: u32) {
        self.files.retain(|(owner, _), _| *owner != pid);
    }

    fn lines(&mut self, pid: u32, file: &str) -> &[String] {
        let key = (pid, file.to_owned());
        if !self.files.contains_key(&key) && self.files.len() >= FILES_MAX {
            self.files.clear();
        }
        self.files.entry(key).or_insert_with(|| read(pid, file))
    }
}

/// Reads a file as a process sees it: in its own root, relative to its own folder.
fn read(pid: u32, file: &str) -> Vec<String> {
    let path = match file.strip_prefix('/') {
        Some(absolute) => format!("/proc/{pid}/root/{absolute}"),
        None => format!("/proc/{pid}/cwd/{file}"),
    };
    let mut bytes = Vec::new();
    let regular = |path: &str| fs::metadata(path).is_ok_and(|found| found.is_file());
    // Without rights on the process it is the same file, unless it lives in another root.
    for path in [path.as_str(), file] {
        if regular(path)
            && let Ok(opened) = fs::File::open(path)
            && opened.take(FILE_MAX).read_to_end(&mut bytes).is_ok()
        {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

/// Returns the innermost loop that a line stands in, within its function: `while`, `for`, or nothing.
fn loop_around(lines: &[String], at: usize) -> &'static str {
    let Some(own) = lines.get(at) else { return "" };
    // The head of a loop belongs to it.
    if let Some(kind) = head(own) {
        return kind;
    }
    let mut depth = indent(own);
    for line in lines[..at].iter().rev().take(ABOVE_MAX) {
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') || indent(line) >= depth {
            continue;
        }
        depth = indent(line);
        if text.starts_with("def ") || text.starts_with("async def ") || text.starts_with("class ") {
            return "";
        }
        if let Some(kind) = head(line) {
            return kind;
        }
    }
    ""
}

fn head(line: &str) -> Option<&'static str> {
    let text = line.trim_start();
    let text = text.strip_prefix("async ").unwrap_or(text);
    match text.split([' ', '(', ':']).next() {
        Some("while") => Some("while"),
        Some("for") => Some("for"),
        _ => None,
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEXT: &str = "\
def work(items):
    total = 0
    while total < 10:
        if items:
            total = step(total)

        # a remark
    for item in items:
        total += item
        while True: total += 1
    return total

async def other():
    async for item in stream():
        use(item)
";

    #[test]
    fn the_loop_around_a_line_is_found() {
        let lines: Vec<String> = TEXT.lines().map(str::to_owned).collect();
        let table = [
            (2, ""),
            (3, "while"),
            (5, "while"),
            (9, "for"),
            (10, "while"),
            (11, ""),
            (14, "for"),
            (15, "for"),
            (99, ""),
        ];
        for (line, expected) in table {
            assert_eq!(loop_around(&lines, line - 1), expected, "line {line}");
        }
    }

    #[test]
    fn the_innermost_calls_of_the_application_are_shown() {
        let mut file = tempfile::Builder::new().suffix(".py").tempfile().expect("a file");
        file.write_all(TEXT.as_bytes()).expect("written");
        let frame =
            |line| Frame { file: file.path().to_string_lossy().into_owned(), line, ..Frame::default() };
        let library = Frame { file: "/usr/lib/python3.11/queue.py".into(), line: 3, ..Frame::default() };
        let mut frames = vec![library, frame(5), frame(0), frame(77)];
        let mut code = Code::default();
        code.show(std::process::id(), &mut frames);
        assert_eq!((frames[1].code.as_str(), frames[1].within.as_str()), ("total = step(total)", "while"));
        assert!(frames[0].code.is_empty() && frames[2].code.is_empty() && frames[3].code.is_empty());
        code.forget(std::process::id());
        assert!(code.files.is_empty());
        // What is no file is not waited for.
        assert!(read(std::process::id(), "/dev/zero").is_empty());
    }
}
