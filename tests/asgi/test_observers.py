"""What users hang round requests, in the worker class ``asgi``: hooks, loggers of their own, and the access log."""

import re

import pytest
from websockets.sync.client import connect

from harness import request, wait_until

APP = "asgi_answers:app"
HOOKS = """
def note(worker, *words):
    worker.log.info("note: %s", " ".join(map(str, words)))

def pre_request(worker, req):
    note(worker, "pre", req.method, req.path, req.query, dict(req.headers).get("X-ONE"))

def post_request(worker, req, environ, resp):
    note(worker, "post", req.path, environ["REQUEST_METHOD"], environ["QUERY_STRING"], resp.status, resp.sent)
"""
LOGGER = """
from gunicorn.glogging import Logger

class Mine(Logger):
    def access(self, resp, req, environ, request_time):
        atoms = self.atoms(resp, req, environ, request_time)
        self.info("mine: %s %s %s %s %s %s", *(atoms[atom] for atom in ("m", "U", "s", "B", "a", "{content-type}o")))

logger_class = Mine
accesslog = "-"
"""


def notes(target):
    return re.findall(r"note: (.*)", target.log())


@pytest.mark.only_ferricorn("gives post_request no environ in this class")
def test_hooks(server):
    target = server("-k", "asgi", app=APP, config=HOOKS)
    with target.connect() as client:
        assert client.request("/single?a=b", headers=[("X-One", "1")]).body == b"single"
        assert client.request("/length?4:2,2", "POST", body=b"xyz").body == b"xxxx"
    expected = [
        "pre GET /single a=b 1",
        "post /single GET a=b 200 6",
        "pre POST /length 4:2,2 None",
        "post /length POST 4:2,2 200 4",
    ]
    wait_until(lambda: notes(target) == expected, 5, "the hooks' lines")


def test_hook_that_fails(server):
    """Before the application it is a 500 of that request, after it a line in the log."""
    target = server("-k", "asgi", app=APP, config="def pre_request(worker, req):\n    raise KeyError(req.path)\n")
    assert target.get("/single").status == 500
    assert target.get("/single").status == 500
    assert "KeyError: '/single'" in target.log()


def test_logger_of_ones_own(server):
    target = server("-k", "asgi", app=APP, config=LOGGER)
    assert target.get("/single", headers=[("User-Agent", "me")]).status == 200
    target.wait_log(r"mine: GET /single 200 6 me text/plain$")
    assert target.stdout() == "", "the access log is the logger's"


@pytest.mark.only_ferricorn("has no line for a WebSocket")
def test_access_log(server):
    target = server("-k", "asgi", "--access-logfile", "-", app="asgi_websocket:app")
    assert target.get("/left?x").status == 200
    with connect(f"ws://127.0.0.1:{target.port}/echo?y") as socket:
        socket.send("one")
        assert socket.recv() == "one"
        wait_until(lambda: '"GET /left?x HTTP/1.1" 200 ' in target.stdout(), 5, "the first line")
        assert '"GET /echo' not in target.stdout(), "it is not over"
    wait_until(lambda: '"GET /echo?y HTTP/1.1" 101 ' in target.stdout(), 5, "the WebSocket's line")


@pytest.mark.only_ferricorn("has no line for a client that left")
def test_access_log_of_a_client_that_left(server):
    target = server("-k", "asgi", "--access-logfile", "-", app=APP)
    with target.connect() as client:
        client.send(request("/slow?30"))
        wait_until(lambda: target.get("/single").status == 200, 5)
    wait_until(lambda: '"GET /slow?30 HTTP/1.1" 499 ' in target.stdout(), 10, "its line")
