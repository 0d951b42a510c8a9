"""A stock Gunicorn of several versions, watched from outside: unchanged, unrestarted."""

import os
import signal
import socket
import stat
import subprocess
import time

import pytest
from attached import VERSIONS, Stock, Watch, free_port, may_become_another_user, numbers, title_library, wait, watcher

from harness.memory import memory_limit

pytestmark = pytest.mark.timeout(180)

DURATION = ["--access-logformat", '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s']


@pytest.fixture(scope="session")
def program():
    return watcher()


@pytest.fixture(params=sorted(VERSIONS))
def version(request):
    return request.param


@pytest.fixture
def stock(tmp_path):
    servers = []

    def start(version, *args, **options):
        folder = tmp_path / f"server{len(servers)}"
        folder.mkdir()
        servers.append(Stock(version, folder, *args, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.end()


@pytest.fixture
def watch(program):
    watches = []

    def start(*args, **options):
        watches.append(Watch(program, *args, **options))
        return watches[-1]

    yield start
    for watching in watches:
        watching.end()


def ready(count):
    return lambda s: sum(worker["life"] in ("ready", "busy") for worker in s["workers"]) == count


def at(path, seconds=0.0):
    """A snapshot with a request to this path that is so old."""
    return lambda s: next((r for r in s["requests"] if r["path"] == path and r["app_s"] >= seconds), None)


@pytest.mark.parametrize("args", [[], DURATION], ids=["default format", "with durations"])
@pytest.mark.parametrize("app", ["plain:app", "flaskapp:app"])
def test_a_stuck_request_is_seen_before_it_is_killed_and_counted_once(version, app, args, stock, watch):
    server = stock(version, "-w", "2", "-t", "3", *args, app=app)
    watching = watch("--pid", server.pid)
    first = watching.until(ready(2), "both workers")
    assert first["version"] == VERSIONS[version].split("==")[1]
    assert (first["worker_class"], first["timeout_s"], first["workers_target"]) == ("sync", 3.0, 2)
    for _ in range(5):
        assert server.get("/") == 200
    server.later("/sleep/30?token=s3cret")
    seen = at("/sleep/30")(watching.until(at("/sleep/30"), "the request by its path"))
    assert seen["app_s"] < 3, "before its time is over"
    assert (seen["method"], seen["query"], seen["deadline_s"]) == ("GET", "token=*", 3.0)
    assert seen["client"].startswith("127.0.0.1:") and seen["tid"] == seen["pid"]
    older = at("/sleep/30", 2.0)(watching.until(at("/sleep/30", 2.0), "it grows older"))
    assert older["number"] == seen["number"]
    pid = seen["pid"]
    watching.until_happened("changes", lambda c: (c["pid"], c["life"]) == (pid, "exited"), "its worker's end")
    watching.until(lambda s: ready(2)(s) and pid not in [w["pid"] for w in s["workers"]], "its successor")
    # The line with its 500 has been there for long enough to be counted.
    begun = time.monotonic()
    watching.until(lambda s: time.monotonic() - begun > 4.5, "some seconds")
    assert len(watching.all("lost")) == 1
    lost = watching.all("lost")[0]
    assert (lost["pid"], lost["id"], lost["request"]["path"]) == (pid, seen["number"], "/sleep/30")
    assert 3.0 <= lost["request"]["app_s"] < 6.0
    (death,) = watching.all("deaths")
    assert (death["exit"], death["worker"]["pid"]) == ("timeout", pid)
    assert "memory" not in death["cause"]
    # On a slow machine it is seen while it boots.
    lives = [life for life in watching.lives(pid) if life != "booting"]
    assert lives[0] == "ready" and lives[-1] == "exited"
    assert {"stuck", "condemned"} & set(watching.lives(pid))
    counts = numbers(watching.last)
    assert counts[("/sleep/:id", "lost")] == 1 and ("/sleep/:id", "5xx") not in counts, counts
    assert counts[("/", "2xx")] == 5
    assert "500" in server.access.read_text(), "the log says otherwise"
    assert "s3cret" not in str(watching.seen)


def test_a_boot_that_hangs_is_a_boot(version, stock, watch, tmp_path):
    flag = tmp_path / "slow"
    flag.touch()
    server = stock(version, "-w", "1", app="slowboot:app", env={"SLOW_BOOT": str(flag)}, ready=False)
    watching = watch("--pid", server.pid)
    watching.until(lambda s: [w["life"] for w in s["workers"]] == ["booting"] and s["workers"][0]["uptime_s"] > 2, "booting")
    flag.unlink()
    snapshot = watching.until(ready(1), "ready")
    assert snapshot["workers"][0]["boot_s"] > 2
    assert watching.lives(snapshot["workers"][0]["pid"]) == ["booting", "ready"]


def test_workers_that_have_served_their_requests_end_as_planned(version, stock, watch):
    server = stock(version, "-w", "1", "--max-requests", "5")
    watching = watch("--pid", server.pid)
    pid = watching.until(ready(1), "the worker")["workers"][0]["pid"]
    for _ in range(5):
        server.get("/")
    end = watching.until_happened("changes", lambda c: (c["pid"], c["life"]) == (pid, "exited"), "its end")
    assert end["exit"] == "planned"
    watching.until(lambda s: ready(1)(s) and s["workers"][0]["age"] == 2, "the next")
    assert not watching.all("lost") and not watching.all("deaths")


def test_a_worker_that_was_killed_is_not_out_of_memory(version, stock, watch):
    server = stock(version, "-w", "2")
    watching = watch("--pid", server.pid)
    watching.until(ready(2), "both")
    server.later("/sleep/20")
    running = at("/sleep/20")(watching.until(at("/sleep/20", 1.2), "the request"))
    os.kill(running["pid"], signal.SIGKILL)
    death = watching.until_happened("deaths", lambda d: d["worker"]["pid"] == running["pid"], "its end")
    assert death["exit"] == "signal" and "SIGKILL" in death["cause"]
    assert [request["path"] for request in death["requests"]] == ["/sleep/20"]
    (lost,) = watching.all("lost")
    assert 1.2 <= lost["request"]["app_s"] < 15 and lost["answer"] == "connection reset"
    assert "Perhaps out of memory?" in wait(lambda: server.error.read_text(), 5, "the log")
    assert numbers(watching.last)[("/sleep/:id", "lost")] == 1


def test_a_worker_that_needs_too_much_memory_is_out_of_memory(stock, watch):
    with memory_limit(200) as limited:
        if limited is None:
            pytest.skip("needs the right to limit memory")
        server = stock("27", "-w", "1", prefix=limited.prefix)
        watching = watch("--pid", server.pid)
        watching.until(ready(1), "the worker")
        server.later("/eat/500")
        death = watching.until_happened("deaths", lambda d: True, "its end")
        server.end()
    assert (death["exit"], death["cause"]) == (
        "out_of_memory",
        "the kernel killed it for want of memory (OOM killer)",
    )
    assert [lost["request"]["path"] for lost in watching.all("lost")] == ["/eat/500"]


def test_a_worker_that_ends_itself_says_how(stock, watch):
    server = stock("27", "-w", "1")
    watching = watch("--pid", server.pid)
    watching.until(ready(1), "the worker")
    server.later("/exit")
    death = watching.until_happened("deaths", lambda d: True, "its end")
    assert (death["exit"], death["cause"]) == ("code", "the process ended itself with exit code 7")
    assert len(watching.all("lost")) == 1


def test_a_reload_is_a_new_generation(version, stock, watch):
    server = stock(version, "-w", "2")
    watching = watch("--pid", server.pid)
    before = [worker["pid"] for worker in watching.until(ready(2), "both")["workers"]]
    server.signal(signal.SIGHUP)
    after = watching.until(
        lambda s: ready(2)(s) and not set(before) & {w["pid"] for w in s["workers"]}, "two others"
    )
    assert {worker["generation"] for worker in after["workers"]} == {1} and after["generation"] == 1
    ends = [change for change in watching.all("changes") if change["life"] == "exited"]
    assert sorted(end["pid"] for end in ends) == sorted(before)
    assert {end["exit"] for end in ends} == {"planned"}
    assert not watching.all("lost") and not watching.all("deaths")


def test_rotated_logs_are_read_on(version, stock, watch):
    server = stock(version, "-w", "1", *DURATION)
    watching = watch("--pid", server.pid)
    watching.until(ready(1), "the worker")

    def counted(count, what):
        watching.until(lambda s: numbers(s).get(("/", "2xx"), 0) == count(), what)

    def written():
        # The first was there before anybody watched.
        paths = [path for path in (server.access, server.access.with_suffix(".1")) if path.exists()]
        return sum(path.read_text().count("GET / ") for path in paths) - 1

    server.get("/")
    counted(lambda: 1, "the first")
    for path in (server.access, server.error):
        path.rename(path.with_suffix(".1"))
    server.get("/")
    counted(lambda: 2, "one that was written to the renamed file")
    server.signal(signal.SIGUSR1)
    wait(server.access.exists, 5, "a new file")
    # The arbiter and its worker turn to it one after the other.
    wait(lambda: server.get("/") and server.access.stat().st_size > 0, 10, "a line in it")
    counted(lambda: max(3, written()), "those in both files")
    begun = time.monotonic()
    watching.until(lambda s: time.monotonic() - begun > 1, "nothing more")
    # Copied and cut.
    total = written()
    os.truncate(server.access, 0)
    server.get("/")
    counted(lambda: total + 1, "one after the cut")
    server.signal(signal.SIGHUP)
    watching.until(lambda s: s["generation"] == 1, "events of the new error log")


def test_an_upgrade_is_followed(version, stock, watch):
    server = stock(version, "-w", "1")
    watching = watch("--pid", server.pid)
    old = watching.until(ready(1), "the worker")["workers"][0]["pid"]
    server.signal(signal.SIGUSR2)
    both = watching.until(lambda s: len(s["workers"]) == 2 and ready(2)(s), "both arbiters' workers")
    assert both["arbiter_pid"] == server.pid
    new_master = int(wait(lambda: (server.folder / "pid.2").exists() and (server.folder / "pid.2").read_text(), 5, "its pid"))
    server.extra.append(new_master)
    server.signal(signal.SIGTERM)
    server.process.wait(10)
    after = watching.until(lambda s: s["arbiter_pid"] == new_master and ready(1)(s) and len(s["workers"]) == 1, "the new one")
    assert after["workers"][0]["pid"] != old
    end = watching.until_happened("changes", lambda c: (c["pid"], c["life"]) == (old, "exited"), "the old one's end")
    assert end["exit"] == "planned" and not watching.all("deaths")
    server.later("/sleep/8")
    watching.until(at("/sleep/8", 1.0), "a request of the new arbiter's worker")


def test_requests_stuck_in_threads_are_each_seen(version, stock, watch):
    server = stock(version, "-k", "gthread", "--threads", "4", "-t", "30")
    watching = watch("--pid", server.pid)
    assert watching.until(ready(1), "the worker")["worker_class"] == "gthread"
    idle = server.connection()
    idle.request("GET", "/")
    idle.getresponse().read()
    for seconds in (11, 12, 13):
        server.later(f"/sleep/{seconds}")
    paths = {"/sleep/11", "/sleep/12", "/sleep/13"}
    snapshot = watching.until(lambda s: {r["path"] for r in s["requests"] if r["app_s"] > 2} == paths, "all three")
    assert len(snapshot["requests"]) == 3, "the idle connection is none"
    assert len({request["tid"] for request in snapshot["requests"]} | {snapshot["workers"][0]["pid"]}) == 4
    assert all(request["unenforced"] and request["deadline_s"] == 30 for request in snapshot["requests"])
    assert all(request["slow_s"] >= 5 for request in snapshot["requests"])
    watching.until(lambda s: not s["requests"], "their ends")
    idle.close()
    assert not watching.all("lost")
    watching.until(lambda s: numbers(s).get(("/sleep/:id", "2xx")) == 3, "their lines")
    took = next(r["app"]["sum_us"] for r in watching.last["routes"] if (r["route"], r["class"]) == ("/sleep/:id", "2xx"))
    assert 34e6 < took < 40e6, "the log has no durations; they were seen"


@pytest.mark.parametrize("args", [["-k", "sync"], ["-k", "gthread", "--threads", "3"]], ids=["sync", "gthread"])
def test_requests_over_a_unix_socket_are_seen(args, stock, watch):
    server = stock("25", *args, unix=True)
    watching = watch("--pid", server.pid)
    watching.until(ready(1), "the worker")
    server.later("/sleep/7")
    watching.until(at("/sleep/7", 3.0), "the request")
    watching.until(lambda s: not s["requests"], "its end")
    assert not watching.all("lost")


def test_an_event_loop_that_is_held_shows_by_whom(version, stock, watch):
    server = stock(version, "-k", "uvicorn_worker.UvicornWorker", "-t", "8", app="asgiapp:app")
    watching = watch("--pid", server.pid)
    assert watching.until(ready(1), "the worker")["worker_class"] == "uvicorn_worker.UvicornWorker"
    server.later("/sleep/9")
    waiting = watching.until(lambda s: any(r["app_s"] > 2 for r in s["requests"]), "a request that waits")
    assert len(waiting["requests"]) == 1
    watching.until(lambda s: not s["requests"], "its end")
    server.later("/block/20?q=s3cret")
    watching.until(at("/block/20", 2.0), "the request that holds the loop, by its path")
    death = watching.until_happened("deaths", lambda d: True, "its worker's end", 30)
    assert death["exit"] == "timeout"
    assert [lost["request"]["path"] for lost in watching.all("lost")] == ["/block/20"]


@pytest.mark.parametrize("version", ["25", "27"])
def test_gunicorns_own_asgi_worker(version, stock, watch):
    server = stock(version, "-k", "asgi", app="asgiapp:app")
    watching = watch("--pid", server.pid)
    assert watching.until(ready(1), "the worker")["worker_class"] == "asgi"
    server.later("/block/6")
    snapshot = watching.until(at("/block/6", 3.5), "the request")
    assert snapshot["workers"][0]["life"] == "stuck", "its loop gives no sign of life"
    watching.until(lambda s: ready(1)(s) and not s["requests"], "its end")


def test_greenlets(stock, watch):
    server = stock("27", "-k", "gevent")
    watching = watch("--pid", server.pid)
    assert watching.until(ready(1), "the worker")["worker_class"] == "gevent"
    server.later("/sleep/6")
    watching.until(lambda s: any(r["app_s"] > 2 for r in s["requests"]), "a request that waits")
    watching.until(lambda s: not s["requests"], "its end")


def test_a_hidden_command_line_hides_little(stock, watch):
    server = stock("23", "-w", "2", "-t", "7", env={"PYTHONPATH": str(title_library())})
    watching = watch("--pid", server.pid)
    snapshot = watching.until(ready(2), "both")
    assert (snapshot["timeout_s"], snapshot["workers_target"], snapshot["name"]) == (7.0, 2, "plain:app")
    assert any("setproctitle" in gap for gap in snapshot["gaps"])
    server.get("/")
    watching.until(lambda s: numbers(s).get(("/", "2xx")) == 1, "the access log, found among what is open")


def test_a_worker_or_a_pidfile_leads_to_the_arbiter(stock, watch, program):
    server = stock("27", "-w", "2")
    worker = server.children()[0]
    assert watch("--pid", worker).until(ready(2), "both")["arbiter_pid"] == server.pid
    by_file = watch("--pidfile", server.pidfile)
    assert by_file.until(ready(2), "both")["arbiter_pid"] == server.pid
    refused = subprocess.run([program, "--pid", str(os.getpid())], capture_output=True, text=True, timeout=20)
    assert refused.returncode == 1 and "is no Gunicorn" in refused.stderr


def test_statsd_is_received(version, stock, watch):
    port = free_port()
    server = stock(version, "-w", "1", "--statsd-host", f"127.0.0.1:{port}", "--statsd-prefix", "shop")
    watching = watch("--pid", server.pid, "--statsd", f"127.0.0.1:{port}")
    watching.until(ready(1), "the worker")
    # The first may meet what the kernel said while nobody listened yet.
    server.get("/")
    server.get("/")
    server.get("/sleep/0.3")
    slow = watching.until(lambda s: s["reported"]["durations"]["sum_us"] >= 300_000, "the slow request")["reported"]
    assert slow["statuses"]["200"] >= 2 and 2 <= slow["requests"] <= 4


def test_the_control_socket_tells_what_holds(stock, watch):
    server = stock("27", "-w", "1")
    watching = watch("--pid", server.pid)
    watching.until(ready(1), "the worker")
    server.signal(signal.SIGTTIN)
    watching.until(lambda s: ready(2)(s) and s["workers_target"] == 2, "two")
    server.signal(signal.SIGTTOU)
    watching.until(lambda s: ready(1)(s) and s["workers_target"] == 1, "one")
    assert not watching.all("deaths")


def test_who_waits_to_be_accepted_is_seen(stock, watch):
    server = stock("27", "-w", "1")
    watching = watch("--pid", server.pid)
    watching.until(ready(1), "the worker")
    for _ in range(4):
        server.later("/sleep/5")
    snapshot = watching.until(lambda s: s["backlog"]["waiting"] == 3 and s["backlog"]["waiting_s"] > 1, "three in line")
    assert len(snapshot["requests"]) == 1


def test_a_client_that_does_not_send_is_told_from_the_application(stock, watch):
    server = stock("27", "-w", "1", "-t", "20")
    watching = watch("--pid", server.pid)
    watching.until(ready(1), "the worker")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /half HTTP/1.1\r\nHost: x\r\n")
        watching.until(lambda s: any(r["phase"] == "read" and r["app_s"] > 2 for r in s["requests"]), "half a request")


def test_the_dirty_arbiter_is_no_worker(stock, watch):
    server = stock("27", "-w", "2", "--dirty-app", "dirtyjob:Job", "--dirty-workers", "1")
    watching = watch("--pid", server.pid)
    watching.until(ready(2), "both")
    wait(lambda: "Spawned dirty arbiter" in server.error.read_text(), 10, "the dirty arbiter")
    begun = time.monotonic()
    snapshot = watching.until(lambda s: time.monotonic() - begun > 2, "some seconds")
    assert len(snapshot["workers"]) == 2


def test_the_end_of_the_server_is_told(version, stock, watch):
    server = stock(version, "-w", "2")
    watching = watch("--pid", server.pid)
    pids = [worker["pid"] for worker in watching.until(ready(2), "both")["workers"]]
    server.signal(signal.SIGTERM)
    server.process.wait(10)
    gone = wait(lambda: watching.seen[-1]["gone"], 10, "its end")
    assert gone == f"the arbiter (pid {server.pid}) has ended in order"
    ends = [change for change in watching.all("changes") if change["life"] == "exited"]
    assert sorted(end["pid"] for end in ends) == sorted(pids) and {end["exit"] for end in ends} == {"planned"}
    assert watching.process.wait(5) == 0


def test_a_boot_that_fails_says_so(version, stock, watch, tmp_path):
    flag = tmp_path / "slow"
    flag.touch()
    server = stock(version, "-w", "1", app="slowboot:nothing", env={"SLOW_BOOT": str(flag)}, ready=False)
    watching = watch("--pid", server.pid)
    watching.until(lambda s: [w["life"] for w in s["workers"]] == ["booting"], "booting")
    flag.unlink()
    death = watching.until_happened("deaths", lambda d: True, "its end")
    assert death["exit"] == "boot" and "could not load the application" in death["cause"]
    assert "has ended with exit code" in wait(lambda: watching.seen[-1]["gone"], 10, "the arbiter's end")


def may_have_namespaces():
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_have_namespaces(), reason="needs the right to make namespaces")
def test_in_a_container_its_own_pids_are_understood(stock, watch):
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    server = stock("23", "-w", "1", "-t", "3", *DURATION, prefix=inside)
    (arbiter,) = server.children()
    watching = watch("--pid", arbiter)
    pid = watching.until(ready(1), "the worker")["workers"][0]["pid"]
    assert f"Booting worker with pid: {pid}" not in server.error.read_text()
    server.later("/sleep/20")
    death = watching.until_happened("deaths", lambda d: d["worker"]["pid"] == pid, "its end")
    assert death["exit"] == "timeout"
    assert [lost["request"]["path"] for lost in watching.all("lost")] == ["/sleep/20"]
    os.kill(arbiter, signal.SIGHUP)
    watching.until(lambda s: s["generation"] == 1 and ready(1)(s), "a reload")
    assert set(watching.lives(pid)) >= {"ready", "exited"}
    server.process.kill()


@pytest.mark.skipif(not may_become_another_user(), reason="needs root, to become somebody else")
def test_without_rights_less_is_seen_and_that_is_said(stock, watch, program, tmp_path):
    copy = tmp_path.parent / "attach"
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o755)
    server = stock("27", "-w", "2")
    for folder in (server.folder, *server.folder.parents):
        if str(folder).startswith(str(tmp_path.parent.parent)):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    watching = watch("--pid", server.pid, "--access-log", server.access, "--error-log", server.error, prefix=nobody)
    snapshot = watching.until(lambda s: len(s["workers"]) == 2, "both")
    gaps = " ".join(snapshot["gaps"])
    assert "descriptors may not be read" in gaps and "environment may not be read" in gaps
    server.later("/sleep/8")
    snapshot = watching.until(lambda s: any(r["app_s"] > 2 for r in s["requests"]), "a request, whosever it is")
    assert snapshot["requests"][0]["path"] == ""
    os.kill(server.children()[0], signal.SIGKILL)
    death = watching.until_happened("deaths", lambda d: True, "its end")
    assert death["exit"] == "signal"
