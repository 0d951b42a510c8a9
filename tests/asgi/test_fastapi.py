"""FastAPI over the wire, by httpx: endpoints of both kinds, dependencies, uploads, background tasks, WebSockets."""

import asyncio
import concurrent.futures
import hashlib
import json

import httpx
import pytest
from websockets.sync.client import connect

from harness import ASGI, FERRICORN, wait_until

BLOCK = hashlib.sha256(b"block").digest() * 40_000


@pytest.fixture(scope="module")
def site(module_server):
    server = module_server("-k", ASGI, "--keep-alive", "30", app="asgi_fastapi:app")
    server.wait_serving(1)
    return server


@pytest.fixture(scope="module")
def client(site):
    with httpx.Client(base_url=site.url(""), timeout=10, trust_env=False) as client:
        yield client


def seen(client, name):
    return client.get("/seen", params={"name": name}).json()


def test_endpoints_of_both_kinds(client):
    assert client.get("/").json() == {"ready": True, "from": "lifespan", "main": True}
    assert client.get("/sync").json() == {"path": "/sync", "main": False}


def test_endpoints_side_by_side(client):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: client.get("/sync" if number % 2 else "/").json()["main"], range(100)))
    assert answers == [number % 2 == 0 for number in range(100)]


def test_model(client):
    response = client.post("/items/7", json={"name": "ü", "price": 1.5}, headers={"X-Token": "t"})
    assert response.json() == {"number": 7, "item": {"name": "ü", "price": 1.5, "tags": []}, "token": "t"}
    assert client.post("/items/seven", json={"name": "x"}).status_code == 422
    assert client.post("/items/7", content=b"{", headers={"Content-Type": "application/json"}).status_code == 422


def test_dependencies(client, name):
    assert client.get("/depends", params={"name": name}).json() == {"one": {"name": name}, "two": name}
    wait_until(lambda: seen(client, name) == ["open", "sync open", "sync close", "close"], 3, "the end of both")


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [("/depends_and_fails", 409, "HTTPException"), ("/depends_and_crashes", 500, "RuntimeError")],
)
def test_dependencies_of_what_fails(client, site, name, path, status, error):
    # A server may close the connection of what crashes.
    assert httpx.get(site.url(path), params={"name": name}, trust_env=False).status_code == status
    wait_until(lambda: seen(client, name) == ["open", error, "close"], 3, "the end")
    if status == 500:
        wait_until(lambda: "RuntimeError: of a sync endpoint" in site.log(), 3, "the traceback")


def test_background_task(client, name):
    assert client.get("/background", params={"name": name}).json() == {"started": name}
    wait_until(lambda: seen(client, name) == ["done"], 3, "the task")


def test_upload(client):
    files = [("files", ("a.bin", BLOCK)), ("files", ("b.txt", b"small")), ("files", ("c.bin", BLOCK * 3))]
    response = client.post("/upload", files=files, data={"note": "ü"})
    digest = {name: [len(data), hashlib.sha256(data).hexdigest()] for _, (name, data) in files}
    assert response.json() == {"note": "ü", "files": digest}


def test_stream(client):
    assert client.get("/stream", params={"count": 5000}).text == "".join(f"line {number}\n" for number in range(5000))


def test_schema(client):
    assert client.get("/openapi.json").json()["info"]["title"] == "FastAPI"
    assert "swagger" in client.get("/docs").text


def test_asynchronous_client(site):
    """Many at once on few connections."""

    async def run():
        limits = httpx.Limits(max_connections=5)
        async with httpx.AsyncClient(base_url=site.url(""), limits=limits, timeout=20, trust_env=False) as client:
            return await asyncio.gather(*(client.get("/stream", params={"count": number}) for number in range(60)))

    for number, response in enumerate(asyncio.run(run())):
        assert response.text == "".join(f"line {line}\n" for line in range(number))


def test_socket(client, site, name):
    with connect(f"ws://127.0.0.1:{site.port}/socket/{name}?name={name}", proxy=None) as socket:
        for text in ("one", "", "ü"):
            socket.send(text)
            assert json.loads(socket.recv(timeout=5)) == {"room": name, "text": text}
    wait_until(lambda: seen(client, f"room {name}") == ["left"], 3, "the disconnect")
    wait_until(lambda: seen(client, name) == ["open", "close"], 3, "the end of the dependency")


def test_log_is_clean(client, site):
    assert client.get("/").status_code == 200
    if FERRICORN:
        assert "never retrieved" not in site.log() and "was never awaited" not in site.log()
