"""Bounded load from threads of this process, which counts every failure: resets, silence, wrong answers."""

import threading
import time
from dataclasses import dataclass, field

from harness.wire import Connection, request


@dataclass
class Result:
    """What all clients saw."""

    bodies: list = field(default_factory=list)
    seconds: list = field(default_factory=list)
    failures: list = field(default_factory=list)

    def quantile(self, share):
        """The given quantile of the durations."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Load:
    """``clients`` threads, together ``rate`` requests a second, until stopped.

    A new connection for each request, or with ``keep`` one for each client, as long as the server keeps it.
    A request's duration counts from the moment it was due: what a stalled client could not even send is late too.
    """

    def __init__(self, address, path="/", *, clients=4, rate=200.0, timeout=15.0, accept_refused=False, keep=False):
        self.address = address
        self.path = path
        self.interval = clients / rate
        self.timeout = timeout
        self.keep = keep
        # After TERM nobody listens: that a new client is refused is no failure then.
        self.accept_refused = accept_refused
        self.result = Result()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Stops and returns the result."""
        self._stop.set()
        for thread in self._threads:
            thread.join(self.timeout + 5)
        return self.result

    def _run(self):
        due = time.monotonic()
        kept = None
        while not self._stop.is_set():
            kept = self._one(kept, due)
            due += self.interval
            self._stop.wait(max(0.0, due - time.monotonic()))
        if kept:
            kept.sock.close()

    def _one(self, connection, due):
        """One request; returns the connection if there may be another on it."""
        try:
            connection = connection or Connection(self.address, self.timeout)
        except OSError as error:
            if not (self.accept_refused and isinstance(error, (ConnectionRefusedError, FileNotFoundError))):
                self.result.failures.append(f"connect: {error!r}")
            return None
        try:
            connection.send(request(self.path, close=not self.keep))
            response = connection.response()
        except (OSError, EOFError, AssertionError) as error:
            self.result.failures.append(f"after {time.monotonic() - due:.2f} s: {error!r}")
            connection.sock.close()
            return None
        if response.status != 200:
            self.result.failures.append(f"status {response.status}")
        self.result.bodies.append(response.body)
        self.result.seconds.append(time.monotonic() - due)
        if self.keep and response.header("Connection") != "close":
            return connection
        connection.sock.close()
        return None
