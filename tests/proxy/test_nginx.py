"""The connections between nginx and the server: kept, closed, cut, and what nginx is believed."""

import threading
import time

import pytest

from harness import request, wait_until
from harness.load import Load
from harness.wire import Connection

KEEP = ("--keep-alive", "75")
SYNC = pytest.param(
    ("-k", "sync"),
    id="sync",
    marks=pytest.mark.only_ferricorn("sync closes each connection after its response"),
)
THREADED = pytest.param(("-k", "gthread", "--threads", "4"), id="gthread")


def ports(site, count):
    """The port of nginx that each request came from."""
    return [site.get("/where/x").json()["port"] for _ in range(count)]


@pytest.mark.parametrize("args", [SYNC, THREADED])
def test_connection_is_kept(make_site, args):
    site = make_site(*args, *KEEP, app="flasksite:app")
    assert len(set(ports(site, 30))) == 1


@pytest.mark.parametrize("args", [pytest.param(("-k", "sync"), id="sync"), THREADED])
def test_connection_is_not_kept(make_site, args):
    """nginx asks for HTTP/1.0 then."""
    site = make_site(*args, *KEEP, app="flasksite:app", keepalive=False)
    assert len(set(ports(site, 10))) == 10


@pytest.mark.parametrize("args", [pytest.param(("-k", "sync"), id="sync"), THREADED])
def test_server_closes_idle_connection_first(make_site, args):
    """With the server's own short time: nginx notices, and no request, which it may not repeat, is lost."""
    site = make_site(*args, "--keep-alive", "1", app="flasksite:app")
    for _ in range(3):
        assert site.post("/form", data={"a": "1"}).json() == {"a": ["1"]}
        # Idle for longer than that is the point.
        time.sleep(1.6)


def test_reload_behind_nginx(make_site):
    """HUP replaces the workers while nginx keeps connections to them; its clients see nothing of it."""
    site = make_site("-k", "gthread", "--threads", "4", "-w", "2", *KEEP, app="flasksite:app")
    site.server.wait_workers(2)
    before = set(site.server.workers())
    with Load(("127.0.0.1", site.nginx.port), "/", rate=100) as load:
        wait_until(lambda: load.result.seconds, 5.0, "load")
        site.server.kill(1)

        def replaced():
            return len(site.server.workers()) == 2 and not before & set(site.server.workers())

        wait_until(replaced, 15.0, "new workers")
        served = len(load.result.seconds)
        wait_until(lambda: len(load.result.seconds) > served + 50, 10.0, "load after the reload")
    result = load.stop()
    assert result.failures == []
    assert set(result.bodies) == {b"<h1>Flask</h1>"}


def test_stop_behind_nginx(make_site):
    """TERM: the response under way is finished, in full."""
    site = make_site("-k", "gthread", "--threads", "4", *KEEP, app="flasksite:app")
    with Connection(("127.0.0.1", site.nginx.port)) as client:
        client.send(request("/events?pause=0.4", close=True))
        wait_until(lambda: b"data: 0" in more(client), 5.0, "first event")
        assert site.server.stop() == 0
        assert client.response().body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def more(client):
    client.data += client.sock.recv(1 << 12)
    return client.data


@pytest.mark.parametrize("prefix", ["", "/direct"])
@pytest.mark.parametrize("args", [pytest.param(("-k", "sync"), id="sync"), THREADED])
def test_clients_that_leave(make_site, args, prefix):
    """Downloads that nobody wants any more end quietly and cost no worker."""
    site = make_site(*args, *KEEP, app="flasksite:app")
    before = site.server.workers()
    for _ in range(8):
        with Connection(("127.0.0.1", site.nginx.port)) as client:
            client.send(request(f"{prefix}/stream?lines=1000000"))
            more(client)
    assert site.get("/json?a=1").json()["query"] == {"a": ["1"]}
    assert site.server.workers() == before
    assert "Traceback" not in site.server.log()


@pytest.mark.only_ferricorn("a slow body holds the worker")
def test_slow_upload_passed_on_as_it_comes(make_site):
    """Without nginx's buffering the server waits for the body, but no application thread does."""
    site = make_site("-k", "sync", *KEEP, app="flasksite:app")
    clients = [Connection(("127.0.0.1", site.nginx.port)) for _ in range(20)]
    try:
        for client in clients:
            client.send(request("/direct/body", "POST", body=b"a" * 1000)[:-1])
        begun = time.monotonic()
        for _ in range(10):
            assert site.get("/").status_code == 200
        assert time.monotonic() - begun < 3.0
        for client in clients:
            client.send(b"a")
        assert [client.response().status for client in clients] == [200] * len(clients)
    finally:
        for client in clients:
            client.sock.close()


@pytest.mark.parametrize("args", [pytest.param(("-k", "sync"), id="sync"), THREADED])
def test_bystanders_of_a_slow_request(make_site, args):
    """The connections that nginx keeps to a busy worker do not make others wait for it."""
    site = make_site(*args, "-w", "2", *KEEP, app="flasksite:app")
    site.server.wait_workers(2)
    # So that nginx keeps some to each worker.
    with Load(("127.0.0.1", site.nginx.port), "/", rate=100, clients=8) as load:
        wait_until(lambda: len(load.result.seconds) > 50, 10.0, "load")
        ended = []
        slow = threading.Thread(target=lambda: ended.append(site.get("/events?pause=1").text))
        slow.start()
        wait_until(lambda: not slow.is_alive(), 20.0, "slow request")
    result = load.stop()
    assert ended == ["data: 0\n\ndata: 1\n\ndata: 2\n\n"]
    assert result.failures == []
    assert result.quantile(0.9) < 0.5
    assert len(result.seconds) > 150


@pytest.mark.parametrize(
    ("allowed", "scheme"),
    [("127.0.0.1", "https"), ("*", "https"), ("10.0.0.0/8,127.0.0.0/8", "https"), ("192.0.2.1", "http")],
)
def test_forwarded_allow_ips(make_site, allowed, scheme):
    """Only a proxy that is named is believed that its client came by TLS."""
    site = make_site("-k", "sync", "--forwarded-allow-ips", allowed, app="flasksite:app")
    assert site.get("/where/x", tls=True).json()["scheme"] == scheme


def test_unix_peers_are_believed(make_site):
    site = make_site("-k", "sync", "--forwarded-allow-ips", "192.0.2.1", app="flasksite:app", bind="unix")
    assert site.get("/where/x", tls=True).json()["scheme"] == "https"
