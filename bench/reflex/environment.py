"""The virtual environment that the applications and both servers run in, and what all cells of a run share.

Not here: what each cell has of its own (`stage`)."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from harness.environment import BENCH, REPOSITORY, SetupError, say

from . import databases, partners

VENV = BENCH / ".venv-reflex"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"
BUILDS = ("release", "debug", "none")
_STAMP = ".reflexbench"


def prepare(venv, python, build, wheel=None):
    """Makes the environment hold the requirements, and Ferricorn as it is to be measured."""
    venv = Path(os.path.abspath(venv))
    if not (venv / "bin" / "python").exists():
        if venv != VENV:
            raise SetupError(f"{venv} is no virtual environment")
        _run([python, "-m", "venv", venv])
    stamp = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not (venv / _STAMP).exists() or (venv / _STAMP).read_text() != stamp:
        say(f"installing what the applications need into {venv}")
        _pip(venv, "install", "-r", REQUIREMENTS)
        (venv / _STAMP).write_text(stamp)
    if wheel:
        _pip(venv, "install", "--force-reinstall", "--no-deps", wheel)
    elif build != "none":
        _build(venv, build)
    return venv


def _build(venv, build):
    if not shutil.which("cargo"):
        raise SetupError("cargo is missing; install Rust, name a wheel (--wheel), or take what is installed (--build none)")
    say(f"building Ferricorn ({build})")
    wheels = venv / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    command = [venv / "bin" / "maturin", "build", "--quiet", "--interpreter", venv / "bin" / "python", "--out", wheels]
    _run([*command, *(["--release"] if build == "release" else [])], cwd=REPOSITORY)
    (made,) = wheels.glob("*.whl")
    _pip(venv, "install", "--force-reinstall", "--no-deps", made)


def check(venv, hosts, proving):
    """That the product can do what is to be measured."""
    needed = [("ferricorn", "--state-dir")] if "ferricorn" in hosts else []
    if not proving:
        needed.append(("ferricornctl", "incidents"))
        needed += [("ferricorn", "--reflex-database")] if "ferricorn" in hosts else []
        needed += [("ferricornctl", "attach")] if "gunicorn" in hosts else []
    for program, word in needed:
        path = venv / "bin" / program
        if not path.exists():
            raise SetupError(f"{program} is not installed in {venv}; build it (--build debug) or name a wheel (--wheel)")
        said = subprocess.run([path, "--help"], capture_output=True, text=True)
        if word not in said.stdout:
            raise SetupError(f"{path} knows no `{word}`: this build cannot be measured")


def versions(venv):
    """Name and version of what matters, for the head of the report."""
    code = "from importlib.metadata import distributions as d; print(*(f'{x.name.lower()}={x.version}' for x in d()))"
    listed = subprocess.run([venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    found = dict(item.split("=", 1) for item in listed.stdout.split())
    names = ("ferricorn", "gunicorn", "uvicorn", "flask", "django", "fastapi", "sqlalchemy", "psycopg", "asyncpg")
    return {name: found[name] for name in names if name in found}


class Shared:
    """What all cells of a run use: the database cluster, a certificate. As context manager: ends what it started."""

    def __init__(self, venv):
        self.venv = venv
        self._lock = threading.Lock()
        self._mariadb = None
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-", ignore_cleanup_errors=True)))
            # Servers that refuse root run as somebody else.
            self.folder.chmod(0o755)
            self.certificate = partners.certificate(self.folder)
            self.certificate.chmod(0o644)
            self.postgres = stack.enter_context(databases.Postgres(self.folder))
            self.scan_seconds = self.postgres.seconds_of_scan()
            self._stack = stack.pop_all()
        return self

    def mariadb(self):
        """Started when the first cell asks for it."""
        with self._lock:
            if self._mariadb is None:
                self._mariadb = self._stack.enter_context(databases.MariaDb(self.folder))
            return self._mariadb

    def __exit__(self, *_):
        self._stack.close()


def _pip(venv, *arguments):
    _run([venv / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])


def _run(command, **options):
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_clean(), **options
    )
    if done.returncode != 0:
        raise SetupError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}")


def _clean():
    """A virtual environment that the shell is in would be taken for the one that is meant."""
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
