"""Programs that a run starts: each in a session of its own, with its output in a file, ended by the one who started it.

Not here: the server under measurement (`hosts`)."""

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from harness.process import MeasurementError

PATIENCE = 30
STOP_PATIENCE = 5
# Set when the run shall end: whoever waits then gives up, and on the way out everything is ended.
STOP = threading.Event()


class Stopped(BaseException):
    """The run was told to end. Not an `Exception`: nobody handles it but the one who began the run."""


def pause(seconds):
    """Sleeps, unless the run is told to end."""
    if STOP.wait(max(0, seconds)):
        raise Stopped


def started(command, log, *, patience=PATIENCE, until=None, what=None, **options):
    """Starts a program and waits until `until()` is true. Its output goes to the end of the file `log`."""
    with open(log, "ab") as output:
        try:
            process = subprocess.Popen(
                [str(part) for part in command], stdin=options.pop("stdin", subprocess.DEVNULL),
                stdout=options.pop("stdout", output), stderr=output, start_new_session=True, **options,
            )
        except OSError as error:
            raise MeasurementError(str(error)) from error
    end = time.monotonic() + patience
    try:
        while until is not None and not until():
            if process.poll() is not None or time.monotonic() > end:
                raise MeasurementError(f"{what or command[0]} did not start: {last_line(log)}")
            pause(0.02)
    except BaseException:
        ended(process)
        raise
    return process


def ended(process, how=signal.SIGTERM, patience=STOP_PATIENCE):
    """Ends a program and waits for it."""
    if process.poll() is None:
        process.send_signal(how)
        # One that is stopped would not hear it.
        process.send_signal(signal.SIGCONT)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            # Words that nobody will read any more.
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def last_line(log):
    lines = Path(log).read_text(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else "(it printed nothing)"


def listens(port, address="127.0.0.1"):
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def wait(condition, what, patience=PATIENCE):
    """The first true value of `condition()`."""
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > end:
            raise MeasurementError(what)
        pause(0.02)
    return value


def as_user(name):
    """Options of `Popen` for a program that refuses root; none where we are not root."""
    if os.geteuid() != 0:
        return {}
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def give(path, name):
    """Makes a folder the user's who will run the program."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(name)
        os.chown(path, user.pw_uid, user.pw_gid)
