//! Worker classes, as far as they differ in what can be seen of them: by the name that settings and log give, and by the
//! functions that a worker's stack is in, which is the truth. Not for: what their requests do.

use ferricorn_core::evidence::Frame;

/// A kind of worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Class {
    Sync,
    Gthread,
    Gevent,
    Asgi,
    Uvicorn,
    Tornado,
    /// Another, or not known.
    #[default]
    Other,
}

/// A loop that beats each second and has not for so long is held.
const SILENT_S: f64 = 3.0;

impl Class {
    /// Returns that of a name: `gthread`, `uvicorn_worker.UvicornWorker`, `<class 'gunicorn.workers.sync.SyncWorker'>`.
    pub(super) fn of_name(name: &str, threads: u32) -> Self {
        let name = name.to_ascii_lowercase();
        let has = |part: &str| name.contains(part);
        if has("uvicorn") {
            Self::Uvicorn
        } else if has("gthread") || has("threadworker") {
            Self::Gthread
        } else if has("gevent") {
            Self::Gevent
        } else if has("tornado") {
            Self::Tornado
        } else if has("asgi") {
            Self::Asgi
        } else if has("sync") && !has("async") {
            // `threads` above 1 turns one into the other.
            if threads > 1 { Self::Gthread } else { Self::Sync }
        } else {
            Self::Other
        }
    }

    /// Returns that of a stack; none if it does not show.
    pub(super) fn of_stack(frames: &[Frame]) -> Option<Self> {
        const FILES: &[(&str, Class)] = &[
            ("/uvicorn_worker/_workers.py", Class::Uvicorn),
            ("/uvicorn/workers.py", Class::Uvicorn),
            ("/gunicorn/workers/gasgi.py", Class::Asgi),
            ("/gunicorn/workers/gthread.py", Class::Gthread),
            ("/gunicorn/workers/ggevent.py", Class::Gevent),
            ("/gunicorn/workers/gtornado.py", Class::Tornado),
            ("/gunicorn/workers/sync.py", Class::Sync),
            // The hub runs in no greenlet of the worker's.
            ("/gevent/hub.py", Class::Gevent),
        ];
        let of = |frame: &Frame| {
            FILES.iter().find(|(file, _)| frame.file.ends_with(file)).map(|(_, class)| *class)
        };
        frames.iter().rev().find_map(of)
    }

    /// Returns its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Gthread => "gthread",
            Self::Gevent => "gevent",
            Self::Asgi => "asgi",
            Self::Uvicorn => "uvicorn_worker.UvicornWorker",
            Self::Tornado => "tornado",
            Self::Other => "",
        }
    }

    /// Tells whether its worker is ended for a request that takes longer than `timeout`.
    pub(super) fn is_enforced(self) -> bool {
        self == Self::Sync
    }

    /// Tells whether a request has a thread whose stack shows it.
    pub(super) fn has_threads(self) -> bool {
        matches!(self, Self::Sync | Self::Gthread | Self::Other)
    }

    /// Returns for how long a worker may give no sign of life until its loop is held; none where silence means nothing.
    pub(super) fn silent_s(self, timeout_s: Option<f64>) -> Option<f64> {
        match self {
            // Who waits for a request beats each half `timeout`.
            Self::Sync => None,
            Self::Gthread | Self::Gevent | Self::Asgi | Self::Tornado => Some(SILENT_S),
            Self::Uvicorn => timeout_s.map(|timeout_s| timeout_s / 2.0 + SILENT_S),
            Self::Other => timeout_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_known_by_name_and_by_stack() {
        let table = [
            ("sync", 1, Class::Sync),
            ("sync", 4, Class::Gthread),
            ("<class 'gunicorn.workers.sync.SyncWorker'>", 1, Class::Sync),
            ("gunicorn.workers.ggevent.GeventWorker", 1, Class::Gevent),
            ("uvicorn.workers.UvicornH11Worker", 1, Class::Uvicorn),
            ("gunicorn.workers.gasgi.ASGIWorker", 1, Class::Asgi),
            ("my.AsyncThing", 1, Class::Other),
            ("", 1, Class::Other),
        ];
        for (name, threads, class) in table {
            assert_eq!(Class::of_name(name, threads), class, "{name}");
        }
        let frame = |file: &str| Frame { file: file.into(), ..Frame::default() };
        let stack = [frame("/srv/app.py"), frame("/v/lib/python3.11/site-packages/gunicorn/workers/sync.py")];
        assert_eq!(Class::of_stack(&stack), Some(Class::Sync));
        assert_eq!(Class::of_stack(&stack[..1]), None);
    }
}
