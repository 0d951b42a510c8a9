"""Has PostgreSQL end statements before the deadline, by ``PGOPTIONS``, and gives connecting to it a limit.

libpq reads that variable whenever it connects, so that no code has to change; psycopg and psycopg2 use it. Who connects by way of
something that refuses such options (PgBouncer, an older server) gets the connection without what was refused, and the log
says what to set instead. Not for: how long a statement may take (``core::prevention`` in Rust).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import Any

from ferricorn.budget import Budget
from ferricorn.on_import import OnImport

STATEMENT = "statement_timeout"
CHECK = "client_connection_check_interval"
# libpq takes whole seconds, and nothing below this.
CONNECT_SECONDS_MIN = 2
# Most servers of which is remembered what they refuse; a connection to others is tried twice each time.
TARGETS_MAX = 64

# What is said once by all workers together: its number, and how it is said.
Say = Callable[[int, str], None]
OWN_VALUE, OWN_OPTIONS, REFUSED, NO_CHECK, ASYNCPG = range(5)

_NAME = re.compile(r"(?:^|\s)(?:-c\s*|--)([A-Za-z_][\w.-]*)\s*=")


class Options:
    """What ``PGOPTIONS`` is to say in this process."""

    def __init__(self, statement_ms: int, check_ms: int | None, own: str, say: Say) -> None:
        self.statement_ms = statement_ms
        self.own = own
        self._say = say
        theirs = names(own)
        wanted = [(STATEMENT, statement_ms), *([(CHECK, check_ms)] if check_ms is not None else [])]
        self.ours = {name: value for name, value in wanted if name not in theirs}
        # What a server refuses, by where it is; a server that refuses all has ``PGOPTIONS`` as it was.
        self._refused: dict[int, frozenset[str]] = {}
        said = [name for name, _ in wanted if name in theirs]
        if said:
            say(OWN_VALUE, f"PGOPTIONS has its own {' and '.join(said)}, which counts")

    def text(self, without: frozenset[str] = frozenset()) -> str:
        """Returns the variable's value; the user's words come last, and the last of a name counts."""
        words = [f"-c {name}={value}" for name, value in self.ours.items() if name not in without]
        return " ".join([*words, *([self.own] if self.own else [])])

    def given(self, driver: str, options: str) -> None:
        """Hears that somebody connects with options of their own, to which ``PGOPTIONS`` adds nothing."""
        if STATEMENT not in names(options) and STATEMENT in self.ours:
            self._say(
                OWN_OPTIONS,
                f"{driver} is given options of its own ({options!r}), so that PGOPTIONS does not count: add "
                f"`-c {STATEMENT}={self.ours[STATEMENT]}` to them",
            )

    def without(self, target: int) -> frozenset[str]:
        """Returns what is known to be refused there."""
        return self._refused.get(target, frozenset())

    def refused(self, target: int, error: str) -> frozenset[str] | None:
        """Hears why a connection was refused; returns what to leave out, ``None`` if the reason is another."""
        already = self.without(target)
        left = set(self.ours) - already
        if CHECK in left and CHECK in error:
            refused = already | {CHECK}
            self._say(NO_CHECK, f"{CHECK} is refused ({first_line(error)}): it is left out where it is")
        elif left and any(sign in error for sign in ("startup parameter", "command-line options", STATEMENT, CHECK)):
            refused = already | left
            self._say(
                REFUSED,
                f"{STATEMENT} in PGOPTIONS is refused ({first_line(error)}), and connections go without it: "
                f"`ALTER ROLE the_role SET {STATEMENT} = {self.statement_ms}` in the database does the same, behind PgBouncer, too",
            )
        else:
            return None
        if len(self._refused) < TARGETS_MAX:
            self._refused[target] = frozenset(refused)
        return frozenset(refused)


def names(options: str) -> set[str]:
    """Returns the parameters that options for a server name."""
    return {name.replace("-", "_").lower() for name in _NAME.findall(options)}


def first_line(error: str) -> str:
    """Returns the line of an error that says why."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return next((line for line in lines if "FATAL" in line or "ERROR" in line), lines[0] if lines else "")


