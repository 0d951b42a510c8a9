"""Statements that take long, bring too much, or wait for somebody else's lock; connections that nobody is at the other end of."""

import ctypes
import os
import socket
from dataclasses import dataclass

from ..databases import Session
from .base import WSGI, Fault, Flow, Impossible, Unproven

# Of customer 7, imported by mistake: more than any page was made for.
IMPORTED = 500_000
SLOW_SECONDS = 20
_QUERY_OR_LOCK = {grade: ("db.query_or_lock",) for grade in "BCS"}
_CART = {"product": 7, "quantity": 1}


def region_of(stage, seconds):
    """The region whose customers take at least so long without an index: each has twice those of the one before."""
    for number in range(1, 7):
        if 75 * 2**number * stage.seconds_per_scan() >= seconds:
            break
    return f"region-{number}"


@dataclass(frozen=True, kw_only=True)
class LostIndex(Fault):
    """Somebody dropped an index. `page` lists the customers of a region."""

    page: str
    alone: bool = True

    def calm(self, stage):
        region = region_of(stage, SLOW_SECONDS)
        stage.slow = Flow((f"{self.page}?region={region}",), rate=self.flow.rate)

    def inject(self, stage):
        stage.sql("DROP INDEX orders_customer_id")
        stage.visit(flow=stage.slow)

    def prove(self, view):
        return view.sessions("active", "", "active session without a wait")


@dataclass(frozen=True, kw_only=True)
class Import(Fault):
    """An import gave one customer more orders than the page can carry."""

    alone: bool = True

    def inject(self, stage):
        stage.sql(
            "INSERT INTO orders (customer_id, product_id, quantity, total, status, created)"
            f" SELECT 7, 1 + n % 2000, 1, 10, 'shipped', now() FROM generate_series(1, {IMPORTED}) n"
        )

    def prove(self, view):
        return view.computing()


@dataclass(frozen=True, kw_only=True)
class Locked(Fault):
    """An editor changed a product and went to lunch without a commit."""

    statement: str = "UPDATE products SET price = price + 1 WHERE id = 7"

    def inject(self, stage):
        stage.locker = stage.session()
        stage.locker.run(f"BEGIN; {self.statement};")

    def heal(self, stage):
        if hasattr(stage, "locker"):
            stage.locker.close()

    def prove(self, view):
        return view.sessions("active", "Lock/", "session that waits for a lock")


@dataclass(frozen=True, kw_only=True)
class StockIndex(Fault):
    """The same in MariaDB."""

    needs: frozenset = frozenset({"mariadb"})
    alone: bool = True

    def inject(self, stage):
        stage.stock.run("DROP INDEX movements_shelf_id ON movements", stage.database)
        stage.visit(flow=Flow(("/stock/shelves?aisles=30",), rate=self.flow.rate))

    def prove(self, view):
        return _statements(view, "SELECT s.id")


@dataclass(frozen=True, kw_only=True)
class StockLocked(Fault):
    """The same in MariaDB."""

    needs: frozenset = frozenset({"mariadb"})

    def inject(self, stage):
        stage.locker = stage.session(stage.stock.command(stage.database), Session.MARIADB)
        stage.locker.run("BEGIN; UPDATE shelves SET pieces = 0 WHERE id = 5;")

    def heal(self, stage):
        if hasattr(stage, "locker"):
            stage.locker.close()

    def prove(self, view):
        return _statements(view, "UPDATE shelves")


def _statements(view, begin):
    rows = view.stage.stock.run("SELECT state, info FROM information_schema.processlist WHERE user = 'shop'", "mysql")
    found = [row for row in rows if row[1].startswith(begin)]
    if not found:
        raise Unproven(f"no such statement in MariaDB: {rows}")
    return f"{len(found)} statements in MariaDB: {found[0]}"


