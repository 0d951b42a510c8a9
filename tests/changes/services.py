"""A service whose changes are followed: a Flask application in a git repository, on Ferricorn or on a stock Gunicorn with an
observer beside it."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from harness import ctl, wait_until
from harness.ctl import CTL
from harness.server import children, environment, free_port, is_observer

VIEWS = '''
import os
import time
from pathlib import Path

from flask import Blueprint, jsonify

pages = Blueprint("pages", __name__)


@pages.get("/")
def index():
    return jsonify(version="{version}", pid=os.getpid())


@pages.get("/report/<int:number>")
def report(number):
    time.sleep({pause} + other_service())
    return jsonify(version="{version}", pid=os.getpid())


def other_service():
    """Takes as long as a file says that is no part of the application."""
    try:
        return float(Path("{trouble}").read_text())
    except OSError:
        return 0.0
'''
WSGI = '''
from flask import Flask

from shop.views import pages

app = Flask(__name__)
app.register_blueprint(pages)
'''


class Project:
    """A checkout with an application, beside which distributions are installed as `pip install --target` does."""

    def __init__(self, folder):
        self.folder = folder / "checkout"
        self.packages = folder / "packages"
        self.trouble = folder / "trouble"
        self.has_git = shutil.which("git") is not None
        (self.folder / "shop").mkdir(parents=True)
        (self.packages / "requests-2.31.0.dist-info").mkdir(parents=True)
        (self.folder / "gunicorn.conf.py").write_text("graceful_timeout = 20\n")
        (self.folder / "shop" / "__init__.py").write_text("")
        (self.folder / "shop" / "wsgi.py").write_text(WSGI)
        if self.has_git:
            self.git("init", "-q")
        self.head = self.release("one")

    def write(self, version, pause=0.0):
        text = VIEWS.format(version=version, pause=pause, trouble=self.trouble)
        (self.folder / "shop" / "views.py").write_text(text)

    def release(self, version, pause=0.0):
        """Writes and commits another version; returns its commit in short."""
        self.write(version, pause)
        self.head = self.commit(version)
        return self.head

    def git(self, *words):
        options = ["-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", self.folder, *options, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message):
        if self.has_git:
            self.git("add", "-A")
            self.git("commit", "-qm", message)
            return self.git("rev-parse", "HEAD")[:7]
        # What git would leave of it, as far as it is read.
        commit = hashlib.sha1(message.encode()).hexdigest()
        (self.folder / ".git" / "refs" / "heads").mkdir(parents=True, exist_ok=True)
        (self.folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        (self.folder / ".git" / "refs" / "heads" / "main").write_text(commit + "\n")
        return commit[:7]

    def go_back(self, version, pause=0.0):
        """Checks out the version before, as people do who roll back by hand."""
        if self.has_git:
            self.git("checkout", "-q", "HEAD~1")
        else:
            self.write(version, pause)
            self.commit(version)

    def upgrade(self, name, old, new):
        os.rename(self.packages / f"{name}-{old}.dist-info", self.packages / f"{name}-{new}.dist-info")


class Service:
    """The application as it runs. ``state`` is the folder of its records."""

    def __init__(self, folder, *args):
        self.place, self.state = folder, folder / "state"
        self.project = Project(folder)
        self.port = free_port()
        self.args = ["--bind", f"127.0.0.1:{self.port}", "--timeout", "6", *map(str, args), "shop.wsgi:app"]
        self.processes = []
        self.env = environment({"STATE_DIRECTORY": str(self.state)}, [self.project.packages])
        self.log_path = folder / "log"

    def run(self, *command):
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=self.project.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start(self):
        """Starts it; returns when an observer knows what its workers are made of."""
        self.server = self.launch()
        wait_until(self.answers, 20, f"an answer of {self.log()}")
        self.attach()
        wait_until(lambda: self.known() == self.workers(), 30, "workers are known")
        return self

    def answers(self):
        assert self.server.poll() is None, self.log()
        with contextlib.suppress(OSError):
            return self.get("/")

    def attach(self):
        pass

    @property
    def pid(self):
        return self.server.pid

    def workers(self):
        return sorted(pid for pid in children(self.pid) if not is_observer(pid))

    def log(self):
        return self.log_path.read_text(errors="replace")[-6000:]

    def get(self, path, timeout=20):
        """Returns the JSON that a path answers with; the status of an error."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code

    def asked(self, path):
        """Asks the observer, over its socket."""
        socket = next(self.state.glob(f"{self.pid}.sock"), None)
        if socket is None:
            return None
        command = ["curl", "-s", "--max-time", "5", "--unix-socket", socket, f"http://localhost{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def standing(self):
        return (self.asked("/changes") or {}).get("standing", {})

    def known(self):
        """Workers whose version is known."""
        versions = self.standing().get("versions", {})
        return sorted(int(pid) for pid, version in versions.items() if version)

    def reload(self):
        """HUP, until other workers have taken over and are known."""
        before = self.workers()
        os.kill(self.pid, signal.SIGHUP)
        wait_until(
            lambda: len(self.workers()) == len(before) and not set(self.workers()) & set(before), 30, "a reload"
        )
        wait_until(lambda: self.known() == self.workers(), 30, "workers are known")

    def changes(self, *words):
        """What ``ferricornctl changes`` tells, the oldest first."""
        done = ctl("changes", "--json", "--state-dir", self.state, *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)[::-1]

    def incidents(self):
        done = ctl("incidents", "--json", "--state-dir", self.state)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def why(self, name, *words):
        done = ctl("why", name, "--state-dir", self.state, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                process.terminate()
                process.wait(8)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(8)


class Ours(Service):
    """On Ferricorn."""

    kind = "ferricorn"

    def launch(self):
        return self.run(sys.executable, "-m", "ferricorn", "--no-control-socket", "--workers", "2", *self.args)


class Attached(Service):
    """On a stock Gunicorn, with an observer attached."""

    kind = "gunicorn"

    def launch(self):
        logs = ["--access-logfile", self.place / "access.log", "--access-logformat", '%(p)s "%(r)s" %(s)s %(D)s']
        return self.run(sys.executable, "-m", "gunicorn", "--workers", "2", *logs, *self.args)

    def attach(self):
        self.run(CTL, "attach", "--pid", self.pid, "--state-dir", self.state)


class Visitors:
    """Asks for a path again and again, from so many threads."""

    def __init__(self, service, path, clients=4, pause=0.02):
        self.service, self.path, self.pause = service, path, pause
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.visit, daemon=True) for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join(30)

    def visit(self):
        number = 0
        while not self.ended.is_set():
            number += 1
            with contextlib.suppress(OSError):
                self.service.get(self.path.format(number))
            time.sleep(self.pause)
