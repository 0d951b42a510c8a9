"""`ferricornctl policy`: the rules, their mistakes, and what they come to for incidents that are kept."""

import json

import pytest

from harness import ctl, wait_until
from harness.incidents import incident, keep

pytestmark = pytest.mark.only_ferricorn("has no policy")

GOOD = """
mode = "act"
[budget]
cancel_query = "1/h"
[[rule]]
name = "stuck-query"
when = 'cause == "db.lock" && confidence >= 80%'
do = ["cancel_query"]
"""
BAD = """
mode = "act"
[[rule]]
name = "a"
when = 'caus == "db.lock"'
do = ["cancel_querry"]
"""


@pytest.fixture
def folder(server, tmp_path):
    # It has written something: its store is whole.
    assert server("--state-dir", tmp_path, "--timeout", 1, app="stuck:app").get("/stuck/sleep").status == 504
    wait_until(lambda: json.loads(ctl("timeouts", "--json", "--state-dir", tmp_path).stdout)["records"], what="a record")
    keep(tmp_path, incident("20200101-1", "closed", 1_795_651_200.0), incident("20200101-2", "open", 1_795_651_400.0))
    return tmp_path


def test_the_rules_are_shown(tmp_path):
    plain = ctl("policy", "show")
    assert plain.returncode == 0 and 'name = "stuck-query"' in plain.stdout
    file = tmp_path / "policy.toml"
    file.write_text(GOOD)
    text = ctl("policy", "show", file).stdout
    assert text.startswith("mode act\n\nstuck-query\n  when    cause == ")
    assert "orphan-query   (comes with Ferricorn)" in text
    rules = json.loads(ctl("policy", "show", file, "--json").stdout)["rules"]
    assert [rule["name"] for rule in rules[:2]] == ["stuck-query", "orphan-query"] and rules[0]["own"]


def test_mistakes_are_told_with_their_place(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text(GOOD)
    assert ctl("policy", "check", file).stdout == f"{file}: no mistakes\n"
    file.write_text(BAD)
    found = ctl("policy", "check", file)
    assert found.returncode == 1
    assert found.stdout.splitlines() == [
        f"{file}:6:7: there is no action cancel_querry: there are cancel_orphan, cancel_query, shut_socket, "
        "open_circuit, kill_worker, add_workers, remove_workers, recycle, halt_reload, restart_master",
        f"{file}:5:9: there is nothing called `caus`; did you mean `cause`?",
    ]
    mistakes = json.loads(ctl("policy", "check", file, "--json").stdout)["mistakes"]
    assert [(one["line"], one["column"]) for one in mistakes] == [(6, 7), (5, 9)]
    used = ctl("policy", "test", file)
    assert used.returncode == 1 and "policy check" in used.stderr
    missing = ctl("policy", "check", tmp_path / "nothing")
    assert missing.returncode == 1 and "could not be read" in missing.stderr


def test_a_policy_is_tried_on_what_is_kept(folder):
    file = folder / "policy.toml"
    file.write_text(GOOD)
    text = ctl("policy", "test", file, "--state-dir", folder).stdout
    # The note of that request is the last.
    assert text.splitlines()[:4] == [
        "20200101-1  db.lock  GET /report",
        "  cancel_query by stuck-query: done",
        "20200101-2  db.lock  GET /report",
        "  cancel_query by stuck-query: withheld: cancel_query was done 1 times in 3600 s: that is its budget",
    ]
    advised = ctl("policy", "test", file, "--mode", "advise", "--state-dir", folder).stdout
    assert "cancel_query by stuck-query: advised: mode advise does nothing by itself" in advised
    kept = folder / "incidents.json"
    kept.write_text(ctl("incidents", "--json", "--state-dir", folder).stdout)
    found = json.loads(ctl("policy", "test", file, kept, "--json").stdout)
    assert [one["incident"] for one in found] == ["20200101-2", "20200101-1"]
    assert found[0]["proposals"][0]["verdict"] == {"verdict": "do"}


def test_every_rule_is_explained(folder):
    text = ctl("policy", "explain", "20200101-1", "--mode", "protect", "--state-dir", folder).stdout
    assert text.startswith("Incident 20200101-1: db.lock on GET /report, mode protect\n")
    part = text.split("\nstuck-external: ")[1].split("\n\n")[0].splitlines()
    assert part[0] == "does not fit" and part[1].startswith("  no         cause in [")
    assert ctl("policy", "explain", "20200101-9", "--state-dir", folder).returncode == 1


def test_nobody_to_turn_off(tmp_path):
    assert ctl("actions", "--state-dir", tmp_path).stdout == "nothing has been done\n"
    assert json.loads(ctl("actions", "--json", "--state-dir", tmp_path).stdout) == {"actions": [], "broken": []}
    assert ctl("off", "--state-dir", tmp_path / "nowhere").returncode == 1
    assert ctl("off", "--state-dir", tmp_path).returncode == 0 and (tmp_path / "reflex.off").exists()
    assert ctl("on", "--state-dir", tmp_path).returncode == 0 and not (tmp_path / "reflex.off").exists()
    # Twice is as good as once.
    assert ctl("on", "--state-dir", tmp_path).returncode == 0
    assert "workers_max" in ctl("why", "scale", "--state-dir", tmp_path).stderr
