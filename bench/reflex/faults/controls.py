"""What happens to every server and is no trouble: the observer must keep quiet."""

import signal
from dataclasses import dataclass

from .base import Fault, Flow, Shape, Timing
from .external import order


@dataclass(frozen=True, kw_only=True)
class Control(Fault):
    """Nothing at all, unless a subclass says more."""

    cause: str = ""
    kills: bool = False
    flow: Flow = order("shipping", rate=1)

    @property
    def name(self):
        return f"control/{self.variant}"

    def accepted(self, grade):
        return []

    def prove(self, view):
        return "nothing to prove"


@dataclass(frozen=True, kw_only=True)
class Deploys(Control):
    """Three deploys, one after the other."""

    timing: Timing = Timing(window=18)

    def inject(self, stage):
        for seconds in (0, 6, 12):
            stage.later(seconds, lambda: stage.server.signal(signal.SIGHUP))


@dataclass(frozen=True, kw_only=True)
class Crowd(Control):
    """Three times the visitors, within what the workers can do."""

    alone: bool = True

    def inject(self, stage):
        from ..stage import BACKGROUND

        for name, (rate, _) in BACKGROUND.items():
            stage.visitors.change(name, rate=3 * rate)
        stage.visit(rate=3 * self.flow.rate)


@dataclass(frozen=True, kw_only=True)
class Rotation(Control):
    """The logs are rotated, twice."""

    def inject(self, stage):
        stage.server.rotate()
        stage.later(6, stage.server.rotate)


@dataclass(frozen=True, kw_only=True)
class SlowExport(Control):
    """Somebody exports a year: it takes three quarters of the deadline, once, and is complete."""

    def inject(self, stage):
        stage.partners["carrier"].seconds = 0.2
        stage.burst([("GET", "/orders/5/customs?pages=21", None)])

    def heal(self, stage):
        stage.partners["carrier"].seconds = 0.01


FAULTS = [
    Control(variant="nothing"),
    Deploys(variant="deploys"),
    Crowd(variant="crowd"),
    Rotation(variant="rotation"),
    Control(variant="recycling", shape=Shape(options=("--max-requests", 80, "--max-requests-jitter", 20))),
    SlowExport(variant="export", flow=Flow(("/products/80/rating",), rate=1)),
]
