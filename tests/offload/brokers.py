"""What jobs on Celery need beside a server: brokers, and Celery's workers. Each runs on the host on which it is started."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from jobshop import APPS, Shop

from harness import wait_until
from harness.server import environment, free_port

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


@contextlib.contextmanager
def redis(folder, address="127.0.0.1", port=None):
    """With the same folder and ``port`` it is the same again."""
    assert REDIS, "redis-server is missing: apt-get install redis-server"
    log, port = folder / "log", port or free_port()
    before = log.stat().st_size if log.exists() else 0
    command = [REDIS, "--port", port, "--bind", address, "--protected-mode", "no", "--dir", folder, "--save", "", "--appendonly", "yes"]
    with running(command, log=log):
        wait_until(lambda: "Ready to accept" in log.read_text()[before:], 20, "redis")
        yield f"redis://{address}:{port}"


@contextlib.contextmanager
def rabbit(folder, address="127.0.0.1", port=None, heartbeat=60):
    """``heartbeat`` in seconds: who says nothing for two of them is lost."""
    assert RABBIT, "rabbitmq-server is missing: apt-get install rabbitmq-server"
    # Erlang's sockets have short paths.
    port, dist, epmd = port or free_port(), free_port(), str(free_port())
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.default = {address}:{port}\nloopback_users = none\nheartbeat = {heartbeat}\n")
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
        "ERL_EPMD_PORT": epmd,
    }
    # The package's script changes to its own user, which may not enter this folder: the one behind it does not.
    script = next(Path("/usr/lib/rabbitmq").glob("lib/*/sbin/rabbitmq-server"), None) or Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    try:
        with running([script], env=env, cwd=folder, log=folder / "out"):
            text = lambda: (folder / "out").read_text(errors="replace")  # noqa: E731
            wait_until(lambda: "completed with" in text() or "Starting broker... completed" in text(), 60, lambda: f"rabbitmq: {text()[-2000:]}")
            yield f"amqp://guest:guest@{address}:{port}//"
    finally:
        # It has started a daemon, which does not end with it.
        subprocess.run(["epmd", "-port", epmd, "-kill"], stdout=subprocess.DEVNULL)


class Fleet:
    """A shop whose jobs run on Celery; ``work()`` starts one of Celery's workers."""

    queues = itertools.count()

    def __init__(self, server, folder, broker, results):
        self.server, self.folder, self.logs = server, folder, []
        self.use(broker, results)

    def use(self, broker, results):
        self.broker, self.results = broker, results
        self.broker_args = ["--offload-broker", broker, "--offload-results", results, "--offload-queue", f"q{next(self.queues)}"]

    def shop(self, name="one", *args, **options):
        shop = Shop(self.server, self.folder / name)
        return shop.start(*self.broker_args, *args, **options)

    def start_work(self, stack, shop, processes=2, *words, app="reports:app"):
        """Starts a worker; returns its process, and what waits until it is ready."""
        log = self.folder / f"celery{len(self.logs)}.log"
        self.logs.append(log)
        settings = " ".join(map(str, [*self.broker_args, "--offload", "/x"]))
        env = environment({"GUNICORN_CMD_ARGS": settings, "FERRICORN_APP": app, "MARKS": str(shop.marks), "MENDED": str(shop.mended)}, [APPS])
        name = f"w{len(self.logs)}@tests"
        command = [sys.executable, "-m", "celery", "-A", "ferricorn.celery", "worker", "-c", processes, "-n", name, "--loglevel", "info", *words]
        process = stack.enter_context(running(command, env=env, cwd=self.folder, log=log))
        return process, lambda: wait_until(lambda: " ready." in log.read_text(errors="replace"), 60, lambda: f"a worker: {log.read_text(errors='replace')[-3000:]}")

    def work(self, *args, **options):
        process, wait_ready = self.start_work(*args, **options)
        wait_ready()
        return process
