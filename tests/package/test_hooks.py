"""Hooks: arity, defaults, how each is called, and the objects they get."""

from __future__ import annotations

import functools
import inspect
import io
import os
import signal
import subprocess
import sys

import pytest

from ferricorn import hook_table, hooks
from ferricorn.app import Application


class Recorder:
    """Stands for a log."""

    def __init__(self):
        self.lines = []

    def debug(self, msg, *args):
        self.lines.append(("debug", msg % args))

    def exception(self, msg, *args):
        self.lines.append(("exception", msg % args))


def with_arity(n, calls=None):
    def record(*args):
        if calls is not None:
            calls.append(args)

    names = ", ".join(f"a{i}" for i in range(n))
    return eval(f"lambda {names}: record({names})", {"record": record})


@pytest.mark.parametrize("name", hook_table.ARITIES)
@pytest.mark.parametrize("count", range(6))
def test_arities_are_gunicorns(name, count):
    setting = pytest.importorskip("gunicorn.config").make_settings()[name]
    try:
        setting.set(with_arity(count))
    except TypeError as error:
        with pytest.raises(TypeError) as caught:
            hook_table.check_hook(name, with_arity(count))
        assert str(caught.value) == str(error)
    else:
        hook_table.check_hook(name, with_arity(count))


def test_every_hook_of_gunicorn_is_known():
    settings = pytest.importorskip("gunicorn.config").make_settings()
    assert {name for name, setting in settings.items() if inspect.isfunction(setting.default)} == set(
        hook_table.ARITIES
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("nodots", "Value 'nodots' is not import string. Format: module[.submodules...].object"),
        ("no_such_mod.x", "No module named 'no_such_mod'"),
        ("os.no_such_name", "Can not load 'no_such_name' from 'os'"),
        (3, "Value is not callable: 3"),
        ("os.sep", "Value is not callable: /"),
        (with_arity(2), "Value must have an arity of: 1"),
    ],
)
def test_what_is_no_hook(value, problem):
    with pytest.raises(TypeError) as caught:
        hook_table.check_hook("on_starting", value)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_starting", "os.path.basename"),
        ("worker_int", functools.partial(with_arity(2), 1)),
        ("post_fork", with_arity(2)),
    ],
)
def test_what_is_a_hook(name, value):
    assert callable(hook_table.check_hook(name, value))


@pytest.mark.parametrize(("count", "seen"), [(2, "wq"), (3, "wqe"), (4, "wqer")])
def test_post_request_gets_what_it_takes(make_config, count, seen):
    calls = []
    cfg = make_config(post_request=with_arity(count, calls))
    hooks.Hooks(cfg, None).post_request("w", "q", "e", "r")
    assert calls == [tuple(seen)]


def test_each_hook_is_called_with_its_arguments(make_config):
    calls = {}
    cfg = make_config()
    for name, counts in hook_table.ARITIES.items():
        calls[name] = []
        cfg.set(name, with_arity(max(counts), calls[name]))
    caller = hooks.Hooks(cfg, "server")
    arguments = {
        "nworkers_changed": (3, None),
        "pre_request": ("w", "q"),
        "post_request": ("w", "q", "e", "r"),
        "ssl_context": ("factory",),
    }
    served = [name for name in hook_table.ARITIES if "dirty" not in name]
    for name in served:
        count = max(hook_table.ARITIES[name])
        about_worker = "worker" in name and name != "nworkers_changed"
        plain = ("w",) if count == 2 or about_worker else ()
        getattr(caller, name)(*arguments.get(name, plain))
    expected = {
        **dict.fromkeys(("on_starting", "on_reload", "when_ready", "pre_exec", "on_exit"), ("server",)),
        **dict.fromkeys(("pre_fork", "post_fork", "child_exit", "worker_exit"), ("server", "w")),
        **dict.fromkeys(("post_worker_init", "worker_int", "worker_abort"), ("w",)),
        "nworkers_changed": ("server", 3, None),
        "pre_request": ("w", "q"),
        "post_request": ("w", "q", "e", "r"),
        "ssl_context": (cfg, "factory"),
    }
    assert {name: calls[name] for name in served} == {name: [args] for name, args in expected.items()}


def test_only_configured_hooks_are_reported(make_config):
    caller = hooks.Hooks(make_config(post_fork=with_arity(2)), None)
    assert caller.configured() == ["post_fork"]
    assert [caller.has("post_fork"), caller.has("pre_request")] == [True, False]


def test_defaults_do_nothing_but_log_the_request(make_config):
    cfg = make_config()
    worker = hooks.Worker(1, 2, [], None, 15, cfg, Recorder())
    caller = hooks.Hooks(cfg, None)
    caller.pre_request(worker, hooks.Request({"REQUEST_METHOD": "GET", "RAW_URI": "/a%20b?q"}))
    caller.post_request(worker, None, None, None)
    assert worker.log.lines == [("debug", "GET /a%20b")]
    assert caller.ssl_context(lambda: "context") == "context"


