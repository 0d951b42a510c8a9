"""The clients on the other core, and what they report: wrk, wsecho (closed loops, full load), openloop (constant rate)."""

import http.client
import json
import subprocess

from .environment import BENCH, OPENLOOP, WSECHO
from .process import MeasurementError
from .workloads import verify

CONNECTIONS = 64
# Enough for some echoes.
_CHECK_SECONDS = 0.05


def check(workload, port):
    """Two requests over one connection. Returns whether the server kept it open."""
    if workload.message_bytes:
        _wsecho(workload, port, _CHECK_SECONDS, 1)
        return True
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        kept = verify(workload, connection)
        verify(workload, connection)
        return kept
    except (OSError, http.client.HTTPException) as error:
        raise MeasurementError(f"no proper answer: {error!r}") from error
    finally:
        connection.close()


def full_load(workload, port, seconds, core):
    """As fast as the server answers. Returns the client's figures; fails if any request went wrong."""
    if workload.message_bytes:
        return _wsecho(workload, port, seconds, CONNECTIONS, core)
    return _wrk(workload, port, seconds, core)


def _wsecho(workload, port, seconds, connections, core=None):
    command = [*_pinned(core), str(WSECHO), f"127.0.0.1:{port}", workload.path, "--connections", str(connections)]
    command += ["--bytes", str(workload.message_bytes), "--seconds", str(seconds)]
    figures = json.loads(_output(command, seconds + 30))
    if not figures["requests"]:
        raise MeasurementError("wsecho: no echoes")
    return figures


def _wrk(workload, port, seconds, core):
    command = [*_pinned(core), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    command += ["-s", str(BENCH / "wrk.lua"), f"http://127.0.0.1:{port}{workload.path}"]
    if workload.upload:
        command += ["--", workload.method, str(workload.upload)]
    output = _output(command, seconds + 30)
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise MeasurementError(f"wrk: {output.strip()[-200:]}")
    figures = json.loads(line.removeprefix("RESULT "))
    kinds = ("bad_status", "connect_errors", "read_errors", "write_errors", "timeouts")
    wrong = {name: figures[name] for name in kinds if figures[name]}
    if wrong or not figures["requests"]:
        raise MeasurementError(f"wrk: {wrong or 'no answers'}")
    return figures


def openloop(path, port, rate, seconds, core=None, connections=CONNECTIONS, warmup=1, poll_us=0):
    """Constant rate. Returns the client's figures, failures among them."""
    command = [*_pinned(core), str(OPENLOOP), f"127.0.0.1:{port}", path, "--rate", str(rate), "--seconds", str(seconds)]
    command += ["--connections", str(connections), "--warmup", str(warmup), "--poll-us", str(poll_us)]
    return json.loads(_output(command, seconds + warmup + 60))


def _pinned(core):
    return [] if core is None else ["taskset", "--cpu-list", str(core)]


def _output(command, patience):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"{command[-1]}: no result within {patience} s") from error
    if done.returncode != 0:
        raise MeasurementError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
    return done.stdout
