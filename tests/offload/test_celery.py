"""Jobs on Celery: the same requests, run by workers of Celery's own, on whatever host they are."""

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import brokers
import pytest
from brokers import Fleet
from jobshop import PREFIX, ROUTES

from harness import wait_until
from harness.postgres import parts
from harness.server import free_port

pytestmark = [pytest.mark.only_ferricorn("knows no jobs"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with brokers.redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory):
    with brokers.rabbit(tmp_path_factory.mktemp("rabbit")) as url:
        yield url


@pytest.fixture(scope="module")
def postgres(dsn):
    of = parts(dsn)
    return f"db+postgresql+psycopg2://{of['user']}@{of['host']}:{of['port']}/{of['dbname']}"


@pytest.fixture(params=["redis", "rabbit"])
def fleet(request, server, tmp_path):
    """Redis for both, or RabbitMQ with results in PostgreSQL."""
    if request.param == "rabbit":
        return Fleet(server, tmp_path, request.getfixturevalue("rabbit"), request.getfixturevalue("postgres"))
    url = request.getfixturevalue("redis")
    return Fleet(server, tmp_path, f"{url}/0", f"{url}/1")


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_requests_run_on_celery_and_every_host_knows_them(fleet):
    with contextlib.ExitStack() as stack:
        one = fleet.shop("one")
        two = fleet.shop("two")
        fleet.work(stack, one)
        job = one.send("/api/reports/fleet?s=1.2", body=b"x" * 5000, headers=[("User-Agent", "tests")])
        told, seen = one.status(job), set()
        while told["state"] in ("queued", "running"):
            seen.update([told["progress"]["note"]] if "progress" in told else [])
            time.sleep(0.05)
            told = one.status(job)
        assert told["state"] == "done" and seen, (told, one.target.log())
        result = one.result(job)
        body = json.loads(result.body)
        assert result.status == 201 and result.header("X-Report") == "fleet" and body["bytes"] == 5000
        assert (body["client"], body["agent"]) == ("127.0.0.1", "tests")
        # Another host, with jobs of its own.
        assert two.status(job)["state"] == "done"
        other = two.target.get(PREFIX + job + "/result")
        assert (other.status, other.body, other.header("X-Report")) == (201, result.body, "fleet")
        assert two.target.get(PREFIX + "0" * 32).status == 404
        assert re.search(rf"Task ferricorn.run\[{job}\] succeeded", fleet.logs[0].read_text())


def test_one_worker_of_two_is_killed(fleet):
    with contextlib.ExitStack() as stack:
        shop = fleet.shop()
        first = fleet.work(stack, shop, 1)
        again = shop.send("/api/reports/again?s=4", "PUT")
        shop.wait_begun("again")
        fleet.work(stack, shop, 1)
        # Its process alone: its master has the message still, and gives it back.
        [child] = children_of(first.pid)[-1:]
        os.kill(child, signal.SIGKILL)
        told = shop.over(again, 60)
        assert told["state"] == "done" and json.loads(shop.result(again).body)["name"] == "again"
        once = shop.send("/api/reports/once?s=3")
        shop.wait_begun("once")
        [line] = [line for line in shop.marked() if line.startswith("begin once")]
        os.kill(int(line.split()[2]), signal.SIGKILL)
        told = shop.over(once, 60)
        assert (told["state"], told["error"]["cause"]) == ("failed", "worker_died"), told


def test_what_waits_in_celery_outlives_the_server(fleet):
    shop = fleet.shop()
    job = shop.send("/api/reports/patient")
    wait_until(lambda: shop.status(job)["state"] == "running", 20, "it was handed over")
    for role in ("dispatcher", "jobs"):
        before = shop.companion(role)
        shop.kill(before)
        wait_until(lambda role=role, before=before: shop.companion(role) not in (None, before), 20, f"another {role}")
        wait_until(lambda: shop.status(job)["state"] == "running", 20, "it is waited for again")
    with contextlib.ExitStack() as stack:
        fleet.work(stack, shop)
        told = shop.over(job, 60)
    assert told["state"] == "done", told
    assert len([line for line in shop.marked() if line.startswith("begin patient")]) == 1, "it was not handed over twice"


def test_relays_die_while_the_broker_is_away(server, redis, tmp_path):
    place, port = tmp_path / "broker", free_port()
    place.mkdir()
    fleet = Fleet(server, tmp_path, f"amqp://guest:guest@127.0.0.1:{port}//", f"{redis}/1")
    with contextlib.ExitStack() as stack:
        shop = fleet.shop()
        jobs = [shop.send("/api/reports/once"), shop.send("/api/reports/again", "PUT")]
        wait_until(lambda: {shop.status(job)["state"] for job in jobs} == {"running"}, 20, "relays have them")
        # They try to reach the broker by then.
        time.sleep(1.5)
        before = shop.companion("jobs")
        for pid in [*shop.job_workers(), before]:
            shop.kill(pid)
        wait_until(lambda: shop.companion("jobs") not in (None, before), 20, "others")
        stack.enter_context(brokers.rabbit(place, port=port))
        fleet.work(stack, shop)
        assert [shop.over(job)["state"] for job in jobs] == ["done", "done"]
    assert sorted(line.split()[1] for line in shop.marked() if line.startswith("begin")) == ["again", "once"]


def test_results_are_away_while_jobs_run(fleet, tmp_path):
    if "redis" in fleet.broker:
        pytest.skip("its results are not the broker here")
    place, port = tmp_path / "results", free_port()
    place.mkdir()
    fleet.use(fleet.broker, f"redis://127.0.0.1:{port}/0")
    with contextlib.ExitStack() as stack:
        with brokers.redis(place, port=port):
            shop = fleet.shop()
            fleet.work(stack, shop, 1)
            jobs = {"first": shop.send("/api/reports/first?s=2")}
            shop.wait_begun("first")
            # These are in the queue: their turn comes while nothing can be written.
            jobs |= {name: shop.send(f"/api/reports/{name}?s=0.1", method) for name, method in (("once", "POST"), ("again", "PUT"))}
            wait_until(lambda: {shop.status(job)["state"] for job in jobs.values()} == {"running"}, 20, "they were handed over")
        wait_until(lambda: any(line.startswith("end first") for line in shop.marked()), 20, "the end of the first")
        time.sleep(1)
        with brokers.redis(place, port=port):
            for name, job in jobs.items():
                told = shop.over(job, 60)
                assert told["state"] == "done" and json.loads(shop.result(job).body)["name"] == name, told
    assert sorted(line.split()[1] for line in shop.marked() if line.startswith("begin")) == sorted(jobs), "each was begun once"


def test_what_is_not_installed_costs_no_job(fleet, tmp_path):
    if "amqp" in fleet.broker:
        pytest.skip("its library is another")
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "redis.py").write_text("raise ImportError('no redis here')\n")
    shop = fleet.shop("one", "--pythonpath", tmp_path / "lacking")
    job = shop.send("/api/reports/later")
    wait_until(lambda: "kombu/transport/redis.py" in shop.target.log() and "failed to boot" in shop.target.log(), 20, "it is said")
    time.sleep(1)
    assert shop.status(job)["state"] in ("queued", "running") and shop.target.get("/").body == b"here\n"
    assert shop.target.stop() == 0
    shop = fleet.shop("one")
    with contextlib.ExitStack() as stack:
        fleet.work(stack, shop)
        assert shop.over(job, 60)["state"] == "done"


