"""The logger, with the API of ``gunicorn.glogging.Logger``: people subclass it.

Writes what Python code logs, and the access log when the logger is not the default one (the default's access lines
are written in Rust, from the same formats). It formats and routes; what is logged, its callers decide.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import logging
import logging.config
import logging.handlers
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TextIO

SYSLOG_FACILITIES: dict[str, int] = {
    **{name: code for name, code in logging.handlers.SysLogHandler.facility_names.items() if code <= 9},
    **{f"local{n}": 16 + n for n in range(8)},
    "authpriv": 10,
    "security": 4,
    "ftp": 11,
}

_ERROR_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
_DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"

# What a user's dictConfig, JSON or ini file builds upon.
CONFIG_DEFAULTS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {
            "level": "INFO",
            "handlers": ["error_console"],
            "propagate": True,
            "qualname": "gunicorn.error",
        },
        "gunicorn.access": {
            "level": "INFO",
            "handlers": ["console"],
            "propagate": True,
            "qualname": "gunicorn.access",
        },
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stdout",
        },
        "error_console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stderr",
        },
    },
    "formatters": {
        "generic": {
            "format": _ERROR_FORMAT,
            "datefmt": _DATE_FORMAT,
            "class": "logging.Formatter",
        }
    },
}


class SafeAtoms(dict[str, Any]):
    """The atoms of one access line: missing ones read ``-``, quotes are escaped, ``{Name}x`` ignores case."""

    def __init__(self, atoms: Mapping[str, Any]) -> None:
        super().__init__(
            (name, value.replace('"', '\\"') if isinstance(value, str) else value) for name, value in atoms.items()
        )

    def __getitem__(self, name: str) -> Any:
        return self.get(name.lower() if name.startswith("{") else name, "-")


class Logger:
    """The error log and the access log of one process."""

    LOG_LEVELS = {
        "critical": logging.CRITICAL,
        "error": logging.ERROR,
        "warning": logging.WARNING,
        "info": logging.INFO,
        "debug": logging.DEBUG,
    }
    loglevel = logging.INFO

    error_fmt = _ERROR_FORMAT
    datefmt = _DATE_FORMAT
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"

    atoms_wrapper_class: type[SafeAtoms] = SafeAtoms

    def __init__(self, cfg: Any) -> None:
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.propagate = False
        self.access_log = logging.getLogger("gunicorn.access")
        self.access_log.propagate = False
        self.error_handlers: list[logging.Handler] = []
        self.access_handlers: list[logging.Handler] = []
        self.logfile: TextIO | None = None
        self.lock = threading.Lock()
        self.cfg = cfg
        self.setup(cfg)

    def setup(self, cfg: Any) -> None:
        """Installs the handlers that ``cfg`` asks for; runs again, with the new settings, on every reload."""
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)
        for log in (self.error_log, self.access_log):
            for handler in [h for h in log.handlers if _is_ours(h)]:
                log.removeHandler(handler)

        if cfg.capture_output and cfg.errorlog != "-":
            self._capture_output()
        self._set_handler(self.error_log, cfg.errorlog, logging.Formatter(self.error_fmt, self.datefmt))
        if cfg.accesslog is not None:
            self._set_handler(self.access_log, cfg.accesslog, logging.Formatter(self.access_fmt), stream=sys.stdout)
        if cfg.syslog:
            self._set_syslog_handler(self.error_log, cfg, self.syslog_fmt, "error")
            if not cfg.disable_redirect_access_to_syslog:
                self._set_syslog_handler(self.access_log, cfg, self.syslog_fmt, "access")
        self._apply_logconfig(cfg)

    def critical(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs to the error log at this level."""
        self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs to the error log at this level."""
        self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs to the error log at this level."""
        self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs to the error log at this level."""
        self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs to the error log at this level."""
        self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs to the error log with the traceback of the exception being handled."""
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs to the error log at a level given by number or by name."""
        if isinstance(lvl, str):
            lvl = self.LOG_LEVELS.get(lvl.lower(), logging.INFO)
        self.error_log.log(lvl, msg, *args, **kwargs)

    @property
    def access_log_enabled(self) -> bool:
        """Tells whether an access line would go anywhere."""
        cfg = self.cfg
        return bool(
            cfg.accesslog
            or cfg.logconfig
            or cfg.logconfig_dict
            or cfg.logconfig_json
            or (cfg.syslog and not cfg.disable_redirect_access_to_syslog)
        )

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Writes the access line of one request."""
        if not self.access_log_enabled:
            return
        atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
        try:
            self.access_log.info(self.cfg.access_log_format, atoms)
        except Exception:
            self.error(traceback.format_exc())

    def atoms(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> dict[str, Any]:
        """Returns what the letters of ``access_log_format`` stand for."""
        status = resp.status.split(None, 1)[0] if isinstance(resp.status, str) else resp.status
        sent = getattr(resp, "sent", None)
        seconds = request_time.days * 86400 + request_time.seconds
        micros = request_time.microseconds
        atoms = {
            "h": environ.get("REMOTE_ADDR", "-"),
            "l": "-",
            "u": self._get_user(environ) or "-",
            "t": self.now(),
            "r": f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}",
            "s": status,
            "m": environ.get("REQUEST_METHOD"),
            "U": environ.get("PATH_INFO"),
            "q": environ.get("QUERY_STRING"),
            "H": environ.get("SERVER_PROTOCOL"),
            "b": "-" if sent is None else str(sent),
            "B": sent,
            "f": environ.get("HTTP_REFERER", "-"),
            "a": environ.get("HTTP_USER_AGENT", "-"),
            "T": seconds,
            "D": seconds * 1_000_000 + micros,
            "M": seconds * 1000 + micros // 1000,
            "L": f"{seconds}.{micros:06d}",
            "p": f"<{os.getpid()}>",
        }
        for letter, fields in (("i", getattr(req, "headers", req)), ("o", resp.headers), ("e", environ)):
            atoms.update((f"{{{name.lower()}}}{letter}", value) for name, value in _items(fields))
        return atoms

    def now(self) -> str:
        """Returns the time in Common Log Format."""
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

    def reopen_files(self) -> None:
        """Opens every log file anew, so that a rotated one can go."""
        if self.cfg.capture_output and self.cfg.errorlog != "-":
            self._capture_output()
        for handler in _file_handlers():
            handler.acquire()
            try:
                # A handler with `delay` has no stream yet and opens its file when it first writes.
                if handler.stream:
                    handler.close()
                    handler.stream = handler._open()
                    if _is_ours(handler):
                        self._give_to_workers(handler.baseFilename)
            finally:
                handler.release()

    def close_on_exec(self) -> None:
        """Keeps the log files out of programs that the application starts."""
        for handler in _file_handlers():
            handler.acquire()
            try:
                if handler.stream:
                    fd = handler.stream.fileno()
                    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)
            finally:
                handler.release()

    def _capture_output(self) -> None:
        """Points the descriptors of stdout and stderr at the error log's file."""
        sys.stdout.flush()
        sys.stderr.flush()
        with self.lock:
            if self.logfile is not None:
                self.logfile.close()
            self.logfile = open(self.cfg.errorlog, "a+")  # noqa: SIM115 -- stays open as long as the process
            os.dup2(self.logfile.fileno(), sys.stdout.fileno())
            os.dup2(self.logfile.fileno(), sys.stderr.fileno())

    def _get_gunicorn_handler(self, log: logging.Logger) -> logging.Handler | None:
        return next(filter(_is_ours, log.handlers), None)

    def _set_handler(
        self,
        log: logging.Logger,
        output: str | None,
        fmt: logging.Formatter,
        stream: TextIO | None = None,
    ) -> None:
        """Replaces our handler of ``log`` by one that writes to ``output``: a path, ``-`` or nothing."""
        previous = self._get_gunicorn_handler(log)
        if previous is not None:
            log.removeHandler(previous)
        if output is None:
            return
        if output == "-":
            _install(log, logging.StreamHandler(stream), fmt)
            return
        try:
            handler = logging.FileHandler(output)
        except OSError as error:
            raise RuntimeError(f"Error: '{output}' isn't writable [{error!r}]") from error
        self._give_to_workers(handler.baseFilename)
        _install(log, handler, fmt)

    def _give_to_workers(self, path: str) -> None:
        """Makes workers that run as another user able to open the file again."""
        # It may be /dev/null or some such, or not ours to give: then there is nothing to do.
        with contextlib.suppress(OSError):
            os.chown(path, self.cfg.user, self.cfg.group)

    def _set_syslog_handler(self, log: logging.Logger, cfg: Any, fmt: str, name: str) -> None:
        prefix = cfg.syslog_prefix or cfg.proc_name.replace(":", ".")
        try:
            facility = SYSLOG_FACILITIES[cfg.syslog_facility.lower()]
        except KeyError:
            raise RuntimeError("unknown facility name") from None
        socktype, address = parse_syslog_address(cfg.syslog_addr)
        handler = logging.handlers.SysLogHandler(address=address, facility=facility, socktype=socktype)
        _install(log, handler, logging.Formatter(f"gunicorn.{prefix}.{name}: {fmt}"))

    def _apply_logconfig(self, cfg: Any) -> None:
        """Applies the user's own logging configuration: a dict wins over a JSON file, and that over an ini file."""
        if cfg.logconfig_dict:
            _apply_dict(cfg.logconfig_dict)
        elif cfg.logconfig_json:
            # A missing file is passed over, as in Gunicorn.
            if os.path.exists(cfg.logconfig_json):
                with open(cfg.logconfig_json, encoding="utf-8") as file:
                    try:
                        overrides = json.load(file)
                    except ValueError as error:
                        raise RuntimeError(str(error)) from error
                _apply_dict(overrides)
        elif cfg.logconfig:
            if not os.path.exists(cfg.logconfig):
                raise RuntimeError(f"Error: log config '{cfg.logconfig}' not found")
            here = {"__file__": cfg.logconfig, "here": os.path.dirname(cfg.logconfig)}
            logging.config.fileConfig(cfg.logconfig, defaults=CONFIG_DEFAULTS | here, disable_existing_loggers=False)

    def _get_user(self, environ: Mapping[str, Any]) -> str | None:
        """Returns the user name of Basic authentication, if the request has one."""
        scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            return base64.b64decode(credentials.strip().encode()).split(b":", 1)[0].decode()
        except (binascii.Error, UnicodeError) as error:
            self.debug("Couldn't get username: %s", error)
            return None


