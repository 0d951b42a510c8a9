"""A stock Gunicorn of a given version, and the source that watches it from outside."""

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPS = Path(__file__).parent / "apps"
VERSIONS = {"23": "gunicorn==23.0.0", "25": "gunicorn==25.3.0", "27": "gunicorn==27.0.1"}
BESIDES = ["flask>=3.1,<4", "uvicorn>=0.38,<1", "uvicorn-worker>=0.4,<1", "gevent>=24.10.1", "packaging"]


@contextlib.contextmanager
def alone():
    """Several processes may run tests at once."""
    with (ROOT / ".test-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def environment(version):
    """A virtual environment with that Gunicorn, made when first needed."""
    folder = ROOT / f".test-venv-g{version}"
    done = folder / "complete"
    with alone():
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, VERSIONS[version], *BESIDES], check=True)
            done.write_text(VERSIONS[version])
    return folder


def title_library():
    """A folder with setproctitle, which hides command lines."""
    folder = ROOT / ".test-venv-title"
    with alone():
        if not (folder / "setproctitle").exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--target", folder, "setproctitle"], check=True)
    return folder


def watcher():
    """The example program of the crate."""
    build = ["cargo", "build", "--quiet", "--package", "ferricorn-reflex", "--example", "attach"]
    with alone():
        subprocess.run(build, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "debug" / "examples" / "attach"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Stock:
    """A stock Gunicorn."""

    def __init__(self, version, folder, *args, app="plain:app", unix=False, env=None, logs=True, ready=True, prefix=()):
        self.folder = folder
        self.port = None if unix else free_port()
        self.path = folder / "gunicorn.sock"
        bind = f"unix:{self.path}" if unix else f"127.0.0.1:{self.port}"
        self.access, self.error, self.pidfile = folder / "access.log", folder / "error.log", folder / "pid"
        command = [environment(version) / "bin" / "gunicorn", "-b", bind, "--pid", self.pidfile, "--chdir", APPS]
        if logs:
            command += ["--access-logfile", self.access, "--error-logfile", self.error]
        variables = {**os.environ, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        variables.pop("XDG_RUNTIME_DIR", None)
        with (folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [*prefix, *map(str, command), *args, app], env=variables, stdout=output, stderr=output, cwd=folder
            )
        self.extra = []
        if ready:
            wait(lambda: self._answers(), 20, "the server does not answer")

    @property
    def pid(self):
        return self.process.pid

    def _answers(self):
        try:
            return self.get("/") == 200
        except (OSError, http.client.HTTPException):
            return False

    def connection(self, timeout=20):
        connection = http.client.HTTPConnection("127.0.0.1", self.port or 80, timeout=timeout)
        if self.port is None:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(timeout)
            connection.sock.connect(str(self.path))
        return connection

    def get(self, path, timeout=20):
        connection = self.connection(timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def later(self, path, timeout=30):
        """Asks in a thread, whose answer nobody needs."""

        def ask():
            try:
                self.get(path, timeout)
            except (OSError, http.client.HTTPException):
                pass

        threading.Thread(target=ask, daemon=True).start()

    def signal(self, number):
        self.process.send_signal(number)

    def children(self, pid=None):
        text = Path(f"/proc/{pid or self.pid}/task/{pid or self.pid}/children").read_text()
        return [int(word) for word in text.split()]

    def end(self):
        pids = {self.pid, *self.extra}
        if self.pidfile.exists():
            pids.add(int(self.pidfile.read_text() or self.pid))
        for pid in pids:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in [*self.children(), self.pid]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait(5)


class Watch:
    """The source, attached."""

    def __init__(self, program, *args, prefix=()):
        self.seen = []
        self.looked = 0
        self.process = subprocess.Popen(
            [*prefix, program, "--every", "0.25", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.seen.append(json.loads(line))

    def all(self, name):
        """Everything that has happened so far: ``lost``, ``deaths`` or ``changes``."""
        return [event for seen in list(self.seen) for event in seen[name]]

    def until(self, condition, what, seconds=20):
        """Waits until a snapshot fulfils a condition, and returns it; from the last one on that was returned."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            for seen in self.seen[self.looked :]:
                if condition(seen["snapshot"]):
                    return seen["snapshot"]
                self.looked += 1
            ended = self.process.poll() is not None and self.looked >= len(self.seen)
            assert not ended, f"the source has ended before this was seen: {what}"
            time.sleep(0.05)
        last = json.dumps({**self.seen[-1]["snapshot"], "routes": []})[:6000] if self.seen else "nothing"
        raise AssertionError(f"not seen within {seconds} s: {what}; last: {last}")

    def until_happened(self, name, condition, what, seconds=20):
        """Waits until something has happened, and returns it."""
        return wait(lambda: next((one for one in self.all(name) if condition(one)), None), seconds, what)

    def lives(self, pid):
        """What a worker has done with its life so far."""
        return [change["life"] for change in self.all("changes") if change["pid"] == pid]

    @property
    def last(self):
        return self.seen[-1]["snapshot"]

    def end(self):
        self.process.kill()
        self.process.wait(5)
        self.process.stdout.close()
        self.process.stderr.close()


def wait(condition, seconds, what):
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def numbers(snapshot):
    """Requests by route and kind of answer."""
    counts = {}
    for route in snapshot["routes"]:
        key = (route["route"], route["class"])
        counts[key] = counts.get(key, 0) + route["app"]["count"]
    return counts


def may_become_another_user():
    return os.geteuid() == 0 and shutil.which("setpriv")
