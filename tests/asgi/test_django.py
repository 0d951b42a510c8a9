"""Django by ASGI over the wire: views of both kinds, streams, uploads; Channels with its layer in memory."""

import concurrent.futures
import hashlib
import json
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from harness import ASGI, wait_until
from harness.server import APPS

NUMBERS = "".join(f"{number}\n" for number in range(200))
BLOCK = hashlib.sha256(b"block").digest() * 100_000


@pytest.fixture(scope="module")
def site(module_server):
    server = module_server("-k", ASGI, "--keep-alive", "30", app="asgi_django:app")
    server.wait_serving(1)
    return server


@pytest.fixture(scope="module")
def client(site):
    with httpx.Client(base_url=site.url(""), timeout=10, trust_env=False) as client:
        yield client


def dial(site, path):
    return connect(f"ws://127.0.0.1:{site.port}{path}", proxy=None)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_views_of_both_kinds(client, site, kind):
    response = client.post(
        f"/{kind}/a%20b/%C3%A9?q=1", content="ü", headers={"X-One": "1", "X-Forwarded-Proto": "https"}
    )
    seen = response.json()
    assert (seen.pop("main"), seen.pop("thread", None)) == (
        kind == "async",
        "from a thread" if kind == "async" else None,
    )
    assert seen == {
        "path": f"/{kind}/a b/é",
        "query": {"q": "1"},
        "scheme": "https",
        "host": f"127.0.0.1:{site.port}",
        "remote": "127.0.0.1",
        "one": "1",
        "body": "ü",
    }
    assert response.headers["X-Added"] == "POST"


def test_views_side_by_side(client):
    paths = ["/sync/x", "/async/x", "/nested", "/stream"] * 15
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda path: client.get(path).status_code, paths))
    assert answers == [200] * len(paths)


def test_thread_that_goes_back_into_the_loop(client):
    assert client.get("/nested").json() == {"inside": True}


@pytest.mark.parametrize("path", ["/stream", "/sync_stream"])
def test_streams(client, path):
    for _ in range(3):
        assert client.get(path).text == NUMBERS


def test_stream_ends_when_the_client_goes(client, site):
    with httpx.Client(base_url=site.url(""), timeout=10, trust_env=False) as other:
        with other.stream("GET", "/endless?name=endless") as response:
            assert next(response.iter_raw())
    wait_until(lambda: client.get("/seen?name=endless").json()["seen"] == "ended", 5, "the generator's end")


def test_upload(client):
    files = {"large": ("large.bin", BLOCK * 2), "small": ("ü.txt", b"small")}
    response = client.post("/upload", files=files, data={"field": "ü"})
    digest = {key: [name, len(data), hashlib.sha256(data).hexdigest()] for key, (name, data) in files.items()}
    assert response.json() == {"files": digest, "fields": {"field": "ü"}}


def test_file(client):
    response = client.get("/file")
    assert response.content == Path(APPS / "asgi_django.py").read_bytes()
    assert response.headers["Content-Length"] == str(len(response.content))


def test_errors(client, site):
    assert client.get("/nowhere").status_code == 404
    assert client.get("/crash").status_code == 500
    assert client.get("/").text == "home"


def test_chat(client, site):
    with dial(site, "/chat/one") as first, dial(site, "/chat/one") as second, dial(site, "/chat/two") as other:
        first.send(json.dumps({"text": "hello"}))
        assert json.loads(first.recv(timeout=5)) == json.loads(second.recv(timeout=5)) == {"text": "hello"}
        other.send(json.dumps("alone"))
        assert json.loads(other.recv(timeout=5)) == "alone"
        other.close(3000)
    wait_until(lambda: client.get("/seen?name=two").json()["seen"] == 3000, 5, "the disconnect")


def test_consumer_in_a_thread(site):
    with dial(site, "/echo") as socket:
        for message in ("text", b"bytes", ""):
            socket.send(message)
            assert socket.recv(timeout=5) == message
        socket.send("close")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=5)
        assert socket.close_code == 4001


def test_consumer_that_refuses(site):
    with pytest.raises(InvalidStatus) as refused:
        dial(site, "/refuse")
    assert refused.value.response.status_code == 403
    assert site.get("/").body == b"home"
