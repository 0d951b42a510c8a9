"""ferricornctl beside a running server: what it shows is what the server does."""

import contextlib
import http.client
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def wait_until(condition, seconds=10):
    """Return the first true value of `condition`, or fail."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server of its own port and pidfile."""

    def __init__(self, folder, *arguments):
        self.port = free_port()
        self.pidfile = folder / "web.pid"
        self.log = folder / "error.log"
        command = [BIN / "ferricorn", "--bind", f"127.0.0.1:{self.port}", "--pid", self.pidfile]
        command += ["--chdir", HERE, "--error-logfile", self.log, *arguments, "ctl_app:app"]
        self.process = subprocess.Popen(command, cwd=folder)

    def get(self, path, timeout=10):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            response.read()
            return response.status

    def ready(self, workers):
        def all_ready():
            assert self.process.poll() is None, self.log.read_text()
            outcome = self.ctl("workers", "--json")
            shown = json.loads(outcome.stdout)["workers"] if outcome.returncode == 0 else []
            return len(shown) == workers and all(worker["state"] == "ready" for worker in shown)

        wait_until(all_ready, 20)

    def ctl(self, verb, *options):
        return ctl(verb, *options, "--pid", str(self.process.pid))

    def json(self, verb, *options):
        outcome = self.ctl(verb, "--json", *options)
        assert (outcome.returncode, outcome.stderr) == (0, "")
        return json.loads(outcome.stdout)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def ctl(*arguments):
    command = [BIN / "ferricornctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)


@contextlib.contextmanager
def serving(folder, *arguments, workers):
    server = Server(folder, "--workers", str(workers), *arguments)
    try:
        server.ready(workers)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server"), "--threads", "2", workers=2) as server:
        yield server


@contextlib.contextmanager
def in_background(server, path):
    """Send a request and go on while it runs."""
    thread = threading.Thread(target=server.get, args=(path,))
    thread.start()
    try:
        yield
    finally:
        thread.join(15)
        assert not thread.is_alive()


def test_workers_counts_what_was_served(server):
    before = server.json("workers")
    for _ in range(20):
        assert server.get("/") == 200
    assert server.get("/broken") == 500

    def counted():
        after = server.json("workers")
        gained = {
            key: sum(worker["responses"][key] for worker in after["workers"])
            - sum(worker["responses"][key] for worker in before["workers"])
            for key in ("2xx", "5xx")
        }
        return gained == {"2xx": 20, "5xx": 1}

    wait_until(counted)
    document = server.json("workers")
    assert document["schema"] == 1
    assert document["server"]["arbiter_pid"] == server.process.pid
    assert document["server"]["workers_target"] == 2
    assert [worker["age"] for worker in document["workers"]] == [1, 2]
    for worker in document["workers"]:
        parent = Path(f"/proc/{worker['pid']}/stat").read_text().rsplit(")", 1)[1].split()[1]
        assert int(parent) == server.process.pid
        assert worker["threads"] == 2
        assert 0 < worker["boot_s"] < 20


def test_the_table_has_one_line_per_worker_and_a_summary(server):
    lines = server.ctl("workers").stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:4] == ["PID", "AGE", "STATE", "UP"]
    pids = [str(worker["pid"]) for worker in server.json("workers")["workers"]]
    assert [line.split()[0] for line in lines[1:3]] == pids
    assert lines[3].startswith(f"arbiter {server.process.pid}, up ")
    assert "2 of 2 workers ready" in lines[3]


def test_a_server_is_named_by_pid_pidfile_or_a_worker(server):
    expected = server.json("workers")["server"]["arbiter_pid"]
    worker = str(server.json("workers")["workers"][0]["pid"])
    for name in (
        ["--pidfile", str(server.pidfile)],
        [str(server.pidfile)],
        [str(server.process.pid)],
        ["--pid", worker],
    ):
        outcome = ctl("workers", "--json", *name)
        assert outcome.returncode == 0, outcome.stderr
        assert json.loads(outcome.stdout)["server"]["arbiter_pid"] == expected


