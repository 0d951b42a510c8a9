"""Does the observer name the right cause? Ordinary applications, ordinary libraries, real servers; a fault is caused, and what
the observer says is compared with what was caused. bench/README.md tells what is measured and how to read it."""

import argparse
import contextlib
import json
import os
import platform
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.environment import SetupError, say
from harness.process import MeasurementError

from . import cell, children, environment, hosts, matrix, report, score
from .faults import FRAMEWORKS, HOSTS

DEBIAN_PYTHON = "/usr/bin/python3"
# Cells of the short run that may come to nothing.
SMOKE_FAILED_MAX = 2
GRADES = {
    "A": "all rights", "B": "the database tells nothing of others", "C": "another user without ptrace, and no database",
    "S": "the same user, but nothing of others' memory and system calls (Yama, containers), and no database",
}


@dataclass
class Options:
    """What every cell of a run shares."""

    grade: str
    quick: bool
    keep: Path | None
    mode: str


def main(argv):
    options = _parser().parse_args(argv)
    try:
        if options.score:
            return _finish(json.loads(options.score.read_text()), options)
        chosen = _chosen(options)
        if options.list:
            return _list(chosen, options)
        return _measure(chosen, options)
    except (SetupError, MeasurementError) as error:
        say(f"reflexbench: {error}")
        return 1
    except (KeyboardInterrupt, children.Stopped):
        return 130


def _chosen(options):
    seeds = range(options.seed, options.seed + options.seeds)
    known = matrix.smoke(options.seed) if options.smoke else matrix.cells(seeds)
    asked = options.fault, options.framework, options.host, options.variant
    chosen = [one for one in known if matrix.fits(one, *asked)]
    if options.verify_faults:
        chosen = [one for one in chosen if one.fault.cause and one.host not in one.fault.harmless_on]
    if not chosen:
        raise SetupError("no cell is like that; --list shows those that there are")
    return chosen


def _list(chosen, options):
    if options.json:
        print(json.dumps([_listed(one, options) for one in chosen], indent=1))
        return 0
    for one in chosen:
        marks = [name for name, is_so in (("held out", one.fault.held_out), ("alone", one.fault.alone)) if is_so]
        print(f"{one.name:58} {', '.join(marks)}".rstrip())
    seconds = matrix.estimate(chosen, options.lanes, options.smoke)
    print(f"{len(chosen)} cells, about {seconds / 60:.0f} minutes with {options.lanes} lanes")
    return 0


def _listed(one, options):
    flow = one.fault.flow
    return {
        **cell.describe(one, options.grade), "alone": one.fault.alone, "seconds": one.estimate(options.smoke),
        "paths": list(flow.paths) if flow else [], "shape": [one.fault.shape.workers, one.fault.shape.threads],
    }


def _measure(chosen, options):
    venv = environment.prepare(options.env, options.python, options.build, options.wheel)
    if reason := hosts.missing(options.grade, venv):
        raise SetupError(reason)
    environment.check(venv, options.host, options.verify_faults)
    result = {
        "machine": _machine(), "versions": environment.versions(venv), "began_at": time.time(),
        "options": {"grade": options.grade, "seed": options.seed, "seeds": options.seeds, "smoke": options.smoke,
                    "variant": options.variant, "lanes": options.lanes, "mode": options.mode},
        "cells": [],
    }
    shared_options = Options(options.grade, options.smoke, options.keep, options.mode)
    with _ends_in_order(), environment.Shared(venv) as shared:
        run = cell.prove if options.verify_faults else cell.run
        try:
            _run_all(chosen, lambda one, lane: run(one, shared, lane, shared_options), options, result)
        finally:
            if options.results and result["cells"]:
                options.results.write_text(json.dumps(result, indent=1))
    result["seconds"] = round(time.time() - result["began_at"])
    return _finish(result, options)


def _finish(result, options):
    rows = result["cells"]
    proving = any("seen" in row or "incidents" not in row and "timeouts" in row for row in rows)
    # A slow machine may keep a fault or two from coming about.
    failed = sum("error" in row for row in rows) > (SMOKE_FAILED_MAX if result["options"]["smoke"] else 0)
    missed = False
    if proving:
        text = report.proofs(rows, options.markdown)
    else:
        result["score"] = score.groups(rows)
        result["targets"] = [list(one) for one in score.targets(rows, result["options"]["grade"], result["options"]["smoke"])]
        missed = options.targets and not all(met for *_, met in result["targets"])
        text = report.render(result, options.markdown)
    if options.results:
        options.results.write_text(json.dumps(result, indent=1))
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print(f"{_head(result)}\n\n{text}", end="")
    return 1 if failed or missed else 0


