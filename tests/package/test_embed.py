"""Embedding: the documented recipes reach the server with their settings and their application."""

from __future__ import annotations

import os
import sys
import types

import pytest
from conftest import DEFAULTS

from ferricorn import config, config_file, embed
from ferricorn.app import load_app

pytestmark = pytest.mark.usefixtures("_restored_path")


@pytest.fixture
def native(monkeypatch):
    """Stands for the extension module: does what the server does first, and remembers what it saw."""
    module = types.ModuleType("ferricorn._native")
    module.seen = []

    def run(argv):
        module.seen.append(argv)
        if "--config" in argv:
            module.values = config_file.load(argv[argv.index("--config") + 1])
            module.app = load_app(argv[-1])
        return 5

    module.run = run
    monkeypatch.setitem(sys.modules, "ferricorn._native", module)
    monkeypatch.setattr(sys.modules["ferricorn"], "_native", module, raising=False)
    monkeypatch.setattr(config, "default_settings", lambda: dict(DEFAULTS))
    monkeypatch.setattr(embed, "_current", None)
    return module


def hello(environ, start_response):
    return [b"hello"]


class Standalone(embed.BaseApplication):
    """The recipe of Gunicorn's documentation."""

    def __init__(self, app, options=None):
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self):
        chosen = {k: v for k, v in self.options.items() if k in self.cfg.settings and v is not None}
        for key, value in chosen.items():
            self.cfg.set(key.lower(), value)

    def load(self):
        return self.application


def test_the_recipe(native, monkeypatch):
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 99")

    def post_fork(server, worker):
        pass

    options = {"bind": "127.0.0.1:0", "workers": 2, "unknown": 1, "timeout": None, "post_fork": post_fork}
    with pytest.raises(SystemExit) as ended:
        Standalone(hello, options).run()
    assert ended.value.code == 5
    assert native.values == {"bind": ["127.0.0.1:0"], "workers": 2, "post_fork": post_fork}
    assert native.app is hello
    assert "GUNICORN_CMD_ARGS" not in os.environ


def test_a_reload_asks_again(native):
    app = Standalone(hello, {"workers": 2})
    with pytest.raises(SystemExit):
        app.run()
    app.options = {"workers": 7}
    assert config_file.load("python:ferricorn.embed") == {"workers": 7}


def test_the_application_named_by_a_string(native, tmp_path, monkeypatch):
    (tmp_path / "embedded_mod.py").write_text("def application(e, s): return 'x'")
    monkeypatch.syspath_prepend(str(tmp_path))

    class ByName(embed.WSGIApplication):
        def __init__(self, app_uri, options):
            self.options = options
            self.app_uri = app_uri
            super().__init__()

        def load_config(self):
            for key, value in self.options.items():
                self.cfg.set(key, value)

    with pytest.raises(SystemExit):
        ByName("embedded_mod:application", {"workers": 3}).run()
    assert native.values == {"workers": 3}
    assert native.app(None, None) == "x"


def test_the_command_line_class_leaves_the_command_line_to_the_server(native, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prog", "--workers", "2", "mod:app"])
    with pytest.raises(SystemExit):
        embed.run()
    assert native.seen == [["prog", "--workers", "2", "mod:app"]]


def test_configuration_errors_end_the_process(native, capsys):
    with pytest.raises(SystemExit) as ended:
        Standalone(hello, {"workers": -3})
    assert ended.value.code == 1
    assert capsys.readouterr().err == "\nError: Value must be positive: -3\n"


def test_an_argument_parser_is_not_promised(native, capsys):
    class Parsing(embed.Application):
        def init(self, parser, opts, args):
            return {}

    with pytest.raises(SystemExit):
        Parsing()
    assert "override load_config() instead" in capsys.readouterr().err


def test_a_configuration_file_in_an_embedded_application(native, tmp_path, capsys):
    class WithFile(Standalone, embed.Application):
        def load_config(self):
            self.load_config_from_file(self.options["file"])

    (tmp_path / "good.py").write_text("workers = 4\nown = 1")
    (tmp_path / "bad.py").write_text("workers = 'many'")
    assert WithFile(hello, {"file": str(tmp_path / "good.py")}).cfg.workers == 4
    with pytest.raises(SystemExit):
        WithFile(hello, {"file": str(tmp_path / "bad.py")})
    assert "Invalid value for workers: many" in capsys.readouterr().err


def test_nothing_is_embedded_until_run(monkeypatch):
    monkeypatch.setattr(embed, "_current", None)
    for ask in (embed.application, embed.__ferricorn_config__):
        with pytest.raises(embed.ConfigError):
            ask()
