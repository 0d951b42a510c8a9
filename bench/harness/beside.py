"""What stands beside a server in `run.py faults`: nginx before it, PostgreSQL and a silent listener behind it, and a
control group round it. Each is made in a temporary folder and ended by the one who made it.

Not here: servers under measurement (`process`)."""

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .process import MeasurementError, free_port

PATIENCE = 20
GROUPS = Path("/sys/fs/cgroup")

_NGINX = """
worker_processes 1;
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream app {{ server 127.0.0.1:{port}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{front};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""


class Nginx:
    """nginx before the server on `port`; it listens on `self.port`."""

    def __init__(self, port):
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory()
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
        text = _NGINX.format(folder=self._folder.name, port=port, front=self.port, user=user)
        self._config = Path(self._folder.name, "nginx.conf")
        self._config.write_text(text)

    def __enter__(self):
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        command = [binary, "-p", self._folder.name, "-e", f"{self._folder.name}/error.log", "-c", self._config]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait(lambda: _listens(self.port), "nginx did not start")
        return self

    def __exit__(self, *_):
        _end(self._process)
        self._folder.cleanup()

    def complaints(self):
        """How often nginx lost a connection of the server's."""
        words = ("reset by peer", "prematurely closed", "no live upstreams", "refused", "Broken pipe")
        with open(f"{self._folder.name}/error.log") as file:
            return sum(any(word in line for word in words) for line in file)


class Postgres:
    """A cluster of its own. As root it runs as the user `postgres`, since the program refuses root."""

    def __init__(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
        if not found:
            raise MeasurementError("PostgreSQL is not installed (Debian: postgresql)")
        self._bin = Path(found[-1]).parent
        self._port = free_port()
        self._folder = tempfile.TemporaryDirectory()
        self._as = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder.name, user.pw_uid, user.pw_gid)
            self._as = ["runuser", "-u", "postgres", "--"]
        self.dsn = f"host=127.0.0.1 port={self._port} user=faults dbname=postgres"

    def __enter__(self):
        data = f"{self._folder.name}/data"
        make = [*self._as, self._bin / "initdb", "-D", data, "-U", "faults", "--auth", "trust", "--no-sync"]
        done = subprocess.run(make, cwd="/", capture_output=True, text=True)
        if done.returncode != 0:
            raise MeasurementError(f"initdb: {done.stderr.strip()[-300:]}")
        options = ["-p", str(self._port), "-k", self._folder.name, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [*self._as, self._bin / "postgres", "-D", data, *options]
        self._process = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait(lambda: _listens(self._port), "PostgreSQL did not start")
        return self

    def __exit__(self, *_):
        # Without waiting for backends that sleep.
        pid = int(Path(self._folder.name, "data/postmaster.pid").read_text().split()[0])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 2)
        _end(self._process)
        self._folder.cleanup()


class Silent:
    """A listener that takes connections and never says a word."""

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        return self

    def __exit__(self, *_):
        self._socket.close()


class Limited:
    """A control group with little memory, of either version."""

    def __init__(self, most):
        self._folder = None
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        paths = {controllers: path.lstrip("/") for _, controllers, path in lines}
        places = [
            (GROUPS / "memory" / paths.get("memory", ""), {"memory.limit_in_bytes": most, "memory.memsw.limit_in_bytes": most}),
            (GROUPS / paths.get("", ""), {"memory.max": most, "memory.swap.max": 0}),
        ]
        for parent, limits in places:
            folder = parent / f"faults-{os.getpid()}"
            if not (parent / "cgroup.procs").exists():
                continue
            try:
                folder.mkdir(exist_ok=True)
                for name, value in limits.items():
                    with (folder / name).open("r+") as file:
                        file.write(str(value))
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                continue
            self._folder = folder
            return
        raise MeasurementError("no control group for memory can be made here")

    def add(self, pids):
        for pid in pids:
            (self._folder / "cgroup.procs").write_text(str(pid))

    def remove(self):
        _wait(lambda: not (self._folder / "cgroup.procs").read_text(), "the control group does not get empty")
        self._folder.rmdir()


def _listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _wait(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise MeasurementError(what)
        time.sleep(0.02)


def _end(process):
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
