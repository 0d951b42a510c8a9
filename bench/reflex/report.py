"""The tables of a run, for terminals and for documents. Not here: the figures (`score`)."""

from collections import Counter

from harness import table

from . import score


def render(result, markdown=False):
    rows, grade = result["cells"], result["options"]["grade"]
    parts = [_accuracy(rows, markdown), _times(rows, markdown), _faults(rows, markdown), _confusion(rows, markdown)]
    if result["options"].get("mode", "advise") in ("protect", "act"):
        parts.append(_remedies(rows, markdown))
    parts += [_targets(rows, grade, result["options"]["smoke"], markdown), _notes(rows, markdown)]
    return "\n".join(part for part in parts if part)


def _accuracy(rows, markdown):
    header = ["host, cells", "n", "right first", "95 %", "cause alone", "of three", "abstained", "ECE", "before the kill"]
    header.append("failed")
    lines = []
    for host, parts in score.groups(rows).items():
        for name, found in parts.items():
            if not found["top1"]["of"]:
                continue
            interval = found["top1"]["interval"]
            lines.append([
                f"{host}, {name}", str(found["top1"]["of"]), percent(found["top1"]["share"]),
                f"{percent(interval[0])} - {percent(interval[1])}", percent(found["alone"]["share"]),
                percent(found["top3"]["share"]), percent(found["abstained"]["share"]),
                table.number(found["calibration"]["ece"], 3), percent(found["in_time"]["share"]), str(found["errors"]),
            ])
    return table.render("the right cause", header, lines, markdown) if lines else ""


def _times(rows, markdown):
    header = ["host", "detected p50", "p90 s", "diagnosed p50", "p90 s", "requests lost", "of", "lost, it says"]
    header += ["controls", "raised", "raised too early", "seen by"]
    lines = []
    for host, parts in score.groups(rows).items():
        found = parts["all"]
        sources = ", ".join(f"{name} {count}" for name, count in sorted(found["sources"].items(), key=lambda one: -one[1]))
        lines.append([
            host, *(table.number(found[what][percentile], 1) for what in ("detect", "diagnose") for percentile in ("p50", "p90")),
            str(found["requests"]["lost"]), str(found["requests"]["all"]), str(found["requests"]["lost_said"]),
            str(found["controls"]["cells"]), str(found["controls"]["raised"]), str(found["false_before"]), sources or "-",
        ])
    return table.render("time from the injection, requests, false incidents", header, lines, markdown)


def _remedies(rows, markdown):
    """What was done about each fault, and what it came to. On controls nothing may be done."""
    lines = []
    for row in rows:
        if "incidents" not in row:
            continue
        acted = [one for incident in row["incidents"] for one in incident.get("actions") or () if one["number"]]
        done = Counter(f"{one['action']} {one['outcome']}" for one in acted)
        visits = row["visits"]["fault"]
        lines.append([
            row["fault"], row["host"], str(visits["lost"]), str(visits["all"]), str(row.get("workers_killed", "-")),
            ", ".join(f"{what} {count}" for what, count in sorted(done.items())) or "-",
        ])
    return table.render("what was done", ["fault", "host", "lost", "of", "workers killed", "actions"], lines, markdown)


def _faults(rows, markdown):
    hosts = list(dict.fromkeys(row["host"] for row in rows))
    header = ["fault", *(f"{host}: right" for host in hosts), "seconds a cell"]
    lines = []
    for fault in dict.fromkeys(row["fault"] for row in rows):
        of_fault = [row for row in rows if row["fault"] == fault]
        cells = []
        for host in hosts:
            verdicts = [verdict for row in of_fault if row["host"] == host and (verdict := score.judge(row)) is not None]
            right = sum(not verdict["false"] if "right" not in verdict else verdict["right"] for verdict in verdicts)
            cells.append(f"{right} of {len(verdicts)}" if verdicts else "-")
        held_out = " (held out)" if of_fault[0]["held_out"] else ""
        seconds = sum(row["seconds"] for row in of_fault) / len(of_fault)
        lines.append([fault + held_out, *cells, table.number(seconds, 0)])
    return table.render("each fault", header, lines, markdown)


def _confusion(rows, markdown):
    found = score.summary(rows)["confusion"]
    if not found:
        return ""
    lines = []
    for label, causes in found.items():
        said = sorted(causes.items(), key=lambda one: (one[0] != label, -one[1]))
        lines.append([label, str(sum(causes.values())), ", ".join(f"{cause} {count}" for cause, count in said)])
    return table.render("what was caused, and what was named first", ["caused", "n", "named"], lines, markdown)


def _targets(rows, grade, few, markdown):
    lines = [
        [what, shown(value), ("at most " if wanted == 0 else "at least ") + shown(wanted), "met" if met else "MISSED"]
        for what, value, wanted, met in score.targets(rows, grade, few)
    ]
    return table.render(f"targets, grade {grade}", ["what", "is", "wanted", "verdict"], lines, markdown) if lines else ""


def _notes(rows, markdown):
    """What was wrong, one line each: the place to begin to look."""
    mark, lines = "- " if markdown else "", []
    for row in rows:
        verdict = score.judge(row)
        if "error" in row:
            lines.append(f"{row['cell']}: failed: {row['error']}")
        elif "skipped" in row:
            lines.append(f"{row['cell']}: left out: {row['skipped']}")
        elif row["label"] and not verdict["right"]:
            sure = table.number(verdict["confidence"], 2)
            lines.append(f"{row['cell']}: named {verdict['cause']} ({sure}) after the decoy {row['decoy']!r}")
        if verdict and verdict["false"]:
            lines.append(f"{row['cell']}: raised without a reason: {', '.join(map(str, verdict['false']))}")
    return "".join(f"{mark}{line}\n" for line in lines)


def proofs(rows, markdown=False):
    """The table of `--verify-faults`."""
    lines = []
    for row in rows:
        state = "skipped" if "skipped" in row else "FAILED" if "error" in row else "proven"
        said = row.get("skipped") or row.get("error") or row.get("seen", "")
        lost = row.get("visits", {}).get("fault", {})
        lines.append([
            f"{row['fault']}, {row['framework']}, {row['host']}", state, str(row.get("timeouts", "-")),
            f"{lost.get('lost', '-')} of {lost.get('all', '-')}", table.number(row["seconds"], 0), said,
        ])
    header = ["fault", "state", "WORKER TIMEOUT", "visits lost", "s", "seen"]
    return table.render("what each fault does", header, lines, markdown)


def line(row):
    """A row in one line, for who waits."""
    if "skipped" in row:
        return f"left out: {row['skipped']}"
    if "error" in row:
        return f"FAILED: {row['error']}"
    if "seen" in row:
        return f"proven: {row['seen']}"
    verdict = score.judge(row)
    if not row["label"]:
        return f"RAISED {', '.join(map(str, verdict['false']))}" if verdict["false"] else "quiet, as it should be"
    sure = table.number(verdict["confidence"], 2)
    after = "" if verdict["diagnose_s"] is None else f", after {verdict['diagnose_s']:.1f} s"
    return f"{'right' if verdict['right'] else 'WRONG'}: {verdict['cause']} ({sure}){after}"


def percent(value):
    return "-" if value is None else f"{100 * value:.0f} %"


def shown(value):
    return percent(value) if isinstance(value, float) else str(value)
