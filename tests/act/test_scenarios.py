"""Runs `scenarios.toml` on our own server and on a stock Gunicorn with an observer beside it: what is found, what is done, and what is
never done."""

import contextlib
import shutil
import time
import tomllib
from pathlib import Path

import faults
import pytest

from harness import wait_until
from harness.crowd import Visitors

pytestmark = [pytest.mark.only_ferricorn("its own observer"), pytest.mark.timeout(150)]

HERE = Path(__file__).parent
ROWS = tomllib.loads((HERE / "scenarios.toml").read_text())["scenario"]
KNOWN = set(
    "name app args mode policy path visitors calm fault verdict change not_change actions forbidden log workers answer bystander"
    " spared serves hosts gunicorn".split()
)
# With the pid of who answers and how long it took: by these the observer tells versions apart.
ACCESS = ["--access-logformat", '%(p)s %(t)s "%(r)s" %(s)s %(D)s']


@pytest.fixture(scope="module", autouse=True)
def filled(database):
    faults.fill(database)


@pytest.fixture
def partner():
    partner = faults.Partner()
    yield partner
    partner.close()


@pytest.fixture
def checkout(tmp_path):
    """The code of the server under test, of which there may be other versions."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("shop.py", "pages.py", "reservations.py"):
        shutil.copy(HERE / name, folder)
    return folder


@pytest.mark.parametrize("row", ROWS, ids=[row["name"].replace(" ", "-") for row in ROWS])
def test_scenario(case, row, checkout, database, partner):
    row = {**row, **(row.get("gunicorn", {}) if case.host == "gunicorn" else {})}
    assert set(row) <= KNOWN, f"unknown: {set(row) - KNOWN}"
    if case.host not in row.get("hosts", [case.host]):
        pytest.skip(f"not on {case.host}")
    policy = row.get("policy")
    args = [*row["args"], *(ACCESS if case.host == "gunicorn" else [])]
    mode = row.get("mode", None if policy else "act")
    one = case(*args, mode=mode, policy=policy, env={"PEER": partner.address}, app=row.get("app", "pages:app"), path=checkout)
    stage = faults.Stage(one, checkout, database, partner, row)
    # Both are up before there is any trouble.
    wait_until(lambda: one.server.get("/").status == 200, 20, "an answer")
    before = sorted(one.server.workers())
    with contextlib.ExitStack() as leaving:
        bystanders = Visitors(faults.Unhurried(one.server), row["bystander"], 2) if "bystander" in row else None
        leaving.callback(lambda: bystanders and bystanders.leave())
        crowd = Visitors(faults.Unhurried(one.server), row["path"], row["visitors"])
        leaving.callback(crowd.leave)
        time.sleep(row.get("calm", 0))
        lost = [status for status in crowd.answers if status != 200]
        assert len(lost) * 10 <= len(crowd.answers), f"lost before there was any trouble: {lost}"
        with getattr(faults, row["fault"])(stage):
            incident = found(one, row)
            done(one, row)
            explained(one, row, stage)
            if "log" in row:
                wait_until(lambda: row["log"] in one.server.log(), 20, "the line in the log")
            if bystanders:
                passed = bystanders.leave()
                assert passed.count(200) >= row.get("spared", 1) * len(passed), f"bystanders were lost: {set(passed)}"
            kept(one, row, before)
        if "serves" in row:
            wait_until(lambda: answers(one, row["serves"]) == 200, 40, f"{row['serves']} is served again")
    # What was seen, for who reads of a failure.
    print(heard(one))
    kept(one, row, before)
    if "answer" in row:
        lost = [status for status in crowd.answers if status != 200]
        assert lost and lost[0] == row["answer"] and 0 not in lost, lost
    assert named(heaviest(one)) & set(row["verdict"])
    begun = [action["what"] for action in one.audit()["actions"] if action["what"].startswith(tuple(row["forbidden"]))]
    assert not begun, f"{begun}: {incident['verdict']}"


def named(incident):
    """Its cause, and what is behind that."""
    return {incident["cause"], (incident.get("because") or {}).get("cause")}


def heaviest(one):
    """The incident that people are shown first: one that is open before notes, then the one with most requests."""

    def weight(each):
        return each["opened_at"] is not None, max(each["requests_lost"], each["requests_stuck"]), each["confidence"]

    return max(one.incidents(), key=weight, default=None)


def heard(one):
    """What the observer says, in short."""
    said = []
    for each in one.incidents():
        change = each.get("change") or {}
        said += [
            f"{each['cause']} ({each['state']}, lost {each['requests_lost']}, stuck {each['requests_stuck']}): {each['verdict']}",
            f"  change: {change.get('verdict')}: {change.get('text')}",
        ]
        said += sorted({f"  {act['action']} {act['outcome']}: {act['text']}" for act in each.get("actions", ())})
    written = [row["what"].split(":")[0] for row in one.audit()["actions"]]
    said += [f"{written.count(what)} times {what}" for what in sorted(set(written))]
    return "the observer says\n" + "\n".join(said)


def until(one, condition, seconds, what):
    """Waits, and tells what the observer said instead."""
    try:
        return wait_until(lambda: time.sleep(0.2) or condition(), seconds, what)
    except AssertionError as late:
        raise AssertionError(f"{late}; {heard(one)}") from None


def found(one, row):
    """The heaviest incident, once it names an acceptable cause."""

    def fits():
        first = heaviest(one)
        return first if first and named(first) & set(row["verdict"]) else None

    return until(one, fits, 60, f"one of {row['verdict']}")


def done(one, row):
    """Each action that must come, comes."""
    for wish in row["actions"]:

        def fits(wish=wish):
            for action in one.actions():
                if action["action"] == wish["name"] and action["outcome"] in wish["outcome"].split("|"):
                    return wish.get("text", "") in action["text"] and wish.get("rule", action["rule"]) == action["rule"]
            return False

        until(one, fits, 60, f"{wish}")


def explained(one, row, stage):
    """A verdict about changes comes that is right, and none that is wrong."""
    verdicts = set()

    def judged():
        now = [each["change"]["verdict"] for each in one.incidents() if each.get("change")]
        verdicts.update(now)
        wrong = verdicts & set(row.get("not_change", ()))
        assert not wrong, f"{wrong}; {heard(one)}"
        return set(now) & set(row["change"])

    if "change" in row:
        # What was judged before there was a deploy tells nothing of it.
        if hasattr(stage, "deploy"):
            noticed = time.monotonic()
            until(one, lambda: judged() and time.monotonic() > noticed + 12, 60, "a judgement")
        until(one, judged, 60, f"one of {row['change']}")


def kept(one, row, before):
    """The workers are those that must be there."""
    if row.get("workers") == "same":
        wait_until(lambda: sorted(one.server.workers()) == before, 20, f"the workers {before}")
    elif "workers" in row:
        wait_until(lambda: len(one.server.workers()) == row["workers"], 20, f"{row['workers']} workers")


def answers(one, path):
    with contextlib.suppress(OSError, EOFError, AssertionError):
        return one.server.get(path, timeout=8).status
    return 0
