"""What is known afterwards: the records of late requests and dead workers, and ferricornctl's view of them."""

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import request, wait_until
from harness.server import CTL, children, is_observer

pytestmark = pytest.mark.only_ferricorn("keeps no records")

TIMEOUT = 1


def ctl(*args, check=True):
    done = subprocess.run([CTL, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done


def records(target):
    return json.loads(ctl("timeouts", "--json", "--state-dir", target.folder / "state").stdout)["records"]


def start(server, *args, **options):
    return server("--state-dir", "state", "--timeout", TIMEOUT, *args, app="stuck:app", **options)


def observers(target):
    return [pid for pid in children(target.pid) if is_observer(pid)]


@pytest.mark.parametrize("args", [("-k", "sync"), ("-k", "gthread", "--threads", "4")], ids=["sync", "gthread"])
@pytest.mark.parametrize(
    ("kind", "doing"),
    [
        ("sleep", "sleeping ("),
        ("loop", "computing"),
        ("deadlock", "waiting for a lock"),
        ("peer", "waiting for 127.0.0.1:"),
        ("hold", "sleeping"),
    ],
)
def test_a_late_request_is_recorded(server, args, kind, doing):
    target = start(server, *args)
    response = target.get(f"/stuck/{kind}?token=s3cret&page=2", headers=[("Accept", "application/json")])
    assert response.status == 504
    [record] = wait_until(lambda: records(target), what="a record")
    assert record["kind"] == "timeout"
    asked = record["request"]
    assert asked["id"] == response.header("X-Request-Id")
    assert (asked["method"], asked["path"], asked["query"]) == ("GET", f"/stuck/{kind}", "token=*&page=*")
    assert asked["deadline_s"] == TIMEOUT and TIMEOUT <= asked["app_s"] < TIMEOUT + 0.6
    assert record["answer"] == "answered 504" and record["answered_by"] == "worker"
    assert record["doing"].startswith(doing)
    assert record["source"] == "outside"
    assert (record["frames"][0]["function"], Path(record["frames"][0]["file"]).name) == (kind, "stuck.py")
    assert record["thread"]["outcome"] == "freed" or kind in ("hold", "peer")
    # Looked at on the way; a busy machine may miss one, not all.
    seen = record["evidence"]
    assert {50, 80, 95} & {each["percent"] for each in seen}
    [thread] = [thread for thread in seen[-1]["threads"] if thread.get("request") == asked["id"]]
    assert thread["tid"] == asked["tid"]
    assert thread["holds_gil"] == (kind in ("loop", "hold")) or kind == "loop"
    assert seen[-1]["memory"]["rss"] > 1_000_000
    if kind == "peer":
        assert thread["peer"] in record["doing"]
    # In words.
    text = ctl("why", asked["id"], "--state-dir", target.folder / "state").stdout
    assert f"GET /stuck/{kind}?token=*&page=* (request {asked['id']})" in text
    assert f"stuck.py:{record['frames'][0]['line']} in {kind}" in text
    assert "s3cret" not in text + json.dumps(record)
    table = ctl("timeouts", "--state-dir", target.folder / "state").stdout
    assert asked["id"] in table and f"in {kind}" in table


def test_neighbours_stand_in_the_record(server):
    target = start(server, "-k", "gthread", "--threads", "4")
    with target.connect() as one, target.connect() as other:
        one.send(request("/stuck/sleep?one"))
        time.sleep(0.2)
        other.send(request("/stuck/deadlock"))
        assert one.response().status == 504
        assert other.response().status == 504
    first, second = sorted(wait_until(lambda: len(records(target)) == 2 and records(target)), key=lambda r: r["at_s"])
    assert [neighbour["path"] for neighbour in first["concurrent"]] == ["/stuck/deadlock"]
    threads = first["evidence"][-1]["threads"]
    assert any(thread["frames"] and thread["frames"][0]["function"] == "deadlock" for thread in threads)
    assert second["request"]["path"] == "/stuck/deadlock"


def test_the_route_of_flask_stands_in_the_record(server):
    target = server("--state-dir", "state", "--timeout", TIMEOUT, app="slow_route:app")
    assert target.get("/reports/7").status == 504
    [record] = wait_until(lambda: records(target), what="a record")
    assert record["request"]["route"] == "/reports/<int:number>"
    assert record["frames"][0]["function"] == "report"


DEATHS = {
    "exit": "the process ended itself with exit code 1",
    "segfault": "SIGSEGV: a crash in native code, unless somebody sent that signal",
    "killed": "it was sent SIGKILL, not by its arbiter",
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_death_is_recorded_with_its_cause_and_its_cost(server, death):
    target = start(server, "-w", "2")
    [before] = {target.get("/hello").status}
    response = target.get(f"/stuck/{death}", headers=[("Accept", "application/json")])
    assert (before, response.status) == (200, 502)
    [record] = wait_until(lambda: records(target), what="a record")
    assert record["kind"] == "death" and record["cause"].startswith(DEATHS[death])
    assert [asked["id"] for asked in record["requests"]] == [response.header("X-Request-Id")]
    assert [asked["path"] for asked in record["requests"]] == [f"/stuck/{death}"]
    pid = record["worker"]["pid"]
    target.wait_log(rf"Worker \(pid:{pid}\) has died: .*\. It was at GET /stuck/{death} \(request {pid}-\d+\)")
    assert DEATHS[death] in ctl("why", pid, "--state-dir", target.folder / "state").stdout


def test_who_is_told_to_go_has_not_died(server):
    target = start(server, "-w", "2", "--max-requests", "3")
    for _ in range(8):
        assert target.get("/hello").status == 200
    target.kill(signal.SIGHUP)
    target.wait_log("Reload finished")
    assert target.stop() == 0
    assert records(target) == []


def test_a_stopped_worker_is_recorded_by_others(server):
    target = start(server, "--timeout", "2")
    [pid] = target.workers()
    with target.connect() as client:
        client.send(request("/stuck/sleep"))
        time.sleep(0.3)
        os.kill(pid, signal.SIGSTOP)
        try:
            assert client.response().status == 504
            late = wait_until(lambda: [each for each in records(target) if each["kind"] == "timeout"], what="a record")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    [record] = late
    # The worker cannot write that.
    asked = record["request"]["id"]
    target.wait_log(rf"GET /stuck/sleep \(request {asked}\) from .*: answered 504 by the guardian of its worker \(pid:{pid}\)")
    target.wait_log(rf"request {asked}: at .*stuck\.py:\d+ in sleep")
    assert record["answered_by"] == "guardian" and record["doing"] == "stopped by a signal"
    assert record["frames"][0]["function"] == "sleep"


def test_the_observer_is_replaced_and_ends_with_its_server(server):
    target = start(server)
    [first] = wait_until(lambda: observers(target), what="an observer")
    os.kill(first, signal.SIGKILL)
    [second] = wait_until(lambda: [pid for pid in observers(target) if pid != first], what="another observer")
    assert target.get("/stuck/sleep").status == 504
    wait_until(lambda: records(target), what="a record")
    # New settings need a new one.
    target.kill(signal.SIGHUP)
    target.wait_log("Reload finished")
    [third] = wait_until(lambda: [pid for pid in observers(target) if pid != second], what="a third observer")
    target.process.kill()
    target.process.wait()
    wait_until(lambda: not is_observer(third), what="the observer's end")


def test_without_an_observer_the_log_still_says_where(server):
    target = start(server, "--no-reflex")
    assert observers(target) == []
    assert target.get("/stuck/sleep").status == 504
    target.wait_log(r"request \d+-1: at .*stuck\.py:\d+ in sleep: time\.sleep\(LONG\)")
    assert "ferricornctl why" not in target.log()
    assert not (target.folder / "state").exists()


def test_stacks_now(server):
    target = start(server, "--timeout", "20", "-k", "gthread", "--threads", "2")
    [pid] = target.workers()
    with target.connect() as client:
        client.send(request("/stuck/hold"))
        time.sleep(0.3)
        [process] = json.loads(ctl("stack", pid, "--json").stdout)["processes"]
        assert process["pid"] == pid and process["source"] == "outside"
        [thread] = [thread for thread in process["threads"] if thread.get("request")]
        assert thread["frames"][0]["function"] == "hold" and thread["holds_gil"]
        assert "stuck.py" in ctl("stack", target.pid).stdout
    failed = ctl("stack", 2**22 + 1, check=False)
    assert failed.returncode == 1 and "could not be read" in failed.stderr


def readable_by(user):
    """Whether this Python can be run by another user."""
    with contextlib.suppress(PermissionError):
        done = subprocess.run([sys.executable, "-c", "import ctypes"], user=user, cwd="/", capture_output=True, check=False)
        return done.returncode == 0
    return False


@pytest.mark.parametrize("way", ["another user", "not dumpable"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, and has rights to give up")
def test_without_rights_evidence_is_less_and_says_so(server, way):
    """Nobody has CAP_SYS_PTRACE, and the worker runs as another user (a container), or must not be looked into."""
    args, config = [], "import ctypes\ndef post_fork(server, worker):\n    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
    if way == "another user":
        nobody = pwd.getpwnam("nobody")
        args, config = ["--user", nobody.pw_uid, "--group", nobody.pw_gid], ""
        if not readable_by(nobody.pw_uid):
            pytest.skip("this Python cannot be read by other users")
    target = start(server, *args, config=config, popen={"preexec_fn": drop_ptrace})
    assert target.get("/hello").body == b"hello"
    response = target.get("/stuck/sleep", headers=[("Accept", "application/json")])
    assert response.status == 504
    [record] = wait_until(lambda: records(target), what="a record")
    assert record["evidence"][-1]["source"] == "kernel"
    assert "CAP_SYS_PTRACE" in record["evidence"][-1]["degraded"]
    # The interpreter was asked instead.
    assert record["source"] == "interpreter" and record["frames"][0]["function"] == "sleep"
    assert record["thread"]["outcome"] == "freed"
    # Where the interpreter is kept, the thread itself.
    assert target.get("/stuck/hold").status == 504
    held = wait_until(lambda: [each for each in records(target) if each["request"]["path"] == "/stuck/hold"], what="two")
    assert (held[0]["source"], held[0]["frames"][0]["function"]) == ("faulthandler", "hold")
    text = ctl("why", record["request"]["id"], "--state-dir", target.folder / "state").stdout
    assert "no stack from outside: no right to read the worker's memory" in text
    assert target.get("/hello").body == b"hello"


def drop_ptrace():
    """Gives up CAP_SYS_PTRACE for good (prctl PR_CAPBSET_DROP, capset)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    ptrace = 19
    libc.prctl(24, ptrace, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    for word in range(3):
        data[word] &= ~(1 << ptrace)
    libc.capset(header, data)
