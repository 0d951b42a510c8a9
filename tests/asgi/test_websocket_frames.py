"""WebSockets byte by byte: handshakes that are wrong, control frames, compression, what RFC 6455 forbids."""

import itertools
import zlib

import pytest
import websocket_frames as frames
from websocket_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, closed_with, frame, opened, read

from harness import ASGI, expected

APP = "asgi_websocket:app"
ours = pytest.mark.only_ferricorn


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app=APP)


# the handshake


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"Upgrade": "WebSocket"},
        {"Connection": "keep-alive, upgrade"},
        {"headers": [("Origin", "http://elsewhere"), ("Cookie", "a=1")]},
        {"headers": [("Sec-WebSocket-Extensions", "x-unknown; a=1, permessage-deflate; unknown")]},
    ],
    ids=["plain", "case", "list", "fields", "unknown extensions"],
)
def test_handshake(running, options):
    with opened(running, "/echo", **options) as client:
        client.send(frame(TEXT, b"hello"))
        assert read(client) == (TEXT, b"hello", True)


@ours("drops what comes together with the handshake")
def test_frame_together_with_the_handshake(running):
    with running.connect() as client:
        client.send(frames.handshake("/echo") + frame(TEXT, b"early"))
        assert client.response().status == 101
        assert read(client) == (TEXT, b"early", True)
        client.send(close())
        assert closed_with(client) == 1000


def test_handshake_and_frames_in_drops(running):
    handshake, raw = frames.handshake("/echo"), frame(TEXT, b"x" * 200) + close()
    with running.connect() as client:
        client.send([handshake[at : at + 7] for at in range(0, len(handshake), 7)], pause=0.001)
        assert client.response().status == 101
        client.send([raw[at : at + 7] for at in range(0, len(raw), 7)], pause=0.001)
        assert read(client) == (TEXT, b"x" * 200, True)
        assert closed_with(client) == 1000


def test_handshake_after_a_request(running):
    with running.connect() as client:
        assert client.request("/left?nothing").status == 200
        client.send(frames.handshake("/echo"))
        assert client.response().status == 101
        client.send(frame(TEXT, b"hello"))
        assert read(client) == (TEXT, b"hello", True)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"without": ["Sec-WebSocket-Key"]}, [400]),
        ({"Sec_WebSocket_Key": "short"}, [400]),
        # RFC 6455, 4.4, has an answer for a version that is not served.
        ({"without": ["Sec-WebSocket-Version"]}, [400, 426]),
        ({"Sec_WebSocket_Version": "12"}, expected(ferricorn=[426], gunicorn=[400])),
    ],
    ids=["no key", "bad key", "no version", "old version"],
)
def test_bad_handshake(running, options, status):
    with running.connect() as client:
        client.send(frames.handshake("/echo", **options))
        response = client.response()
        assert response.status in status
        if response.status == 426:
            assert response.header("Sec-WebSocket-Version") == "13"


@pytest.mark.parametrize(
    "options", [{"without": ["Upgrade"]}, {"without": ["Connection"]}, {"Upgrade": "h2c"}], ids=str
)
def test_request_that_asks_for_no_websocket(running, options):
    """An ordinary request: the application gets it as one."""
    with running.connect() as client:
        client.send(frames.handshake("/left?nothing", **options))
        response = client.response()
        assert (response.status, response.body) == (200, b"None")


# control frames


def test_ping(running):
    with opened(running, "/echo") as client:
        for payload in (b"", b"ping", b"x" * 125):
            client.send(frame(PING, payload))
            assert read(client) == (PONG, payload, True)


def test_ping_between_fragments(running):
    with opened(running, "/echo") as client:
        client.send(frame(TEXT, b"one ", final=False) + frame(PING, b"p") + frame(CONTINUATION, b"two"))
        assert read(client) == (PONG, b"p", True)
        assert read(client) == (TEXT, b"one two", True)


def test_pong_that_nobody_asked_for(running):
    with opened(running, "/echo") as client:
        client.send(frame(PONG, b"x") + frame(TEXT, b"hello"))
        assert read(client) == (TEXT, b"hello", True)


def test_character_across_fragments(running):
    text = "aé你🐦".encode()
    with opened(running, "/echo") as client:
        pieces = [frame(TEXT if at == 0 else CONTINUATION, text[at : at + 1], final=False) for at in range(len(text))]
        client.send(b"".join(pieces) + frame(CONTINUATION, b""))
        assert read(client) == (TEXT, text, True)


# what is forbidden


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(TEXT, b"x", reserved=1), 1002),
        (frame(TEXT, b"x", reserved=4), 1002),
        (frame(3, b"x"), 1002),
        (frame(11, b"x"), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(TEXT, b"x", final=False) + frame(TEXT, b"y"), 1002),
        (frame(PING, b"x", final=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, (999).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1006).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (5000).to_bytes(2, "big")), 1002),
        (close(1000, b"\xff"), 1007),
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(TEXT, b"ok \xc3", final=False) + frame(CONTINUATION, b"\x28"), 1007),
        (bytes([0x82, 0xFF]) + (1 << 62).to_bytes(8, "big") + b"mask", 1009),
        (bytes([0x82, 0xFF]) + ((16 << 20) + 1).to_bytes(8, "big") + b"mask", 1009),
        (frame(BINARY, b"x", final=False) + bytes([0x80, 0xFF]) + (16 << 20).to_bytes(8, "big") + b"mask", 1009),
    ],
    ids=itertools.count(),
)
def test_what_ends_the_conversation(running, name, raw, code):
    """With this code; the application sees a disconnect and no message."""
    with opened(running, f"/messages?{name}") as client:
        client.send(raw)
        assert closed_with(client) == code
        client.sock.close()
    assert running.get("/left?nothing").status == 200


# compression


def deflated(data, *, cut=True):
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed[:-4] if cut else packed


EXTENSION = {"headers": [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]}


def test_compressed_fragments(running):
    packed = deflated(b"packed " * 100)
    with opened(running, "/messages", **EXTENSION) as client:
        client.send(frame(TEXT, packed[:5], final=False, reserved=4) + frame(PING) + frame(CONTINUATION, packed[5:]))
        assert read(client)[0] == PONG
        client.send(frame(TEXT, b"end"))
        opcode, payload, _ = read(client)
        assert opcode == TEXT
        # A server may find that compressing does not pay.
        if b"packed packed" not in payload:
            payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
        assert b"packed packed" in payload


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frame(TEXT, b"\xff\xff not deflated", reserved=4), (1002, 1007)),
        (frame(PING, b"x", reserved=4), (1002,)),
        (frame(TEXT, b"x", final=False) + frame(CONTINUATION, b"x", reserved=4), (1002,)),
    ],
    ids=["not deflated", "control", "continuation"],
)
def test_wrong_compression(running, raw, code):
    with opened(running, "/messages", **EXTENSION) as client:
        client.send(raw)
        assert closed_with(client) in code
