"""`run.py faults`: what each way to go wrong costs the request itself, and everybody beside it.

For every fault a server is started, 100 instant requests per second run alone, then beside one faulty request. Afterwards
as many requests are sent at once as the server has places for: all are served at once if its capacity is back."""

import contextlib
import http.client
import os
import re
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from . import client, servers, table
from .beside import Limited, Nginx, Postgres, Silent
from .environment import BENCH, VENV, say
from .process import MeasurementError, Running, free_port, tree

TIMEOUT = 2
RATE, CONNECTIONS = 100, 16
CALM_SECONDS = 3
# The fault comes so long after the instant requests have begun.
DELAY = 1.0
# Requests that workers of tasks and greenlets are to work on together.
TOGETHER = 40
# When its deadline is over, capacity is to be back within this time; the instant requests end then.
BACK = 2.0
SECONDS = int(DELAY + TIMEOUT + BACK)
PATIENCE = 8
MEMORY = 400_000_000

# Of tasks: one that waits in its loop, and one that does not let itself be cancelled.
TASKS = ("forever", "swallow")
LATE = ("sleep", "loop", "deadlock", "recv", "psycopg", "hold", "regex", "stop", "children", *TASKS)
DEADLY = ("segfault", "exit", "kill", "memory")
FAULTS = (*LATE, *DEADLY, "import")
WAYS = ("direct", "nginx")


@dataclass(frozen=True)
class Mode:
    """A server, and how many requests it works on at a time."""

    name: str
    command: object
    places: int
    ours: bool = False
    # Its requests are tasks.
    tasks: bool = False


def _uwsgi(app, port, workers, threads):
    module, callable_ = app.split(":")
    options = ["--http-socket", f"127.0.0.1:{port}", "--master", "--processes", workers, "--module", module]
    options += ["--callable", callable_, "--harakiri", TIMEOUT, "--disable-logging", "--die-on-term", "--need-app"]
    options += ["--enable-threads", "--pythonpath", BENCH / "apps"]
    return [VENV / "bin" / "uwsgi", *options]


def _mode(name, server, workers, threads, *more, ours=False):
    command = servers.WSGI[server].command
    return Mode(name, lambda port: command("fault_app:app", port, workers, threads, *more), workers * threads, ours)


def _asgi(name, server, *more, ours=False):
    command = servers.ASGI[server].command
    return Mode(name, lambda port: command("fault_asgi:app", port, 2, 1, *more), TOGETHER, ours, tasks=True)


def _gevent(name, server, *more, ours=False):
    command = servers.GEVENT[server].command
    return Mode(name, lambda port: command("fault_app:app", port, 2, 1, *more), TOGETHER, ours)


MODES = {
    mode.name: mode
    for mode in [
        _mode("ferricorn-sync", "ferricorn", 2, 1, "--timeout", TIMEOUT, "--boot-timeout", TIMEOUT, ours=True),
        _mode("ferricorn-gthread", "ferricorn", 2, 4, "--timeout", TIMEOUT, "--boot-timeout", TIMEOUT, ours=True),
        _asgi("ferricorn-asgi", "ferricorn", "--timeout", TIMEOUT, "--boot-timeout", TIMEOUT, ours=True),
        _gevent("ferricorn-gevent", "ferricorn", "--timeout", TIMEOUT, "--boot-timeout", TIMEOUT, ours=True),
        _mode("gunicorn-sync", "gunicorn", 2, 1, "--timeout", TIMEOUT),
        _mode("gunicorn-gthread", "gthread", 2, 4, "--timeout", TIMEOUT),
        _asgi("gunicorn-uvicorn", "gunicorn-uvicorn", "--timeout", TIMEOUT),
        _asgi("uvicorn", "uvicorn"),
        _gevent("gunicorn-gevent", "gunicorn", "--timeout", TIMEOUT),
        _mode("granian", "granian", 2, 4, "--workers-kill-timeout", TIMEOUT),
        Mode("uwsgi", lambda port: _uwsgi("fault_app:app", port, 2, 1), 2),
    ]
}


def run(names, faults, ways):
    rows = []
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(Silent())
        surroundings = {"FAULT_SILENT_PORT": str(silent.port)}
        notes = []
        if "psycopg" in faults:
            try:
                surroundings["FAULT_DSN"] = stack.enter_context(Postgres()).dsn
            except MeasurementError as error:
                notes.append(f"psycopg: left out: {error}")
                faults = [fault for fault in faults if fault != "psycopg"]
        for name in names:
            mode = MODES[name]
            for way in ways if mode.ours else [way for way in ways if way == "direct"]:
                for fault in faults if mode.tasks else [fault for fault in faults if fault not in TASKS]:
                    say(f"faults: {name}, {way}: {fault}")
                    try:
                        row = _row(mode, way, fault, surroundings)
                    except MeasurementError as error:
                        row = {"error": str(error)}
                    rows.append({"server": name, "way": way, "fault": fault, "ours": mode.ours, **row})
    return {"faults": rows, "notes": notes}


