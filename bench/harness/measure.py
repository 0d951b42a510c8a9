"""One measurement: start a server on its core, verify it, warm it up, load it from the other core, end it."""

from contextlib import contextmanager
from dataclasses import asdict, dataclass

from . import client
from .process import MeasurementError, Running, cpu_between, free_port


@dataclass(frozen=True)
class Rig:
    """The cores and durations that every measurement of a run shares."""

    server_core: int
    client_core: int
    seconds: int
    warmup: int = 1


@dataclass(frozen=True)
class Sample:
    """One server under full load, once."""

    requests: int
    # Answered before and beside the measurement: verification and warm-up.
    requests_beside: int
    rps: float
    cpu_us: float
    # Share of its core that the server used. Well under 100: the client was the limit.
    busy_percent: float
    p50_ms: float
    p99_ms: float
    keep_alive: bool
    idle_worker_mb: float
    loaded_worker_mb: float
    loaded_tree_mb: float

    def as_dict(self):
        return asdict(self)


@contextmanager
def _serving(command, workload, rig):
    """A started and verified server; if anything fails, its own words join the reason."""
    port = free_port()
    with Running(command(port), rig.server_core) as server:
        server.wait_until_listening(port)
        try:
            yield server, port, client.check(workload, port)
        except MeasurementError as error:
            raise MeasurementError(f"{error}; the server's last line: {server.last_words()}") from error


def full_load(command, workload, rig):
    """`command(port)` is what to start. A closed loop over 64 connections, as fast as the server answers."""
    with _serving(command, workload, rig) as (server, port, kept):
        idle = server.memory()
        warm = client.full_load(workload, port, rig.warmup, rig.client_core)
        before = server.cpu()
        load = client.full_load(workload, port, rig.seconds, rig.client_core)
        used = cpu_between(before, server.cpu())
        loaded = server.memory()
    return Sample(
        requests=load["requests"],
        requests_beside=warm["requests"] + 2,
        rps=load["requests"] / load["duration_us"] * 1e6,
        cpu_us=used / load["requests"],
        busy_percent=used / load["duration_us"] * 100,
        p50_ms=load["p50_us"] / 1000,
        p99_ms=load["p99_us"] / 1000,
        keep_alive=kept,
        idle_worker_mb=idle.worker,
        loaded_worker_mb=loaded.worker,
        loaded_tree_mb=loaded.tree,
    )


def equal_rate(command, workload, rig, rate):
    """The same number of requests per second for every server, counted from their intended starts."""
    with _serving(command, workload, rig) as (_, port, _):
        client.full_load(workload, port, rig.warmup, rig.client_core)
        return client.openloop(workload.path, port, rate, rig.seconds, rig.client_core, warmup=rig.warmup)
