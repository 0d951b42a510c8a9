"""One stuck request costs one request: 504 at its deadline, the thread comes free or is replaced, nobody else notices."""

import json
import re
import subprocess
import threading
import time

import pytest

from harness import request, wait_until
from harness.load import Load
from harness.server import CTL

pytestmark = pytest.mark.only_ferricorn("kills the whole worker, or nothing at all")

TIMEOUT = 1
# How late an answer may be on a busy machine with debug builds; `make faults` measures the real figure.
SLACK = 0.6
KINDS = ["sleep", "loop", "deadlock", "recv", "get", "hold", "mutex", "regex", "swallow"]
CLASSES = [("-k", "sync"), ("-k", "gthread", "--threads", "4")]
FREED_IN_SYNC = {"sleep", "loop", "deadlock", "recv", "get", "regex"}
FREED_IN_THREADS = {"sleep", "loop", "deadlock", "get"}


def start(server, *args, config="", workers=1):
    target = server("-w", workers, *args, "--timeout", TIMEOUT, app="stuck:app", config=config)
    target.wait_serving(workers)
    return target


def stuck(target, kind, **options):
    """Sends a request that does not end; returns its response and how long it took."""
    begun = time.monotonic()
    response = target.get(f"/stuck/{kind}", **options)
    return response, time.monotonic() - begun


@pytest.mark.parametrize("args", CLASSES, ids=["sync", "gthread"])
@pytest.mark.parametrize("kind", KINDS)
def test_answered_at_the_deadline_beside_others(server, args, kind):
    target = start(server, *args, workers=2)
    with Load(target.address, "/hello", clients=4, rate=100) as load:
        time.sleep(0.3)
        response, took = stuck(target, kind)
        time.sleep(2.0)
    result = load.stop()
    assert response.status == 504
    assert TIMEOUT - 0.05 <= took <= TIMEOUT + SLACK, took
    assert result.failures == []
    assert len(result.seconds) > 150
    assert set(result.bodies) == {b"hello"}
    assert max(result.seconds) < 1.5, "an instant request waited for the stuck one"
    # And what it cost is there again: as many at once as before.
    capacity = 2 if args[1] == "sync" else 8
    answers = together(target, "/sleep?0.3", capacity)
    assert [answer.body for answer, _ in answers] == [b"slept"] * capacity
    assert max(seconds for _, seconds in answers) < 1.5


def together(target, path, count):
    """Sends ``count`` requests at once; returns their responses and durations."""
    answers = []

    def one():
        begun = time.monotonic()
        answers.append((target.get(path), time.monotonic() - begun))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    return answers


@pytest.mark.parametrize(
    ("args", "kinds"), [(CLASSES[0], FREED_IN_SYNC), (CLASSES[1], FREED_IN_THREADS)], ids=["sync", "gthread"]
)
def test_what_frees_a_thread(server, args, kinds):
    """The thread comes free in the same process, and the application sees the exception where it was stuck."""
    target = start(server, *args)
    before = target.workers()
    for kind in sorted(kinds):
        # The main thread is the one that can be freed from waits, and gets the request if it is free.
        time.sleep(0.2)
        assert stuck(target, kind)[0].status == 504
        wait_until(lambda kind=kind: f"/stuck/{kind}" in target.get("/seen").body.decode(), what=f"freed from {kind}")
    assert target.workers() == before
    assert target.log().count("[CRITICAL] WORKER TIMEOUT") == len(kinds)
    assert "Traceback" not in target.log()


def test_a_thread_that_does_not_come_free_gets_a_stand_in(server):
    target = start(server, "-k", "gthread", "--threads", "2")
    before = target.workers()
    with target.connect() as first, target.connect() as second:
        first.send(request("/stuck/swallow"))
        # On the main thread by then, from which an interrupt would free the other one.
        time.sleep(0.2)
        second.send(request("/stuck/recv"))
        assert (first.response().status, second.response().status) == (504, 504)
    target.wait_log("a spare stands in", count=2)
    answers = together(target, "/sleep?0.3", 2)
    assert max(seconds for _, seconds in answers) < 1.2
    assert target.workers() == before
    # A third one is too many.
    stuck(target, "swallow")
    target.wait_log("is to be replaced: its spare threads are spent")
    wait_until(lambda: target.workers() != before and target.workers(), what="a new worker")
    assert target.get("/hello").body == b"hello"


