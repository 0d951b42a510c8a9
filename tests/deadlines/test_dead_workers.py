"""A worker that dies, or is stopped, leaves no client without an answer: its guardian gives it."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import request, wait_until
from harness.load import Load
from harness.server import CTL

pytestmark = pytest.mark.only_ferricorn("resets the connections of a worker that dies")

CLASSES = [("-k", "sync"), ("-k", "gthread", "--threads", "4")]
DEATHS = ["exit", "segfault", "abort", "killed"]


def guardians(pid):
    """The guardians of a worker: processes that say so."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and f"guardian of {pid} ".encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def queued(target):
    """How many requests stand in line, by worker."""
    text = subprocess.run([CTL, "workers", "--json", str(target.pid)], capture_output=True, text=True, check=True)
    return {worker["pid"]: worker["queued"] for worker in json.loads(text.stdout)["workers"]}


@pytest.mark.parametrize("args", CLASSES, ids=["sync", "gthread"])
@pytest.mark.parametrize("death", DEATHS)
def test_the_client_of_a_dead_worker_is_answered(server, args, death):
    target = server("-w", "2", *args, app="stuck:app")
    before = target.wait_serving(2)
    with Load(target.address, "/hello", clients=3, rate=60, timeout=5) as load:
        time.sleep(0.3)
        begun = time.monotonic()
        response = target.get(f"/stuck/{death}", headers=[("Accept", "application/json")])
        took = time.monotonic() - begun
        time.sleep(0.5)
    result = load.stop()
    assert response.status == 502
    problem = json.loads(response.body)
    assert problem["status"] == 502 and problem["request_id"] == response.header("X-Request-Id")
    assert took < 1.0
    # Who was in the same worker at that moment has got an answer, too, and nobody a reset.
    assert all("502" in failure for failure in map(str, result.failures)), result.failures
    assert len(result.failures) <= 3
    line = target.wait_log(r"Worker \(pid:(\d+)\) has died with requests in flight: (\d+) answered 502, 0 cut")
    assert int(line[1]) in before and int(line[2]) == 1 + len(result.failures)
    target.wait_serving(2)
    wait_until(lambda: not guardians(line[1]), what="the guardian's end")


def test_head_gets_no_body_and_a_browser_gets_html(server):
    target = server(app="stuck:app")
    with target.connect() as client:
        client.send(request("/stuck/killed", "HEAD", headers=[("Accept", "text/html")]))
        response = client.response("HEAD")
        assert (response.status, response.header("Content-Type")) == (502, "text/html")
        assert client.at_end()


def test_half_a_request_is_answered(server):
    target = server(app="stuck:app")
    [pid] = target.workers()
    with target.connect() as half, target.connect() as body:
        half.send(b"GET /hello HTTP/1.1\r\nHo")
        body.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        assert [half.response().status, body.response().status] == [502, 502]


def test_waiting_requests_are_answered(server):
    target = server("-k", "sync", app="stuck:app")
    [pid] = target.workers()
    clients = [target.connect() for _ in range(5)]
    for number, client in enumerate(clients):
        client.send(request("/stuck/sleep" if number == 0 else "/hello"))
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    assert [client.response().status for client in clients] == [502] * 5
    for client in clients:
        client.sock.close()


def test_a_stream_is_cut(server):
    target = server("-k", "gthread", "--threads", "2", app="stuck:app")
    [pid] = target.workers()
    with target.connect() as client:
        client.send(request("/drip"))
        wait_until(lambda: client._receive() or b"drop" in client.data, what="the first piece")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EOFError):
            client.response()
    target.wait_log("0 answered 502, 1 cut")


def test_idle_connections_go_to_a_sibling(server):
    target = server("-w", "2", "--keep-alive", "20", app="slow_calls:app")
    target.wait_serving(2)
    clients = [target.connect() for _ in range(12)]
    served = [client.request("/peer", "POST", body=b"").body.decode().split(" ") for client in clients]
    victim = int(served[0][0])
    # The worker may be a step behind its answer.
    time.sleep(0.2)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in target.workers(), what="reaped")
    for client, (_, address, port, _body) in zip(clients, served, strict=True):
        pid, *known = client.request("/peer", "POST", body=b"").body.decode().split(" ")
        assert int(pid) != victim and known[:2] == [address, port]
        client.sock.close()


