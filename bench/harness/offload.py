"""`run.py offload`: how fast requests become jobs, on SQLite, with one worker and the dispatcher on one core; how long a client waits for
its 202 at 200 req/s; how long for the state of a job among many. No job ends meanwhile: one is run, and sleeps."""

import http.client
import json
import random
import sqlite3
import statistics
import tempfile
import threading
import time
from pathlib import Path

from . import client, servers, table
from .process import MeasurementError, Running, free_port
from .workloads import Workload

CAPABLE = ("ferricorn",)
ROUTE = "/job"
PREFIX = "/.well-known/ferricorn/jobs/"
JOB = Workload("job", "a request that becomes a job", "slow_app:app", b"", path=ROUTE, method="POST")
RATE = 200
CLIENTS = 32


def run(names, rig, rounds, stored):
    result = {"offload": {}}
    for name in names:
        rows = [_once(servers.WSGI[name], rig, stored if turn == 0 else 0) for turn in range(rounds)]
        kept = {key: [row[key] for row in rows if key in row] for key in rows[0]}
        result["offload"][name] = {"stored": stored, **kept}
    return result


def _once(server, rig, stored):
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        options = ["--state-dir", folder, "--name", "bench", "--offload", ROUTE, "--offload-workers", 1, "--offload-threads", 1]
        options += ["--offload-limit", 100_000_000, "--offload-disk-limit", 1 << 40, "--offload-nice", 19]
        with Running(server.command(JOB.app, port, 1, 1, *options), rig.server_core) as running:
            running.wait_until_listening(port)
            _first(port, running)
            figures = {"accept_p99_ms": _steady(port, rig.seconds)}
            load = client.full_load(JOB, port, rig.seconds, rig.client_core)
            figures["accepts_per_s"] = load["requests"] / load["duration_us"] * 1e6
            if stored:
                figures["status_p99_ms"] = _states(Path(folder) / "offload.sqlite", port, rig, stored)
        return figures


def _first(port, running):
    """One job, which takes the only place there is."""
    end = time.monotonic() + 10
    while _sent(port, "POST", ROUTE)[0] != 202:
        if time.monotonic() > end:
            raise MeasurementError(f"no 202: {running.last_words()}")
        time.sleep(0.1)


def _sent(port, method, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _steady(port, seconds):
    """99th percentile of the time from when a request was to be sent to its 202, milliseconds."""
    begun, total = time.monotonic() + 0.1, RATE * seconds
    took, lock, turn = [], threading.Lock(), iter(range(total))

    def send():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while True:
            with lock:
                number = next(turn, None)
            if number is None:
                return connection.close()
            due = begun + number / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            connection.request("POST", ROUTE, body=b"x" * 100)
            answer = connection.getresponse()
            answer.read()
            took.append((time.monotonic() - due) * 1000 if answer.status == 202 else float("inf"))

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.quantiles(took, n=100)[98]


def _states(store, port, rig, count):
    """Adds so many jobs that are done, and asks for the state of one that waits, at a constant rate."""
    waiting = json.loads(_sent(port, "POST", ROUTE)[1])["status_url"]
    dice = random.Random(7)
    with sqlite3.connect(store, timeout=60) as rows:
        query = (
            "INSERT INTO jobs (id, service, state, method, path, facts, created, ended, expires, attempts, attempts_max, bytes, kept, status) "
            "VALUES (?, 'bench', 2, 'POST', '/job', '{}', 1, 2, 9e12, 1, 1, 400, 86400, 200)"
        )
        rows.executemany(query, ((f"{dice.getrandbits(128):032x}",) for _ in range(count)))
    figures = client.openloop(waiting, port, RATE, rig.seconds, rig.client_core)
    if figures["failed"]:
        raise MeasurementError(f"{figures['failed']} states were not told")
    return figures["p99_ms"]


def report(result, markdown):
    rows = []
    for name, figures in result["offload"].items():
        median = {key: statistics.median(values) for key, values in figures.items() if isinstance(values, list)}
        rows.append([
            name,
            table.number(median["accepts_per_s"]),
            table.number(median["accept_p99_ms"], 1),
            table.number(median["status_p99_ms"], 2) if "status_p99_ms" in median else "-",
        ])
    stored = max((figures["stored"] for figures in result["offload"].values()), default=0)
    header = ["server", "durable accepts/s", f"202 at {RATE}/s, p99 ms", f"state among {stored:,} jobs, p99 ms"]
    return table.render("Requests that become jobs, one core, SQLite", header, rows, markdown)
