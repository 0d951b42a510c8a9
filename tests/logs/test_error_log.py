"""The error log: its line format and dates, levels, where it goes, and what the application writes beside it."""

import contextlib
import datetime
import os
import re
import signal

import pytest

from harness import expected, free_port, wait_until
from harness.server import run_command

APP = "logs_app:app"
LINE = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})\] \[(\d+)\] \[([A-Z]+)\] (.+)")
LEVELS = ["debug", "info", "warning", "error", "critical"]
BOTH = ["sync", "gthread"]


def entries(text):
    """(time, pid, level, message) of each line; what is no such line fails."""
    matches = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(matches), text
    return [
        (datetime.datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S %z"), int(match[2]), match[3], match[4])
        for match in matches
    ]


def stop(running):
    assert running.stop() == 0
    return running.log()


@pytest.mark.parametrize("worker", BOTH)
def test_life_of_a_server(server, worker):
    running = server("-k", worker, app=APP)
    running.get("/")
    (pid,) = running.workers()
    seen = entries(stop(running))
    now = datetime.datetime.now(datetime.timezone.utc)
    assert all(abs((now - time).total_seconds()) < 60 for time, *_ in seen)
    by_master = [(level, text) for _, who, level, text in seen if who == running.pid]
    by_worker = [(level, text) for _, who, level, text in seen if who == pid]
    assert len(by_master) + len(by_worker) == len(seen)
    assert by_master[0][1].startswith(expected(ferricorn="Starting ferricorn ", gunicorn="Starting gunicorn "))
    address = "http://{}:{}".format(*running.address)
    assert ("INFO", f"Listening at: {address} ({running.pid})") in by_master
    assert ("INFO", f"Using worker: {worker}") in by_master
    assert ("INFO", "Handling signal: term") in by_master
    assert by_master[-1] == ("INFO", "Shutting down: Master")
    assert by_worker[0] == ("INFO", f"Booting worker with pid: {pid}")
    assert by_worker[-1] == ("INFO", f"Worker exiting (pid: {pid})")


@pytest.mark.parametrize(("zone", "offset"), [("XXX-5:45", "+0545"), ("YYY3:30", "-0330"), ("UTC0", "+0000")])
def test_time_zone(server, zone, offset):
    running = server("--access-logfile", "-", app=APP, env={"TZ": zone})
    running.get("/")
    wait_until(running.stdout, what="the access line")
    now = datetime.datetime.now(datetime.timezone.utc)
    for time, *_ in entries(running.log()):
        assert time.strftime("%z") == offset and abs((now - time).total_seconds()) < 60
    stamp = re.search(r"\[(.*?)\]", running.stdout())[1]
    time = datetime.datetime.strptime(stamp, "%d/%b/%Y:%H:%M:%S %z")
    assert stamp.endswith(offset) and abs((now - time).total_seconds()) < 60


@pytest.mark.parametrize(
    ("given", "least"), [*((level, level) for level in LEVELS), ("WARNING", "warning"), ("nonsense", "info")]
)
def test_loglevel(server, given, least):
    """From the master, from the worker, from the application's use of the same logger."""
    running = server("--log-level", given, app=APP)
    running.get("/loggers")
    stop(running)
    shown = {level for _, _, level, _ in entries(without_foreign(running.log()))}
    wanted = [level.upper() for level in LEVELS[LEVELS.index(least) :]]
    assert shown <= set(wanted)
    own = re.findall(r"\[([A-Z]+)\] own ", running.log())
    assert own == wanted
    assert ("Listening at" in running.log()) == (least in ("debug", "info"))
    assert ("Booting worker" in running.log()) == (least in ("debug", "info"))


def without_foreign(text):
    """Leaves out the configuration that ``debug`` prints, and what Python's last resort says of foreign loggers."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if LINE.fullmatch(line))


@pytest.mark.parametrize("level", ["error", "critical"])
def test_failures_are_errors(server, level):
    running = server("--log-level", level, app=APP)
    assert running.get("/fail").status == 500
    running.get("/")
    assert ("[ERROR] Error handling request GET /fail" in running.log()) == (level == "error")
    assert ("Traceback" in running.log()) == (level == "error")


@pytest.mark.parametrize("flag", ["--error-logfile", "--log-file"])
@pytest.mark.parametrize("worker", BOTH)
def test_to_a_file(server, tmp_path, flag, worker):
    log = tmp_path / "error.log"
    log.write_text("what was there before\n")
    running = server("-k", worker, flag, log, app=APP)
    running.get("/fail")
    stop(running)
    text = log.read_text()
    assert text.startswith("what was there before\n")
    assert running.log() == ""
    assert "Listening at" in text and "Booting worker" in text and "Shutting down: Master" in text
    assert text.count("[ERROR] Error handling request GET /fail\nTraceback (most recent call last):\n") == 1


def test_relative_to_the_working_directory(server):
    running = server("--error-logfile", "here.log", app=APP)
    running.wait_log("Booting worker", path=running.folder / "here.log")


@pytest.mark.parametrize("flag", ["--error-logfile", "--access-logfile"])
def test_a_file_that_cannot_be(tmp_path, flag):
    path = tmp_path / "missing" / "x.log"
    result = run_command([flag, path, "--bind", f"127.0.0.1:{free_port()}", "--no-control-socket", APP], tmp_path)
    assert result.returncode == 1
    assert str(path) in result.stderr and "isn't writable" in result.stderr


@pytest.mark.parametrize("worker", BOTH)
def test_capture_output(server, tmp_path, worker):
    log = tmp_path / "error.log"
    running = server("-k", worker, "--error-logfile", log, "--capture-output", app=APP)
    running.get("/prints")
    stop(running)
    text = log.read_text()
    for said in ("printed on stdout", "printed on stderr", "written to 1", "written to 2", "said by a child"):
        assert text.count(said) == 1, said
    assert "printed" not in running.stdout() + running.log()


def test_output_is_left_alone(server, tmp_path):
    log = tmp_path / "error.log"
    running = server("--error-logfile", log, app=APP)
    running.get("/prints")
    assert "printed on stdout\nwritten to 1\nsaid by a child\n" in running.stdout()
    assert "printed on stderr\nwritten to 2\n" in running.log()
    assert "printed" not in log.read_text() and "said to wsgi.errors\n" in log.read_text()


def test_capture_output_needs_a_file(server):
    """With the error log on the terminal there is nothing to redirect."""
    running = server("--capture-output", app=APP)
    running.get("/prints")
    assert "printed on stdout" in running.stdout() and "printed on stderr" in running.log()


@pytest.mark.only_ferricorn("waits for whoever reads its log, and with it all that it supervises")
def test_a_log_that_nobody_reads_holds_nobody_up(server, tmp_path):
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        target = server("-w", "1", "--error-logfile", fifo, "--graceful-timeout", "1")
        [victim] = target.wait_serving(1)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: target.workers() not in ([], [victim]))
        target.wait_serving(1)
        assert target.get().body == b"hello"
        os.read(reader, 1 << 20)
        target.kill(signal.SIGTTIN)
        target.wait_serving(2)
        text = os.read(reader, 1 << 20).decode()
        assert re.search(r"\[WARNING\] Lines of this log that were lost because nobody took them: \d+$", text, re.M), text
        assert "Handling signal: ttin" in text
    finally:
        os.close(reader)
        os.close(writer)
