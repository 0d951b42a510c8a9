"""Starting: exit codes, addresses, pidfile, daemon, identity, environment."""

import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import COMMAND, Connection, expected, free_port, wait_until
from harness.server import environment, run_command

ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("import no_such_module", 3, "Worker failed to boot."),
        ("1 / 0", 3, "Worker failed to boot."),
        ("other = 1", 4, "App failed to load."),
        ("app = None", 4, "App failed to load."),
        ("app = 'no callable'", 4, "App failed to load."),
    ],
)
def test_application_that_does_not_load(server, tmp_path, text, code, reason):
    (tmp_path / "broken.py").write_text(text)
    # Of two workers that fail at once, Gunicorn's master trips over the second.
    target = server("-w", expected(ferricorn=2, gunicorn=1), app="broken:app", path=[tmp_path], ready=False)
    assert target.wait() == code
    assert "Shutting down: Master" in target.log()
    assert f"Reason: {reason}" in target.log()


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["--no-such-option", "probe:app"], 2, "unrecognized arguments: --no-such-option"),
        ([], 1, "No application module specified"),
        (["-b", "127.0.0.1:what", "probe:app"], 1, "'what' is not a valid port number"),
        (["-c", "missing.py", "probe:app"], 1, "'missing.py' doesn't exist"),
        (["-k", "no.such.Class", "probe:app"], 1, "class uri 'no.such.Class' invalid or not found"),
        (["--user", "no-such-user", "probe:app"], 1, "no-such-user"),
        (["--preload", "no_such_module:app"], 1, "no_such_module"),
    ],
)
def test_mistakes_are_told(tmp_path, args, code, text):
    result = run_command(args, tmp_path)
    assert (result.returncode, text in result.stderr) == (code, True), result.stderr


def test_port_in_use(server):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        target = server(bind=("127.0.0.1", port), config=f"bind = '127.0.0.1:{port}'\n", ready=False)
        assert target.wait() == 1
    assert target.log().count(f"Connection in use: ('127.0.0.1', {port})") == 5
    assert f"Can't connect to ('127.0.0.1', {port})" in target.log()
    assert "Booting worker" not in target.log()


def test_port_that_becomes_free(server):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        target = server(bind=("127.0.0.1", port), config=f"bind = '127.0.0.1:{port}'\n", ready=False)
        target.wait_log("Connection in use")
    wait_until(target.accepts)
    assert target.get().body == b"hello"


def test_address_that_is_not_ours(server):
    target = server(bind=("192.0.2.1", 80), config="bind = '192.0.2.1:80'\n", ready=False)
    assert target.wait() == 1
    assert "Invalid address: ('192.0.2.1', 80)" in target.log()


def test_several_addresses(server, tmp_path):
    port, path = free_port(), str(tmp_path / "web.sock")
    target = server(bind=path, config=f"bind = ['127.0.0.1:{port}', 'unix:{path}']\n")
    assert f"Listening at: http://127.0.0.1:{port},unix:{path} ({target.pid})" in target.log()
    for address in (("127.0.0.1", port), path):
        with Connection(address) as client:
            assert client.request("/").body == b"hello"


def test_socket_file(server):
    target = server("-m", "007", bind="unix")
    assert stat.S_IMODE(os.stat(target.address).st_mode) == 0o770
    assert target.get().body == b"hello"
    target.stop()
    assert not os.path.exists(target.address)


def test_stale_socket_file_is_replaced(server, tmp_path):
    path = str(tmp_path / "web.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    target = server(bind=path, config=f"bind = 'unix:{path}'\n")
    assert target.get().body == b"hello"


def test_other_file_is_left_alone(server, tmp_path):
    path = tmp_path / "web.sock"
    path.write_text("precious")
    target = server(bind=str(path), config=f"bind = 'unix:{path}'\n", ready=False)
    assert target.wait() == 1
    assert path.read_text() == "precious"
    assert f"{str(path)!r} is not a socket" in target.log()


def test_abstract_socket(server):
    name = f"\0ferricorn-test-{os.getpid()}"
    target = server(bind=name, config=f"bind = 'unix:{name}'\n".replace("\0", "\\0"))
    assert target.get().body == b"hello"


def test_ipv6(server):
    port = free_port()
    target = server(bind=("::1", port), config=f"bind = '[::1]:{port}'\n")
    assert f"Listening at: http://[::1]:{port}" in target.log()
    assert target.get().body == b"hello"


def inherited(tmp_path, make_args, extra_env):
    """Runs the command with a listening socket as descriptor 3, as systemd does."""
    listener = socket.create_server(("127.0.0.1", 0))
    script = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True)\n"
        "if 'LISTEN_FDS' in os.environ: os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    log = open(tmp_path / "log", "wb")
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(listener.fileno()), str(COMMAND), *make_args, "probe:app"],
        pass_fds=[listener.fileno()], cwd=tmp_path, stderr=log,
        env=environment(extra_env, [Path(__file__).parents[1] / "apps"]),
    )
    return listener, process


