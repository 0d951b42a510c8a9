"""Jobs on Celery: the same requests, run by workers of Celery's own, on whatever host they are."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobshop import APPS, PREFIX, ROUTES, Shop

from harness import wait_until
from harness.server import environment, free_port

pytestmark = [pytest.mark.only_ferricorn("knows no jobs"), pytest.mark.timeout(180)]

REDIS = shutil.which("redis-server")
RABBIT = shutil.which("rabbitmq-server") or ("/usr/sbin/rabbitmq-server" if os.path.exists("/usr/sbin/rabbitmq-server") else None)


@contextlib.contextmanager
def running(command, env=None, cwd=None, log=None):
    with open(log or os.devnull, "ab") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, cwd=cwd, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    assert REDIS, "redis-server is missing: apt-get install redis-server"
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    with running([REDIS, "--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", ""], log=folder / "log"):
        wait_until(lambda: "Ready to accept" in (folder / "log").read_text(), 20, "redis")
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory):
    assert RABBIT, "rabbitmq-server is missing: apt-get install rabbitmq-server"
    # Erlang's sockets have short paths.
    folder, port, dist = tmp_path_factory.mktemp("rabbit"), free_port(), free_port()
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.default = 127.0.0.1:{port}\nloopback_users = none\n")
    (folder / "enabled_plugins").write_text("[].\n")
    env = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"tests{port}@localhost",
        "RABBITMQ_DIST_PORT": str(dist),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "ERL_EPMD_PORT": str(free_port()),
    }
    # The package's script changes to its own user, which may not enter this folder: the one behind it does not.
    script = next(Path("/usr/lib/rabbitmq").glob("lib/*/sbin/rabbitmq-server"), None) or Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    with running([script], env=env, cwd=folder, log=folder / "out"):
        text = lambda: (folder / "out").read_text(errors="replace")  # noqa: E731
        wait_until(lambda: "completed with" in text() or "Starting broker... completed" in text(), 60, lambda: f"rabbitmq: {text()[-2000:]}")
        yield f"amqp://guest:guest@127.0.0.1:{port}//"


class Fleet:
    """A shop whose jobs run on Celery; ``work()`` starts one of Celery's workers."""

    def __init__(self, server, folder, broker, results):
        self.server, self.folder, self.broker, self.results = server, folder, broker, results
        self.broker_args = ["--offload-broker", broker, "--offload-results", results, "--offload-queue", f"q{free_port()}"]
        self.logs = []

    def shop(self, name="one", *args, **options):
        shop = Shop(self.server, self.folder / name)
        return shop.start(*self.broker_args, *args, **options)

    def work(self, stack, shop, processes=2, app="reports:app"):
        log = self.folder / f"celery{len(self.logs)}.log"
        self.logs.append(log)
        words = " ".join(map(str, [*self.broker_args, "--offload", "/x"]))
        env = environment({"GUNICORN_CMD_ARGS": words, "FERRICORN_APP": app, "MARKS": str(shop.marks), "MENDED": str(shop.mended)}, [APPS])
        name = f"w{len(self.logs)}@tests"
        command = [sys.executable, "-m", "celery", "-A", "ferricorn.celery", "worker", "-c", processes, "-n", name, "--loglevel", "info"]
        process = stack.enter_context(running(command, env=env, cwd=self.folder, log=log))
        wait_until(lambda: " ready." in log.read_text(errors="replace"), 60, lambda: f"a worker: {log.read_text(errors='replace')[-3000:]}")
        return process


@pytest.fixture(params=["redis", "rabbit"])
def fleet(request, server, tmp_path):
    results = request.getfixturevalue("redis")
    broker = results if request.param == "redis" else request.getfixturevalue("rabbit")
    return Fleet(server, tmp_path, f"{broker}/0" if request.param == "redis" else broker, f"{results}/1")


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
        shop = fleet.shop("one", "--offload-timeout", 2)
        fleet.broker_args += ["--offload-timeout", 2]
        fleet.work(stack, shop, 1)
        told = shop.over(shop.send("/api/reports/endless?s=60"), 60)
        assert (told["state"], told["error"]["cause"]) == ("failed", "timeout"), told
        # A method that may be sent again: attempts, each with as many workers as may be lost.
        told = shop.over(shop.send("/api/reports/poison?die=1", "PUT"), 100)
        assert (told["state"], told["error"]["cause"]) == ("failed", "worker_died"), told
        begun = len([line for line in shop.marked() if line.startswith("begin poison")])
        assert 3 <= begun <= 9, begun

