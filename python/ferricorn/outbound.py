"""Gives HTTP calls without a timeout what is left of the request's time, and tells the other side how much that is.

For http.client (and urllib.request, which uses it), urllib3, requests and httpx; docs/prevention.md names the versions. What the
caller says always counts, and a timeout ends a call by the library's own exception. Not for: how much is left (``budget``), nor
for when a library is there (``on_import``).
"""

from __future__ import annotations

import functools
import socket
from contextvars import ContextVar
from typing import Any

from ferricorn.budget import Budget, Left, Pace, is_spent, mark_spent
from ferricorn.on_import import OnImport

_PACE = "_ferricorn_pace"


def adapt(on_import: OnImport, budget: Budget, header: str | None) -> None:
    """Has each library adapted when the application imports it."""
    on_import.call("http.client", lambda module: _http_client(module, budget))
    on_import.call("urllib3.connectionpool", lambda module: _urllib3(module, budget))
    on_import.call("requests.sessions", _requests_sessions)
    on_import.call("requests.adapters", lambda module: _requests_adapters(module, budget))
    if header is not None:
        on_import.call("http.client", lambda module: _http_client_header(module, budget, header))
        on_import.call("httpx", lambda module: _httpx(module, budget, header))


def _is_unsaid(timeout: object) -> bool:
    """Tells whether nobody has said a timeout, for this call or for all sockets."""
    return timeout is socket._GLOBAL_DEFAULT_TIMEOUT and socket.getdefaulttimeout() is None  # type: ignore[attr-defined]


def _http_client(module: Any, budget: Budget) -> None:
    """A connection keeps its socket's timeout at what is left: it may serve many requests of ours, or none."""
    connection, response = module.HTTPConnection, module.HTTPResponse
    connect, send, getresponse = connection.connect, connection.send, connection.getresponse

    @functools.wraps(connect)
    def connect_(self: Any) -> None:
        left = budget.left() if _is_unsaid(self.timeout) else None
        if left is None:
            return connect(self)  # type: ignore[no-any-return]
        unsaid, self.timeout = self.timeout, left
        try:
            connect(self)
        finally:
            self.timeout = unsaid
        self.__dict__[_PACE] = Pace(budget, ours=left)

    @functools.wraps(send)
    def send_(self: Any, data: Any) -> None:
        # A socket that this opens has its timeout from ``connect``.
        if self.sock is not None and (pace := _pace_of(self, budget)):
            pace.keep(self.sock)
        send(self, data)

    @functools.wraps(getresponse)
    def getresponse_(self: Any) -> Any:
        sock, pace = self.sock, _pace_of(self, budget)
        if sock is not None and pace is not None:
            pace.keep(sock)
        found = getresponse(self)
        if sock is not None and pace is not None:
            # The connection may give its socket up to the response.
            found.__dict__[_PACE] = (pace, sock)
        return found

    connection.connect, connection.send, connection.getresponse = connect_, send_, getresponse_
    for name in ("read", "read1", "readinto", "readline"):
        setattr(response, name, _reading(getattr(response, name)))


def _pace_of(connection: Any, budget: Budget) -> Pace | None:
    """What keeps the pace of a connection; ``None`` where the caller has given a timeout."""
    if isinstance(connection.timeout, Left):
        # urllib3's, which sets its socket's timeout by this before each step.
        return Pace(budget, ours=connection.timeout)
    if not _is_unsaid(connection.timeout):
        return None
    pace: Pace = connection.__dict__.setdefault(_PACE, Pace(budget))
    return pace


def _reading(read: Any) -> Any:
    @functools.wraps(read)
    def read_(self: Any, *args: Any, **kwargs: Any) -> Any:
        kept = self.__dict__.get(_PACE)
        # A socket that is closed has been read to its end.
        if kept is not None and kept[1].fileno() >= 0:
            kept[0].keep(kept[1])
        return read(self, *args, **kwargs)

    return read_


def _http_client_header(module: Any, budget: Budget, header: str) -> None:
    connection = module.HTTPConnection
    endheaders = connection.endheaders
    begin = header.encode("ascii") + b":"

    @functools.wraps(endheaders)
    def endheaders_(self: Any, *args: Any, **kwargs: Any) -> None:
        left = budget.milliseconds()
        if left is not None and not any(line.lower().startswith(begin) for line in self._buffer):
            self.putheader(header, left)
        endheaders(self, *args, **kwargs)

    connection.endheaders = endheaders_


