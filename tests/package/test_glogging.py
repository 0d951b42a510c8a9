"""The logger: formats, atoms, files and syslog, side by side with Gunicorn's where it is installed."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import ferricorn
from ferricorn import glogging, hooks

ENVIRON = {
    "REMOTE_ADDR": "127.0.0.1",
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/a?b=1",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "PATH_INFO": "/a",
    "QUERY_STRING": "b=1",
    "HTTP_REFERER": 'http://x/"quoted"',
    "HTTP_USER_AGENT": "curl",
    "HTTP_AUTHORIZATION": "Basic YnJhbmRvbjpzZWNyZXQ=",
    "HTTP_X_ID": "42",
}
SECOND = timedelta(seconds=1, microseconds=234567)


def response(**changes):
    return hooks.Response(**{"status": "200 OK", "headers": [("Content-Type", "text/html")], "sent": 1024, **changes})


@pytest.fixture
def theirs():
    return pytest.importorskip("gunicorn.glogging")


def test_same_api_as_gunicorn(theirs, make_config):
    def public(obj):
        return {name for name in dir(obj) if not name.startswith("__")}

    # How Gunicorn remembers whether access lines are on is its own affair.
    private = {"_access_log_enabled", "_compute_access_log_enabled"}
    assert public(theirs.Logger(make_config())) - private <= public(glogging.Logger(make_config()))
    assert theirs.CONFIG_DEFAULTS == glogging.CONFIG_DEFAULTS
    assert theirs.SYSLOG_FACILITIES == glogging.SYSLOG_FACILITIES
    for name in ("LOG_LEVELS", "error_fmt", "datefmt", "access_fmt", "syslog_fmt", "loglevel"):
        assert getattr(theirs.Logger, name) == getattr(glogging.Logger, name)


@pytest.mark.parametrize(
    ("environ", "resp", "taken"),
    [
        ({}, {}, SECOND),
        ({"HTTP_AUTHORIZATION": "basic not-base64!"}, {"sent": 0}, timedelta(microseconds=5)),
        ({"HTTP_AUTHORIZATION": "Bearer x"}, {"sent": None}, timedelta(milliseconds=1500)),
        ({"HTTP_AUTHORIZATION": "Basic"}, {"status": "404 Not Found", "headers": []}, timedelta(0)),
        ({"HTTP_AUTHORIZATION": "Basic /////w=="}, {"status": "200"}, SECOND),
        ({"REMOTE_ADDR": ""}, {"headers": [("A", "1"), ("a", "2")]}, SECOND),
    ],
)
def test_atoms_are_gunicorns(theirs, make_config, monkeypatch, environ, resp, taken):
    cfg = make_config()
    env = {**ENVIRON, **environ}
    args = (response(**resp), hooks.Request(env), env, taken)
    for cls in (theirs.Logger, glogging.Logger):
        monkeypatch.setattr(cls, "now", lambda _self: "[now]")
    mine, other = glogging.Logger(cfg).atoms(*args), theirs.Logger(cfg).atoms(*args)
    assert mine == other
    wrapped, other_wrapped = glogging.SafeAtoms(mine), theirs.SafeAtoms(other)
    for name in (*mine, "nope", "{nope}i", "{CONTENT-Type}o", "{X-Id}i", "{Remote_Addr}e"):
        assert wrapped[name] == other_wrapped[name]


@pytest.mark.parametrize(
    ("taken", "atom", "expected"),
    [
        (timedelta(days=2, microseconds=1), "T", 172800),
        (timedelta(days=1), "L", "86400.000000"),
        (timedelta(days=1), "D", 86_400_000_000),
        (SECOND, "M", 1234),
        (SECOND, "L", "1.234567"),
    ],
)
def test_durations_count_days(make_config, taken, atom, expected):
    assert glogging.Logger(make_config()).atoms(response(), hooks.Request(ENVIRON), ENVIRON, taken)[atom] == expected


def test_access_line(make_config, tmp_path):
    path = tmp_path / "access.log"
    log = glogging.Logger(make_config(accesslog=str(path)))
    log.access(response(), hooks.Request(ENVIRON), ENVIRON, SECOND)
    assert re.fullmatch(
        r'127\.0\.0\.1 - brandon \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /a\?b=1 HTTP/1\.1" 200 1024 '
        r'"http://x/\\"quoted\\"" "curl"\n',
        path.read_text(),
    )


def test_a_broken_access_format_is_an_error_not_a_failure(make_config, tmp_path, monkeypatch):
    path = tmp_path / "error.log"
    log = glogging.Logger(make_config(accesslog=str(tmp_path / "a"), errorlog=str(path)))
    monkeypatch.setattr(log.access_log, "info", lambda *_: 1 / 0)
    log.access(response(), hooks.Request(ENVIRON), ENVIRON, SECOND)
    assert "ZeroDivisionError" in path.read_text()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),
        ({"accesslog": "-"}, True),
        ({"syslog": True}, True),
        ({"syslog": True, "disable_redirect_access_to_syslog": True}, False),
        ({"logconfig_dict": {"version": 1}}, True),
    ],
)
def test_when_access_lines_are_written(make_config, values, expected):
    log = glogging.Logger(make_config())
    log.cfg = make_config(**values)
    assert log.access_log_enabled is expected


def test_error_lines(make_config, tmp_path):
    path = tmp_path / "error.log"
    log = glogging.Logger(make_config(errorlog=str(path), loglevel="DEBUG"))
    log.critical("WORKER TIMEOUT (pid:%s)", 7)
    log.error("b")
    log.warning("c")
    log.info("d")
    log.debug("e")
    log.log("warning", "f %s", 1)
    log.log(logging.ERROR, "g")
    log.log("nonsense", "h")
    try:
        raise ValueError("reason")
    except ValueError:
        log.exception("i")
    text = path.read_text()
    prefix = rf"\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{{4}}\] \[{os.getpid()}\] "
    levels = re.findall(rf"^{prefix}\[(\w+)\] (.*)$", text, re.MULTILINE)
    assert levels == [
        ("CRITICAL", "WORKER TIMEOUT (pid:7)"),
        ("ERROR", "b"),
        ("WARNING", "c"),
        ("INFO", "d"),
        ("DEBUG", "e"),
        ("WARNING", "f 1"),
        ("ERROR", "g"),
        ("INFO", "h"),
        ("ERROR", "i"),
    ]
    assert text.endswith("ValueError: reason\n")


@pytest.mark.parametrize(
    ("level", "expected"),
    [("critical", logging.CRITICAL), ("Warning", logging.WARNING), ("bogus", logging.INFO)],
)
def test_level_by_name(make_config, level, expected):
    assert (
        glogging.Logger(make_config(loglevel=level)).loglevel == expected == logging.getLogger("gunicorn.error").level
    )


def test_setup_again_does_not_double_lines(make_config, tmp_path):
    first, second = tmp_path / "1.log", tmp_path / "2.log"
    log = glogging.Logger(make_config(errorlog=str(first)))
    log.setup(make_config(errorlog=str(second)))
    log.info("once")
    assert (first.read_text(), second.read_text().count("once")) == ("", 1)


def test_dash_is_stderr_for_errors_and_stdout_for_access(make_config, capsys):
    log = glogging.Logger(make_config(accesslog="-", access_log_format="%(s)s"))
    log.info("to stderr")
    log.access(response(), hooks.Request(ENVIRON), ENVIRON, SECOND)
    captured = capsys.readouterr()
    assert captured.out == "200\n"
    assert captured.err.endswith("to stderr\n")


def test_a_file_that_cannot_be_written(make_config, tmp_path):
    with pytest.raises(RuntimeError, match=r"^Error: '.*' isn't writable \[IsADirectoryError"):
        glogging.Logger(make_config(errorlog=str(tmp_path)))


def test_reopen_follows_a_rotated_file(make_config, tmp_path):
    path = tmp_path / "error.log"
    log = glogging.Logger(make_config(errorlog=str(path)))
    log.info("old")
    path.rename(tmp_path / "error.log.1")
    log.reopen_files()
    log.info("new")
    assert "new" in path.read_text()
    assert "old" not in path.read_text()


def test_files_close_on_exec(make_config, tmp_path):
    log = glogging.Logger(make_config(errorlog=str(tmp_path / "e")))
    fd = log.error_log.handlers[0].stream.fileno()
    os.set_inheritable(fd, True)
    log.close_on_exec()
    assert not os.get_inheritable(fd)


CAPTURE = """
import os, sys
from conftest import DEFAULTS
from ferricorn.config import Config
from ferricorn.glogging import Logger
log = Logger(Config({"errorlog": "e.log", "capture_output": True}, DEFAULTS))
print("printed", flush=True)
os.system("echo from a child")
os.rename("e.log", "e.log.1")
log.reopen_files()
print("complaint", file=sys.stderr, flush=True)
"""


def test_captured_output_goes_to_the_error_log(tmp_path):
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": f"{here}:{Path(ferricorn.__file__).parents[1]}"}
    done = subprocess.run([sys.executable, "-c", CAPTURE], cwd=tmp_path, env=env, capture_output=True, check=True)
    assert done.stdout == done.stderr == b""
    assert (tmp_path / "e.log.1").read_text() == "printed\nfrom a child\n"
    assert (tmp_path / "e.log").read_text() == "complaint\n"


SYSLOG = (
    "unix:///dev/log unix:///dev/log#dgram unix:///dev/log#stream udp://h:1 udp://H tcp://h:2 tcp:// udp://[::1]:5 "
    "udp://[::1] nonsense http://h udp://h:x tcp://localhost:514"
)


@pytest.mark.parametrize("addr", SYSLOG.split())
def test_syslog_addresses_parse_as_gunicorns(theirs, addr):
    try:
        expected = theirs.parse_syslog_address(addr)
    except RuntimeError as error:
        with pytest.raises(RuntimeError) as caught:
            glogging.parse_syslog_address(addr)
        assert str(caught.value) == str(error)
    else:
        assert glogging.parse_syslog_address(addr) == expected


@pytest.mark.parametrize(
    ("values", "prefix"),
    [
        ({}, "<14>gunicorn.demo.app.error: "),
        ({"syslog_prefix": "x", "syslog_facility": "LOCAL3"}, "<158>gunicorn.x.error: "),
    ],
)
def test_syslog_datagrams(make_config, values, prefix):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        addr = f"udp://127.0.0.1:{receiver.getsockname()[1]}"
        glogging.Logger(make_config(syslog=True, syslog_addr=addr, **values)).info("hello")
        assert receiver.recv(1000).decode() == f"{prefix}[{os.getpid()}] hello\0"


def test_syslog_facility_must_exist(make_config):
    with pytest.raises(RuntimeError, match="unknown facility name"):
        glogging.Logger(make_config(syslog=True, syslog_facility="nope"))


FILE_DICT = {
    "handlers": {"console": {"class": "logging.FileHandler", "filename": "c.log", "formatter": "generic"}},
    "loggers": {"gunicorn.error": {"level": "DEBUG", "handlers": ["console"], "propagate": False}},
}
FILE_INI = """
[loggers]
keys=root
[handlers]
keys=console
[formatters]
keys=generic
[logger_root]
handlers=console
level=DEBUG
[handler_console]
class=FileHandler
args=("%(here)s/c.log",)
formatter=generic
[formatter_generic]
format=ini %(message)s
"""


@pytest.mark.parametrize("kind", ["dict", "json", "ini"])
def test_own_logging_configuration(make_config, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.json").write_text(json.dumps(FILE_DICT))
    (tmp_path / "log.ini").write_text(FILE_INI)
    values = {
        "dict": {"logconfig_dict": FILE_DICT, "logconfig_json": "log.json", "logconfig": "missing"},
        "json": {"logconfig_json": "log.json", "logconfig": "missing"},
        "ini": {"logconfig": str(tmp_path / "log.ini")},
    }[kind]
    glogging.Logger(make_config(**values)).info("hello")
    # An ini file that names no gunicorn logger leaves it with its own handler; the root gets everything else.
    logging.getLogger("somebody").warning("hello")
    assert "hello" in (tmp_path / "c.log").read_text()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"logconfig": "/no/such.ini"}, "Error: log config '/no/such.ini' not found"),
        ({"logconfig_dict": {"version": 9}}, "Unsupported version"),
        ({"logconfig_dict": {"root": {"handlers": ["nope"]}}}, "Unable to configure root logger"),
    ],
)
def test_bad_logging_configuration(make_config, values, problem):
    with pytest.raises(RuntimeError, match=problem):
        glogging.Logger(make_config(**values))


def test_bad_or_missing_json(make_config, tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RuntimeError, match="Expecting property name"):
        glogging.Logger(make_config(logconfig_json=str(tmp_path / "bad.json")))
    glogging.Logger(make_config(logconfig_json=str(tmp_path / "missing.json")))


def test_subclasses_work_as_they_do_on_gunicorn(make_config, tmp_path):
    class JsonLogger(glogging.Logger):
        datefmt = "%Y"

        def setup(self, cfg):
            super().setup(cfg)
            self._set_handler(self.error_log, cfg.errorlog, logging.Formatter("own %(message)s", self.datefmt))
            self.access_log.addFilter(lambda record: "health" not in record.getMessage())

        def atoms(self, resp, req, environ, request_time):
            return {**super().atoms(resp, req, environ, request_time), "x": "extra", "p": req.path}

        def now(self):
            return "whenever"

        def access(self, resp, req, environ, request_time):
            if req.method != "OPTIONS":
                super().access(resp, req, environ, request_time)

    error, access = tmp_path / "e", tmp_path / "a"
    log = JsonLogger(make_config(errorlog=str(error), accesslog=str(access), access_log_format="%(t)s %(x)s %(p)s"))
    log.info("hi")
    for method, uri in (("GET", "/a"), ("GET", "/health"), ("OPTIONS", "/b")):
        env = {**ENVIRON, "REQUEST_METHOD": method, "RAW_URI": uri}
        log.access(response(), hooks.Request(env), env, SECOND)
    assert error.read_text() == "own hi\n"
    assert access.read_text() == "whenever extra /a\n"
    assert len(log.error_log.handlers) == 1
    log.access_log.filters.clear()


def test_gunicorns_own_logger_runs_on_our_objects(theirs, make_config, tmp_path):
    path = tmp_path / "a"
    log = theirs.Logger(make_config(accesslog=str(path), errorlog=str(tmp_path / "e")))
    log.access(response(), hooks.Request(ENVIRON), ENVIRON, SECOND)
    assert '"GET /a?b=1 HTTP/1.1" 200 1024' in path.read_text()
