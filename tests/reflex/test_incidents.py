"""What `ferricornctl` tells of incidents. They are put into the store of a real server, which is where it looks."""

import json

import pytest

from harness import ctl, wait_until
from harness.incidents import incident, keep

pytestmark = pytest.mark.only_ferricorn("keeps no incidents")


def told(*words):
    """Runs a command line that must succeed."""
    done = ctl(*words)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(module_server, tmp_path_factory):
    """The folder of a server that runs, with an open incident, a note, and a closed incident."""
    folder = tmp_path_factory.mktemp("state")
    target = module_server("--state-dir", folder, "--timeout", 1, app="stuck:app")
    assert target.get("/stuck/sleep").status == 504
    wait_until(lambda: json.loads(told("timeouts", "--json", "--state-dir", folder).stdout)["records"], what="a record")
    keep(
        folder,
        incident("20200101-1", "closed", 1_795_651_200.0),
        incident("20200101-2", "note", 1_795_651_300.0),
        incident("20200101-3", "open", 1_795_651_400.0, requests_lost=1234),
    )
    return folder


def test_a_script_gets_an_array(folder):
    found = json.loads(told("incidents", "--json", "--state-dir", folder).stdout)
    assert [each["id"] for each in found] == ["20200101-3", "20200101-1"]
    expected = {"id", "state", "cause", "confidence", "route", "opened_at", "requests_lost", "evidence"}
    assert expected <= set(found[0])
    assert (found[0]["cause"], found[0]["opened_at"], found[0]["requests_lost"]) == ("db.lock", 1_795_651_400.0, 1234)
    every = json.loads(told("incidents", "--all", "--json", "--state-dir", folder).stdout)
    # The newest is the note of the request above.
    assert [each["state"] for each in every] == ["note", "open", "note", "closed"]
    assert len(json.loads(told("incidents", "--limit", 1, "--json", "--state-dir", folder).stdout)) == 1


def test_a_person_gets_a_table(folder):
    header, *lines = told("incidents", "--state-dir", folder).stdout.splitlines()
    assert header.split() == ["ID", "STATE", "SINCE", "CAUSE", "CONF", "ROUTE", "LOST", "VERDICT"]
    assert [line.split()[0] for line in lines] == ["20200101-3", "20200101-1"]
    assert "1,234" in lines[0] and "\x1b" not in lines[0]
    assert len(told("incidents", "--all", "--state-dir", folder).stdout.splitlines()) == 5


def test_a_report_is_told_in_every_form(folder):
    text = told("why", "20200101-3", "--state-dir", folder).stdout
    assert text.startswith("Incident 20200101-3 (open): db.lock on GET /report\n")
    sections = ["VERDICT", "IMPACT", "WHERE IT WAS", "EVIDENCE", "RULED OUT", "TIMELINE", "FIX", "CONFIDENCE"]
    assert [line for line in sections if f"\n{line} " in text] == sections
    assert ">> /srv/shop/queries.py:88 in totals" in text and "query = 'SELECT 1'" in text
    assert "now  SELECT pg_terminate_backend(25083)" in text
    assert "\x1b" not in text
    markdown = told("why", "20200101-3", "--format", "markdown", "--state-dir", folder).stdout
    assert markdown.startswith("# Incident 20200101-3 (open): db.lock on GET /report\n") and "\n## Verdict\n" in markdown
    for args in (["--json"], ["--format", "json"]):
        document = json.loads(told("why", "20200101-3", *args, "--state-dir", folder).stdout)
        assert document["fixes"]["now"] == ["SELECT pg_terminate_backend(25083)"]
    # A note is found by its name, too.
    assert "(note)" in told("why", "20200101-2", "--state-dir", folder).stdout


def test_names_of_requests_and_workers_are_found_beside_those_of_incidents(folder):
    [record] = json.loads(told("timeouts", "--json", "--state-dir", folder).stdout)["records"]
    for name in (record["request"]["id"], record["worker"]["pid"]):
        assert f"(request {record['request']['id']})" in told("why", name, "--state-dir", folder).stdout
    markdown = told("why", record["request"]["id"], "--format", "markdown", "--state-dir", folder).stdout
    assert markdown.startswith("```text\nGET /stuck/sleep") and markdown.endswith("\n```\n")
    failed = ctl("why", "20200101-9", "--state-dir", folder)
    assert failed.returncode == 1 and "nothing is known of 20200101-9" in failed.stderr


def test_the_folder_of_a_running_server_is_found(folder):
    found = json.loads(told("incidents", "--json").stdout)
    assert "20200101-3" in {each["id"] for each in found}