def loggers() -> list[logging.Logger]:
    """Returns every logger of the process but the root."""
    return [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]


def parse_syslog_address(addr: str) -> tuple[socket.SocketKind | None, str | tuple[str, int]]:
    """Returns the socket type and the address of ``unix://PATH[#dgram|#stream]``, ``udp://…`` or ``tcp://…``.

    A type of None lets SysLogHandler try both.
    """
    kind, separator, rest = addr.partition("://")
    if kind == "unix" and separator:
        path, _, wanted = rest.partition("#")
        return (socket.SOCK_DGRAM if wanted == "dgram" else None), path
    types = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
    if kind not in types or not separator:
        raise RuntimeError("invalid syslog address")
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = rest.partition(":")
    if port and not port.isdigit():
        raise RuntimeError(f"{port!r} is not a valid port number.")
    return types[kind], (host.lower() or "localhost", int(port or 514))


def _apply_dict(overrides: Mapping[str, Any]) -> None:
    try:
        logging.config.dictConfig(CONFIG_DEFAULTS | dict(overrides))
    except (AttributeError, ImportError, ValueError, TypeError) as error:
        raise RuntimeError(str(error)) from error


def _install(log: logging.Logger, handler: logging.Handler, fmt: logging.Formatter) -> None:
    handler.setFormatter(fmt)
    # The mark Gunicorn puts on its own handlers; subclasses look for it.
    handler._gunicorn = True  # type: ignore[attr-defined]
    log.addHandler(handler)


def _is_ours(handler: logging.Handler) -> bool:
    return bool(getattr(handler, "_gunicorn", False))


def _file_handlers() -> Iterator[logging.FileHandler]:
    for log in [logging.root, *loggers()]:
        for handler in log.handlers:
            if isinstance(handler, logging.FileHandler):
                yield handler


def _items(fields: Any) -> Iterable[tuple[str, Any]]:
    pairs: Iterable[tuple[str, Any]] = fields.items() if hasattr(fields, "items") else fields
    return pairs
