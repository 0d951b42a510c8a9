"""Logs as users configure them: logconfig in its three forms, a class of their own, syslog."""

import json
import re
import socket

import pytest

from harness import expected, free_port, wait_until
from harness.server import APPS, run_command

APP = "logs_app:app"
WORKERS = {"sync": ["-k", "sync"], "gthread": ["-k", "gthread", "--threads", "2"]}

INI = """
[loggers]
keys = root, error, access, app

[handlers]
keys = root, error, access

[formatters]
keys = own

[logger_root]
level = INFO
handlers = root

[logger_error]
level = INFO
handlers = error
propagate = 0
qualname = gunicorn.error

[logger_access]
level = INFO
handlers = access
propagate = 0
qualname = gunicorn.access

[logger_app]
level = DEBUG
handlers = root
propagate = 0
qualname = my.app

[handler_root]
class = FileHandler
formatter = own
args = ("root.log",)

[handler_error]
class = FileHandler
formatter = own
args = ("error.log",)

[handler_access]
class = FileHandler
formatter = own
args = ("access.log",)

[formatter_own]
format = own %(name)s %(levelname)s %(message)s
"""


def file_handler(name):
    return {"class": "logging.FileHandler", "formatter": "own", "filename": name}


DICT = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["root"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["error"], "propagate": False, "qualname": "gunicorn.error"},
        "gunicorn.access": {"level": "INFO", "handlers": ["access"], "propagate": False, "qualname": "gunicorn.access"},
        "my.app": {"level": "DEBUG", "handlers": ["root"], "propagate": False},
    },
    "handlers": {name: file_handler(f"{name}.log") for name in ("root", "error", "access")},
    "formatters": {"own": {"format": "own %(name)s %(levelname)s %(message)s"}},
}


def in_form(form, folder):
    """Arguments and config file that say the same in each of the three forms."""
    if form == "ini":
        (folder / "log.ini").write_text(INI)
        return ["--log-config", folder / "log.ini"], None
    if form == "json":
        (folder / "log.json").write_text(json.dumps(DICT))
        return ["--log-config-json", folder / "log.json"], None
    return [], f"logconfig_dict = {DICT!r}"


@pytest.fixture(params=["ini", "json", "dict"])
def form(request, tmp_path):
    return in_form(request.param, tmp_path)


@pytest.mark.parametrize("worker", WORKERS)
def test_logconfig(server, form, worker):
    args, config = form
    running = server(*WORKERS[worker], *args, app=APP, config=config)
    (pid,) = running.workers()
    running.get("/loggers")
    assert running.get("/fail").status == 500
    running.stop()
    error, access, root = ((running.folder / f"{name}.log").read_text() for name in ("error", "access", "root"))
    assert f"own gunicorn.error INFO Booting worker with pid: {pid}\n" in error
    assert re.search(r"^own gunicorn\.error INFO Listening at: http://", error, re.MULTILINE)
    assert "own gunicorn.error INFO Shutting down: Master\n" in error
    assert error.count("own gunicorn.error ERROR Error handling request GET /fail\nTraceback") == 1
    assert error.count("own gunicorn.error WARNING own warning\n") == 1
    pattern = r'^own gunicorn\.access INFO 127\.0\.0\.1 - - \[.*\] "GET (\S+) HTTP/1\.1" (\d+) '
    assert sorted(re.findall(pattern, access, re.MULTILINE)) == [("/fail", "500"), ("/loggers", "200")]
    assert access.count("own gunicorn.access INFO own access line\n") == 1
    assert root == "own my.app WARNING warned by the application\n"


def test_logconfig_keeps_gunicorns_own_handler_of_the_error_log(server, tmp_path):
    """What the configuration says comes on top of errorlog, unless it gives that logger handlers."""
    partial = {"loggers": {}, "root": {"level": "INFO", "handlers": []}}
    running = server("--access-logfile", "-", app=APP, config=f"logconfig_dict = {partial!r}")
    running.get("/x")
    wait_until(lambda: '"GET /x HTTP/1.1" 200' in running.stdout(), 3, "the access line")
    assert "[INFO] Booting worker" in running.log()


def test_the_dict_wins(server, tmp_path):
    ini, _ = in_form("ini", tmp_path)
    _, config = in_form("dict", tmp_path)
    running = server(*ini, app=APP, config=config.replace("own %(name)s", "dict %(name)s"))
    running.wait_log("^dict gunicorn.error INFO Booting", path=running.folder / "error.log")