def _row(mode, way, fault, surroundings):
    port = free_port()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        flag = Path(folder, "flag")
        environment = {**surroundings, "FAULT_FLAG": str(flag), "STATE_DIRECTORY": folder}
        group = None
        if fault == "memory":
            group = Limited(MEMORY)
            stack.callback(group.remove)
        server = stack.enter_context(Running(mode.command(port), environment=environment))
        server.wait_until_listening(port)
        front = port
        nginx = None
        if way == "nginx":
            nginx = stack.enter_context(Nginx(port))
            front = nginx.port
        _warm(front)
        if group:
            group.add(tree(server.pid))
        calm = _instant(front, CALM_SECONDS)
        beside = {}
        load = threading.Thread(target=lambda: beside.update(_instant(front, SECONDS)))
        load.start()
        time.sleep(DELAY)
        if fault == "import":
            flag.touch()
            os.kill(server.pid, 1)
            got, took = None, None
        else:
            got, took = _ask(front, fault)
        # Not beside the instant requests: they would wait for it.
        load.join()
        back = _capacity(front, mode.places)
        text = server.output()
        return {
            "got": got,
            "took_s": took,
            "answered": beside["answered"],
            "failed": beside["failed"],
            "reason": beside.get("reason", ""),
            "calm_p99_ms": calm["p99_ms"],
            "p99_ms": beside["p99_ms"],
            "capacity": back,
            "named": _named(text, fault) if mode.ours else None,
            "lost_by_nginx": nginx.complaints() if nginx else None,
        }


def _warm(port):
    end = time.monotonic() + 10
    while True:
        try:
            if all(_status(port, "/", 2) == 200 for _ in range(4)):
                return
        except (OSError, http.client.HTTPException):
            pass
        if time.monotonic() > end:
            raise MeasurementError("does not serve")
        time.sleep(0.1)


def _instant(port, seconds):
    return client.openloop("/", port, RATE, seconds, connections=CONNECTIONS, warmup=0, poll_us=100)


def _ask(port, fault):
    """What the client of the faulty request got, and after how many seconds."""
    begun = time.monotonic()
    try:
        got = str(_status(port, f"/{fault}", PATIENCE))
    except TimeoutError:
        got = "nothing"
    except http.client.RemoteDisconnected:
        got = "empty"
    except ConnectionResetError:
        got = "reset"
    except (OSError, http.client.HTTPException) as error:
        got = type(error).__name__
    return got, time.monotonic() - begun


def _status(port, path, patience):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status


def _capacity(port, places):
    """Whether so many requests that last 0.2 s are served at once; a few attempts, since workers share by chance."""
    for _ in range(4):
        took = []

        def one(took=took):
            begun = time.monotonic()
            with contextlib.suppress(OSError, http.client.HTTPException):
                if _status(port, "/nap", 2) == 200:
                    took.append(time.monotonic() - begun)

        threads = [threading.Thread(target=one) for _ in range(places)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(took) == places and max(took) < 0.39:
            return True
    return False


def _named(text, fault):
    """Whether the log says where: function and file of a late request, the request that a death has cost."""
    if fault in DEADLY:
        return re.search(rf"has died: .*GET /{fault} ", text) is not None
    function = "hang_at_import" if fault == "import" else fault
    return re.search(rf"fault_(app|asgi)\.py:\d+ in {function}\b", text) is not None


def missed(row):
    """What a row of Ferricorn's misses of what must hold."""
    if "error" in row:
        return [row["error"]]
    out = []
    late, deadly = row["fault"] in LATE, row["fault"] in DEADLY
    if late and row["got"] != "504" or deadly and row["got"] != "502":
        out.append("answer")
    elif late and abs(row["took_s"] - TIMEOUT) > 0.05 or deadly and row["took_s"] > _grace(row["fault"]):
        out.append("time")
    if row["failed"]:
        out.append("others")
    if row["p99_ms"] > 1.2 * row["calm_p99_ms"] + 5:
        out.append("p99")
    if not row["capacity"]:
        out.append("capacity")
    if not row["named"]:
        out.append("name")
    if row["lost_by_nginx"]:
        out.append("nginx")
    return out


def _grace(fault):
    # It takes time to take the memory.
    return 2.0 if fault == "memory" else 0.1


# A busy machine may miss these; all else must hold.
SOFT = {"p99", "time"}


def failed(result):
    return any(set(missed(row)) - SOFT for row in result["faults"] if row["ours"])


def report(result, markdown):
    header = ["server, fault", "client got", "after s", "others lost", "p99 ms", "calm", "capacity", "named", "nginx", "verdict"]
    rows = []
    for row in result["faults"]:
        label = f"{row['server']}, {row['way']}, {row['fault']}"
        if "error" in row:
            rows.append([label, *["-"] * 8, row["error"]])
            continue
        said = {None: "-", True: "yes", False: "no"}
        verdict = ", ".join(missed(row)) if row["ours"] else "-"
        rows.append([
            label, row["got"] or "-", table.number(row["took_s"], 3), f"{row['failed']} of {row['answered'] + row['failed']}",
            table.number(row["p99_ms"], 1), table.number(row["calm_p99_ms"], 1), "back" if row["capacity"] else "lost",
            said[row["named"]], table.number(row["lost_by_nginx"]), verdict or "ok",
        ])
    title = f"timeout {TIMEOUT} s, {RATE} instant requests per second beside each fault"
    mark = "- " if markdown else ""
    reasons = [
        f"{row['server']}, {row['way']}, {row['fault']}: first failure beside it: {row['reason']}"
        for row in result["faults"] if row["ours"] and row.get("failed")
    ]
    return table.render(title, header, rows, markdown) + "".join(f"{mark}{note}\n" for note in result["notes"] + reasons)
