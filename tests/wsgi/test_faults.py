"""Misbehaving applications: one 500, or a closed connection once bytes are out; one traceback; the worker lives on."""

import concurrent.futures
import itertools
import sys

import pytest

from harness import FERRICORN, Connection, expected, request, wait_until
from harness.server import APPS

sys.path.insert(0, str(APPS))
import wsgi_faults as faults  # noqa: E402

TOKENS = itertools.count()
LOGGED = "Error handling request"
TRACEBACK = "Traceback (most recent call last)"
# Bytes are out, or all of the response: no 500 can follow.
LATE = {
    "piece_then_error": b"sent",
    "length_piece_then_error": b"sent",
    "write_then_error": b"sent",
    "piece_then_exit": b"sent",
    "piece_then_str": b"sent",
    "write_then_none": b"sent",
    "exc_info_too_late": b"sent",
    "start_too_late": b"sent",
}
WHOLE = {"close_raises": b"all of it", "close_exits": b"all of it"}
EARLY = [name for name in faults.FAULTS if name not in {**LATE, **WHOLE}]
# Where Gunicorn sends a head, says nothing, drops the connection or the worker thread.
GUNICORN_WEAK = {
    "after_empty_piece": "sends the head before it looks at the piece",
    "never_started": "answers 'HTTP/1.1 None'",
    "never_started_empty": "answers 'HTTP/1.1 None'",
    "never_started_closed": "answers 'HTTP/1.1 None'",
    "os_error": "takes it for a failure of the socket",
    "broken_pipe": "takes it for a failure of the socket",
    "timeout_error": "takes it for a failure of the socket",
    "stop_iteration": "takes it for the end of the connection",
    "return_str": "sends the head before it looks at the piece",
    "return_list_of_str": "sends the head before it looks at the piece",
    "return_list_of_int": "sends the head before it looks at the piece",
    "return_list_of_none": "sends the head before it looks at the piece",
    "return_bytearray_piece": "sends the head before it looks at the piece",
    "return_memoryview_piece": "sends the head before it looks at the piece",
    "return_bytes": "sends the head before it looks at the piece",
    "return_dict": "sends the head before it looks at the piece",
    "keyboard_interrupt": "the thread dies with it (gthread)",
    "foreign": "the thread dies with it (gthread)",
    "generator_exit": "the thread dies with it (gthread)",
    "system_exit": "the thread dies with it (gthread)",
    "sys_exit_zero": "the thread dies with it (gthread)",
    "system_exit_in_iterator": "the thread dies with it (gthread)",
}


def marked(name):
    weak = GUNICORN_WEAK.get(name)
    return pytest.param(name, marks=pytest.mark.only_ferricorn(weak)) if weak else name


@pytest.fixture(scope="module", params=["sync", "gthread"])
def running(request, module_server):
    threads = ["--threads", "2"] if request.param == "gthread" else []
    return module_server("-k", request.param, *threads, app="wsgi_faults:app")


class Watch:
    """What the error log gains while one misbehaving request runs, and whether the worker outlives it."""

    def __init__(self, server, token):
        self.server = server
        self.token = token
        self.pid = server.get("/pid").body
        self.start = len(server.log())

    def entries(self):
        """Asks the worker for a mark in the log, and returns what stands before it."""
        response = self.server.get(f"/say?{self.token}")
        assert (response.status, response.body) == (200, self.pid), "another worker answers"
        mark = f"said {self.token}\n"
        self.server.wait_log(mark.strip())
        return self.server.log()[self.start :].partition(mark)[0]


@pytest.fixture
def watch(running):
    return Watch(running, f"token{next(TOKENS)}.")


def raw_answer(server, path, method="GET"):
    """All bytes until the server closes; the request itself would keep the connection."""
    with Connection(server.address) as connection:
        connection.send(request(path, method))
        assert connection.at_end() or connection.closed, "the server keeps the connection"
        return connection.data


def one_entry(entries, path):
    assert entries.count(LOGGED) == 1, entries
    assert entries.count(TRACEBACK) >= 1, entries
    if FERRICORN:
        assert f"[ERROR] {LOGGED} GET {path}\n" in entries


@pytest.mark.parametrize("name", [marked(name) for name in EARLY])
def test_one_500(running, watch, name):
    data = raw_answer(running, f"/{name}?{watch.token}")
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"Connection: close" in head and b"X-Injected" not in head
    assert data.count(b"HTTP/1.1 ") == 1 and b"200 OK" not in data
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Traceback" not in body
    one_entry(watch.entries(), f"/{name}?{watch.token}")


@pytest.mark.parametrize("name", ["before_start", "after_start", "first_next", "twice", "header_value_crlf"])
def test_500_to_head_has_no_body(running, watch, name):
    head, _, body = raw_answer(running, f"/{name}", "HEAD").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert body == expected(ferricorn=b"", gunicorn=body)
    assert watch.entries().count(TRACEBACK) == 1


@pytest.mark.parametrize("name", LATE)
def test_connection_closed_once_bytes_are_out(running, watch, name):
    data = raw_answer(running, f"/{name}?{watch.token}")
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.count(b"HTTP/1.1 ") == 1
    assert LATE[name] in data and b"never sent" not in data
    assert not data.endswith(b"0\r\n\r\n"), "a broken body must not look complete"
    one_entry(watch.entries(), f"/{name}?{watch.token}")


@pytest.mark.parametrize("name", WHOLE)
def test_close_fails_after_a_whole_response(running, watch, name):
    """PEP 3333 closes the iterable "upon completion of the current request": the client has it all by then."""
    with Connection(running.address) as connection:
        response = connection.request(f"/{name}?{watch.token}")
    assert (response.status, response.body) == (200, WHOLE[name])
    one_entry(watch.entries(), f"/{name}?{watch.token}")


@pytest.mark.parametrize(
    "name",
    [
        "first_next",
        "iter_raises",
        "piece_then_error",
        "piece_then_str",
        marked("never_started_closed"),
        marked("after_empty_piece"),
        marked("system_exit_in_iterator"),
        "piece_then_exit",
        "close_raises",
    ],
)
def test_closed_once(running, name):
    before = int(running.get("/closed").body)
    running.get(f"/{name}") if name in WHOLE else raw_answer(running, f"/{name}")
    wait_until(lambda: int(running.get("/closed").body) == before + 1, 3, "close()")


def test_percent_signs_in_the_path(running, watch):
    path = "/before_start?%s%d%(x)s%n"
    raw_answer(running, path)
    one_entry(watch.entries(), path)


def test_traceback_names_the_line_of_the_application(running, watch):
    raw_answer(running, "/before_start")
    entries = watch.entries()
    assert 'wsgi_faults.py", line' in entries and "RuntimeError: before start_response" in entries


def test_faults_among_good_requests(running, watch):
    """Side by side, nobody gets the other's answer, and each fault has its entry."""
    names = ["pid", "before_start", "pid", "first_next", "pid", "twice", "header_value_crlf", "pid"] * 15
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: running.get(f"/{name}"), names))
    right = [(200, watch.pid) if name == "pid" else (500, None) for name in names]
    assert [(a.status, a.body if a.status == 200 else None) for a in answers] == right
    entries = watch.entries()
    assert entries.count(LOGGED) == entries.count(TRACEBACK) == len(names) - names.count("pid")
