"""What late requests and dead workers leave behind: child processes, and the kernel's verdict on their memory."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from harness import wait_until
from harness.load import Load

pytestmark = pytest.mark.only_ferricorn("kills the whole worker, or nothing at all")

CLASSES = [("-k", "sync"), ("-k", "gthread", "--threads", "4")]
GROUPS = Path("/sys/fs/cgroup")
LIMIT = 200_000_000


@pytest.fixture
def strays():
    """Ends what the application leaves behind: processes of this test's session that nobody waits for."""
    mine = []
    yield mine
    for server in mine:
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(stat[3]) == server.pid:
                    os.kill(int(folder.name), signal.SIGKILL)


@pytest.mark.parametrize("args", CLASSES, ids=["sync", "gthread"])
def test_children_that_outlive_their_request_hold_nobody(server, strays, args):
    target = server("-w", "2", *args, "--timeout", "1", app="stuck:app")
    strays.append(target)
    target.wait_serving(2)
    with Load(target.address, "/hello", clients=4, rate=60) as load:
        response = target.get("/stuck/children")
        time.sleep(1.5)
    assert response.status == 504 and load.stop().failures == []
    assert target.stop() == 0


@pytest.mark.parametrize("args", CLASSES, ids=["sync", "gthread"])
def test_a_child_of_a_dead_worker_does_not_keep_its_client_waiting(server, strays, args):
    target = server("-w", "2", *args, app="stuck:app")
    strays.append(target)
    before = target.wait_serving(2)
    begun = time.monotonic()
    response = target.get("/stuck/orphaned")
    assert (response.status, time.monotonic() - begun < 1.0) == (502, True)
    wait_until(lambda: set(target.workers()) - set(before) and len(target.workers()) == 2, what="a new worker")
    assert target.get("/hello").body == b"hello"


@pytest.fixture
def limited_group():
    """A control group with little memory, where the tests may make one."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    paths = {controllers: path.lstrip("/") for _, controllers, path in lines}
    places = [
        (GROUPS / "memory" / paths.get("memory", ""), ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]),
        (GROUPS / paths.get("", ""), ["memory.max", "memory.swap.max"]),
    ]
    for parent, limits in places:
        folder = parent / f"ferricorn-test-{os.getpid()}"
        if not (parent / "cgroup.procs").exists():
            continue
        with contextlib.suppress(OSError):
            folder.mkdir()
            try:
                for limit, most in zip(limits, [LIMIT, LIMIT if "limit" in limits[1] else 0], strict=True):
                    with (folder / limit).open("r+") as file:
                        file.write(str(most))
                yield folder
                return
            finally:
                wait_until(lambda folder=folder: not (folder / "cgroup.procs").read_text(), what="an empty group")
                folder.rmdir()
    pytest.skip("no control group for memory can be made here")


@pytest.mark.parametrize("args", CLASSES, ids=["sync", "gthread"])
def test_a_worker_without_memory_is_told_from_one_that_was_killed(limited_group, server, args):
    def join():
        (limited_group / "cgroup.procs").write_text(str(os.getpid()))

    target = server("-w", "2", *args, app="stuck:app", env={"LIMITED_GROUP": "yes"}, popen={"preexec_fn": join})
    target.wait_serving(2)
    with Load(target.address, "/hello", clients=4, rate=60) as load:
        response = target.get("/stuck/memory")
        time.sleep(0.5)
    result = load.stop()
    assert response.status == 502
    assert all("502" in failure for failure in map(str, result.failures)), result.failures
    target.wait_log(r"has died: the kernel killed it for want of memory \(OOM killer\)\. It was at .*GET /stuck/memory")
    target.wait_serving(2)
