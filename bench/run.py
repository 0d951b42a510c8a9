#!/usr/bin/python3
"""Ferricorn beside other servers, on this machine. bench/README.md tells what is measured and how to read it."""

import argparse
import json
import os
import platform
import signal
import sys
from pathlib import Path

from harness import accesslog, compare, environment, faults, idle, observer, offload, servers, stuck, workloads
from harness.environment import SetupError, say
from harness.measure import Rig
from harness.process import MeasurementError

DEBIAN_PYTHON = "/usr/bin/python3"
# Other work on the machine above this load moves figures by more than servers differ.
CALM_LOAD = 0.5


def main(argv):
    if argv[:1] == ["reflex"]:
        # Has an environment, options and a report of its own.
        from reflex.main import main as reflex

        return reflex(argv[1:])
    command = argv.pop(0) if argv and argv[0] in COMMANDS else "compare"
    options = _parser(command).parse_args(argv)
    # So that servers are ended as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        environment.prepare(options.python, options.servers, options.wheel, options.skip_install)
        if os.getloadavg()[0] > CALM_LOAD:
            say(f"warning: this machine is busy (load {os.getloadavg()[0]:.2f}); trust ratios, not single figures")
        result = {"machine": _machine(), "versions": environment.versions()}
        text, ok = COMMANDS[command](options, result)
    except (SetupError, MeasurementError) as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(_head(result, options.markdown) + "\n" + text, end="")
    return 0 if ok else 1


def _compare(options, result):
    known_workloads, known_servers = COMPARED[options.command]
    chosen = [known_workloads[name] for name in options.only]
    result |= compare.run(
        chosen, {name: known_servers[name] for name in options.servers}, _rig(options), options.rounds,
        options.fraction, options.rate, not options.no_equal_rate,
    )
    text = compare.report(result, {workload.name: workload.title for workload in chosen}, options.markdown)
    return text, not compare.failed(result)


def _accesslog(options, result):
    result |= accesslog.run(options.servers, _rig(options), options.rounds)
    return accesslog.report(result, options.markdown), True


def _observer(options, result):
    result |= observer.run(options.servers, _rig(options), options.rounds)
    return observer.report(result, options.markdown), True


def _offload(options, result):
    result |= offload.run(options.servers, _rig(options), options.rounds, options.stored)
    return offload.report(result, options.markdown), True


def _stuck(options, result):
    result |= stuck.run(options.servers, options.seconds, options.kinds)
    return stuck.report(result, options.markdown), not stuck.failed(result)


def _faults(options, result):
    result |= faults.run(options.servers, options.faults, options.ways)
    return faults.report(result, options.markdown), not faults.failed(result)


def _idle(options, result):
    counts = {"websocket": options.websockets, "events": options.streams}
    result |= idle.run(
        {name: servers.ASGI[name] for name in options.servers}, {kind: counts[kind] for kind in options.kinds},
        _cores_of(options), options.hold,
    )
    return idle.report(result, options.markdown), not idle.failed(result)


# Those that run every server under every workload.
COMPARED = {"compare": (workloads.WSGI, servers.WSGI), "asgi": (workloads.ASGI, servers.ASGI)}
COMMANDS = {
    "compare": _compare, "asgi": _compare, "accesslog": _accesslog, "observer": _observer, "offload": _offload, "stuck": _stuck, "faults": _faults,
    "idle": _idle,
}


