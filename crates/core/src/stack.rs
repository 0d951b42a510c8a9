//! Reads the stack of a Python thread as `faulthandler` writes it, and chooses what of a boot is worth a place in the log.
//! Not for: making a process write it, or reading the file.

use crate::evidence::Frame;

/// Most frames that are read; `faulthandler` writes no more than 100.
const FRAMES_MAX: usize = 128;
/// Lines of the innermost and of the outermost frames, if there are more than all of them.
const INNER: usize = 6;
const OUTER: usize = 5;

/// Reads the frames of the first thread in a text, innermost first; what is no frame is left out.
pub fn parse(text: &str) -> Vec<Frame> {
    let mut frames = Vec::new();
    for line in text.lines() {
        match frame(line) {
            Some(frame) => frames.push(frame),
            // The heading of another thread.
            None if line.ends_with("(most recent call first):") && !frames.is_empty() => break,
            None => {}
        }
        if frames.len() == FRAMES_MAX {
            break;
        }
    }
    frames
}

/// `  File "X", line N in F`. A name may hold quotes, so that the last mark counts.
fn frame(text: &str) -> Option<Frame> {
    let (file, rest) = text.strip_prefix("  File \"")?.rsplit_once("\", line ")?;
    let (line, function) = rest.split_once(" in ")?;
    let line = line.parse().ok()?;
    Some(Frame { file: file.to_owned(), line, function: function.to_owned(), ..Frame::default() })
}

/// Says where a worker is that loads the application: at most a dozen lines, innermost first, without the machinery of
/// imports and without ours, which called it.
pub fn while_loading(frames: &[Frame]) -> Vec<String> {
    let called = frames.split(is_ours).next().unwrap_or_default();
    let told: Vec<&Frame> = called.iter().filter(|frame| !is_import(frame)).collect();
    // Stuck in ours.
    let told = if told.is_empty() { frames.iter().collect() } else { told };
    let mut lines: Vec<String> = told.iter().map(|frame| format!("at {frame}")).collect();
    if lines.len() > INNER + 1 + OUTER {
        let outer = lines.split_off(lines.len() - OUTER);
        let left_out = lines.split_off(INNER).len();
        lines.push(format!("({left_out} calls between)"));
        lines.extend(outer);
    }
    lines
}

/// Tells whether a frame belongs to the package `ferricorn`.
fn is_ours(frame: &Frame) -> bool {
    frame.file.rsplit('/').nth(1) == Some("ferricorn")
}

fn is_import(frame: &Frame) -> bool {
    frame.file.starts_with("<frozen importlib") || frame.file.ends_with("/importlib/__init__.py")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HANGING: &str = r#"Current thread 0x00007f22 (most recent call first):
  File "/usr/lib/python3.11/socket.py", line 706 in readinto
  File "/srv/shop/rates.py", line 12 in fetch
  File "/srv/shop/rates.py", line 20 in <module>
  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed
  File "/srv/shop/wsgi.py", line 3 in <module>
  File "/usr/lib/python3.11/importlib/__init__.py", line 126 in import_module
  File "/venv/lib/python3.11/site-packages/ferricorn/app.py", line 40 in load
  File "/venv/bin/ferricorn", line 8 in <module>

Thread 0x00007f23 (most recent call first):
  File "/srv/shop/poll.py", line 1 in run
"#;

    #[test]
    fn the_calls_of_the_application_are_told() {
        let frames = parse(HANGING);
        assert_eq!(frames.len(), 8, "of the first thread alone");
        assert_eq!(
            while_loading(&frames),
            [
                "at /usr/lib/python3.11/socket.py:706 in readinto",
                "at /srv/shop/rates.py:12 in fetch",
                "at /srv/shop/rates.py:20 in <module>",
                "at /srv/shop/wsgi.py:3 in <module>",
            ]
        );
        // With nothing but ours, that is told.
        assert_eq!(while_loading(&frames[6..]).len(), 2);
        assert!(while_loading(&[]).is_empty());
    }

    #[test]
    fn deep_stacks_are_shortened_in_the_middle() {
        let deep: String =
            (1..=60).map(|line| format!("  File \"/srv/a\", line 1\", line {line} in f in g\n")).collect();
        let frames = parse(&deep);
        assert_eq!(frames[0].to_string(), "/srv/a\", line 1:1 in f in g");
        let lines = while_loading(&frames);
        assert_eq!(lines.len(), 12);
        assert_eq!(lines[6], "(49 calls between)");
        assert!(lines[11].ends_with(":60 in f in g"));
        assert_eq!(while_loading(&frames[..12]).len(), 12);
        assert_eq!(parse(&deep.repeat(9)).len(), FRAMES_MAX);
    }

    #[test]
    fn what_is_no_frame_is_left_out() {
        let text = "Stack (most recent call first):\n  File ???, line ??? in ???\n  <no Python frame>\n  ...\n  File \"a\", line 99999999999 in f\n";
        assert!(parse(text).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\PC|\n|  File \"|\", line | in |[0-9]){0,200}") {
            let frames = parse(&text);
            prop_assert!(frames.len() <= FRAMES_MAX);
            prop_assert!(while_loading(&frames).len() <= INNER + 1 + OUTER);
        }

        #[test]
        fn what_is_written_is_read(
            file in "[^\n\"]{0,40}", line in any::<u32>(), function in "[a-z<>_.]{1,20}",
        ) {
            let text = format!("  File \"{file}\", line {line} in {function}\n");
            prop_assert_eq!(parse(&text), [Frame { file, line, function, ..Frame::default() }]);
        }
    }
}