def test_a_worker_whose_interpreter_is_held_gets_no_stand_in(server):
    target = start(server, "-k", "gthread", "--threads", "4", workers=2)
    before = target.workers()
    response, took = stuck(target, "mutex")
    assert response.status == 504
    [line] = [target.wait_log(r"Worker \(pid:(\d+)\) is to be replaced: a stuck call holds the interpreter", seconds=3)]
    assert "a spare stands in" not in target.log()
    wait_until(lambda: int(line[1]) in before and int(line[1]) not in target.workers(), what="another worker")
    target.wait_serving(2)
    target.wait_log(r"at .*stuck\.py:\d+ in mutex: libc\.pthread_mutex_lock")


def test_a_condemned_worker_goes_when_its_replacement_is_ready(server):
    config = "def worker_abort(worker):\n    worker.log.info('aborted %s', worker.pid)\n"
    target = start(server, "-k", "sync", "--access-logfile", "-", config=config)
    [old] = target.workers()
    stuck(target, "swallow")
    assert target.get("/hello").body == b"hello", "waited for the new worker"
    target.wait_log(rf"Worker \(pid:{old}\) is to be replaced: its only app thread does not come free")
    target.wait_log(rf"aborted {old}$")
    wait_until(lambda: target.workers() != [old], what="a new worker alone")
    assert len(target.wait_workers(1)) == 1
    lines = [line for line in target.stdout().splitlines() if "/stuck/swallow" in line]
    assert len(lines) == 1 and '" 504 ' in lines[0], target.stdout()


def test_no_other_request_is_interrupted(server):
    """Many interrupts under load: the application sees the exception in late requests only."""
    target = start(server, "-k", "gthread", "--threads", "8", config=ROUTES)
    with Load(target.address, "/hello", clients=6, rate=300) as load:
        for _ in range(8):
            late = together(target, "/stuck/loop", 3) + together(target, "/edge", 8)
            assert {answer.status for answer, _ in late} <= {200, 504}
    result = load.stop()
    assert result.failures == []
    seen = set(target.get("/seen").body.decode().split())
    assert seen <= {"/stuck/loop", "/edge"}, seen
    assert "Traceback" not in target.log()


ROUTES = 'route_timeouts = {"/stuck/*": 0.2, "/edge": 0.1, "GET /stuck/get": 3}\n'


def test_routes_have_their_own_time(server):
    target = start(server, "-k", "sync", config=ROUTES)
    assert 0.15 <= stuck(target, "sleep")[1] <= 0.2 + SLACK
    response, took = stuck(target, "deadlock")
    assert response.status == 504 and took <= 0.2 + SLACK


@pytest.mark.parametrize("text", ['{"POST": 1}', '{"/a": "soon"}', '"x"', '{"/a": -1}'])
def test_a_route_that_is_none_is_refused(server, text):
    target = server(config=f"route_timeouts = {text}\n", ready=False)
    assert target.wait() == 1
    assert "Invalid value for route_timeouts" in target.log()


def test_the_whole_request_has_a_time(server):
    target = start(server, "-k", "gthread", "--request-timeout", "1", config="timeout = 30\n")
    with pytest.raises(EOFError, match="drop"):
        target.get("/drip")
    target.wait_log(r"GET /drip .*: response cut")


def test_timeout_0_is_no_deadline(server):
    target = server("--timeout", "0", app="stuck:app")
    assert target.get("/left").body == b"None"
    assert target.get("/sleep?1.5").body == b"slept"


# --- what the client sees ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target(module_server):
    target = module_server("-k", "gthread", "--threads", "4", "--timeout", TIMEOUT, app="stuck:app")
    target.wait_serving(1)
    return target


def test_the_answer_is_a_problem(target):
    response, _ = stuck(target, "sleep")
    assert response.header("Content-Type") == "application/problem+json"
    assert response.header("Connection") == "close"
    problem = json.loads(response.body)
    assert (problem["status"], problem["title"]) == (504, "Gateway Timeout")
    assert problem["request_id"] == response.header("X-Request-Id")
    line = target.wait_log(rf"\[CRITICAL\] .*GET /stuck/sleep \(request {problem['request_id']}\).*answered 504; more: ferricornctl why")
    assert re.search(r"1\.0 s of 1\.0 s", line[0])


