"""What a fault is: who it applies to, what is done to cause and to end it, what must be found as its cause, and what proves
that it is what it claims to be.

Not here: the faults themselves, and how a run of one goes (`cell`)."""

from dataclasses import dataclass, field

from .. import probe
from ..children import pause

FRAMEWORKS = ("flask", "django", "fastapi")
HOSTS = ("ferricorn", "gunicorn")
# Those whose requests have a thread each.
WSGI = ("flask", "django")
# Of a second, in which a thread computes rather than waits. Several share two processors, and an interpreter.
COMPUTES = 0.15
# Seconds that the application may take for one request.
TIMEOUT = 6


@dataclass(frozen=True)
class Shape:
    """How a server is started. For FastAPI the threads are those of its own pool."""

    workers: int = 2
    threads: int = 1
    options: tuple = ()


@dataclass(frozen=True)
class Flow:
    """Requests of one kind, `rate` a second; one of `paths` and one of `bodies` each."""

    paths: tuple
    rate: float = 1.0
    method: str = "GET"
    # Dictionaries are sent as the framework's pages take them: as a form, or as JSON.
    bodies: tuple = ()


@dataclass(frozen=True)
class Timing:
    """Seconds of a cell: before the fault, with it, and after it."""

    calm: float = 8
    window: float = 14
    settle: float = 2.5


class Unproven(Exception):
    """The state that a fault claims was not found. Says what was there instead."""


class Impossible(Exception):
    """A fault that cannot be caused on this machine, and why."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to cause one trouble. Subclasses say how."""

    # The label: a code of `crates/core/src/diagnosis/cause.rs`. Empty for a control, which must raise nothing.
    cause: str
    # Which way; its library, mostly.
    variant: str
    # What the application's visitors do to be hit; from the beginning, since they do the same in calm.
    flow: Flow | None = None
    frameworks: tuple = FRAMEWORKS
    hosts: tuple = HOSTS
    # Rules may not be developed on it.
    held_out: bool = False
    shape: Shape = Shape()
    pool: int = 20
    # Of `redis`, `celery`, `pgbouncer`, `mariadb`, `names`, `tls`.
    needs: frozenset = frozenset()
    # Uses up a processor, or touches the host: nothing else runs beside it.
    alone: bool = False
    # Each of its requests is late by itself, so that there is a kill to be earlier than.
    kills: bool = True
    # The observer has no access to a database, whatever the grade.
    blind: bool = False
    timing: Timing = Timing()
    # Causes behind the named one that would be wrong: of an exhausted pool, that it leaks.
    wrong_behind: frozenset = frozenset()
    # What else is right where less can be seen, by grade.
    instead: dict = field(default_factory=dict)
    # Hosts that have another limit for it, so that nothing is killed in time.
    no_kill_on: tuple = ()
    # Hosts on which nothing must be raised, since they do not suffer from it.
    harmless_on: tuple = ()

    @property
    def name(self):
        return f"{self.cause}/{self.variant}"

    def accepted(self, grade):
        """Codes that are right."""
        return sorted({self.cause, *self.instead.get(grade, ())})

    def prepare(self, stage):
        """Before the server starts: data, environment."""

    def calm(self, stage):
        """When the server serves, before the visitors come."""

    def inject(self, stage):
        """Causes it. May take a part of the window."""

    def heal(self, stage):
        """Ends it. Also called when something failed, perhaps twice."""

    def prove(self, view):
        """Returns what was seen, some seconds after the injection; raises `Unproven`."""
        raise NotImplementedError


class View:
    """What is looked at to prove a fault."""

    def __init__(self, stage, threads):
        self.stage = stage
        self.threads = threads

    def waiting(self, calls, what, *, port=None, kind=None, patience=None):
        """The threads in one of these calls, perhaps on a socket to `port`, and waiting so long at most."""
        found = [
            thread for thread in self.threads
            if thread.call in calls
            and (port is None or thread.socket and thread.socket.peer == port)
            and (kind is None or thread.socket and thread.socket.kind == kind)
            and (patience is None or thread.patience_ms is None or patience(thread.patience_ms))
        ]
        return self.some(found, what)

    def socket(self, port, what, state="established"):
        """The threads of processes with a socket to that port: where a loop waits for many at once."""
        found = [
            thread for thread in self.threads
            if thread.pid == thread.tid and any(one.peer == port and one.state == state for one in thread.sockets)
        ]
        return self.some(found, what)

    def computing(self):
        """The threads that use a processor: for a second, a good part of it."""
        before = {thread.tid: thread.cpu_s for thread in self.threads}
        pause(1)
        self.threads = probe.threads(self.stage.server.workers())
        used = {thread.tid: thread.cpu_s - before.get(thread.tid, thread.cpu_s) for thread in self.threads}
        found = [thread for thread in self.threads if used[thread.tid] > COMPUTES]
        return self.some(found, f"threads that used {max(used.values(), default=0):.2f} s of processor in a second")

    def some(self, found, what):
        if not found:
            raise Unproven(f"no {what}; threads: {'; '.join(sorted({str(thread) for thread in self.threads}))[:600]}")
        return f"{len(found)} {what}: {found[0]}"

    def sessions(self, state, event, what):
        """The application's sessions of PostgreSQL in this state, waiting for such an event."""
        sessions = self.stage.postgres.sessions(self.stage.database)
        found = [session for session in sessions if session[0] == state and event in session[1]]
        if not found:
            raise Unproven(f"no {what}; sessions: {sessions}")
        return f"{len(found)} {what}: {found[0][2]!r}"
