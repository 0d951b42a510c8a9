"""A made-up observer of a made-up Gunicorn: it answers over a unix socket as a real one does."""

import contextlib
import http.server
import json
import socketserver
import subprocess
import threading
from pathlib import Path


def distribution(*buckets):
    """Durations by bucket: ``(index, count)``."""
    count = sum(number for _, number in buckets)
    return {"count": count, "sum_us": 1000 * count, "buckets": [list(pair) for pair in buckets]}


def route(path, kind, *buckets):
    nothing = distribution()
    key = {"route": path, "named": False, "method": "GET", "class": kind}
    return {**key, "queue": nothing, "app": distribution(*buckets), "write": nothing}


def snapshot(pid):
    """A Gunicorn of two workers, one of them at a request for 24 s."""
    worker = {
        "age": 1, "generation": 0, "state": "ready", "life": "ready", "uptime_s": 600.0, "boot_s": 1.0,
        "beat_age_s": 0.2, "threads": 1, "threads_free": 1, "queued": 0, "connections": 1,
        "taken_over": False, "requests": 100, "statuses": [0, 98, 0, 0, 2], "refused": 0, "shed": 0,
        "timed_out": 0, "bytes_sent": 0, "takeovers": 0, "handed_over": 0, "taken_in": 0, "timed": [],
    }  # fmt: skip
    request = {
        "pid": pid + 2, "number": 1, "phase": "app", "age_s": 24.0, "fd": 9, "ident": 0, "bytes_sent": 0,
        "id": f"{pid + 2}-1", "method": "GET", "path": "/report", "query": "", "route": "/report",
        "client": "10.0.0.7:5123", "body_bytes": 0, "tid": pid + 2, "read_s": 0.0, "queue_s": 0.0,
        "app_s": 24.0, "deadline_s": 30.0,
    }  # fmt: skip
    return {
        "schema": 1, "kind": "gunicorn", "at_s": 1_700_000_000.0, "arbiter_pid": pid, "name": "shop",
        "version": "23.0.0", "worker_class": "sync", "threads": 1, "timeout_s": 30.0, "uptime_s": 601.0,
        "workers_target": 2, "generation": 0,
        "workers": [
            {**worker, "pid": pid + 1},
            {**worker, "pid": pid + 2, "age": 2, "life": "busy", "threads_free": 0},
        ],
        "requests": [request],
        "routes": [route("/", "2xx", (63, 197)), route("/report", "lost", (176, 1))],
        "exits": {"timeout": 1},
        "gaps": ["the database was not asked"],
    }  # fmt: skip


class Observer(socketserver.ThreadingUnixStreamServer):
    """Answers GET of the paths that it knows."""

    daemon_threads = True

    class RequestHandlerClass(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            document = self.server.documents.get(self.path)
            body = json.dumps(document).encode()
            self.send_response(404 if document is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self):
            return "local"

        def log_message(self, *_):
            pass

    def __init__(self, path, documents):
        super().__init__(str(path), self.RequestHandlerClass)
        self.documents = documents


@contextlib.contextmanager
def answering(path, documents):
    """An observer at a path."""
    observer = Observer(path, documents)
    thread = threading.Thread(target=observer.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield observer
    finally:
        observer.shutdown()
        thread.join(10)
        observer.server_close()


@contextlib.contextmanager
def observed(folder):
    """A process that stands for a Gunicorn's arbiter, with an observer in ``folder``; gives both."""
    arbiter = subprocess.Popen(["sleep", "600"])
    documents = {"/snapshot": snapshot(arbiter.pid), "/incidents": {"schema": 1, "incidents": []}}
    try:
        with answering(Path(folder) / f"{arbiter.pid}.sock", documents) as observer:
            yield arbiter, observer
    finally:
        arbiter.kill()
        arbiter.wait()
