"""Whether the observer was right: from the rows of a run to figures. Pure; tested on made-up incidents.

The first incident is the one that weighs most after the injection. It is right if it names the label as its cause, or as what
is behind its cause (an exhausted pool because of a slow query names both). Two causes are remarks about others, and count in
`also`."""

import math
from collections import Counter

REMARKS = ("worker_class.sync_for_io", "worker_class.blocking_in_loop")
UNKNOWN = "unknown"
NONE = "(nothing)"
# Clocks of two processes, and a request that was sent just before.
SLACK = 0.5
BINS = 10
# Share that must be right, by host, or where less can be seen.
RIGHT = {"ferricorn": 0.95, "gunicorn": 0.90}
RIGHT_BLIND = 0.65
IN_TIME = 0.95


def weight(incident):
    """What an incident weighs: whether people are shown it unasked, then its requests, then how sure it is."""
    requests = max(incident.get("requests_stuck") or 0, incident.get("requests_lost") or 0)
    return is_raised(incident), requests, incident.get("confidence") or 0.0


def ranked(row):
    """The incidents that were seen after the injection, the heaviest first."""
    seen = [one for one in row["incidents"] if (one.get("last_at") or one.get("noted_at") or 0) >= row["injected_at"] - SLACK]
    return sorted(seen, key=weight, reverse=True)


def named(incident):
    """The codes that an incident's headline names."""
    because = (incident.get("because") or {}).get("cause")
    return [code for code in (incident.get("cause"), because) if code]


def is_right(incident, accepted, wrong_behind=()):
    codes = named(incident)
    if set(codes) & set(wrong_behind):
        return False
    remarks = [code for code in incident.get("also") or () if code in REMARKS]
    return bool(set(codes + remarks) & set(accepted))


def candidates(incidents):
    """Distinct codes, the most likely first: what the first incident names, what else fits it, the other incidents' causes."""
    if not incidents:
        return []
    first, codes = incidents[0], []
    others = sorted(first.get("causes") or (), key=lambda one: -one.get("confidence", 0))
    remarks = [code for code in first.get("also") or () if code in REMARKS]
    listed = named(first) + remarks + [one.get("cause") for one in others] + [one.get("cause") for one in incidents[1:]]
    for code in listed:
        if code and code not in codes:
            codes.append(code)
    return codes


def is_raised(incident):
    """Whether it was more than a note."""
    return incident.get("opened_at") is not None or incident.get("state", "note") != "note"


def judge(row):
    """What a row comes to. None for one without facts."""
    if "incidents" not in row:
        return None
    raised = [one for one in row["incidents"] if is_raised(one)]
    if not row["label"]:
        return {"false": [one.get("cause") for one in raised]}
    incidents = ranked(row)
    first = incidents[0] if incidents else {}
    accepted = row["accepted"]
    right = bool(first) and is_right(first, accepted, row.get("wrong_behind", ()))
    noted = [one["noted_at"] for one in incidents if one.get("noted_at", 0) >= row["injected_at"] - SLACK]
    diagnosed = first.get("diagnosed_at") if right else None
    return {
        "cause": first.get("cause", NONE),
        "right": right,
        "right_alone": bool(first) and first.get("cause") in accepted,
        "right_of_three": bool(set(candidates(incidents)[:3]) & set(accepted)),
        "abstained": first.get("cause", UNKNOWN) == UNKNOWN and UNKNOWN not in accepted,
        "confidence": first.get("confidence"),
        "detect_s": max(0.0, min(noted) - row["injected_at"]) if noted else None,
        "diagnose_s": max(0.0, diagnosed - row["injected_at"]) if diagnosed is not None else None,
        "in_time": (diagnosed is not None and diagnosed <= row["deadline_at"]) if row["kills"] else None,
        "source": first.get("source"),
        # Raised before there was anything.
        "false": [one.get("cause") for one in raised if (one.get("opened_at") or math.inf) < row["injected_at"] - SLACK],
        "lost_said": sum(one.get("requests_lost") or 0 for one in incidents),
    }


def wilson(right, of, z=1.96):
    """The interval in which a share lies, with 95 %."""
    if not of:
        return None
    share, square = right / of, z * z / of
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / of + square / (4 * of)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(rows, what):
    """How many of those that have an answer, and the interval."""
    answers = [row[what] for row in rows if row[what] is not None]
    right = sum(answers)
    return {"right": right, "of": len(answers), "share": right / len(answers) if answers else None,
            "interval": wilson(right, len(answers))}


