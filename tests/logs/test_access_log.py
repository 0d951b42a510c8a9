"""The access log: where it goes, rotation by USR1, and that not one line is lost."""

import collections
import re
import signal
import threading

import pytest

from harness import Connection, request, wait_until

APP = "logs_app:app"
WORKERS = {"sync": ["-k", "sync"], "gthread": ["-k", "gthread", "--threads", "4"]}
# Formats that the server writes itself, and that go through Python's logging.
FORMATS = {"plain": "%(r)s %(s)s end", "variables": "%(r)s %(s)s %({wsgi.run_once}e)s end"}
WHOLE = re.compile(r"GET /n\?(\d+) HTTP/1\.[01] 200 (False )?end")


@pytest.fixture(params=WORKERS)
def worker(request):
    return WORKERS[request.param]


def numbers(text):
    """The numbers of the requests; fails on any line that is not one whole line."""
    matches = [WHOLE.fullmatch(line) for line in text.splitlines()]
    assert all(matches), [line for line, match in zip(text.splitlines(), matches, strict=True) if not match][:5]
    assert text == "" or text.endswith("\n")
    return [int(match[1]) for match in matches]


class Clients:
    """``count`` clients that each send ``each`` numbered requests, one after another, and check the answers."""

    def __init__(self, address, count=4, each=100):
        self.address, self.each = address, each
        self.answered = []
        self.threads = [threading.Thread(target=self._run, args=(number * each,)) for number in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for thread in self.threads:
            thread.join(30)
        self.answered.sort()

    def _run(self, first):
        connection = None
        for number in range(first, first + self.each):
            if connection is None:
                connection = Connection(self.address)
            connection.send(request(f"/n?{number}"))
            response = connection.response()
            assert response.body == b"hello"
            self.answered.append(number)
            if response.header("Connection") == "close":
                connection.sock.close()
                connection = None
        if connection:
            connection.sock.close()


def test_none_without_the_setting(server, worker):
    running = server(*worker, app=APP)
    running.get("/")
    running.stop()
    assert running.stdout() == "" and "GET /" not in running.log()


def test_to_stdout(server, worker):
    running = server(*worker, "--access-logfile", "-", app=APP)
    for _ in range(3):
        running.get("/x")
    wait_until(lambda: running.stdout().count('"GET /x HTTP/1.1" 200 5') == 3, 3, "three lines")
    assert "GET /x" not in running.log()


def test_to_a_file(server, worker, tmp_path):
    log = tmp_path / "access.log"
    log.write_text("before\n")
    running = server(*worker, "--access-logfile", log, app=APP)
    running.get("/x")
    wait_until(lambda: '"GET /x HTTP/1.1" 200 5' in log.read_text(), 3, "the line")
    assert log.read_text().startswith("before\n") and running.stdout() == ""


def test_both_logs_in_one_file(server, worker, tmp_path):
    log = tmp_path / "all.log"
    running = server(*worker, "--access-logfile", log, "--error-logfile", log, app=APP)
    running.get("/fail")
    running.stop()
    text = log.read_text()
    assert "Listening at" in text and text.count('"GET /fail HTTP/1.1" 500') == 1
    assert text.count("Error handling request GET /fail") == 1


def test_a_line_is_there_soon(server, worker):
    """Who follows the log sees a request when it is over, not when the next comes."""
    running = server(*worker, "--access-logfile", "-", app=APP)
    with running.connect() as connection:
        connection.request("/only")
        wait_until(lambda: "/only" in running.stdout(), 2, "the line")


def test_one_line_for_each_request_whatever_becomes_of_it(server, worker):
    running = server(*worker, "--access-logfile", "-", "--access-logformat", "%(r)s %(s)s", app=APP)
    wanted = collections.Counter()
    for path, status in [("/", 200), ("/fail", 500), ("/answer?404+No&1", 404), ("/write", 200), ("/file", 200)]:
        assert running.get(path).status == status
        wanted[f"GET {path} HTTP/1.1 {status}"] += 1
    with running.connect() as connection:
        connection.send(request("/fail_late"))
        assert connection.at_end() or connection.closed
    wanted["GET /fail_late HTTP/1.1 200"] += 1
    running.stop()
    assert collections.Counter(running.stdout().splitlines()) == wanted


def test_a_client_that_left_has_its_line(server, worker):
    running = server(*worker, "--access-logfile", "-", "--access-logformat", "%(U)s %(s)s end", app=APP)
    with running.connect() as connection:
        connection.send(request("/sleep?0.3"))
    wait_until(lambda: re.search(r"^/sleep \d{3} end$", running.stdout(), re.MULTILINE), 5, "the line")
    running.get("/")
    running.stop()
    assert running.stdout().count("/sleep") == 1


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("count", ["1", "2"], ids=["one worker", "two workers"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_nothing_is_lost_at_the_end(server, worker, form, count, number, tmp_path):
    log = tmp_path / "access.log"
    args = ["-w", count, "--access-logfile", log, "--access-logformat", FORMATS[form]]
    running = server(*worker, *args, app=APP)
    with Clients(running.address) as clients:
        pass
    assert running.stop(number) == 0
    assert clients.answered == list(range(400))
    assert sorted(numbers(log.read_text())) == clients.answered


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_lost_on_stdout(server, worker, form):
    running = server(*worker, "-w", "2", "--access-logfile", "-", "--access-logformat", FORMATS[form], app=APP)
    with Clients(running.address) as clients:
        pass
    running.stop()
    assert sorted(numbers(running.stdout())) == clients.answered == list(range(400))


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_lost_when_workers_are_replaced(server, form, tmp_path):
    log = tmp_path / "access.log"
    args = ["-w", "2", "--max-requests", "20", "--access-logfile", log, "--access-logformat", FORMATS[form]]
    running = server("-k", "sync", *args, app=APP)
    with Clients(running.address, each=40) as clients:
        pass
    running.stop()
    assert sorted(numbers(log.read_text())) == clients.answered == list(range(160))


@pytest.mark.parametrize("form", FORMATS)
def test_rotation_loses_nothing(server, worker, form, tmp_path):
    """Rename, USR1, and go on: as logrotate does, while requests come in."""
    log = tmp_path / "access.log"
    args = ["-w", "2", "--access-logfile", log, "--access-logformat", FORMATS[form]]
    running = server(*worker, *args, app=APP)
    running.wait_log("Booting worker", 2)
    workers = running.wait_workers(2)
    with Clients(running.address, each=300) as clients:
        for turn in range(3):
            wait_until(lambda turn=turn: len(clients.answered) > 200 * turn + 100, what="some requests")
            log.rename(tmp_path / f"old{turn}.log")
            running.kill(signal.SIGUSR1)
            wait_until(log.exists, 5, "the new file")
    assert running.workers() == workers
    assert running.stop() == 0
    files = [*tmp_path.glob("old*.log"), log]
    assert len(files) == 4
    seen = [number for file in files for number in numbers(file.read_text())]
    assert sorted(seen) == clients.answered == list(range(1200))


@pytest.mark.parametrize("capture", [[], ["--capture-output"]], ids=["", "capture"])
def test_usr1_reopens_every_log(server, worker, tmp_path, capture):
    access, error = tmp_path / "access.log", tmp_path / "error.log"
    running = server(*worker, "--access-logfile", access, "--error-logfile", error, *capture, app=APP)
    (pid,) = running.workers()
    running.get("/first")
    wait_until(lambda: "/first" in access.read_text(), what="the first line")
    old = {log: log.rename(log.with_suffix(".old")) for log in (access, error)}
    running.kill(signal.SIGUSR1)
    wait_until(lambda: access.exists() and error.exists(), 5, "new files")

    def moved():
        running.get("/fail")
        return "/fail" in access.read_text() and "Error handling request GET /fail" in error.read_text()

    wait_until(moved, 5, "the worker writes to the new files")
    before = {log: path.read_text() for log, path in old.items()}
    running.get("/prints")
    running.get("/fail")
    wait_until(lambda: "/prints" in access.read_text(), 5, "the line")
    assert running.workers() == [pid]
    running.stop()
    assert {log: path.read_text() for log, path in old.items()} == before
    assert "Shutting down: Master" in error.read_text()
    if capture:
        assert error.read_text().count("printed on stdout") == error.read_text().count("written to 2") == 1
