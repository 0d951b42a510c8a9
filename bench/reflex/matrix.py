"""Which cells there are, which are asked for, and which make up the subset for every commit. Pure."""

from fnmatch import fnmatch

from .cell import Cell
from .faults import FAULTS, FRAMEWORKS, HOSTS

# Controls of the subset: those most likely to be taken for trouble.
SMOKE_CONTROLS = ("control/deploys", "control/export")


def cells(seeds=(1,)):
    """All there are, seed by seed, fault by fault."""
    return [
        Cell(fault, framework, host, seed)
        for seed in seeds for fault in FAULTS for framework in fault.frameworks for host in fault.hosts
    ]


def fits(cell, faults=("*",), frameworks=FRAMEWORKS, hosts=HOSTS, variant="all"):
    """Whether a cell is asked for. Faults by their code, or by code and variant."""
    fault = cell.fault
    return (
        any(fnmatch(fault.name, one) or fnmatch(fault.cause or "control", one) for one in faults)
        and cell.framework in frameworks and cell.host in hosts
        and variant in ("all", "held-out" if fault.held_out else "dev")
    )


def smoke(seed=1):
    """One cell for each cause, of the libraries that rules are made for, and two controls; frameworks and hosts by turns."""
    chosen, causes = [], []
    for fault in FAULTS:
        if fault.cause and fault.cause not in causes and not fault.held_out:
            causes.append(fault.cause)
            chosen.append(_by_turns(fault, len(chosen), seed))
    for name in SMOKE_CONTROLS:
        chosen.append(_by_turns(next(fault for fault in FAULTS if fault.name == name), len(chosen), seed))
    return chosen


def _by_turns(fault, turn, seed):
    hosts = [host for host in fault.hosts if host not in fault.harmless_on]
    # Every second one changes the host; where there are two frameworks, those change at another pace.
    frameworks = fault.frameworks
    framework = frameworks[(turn // 2 if len(frameworks) == 2 else turn) % len(frameworks)]
    return Cell(fault, framework, hosts[turn % len(hosts)], seed)


def estimate(chosen, lanes, quick=False):
    """Seconds that the cells take, roughly."""
    beside = sum(cell.estimate(quick) for cell in chosen if not cell.fault.alone)
    return beside / lanes + sum(cell.estimate(quick) for cell in chosen if cell.fault.alone)
