"""What hooks see: ``server``, ``worker``, ``req`` and ``resp``, and ``Hooks``, which calls them.

These objects carry facts from the arbiter and the worker loop (Rust) to user code. They decide nothing: when a hook
runs, and what its failure means, the caller knows.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ferricorn.hook_table import ARITIES

HeaderList = list[tuple[str, str]]


class Listener:
    """A listening socket to look at. It is the server's: a copy kept open here would let clients in whom nobody serves."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        with socket.socket(fileno=os.dup(fd)) as copy:
            self.family = copy.family
            self._name = copy.getsockname()

    def fileno(self) -> int:
        """Returns the descriptor."""
        return self._fd

    def getsockname(self) -> Any:
        """Returns the address that it is bound to."""
        return self._name

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return f"unix:{self._name}"
        host = f"[{self._name[0]}]" if self.family == socket.AF_INET6 else self._name[0]
        return f"http://{host}:{self._name[1]}"


class Arbiter:
    """The master process, as ``server``."""

    WORKER_BOOT_ERROR = 3
    APP_LOAD_ERROR = 4

    def __init__(self, cfg: Any, log: Any, app: Any = None) -> None:
        self.cfg = cfg
        self.log = log
        self.app = app
        self.pid = os.getpid()
        self.master_pid = 0
        self.master_name = "Master"
        self.reexec_pid = 0
        self.WORKERS: dict[int, Worker] = {}
        self.LISTENERS: list[Listener] = []
        self.worker_age = 0
        self.setup(cfg)

    def setup(self, cfg: Any) -> None:
        """Takes over a configuration: the first one, or that of a reload."""
        self.cfg = cfg
        self.address = cfg.address
        self.num_workers: int = cfg.workers
        self.timeout: int = cfg.timeout
        self.proc_name: str = cfg.proc_name
        self.worker_class = cfg.worker_class

    def kill_worker(self, pid: int, sig: int) -> None:
        """Sends a signal to one worker; one that is gone is no error."""
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            self.WORKERS.pop(pid, None)

    def kill_workers(self, sig: int) -> None:
        """Sends a signal to every worker."""
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)

    def stop(self, graceful: bool = True) -> None:
        """Asks the master to shut down."""
        os.kill(self.pid, signal.SIGTERM if graceful else signal.SIGQUIT)

    def reload(self) -> None:
        """Asks the master to reload."""
        os.kill(self.pid, signal.SIGHUP)


