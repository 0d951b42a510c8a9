"""A PgBouncer before the cluster of a module. Not for: the cluster (``postgres``)."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness.postgres import accepts
from harness.server import free_port, wait_until


@contextlib.contextmanager
def pgbouncer(dsn, **settings):
    """Yields the DSN that leads through it; ``settings`` are those of its section of the same name."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    parts = dict(part.split("=", 1) for part in dsn.split())
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        everything = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "logfile": folder / "pgbouncer.log",
            **settings,
        }
        server = f"host={parts['host']} port={parts['port']} user={parts['user']} dbname={parts['dbname']}"
        lines = ["[databases]", f"{parts['dbname']} = {server}", "[pgbouncer]"]
        (folder / "pgbouncer.ini").write_text("\n".join(lines + [f"{key} = {value}" for key, value in everything.items()]) + "\n")
        command = [program, folder / "pgbouncer.ini"]
        if os.geteuid() == 0:
            # It refuses root.
            user = pwd.getpwnam("postgres")
            for path in (folder, folder / "pgbouncer.ini"):
                os.chown(path, user.pw_uid, user.pw_gid)
            command = ["runuser", "-u", "postgres", "--", *command]
        with subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: accepts(port), what="PgBouncer")
                yield f"host=127.0.0.1 port={port} user={parts['user']} dbname={parts['dbname']}"
            finally:
                process.terminate()
                process.wait(10)
