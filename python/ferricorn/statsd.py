"""``Statsd``: the logger that also sends metrics, with the API of ``gunicorn.instrument.statsd.Statsd``.

For code that subclasses it or emits metrics through ``log(..., extra={"metric": ...})``. Datagrams are fire and
forget: a metrics host that is down costs nothing and breaks nothing.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ferricorn.address import is_ipv6
from ferricorn.glogging import Logger


class Statsd(Logger):
    """A Logger that counts what it logs and times requests."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        prefix = cfg.statsd_prefix.rstrip(".")
        self.prefix = f"{prefix}." if prefix else ""
        self.dogstatsd_tags: str = cfg.dogstatsd_tags
        self.sock: socket.socket | None = _connected(cfg.statsd_host)

    def critical(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs and counts."""
        super().critical(msg, *args, **kwargs)
        self.increment("gunicorn.log.critical", 1)

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs and counts."""
        super().error(msg, *args, **kwargs)
        self.increment("gunicorn.log.error", 1)

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs and counts."""
        super().warning(msg, *args, **kwargs)
        self.increment("gunicorn.log.warning", 1)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs and counts."""
        super().exception(msg, *args, **kwargs)
        self.increment("gunicorn.log.exception", 1)

    def info(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs, and sends the metric in ``extra`` if there is one."""
        self.log(logging.INFO, msg, *args, **kwargs)

    def debug(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs, and sends the metric in ``extra`` if there is one."""
        self.log(logging.DEBUG, msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Sends the metric in ``extra`` if there is one; logs if there is a message."""
        try:
            self._emit(kwargs.get("extra") or {})
            if msg:
                super().log(lvl, msg, *args, **kwargs)
        except Exception:
            super().warning("Failed to log to statsd", exc_info=True)

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Logs the request, times it and counts it by status."""
        super().access(resp, req, environ, request_time)
        status = resp.status.decode() if isinstance(resp.status, bytes) else resp.status
        if isinstance(status, str):
            status = int(status.split(None, 1)[0])
        self.timer("gunicorn.request.duration", request_time.total_seconds() * 1000)
        self.increment("gunicorn.requests", 1)
        self.increment(f"gunicorn.request.status.{status}", 1)

    def gauge(self, name: str, value: float) -> None:
        """Sends a gauge."""
        self._sock_send(f"{self.prefix}{name}:{value}|g")

    def increment(self, name: str, value: float, sampling_rate: float = 1.0) -> None:
        """Adds to a counter."""
        self._sock_send(f"{self.prefix}{name}:{value}|c|@{sampling_rate}")

    def decrement(self, name: str, value: float, sampling_rate: float = 1.0) -> None:
        """Subtracts from a counter."""
        self._sock_send(f"{self.prefix}{name}:-{value}|c|@{sampling_rate}")

    def timer(self, name: str, value: float) -> None:
        """Sends a duration in milliseconds."""
        self._sock_send(f"{self.prefix}{name}:{value}|ms")

    def histogram(self, name: str, value: float) -> None:
        """Sends a histogram value."""
        self._sock_send(f"{self.prefix}{name}:{value}|h")

    def _emit(self, extra: Mapping[str, Any]) -> None:
        metric, value = extra.get("metric"), extra.get("value")
        senders = {"gauge": self.gauge, "counter": self.increment, "histogram": self.histogram, "timer": self.timer}
        send = senders.get(extra.get("mtype", ""))
        if metric and value is not None and send is not None:
            send(metric, value)

    def _sock_send(self, msg: str) -> None:
        if self.sock is None:
            return
        tags = f"|#{self.dogstatsd_tags}" if self.dogstatsd_tags else ""
        try:
            self.sock.send((msg + tags).encode("ascii"))
        except BlockingIOError:
            # Lost, as any datagram may be: nobody waits for whoever reads them.
            pass
        except Exception:
            super().warning("Error sending message to statsd", exc_info=True)


def _connected(host: Any) -> socket.socket | None:
    if isinstance(host, str):
        family = socket.AF_UNIX
    elif host and is_ipv6(host[0]):
        family = socket.AF_INET6
    else:
        family = socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    try:
        sock.connect(host)
    except (OSError, TypeError):
        sock.close()
        return None
    return sock
