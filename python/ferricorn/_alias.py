"""Lets code written for Gunicorn import ``gunicorn`` when only Ferricorn is installed.

The finder stands last on ``sys.meta_path``: where the real package is installed it is found first, and nothing here
is ever asked.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# The Gunicorn whose behaviour is matched; programs compare it.
GUNICORN_VERSION = "27.0.1"

_MARK = "__ferricorn_alias__"

# For each module, which of its names there are, by the module of ours that has them ("name=other" renames).
MODULES: dict[str, dict[str, str]] = {
    "gunicorn": {},
    "gunicorn.app": {},
    "gunicorn.app.base": {"ferricorn.embed": "BaseApplication Application"},
    "gunicorn.app.wsgiapp": {"ferricorn.embed": "WSGIApplication run"},
    "gunicorn.arbiter": {"ferricorn.hooks": "Arbiter", "ferricorn.errors": "HaltServer AppImportError"},
    "gunicorn.config": {"ferricorn.config": "Config Setting ConfigError get_default_config_file"},
    "gunicorn.errors": {"ferricorn.errors": "AppImportError ConfigError HaltServer"},
    "gunicorn.glogging": {
        "ferricorn.glogging": "CONFIG_DEFAULTS Logger SYSLOG_FACILITIES SafeAtoms loggers parse_syslog_address",
    },
    "gunicorn.http": {"ferricorn.hooks": "Request"},
    "gunicorn.http.message": {"ferricorn.hooks": "Request Message=Request"},
    "gunicorn.http.wsgi": {"ferricorn.hooks": "Response", "ferricorn.wsgi": "FileWrapper WSGIErrorsWrapper"},
    "gunicorn.instrument": {},
    "gunicorn.instrument.statsd": {"ferricorn.statsd": "Statsd"},
    "gunicorn.util": {
        "ferricorn.address": "parse_address=parse is_ipv6",
        "ferricorn.app": "import_app=load_app",
        "ferricorn.config": "load_class",
        "ferricorn.hook_table": "get_arity=arity",
    },
    "gunicorn.workers": {"ferricorn.hooks": "SUPPORTED_WORKERS=WORKER_CLASSES"},
    "gunicorn.workers.base": {"ferricorn.hooks": "Worker"},
    "gunicorn.workers.gasgi": {"ferricorn.hooks": "ASGIWorker"},
    "gunicorn.workers.ggevent": {"ferricorn.hooks": "GeventWorker GeventPyWSGIWorker=GeventWorker"},
    "gunicorn.workers.gthread": {"ferricorn.hooks": "ThreadWorker"},
    "gunicorn.workers.sync": {"ferricorn.hooks": "SyncWorker"},
    "gunicorn.workers.workertmp": {"ferricorn.hooks": "WorkerTmp"},
}

_VERSION_NAMES: dict[str, object] = {
    "__version__": GUNICORN_VERSION,
    "version_info": tuple(map(int, GUNICORN_VERSION.split("."))),
    "SERVER": "gunicorn",
    "SERVER_SOFTWARE": f"gunicorn/{GUNICORN_VERSION}",
}


def install() -> None:
    """Makes ``import gunicorn`` find our modules if it would find none; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def uninstall() -> None:
    """Undoes ``install`` and forgets the modules that came of it."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name in MODULES:
        if hasattr(sys.modules.get(name), _MARK):
            del sys.modules[name]


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        # Below a real package only its own modules count: half of each would fit nobody.
        if fullname != "gunicorn" and not hasattr(sys.modules.get("gunicorn"), _MARK):
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in MODULES)
        return ModuleSpec(fullname, _AliasLoader(), is_package=is_package)


class _AliasLoader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        setattr(module, _MARK, True)
        if module.__name__ == "gunicorn":
            vars(module).update(_VERSION_NAMES)
        for source, names in MODULES[module.__name__].items():
            ours = importlib.import_module(source)
            for entry in names.split():
                name, _, renamed = entry.partition("=")
                setattr(module, name, getattr(ours, renamed or name))
