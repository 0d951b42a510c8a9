"""The host and the house rules: processes that are stopped or starved, masters that stand, disks that hang, memory that ends, imports
that wait, deadlines that are too short, too few workers, calls that block an event loop."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from harness.beside import GROUPS, Limited
from harness.process import MeasurementError

from .. import probe
from .base import WSGI, Fault, Flow, Impossible, Shape, Timing, Unproven
from .external import POLLING, RECEIVING, Ill, StoppedRedis, order
from .database import Locked
from .waiting import HeldFile

MEMORY = 600_000_000


@dataclass(frozen=True, kw_only=True)
class Paused(Fault):
    """All workers are stopped, as by a snapshot of the machine; twice."""

    kills: bool = False
    alone: bool = True

    def calm(self, stage):
        # So that some are always at work.
        stage.partners["payments"].seconds = 0.4

    def inject(self, stage):
        self._stop(stage)
        stage.later(5.0, lambda: self.heal(stage))
        stage.later(7.0, lambda: self._stop(stage))

    def _stop(self, stage):
        for pid in stage.server.workers():
            stage.stop_process(pid)

    def heal(self, stage):
        if stage.server:
            for pid in stage.server.workers():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGCONT)

    def prove(self, view):
        return view.some([thread for thread in view.threads if thread.state == "T"], "stopped thread")


@dataclass(frozen=True, kw_only=True)
class WedgedMaster(Fault):
    """The master of a stock Gunicorn is stopped, and its workers go on."""

    hosts: tuple = ("gunicorn",)
    kills: bool = False
    # Nobody is told of it before it has done nothing for 10 s.
    timing: Timing = Timing(calm=5, window=15)

    def inject(self, stage):
        stage.stop_process(stage.server.pid)

    def heal(self, stage):
        if stage.server:
            with contextlib.suppress(OSError):
                os.kill(stage.server.pid, signal.SIGCONT)

    def prove(self, view):
        threads = probe.threads([view.stage.server.pid])
        return view.some([thread for thread in threads if thread.state == "T"], "stopped thread of the master")


_numbers = itertools.count()


class Quota:
    """A control group with little processor, of either version."""

    def __init__(self, share):
        period = 100_000
        quota = int(share * period)
        paths = {}
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            paths |= {name: path.lstrip("/") for name in controllers.split(",")}
        places = [
            (GROUPS / "cpu" / paths.get("cpu", ""), {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": quota}),
            (GROUPS / paths.get("", ""), {"cpu.max": f"{quota} {period}"}),
        ]
        for parent, limits in places:
            self.folder = parent / f"shop-{os.getpid()}-{next(_numbers)}"
            if not (parent / "cgroup.procs").exists():
                continue
            try:
                self.folder.mkdir()
                for name, value in limits.items():
                    with (self.folder / name).open("r+") as file:
                        file.write(str(value))
                return
            except OSError:
                with contextlib.suppress(OSError):
                    self.folder.rmdir()
        raise Impossible("no control group for processors can be made here")

    def add(self, pids):
        for pid in pids:
            with contextlib.suppress(OSError):
                (self.folder / "cgroup.procs").write_text(str(pid))

    def periods_throttled(self):
        for line in (self.folder / "cpu.stat").read_text().splitlines():
            if line.startswith("nr_throttled "):
                return int(line.split()[1])
        return 0

    def remove(self):
        """Its processes go back to where they came from."""
        with contextlib.suppress(OSError):
            for pid in (self.folder / "cgroup.procs").read_text().split():
                (self.folder.parent / "cgroup.procs").write_text(pid)
            self.folder.rmdir()


@dataclass(frozen=True, kw_only=True)
class Starved(Fault):
    """A quota that somebody set far too low for the workers."""

    share: float = 0.02
    alone: bool = True
    kills: bool = False

    def prepare(self, stage):
        Quota(self.share).remove()

    def inject(self, stage):
        stage.quota = Quota(self.share)
        # Those, too, that take the place of others.
        for seconds in range(0, 20, 2):
            stage.later(seconds, lambda: stage.quota.add(stage.server.workers()))

    def heal(self, stage):
        if hasattr(stage, "quota"):
            stage.quota.remove()

    def prove(self, view):
        times = view.stage.quota.periods_throttled()
        if times < 10:
            raise Unproven(f"the workers were held back {times} times")
        return f"held back in {times} periods"


@dataclass(frozen=True, kw_only=True)
class FrozenDisk(Fault):
    """The disk of the uploads hangs."""

    def prepare(self, stage):
        if os.geteuid() != 0 or not shutil.which("fsfreeze"):
            raise Impossible("a file system can be frozen by root only, with fsfreeze")
        image, place = stage.folder / "disk", stage.folder / "uploads"
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(32 << 20)
        for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop", image, place]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise Impossible(f"{command[0]}: {done.stderr.strip()[-200:]}")
        stage.on_exit(self._unmount, place)
        place.chmod(0o777)
        stage.uploads = place

    @staticmethod
    def _unmount(place):
        for _ in range(50):
            if subprocess.run(["umount", place], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "--lazy", place], capture_output=True)

    def inject(self, stage):
        done = subprocess.run(["fsfreeze", "--freeze", stage.uploads], capture_output=True, text=True)
        if done.returncode != 0:
            raise Impossible(f"fsfreeze: {done.stderr.strip()}")
        stage.frozen = True

    def heal(self, stage):
        if getattr(stage, "frozen", False):
            subprocess.run(["fsfreeze", "--unfreeze", stage.uploads], capture_output=True)
            stage.frozen = False

    def prove(self, view):
        return view.some([thread for thread in view.threads if thread.state == "D"], "thread in an uninterruptible wait")


@dataclass(frozen=True, kw_only=True)
class Swollen(Fault):
    """Texts that were imported make a page need more memory than its control group has."""

    alone: bool = True
    kills: bool = False

    def prepare(self, stage):
        try:
            stage.memory = Limited(MEMORY)
        except MeasurementError as error:
            raise Impossible(str(error)) from error
        stage.on_exit(self._remove, stage)

    @staticmethod
    def _remove(stage):
        with contextlib.suppress(MeasurementError, OSError):
            stage.memory.remove()

    def calm(self, stage):
        # All: who is spawned anew is a child of one who is in it.
        stage.memory.add(stage.server.everybody())

    def inject(self, stage):
        stage.sql("UPDATE products SET description = repeat(md5(id::text), 150000) WHERE category_id = 40")

    def prove(self, view):
        text = view.stage.server.log()
        if "SIGKILL" not in text and "killed" not in text and "died" not in text:
            raise Unproven(f"no worker was killed; the log ends with {text[-300:]!r}")
        return "the log has a worker's death"


@dataclass(frozen=True, kw_only=True)
class SlowImport(Fault):
    """A deploy, and what the new code asks for at import does not come."""

    only: str
    kills: bool = True
    calls: tuple = RECEIVING

    def inject(self, stage):
        stage.partners["flags"].only = self.only
        stage.partners["flags"].mode = "silent"
        stage.server.signal(signal.SIGHUP)

    def prove(self, view):
        port = view.stage.partners["flags"].port
        return view.waiting(self.calls, "thread of a new worker waiting for the flags", port=port)


@dataclass(frozen=True, kw_only=True)
class Grown(Fault):
    """What always took long takes a little longer than the deadline: one page more each month."""

    kills: bool = False
    shape: Shape = Shape(workers=2, threads=4)
    timing: Timing = Timing(calm=24, window=18)

    def calm(self, stage):
        stage.partners["carrier"].seconds = 0.2

    def inject(self, stage):
        stage.visit(flow=Flow(("/orders/77/customs?pages=34",), rate=0.4))

    def prove(self, view):
        asked = view.stage.partners["carrier"].asked
        if asked < 20:
            raise Unproven(f"the carrier was asked {asked} times")
        return f"the carrier was asked {asked} times, {view.stage.partners['carrier'].seconds} s each"


@dataclass(frozen=True, kw_only=True)
class GrownRows(Grown):
    """The same with rows of a database, each asked for by itself."""

    def calm(self, stage):
        from ..hosts import seconds_of

        self._add(stage, 300)
        seconds_of(stage.server.port, "/exports/customers/7")
        each = min(seconds_of(stage.server.port, "/exports/customers/7") for _ in range(2)) / 300
        stage.rows = int(4.2 / each)
        self._add(stage, stage.rows - 300)

    @staticmethod
    def _add(stage, count):
        stage.sql(
            "INSERT INTO orders (customer_id, product_id, quantity, total, status, created)"
            f" SELECT 7, 1 + n % 2000, 1, 10, 'shipped', now() FROM generate_series(1, {count}) n"
        )

    def inject(self, stage):
        self._add(stage, int(stage.rows * 0.6))

    def prove(self, view):
        return f"{view.stage.rows} rows took 4.2 s in calm, and there are 60 % more"


@dataclass(frozen=True, kw_only=True)
class FanOut(Fault):
    """A page asks three partners one after the other; a sale brings more visitors to it than there are workers."""

    frameworks: tuple = WSGI
    kills: bool = False
    partner: str = "payments"
    then: Flow
    seconds: float

    def inject(self, stage):
        stage.partners[self.partner].seconds = self.seconds
        stage.visit(flow=self.then)

    def prove(self, view):
        port = view.stage.partners[self.partner].port
        seen = view.waiting(RECEIVING + POLLING, f"thread waiting for {self.partner}", port=port)
        busy = {thread.pid for thread in view.threads if thread.socket and thread.socket.peer == port}
        if len(busy) < self.shape.workers:
            raise Unproven(f"{len(busy)} workers wait: {seen}")
        return f"all {len(busy)} workers: {seen}"


class InLoop:
    """Proof of a call that blocks an event loop: the main thread is in it."""

    def prove(self, view):
        main = [thread for thread in view.threads if thread.pid == thread.tid and thread.call]
        blocked = [thread for thread in main if thread.call not in ("epoll_wait", "epoll_pwait")]
        return view.some(blocked, "main thread that is not in its loop")


@dataclass(frozen=True, kw_only=True)
class IllInLoop(InLoop, Ill):
    """A partner falls ill, and an asynchronous page asks it with a blocking library."""


@dataclass(frozen=True, kw_only=True)
class RedisInLoop(InLoop, StoppedRedis):
    """Redis stands still, and an asynchronous page asks it with a blocking library."""


@dataclass(frozen=True, kw_only=True)
class LockedInLoop(InLoop, Locked):
    """A row is locked, and an asynchronous page changes it with a blocking library."""


@dataclass(frozen=True, kw_only=True)
class ProgramInLoop(InLoop, HeldFile):
    """An asynchronous page runs a program and waits for it."""


_LOOP = {"cause": "worker_class.blocking_in_loop", "frameworks": ("fastapi",)}
_OFFERS = {"paths": tuple(f"/orders/{n}/offers" for n in range(10, 40))}
_CUSTOMS = {"paths": ("/orders/77/customs?pages=20",)}
_UPLOADS = Flow(tuple(f"/uploads/photo{n}.jpg" for n in range(9)), method="POST", bodies=("JPEG" * 500,))
_CALM_CUSTOMS = Flow(("/orders/77/customs?pages=22",), rate=0.4)

FAULTS = [
    Paused(cause="host.paused", variant="sigstop", flow=order("offers", rate=0.7)),
    Starved(cause="host.cpu_starved", variant="quota", flow=Flow(("/feeds/partners",), rate=2)),
    FrozenDisk(cause="host.disk_or_swap", variant="fsfreeze", flow=_UPLOADS),
    Swollen(cause="worker.memory", variant="feed", flow=Flow(("/feeds/category/40",), rate=0.5)),
    SlowImport(cause="boot.slow_import", variant="requests", only="/flags"),
    SlowImport(cause="boot.slow_import", variant="urllib", only="/rates", held_out=True),
    Grown(cause="config.timeout_too_low", variant="pages", flow=_CALM_CUSTOMS),
    GrownRows(cause="config.timeout_too_low", variant="rows", flow=Flow(("/exports/customers/7",), rate=0.3), held_out=True),
    FanOut(cause="worker_class.sync_for_io", variant="partners", flow=Flow(**_OFFERS, rate=1), then=Flow(**_OFFERS, rate=3),
           seconds=1.75),
    FanOut(cause="worker_class.sync_for_io", variant="pages", flow=Flow(**_CUSTOMS, rate=0.3), held_out=True,
           then=Flow(**_CUSTOMS, rate=3), partner="carrier", seconds=0.26),
    IllInLoop(**_LOOP, variant="requests", flow=order("delivery", rate=0.6), partner="carrier"),
    RedisInLoop(**_LOOP, variant="redis", flow=Flow(("/cart/17/badge",), rate=0.6), held_out=True),
    LockedInLoop(**_LOOP, variant="psycopg", flow=Flow(("/customers/5/points",), rate=0.6), held_out=True,
                 statement="UPDATE jobs SET status = 'late' WHERE id = 5"),
    WedgedMaster(cause="arbiter.wedged", variant="sigstop", flow=order("offers", rate=0.7)),
    ProgramInLoop(**_LOOP, variant="subprocess", flow=order("slip", rate=0.6), file="template.lock", calls=(), held_out=True),
]
