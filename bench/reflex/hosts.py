"""The two that are compared: Ferricorn, whose observer is its own, and stock Gunicorn with an observer attached from outside.

Not here: what happens to them (`cell`)."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from harness.process import MeasurementError, free_port, tree

from . import children, probe
from .faults.base import TIMEOUT

APPS = Path(__file__).resolve().parent / "apps"
TARGETS = {"flask": "shop_flask:app", "django": "shop_django.wsgi:application", "fastapi": "shop_fastapi:app"}
SERVE_PATIENCE = 40
# A user with no rights on the processes of others.
NOBODY = ("nobody", "nogroup")


class Host:
    """A started server with its observer. As context manager: ends both, whatever happened."""

    name = ""

    def __init__(self, stage, venv, grade, mode="advise"):
        self.stage, self.venv, self.grade, self.mode = stage, Path(venv), grade, mode
        self.port = free_port()
        self.state = stage.folder / "state"
        self.access_log, self.error_log = stage.folder / "access.log", stage.folder / "error.log"
        self._output = stage.folder / "server.log"

    def command(self):
        raise NotImplementedError

    def __enter__(self):
        self.state.mkdir()
        if self.grade == "C":
            _writable_by_all(self.stage.folder)
        environment = {**_environment(), **self.stage.environment(), "PYTHONPATH": str(APPS)}
        self._process = children.started(
            [*self.stage.prefix, *self.command()], self._output, env=environment, cwd=self.stage.folder
        )
        try:
            self._until_it_serves()
            self.attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def attach(self):
        """Starts what is beside the server."""

    def _until_it_serves(self):
        def serves():
            if self._process.poll() is not None:
                raise MeasurementError(f"the server ended at start: {self.last_words()}")
            all_there = len(self.workers()) >= self.stage.fault.shape.workers
            return children.listens(self.port) and all_there and _status(self.port, "/") == 200

        children.wait(serves, f"the server does not serve within {SERVE_PATIENCE} s", SERVE_PATIENCE)

    def last_words(self):
        return " | ".join(children.last_line(log) for log in (self._output, self.error_log) if log.exists())

    @property
    def pid(self):
        return self._process.pid

    def workers(self):
        """The processes that serve."""
        return [pid for pid in probe.children(self.pid) if not probe.command(pid).startswith("ferricorn: reflex")]

    def everybody(self):
        return tree(self.pid)

    def incidents(self):
        """What the observer says, as it says it."""
        command = [self.venv / "bin" / "ferricornctl", "incidents", "--json", "--all", "--state-dir", self.state]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=30)
        try:
            found = json.loads(done.stdout)
        except ValueError:
            raise MeasurementError(f"ferricornctl incidents: {(done.stderr or done.stdout).strip()[-300:]}") from None
        # An array, or an object that holds it.
        return found["incidents"] if isinstance(found, dict) else found

    def kills(self):
        """How many workers were ended for what one request did: with all others that they had."""
        return self.log().count("was sent SIGKILL!") + self.log().count("was sent SIGABRT!")

    def signal(self, number):
        os.kill(self.pid, number)

    def rotate(self):
        """What logrotate does."""
        for log in (self.access_log, self.error_log):
            if log.exists():
                log.rename(log.with_suffix(".1"))
        self.signal(signal.SIGUSR1)

    def log(self):
        logs = self.error_log.with_suffix(".1"), self.error_log
        return "".join(path.read_text(errors="replace") for path in logs if path.exists())

    def __exit__(self, *_):
        if not hasattr(self, "_process"):
            return
        for pid in _of_session(self.pid):
            # One that is stopped does not hear that it shall end.
            _send(pid, signal.SIGCONT)
        children.ended(self._process, patience=4)
        # Children that were left behind, by workers that were killed, too.
        for pid in _of_session(self.pid):
            _send(pid, signal.SIGKILL)

    def _databases(self):
        """The flags that give the observer access to databases."""
        return [part for url in self.stage.observed(self.grade) for part in ("--reflex-database", url)]

    def _common(self):
        shape = self.stage.fault.shape
        options = ["--bind", f"127.0.0.1:{self.port}", "--workers", shape.workers, "--timeout", TIMEOUT]
        options += ["--graceful-timeout", 3, "--access-logfile", self.access_log, "--error-logfile", self.error_log]
        if shape.threads > 1 and self.stage.framework != "fastapi":
            options += ["--threads", shape.threads]
        return [*options, *shape.options, "--no-control-socket"]


class Ferricorn(Host):
    """Watches itself."""

    name = "ferricorn"

    def command(self):
        command = [self.venv / "bin" / "ferricorn", *self._common(), "--boot-timeout", TIMEOUT, "--state-dir", self.state]
        if self.stage.framework == "fastapi":
            command += ["--worker-class", "asgi"]
        if not self.stage.bare:
            command += [*self._databases(), "--reflex-mode", self.mode]
        if self.grade == "C":
            command = [*_without("sys_ptrace"), *command, "--user", NOBODY[0], "--group", NOBODY[1]]
        if self.grade == "S":
            command = [*_sealed(), *command]
        return [*command, TARGETS[self.stage.framework]]


class Gunicorn(Host):
    """As it comes from PyPI; `ferricornctl attach` looks at it."""

    name = "gunicorn"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._observer = None

    def command(self):
        command = [self.venv / "bin" / "gunicorn", *self._common()]
        if self.stage.framework == "fastapi":
            command += ["--worker-class", "uvicorn_worker.UvicornWorker"]
        return [*command, TARGETS[self.stage.framework]]

    def attach(self):
        if self.stage.bare:
            return
        command = [self.venv / "bin" / "ferricornctl", "attach", "--pid", self.pid, "--state-dir", self.state]
        command += ["--access-log", self.access_log, "--error-log", self.error_log, *self._databases()]
        command += ["--reflex-mode", self.mode]
        if self.grade == "C":
            command = [*_somebody_else(), *command]
        if self.grade == "S":
            command = [*_sealed(), *command]
        log = self.stage.folder / "observer.log"
        self._observer = children.started(command, log, env=_environment(), cwd=self.stage.folder)

    def incidents(self):
        if self._observer.poll() is not None:
            raise MeasurementError(f"the observer ended: {children.last_line(self.stage.folder / 'observer.log')}")
        return super().incidents()

    def __exit__(self, *_):
        if self._observer:
            children.ended(self._observer)
        super().__exit__()


KINDS = {kind.name: kind for kind in (Ferricorn, Gunicorn)}


def _environment():
    """Nothing of the shell's that would change what is measured: no options, no proxies."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def _without(capability):
    return ["setpriv", f"--inh-caps=-{capability}", f"--bounding-set=-{capability}", "--"]


