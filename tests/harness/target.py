"""Which server the suite runs against: ``SERVER_UNDER_TEST=ferricorn`` (default) or ``gunicorn``."""

import os
import sys
from pathlib import Path

NAME = os.environ.get("SERVER_UNDER_TEST", "ferricorn")
if NAME not in ("ferricorn", "gunicorn"):
    raise RuntimeError(f"SERVER_UNDER_TEST must be ferricorn or gunicorn, not {NAME!r}")

FERRICORN = NAME == "ferricorn"
# The console script that pip installed beside the interpreter of the tests.
COMMAND = Path(sys.executable).parent / NAME


def expected(*, ferricorn, gunicorn):
    """Chooses between the two where a difference is accepted; the test says why."""
    return ferricorn if FERRICORN else gunicorn


# What serves ASGI applications: Gunicorn leaves that to Uvicorn's worker.
ASGI = expected(ferricorn="asgi", gunicorn="uvicorn_worker.UvicornWorker")
