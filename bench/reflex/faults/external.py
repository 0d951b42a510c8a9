"""Partners that do not answer, in the ways in which partners do not answer."""

import os
import signal
from dataclasses import dataclass

from ..partners import BUSY, SILENT, STALLED
from .base import TIMEOUT, Fault, Flow, Unproven

ORDERS = range(11, 90, 3)
RECEIVING = ("recvfrom", "recvmsg", "read")
POLLING = ("poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait")


def _for_ever(ms):
    return ms < 0


def _longer_than_the_deadline(ms):
    return ms > TIMEOUT * 1000


def order(page, **more):
    return Flow(tuple(f"/orders/{n}/{page}" for n in ORDERS), **more)


def product(page, **more):
    return Flow(tuple(f"/products/{n}/{page}" for n in ORDERS), **more)


@dataclass(frozen=True, kw_only=True)
class Ill(Fault):
    """A partner falls ill."""

    partner: str
    mode: str = SILENT
    # How the waiting shows in the kernel; in the loop of an asynchronous page it does not.
    calls: tuple = RECEIVING
    patience: object = None
    asynchronous: bool = False

    def inject(self, stage):
        stage.partners[self.partner].mode = self.mode

    def prove(self, view):
        port = view.stage.partners[self.partner].port
        if self.asynchronous and view.stage.framework == "fastapi":
            return view.socket(port, f"process with a connection to {self.partner}")
        return view.waiting(self.calls, f"thread waiting for {self.partner} in {'/'.join(self.calls)}", port=port,
                            patience=self.patience)


@dataclass(frozen=True, kw_only=True)
class Unreachable(Ill):
    """Nobody answers at its address."""

    def inject(self, stage):
        stage.partners[self.partner].fill()

    def prove(self, view):
        port, what = view.stage.partners[self.partner].port, f"connection to {self.partner} in SYN_SENT"
        return view.socket(port, what, state="syn-sent")


@dataclass(frozen=True, kw_only=True)
class Nameless(Fault):
    """The name server does not answer."""

    needs: frozenset = frozenset({"names"})

    def inject(self, stage):
        stage.names.silent = True

    def heal(self, stage):
        if stage.names:
            stage.names.silent = False

    def prove(self, view):
        if not view.stage.names.asked:
            raise Unproven("the name server was never asked")
        return view.waiting(POLLING + RECEIVING, "thread waiting for a name server", port=53, kind="udp")


@dataclass(frozen=True, kw_only=True)
class Busy(Ill):
    """It says 503 again and again."""

    mode: str = BUSY

    def prove(self, view):
        if view.stage.partners[self.partner].asked < 2:
            raise Unproven("the partner was not asked again")
        return view.waiting(("clock_nanosleep", "pselect6", "select"), "thread sleeping between two attempts")


@dataclass(frozen=True, kw_only=True)
class StoppedRedis(Fault):
    """Redis stands still: its host swaps, or somebody debugs it."""

    needs: frozenset = frozenset({"redis"})

    def inject(self, stage):
        stage.stop_process(stage.redis.pid)

    def heal(self, stage):
        if stage.redis:
            os.kill(stage.redis.pid, signal.SIGCONT)

    def prove(self, view):
        return view.waiting(RECEIVING + POLLING, "thread waiting for Redis for ever", port=view.stage.redis.port,
                            patience=_for_ever)


@dataclass(frozen=True, kw_only=True)
class NoMails(Fault):
    """The mail system's worker is gone; whoever waits for its results waits for ever."""

    needs: frozenset = frozenset({"celery"})

    def calm(self, stage):
        stage.mails = stage.celery()

    def inject(self, stage):
        stage.stop_process(stage.mails.pid)

    def heal(self, stage):
        if hasattr(stage, "mails") and stage.mails.poll() is None:
            os.kill(stage.mails.pid, signal.SIGCONT)

    def prove(self, view):
        return view.waiting(RECEIVING + POLLING, "thread waiting for a result in Redis", port=view.stage.redis.port)


_NO, _LONG, _HOLE, _TLS, _RETRY = (
    f"external.{name}" for name in ("no_timeout", "timeout_too_long", "connect_blackhole", "tls_stall", "retry_loop")
)
_POST = {"method": "POST"}
_TLS_NEEDS = frozenset({"tls"})

FAULTS = [
    Ill(cause=_NO, variant="requests", flow=order("shipping"), partner="carrier"),
    Ill(cause=_NO, variant="httpx", flow=order("taxes"), partner="payments", held_out=True, asynchronous=True),
    Ill(cause=_NO, variant="urllib", flow=product("rating"), partner="reviews", held_out=True),
    Ill(cause=_NO, variant="urllib3", flow=product("availability"), partner="supplier", held_out=True),
    StoppedRedis(cause=_NO, variant="redis", flow=Flow(("/cart/17/size", "/cart/18/size")), held_out=True),
    NoMails(cause=_NO, variant="celery", flow=order("confirmation", **_POST), held_out=True),
    Ill(cause=_LONG, variant="requests", flow=order("tracking"), partner="carrier", calls=POLLING,
        patience=_longer_than_the_deadline),
    Ill(cause=_LONG, variant="httpx", flow=order("refund", **_POST), partner="payments", calls=POLLING, held_out=True,
        asynchronous=True, patience=_longer_than_the_deadline),
    Ill(cause=_LONG, variant="urllib", flow=product("questions"), partner="reviews", calls=POLLING, held_out=True,
        patience=_longer_than_the_deadline),
    Unreachable(cause=_HOLE, variant="requests", flow=order("shipping"), partner="carrier"),
    Unreachable(cause=_HOLE, variant="httpx", flow=order("taxes"), partner="payments", held_out=True),
    Unreachable(cause=_HOLE, variant="urllib3", flow=product("availability"), partner="supplier", held_out=True),
    Nameless(cause="external.dns", variant="requests", flow=order("shipping")),
    Nameless(cause="external.dns", variant="httpx", flow=order("taxes"), held_out=True),
    Nameless(cause="external.dns", variant="urllib", flow=product("rating"), held_out=True),
    Ill(cause=_TLS, variant="requests", flow=order("shipping"), partner="carrier", mode=STALLED, needs=_TLS_NEEDS),
    Ill(cause=_TLS, variant="httpx", flow=order("taxes"), partner="payments", mode=STALLED, needs=_TLS_NEEDS, held_out=True,
        asynchronous=True),
    Ill(cause=_TLS, variant="urllib", flow=product("rating"), partner="reviews", mode=STALLED, needs=_TLS_NEEDS, held_out=True),
    Busy(cause=_RETRY, variant="urllib3", flow=product("reorder", **_POST), partner="supplier"),
    Busy(cause=_RETRY, variant="tenacity", flow=product("restock"), partner="supplier", held_out=True),
    Busy(cause=_RETRY, variant="backoff", flow=product("costs"), partner="supplier", held_out=True),
]