def test_fastapi_runs_there_too(fleet):
    if "amqp" in fleet.broker:
        pytest.skip("the broker makes no difference to an application")
    fleet.broker_args += ["-k", "asgi"]
    with contextlib.ExitStack() as stack:
        shop = fleet.shop(app="reports_asgi:app", routes=ROUTES)
        fleet.work(stack, shop, app="reports_asgi:app")
        job = shop.send("/api/reports/api?s=0.5", body=b"abc")
        told = shop.over(job, 60)
        assert told["state"] == "done", (told, shop.target.log(), fleet.logs[0].read_text())
        result = shop.result(job)
        made = json.loads(result.body)
        assert result.status == 201 and (made["bytes"], made["greeting"]) == (3, "hello") and result.header("X-Report") == "api"


def test_what_is_withdrawn_is_not_begun(fleet):
    shop = fleet.shop()
    job, other = shop.send("/api/reports/unwanted"), shop.send("/api/reports/wanted")
    wait_until(lambda: shop.status(job)["state"] == shop.status(other)["state"] == "running", 20, "they were handed over")
    assert shop.target.get(PREFIX + job, "DELETE").status == 204
    with contextlib.ExitStack() as stack:
        fleet.work(stack, shop)
        assert shop.over(other, 60)["state"] == "done"
        time.sleep(1)
    assert shop.status(job)["state"] == "cancelled"
    assert not [line for line in shop.marked() if "unwanted" in line]


def test_its_time_is_limited_there_and_who_kills_its_workers_is_given_up(fleet):
    if "amqp" in fleet.broker:
        pytest.skip("the broker makes no difference to a limit")
    with contextlib.ExitStack() as stack:
        shop = fleet.shop("one", "--offload-timeout", 2, routes=("--offload", "POST */long timeout=30", "--offload", "/api/reports/*"))
        fleet.broker_args += ["--offload-timeout", 2]
        fleet.work(stack, shop, 1)
        told = shop.over(shop.send("/api/reports/endless?s=60"), 60)
        assert (told["state"], told["error"]["cause"]) == ("failed", "timeout"), told
        assert shop.over(shop.send("/api/reports/long?s=4"), 60)["state"] == "done", "its route has another"
        # A method that may be sent again: attempts, each with as many workers as may be lost.
        told = shop.over(shop.send("/api/reports/poison?die=1", "PUT"), 100)
        assert (told["state"], told["error"]["cause"]) == ("failed", "worker_died"), told
        begun = len([line for line in shop.marked() if line.startswith("begin poison")])
        assert 3 <= begun <= 9, begun

