"""What Ferricorn announces beyond the messages of HTTP: trailers, files by path, early hints. Uvicorn has none."""

import hashlib
import time

import pytest

from harness import ASGI, Connection, request

APP = "asgi_answers:app"
OLD = "HTTP/1.0"
ours = pytest.mark.only_ferricorn
pytestmark = ours("announces no extensions")


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app=APP)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(hashlib.sha256(b"file").digest() * 200_000)
    return path


def test_trailers(running):
    with running.connect() as client:
        response = client.request("/trailers", headers=[("TE", "trailers")])
        assert (response.body, response.framing) == (b"body", "chunked")
        assert response.trailers == [("x-sum", "1"), ("x-more", "2")]
        assert client.request("/single").body == b"single"


def test_trailers_that_cannot_be_sent(running):
    """To a client of HTTP/1.0, and after a HEAD request, there is no place for them."""
    response = running.get("/trailers", version=OLD)
    assert (response.body, response.trailers) == (b"body", [])
    with running.connect() as client:
        assert client.request("/trailers", "HEAD").body == b""
        assert client.request("/single").body == b"single"


def test_no_field_is_injected_by_trailers(running):
    with Connection(running.address) as client:
        client.send(request("/bad_trailer"))
        assert client.at_end() or client.closed
        assert b"x-evil" not in client.data and not client.data.endswith(b"0\r\n\r\n")


def test_pathsend(running, file):
    with running.connect() as client:
        for _ in range(3):
            response = client.request(f"/pathsend?{file}")
            assert (response.status, response.framing) == (200, "length")
            assert response.body == file.read_bytes()
            assert client.request("/single").body == b"single"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_pathsend_of_an_empty_file(running, tmp_path, method):
    empty = tmp_path / "empty"
    empty.touch()
    with running.connect() as client:
        response = client.request(f"/pathsend?{empty}", method)
        assert (response.status, response.body, response.header("Content-Length")) == (200, b"", "0")
        assert client.request("/single").body == b"single"


def test_pathsend_to_head(running, file):
    with running.connect() as client:
        response = client.request(f"/pathsend?{file}", "HEAD")
        assert (response.body, response.header("Content-Length")) == (b"", str(file.stat().st_size))
        assert client.request("/single").body == b"single"


def test_pathsend_with_a_length(running, file):
    """Frameworks name it; it must be the file's."""
    size = file.stat().st_size
    assert running.get(f"/pathsend_with_length?{size}:{file}").body == file.read_bytes()


def test_pathsend_of_no_file(running, tmp_path):
    """An error of send(), like one between start and body."""
    with Connection(running.address) as client:
        client.send(request(f"/pathsend?{tmp_path / 'missing'}"))
        assert client.at_end() or client.closed
        assert client.data.startswith(b"HTTP/1.1 500 ") or not client.data.endswith(b"0\r\n\r\n")
    assert "FileNotFoundError" in running.log()


def test_pathsend_to_a_slow_reader(running, tmp_path):
    """Nobody else waits."""
    path = tmp_path / "large.bin"
    path.write_bytes(b"x" * (30 << 20))
    with running.connect() as client:
        client.send(request(f"/pathsend?{path}"))
        time.sleep(0.2)
        for _ in range(5):
            assert running.get("/single").body == b"single"
        size = 0
        while size < 30 << 20:
            size += len(client.sock.recv(1 << 20))


def test_early_hint(running):
    with running.connect() as client:
        response = client.request("/early_hint")
        assert (response.status, response.body) == (200, b"body")
        (hint,) = response.interim
        assert (hint.status, hint.reason) == (103, "Early Hints")
        links = [value for name, value in hint.headers if name.lower() == "link"]
        assert links == ["</a.css>; rel=preload", "</b.js>; rel=preload"]


def test_early_hint_to_an_old_client(running):
    response = running.get("/early_hint", version=OLD)
    assert (response.interim, response.body) == ([], b"body")


def test_no_field_is_injected_by_hints(running):
    response = running.get("/bad_hint")
    assert (response.status, response.interim) == (500, [])
