"""The store: what happens to it, and to the server, when somebody is killed, in the way, or has made a mess of it."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from harness import wait_until
from harness.server import CTL, alive, children, is_observer

pytestmark = pytest.mark.only_ferricorn("keeps no records")

TIMEOUT = 1
FILE = "reflex.sqlite"


def ctl(*args, check=True):
    done = subprocess.run([CTL, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done


def records(folder):
    return json.loads(ctl("timeouts", "--json", "--state-dir", folder).stdout)["records"]


def start(server, folder, *args):
    return server("--state-dir", folder, "--timeout", TIMEOUT, *args, app="stuck:app")


def observer(target):
    [pid] = wait_until(lambda: [pid for pid in children(target.pid) if is_observer(pid)], what="an observer")
    return pid


def late(target, path="/stuck/sleep"):
    assert target.get(path).status == 504


def intact(folder):
    with contextlib.closing(sqlite3.connect(folder / FILE)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_records_outlive_a_server_that_is_killed(server, tmp_path):
    folder = tmp_path / "state"
    target = start(server, folder)
    late(target)
    [before] = wait_until(lambda: records(folder), what="a record")
    pids = [target.pid, observer(target), *target.workers()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    target.process.wait()
    # Read first by somebody who only reads: the journal of the dead is still there.
    assert (folder / f"{FILE}-wal").stat().st_size > 0
    assert records(folder) == [before]
    again = start(server, folder)
    late(again)
    assert wait_until(lambda: len(records(folder)) == 2, what="another record")
    assert again.stop() == 0
    assert intact(folder)


def test_an_observer_that_is_killed_harms_nothing(server, tmp_path):
    folder = tmp_path / "state"
    target = start(server, folder)
    for number in (1, 2, 3):
        late(target)
        wait_until(lambda number=number: len(records(folder)) == number, what="its record")
        pid = observer(target)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: [other for other in children(target.pid) if is_observer(other) and other != pid], what="another")
    assert target.stop() == 0
    assert len(records(folder)) == 3 and intact(folder)


def test_the_observer_ends_before_its_server(server, tmp_path):
    """The first process of a container takes all others with it, and what they have not written."""
    folder = tmp_path / "state"
    target = start(server, folder)
    late(target)
    pid = observer(target)
    assert target.stop() == 0
    assert not alive(pid)
    assert len(records(folder)) == 1 and intact(folder)


def test_servers_share_a_folder(server, tmp_path):
    folder = tmp_path / "state"
    targets = [start(server, folder), start(server, folder)]
    for target in targets:
        late(target)
    found = wait_until(lambda: len(records(folder)) == 2 and records(folder), what="two records")
    assert {record["server"]["pid"] for record in found} == {target.pid for target in targets}
    assert all(record["server"]["started_ns"] > 0 for record in found)
    assert oct((folder / FILE).stat().st_mode)[-3:] == "600"
    assert oct(folder.stat().st_mode)[-3:] == "700"


def test_a_lock_delays_records_and_nothing_else(server, tmp_path):
    folder = tmp_path / "state"
    target = start(server, folder)
    wait_until((folder / FILE).exists, what="a store")
    with contextlib.closing(sqlite3.connect(folder / FILE, isolation_level=None)) as other:
        wait_until(lambda: other.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 5, what="its tables")
        other.execute("BEGIN EXCLUSIVE")
        late(target)
        target.wait_log(r"Records cannot be kept in .* for now: another process keeps the store in use")
        late(target)
        # Viewers see what was there before.
        assert records(folder) == []
        other.execute("COMMIT")
    target.wait_log(r"Records are kept again; 0 were lost")
    assert len(records(folder)) == 2
    assert target.log().count("Records cannot be kept") == 1


def test_a_damaged_store_is_left_alone(server, tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / FILE).write_bytes(b"not a database, whatever its name says; " * 500)
    before = (folder / FILE).read_bytes()
    target = start(server, folder)
    late(target)
    target.wait_log(r"Records of timeouts are not kept: .* the store is damaged .* move `reflex.sqlite` away")
    failed = ctl("timeouts", "--state-dir", folder, check=False)
    assert failed.returncode == 1 and "move `reflex.sqlite` away" in failed.stderr
    assert target.stop() == 0
    assert (folder / FILE).read_bytes() == before


def test_a_newer_store_is_refused(server, tmp_path):
    folder = tmp_path / "state"
    target = start(server, folder)
    late(target)
    wait_until(lambda: records(folder), what="a record")
    assert target.stop() == 0
    with contextlib.closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("PRAGMA user_version = 1000")
    target = start(server, folder)
    target.wait_log(r"Records of timeouts are not kept: .* a newer Ferricorn has written this store")
    late(target)
    failed = ctl("incidents", "--state-dir", folder, check=False)
    assert failed.returncode == 1 and "schema 1000" in failed.stderr and "try: " in failed.stderr


def test_a_store_that_is_taken_away_is_made_again(server, tmp_path):
    folder = tmp_path / "state"
    target = start(server, folder)
    late(target)
    wait_until(lambda: records(folder), what="a record")
    for file in folder.iterdir():
        file.unlink()
    # A new observer looks at once; the old one within a minute.
    os.kill(observer(target), signal.SIGKILL)
    wait_until((folder / FILE).exists, what="a new store")
    late(target)
    assert len(wait_until(lambda: records(folder), what="a record")) == 1


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_without_a_store_nothing_is_known(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    done = ctl("incidents", "--json", "--state-dir", tmp_path / folder, check=False)
    if folder == "empty":
        assert (done.returncode, json.loads(done.stdout)) == (0, [])
    else:
        assert done.returncode == 1 and "No such file" in done.stderr
    assert not list(Path(tmp_path / "empty").iterdir())