def export(options: Options) -> None:
    """Puts it into the environment."""
    os.environ["PGOPTIONS"] = options.text()


def adapt(on_import: OnImport, options: Options | None, budget: Budget | None, say: Say) -> None:
    """Has the drivers adapted when the application imports them."""
    on_import.call("psycopg2", lambda module: _psycopg2(module, options, budget))
    on_import.call("psycopg", lambda module: _psycopg(module, options, budget))
    if options is not None:
        on_import.call("asyncpg", lambda _module: say(ASYNCPG, asyncpg_text(options)))


def asyncpg_text(options: Options) -> str:
    """Returns what users of asyncpg have to know."""
    return (
        f"asyncpg does not read PGOPTIONS, so that db_statement_timeout has no effect there: give it "
        f"`server_settings={{'{STATEMENT}': '{options.statement_ms}'}}`, or command_timeout"
    )


class _Call:
    """One call of a driver's ``connect``."""

    def __init__(
        self, driver: str, parse: Any, dsn: str, kwargs: dict[str, Any], options: Options | None, budget: Budget | None
    ) -> None:
        self._options = options
        self._kwargs = kwargs
        try:
            said = parse(dsn) if dsn else {}
        except Exception:
            # The driver will say what is wrong with it.
            said = {"options": ""}
        where = ("host", "hostaddr", "port", "service")
        self._target = hash(tuple(str(kwargs.get(name, said.get(name))) for name in where))
        given = kwargs.get("options", said.get("options"))
        self._may_add = options is not None and given is None
        if options is not None and given:
            options.given(driver, str(given))
        if options is not None and self._may_add and (without := options.without(self._target)):
            kwargs["options"] = options.text(without)
        elsewhere = "PGCONNECT_TIMEOUT" in os.environ or "PGSERVICE" in os.environ or "service" in {*said, *kwargs}
        if budget is not None and not elsewhere and "connect_timeout" not in {*said, *kwargs}:
            left = budget.left()
            if left is not None:
                kwargs["connect_timeout"] = max(CONNECT_SECONDS_MIN, int(left))

    def again(self, error: Exception) -> bool:
        """Tells whether to try again without what was refused."""
        if self._options is None or not self._may_add:
            return False
        without = self._options.refused(self._target, str(error))
        if without is None:
            return False
        self._kwargs["options"] = self._options.text(without)
        return True


def _psycopg2(module: Any, options: Options | None, budget: Budget | None) -> None:
    connect = module.connect

    @functools.wraps(connect)
    def connect_(dsn: Any = None, connection_factory: Any = None, cursor_factory: Any = None, **kwargs: Any) -> Any:
        call = _Call("psycopg2", module.extensions.parse_dsn, dsn, kwargs, options, budget)
        while True:
            try:
                return connect(dsn, connection_factory, cursor_factory, **kwargs)
            except module.OperationalError as error:
                if not call.again(error):
                    raise

    module.connect = connect_


def _psycopg(module: Any, options: Options | None, budget: Budget | None) -> None:
    parse = module.conninfo.conninfo_to_dict
    plain, tasks = module.Connection.connect.__func__, module.AsyncConnection.connect.__func__

    @functools.wraps(plain)
    def connect(cls: Any, conninfo: str = "", **kwargs: Any) -> Any:
        call = _Call("psycopg", parse, conninfo, kwargs, options, budget)
        while True:
            try:
                return plain(cls, conninfo, **kwargs)
            except module.OperationalError as error:
                if not call.again(error):
                    raise

    @functools.wraps(tasks)
    async def connect_async(cls: Any, conninfo: str = "", **kwargs: Any) -> Any:
        call = _Call("psycopg", parse, conninfo, kwargs, options, budget)
        while True:
            try:
                return await tasks(cls, conninfo, **kwargs)
            except module.OperationalError as error:
                if not call.again(error):
                    raise

    module.Connection.connect = classmethod(connect)
    module.AsyncConnection.connect = classmethod(connect_async)
    # The package's function is the method as it was.
    module.connect = module.Connection.connect