def test_failures_reach_the_caller_except_after_the_response(make_config):
    def fail(*_args):
        raise ValueError("no")

    cfg = make_config(
        post_fork=lambda server, worker: fail(),
        post_request=lambda worker, req: fail(),
        pre_request=lambda w, r: fail(),
    )
    caller = hooks.Hooks(cfg, None)
    worker = hooks.Worker(1, 2, [], None, 15, cfg, Recorder())
    for name in ("post_fork", "pre_request"):
        with pytest.raises(ValueError):
            getattr(caller, name)(*([worker] if name == "post_fork" else [worker, None]))
    caller.post_request(worker, None, None, None)
    assert worker.log.lines == [("exception", "Exception in post_request hook")]


def test_worker_has_gunicorns_attributes(make_config):
    cfg = make_config(max_requests=10, max_requests_jitter=5)
    app = Application(cfg, loader=lambda: "callable")
    worker = hooks.Worker(3, os.getpid(), ["s"], app, 15, cfg, "log")
    assert str(worker) == "<Worker [booting]>"
    worker.pid = 12
    assert str(worker) == "<Worker 12>"
    assert 10 <= worker.max_requests <= 15
    assert (worker.age, worker.nr, worker.alive, worker.booted, worker.aborted) == (3, 0, True, False, False)
    worker.init_process()
    assert worker.wsgi == "callable"
    theirs = pytest.importorskip("gunicorn.workers.base").Worker
    real = theirs(3, os.getpid(), ["s"], None, 15, pytest.importorskip("gunicorn.config").Config(), None)
    real.tmp.close()
    assert {name for name in vars(real) if not name.startswith("_")} <= set(vars(worker))


def test_arbiter_has_gunicorns_attributes(make_config):
    server = hooks.Arbiter(make_config(workers=4, bind=["h:1"], proc_name="p"), "log", "app")
    assert (server.pid, server.num_workers, server.address, server.timeout) == (os.getpid(), 4, [("h", 1)], 30)
    assert (server.proc_name, server.worker_age, server.WORKERS, server.LISTENERS) == ("p", 0, {}, [])
    assert (server.log, server.app, server.worker_class) == ("log", "app", hooks.SyncWorker)


def test_arbiter_signals_workers(make_config):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    server = hooks.Arbiter(make_config(), None)
    server.WORKERS[child.pid] = "worker"
    server.kill_workers(signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    # Its process is gone, so the second signal finds nobody.
    server.kill_workers(signal.SIGTERM)
    assert server.WORKERS == {}


def environ(**changes):
    base = {
        "REQUEST_METHOD": "POST",
        "RAW_URI": "/a%2Fb?x=1#f",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(b"body"),
        "CONTENT_TYPE": "text/plain",
        "HTTP_X_Y": "1",
        "REMOTE_ADDR": "1.2.3.4",
        "REMOTE_PORT": "5",
    }
    return {**base, **changes}


def test_request_is_a_view_of_the_environ():
    req = hooks.Request(environ(), req_number=7)
    assert (req.method, req.uri, req.path, req.query, req.fragment) == ("POST", "/a%2Fb?x=1#f", "/a%2Fb", "x=1", "f")
    assert (req.version, req.scheme, req.req_number, req.trailers) == ((1, 1), "https", 7, [])
    assert req.headers == [("CONTENT-TYPE", "text/plain"), ("X-Y", "1")]
    assert req.body.read() == b"body"
    assert req.peer_addr == req.remote_addr == ("1.2.3.4", 5)
    assert req.proxy_protocol_info is None
    assert hooks.Request(environ(), headers=[("A", "b")]).headers == [("A", "b")]


@pytest.mark.parametrize("uri", ["/", "//a/b?c", "/a?b?c#d#e", "*", "http://h/p?q", "/a:b", "h:443", "/./a", ".x"])
def test_targets_split_as_gunicorns(uri):
    parts = pytest.importorskip("gunicorn.util").split_request_uri(uri)
    req = hooks.Request(environ(RAW_URI=uri))
    assert (req.path, req.query, req.fragment) == (parts.path or "", parts.query or "", parts.fragment or "")


def test_request_on_a_unix_socket_and_through_a_proxy():
    no_port = {key: value for key, value in environ(REMOTE_ADDR="").items() if key != "REMOTE_PORT"}
    assert hooks.Request(no_port).peer_addr == ""
    proxied = environ(PROXY_PROTOCOL="TCP4", PROXY_ADDR="9.9.9.9", PROXY_PORT="80")
    assert hooks.Request(proxied).proxy_protocol_info == {
        "proxy_protocol": "TCP4",
        "client_addr": "1.2.3.4",
        "client_port": 5,
        "proxy_addr": "9.9.9.9",
        "proxy_port": 80,
    }


def test_response():
    resp = hooks.Response("404 Not Found", [("A", "b")], sent=9, response_length=9, chunked=True)
    assert (resp.status, resp.status_code, resp.headers, resp.sent) == ("404 Not Found", 404, [("A", "b")], 9)
    assert (resp.response_length, resp.headers_sent, resp.chunked) == (9, True, True)
    assert hooks.Response().status_code is None
