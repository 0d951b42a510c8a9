"""Signals to the master: stopping, reloading, counting workers, reopening logs."""

import os
import signal
import threading
import time

import pytest

from harness import FERRICORN, wait_until
from harness.load import Load
from harness.wire import Connection, request

KINDS = [(), ("--threads", "4")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("options", KINDS)
def test_idle_server_stops_with_0(server, number, options):
    target = server("-w", "2", *options)
    workers = target.wait_serving(2)
    assert target.stop(number) == 0
    assert not target.accepts()
    assert "Shutting down: Master" in target.log()
    for pid in workers:
        assert f"Worker exiting (pid: {pid})" in target.log()


@pytest.mark.parametrize("options", KINDS)
def test_term_lets_running_requests_finish(server, options):
    target = server(*options)
    with target.connect() as client:
        client.send(request("/sleep?1.5"))
        time.sleep(0.3)
        begun = time.monotonic()
        target.kill(signal.SIGTERM)
        response = client.response()
        assert (response.status, response.body) == (200, b"slept")
        # Gunicorn's threads promise to keep what is about to be closed.
        assert response.header("Connection") == "close" or not FERRICORN
        assert time.monotonic() - begun > 0.8
    assert target.wait() == 0


@pytest.mark.only_ferricorn("clients in the listen queue are reset")
@pytest.mark.parametrize("workers", [1, 2])
def test_term_under_load_loses_nobody(server, workers):
    target = server("-w", workers)
    with Load(target.address, "/sleep?0.05", clients=16, rate=300, accept_refused=True) as load:
        time.sleep(1.0)
        assert target.stop() == 0
    result = load.stop()
    assert result.failures == []
    assert len(result.bodies) > 16


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_stop_does_not_wait(server, number):
    target = server()
    with target.connect() as client:
        client.send(request("/sleep?20"))
        time.sleep(0.3)
        begun = time.monotonic()
        assert target.stop(number) == 0
        assert time.monotonic() - begun < 5


def test_graceful_timeout_ends_what_is_not_done(server):
    target = server("--graceful-timeout", "1")
    with target.connect() as client:
        client.send(request("/sleep?30"))
        time.sleep(0.3)
        begun = time.monotonic()
        assert target.stop() == 0
        assert 0.8 < time.monotonic() - begun < 6


@pytest.mark.only_ferricorn("a second signal does nothing")
def test_second_signal_hurries(server):
    target = server("--graceful-timeout", "30")
    with target.connect() as client:
        client.send(request("/sleep?30"))
        time.sleep(0.3)
        target.kill(signal.SIGTERM)
        time.sleep(0.3)
        begun = time.monotonic()
        assert target.stop(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 8


def test_workers_are_counted_up_and_down(server):
    target = server("-w", "2")
    target.wait_workers(2)
    target.kill(signal.SIGTTIN)
    youngest = target.wait_serving(3)[-1]
    for count in (2, 1):
        target.kill(signal.SIGTTOU)
        target.wait_workers(count)
    # The oldest go first, and one always stays.
    assert target.workers() == [youngest]
    target.kill(signal.SIGTTOU)
    target.wait_log("Handling signal: ttou", 3)
    assert target.get().status == 200
    assert target.workers() == [youngest]


def test_usr1_opens_rotated_logs_again(server):
    target = server("--access-logfile", "access.log", "--error-logfile", "error.log", ready=False)
    wait_until(target.accepts)
    access, error = target.folder / "access.log", target.folder / "error.log"
    assert target.get("/before").status == 200
    target.wait_log("GET /before", path=access)
    access.rename(target.folder / "access.1")
    error.rename(target.folder / "error.1")
    target.kill(signal.SIGUSR1)
    wait_until(lambda: access.exists() and error.exists())
    for _ in range(50):
        if target.get("/after").status == 200 and "GET /after" in access.read_text():
            break
        time.sleep(0.05)
    assert "GET /after" in access.read_text()
    target.stop()
    assert "Shutting down: Master" in error.read_text()
    assert "GET /before" in (target.folder / "access.1").read_text()


class Keeper(threading.Thread):
    """Sends requests over one kept connection, opening another whenever the server has said that it closes."""

    def __init__(self, address, stop):
        super().__init__(daemon=True)
        self.address, self.stop = address, stop
        self.count, self.failures = 0, []

    def run(self):
        connection = None
        while not self.stop.is_set():
            try:
                connection = connection or Connection(self.address, 15)
                response = connection.request("/pid")
                self.count += 1
                if response.status != 200:
                    self.failures.append(response.status)
                if response.header("Connection") == "close":
                    connection = None
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))
                connection = None
            time.sleep(0.02)


