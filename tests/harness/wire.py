"""Raw HTTP/1.1 over sockets: send exactly these bytes in exactly these pieces, and read what comes back.

Not a client library: it follows no redirect, repairs nothing, and complains about every byte that is out of place.
"""

import contextlib
import selectors
import socket
import time
from dataclasses import dataclass, field

BODILESS = (204, 304)


@dataclass
class Response:
    """One response, with the 1xx responses before it in ``interim``."""

    version: str
    status: int
    reason: str
    headers: list
    body: bytes = b""
    framing: str = "none"
    trailers: list = field(default_factory=list)
    interim: list = field(default_factory=list)

    def header(self, name):
        """The only value of a field, or None; fails on several."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class Incomplete(Exception):
    """The bytes so far are not a whole response."""


def parse_response(data, method="GET", closed=False):
    """Takes one response from the front of ``data``; returns it and the number of bytes it took."""
    interim = []
    at = 0
    while True:
        response, at = _head(data, at)
        if response.status >= 200 or response.status == 101:
            break
        interim.append(response)
    response.interim = interim
    return response, _body(response, data, at, method, closed)


def _head(data, at):
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        raise Incomplete
    status_line, *lines = data[at:end].decode("latin-1").split("\r\n")
    version, _, rest = status_line.partition(" ")
    code, _, reason = rest.partition(" ")
    assert version[:7] == "HTTP/1." and version[7:].isdigit(), status_line
    assert len(code) == 3 and code.isdigit(), status_line
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon and name and name == name.strip(), f"bad field line {line!r}"
        headers.append((name, value.strip()))
    return Response(version, int(code), reason, headers), end + 4


def _body(response, data, at, method, closed):
    coding = response.header("Transfer-Encoding")
    length = response.header("Content-Length")
    assert not (coding and length), "both Transfer-Encoding and Content-Length"
    if method == "HEAD" or response.status in BODILESS or response.status == 101:
        return at
    if coding:
        assert coding.lower() == "chunked", coding
        response.framing = "chunked"
        return _chunks(response, data, at)
    if length is not None:
        response.framing = "length"
        end = at + int(length)
        response.body = data[at:end]
        if len(data) < end:
            raise Incomplete
        return end
    response.framing = "close"
    response.body = data[at:]
    if not closed:
        raise Incomplete
    return len(data)


def _chunks(response, data, at):
    body = bytearray()
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            raise Incomplete
        size = int(data[at:end].split(b";")[0], 16)
        at = end + 2
        if size == 0:
            break
        if len(data) < at + size + 2:
            raise Incomplete
        body += data[at : at + size]
        assert data[at + size : at + size + 2] == b"\r\n", "chunk not ended by CRLF"
        at += size + 2
    response.body = bytes(body)
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            raise Incomplete
        line, at = data[at:end].decode("latin-1"), end + 2
        if not line:
            return at
        response.trailers.append(tuple(part.strip() for part in line.split(":", 1)))


def connect(address, timeout=10.0):
    """Connects to ``(host, port)`` or to a path."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(address)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


class Connection:
    """One client connection; use as a context manager."""

    def __init__(self, address, timeout=10.0):
        self.sock = connect(address, timeout)
        self.data = b""
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data, pause=0.0):
        """Sends bytes, or a list of pieces; False if the server has closed meanwhile (its answer is still to be read)."""
        for piece in [data] if isinstance(data, bytes) else data:
            try:
                self.sock.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return False
            if pause:
                time.sleep(pause)
        return True

    def response(self, method="GET"):
        """The next response; EOFError if the connection closes before it is whole."""
        while True:
            if self.data or self.closed:
                with contextlib.suppress(Incomplete):
                    response, size = parse_response(self.data, method, self.closed)
                    self.data = self.data[size:]
                    return response
            if self.closed:
                raise EOFError(f"closed after {self.data!r}")
            self._receive()

    def request(self, path, method="GET", **options):
        """Sends one request and reads its response."""
        self.send(request(path, method, **options))
        return self.response(method)

    def at_end(self, seconds=5.0):
        """True if the server closes within ``seconds`` without another byte."""
        self.sock.settimeout(seconds)
        try:
            while not self.closed:
                self._receive()
        except TimeoutError:
            return False
        return not self.data

    def _receive(self):
        try:
            chunk = self.sock.recv(1 << 16)
        except ConnectionResetError:
            chunk = b""
        self.data += chunk
        self.closed = not chunk


def request(path, method="GET", *, headers=(), body=None, host="test", version="HTTP/1.1", close=False):
    """The bytes of an ordinary request."""
    lines = [f"{method} {path} {version}", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


@dataclass
class Exchange:
    """What came back on one connection until the server closed it (or fell silent)."""

    responses: list
    closed: bool
    rest: bytes

    @property
    def statuses(self):
        return [response.status for response in self.responses]


def exchange(address, data, *, methods=("GET",), pause=0.002, timeout=10.0, half_close=False):
    """Sends ``data`` (bytes or pieces) and reads until the server closes, or until one response per method and silence."""
    with Connection(address, timeout) as connection:
        if connection.send(data, pause=pause if not isinstance(data, bytes) else 0.0) and half_close:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
        responses = []
        for method in methods:
            try:
                responses.append(connection.response(method))
            except EOFError:
                break
        connection.at_end(0.1)
        return Exchange(responses, connection.closed, connection.data)


def exchange_many(address, messages, *, pause=0.002, timeout=20.0, batch=48):
    """Sends many messages, each a list of pieces, side by side; returns for each all bytes until the server closed.

    Every message must make the server close. None stands for a connection that was still open after ``timeout``.
    """
    answers = []
    for at in range(0, len(messages), batch):
        answers += _batch(address, messages[at : at + batch], pause, timeout)
    return answers


def _batch(address, messages, pause, timeout):
    socks = [connect(address, timeout) for _ in messages]
    try:
        alive = set(range(len(socks)))
        for step in range(max(len(pieces) for pieces in messages)):
            for index in sorted(alive):
                if step >= len(messages[index]):
                    continue
                try:
                    socks[index].sendall(messages[index][step])
                except (BrokenPipeError, ConnectionResetError):
                    alive.discard(index)
            time.sleep(pause)
        return _read_all(socks, timeout)
    finally:
        for sock in socks:
            sock.close()


def _read_all(socks, timeout):
    answers = [bytearray() for _ in socks]
    done = set()
    with selectors.DefaultSelector() as selector:
        for index, sock in enumerate(socks):
            selector.register(sock, selectors.EVENT_READ, index)
        end = time.monotonic() + timeout
        while len(done) < len(socks) and time.monotonic() < end:
            for key, _ in selector.select(0.2):
                try:
                    chunk = key.fileobj.recv(1 << 16)
                except ConnectionResetError:
                    chunk = b""
                answers[key.data] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
                    # A server that drains before it closes waits for this end.
                    key.fileobj.close()
                    done.add(key.data)
    return [bytes(answer) if index in done else None for index, answer in enumerate(answers)]
