"""Gives commands of redis whose client has no timeout what is left of the request's time.

Up to redis-py 7 a connection has none unless it is given one; from 8 on it has 5 s, of which ten retries make a minute: there a
command gets the 5 s as long as that much is left. Not for: how much is left (``budget``).
"""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar
from typing import Any

from ferricorn.budget import Budget, Left, Pace, is_spent, mark_spent
from ferricorn.on_import import OnImport

_READ, _CONNECT = "socket_timeout", "socket_connect_timeout"
# Where the first of them stands among the arguments of ``Redis``, after ``self``.
_READ_AT = 4
# Which of them were said: on a pool by its maker, on a connection by its pool's.
_SAID = "_ferricorn_said"
_PACE = "_ferricorn_pace"
_NONE: frozenset[str] = frozenset()

# What the maker of a client has said, who hands all of them to its pool; unknown where no client is being made.
_SAID_NOW: ContextVar[frozenset[str] | None] = ContextVar("ferricorn_redis_timeouts_said", default=None)


def adapt(on_import: OnImport, budget: Budget) -> None:
    """Has the library adapted when the application imports it."""
    on_import.call("redis.retry", _retry)
    on_import.call("redis.asyncio.retry", _retry_async)
    on_import.call("redis.connection", lambda module: _connections(module, budget))
    on_import.call("redis.asyncio.connection", lambda module: _connections_async(module, budget))
    on_import.call("redis.client", _client)
    on_import.call("redis.asyncio.client", _client)


def _client(module: Any) -> None:
    client = module.Redis
    init = client.__init__

    @functools.wraps(init)
    def init_(self: Any, *args: Any, **kwargs: Any) -> None:
        said = _said(kwargs) | ({_READ} if len(args) > _READ_AT else set())
        token = _SAID_NOW.set(said)
        try:
            init(self, *args, **kwargs)
        finally:
            _SAID_NOW.reset(token)

    client.__init__ = init_


def _said(kwargs: dict[str, Any]) -> frozenset[str]:
    return frozenset(name for name in (_READ, _CONNECT) if name in kwargs)


def _pools(module: Any) -> None:
    """Has each connection know which timeouts somebody has said, be it ``None``."""
    pool = module.ConnectionPool
    init = pool.__init__

    @functools.wraps(init)
    def init_(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        by_client = _SAID_NOW.get()
        setattr(self, _SAID, _said(kwargs) if by_client is None else by_client)

    pool.__init__ = init_
    for kind in (pool, module.BlockingConnectionPool):
        if "make_connection" in vars(kind):
            kind.make_connection = _making(kind.make_connection)


def _making(make: Any) -> Any:
    @functools.wraps(make)
    def make_connection(self: Any) -> Any:
        connection = make(self)
        setattr(connection, _SAID, getattr(self, _SAID, _NONE))
        return connection

    return make_connection


class _Limit:
    """What a step of a connection is limited to, by one of its attributes."""

    def __init__(self, module: Any, budget: Budget) -> None:
        self.budget = budget
        # What the library has where nobody says anything; the same for both.
        self.own: float | None = inspect.signature(module.AbstractConnection.__init__).parameters[_READ].default

    def is_unsaid(self, connection: Any, name: str) -> bool:
        """Tells whether nobody has said that timeout."""
        said = getattr(connection, _SAID, _NONE)
        # Who has said the first has said what the second is without a word.
        return name not in said and _READ not in said and getattr(connection, name) == self.own

    def less(self) -> Left | None:
        """Returns what is left where that is less than the library's own."""
        left = self.budget.left()
        return left if left is not None and (self.own is None or left < self.own) else None


def _connections(module: Any, budget: Budget) -> None:
    _pools(module)
    limit, base = _Limit(module, budget), module.AbstractConnection
    for connection in (module.Connection, module.UnixDomainSocketConnection):
        connection._connect = _connecting(connection._connect, limit)
    for name in ("send_packed_command", "read_response"):
        setattr(base, name, _paced(getattr(base, name), module.TimeoutError, limit))


def _connecting(connect: Any, limit: _Limit) -> Any:
    @functools.wraps(connect)
    def connect_(self: Any) -> Any:
        left = limit.less() if limit.is_unsaid(self, _CONNECT) else None
        if left is None:
            return connect(self)
        setattr(self, _CONNECT, left)
        try:
            return connect(self)
        except TimeoutError as error:
            mark_spent(error)
            raise
        finally:
            setattr(self, _CONNECT, limit.own)

    return connect_


def _paced(step: Any, timeout_error: Any, limit: _Limit) -> Any:
    """A step on a connection whose socket gets what is left."""

    @functools.wraps(step)
    def step_(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not limit.is_unsaid(self, _READ):
            return step(self, *args, **kwargs)
        sock, left = self._sock, limit.less()
        if sock is not None:
            pace = self.__dict__.get(_PACE)
            if pace is None or pace[1] is not sock:
                pace = self.__dict__[_PACE] = (Pace(limit.budget, limit.own), sock)
            pace[0].keep(sock)
        try:
            return step(self, *args, **kwargs)
        except timeout_error as error:
            if left is not None:
                mark_spent(error)
            raise

    return step_


def _connections_async(module: Any, budget: Budget) -> None:
    _pools(module)
    limit, base = _Limit(module, budget), module.AbstractConnection
    for connection in (module.Connection, module.UnixDomainSocketConnection):
        connection._connect = _limited(connection._connect, _CONNECT, TimeoutError, limit)
    for name in ("send_packed_command", "read_response"):
        setattr(base, name, _limited(getattr(base, name), _READ, module.TimeoutError, limit))


def _limited(step: Any, attribute: str, timeout_error: Any, limit: _Limit) -> Any:
    """A step on a connection that looks at this attribute for its time."""

    @functools.wraps(step)
    async def step_(self: Any, *args: Any, **kwargs: Any) -> Any:
        left = limit.less() if limit.is_unsaid(self, attribute) else None
        if left is None:
            return await step(self, *args, **kwargs)
        setattr(self, attribute, left)
        try:
            return await step(self, *args, **kwargs)
        except timeout_error as error:
            mark_spent(error)
            raise
        finally:
            setattr(self, attribute, limit.own)

    return step_


def _retry(module: Any) -> None:
    """A command that has used up what was left is not tried again."""
    retry = module.Retry
    call = retry.call_with_retry

    @functools.wraps(call)
    def call_with_retry(self: Any, do: Any, fail: Any, *args: Any, **kwargs: Any) -> Any:
        def fail_(error: BaseException, *more: Any) -> None:
            fail(error, *more)
            if is_spent(error):
                raise error

        return call(self, do, fail_, *args, **kwargs)

    retry.call_with_retry = call_with_retry


def _retry_async(module: Any) -> None:
    retry = module.Retry
    call = retry.call_with_retry

    @functools.wraps(call)
    async def call_with_retry(self: Any, do: Any, fail: Any, *args: Any, **kwargs: Any) -> Any:
        async def fail_(error: BaseException, *more: Any) -> None:
            await fail(error, *more)
            if is_spent(error):
                raise error

        return await call(self, do, fail_, *args, **kwargs)

    retry.call_with_retry = call_with_retry
