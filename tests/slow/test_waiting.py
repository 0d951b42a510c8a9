"""Requests that wait for a thread: given to an idle sibling if there is one, else kept in line, up to its limit."""

import hashlib
import select
import threading
import time

import pytest

from harness import request

SLOW = 1.5
KEPT = pytest.mark.only_ferricorn("sync closes each connection after its response")


def worker_of(connection):
    """The pid that a kept connection is with, and what the application knows of its client."""
    response = connection.request("/peer", "POST", body=b"hi")
    assert response.status == 200
    pid, _, rest = response.body.decode().partition(" ")
    return int(pid), rest


def with_busy_worker(target, count, name="sleep"):
    """Makes a worker slow; returns its pid, the connection of the slow request, and ``count`` others kept by it."""
    connections = [target.connect() for _ in range(2 * count + 3)]
    by_pid = {}
    for connection in connections:
        by_pid.setdefault(worker_of(connection)[0], []).append(connection)
    pid, mine = max(by_pid.items(), key=lambda item: len(item[1]))
    slow, *others = mine
    for connection in connections:
        if connection not in mine:
            connection.sock.close()
    for connection in others[count:]:
        connection.sock.close()
    slow.send(request(f"/{name}?{SLOW}"))
    # Long enough to be with the application, whose begin nothing tells.
    time.sleep(0.2)
    return pid, slow, others[:count]


@pytest.fixture(scope="module")
def pair(request, module_server):
    bind = getattr(request, "param", "tcp")
    target = module_server("-k", "sync", "-w", "2", "--keep-alive", "20", app="slow_calls:app", bind=bind)
    target.wait_workers(2)
    return target


@KEPT
@pytest.mark.parametrize("pair", ["tcp", "unix"], indirect=True)
@pytest.mark.parametrize("name", ["sleep", "burn", "lock", "hold", "drip"])
def test_handed_to_the_idle_sibling(pair, name):
    """The sibling serves what comes on connections that the busy worker keeps, and learns the same of the client."""
    pid, slow, others = with_busy_worker(pair, 4, name)
    for connection in others:
        served_by, client = worker_of(connection)
        assert served_by != pid
        assert client == client_of(connection)
        # And so is the next one on the same connection.
        assert worker_of(connection)[0] != pid
    # The head of a response in pieces has come already.
    assert name == "drip" or still_busy(slow)
    assert slow.response().status == 200
    for connection in [slow, *others]:
        connection.sock.close()


def still_busy(connection):
    """True while nothing has come back: so whatever was answered meanwhile did not wait for it."""
    return not select.select([connection.sock], [], [], 0)[0]


def client_of(connection):
    """What the application should know of it; a unix client has no address and no port."""
    name = connection.sock.getsockname()
    address, port = ("", "") if isinstance(name, (str, bytes)) else name
    return f"{address} {port} hi"


CHUNKED = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


@KEPT
@pytest.mark.parametrize(
    ("before", "after", "answers"),
    [
        pytest.param(b"", request("/echo"), 1, id="whole"),
        pytest.param(b"GET /echo HT", b"TP/1.1\r\nHost: test\r\n\r\n", 1, id="head cut in two"),
        pytest.param(request("/echo", "POST", body=b"12345")[:-3], b"345", 1, id="body cut in two"),
        pytest.param(b"", request("/echo", "POST", body=b"x" * 30_000), 1, id="body of 30 kB"),
        pytest.param(b"", request("/echo") * 3, 3, id="three pipelined"),
        pytest.param(request("/echo")[:10], request("/echo")[10:] + request("/echo")[:9], 1, id="one and a half"),
        pytest.param(b"", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", 1, id="chunked"),
        pytest.param(b"", request("/echo", close=True), 1, id="last request"),
    ],
)
def test_handed_over_whole(pair, before, after, answers):
    """Whatever of the request had been read before travels along."""
    _, slow, (connection, *_) = with_busy_worker(pair, 1)
    connection.send(before)
    connection.send(after)
    for _ in range(answers):
        assert connection.response().status == 200
    assert still_busy(slow)
    assert slow.response().status == 200
    slow.sock.close()
    connection.sock.close()


@KEPT
@pytest.mark.parametrize("size", [60_000, 100_000, 3_000_000])
def test_large_body_beside_a_busy_worker(pair, size):
    """A request that may be too large to be given away is answered all the same."""
    _, slow, (connection, *_) = with_busy_worker(pair, 1)
    body = bytes(range(250)) * (size // 250)
    response = connection.request("/upload", "POST", body=body)
    assert response.body.decode() == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    assert slow.response().status == 200
    slow.sock.close()
    connection.sock.close()


@KEPT
def test_expect_continue_beside_a_busy_worker(pair):
    """The client is told to go on although no thread is free."""
    _, slow, (connection, *_) = with_busy_worker(pair, 1)
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    connection.send(head)
    connection.sock.settimeout(1.0)
    assert b"100 Continue" in connection.sock.recv(100)
    connection.send(b"ok")
    assert connection.response().status == 200
    assert still_busy(slow)
    assert slow.response().status == 200
    slow.sock.close()
    connection.sock.close()


@KEPT
def test_new_clients_go_to_the_idle_sibling(pair):
    pid, slow, _ = with_busy_worker(pair, 1)
    for _ in range(30):
        assert pair.get("/pid").body != b"%d" % pid
    assert still_busy(slow)
    assert slow.response().status == 200
    slow.sock.close()


@pytest.mark.parametrize("name", ["sleep", "burn", "lock", "hold", "drip"])
@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("-k", "sync"), id="sync"),
        pytest.param(("-k", "gthread", "--threads", "1"), id="gthread"),
    ],
)
def test_single_thread_answers_all_afterwards(server, args, name):
    """Nobody else is there: whoever comes meanwhile waits, and is answered."""
    target = server("-w", "1", *args, app="slow_calls:app")
    slow = target.connect()
    begun = time.monotonic()
    slow.send(request(f"/{name}?1.5"))
    time.sleep(0.2)
    waiting = [target.connect() for _ in range(40)]
    for index, connection in enumerate(waiting):
        connection.send(request(f"/echo?{index}", close=True))
    with slow:
        assert slow.response().status == 200
    assert time.monotonic() - begun > 1.4
    for index, connection in enumerate(waiting):
        # Closed at once: Gunicorn's sync worker waits for that before it turns to the next.
        with connection:
            response = connection.response()
            assert response.status == 200
            assert f'"QUERY_STRING": "{index}"' in response.body.decode()
            assert connection.at_end()
    assert time.monotonic() - begun < 4.0


