"""Many messages and many conversations; messages that are too large; who does not read stops who writes."""

import concurrent.futures
import time

import pytest
from talk import dial, end, left
from websockets.exceptions import ConnectionClosed

from harness import ASGI, wait_until

APP = "asgi_websocket:app"
ours = pytest.mark.only_ferricorn


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app=APP)


def test_two_tasks(running):
    with dial(running, "/two_tasks") as socket:
        for number in range(50):
            socket.send(f"a{number}")
        assert [socket.recv(timeout=5) for _ in range(50)] == [f"A{number}" for number in range(50)]


def test_sending_while_receiving(running):
    with dial(running, "/ticks") as socket:
        assert [socket.recv(timeout=5) for _ in range(5)] == ["0", "1", "2", "3", "4"]
        socket.send("last")
        assert end(socket) == (["last"], 1000, "")


def test_many_conversations(running):
    def talk(number):
        with dial(running, "/echo") as socket:
            for turn in range(20):
                socket.send(f"{number}:{turn}")
                assert socket.recv(timeout=5) == f"{number}:{turn}"
        return True

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all(pool.map(talk, range(60)))


# limits


def test_message_at_the_default_limit(running):
    with dial(running, "/echo", max_size=None) as socket:
        message = b"x" * (16 << 20)
        socket.send(message)
        assert socket.recv(timeout=20) == message


def test_message_over_the_default_limit(running):
    """One that only grows too large when it is unpacked."""
    with dial(running, "/echo", max_size=None, compression="deflate") as socket:
        socket.send(b"x" * ((16 << 20) + 1))
        assert end(socket)[:2] == ([], 1009)


@ours("has no setting for it with this worker class")
def test_set_limit(module_server):
    server = module_server("-k", ASGI, "--websocket-max-message-size", "1000", app=APP)
    with dial(server, "/echo") as socket:
        socket.send("x" * 1000)
        assert len(socket.recv(timeout=5)) == 1000
        socket.send(["x" * 600, "y" * 401])
        assert end(socket)[1] == 1009


def test_application_that_does_not_receive_stops_the_client(running):
    with dial(running, "/slow_reader?slow") as socket:
        block = b"x" * 100_000
        socket.socket.settimeout(1.0)
        sent = 0
        try:
            while sent < 600:
                socket.send(block)
                sent += 1
        except (TimeoutError, ConnectionClosed):
            pass
    assert sent < 400, "40 MB and nobody stops the client"
    running.get("/release?slow")


def test_client_that_does_not_read_stops_the_application(running):
    with dial(running, "/endless?endless", max_queue=1, close_timeout=0.2) as socket:
        socket.recv(timeout=5)

        def still():
            before = left(running, "endless")
            time.sleep(0.2)
            return before == left(running, "endless") and before

        assert wait_until(still, 10, "the application stops") < 60_000_000
        assert running.get("/left?nothing").status == 200


def test_conversations_outlive_requests(running):
    with dial(running, "/echo") as socket:
        for number in range(20):
            assert running.get("/left?nothing").status == 200
            socket.send(str(number))
            assert socket.recv(timeout=5) == str(number)