def _somebody_else():
    return ["setpriv", "--reuid", NOBODY[0], "--regid", NOBODY[1], "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]


def _sealed():
    return ["/usr/bin/env", "python3", Path(__file__).with_name("sealed.py")]


def _writable_by_all(folder):
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def _status(port, path):
    """Of one request; None if there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def seconds_of(port, path):
    """How long one request takes that must succeed."""
    begun = time.monotonic()
    if _status(port, path) != 200:
        raise MeasurementError(f"{path} does not work in calm")
    return time.monotonic() - begun


def _send(pid, number):
    try:
        os.kill(pid, number)
    except OSError:
        pass


def _of_session(leader):
    """The processes of the session that the server was started in."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == leader:
            found.append(int(name))
    return found


def missing(grade, venv):
    """Why this grade cannot be measured here; None if it can."""
    if grade == "S" and not shutil.which("cc"):
        return "grade S needs a C compiler (cc), for what refuses files below /proc"
    if grade != "C":
        return None
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return "grade C needs root and setpriv, to run the observer as somebody else"
    done = subprocess.run([*_somebody_else(), venv / "bin" / "python", "-c", "pass"], capture_output=True)
    if done.returncode != 0:
        return f"grade C: {NOBODY[0]} cannot run the Python of {venv}"
    return None
