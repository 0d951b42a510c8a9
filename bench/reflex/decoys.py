"""What happens shortly before a fault and has nothing to do with it. One for each cell, chosen by its seed.

Not here: controls, which are the same without a fault (`faults.controls`)."""

import signal

# From the beginning of the calm.
NAMES = ("deploy", "slow partner", "rotation", "crawler")


def choose(stage):
    fault = stage.fault
    possible = [name for name in NAMES if name not in _excluded(fault)]
    return stage.random.choice(possible)


def _excluded(fault):
    if not fault.cause:
        return NAMES[:3]
    # Its own visitors ask the same partner; or there is a single worker, whose place that would take.
    if fault.flow is None or any("/rating" in path for path in fault.flow.paths) or fault.shape.workers == 1:
        return {"slow partner"}
    return set()


def play(name, stage):
    if name == "deploy":
        stage.server.signal(signal.SIGHUP)
    elif name == "slow partner":
        stage.partners["reviews"].seconds = 0.7
        stage.visitors.change("rating", rate=0.3)
    elif name == "rotation":
        stage.server.rotate()
    elif name == "crawler":
        stage.visitors.burst([{"flow": "crawler", "method": "GET", "path": f"/wp-admin/{n}.php"} for n in range(30)])