def _parser(command):
    parser = argparse.ArgumentParser(
        prog="bench/run.py" if command == "compare" else f"bench/run.py {command}",
        description=__doc__ if command in COMPARED else sys.modules[f"harness.{command}"].__doc__,
        epilog=f"Other measurements: bench/run.py {', '.join(list(COMMANDS)[1:])}, reflex." if command == "compare" else None,
    )
    parser.set_defaults(command=command)
    capable, default = {
        "compare": (list(servers.WSGI), list(servers.WSGI)),
        "asgi": (list(servers.ASGI), list(servers.ASGI)),
        "accesslog": (list(accesslog.CAPABLE), ["ferricorn"]),
        "observer": (list(observer.CAPABLE), ["ferricorn"]),
        "offload": (list(offload.CAPABLE), ["ferricorn"]),
        "stuck": ([name for name, server in servers.WSGI.items() if server.threaded], ["ferricorn"]),
        "faults": (list(faults.MODES), list(faults.MODES)),
        "idle": (list(servers.ASGI), ["ferricorn"]),
    }[command]
    add = parser.add_argument
    add("--servers", type=_some_of(capable), default=default, metavar="A,B", help=f"of {', '.join(capable)}")
    if command == "stuck":
        add("--seconds", type=_positive, default=30, help="of instant requests beside stuck ones (30)")
        add("--kinds", type=_some_of(stuck.KINDS), default=list(stuck.KINDS[:3]), metavar="A,B",
            help=f"of {', '.join(stuck.KINDS)}; all but gil unless told")
    elif command == "faults":
        add("--faults", type=_some_of(faults.FAULTS), default=list(faults.FAULTS), metavar="A,B",
            help=f"of {', '.join(faults.FAULTS)}")
        add("--ways", type=_some_of(faults.WAYS), default=list(faults.WAYS), metavar="A,B",
            help="of direct, nginx; only Ferricorn runs behind nginx")
    elif command == "idle":
        add("--kinds", type=_some_of(idle.KINDS), default=list(idle.KINDS), metavar="A,B",
            help=f"of {', '.join(idle.KINDS)}")
        add("--websockets", type=_positive, default=10_000, help="that say nothing (10,000)")
        add("--streams", type=_positive, default=1_000, help="of server-sent events, one event a second each (1,000)")
        add("--hold", type=_positive, default=30, help="seconds that they stay open (30)")
    else:
        add("--seconds", type=_positive, default=5, help="each measurement lasts (5)")
        add("--rounds", type=_positive, default=3, help="measurements per server and workload (3)")
    if command == "offload":
        add("--stored", type=_positive, default=1_000_000, help="jobs beside the one that is asked for (1,000,000)")
    if command not in ("stuck", "faults"):
        add("--cores", type=_cores, metavar="SERVER,CLIENT", help="the first two this process may use")
    if command in COMPARED:
        names = list(COMPARED[command][0])
        add("--only", type=_some_of(names), default=names, metavar="A,B", help=f"of {', '.join(names)}")
        add("--fraction", type=float, default=0.5, help="equal rate, as share of the slowest compiled peer's (0.5)")
        add("--rate", type=_positive, help="equal rate in req/s")
        add("--no-equal-rate", action="store_true", help="full load only")
    add("--markdown", action="store_true", help="tables for documents")
    add("--json", action="store_true", help="every sample, for scripts")
    add("--wheel", type=_file, metavar="PATH", help="install this wheel of Ferricorn instead of building one")
    add("--skip-install", action="store_true", help="measure what bench/.venv holds already")
    default_python = DEBIAN_PYTHON if os.path.exists(DEBIAN_PYTHON) else sys.executable
    add("--python", default=default_python, metavar="PATH", help=f"interpreter of bench/.venv ({default_python})")
    return parser


def _some_of(known):
    def parse(text):
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose of {', '.join(known)}")
        return list(dict.fromkeys(names))

    return parse


def _positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _cores(text):
    cores = text.split(",")
    if len(cores) != 2 or not all(core.isdigit() for core in cores) or cores[0] == cores[1]:
        raise argparse.ArgumentTypeError(f"{text!r} does not name two cores, as 0,1 does")
    return tuple(map(int, cores))


def _file(text):
    path = Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file")
    return path


def _rig(options):
    return Rig(*_cores_of(options), options.seconds)


def _cores_of(options):
    return options.cores or tuple(sorted(os.sched_getaffinity(0))[:2])


def _machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown CPU")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0]}


def _head(result, markdown):
    machine, versions = result["machine"], result["versions"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, load at start {machine['load']:.2f}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
    return ("  \n" if markdown else "\n").join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
