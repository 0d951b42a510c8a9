"""A report that takes longer than its deadline, behind nginx, as its authors wrote it: it is a job."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import wait_until

pytestmark = pytest.mark.only_ferricorn("knows no jobs")

APPS = Path(__file__).parents[1] / "offload" / "apps"


@pytest.fixture(scope="module")
def site(make_site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    args = ["--workers", 2, "--timeout", 2, "--state-dir", folder, "--offload", "POST /api/reports/*", "--offload-threads", 4]
    return make_site(*args, app="reports:app", path=[APPS])


def result_of(site, told, tls=False):
    done = lambda: site.get(told["status_url"], tls).status_code == 303  # noqa: E731
    wait_until(done, 30, "the end of the job")
    return site.get(told["result_url"], tls)


def test_a_report_that_takes_longer_than_its_deadline(site):
    begun = time.monotonic()
    answer = site.post("/api/reports/generate?s=4", data=b"x" * 200_000)
    assert answer.status_code == 202 and time.monotonic() - begun < 1.5
    told = answer.json()
    assert answer.headers["Location"] == told["status_url"]
    running = site.get(told["status_url"])
    assert running.status_code == 200 and running.json()["state"] in ("queued", "running")
    made = result_of(site, told)
    # Without a job it is lost, and a short one says the same.
    assert site.request("PUT", "/api/reports/generate?s=4", data=b"").status_code == 504
    direct = site.request("PUT", "/api/reports/generate?s=0", data=b"x" * 200_000)
    assert made.status_code == direct.status_code == 201
    assert made.headers["X-Report"] == direct.headers["X-Report"] and made.headers["Set-Cookie"] == direct.headers["Set-Cookie"]
    assert {**made.json(), "url": ""} == {**direct.json(), "url": ""}


def test_the_scheme_is_that_of_the_client(site):
    told = site.post("/api/reports/tls", tls=True).json()
    assert json.loads(result_of(site, told, tls=True).text)["url"] == site.url("/api/reports/tls", tls=True)


def test_many_clients_are_answered_at_once(site):
    def send(number):
        begun = time.monotonic()
        status = site.post(f"/api/reports/n{number}?s=0.05").status_code
        return status, time.monotonic() - begun

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(200)))
    assert {status for status, _ in answers} == {202}
    assert sorted(seconds for _, seconds in answers)[100] < 1.0
