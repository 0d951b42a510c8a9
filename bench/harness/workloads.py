"""What is requested, of which application, and which answer is the right one."""

from dataclasses import dataclass

from .process import MeasurementError

POST_BYTES = 10 * 1024
_JSON = b'{"id":7,"name":"granite","tags":["igneous","coarse"]}\n'
_DJANGO_JSON = b'{"id": 7, "name": "granite", "tags": ["igneous", "coarse"]}'


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

    @property
    def upload(self):
        return POST_BYTES if self.method == "POST" else 0


ALL = {
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
    if response.getheader("Content-Length") != str(len(body)):
        raise MeasurementError(f"Content-Length {response.getheader('Content-Length')} instead of {len(body)}")
    return not response.will_close
