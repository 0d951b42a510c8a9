"""One cell: a fault, a framework, a host, a seed. Starts what it needs, lets it be calm, causes the fault, ends it, and writes
down what the observer said. The label is written here, where the observer cannot see it.

Not here: whether that was right (`score`)."""

import contextlib
import shutil
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from harness.process import MeasurementError

from . import decoys, probe
from .children import pause
from .faults import Impossible, Unproven, View
from .faults.base import TIMEOUT, Timing
from .hosts import KINDS
from .stage import Stage

# When a fault is looked at: the first of its requests have been stuck for some seconds, and none is over yet.
PROOF_AFTER = 3.5
# A proof is looked for again and again until then.
PROOF_PATIENCE = 9.0
PROOF_WINDOW = 12.0
# What is not part of the timing: start, attaching, the end.
OVERHEAD = 5.5


@dataclass(frozen=True)
class Cell:
    """What is measured."""

    fault: object
    framework: str
    host: str
    seed: int

    @property
    def name(self):
        return f"{self.fault.name} {self.framework} {self.host} {self.seed}"

    def timing(self, quick):
        """Shorter in the subset for every commit."""
        timing = self.fault.timing
        if not quick or timing != Timing():
            return timing
        return Timing(calm=4, window=10.5, settle=2)

    def estimate(self, quick):
        timing = self.timing(quick)
        return timing.calm + timing.window + timing.settle + OVERHEAD


def describe(cell, grade):
    """What is known of a cell before it runs."""
    fault = cell.fault
    harmless = cell.host in fault.harmless_on
    kills = fault.kills and not harmless and cell.host not in fault.no_kill_on
    return {
        "cell": cell.name, "fault": fault.name, "variant": fault.variant, "held_out": fault.held_out,
        "framework": cell.framework, "host": cell.host, "seed": cell.seed, "grade": grade,
        "label": "" if harmless else fault.cause, "accepted": [] if harmless else fault.accepted(grade),
        "wrong_behind": sorted(fault.wrong_behind), "kills": kills and bool(fault.cause),
    }


def run(cell, shared, lane, options):
    """The cell's row: facts, or why there are none."""
    return _row(describe(cell, options.grade), lambda: _run(cell, shared, lane, options))


def prove(cell, shared, lane, options):
    """Whether the fault is what it claims to be: its row has what was seen, or what was there instead."""
    return _row(describe(cell, "A"), lambda: _prove(cell, shared, lane, options))


def _row(row, facts):
    begun = time.monotonic()
    try:
        row |= facts()
    except Impossible as reason:
        row["skipped"] = str(reason)
    except MeasurementError as reason:
        row["error"] = str(reason)
    except Exception as mistake:
        # Of the benchmark's own: one cell less, and not the end of a run of hours.
        place = traceback.extract_tb(mistake.__traceback__)[-1]
        row["error"] = f"the benchmark itself: {mistake!r} at {Path(place.filename).name}:{place.lineno}"
    row["seconds"] = round(time.monotonic() - begun, 1)
    return row


def _run(cell, shared, lane, options):
    fault, timing = cell.fault, cell.timing(options.quick)
    with Stage(shared, fault, cell.framework, lane, cell.seed) as stage:
        fault.prepare(stage)
        stage.server = stage.enter(KINDS[cell.host](stage, shared.venv, options.grade, options.mode))
        try:
            fault.calm(stage)
            visitors = stage.begin_visits(cell.seed)
            decoy = decoys.choose(stage)
            pause(timing.calm * 0.3)
            decoys.play(decoy, stage)
            pause(timing.calm * 0.7)
            fault.inject(stage)
            # Data that had to be changed first are changed now.
            injected = time.time()
            pause(injected + timing.window - time.time())
        finally:
            fault.heal(stage)
        healed = time.time()
        pause(timing.settle)
        incidents, kills = stage.server.incidents(), stage.server.kills()
        visits = visitors.stop()
        if options.keep:
            _keep(stage, cell, options.keep)
    return {
        "decoy": decoy, "injected_at": injected, "healed_at": healed, "incidents": incidents, "workers_killed": kills,
        "visits": _visits(visits, injected, healed), **_deadline(fault, visits, injected),
    }


def _visits(visits, injected, healed):
    """How many there were, and how many got no answer or a wrong one."""
    def count(chosen):
        lost = [visit for visit in chosen if not _answered(visit)]
        return {"all": len(chosen), "lost": len(lost)}

    return {
        "calm": count([visit for visit in visits if visit["at"] + visit["took"] < injected]),
        "fault": count([visit for visit in visits if visit["at"] + visit["took"] >= injected and visit["at"] < healed]),
    }


def _answered(visit):
    # What a decoy asks for does not exist, and is answered so.
    return visit["status"] is not None and (visit["status"] < 400 or visit["flow"] == "crawler")


def _deadline(fault, visits, injected):
    """When the first of the requests that are hit had been at work for its whole time."""
    hit = [
        visit["at"] for visit in visits
        if visit["flow"] == "victim" and visit["at"] >= injected - 1 and visit["at"] + visit["took"] >= injected
        and (visit["took"] > TIMEOUT / 2 or not _answered(visit))
    ]
    first = max(min(hit), injected) if hit else injected
    return {"stuck_at": min(hit) if hit else None, "deadline_at": first + TIMEOUT}


def _keep(stage, cell, folder):
    """What the server and the observer wrote, for whoever wants to know why."""
    place = folder / cell.name.replace("/", "_").replace(" ", "_")
    shutil.rmtree(place, ignore_errors=True)
    # Files of the cell's partners, and what is no file.
    ignore = shutil.ignore_patterns("data", "uploads", "disk", "pgbouncer", "*.pem", "*.sock", "*.rdb")
    with contextlib.suppress(OSError, shutil.Error):
        shutil.copytree(stage.folder, place, ignore=ignore, ignore_dangling_symlinks=True)


def _prove(cell, shared, lane, options):
    fault = cell.fault
    with Stage(shared, fault, cell.framework, lane, cell.seed, bare=True) as stage:
        fault.prepare(stage)
        stage.server = stage.enter(KINDS[cell.host](stage, shared.venv, "A"))
        try:
            fault.calm(stage)
            visitors = stage.begin_visits(cell.seed)
            pause(4)
            injected = time.time()
            fault.inject(stage)
            pause(injected + PROOF_AFTER - time.time())
            seen, against = _look(stage, injected)
            pause(injected + PROOF_WINDOW - time.time())
        finally:
            fault.heal(stage)
        visits = visitors.stop()
        timeouts = stage.server.log().count("WORKER TIMEOUT")
        if options.keep:
            _keep(stage, cell, options.keep)
    facts = _visits(visits, injected, time.time())
    row = {"seen": seen, "timeouts": timeouts, "visits": facts}
    if facts["calm"]["lost"]:
        against = f"{facts['calm']['lost']} of {facts['calm']['all']} visits were lost in calm; {against}"
    return row | ({"error": against} if against else {})


def _look(stage, injected):
    """What proves the fault, and what speaks against it."""
    while True:
        try:
            return stage.fault.prove(View(stage, probe.threads(stage.server.workers()))), ""
        except Unproven as reason:
            if time.time() > injected + PROOF_PATIENCE:
                return "", str(reason)
            pause(0.5)
