"""``Config``: the settings as hooks, loggers and embedding code see them, under Gunicorn's names.

The settings table and its validation live in Rust; values arrive here resolved. What code sets afterwards
(``cfg.set``) is only brought into shape here and validated again when it goes back to Rust.
"""

from __future__ import annotations

import difflib
import grp
import importlib
import inspect
import ipaddress
import json
import os
import pwd
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ferricorn import hook_table
from ferricorn.address import Address
from ferricorn.address import parse as parse_address
from ferricorn.config_file import default_location as get_default_config_file
from ferricorn.errors import ConfigError

__all__ = ["Config", "ConfigError", "Setting", "default_settings", "get_default_config_file", "load_class"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_LOGGER = "gunicorn.glogging.Logger"

# Dotted names of Gunicorn's own loggers, and the class that stands for each.
LOGGERS = {
    "simple": "ferricorn.glogging.Logger",
    DEFAULT_LOGGER: "ferricorn.glogging.Logger",
    "gunicorn.instrument.statsd.Statsd": "ferricorn.statsd.Statsd",
}

_SSL_SETTINGS = (
    "keyfile",
    "certfile",
    "ssl_version",
    "cert_reqs",
    "ca_certs",
    "suppress_ragged_eofs",
    "do_handshake_on_connect",
    "ciphers",
)


class Setting:
    """One setting: its name, its default and its present value."""

    __slots__ = ("default", "name", "section", "value")

    def __init__(self, name: str, default: object, section: str | None = None) -> None:
        self.name = name
        self.default = _shaped(name, default, None)
        self.section = section
        self.value: Any = self.default

    def get(self) -> Any:
        """Returns the present value."""
        return self.value

    def set(self, value: object) -> None:
        """Takes a new value, in any form that a configuration file may give it."""
        if self.name in hook_table.ARITIES:
            self.value = hook_table.check_hook(self.name, value)
        else:
            self.value = _shaped(self.name, value, self.default)

    @property
    def configured(self) -> bool:
        """Tells whether somebody chose this value."""
        return self.value is not self.default

    def __lt__(self, other: Setting) -> bool:
        return self.name < other.name

    def __repr__(self) -> str:
        return f"<Setting {self.name} = {self.value!r}>"


class Config:
    """All settings as attributes, and what Gunicorn derives from them.

    ``values`` are those somebody chose, ``defaults`` those of the whole table; without ``defaults`` the table is asked.
    """

    settings: dict[str, Setting]
    env_orig: dict[str, str]

    def __init__(
        self,
        values: Mapping[str, object] | None = None,
        defaults: Mapping[str, object] | None = None,
        prog: str | None = None,
    ) -> None:
        table = dict(default_settings() if defaults is None else defaults)
        sections = dict.fromkeys(_SSL_SETTINGS, "SSL")
        for name, hook in hook_table.defaults().items():
            # The table has no callables: what it says of a hook is "none", or its name.
            if not callable(table.get(name)):
                table[name] = hook
        settings = {name: Setting(name, default, sections.get(name)) for name, default in table.items()}
        self.__dict__.update(
            settings=settings,
            env_orig=dict(os.environ),
            prog=prog or os.path.basename(sys.argv[0]),
            _networks={},
        )
        for name, value in (values or {}).items():
            # A value outside of the table is the server's own addition, not a mistake of the user.
            settings.setdefault(name, Setting(name, None)).set(value)

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("settings", {})
        if name not in settings:
            raise AttributeError(f"No configuration setting for: {name}")
        return settings[name].value

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.settings:
            raise AttributeError("Invalid access!")
        super().__setattr__(name, value)

    def __str__(self) -> str:
        width = max(map(len, self.settings), default=0)
        return "\n".join(f"{name:{width}} = {_shown(self.settings[name].value)}" for name in sorted(self.settings))

    def set(self, name: str, value: object) -> None:
        """Changes a setting; the name must exist."""
        if name not in self.settings:
            alike = difflib.get_close_matches(name, self.settings, n=1)
            hint = f" (did you mean {alike[0]!r}?)" if alike else ""
            raise AttributeError(f"No configuration setting for: {name}{hint}")
        self.settings[name].set(value)
        self._networks.clear()

    def validate(self) -> None:
        """Accepts what there is: values are checked against each other by the server, when it takes them over."""

    def changed(self) -> dict[str, object]:
        """Returns the settings somebody chose, by name."""
        return {name: setting.value for name, setting in self.settings.items() if setting.configured}

    def get_cmd_args_from_env(self) -> list[str]:
        """Returns the words of ``GUNICORN_CMD_ARGS``."""
        return shlex.split(self.env_orig.get("GUNICORN_CMD_ARGS", ""))

    @property
    def worker_class_str(self) -> str:
        """The worker class by the name that the log shows."""
        uri = self.settings["worker_class"].value
        if not isinstance(uri, str):
            return str(uri.__name__)
        return "gthread" if self._is_threaded_sync(uri) else uri

    @property
    def worker_class(self) -> type[Any]:
        """The class whose instances hooks get as ``worker``."""
        from ferricorn import hooks

        uri = self.settings["worker_class"].value
        if isinstance(uri, str):
            name = "gthread" if self._is_threaded_sync(uri) else uri.removeprefix("egg:gunicorn#")
            return hooks.WORKER_CLASSES.get(name) or load_class(name)
        return uri  # type: ignore[no-any-return]

    def _is_threaded_sync(self, uri: str) -> bool:
        return (uri == "sync" or uri.endswith("SyncWorker")) and self.threads > 1

    @property
    def logger_class(self) -> type[Any]:
        """The logger's class; with ``statsd_host`` set, the default one becomes the one that also emits metrics."""
        uri = self.settings["logger_class"].value or DEFAULT_LOGGER
        if not isinstance(uri, str):
            return uri  # type: ignore[no-any-return]
        if uri in ("simple", DEFAULT_LOGGER) and self.settings["statsd_host"].value is not None:
            uri = "gunicorn.instrument.statsd.Statsd"
        return load_class(LOGGERS.get(uri, uri))

    @property
    def address(self) -> list[Address]:
        """The bind addresses, parsed."""
        return [parse_address(_text(bind)) for bind in _listed(self.settings["bind"].value)]

    @property
    def statsd_host(self) -> Address | None:
        """Where metrics go: ``(host, port)``, or a path."""
        value = self.settings["statsd_host"].value
        if isinstance(value, str):
            return parse_address(value, default_port="8125")
        return value  # type: ignore[no-any-return]

    @property
    def uid(self) -> int:
        """The user id that workers run with."""
        value = self.settings["user"].value
        return _id_number(value, os.geteuid, lambda name: pwd.getpwnam(name).pw_uid, "user")

    @property
    def gid(self) -> int:
        """The group id that workers run with."""
        value = self.settings["group"].value
        return _id_number(value, os.getegid, lambda name: grp.getgrnam(name).gr_gid, "group")

    user = uid
    group = gid

    @property
    def proc_name(self) -> str:
        """The process name; without one, the application's."""
        name = self.settings["proc_name"].value
        return str(self.settings["default_proc_name"].value if name is None else name)

    @property
    def is_ssl(self) -> bool:
        """Tells whether the server speaks TLS."""
        return bool(self.settings["certfile"].value or self.settings["keyfile"].value)

    @property
    def ssl_options(self) -> dict[str, Any]:
        """The settings about TLS, by name."""
        return {name: self.settings[name].value for name in _SSL_SETTINGS if name in self.settings}

    @property
    def sendfile(self) -> bool:
        """Tells whether files may be sent by the kernel; any configured value switches it off, as in Gunicorn."""
        if self.settings["sendfile"].value is not None:
            return False
        if "SENDFILE" in os.environ:
            return os.environ["SENDFILE"].lower() in ("y", "1", "yes", "true")
        return True

    @property
    def env(self) -> dict[str, str]:
        """The environment variables of ``raw_env``."""
        return _pairs(self.settings["raw_env"].value, r"=")

    @property
    def paste_global_conf(self) -> dict[str, str]:
        r"""The global values for PasteDeploy; ``\=`` stands for a literal ``=``."""
        raw = _pairs(self.settings["raw_paste_global_conf"].value, r"(?<!\\)=")
        return {key.replace("\\=", "="): value.replace("\\=", "=") for key, value in raw.items()}

    def forwarded_allow_networks(self) -> list[Network]:
        """Returns the networks of ``forwarded_allow_ips``, without ``*``."""
        return self._parsed_networks("forwarded_allow_ips")

    def proxy_allow_networks(self) -> list[Network]:
        """Returns the networks of ``proxy_allow_ips``, without ``*``."""
        return self._parsed_networks("proxy_allow_ips")

    def _parsed_networks(self, name: str) -> list[Network]:
        cache: dict[str, list[Network]] = self._networks
        if name not in cache:
            cache[name] = [ipaddress.ip_network(ip) for ip in self.settings[name].value if ip != "*"]
        return cache[name]


def default_settings() -> dict[str, object]:
    """Returns every setting's default, by name, as the settings table states it."""
    from ferricorn import _native

    table = json.loads(_native.settings_json())
    return {entry["name"]: entry.get("default") for entry in table}


def load_class(uri: str | type[Any]) -> type[Any]:
    """Imports a class by its dotted name; a class is returned as it is."""
    if not isinstance(uri, str):
        return uri
    module_name, _, name = uri.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        raise RuntimeError(f"class uri {uri!r} invalid or not found: {error}") from error
    return found  # type: ignore[no-any-return]


# Settings that a string fills as a comma list, and those where it is one element.
_COMMA_LISTS = {"forwarded_allow_ips", "proxy_allow_ips", "uwsgi_allow_ips", "forwarder_headers"}
_LISTS = {"bind", "raw_env", "raw_paste_global_conf", "reload_extra_files", "dirty_apps"}
_CLASSES = {"worker_class", "logger_class"}


def _shaped(name: str, value: object, default: object) -> object:
    """Brings ``value`` into the setting's type where its form is unambiguous, and leaves the rest to the table."""
    if name in _COMMA_LISTS and (value is None or isinstance(value, str)):
        return [part.strip() for part in (value or "").split(",") if part]
    if name in _LISTS and (value is None or isinstance(value, str)):
        return [value.strip()] if value else []
    if name in _CLASSES and (inspect.isfunction(value) or inspect.ismethod(value)):
        return value()
    if isinstance(default, bool) and isinstance(value, str):
        word = value.strip().lower()
        if word not in ("true", "false"):
            raise ValueError(f"Invalid boolean: {value}")
        return word == "true"
    if type(default) is int and name not in ("user", "group"):
        return _positive(value)
    return value


def _positive(value: object) -> object:
    """Reads a number as Gunicorn does: ``0x10`` and ``0o20`` count, and nothing below zero."""
    number = int(value, 0) if isinstance(value, str) else value
    if isinstance(number, int) and number < 0:
        raise ValueError(f"Value must be positive: {number}")
    return int(number) if isinstance(number, bool) else number


def _pairs(raw: object, separator: str) -> dict[str, str]:
    pairs = {}
    for entry in _listed(raw):
        parts = re.split(separator, _text(entry), maxsplit=1)
        if len(parts) != 2:
            raise RuntimeError(f"environment setting {_text(entry)!r} invalid")
        pairs[parts[0]] = parts[1]
    return pairs


def _id_number(value: Any, own: Any, by_name: Any, kind: str) -> int:
    if value is None:
        return int(own())
    if isinstance(value, int) or value.isdigit():
        return int(value)
    try:
        return int(by_name(value))
    except KeyError:
        raise ConfigError(f"No such {kind}: '{value}'") from None


def _listed(value: object) -> Iterable[object]:
    if value is None:
        return []
    return [value] if isinstance(value, str | bytes) else list(value)  # type: ignore[call-overload]


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _shown(value: object) -> str:
    return f"<{getattr(value, '__qualname__', repr(value))}()>" if callable(value) else str(value)
