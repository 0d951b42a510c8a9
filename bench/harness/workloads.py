"""What is requested, of which application, and which answer is the right one."""

from dataclasses import dataclass

from .process import MeasurementError

POST_BYTES = 10 * 1024
_JSON = b'{"id":7,"name":"granite","tags":["igneous","coarse"]}\n'
_COMPACT_JSON = b'{"id":7,"name":"granite","tags":["igneous","coarse"]}'
_DJANGO_JSON = b'{"id": 7, "name": "granite", "tags": ["igneous", "coarse"]}'
_PIECE = (b"0123456789" * 1024)[:1024]


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    app: str
    body: bytes
    path: str = "/"
    method: str = "GET"
    # Compared at an equal rate as well: one application without framework, one with.
    equal_rate: bool = False
    # The answer comes in pieces, without Content-Length.
    chunked: bool = False
    # A WebSocket that echoes messages of so many bytes. Then nothing above but the application counts.
    message_bytes: int = 0

    @property
    def upload(self):
        return POST_BYTES if self.method == "POST" else 0


WSGI = {
    workload.name: workload
    for workload in [
        Workload("raw", "raw WSGI, 13 bytes", "raw:hello", b"Hello, world!", equal_rate=True),
        Workload("body10k", "raw WSGI, 10 KB answer", "raw:ten_kilobytes", b"0123456789" * 1024),
        Workload("post10k", "raw WSGI, 10 KB POST", "raw:post", b"%d" % POST_BYTES, method="POST"),
        Workload("flask", "Flask, text", "flask_app:app", b"Hello, world!", equal_rate=True),
        Workload("flask-json", "Flask, JSON", "flask_app:app", _JSON, path="/json"),
        Workload("django", "Django, JSON, default middleware", "django_app:app", _DJANGO_JSON),
    ]
}

ASGI = {
    workload.name: workload
    for workload in [
        Workload("raw", "raw ASGI, 13 bytes", "raw_asgi:hello", b"Hello, world!", equal_rate=True),
        Workload("body10k", "raw ASGI, 10 KB answer", "raw_asgi:ten_kilobytes", b"0123456789" * 1024),
        Workload("post10k", "raw ASGI, 10 KB POST", "raw_asgi:post", b"%d" % POST_BYTES, method="POST"),
        Workload("stream", "raw ASGI, 20 pieces of 1 KB", "raw_asgi:stream", _PIECE * 20, chunked=True),
        Workload("starlette", "Starlette, text", "starlette_app:app", b"Hello, world!"),
        Workload("fastapi", "FastAPI, JSON", "fastapi_app:app", _COMPACT_JSON, equal_rate=True),
        Workload("django", "Django, JSON, default middleware", "django_asgi_app:app", _DJANGO_JSON, path="/async"),
        Workload("ws64", "WebSocket echo, 64 bytes", "raw_asgi:echo", b"", message_bytes=64),
        Workload("ws4k", "WebSocket echo, 4 KB", "raw_asgi:echo", b"", message_bytes=4096),
    ]
}


def verify(workload, connection):
    """One request over `connection` (http.client): status and body must be exact, or speed means nothing."""
    upload = b"x" * workload.upload if workload.upload else None
    connection.request(workload.method, workload.path, upload)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise MeasurementError(f"status {response.status} instead of 200")
    if body != workload.body:
        raise MeasurementError(f"wrong body: {len(body)} bytes instead of {len(workload.body)}")
    length = response.getheader("Content-Length")
    if length != (None if workload.chunked else str(len(body))):
        raise MeasurementError(f"Content-Length {length} with a body of {len(body)}")
    return not response.will_close
