"""Starlette over the wire, plain and behind its middleware: streams, files, events, background tasks, WebSockets."""

import hashlib
import json
import time

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from harness import ASGI, FERRICORN, wait_until

DATA = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(40_000))
NUMBERS = "".join(f"{number}\n" for number in range(100))


@pytest.fixture(scope="module", params=["app", "wrapped"])
def site(request, module_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "data.bin").write_bytes(DATA)
    server = module_server(
        "-k", ASGI, "--keep-alive", "30", app=f"asgi_starlette:{request.param}", env={"SITE_FOLDER": str(folder)}
    )
    server.wait_serving(1)
    server.folder_of_site = folder
    return server


@pytest.fixture(scope="module")
def client(site):
    with httpx.Client(base_url=site.url(""), timeout=10, trust_env=False) as client:
        yield client


def seen(client, name):
    return client.get("/seen", params={"name": name}).json()


def is_wrapped(site):
    return str(site.args[-1]).endswith("wrapped")


def dial(site, path, **options):
    return connect(f"ws://127.0.0.1:{site.port}{path}", proxy=None, **options)


def test_lifespan_state(client):
    first, second = client.get("/").json(), client.get("/").json()
    assert first["greeting"] == "hello from the lifespan" and second["visits"] == first["visits"] + 1


def test_request(client, site):
    response = client.post("/echo/a%20b/c?q=1&r=%C3%A9", content="é", headers={"Cookie": "one=1"})
    assert response.json() == {
        "method": "POST",
        "url": site.url("/echo/a b/c?q=1&r=%C3%A9"),
        "path": "a b/c",
        "query": {"q": "1", "r": "é"},
        "client": "127.0.0.1",
        "cookies": {"one": "1"},
        "body": "é",
    }


def test_form_with_files(client):
    files = {"small": ("small.txt", b"abc"), "large": ("large.bin", DATA * 2)}
    response = client.post("/form", data={"field": "välue"}, files=files)
    assert response.json() == {
        "files": {"small": ["small.txt", 3], "large": ["large.bin", len(DATA) * 2]},
        "fields": {"field": "välue"},
    }


def test_streamed_body(client):
    assert client.post("/chunks", content=(DATA for _ in range(5))).text == str(5 * len(DATA))


@pytest.mark.parametrize("path", ["/stream", "/sync_stream"])
def test_streamed_response(client, path):
    for _ in range(3):
        assert client.get(path).text == NUMBERS


@pytest.mark.parametrize("path", ["/endless", "/endless_events"])
def test_stream_ends_when_the_client_goes(client, site, path, name):
    with httpx.Client(base_url=site.url(""), timeout=10, trust_env=False) as other:
        with other.stream("GET", path, params={"name": name}) as response:
            assert next(response.iter_raw())
    wait_until(lambda: seen(client, name) == "ended", 5, "the generator's end")


def test_events(client):
    with client.stream("GET", "/events") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line.startswith("data:")]
    assert lines == [f"data: data {number}" for number in range(5)]


def test_head_of_a_stream_without_events(client):
    """A browser's EventSource is open once it has the head."""
    begun = time.monotonic()
    with client.stream("GET", "/quiet_events", headers={"Accept-Encoding": "identity"}) as response:
        headed = time.monotonic() - begun
        assert response.status_code == 200
        assert "data: late" in "".join(response.iter_text())
    assert headed < 0.45


