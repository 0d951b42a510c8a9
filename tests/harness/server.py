"""Starts the installed command, waits until it listens, and stops it: never anything that it did not start."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from harness.ctl import CTL
from harness.target import COMMAND, FERRICORN
from harness.wire import Connection, connect

TESTS = Path(__file__).resolve().parents[1]
APPS = TESTS / "apps"
LISTENING = re.compile(r"Listening at: (.*?) \(\d+\)")
BOOTING = re.compile(r"Booting worker with pid: (\d+)")


def wait_until(condition, seconds=10.0, what="condition"):
    """Returns the first true value of ``condition()``; fails after ``seconds``, and says what was awaited: words, or who has them."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what() if callable(what) else what}: not within {seconds} s"
        time.sleep(0.01)


def free_port():
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alive(pid):
    """True for a process that runs, not for one that waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def children(pid):
    """Pids of the live children of a process."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in found if alive(int(child))]


def is_observer(pid):
    """True for the process beside the workers that looks at them."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ferricorn: reflex")
    except OSError:
        return False


class Server:
    """A server process of one test."""

    def __init__(self, folder, app, args, *, bind="tcp", config=None, env=None, path=(), popen=None):
        self.folder = folder
        self.stdout_path = folder / "stdout.log"
        self.stderr_path = folder / "stderr.log"
        self.args = [*args, "--no-control-socket"]
        if bind == "tcp":
            self.address = ("127.0.0.1", free_port())
            self.args += ["--bind", "{}:{}".format(*self.address)]
        elif bind == "unix":
            self.address = str(folder / "web.sock")
            self.args += ["--bind", f"unix:{self.address}"]
        else:
            self.address = bind
        if config is not None:
            (folder / "settings.py").write_text(config)
            self.args += ["--config", str(folder / "settings.py")]
        if app is not None:
            self.args.append(app)
        self.env = environment(env, [*path, APPS])
        self.popen = popen or {}
        self.process = None

    def start(self, ready=True):
        """Starts the process; ``ready`` waits until it listens and has forked its first worker."""
        assert COMMAND.exists(), f"{COMMAND} is missing: install the server under test beside this interpreter"
        with self.stdout_path.open("ab") as stdout, self.stderr_path.open("ab") as stderr:
            self.process = subprocess.Popen(
                [COMMAND, *map(str, self.args)],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                **self.popen,
            )
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=20.0):
        """Waits until the address accepts and there is a worker."""

        def ready():
            assert self.process.poll() is None, f"exited with {self.process.returncode}:\n{self.log()}"
            return self.accepts() and self.workers() and self.observed()

        wait_until(ready, seconds, "server ready")

    def observed(self):
        """True once the observer can be told from a worker by its title, if there is to be one."""
        return COMMAND.name == "gunicorn" or "--no-reflex" in self.args or any(map(is_observer, children(self.pid)))

    def accepts(self):
        try:
            connect(self.address, 1.0).close()
        except OSError:
            return False
        return True

    @property
    def pid(self):
        return self.process.pid

    @property
    def port(self):
        return self.address[1]

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def workers(self, master=None):
        """Pids of the live workers, youngest last."""
        return [pid for pid in children(master or self.pid) if not is_observer(pid)]

    def wait_workers(self, count, seconds=15.0):
        """Waits until there are exactly ``count`` workers."""
        wait_until(lambda: len(self.workers()) == count, seconds, f"{count} workers")
        return self.workers()

    def wait_serving(self, count, seconds=15.0):
        """Waits until ``count`` workers have loaded the application; stock Gunicorn does not tell, so it gets a second."""
        pids = self.wait_workers(count, seconds)
        if not FERRICORN:
            time.sleep(1.0)
            return pids

        def ready():
            text = subprocess.run([CTL, "workers", "--json", str(self.pid)], capture_output=True, text=True, check=True)
            states = [worker["state"] for worker in json.loads(text.stdout)["workers"]]
            return states == ["ready"] * count

        wait_until(ready, seconds, f"{count} workers ready")
        return pids

    def log(self):
        """What the server wrote to stderr so far."""
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    def stdout(self):
        return self.stdout_path.read_text(errors="replace")

    def wait_log(self, pattern, count=1, seconds=15.0, path=None):
        """Waits until a line matches ``pattern`` ``count`` times; returns the last match."""

        def found():
            text = Path(path).read_text(errors="replace") if path else self.log()
            matches = list(re.finditer(pattern, text, re.MULTILINE))
            return matches[count - 1] if len(matches) >= count else None

        return wait_until(found, seconds, f"log line {pattern!r} x{count} in:\n{self.log()[-3000:]}")

    def connect(self, timeout=10.0):
        return Connection(self.address, timeout)

    def get(self, path="/", method="GET", timeout=10.0, **options):
        """One request on a connection of its own."""
        with self.connect(timeout) as connection:
            return connection.request(path, method, close=True, **options)

    def kill(self, number):
        os.kill(self.pid, number)

    def wait(self, seconds=15.0):
        """Waits for the end of the master; returns its exit code."""
        return self.process.wait(seconds)

    def stop(self, number=signal.SIGTERM, seconds=15.0):
        """Asks the master to stop; returns its exit code."""
        if self.process.poll() is None:
            self.kill(number)
        return self.wait(seconds)

    def end(self):
        """Clean-up: gently, then the whole process group that this object started."""
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
            self.stop(seconds=5.0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(5.0)


def environment(extra, path):
    """The environment of a server: ours without what would configure it."""
    unwanted = ("GUNICORN_", "FERRICORN_", "LISTEN_", "OTEL_", "WEB_CONCURRENCY", "PORT", "FORWARDED_ALLOW_IPS", "SENDFILE")
    env = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    env["PYTHONPATH"] = os.pathsep.join(str(folder) for folder in path)
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    env.update(extra or {})
    return env


def run_command(args, folder, *, env=None, path=(), seconds=20.0):
    """Runs the command to its end; for --check-config and for what must fail."""
    return subprocess.run(
        [COMMAND, *map(str, args)],
        cwd=folder,
        env=environment(env, [*path, APPS]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


PYTHON = sys.executable
