"""Connections that are all taken: by slow work, by code that forgot them, by somebody else behind PgBouncer."""

from dataclasses import dataclass

from .base import Fault, Flow, Shape, Unproven
from .database import region_of

# One process, since a pool is one process's, and threads that compete for it.
THREADS = Shape(workers=1, threads=8)
SMALL = 2
# A report takes a good part of the deadline, and ends.
REPORT_SECONDS = 2.5
_VISITORS = Flow(tuple(f"/products/{n}" for n in range(30, 90)), rate=2)
_BEHIND = {grade: ("pool.exhausted",) for grade in "BCS"}


@dataclass(frozen=True, kw_only=True)
class SlowHolders(Fault):
    """Reports hold the connections; everybody else waits for one."""

    page: str = "/customers/best"
    shape: Shape = THREADS
    pool: int = SMALL
    alone: bool = True
    flow: Flow = _VISITORS
    wrong_behind: frozenset = frozenset({"pool.leak"})

    def inject(self, stage):
        stage.sql("DROP INDEX orders_customer_id")
        page = f"{self.page}?region={region_of(stage, REPORT_SECONDS)}"
        # Somebody's dashboard, three times a second.
        for n in range(42):
            stage.later(n / 3, lambda: stage.burst([("GET", page, None)]))

    def prove(self, view):
        holders = view.sessions("active", "", "active session")
        sessions = view.stage.postgres.sessions(view.stage.database)
        # FastAPI's shop has two pools, for its older and its newer pages.
        if len(sessions) > 2 * SMALL + 1:
            raise Unproven(f"there are more connections than the pool has: {sessions}")
        return f"{holders}; {_queueing(view)}"


@dataclass(frozen=True, kw_only=True)
class Leak(Fault):
    """Customers who reserve and never confirm."""

    page: str = "/reservations"
    shape: Shape = THREADS
    pool: int = 4
    flow: Flow = _VISITORS

    def inject(self, stage):
        stage.burst([("POST", f"{self.page}/{1000 + n}", None) for n in range(self.pool)])

    def prove(self, view):
        idle = view.sessions("idle in transaction", "", "session idle in a transaction")
        return f"{idle}; {_queueing(view)}"


def _queueing(view):
    if view.stage.framework == "fastapi":
        return "its loop or its threads wait"
    return view.waiting(("futex",), "thread waiting for a lock")


@dataclass(frozen=True, kw_only=True)
class Behind(Fault):
    """A nightly job holds all connections that PgBouncer has to the database."""

    needs: frozenset = frozenset({"pgbouncer"})
    flow: Flow = _VISITORS

    def inject(self, stage):
        from ..stage import PGBOUNCER_SIZE

        stage.jobs = []
        for _ in range(PGBOUNCER_SIZE + 1):
            session = stage.session(stage.bouncer.command(stage.database))
            session.tell("BEGIN; SELECT count(*) FROM orders;")
            stage.jobs.append(session)

    def heal(self, stage):
        for session in getattr(stage, "jobs", ()):
            session.close()

    def prove(self, view):
        waiting = view.stage.bouncer.clients_waiting()
        if waiting < 2:
            raise Unproven(f"{waiting} clients wait in PgBouncer")
        calls = ("poll", "ppoll", "epoll_wait", "epoll_pwait", "recvfrom", "read")
        return f"{waiting} clients wait in PgBouncer; " + view.waiting(calls, "thread in a wait")


_TURNOVER = "/customers/turnover"

FAULTS = [
    SlowHolders(cause="pool.exhausted", variant="sqlalchemy", frameworks=("flask", "fastapi")),
    SlowHolders(cause="pool.exhausted", variant="psycopg-pool", frameworks=("django",), held_out=True),
    SlowHolders(cause="pool.exhausted", variant="asyncpg", frameworks=("fastapi",), held_out=True, page=_TURNOVER,
                flow=Flow(("/products", "/orders/44"), rate=2)),
    Leak(cause="pool.leak", variant="sqlalchemy", frameworks=("flask", "fastapi"), instead=_BEHIND),
    Leak(cause="pool.leak", variant="psycopg-pool", frameworks=("django",), held_out=True, instead=_BEHIND),
    Leak(cause="pool.leak", variant="asyncpg", frameworks=("fastapi",), held_out=True, page="/holds",
         flow=Flow(("/products", "/orders/44"), rate=2), instead=_BEHIND),
    Behind(cause="pool.pgbouncer_exhausted", variant="psycopg2", frameworks=("flask", "fastapi"),
           instead={grade: ("db.query_or_lock",) for grade in "BCS"}),
    Behind(cause="pool.pgbouncer_exhausted", variant="psycopg3", frameworks=("django",), held_out=True,
           instead={grade: ("db.query_or_lock",) for grade in "BCS"}),
]
