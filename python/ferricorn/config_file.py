"""Reads a configuration file: a Python module whose globals are settings and hooks.

Says what the file defines; which of it is a setting, and whether its value is valid, the settings table (Rust) decides.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Collection, Mapping
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType

from ferricorn.errors import ConfigFileError

# The name under which Gunicorn runs a configuration file; files test it and pickles name it.
MODULE_NAME = "__config__"

# A module with a function of this name answers for itself (see ferricorn.embed).
PROVIDER = "__ferricorn_config__"

# How alike a name must be to a setting's to be called its misspelling: "wrokers", "log_level" and
# "keep_alive" are above it, the usual variables "workers_per_core" and "worker_tmp" below.
_SIMILAR = 0.85

# Shorter flags ("env", "pid", "name") are everyday variable names.
_FLAG_CHARS_MIN = 7

_PLAIN = (str, bytes, bool, int, float, list, tuple, dict, set, frozenset, type(None))


def load(location: str) -> dict[str, object]:
    """Runs the file or module at ``location`` and returns its globals, without the dunder names.

    ``location`` is ``PATH``, ``file:PATH`` or ``python:MODULE``. Raises ConfigFileError; lets ``SystemExit`` pass, so
    that a file may end the start itself, as with Gunicorn.
    """
    _prepend_cwd()
    if location.startswith("python:"):
        module = _import(location.removeprefix("python:"))
    else:
        module = _execute(location.removeprefix("file:"))
    provider = vars(module).get(PROVIDER)
    if callable(provider):
        return dict(provider())
    return {name: value for name, value in vars(module).items() if not _is_dunder(name)}


def default_location() -> str | None:
    """Returns the path of ``gunicorn.conf.py`` in the current directory, if there is one."""
    path = os.path.join(os.path.abspath(os.getcwd()), "gunicorn.conf.py")
    return path if os.path.exists(path) else None


def candidates(namespace: Mapping[str, object]) -> dict[str, object]:
    """Returns what looks like a setting: a lower-case public name with plain data as its value.

    Modules, classes, functions and objects are left out: a file that imports things and defines functions of its own
    is normal, and nobody should be warned of it.
    """
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name == name.lower() and type(value) in _PLAIN
    }


def misspelt(
    namespace: Mapping[str, object],
    known: Collection[str],
    flags: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Returns ``{name: setting}`` for each name in ``namespace`` that was probably meant to be a setting.

    ``known`` are all settings and hooks. ``flags`` maps the words of command line flags (``access_logfile``) to their
    settings (``accesslog``), a common confusion. An ordinary variable (``cores``, ``host``) resembles nothing and is
    passed over in silence.
    """
    found = {}
    for name in candidates(namespace):
        if name in known:
            continue
        if flags and len(name) >= _FLAG_CHARS_MIN and name in flags:
            found[name] = flags[name]
            continue
        alike = difflib.get_close_matches(name, known, n=1, cutoff=_SIMILAR)
        if alike:
            found[name] = alike[0]
    return found


def _execute(path: str) -> ModuleType:
    if not os.path.exists(path):
        raise ConfigFileError(f"{path!r} doesn't exist")
    if path.endswith((".py", ".pyc")):
        spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    else:
        sys.stderr.write("!!!\n!!! WARNING: configuration file should have a valid Python extension.\n!!!\n\n")
        spec = importlib.util.spec_from_file_location(MODULE_NAME, path, loader=SourceFileLoader(MODULE_NAME, path))
    if spec is None or spec.loader is None:
        raise ConfigFileError(f"Failed to read config file: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _failed(path, error) from error
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise _failed(f"python:{name}", error) from error


def _failed(location: str, error: Exception) -> ConfigFileError:
    """Builds the error with the traceback that the user needs: from the file on, without our frames and importlib's."""
    tb: TracebackType | None = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith((__file__, "<frozen importlib")):
        tb = tb.tb_next
    # An import machinery failure has no frame left; then all frames are better than none.
    shown = traceback.format_exception(type(error), error, tb)
    return ConfigFileError(f"Failed to read config file: {location}\n{''.join(shown)}".rstrip())


def _prepend_cwd() -> None:
    cwd = os.getcwd()
    if cwd not in sys.path:
        sys.path.insert(0, cwd)


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