@KEPT
def test_single_worker_answers_kept_connections_afterwards(server):
    target = server("-w", "1", "-k", "sync", "--keep-alive", "20", app="slow_calls:app")
    _, slow, others = with_busy_worker(target, 20)
    for connection in others:
        connection.send(request("/peer", "POST", body=b"1") + request("/peer", "POST", body=b"2"))
    for connection in others:
        assert [connection.response().body.decode()[-1] for _ in range(2)] == ["1", "2"]
        connection.sock.close()
    assert slow.response().status == 200
    slow.sock.close()


def sent_in_turn(target, count):
    """The connections of ``count`` requests, sent one after another."""
    connections = [target.connect() for _ in range(count)]
    for connection in connections:
        connection.send(request("/pid"))
        # One after another, so that it is certain who comes last.
        time.sleep(0.05)
    return connections


LIMITED = pytest.mark.only_ferricorn("it has no queue_limit")


@LIMITED
@pytest.mark.parametrize(
    ("args", "threads"),
    [pytest.param(("-k", "sync"), 1, id="sync"), pytest.param(("-k", "gthread", "--threads", "3"), 3, id="gthread")],
)
def test_queue_limit(server, args, threads):
    """As many as the limit wait and are served; those beyond get 503 at once; afterwards everybody is served."""
    target = server("-w", "1", *args, "--queue-limit", "3", app="slow_calls:app")
    slow = [target.connect() for _ in range(threads)]
    for connection in slow:
        connection.send(request("/sleep?2"))
    time.sleep(0.3)
    begun = time.monotonic()
    connections = sent_in_turn(target, 8)
    for connection in connections[3:]:
        response = connection.response()
        assert (response.status, response.reason) == (503, "Service Unavailable")
        assert int(response.header("Retry-After")) > 0
    assert time.monotonic() - begun < 1.2, "the refusals waited too"
    assert [connection.response().status for connection in connections[:3]] == [200] * 3
    assert [connection.response().body for connection in slow] == [b"slept"] * threads
    for connection in [*slow, *connections]:
        connection.sock.close()
    assert target.get("/pid").status == 200
    assert len(target.workers()) == 1


@LIMITED
@KEPT
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
def test_queue_limit_with_an_idle_sibling(server, together):
    """Nobody is refused while a sibling is idle."""
    target = server("-w", "2", "-k", "sync", "--keep-alive", "20", "--queue-limit", "1", app="slow_calls:app")
    target.wait_workers(2)
    _, slow, others = with_busy_worker(target, 6)
    if together:
        for connection in others:
            connection.send(request("/pid"))
        statuses = [connection.response().status for connection in others]
    else:
        statuses = [connection.request("/pid").status for connection in others]
    assert statuses == [200] * len(others)
    assert slow.response().status == 200
    for connection in [slow, *others]:
        connection.sock.close()


@LIMITED
def test_refused_in_full(server):
    """Also a request with a body gets its 503, and the refused ones leave nothing behind that grows."""
    target = server("-w", "1", "-k", "sync", "--queue-limit", "1", app="slow_calls:app")
    with target.connect() as slow, target.connect() as waiting:
        slow.send(request("/sleep?2"))
        time.sleep(0.2)
        waiting.send(request("/pid"))
        time.sleep(0.1)
        for _ in range(100):
            response = target.get("/upload", "POST", body=b"x" * 5000)
            assert response.status == 503
        assert slow.response().status == 200
        assert waiting.response().status == 200


def test_term_while_requests_wait(server):
    """Whoever was let in before TERM is answered, behind the slow request."""
    target = server("-w", "1", "-k", "gthread", "--threads", "1", app="slow_calls:app")
    with target.connect() as slow:
        slow.send(request("/sleep?1.5"))
        time.sleep(0.2)
        waiting = [target.connect() for _ in range(10)]
        for connection in waiting:
            connection.send(request("/pid", close=True))
        time.sleep(0.3)
        stopper = threading.Thread(target=target.stop)
        stopper.start()
        assert slow.response().status == 200
        for connection in waiting:
            with connection:
                assert connection.response().status == 200
        stopper.join(15.0)
    assert target.process.returncode == 0