def _run_all(chosen, run, options, result):
    """Cells that may run beside others in lanes, then those that need the machine for themselves."""
    progress = _Progress(chosen, options, result)
    todo = queue.SimpleQueue()
    beside = [one for one in chosen if not one.fault.alone]
    # A single lane keeps the order.
    alone = [one for one in chosen if one.fault.alone] if options.lanes > 1 else []
    for one in beside if options.lanes > 1 else chosen:
        todo.put(one)
    problems = []

    def lane(number):
        with contextlib.suppress(queue.Empty):
            while not children.STOP.is_set():
                one = todo.get_nowait()
                try:
                    progress.done(one, run(one, number))
                except BaseException as problem:
                    # A mistake of the benchmark's own ends the run.
                    children.STOP.set()
                    problems.append(problem)

    lanes = [threading.Thread(target=lane, args=(number,)) for number in range(options.lanes)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    for one in alone:
        if not children.STOP.is_set():
            progress.done(one, run(one, 0))
    for problem in problems:
        if not isinstance(problem, children.Stopped):
            raise problem
    if children.STOP.is_set():
        raise children.Stopped


class _Progress:
    """Lines for who waits, and rows that survive an end before the end."""

    def __init__(self, chosen, options, result):
        self._all, self._options, self._result = len(chosen), options, result
        self._began, self._lock = time.monotonic(), threading.Lock()
        self._whole = matrix.estimate(chosen, options.lanes, options.smoke)
        self._estimates = {one.name: one.estimate(options.smoke) / (1 if one.fault.alone else options.lanes) for one in chosen}
        self._past = 0.0
        say(f"{self._all} cells, about {self._whole / 60:.0f} minutes")

    def done(self, one, row):
        with self._lock:
            self._result["cells"].append(row)
            self._past += self._estimates[one.name]
            took = time.monotonic() - self._began
            left = took * (self._whole / self._past - 1)
            say(f"[{len(self._result['cells'])}/{self._all}, {_clock(took)}, {_clock(left)} left] {one.name}, "
                f"{row['seconds']:.0f} s: {report.line(row)}")
            if self._options.results:
                self._options.results.write_text(json.dumps(self._result, indent=1))


def _clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


@contextlib.contextmanager
def _ends_in_order():
    """Ctrl-C and SIGTERM end the run at its next wait, and everything that it started on the way out; a second one does not
    interrupt that."""
    def stop(*_):
        if not children.STOP.is_set():
            say("ending what was started")
        children.STOP.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown CPU")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0]}


def _head(result):
    machine, options = result["machine"], result["options"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, load at start {machine['load']:.2f}\n"
        f"{versions}\n"
        f"{len(result['cells'])} cells from seed {options['seed']}, grade {options['grade']}: {GRADES[options['grade']]}"
    )


def _parser():
    parser = argparse.ArgumentParser(prog="bench/run.py reflex", description=__doc__)
    add = parser.add_argument
    add("--smoke", action="store_true", help="one cell for each cause and two controls: at most ten minutes")
    add("--fault", type=_words, default=("*",), metavar="A,B", help="codes or CODE/VARIANT, with *: db.*, control/*")
    add("--framework", type=_some_of(FRAMEWORKS), default=FRAMEWORKS, metavar="A,B", help=f"of {', '.join(FRAMEWORKS)}")
    add("--host", type=_some_of(HOSTS), default=HOSTS, metavar="A,B", help=f"of {', '.join(HOSTS)}")
    add("--variant", choices=("all", "dev", "held-out"), default="all",
        help="those that rules may be developed on, or those that they may not")
    add("--grade", choices=list(GRADES), default="A", help="; ".join(f"{name}: {text}" for name, text in GRADES.items()))
    add("--mode", choices=("observe", "advise", "protect", "act"), default="advise",
        help="how much the observers do by themselves; what that comes to has a table of its own (advise)")
    add("--seed", type=int, default=1, metavar="N", help="the first seed (1)")
    add("--seeds", type=_positive, default=1, metavar="K", help="how many (1)")
    add("--lanes", type=_positive, default=1, metavar="N", help="cells at the same time, unless they need the machine alone (1)")
    add("--targets", action="store_true", help="exit with 1 if a target is missed")
    add("--verify-faults", action="store_true", help="only prove that each fault is what it claims to be; needs no observer")
    add("--list", action="store_true", help="only list the cells, with the time that they take")
    add("--results", type=Path, metavar="FILE", help="write everything that was seen to this file (JSON), cell by cell")
    add("--score", type=Path, metavar="FILE", help="only make the tables of a file of results")
    add("--keep", type=Path, metavar="DIR", help="keep the logs and records of each cell")
    add("--json", action="store_true", help="everything, for scripts")
    add("--markdown", action="store_true", help="tables for documents")
    add("--env", type=Path, default=environment.VENV, metavar="DIR", help="the virtual environment (bench/.venv-reflex)")
    add("--build", choices=environment.BUILDS, default="release", help="how Ferricorn is built; none takes what is installed")
    add("--wheel", type=Path, metavar="PATH", help="install this wheel of Ferricorn instead")
    python = DEBIAN_PYTHON if os.path.exists(DEBIAN_PYTHON) else sys.executable
    add("--python", default=python, metavar="PATH", help=f"interpreter of a new environment ({python})")
    return parser


def _words(text):
    return tuple(text.split(","))


def _some_of(known):
    def parse(text):
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose of {', '.join(known)}")
        return tuple(names)

    return parse


def _positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
