"""Jobs on the user's Celery: ``celery -A ferricorn.celery worker`` runs stored requests through the application.

Broker, results, queue and application are those of the server's configuration: ``gunicorn.conf.py`` in the working directory,
``GUNICORN_CMD_ARGS``, and ``FERRICORN_APP`` where the file has no ``wsgi_app``. Celery 5.4 or newer. Not for: the server's side, which
hands requests over and waits for what comes of them (``relay``).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from celery import Celery, Task
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from celery.signals import worker_process_init
from ferricorn.app import load_app
from ferricorn.timeouts import REQUEST

__all__ = ["RUN", "RUN_AGAIN", "Lost", "Marker", "app", "made"]

#: What runs a request once, and what runs it again when its worker is lost.
RUN, RUN_AGAIN = "ferricorn.run", "ferricorn.run_again"
#: How often an attempt is begun whose workers are lost.
STARTS_MAX = 3
#: Seconds between two reports of progress, and letters of a note.
_REPORT_EVERY, _NOTE_MAX = 0.1, 200
#: How much sooner than ours Celery's clock may end a task, seconds.
_NEAR = 0.5
#: How long a job that is ended at its time waits for what is being written of it, seconds.
_GRACE = 3.0
#: How often a worker turns to results that are away, and how long it waits in between at most, milliseconds: about an hour in all.
_RESULTS_TRIES, _RESULTS_PAUSE = 1_800, 4_000
#: How long a broker keeps a message for a worker that says nothing, where jobs may take any time.
_ANY_TIME = 30 * 86_400

Answer = tuple[str, list[list[str]], bytes]
Scope = dict[str, Any]


class Lost(Exception):
    """The workers of an attempt were lost as often as it may be begun."""


def made(broker: str, results: str, queue: str, timeout: float, retention: float) -> Celery:
    """A Celery application for these addresses, whatever the environment names."""
    made = Celery("ferricorn", broker=broker, backend=results)
    made.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            # A publisher hears that the broker has it.
            "confirm_publish": True,
            "socket_connect_timeout": 10,
            # Else a Redis gives a job that runs to another worker as well.
            "visibility_timeout": max(3600, 3 * int(timeout)) if timeout else _ANY_TIME,
        },
        broker_url=broker,
        redis_socket_connect_timeout=10,
        result_backend=results,
        # What was begun is known for longer than anybody waits for it.
        result_expires=max(3600, int(2 * retention + timeout)) if timeout and retention else _ANY_TIME,
        result_serializer="json",
        task_default_queue=queue,
        task_serializer="json",
        task_track_started=True,
        # A worker takes what it can begin: the next may be long, and others may be free.
        worker_prefetch_multiplier=1,
    )
    return made


class Marker:
    """What is known of a job beside its results: which attempt was handed over, which was begun and how often, and up to which the job was
    withdrawn. Each is written by one side alone, under a name of its own."""

    def __init__(self, celery: Celery, job: str) -> None:
        self.celery, self.job = celery, job

    def sent(self) -> int:
        """The attempt that was handed over; 0 if none was."""
        return self._read("sent").get("attempt", 0)

    def send(self, attempt: int) -> None:
        self._write("sent", {"attempt": attempt})

    def starts(self, attempt: int) -> int:
        """How often an attempt was begun."""
        known = self._read("begun")
        return known.get("starts", 0) if known.get("attempt") == attempt else 0

    def begin(self, attempt: int) -> None:
        self._write("begun", {"attempt": attempt, "starts": self.starts(attempt) + 1})

    def withdraw(self, attempt: int) -> None:
        self._write("withdrawn", {"attempt": attempt})

    def is_withdrawn(self, attempt: int) -> bool:
        return bool(self._read("withdrawn").get("attempt", 0) >= attempt)

    def _read(self, name: str) -> dict[str, int]:
        meta = self.celery.backend.get_task_meta(f"{self.job}.{name}", cache=False)
        result = meta.get("result")
        return result if meta["status"] == "SENT" and isinstance(result, dict) else {}

    def _write(self, name: str, value: dict[str, int]) -> None:
        self.celery.backend.store_result(f"{self.job}.{name}", value, "SENT")


def task_id(job: str, attempt: int) -> str:
    """The first attempt has the job's own id, so that Celery's tools find it."""
    return job if attempt == 1 else f"{job}.{attempt}"


class _Reporter:
    """Writes how far jobs are into the results. It has a thread of its own: no application waits for results that cannot be reached."""

    def __init__(self, celery: Celery) -> None:
        self.celery = celery
        self._changed = threading.Condition()
        self._news: tuple[Any, dict[str, Any]] | None = None
        self._is_writing = False
        self._thread: threading.Thread | None = None

    def tell(self, request: Any, meta: dict[str, Any]) -> None:
        with self._changed:
            self._news = (request, meta)
            if self._thread is None:
                # Not sooner: Celery forks its processes after it has loaded this.
                thread = threading.Thread(target=self._write, name="ferricorn-progress", daemon=True)
                # Where there is no room for one, nothing is told.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
            self._changed.notify_all()

    def finish(self) -> None:
        """Returns when nothing more is written of a job, or its result might be overwritten."""
        try:
            self._wait()
        except SoftTimeLimitExceeded:
            # It strikes anywhere. The process has some seconds more.
            self._wait(_GRACE)
            raise

    def _wait(self, seconds: float | None = None) -> None:
        with self._changed:
            self._news = None
            self._changed.wait_for(lambda: not self._is_writing, seconds)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                while self._news is None:
                    self._changed.wait()
                (request, meta), self._news = self._news, None
                self._is_writing = True
            # What cannot be told now is not told.
            with contextlib.suppress(Exception):
                self.celery.backend.store_result(request.id, meta, "PROGRESS", request=request)


class _Job:
    """What ``ferricorn.progress`` and ``ferricorn.deadline`` find in a task."""

    def __init__(self, task: Task, until: float | None, reporter: _Reporter) -> None:
        self.request, self.until, self.reporter = task.request, until, reporter
        self._next = 0.0
        self.is_over = False

    def progress(self, share: float, note: str = "") -> bool:
        if self.is_over:
            # A thread of the application that has gone on.
            return True
        now = time.monotonic()
        share = min(max(float(share), 0.0), 1.0) if share == share else 0.0
        if now >= self._next or share >= 1.0:
            self._next = now + _REPORT_EVERY
            self.reporter.tell(self.request, {"share": share, "note": str(note)[:_NOTE_MAX]})
        return True

    def deadline(self) -> float | None:
        return None if self.until is None else self.until - time.monotonic()

    def extend_deadline(self, _seconds: float) -> float | None:
        # The pool ends a task at its time, whatever it says.
        return self.deadline()

    def shield(self, _up: bool) -> None:
        pass

    def interrupted(self) -> bool:
        return False


class _Runner:
    """Runs requests through the application."""

    def __init__(self, celery: Celery, application: Callable[..., Any], is_asgi: bool) -> None:
        self.celery, self.application, self.reporter = celery, application, _Reporter(celery)
        self.asgi = _Asgi(application) if is_asgi else None

    def run(self, task: Task, request: dict[str, Any]) -> dict[str, Any]:
        job, attempt = request["environ"]["ferricorn.job_id"], request["environ"]["ferricorn.attempt"]
        self._begin(Marker(self.celery, job), attempt, again=task.name == RUN_AGAIN)
        limit = request["timeout"]
        until = time.monotonic() + limit if limit else None
        at_hand = _Job(task, until, self.reporter)
        token = REQUEST.set(at_hand)
        try:
            body = base64.b64decode(request["body"])
            call = self.asgi.call if self.asgi else self._wsgi
            status, headers, content = call(request["environ"], body)
            ended = time.monotonic()
        finally:
            REQUEST.reset(token)
            at_hand.is_over = True
            self.reporter.finish()
        if until and ended >= until - max(_NEAR, limit / 50) and status.startswith("5"):
            # The application has made a page of what ended it.
            raise SoftTimeLimitExceeded()
        return {"status": status, "headers": headers, "body": base64.b64encode(content).decode()}

    def _begin(self, marker: Marker, attempt: int, again: bool) -> None:
        """Notes that an attempt is begun; one that nobody waits for any more, or that may not be begun again, is not."""
        starts = marker.starts(attempt)
        if marker.is_withdrawn(attempt) or marker.sent() > attempt or (starts and not again):
            raise Ignore()
        if starts >= STARTS_MAX:
            raise Lost(f"its workers were lost {STARTS_MAX} times")
        marker.begin(attempt)

    def _wsgi(self, environ: dict[str, Any], body: bytes) -> Answer:
        begun: list[Any] = []
        content: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
            begun[:] = [status, [list(pair) for pair in headers]]
            return content.append

        own = {
            "wsgi.version": (1, 0),
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        answer: Iterable[bytes] = self.application({**environ, **own}, start_response)
        try:
            content.extend(answer)
        finally:
            if hasattr(answer, "close"):
                answer.close()
        return begun[0], begun[1], b"".join(content)


class _Asgi:
    """An ASGI application in an event loop that lasts as long as its process."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self.application = application
        self.state: dict[str, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lifespan: asyncio.Task[None] | None = None

    def call(self, environ: dict[str, Any], body: bytes) -> Answer:
        loop = self._running()
        task = loop.create_task(self._request(_scope(environ, self.state), body))
        try:
            return loop.run_until_complete(task)
        except BaseException:
            # A limit of time strikes wherever the loop is.
            task.cancel()
            with contextlib.suppress(BaseException):
                loop.run_until_complete(task)
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._start())
        return self._loop

    async def _start(self) -> None:
        """Begins the lifespan; an application without one is as good."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked = False

        async def receive() -> Scope:
            nonlocal asked
            if asked:
                await asyncio.Event().wait()
            asked = True
            return {"type": "lifespan.startup"}

        async def send(message: Scope) -> None:
            if begun.done():
                return
            if message["type"] == "lifespan.startup.failed":
                begun.set_exception(RuntimeError(message.get("message") or "the application could not start"))
            else:
                begun.set_result(None)

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._lifespan = asyncio.ensure_future(self.application(scope, receive, send))
        await asyncio.wait({begun, self._lifespan}, return_when=asyncio.FIRST_COMPLETED)
        if begun.done():
            begun.result()

    async def _request(self, scope: Scope, body: bytes) -> Answer:
        received = False
        over = asyncio.Event()
        begun: list[Any] = []
        content: list[bytes] = []

        async def receive() -> Scope:
            nonlocal received
            if received:
                # Nobody hangs up while the response is made.
                await over.wait()
                return {"type": "http.disconnect"}
            received = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Scope) -> None:
            if message["type"] == "http.response.start":
                pairs = [[bytes(name).decode("latin-1"), bytes(value).decode("latin-1")] for name, value in message.get("headers", ())]
                begun[:] = [str(message["status"]), pairs]
            elif message["type"] == "http.response.body":
                content.append(message.get("body", b""))
                if not message.get("more_body"):
                    over.set()

        await self.application(scope, receive, send)
        return begun[0], begun[1], b"".join(content)


def _scope(environ: dict[str, Any], state: dict[str, Any]) -> Scope:
    """The scope of a request that came as an environ."""
    names = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}
    headers = []
    for key, value in environ.items():
        name = names.get(key) or (key[5:].replace("_", "-").lower() if key.startswith("HTTP_") else None)
        if name and value:
            headers.append((name.encode("latin-1"), value.encode("latin-1")))
    raw = environ.get("RAW_URI", "/").split("?")[0].encode("latin-1")
    address = environ.get("REMOTE_ADDR")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
        "method": environ["REQUEST_METHOD"],
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "path": unquote_to_bytes(raw).decode("utf-8", "replace"),
        "raw_path": raw,
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": environ.get("SCRIPT_NAME", ""),
        "headers": headers,
        "client": (address, int(environ.get("REMOTE_PORT") or 0)) if address else None,
        "server": (environ.get("SERVER_NAME", ""), int(environ.get("SERVER_PORT") or 0)),
        "state": state.copy(),
        "extensions": {"ferricorn.job": {"id": environ["ferricorn.job_id"], "attempt": environ["ferricorn.attempt"]}},
    }


def _app() -> Celery:
    from ferricorn import _native

    settings = _native.offload_settings(os.environ.get("FERRICORN_APP"))
    celery = made(*(settings[name] for name in ("broker", "results", "queue", "timeout_max", "retention")))
    os.environ.update(settings["env"])
    os.chdir(settings["chdir"])
    for folder in (*settings["pythonpath"], settings["chdir"]):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    # Now: one that cannot be loaded takes no jobs.
    runner = _Runner(celery, load_app(settings["app"]), settings["asgi"])

    def run(self: Task, request: dict[str, Any]) -> dict[str, Any]:
        return runner.run(self, request)

    # Responses are not for logs.
    celery.task(run, name=RUN, bind=True, acks_late=False, resultrepr_maxsize=40)
    celery.task(run, name=RUN_AGAIN, bind=True, acks_late=True, reject_on_worker_lost=True, resultrepr_maxsize=40)

    def be_patient(**_: Any) -> None:
        backend = celery.backend
        if not celery.conf.result_backend.startswith(("redis", "rediss")):
            # What a database refuses it refuses again, and Celery asks again for that as well.
            return
        backend.always_retry, backend.max_retries, backend.max_sleep_between_retries_ms = True, _RESULTS_TRIES, _RESULTS_PAUSE

    # Neither a job nor what it has come to is thrown away because a Redis starts anew. Only where jobs run, whose time is limited, and not in
    # what starts those processes: it has to hear of signals meanwhile.
    worker_process_init.connect(be_patient, weak=False)
    return celery


def __getattr__(name: str) -> Any:
    # The server's side imports this module as well, and needs no application of its own.
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = _app()
    return globals()["app"]
