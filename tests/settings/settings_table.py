"""The settings table, from the installed extension module or else from the crate."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@functools.cache
def rows() -> dict[str, dict[str, Any]]:
    """Returns the rows of the table by the name of the setting."""
    try:
        from ferricorn import _native

        text = _native.settings_json()
    except (ImportError, AttributeError):
        text = crate(["json"]).stdout
    return {row["name"]: row for row in json.loads(text)}


def crate(words: list[str], env: dict[str, str] | None = None, cwd: pathlib.Path | None = None) -> Any:
    """Runs the crate's example program, which stands for the server where only settings are looked at."""
    return subprocess.run(
        [_example(), *words],
        cwd=cwd or ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=env is None,
    )


@functools.cache
def _example() -> str:
    if shutil.which("cargo") is None:
        pytest.skip("cargo is needed to build the example of the crate", allow_module_level=True)
    command = ["cargo", "build", "--quiet", "--package", "ferricorn-settings", "--example", "export"]
    build = subprocess.run(
        [*command, "--message-format", "json"], cwd=ROOT, capture_output=True, text=True, timeout=600, env=os.environ
    )
    assert build.returncode == 0, build.stderr
    built = [json.loads(line) for line in build.stdout.splitlines()]
    return next(entry["executable"] for entry in built if entry.get("executable"))