def _urllib3(module: Any, budget: Budget) -> None:
    """Neither call nor pool with a timeout: each try gets what is left, and there is none after one that has used it up."""
    timeouts, pool, errors = module.Timeout, module.HTTPConnectionPool, module.TimeoutError
    unsaid = timeouts.DEFAULT_TIMEOUT
    get_timeout, raise_timeout, retry = pool._get_timeout, pool._raise_timeout, module.Retry
    increment = retry.increment
    ours = timeout_class(timeouts, budget)

    @functools.wraps(get_timeout)
    def get_timeout_(self: Any, timeout: Any) -> Any:
        found = get_timeout(self, timeout)
        is_unsaid = timeout is not None and type(found) is timeouts and found.total is None
        is_unsaid = is_unsaid and found._connect is unsaid and found._read is unsaid
        if is_unsaid and socket.getdefaulttimeout() is None and budget.left() is not None:
            return ours()
        return found

    @functools.wraps(raise_timeout)
    def raise_timeout_(self: Any, err: Any, url: Any, timeout_value: Any) -> None:
        try:
            raise_timeout(self, err, url, timeout_value)
        except errors as error:
            if isinstance(timeout_value, Left):
                mark_spent(error)
            raise

    @functools.wraps(increment)
    def increment_(
        self: Any, method: Any = None, url: Any = None, response: Any = None, error: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        # One that could not connect in time has the connection.
        parts = getattr(error, "args", ())
        spent = is_spent(error) or any(isinstance(getattr(part, "timeout", None), Left) for part in parts)
        if spent and isinstance(error, errors) and self.total is not False:
            self = self.new(total=0)
        return increment(self, method, url, response, error, *args, **kwargs)

    pool._get_timeout, pool._raise_timeout, retry.increment = get_timeout_, raise_timeout_, increment_


def timeout_class(timeouts: Any, budget: Budget) -> Any:
    """Returns urllib3's ``Timeout`` with what is left when it is looked at."""

    class RequestBudget(timeouts):  # type: ignore[misc]
        """What is left of the request's time."""

        def clone(self) -> Any:
            return type(self)()

        @property
        def connect_timeout(self) -> Left | None:
            return budget.left()

        @property
        def read_timeout(self) -> Left | None:
            return budget.left()

    return RequestBudget


# Whether the caller of requests has said a timeout, be it ``None``; unknown outside of a session's methods.
_SAID: ContextVar[bool | None] = ContextVar("ferricorn_requests_timeout_said", default=None)
# Where ``timeout`` stands among the arguments of ``Session.request``, after ``self``.
_TIMEOUT_AT = 8


def _requests_sessions(module: Any) -> None:
    """The adapter, which applies the timeout, cannot tell ``None`` from nothing: what the caller has said is noted here."""
    session = module.Session
    request, send = session.request, session.send

    @functools.wraps(request)
    def request_(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _SAID.set("timeout" in kwargs or len(args) > _TIMEOUT_AT)
        try:
            return request(self, *args, **kwargs)
        finally:
            _SAID.reset(token)

    @functools.wraps(send)
    def send_(self: Any, prepared: Any, **kwargs: Any) -> Any:
        if _SAID.get() is not None:
            return send(self, prepared, **kwargs)
        token = _SAID.set("timeout" in kwargs)
        try:
            return send(self, prepared, **kwargs)
        finally:
            _SAID.reset(token)

    session.request, session.send = request_, send_


def _requests_adapters(module: Any, budget: Budget) -> None:
    """At the adapter, so that one that has a timeout of its own keeps it."""
    adapter = module.HTTPAdapter
    send = adapter.send
    ours = timeout_class(module.TimeoutSauce, budget)

    @functools.wraps(send)
    def send_(self: Any, request: Any, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any) -> Any:
        unsaid = timeout is None and not _SAID.get() and socket.getdefaulttimeout() is None
        if unsaid and budget.left() is not None:
            timeout = ours()
        return send(self, request, stream, timeout, *args, **kwargs)

    adapter.send = send_


def _httpx(module: Any, budget: Budget, header: str) -> None:
    """It has a timeout of its own; only the header is missing."""
    sync, tasks = module.Client.send, module.AsyncClient.send

    def tell(request: Any) -> None:
        left = budget.milliseconds()
        if left is not None and header not in request.headers:
            request.headers[header] = left

    @functools.wraps(sync)
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        tell(request)
        return sync(self, request, **kwargs)

    @functools.wraps(tasks)
    async def send_async(self: Any, request: Any, **kwargs: Any) -> Any:
        tell(request)
        return await tasks(self, request, **kwargs)

    module.Client.send, module.AsyncClient.send = send, send_async