@dataclass(frozen=True, kw_only=True)
class Vanished(Locked):
    """The session is gone and no packet says so: a firewall that forgot the connection."""

    def inject(self, stage):
        super().inject(stage)
        # Statements are on their way while they wait for a lock; when that is given back, only those are left that wait
        # for an answer of nobody.
        stage.later(1.2, lambda: forget(stage))
        stage.later(2.2, lambda: self._forget_and_release(stage))

    @staticmethod
    def _forget_and_release(stage):
        forget(stage)
        stage.locker.close()

    def prove(self, view):
        port = view.stage.postgres.port
        seen = view.waiting(("poll", "ppoll", "epoll_wait", "epoll_pwait"), "thread waiting for PostgreSQL", port=port)
        waiting = [row for row in view.stage.postgres.sessions(view.stage.database) if row[1].startswith("Lock")]
        if waiting:
            raise Unproven(f"PostgreSQL still has the sessions: {waiting}")
        return f"{seen}; PostgreSQL has no such session"


_PIDFD_GETFD, _TCP_REPAIR = 438, 19


def forget(stage):
    """Ends the waiting sessions of the application without a word to the other end."""
    rows = stage.postgres.run(
        f"SELECT pid, client_port FROM pg_stat_activity WHERE datname = '{stage.database}' AND usename = 'shop'"
        " AND wait_event_type = 'Lock'",
        "postgres",
    )
    for pid, port in ((int(pid), int(port)) for pid, port in rows):
        # A socket under repair is closed in silence (tcp(7) does not tell; CRIU lives on it).
        _repair(pid, port)
        stage.postgres.run(f"SELECT pg_terminate_backend({pid})", "postgres")


def _repair(pid, port):
    pidfd = os.pidfd_open(pid)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                continue
            descriptor = libc.syscall(_PIDFD_GETFD, pidfd, int(name), 0)
            if descriptor < 0:
                raise Impossible("the descriptors of PostgreSQL cannot be reached")
            with socket.socket(fileno=descriptor) as found:
                if found.family == socket.AF_INET and found.getpeername()[1] == port:
                    found.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    finally:
        os.close(pidfd)


_BEST = Flow(("/customers/best?region=region-1",), rate=0.6)
_CARTS = Flow(("/cart",), method="POST", bodies=(_CART,))
_PAYMENTS = Flow(("/orders/33/pay", "/orders/36/pay"), method="POST", bodies=(_CART,))
_SHELVES = Flow(("/stock/shelves?aisles=1",), rate=0.6)

FAULTS = [
    LostIndex(cause="db.slow_query", variant="sqlalchemy", frameworks=("flask", "fastapi"), flow=_BEST, page="/customers/best",
              instead=_QUERY_OR_LOCK),
    LostIndex(cause="db.slow_query", variant="django-orm", frameworks=("django",), flow=_BEST, page="/customers/best",
              held_out=True, instead=_QUERY_OR_LOCK),
    LostIndex(cause="db.slow_query", variant="asyncpg", frameworks=("fastapi",), page="/customers/turnover", held_out=True,
              flow=Flow(("/customers/turnover?region=region-1",), rate=0.6), instead=_QUERY_OR_LOCK),
    Import(cause="db.big_result", variant="sqlalchemy", frameworks=("flask", "fastapi"),
           flow=Flow(("/customers/7/orders",), rate=0.5)),
    Import(cause="db.big_result", variant="django-orm", frameworks=("django",), held_out=True,
           flow=Flow(("/customers/7/orders",), rate=0.5)),
    Locked(cause="db.lock", variant="sqlalchemy", frameworks=("flask", "fastapi"), flow=_CARTS, instead=_QUERY_OR_LOCK),
    Locked(cause="db.lock", variant="django-orm", frameworks=("django",), flow=_CARTS, held_out=True, instead=_QUERY_OR_LOCK),
    Locked(cause="db.lock", variant="asyncpg", frameworks=("fastapi",), flow=_PAYMENTS, held_out=True, instead=_QUERY_OR_LOCK),
    LostIndex(cause="db.query_or_lock", variant="slow", flow=_BEST, page="/customers/best", blind=True),
    Locked(cause="db.query_or_lock", variant="lock", flow=_CARTS, blind=True),
    StockIndex(cause="db.slow_query", variant="pymysql", frameworks=WSGI, flow=_SHELVES, held_out=True, instead=_QUERY_OR_LOCK),
    StockLocked(cause="db.lock", variant="pymysql", flow=Flow(("/stock/shelves/5/take",), method="POST"), held_out=True,
                instead=_QUERY_OR_LOCK),
    Vanished(cause="db.connection_dead", variant="psycopg", flow=_CARTS, instead=_QUERY_OR_LOCK),
]
