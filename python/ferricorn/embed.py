"""Embedding: ``BaseApplication`` for programs that bring their own configuration and call ``.run()``.

The documented recipe of Gunicorn, a subclass with ``load_config`` and ``load``, works unchanged. ``run()`` starts the
server through the same door as the command line; the server asks this module back for settings and application.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from ferricorn import config_file
from ferricorn.app import load_app, load_paste, prepare_path
from ferricorn.config import Config
from ferricorn.errors import ConfigError

_current: BaseApplication | None = None


class BaseApplication:
    """An application with its configuration; subclasses define ``load_config`` and ``load``."""

    cfg: Config

    # True once the server has taken the settings: asking again means a reload.
    _handed_over = False

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.usage = usage
        self.prog = prog
        self.callable: Any = None
        self.logger: Any = None
        self.do_load_config()

    def do_load_config(self) -> None:
        """Builds ``cfg``; an error is told on stderr and ends the process with code 1."""
        try:
            self.load_default_config()
            self.load_config()
            self.cfg.validate()
        except Exception as error:
            sys.stderr.write(f"\nError: {error}\n")
            sys.stderr.flush()
            sys.exit(1)

    def load_default_config(self) -> None:
        """Sets ``cfg`` to the defaults."""
        self.cfg = Config(prog=self.prog)

    def init(self, parser: Any, opts: Any, args: Any) -> Any:
        """Is part of Gunicorn's command line classes, for subclasses of ``Application``."""
        raise NotImplementedError

    def load_config(self) -> None:
        """Changes ``cfg``; subclasses define it."""
        raise NotImplementedError

    def load(self) -> Any:
        """Returns the application's callable; subclasses define it."""
        raise NotImplementedError

    def reload(self) -> None:
        """Reads the configuration again."""
        self.do_load_config()

    def wsgi(self) -> Any:
        """Returns the application's callable, loaded once."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable

    def run(self) -> None:
        """Serves until told to stop; exits the process with the server's code."""
        global _current
        from ferricorn import _native

        _current = self
        # An embedded server listens to its program, not to the environment of whoever started that.
        os.environ.pop("GUNICORN_CMD_ARGS", None)
        argv = [self.prog or sys.argv[0], "--config", f"python:{__name__}", f"{__name__}:application()"]
        sys.exit(_native.run(argv))


class Application(BaseApplication):
    """An application that takes files and directories from its configuration."""

    def chdir(self) -> None:
        """Goes to the configured directory and makes it importable."""
        prepare_path(self.cfg)

    def load_config(self) -> None:
        """Leaves the command line to the server, which reads it when ``run`` is called."""
        if type(self).init not in (BaseApplication.init, WSGIApplication.init):
            raise ConfigError("Ferricorn does not pass an argument parser to init(): override load_config() instead")

    def load_config_from_file(self, filename: str) -> dict[str, object]:
        """Applies a configuration file to ``cfg``."""
        namespace = config_file.load(filename)
        for name, value in namespace.items():
            if name not in self.cfg.settings:
                continue
            try:
                self.cfg.set(name, value)
            except Exception:
                sys.stderr.write(f"Invalid value for {name}: {value}\n\n")
                raise
        return namespace

    load_config_from_module_name_or_filename = load_config_from_file

    def run(self) -> None:
        """Serves until told to stop; exits the process with the server's code."""
        if type(self).load_config is not Application.load_config:
            super().run()
        else:
            from ferricorn import _native

            sys.exit(_native.run(sys.argv))


class WSGIApplication(Application):
    """An application named by ``app_uri``, or on the command line."""

    app_uri: str | None = None

    def init(self, parser: Any, opts: Any, args: Any) -> None:
        """Takes the application's name from the positional arguments."""
        if args:
            self.app_uri = args[0]

    def load(self) -> Any:
        """Imports the application."""
        if self.cfg.paste is not None:
            return load_paste(self.app_uri or self.cfg.paste, self.cfg.paste_global_conf)
        spec = self.app_uri or self.cfg.wsgi_app
        if spec is None:
            raise ConfigError("No application module specified.")
        return load_app(spec)


def run(prog: str | None = None) -> None:
    """Runs the server as its command line does."""
    WSGIApplication(prog=prog).run()


def application() -> Any:
    """Returns the callable of the program that embeds the server; the server loads it by this name."""
    if _current is None:
        raise ConfigError("no embedded application is running")
    return _current.wsgi()


def __ferricorn_config__() -> dict[str, object]:
    """Returns the settings of the program that embeds the server; ``ferricorn.config_file`` asks, also on reload."""
    if _current is None:
        raise ConfigError("no embedded application is running")
    if _current._handed_over:
        _current.reload()
    _current._handed_over = True
    return _current.cfg.changed()
