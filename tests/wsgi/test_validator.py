"""Well-behaved applications behind ``wsgiref.validate.validator``, which checks both sides of PEP 3333."""

import hashlib
import json

import pytest

from harness import request

pytestmark = pytest.mark.timeout(30)

BODIES = {
    "list": (200, b"abcdef"),
    "single": (200, b"abcdef"),
    "generator": (200, b"abcdef"),
    "late": (200, b"abcdef"),
    "closing": (200, b"abcdef"),
    "write": (200, b"abcdef"),
    "empty": (200, b""),
    "204": (204, b""),
    "304": (304, b""),
    "302": (302, b""),
    "cookies": (200, b"abcdef"),
    "complaint": (200, b"abcdef"),
}
UPLOADS = {
    "nothing": b"",
    "one byte": b"x",
    "lines": b"one\ntwo\n\nfour",
    "a long line": b"y" * 100_000 + b"\nz",
    "3 MB": bytes(range(256)) * 12_288,
}


@pytest.fixture(scope="module", params=["sync", "gthread"])
def running(request, module_server):
    threads = ["--threads", "4"] if request.param == "gthread" else []
    return module_server("-k", request.param, *threads, app="wsgi_valid:app")


def chunked(path, body, size=50_000):
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nContent-Type: a/b\r\n\r\n"
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("name", BODIES)
def test_answers(running, name, method, version):
    status, body = BODIES[name]
    sent = b"a body" if method == "POST" else None
    response = running.get(f"/{name}", method, version=version, body=sent)
    assert (response.status, response.body) == (status, b"" if method == "HEAD" else body)
    assert response.header("Server") and response.header("Date")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", ["read", "readline", "readlines", "iter"])
@pytest.mark.parametrize("body", UPLOADS.values(), ids=UPLOADS)
def test_reads(running, body, how, framing):
    path = f"/digest?{how}"
    raw = chunked(path, body) if framing == "chunked" else request(path, "POST", body=body)
    with running.connect() as connection:
        connection.send(raw)
        response = connection.response()
    assert response.status == 200
    assert json.loads(response.body) == [len(body), hashlib.sha256(body).hexdigest()]


def test_fields_arrive_in_order_and_as_latin_1(running):
    response = running.get("/cookies")
    names = ("Set-Cookie", "X-Latin")
    assert [field for field in response.headers if field[0] in names] == [
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Latin", "caf\xe9"),
    ]


def test_errors_stream(running):
    before = running.log().count("validated complaint\nand another\n")
    running.get("/complaint")
    assert running.log().count("validated complaint\nand another\n") == before + 1


def test_validator_had_nothing_to_say(running):
    """Last in the module: an iterable that was not closed shows here, not in a response."""
    for name in BODIES:
        running.get(f"/{name}")
    log = running.log()
    assert "Traceback" not in log
    assert "garbage collected without being closed" not in log