@pytest.mark.timeout(120)
@pytest.mark.only_ferricorn("old workers go before the new ones serve")
@pytest.mark.parametrize("options", KINDS)
def test_20_reloads_under_load_lose_nothing(server, options):
    target = server("-w", "2", *options)
    target.wait_workers(2)
    stop = threading.Event()
    keepers = [Keeper(target.address, stop) for _ in range(6)]
    with Load(target.address, "/pid", clients=6, rate=300) as load:
        for keeper in keepers:
            keeper.start()
        for _ in range(20):
            target.kill(signal.SIGHUP)
            time.sleep(0.5)
        target.wait_log("Reload finished")
    stop.set()
    for keeper in keepers:
        keeper.join(20)
    result = load.stop()
    assert result.failures == []
    assert [keeper.failures for keeper in keepers] == [[]] * 6
    assert len(result.bodies) > 500
    # New workers have served all along.
    assert len(set(result.bodies)) > 10


APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{word}"]
"""


def write_app(target_or_folder, text):
    path = target_or_folder / "reloaded.py"
    path.write_text(text)
    # The same second and size would let the interpreter take its old bytecode for the new one's.
    os.utime(path, (time.time() + len(text), time.time() + len(text)))


def start_reloadable(server, tmp_path, *options, **more):
    write_app(tmp_path, APP.format(word="one"))
    return server(*options, app="reloaded:app", path=[tmp_path], **more)


def test_reload_brings_new_code(server, tmp_path):
    target = start_reloadable(server, tmp_path)
    assert target.get().body == b"one"
    write_app(tmp_path, APP.format(word="two, longer"))
    target.kill(signal.SIGHUP)
    wait_until(lambda: target.get().body == b"two, longer")


@pytest.mark.only_ferricorn("a reload of broken code ends the server")
@pytest.mark.parametrize("broken", ["import no_such_module", "app = None", "1 / 0", "syntax error("])
def test_broken_code_leaves_the_old_workers(server, tmp_path, broken):
    target = start_reloadable(server, tmp_path)
    assert target.get().body == b"one"
    before = target.workers()
    write_app(tmp_path, broken)
    target.kill(signal.SIGHUP)
    target.wait_log("Reload abandoned: new worker")
    wait_until(lambda: target.workers() == before)
    assert target.get().body == b"one"
    write_app(tmp_path, APP.format(word="mended"))
    target.kill(signal.SIGHUP)
    wait_until(lambda: target.get().body == b"mended")


@pytest.mark.only_ferricorn("a reload of a broken file ends the server")
@pytest.mark.parametrize("broken", ["workers = 'many'", "raise RuntimeError('no')", "syntax error(", "import sys; sys.exit(3)"])
def test_broken_configuration_changes_nothing(server, broken):
    target = server(config="workers = 2\n")
    before = target.wait_workers(2)
    (target.folder / "settings.py").write_text(broken)
    target.kill(signal.SIGHUP)
    target.wait_log("Reload failed, nothing has changed")
    assert target.get().status == 200
    assert target.workers() == before


def test_reload_takes_over_settings(server):
    target = server(config="workers = 1\nraw_env = ['WORD=one']\n")
    assert target.get("/variable?WORD").body == b"one"
    (target.folder / "settings.py").write_text("workers = 3\nraw_env = ['WORD=two']\nkeepalive = 0\n")
    target.kill(signal.SIGHUP)
    target.wait_workers(3)
    wait_until(lambda: target.get("/variable?WORD").body == b"two")


def test_reload_can_listen_elsewhere(server, tmp_path):
    first, second = tmp_path / "first.sock", tmp_path / "second.sock"
    target = server(config=f"bind = ['unix:{first}']\n", bind=str(first))
    (target.folder / "settings.py").write_text(f"bind = ['unix:{second}']\n")
    target.kill(signal.SIGHUP)
    wait_until(second.exists)
    target.address = str(second)
    assert target.get().status == 200
    # Gunicorn leaves the file of the old socket behind.
    if FERRICORN:
        wait_until(lambda: not first.exists())
