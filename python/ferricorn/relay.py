"""What works on jobs where ``offload_broker`` names one: a WSGI application that hands each request to Celery and answers with what
comes back. Its server is the one that would else run the user's application.

A relay that is asked for an attempt that was handed over already waits for that one: it may be another's that has ended. Not for:
running requests (``celery``).
"""

from __future__ import annotations

import base64
import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from celery.exceptions import BackendError
from kombu.exceptions import OperationalError, VersionMismatch

import ferricorn
from ferricorn import celery

#: How often a result is asked for, at first and at last, seconds.
_SOON, _LATER = 0.02, 0.5
#: How much longer than its time a task may be silent.
_PATIENCE = 60.0
_IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
#: What a relay says of a job that has no response: read by the dispatcher, and by nobody else.
FAULT = "Ferricorn-Fault"
#: How a job stands on another host.
STATUS = "Ferricorn-Status"
#: What is told of states of Celery's that are not a job's.
_STATES = {"PENDING": "queued", "RECEIVED": "queued", "RETRY": "queued", "STARTED": "running", "PROGRESS": "running"}
_CAUSES = {"SoftTimeLimitExceeded": "timeout", "TimeLimitExceeded": "timeout", "WorkerLostError": "worker_died", "Lost": "worker_died"}

StartResponse = Callable[..., Any]


