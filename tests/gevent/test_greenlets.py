"""The worker class ``gevent``: what is patched and when, a greenlet for each request, and who waits for whom."""

import hashlib
import json
import signal
import time

import pytest

from harness import FERRICORN, Connection, request, wait_until
from harness.crowd import together
from harness.load import Load

LARGE = 8_000_000
WAITS = ["sleeping", "bound", "receiving", "queued", "locked", "joined", "selecting", "child"]


def start(server, *args, app="green:app", workers=1, **options):
    target = server("-k", "gevent", "-w", workers, *args, app=app, **options)
    target.wait_serving(workers)
    return target


@pytest.fixture(scope="module")
def target(module_server):
    return start(module_server)


def told(response):
    assert response.status == 200, response
    return json.loads(response.body)


# --- patching ------------------------------------------------------------------------------------------------------------


def test_the_application_is_imported_patched(target):
    seen = told(target.get("/patched"))
    assert all(seen["import"].values()), seen
    kinds = seen["kinds"]
    assert kinds.pop("local") in ("gevent.local", "gevent._gevent_clocal")
    # Its class is ours to subclass: gevent's keeps the standard one's name.
    assert {kind: name.partition(".")[0] for kind, name in kinds.items()} == dict.fromkeys(kinds, "gevent")


def test_a_preloaded_application_is_imported_before_that(server):
    """As in Gunicorn: the master is not patched, its workers are."""
    target = start(server, "--preload")
    seen = told(target.get("/patched"))
    assert not any(seen["import"].values()), seen
    assert all(seen["now"].values()), seen
    assert seen["kinds"]["sleep"] == "time"
    # What it looks up when it is called is patched nevertheless.
    _, seconds = together(target, ["/sleep?0.5"] * 20)
    assert max(seconds) < 2


def test_the_master_is_not_patched(server):
    config = """
def when_ready(server):
    import time
    server.log.info("patched at when_ready: %s", time.sleep.__module__)

def post_fork(server, worker):
    import time
    server.log.info("patched at post_fork: %s", time.sleep.__module__)

def post_worker_init(worker):
    import time
    worker.log.info("patched at post_worker_init: %s", time.sleep.__module__)
"""
    target = start(server, config=config)
    target.wait_log("patched at when_ready: time$")
    target.wait_log("patched at post_fork: time$")
    target.wait_log(r"patched at post_worker_init: gevent\.hub$")


# --- a greenlet for each request -----------------------------------------------------------------------------------------


def test_each_request_has_a_greenlet(target):
    answers, _ = together(target, ["/greenlet?0.3"] * 10)
    seen = [told(answer) for answer in answers]
    assert all(each["greenlet"] for each in seen)
    assert len({each["id"] for each in seen}) == 10
    assert len({each["ident"] for each in seen}) == 10
    assert len({each["thread"] for each in seen}) == 1


def test_a_hundred_that_sleep_take_as_long_as_one(target):
    begun = time.monotonic()
    answers, _ = together(target, ["/sleep?1"] * 100)
    assert time.monotonic() - begun < 2.5
    assert {answer.body for answer in answers} == {b"slept"}


@pytest.mark.parametrize("kind", WAITS)
def test_who_waits_blocks_nobody(target, kind):
    begun = time.monotonic()
    with target.connect() as client:
        client.send(request(f"/wait/{kind}"))
        time.sleep(0.1)
        instant = []
        for _ in range(20):
            each = time.monotonic()
            assert target.get("/hello").body == b"hello"
            instant.append(time.monotonic() - each)
        assert client.response().body == b"waited"
    assert 0.9 <= time.monotonic() - begun < 3
    assert sorted(instant)[15] < 0.1, instant


def test_locals_and_contexts_are_a_greenlets_own(target):
    answers, _ = together(target, [f"/local?{number}" for number in range(20)])
    assert [told(answer) for answer in answers] == [[None, None, str(number), str(number)] for number in range(20)]


def test_what_was_spawned_goes_on_after_the_response(server, tmp_path):
    notes = tmp_path / "notes"
    target = start(server, env={"NOTES_PATH": str(notes)})
    begun = time.monotonic()
    assert target.get("/after?one").body == b"spawned"
    assert time.monotonic() - begun < 0.4
    wait_until(notes.exists, what="the note")
    assert notes.read_text() == f"{target.workers()[0]} one\n"


