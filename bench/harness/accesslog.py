"""`run.py accesslog`: what an access log in a file costs, as the share of req/s that is left with it."""

import tempfile
from pathlib import Path
from statistics import median

from . import measure, servers, table, workloads
from .client import CONNECTIONS
from .compare import rotated
from .environment import say
from .process import MeasurementError

# Servers that take Gunicorn's option.
CAPABLE = ("ferricorn", "gunicorn", "gthread")


def run(names, rig, rounds):
    """Raw hello with and without; the log must hold a line for every request."""
    samples = {name: {"without": [], "with": []} for name in names}
    for round_number in range(rounds):
        for name in names:
            for variant in rotated(["without", "with"], round_number):
                sample = _once(name, variant, rig)
                samples[name][variant].append(sample.as_dict())
                say(f"accesslog, round {round_number + 1}/{rounds}: {name} {variant}: {sample.rps:,.0f} req/s")
    return {"accesslog": {name: _summary(pair) for name, pair in samples.items()}}


def _summary(pair):
    rates = {variant: median(sample["rps"] for sample in samples) for variant, samples in pair.items()}
    cpu = {variant: median(sample["cpu_us"] for sample in samples) for variant, samples in pair.items()}
    # Pairs of one round met the same machine.
    ratios = [with_["rps"] / without["rps"] for with_, without in zip(pair["with"], pair["without"])]
    return {"rps": rates, "cpu_us": cpu, "ratio": median(ratios), "samples": pair}


def _once(name, variant, rig):
    workload = workloads.WSGI["raw"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        options = ["--access-logfile", log] if variant == "with" else []
        sample = measure.full_load(
            lambda port: servers.WSGI[name].command(workload.app, port, 1, 1, *options), workload, rig
        )
        if options:
            _count(log, sample)
    return sample


def _count(log, sample):
    """Faster because it loses lines would be no result."""
    with log.open("rb") as file:
        lines = sum(1 for _ in file)
    answered = sample.requests + sample.requests_beside
    # wrk hangs up on what is under way when its time is over, twice.
    if not answered <= lines <= answered + 2 * CONNECTIONS:
        raise MeasurementError(f"{lines} lines in the access log for {answered} requests")


def report(result, markdown):
    header = ["server", "req/s without", "req/s with", "with / without", "CPU µs/req without", "CPU µs/req with"]
    rows = []
    for name, figures in result["accesslog"].items():
        rates = [table.number(figures["rps"][variant]) for variant in ("without", "with")]
        cpu = [table.number(figures["cpu_us"][variant], 1) for variant in ("without", "with")]
        rows.append([name, *rates, f"{figures['ratio']:.3f}", *cpu])
    return table.render("Access log to a file, raw WSGI", header, rows, markdown)