class WorkerTmp:
    """Stands for Gunicorn's heartbeat file; here the heartbeat is in shared memory and needs no help."""

    def notify(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Worker:
    """A worker process, as ``worker``: before the fork in the arbiter, after it in the worker itself."""

    # Which worker loop serves a subclass of this.
    kind = "sync"

    def __init__(
        self,
        age: int,
        ppid: int,
        sockets: list[Any],
        app: Any,
        timeout: float,
        cfg: Any,
        log: Any,
    ) -> None:
        self.age = age
        self.pid: int | str = "[booting]"
        self.ppid = ppid
        self.sockets = sockets
        self.app = app
        self.timeout = timeout
        self.cfg = cfg
        self.log = log
        self.booted = False
        self.aborted = False
        self.alive = True
        self.reloader = None
        self.nr = 0
        self.max_requests = sys.maxsize
        if cfg.max_requests > 0:
            self.max_requests = cfg.max_requests + random.randint(0, cfg.max_requests_jitter)
        self.tmp = WorkerTmp()
        self.wsgi: Any = None

    def notify(self) -> None:
        """Does nothing: the heartbeat needs no help from Python."""

    def init_process(self) -> None:
        """Runs in the worker before it serves; subclasses that override it call this one last."""
        self.load_wsgi()

    def load_wsgi(self) -> None:
        """Loads the application."""
        self.wsgi = self.app.wsgi()

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"


class SyncWorker(Worker):
    """One request at a time."""


class ThreadWorker(Worker):
    """A pool of threads."""

    kind = "gthread"


class GeventWorker(Worker):
    """Greenlets."""

    kind = "gevent"


class ASGIWorker(Worker):
    """An ASGI application on an event loop."""

    kind = "asgi"


class UvicornWorker(ASGIWorker):
    """The ASGI worker under the name that FastAPI projects configure."""


WORKER_CLASSES: dict[str, type[Worker]] = {
    "sync": SyncWorker,
    "gunicorn.workers.sync.SyncWorker": SyncWorker,
    "gthread": ThreadWorker,
    "gunicorn.workers.gthread.ThreadWorker": ThreadWorker,
    "gevent": GeventWorker,
    "gevent_wsgi": GeventWorker,
    "gevent_pywsgi": GeventWorker,
    "gunicorn.workers.ggevent.GeventWorker": GeventWorker,
    "gunicorn.workers.ggevent.GeventPyWSGIWorker": GeventWorker,
    "asgi": ASGIWorker,
    "gunicorn.workers.gasgi.ASGIWorker": ASGIWorker,
    "uvicorn.workers.UvicornWorker": UvicornWorker,
    "uvicorn.workers.UvicornH11Worker": UvicornWorker,
    "uvicorn_worker.UvicornWorker": UvicornWorker,
    "uvicorn_worker.UvicornH11Worker": UvicornWorker,
}


class Request:
    """The request, as ``req``: a view of the WSGI environ, built only if a hook or a logger looks."""

    def __init__(self, environ: Mapping[str, Any], req_number: int = 1, headers: HeaderList | None = None) -> None:
        self.environ = environ
        self.req_number = req_number
        self.trailers: HeaderList = []
        self._headers = headers

    @property
    def method(self) -> str:
        """The method."""
        return str(self.environ["REQUEST_METHOD"])

    @property
    def uri(self) -> str:
        """The request target as it was sent."""
        return str(self.environ["RAW_URI"])

    @property
    def path(self) -> str:
        """The path as it was sent, not decoded."""
        return _split(self.uri)[0]

    @property
    def query(self) -> str:
        """The query string."""
        return _split(self.uri)[1]

    @property
    def fragment(self) -> str:
        """The fragment; clients do not normally send one."""
        return _split(self.uri)[2]

    @property
    def version(self) -> tuple[int, int]:
        """The HTTP version, as two numbers."""
        major, _, minor = str(self.environ["SERVER_PROTOCOL"]).rpartition("/")[2].partition(".")
        return int(major), int(minor or 0)

    @property
    def headers(self) -> HeaderList:
        """The header fields as ``(NAME, value)``; without the raw ones, repeated fields are one, joined by commas."""
        if self._headers is None:
            self._headers = [(_field(key), value) for key, value in self.environ.items() if _is_field(key)]
        return self._headers

    @property
    def body(self) -> Any:
        """The body, as the application gets it."""
        return self.environ["wsgi.input"]

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return str(self.environ["wsgi.url_scheme"])

    @property
    def peer_addr(self) -> Any:
        """The client's address: ``(host, port)``, or an empty string on a Unix socket."""
        host, port = self.environ.get("REMOTE_ADDR", ""), self.environ.get("REMOTE_PORT")
        return host if port is None else (host, int(port))

    @property
    def remote_addr(self) -> Any:
        """The client's address."""
        return self.peer_addr

    @property
    def proxy_protocol_info(self) -> dict[str, Any] | None:
        """What the PROXY protocol said, if the connection began with it."""
        environ = self.environ
        if "PROXY_PROTOCOL" not in environ:
            return None
        return {
            "proxy_protocol": environ["PROXY_PROTOCOL"],
            "client_addr": environ["REMOTE_ADDR"],
            "client_port": int(environ["REMOTE_PORT"]),
            "proxy_addr": environ["PROXY_ADDR"],
            "proxy_port": int(environ["PROXY_PORT"]),
        }


class Response:
    """The response, as ``resp``: what was sent."""

    __slots__ = ("chunked", "headers", "headers_sent", "must_close", "response_length", "sent", "status", "upgrade")

    def __init__(
        self,
        status: str | None = None,
        headers: HeaderList | None = None,
        sent: int = 0,
        response_length: int | None = None,
        headers_sent: bool = True,
        chunked: bool = False,
    ) -> None:
        self.status = status
        self.headers: HeaderList = headers if headers is not None else []
        self.sent = sent
        self.response_length = response_length
        self.headers_sent = headers_sent
        self.chunked = chunked
        self.must_close = False
        self.upgrade = False

    @property
    def status_code(self) -> int | None:
        """The status as a number."""
        return None if self.status is None else int(self.status.split(None, 1)[0])


class Hooks:
    """Calls the configured hooks, one method each.

    An exception of a hook reaches the caller, except in ``post_request``: its response is already sent.
    """

    def __init__(self, cfg: Any, server: Any) -> None:
        self.cfg = cfg
        self.server = server

    def has(self, name: str) -> bool:
        """Tells whether the user configured this hook, so that the hot path can skip one that does nothing."""
        return bool(self.cfg.settings[name].configured)

    def configured(self) -> list[str]:
        """Returns the names of the hooks the user configured."""
        return [name for name in ARITIES if self.has(name)]

    def on_starting(self) -> None:
        """Before the master initializes."""
        self.cfg.on_starting(self.server)

    def when_ready(self) -> None:
        """After the listeners are bound, before the first worker."""
        self.cfg.when_ready(self.server)

    def on_reload(self) -> None:
        """During a reload, with the new configuration in place."""
        self.cfg.on_reload(self.server)

    def on_exit(self) -> None:
        """Before the master exits."""
        self.cfg.on_exit(self.server)

    def pre_exec(self) -> None:
        """In the child that is about to become the new master."""
        self.cfg.pre_exec(self.server)

    def nworkers_changed(self, new: int, old: int | None) -> None:
        """After the wanted number of workers was set; ``old`` is None the first time."""
        self.cfg.nworkers_changed(self.server, new, old)

    def pre_fork(self, worker: Worker) -> None:
        """In the master, before a worker is forked."""
        self.cfg.pre_fork(self.server, worker)

    def post_fork(self, worker: Worker) -> None:
        """In the worker, first thing after the fork."""
        self.cfg.post_fork(self.server, worker)

    def post_worker_init(self, worker: Worker) -> None:
        """In the worker, with the application loaded."""
        self.cfg.post_worker_init(worker)

    def worker_int(self, worker: Worker) -> None:
        """In the worker, on SIGINT or SIGQUIT."""
        self.cfg.worker_int(worker)

    def worker_abort(self, worker: Worker) -> None:
        """In the worker, on SIGABRT."""
        self.cfg.worker_abort(worker)

    def worker_exit(self, worker: Worker) -> None:
        """In the worker, before it exits."""
        self.cfg.worker_exit(self.server, worker)

    def child_exit(self, worker: Worker) -> None:
        """In the master, after a worker was reaped."""
        self.cfg.child_exit(self.server, worker)

    def pre_request(self, worker: Worker, req: Request) -> None:
        """Before the application is called."""
        self.cfg.pre_request(worker, req)

    def post_request(
        self,
        worker: Worker,
        req: Request,
        environ: Mapping[str, Any] | None,
        resp: Response | None,
    ) -> None:
        """After the response; a failure is logged."""
        try:
            self.cfg.post_request(worker, req, environ, resp)
        except Exception:
            worker.log.exception("Exception in post_request hook")

    def ssl_context(self, default_factory: Callable[[], Any]) -> Any:
        """Returns the TLS context."""
        return self.cfg.ssl_context(self.cfg, default_factory)


def _split(uri: str) -> tuple[str, str, str]:
    # A target "//a/b" is a path (RFC 9112, section 3.2.1), but to urlsplit "a" would be a host.
    guard = "." if uri.startswith("//") else ""
    parts = urlsplit(guard + uri)
    return parts.path.removeprefix(guard), parts.query, parts.fragment


def _is_field(key: str) -> bool:
    return key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")


def _field(key: str) -> str:
    return key.removeprefix("HTTP_").replace("_", "-")
