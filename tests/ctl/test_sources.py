"""ferricornctl beside a server that has no scoreboard: it asks the observer, and shows the same."""

import json
import subprocess

import pytest
from observers import observed

from harness import ctl


@pytest.fixture
def gunicorn(tmp_path):
    """A made-up Gunicorn and its observer, in the folder where observers are looked for."""
    folder = tmp_path / "ferricorn"
    folder.mkdir()
    with observed(folder) as (arbiter, observer):
        yield arbiter, observer, folder


def test_workers_and_requests_are_those_of_the_observer(gunicorn):
    arbiter, _, folder = gunicorn
    workers = json.loads(ctl("workers", "--json", arbiter.pid, "--state-dir", folder).stdout)
    assert workers["server"]["arbiter_pid"] == arbiter.pid
    assert [worker["threads_busy"] for worker in workers["workers"]] == [0, 1]
    assert workers["workers"][0]["phases"]["app"] == {
        "count": 0, "sum_s": 0.0, "p50_ms": None, "p90_ms": None, "p99_ms": None,
    }  # fmt: skip
    requests = json.loads(ctl("requests", "--json", arbiter.pid, "--state-dir", folder).stdout)["requests"]
    assert [(request["path"], request["deadline_left_s"]) for request in requests] == [("/report", 6.0)]
    shown = ctl("requests", "--pid", arbiter.pid, "--state-dir", folder).stdout
    assert "10.0.0.7:5123" in shown and "/report" in shown


def test_where_state_is_kept_it_needs_no_folder(gunicorn, tmp_path):
    arbiter, _, folder = gunicorn
    outcome = ctl("workers", "--json", arbiter.pid, env={"STATE_DIRECTORY": str(folder)})
    assert outcome.returncode == 0, outcome.stderr
    pidfile = tmp_path / "gunicorn.pid"
    pidfile.write_text(f"{arbiter.pid}\n")
    outcome = ctl("requests", pidfile, env={"STATE_DIRECTORY": str(folder)})
    assert "/report" in outcome.stdout, outcome.stderr


def test_there_is_no_flight_recorder_and_it_says_so(gunicorn):
    arbiter, _, folder = gunicorn
    outcome = ctl("requests", "--recent", "5", arbiter.pid, "--state-dir", folder)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "which has no flight recorder" in outcome.stderr


def test_several_servers_are_listed_with_their_kind(server, gunicorn):
    arbiter, _, folder = gunicorn
    running = server("--state-dir", folder)
    outcome = ctl("workers", env={"STATE_DIRECTORY": str(folder)})
    assert (outcome.returncode, outcome.stdout) == (1, "")
    lines = [line.split(None, 2)[:2] for line in outcome.stderr.splitlines()]
    assert [str(arbiter.pid), "gunicorn"] in lines, outcome.stderr
    assert [str(running.pid), "ferricorn"] in lines, outcome.stderr


def test_an_observer_that_is_gone_or_says_nonsense_is_explained(gunicorn):
    arbiter, observer, folder = gunicorn
    for document in ({"schema": 99}, [], "snapshot", None):
        observer.documents["/snapshot"] = document
        outcome = ctl("workers", arbiter.pid, "--state-dir", folder)
        assert (outcome.returncode, outcome.stdout) == (1, "")
        assert "could not be asked" in outcome.stderr and "  try: " in outcome.stderr
    stale = subprocess.Popen(["sleep", "600"])
    try:
        (folder / f"{stale.pid}.sock").touch()
        outcome = ctl("workers", stale.pid, "--state-dir", folder)
        assert outcome.returncode == 1 and "no observer of it answers" in outcome.stderr
    finally:
        stale.kill()
        stale.wait()