def percentile(values, percent):
    """The smallest value that so many per cent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else None


def calibration(verdicts):
    """How far confidence and share of right answers lie apart, weighed by how many there are; and the bins."""
    pairs = [(one["confidence"], one["right"]) for one in verdicts if one["confidence"] is not None and one["cause"] != UNKNOWN]
    bins, error = [], 0.0
    for number in range(BINS):
        inside = [pair for pair in pairs if min(BINS - 1, int(pair[0] * BINS)) == number]
        if inside:
            said, was = (sum(part) / len(inside) for part in zip(*inside))
            error += abs(said - was) * len(inside) / len(pairs)
            bins.append({"from": number / BINS, "n": len(inside), "confidence": said, "right": was})
    return {"ece": error if pairs else None, "bins": bins}


def times(verdicts, what):
    values = [one[what] for one in verdicts if one[what] is not None]
    return {"n": len(values), "p50": percentile(values, 50), "p90": percentile(values, 90)}


def summary(rows):
    """The figures of some rows."""
    measured = [(row, verdict) for row in rows if (verdict := judge(row)) is not None]
    faulty = [(row, verdict) for row, verdict in measured if row["label"]]
    quiet = [(row, verdict) for row, verdict in measured if not row["label"]]
    verdicts = [verdict for _, verdict in faulty]
    confusion = {}
    for row, verdict in faulty:
        confusion.setdefault(row["label"], Counter())[verdict["cause"]] += 1
    visits = [row["visits"]["fault"] for row, _ in faulty]
    return {
        "cells": len(rows), "measured": len(measured), "errors": sum("error" in row for row in rows),
        "skipped": sum("skipped" in row for row in rows),
        "top1": share(verdicts, "right"), "alone": share(verdicts, "right_alone"), "top3": share(verdicts, "right_of_three"),
        "abstained": share(verdicts, "abstained"), "in_time": share(verdicts, "in_time"),
        "calibration": calibration(verdicts), "detect": times(verdicts, "detect_s"), "diagnose": times(verdicts, "diagnose_s"),
        "sources": dict(Counter(one["source"] or NONE for one in verdicts)),
        "confusion": {label: dict(found) for label, found in sorted(confusion.items())},
        "controls": {"cells": len(quiet), "raised": sum(len(verdict["false"]) for _, verdict in quiet)},
        "false_before": sum(len(verdict["false"]) for _, verdict in faulty),
        "requests": {"all": sum(one["all"] for one in visits), "lost": sum(one["lost"] for one in visits),
                     "lost_said": sum(one["lost_said"] for one in verdicts)},
    }


def groups(rows):
    """The figures by host, and of each host by what else tells cells apart."""
    found = {}
    for host in dict.fromkeys(row["host"] for row in rows):
        of_host = [row for row in rows if row["host"] == host]
        parts = {"all": of_host}
        for held_out, name in ((False, "dev"), (True, "held-out")):
            parts[name] = [row for row in of_host if row["held_out"] == held_out and row["label"]]
        for framework in dict.fromkeys(row["framework"] for row in of_host):
            parts[framework] = [row for row in of_host if row["framework"] == framework]
        found[host] = {name: summary(part) for name, part in parts.items() if part}
    return found


def by_chance(misses, count, wanted):
    """Tells whether so many misses are seen in more than 2 % of runs of so many cells by one that meets its target."""
    share = 1 - wanted
    return sum(math.comb(count, k) * share**k * wanted ** (count - k) for k in range(misses, count + 1)) > 0.02


def targets(rows, grade, few=False):
    """Each target as (what, value, wanted, met). Without a cell to judge, nothing is promised. ``few``: there are so few cells
    that a miss or two say nothing; what they leave open counts as met."""

    def met(value, of, wanted):
        return value >= wanted or few and by_chance(round((1 - value) * of), of, wanted)

    out = []
    for host, parts in groups(rows).items():
        whole = parts["all"]
        wanted = RIGHT[host] if grade in ("A", "B") else RIGHT_BLIND
        if whole["top1"]["of"]:
            value, of = whole["top1"]["share"], whole["top1"]["of"]
            out.append((f"{host}: right cause first", value, wanted, met(value, of, wanted)))
        if whole["in_time"]["of"] and grade == "A":
            value, of = whole["in_time"]["share"], whole["in_time"]["of"]
            out.append((f"{host}: diagnosed before the kill", value, IN_TIME, met(value, of, IN_TIME)))
        if whole["controls"]["cells"]:
            raised = whole["controls"]["raised"]
            out.append((f"{host}: incidents on controls", raised, 0, raised == 0))
    return out
