"""A server whose reports become jobs, as its clients and its operator see it."""

import json
import os
import signal
import time
from pathlib import Path

from harness import ctl, wait_until
from harness.server import children

APPS = Path(__file__).parent / "apps"
ROUTES = ("--offload", "/api/reports/*", "--offload", "/api/broken/*", "--offload", "/api/lines/*", "--offload", "POST /api/about", "--offload", "POST /api/memory/*")
PREFIX = "/.well-known/ferricorn/jobs/"
OVER = ("done", "failed", "cancelled", "expired")


def title(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


class Shop:
    """``folder`` holds its jobs; ``marks`` what its application has written down."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.marks, self.mended = folder / "marks", folder / "mended"

    def start(self, *args, app="reports:app", routes=ROUTES, **options):
        env = {"MARKS": str(self.marks), "MENDED": str(self.mended)}
        self.target = self.server("--state-dir", self.folder, "--name", "shop", "--offload-workers", 1, "--offload-threads", 4, *routes, *args, app=app, path=[APPS], env=env, **options)
        return self

    def send(self, path, method="POST", **options):
        """Sends a request that becomes a job; returns the answer and the job's id."""
        answer = self.target.get(path, method, **options)
        assert answer.status == 202, (answer.status, answer.body)
        told = json.loads(answer.body)
        assert answer.header("Location") == told["status_url"] == PREFIX + told["id"]
        return told["id"]

    def status(self, job, **options):
        answer = self.target.get(PREFIX + job, **options)
        assert answer.status in (200, 303, 410), (answer.status, answer.body)
        return json.loads(answer.body)

    def over(self, job, seconds=30):
        """Waits for the end of a job; returns how it stands then."""
        end = time.monotonic() + seconds
        while True:
            told = self.status(job, headers=[("Prefer", "wait=5")])
            if told["state"] in OVER:
                return told
            assert time.monotonic() < end, told

    def result(self, job):
        return self.target.get(PREFIX + job + "/result")

    def companion(self, role):
        """The pid of the process with this title: ``dispatcher``, or ``jobs`` for the master of those who work on jobs."""
        fits = (lambda text: text.endswith("jobs]")) if role == "jobs" else (lambda text: f": {role} " in text)
        return next((pid for pid in children(self.target.pid) if fits(title(pid))), None)

    def job_workers(self):
        master = self.companion("jobs")
        return [pid for pid in children(master) if ": worker " in title(pid)] if master else []

    def marked(self):
        return self.marks.read_text().splitlines() if self.marks.exists() else []

    def wait_begun(self, name, count=1):
        begun = lambda: len([line for line in self.marked() if line.startswith(f"begin {name}")]) >= count  # noqa: E731
        wait_until(begun, 20, f"{name} begun {count} times")

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)

    def jobs(self, *words):
        done = ctl("jobs", *words, "--json", "--state-dir", self.folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
