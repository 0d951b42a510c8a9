"""Connections under ASGI: keep-alive, pipelining, many at once, and work that outlives its response."""

import concurrent.futures
import time

import pytest

from harness import ASGI, exchange, request, wait_until

APP = "asgi_answers:app"
OLD = "HTTP/1.0"
ours = pytest.mark.only_ferricorn
PATHS = {
    "/single": b"single",
    "/pieces?2": b"piece 0;piece 1;",
    "/sleepy": b"one two",
    "/slow?0.05": b"slept 0.05",
    "/length?3:3": b"xxx",
}


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, "--keep-alive", "5", app=APP)


def test_many_on_one_connection(running):
    with running.connect() as client:
        for path, body in list(PATHS.items()) * 10:
            assert client.request(path).body == body


def test_keep_alive_ends(module_server):
    server = module_server("-k", ASGI, "--keep-alive", "1", app=APP)
    with server.connect() as client:
        assert client.request("/single").body == b"single"
        begun = time.monotonic()
        assert client.at_end(4) and 0.7 < time.monotonic() - begun < 3


@pytest.mark.parametrize("path", PATHS)
def test_client_closes(running, path):
    with running.connect() as client:
        response = client.request(path, close=True)
        assert (response.body, response.header("Connection")) == (PATHS[path], "close")
        assert client.at_end()


def test_old_client(running):
    with running.connect() as client:
        response = client.request("/length?3:3", version=OLD)
        assert (response.body, response.header("Connection")) == (b"xxx", "close")
        assert client.at_end()


@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_pipelining(running, pieces):
    """In order, each whole, however the bytes come."""
    paths = list(PATHS) * 4
    raw = b"".join(request(path) for path in paths) + request("/pid", close=True)
    step = -(-len(raw) // pieces)
    data = [raw[at : at + step] for at in range(0, len(raw), step)]
    result = exchange(running.address, data, methods=["GET"] * (len(paths) + 1), pause=0.001)
    assert [response.body for response in result.responses[:-1]] == [PATHS[path] for path in paths]
    assert len(result.responses) == len(paths) + 1 and result.closed


def test_pipelined_bodies(running):
    raw = b"".join(request("/length?3:3", "POST", body=b"b" * size) for size in (0, 10, 9000, 1))
    result = exchange(running.address, raw + request("/pid"), methods=["POST"] * 4 + ["GET"])
    assert result.statuses == [200] * 5


def test_requests_run_side_by_side(running):
    """Fifty that wait take as long as one."""
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: running.get("/slow?0.5").body, range(50)))
    assert answers == [b"slept 0.5"] * 50
    assert time.monotonic() - begun < 2.0


def test_everybody_gets_their_own_answer(running):
    def one(number):
        path = f"/slow?0.0{number % 9}" if number % 3 else f"/pieces?{number}"
        with running.connect() as client:
            return [client.request(path).body for _ in range(3)]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(100)))
    for number, bodies in enumerate(answers):
        pieces = b"".join(b"piece %d;" % piece for piece in range(number))
        assert bodies == [b"slept 0.0%d" % (number % 9) if number % 3 else pieces] * 3


# work after the response


def test_response_goes_out_before_the_task_ends(running, name):
    with running.connect() as client:
        assert client.request(f"/background?{name}").body == b"before"
        assert client.request(f"/done?{name}").body == b"False"
        assert client.request(f"/release?{name}").body == b"True"


def test_pipelined_request_does_not_wait_for_work_after_a_response(running, name):
    raw = request(f"/background?{name}") + request(f"/release?{name}", close=True)
    result = exchange(running.address, raw, methods=("GET", "GET"))
    assert [response.body for response in result.responses] == [b"before", b"True"]


def test_work_outlives_its_connection(running, name):
    assert running.get(f"/background?{name}").body == b"before"
    time.sleep(0.1)
    assert running.get(f"/release?{name}").body == b"True"


def test_work_is_finished_before_the_worker_stops(server, tmp_path):
    running = server("-k", ASGI, app=APP)
    flag = tmp_path / "done"
    assert running.get(f"/background_seconds?0.7:{flag}").body == b"before"
    assert running.stop() == 0
    assert flag.read_text() == "done"


def test_request_is_finished_before_the_worker_stops(server):
    running = server("-k", ASGI, app=APP)
    with running.connect() as client, running.connect() as idle:
        assert idle.request("/single").body == b"single"
        client.send(request("/slow?0.7"))
        time.sleep(0.2)
        running.kill(15)
        response = client.response()
        assert (response.body, response.header("Connection")) == (b"slept 0.7", "close")
        assert client.at_end() and idle.at_end()
    assert running.wait() == 0


@pytest.mark.parametrize("count", [1, 2])
def test_workers_restart_on_hup(server, count):
    running = server("-k", ASGI, "-w", str(count), app=APP)
    old = {running.get("/pid").body for _ in range(10)}
    running.kill(1)
    wait_until(lambda: running.get("/pid").body not in old, 10, "new workers")


@ours("drops connections that it has accepted when it leaves")
def test_max_requests(server):
    running = server("-k", ASGI, "--max-requests", "5", app=APP)
    pids = {running.get("/pid").body for _ in range(5)}
    wait_until(lambda: running.get("/pid").body not in pids, 10, "another worker")