@pytest.mark.parametrize(("args", "env"), [([], {"LISTEN_FDS": "1"}), (["-b", "fd://3"], {})])
def test_inherited_socket(tmp_path, args, env):
    listener, process = inherited(tmp_path, args, env)
    try:
        address = listener.getsockname()
        # From here on it is the server's alone.
        listener.close()
        with Connection(address) as client:
            assert client.request("/").body == b"hello"
    finally:
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.only_ferricorn("says nothing to systemd but through a library")
def test_systemd_is_told(server, tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(10)
        target = server(env={"NOTIFY_SOCKET": str(path)})
        assert systemd.recv(1000).startswith(b"READY=1")
        target.kill(signal.SIGHUP)
        assert systemd.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert systemd.recv(1000).startswith(b"READY=1")
        target.stop()
        assert systemd.recv(1000).startswith(b"STOPPING=1")


def test_pidfile(server, tmp_path):
    path = tmp_path / "web.pid"
    target = server("-p", path)
    assert path.read_text() == f"{target.pid}\n"
    second = server("-p", path, ready=False)
    assert second.wait() == 1
    assert f"Already running on PID {target.pid} (or pid file '{path}' is stale)" in second.log()
    target.stop()
    assert not path.exists()


def test_stale_pidfile_is_replaced(server, tmp_path):
    path = tmp_path / "web.pid"
    ended = subprocess.Popen(["true"])
    ended.wait()
    path.write_text(f"{ended.pid}\n")
    target = server("-p", path)
    assert path.read_text() == f"{target.pid}\n"


def test_daemon(tmp_path):
    port, pidfile = free_port(), tmp_path / "web.pid"
    options = ["--daemon", "-p", pidfile, "-b", f"127.0.0.1:{port}", "--error-logfile", "error.log"]
    result = run_command([*options, "--no-control-socket", "probe:app"], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    wait_until(pidfile.exists)
    pid = int(pidfile.read_text())
    try:
        with Connection(("127.0.0.1", port)) as client:
            assert client.request("/").body == b"hello"
        # A session of its own, without a terminal.
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pidfile.exists())
    assert "Shutting down: Master" in (tmp_path / "error.log").read_text()


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
@pytest.mark.parametrize(
    "initgroups",
    [(), pytest.param(("--initgroups",), marks=pytest.mark.only_ferricorn("keeps root's group as the primary one"))],
)
def test_workers_become_their_user(server, tmp_path, initgroups):
    tmp_path.parent.chmod(0o755)
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    # Loaded before, since the interpreter's own files may be closed to that user.
    target = server(
        "--preload", "-u", "nobody", "-g", str(NOBODY.pw_gid), *initgroups, "--access-logfile", logs / "access.log",
        "--worker-tmp-dir", "/tmp",
    )
    seen = json.loads(target.get("/identity").body)
    assert (seen["uid"], seen["gid"]) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert os.stat(f"/proc/{target.pid}").st_uid == 0
    target.wait_log("GET /identity", path=logs / "access.log")
    assert os.stat(logs / "access.log").st_uid == NOBODY.pw_uid


def test_working_directory_and_environment(server, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    target = server("--chdir", folder, "-e", "WORD=a=b", "--env", "OTHER=2")
    assert json.loads(target.get("/identity").body)["cwd"] == str(folder)
    assert target.get("/variable?WORD").body == b"a=b"
    assert target.get("/variable?OTHER").body == b"2"


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()


@pytest.mark.only_ferricorn("needs the package setproctitle")
def test_process_title(server):
    target = server("-n", "shop")
    [worker] = target.wait_serving(1)
    assert command_line(target.pid).startswith("ferricorn: master [shop]")
    assert command_line(worker).startswith("ferricorn: worker [shop]")


def test_preloaded_application_is_loaded_once(server, tmp_path):
    text = "import os\nPID = os.getpid()\n"
    text += "def app(environ, start):\n    start('200 OK', [])\n    return [b'%d' % PID]\n"
    (tmp_path / "loaded.py").write_text(text)
    target = server("-w", "2", "--preload", app="loaded:app", path=[tmp_path])
    assert target.get().body == b"%d" % target.pid


def test_threads_of_a_preloaded_application_run(server, tmp_path):
    text = (
        "import threading, time, pathlib\n"
        "def tick():\n"
        "    for number in range(1000):\n"
        "        pathlib.Path('ticks').write_text(str(number))\n"
        "        time.sleep(0.01)\n"
        "threading.Thread(target=tick, daemon=True).start()\n"
        "from probe import app\n"
    )
    (tmp_path / "ticking.py").write_text(text)
    target = server("--preload", app="ticking:app", path=[tmp_path])
    ticks = target.folder / "ticks"
    wait_until(lambda: ticks.exists() and ticks.read_text() not in ("", "0"))
    before = ticks.read_text()
    wait_until(lambda: ticks.read_text() not in ("", before))


def test_reuse_port(server):
    target = server("--reuse-port", "-w", "2", ready=False)
    wait_until(target.accepts)
    pids = set()
    end = time.monotonic() + 15
    while len(pids) < 2 and time.monotonic() < end:
        pids.add(target.get("/pid").body)
    assert len(pids) == 2


def test_configuration_is_found_and_outranked(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("workers = 7\nthreads = 3\ntimeout = 11\n")
    env = {"GUNICORN_CMD_ARGS": "--threads 4 --timeout 12", "WEB_CONCURRENCY": "2"}
    result = run_command(["--timeout", "13", "--print-config", "probe:app"], tmp_path, env=env)
    shown = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    values = {key.strip(): value.strip() for key, value in shown.items()}
    assert (values["workers"], values["threads"], values["timeout"]) == ("7", "4", "13")


@pytest.mark.only_ferricorn("is silent")
def test_what_is_not_served_is_named(server):
    target = server("--keyfile", "key.pem", "--certfile", "cert.pem", config="wrokers = 4\n")
    log = target.log()
    assert "setting certfile (command line) has no effect" in log
    assert "unknown setting 'wrokers'" in log and "did you mean 'workers'?" in log
