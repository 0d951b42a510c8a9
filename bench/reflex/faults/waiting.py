"""Code that waits within its own house: for locks, for itself, for a program, for a file's lock."""

import os
import threading
from dataclasses import dataclass

from .base import WSGI, Fault, Flow, Shape
from .external import order

THREADS = Shape(workers=1, threads=6)
_FORWARD, _BACK = {"source": 1, "target": 2}, {"source": 2, "target": 1}


@dataclass(frozen=True, kw_only=True)
class Changed(Fault):
    """A row that somebody changed, or visitors who do something else, and the code waits in one of `calls`."""

    sql: str = ""
    healing: str = ""
    then: Flow | None = None
    calls: tuple = ("futex",)

    def inject(self, stage):
        if self.sql:
            stage.sql(self.sql)
        if self.then:
            stage.visit(flow=self.then)

    def heal(self, stage):
        if self.healing:
            stage.sql(self.healing)

    def prove(self, view):
        return view.waiting(self.calls, f"thread in {'/'.join(self.calls)}")


@dataclass(frozen=True, kw_only=True)
class Crossed(Changed):
    """Goods go both ways at the same time, and each transfer holds what the other needs."""

    def inject(self, stage):
        pairs = [("POST", "/transfers", values) for values in (_FORWARD, _BACK)] * 4
        for seconds in (0, 0.5, 1):
            stage.later(seconds, lambda: stage.burst(pairs))


@dataclass(frozen=True, kw_only=True)
class Crowded(Changed):
    """Several at once who each need a second place in the same small pool of threads."""

    def inject(self, stage):
        for seconds in (0, 0.4, 0.8, 1.2):
            stage.later(seconds, lambda: stage.burst([("GET", "/bundles", None)] * 6))


@dataclass(frozen=True, kw_only=True)
class DeadProducer(Changed):
    """The thread that makes the counts has died of a division by zero."""

    def inject(self, stage):
        stage.burst([("POST", "/stock/count", {"pieces": 0})])


@dataclass(frozen=True, kw_only=True)
class HeldFile(Fault):
    """Somebody holds a file's lock: an editor of the template, a process that hangs elsewhere."""

    file: str
    calls: tuple

    def inject(self, stage):
        stage.release = stage.lock_file(self.file)

    def heal(self, stage):
        if hasattr(stage, "release"):
            stage.release()

    def prove(self, view):
        return view.waiting(self.calls, f"thread in {'/'.join(self.calls)}")


@dataclass(frozen=True, kw_only=True)
class Printer(Fault):
    """The printer takes no jobs: nobody has its pipe open, and who opens it to write waits."""

    def prepare(self, stage):
        os.mkfifo(stage.data / "printer")
        stage.printing = threading.Event()
        stage.printing.set()
        threading.Thread(target=self._print, args=(stage,), daemon=True).start()

    @staticmethod
    def _print(stage):
        while stage.printing.is_set():
            with open(stage.data / "printer", "rb") as pipe:
                pipe.read()

    def inject(self, stage):
        stage.printing.clear()
        # Wakes who waits for a job, so that it leaves.
        with open(stage.data / "printer", "wb"):
            pass

    def heal(self, stage):
        printer = stage.data / "printer"
        if hasattr(stage, "printing") and printer.exists():
            stage.printing.clear()
            # As reader and writer at once: nobody waits for anybody.
            os.close(os.open(printer, os.O_RDWR | os.O_NONBLOCK))

    def prove(self, view):
        opening = [thread for thread in view.threads if thread.call == "openat"]
        return view.some(opening, "thread opening the printer")


_TRANSFER = Flow(("/transfers",), method="POST", bodies=(_FORWARD,))
_SLEEPS = ("clock_nanosleep", "pselect6", "select")

FAULTS = [
    Crossed(cause="deadlock", variant="locks", flow=_TRANSFER, shape=THREADS),
    Changed(cause="deadlock", variant="itself", frameworks=WSGI, flow=Flow(("/prices/USD", "/prices/CHF")),
            sql="UPDATE settings SET value = '2026-03-02' WHERE name = 'rates_updated'"),
    Crowded(cause="deadlock", variant="futures", flow=Flow(("/bundles",)), shape=THREADS, held_out=True),
    DeadProducer(cause="deadlock", variant="queue", shape=THREADS, held_out=True,
                 flow=Flow(("/stock/count",), method="POST", bodies=({"pieces": 12},))),
    Changed(cause="explicit_sleep", variant="throttle", flow=Flow(("/feeds/partners",)), calls=_SLEEPS,
            sql="UPDATE settings SET value = '45' WHERE name = 'feed_interval_seconds'"),
    Changed(cause="explicit_sleep", variant="polling", flow=Flow(("/jobs/3/result",)), calls=_SLEEPS, held_out=True,
            sql="UPDATE jobs SET status = 'queued' WHERE id = 3", healing="UPDATE jobs SET status = 'done' WHERE id = 3"),
    HeldFile(cause="subprocess", variant="run", flow=order("invoice"), file="template.lock",
             calls=("wait4", "waitid")),
    HeldFile(cause="subprocess", variant="communicate", flow=order("label"), file="template.lock",
             calls=("poll", "select", "pselect6"), held_out=True),
    HeldFile(cause="subprocess", variant="system", flow=order("archive", method="POST"), file="template.lock",
             calls=("wait4", "waitid"), held_out=True),
    HeldFile(cause="unknown", variant="flock", flow=order("number", method="POST"), file="invoices", calls=("flock",),
             kills=False),
    Printer(cause="unknown", variant="pipe", flow=order("print", method="POST"), held_out=True, kills=False),
]
