"""`run.py stuck`: what requests that hang for 10 s cost the requests beside them.

Two workers of four threads. 100 instant requests per second, first alone, then beside slow ones that arrive every 3 s.
Nothing is pinned: a computing thread and the client need a core each, as they would have in production."""

import http.client
import itertools
import threading
import time

from . import client, servers, table
from .environment import say
from .process import Running, free_port

WORKERS, THREADS = 2, 4
RATE, CONNECTIONS = 100, 32
# Looking at the sockets more often would take a core from the server.
POLL_US = 100
SLOW_EVERY = 3
SLOW_SECONDS = 10
SLOW_PATIENCE = 40
CALM_SECONDS = 10
KINDS = ("sleep", "burn", "lock", "gil")


def run(names, seconds, kinds):
    return {"stuck": {name: _server(name, seconds, kinds) for name in names}}


def _server(name, seconds, kinds):
    port = free_port()
    with Running(servers.WSGI[name].command("stuck_app:app", port, WORKERS, THREADS)) as server:
        server.wait_until_listening(port)
        say(f"stuck: {name}: {CALM_SECONDS} s of instant requests alone")
        calm = _instant(port, CALM_SECONDS)
        say(f"stuck: {name}: {seconds} s beside {', '.join(kinds)} of {SLOW_SECONDS} s, one every {SLOW_EVERY} s")
        slow = _Slow(port, kinds)
        slow.start(seconds)
        beside = _instant(port, seconds)
        return {"calm": calm, "stuck": beside, "slow": slow.outcomes()}


def _instant(port, seconds):
    return client.openloop("/", port, RATE, seconds, connections=CONNECTIONS, warmup=0, poll_us=POLL_US)


class _Slow:
    """Sends the slow requests, each from a thread and over a connection of its own."""

    def __init__(self, port, kinds):
        self._port = port
        self._kinds = itertools.cycle(kinds)
        self._outcomes = []
        self._threads = []

    def start(self, seconds):
        for delay in range(0, seconds, SLOW_EVERY):
            thread = threading.Thread(target=self._request, args=(next(self._kinds), delay), daemon=True)
            thread.start()
            self._threads.append(thread)

    def outcomes(self):
        for thread in self._threads:
            thread.join(SLOW_PATIENCE + SLOW_SECONDS)
        return sorted(self._outcomes, key=lambda outcome: outcome["at_s"])

    def _request(self, kind, delay):
        time.sleep(delay)
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SLOW_PATIENCE)
        try:
            connection.request("GET", f"/{kind}")
            result = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            result = repr(error)
        finally:
            connection.close()
        took = time.monotonic() - begun
        self._outcomes.append({"kind": kind, "at_s": delay, "result": result, "took_s": round(took, 2)})


def failed(result):
    """Whether any request, instant or slow, was not answered properly."""
    return any(
        part["calm"]["failed"] or part["stuck"]["failed"] or any(slow["result"] != 200 for slow in part["slow"])
        for part in result["stuck"].values()
    )


def report(result, markdown):
    header = ["server", "phase", "answered", "failed", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "p99 vs calm"]
    rows, notes = [], []
    for name, part in result["stuck"].items():
        for phase in ("calm", "stuck"):
            figures = part[phase]
            times = [table.number(figures[key], 2) for key in ("p50_ms", "p99_ms", "p999_ms", "max_ms")]
            versus = table.ratio(figures["p99_ms"] / part["calm"]["p99_ms"] if part["calm"]["p99_ms"] else None)
            rows.append([name, phase, str(figures["answered"]), str(figures["failed"]), *times, versus])
            if figures["failed"]:
                notes.append(f"{name}, {phase}: first failure: {figures['reason']}")
        notes += _slow_notes(name, part["slow"])
    title = f"{RATE} instant requests per second; stuck: beside requests that hang for {SLOW_SECONDS} s"
    mark = "- " if markdown else ""
    return table.render(title, header, rows, markdown) + "".join(f"{mark}{note}\n" for note in notes)


def _slow_notes(name, slow):
    good = [request["took_s"] for request in slow if request["result"] == 200]
    longest = f", the longest after {max(good):.1f} s" if good else ""
    yield f"{name}: {len(good)} of {len(slow)} slow requests answered with 200{longest}"
    for request in slow:
        if request["result"] != 200:
            yield f"{name}: {request['kind']} sent at {request['at_s']} s: {request['result']} after {request['took_s']} s"
