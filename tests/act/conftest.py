"""Servers in trouble: our own and a stock Gunicorn with an observer beside it, a database, and a service that does not answer."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness import ctl, wait_until
from harness.ctl import CTL
from harness.postgres import connected, parts
from harness.server import children, is_observer

HERE = Path(__file__).parent
COUNTS = "select count(*) from pg_stat_activity where state = 'active' and query like '%%%s%%' and pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def database(dsn):
    """A database with a role of the observer's that may end others' statements."""
    owner = wait_until(lambda: connected(dsn), what="a session")
    owner.autocommit = True
    with owner.cursor() as cursor:
        cursor.execute("create role watch login; grant pg_read_all_stats, pg_signal_backend to watch")
        cursor.execute("create role shop login; create table stock (id int primary key, count int)")
        cursor.execute("insert into stock values (1, 100); grant all on stock to shop")
    yield Database(dsn, owner)
    owner.close()


class Database:
    """What the applications ask, and who watches it."""

    def __init__(self, dsn, owner):
        words = parts(dsn)
        self.shop = f"host={words['host']} port={words['port']} user=shop dbname=postgres"
        self.watch = f"postgresql://watch@{words['host']}:{words['port']}/postgres"
        self.owner = owner

    def active(self, part):
        """How many sessions work on such a statement."""
        with self.owner.cursor() as cursor:
            cursor.execute(COUNTS % part)
            return cursor.fetchone()[0]

    def run(self, query):
        with self.owner.cursor() as cursor:
            cursor.execute(query)


@pytest.fixture(scope="module")
def silent():
    """A service that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield "127.0.0.1:{}".format(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


class Case:
    """A server in trouble, and what its observer keeps."""

    def __init__(self, server, state):
        self.server, self.state = server, state

    def incidents(self, *words):
        done = ctl("incidents", "--all", "--json", "--state-dir", self.state, *words)
        return json.loads(done.stdout) if done.returncode == 0 else []

    def actions(self):
        """What was done, or was not, over all incidents."""
        return [action for incident in self.incidents() for action in incident.get("actions", ())]

    def changes(self):
        """What is known to have changed, the newest first."""
        done = ctl("changes", "--json", "--state-dir", self.state)
        return json.loads(done.stdout) if done.returncode == 0 else []

    def audit(self):
        """What was written down of actions, the newest first."""
        return json.loads(ctl("actions", "--json", "--state-dir", self.state).stdout)

    def wait_action(self, action, outcome, seconds=30):
        """Waits until an action has come so far, and returns it."""

        def found():
            fits = (one for one in self.actions() if one["action"] == action and one["outcome"] in outcome.split("|"))
            return next(fits, None)

        return wait_until(found, seconds, f"{action} {outcome}; there is {self.actions()}")

    def observer(self):
        """Pid of who observes."""
        if self.host == "gunicorn":
            return self.server.observer.pid
        return next(pid for pid in children(self.server.pid) if is_observer(pid))

    def observe_again(self):
        """Our own starts another by itself."""
        if self.host == "gunicorn":
            self.server.observer.wait(5)
            self.server.attach(self.watched)

    def later(self, path, count=1, timeout=40):
        """Asks in threads; returns the list into which each puts the status, 0 for none, when it is over."""
        answers = []

        def ask():
            try:
                answers.append(self.server.get(path, timeout=timeout).status)
            except Exception:  # The worker has died under it.
                answers.append(0)

        for _ in range(count):
            threading.Thread(target=ask, daemon=True).start()
        return answers


@pytest.fixture(params=["ferricorn", "gunicorn"])
def case(request, server, tmp_path, database, silent):
    """Factory: ``case("--timeout", 3, ..., mode="protect", policy=text)`` starts a server, watched.

    The module of ``app`` is in ``path``.
    """
    observers = []

    def start(*args, mode="protect", policy=None, env=None, app="shop:app", path=HERE):
        state = tmp_path / "state"
        env = {"DSN": database.shop, "PEER": silent, **(env or {})}
        watched = ["--reflex-database", database.watch, "--state-dir", state]
        if mode:
            watched += ["--reflex-mode", mode]
        if policy is not None:
            (tmp_path / "policy.toml").write_text(policy)
            watched += ["--reflex-policy", tmp_path / "policy.toml"]
        if request.param == "ferricorn":
            target = server(*args, *watched, app=app, env=env, path=[path])
        else:
            target = Stock(tmp_path, args, env, app, path)
            observers.append(target)
            target.attach(watched)
        case = Case(target, state)
        case.host, case.watched = request.param, watched
        return case

    start.host = request.param
    yield start
    for observer in observers:
        observer.end()
    # What still waits there is nobody's.
    database.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'shop'")


class Stock:
    """A stock Gunicorn of the version that the tests have installed, and an observer beside it."""

    def __init__(self, folder, args, env, app, path):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.address = listener.getsockname()
        self.folder = folder
        logs = ["--access-logfile", folder / "access.log", "--error-logfile", folder / "error.log"]
        command = [Path(sys.executable).with_name("gunicorn"), "--bind", "127.0.0.1:%d" % self.address[1], *logs, *args]
        env = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1", **env}
        self.process = subprocess.Popen([*map(str, command), app], env=env, start_new_session=True, cwd=folder)
        self.observer = None
        wait_until(self.accepts, 20, "the stock server")

    @property
    def pid(self):
        return self.process.pid

    def accepts(self):
        try:
            socket.create_connection(self.address, 1).close()
        except OSError:
            return False
        return True

    def attach(self, words, who=None):
        log = self.folder / "observer.log"
        command = [CTL, "attach", *(who or ("--pid", self.pid)), "--access-log", self.folder / "access.log"]
        command += ["--error-log", self.folder / "error.log", *words]
        with log.open("w") as output:
            self.observer = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output)
        wait_until(lambda: "asks PostgreSQL" in log.read_text(), 20, "the observer")

    def get(self, path, method="GET", timeout=10):
        from harness import Connection

        with Connection(self.address, timeout) as connection:
            return connection.request(path, method, close=True)

    def log(self):
        names = ("error.log", "observer.log")
        return "".join((self.folder / name).read_text() for name in names if (self.folder / name).exists())

    def workers(self):
        return [int(word) for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def end(self):
        for process in (self.observer, self.process):
            if process and process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
