"""Requests that are answered at once and worked on later: what clients get, and what the application sees."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness import ctl, wait_until
from harness.server import alive, children

pytestmark = [pytest.mark.only_ferricorn("knows no jobs"), pytest.mark.timeout(120)]

PREFIX = "/.well-known/ferricorn/jobs/"
CLASSES = {
    "sync": ((), "reports:app"),
    "gthread": (("-k", "gthread", "--threads", "4"), "reports:app"),
    "asgi": (("-k", "asgi"), "reports_asgi:app"),
    "gevent": (("-k", "gevent"), "reports:app"),
}
#: What belongs to the connection and the moment.
PASSING = ("connection", "date", "server")


@pytest.fixture(params=CLASSES)
def any_class(request):
    if request.param == "gevent":
        pytest.importorskip("gevent")
    return CLASSES[request.param]


def lasting(answer):
    return answer.status, answer.reason, [(name, value) for name, value in answer.headers if name.lower() not in PASSING], answer.body


def test_a_slow_request_is_a_job_and_its_result_is_what_it_would_have_been(shop, any_class):
    args, app = any_class
    shop.start(*args, app=app)
    body = b"x" * 3000
    begun = time.monotonic()
    job = shop.send("/api/reports/spring?s=1.2", body=body, headers=[("User-Agent", "tests")])
    assert time.monotonic() - begun < 1.0, "the client did not wait"
    seen = set()
    while (told := shop.status(job))["state"] in ("queued", "running"):
        if "progress" in told:
            seen.add((told["progress"]["share"], told["progress"]["note"]))
        time.sleep(0.05)
    assert told["state"] == "done" and told["attempts"] == 1 and told["status"] == 201
    assert len(seen) >= 2 and all(note == f"part {share * 4:.0f}" for share, note in seen), seen
    result = shop.result(job)
    # The same application without jobs.
    assert shop.target.stop() == 0
    shop.start(*args, app=app, routes=())
    direct = shop.target.get("/api/reports/spring?s=0", "POST", body=body, headers=[("User-Agent", "tests")])
    expected = lasting(direct)
    found = lasting(result)
    assert json.loads(found[3])["client"] == "127.0.0.1"
    # Their URLs differ in how long the report was to take.
    alike = lambda text: re.sub(rb"s=[\d.]+", b"s=", text)  # noqa: E731
    fields = lambda pairs: [(name, value) for name, value in pairs if name.lower() != "content-length"]  # noqa: E731
    assert (found[0], found[1], fields(found[2]), alike(found[3])) == (expected[0], expected[1], fields(expected[2]), alike(expected[3]))


def test_a_client_that_prefers_to_wait_gets_the_response_if_it_is_soon(shop):
    shop.start(routes=("--offload-prefer", "/api/reports/*"))
    direct = shop.target.get("/api/reports/plain?s=0.1", "POST")
    assert direct.status == 201 and json.loads(direct.body)["name"] == "plain", "it is not asked for"
    soon = shop.target.get("/api/reports/soon?s=0.2", "POST", headers=[("Prefer", "respond-async, wait=10")])
    assert soon.status == 201 and json.loads(soon.body)["name"] == "soon"
    late = shop.target.get("/api/reports/late?s=3", "POST", headers=[("Prefer", "respond-async, wait=1")])
    assert late.status == 202 and late.header("Preference-Applied") == "respond-async"
    assert shop.over(json.loads(late.body)["id"])["state"] == "done"


def test_who_asks_is_told_when_something_changes_and_else_that_nothing_has(shop):
    shop.start()
    job = shop.send("/api/reports/slow?s=2")
    first = shop.target.get(PREFIX + job)
    tag = first.header("ETag")
    begun = time.monotonic()
    later = shop.target.get(PREFIX + job, headers=[("If-None-Match", tag), ("Prefer", "wait=10")])
    assert later.status == 200 and later.header("ETag") != tag and 0.05 < time.monotonic() - begun < 2
    assert shop.over(job)["state"] == "done"
    done = shop.target.get(PREFIX + job)
    assert done.status == 303 and done.header("Location") == f"{PREFIX}{job}/result"
    assert shop.target.get(PREFIX + job, headers=[("If-None-Match", done.header("ETag"))]).status == 304
    assert shop.target.get(f"{PREFIX}{job}/result", "HEAD").header("X-Report") == "slow"


def test_a_browser_follows_a_job_by_its_events(shop):
    shop.start()
    job = shop.send("/api/reports/events?s=1.2")
    command = ["curl", "-sN", "--max-time", "20", "-H", "Accept: text/event-stream", shop.target.url(PREFIX + job)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    events = [dict(line.split(": ", 1) for line in event.splitlines()) for event in text.strip().split("\n\n")]
    states = [event["event"] for event in events]
    assert states[-1] == "done" and "running" in states and len({event["id"] for event in events}) == len(events), text
    told = [json.loads(event["data"]) for event in events]
    assert [each["state"] for each in told] == states and told[-1]["result_url"].endswith(job + "/result")
    assert any(each.get("progress", {}).get("note") == "part 2" for each in told)
    gone = shop.target.get(PREFIX + "0" * 32, headers=[("Accept", "text/event-stream")])
    assert gone.status == 404


def test_long_bodies_go_both_ways(shop):
    shop.start()
    body = os.urandom(1 << 20) * 3
    job = shop.send("/api/reports/large", body=body)
    assert shop.over(job)["state"] == "done"
    assert json.loads(shop.result(job).body)["bytes"] == len(body)
    job = shop.send("/api/lines/300000")
    assert shop.over(job)["state"] == "done"
    lines = shop.result(job).body.splitlines()
    assert len(lines) == 300_000 and lines[-1] == b"00299999"
    files = sorted(path.name for path in (shop.folder / "offload").iterdir())
    assert files == [f"{job}.response"], "what was asked is not kept longer than it is needed"


def test_a_chunked_body_comes_whole(shop):
    shop.start()
    with shop.target.connect() as connection:
        head = b"POST /api/reports/chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.send(head + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        answer = connection.response("POST")
    job = json.loads(answer.body)["id"]
    assert shop.over(job)["state"] == "done"
    assert json.loads(shop.result(job).body)["bytes"] == 7


def test_an_application_knows_that_it_works_on_a_job(shop):
    shop.start()
    direct = json.loads(shop.target.get("/api/about").body)
    assert direct["ferricorn.offloaded"] is None and direct["is_job"] is False
    job = shop.send("/api/about")
    assert shop.over(job)["state"] == "done"
    told = json.loads(shop.result(job).body)
    assert (told["ferricorn.offloaded"], told["ferricorn.job_id"], told["ferricorn.attempt"], told["is_job"]) == (True, job, 1, True)
    assert told["pid"] in shop.job_workers() and direct["pid"] not in shop.job_workers()


def test_an_asgi_application_knows_it_too(shop):
    shop.start("-k", "asgi", app="reports_asgi:app")
    job = shop.send("/api/about")
    assert shop.over(job)["state"] == "done"
    assert json.loads(shop.result(job).body) == {"job": {"id": job, "attempt": 1}, "is_job": True}


def test_what_fails_is_told_and_can_be_begun_again(shop):
    shop.start()
    job = shop.send("/api/broken/one")
    told = shop.over(job)
    assert (told["state"], told["status"], told["error"]["cause"]) == ("failed", 500, "application")
    result = shop.result(job)
    assert result.status == 500 and b"Internal Server Error" in result.body, "the application's own page"
    assert f"Job {job}: POST /api/broken/one: attempt 1 of 1" in shop.target.log()
    [listed] = shop.jobs("--state", "failed")["jobs"]
    assert listed["id"] == job
    shop.mended.touch()
    assert shop.jobs("retry", job)["state"] == "queued"
    assert shop.over(job)["state"] == "done"
    assert shop.result(job).body == b"mended\n"
    # What may be sent twice is begun again without anybody.
    shop.mended.unlink()
    job = shop.send("/api/broken/two", "PUT")
    shop.wait_begun("two", 2)
    shop.mended.touch()
    told = shop.over(job)
    assert told["state"] == "done" and told["attempts"] == 3


def test_a_job_has_its_own_deadline(shop):
    shop.start("--timeout", 1, "--offload-timeout", 2)
    short, long = shop.send("/api/reports/short?s=1.5"), shop.send("/api/reports/long?s=30")
    assert shop.over(short)["state"] == "done", "the deadline of requests is not that of jobs"
    told = shop.over(long)
    assert (told["state"], told["error"]["cause"]) == ("failed", "timeout")
    assert shop.result(long).status == 504
    why = lambda: ctl("why", told["error"]["request_id"], "--state-dir", shop.folder).stdout  # noqa: E731
    assert "reports.py" in wait_until(why, 20, "its record")


def test_a_client_withdraws_a_job(shop):
    shop.start("--offload-threads", 1)
    running, waiting = shop.send("/api/reports/running?s=20"), shop.send("/api/reports/waiting")
    shop.wait_begun("running")
    for job in (waiting, running):
        assert shop.target.get(PREFIX + job, "DELETE").status == 204
        assert shop.status(job)["state"] == "cancelled"
        assert shop.result(job).status == 410
    assert not any("waiting" in line for line in shop.marked())
    done = shop.send("/api/about")
    assert shop.target.get(PREFIX + done, "DELETE").status in (204, 303)


def test_what_is_withdrawn_before_its_worker_has_seen_it_is_not_begun(shop, any_class):
    args, app = any_class
    shop.start(*args, app=app)
    shop.over(shop.send("/api/reports/warm"))
    workers = shop.job_workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    unseen = shop.send("/api/reports/unseen?s=1", body=b"x" * 3000)
    wait_until(lambda: shop.status(unseen)["state"] == "running", 5, "it is handed over")
    assert shop.target.get(PREFIX + unseen, "DELETE").status == 204
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    begun = time.monotonic()
    assert shop.over(shop.send("/api/reports/seen"))["state"] == "done"
    assert time.monotonic() - begun < 10 and shop.status(unseen)["state"] == "cancelled"
    log = shop.target.log()
    assert not any("unseen" in line for line in shop.marked()) and "its job was withdrawn" not in log, log


def test_what_nobody_wants_any_more_is_ended(shop, any_class):
    args, app = any_class
    shop.start(*args, "--offload-timeout", 0, "--offload-threads", 2, app=app)
    unwanted, other = shop.send("/api/reports/unwanted?s=60"), shop.send("/api/reports/other?s=1.5")
    wait_until(lambda: shop.status(unwanted).get("started_at"), 20, "it has begun")
    time.sleep(0.3)
    workers = shop.job_workers()
    assert shop.target.get(PREFIX + unwanted, "DELETE").status == 204
    ended = "its job was withdrawn: it is ended"
    wait_until(lambda: ended in shop.target.log(), 10, "it is ended")
    assert shop.over(other)["state"] == "done"
    jobs = [shop.send(f"/api/reports/next{number}?s=0.2") for number in range(4)]
    assert [shop.over(job, 10)["state"] for job in jobs] == ["done"] * 4
    assert shop.job_workers() == workers, "nothing else has ended"
    log = shop.target.log()
    assert log.count(ended) == 1 and "WORKER TIMEOUT" not in log and f"Job {unwanted}:" not in log


@pytest.mark.parametrize("args", [(), ("-k", "gthread", "--threads", "4"), ("-k", "gevent")], ids=["sync", "gthread", "gevent"])
def test_what_an_application_does_behind_its_response_is_not_ended(shop, args):
    if "gevent" in args:
        pytest.importorskip("gevent")
    shop.start(*args)
    for number in range(4):
        job = shop.send(f"/api/reports/after{number}?after=0.5")
        assert shop.over(job)["state"] == "done"
    wait_until(lambda: len([line for line in shop.marked() if line.startswith("after")]) == 4, 10, "all of it is done")
    log = shop.target.log()
    assert "is ended" not in log and "RequestTimeout" not in log and "is to be replaced" not in log


def test_memory_that_a_job_may_not_have_costs_that_job(shop):
    shop.start("--offload-memory-limit", 1 << 30)
    greedy = shop.send(f"/api/memory/{2 << 30}")
    told = shop.over(greedy)
    assert (told["state"], told["error"]["cause"], told["status"]) == ("failed", "application", 500)
    assert "MemoryError" in shop.target.log()
    assert shop.over(shop.send(f"/api/memory/{100 << 20}"))["state"] == "done"
    # Requests have what they want, and the kernel ends jobs first.
    assert shop.target.get(f"/api/memory/{2 << 30}").status == 200
    score = lambda pid: int(Path(f"/proc/{pid}/oom_score_adj").read_text())  # noqa: E731
    assert score(shop.job_workers()[0]) == min(score(shop.target.pid) + 300, 1000)


def test_a_key_is_one_job_whoever_repeats_it(shop):
    shop.start()

    def send(body, **more):
        headers = [("Idempotency-Key", "k-1"), *more.items()]
        return shop.target.get("/api/reports/keyed", "POST", body=body, headers=headers)

    first = json.loads(send(b"a").body)["id"]
    assert json.loads(send(b"a").body)["id"] == first
    assert send(b"b").status == 422
    # Somebody else's key is another.
    other = send(b"b", Authorization="Bearer other")
    assert other.status == 202 and json.loads(other.body)["id"] != first
    assert shop.over(first)["state"] == "done"
    assert len([line for line in shop.marked() if line.startswith("begin keyed")]) <= 2


def test_beyond_its_limit_nothing_is_taken(shop):
    shop.start("--offload-limit", 2, "--offload-threads", 1)
    jobs = [shop.send("/api/reports/one?s=1"), shop.send("/api/reports/two")]
    full = shop.target.get("/api/reports/three", "POST")
    assert full.status == 503 and full.header("Retry-After") and "2 jobs" in json.loads(full.body)["detail"]
    assert [shop.over(job)["state"] for job in jobs] == ["done", "done"]
    shop.send("/api/reports/four")


def test_nobody_else_finds_a_job(shop):
    other = shop.start("--name", "other").target
    foreign = shop.send("/api/reports/theirs")
    assert shop.over(foreign)["state"] == "done"
    # Two services in one folder.
    shop.start("--name", "own")
    job = shop.send("/api/reports/mine")
    assert shop.over(job)["state"] == "done"
    assert shop.target.get(PREFIX + foreign).status == other.get(PREFIX + job).status == 404
    for name in (job[:-1] + ("0" if job[-1] != "0" else "1"), "0" * 32, "..%2f" + job, job.upper(), job + "/result/x"):
        assert shop.target.get(PREFIX + name).status == 404, name
    assert shop.target.get(PREFIX + job, "POST").status == 405
    mode = lambda path: oct(path.stat().st_mode)[-3:]  # noqa: E731
    assert (mode(shop.folder / "offload.sqlite"), mode(shop.folder / "offload")) == ("600", "700")


def test_what_was_kept_long_enough_is_gone(shop):
    shop.start("--offload-retention", 1)
    job, failed = shop.send("/api/lines/20000", body=b"x" * 100_000), shop.send("/api/broken/brief", body=b"a secret of its client")
    assert {shop.over(each)["state"] for each in (job, failed)} <= {"done", "failed", "expired"}
    for each in (job, failed):
        wait_until(lambda each=each: shop.target.get(PREFIX + each).status == 410, 30, "it is not kept any more")
        assert shop.result(each).status == 410
    assert not list((shop.folder / "offload").iterdir()), "nor are bodies"
    with sqlite3.connect(shop.folder / "offload.sqlite") as store:
        assert [store.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("requests", "responses")] == [(0,), (0,)]
    wait_until(lambda: shop.target.get(PREFIX + job).status == 404, 30, "nor that it was")


def test_jobs_do_not_hold_up_requests_nor_a_reload(shop):
    shop.start("--offload-workers", 2, "--graceful-timeout", 10)
    jobs = [shop.send(f"/api/reports/r{number}?s=3") for number in range(6)]
    shop.wait_begun("r0")
    for _ in range(50):
        begun = time.monotonic()
        assert shop.target.get("/").body == b"here\n"
        assert time.monotonic() - begun < 1.0
    before = shop.job_workers()
    shop.target.kill(signal.SIGHUP)
    wait_until(lambda: len(shop.job_workers()) == 2 and not set(shop.job_workers()) & set(before), 30, "other workers")
    jobs.append(shop.send("/api/reports/after"))
    assert [shop.over(job)["state"] for job in jobs] == ["done"] * 7
    assert all(status["attempts"] == 1 for status in map(shop.status, jobs))


def test_a_stop_lets_jobs_finish_and_a_start_goes_on(shop):
    shop.start("--offload-threads", 2)
    running = [shop.send(f"/api/reports/now{number}?s=5") for number in range(2)]
    waiting = [shop.send(f"/api/reports/later{number}") for number in range(2)]
    shop.wait_begun("now1")
    pids = children(shop.target.pid)
    assert shop.target.stop() == 0
    assert not any(alive(pid) for pid in pids), "everybody ends with the server"
    states = {job["id"]: job["state"] for job in shop.jobs()["jobs"]}
    assert [states[job] for job in running] == ["done", "done"]
    assert [states[job] for job in waiting] == ["queued", "queued"]
    shop.start("--offload-threads", 2)
    assert [shop.over(job)["state"] for job in waiting] == ["done", "done"]
    assert json.loads(shop.result(running[0]).body)["name"] == "now0"


def test_many_at_once_are_all_taken(shop):
    shop.start("--workers", 2, "--offload-threads", 8)
    jobs, lost = [], []

    def visit(number):
        for turn in range(25):
            answer = shop.target.get(f"/api/reports/m{number}-{turn}", "POST")
            (jobs if answer.status == 202 else lost).append((f"m{number}-{turn}", json.loads(answer.body)["id"]))

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not lost and len({job for _, job in jobs}) == 200
    for name, job in jobs:
        assert shop.over(job)["state"] == "done"
        assert json.loads(shop.result(job).body)["name"] == name, "a result is its own job's"


def test_curl_follows_a_job_to_its_end(shop):
    """As the documentation has it."""
    shop.start()
    url = shop.target.url
    command = ["curl", "-s", "-D", "-", "-o", "/dev/null", "-X", "POST", url("/api/reports/curl?s=0.3")]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    place = re.search(r"^Location: (.*)$", head, re.MULTILINE)[1]
    command = ["curl", "-s", "-L", "-H", "Prefer: wait=10", url(place)]
    assert json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["name"] == "curl"
