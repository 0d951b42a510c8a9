"""The metrics logger: what goes over the wire, compared with Gunicorn's where it is installed."""

from __future__ import annotations

import logging
import socket
from datetime import timedelta

import pytest

from ferricorn import hooks
from ferricorn.statsd import Statsd

ENVIRON = {"REQUEST_METHOD": "GET", "RAW_URI": "/", "SERVER_PROTOCOL": "HTTP/1.1"}


@pytest.fixture
def receiver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


CALLS = [
    lambda log: log.critical("x"),
    lambda log: log.error("x"),
    lambda log: log.warning("x"),
    lambda log: log.exception("x"),
    lambda log: log.info("x", extra={"metric": "m", "value": 3, "mtype": "gauge"}),
    lambda log: log.debug("", extra={"metric": "m", "value": 0, "mtype": "counter"}),
    lambda log: log.log(logging.INFO, "", extra={"metric": "m", "value": 1.5, "mtype": "histogram"}),
    lambda log: log.log("info", "", extra={"metric": "m", "value": 1.5, "mtype": "timer"}),
    lambda log: log.decrement("m", 2),
    lambda log: log.access(
        hooks.Response("404 Not Found"), hooks.Request(ENVIRON), ENVIRON, timedelta(milliseconds=1500)
    ),
]


def wire(cls, cfg, receiver):
    log = cls(cfg)
    for call in CALLS:
        call(log)
    log.increment("end", 1)
    log.sock.close()
    seen = []
    while not seen or b"end" not in seen[-1]:
        seen.append(receiver.recv(500))
    return seen


@pytest.mark.parametrize(
    "extra", [{}, {"statsd_prefix": "a.b.", "dogstatsd_tags": "env:x,y:z"}, {"statsd_prefix": "pp"}]
)
def test_the_wire_is_gunicorns(make_config, receiver, extra):
    theirs = pytest.importorskip("gunicorn.instrument.statsd").Statsd
    cfg = make_config(statsd_host=f"127.0.0.1:{receiver.getsockname()[1]}", **extra)
    assert wire(Statsd, cfg, receiver) == wire(theirs, cfg, receiver)


def test_what_is_sent(make_config, receiver):
    # Gunicorn forgets the dot after a prefix of one letter.
    cfg = make_config(statsd_host=f"127.0.0.1:{receiver.getsockname()[1]}", statsd_prefix="p", dogstatsd_tags="k:v")
    assert wire(Statsd, cfg, receiver)[-4:-1] == [
        b"p.gunicorn.request.duration:1500.0|ms|#k:v",
        b"p.gunicorn.requests:1|c|@1.0|#k:v",
        b"p.gunicorn.request.status.404:1|c|@1.0|#k:v",
    ]


@pytest.mark.parametrize("host", [("no-such-host.invalid", 1), "/no/such/socket", None])
def test_no_metrics_host_is_no_failure(make_config, host):
    log = Statsd(make_config(statsd_host=host and (host if isinstance(host, tuple) else f"unix://{host}")))
    assert log.sock is None
    log.info("x", extra={"metric": "m", "value": 3, "mtype": "gauge"})


def test_metrics_to_a_unix_socket(make_config, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "s"))
        log = Statsd(make_config(statsd_host=f"unix://{tmp_path}/s"))
        log.gauge("m", 1)
        assert sock.recv(100) == b"m:1|g"
        log.sock.close()


def test_a_full_socket_holds_nobody_up(make_config, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "statsd.sock"))
        log = Statsd(make_config(statsd_host=f"unix://{tmp_path}/statsd.sock"))
        for number in range(1000):
            log.gauge("m", number)
        assert sock.recv(100) == b"m:0|g"
