"""Holds connections of one kind open and counts what becomes of them: `idle_client.py websocket|events PORT COUNT`.

A process of its own, because a process may open so many files only. Prints a line of JSON when all connections are
open or have failed, then one for each word on stdin: `count` at once, `finish` when all have ended. Ends with its stdin.

Not a load generator: it answers pings and closing handshakes, and sends nothing else."""

import errno
import json
import os
import selectors
import socket
import sys
import time
from collections import Counter

# Handshakes under way: fewer than the shortest backlog among the servers.
OPENING_MAX = 20
HANDSHAKE_PATIENCE = 20
# Once a server has ended, only what the kernel holds already can come.
FINISH_PATIENCE = 5
# The example of RFC 6455, section 1.3, with its answer.
_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_UPGRADE = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n"
_CLOSE, _PING = 0x8, 0x9


class Ended(Exception):
    """The connection is over; the text says how."""


class Connection:
    """A socket and what has arrived on it. The subclasses know what follows the answer's head."""

    HEADERS: str

    def __init__(self, port):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.begun = time.monotonic()
        self.is_open = False
        # What the server has said about the end, before the end.
        self.end = None
        self._port = port
        self._incoming = bytearray()
        code = self.socket.connect_ex(("127.0.0.1", port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))

    def request(self):
        self.socket.send(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{self.HEADERS}\r\n".encode())

    def read(self, client):
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise Ended(self.end or errno.errorcode[error.errno]) from error
        if not data:
            raise Ended(self.end or "cut")
        self._incoming += data
        if not self.is_open:
            head, found, rest = self._incoming.partition(b"\r\n\r\n")
            if not found:
                return
            self._judge(bytes(head))
            self._incoming = rest
            self.is_open = True
        while self._step(client):
            pass


class WebSocket(Connection):
    HEADERS = _UPGRADE

    def _judge(self, head):
        if b" 101" not in head[:13] or _ACCEPT not in head:
            raise Ended(f"handshake: {head[:80].decode(errors='replace')!r}")

    def _step(self, client):
        """One frame of less than 126 bytes: an idle server sends no other."""
        if len(self._incoming) < 2:
            return False
        kind, length = self._incoming[0] & 0xF, self._incoming[1]
        if length > 125:
            raise Ended("a frame that is too long")
        if len(self._incoming) < 2 + length:
            return False
        payload = bytes(self._incoming[2 : 2 + length])
        del self._incoming[: 2 + length]
        if kind == _CLOSE:
            self.end = str(int.from_bytes(payload[:2], "big")) if length >= 2 else "1005"
            self._send(_CLOSE, payload[:2])
        elif kind == _PING:
            self._send(0xA, payload)
        return True

    def _send(self, kind, payload):
        # Masked, with a key of zeros.
        try:
            self.socket.send(bytes([0x80 | kind, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
        except OSError:
            # The read that follows tells what happened.
            pass


class Events(Connection):
    HEADERS = "Accept: text/event-stream\r\n"

    def _judge(self, head):
        if b" 200" not in head[:13] or b"\r\ntransfer-encoding: chunked" not in head.lower():
            raise Ended(f"answer: {head[:80].decode(errors='replace')!r}")

    def _step(self, client):
        """One chunk: an event, or the end."""
        size, found, rest = self._incoming.partition(b"\r\n")
        if not found:
            return False
        length = int(size, 16)
        if len(rest) < length + 2:
            return False
        self._incoming = rest[length + 2 :]
        if length == 0:
            raise Ended("complete")
        client.event(float(rest[:length].strip().removeprefix(b"data: ")))
        return True


KINDS = {"websocket": WebSocket, "events": Events}


class Client:
    def __init__(self, kind, port, count):
        self._kind, self._port = KINDS[kind], port
        self._selector = selectors.DefaultSelector()
        self._to_open = count
        self._opening, self._open = set(), set()
        self._failed, self._reason = 0, None
        self._ends = Counter()
        self._events, self._late_ms = 0, []

    def run(self):
        while self._to_open or self._opening:
            self._open_more()
            self._turn(1)
            self._give_up_late_ones()
        self._report()
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while word := self._word():
            if word == "finish":
                self._finish()
            self._report()

    def event(self, sent):
        # The clock is that of the server's machine, this one.
        self._events += 1
        self._late_ms.append(round((time.monotonic() - sent) * 1000, 2))

    def _word(self):
        while not self._turn(None):
            pass
        return sys.stdin.readline().strip()

    def _finish(self):
        deadline = time.monotonic() + FINISH_PATIENCE
        while self._open and time.monotonic() < deadline:
            self._turn(0.1)
        self._ends["never"] += len(self._open)

    def _open_more(self):
        while self._to_open and len(self._opening) < OPENING_MAX:
            self._to_open -= 1
            try:
                connection = self._kind(self._port)
            except OSError as error:
                self._fail(str(error))
                continue
            self._opening.add(connection)
            self._selector.register(connection.socket, selectors.EVENT_WRITE, connection)

    def _give_up_late_ones(self):
        now = time.monotonic()
        for connection in [late for late in self._opening if now - late.begun > HANDSHAKE_PATIENCE]:
            self._end(connection, f"no answer within {HANDSHAKE_PATIENCE} s")

    def _turn(self, timeout):
        """Serves what is ready. Returns whether stdin is."""
        spoken_to = False
        for key, ready in self._selector.select(timeout):
            if key.data is None:
                spoken_to = True
                continue
            try:
                self._serve(key.data, ready)
            except Ended as end:
                self._end(key.data, str(end))
            except OSError as error:
                self._end(key.data, errno.errorcode[error.errno])
        return spoken_to

    def _serve(self, connection, ready):
        if ready & selectors.EVENT_WRITE:
            connection.request()
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
            return
        connection.read(self)
        if connection.is_open and connection in self._opening:
            self._opening.remove(connection)
            self._open.add(connection)

    def _end(self, connection, how):
        self._selector.unregister(connection.socket)
        connection.socket.close()
        if connection in self._opening:
            self._opening.remove(connection)
            self._fail(how)
        else:
            self._open.remove(connection)
            self._ends[how] += 1

    def _fail(self, reason):
        self._failed += 1
        self._reason = self._reason or reason

    def _report(self):
        report = {"open": len(self._open), "failed": self._failed, "reason": self._reason, "ends": self._ends}
        print(json.dumps({**report, "events": self._events, "late_ms": self._late_ms}), flush=True)
        self._events, self._late_ms = 0, []


if __name__ == "__main__":
    Client(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).run()