def test_requests_shows_what_is_running(server):
    with in_background(server, "/slow?1.5"):
        running = wait_until(lambda: server.json("requests")["requests"])
        assert len(running) == 1
        request = running[0]
        assert request["method"] == "GET"
        assert request["path"].startswith("/slow")
        assert request["phase"] == "app"
        assert request["client"].startswith("127.0.0.1")
        assert 0 <= request["age_s"] < 5
        assert Path(f"/proc/{request['worker_pid']}/task/{request['tid']}").is_dir()
        line = server.ctl("requests").stdout.splitlines()[1]
        assert "/slow" in line and str(request["worker_pid"]) in line
    wait_until(lambda: server.json("requests")["requests"] == [])
    assert server.ctl("requests").stdout == "no request is running in the application\n"


def test_recent_shows_what_has_finished(server):
    assert server.get("/slow?0.1") == 200
    assert server.get("/broken") == 500

    def both():
        recent = server.json("requests", "--recent", "2")["recent"]
        return recent if [flight["status"] for flight in recent] == [500, 200] else None

    broken, slow = wait_until(both)
    assert broken["path"].startswith("/broken")
    assert slow["path"].startswith("/slow")
    assert 100 <= slow["app_ms"] <= slow["total_ms"] < 5000
    assert slow["bytes"] == 6


def test_looking_works_while_every_worker_is_stuck(tmp_path):
    with serving(tmp_path, workers=1) as server:
        with in_background(server, "/slow?3"):
            wait_until(lambda: server.json("requests")["requests"])
            start = time.monotonic()
            worker = server.json("workers")["workers"][0]
            assert time.monotonic() - start < 1.5
            assert worker["threads_busy"] == worker["threads"] == 1


def on_a_terminal(server, **environment):
    """Return what `ferricornctl workers` writes to a terminal."""
    main, terminal = pty.openpty()
    command = [BIN / "ferricornctl", "workers", "--pid", str(server.process.pid)]
    clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    with subprocess.Popen(command, stdout=terminal, env={**clean, **environment}) as process:
        os.close(terminal)
        text = b""
        # Linux ends a terminal without writers by EIO.
        with contextlib.suppress(OSError):
            while chunk := os.read(main, 65536):
                text += chunk
        os.close(main)
        assert process.wait(5) == 0
    return text.decode()


def test_colours_are_for_terminals(server):
    assert "\x1b[" not in server.ctl("workers").stdout
    assert "\x1b[32mready\x1b[0m" in on_a_terminal(server)
    assert "\x1b[" not in on_a_terminal(server, NO_COLOR="1")


def three_parts(text):
    lines = text.splitlines()
    return len(lines) >= 3 and lines[0].startswith("error: ") and "  why: " in text and "  try: " in text


def test_what_cannot_be_read_is_explained(server, tmp_path):
    stale = tmp_path / "stale.pid"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale.write_text(f"{ended.pid}\n")
    garbage = tmp_path / "garbage.pid"
    garbage.write_text("no pid\n")
    for arguments in (
        ["--pid", str(os.getpid())],
        ["--pidfile", str(stale)],
        ["--pidfile", str(garbage)],
        ["--pidfile", str(tmp_path / "missing.pid")],
    ):
        outcome = ctl("workers", *arguments)
        assert (outcome.returncode, outcome.stdout) == (1, ""), arguments
        assert three_parts(outcome.stderr), outcome.stderr


def test_wrong_usage_is_told_apart():
    for arguments in ([], ["wrokers"], ["workers", "--pid", "x"], ["requests", "--recent", "0"]):
        outcome = ctl(*arguments)
        assert (outcome.returncode, outcome.stdout) == (2, ""), arguments
    for arguments in (["--help"], ["--version"], ["workers", "--help"]):
        outcome = ctl(*arguments)
        assert (outcome.returncode, outcome.stderr) == (0, ""), arguments
