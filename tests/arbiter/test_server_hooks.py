"""The hooks of a configuration file: when they run, in which process, with what."""

import os
import re
import signal

import pytest

from harness import wait_until

CONFIG = """
import os

workers = 1
PATH = os.path.join(os.getcwd(), "hooks.log")

def note(name, *facts):
    with open(PATH, "a") as file:
        file.write(" ".join([name, str(os.getpid()), *map(str, facts)]) + "\\n")

def on_starting(server): note("on_starting", server.pid, server.cfg.workers)
def on_reload(server): note("on_reload", server.pid)
def when_ready(server): note("when_ready", server.address[0][1], len(server.LISTENERS))
def pre_fork(server, worker): note("pre_fork", worker.age, worker.pid)
def post_fork(server, worker): note("post_fork", worker.age, worker.pid, worker.ppid)
def post_worker_init(worker): note("post_worker_init", worker.pid, callable(worker.wsgi))
def worker_int(worker): note("worker_int", worker.pid)
def worker_abort(worker): note("worker_abort", worker.pid)
def pre_request(worker, req):
    req.mine = "kept"
    note("pre_request", worker.pid, req.method, req.path)
def post_request(worker, req, environ, resp):
    note("post_request", worker.pid, req.uri, environ["PATH_INFO"], resp.status, resp.sent, req.mine)
def child_exit(server, worker): note("child_exit", worker.pid)
def worker_exit(server, worker): note("worker_exit", worker.pid)
def nworkers_changed(server, new, old): note("nworkers_changed", new, old)
def on_exit(server): note("on_exit", server.pid)
"""


def notes(target):
    path = target.folder / "hooks.log"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def names(target):
    return [note[0] for note in notes(target)]


@pytest.mark.parametrize("options", [(), ("--threads", "2")])
def test_a_server_from_start_to_end(server, options):
    target = server(*options, config=CONFIG)
    [worker] = target.wait_serving(1)
    assert target.get("/upload?x", "POST", body=b"1").status == 200
    wait_until(lambda: "post_request" in names(target))
    assert target.stop() == 0
    master, worker = str(target.pid), str(worker)
    assert notes(target) == [
        ["nworkers_changed", master, "1", "None"],
        ["on_starting", master, master, "1"],
        ["when_ready", master, str(target.port), "1"],
        ["pre_fork", master, "1", "[booting]"],
        ["post_fork", worker, "1", worker, master],
        ["post_worker_init", worker, worker, "True"],
        ["pre_request", worker, worker, "POST", "/upload"],
        ["post_request", worker, worker, "/upload?x", "/upload", "200", "OK", "66", "kept"],
        ["worker_exit", worker, worker],
        ["child_exit", master, worker],
        ["on_exit", master, master],
    ]


def test_counting_workers(server):
    target = server(config=CONFIG)
    target.wait_serving(1)
    target.kill(signal.SIGTTIN)
    target.wait_serving(2)
    target.kill(signal.SIGTTOU)
    target.wait_workers(1)
    wait_until(lambda: "child_exit" in names(target))
    changes = [note[2:] for note in notes(target) if note[0] == "nworkers_changed"]
    assert changes == [["1", "None"], ["2", "1"], ["1", "2"]]


def test_reload(server):
    target = server(config=CONFIG)
    [old] = target.wait_serving(1)
    target.kill(signal.SIGHUP)
    wait_until(lambda: names(target).count("post_worker_init") == 2 and "child_exit" in names(target))
    seen = notes(target)
    assert ["on_reload", str(target.pid), str(target.pid)] in seen
    assert ["child_exit", str(target.pid), str(old)] in seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_worker_int(server, number):
    target = server(config=CONFIG)
    [worker] = target.wait_serving(1)
    target.stop(number)
    assert ["worker_int", str(worker), str(worker)] in notes(target)


def test_worker_abort(server):
    target = server(config=CONFIG)
    [worker] = target.wait_serving(1)
    os.kill(worker, signal.SIGABRT)
    wait_until(lambda: ["worker_abort", str(worker), str(worker)] in notes(target))
    wait_until(lambda: target.workers() not in ([], [worker]))


@pytest.mark.parametrize("hook", ["when_ready(server)", "on_reload(server)", "child_exit(server, worker)", "on_exit(server)"])
@pytest.mark.only_ferricorn("most of these end the server")
def test_failing_hooks_of_the_master_are_logged(server, hook):
    target = server(config=f"def {hook}:\n    raise ValueError('no')\n")
    target.wait_serving(1)
    target.kill(signal.SIGHUP)
    target.wait_log("Reload finished")
    assert target.get().status == 200
    assert target.stop() == 0
    assert re.search(rf"Exception in {hook.split('(')[0]} hook\nTraceback", target.log())


def test_failing_pre_request_is_a_500(server):
    target = server(config="def pre_request(worker, req):\n    raise ValueError('no')\n")
    assert target.get().status == 500
    assert "ValueError: no" in target.log()


def test_failing_post_request_changes_nothing(server):
    target = server(config="def post_request(worker, req):\n    raise ValueError('no')\n")
    assert target.get().body == b"hello"
    target.wait_log("ValueError: no")


def test_failing_post_fork_is_a_failed_boot(server):
    target = server(config="def post_fork(server, worker):\n    raise ValueError('no')\n", ready=False)
    assert target.wait() == 3
    assert "ValueError: no" in target.log()


@pytest.mark.only_ferricorn("waits in its own signal handler")
def test_stopping_from_a_hook(server):
    config = "def child_exit(server, worker):\n    server.stop()\n"
    target = server(config=config)
    [worker] = target.wait_serving(1)
    os.kill(worker, signal.SIGKILL)
    assert target.wait() == 0
