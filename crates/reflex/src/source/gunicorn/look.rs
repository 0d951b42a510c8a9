//! What the stacks of a worker show of its requests: which one each thread is at, by the environment or scope that the
//! server's own functions have. Not for: when to look, and not for evidence of why.

use super::class::Class;
use crate::stack::Stack;
use ferricorn_core::evidence::Frame;

/// What a thread is at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct What {
    pub(super) method: String,
    pub(super) path: String,
    /// Names alone.
    pub(super) query: String,
    /// Of the client's connection, where there is one.
    pub(super) port: Option<u16>,
    /// Kernel id of the thread; 0 where Python does not keep it (CPython 3.10 and older).
    pub(super) tid: u32,
    pub(super) ident: u64,
}

/// What a worker is at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shown {
    pub(super) requests: Vec<What>,
    /// A thread reads a request that has not come whole.
    pub(super) reads: bool,
    pub(super) class: Option<Class>,
    /// `timeout` of a worker of class `sync`, which keeps half of it.
    pub(super) timeout_s: Option<f64>,
}

/// Reads the stacks of the worker with this pid.
pub(super) fn shown(pid: u32, stacks: &[Stack]) -> Shown {
    let requests = stacks.iter().filter_map(|stack| what(pid, stack, stacks.len() == 1)).collect();
    let reads = stacks.iter().any(|stack| stack.frames.iter().any(reads));
    let class = stacks.iter().find_map(|stack| Class::of_stack(&stack.frames));
    let timeout_s = stacks.iter().flat_map(|stack| &stack.frames).find_map(timeout_s);
    Shown { requests, reads, class, timeout_s }
}

fn timeout_s(frame: &Frame) -> Option<f64> {
    let half: f64 = frame
        .file
        .ends_with("/gunicorn/workers/sync.py")
        .then(|| frame.locals.get("timeout"))??
        .parse()
        .ok()?;
    // 0.5 stands for none, too.
    (half > 0.5).then_some(half * 2.0)
}

fn what(pid: u32, stack: &Stack, alone: bool) -> Option<What> {
    // The outermost is the request's; within it the application may have made another for a test, or a mounted one.
    let frame = stack.frames.iter().rev().find(|frame| frame.locals.contains_key("REQUEST_METHOD"))?;
    let local = |name: &str| frame.locals.get(name).cloned().unwrap_or_default();
    Some(What {
        method: local("REQUEST_METHOD"),
        path: local("PATH"),
        query: local("QUERY"),
        port: local("REMOTE_PORT").parse().ok(),
        // The only thread is the main one.
        tid: stack.tid.or(alone.then_some(pid)).unwrap_or(0),
        ident: stack.ident,
    })
}

fn reads(frame: &Frame) -> bool {
    frame.file.ends_with("/gunicorn/http/unreader.py") || frame.file.ends_with("/gunicorn/http/body.py")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str, locals: &[(&str, &str)]) -> Frame {
        let locals = locals.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Frame { function: function.into(), file: file.into(), line: 1, locals, ..Frame::default() }
    }

    #[test]
    fn each_thread_shows_its_request() {
        const SERVER: &str = "/v/lib/python3.11/site-packages/gunicorn/workers/gthread.py";
        let stack = |tid, frames| Stack { tid, ident: 9, holds_gil: false, frames };
        let request =
            [("REQUEST_METHOD", "GET"), ("PATH", "/slow"), ("QUERY", "a=*"), ("REMOTE_PORT", "40000")];
        let inner = [("REQUEST_METHOD", "GET"), ("PATH", "/inner")];
        let stacks = [
            stack(
                Some(12),
                vec![
                    frame("view", "/srv/app.py", &[]),
                    frame("Flask.wsgi_app", "/v/lib/python3.11/site-packages/flask/app.py", &inner),
                    frame("ThreadWorker.handle_request", SERVER, &request),
                ],
            ),
            stack(Some(11), vec![frame("ThreadWorker.run", SERVER, &[])]),
        ];
        let seen = shown(11, &stacks);
        let expected = What {
            method: "GET".into(),
            path: "/slow".into(),
            query: "a=*".into(),
            port: Some(40000),
            tid: 12,
            ident: 9,
        };
        assert_eq!((seen.requests, seen.reads, seen.class), (vec![expected], false, Some(Class::Gthread)));
        let reading =
            frame("SocketUnreader.chunk", "/v/lib/python3.11/site-packages/gunicorn/http/unreader.py", &[]);
        assert!(shown(11, &[stack(None, vec![reading])]).reads);
        assert_eq!(shown(11, &[]), Shown::default());
    }
}
