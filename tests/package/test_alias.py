"""``import gunicorn`` without Gunicorn: each documented import, in a process that cannot find the real package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ferricorn
from ferricorn import _alias

PYTHON = str(Path(ferricorn.__file__).parents[1])

# Hides the real package, wherever it is installed, from the finders that stand before ours.
HIDE = """
import sys
from importlib.machinery import PathFinder
real = PathFinder.find_spec
PathFinder.find_spec = lambda name, path=None, target=None: None if name == "gunicorn" else real(name, path, target)
from ferricorn import _alias
_alias.install()
_alias.install()
"""


def run(code, hide=True):
    env = {**os.environ, "PYTHONPATH": PYTHON}
    text = (HIDE if hide else "from ferricorn import _alias\n_alias.install()\n") + code
    return subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "import gunicorn; print(gunicorn.__version__, gunicorn.version_info, gunicorn.SERVER_SOFTWARE)",
            "27.0.1 (27, 0, 1) gunicorn/27.0.1",
        ),
        ("from gunicorn.app.base import BaseApplication as B; print(B.__module__)", "ferricorn.embed"),
        ("import gunicorn.app.base; print(gunicorn.app.base.Application.__name__)", "Application"),
        ("from gunicorn.app.wsgiapp import WSGIApplication, run; print(run.__module__)", "ferricorn.embed"),
        ("from gunicorn import glogging; print(glogging.Logger.__module__)", "ferricorn.glogging"),
        ("from gunicorn.glogging import CONFIG_DEFAULTS; print(CONFIG_DEFAULTS['version'])", "1"),
        ("from gunicorn.config import Config; print(Config.__module__)", "ferricorn.config"),
        ("from gunicorn.http.wsgi import FileWrapper; print(FileWrapper.__module__)", "ferricorn.wsgi"),
        ("from gunicorn.workers.sync import SyncWorker; print(SyncWorker.kind)", "sync"),
        ("from gunicorn.workers.gthread import ThreadWorker; print(ThreadWorker.kind)", "gthread"),
        ("from gunicorn.workers.ggevent import GeventWorker; print(GeventWorker.kind)", "gevent"),
        ("from gunicorn.workers.base import Worker; print(issubclass(type('W', (Worker,), {}), Worker))", "True"),
        ("from gunicorn.arbiter import Arbiter; print(Arbiter.APP_LOAD_ERROR)", "4"),
        ("from gunicorn.errors import HaltServer; print(HaltServer('r', 3))", "<HaltServer 'r' 3>"),
        ("from gunicorn.instrument.statsd import Statsd; print(Statsd.__module__)", "ferricorn.statsd"),
        ("from gunicorn.util import import_app; print(import_app.__name__)", "load_app"),
        ("import sys; print([m for m in sys.meta_path if type(m).__module__ == 'ferricorn._alias'].__len__())", "1"),
        ("_alias.uninstall()\ntry: import gunicorn\nexcept ImportError as e: print(e)", "No module named 'gunicorn'"),
        ("import gunicorn\n_alias.uninstall(); print('gunicorn' in sys.modules)", "False"),
    ],
)
def test_imports(code, expected):
    done = run(code)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_unknown_modules_are_not_found():
    done = run("import gunicorn.no_such_module")
    assert "ModuleNotFoundError: No module named 'gunicorn.no_such_module'" in done.stderr


def test_the_real_package_wins():
    pytest.importorskip("gunicorn")
    done = run("import gunicorn.glogging, gunicorn.app.base; print(gunicorn.glogging.Logger.__module__)", hide=False)
    assert done.stdout.strip() == "gunicorn.glogging"


def test_nothing_is_added_below_a_real_package(tmp_path):
    (tmp_path / "gunicorn").mkdir()
    (tmp_path / "gunicorn" / "__init__.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport gunicorn.glogging"
    assert "No module named 'gunicorn.glogging'" in run(code, hide=False).stderr


@pytest.mark.parametrize("name", _alias.MODULES)
def test_the_names_are_gunicorns(name):
    pytest.importorskip("gunicorn")
    if name == "gunicorn.workers.ggevent":
        pytest.importorskip("gevent")
    module = pytest.importorskip(name)
    for names in _alias.MODULES[name].values():
        assert [entry for entry in names.split() if not hasattr(module, entry.partition("=")[0])] == []
