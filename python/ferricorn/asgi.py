"""The asyncio half of the worker class ``asgi``: the event loop, the application's lifespan, a task for each request.

The worker's own loop (Rust) runs nested in the event loop: ``Driver.turn`` is called when its descriptors are readable.
Not for: HTTP, which is all Rust; deadlines, which Rust decides.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ferricorn.config import Config
from ferricorn.errors import StartupError
from ferricorn.timeouts import REQUEST

# Seconds that tasks which were cancelled at the end get to come to theirs.
LAST_SECONDS = 1.0

Message = dict[str, Any]


class Loop:
    """The event loop of one worker, with the application's lifespan in it."""

    def __init__(self, cfg: Config, log: Any, app: Any) -> None:
        asked = _asked(cfg, log)
        self.loop = _new_loop(asked["asgi_loop"])
        self.ident = threading.get_ident()
        asyncio.set_event_loop(self.loop)
        self.root_path: str = asked["root_path"]
        self.state: dict[str, Any] = {}
        self._log = log
        self._app = _single(app)
        self._patience = float(cfg.graceful_timeout)
        self._ended = False
        # When those who still work at the end are cancelled.
        self._until = 0.0
        self._lifespan = Lifespan(self._app, asked["asgi_lifespan"], self.state, log)

    def start(self) -> None:
        """Runs the application's start-up; raises ``StartupError`` if it fails."""
        self.loop.run_until_complete(self._lifespan.start())

    def scopes(self) -> tuple[Message, Message]:
        """Returns what every request and every WebSocket has in its scope; keys that differ are set, or copied, for each."""
        common = {
            "http_version": "1.1",
            "server": None,
            "client": None,
            "root_path": self.root_path,
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [],
            "state": {},
        }
        extensions = ("http.response.trailers", "http.response.pathsend", "http.response.early_hint")
        http = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "http",
            "method": "GET",
            "extensions": {name: {} for name in extensions},
        }
        websocket = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": "ws",
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        return {**common, **http}, {**common, **websocket}

    def respond(self, scope: Message, cycle: Any) -> Coroutine[Any, Any, None]:
        """Returns the work on a request, for its task."""
        return _respond(self._app, scope, cycle)

    def run(self, driver: Any) -> None:
        """Serves until the worker's loop has ended, then ends the tasks that are left and the application's lifespan."""
        for descriptor in driver.fds():
            self.loop.add_reader(descriptor, driver.turn)
        self.loop.call_soon(driver.turn)
        while not self._ended:
            try:
                self.loop.run_forever()
            except SystemExit:
                self._log.error("A task has raised SystemExit; the worker goes on")
        for descriptor in driver.fds():
            self.loop.remove_reader(descriptor)
        self.loop.run_until_complete(self._leave(driver.last_tasks()))
        self.loop.close()

    def drain(self) -> None:
        """Hears that the worker is to end once what it works on is done, within the graceful timeout."""
        self._until = self.loop.time() + self._patience - 2 * LAST_SECONDS

    def stop(self, quick: bool) -> None:
        """Ends ``run``; ``quick`` without patience."""
        self._ended = True
        if quick:
            self._until = 0.0
        self.loop.stop()

    async def _leave(self, requests: list[asyncio.Task[None]]) -> None:
        """Ends first the requests that work on after their responses, then the application, then what that has left."""
        if requests:
            await asyncio.wait(requests, timeout=max(0.0, self._until - self.loop.time()))
        await _cancel([task for task in requests if not task.done()])
        await self._lifespan.stop()
        await _cancel([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
        await self.loop.shutdown_asyncgens()


async def _respond(app: Callable[..., Awaitable[None]], scope: Message, cycle: Any) -> None:
    request = cycle.request
    REQUEST.set(request)
    try:
        await app(scope, cycle.receive, cycle.send)
    except asyncio.CancelledError as error:
        cycle.leave(error)
        raise
    except BaseException as error:
        # Also SystemExit: one request ends, not the worker.
        cycle.leave(error)
    else:
        cycle.leave(None)


def environ_of(scope: Message) -> dict[str, Any]:
    """Returns what hooks and loggers know of a request, as they would of one of WSGI."""
    host, port = scope["server"] or ("", None)
    path = scope["raw_path"].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    environ = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "RAW_URI": f"{path}?{query}" if query else path,
        "SCRIPT_NAME": scope["root_path"],
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": "" if port is None else str(port),
        "REMOTE_ADDR": (scope["client"] or ("",))[0],
        "REMOTE_PORT": str((scope["client"] or ("", ""))[1]),
        "wsgi.url_scheme": scope["scheme"],
    }
    for name, value in scope["headers"]:
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancels tasks and waits for them a little."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_SECONDS)


class Lifespan:
    """The application's start-up and shutdown (ASGI lifespan 2.0)."""

    def __init__(self, app: Callable[..., Awaitable[None]], mode: str, state: dict[str, Any], log: Any) -> None:
        self.task: asyncio.Task[None] | None = None
        self._app, self._mode, self._state, self._log = app, mode, state, log
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._started, self._stopped = asyncio.Event(), asyncio.Event()
        self._error: BaseException | None = None
        self._refused: str | None = None

    async def start(self) -> None:
        """Starts the application up; raises ``StartupError`` if it says, or shows, that it cannot."""
        if self._mode == "off":
            return
        self._log.info("Waiting for application startup.")
        self.task = asyncio.get_running_loop().create_task(self._run())
        self._messages.put_nowait({"type": "lifespan.startup"})
        await self._started.wait()
        if self._refused is not None:
            raise StartupError(self._refused)
        if self._error is None:
            self._log.info("Application startup complete.")
        elif self._mode == "on":
            raise StartupError("the application raised in its lifespan") from self._error
        else:
            self._log.info("ASGI 'lifespan' protocol appears unsupported.")

    async def stop(self) -> None:
        """Shuts the application down."""
        if self.task is None or self.task.done():
            return
        self._log.info("Waiting for application shutdown.")
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        await self._stopped.wait()
        if self._refused is not None:
            self._log.error("Application shutdown failed: %s", self._refused)
        elif self._error is not None:
            self._log.error("Application shutdown failed.", exc_info=self._error)
        else:
            self._log.info("Application shutdown complete.")

    async def _run(self) -> None:
        asgi = {"version": "3.0", "spec_version": "2.0"}
        try:
            await self._app({"type": "lifespan", "asgi": asgi, "state": self._state}, self._messages.get, self._send)
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()
            self._stopped.set()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("lifespan.startup.failed", "lifespan.shutdown.failed"):
            self._refused = message.get("message", "") or "the application gave no reason"
        elif kind not in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
            raise RuntimeError(f"Unexpected ASGI message '{kind}' sent in the lifespan.")
        (self._started if kind.startswith("lifespan.startup") else self._stopped).set()


# What a worker class derived from Uvicorn's may ask for (``CONFIG_KWARGS``), and the setting that it stands for.
_KWARGS = {"loop": "asgi_loop", "lifespan": "asgi_lifespan", "root_path": "root_path"}
# Which parser and which logs: nothing here depends on it.
_IDLE_KWARGS = {"http", "ws", "interface", "log_config", "log_level", "access_log", "use_colors"}


def _asked(cfg: Config, log: Any) -> dict[str, Any]:
    """Returns these settings, or where nobody set them what the worker class asks for; names in the log what has no effect."""
    asked = {setting: getattr(cfg, setting) for setting in _KWARGS.values()}
    for name, value in getattr(cfg.worker_class, "CONFIG_KWARGS", {}).items():
        setting = _KWARGS.get(name)
        if setting is None and name not in _IDLE_KWARGS:
            log.warning("CONFIG_KWARGS of the worker class: %s has no effect; see the settings for what does the same", name)
        elif setting is not None and not cfg.settings[setting].configured:
            asked[setting] = value
    return asked


def _new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """Makes an event loop: ``auto`` is uvloop where that is installed."""
    if kind in ("auto", "uvloop"):
        try:
            import uvloop
        except ImportError:
            if kind == "uvloop":
                raise RuntimeError("asgi_loop is uvloop, which is not installed: pip install uvloop") from None
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def _single(app: Any) -> Callable[..., Awaitable[None]]:
    """Returns an application of ASGI 3; one of ASGI 2, called twice, is wrapped."""
    if inspect.isclass(app):
        double = not hasattr(app, "__await__")
    elif inspect.isfunction(app) or inspect.ismethod(app):
        double = not inspect.iscoroutinefunction(app) and _parameters(app) == 1
    else:
        call = getattr(app, "__call__", None)  # noqa: B004 (its signature is wanted)
        double = not inspect.iscoroutinefunction(call) and _parameters(call) == 1
    if not double:
        return app  # type: ignore[no-any-return]

    def called_twice(scope: Message, receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        return app(scope)(receive, send)  # type: ignore[no-any-return]

    return called_twice


def _parameters(function: Any) -> int:
    try:
        return len(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return 3