def test_is_disconnected(client, site, name):
    if is_wrapped(site):
        pytest.skip("Starlette's BaseHTTPMiddleware does not let it see that")
    with site.connect() as other:
        other.send(f"GET /disconnected?name={name} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        wait_until(lambda: seen(client, name) == "still here", 5, "the endpoint")
        time.sleep(0.1)
        assert seen(client, name) == "still here"
    wait_until(lambda: seen(client, name) == "gone", 3, "is_disconnected()")


def test_background_tasks(client, name):
    begun = time.monotonic()
    assert client.get("/background", params={"name": name}).text == "at once"
    assert seen(client, name) == []
    assert time.monotonic() - begun < 0.28, "the connection is free while the task runs"
    wait_until(lambda: seen(client, name) == ["async", "thread"], 3, "the tasks")


def test_file(client):
    plain = {"Accept-Encoding": "identity"}
    response = client.get("/file", headers=plain)
    assert response.content == DATA and response.headers["Content-Length"] == str(len(DATA))
    assert 'filename="data.bin"' in response.headers["Content-Disposition"]
    assert client.head("/file", headers=plain).headers["Content-Length"] == str(len(DATA))
    again = client.get("/static/data.bin", headers={"If-None-Match": client.get("/static/data.bin").headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("wanted", "start", "end"), [("0-9", 0, 10), ("100-", 100, None), ("-5", -5, None), ("65535-65537", 65535, 65538)]
)
def test_ranges(client, wanted, start, end):
    response = client.get("/file", headers={"Range": f"bytes={wanted}", "Accept-Encoding": "identity"})
    assert (response.status_code, response.content) == (206, DATA[start:end])


def test_several_ranges(client):
    response = client.get("/file", headers={"Range": "bytes=0-1,10-11", "Accept-Encoding": "identity"})
    assert response.status_code == 206 and response.headers["Content-Type"].startswith("multipart/byteranges")
    assert DATA[:2] in response.content and DATA[10:12] in response.content


def test_statuses(client):
    assert client.get("/redirect").headers["Location"] == "/?there"
    assert client.get("/teapot").status_code == 418 and client.get("/nowhere").status_code == 404
    assert client.delete("/").status_code == 405
    response = client.get("/cookies")
    assert (response.status_code, response.content, len(response.headers.get_list("Set-Cookie"))) == (204, b"", 2)


def test_crash(client, site):
    """Starlette answers itself, and raises on: the server writes it down."""
    before = site.log().count("RuntimeError: of the endpoint")
    # A server may close the connection then.
    response = httpx.get(site.url("/crash"), trust_env=False)
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    wait_until(lambda: site.log().count("RuntimeError: of the endpoint") > before, 5, "the traceback")
    assert client.get("/").status_code == 200


def test_middleware(client, site):
    if not is_wrapped(site):
        assert "X-Added" not in client.get("/").headers
        return
    response = client.get("/stream", headers={"Origin": "http://elsewhere"})
    assert response.headers["X-Added"] == "GET" and response.headers["Content-Encoding"] == "gzip"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.text == NUMBERS
    assert client.get("/file").content == DATA


# WebSockets


def test_socket(client, site):
    with dial(site, "/socket", subprotocols=["other", "chat"]) as socket:
        assert socket.subprotocol == "chat"
        for message in ({"a": 1}, ["ü"], None):
            socket.send(json.dumps(message))
            assert json.loads(socket.recv(timeout=5)) == {"echo": message, "greeting": "hello from the lifespan"}
        socket.close(3001, "enough")
    wait_until(lambda: seen(client, "socket") == [3001, "enough"], 5, "the disconnect")


def test_socket_refused(site):
    with pytest.raises(InvalidStatus) as refused:
        dial(site, "/refused")
    assert refused.value.response.status_code == 401
    assert json.loads(bytes(refused.value.response.body)) == {"detail": "not today"}
    with pytest.raises(InvalidStatus) as refused:
        dial(site, "/nowhere")
    assert refused.value.response.status_code in (403, 404)


def test_socket_iterator(site):
    with dial(site, "/iter") as socket:
        for text in ("abc", "", "üx"):
            socket.send(text)
            assert socket.recv(timeout=5) == text[::-1]


def test_stop(server, tmp_path):
    (tmp_path / "data.bin").touch()
    running = server("-k", ASGI, app="asgi_starlette:app", env={"SITE_FOLDER": str(tmp_path)})
    assert running.get("/").status == 200
    assert running.stop() == 0
    assert (tmp_path / "stopped").read_text() == "stopped"
    assert not FERRICORN or "Traceback" not in running.log()
