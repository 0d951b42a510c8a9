"""The recipes that people know for access logs work on ours, and `ferricornctl slow` agrees with them."""

import json
import math
import re
import subprocess

import pytest

from harness import FERRICORN, ctl, wait_until
from harness.ctl import CTL

pytestmark = pytest.mark.skipif(not FERRICORN, reason="ferricornctl is Ferricorn's")
FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'
WAITS = [0.002] * 30 + [0.02] * 60 + [0.3] * 6 + [0.6]
# How far a bucket's upper edge may lie above a value in it.
BUCKET = 1.125


def shell(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def log(module_server, tmp_path_factory):
    """The access log of a server whose requests took as long as WAITS says."""
    path = tmp_path_factory.mktemp("logs") / "access.log"
    args = ["-k", "gthread", "--threads", "2", "--access-logfile", path, "--access-logformat", FORMAT]
    running = module_server(*args, app="waits:app")
    for wait in WAITS:
        assert running.get(f"/items/{int(wait * 1e6)}?wait={wait}").status == 200
    wait_until(lambda: len(path.read_text().splitlines()) == len(WAITS), 10, "all lines")
    return path, running


def quantile(values, q):
    return sorted(values)[max(math.ceil(len(values) * q), 1) - 1]


def test_the_last_field_sorts_as_a_number(log):
    path, _ = log
    durations = [int(line) for line in shell(f"awk '{{print $NF}}' {path} | sort -n").split()]
    assert len(durations) == len(WAITS) and durations == sorted(durations)
    # Real durations: no request takes less than it waits.
    for duration, wait in zip(durations, sorted(WAITS), strict=True):
        assert wait * 1e6 <= duration < (wait + 2) * 1e6


def test_slow_requests_are_found_by_grep(log):
    path, _ = log
    # 100 ms and more: six digits, which begin with no zero.
    lines = shell(f"grep -E ' [1-9][0-9]{{5,}}$' {path}").splitlines()
    found = [float(re.search(r"wait=([0-9.]+)", line)[1]) for line in lines]
    assert {wait for wait in WAITS if wait >= 0.1} <= set(found)
    assert sum(wait >= 0.1 for wait in found) == sum(wait >= 0.1 for wait in WAITS)


def test_slow_agrees_with_the_recipe_and_with_the_server(log):
    path, running = log
    durations = [int(line) for line in shell(f"awk '{{print $NF}}' {path}").split()]
    from_log = json.loads(ctl("slow", "--json", "--access-log", path, "--timeout", "30").stdout)
    assert len(from_log["routes"]) == 1
    route = from_log["routes"][0]
    assert (route["method"], route["route"], route["count"]) == ("GET", "/items/:id", len(WAITS))
    expected = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}
    for field, q in expected.items():
        exact = quantile(durations, q) / 1e3
        assert exact < route[field] <= exact * BUCKET + 0.001, field
    assert abs(route["time_s"] - sum(durations) / 1e6) < 0.01
    own = json.loads(ctl("slow", "--json", running.pid).stdout)
    (same,) = (route for route in own["routes"] if "/items/" in route["route"])
    assert same["count"] == len(WAITS)
    # The log counts from the complete head on, the server the application alone.
    for field in expected:
        assert same[field] <= route[field] <= max(same[field] * 1.5, same[field] + 50), field


def test_a_table_for_people_and_a_pipe(log):
    path, _ = log
    shown = ctl("slow", "--access-log", path, "--timeout", "30").stdout
    assert shown.splitlines()[0] == f"of {len(WAITS)} lines of {path}, timeout 30 s"
    assert "/items/:id" in shown and "durations were read as microseconds" in shown
    piped = shell(f"cat {path} | {CTL} slow --access-log - --json")
    assert json.loads(piped)["routes"][0]["count"] == len(WAITS)


def test_a_log_without_durations_says_what_is_missing(log, tmp_path):
    path, _ = log
    bare = tmp_path / "bare.log"
    bare.write_text("".join(line.rsplit(" ", 1)[0] + "\n" for line in path.read_text().splitlines()))
    outcome = ctl("slow", "--access-log", bare)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "which has no duration" in outcome.stderr and "add `%(D)s`" in outcome.stderr
    outcome = ctl("slow", "--access-log", path, "--format", "%(r)s %(s)s")
    assert outcome.returncode == 1 and "it has no duration" in outcome.stderr
    outcome = ctl("slow", "--access-log", tmp_path / "missing.log")
    assert outcome.returncode == 1 and "  try: " in outcome.stderr
