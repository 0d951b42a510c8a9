"""`run.py`: every server under every workload, interleaved; then latencies at an equal rate. Prints medians."""

from statistics import median

from . import measure, table
from .environment import say
from .process import MeasurementError

# A server is asked for an equal rate only if it can serve this much more: at its limit it would only queue.
HEADROOM = 1.1
# Below this share of its core a server waited for the client, and its req/s is a lower bound.
SATURATED_PERCENT = 95


def run(workloads, servers, rig, rounds, fraction, rate, with_equal_rate):
    """All measurements of `servers`, by name. Returns what `report` prints, as plain data."""
    result = {"workloads": {}, "equal_rate": {}}
    for workload in workloads:
        result["workloads"][workload.name] = _workload(workload, servers, rig, rounds)
    for workload in workloads:
        if with_equal_rate and workload.equal_rate:
            capacities = {
                name: row["median"]["rps"]
                for name, row in result["workloads"][workload.name].items() if "median" in row
            }
            if capacities:
                at = rate or _rate(servers, capacities, fraction)
                result["equal_rate"][workload.name] = _equal_rate(workload, servers, capacities, rig, rounds, at)
    return result


def base_of(names):
    """What the others are compared with."""
    return "ferricorn" if "ferricorn" in names else names[0]


def rotated(names, round_number):
    """Another server goes first each time: drift of the machine falls on all of them."""
    shift = round_number % len(names)
    return names[shift:] + names[:shift]


def medians(samples):
    return {key: median(sample[key] for sample in samples) for key in samples[0] if key != "reason"}


def _command(server, workload):
    return lambda port: server.command(workload.app, port, 1, 1)


def _workload(workload, servers, rig, rounds):
    names = list(servers)
    samples, errors = {name: [] for name in names}, {}

    def once(name):
        sample = measure.full_load(_command(servers[name], workload), workload, rig)
        samples[name].append(sample.as_dict())
        return f"{sample.rps:,.0f} req/s"

    _interleave(workload.name, names, rounds, once, errors)
    return _rows(names, samples, errors)


def _equal_rate(workload, servers, capacities, rig, rounds, rate):
    samples, errors = {name: [] for name in capacities}, {}
    for name, capacity in capacities.items():
        if capacity < rate * HEADROOM:
            errors[name] = f"too slow: {capacity:,.0f} req/s at most"

    def once(name):
        figures = measure.equal_rate(_command(servers[name], workload), workload, rig, rate)
        samples[name].append(figures)
        failed = f", {figures['failed']} failed: {figures['reason']}" if figures["failed"] else ""
        return f"p99 {figures['p99_ms']:.2f} ms{failed}"

    _interleave(f"{workload.name} at {rate:,} req/s", list(capacities), rounds, once, errors)
    return {"rate": rate, "servers": _rows(list(capacities), samples, errors)}


def _interleave(what, names, rounds, once, errors):
    for round_number in range(rounds):
        for name in rotated(names, round_number):
            if name in errors:
                continue
            try:
                outcome = once(name)
            except MeasurementError as error:
                outcome = errors[name] = str(error)
            say(f"{what}, round {round_number + 1}/{rounds}: {name}: {outcome}")


def _rows(names, samples, errors):
    rows = {}
    for name in names:
        if name in errors:
            rows[name] = {"error": errors[name]}
        else:
            rows[name] = {"median": medians(samples[name]), "samples": samples[name]}
    return rows


def _rate(servers, capacities, fraction):
    """A share of what the slowest compiled peer can do, so that every compiled server has room."""
    peers = [rps for name, rps in capacities.items() if servers[name].native and name != "ferricorn"]
    return max(1, round(fraction * min(peers or capacities.values())))


def failed(result):
    """Whether any server failed under full load, or lost a request at a rate that it can serve."""
    rows = [row for part in result["workloads"].values() for row in part.values()]
    paced = [row for part in result["equal_rate"].values() for row in part["servers"].values()]
    lost = (sample["failed"] for row in paced for sample in row.get("samples", []))
    return any("error" in row for row in rows) or any(lost)


