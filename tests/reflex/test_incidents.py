"""What `ferricornctl` tells of incidents. They are put into the store of a real server, which is where it looks."""

import contextlib
import json
import sqlite3
import subprocess

import pytest

from harness import wait_until
from harness.server import CTL

pytestmark = pytest.mark.only_ferricorn("keeps no incidents")

FILE = "reflex.sqlite"


def ctl(*args, check=True):
    done = subprocess.run([CTL, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done


def incident(name, state, at, **more):
    return {
        "schema": 1,
        "id": name,
        "server": {"pid": 4700, "name": "shop", "version": "0.1.0", "started_ns": 1},
        "state": state,
        "trigger": None if state == "note" else "losses",
        "fingerprint": "db.lock",
        "cause": "db.lock",
        "confidence": 0.93,
        "verdict": "a statement waits for a lock that \x1b[31mbackend 25083\x1b[0m holds",
        "route": "GET /report",
        "routes": [["GET /report", 3]],
        "noted_at": at,
        "diagnosed_at": at,
        "opened_at": None if state == "note" else at,
        "last_at": at + 60,
        "mitigated_at": None,
        "closed_at": None,
        "requests_lost": 3,
        "requests_stuck": 5,
        "workers": [4711],
        "impact": [],
        "request": None,
        "worker": None,
        "source": "outside",
        "frames": [{"function": "totals", "file": "/srv/shop/queries.py", "line": 88, "locals": {"query": "'SELECT 1'"}}],
        "evidence": [{"source": "database", "text": "backend 25083 is idle in transaction", "weight": 3}],
        "ruled_out": ["a slow statement"],
        "not_visible": [],
        "causes": [],
        "subject": {},
        "timeline": [{"at": at, "text": "seen"}],
        "fixes": {"now": ["SELECT pg_terminate_backend(25083)"], "next": [], "proper": []},
        # What a later version may add.
        "novelty": True,
        **more,
    }


@pytest.fixture(scope="module")
def folder(module_server, tmp_path_factory):
    """The folder of a server that runs, with an open incident, a note, and a closed incident."""
    folder = tmp_path_factory.mktemp("state")
    target = module_server("--state-dir", folder, "--timeout", 1, app="stuck:app")
    assert target.get("/stuck/sleep").status == 504
    wait_until(lambda: json.loads(ctl("timeouts", "--json", "--state-dir", folder).stdout)["records"], what="a record")
    with contextlib.closing(sqlite3.connect(folder / FILE, timeout=20)) as connection, connection:
        for each in (
            incident("20261126-1", "closed", 1_795_651_200.0),
            incident("20261126-2", "note", 1_795_651_300.0),
            incident("20261126-3", "open", 1_795_651_400.0, requests_lost=1234),
        ):
            connection.execute(
                "INSERT INTO incidents (id, server, state, cause, fingerprint, at, opened_at, last_at, body)"
                " VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?)",
                (each["id"], each["state"], each["cause"], each["fingerprint"], each["noted_at"], each["opened_at"])
                + (each["last_at"], json.dumps(each)),
            )
    return folder


def test_a_script_gets_an_array(folder):
    found = json.loads(ctl("incidents", "--json", "--state-dir", folder).stdout)
    assert [each["id"] for each in found] == ["20261126-3", "20261126-1"]
    expected = {"id", "state", "cause", "confidence", "route", "opened_at", "requests_lost", "evidence"}
    assert expected <= set(found[0])
    assert (found[0]["cause"], found[0]["opened_at"], found[0]["requests_lost"]) == ("db.lock", 1_795_651_400.0, 1234)
    every = json.loads(ctl("incidents", "--all", "--json", "--state-dir", folder).stdout)
    assert [each["state"] for each in every] == ["open", "note", "closed"]
    assert len(json.loads(ctl("incidents", "--limit", 1, "--json", "--state-dir", folder).stdout)) == 1


def test_a_person_gets_a_table(folder):
    header, *lines = ctl("incidents", "--state-dir", folder).stdout.splitlines()
    assert header.split() == ["ID", "STATE", "SINCE", "CAUSE", "CONF", "ROUTE", "LOST", "VERDICT"]
    assert [line.split()[0] for line in lines] == ["20261126-3", "20261126-1"]
    assert "1,234" in lines[0] and "\x1b" not in lines[0]
    assert len(ctl("incidents", "--all", "--state-dir", folder).stdout.splitlines()) == 4


def test_a_report_is_told_in_every_form(folder):
    text = ctl("why", "20261126-3", "--state-dir", folder).stdout
    assert text.startswith("Incident 20261126-3 (open): db.lock on GET /report\n")
    sections = ["VERDICT", "IMPACT", "WHERE IT WAS", "EVIDENCE", "RULED OUT", "TIMELINE", "FIX", "CONFIDENCE"]
    assert [line for line in sections if f"\n{line} " in text] == sections
    assert ">> /srv/shop/queries.py:88 in totals" in text and "query = 'SELECT 1'" in text
    assert "now  SELECT pg_terminate_backend(25083)" in text
    assert "\x1b" not in text
    markdown = ctl("why", "20261126-3", "--format", "markdown", "--state-dir", folder).stdout
    assert markdown.startswith("# Incident 20261126-3 (open): db.lock on GET /report\n") and "\n## Verdict\n" in markdown
    for args in (["--json"], ["--format", "json"]):
        document = json.loads(ctl("why", "20261126-3", *args, "--state-dir", folder).stdout)
        assert document["fixes"]["now"] == ["SELECT pg_terminate_backend(25083)"]
    # A note is found by its name, too.
    assert "(note)" in ctl("why", "20261126-2", "--state-dir", folder).stdout


def test_names_of_requests_and_workers_are_found_beside_those_of_incidents(folder):
    [record] = json.loads(ctl("timeouts", "--json", "--state-dir", folder).stdout)["records"]
    for name in (record["request"]["id"], record["worker"]["pid"]):
        assert f"(request {record['request']['id']})" in ctl("why", name, "--state-dir", folder).stdout
    markdown = ctl("why", record["request"]["id"], "--format", "markdown", "--state-dir", folder).stdout
    assert markdown.startswith("```text\nGET /stuck/sleep") and markdown.endswith("\n```\n")
    failed = ctl("why", "20261126-9", "--state-dir", folder, check=False)
    assert failed.returncode == 1 and "nothing is known of 20261126-9" in failed.stderr


def test_the_folder_of_a_running_server_is_found(folder):
    found = json.loads(ctl("incidents", "--json").stdout)
    assert "20261126-3" in {each["id"] for each in found}
