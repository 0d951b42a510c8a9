"""Everything a measurement needs before it starts: programs, virtual environment, servers, clients."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
REPOSITORY = BENCH.parent
VENV = BENCH / ".venv"
APPS = BENCH / "apps"
# Clients of our own: bench/NAME has the source.
OPENLOOP = VENV / "openloop" / "release" / "openloop"
WSECHO = VENV / "wsecho" / "release" / "wsecho"

_STAMP = VENV / ".requirements"
# Program or header, and the Debian package that has it.
_SYSTEM = [("wrk", "wrk"), ("taskset", "util-linux"), ("gcc", "gcc")]
_HEADERS = [("/usr/include/ev.h", "libev-dev")]


class SetupError(Exception):
    """What is missing, and what to do."""


def say(text):
    """Progress goes to stderr: stdout carries tables or JSON only."""
    print(text, file=sys.stderr, flush=True)


def prepare(python, servers, wheel=None, skip_install=False):
    """Makes the virtual environment hold what `servers` need. With `skip_install` only looks that it is there."""
    if len(os.sched_getaffinity(0)) < 2:
        raise SetupError("two cores are needed: one for the server, one for the client")
    if skip_install:
        missing = [path for path in (VENV / "bin" / "python", OPENLOOP, WSECHO) if not path.exists()]
        if missing or not shutil.which("wrk"):
            raise SetupError(f"{missing[0] if missing else 'wrk'} is missing; run once without --skip-install")
        return
    _system_packages()
    _requirements(python)
    for client in (OPENLOOP, WSECHO):
        _build(client.name)
    if any(name.startswith("ferricorn") for name in servers):
        install_ferricorn(wheel)


def install_ferricorn(wheel=None):
    """Builds the repository's wheel as it is shipped (release, LTO) and installs it, or installs `wheel`."""
    if wheel is None:
        if not shutil.which("cargo"):
            raise SetupError("cargo is missing; install Rust, or name a wheel: --wheel PATH")
        wheels = VENV / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        say("building Ferricorn (release, LTO: minutes the first time)")
        build = [VENV / "bin" / "maturin", "build", "--release", "--quiet"]
        try:
            _run([*build, "--interpreter", VENV / "bin" / "python", "--out", wheels], cwd=REPOSITORY)
        except SetupError as error:
            raise SetupError(f"{error}\nWithout it: name the other servers with --servers") from None
        (wheel,) = wheels.glob("*.whl")
    _pip("install", "--force-reinstall", "--no-deps", wheel)


def versions():
    """Name and version of what is installed, for the head of the report."""
    code = "from importlib.metadata import distributions as d; print(*(f'{x.name.lower()}={x.version}' for x in d()))"
    listed = subprocess.run([VENV / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    found = dict(item.split("=", 1) for item in listed.stdout.split())
    names = ("ferricorn", "granian", "fastwsgi", "bjoern", "gunicorn", "uwsgi", "uvicorn", "uvloop", "uvicorn-worker")
    names += ("hypercorn", "flask", "django", "starlette", "fastapi")
    return {name: found[name] for name in names if name in found}


def _system_packages():
    missing = [package for name, package in _SYSTEM if not shutil.which(name)]
    missing += [package for header, package in _HEADERS if not os.path.exists(header)]
    if not missing:
        return
    apt = f"apt-get install {' '.join(missing)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SetupError(f"{' '.join(missing)}: not installed. On Debian and Ubuntu: {apt}")
    say(apt)
    _run(["apt-get", "update", "-qq"])
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=environment)


def _requirements(python):
    wanted = BENCH / "requirements.txt"
    stamp = hashlib.sha256(wanted.read_bytes() + str(python).encode()).hexdigest()
    if _STAMP.exists() and _STAMP.read_text() == stamp:
        return
    say(f"installing the servers into {VENV.relative_to(REPOSITORY)}")
    _run([python, "-m", "venv", "--clear", VENV])
    _pip("install", "-r", wanted)
    _STAMP.write_text(stamp)


def _build(client):
    if not shutil.which("cargo"):
        raise SetupError(f"cargo is missing: the client {client} is built with it")
    manifest = BENCH / client / "Cargo.toml"
    environment = {**os.environ, "CARGO_TARGET_DIR": str(VENV / client)}
    _run(["cargo", "build", "--release", "--quiet", "--locked", "--manifest-path", manifest], env=environment)


def _pip(*arguments):
    _run([VENV / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])


def _run(command, **options):
    command = [str(part) for part in command]
    # What a build prints is no result: keep it off stdout.
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")
