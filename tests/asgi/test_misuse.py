"""Misbehaving ASGI applications: one 500, or a cut connection; one traceback; the worker lives on."""

import itertools
import sys

import pytest

from harness import ASGI, FERRICORN, Connection, expected, request, wait_until
from harness.server import APPS

sys.path.insert(0, str(APPS))
import asgi_faults as faults  # noqa: E402

ours = pytest.mark.only_ferricorn
TOKENS = itertools.count()
LOGGED = expected(ferricorn="Error handling request", gunicorn="Exception in ASGI application")
TRACEBACK = "Traceback (most recent call last)"
# Without an error of its own there is no traceback.
SILENT = ["returns_after_start", "returns_after_piece", "returns_too_short"]
# The interpreter cannot print it, nor can Uvicorn's logging; Uvicorn takes a return for the end of the body.
WEAK = {
    "unspeakable": "logs nothing where the error has no text",
    "unspeakable_after_start": "logs nothing where the error has no text",
    "unspeakable_after_piece": "logs nothing where the error has no text",
    "unspeakable_after_all": "logs nothing where the error has no text",
}


def marked(names):
    return [pytest.param(name, marks=ours(WEAK[name])) if name in WEAK else name for name in names]


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app="asgi_faults:app")


class Watch:
    """What the error log gains while one misbehaving request runs, and whether the worker outlives it."""

    def __init__(self, server):
        self.server = server
        self.token = f"token{next(TOKENS)}."
        self.pid = server.get("/pid").body
        self.start = len(server.log())

    def entries(self):
        """Asks the worker for a mark in the log, and returns what stands before it."""
        response = self.server.get(f"/say?{self.token}")
        assert (response.status, response.body) == (200, self.pid), "another worker answers"
        self.server.wait_log(f"said {self.token}$")
        return self.server.log()[self.start :].partition(f"said {self.token}\n")[0]


@pytest.fixture
def watch(running):
    return Watch(running)


def raw_answer(server, path, method="GET"):
    """All bytes until the server closes; the request itself would keep the connection."""
    with Connection(server.address) as connection:
        connection.send(request(path, method))
        assert connection.at_end() or connection.closed, "the server keeps the connection"
        return connection.data


def is_500(data, body=True):
    """Fails unless ``data`` is one whole answer of the server's own."""
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n"), data
    assert b"connection: close" in head.lower() and b"x-injected" not in head
    assert data.count(b"HTTP/1.1 ") == 1 and b"200 OK" not in data
    if body:
        assert b"content-length: %d\r\n" % len(rest) in head.lower() + b"\r\n"
    assert b"Traceback" not in rest and b"of the application" not in rest


def is_cut(data):
    """Fails if a client could take ``data`` for a whole response."""
    assert data.count(b"HTTP/1.1 ") <= 1
    assert not data.endswith(b"0\r\n\r\n"), "a broken body must not look complete"
    assert b"more" not in data and b"toolong" not in data and b"text" not in data.partition(b"\r\n\r\n")[2]
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(body) not in head.lower() + b"\r\n"


def one_entry(entries, path, traceback=True):
    if FERRICORN:
        assert f"[ERROR] {LOGGED} GET {path}" + ("\n" if traceback else ": ") in entries
    if traceback:
        assert entries.count(LOGGED) == 1, entries
        assert entries.count(TRACEBACK) >= 1, entries
    else:
        assert entries.count("[ERROR]") == 1 and TRACEBACK not in entries, entries


@pytest.mark.parametrize("name", marked(faults.EARLY))
def test_one_500(running, watch, name):
    path = f"/{name}?{watch.token}"
    is_500(raw_answer(running, path))
    one_entry(watch.entries(), path)


@ours("marks the response as started before it looks at it, and says nothing to the client")
@pytest.mark.parametrize("name", faults.BAD_START)
def test_start_that_cannot_be_sent(running, watch, name):
    path = f"/{name}?{watch.token}"
    is_500(raw_answer(running, path))
    one_entry(watch.entries(), path)


@pytest.mark.parametrize("name", [name for name in faults.BAD_START if name.startswith("header_value_")])
def test_no_field_is_injected(running, name):
    assert b"x-injected" not in raw_answer(running, f"/{name}")


@pytest.mark.parametrize("name", ["never_started", "never_started_slowly", "only_receives"])
def test_no_response_at_all(running, watch, name):
    path = f"/{name}?{watch.token}"
    is_500(raw_answer(running, path))
    one_entry(watch.entries(), path, traceback=False)


@pytest.mark.parametrize("name", ["error", "never_started", "body_first"])
def test_500_to_head(running, watch, name):
    data = raw_answer(running, f"/{name}", "HEAD")
    is_500(data, body=False)
    assert data.endswith(b"\r\n\r\n")
    assert watch.entries().count("[ERROR]") == 1


@pytest.mark.parametrize("name", marked(faults.STARTED))
def test_error_between_start_and_body(running, watch, name):
    """Uvicorn has sent the head by then and cuts; a server that has not may still say 500."""
    path = f"/{name}?{watch.token}"
    data = raw_answer(running, path)
    assert data, "the client hears nothing at all"
    if FERRICORN and data.startswith(b"HTTP/1.1 500"):
        is_500(data)
    else:
        is_cut(data)
    one_entry(watch.entries(), path, name not in SILENT)


@pytest.mark.parametrize("name", marked(faults.LATE))
def test_cut_once_a_piece_is_out(running, watch, name):
    path = f"/{name}?{watch.token}"
    data = raw_answer(running, path)
    assert data.startswith(b"HTTP/1.1 200 OK\r\n") and b"sent" in data
    is_cut(data)
    one_entry(watch.entries(), path, name not in SILENT)


@pytest.mark.parametrize("name", marked(faults.WHOLE))
def test_error_after_a_whole_response(running, watch, name):
    path = f"/{name}?{watch.token}"
    with Connection(running.address) as connection:
        response = connection.request(path)
        assert (response.status, response.body, response.header("Content-Length") or "4") == (200, b"sent", "4")
    one_entry(watch.entries(), path)


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        pytest.param("recovers_from_bad_header", 503, b"recovered", marks=ours("takes the response for started")),
        ("recovers_from_wrong_type", 503, b"recovered"),
        ("recovers_from_second_start", 200, b"recovered"),
        ("recovers_from_str", 200, b"recovered"),
        ("awaits_nothing", 200, b"sent"),
        ("awaits_twice", 200, b"RuntimeError"),
    ],
)
def test_application_goes_on(running, watch, name, status, body):
    response = running.get(f"/{name}")
    assert (response.status, response.body, response.header("x-one")) == (status, body, None)
    assert "[ERROR]" not in watch.entries()


@pytest.mark.parametrize(
    ("name", "said"),
    [("error_in_child_task", "Task exception was never retrieved"), ("error_in_callback", "Exception in callback")],
)
def test_errors_that_are_no_requests(running, watch, name, said):
    """The loop's handler of exceptions writes them; the request has its response."""
    assert running.get(f"/{name}").body == b"sent"

    def written():
        running.get("/pid")
        return said in running.log()[watch.start :]

    wait_until(written, 5, said)
    assert LOGGED not in watch.entries()


def test_percent_signs_in_the_path(running, watch):
    path = "/error?%s%d%(x)s%n"
    raw_answer(running, path)
    one_entry(watch.entries(), path)


def test_traceback_names_the_line_of_the_application(running, watch):
    raw_answer(running, "/error")
    entries = watch.entries()
    assert 'asgi_faults.py", line' in entries and "RuntimeError: of the application" in entries
