//! Gunicorn's control socket (25.1 and newer): a message is its length in four bytes and JSON. Only what shows something is
//! asked, and seldom: it is answered by a thread of the arbiter. Not for: commands that change anything.

use serde_json::{Value, json};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long one read or write may take: who does not answer is asked again later.
const PATIENCE: Duration = Duration::from_millis(100);
/// Most bytes of an answer.
const ANSWER_MAX: usize = 1 << 20;

/// Asks one question, such as `show workers`, and returns the answer's `data`.
pub(super) fn ask(path: &str, command: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let question = json!({ "id": 1, "command": command, "args": [] }).to_string();
    let mut message = u32::try_from(question.len()).map_err(Error::other)?.to_be_bytes().to_vec();
    message.extend(question.as_bytes());
    stream.write_all(&message)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ANSWER_MAX {
        return Err(Error::new(ErrorKind::InvalidData, "the answer is too long"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    let mut answer: Value = serde_json::from_slice(&answer)?;
    match answer.get("status").and_then(Value::as_str) {
        Some("ok") => Ok(answer["data"].take()),
        _ => Err(Error::other(answer["error"].as_str().unwrap_or("no answer").to_owned())),
    }
}

/// A worker as the arbiter shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) pid: u32,
    /// Spawn number.
    pub(super) age: u32,
    /// The arbiter has found it silent for too long.
    pub(super) aborted: bool,
}

/// Reads the answer to `show workers`.
pub(super) fn workers(data: &Value) -> Vec<Shown> {
    let number =
        |worker: &Value, name: &str| worker[name].as_u64().and_then(|number| u32::try_from(number).ok());
    let shown = |worker: &Value| {
        let (pid, age) = (number(worker, "pid")?, number(worker, "age")?);
        Some(Shown { pid, age, aborted: worker["aborted"].as_bool().unwrap_or(false) })
    };
    data["workers"].as_array().into_iter().flatten().filter_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Answers one question with these bytes.
    fn answered(bytes: Vec<u8>) -> Result<Value> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ctl");
        let listener = UnixListener::bind(&path).expect("bound");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            let mut length = [0; 4];
            stream.read_exact(&mut length).expect("read");
            let mut question = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut question).expect("read");
            assert!(String::from_utf8_lossy(&question).contains("show stats"));
            // Who has heard enough may have gone.
            let _ = stream.write_all(&bytes);
        });
        let answer = ask(&path.to_string_lossy(), "show stats");
        thread.join().expect("ended");
        answer
    }

    #[test]
    fn answers_are_read_or_refused() {
        let framed = |text: &str| [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
        let good = answered(framed(r#"{"id":1,"status":"ok","data":{"pid":7}}"#)).expect("answered");
        assert_eq!(good["pid"], 7);
        assert!(
            answered(framed(r#"{"id":1,"status":"error","error":"Unknown"}"#))
                .is_err_and(|e| e.to_string() == "Unknown")
        );
        for bytes in [framed("{"), vec![255; 8], vec![0, 0, 0, 9, b'{'], vec![]] {
            assert!(answered(bytes).is_err());
        }
        assert!(ask("/nowhere/ctl", "show stats").is_err());
    }

    #[test]
    fn workers_are_read_as_far_as_they_go() {
        let data = json!({ "workers": [
            { "pid": 9, "age": 2, "booted": false, "aborted": true, "last_heartbeat": -1e9 },
            { "pid": "x" },
        ] });
        assert_eq!(workers(&data), [Shown { pid: 9, age: 2, aborted: true }]);
        assert!(workers(&json!(null)).is_empty());
    }
}
