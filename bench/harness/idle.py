"""`run.py idle`: what open connections cost a worker while little happens on them, and how they end when it has to.

One worker holds WebSockets that say nothing, or streams of server-sent events with one event a second each. Counted:
memory per connection, connections lost, and the drain after SIGTERM. The clients are idle_client.py, on the other core."""

import json
import resource
import select
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from . import table
from .environment import SetupError, say
from .process import MeasurementError, Running, cpu_between, free_port

KINDS = ("websocket", "events")
# The application of each kind, what a connection should end with, and how it is called in tables.
_APPS = {"websocket": "raw_asgi:echo", "events": "raw_asgi:events"}
_GOOD_END = {"websocket": "1012", "events": "complete"}
_TITLES = {"websocket": "idle WebSockets", "events": "streams of one event a second"}

# Far below what a process may open where nobody raised the limit (4,096).
CONNECTIONS_PER_CLIENT = 2_500
# Files of a server beside its connections, with room.
OTHER_FILES = 500
# A server is asked to be gone within 10 s; what takes longer than this is ended.
DRAIN_PATIENCE = 20
CLIENT_PATIENCE = 120


def run(servers, counts, cores, hold):
    """`counts` says how many connections of which kind."""
    _allow_files(max(counts.values()))
    result = {"hold_s": hold, "idle": {}}
    for kind, count in counts.items():
        rows = {}
        for name, server in servers.items():
            try:
                rows[name] = _measure(server, kind, count, cores, hold)
                outcome = f"{rows[name]['private_kb']:.1f} KB each, ends {rows[name]['ends']}"
            except MeasurementError as error:
                rows[name] = {"error": str(error)}
                outcome = str(error)
            say(f"idle: {count:,} {_TITLES[kind]}: {name}: {outcome}")
        result["idle"][kind] = {"count": count, "servers": rows}
    return result


