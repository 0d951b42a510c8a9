"""kill -9 of whoever takes part in a job: what was accepted ends as it was promised, and no result is another's.

``CRASHES=1000`` makes the random test as long as that.
"""

import contextlib
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest
from jobshop import title

from harness import wait_until
from harness.server import alive

pytestmark = [pytest.mark.only_ferricorn("knows no jobs")]

CRASHES = int(os.environ.get("CRASHES", "12"))
PREFIX = "/.well-known/ferricorn/jobs/"


@pytest.mark.timeout(90)
def test_a_worker_that_dies_with_its_job(shop):
    shop.start()
    once, again = shop.send("/api/reports/once?s=2"), shop.send("/api/reports/again?s=2", "PUT")
    shop.wait_begun("once")
    shop.wait_begun("again")
    shop.kill(shop.job_workers()[0])
    told = shop.over(once)
    assert (told["state"], told["error"]["cause"], told["attempts"]) == ("failed", "worker_died", 1)
    told = shop.over(again)
    assert (told["state"], told["attempts"]) == ("done", 2)
    assert json.loads(shop.result(again).body)["name"] == "again"


@pytest.mark.timeout(90)
def test_a_dispatcher_that_dies(shop):
    shop.start("--offload-threads", 2)
    running = [shop.send(f"/api/reports/run{number}?s=2", method) for number, method in enumerate(["POST", "PUT"])]
    waiting = [shop.send(f"/api/reports/wait{number}") for number in range(3)]
    shop.wait_begun("run1")
    shop.kill(shop.companion("dispatcher"))
    # Nobody has noticed: who asks meanwhile is answered by the next one.
    accepted = shop.send("/api/reports/meanwhile")
    told = shop.over(running[0])
    assert (told["state"], told["error"]["cause"]) == ("failed", "interrupted")
    assert [shop.over(job)["state"] for job in [running[1], *waiting, accepted]] == ["done"] * 5
    begun = Counter(line.split()[1] for line in shop.marked() if line.startswith("begin"))
    assert begun["run0"] == 1 and all(begun[f"wait{number}"] == 1 for number in range(3))


@pytest.mark.timeout(90)
def test_the_server_of_jobs_dies(shop):
    shop.start("--offload-threads", 2)
    job = shop.send("/api/reports/long?s=3", "PUT")
    shop.wait_begun("long")
    master = shop.companion("jobs")
    shop.kill(master)
    wait_until(lambda: shop.companion("jobs") not in (None, master), 30, "another")
    late = shop.send("/api/reports/late")
    assert shop.over(late)["state"] == "done"
    assert shop.over(job)["state"] == "done"


@pytest.mark.timeout(120)
def test_the_master_dies_and_the_next_one_goes_on(shop):
    shop.start("--offload-threads", 1)
    running = shop.send("/api/reports/running?s=1", "PUT")
    waiting = [shop.send(f"/api/reports/w{number}") for number in range(5)]
    shop.wait_begun("running")
    pids = [shop.companion("dispatcher"), shop.companion("jobs"), *shop.job_workers()]
    shop.target.kill(signal.SIGKILL)
    shop.target.wait()
    wait_until(lambda: not any(map(alive, pids)), 40, "nobody stays behind")
    shop.start("--offload-threads", 1)
    assert [shop.over(job)["state"] for job in [running, *waiting]] == ["done"] * 6
    begun = Counter(line.split()[1] for line in shop.marked() if line.startswith("begin"))
    assert all(begun[f"w{number}"] == 1 for number in range(5)), begun


#: Whom chance may choose, by role and by which of the two masters it is of; the first one more rarely: all end with it.
VICTIMS = {
    "master": (1, ""),
    "worker": (8, ""),
    "dispatcher": (8, ""),
    "reflex": (4, ""),
    "guardian": (4, ""),
    "master of jobs": (8, " jobs"),
    "worker of jobs": (8, " jobs"),
    "reflex of jobs": (4, " jobs"),
    "guardian of jobs": (4, " jobs"),
}


def processes(shop, who):
    """The pids of a role in the group of the shop's master."""
    role, end = who.split()[0], f" [shop{VICTIMS[who][1]}]"
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(ValueError, OSError):
            if os.getpgid(int(entry.name)) == shop.target.pid:
                text = title(int(entry.name))
                found += [int(entry.name)] if text.startswith(f"ferricorn: {role} ") and text.endswith(end) else []
    return sorted(found)


@pytest.mark.timeout(60 + 15 * CRASHES)
@pytest.mark.parametrize("seed", [1, 2])
def test_whoever_dies_at_random(shop, seed):
    dice = random.Random(seed)
    args = ("--workers", 2, "--offload-workers", 2, "--offload-threads", 3)
    shop.start(*args)
    accepted, refused, killed = {}, Counter(), Counter()
    turn = 0
    while killed.total() < CRASHES:
        turn += 1
        assert turn < 3 * CRASHES + 20, (killed, refused)
        for number in range(dice.randrange(1, 6)):
            name = f"c{turn}-{number}"
            method = dice.choice(["POST", "PUT"])
            try:
                answer = shop.target.get(f"/api/reports/{name}?s={dice.random() / 3:.2f}", method, timeout=90)
            except (EOFError, ConnectionError):
                # Its worker, whose guardian had died before.
                refused["cut"] += 1
                continue
            if answer.status == 202:
                accepted[json.loads(answer.body)["id"]] = (name, method)
            else:
                refused[answer.status] += 1
        time.sleep(dice.random() / 4)
        [who] = dice.choices(list(VICTIMS), [weight for weight, _ in VICTIMS.values()])
        pids = processes(shop, who)
        if pids:
            shop.kill(dice.choice(pids))
            killed[who] += 1
        if pids and who == "master":
            shop.target.wait()
            wait_until(lambda: not [pid for role in VICTIMS for pid in processes(shop, role)], 60, "nobody stays behind")
            shop.start(*args)
    assert len(accepted) >= CRASHES and set(refused) <= {502, 503, 504, "cut"}, (len(accepted), killed, refused)
    states = Counter()
    for job, (name, method) in accepted.items():
        told = shop.over(job, 120)
        states[told["state"]] += 1
        if told["state"] == "done":
            assert json.loads(shop.result(job).body)["name"] == name
        else:
            assert (told["state"], told["error"]["cause"]) in {("failed", "worker_died"), ("failed", "interrupted")}, told
            assert told["attempts"] == told["attempts_max"], told
    begun = Counter(line.split()[1] for line in shop.marked() if line.startswith("begin"))
    for name, method in accepted.values():
        assert begun[name] <= (1 if method == "POST" else 3), f"{method} {name} was begun {begun[name]} times"
    print(f"seed {seed}: {dict(states)} of {len(accepted)}; killed {dict(killed)}; refused {dict(refused)}")
    assert shop.target.stop() == 0
    with sqlite3.connect(shop.folder / "offload.sqlite") as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