@pytest.mark.parametrize("kind", ["error", "exit", "kill"])
def test_a_request_that_fails_fails_alone(target, kind):
    [worker] = target.workers()
    with target.connect() as client, target.connect() as other:
        client.send(request(f"/fail?{kind}"))
        other.send(request("/sleep?0.5"))
        if kind == "error" or FERRICORN:
            assert client.response().status == 500
        else:
            assert client.at_end()
        assert other.response().body == b"slept"
    assert target.workers() == [worker]


# --- connections ---------------------------------------------------------------------------------------------------------


def test_connections_are_kept(target):
    with target.connect() as client:
        for number in range(3):
            assert told(client.request(f"/local?{number}"))[2] == str(number)
        assert client.request("/upload", "POST", body=b"x" * 100_000).status == 200


def test_connections_are_limited(server):
    target = start(server, "--worker-connections", "10")
    answers, seconds = together(target, ["/peak?0.5"] * 30)
    assert {answer.status for answer in answers} == {200}
    assert max(int(answer.body) for answer in answers) == 10
    assert 1.4 < max(seconds) < 4


def test_a_client_that_reads_slowly_blocks_nobody(target):
    clients = [Connection(target.address, 20.0) for _ in range(20)]
    try:
        for client in clients:
            client.send(request(f"/size?{LARGE}"))
        time.sleep(0.5)
        for _ in range(20):
            begun = time.monotonic()
            assert target.get("/hello").body == b"hello"
            assert time.monotonic() - begun < 0.5
        assert {len(client.response().body) for client in clients} == {LARGE}
    finally:
        for client in clients:
            client.sock.close()


def test_a_client_that_sends_slowly_blocks_nobody(target):
    body = b"0123456789" * 20
    message = request("/upload", "POST", body=body)
    with target.connect() as client:
        for at in range(0, len(message), 40):
            client.send(message[at : at + 40])
            assert target.get("/hello", timeout=1).body == b"hello"
        assert client.response().body == f"200 {hashlib.sha256(body).hexdigest()}".encode()


def test_a_stream_arrives_as_it_is_made(target):
    with target.connect() as client:
        begun = time.monotonic()
        client.send(request("/drip"))
        first = None
        while b"\r\n0\r\n" not in client.data[-7:] and not client.closed:
            client._receive()
            if b"1\r\n0\r\n" in client.data and first is None:
                first = time.monotonic() - begun
        assert client.response().body == b"01234"
    assert first is not None and first < 0.4
    assert time.monotonic() - begun > 0.9


def test_a_client_that_goes_leaves_nothing_behind(server):
    target = start(server, "--worker-connections", "10")
    for _ in range(3):
        clients = [Connection(target.address) for _ in range(10)]
        for client in clients:
            client.send(request(f"/size?{LARGE}"))
        time.sleep(0.2)
        for client in clients:
            client.sock.close()
    assert told(target.get("/patched", timeout=5))
    _, seconds = together(target, ["/sleep?0.3"] * 10)
    assert max(seconds) < 1.5


# --- the life of a worker ------------------------------------------------------------------------------------------------


def test_hooks_and_the_access_log(server):
    config = """
def note(worker, *words):
    worker.log.info("hook %s", " ".join(map(str, words)))

def post_worker_init(worker): note(worker, "post_worker_init")
def pre_request(worker, req): note(worker, "pre_request", req.path)
def post_request(worker, req, environ, resp): note(worker, "post_request", req.path, resp.status)
def worker_exit(server, worker): note(worker, "worker_exit")
accesslog = "-"
access_log_format = "%(m)s %(U)s %(s)s %(B)s"
"""
    target = start(server, config=config)
    with target.connect() as first, target.connect() as second:
        first.send(request("/sleep?0.4"))
        time.sleep(0.1)
        second.send(request("/hello"))
        assert second.response().body == b"hello"
        assert first.response().body == b"slept"
    wait_until(lambda: target.log().count("hook post_request") == 2, what="both hooks")
    assert target.stop() == 0
    said = [line.partition("hook ")[2] for line in target.log().splitlines() if "hook " in line]
    assert said == [
        "post_worker_init",
        "pre_request /sleep",
        "pre_request /hello",
        "post_request /hello 200 OK",
        "post_request /sleep 200 OK",
        "worker_exit",
    ]
    lines = [line for line in target.stdout().splitlines() if line.startswith("GET ")]
    assert lines == ["GET /hello 200 5", "GET /sleep 200 5"]


