"""Jobs on the user's Celery: ``celery -A ferricorn.celery worker`` runs stored requests through the application.

Broker, results, queue and application are those of the server's configuration: ``gunicorn.conf.py`` in the working directory,
``GUNICORN_CMD_ARGS``, and ``FERRICORN_APP`` where the file has no ``wsgi_app``. Celery 5.4 or newer. Not for: the server's side, which
hands requests over and waits for what comes of them (``relay``).
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from celery import Celery, Task
from ferricorn import _native
from ferricorn.app import load_app
from ferricorn.timeouts import REQUEST

__all__ = ["RUN", "RUN_AGAIN", "app", "made"]

#: What runs a request once, and what runs it again when its worker is lost.
RUN, RUN_AGAIN = "ferricorn.run", "ferricorn.run_again"


def made(broker: str, results: str, queue: str, retention: float) -> Celery:
    """A Celery application for these addresses."""
    made = Celery("ferricorn", broker=broker, backend=results)
    made.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        result_expires=int(retention) or None,
        result_extended=True,
        result_serializer="json",
        task_default_queue=queue,
        task_serializer="json",
        task_track_started=True,
        # A worker takes what it can begin: the next may be long, and others may be free.
        worker_prefetch_multiplier=1,
    )
    return made


class _Job:
    """What ``ferricorn.progress`` and ``ferricorn.deadline`` find in a task."""

    def __init__(self, task: Task, attempt: int, until: float | None) -> None:
        self.task, self.attempt, self.until = task, attempt, until

    def progress(self, share: float, note: str = "") -> bool:
        self.task.update_state(state="PROGRESS", meta={"share": share, "note": note, "attempt": self.attempt})
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
    """Runs requests through the application, which is loaded once in a process."""

    def __init__(self, spec: str, is_asgi: bool) -> None:
        self.spec, self.is_asgi = spec, is_asgi
        self._app: Callable[..., Any] | None = None

    @property
    def application(self) -> Callable[..., Any]:
        if self._app is None:
            folder = os.getcwd()
            if folder not in sys.path:
                sys.path.insert(0, folder)
            self._app = load_app(self.spec)
        return self._app

    def run(self, task: Task, request: dict[str, Any]) -> dict[str, Any]:
        limit = task.request.timelimit[1] if task.request.timelimit else None
        until = time.monotonic() + limit if limit else None
        token = REQUEST.set(_Job(task, request["attempt"], until))
        try:
            body = base64.b64decode(request["body"])
            answer = self._asgi(request["environ"], body) if self.is_asgi else self._wsgi(request["environ"], body)
        finally:
            REQUEST.reset(token)
        status, headers, content = answer
        return {
            "status": status,
            "headers": headers,
            "body": base64.b64encode(content).decode(),
            "attempt": request["attempt"],
        }

    def _wsgi(self, environ: dict[str, Any], body: bytes) -> tuple[str, list[list[str]], bytes]:
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

    def _asgi(self, environ: dict[str, Any], body: bytes) -> tuple[str, list[list[str]], bytes]:
        return asyncio.run(_call(self.application, environ, body))


async def _call(app: Callable[..., Any], environ: dict[str, Any], body: bytes) -> tuple[str, list[list[str]], bytes]:
    received = False
    begun: list[Any] = []
    content: list[bytes] = []

    async def receive() -> dict[str, Any]:
        nonlocal received
        if received:
            return {"type": "http.disconnect"}
        received = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            pairs = [[bytes(name).decode("latin-1"), bytes(value).decode("latin-1")] for name, value in message.get("headers", ())]
            begun[:] = [str(message["status"]), pairs]
        elif message["type"] == "http.response.body":
            content.append(message.get("body", b""))

    await app(_scope(environ), receive, send)
    return begun[0], begun[1], b"".join(content)


def _scope(environ: dict[str, Any]) -> dict[str, Any]:
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
        "state": {},
        "extensions": {"ferricorn.job": {"id": environ["ferricorn.job_id"], "attempt": environ["ferricorn.attempt"]}},
    }


def _app() -> Celery:
    settings = _native.offload_settings(os.environ.get("FERRICORN_APP"))
    celery = made(settings["broker"], settings["results"], settings["queue"], settings["retention"])
    runner = _Runner(settings["app"], settings["asgi"])

    def run(self: Task, request: dict[str, Any]) -> dict[str, Any]:
        return runner.run(self, request)

    celery.task(run, name=RUN, bind=True, acks_late=False)
    celery.task(run, name=RUN_AGAIN, bind=True, acks_late=True, reject_on_worker_lost=True)
    return celery


def __getattr__(name: str) -> Any:
    # The server's side imports this module as well, and needs no application of its own.
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = _app()
    return globals()["app"]
