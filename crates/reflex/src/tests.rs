//! The observer against a real Python process. Tests that need one look for `python3`.

use crate::stack::Stacks;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A Python process that says a line and then does what `code` says.
fn python(code: &str) -> Child {
    let python = std::env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut child =
        Command::new(python).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a Python");
    child.stdin.take().expect("its input").write_all(code.as_bytes()).expect("written");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("its output")).read_line(&mut line).expect("said");
    child
}

fn end(mut child: Child) {
    child.kill().expect("ended");
    child.wait().expect("reaped");
}

#[test]
fn a_stack_is_read_while_c_code_keeps_the_interpreter() {
    let child = python(
        "import ctypes\n\
         def inner():\n    print('here', flush=True)\n    ctypes.PyDLL(None).usleep(10_000_000)\n\
         def outer():\n    inner()\n\
         outer()\n",
    );
    let stacks = Stacks::default().read(child.id());
    let pid = child.id();
    end(child);
    let stacks = stacks.expect("read");
    let names: Vec<&str> = stacks[0].frames.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!(names, ["inner", "outer", "<module>"]);
    assert_eq!(stacks[0].frames[0].line, 4);
    assert!(stacks[0].holds_gil);
    assert!(stacks[0].tid.is_none_or(|tid| tid == pid));
}

#[test]
fn every_thread_is_read_while_they_run() {
    let child = python(
        "import threading, time\n\
         def busy():\n    while True: sum(range(100))\n\
         def wait():\n    time.sleep(60)\n\
         for n in range(3): threading.Thread(target=busy, daemon=True).start()\n\
         for n in range(20): threading.Thread(target=wait, daemon=True).start()\n\
         print('here', flush=True)\n\
         wait()\n",
    );
    let mut stacks = Stacks::default();
    let mut waiting = || {
        let read = stacks.read(child.id()).expect("read");
        assert_eq!(read.len(), 24);
        let tops = read.iter().filter_map(|stack| stack.frames.first());
        tops.filter(|top| top.function == "wait").count()
    };
    // A thread that has been started need not have come that far.
    let begun = Instant::now();
    while waiting() < 21 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the threads do not come to wait");
        thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..20 {
        assert_eq!(waiting(), 21);
    }
    end(child);
}

#[test]
fn who_is_no_python_or_nobody_is_said() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
    let other = Stacks::default().read(child.id());
    child.kill().expect("ended");
    child.wait().expect("reaped");
    assert!(other.is_err_and(|why| !why.is_empty()));
    assert!(Stacks::default().read(u32::MAX >> 1).is_err_and(|why| !why.is_empty()));
}

/// A Python program that stands in library functions of the table, with all kinds of values in their variables.
const VARIABLES: &str = r#"
import sys, types, threading, time

def library(name, code):
    module = types.ModuleType(name)
    exec(compile(code, "/venv/lib/python3/site-packages" + name, "exec"), module.__dict__)
    return module

stand = "    print('here', flush=True)\n    time.sleep(60)\n"
sessions = library("/requests/sessions.py", """
import time
class Session:
  def request(self, method, url, timeout, secret, then):
    password = 'SECRET'
    return then()
""")
sql = library("/psycopg/cursor.py", """
import time
class Cursor:
  def execute(self, query, then):
    return then()
""")
run = library("/subprocess.py", """
import time
def run(*popenargs, then):
    return then()
""")
wsgi = library("/gunicorn/workers/sync.py", """
import time
class SyncWorker:
  def handle_request(self, environ, then):
    return then()
""")
asgi = library("/starlette/applications.py", """
class Starlette:
  def __call__(self, scope, then):
    return then()
""")
end = library("/socket.py", """
import time
def create_connection(address, timeout):
    print('here', flush=True)
    time.sleep(60)
""")
environ = {"wsgi.x": object(), "REQUEST_METHOD": "POST", "RAW_URI": "/a/7?token=SECRET", "HTTP_COOKIE": "SECRET" * 2000}
environ.update({"HTTP_X_%d" % n: "SECRET" for n in range(90)})
environ.update({"REMOTE_ADDR": "10.0.0.1", "REMOTE_PORT": "40001"})
scope = {"type": "http", "method": "GET", "path": "/caf\u00e9/\u4f60\U0001f600", "query_string": b"a=SECRET", "client": ("::1", 7), "headers": []}

def application(secret="SECRET"):
    environ = {"REQUEST_METHOD": "GET", "RAW_URI": "/not/this"}
    return sessions.Session().request("GET", "https://me:SECRET@host/p?q=SECRET", (3.5, None), "SECRET", lambda:
        sql.Cursor().execute("select * from \u00e4 where a = 'SECRET' and b = 12345", lambda:
            run.run(["pg_dump", "--password=SECRET"], then=lambda: end.create_connection(("db.local", 5432), 12))))

wsgi.SyncWorker().handle_request(environ, lambda: asgi.Starlette()(scope, application))
"#;

#[test]
fn variables_on_the_list_are_read_and_no_others() {
    let child = python(VARIABLES);
    let stacks = Stacks::default().read_with_locals(child.id());
    let plain = Stacks::default().read(child.id());
    end(child);
    let stacks = stacks.expect("read");
    let locals = stacks[0].frames.iter().flat_map(|frame| &frame.locals);
    let shown: Vec<String> = locals.map(|(name, value)| format!("{name} = {value}")).collect();
    let text = shown.join("\n");
    assert!(!format!("{stacks:?}").contains("SECRET"), "{text}");
    for expected in [
        "address = db.local:5432",
        "timeout = 12",
        "popenargs = pg_dump",
        "query = select * from ä where a = $1 and b = $2",
        "method = GET",
        "timeout = (3.5, None)",
        "url = https://host/p",
        "PATH = /café/你😀",
        "QUERY = a=*",
        "REMOTE_PORT = 7",
        "PATH = /a/7",
        "QUERY = token=*",
        "REMOTE_PORT = 40001",
        "REQUEST_METHOD = POST",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
    assert!(!text.contains("/not/this"), "{text}");
    assert!(plain.expect("read")[0].frames.iter().all(|frame| frame.locals.is_empty()));
}

/// What the reading of variables rests on: the library says where they are, and reads none.
#[test]
fn the_library_formats_nothing() {
    let child = python(VARIABLES);
    let config = py_spy::config::Config {
        blocking: py_spy::config::LockingStrategy::NonBlocking,
        dump_locals: crate::stack::ADDRESSES_ONLY,
        ..py_spy::config::Config::default()
    };
    let traces =
        py_spy::PythonSpy::new(child.id().cast_signed(), &config).and_then(|mut spy| spy.get_stack_traces());
    end(child);
    let traces = traces.expect("read");
    let variables =
        traces.iter().flat_map(|trace| &trace.frames).flat_map(|frame| frame.locals.iter().flatten());
    let told: Vec<_> = variables.map(|variable| variable.repr.as_deref()).collect();
    assert!(told.len() > 10 && told.iter().all(|repr| *repr == Some("...")), "{told:?}");
}
