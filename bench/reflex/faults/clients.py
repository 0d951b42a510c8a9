"""Clients that do not read what they asked for, or do not send what they announced. A server that serves its clients by itself
does not suffer; one whose threads do it, does."""

import contextlib
import socket
from dataclasses import dataclass

from .base import WSGI, Fault, Flow

LINES = 600_000


@dataclass(frozen=True, kw_only=True)
class Lazy(Fault):
    """Clients with a small receive buffer that send their request and then do nothing."""

    request: bytes
    calls: tuple
    clients: int = 3
    frameworks: tuple = WSGI

    def inject(self, stage):
        stage.lazy = []
        for n in range(self.clients):
            stage.later(0.1 + n, lambda: self._come(stage))

    def _come(self, stage):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stage.lazy.append(client)
        client.settimeout(5)
        with contextlib.suppress(OSError):
            client.connect(("127.0.0.1", stage.server.port))
            client.sendall(self.request)

    def heal(self, stage):
        for client in getattr(stage, "lazy", ()):
            client.close()

    def prove(self, view):
        port = view.stage.server.port
        found = [thread for thread in view.threads if thread.call in self.calls and thread.socket and thread.socket.local == port]
        return view.some(found, f"thread in {'/'.join(self.calls)} on a client's socket")


def _get(path):
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


_UPLOAD = b"POST /uploads/photo.jpg HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 500
_SENDING = ("sendto", "sendmsg", "write", "writev", "poll", "ppoll")

FAULTS = [
    Lazy(cause="client.slow", variant="download", flow=Flow(("/exports/orders.csv",), rate=0.5), calls=_SENDING,
         request=_get(f"/exports/orders.csv?lines={LINES}"), harmless_on=("ferricorn",)),
    Lazy(cause="client.slow", variant="stream", flow=Flow(("/exports/orders.jsonl",), rate=0.5), calls=_SENDING,
         request=_get(f"/exports/orders.jsonl?lines={LINES}"), no_kill_on=("ferricorn",)),
    Lazy(cause="client.slow", variant="upload", flow=Flow(("/exports/orders.csv",), rate=0.5), calls=("recvfrom", "poll"),
         request=_UPLOAD, harmless_on=("ferricorn",), held_out=True),
]
