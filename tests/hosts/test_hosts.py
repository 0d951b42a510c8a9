"""Observers of several hosts: they hear of each other, leave alone what all of them have, share one budget whatever is cut, and lose
nothing that they have to tell."""

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from harness import ctl, wait_until
from harness.crowd import Visitors
from harness.server import alive, children, is_observer

pytestmark = [pytest.mark.only_ferricorn("its own observer"), pytest.mark.timeout(240)]

NAPS = """
mode = "act"
[budget]
total = "100/h"
recycle = "100/h"
open_circuit = "100/h"
fleet = "6/20m"
[limits]
hosts_at_once = "100%"
[[rule]]
name = "nap"
when = 'cause == "explicit_sleep"'
"""
RECYCLE = NAPS + 'do = ["recycle"]'
# One action for each route, as fast as may be.
CIRCUITS = NAPS + 'do = [{ open_circuit = 1, revert_after = "9m", cooldown = "1s" }]'
NAP = "GET /nap/%s"


@contextlib.contextmanager
def crowds(*visits):
    """Four visitors at each page, of each host."""
    visitors = [Visitors(host.server, path, 4) for host, path in visits]
    yield
    for one in visitors:
        one.going = False


def test_what_several_hosts_have_at_once_is_left_alone(hosts):
    all_hosts = hosts(3, policy=RECYCLE)
    with crowds(*((host, "/nap/north") for host in all_hosts)):
        for host in all_hosts:
            others = {other.name for other in all_hosts if other is not host}

            def is_joint(host=host, others=others):
                incident = host.incident(NAP % "north")
                return incident and set(incident.get("hosts", ())) == others and incident

            incident = wait_until(is_joint, 60, host.told)
            assert any("the same on web-" in moment["text"] for moment in incident["timeline"])

            def is_left_alone(host=host):
                return any(
                    action["outcome"] == "withheld" and "3 hosts have the same at once" in action["text"]
                    for action in host.actions()
                )

            wait_until(is_left_alone, 60, f"left alone on {host.name}; there is {host.actions()}")

        def shown():
            return ctl("hosts", "--state-dir", all_hosts[0].state).stdout

        row = r"web-3 +shop +\d+ +\d+ .* explicit_sleep GET /nap/north"
        wait_until(lambda: re.search(row, shown()), 20, shown)
    report = ctl("why", incident["id"], "--state-dir", host.state).stdout
    assert re.search(r"also on +web-1, web-2", report), report


def test_one_budget_for_all_on_whatever_side_of_a_cut(hosts):
    all_hosts = hosts(3, policy=CIRCUITS)
    wait_until(lambda: sum(host.hears()["part"] for host in all_hosts) == 1, 40, "one of six is kept for who is cut off")
    cut = next(host for host in all_hosts if host.hears()["part"])
    rest = [host for host in all_hosts if host is not cut]
    cut.cable.cut()
    wait_until(lambda: not cut.hears()["here"], 60, f"{cut.name} is cut off")
    # Each host has troubles of its own: no two are the same.
    pages = [f"/nap/{wind}" for wind in ("north", "east", "south", "west")]
    with crowds(*((cut, page) for page in pages[:2])):
        wait_until(cut.begun, 60, "its own part")
        why = "without them this one may do 1 such actions"
        wait_until(lambda: any(why in action["text"] for action in cut.actions()), 60, f"no more; there is {cut.actions()}")
        assert len(cut.begun()) == 1
    cut.cable.mend()
    wait_until(lambda: cut.hears_all(3), 60, "it is back")
    with crowds(*((host, page) for host in rest for page in pages)):

        def is_used_up():
            return all(any("all hosts of this service may do" in one["text"] for one in host.actions()) for host in rest)

        wait_until(is_used_up, 90, "the budget of all is used up")
        time.sleep(5)
    begun = [at for host in all_hosts for at in host.begun()]
    # One more would be possible only for who is cut off again.
    assert 3 <= len(begun) <= 6, begun
    assert sum(len(host.begun()) for host in rest) <= 4, "what is kept and what was told count"


