"""Litestar, Quart, BlackSheep, and applications behind asgiref's adapters: what each of them needs of a server."""

import concurrent.futures
import hashlib

import httpx
import pytest
from websockets.sync.client import connect

from harness import ASGI, wait_until

SITES = ["litestar", "quart", "blacksheep", "wsgi", "old"]
LINES = "".join(f"line {number}\n" for number in range(50))


@pytest.fixture(scope="module", params=SITES)
def site(request, module_server):
    server = module_server("-k", ASGI, "--keep-alive", "30", app="asgi_sites:app", env={"SITE": request.param})
    server.wait_serving(1)
    server.name = request.param
    return server


@pytest.fixture(scope="module")
def client(site):
    with httpx.Client(base_url=site.url(""), timeout=10, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/sync"])
def test_endpoint(client, site, path):
    for _ in range(3):
        assert client.get(path).json() == {"site": site.name}


def test_stream(client):
    for _ in range(3):
        assert client.get("/stream").text == LINES


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
def test_body(client, size):
    assert client.post("/size", content=b"x" * size).json() == {"size": size}


def test_body_in_chunks(client):
    block = hashlib.sha256(b"block").digest() * 1000
    assert client.post("/size", content=(block for _ in range(30))).json() == {"size": 30 * len(block)}


def test_crash(client, site):
    """One 500, of the framework's or of the server's; and the traceback, which Litestar keeps to itself."""
    assert httpx.get(site.url("/crash"), trust_env=False).status_code == 500
    if site.name != "litestar":
        wait_until(lambda: "RuntimeError: of the endpoint" in site.log(), 5, "the traceback")
    assert client.get("/").status_code == 200


def test_side_by_side(client):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: client.get("/stream" if number % 2 else "/sync").status_code, range(80)))
    assert answers == [200] * 80


def test_socket(site):
    if site.name in ("wsgi", "old"):
        pytest.skip("it has none")
    with connect(f"ws://127.0.0.1:{site.port}/socket", proxy=None) as socket:
        for text in ("one", "two", "ü"):
            socket.send(text)
            assert socket.recv(timeout=5) == text.upper()


def test_stop(server, site):
    """Quickly, whatever the framework does in its lifespan."""
    running = server("-k", ASGI, app="asgi_sites:app", env={"SITE": site.name})
    assert running.get("/").status == 200
    assert running.stop() == 0
