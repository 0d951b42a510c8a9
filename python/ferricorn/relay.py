"""What works on jobs where ``offload_broker`` names one: a WSGI application that hands each request to Celery and answers with what
comes back. Its server is the one that would else run the user's application.

A task has the job's id, so that Flower, Celery's own tools and other hosts find it, and so that a relay that is asked once more for the
same attempt finds what the first one has begun instead of beginning it again. Not for: running requests (``celery``).
"""

from __future__ import annotations

import base64
import json
import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

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
_STATES = {"SENT": "queued", "PENDING": "queued", "RETRY": "queued", "STARTED": "running", "PROGRESS": "running"}

StartResponse = Callable[..., Any]


class Relay:
    """``timeout`` and ``retention`` in seconds; 0 for any time."""

    def __init__(self, broker: str, results: str, queue: str, timeout: float, retention: float) -> None:
        self.celery = celery.made(broker, results, queue, retention)
        self.timeout, self.retention = timeout, retention
        self._next_complaint = 0.0

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        job, attempt = environ["ferricorn.job_id"], environ["ferricorn.attempt"]
        try:
            if attempt == 0:
                return self._tell(job, start_response)
            return self._run(job, attempt, environ, start_response)
        except Exception as error:
            # The broker, or the results, cannot be reached: the dispatcher asks again, until they can.
            self._complain(environ, f"{type(error).__name__}: {error}")
            return _fault(start_response, "later", "Celery cannot be reached")

    def _complain(self, environ: dict[str, Any], text: str) -> None:
        now = time.monotonic()
        if now > self._next_complaint:
            self._next_complaint = now + _PATIENCE
            environ["wsgi.errors"].write(f"Offload: jobs cannot be handed to Celery for now: {text}\n")
            environ["wsgi.errors"].flush()

    def _run(self, job: str, attempt: int, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if self._is_new(job, attempt):
            self._send(job, attempt, environ)
        begun = told = None
        pause, sent = _SOON, time.monotonic()
        while True:
            meta = self.celery.backend.get_task_meta(job)
            state, result = meta["status"], meta.get("result")
            if state == "SUCCESS":
                return _answer(start_response, result)
            if state in ("FAILURE", "REVOKED"):
                return _fault(start_response, *_cause(state, result))
            if begun is None and state in ("STARTED", "PROGRESS"):
                begun = time.monotonic()
            if state == "PROGRESS" and result != told:
                told = result
                ferricorn.progress(result["share"], result["note"])
            if begun and self.timeout and time.monotonic() > begun + self.timeout + _PATIENCE:
                return _fault(start_response, "worker_died", "its Celery worker has not been heard of since its time was over")
            if not begun and self.retention and time.monotonic() > sent + self.retention:
                return _fault(start_response, "timeout", "no Celery worker has begun it")
            if _is_gone(environ.get("gunicorn.socket"), pause):
                # Withdrawn: a worker that has not begun it will not.
                self.celery.control.revoke(job)
                return _fault(start_response, "interrupted", "it was withdrawn")
            pause = min(pause * 1.5, _LATER)

    def _is_new(self, job: str, attempt: int) -> bool:
        """True unless this attempt is under way, or over, already."""
        meta = self.celery.backend.get_task_meta(job)
        state, result = meta["status"], meta.get("result")
        if state == "PENDING":
            return True
        before = result.get("attempt") if isinstance(result, dict) else None
        if state in ("FAILURE", "REVOKED") or (before is not None and before < attempt and not _is_good(state, result)):
            self.celery.backend.forget(job)
            return True
        return False

    def _send(self, job: str, attempt: int, environ: dict[str, Any]) -> None:
        method = environ["REQUEST_METHOD"]
        again = method in _IDEMPOTENT or "HTTP_IDEMPOTENCY_KEY" in environ
        plain = {key: value for key, value in environ.items() if isinstance(value, (str, int, bool))}
        body = base64.b64encode(environ["wsgi.input"].read()).decode()
        # Before it is sent: whoever begins it says so after this.
        self.celery.backend.store_result(job, {"attempt": attempt}, "SENT")
        self.celery.send_task(
            celery.RUN_AGAIN if again else celery.RUN,
            args=[{"environ": plain, "body": body, "attempt": attempt}],
            argsrepr=f"({method} {environ.get('RAW_URI', '')!r}, attempt {attempt})",
            task_id=job,
            soft_time_limit=self.timeout or None,
            time_limit=self.timeout + 5 if self.timeout else None,
        )

    def _tell(self, job: str, start_response: StartResponse) -> Iterable[bytes]:
        """Tells of a job that another host has taken."""
        meta = self.celery.backend.get_task_meta(job)
        state, result = meta["status"], meta.get("result")
        if state == "PENDING":
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        told: dict[str, Any] = {"id": job, "state": _STATES.get(state, "failed"), "attempts": 1, "attempts_max": 1, "created_at": 0.0}
        told |= {"method": "", "path": ""}
        if state == "PROGRESS":
            told["progress"] = {"share": result["share"], "note": result["note"]}
        if state in ("FAILURE", "REVOKED"):
            cause, detail = _cause(state, result)
            told["error"] = {"cause": cause, "detail": detail}
            return _answer(start_response, None, told)
        if state == "SUCCESS":
            told["state"] = "done" if _is_good(state, result) else "failed"
            told["status"] = int(result["status"][:3])
            return _answer(start_response, result, told)
        return _answer(start_response, None, told)


def _is_good(state: str, result: Any) -> bool:
    return state != "SUCCESS" or int(result["status"][:3]) < 500


def _cause(state: str, result: Any) -> tuple[str, str]:
    if state == "REVOKED":
        return "interrupted", "it was revoked"
    name = type(result).__name__
    cause = {"SoftTimeLimitExceeded": "timeout", "TimeLimitExceeded": "timeout", "WorkerLostError": "worker_died"}.get(name, "application")
    return cause, f"{name}: {result}"


def _answer(start_response: StartResponse, result: dict[str, Any] | None, told: dict[str, Any] | None = None) -> Iterable[bytes]:
    result = result or {"status": "200 OK", "headers": [], "body": ""}
    body = base64.b64decode(result["body"])
    headers = [(name, value) for name, value in result["headers"] if name.lower() != "content-length"]
    if told is not None:
        headers.append((STATUS, json.dumps(told)))
    start_response(result["status"], [*headers, ("Content-Length", str(len(body)))])
    return [body]


def _fault(start_response: StartResponse, cause: str, detail: str) -> Iterable[bytes]:
    text = " ".join(detail.split())[:300].encode("ascii", "replace").decode()
    start_response("502 Bad Gateway", [(FAULT, f"{cause} {text}"), ("Content-Length", "0")])
    return []


def _is_gone(client: socket.socket | None, seconds: float) -> bool:
    """Waits so long, or until the dispatcher wants no answer any more."""
    if client is None:
        time.sleep(seconds)
        return False
    readable, _, _ = select.select([client], [], [], seconds)
    return bool(readable) and client.recv(1, socket.MSG_PEEK) == b""