def test_usr1_reopens_configured_files(server, form):
    args, config = form
    running = server(*args, app=APP, config=config)
    access = running.folder / "access.log"
    running.get("/first")
    wait_until(lambda: "/first" in access.read_text(), 3, "the line")
    access.rename(running.folder / "access.old")
    running.kill(10)

    def moved():
        running.get("/again")
        return access.exists() and "/again" in access.read_text()

    wait_until(moved, 5, "lines in the new file")


@pytest.mark.parametrize(
    ("args", "config", "said"),
    [
        (["--log-config", "missing.ini"], None, "Error: log config 'missing.ini' not found"),
        ([], "logconfig_dict = {'handlers': {'x': {'class': 'no.such.Handler'}}}", "Unable to configure handler 'x'"),
    ],
)
def test_bad_logconfig(tmp_path, args, config, said):
    if config:
        (tmp_path / "gunicorn.conf.py").write_text(config)
    bind = ["--bind", f"127.0.0.1:{free_port()}", "--no-control-socket"]
    result = run_command([*args, *bind, APP], tmp_path)
    assert result.returncode == 1 and said in result.stderr


# logger_class


def lines(running, count, seconds=3):
    wait_until(lambda: len(running.stdout().splitlines()) >= count, seconds, f"{count} access lines")
    return running.stdout().splitlines()


@pytest.fixture(params=WORKERS)
def logger(request, server):
    """Starts a server with a logger class of logs_logger, named on the command line."""

    def start(name, *args):
        given = ["--logger-class", f"logs_logger.{name}", "--access-logfile", "-"]
        return server(*WORKERS[request.param], *given, *args, app=APP)

    return start


def test_access_of_its_own(logger):
    running = logger("Json")
    running.get("/answer?404+Gone&3,4&X-Out=1&Content-Type=a/b", headers=[("Accept", "*/*")])
    (line,) = lines(running, 1)
    seen = json.loads(line)
    assert 0 <= seen.pop("seconds") < 5
    assert seen == {
        "status": "404 Gone",
        "code": 404,
        "sent": 7,
        "headers": [["Content-Type", "a/b"], ["X-Out", "1"]],
        "path": "/answer",
        "method": "GET",
        "uri": "/answer?404+Gone&3,4&X-Out=1&Content-Type=a/b",
        "query": "404+Gone&3,4&X-Out=1&Content-Type=a/b",
        "version": [1, 1],
        "accept": "*/*",
    }


def test_access_left_out(logger):
    running = logger("NoHealth", "--access-logformat", "%(U)s %(s)s")
    for path in ("/health", "/x", "/health", "/y"):
        running.get(path)
    assert running.stop() == 0
    assert running.stdout().splitlines() == ["/x 200", "/y 200"]


def test_atoms_of_its_own(logger):
    running = logger("Atoms", "--access-logformat", "%(t)s %(k)s %(s)s")
    running.get("/", headers=[("X-Request-Id", "id-1")])
    running.get("/")
    assert lines(running, 2) == ["[now] id-1 200", "[now] none 200"]


def test_formats_of_its_own(logger):
    running = logger("Formats", "--access-logformat", "%(s)s")
    running.get("/")
    assert lines(running, 1) == ["A 200"]
    running.stop()
    log = running.log()
    assert re.match(r"E INFO Starting \w+ ", log) and "E INFO Booting worker with pid: " in log
    assert all(line.startswith("E INFO ") for line in log.splitlines())


def test_methods_of_its_own(logger):
    """Master and worker log through the object's methods, not past them."""
    running = logger("Setup")
    running.get("/fail")
    running.stop()
    log = running.log()
    for message in ("Listening at: ", "Booting worker with pid: ", "Worker exiting (pid: ", "Shutting down: Master"):
        assert f"S I {message}" in log, message
    assert log.count("S X Error handling request GET /fail\nTraceback (most recent call last):\n") == 1


@pytest.mark.only_ferricorn("the logger's failure becomes the request's")
def test_a_logger_that_fails(logger):
    running = logger("Failing")
    for _ in range(3):
        assert running.get("/").body == b"hello"
    wait_until(lambda: "RuntimeError: logger failed" in running.log(), 3, "its failure in the log")