def test_nothing_is_lost_while_the_bus_is_away(hosts, bus):
    (host,) = hosts(1, policy=RECYCLE, mode="advise")
    host.mark("flag checkout on")

    def told(kind):
        return [body for subject, body in bus.events() if subject == f"ferricorn.shop.web-1.{kind}"]

    wait_until(lambda: any(one["body"]["name"] == "flag checkout on" for one in told("change")), 30, "the mark in the stream")
    bus.stop()
    with crowds((host, "/nap/north")):
        incident = wait_until(lambda: host.incident(NAP % "north"), 60, "an incident without a bus")
    wait_until(lambda: not host.hears()["here"], 30, "it is noticed")
    assert "Other hosts are not heard of" in host.server.log()
    bus.start()

    def has_come():
        return [one["body"] for one in told("incident") if one["body"]["id"] == incident["id"]]

    came = wait_until(has_come, 60, "the incident in the stream")
    assert came[0]["cause"] == "explicit_sleep"
    events = [body for _, body in bus.events()]
    once = {(one["kind"], one["at"], str(one["body"])) for one in events}
    assert len(once) == len(events), "nothing arrives twice"
    assert all(one["host"] == "web-1" and one["service"] == "shop" and one["schema"] == 1 for one in events)


def test_history_is_written_to_postgresql_once(hosts, history):
    two = hosts(2, "--reflex-history", history.url, policy=RECYCLE, mode="advise")
    for host in two:
        wait_until(lambda host=host: "The history is written to" in host.server.log(), 30, "the history")
    with crowds((two[0], "/nap/north")):
        incident = wait_until(lambda: two[0].incident(NAP % "north"), 60, "an incident")
    two[1].mark("flag checkout on")
    kept = f"select host, cause, route, body->>'id' from ferricorn.incidents where id = '{incident['id']}'"
    wait_until(lambda: history.rows(kept), 30, "the incident as a row")
    assert history.rows(kept) == [("web-1", "explicit_sleep", NAP % "north", incident["id"])]
    marks = "select host, kind from ferricorn.changes where name = 'flag checkout on'"
    wait_until(lambda: history.rows(marks), 30, "the mark as a row")
    assert history.rows(marks) == [("web-2", "mark")]


def test_a_message_that_is_none_holds_no_other_up(hosts, bus, history):
    (host,) = hosts(1, "--reflex-history", history.url, policy=RECYCLE, mode="advise")
    wait_until(lambda: "The history is written to" in host.server.log(), 30, "the history")
    change = {"kind": "change", "host": "h", "service": "s", "at": 1e300, "body": {"at": 1.5, "name": "long ago"}}
    incident = {"kind": "incident", "host": "h", "service": "s", "at": 1.5, "body": {"id": "7", "opened_at": "never"}}
    nul = {**change, "at": 1.5, "service": "s\0"}
    for wrong in (b"", b"{}", b"\xff", *(json.dumps(one).encode() for one in (change, incident, nul))):
        bus.publish("ferricorn.s.h.change", wrong)
    host.mark("flag basket on")
    wait_until(lambda: history.rows("select 1 from ferricorn.changes where name = 'flag basket on'"), 30, "the next")
    assert host.server.log().count("is left out of the history") == 3


def test_each_message_is_a_row_whoever_is_killed(hosts, history):
    """Observers that write are killed in the middle of it: what they had not acknowledged comes to another."""
    (host,) = hosts(1, "--reflex-history", history.url, policy=RECYCLE, mode="advise")
    wait_until(lambda: "The history is written to" in host.server.log(), 30, "the history")
    for number in range(40):
        host.mark(f"mark {number}")
        if number % 13 == 5:
            observer = next(pid for pid in children(host.server.pid) if is_observer(pid))
            os.kill(observer, signal.SIGKILL)
            wait_until(lambda gone=observer: not alive(gone), 10, "its end")
            wait_until(lambda: any(is_observer(pid) for pid in children(host.server.pid)), 20, "another observer")
            wait_until(lambda: host.hears()["here"], 30, "it hears")

    def names():
        found = history.rows("select name from ferricorn.changes where name like 'mark %'")
        return sorted(int(name.split()[1]) for (name,) in found)

    wait_until(lambda: names() == list(range(40)), 60, lambda: f"all marks; there are {names()}")


def test_an_address_that_is_none_is_said_and_hurts_nobody(server, tmp_path):
    fleet = ["--reflex-fleet", "http://bus:4222", "--state-dir", tmp_path / "state"]
    one = server(*fleet, app="shop:app", path=[Path(__file__).parent])
    line = "Other hosts are not heard of: `http://bus:4222` is no address of NATS: write nats://HOST:4222, or tls://HOST:4222"
    wait_until(lambda: line in one.log(), 20, "what is wrong")
    assert one.get("/").body == b"calm"


def test_a_history_without_a_bus_is_said(server, tmp_path):
    words = ["--reflex-history", "postgresql://history@db/ops", "--state-dir", tmp_path / "state"]
    one = server(*words, app="shop:app", path=[Path(__file__).parent])
    line = "The history is not written: `reflex_history` needs `reflex_fleet`"
    wait_until(lambda: line in one.log(), 20, "what is wrong")