def _allow_files(count):
    """Servers and clients inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + OTHER_FILES:
        raise SetupError(f"{count:,} connections need ulimit -Hn {count + OTHER_FILES}, it is {hard}; ask for fewer")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _measure(server, kind, count, cores, hold):
    server_core, client_core = cores
    port = free_port()
    command = server.command(_APPS[kind], port, 1, 1, *server.crowd)
    with Running(command, server_core) as running, ExitStack() as stack:
        running.wait_until_listening(port)
        # What only the first connection costs, such as modules that it imports, belongs to none.
        with _Clients(kind, port, 1, client_core) as first:
            first.wait_open()
        before = running.memory()
        begun = time.monotonic()
        clients = stack.enter_context(_Clients(kind, port, count, client_core))
        opened = clients.wait_open()
        open_s = time.monotonic() - begun
        if not opened["open"]:
            raise MeasurementError(f"no connection: {opened['reason']}; last line: {running.last_words()}")
        cpu = running.cpu()
        time.sleep(hold)
        used = cpu_between(cpu, running.cpu())
        held, after = clients.count(), running.memory()
        drain_s = running.stop(DRAIN_PATIENCE)
        last_words = running.last_words()
        ended = clients.finish()
    kept = opened["open"]
    return {
        "open": kept,
        "refused": opened["failed"],
        "reason": opened["reason"] or held["reason"],
        "lost": kept - held["open"],
        "open_s": open_s,
        "busy_percent": used / hold / 1e4,
        "pss_kb": (after.worker - before.worker) * 1024 / kept,
        "private_kb": (after.worker_private - before.worker_private) * 1024 / kept,
        "worker_mb": after.worker,
        "events": held["events"],
        "late_p99_ms": _p99(held["late_ms"]),
        "drain_s": drain_s,
        "ends": dict(Counter(ended["ends"]) - Counter(held["ends"])),
        "last_words": last_words,
    }


def _p99(values):
    return sorted(values)[len(values) * 99 // 100] if values else None


class _Clients:
    """Processes of idle_client.py that hold `count` connections together. As context manager: ends them."""

    def __init__(self, kind, port, count, core):
        program = Path(__file__).with_name("idle_client.py")
        shares = [min(CONNECTIONS_PER_CLIENT, count - done) for done in range(0, count, CONNECTIONS_PER_CLIENT)]
        self._commands = [
            ["taskset", "--cpu-list", str(core), sys.executable, str(program), kind, str(port), str(share)]
            for share in shares
        ]
        self._processes = []

    def __enter__(self):
        for command in self._commands:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._processes.append(process)
        return self

    def __exit__(self, *_):
        for process in self._processes:
            process.kill()
            process.communicate()

    def wait_open(self):
        """When all connections are open or have failed."""
        return self._answers()

    def count(self):
        """What is open now, and what has come since the last report."""
        return self._ask("count")

    def finish(self):
        """Waits until all connections have ended, for a short time."""
        return self._ask("finish")

    def _ask(self, word):
        for process in self._processes:
            try:
                process.stdin.write(word + "\n")
                process.stdin.flush()
            except BrokenPipeError as error:
                raise MeasurementError("a client has ended") from error
        return self._answers()

    def _answers(self):
        answers, deadline = [], time.monotonic() + CLIENT_PATIENCE
        for process in self._processes:
            answers.append(_line(process, deadline))
        total = {name: sum(answer[name] for answer in answers) for name in ("open", "failed", "events")}
        total["late_ms"] = [late for answer in answers for late in answer["late_ms"]]
        total["ends"] = sum((Counter(answer["ends"]) for answer in answers), Counter())
        total["reason"] = next((answer["reason"] for answer in answers if answer["reason"]), None)
        return total


def _line(process, deadline):
    # One line follows each word, so none waits in the buffer that select does not see.
    if not select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
        raise MeasurementError(f"a client said nothing within {CLIENT_PATIENCE} s")
    line = process.stdout.readline()
    if not line:
        raise MeasurementError("a client has ended")
    return json.loads(line)


def failed(result):
    """Whether a server could not be measured, or Ferricorn lost a connection or ended one uncleanly."""
    return any(
        "error" in row or (name == "ferricorn" and not _clean(kind, row))
        for kind, part in result["idle"].items() for name, row in part["servers"].items()
    )


def _clean(kind, row):
    ended_well = row["ends"] == {_GOOD_END[kind]: row["open"]}
    return ended_well and row["drain_s"] is not None and not row["refused"] and not row["lost"]


def report(result, markdown):
    return "\n".join(_table(kind, part, result["hold_s"], markdown) for kind, part in result["idle"].items())


def _table(kind, part, hold, markdown):
    header = ["server", "open", "refused", "lost", "opened in s", "PSS KB each", "private KB each", "PSS MB"]
    header += ["core busy", *(["events/s", "late p99 ms"] if kind == "events" else [])]
    header += ["drain s", f"ended {_GOOD_END[kind]}", "ended otherwise"]
    rows, notes = [], []
    for name, row in part["servers"].items():
        if "error" in row:
            rows.append([name, "failed"] + ["-"] * (len(header) - 2))
            notes.append(f"{name}: {row['error']}")
            continue
        rows.append(_row(kind, name, row, hold))
        if row["reason"]:
            notes.append(f"{name}: first failure: {row['reason']}")
        if row["drain_s"] is None:
            notes.append(f"{name}: still there {DRAIN_PATIENCE} s after SIGTERM; last line: {row['last_words']}")
    title = f"{part['count']:,} {_TITLES[kind]}, held for {hold} s"
    mark = "- " if markdown else ""
    return table.render(title, header, rows, markdown) + "".join(f"{mark}{note}\n" for note in notes)


def _row(kind, name, row, hold):
    others = {end: number for end, number in row["ends"].items() if end != _GOOD_END[kind]}
    cells = [name, table.number(row["open"]), table.number(row["refused"]), table.number(row["lost"])]
    cells += [table.number(row[key], 1) for key in ("open_s", "pss_kb", "private_kb", "worker_mb")]
    cells.append(f"{row['busy_percent']:.1f}%")
    if kind == "events":
        cells += [table.number(row["events"] / hold), table.number(row["late_p99_ms"], 1)]
    drained = "-" if row["drain_s"] is None else table.number(row["drain_s"], 2)
    good = table.number(row["ends"].get(_GOOD_END[kind], 0))
    return [*cells, drained, good, ", ".join(f"{end}: {number:,}" for end, number in others.items()) or "0"]
