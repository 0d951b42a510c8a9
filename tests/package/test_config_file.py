"""The configuration file: where it is found, what it yields, which names draw a warning."""

from __future__ import annotations

import sys

import pytest

from ferricorn import config_file
from ferricorn.errors import ConfigFileError

pytestmark = pytest.mark.usefixtures("_restored_path")

KNOWN = ["accesslog", "bind", "errorlog", "keepalive", "loglevel", "post_fork", "timeout", "worker_tmp_dir", "workers"]
FLAGS = {"access_logfile": "accesslog", "env": "raw_env"}


@pytest.mark.parametrize("form", ["{}", "file:{}"])
def test_a_file_yields_its_globals(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gunicorn.conf.py"
    path.write_text(
        "import os\nworkers = 3\n_own = 1\ndef post_fork(server, worker): pass\nwhere = (__name__, __file__)"
    )
    namespace = config_file.load(form.format(path))
    assert namespace.keys() == {"os", "workers", "_own", "post_fork", "where"}
    assert namespace["where"] == ("__config__", str(path))
    assert sys.modules["__config__"].workers == 3


def test_a_module_yields_its_globals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings_mod.py").write_text("workers = 5")
    # The current directory is importable, as with Gunicorn.
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    assert config_file.load("python:settings_mod") == {"workers": 5}


def test_a_file_may_import_its_neighbour(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neighbour_mod.py").write_text("count = 9")
    (tmp_path / "conf.py").write_text("from neighbour_mod import count as workers")
    assert config_file.load("conf.py") == {"workers": 9}


def test_another_extension_is_loaded_with_a_warning(tmp_path, capsys):
    path = tmp_path / "gunicorn.conf"
    path.write_text("workers = 2")
    assert config_file.load(str(path)) == {"workers": 2}
    assert "configuration file should have a valid Python extension." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = (", ["Failed to read config file: ", "SyntaxError"]),
        ("\n\n1/0", ["Failed to read config file: ", "line 3, in <module>", "ZeroDivisionError"]),
        ("import no_such_module_here", ["Failed to read config file: ", "ModuleNotFoundError"]),
    ],
)
def test_a_bad_file_shows_its_own_traceback(tmp_path, text, expected):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(ConfigFileError) as caught:
        config_file.load(str(path))
    message = str(caught.value)
    assert all(part in message for part in [*expected, str(path)])
    assert "config_file.py" not in message


def test_errors_of_location():
    with pytest.raises(ConfigFileError, match=r"^'nowhere\.py' doesn't exist$"):
        config_file.load("nowhere.py")
    with pytest.raises(
        ConfigFileError, match=r"^Failed to read config file: python:no_such_mod\n(.*\n)*ModuleNotFound"
    ):
        config_file.load("python:no_such_mod")


def test_a_file_may_end_the_process(tmp_path):
    path = tmp_path / "exit.py"
    path.write_text("raise SystemExit(7)")
    with pytest.raises(SystemExit):
        config_file.load(str(path))


def test_the_default_is_in_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file.default_location() is None
    (tmp_path / "gunicorn.conf.py").touch()
    assert config_file.default_location() == str(tmp_path / "gunicorn.conf.py")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wrokers = 2", {"wrokers": "workers"}),
        ("worker = 2", {"worker": "workers"}),
        ("log_level = 'debug'", {"log_level": "loglevel"}),
        ("keep_alive = 5", {"keep_alive": "keepalive"}),
        ("access_logfile = '-'", {"access_logfile": "accesslog"}),
        ("workers = 2", {}),
        ("cores = 4", {}),
        ("workers_per_core = 2", {}),
        ("host, port = 'h', 80", {}),
        ("env = {'a': 1}", {}),
        ("_wrokers = 2", {}),
        ("Workers = 2", {}),
        ("import time as timeouts", {}),
        ("from os import environ as bindx", {}),
        ("def post_forks(a, b): pass", {}),
        ("class workerss: pass", {}),
        ("import logging; bindd = logging.getLogger('x')", {}),
    ],
)
def test_which_names_are_called_misspelt(line, expected):
    namespace: dict[str, object] = {}
    exec(line, namespace)
    assert config_file.misspelt(namespace, KNOWN, FLAGS) == expected
