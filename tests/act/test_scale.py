"""As many workers as the load needs."""

import json
import time

import pytest

from harness import ctl, wait_until
from harness.crowd import Visitors

pytestmark = [pytest.mark.only_ferricorn("its number of workers is fixed"), pytest.mark.timeout(90)]


def decided(folder):
    done = ctl("why", "scale", "--json", "--state-dir", folder)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


@pytest.mark.parametrize("shape", [("--threads", 1), ("--threads", 2)])
def test_workers_come_with_the_load(server, tmp_path, shape):
    one = server("--workers", 1, "--workers-max", 3, *shape, "--state-dir", tmp_path / "state", app="waits:app")
    crowd = Visitors(one, "/?wait=0.2", 12)
    try:
        wait_until(lambda: len(one.workers()) == 3, 60, f"three workers; {decided(tmp_path / 'state')}")
    finally:
        crowd.leave()
    found = decided(tmp_path / "state")
    assert [change["wish"] for change in found["changes"]] == [{"add": 1}, {"add": 1}]
    assert "requests wait for one" in found["changes"][0]["why"]
    rows = json.loads(ctl("actions", "--json", "--state-dir", tmp_path / "state").stdout)["actions"]
    assert [row["what"] for row in rows] == ["scale: 1 more", "scale: 1 more"]
    text = ctl("why", "scale", "--state-dir", tmp_path / "state").stdout
    assert "1 and 1 more:" in text and "now" in text
    # They stay for a while.
    time.sleep(2)
    assert len(one.workers()) == 3


def test_a_number_below_the_least_is_corrected(server, tmp_path):
    one = server("--workers", 1, "--workers-min", 2, "--workers-max", 3, "--state-dir", tmp_path / "state", app="waits:app")
    one.wait_workers(2, 30)
    found = wait_until(lambda: (decided(tmp_path / "state") or {}).get("changes"), 20, "the decision")
    assert found[0]["why"] == "workers_min is 2"
