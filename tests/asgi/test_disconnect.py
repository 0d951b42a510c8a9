"""``http.disconnect``: after the response, when the client goes, and when it merely has nothing more to say."""

import socket
import time

import pytest
from talk import left, wait_left

from harness import ASGI, request, wait_until

APP = "asgi_probe:app"
ours = pytest.mark.only_ferricorn
DISCONNECT = {"type": "http.disconnect"}


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app=APP)


def cut(client):
    """Closes with a reset."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.sock.close()


@pytest.mark.parametrize("close", [False, True])
def test_after_the_response(running, name, close):
    with running.connect() as client:
        assert client.request(f"/after_response?{name}", close=close).body == b"done"
        # Also while the client is still there.
        assert wait_left(running, name) == [DISCONNECT, DISCONNECT]


@pytest.mark.parametrize("leave", [lambda client: client.sock.close(), cut], ids=["close", "reset"])
@pytest.mark.parametrize("body", [None, b"abc"])
def test_client_goes_before_the_response(running, name, leave, body):
    client = running.connect()
    client.send(request(f"/after_body?{name}", "POST", body=body))
    wait_until(lambda: left(running, name) == "waiting", 5, "the application")
    time.sleep(0.1)
    assert left(running, name) == "waiting", "the client is still there"
    leave(client)
    wait_until(lambda: left(running, name) != "waiting", 2, "disconnect")
    assert left(running, name) == {"body": body or b"", "message": DISCONNECT, "again": DISCONNECT}


@pytest.mark.parametrize("leave", [lambda client: client.sock.close(), cut], ids=["close", "reset"])
def test_client_goes_in_its_body(running, name, leave):
    client = running.connect()
    client.send(request(f"/during_body?{name}", "POST", headers=[("Content-Length", "10")]) + b"half")
    wait_left(running, name)
    leave(client)
    wait_until(lambda: left(running, name)[-1] == "http.disconnect", 5, "disconnect")
    assert left(running, name) == ["http.request", "http.disconnect"]


@pytest.mark.parametrize("leave", [lambda client: client.sock.close(), cut], ids=["close", "reset"])
def test_sending_to_who_has_gone_is_no_error(running, name, leave):
    before = running.log().count("Traceback")
    client = running.connect()
    client.send(request(f"/send_when_gone?{name}"))
    while b"first" not in client.data:
        client._receive()
    leave(client)
    assert wait_left(running, name) == "sent"
    assert running.log().count("Traceback") == before


@ours("does not look at the connection once another request waits on it")
def test_pipelined_request_is_no_disconnect(running, name):
    with running.connect() as client:
        client.send(request(f"/after_body?{name}") + request("/pid"))
        wait_until(lambda: left(running, name) == "waiting", 5, "the application")
        time.sleep(0.2)
        assert left(running, name) == "waiting"
    wait_until(lambda: left(running, name) != "waiting", 5, "disconnect")


@ours("closes the connection when it has read the end of the stream")
@pytest.mark.parametrize("path", ["echo", "pieces", "late_read?0.3"])
def test_half_closed_client_gets_its_response(running, path):
    with running.connect() as client:
        client.send(request(f"/{path}", "POST", body=b"body"))
        client.sock.shutdown(socket.SHUT_WR)
        response = client.response()
        assert response.status == 200 and (path.startswith("late") or response.body == b"body")
        assert client.at_end()


def test_worker_outlives_clients_that_go(running):
    pid = running.get("/pid").body
    for path in ("/after_body?gone", "/late_read?0.05", "/echo", "/pieces") * 10:
        with running.connect() as client:
            client.send(request(path, "POST", headers=[("Content-Length", "10")]) + b"half")
    assert running.get("/pid").body == pid


@ours("has no such setting")
@pytest.mark.parametrize("seconds", [0, 1])
def test_task_is_cancelled_some_time_after_its_client_left(server, seconds):
    """Gunicorn's worker class ``asgi`` does that; Uvicorn's do not."""
    running = server("-k", "asgi", "--asgi-disconnect-grace-period", str(seconds), app=APP)
    with running.connect() as client:
        client.send(request("/ignores?cut"))
        wait_left(running, "cut")
    begun = time.monotonic()
    wait_until(lambda: left(running, "cut") == "cancelled", 5, "the cancellation")
    assert time.monotonic() - begun > seconds - 0.1
    assert "Traceback" not in running.log()


def test_task_goes_on_without_its_client(running, name):
    with running.connect() as client:
        client.send(request(f"/ignores?{name}"))
        wait_left(running, name)
    time.sleep(0.5)
    assert left(running, name) == "waiting"
    assert running.get(f"/free?{name}").body == b"True"
    wait_until(lambda: left(running, name) == "done", 5, "the end")


@ours("waits for them until its patience ends")
@pytest.mark.parametrize(("how", "last"), [("hears", b"data: bye\n\n"), ("deaf", b"data: tick\n\n")])
def test_streams_of_events_end_when_their_worker_does(server, how, last):
    running = server("-k", "asgi", "--asgi-disconnect-grace-period", "1", app=APP)
    with running.connect() as client:
        client.send(request(f"/events?{how}"))
        time.sleep(0.3)
        running.kill(15)
        assert client.response().body.endswith(last)
    assert running.wait(5) == 0
    assert "Traceback" not in running.log() and "cut" not in running.log()
