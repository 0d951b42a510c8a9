"""A PostgreSQL cluster for the tests of one module. Not for: what is asked of it."""

import contextlib
import glob
import os
import pwd
import signal
import socket
import subprocess
from pathlib import Path

import psycopg2
import pytest

from harness.server import free_port, wait_until

BINARIES = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))


@pytest.fixture(scope="module")
def dsn(tmp_path_factory):
    """A cluster of the module's own; as root it runs as the user ``postgres``, since the program refuses root."""
    if not BINARIES:
        pytest.skip("PostgreSQL is not installed")
    binaries, port = Path(BINARIES[-1]).parent, free_port()
    # Below a folder that the other user may enter.
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    other = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        other = ["runuser", "-u", "postgres", "--"]
    make = [*other, binaries / "initdb", "-D", folder / "data", "-U", "tests", "--auth", "trust", "--no-sync"]
    subprocess.run(make, cwd="/", check=True, capture_output=True)
    options = ["-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    with subprocess.Popen([*other, binaries / "postgres", "-D", folder / "data", *options], cwd="/") as process:
        try:
            wait_until(lambda: accepts(port), what="PostgreSQL")
            yield f"host=127.0.0.1 port={port} user=tests dbname=postgres"
        finally:
            # At once: some of its backends sleep.
            pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGINT)
            process.wait(20)
            subprocess.run(["rm", "-rf", folder], check=True)


def parts(dsn):
    """Its words by name: host, port, user, dbname."""
    return dict(word.split("=") for word in dsn.split())


def connected(dsn):
    """A session; None while the database starts."""
    with contextlib.suppress(psycopg2.OperationalError):
        return psycopg2.connect(dsn)
    return None


def accepts(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False