@pytest.mark.parametrize("args", CLASSES, ids=["sync", "gthread"])
def test_the_clients_of_a_stopped_worker_are_answered(server, args):
    target = server(*args, "--timeout", "2", app="stuck:app")
    [pid] = target.workers()
    with target.connect() as client:
        begun = time.monotonic()
        client.send(request("/stuck/sleep"))
        time.sleep(0.3)
        os.kill(pid, signal.SIGSTOP)
        try:
            response = client.response()
            took = time.monotonic() - begun
        finally:
            os.kill(pid, signal.SIGCONT)
        assert response.status == 504
        assert 1.95 <= took <= 2.6, took
        assert client.at_end()
    # Woken, it does not answer again. It gives signs of life again, or has been replaced by then.
    wait_until(lambda: target.get("/hello", timeout=20).body == b"hello", what="served again")


@pytest.mark.parametrize("count", [1, 2], ids=["alone", "beside an idle sibling"])
def test_who_waits_in_a_stopped_worker_is_answered(server, count):
    log = ("--access-logfile", "-", "--access-logformat", "%(r)s %(s)s %({outcome}x)s")
    target = server("-w", count, "-k", "sync", *log, "--queue-timeout", "3", app="stuck:app")
    target.wait_serving(count)
    busy = [target.connect() for _ in range(count)]
    for client in busy:
        client.send(request("/sleep?2.5"))
        time.sleep(0.2)
    waiting = [target.connect() for _ in range(4)]
    for client in waiting:
        client.send(request("/hello"))
    wait_until(lambda: sum(queued(target).values()) == 4, what="in line")
    victim = max(queued(target).items(), key=lambda item: item[1])[0]
    begun = time.monotonic()
    os.kill(victim, signal.SIGSTOP)
    try:
        # By then the other worker is free.
        answers = [client.response() for client in waiting]
        took = time.monotonic() - begun
    finally:
        os.kill(victim, signal.SIGCONT)
    refused = [answer for answer in answers if answer.status == 503]
    assert refused and all(client.at_end() for client, answer in zip(waiting, answers, strict=True) if answer in refused)
    assert all(json.loads(answer.body)["request_id"] == answer.header("X-Request-Id") for answer in refused)
    assert {answer.header("Retry-After") for answer in refused} == {"1"}
    assert count > 1 or (len(refused) == 4 and 2.7 <= took <= 3.8), (len(refused), took)
    assert [client.response().body for client in busy] == [b"slept"] * count
    for client in busy + waiting:
        client.sock.close()
    # Woken, the worker neither answers nor serves them, nor gives them away; it lives and serves.
    for _ in range(4 * count):
        assert target.get("/other").status == 200
    assert victim in target.workers()
    wait_until(lambda: target.stdout().count("503 timeout") == len(refused), what="written down")
    assert target.stdout().count("GET /hello HTTP/1.1 200") == len([a for a in answers if a.status == 200])
    assert target.stdout().count("GET /hello") == 4
    target.wait_log(rf"Worker \(pid:{victim}\) stands still: \d waiting requests answered 503")


def test_a_worker_that_waits_for_python_does_not_stand_still(server):
    """A call that keeps the interpreter, for longer than requests may wait: its loop goes on."""
    target = server("-k", "sync", "--timeout", "20", "--queue-timeout", "1", app="slow_calls:app")
    with target.connect() as busy, target.connect() as waiting:
        busy.send(request("/hold?3.5"))
        time.sleep(0.2)
        waiting.send(request("/"))
        assert waiting.response().status == 503
        assert busy.response().body == b"held"
    assert "stands still" not in target.log()


def test_a_guardian_costs_little_and_goes_with_its_worker(server):
    target = server("-w", "2", app="stuck:app")
    pids = target.wait_serving(2)
    for pid in pids:
        [guardian] = wait_until(lambda pid=pid: guardians(pid), what="a guardian")
        rollup = Path(f"/proc/{guardian}/smaps_rollup").read_text()
        private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
        assert private < 1500, rollup
    assert target.stop() == 0
    wait_until(lambda: not any(map(guardians, pids)), what="the guardians' end")


def test_a_worker_lives_without_its_guardian(server):
    target = server(app="stuck:app")
    [pid] = target.workers()
    [guardian] = wait_until(lambda: guardians(pid), what="a guardian")
    os.kill(guardian, signal.SIGKILL)
    assert target.get("/hello").body == b"hello"
    assert target.workers() == [pid]


def test_a_logger_in_python_has_the_guardians_line_too(server):
    config = "from gunicorn.glogging import Logger\nclass Own(Logger):\n    pass\nlogger_class = Own\n"
    target = server("-w", "2", app="stuck:app", config=config)
    target.wait_serving(2)
    assert target.get("/stuck/killed").status == 502
    target.wait_log(r"\[ERROR\] Worker \(pid:\d+\) has died with requests in flight: 1 answered 502, 0 cut")
    target.wait_log(r"\[ERROR\] Worker \(pid:\d+\) has died: it was sent SIGKILL, .*GET /stuck/killed")
