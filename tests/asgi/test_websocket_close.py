"""How WebSockets end: by the client, by the application, with the connection, and with the server."""

import ast
import socket
import time
from urllib.parse import quote

import pytest
from talk import wait_left
from websocket_frames import CLOSE, TEXT, close, closed_with, frame, opened, read

from harness import ASGI, expected

APP = "asgi_websocket:app"


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app=APP)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 3000, 4999])
def test_client_closes(running, name, code):
    """The code goes to the application and back to the client."""
    with opened(running, f"/echo?{name}") as client:
        client.send(close(code, b"because"))
        assert closed_with(client) == code
        assert client.at_end()
    assert wait_left(running, name) == {"type": "websocket.disconnect", "code": code, "reason": "because"}


def test_client_closes_without_a_code(running, name):
    with opened(running, f"/echo?{name}") as client:
        client.send(frame(CLOSE))
        assert closed_with(client) == 1005 and client.at_end()
    assert wait_left(running, name)["code"] == 1005


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_client_goes_without_closing(running, name, how):
    client = opened(running, f"/waits?{name}")
    assert read(client) == (TEXT, b"ready", True)
    if how == "reset":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if how == "half":
        client.sock.shutdown(socket.SHUT_WR)
    else:
        client.sock.close()
    seen = wait_left(running, name)
    # Nothing was received; Uvicorn says 1005, which would mean a frame without a code.
    assert seen["code"] == expected(ferricorn=1006, gunicorn=1005)
    assert seen["send"] == "OSError"
    client.sock.close()


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "going"), (1011, "é"), (3000, "x" * 120), (4321, "mine")]
)
def test_application_closes(running, code, reason):

    if reason.isascii():
        with opened(running, f"/close?{code}:{quote(reason)}") as client:
            got = read(client)
            assert got == (CLOSE, code.to_bytes(2, "big") + reason.encode(), True)
            client.send(close(code))
            assert client.at_end()


def test_application_closes_and_hears_of_it(running):
    with opened(running, "/close?4000:heard") as client:
        assert closed_with(client) == 4000
        client.send(close(4000))
    seen = wait_left(running, "4000:heard")
    assert (seen["type"], seen["code"]) == ("websocket.disconnect", 4000)


def test_close_that_nobody_answers(running):
    """Messages that come after the close frame are dropped; the connection ends when the client says so."""
    with opened(running, "/close_after_message") as client:
        client.send(frame(TEXT, b"x"))
        assert read(client) == (TEXT, b"goodbye", True)
        assert closed_with(client) == 4001
        client.send(frame(TEXT, b"late") + close(4001))
        assert client.at_end()


# the end of the server


def test_conversations_are_closed_at_the_end(server, tmp_path):
    running = server("-k", ASGI, app=APP)
    trace = tmp_path / "disconnect"
    with opened(running, f"/waits_to_file?{trace}") as client:
        assert read(client) == (TEXT, b"ready", True)
        begun = time.monotonic()
        running.kill(15)
        assert closed_with(client) == 1012
        client.send(close(1012))
        assert client.at_end()
    assert running.wait() == 0
    assert time.monotonic() - begun < 5
    seen = ast.literal_eval(trace.read_text())
    assert (seen["type"], seen["code"]) == ("websocket.disconnect", 1012)


def test_client_that_ignores_the_end(server):
    """It does not keep the server from ending."""
    running = server("-k", ASGI, "--graceful-timeout", "2", app=APP)
    with opened(running, "/echo"):
        begun = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - begun < 6


def test_conversations_are_closed_at_hup(server):
    running = server("-k", ASGI, app=APP)
    with opened(running, "/echo") as client:
        running.kill(1)
        assert closed_with(client) == 1012
    with opened(running, "/echo") as client:
        client.send(frame(TEXT, b"new"))
        assert read(client) == (TEXT, b"new", True)
