"""WebSockets as clients and applications see them: scope, messages, accepting, refusing, faults."""

import ast
import http

import pytest
from talk import dial, end, left, wait_left
from websockets.exceptions import InvalidStatus

from harness import ASGI, expected, wait_until

APP = "asgi_websocket:app"
ours = pytest.mark.only_ferricorn


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app=APP)


def test_scope(running):
    fields = [("X-One", "1"), ("X-One", "2")]
    with dial(running, "/scope/a%20b?c=%20", subprotocols=["one", "two"], additional_headers=fields) as socket:
        client = socket.socket.getsockname()
        seen = ast.literal_eval(socket.recv())
    headers = seen.pop("headers")
    assert seen.pop("extensions") == {"websocket.http.response": {}}
    # Servers may be of different editions of the specification, whose messages are the same.
    assert seen.pop("asgi")["version"] == "3.0"
    assert seen == {
        "type": "websocket",
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("127.0.0.1", running.port),
        "client": client,
        "root_path": "",
        "path": "/scope/a b",
        "raw_path": b"/scope/a%20b",
        "query_string": b"c=%20",
        "subprotocols": ["one", "two"],
        "state": {"number": 1},
    }
    names = [name for name, _ in headers]
    assert names[0] == b"host" and [value for name, value in headers if name == b"x-one"] == [b"1", b"2"]
    assert (b"upgrade", b"websocket") in headers and (b"sec-websocket-version", b"13") in headers
    assert all(name == name.lower() for name in names)


def test_scope_behind_a_proxy(running):
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "203.0.113.9")]
    with dial(running, "/scope", additional_headers=headers) as socket:
        seen = ast.literal_eval(socket.recv())
    assert (seen["scheme"], seen["client"], seen["subprotocols"]) == ("wss", ("203.0.113.9", 0), [])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 1 << 20])
def test_messages_both_ways(running, size):
    with dial(running, "/echo") as socket:
        for message in ("é" * (size // 2), b"\xff" * size, "last"):
            socket.send(message)
            assert socket.recv(timeout=5) == message


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_many_messages(running, compression):
    with dial(running, "/echo", compression=compression) as socket:
        sent = [f"message {number}" if number % 2 else b"%d" % number * number for number in range(300)]
        for message in sent:
            socket.send(message)
        assert [socket.recv(timeout=5) for _ in sent] == sent


@pytest.mark.parametrize("message", ["a" * 100_000, bytes(range(256)) * 100, "", b""])
def test_compression(running, message):
    with dial(running, "/echo", compression="deflate") as socket:
        assert "permessage-deflate" in (socket.response.headers.get("Sec-WebSocket-Extensions") or "")
        for _ in range(3):
            socket.send(message)
            assert socket.recv(timeout=5) == message


def test_no_compression_unless_asked_for(running):
    with dial(running, "/echo") as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


def test_received_messages(running):
    """Fragments are one message; the other of the two keys is absent or None."""
    with dial(running, "/messages") as socket:
        socket.send("text")
        socket.send(b"bytes")
        socket.send(["in ", "three ", "pieces"])
        socket.send([b"in ", b"two"])
        socket.send("")
        socket.send(b"")
        socket.send("end")
        seen = ast.literal_eval(socket.recv(timeout=5))
    assert {message.pop("type") for message in seen} == {"websocket.receive"}
    plain = [{key: value for key, value in message.items() if value is not None} for message in seen]
    texts = [{"text": "text"}, {"bytes": b"bytes"}, {"text": "in three pieces"}, {"bytes": b"in two"}]
    assert plain == [*texts, {"text": ""}, {"bytes": b""}, {"text": "end"}]


def test_sent_messages(running):
    with dial(running, "/both_keys") as socket:
        assert end(socket) == (["one", b"two", "", b""], 1000, "")


# the handshake


@pytest.mark.parametrize("chosen", ["", "one", "two"])
def test_accept(running, chosen):
    with dial(running, f"/accept?{chosen}", subprotocols=["one", "two"]) as socket:
        assert socket.subprotocol == (chosen or None)
        assert socket.response.headers["X-One"] == "1"
        assert socket.response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
        assert socket.response.status_code == 101
        assert len(socket.response.headers.get_all("Date")) <= 1


@pytest.mark.parametrize("path", ["/reject", "/reject_unheard"])
def test_reject(running, path):
    with pytest.raises(InvalidStatus) as refused:
        dial(running, path)
    assert refused.value.response.status_code == 403


def test_reject_is_a_disconnect(running):
    with pytest.raises(InvalidStatus):
        dial(running, "/reject?rejected")
    assert wait_left(running, "rejected") == {"type": "websocket.disconnect", "code": 1006}


@pytest.mark.parametrize("status", [401, 403, 404, 302, 200, 503])
def test_denial_response(running, status):
    with pytest.raises(InvalidStatus) as refused:
        dial(running, f"/deny?{status}")
    response = refused.value.response
    assert (response.status_code, bytes(response.body)) == (status, b"not here")
    assert (response.headers["X-One"], response.headers["Content-Type"]) == ("1", "text/plain")
    assert response.reason_phrase == http.HTTPStatus(status).phrase


@pytest.mark.parametrize("path", ["/returns", "/raises"])
def test_no_answer(running, path):
    before = running.log().count("[ERROR]")
    with pytest.raises(InvalidStatus) as refused:
        dial(running, path)
    assert refused.value.response.status_code == 500
    wait_until(lambda: running.log().count("[ERROR]") == before + 1, 5, "one entry")


def test_connect_is_not_waited_for(running):
    with dial(running, "/accept_unheard") as socket:
        assert end(socket)[0] == ["hello"]


# faults


@pytest.mark.parametrize(
    ("path", "codes"),
    [
        ("/accept_and_raise", expected(ferricorn=[1011], gunicorn=[1006])),
        ("/accept_and_return", expected(ferricorn=[1000], gunicorn=[1006])),
    ],
)
def test_application_leaves(running, path, codes):
    """Uvicorn just closes the connection; a close frame tells the client what happened."""
    with dial(running, path) as socket:
        messages, code, _ = end(socket)
    assert messages == ["hello"] and code in codes
    if path.endswith("raise"):
        wait_until(lambda: "RuntimeError: after accept" in running.log(), 5, "the traceback")


@pytest.mark.parametrize("name", ["send_first", "http_first"])
def test_wrong_message_before_accept(running, name):
    with pytest.raises(InvalidStatus) as refused:
        dial(running, f"/fault?{name}")
    assert (refused.value.response.status_code, left(running, name)) == (500, "error")


@pytest.mark.parametrize(
    "name",
    [
        "accept_twice",
        "http_after_accept",
        "denial_after_accept",
        "unknown",
        "send_after_close",
        "close_twice",
        "text_is_bytes",
        "bytes_is_str",
    ],
)
def test_wrong_message_after_accept(running, name):
    with dial(running, f"/fault?{name}") as socket:
        messages, _, _ = end(socket)
    assert messages == []
    wait_until(lambda: left(running, name) == "error", 5, "an error of send()")


@pytest.mark.parametrize("name", ["header_crlf", "subprotocol_crlf"])
@ours("sends what it is given")
def test_no_field_is_injected(running, name):
    with pytest.raises(InvalidStatus) as refused:
        dial(running, f"/fault?{name}")
    assert refused.value.response.status_code == 500
    assert "x-injected" not in refused.value.response.headers
