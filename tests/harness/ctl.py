"""Runs the installed ferricornctl."""

import os
import subprocess

from harness.target import COMMAND

CTL = COMMAND.with_name("ferricornctl")


def ctl(*words, env=None, timeout=20, **popen):
    """Runs a command line to its end."""
    command = [str(CTL), *map(str, words)]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=environment, check=False, **popen
    )
