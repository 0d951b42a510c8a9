"""Gives commands of redis without a timeout what is left of the request's time.

For redis-py up to 7, where a connection has none unless it is given one; 8 has one of its own, of 5 s, which is left alone. Not
for: how much is left (``budget``).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ferricorn.budget import Budget, Pace, is_spent, mark_spent
from ferricorn.on_import import OnImport

_PACE = "_ferricorn_pace"
# On a pool: whether its maker has said that there shall be no timeout. On a connection: it is of such a pool.
_ENDLESS = "_ferricorn_endless"
# Where ``socket_timeout`` stands among the arguments of ``Redis``, after ``self``.
_TIMEOUT_AT = 4


def adapt(on_import: OnImport, budget: Budget) -> None:
    """Has the library adapted when the application imports it."""
    on_import.call("redis.retry", _retry)
    on_import.call("redis.asyncio.retry", _retry_async)
    on_import.call("redis.connection", lambda module: _connections(module, budget))
    on_import.call("redis.asyncio.connection", lambda module: _connections_async(module, budget))
    on_import.call("redis.client", _client)
    on_import.call("redis.asyncio.client", _client)


def _has_own_timeout(module: Any) -> bool:
    parameters = inspect.signature(module.AbstractConnection.__init__).parameters
    return parameters["socket_timeout"].default is not None


# Whether the maker of a client has said that there shall be no timeout; unknown where no client is being made.
_SAID: ContextVar[bool | None] = ContextVar("ferricorn_redis_timeout_said", default=None)


def _client(module: Any) -> None:
    """A client hands ``None`` to its pool whether it was said or not: which of them is noted here."""
    client = module.Redis
    init = client.__init__

    @functools.wraps(init)
    def init_(self: Any, *args: Any, **kwargs: Any) -> None:
        said = kwargs.get("socket_timeout", 0) is None or (len(args) > _TIMEOUT_AT and args[_TIMEOUT_AT] is None)
        token = _SAID.set(said)
        try:
            init(self, *args, **kwargs)
        finally:
            _SAID.reset(token)

    client.__init__ = init_


def _pools(module: Any) -> None:
    """Has each connection know whether it may have a timeout."""
    pool = module.ConnectionPool
    init = pool.__init__

    @functools.wraps(init)
    def init_(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        said = _SAID.get()
        if said is None:
            said = kwargs.get("socket_timeout", 0) is None
        setattr(self, _ENDLESS, said)

    pool.__init__ = init_
    for name in ("ConnectionPool", "BlockingConnectionPool"):
        kind = getattr(module, name)
        if "make_connection" in vars(kind):
            kind.make_connection = _making(kind.make_connection)


def _making(make: Callable[[Any], Any]) -> Any:
    @functools.wraps(make)
    def make_connection(self: Any) -> Any:
        connection = make(self)
        if getattr(self, _ENDLESS, False):
            setattr(connection, _ENDLESS, True)
        return connection

    return make_connection


def _is_unsaid(connection: Any) -> bool:
    return connection.socket_timeout is None and not getattr(connection, _ENDLESS, False)


def _connections(module: Any, budget: Budget) -> None:
    if _has_own_timeout(module):
        return
    _pools(module)
    base = module.AbstractConnection
    for connection in (module.Connection, module.UnixDomainSocketConnection):
        connection._connect = _connecting(connection._connect, budget)
    base.send_packed_command = _paced(base.send_packed_command, module.TimeoutError, budget)
    base.read_response = _paced(base.read_response, module.TimeoutError, budget)


def _connecting(connect: Any, budget: Budget) -> Any:
    @functools.wraps(connect)
    def connect_(self: Any) -> Any:
        left = budget.left() if _is_unsaid(self) and self.socket_connect_timeout is None else None
        if left is None:
            return connect(self)
        self.socket_connect_timeout = left
        try:
            return connect(self)
        except TimeoutError as error:
            mark_spent(error)
            raise
        finally:
            self.socket_connect_timeout = None

    return connect_


def _paced(step: Any, timeout_error: Any, budget: Budget) -> Any:
    """A step on a connection whose socket gets what is left."""

    @functools.wraps(step)
    def step_(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_unsaid(self):
            return step(self, *args, **kwargs)
        sock = self._sock
        if sock is not None:
            pace = self.__dict__.get(_PACE)
            if pace is None or pace[1] is not sock:
                pace = self.__dict__[_PACE] = (Pace(budget), sock)
            pace[0].keep(sock)
        try:
            return step(self, *args, **kwargs)
        except timeout_error as error:
            if budget.left() is not None:
                mark_spent(error)
            raise

    return step_


def _connections_async(module: Any, budget: Budget) -> None:
    if _has_own_timeout(module):
        return
    _pools(module)
    base = module.AbstractConnection
    for connection in (module.Connection, module.UnixDomainSocketConnection):
        connection._connect = _limited(connection._connect, "socket_connect_timeout", (TimeoutError,), budget)
    for name in ("send_packed_command", "read_response"):
        errors = (module.TimeoutError,)
        setattr(base, name, _limited(getattr(base, name), "socket_timeout", errors, budget))


def _limited(step: Any, attribute: str, errors: tuple[type[BaseException], ...], budget: Budget) -> Any:
    """A step on a connection that looks at this attribute for its time."""

    @functools.wraps(step)
    async def step_(self: Any, *args: Any, **kwargs: Any) -> Any:
        unsaid = _is_unsaid(self) and getattr(self, attribute) is None
        left = budget.left() if unsaid else None
        if left is None:
            return await step(self, *args, **kwargs)
        setattr(self, attribute, left)
        try:
            return await step(self, *args, **kwargs)
        except errors as error:
            mark_spent(error)
            raise
        finally:
            setattr(self, attribute, None)

    return step_


def _retry(module: Any) -> None:
    """A command that has used up what was left is not tried again."""
    retry = module.Retry
    call = retry.call_with_retry

    @functools.wraps(call)
    def call_with_retry(self: Any, do: Any, fail: Any, is_retryable: Any = None, *args: Any, **kwargs: Any) -> Any:
        return call(self, do, fail, _unless_spent(is_retryable), *args, **kwargs)

    retry.call_with_retry = call_with_retry


def _retry_async(module: Any) -> None:
    retry = module.Retry
    call = retry.call_with_retry

    @functools.wraps(call)
    async def call_with_retry(self: Any, do: Any, fail: Any, is_retryable: Any = None, *args: Any, **kwargs: Any) -> Any:
        return await call(self, do, fail, _unless_spent(is_retryable), *args, **kwargs)

    retry.call_with_retry = call_with_retry


def _unless_spent(is_retryable: Any) -> Any:
    return lambda error: not is_spent(error) and (is_retryable is None or is_retryable(error))