def test_term_lets_greenlets_finish(server):
    target = start(server)
    clients = [Connection(target.address) for _ in range(20)]
    for client in clients:
        client.send(request("/sleep?1.5"))
    time.sleep(0.5)
    begun = time.monotonic()
    target.kill(signal.SIGTERM)
    assert {client.response().body for client in clients} == {b"slept"}
    assert time.monotonic() - begun > 0.7
    assert target.wait() == 0
    assert "Worker graceful timeout" not in target.log()


def test_graceful_timeout_ends_what_is_not_done(server):
    target = start(server, "--graceful-timeout", "1")
    with target.connect() as client:
        client.send(request("/sleep?30"))
        time.sleep(0.3)
        begun = time.monotonic()
        assert target.stop() == 0
        assert 0.8 < time.monotonic() - begun < 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_stop_does_not_wait(server, number):
    target = start(server)
    with target.connect() as client:
        client.send(request("/sleep?20"))
        time.sleep(0.3)
        begun = time.monotonic()
        assert target.stop(number) == 0
        assert time.monotonic() - begun < 6


def test_hup_changes_workers_and_loses_no_request(server):
    target = start(server)
    before = target.workers()
    with target.connect() as client:
        client.send(request("/sleep?1.5"))
        time.sleep(0.3)
        target.kill(signal.SIGHUP)
        assert client.response().body == b"slept"
    wait_until(lambda: target.workers() and not set(before) & set(target.workers()), what="new workers")
    target.wait_serving(1)
    assert target.get("/hello").body == b"hello"


def test_max_requests_changes_workers(server):
    target = start(server, "--max-requests", "20")
    [before] = target.workers()
    for _ in range(25):
        with Connection(target.address) as client:
            # Gunicorn closes its listener before the next worker is there.
            client.send(request("/hello", close=True))
            assert client.response().body == b"hello"
    wait_until(lambda: before not in target.workers() and target.workers(), what="another worker")


def test_workers_share_the_load(server):
    target = start(server, workers=2)
    with Load(target.address, "/pid", clients=8, rate=100) as load:
        time.sleep(2.0)
    result = load.stop()
    assert result.failures == []
    assert {int(body) for body in result.bodies} == set(target.workers())


# --- databases -----------------------------------------------------------------------------------------------------------

PSYCOGREEN = """
def post_fork(server, worker):
    from psycogreen.gevent import patch_psycopg
    patch_psycopg()
"""


@pytest.mark.parametrize(("path", "config"), [("/query2", PSYCOGREEN), ("/query3", "")], ids=["psycopg2", "psycopg3"])
def test_queries_wait_in_the_hub(server, dsn, path, config):
    target = start(server, config=config, env={"TEST_DSN": dsn})
    answers, seconds = together(target, [f"{path}?1"] * 20)
    assert {answer.body for answer in answers} == {b"done"}
    assert max(seconds) < 4


@pytest.mark.skipif(not FERRICORN, reason="Gunicorn says the same in words of its own")
@pytest.mark.parametrize(("version", "words"), [(None, "which is not installed"), ("23.9.1", "this is 23.9.1")])
def test_a_gevent_that_is_missing_or_too_old_is_said(server, tmp_path, version, words):
    place = tmp_path / "gevent"
    place.mkdir()
    text = "raise ImportError('none')\n" if version is None else f"__version__ = {version!r}\n"
    (place / "__init__.py").write_text(text)
    target = server("-k", "gevent", app="probe:app", path=[tmp_path], ready=False)
    assert target.wait() != 0
    assert words in target.log()
    assert "pip install 'gevent>=24.10.1'" in target.log()
