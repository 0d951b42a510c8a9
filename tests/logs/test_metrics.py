"""statsd as users configure it: what a server sends of requests, workers and its log, on both servers."""

import re
import socket

import pytest

from harness import wait_until

WORKERS = {"sync": ["-k", "sync"], "gthread": ["-k", "gthread", "--threads", "2"], "gevent": ["-k", "gevent"]}


class Receiver:
    """Takes datagrams; a datagram may hold several lines."""

    def __init__(self, sock):
        self.sock = sock
        self.lines = []

    def seen(self, pattern):
        """Returns the first line that is wholly like ``pattern``, now or in a while."""

        def found():
            try:
                while True:
                    self.lines += self.sock.recv(65536).decode().split("\n")
            except BlockingIOError:
                pass
            return next((line for line in self.lines if re.fullmatch(pattern, line)), None)

        return wait_until(found, what=f"{pattern} among the metrics")


@pytest.fixture
def receiver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield Receiver(sock)


@pytest.mark.parametrize("worker", WORKERS)
def test_requests_and_workers_are_counted(server, receiver, worker):
    if worker == "gevent":
        pytest.importorskip("gevent")
    port = receiver.sock.getsockname()[1]
    args = [*WORKERS[worker], "--workers", "2", "--statsd-host", f"127.0.0.1:{port}", "--statsd-prefix", "web"]
    running = server(*args, "--dogstatsd-tags", "env:test")
    receiver.seen(r"web\.gunicorn\.workers:2\|g\|#env:test")
    assert running.get("/").status == 200
    receiver.seen(r"web\.gunicorn\.requests:1\|c\|@1\.0\|#env:test")
    receiver.seen(r"web\.gunicorn\.request\.status\.200:1\|c\|@1\.0\|#env:test")
    receiver.seen(r"web\.gunicorn\.request\.duration:[0-9.]+\|ms\|#env:test")
    assert "has no effect" not in running.log()


def test_a_receiver_that_is_not_there_costs_nothing(server):
    running = server("--statsd-host", "127.0.0.1:1")
    assert running.get("/").status == 200
