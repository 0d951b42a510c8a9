"""`ferricornctl check`: what it finds beside a real server, in a configuration file, and in nginx's."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from observers import answering, observed, snapshot

from harness import ctl, free_port, wait_until
from harness.server import APPS, children, environment

pytestmark = pytest.mark.only_ferricorn("it is Ferricorn's")
NGINX = """
events {{}}
http {{
    upstream app {{ server {address}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        server_name shop.example;
        location / {{
            proxy_read_timeout {read_timeout};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass http://app;
        }}
    }}
}}
"""


def nginx(folder, address, read_timeout="60s"):
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(address=address, read_timeout=read_timeout, port=free_port()))
    return path


def check(*words, status):
    outcome = ctl("check", "--json", *words)
    assert outcome.returncode == status, outcome.stdout + outcome.stderr
    return json.loads(outcome.stdout)


def codes(document):
    return [(finding["level"], finding["code"]) for finding in document["findings"]]


def unseen(document):
    return " / ".join(gap["what"] for gap in document["facts"]["unseen"])


def test_a_sound_server_passes(server, tmp_path):
    args = ["-k", "gthread", "-w", "2", "--threads", "4", "--keep-alive", "75"]
    running = server(*args, app="waits:app", bind="unix")
    config = nginx(tmp_path, f"unix:{running.address}")
    facts = tmp_path / "databases.json"
    facts.write_text('[{"name": "shop", "max_connections": 100, "reserved": 3, "pool_per_worker": 5}]')
    document = check(running.pid, "--nginx", config, "--database-facts", facts, status=0)
    assert codes(document) == []
    said = document["facts"]["said"]
    assert (said["workers"], said["threads"], said["keepalive_s"], said["timeout_s"]) == (2, 4, 75, 30)
    assert document["facts"]["proxies"][0]["idle_s"] == 60
    # What workers do with their time has not been seen long enough, and that is said.
    assert "how much of their time workers wait" in unseen(document)
    text = ctl("check", running.pid, "--nginx", config, "--database-facts", facts).stdout
    assert text.splitlines()[-1].startswith("0 errors, 0 warnings, 0 hints; ")


def test_what_will_go_wrong_is_found_from_the_running_server(server, tmp_path):
    args = ["-w", "4", "--timeout", "90", "--max-requests", "1000", "--forwarded-allow-ips", "*"]
    port = free_port()
    running = server(*args, "--bind", f"0.0.0.0:{port}", app="waits:app", bind=("127.0.0.1", port))
    facts = tmp_path / "databases.json"
    pooler = {"query_wait_timeout_s": 120, "pool_size": 20, "max_client_conn": 100}
    facts.write_text(json.dumps([{"name": "shop", "max_connections": 100, "pool_per_worker": 15, "pooler": pooler}]))
    config = nginx(tmp_path, f"127.0.0.1:{port}")
    document = check(running.pid, "--nginx", config, "--database-facts", facts, status=1)
    assert codes(document) == [
        ("error", "security.forwarded_allow_ips"),
        ("warning", "pooler.query_wait_timeout"),
        ("warning", "proxy.read_timeout"),
        ("warning", "proxy.keepalive"),
        ("warning", "worker.max_requests_jitter"),
    ]
    text = ctl("check", running.pid, "--nginx", config).stdout
    assert "error: forwarded_allow_ips is `*`" in text and "  try: name the proxies" in text
    assert "nginx waits 60 s for an answer (server shop.example, location / (" in text


def test_databases_are_asked(dsn, tmp_path):
    config = tmp_path / "gunicorn.conf.py"
    config.write_text("workers = 60\nthreads = 4\nworker_class = 'gthread'\n")
    document = check("--config", config, "--reflex-database", dsn, status=1)
    found = {finding["code"]: finding["what"] for finding in document["findings"]}
    assert "240 connections may be wanted" in found["database.connections"] and "97 of 100" in found["database.connections"]
    (database,) = document["facts"]["databases"]
    assert (database["max_connections"], database["reserved"]) == (100, 3)
    assert "databases: their connections" not in unseen(document)
    # One that is not there is said, and the rest is checked.
    document = check("--config", config, "--reflex-database", f"postgresql://x@127.0.0.1:{free_port()}/shop", status=0)
    assert "/shop: " in unseen(document)
    outcome = ctl("check", "--config", config, "--reflex-database", "oracle://x/")
    assert outcome.returncode == 1 and "reflex_database (number 1) cannot be used" in outcome.stderr


def test_a_reload_changes_what_a_server_tells(server):
    running = server(app="waits:app", config="workers = 2\nmax_requests = 100\n")
    assert ("warning", "worker.max_requests_jitter") in codes(check(running.pid, status=1))
    (running.folder / "settings.py").write_text("workers = 2\nmax_requests = 100\nmax_requests_jitter = 20\n")
    running.kill(signal.SIGHUP)

    def changed():
        outcome = ctl("check", "--json", running.pid)
        return outcome.returncode == 0 and codes(json.loads(outcome.stdout)) == []

    wait_until(changed, 15, "the new settings")


def test_a_configuration_file_is_checked_alone(tmp_path):
    config = tmp_path / "gunicorn.conf.py"
    config.write_text("workers = 1\ntimeout = 60\nbind = ['unix:/run/x.sock']\nroute_timeouts = {'POST /x': 120}\n")
    document = check("--config", config, "--nginx", nginx(tmp_path, "unix:/run/x.sock", "2m"), status=1)
    assert codes(document) == [
        ("warning", "proxy.read_timeout"),
        ("warning", "proxy.keepalive"),
        ("warning", "worker.single"),
    ]
    assert document["facts"]["kind"] is None and "the running server" in unseen(document)
    config.write_text("workers = 'many'\n")
    outcome = ctl("check", "--config", config)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "could not be read" in outcome.stderr and "workers" in outcome.stderr
    outcome = ctl("check", "--config", tmp_path / "missing.py")
    assert outcome.returncode == 1 and "  why: " in outcome.stderr


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_what_nginx_prints_is_read(server, tmp_path):
    running = server("-w", "2", "--keep-alive", "75", app="waits:app")
    address = "{}:{}".format(*running.address)
    config = nginx(tmp_path, address, "25s")
    printed = subprocess.run(["nginx", "-T", "-c", config, "-p", tmp_path], capture_output=True, text=True, check=True)
    dump = tmp_path / "printed"
    dump.write_text(printed.stdout)
    document = check(running.pid, "--nginx", dump, status=1)
    assert codes(document) == [("warning", "proxy.read_timeout")]
    assert f"server shop.example, location / ({config}:" in document["facts"]["proxies"][0]["place"]
    # What leads elsewhere says nothing of this server.
    dump.write_text(printed.stdout.replace(address, "127.0.0.1:1"))
    assert "no place of nginx's configuration leads to" in unseen(check(running.pid, "--nginx", dump, status=0))
    broken = tmp_path / "broken"
    broken.write_text("http {\n")
    outcome = ctl("check", running.pid, "--nginx", broken)
    assert outcome.returncode == 1 and "the brace of `http` is not closed" in outcome.stderr


def test_calls_without_timeout_that_were_found_are_told(server, tmp_path):
    """A service that takes connections and says nothing, and a call that waits for it as long as it may."""
    state = tmp_path / "state"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        args = ["-w", "2", "-t", "2", "--state-dir", state, "--name", "shop"]
        running = server(*args, app="silent:app", env={"SILENT": str(silent.getsockname()[1])})
        assert running.get("/rates", timeout=20).status == 504

        def found():
            document = json.loads(ctl("check", "--json", running.pid).stdout)
            return document if ("warning", "requests.no_timeout") in codes(document) else None

        document = wait_until(found, 20, "the call is told")
    (line,) = document["facts"]["observed"]["no_timeout"]
    assert re.search(r"/silent\.py:\d+ in rates$", line), line


def test_workers_that_mostly_wait_are_told(server):
    running = server("-w", "2", app="waits:app")
    for _ in range(2):
        assert running.get("/?wait=5.2").status == 200

    def found():
        outcome = ctl("check", "--json", running.pid)
        return [code for code in codes(json.loads(outcome.stdout)) if code[1] == "worker.sync_waits"]

    wait_until(found, 10, "ten seconds of work")
    document = json.loads(ctl("check", "--json", running.pid).stdout)
    assert document["facts"]["observed"]["waiting_share"] > 0.8


@contextlib.contextmanager
def gunicorn(folder, state, *words):
    """A real Gunicorn of two workers, with an observer that tells its pids."""
    pytest.importorskip("gunicorn")
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-w", "2", *words, "waits:app"]
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(command, cwd=folder, env=environment({}, [APPS]), stderr=subprocess.DEVNULL)
        stack.callback(process.wait, 15)
        stack.callback(process.terminate)
        wait_until(lambda: len(children(process.pid)) == 2, 15, "two workers")
        document = snapshot(process.pid)
        for worker, pid in zip(document["workers"], children(process.pid), strict=True):
            worker["pid"] = pid
        stack.enter_context(answering(state / f"{process.pid}.sock", {"/snapshot": document, "/incidents": []}))
        yield process


def test_a_stock_gunicorn_is_read_from_outside(tmp_path):
    state, disk = tmp_path / "state", tmp_path / "heartbeats"
    state.mkdir()
    disk.mkdir()
    words = ["--bind", f"127.0.0.1:{free_port()}", "--max-requests", "50", "--worker-tmp-dir", str(disk)]
    with gunicorn(tmp_path, state, *words) as process:
        found = check(process.pid, "--state-dir", state, status=1)
        facts = found["facts"]
        assert facts["kind"] == "gunicorn"
        assert (facts["said"]["max_requests"], facts["said"]["workers"]) == (50, 2)
        assert facts["said"]["graceful_timeout_s"] == 30, "a default, since nobody can have said another"
        assert ("warning", "worker.max_requests_jitter") in codes(found)
        # None where this folder itself is in memory.
        assert facts["surroundings"]["heartbeat_on_disk"] in (str(disk), None)
        # A file of settings is code: it is named, and not run.
        (tmp_path / "gunicorn.conf.py").write_text("raise SystemExit('it was run')\n")
        found = check(process.pid, "--state-dir", state, status=1)
        assert "the settings of gunicorn.conf.py" in unseen(found)
        assert found["facts"]["said"]["graceful_timeout_s"] is None


def test_an_observers_gunicorn_whose_command_line_is_hidden(tmp_path):
    with observed(tmp_path) as (arbiter, _):
        document = check(arbiter.pid, "--state-dir", tmp_path, status=0)
        assert "whose command line is hidden" in unseen(document)
        assert document["facts"]["said"]["timeout_s"] == 30
