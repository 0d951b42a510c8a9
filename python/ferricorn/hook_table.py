"""The server hooks: their names, how many arguments each takes, and what happens when the user defines none."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

Hook = Callable[..., Any]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

# post_request grew arguments over time; all three forms are in use.
ARITIES: dict[str, tuple[int, ...]] = {
    "on_starting": (1,),
    "on_reload": (1,),
    "when_ready": (1,),
    "pre_fork": (2,),
    "post_fork": (2,),
    "post_worker_init": (1,),
    "worker_int": (1,),
    "worker_abort": (1,),
    "pre_exec": (1,),
    "pre_request": (2,),
    "post_request": (2, 3, 4),
    "child_exit": (2,),
    "worker_exit": (2,),
    "nworkers_changed": (3,),
    "on_exit": (1,),
    "ssl_context": (2,),
    "on_dirty_starting": (1,),
    "dirty_post_fork": (2,),
    "dirty_worker_init": (1,),
    "dirty_worker_exit": (2,),
}


def arity(fn: Hook) -> int:
    """Counts the positional parameters of ``fn``, those with a default included, as Gunicorn does."""
    return sum(parameter.kind in _POSITIONAL for parameter in inspect.signature(fn).parameters.values())


def check_hook(name: str, fn: object, arities: tuple[int, ...] | None = None) -> Hook:
    """Returns the callable for the hook ``name``; a dotted string is imported.

    What comes back always takes the hook's largest number of arguments. Raises TypeError with Gunicorn's words.
    """
    allowed = ARITIES[name] if arities is None else arities
    if isinstance(fn, str):
        fn = _import(fn)
    if not callable(fn):
        raise TypeError(f"Value is not callable: {fn}")
    count = arity(fn)
    if count not in allowed:
        raise TypeError(f"Value must have an arity of: {max(allowed)}")
    return _widened(fn, count) if count < max(allowed) else fn


def defaults() -> dict[str, Hook]:
    """Returns the callable that stands for each hook the user does not define."""
    table: dict[str, Hook] = {name: _NOOPS[max(counts)] for name, counts in ARITIES.items()}
    table["pre_request"] = pre_request
    table["ssl_context"] = ssl_context
    return table


def pre_request(worker: Any, req: Any) -> None:
    """Logs the request at debug level."""
    worker.log.debug("%s %s", req.method, req.path)


def ssl_context(config: Any, default_ssl_context_factory: Callable[[], Any]) -> Any:
    """Returns the context that the server would make itself."""
    return default_ssl_context_factory()


def _noop1(_a: Any) -> None:
    """Does nothing."""


def _noop2(_a: Any, _b: Any) -> None:
    """Does nothing."""


def _noop3(_a: Any, _b: Any, _c: Any) -> None:
    """Does nothing."""


def _noop4(_a: Any, _b: Any, _c: Any, _d: Any) -> None:
    """Does nothing."""


_NOOPS: dict[int, Hook] = {1: _noop1, 2: _noop2, 3: _noop3, 4: _noop4}


def _widened(fn: Hook, count: int) -> Hook:
    def narrow(*args: Any) -> Any:
        return fn(*args[:count])

    narrow.__qualname__ = getattr(fn, "__qualname__", repr(fn))
    return narrow


def _import(path: str) -> object:
    module_name, _, attribute = path.rpartition(".")
    if not module_name:
        raise TypeError(f"Value '{path}' is not import string. Format: module[.submodules...].object")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise TypeError(str(error)) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise TypeError(f"Can not load '{attribute}' from '{module_name}'") from None
