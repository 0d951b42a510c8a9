"""The demonstration application, under the rules of PEP 3333."""

from __future__ import annotations

import io
import json
import time
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from ferricorn import demo


def get(path, method="GET", body=b""):
    path, _, query = path.partition("?")
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO(body)}
    environ.update(SCRIPT_NAME="", CONTENT_LENGTH=str(len(body)))
    setup_testing_defaults(environ)
    seen = {}

    def start_response(status, headers, exc_info=None):
        seen.update(status=status, headers=dict(headers))
        return lambda data: None

    result = validator(demo.application)(environ, start_response)
    text = b"".join(result).decode()
    result.close()
    return seen["status"], seen["headers"], text


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("/", "200 OK", "<h1>Ferricorn</h1>"),
        ("/", "200 OK", '<a href="/sleep?s=2">'),
        ("/sleep?s=0", "200 OK", "slept 0 s in process"),
        ("/burn?s=0.001", "200 OK", "burned 0.001 s in process"),
        ("/stream?n=3&s=0", "200 OK", "line 3 of 3"),
        ("/headers?x", "200 OK", '"QUERY_STRING": "x"'),
        ("/upload", "405 Method Not Allowed", "POST something here"),
        ("/nope", "404 Not Found", "no such page"),
    ],
)
def test_pages(path, status, part):
    found, headers, text = get(path)
    assert found == status
    assert part in text
    assert "{{" not in text
    if not path.startswith("/stream"):
        assert headers["Content-Length"] == str(len(text.encode()))


def test_the_page_escapes_what_the_client_sent():
    environ = {"REQUEST_METHOD": "GET", "RAW_URI": "/<script>", "SERVER_PROTOCOL": "HTTP/1.1"}
    page = b"".join(demo.application(environ, lambda *_: None))
    assert b"/&lt;script&gt;" in page
    assert b"/<script>" not in page


@pytest.mark.parametrize("size", [0, 1, 70000])
def test_upload_counts(size):
    assert json.loads(get("/upload", "POST", b"x" * size)[2]) == {"bytes": size}


def test_error_fails():
    with pytest.raises(RuntimeError, match="asked to fail"):
        get("/error")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/sleep?s=2", 2.0),
        ("/sleep", 1.0),
        ("/sleep?s=x", 1.0),
        ("/sleep?s=-5", 1.0),
        ("/sleep?s=nan", 1.0),
        ("/sleep?s=inf", 1.0),
        ("/sleep?s=1e9", 600.0),
    ],
)
def test_sleep_is_bounded(monkeypatch, path, expected):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    get(path)
    assert slept == [expected]


def test_stream_is_bounded_and_paced(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert get("/stream?n=1e9&s=0")[2].count("\n") == 1000
    slept.clear()
    get("/stream?n=3&s=2")
    assert slept == [2.0, 2.0]