class Relay:
    """Times in seconds, 0 for any: ``timeout`` of a job, which each of ``routes`` may have its own of, ``timeout_max`` of all of them,
    ``retention`` of all."""

    def __init__(
        self, broker: str, results: str, queue: str, timeout: float, timeout_max: float, retention: float, routes: list[tuple[str, float]]
    ) -> None:
        self.celery = celery.made(broker, results, queue, timeout_max, retention)
        self.timeout, self.retention = timeout, retention
        self.routes = [(_pattern(route), limit) for route, limit in routes]
        self._next_complaint = 0.0
        # What is not installed is said at the start, while jobs wait, and not of each of them.
        _ = self.celery.connection_for_write().transport
        errors = getattr(self.celery.backend, "connection_errors", ())
        #: Those after which the same may succeed later.
        self._away = (OperationalError, BackendError, ConnectionError, TimeoutError, ImportError, VersionMismatch, *errors, *_database_errors())

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        job, attempt = environ["ferricorn.job_id"], environ["ferricorn.attempt"]
        try:
            if attempt > 0:
                return self._run(job, attempt, environ, start_response)
            if environ["REQUEST_METHOD"] == "DELETE":
                return self._withdraw(job, int(environ["PATH_INFO"][1:]), start_response)
            return self._tell(job, environ["PATH_INFO"] == "/response", start_response)
        except self._away as error:
            # The dispatcher asks again, until they can be reached.
            self._complain(environ, error)
            return _fault(start_response, "later", "Celery cannot be reached")
        except Exception as error:
            self._complain(environ, error)
            return _fault(start_response, "application", f"it cannot be handed to Celery: {type(error).__name__}")

    def _complain(self, environ: dict[str, Any], error: Exception) -> None:
        now = time.monotonic()
        if now > self._next_complaint:
            self._next_complaint = now + _PATIENCE
            environ["wsgi.errors"].write(f"Offload: a job cannot be handed to Celery for now: {type(error).__name__}: {error}\n")
            environ["wsgi.errors"].flush()

    def _meta(self, job: str, attempt: int) -> tuple[str, Any]:
        meta = self.celery.backend.get_task_meta(celery.task_id(job, attempt), cache=False)
        return meta["status"], meta.get("result")

    def _limit(self, environ: dict[str, Any]) -> float:
        """How long this request may take: the first route that fits counts."""
        raw = environ["RAW_URI"].split("?")[0]
        # A proxy's form has the host before the path.
        path = raw if raw.startswith("/") else "/" + raw.partition("://")[2].partition("/")[2]
        target = f"{environ['REQUEST_METHOD']} {path}".encode("latin-1")
        return next((limit for pattern, limit in self.routes if pattern.fullmatch(target)), self.timeout)

    def _run(self, job: str, attempt: int, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        marker = celery.Marker(self.celery, job)
        limit = self._limit(environ)
        if marker.sent() < attempt:
            self._send(marker, job, attempt, environ, limit)
        if marker.is_withdrawn(attempt):
            return self._give_up(job, attempt, start_response, "interrupted", "it was withdrawn")
        begun = told = None
        pause, since = _SOON, time.monotonic()
        while True:
            state, result = self._meta(job, attempt)
            now = time.monotonic()
            if state == "SUCCESS":
                return _answer(start_response, result, environ["REQUEST_METHOD"])
            if state in ("FAILURE", "REVOKED"):
                return _fault(start_response, *_cause(state, result))
            if begun is None and state in ("STARTED", "PROGRESS"):
                begun = now
            if state == "PROGRESS" and result != told:
                told = result
                ferricorn.progress(result["share"], result["note"])
            if begun and limit and now > begun + limit + _PATIENCE:
                return self._give_up(job, attempt, start_response, "worker_died", "its Celery worker was not heard of at the end of its time")
            if self.retention and now > (begun or since) + self.retention + limit:
                return self._give_up(job, attempt, start_response, "timeout", "nothing has come of it for as long as results are kept")
            if _is_gone(environ.get("gunicorn.socket"), pause):
                # Another asks for it later, unless it was withdrawn.
                return _fault(start_response, "later", "nobody waits")
            pause = min(pause * 1.5, _LATER)

    def _give_up(self, job: str, attempt: int, start_response: StartResponse, cause: str, detail: str) -> Iterable[bytes]:
        self.celery.control.revoke(celery.task_id(job, attempt))
        return _fault(start_response, cause, detail)

    def _send(self, marker: celery.Marker, job: str, attempt: int, environ: dict[str, Any], limit: float) -> None:
        method = environ["REQUEST_METHOD"]
        again = method in _IDEMPOTENT or "HTTP_IDEMPOTENCY_KEY" in environ
        plain = {key: value for key, value in environ.items() if isinstance(value, (str, int, bool))}
        body = base64.b64encode(environ["wsgi.input"].read()).decode()
        with self.celery.producer_or_acquire() as producer:
            # This may take seconds. Who dies between mark and message leaves a job of which nothing comes.
            producer.connection.ensure_connection(timeout=producer.connection.connect_timeout)
            if not again:
                # Before it is sent: better never than twice.
                marker.send(attempt)
            try:
                self.celery.send_task(
                    celery.RUN_AGAIN if again else celery.RUN,
                    args=[{"environ": plain, "body": body, "timeout": limit}],
                    argsrepr=f"({method} {environ.get('PATH_INFO', '')!r}, attempt {attempt})",
                    task_id=celery.task_id(job, attempt),
                    soft_time_limit=limit or None,
                    time_limit=limit + 5 if limit else None,
                    expires=self.retention or None,
                    producer=producer,
                    # Who fails says so: the dispatcher asks again.
                    retry=False,
                )
            except self._away:
                if not again:
                    marker.send(attempt - 1)
                raise
        if again:
            marker.send(attempt)

    def _withdraw(self, job: str, attempt: int, start_response: StartResponse) -> Iterable[bytes]:
        """Nobody wants it any more: a worker that has not begun it does not."""
        celery.Marker(self.celery, job).withdraw(attempt)
        self.celery.control.revoke(celery.task_id(job, attempt))
        return _answer(start_response, None, "GET")

    def _tell(self, job: str, wants_response: bool, start_response: StartResponse) -> Iterable[bytes]:
        """Tells of a job that another host has taken."""
        marker = celery.Marker(self.celery, job)
        attempt = marker.sent()
        if not attempt:
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        state, result = self._meta(job, attempt)
        told: dict[str, Any] = {"id": job, "state": _STATES.get(state, "failed"), "attempts": attempt}
        told |= {"attempts_max": attempt, "created_at": 0.0, "method": "", "path": ""}
        if marker.is_withdrawn(attempt):
            told["state"] = "cancelled"
        elif state == "PROGRESS":
            told["progress"] = {"share": result["share"], "note": result["note"]}
        elif state in ("FAILURE", "REVOKED"):
            cause, detail = _cause(state, result)
            told["error"] = {"cause": cause, "detail": detail}
        elif state == "SUCCESS":
            told["status"] = int(result["status"][:3])
            told["state"] = "done" if told["status"] < 500 else "failed"
        made = result if state == "SUCCESS" and wants_response else None
        return _answer(start_response, made, "GET", told)


def _pattern(route: str) -> re.Pattern[bytes]:
    """A route as it stands in the settings: a method and a path in which ``*`` is any text, or a path alone."""
    words = route.split()
    method, path = words if len(words) == 2 else ("*", route)
    text = r"\S+" if method == "*" else re.escape(method.upper())
    return re.compile(f"{text} {re.escape(path).replace(re.escape('*'), '.*')}".encode(), re.DOTALL)


def _database_errors() -> tuple[type[Exception], ...]:
    try:
        from sqlalchemy.exc import InterfaceError
        from sqlalchemy.exc import OperationalError as Unreachable
    except ImportError:
        return ()
    return (InterfaceError, Unreachable)


def _cause(state: str, result: Any) -> tuple[str, str]:
    if state == "REVOKED":
        return "interrupted", "it was revoked"
    # What an exception says may be nobody else's.
    name = type(result).__name__
    return _CAUSES.get(name, "application"), f"{name} in its Celery worker, whose log tells more"


def _answer(start_response: StartResponse, result: dict[str, Any] | None, method: str, told: dict[str, Any] | None = None) -> Iterable[bytes]:
    result = result or {"status": "200 OK", "headers": [], "body": ""}
    body = base64.b64decode(result["body"])
    keeps_length = method == "HEAD"
    dropped = {FAULT.lower(), STATUS.lower(), *(() if keeps_length else ("content-length",))}
    headers = [(name, value) for name, value in result["headers"] if name.lower() not in dropped]
    if told is not None:
        headers.append((STATUS, json.dumps(told)))
    if not keeps_length:
        headers.append(("Content-Length", str(len(body))))
    start_response(result["status"], headers)
    return [] if keeps_length else [body]


def _fault(start_response: StartResponse, cause: str, detail: str) -> Iterable[bytes]:
    text = " ".join(detail.split())[:300].encode("ascii", "replace").decode()
    start_response("502 Bad Gateway", [(FAULT, f"{cause} {text}"), ("Content-Length", "0")])
    return []


def _is_gone(client: Any, seconds: float) -> bool:
    """Waits so long, or until the dispatcher wants no answer any more."""
    if client is None:
        time.sleep(seconds)
        return False
    poll = select.poll()
    poll.register(client.fileno(), select.POLLIN)
    return bool(poll.poll(seconds * 1000)) and client.recv(1, socket.MSG_PEEK) == b""