@pytest.mark.parametrize(
    ("kind", "thread", "place"),
    [
        ("sleep", r"sleeping \((clock_nanosleep|select|pselect6)\)", r"in sleep: time\.sleep\(LONG\)"),
        ("loop", "computing", r"in loop: (while True:|pass)"),
        ("deadlock", r"waiting for a lock \(futex\)", r"in deadlock: lock\.acquire\(\)"),
        ("recv", r"waiting for a unix socket \(recvfrom, descriptor \d+\)", r"in recv: QUIET\.recv\(1\)"),
        ("get", r"waiting for a lock \(futex\)", r"in get: queue\.Queue\(\)\.get\(\)"),
        ("peer", r"waiting for 127\.0\.0\.1:\d+ \(recvfrom, descriptor \d+\)", r"in peer: silent\.recv\(1\)"),
    ],
)
def test_the_log_tells_where(server, kind, thread, place):
    target = start(server, "-k", "gthread", "--threads", "2")
    request_id = stuck(target, kind)[0].header("X-Request-Id")
    line = r"\[CRITICAL\]   request {}: ".format(request_id)
    target.wait_log(line + r"thread \d is " + thread + "$")
    target.wait_log(line + r"at .*stuck\.py:\d+ " + place + "$")
    target.wait_log(line + r"called from .*stuck\.py:\d+ in stuck$")
    # The warning has come before, and has said the same in short.
    assert re.search(r"\[WARNING\]   request {}: at .*stuck\.py".format(request_id), target.log())
    said = [text for text in target.log().splitlines() if "[CRITICAL]" in text]
    assert len(said) <= 12, said


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/json", "application/problem+json"),
    ],
)
def test_the_answer_is_what_the_client_reads(target, accept, kind):
    response, _ = stuck(target, "sleep", headers=[("Accept", accept)])
    assert (response.status, response.header("Content-Type")) == (504, kind)
    assert response.header("X-Request-Id") in response.body.decode()


def test_head_gets_no_body(target):
    with target.connect() as client:
        client.send(request("/stuck/sleep", "HEAD"))
        assert client.response("HEAD").status == 504
        assert client.at_end()


def test_answers_before_it_arrive_first(target):
    """Behind a pipelined request that is answered, the deadline of the next one still is."""
    with target.connect() as client:
        client.send(request("/hello") + request("/stuck/sleep") + request("/hello"))
        assert client.response().body == b"hello"
        assert client.response().status == 504
        assert client.at_end()


def test_pipelined_requests_are_all_answered(target):
    with target.connect() as client:
        client.send(request("/hello") * 50)
        assert [client.response().body for _ in range(50)] == [b"hello"] * 50


def test_a_stream_that_goes_on_is_not_cut(target):
    response = target.get("/drip")
    assert response.body == b"drop" * 5


def test_a_stream_that_stops_is_cut(target):
    with target.connect() as client:
        begun = time.monotonic()
        client.send(request("/drip?stop"))
        with pytest.raises(EOFError, match="drop"):
            client.response()
        assert 2.5 <= time.monotonic() - begun <= 3.0 + SLACK
    target.wait_log(r"GET /drip .*: response cut")


def test_late_requests_are_counted(target):
    def counted():
        text = subprocess.run([CTL, "workers", "--json", str(target.pid)], capture_output=True, text=True, check=True)
        return sum(worker["timed_out"] for worker in json.loads(text.stdout)["workers"])

    before = counted()
    stuck(target, "sleep")
    assert counted() == before + 1


def test_a_client_that_went_meanwhile_harms_nobody(target):
    for _ in range(5):
        with target.connect() as client:
            client.send(request("/stuck/sleep"))
    time.sleep(TIMEOUT + 0.5)
    assert target.get("/hello").body == b"hello"


# --- what the application can say ---------------------------------------------------------------------------------------


def test_the_time_that_is_left(target):
    assert 0.9 <= float(target.get("/left").body) <= 1.0


def test_more_time(target):
    assert target.get("/extended").body == b"1.0 3.0"


def test_no_interrupt_puts_it_off(target):
    begun = time.monotonic()
    assert target.get("/shielded").status == 504
    assert time.monotonic() - begun <= TIMEOUT + SLACK
    wait_until(lambda: "/shielded\n" in target.get("/seen").body.decode() + "\n", what="interrupted after the block")
    seen = target.get("/seen").body.decode().split()
    assert seen.index("/shielded/done") < seen.index("/shielded")


# --- the queue -----------------------------------------------------------------------------------------------------------


def test_who_waits_too_long_gets_503(server):
    target = server("-k", "sync", "--timeout", "5", "--queue-timeout", "1", app="stuck:app")
    with target.connect() as busy, target.connect() as waiting:
        busy.send(request("/sleep?3"))
        time.sleep(0.2)
        begun = time.monotonic()
        waiting.send(request("/hello"))
        response = waiting.response()
        assert response.status == 503
        assert response.header("Retry-After") == "1"
        assert 0.9 <= time.monotonic() - begun <= 1.0 + SLACK
        assert busy.response().body == b"slept"
