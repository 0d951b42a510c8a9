"""Frames of RFC 6455 by hand, for what no client library would send. Not a client: it never answers by itself."""

import base64
import hashlib
import os
import struct

KEY = base64.b64encode(b"sixteen bytes!!!").decode()
ACCEPTED = base64.b64encode(hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def handshake(path, *, headers=(), without=(), **changes):
    """The bytes of an opening handshake; ``changes`` and ``without`` break it."""
    fields = {"Host": "test", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": KEY}
    fields["Sec-WebSocket-Version"] = "13"
    fields.update({name.replace("_", "-"): value for name, value in changes.items()})
    lines = [f"{name}: {value}" for name, value in fields.items() if name not in without]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


def frame(opcode, payload=b"", *, final=True, masked=True, reserved=0):
    """One frame of a client's."""
    first = (final << 7) | (reserved << 4) | opcode
    size = len(payload)
    mark = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, mark | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, mark | 126, size)
    else:
        head = struct.pack("!BBQ", first, mark | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    whole = mask * (size // 4 + 1)
    coded = (int.from_bytes(payload, "big") ^ int.from_bytes(whole[:size], "big")).to_bytes(size, "big")
    return head + mask + coded


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def opened(server, path, **options):
    """A connection on which the handshake has been accepted."""
    connection = server.connect()
    connection.send(handshake(path, **options))
    response = connection.response()
    assert (response.status, response.header("Sec-WebSocket-Accept")) == (101, ACCEPTED), response
    return connection


def read(connection):
    """The next frame of the server's: opcode, payload, whether it is final; None at the end of the connection."""
    while True:
        data = connection.data
        if len(data) >= 2:
            size, at = data[1] & 127, 2
            assert data[1] < 128, "a server masks no frames"
            if size >= 126:
                width = 2 if size == 126 else 8
                size, at = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
            if len(data) >= at + size:
                connection.data = data[at + size :]
                return data[0] & 15, data[at : at + size], bool(data[0] & 128)
        if connection.closed:
            assert not data, data
            return None
        connection._receive()


def closed_with(connection):
    """The code of the close frame that comes next (after others); None if the connection just ends."""
    while (got := read(connection)) is not None:
        if got[0] == CLOSE:
            return struct.unpack("!H", got[1][:2])[0] if got[1] else 1005
    return None
