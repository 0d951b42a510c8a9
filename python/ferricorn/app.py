"""Finds the application: from ``module:attribute`` on the command line to a callable.

Two families of failure are kept apart, because they end a worker with different exit codes: ``AppImportError`` (the
module is there, the application in it is not), and whatever else the import raises.
"""

from __future__ import annotations

import ast
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from ferricorn.errors import AppImportError

__all__ = ["AppImportError", "Application", "load_app", "load_paste", "prepare_path"]

DEFAULT_ATTRIBUTE = "application"


class Application:
    """The application as ``server.app`` and ``worker.app`` show it: loaded once, on first use."""

    def __init__(self, cfg: Any, app_uri: str | None = None, loader: Callable[[], Any] | None = None) -> None:
        self.cfg = cfg
        self.app_uri = app_uri
        self.callable: Any = None
        self.logger: Any = None
        self._loader = loader

    def load(self) -> Any:
        """Imports the application anew and returns its callable."""
        if self._loader is not None:
            return self._loader()
        if self.cfg.paste is not None:
            return load_paste(self.app_uri or self.cfg.paste, self.cfg.paste_global_conf)
        return load_app(self.app_uri or self.cfg.wsgi_app)

    def wsgi(self) -> Any:
        """Returns the application's callable."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable


def load_app(spec: str) -> Callable[..., Any]:
    """Imports the application that ``spec`` names.

    ``spec`` is ``module``, ``module:attribute`` or ``module:factory(arguments)``, the arguments being literals.
    Raises AppImportError, or what the import or the factory raised.
    """
    module_name, _, expression = spec.partition(":")
    if not expression and ":" not in spec:
        expression = DEFAULT_ATTRIBUTE
    module = _import(module_name, expression)
    name, arguments = _parsed(expression)
    try:
        found = getattr(module, name)
    except AttributeError:
        if logging.root.level == logging.DEBUG:
            traceback.print_exc()
        raise AppImportError(f"Failed to find attribute {name!r} in {module_name!r}.") from None
    app = found if arguments is None else _made(found, *arguments)
    if app is None:
        raise AppImportError(f"Failed to find application object: {expression!r}")
    if not callable(app):
        raise AppImportError("Application object must be callable.")
    return app  # type: ignore[no-any-return]


def load_paste(spec: str, global_conf: dict[str, str] | None = None, name: str | None = None) -> Callable[..., Any]:
    """Loads the application that a PasteDeploy file describes; ``spec`` is ``file.ini`` or ``file.ini#name``."""
    deploy = importlib.import_module("paste.deploy")
    uri = spec if ":" in spec else f"config:{os.path.abspath(spec)}"
    app: Callable[..., Any] = deploy.loadapp(uri, name=name, relative_to=os.getcwd(), global_conf=global_conf)
    return app


def prepare_path(cfg: Any) -> None:
    """Goes to ``chdir`` and puts it, and the directories of ``pythonpath``, in front of ``sys.path``."""
    os.chdir(cfg.chdir)
    if cfg.chdir not in sys.path:
        sys.path.insert(0, cfg.chdir)
    for directory in (cfg.pythonpath or "").split(","):
        path = os.path.abspath(directory)
        if directory and path not in sys.path:
            sys.path.insert(0, path)


def _import(module_name: str, expression: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ImportError:
        if module_name.endswith(".py") and os.path.exists(module_name):
            hint = f"{module_name.rpartition('.')[0]}:{expression}"
            raise ImportError(f"Failed to find application, did you mean '{hint}'?") from None
        raise


Arguments = tuple[list[Any], dict[str, Any]]


def _parsed(expression: str) -> tuple[str, Arguments | None]:
    """Splits ``name`` or ``name(literals)``; nothing is evaluated."""
    unparsable = AppImportError(f"Failed to parse {expression!r} as an attribute name or function call.")
    try:
        node = ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise unparsable from None
    if isinstance(node, ast.Name):
        return node.id, None
    if not isinstance(node, ast.Call):
        raise unparsable
    if not isinstance(node.func, ast.Name):
        raise AppImportError(f"Function reference must be a simple name: {expression!r}")
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {_keyword(keyword): ast.literal_eval(keyword.value) for keyword in node.keywords}
    except ValueError:
        raise AppImportError(f"Failed to parse arguments as literal values: {expression!r}") from None
    return node.func.id, (args, kwargs)


def _keyword(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError("** is not a literal")
    return keyword.arg


def _made(factory: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    try:
        return factory(*args, **kwargs)
    except TypeError as error:
        # No frame below ours: the call itself was refused, and the message says all there is to say.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise AppImportError("".join(traceback.format_exception_only(error)).strip()) from None
        raise
