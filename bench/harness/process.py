"""A server under measurement: started on one core, watched through /proc, ended with all its children."""

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass

from .environment import APPS

START_PATIENCE = 20
STOP_PATIENCE = 5
_TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


class MeasurementError(Exception):
    """A server did not do what is measured; its row says why."""


@dataclass
class Memory:
    """In MB. Proportional set sizes of the process that serves and of all processes together, and its own pages."""

    worker: float
    tree: float
    worker_private: float


class Running:
    """A started server. As context manager: ends it, whatever happened."""

    def __init__(self, command, core=None, environment=None):
        self._environment = environment or {}
        self._command = [str(part) for part in command]
        if core is not None:
            self._command = ["taskset", "--cpu-list", str(core), *self._command]
        self._output = tempfile.TemporaryFile()
        self._seen = set()

    @property
    def pid(self):
        return self._process.pid

    def __enter__(self):
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(APPS), **self._environment}
        # Options that somebody left in the shell would change what is measured.
        for name in ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PORT"):
            environment.pop(name, None)
        try:
            self._process = subprocess.Popen(
                self._command, cwd=APPS, env=environment, stdin=subprocess.DEVNULL,
                stdout=self._output, stderr=self._output, start_new_session=True,
            )
        except OSError as error:
            raise MeasurementError(f"{error}; run once without --skip-install") from error
        return self

    def __exit__(self, *_):
        self._seen |= tree(self.pid)
        self._process.terminate()
        try:
            self._process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        # Children that a terminated parent left behind; the session tells them from others with a reused pid.
        for pid in self._seen:
            if _session(pid) == self.pid:
                _kill(pid)
        self._process.wait()
        self._output.close()

    def wait_until_listening(self, port):
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise MeasurementError(f"ended at start: {self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise MeasurementError(f"did not listen within {START_PATIENCE} s: {self.last_words()}")

    def last_words(self):
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, self._output.tell() - 1500))
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "(it printed nothing)"

    def output(self):
        """All that the server has written so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def cpu(self):
        """CPU time in µs used so far, by process."""
        pids = tree(self.pid)
        self._seen |= pids
        return {pid: used for pid in pids if (used := _cpu_us(pid)) is not None}

    def memory(self):
        sizes = {pid: _pss_and_private_mb(pid) for pid in tree(self.pid)}
        children = [size for pid, size in sizes.items() if pid != self.pid]
        # Servers without a supervisor serve in the first process; beside a worker stand small ones at most.
        pss, private = max(children, default=sizes.get(self.pid, (0.0, 0.0)))
        return Memory(worker=pss, tree=sum(pss for pss, _ in sizes.values()), worker_private=private)

    def stop(self, patience):
        """SIGTERM. Returns the seconds until the server had ended, or None if it had not within `patience`."""
        begun = time.monotonic()
        self._seen |= tree(self.pid)
        self._process.terminate()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - begun


def cpu_between(before, after):
    """µs of CPU that the same processes used between two readings."""
    if before.keys() != after.keys():
        raise MeasurementError("a process of the server ended or was replaced during the measurement")
    return sum(after.values()) - sum(before.values())


def free_port():
    """A port that no outgoing connection can take meanwhile: those get theirs from a range of their own."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        low, high = map(int, file.read().split())
    candidates = [port for port in range(10_000, 65_000) if not low <= port <= high]
    for port in random.sample(candidates, min(100, len(candidates))):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise MeasurementError(f"no free port outside {low}-{high}, the range of outgoing connections")


def tree(root):
    """`root` and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(entry)):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = set(), [root]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, [])
    return found


def _stat(pid):
    """The fields of /proc/PID/stat behind the name: state, parent, group, session ..."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _session(pid):
    fields = _stat(pid)
    return int(fields[3]) if fields and fields[0] != "Z" else None


def _cpu_us(pid):
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) * _TICK_US if fields else None


def _pss_and_private_mb(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            # Behind the line that names the range.
            sizes = {name: int(size) / 1024 for name, size, _ in map(str.split, list(file)[1:])}
    except OSError:
        return 0.0, 0.0
    return sizes.get("Pss:", 0.0), sizes.get("Private_Clean:", 0.0) + sizes.get("Private_Dirty:", 0.0)


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
