"""A service that accepts and says nothing, or a response's head alone."""

import contextlib
import socket
import threading

import pytest


class Silent:
    """It keeps what it was sent; to ``/head`` it sends a head and no body, to ``/answer`` a whole response."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.heard = []
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection):
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                self.heard.append(data)
                if b" /head " in data:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
                elif b" /answer " in data:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def close(self):
        for each in [self._listener, *self._open]:
            each.close()


@pytest.fixture
def silent():
    service = Silent()
    yield service
    service.close()


@pytest.fixture(scope="module")
def module_silent():
    service = Silent()
    yield service
    service.close()