def report(result, titles, markdown):
    """The tables, as text."""
    parts = [_full_load_table(titles[name], rows, markdown) for name, rows in result["workloads"].items()]
    parts += [_equal_rate_table(titles[name], part, markdown) for name, part in result["equal_rate"].items()]
    parts += _best_peer_table(result["workloads"], titles, markdown)
    return "\n".join(parts)


def _full_load_table(title, rows, markdown):
    base = base_of([name for name in rows if "median" in rows[name]] or list(rows))
    header = ["server", "req/s", "spread", f"{base} is", "CPU µs/req", "core busy", "p50 ms", "p99 ms"]
    header += ["PSS idle MB", "PSS loaded MB", "PSS all MB"]
    lines = [_full_load_row(name, row, rows[base], len(header)) for name, row in rows.items()]
    return table.render(f"{title}: full load", header, lines, markdown) + _errors(rows, markdown)


def _full_load_row(name, row, base, width):
    if "error" in row:
        return [name, "failed"] + ["-"] * (width - 2)
    middle, rates = row["median"], [sample["rps"] for sample in row["samples"]]
    return [
        name,
        table.number(middle["rps"]),
        f"{(max(rates) - min(rates)) / middle['rps']:.0%}" if len(rates) > 1 else "-",
        table.ratio(base["median"]["rps"] / middle["rps"] if "median" in base else None),
        table.number(middle["cpu_us"], 1),
        f"{middle['busy_percent']:.0f}%" + ("" if middle["busy_percent"] >= SATURATED_PERCENT else " *"),
        table.number(middle["p50_ms"], 2),
        table.number(middle["p99_ms"], 2),
        table.number(middle["idle_worker_mb"], 1),
        table.number(middle["loaded_worker_mb"], 1),
        table.number(middle["loaded_tree_mb"], 1),
    ]


def _equal_rate_table(title, part, markdown):
    header = ["server", "p50 ms", "p99 ms", "p99 of rounds", "p99.9 ms", "max ms", "failed"]
    lines = []
    for name, row in part["servers"].items():
        if "error" in row:
            lines.append([name] + ["-"] * (len(header) - 1))
            continue
        p50, p99, p999, slowest = (
            table.number(row["median"][key], 3) for key in ("p50_ms", "p99_ms", "p999_ms", "max_ms")
        )
        rounds = sorted(sample["p99_ms"] for sample in row["samples"])
        lost = sum(sample["failed"] for sample in row["samples"])
        lines.append([name, p50, p99, f"{rounds[0]:.3f}-{rounds[-1]:.3f}", p999, slowest, str(lost)])
    head = f"{title}: latency at {part['rate']:,} req/s"
    return table.render(head, header, lines, markdown) + _errors(part["servers"], markdown)


def _best_peer_table(workloads, titles, markdown):
    """Ferricorn beside the fastest of the others, one line for each workload; nothing unless both ran."""
    lines = []
    for workload, rows in workloads.items():
        measured = {name: row["median"] for name, row in rows.items() if "median" in row}
        own = measured.pop("ferricorn", None)
        if own and measured:
            best = max(measured, key=lambda name: measured[name]["rps"])
            peer = measured[best]
            figures = [table.number(own["rps"]), best, table.number(peer["rps"]), table.ratio(own["rps"] / peer["rps"])]
            lines.append([titles[workload], *figures, table.ratio(own["cpu_us"] / peer["cpu_us"])])
    header = ["workload", "ferricorn req/s", "best peer", "its req/s", "req/s", "CPU/req"]
    return [table.render("ferricorn beside the best peer of each workload", header, lines, markdown)] if lines else []


def _errors(rows, markdown):
    lines = [f"{name}: {row['error']}" for name, row in rows.items() if "error" in row]
    mark = "- " if markdown else ""
    return "".join(f"{mark}{line}\n" for line in lines)
