"""A Flask application behind nginx: what its users see is what Flask means."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import pytest

DATA = bytes(range(256)) * 4000


def test_page(flask_site):
    response = flask_site.get("/")
    assert (response.status_code, response.text) == (200, "<h1>Flask</h1>")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Server"].startswith("nginx")
    assert parsedate_to_datetime(response.headers["Date"])


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_json(flask_site, method):
    sent = {"text": "grüße ☃", "list": [1, None, True, 1.5]} if method in ("POST", "PUT", "PATCH") else None
    response = flask_site.request(method, "/json?a=1&a=2&b=%C3%BC", json=sent)
    assert response.json() == {"method": method, "query": {"a": ["1", "2"], "b": ["ü"]}, "sent": sent}


def test_bad_json(flask_site):
    response = flask_site.post("/json", data=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 400


def test_form(flask_site):
    fields = [("name", "Jürgen & Söhne"), ("empty", ""), ("many", "1"), ("many", "2"), ("long", "x" * 100_000)]
    response = flask_site.post("/form", data=fields)
    assert response.json() == {
        "name": ["Jürgen & Söhne"],
        "empty": [""],
        "many": ["1", "2"],
        "long": ["x" * 100_000],
    }


def test_cookies(flask_site):
    with flask_site.nginx.session() as session:
        response = session.post(flask_site.url("/cookies"), data={"first": "one two", "second": "2"}, timeout=30)
        assert len(response.raw.headers.getlist("Set-Cookie")) == 2
        assert "HttpOnly" in response.raw.headers.getlist("Set-Cookie")[0]
        assert session.get(flask_site.url("/cookies"), timeout=30).json() == {"first": "one two", "second": "2"}


def test_signed_session(flask_site):
    """Each worker understands what another has signed."""
    with flask_site.nginx.session() as session:
        counts = [session.post(flask_site.url("/count"), timeout=30).json() for _ in range(10)]
    assert counts == list(range(1, 11))


@pytest.mark.parametrize("prefix", ["", "/direct"])
@pytest.mark.parametrize("lines", [0, 1, 20_000])
def test_stream(flask_site, prefix, lines):
    response = flask_site.get(f"{prefix}/stream?lines={lines}")
    assert response.status_code == 200
    assert response.text == "".join(f"{number} {lines}\n" for number in range(lines))


def test_events_come_one_by_one(flask_site):
    """A piece is sent when it is yielded, and not when there are more."""
    arrivals = []
    with flask_site.nginx.session() as session:
        with session.get(flask_site.url("/events?pause=0.5"), stream=True, timeout=30) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            for line in response.iter_lines(chunk_size=1):
                if line:
                    arrivals.append((line, time.monotonic()))
    assert [line for line, _ in arrivals] == [b"data: 0", b"data: 1", b"data: 2"]
    pauses = [later - earlier for (_, earlier), (_, later) in zip(arrivals, arrivals[1:], strict=False)]
    assert all(pause > 0.3 for pause in pauses), pauses


@pytest.mark.parametrize("prefix", ["", "/direct"])
def test_upload(flask_site, prefix):
    """Several files and fields in one form."""
    large = DATA * 5
    files = [
        ("photo", ("grün.png", b"\x89PNG\r\n\x1a\n" + DATA, "image/png")),
        ("photo", ("empty.bin", b"", "application/octet-stream")),
        ("other", ("large.bin", large)),
    ]
    response = flask_site.post(f"{prefix}/upload", files=files, data={"title": "Zwei Bilder"})
    png = files[0][1][1]
    assert response.json() == {
        "files": {
            "photo": [
                ["grün.png", len(png), hashlib.sha256(png).hexdigest()],
                ["empty.bin", 0, hashlib.sha256(b"").hexdigest()],
            ],
            "other": [["large.bin", len(large), hashlib.sha256(large).hexdigest()]],
        },
        "form": {"title": "Zwei Bilder"},
    }


@pytest.mark.parametrize("prefix", ["", "/direct"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_chunked_request(flask_site, prefix, size):
    """A body whose length the client does not tell; nginx does where it buffers, and else passes the chunks on."""
    content = (DATA * 5)[:size]
    pieces = (content[at : at + 9_999] for at in range(0, size, 9_999))
    response = flask_site.post(f"{prefix}/body", data=pieces, headers={"Content-Type": "application/octet-stream"})
    assert response.json() == {"size": size, "digest": hashlib.sha256(content).hexdigest()}


def test_file(flask_site):
    response = flask_site.get("/file")
    assert response.content == DATA
    assert response.headers["Content-Length"] == str(len(DATA))
    assert response.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        pytest.param("bytes=0-0", 0, 0, id="first byte"),
        pytest.param("bytes=100000-299999", 100_000, 299_999, id="middle"),
        pytest.param("bytes=-10", len(DATA) - 10, len(DATA) - 1, id="end"),
        pytest.param("bytes=500000-", 500_000, len(DATA) - 1, id="from there"),
    ],
)
def test_range(flask_site, asked, first, last):
    response = flask_site.get("/file", headers={"Range": asked})
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(DATA)}"
    assert response.content == DATA[first : last + 1]


def test_not_modified(flask_site):
    etag = flask_site.get("/file").headers["ETag"]
    response = flask_site.get("/file", headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == etag


def test_head(flask_site):
    response = flask_site.request("HEAD", "/file")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Length"] == str(len(DATA))


def test_attachment_with_a_name_beyond_ascii(flask_site):
    response = flask_site.get("/attachment")
    assert "filename*=UTF-8''gr%C3%BC%C3%9Fe.bin" in response.headers["Content-Disposition"]
    assert response.content == DATA


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/missing", 404),
        ("DELETE", "/", 405),
        ("GET", "/abort/403", 403),
        ("GET", "/abort/410", 410),
        ("GET", "/abort/503", 503),
        ("GET", "/crash", 500),
        ("POST", "/nothing", 405),
    ],
)
def test_errors(flask_site, method, path, status):
    response = flask_site.request(method, path)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f"<title>{status} " in response.text


def test_error_in_json(flask_site):
    response = flask_site.get("/abort/418")
    assert (response.status_code, response.json()) == (418, {"error": "I'm a teapot"})


def test_crash_has_a_traceback_in_the_log(flask_site):
    flask_site.get("/crash")
    flask_site.server.wait_log(r"^RuntimeError: this page always fails$")
    assert "Traceback (most recent call last):" in flask_site.server.log()


def test_no_content(flask_site):
    with flask_site.nginx.session() as session:
        for _ in range(3):
            response = session.get(flask_site.url("/nothing"), timeout=30)
            assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("tls", [False, True])
def test_scheme_and_host(flask_site, tls):
    """From the proxy's fields: the application builds links that work for the client."""
    forwarded = {"X-Forwarded-For": "192.0.2.9"}
    seen = flask_site.get("/where/gr%C3%BC%C3%9Fe/a%20b?q=%E2%98%83", tls, headers=forwarded).json()
    scheme, port = ("https", flask_site.nginx.tls_port) if tls else ("http", flask_site.nginx.port)
    assert (seen["scheme"], seen["secure"], seen["host"]) == (scheme, tls, f"127.0.0.1:{port}")
    assert seen["rest"] == "grüße/a b"
    assert seen["url"].startswith(f"{scheme}://127.0.0.1:{port}/where/gr")
    assert seen["forwarded"] == "192.0.2.9, 127.0.0.1"
    moved = flask_site.get("/moved", tls)
    assert moved.status_code == 302
    assert moved.headers["Location"] == f"{scheme}://127.0.0.1:{port}/"


def test_many_at_once(flask_site):
    """A mixture of everything from several clients; each gets the answer to its own question."""

    def one(number):
        match number % 4:
            case 0:
                return flask_site.get(f"/json?number={number}").json()["query"] == {"number": [str(number)]}
            case 1:
                return flask_site.post("/form", data={"number": number}).json() == {"number": [str(number)]}
            case 2:
                return flask_site.get(f"/stream?lines={number}").text.count(f" {number}\n") == number
            case _:
                part = flask_site.get("/file", headers={"Range": f"bytes={number}-{number}"}).content
                return part == DATA[number : number + 1]

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(one, range(200)))
