"""What one option costs: the same server with and without it, in pairs. Not for: which option (`accesslog`, `observer`)."""

from statistics import median

from . import measure, table, workloads
from .compare import rotated
from .environment import say

VARIANTS = ("without", "with")


def run(what, names, rig, rounds, once):
    """Raw hello with and without; `once(name, variant)` takes a sample."""
    samples = {name: {variant: [] for variant in VARIANTS} for name in names}
    for round_number in range(rounds):
        for name in names:
            for variant in rotated(list(VARIANTS), round_number):
                sample = once(name, variant)
                samples[name][variant].append(sample.as_dict())
                say(f"{what}, round {round_number + 1}/{rounds}: {name} {variant}: {sample.rps:,.0f} req/s")
    return {what: {name: _summary(pair) for name, pair in samples.items()}}


def full_load(server, options, rig):
    """One sample of a server with these options."""
    workload = workloads.WSGI["raw"]
    return measure.full_load(lambda port: server.command(workload.app, port, 1, 1, *options), workload, rig)


def _summary(pair):
    figures = {
        kind: {variant: median(sample[kind] for sample in samples) for variant, samples in pair.items()}
        for kind in ("rps", "cpu_us", "p99_ms")
    }
    # Pairs of one round met the same machine.
    ratios = {
        kind: median(one[kind] / other[kind] for one, other in zip(pair["with"], pair["without"])) for kind in ("rps", "p99_ms")
    }
    return {**figures, "ratio": ratios["rps"], "p99_ratio": ratios["p99_ms"], "samples": pair}


def report(title, figures_of, markdown):
    header = [
        "server", "req/s without", "req/s with", "with / without", "CPU µs/req without", "CPU µs/req with", "p99 ms without",
        "p99 ms with", "with / without",
    ]
    rows = []
    for name, figures in figures_of.items():
        rates = [table.number(figures["rps"][variant]) for variant in VARIANTS]
        cpu = [table.number(figures["cpu_us"][variant], 1) for variant in VARIANTS]
        late = [table.number(figures["p99_ms"][variant], 2) for variant in VARIANTS]
        rows.append([name, *rates, f"{figures['ratio']:.3f}", *cpu, *late, f"{figures['p99_ratio']:.3f}"])
    return table.render(title, header, rows, markdown)
