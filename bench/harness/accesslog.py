"""`run.py accesslog`: what an access log in a file costs, as the share of req/s that is left with it."""

import tempfile
from pathlib import Path

from . import pairs, servers
from .client import CONNECTIONS
from .process import MeasurementError

# Servers that take Gunicorn's option.
CAPABLE = ("ferricorn", "gunicorn", "gthread")


def run(names, rig, rounds):
    """With and without; the log must hold a line for every request."""

    def once(name, variant):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "access.log"
            options = ["--access-logfile", log] if variant == "with" else []
            sample = pairs.full_load(servers.WSGI[name], options, rig)
            if options:
                _count(log, sample)
        return sample

    return pairs.run("accesslog", names, rig, rounds, once)


def _count(log, sample):
    """Faster because it loses lines would be no result."""
    with log.open("rb") as file:
        lines = sum(1 for _ in file)
    answered = sample.requests + sample.requests_beside
    # wrk hangs up on what is under way when its time is over, twice.
    if not answered <= lines <= answered + 2 * CONNECTIONS:
        raise MeasurementError(f"{lines} lines in the access log for {answered} requests")


def report(result, markdown):
    return pairs.report("Access log to a file, raw WSGI", result["accesslog"], markdown)
