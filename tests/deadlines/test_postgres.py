"""Requests that hang in PostgreSQL: a real cluster, and the two drivers that people use."""

import time

import pytest

from harness import wait_until

pytestmark = pytest.mark.only_ferricorn("kills the whole worker, or nothing at all")

TIMEOUT = 1


def start(server, dsn, *args):
    return server("--timeout", TIMEOUT, "--state-dir", "state", *args, app="slow_queries:app", env={"TEST_DSN": dsn})


def late(target, path):
    begun = time.monotonic()
    response = target.get(path)
    assert response.status == 504
    assert TIMEOUT - 0.05 <= time.monotonic() - begun <= TIMEOUT + 0.6


def test_psycopg_comes_free_by_itself(server, dsn):
    """It waits in Python, a tenth of a second at a time."""
    target = start(server, dsn, "-k", "sync")
    before = target.workers()
    late(target, "/psycopg")
    target.wait_log(r"slow_queries\.py:\d+ in psycopg3: connection\.execute")
    assert target.get("/seen").body == b"RequestTimeout"
    assert target.workers() == before


def test_psycopg2_waits_in_c_and_its_worker_is_replaced(server, dsn):
    target = start(server, dsn, "-k", "sync")
    [before] = target.workers()
    late(target, "/psycopg2")
    target.wait_log(r"thread 0 is waiting for 127\.0\.0\.1:\d+ \(poll, descriptor \d+\)")
    target.wait_log(r"slow_queries\.py:\d+ in psycopg2: cursor\.execute")
    target.wait_log(rf"Worker \(pid:{before}\) is to be replaced: its only app thread does not come free")
    wait_until(lambda: before not in target.workers(), what="another worker")
    assert target.get("/seen").body == b""


@pytest.mark.parametrize("args", [("-k", "sync"), ("-k", "gthread", "--threads", "2")], ids=["sync", "gthread"])
def test_psycopg2_comes_free_of_its_socket(server, dsn, args):
    target = start(server, dsn, "--unblock", "socket", *args)
    before = target.workers()
    late(target, "/psycopg2")
    target.wait_log(r"its socket to 127\.0\.0\.1:\d+ was shut")
    seen = wait_until(lambda: target.get("/seen").body, what="the end of the call")
    # The driver's own: of the query, or of the connection whose end follows.
    assert seen in (b"OperationalError", b"InterfaceError")
    assert target.workers() == before