def test_class_in_the_config_file(server):
    config = f"import sys\nsys.path.insert(0, {str(APPS)!r})\nfrom logs_logger import Atoms\nlogger_class = Atoms\n"
    config += "accesslog = '-'\naccess_log_format = '%(t)s %(k)s'\n"
    running = server(app=APP, config=config)
    running.get("/")
    assert lines(running, 1) == ["[now] none"]


def test_unknown_class(tmp_path):
    bind = ["--bind", f"127.0.0.1:{free_port()}", "--no-control-socket"]
    result = run_command(["--logger-class", "no.such.Logger", *bind, APP], tmp_path)
    assert result.returncode == 1 and "no.such.Logger" in result.stderr


# syslog


class Syslog:
    """A datagram socket in the place of the system's."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(5)
        self.seen = []

    def until(self, pattern):
        """Reads messages until one matches."""
        while True:
            self.seen.append(self.socket.recv(65536).rstrip(b"\0").decode())
            if match := re.fullmatch(pattern, self.seen[-1], re.DOTALL):
                return match


@pytest.fixture
def syslog(tmp_path):
    made = Syslog(tmp_path / "log")
    yield made
    made.socket.close()


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("kind", ["#dgram", ""])
def test_syslog(server, syslog, tmp_path, worker, kind):
    args = ["--log-syslog", "--log-syslog-to", f"unix://{tmp_path}/log{kind}", "--log-syslog-prefix", "shop"]
    running = server(*WORKERS[worker], *args, "--log-syslog-facility", "local3", app=APP)
    (pid,) = running.workers()
    # Facility 19 (local3); severities 6 and 3.
    syslog.until(rf"<158>gunicorn\.shop\.error: \[{running.pid}\] Listening at: http://.*")
    syslog.until(rf"<158>gunicorn\.shop\.error: \[{pid}\] Booting worker with pid: {pid}")
    running.get("/x")
    syslog.until(rf'<158>gunicorn\.shop\.access: \[{pid}\] 127\.0\.0\.1 - - \[.*\] "GET /x HTTP/1\.1" 200 5 "-" "-"')
    running.get("/fail")
    syslog.until(rf"<155>gunicorn\.shop\.error: \[{pid}\] Error handling request GET /fail\nTraceback .*")
    syslog.until(rf'<158>gunicorn\.shop\.access: \[{pid}\] .*"GET /fail HTTP/1\.1" 500 .*')
    assert "Booting worker" in running.log(), "errorlog goes on beside it"
    running.stop()
    syslog.until(rf"<158>gunicorn\.shop\.error: \[{running.pid}\] Shutting down: Master")


def test_syslog_defaults(server, syslog, tmp_path):
    """Facility user; the program is called as the process is."""
    server("--log-syslog", "--log-syslog-to", f"unix://{tmp_path}/log#dgram", app=APP)
    syslog.until(r"<14>gunicorn\.logs_app\.app\.error: \[\d+\] Booting worker with pid: \d+")


def test_no_access_lines_to_syslog(server, syslog, tmp_path):
    args = ["--log-syslog", "--log-syslog-to", f"unix://{tmp_path}/log", "--disable-redirect-access-to-syslog"]
    running = server(*args, "--access-logfile", "-", app=APP)
    running.get("/x")
    assert len(lines(running, 1)) == 1
    running.stop()
    syslog.until(r"<14>.*Shutting down: Master")
    assert not [message for message in syslog.seen if ".access" in message]


def test_udp_syslog(server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        address = "udp://127.0.0.1:{}".format(receiver.getsockname()[1])
        server("--log-syslog", "--log-syslog-to", address, "--log-syslog-prefix", "p", app=APP)
        while not re.match(rb"<14>gunicorn\.p\.error: \[\d+\] Booting worker", receiver.recv(65536)):
            pass


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--log-syslog-to", "nonsense"], "invalid syslog address"),
        (["--log-syslog-to", "udp://x:port"], "is not a valid port number."),
        (["--log-syslog-facility", "local9"], "unknown facility name"),
    ],
)
def test_bad_syslog(tmp_path, args, said):
    bind = ["--bind", f"127.0.0.1:{free_port()}", "--no-control-socket"]
    result = run_command(["--log-syslog", *args, *bind, APP], tmp_path)
    assert result.returncode == 1
    assert said in result.stderr
    assert result.stderr.count("Traceback") <= expected(ferricorn=0, gunicorn=9)
