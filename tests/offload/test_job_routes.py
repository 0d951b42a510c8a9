"""What holds for the jobs of one route, and where its clients find them."""

import json
import signal
import time

import pytest
from jobshop import PREFIX

from harness import wait_until
from harness.server import run_command

pytestmark = [pytest.mark.only_ferricorn("knows no jobs"), pytest.mark.timeout(120)]

SECRET = "a secret of this service, for tests"


@pytest.mark.parametrize("args, app", [((), "reports:app"), (("-k", "asgi"), "reports_asgi:app")], ids=["sync", "asgi"])
def test_each_route_has_its_own_deadline_attempts_and_retention(shop, args, app):
    routes = ("--offload", "POST /api/reports/quick timeout=1 retention=1", "--offload", "/api/broken/* retries=1", "--offload", "/api/reports/*")
    shop.start(*args, "--timeout", 9, app=app, routes=routes)
    quick, other = shop.send("/api/reports/quick?s=20"), shop.send("/api/reports/other?s=1.5")
    begun = time.monotonic()
    told = shop.over(quick)
    assert told["error"]["cause"] == "timeout" and time.monotonic() - begun < 10
    assert shop.over(other)["state"] == "done"
    told = shop.over(shop.send("/api/broken/one"))
    assert (told["state"], told["attempts"], told["attempts_max"]) == ("failed", 2, 2)
    wait_until(lambda: shop.target.get(PREFIX + quick).status in (404, 410), 30, "it is not kept any more")
    assert shop.result(other).status == 201


def test_no_more_jobs_of_a_route_run_than_it_says(shop):
    shop.start(routes=("--offload", "/api/reports/big* concurrency=1", "--offload", "/api/reports/*"))
    big = [shop.send(f"/api/reports/big{number}?s=0.6") for number in range(3)]
    small = [shop.send(f"/api/reports/small{number}?s=0.1") for number in range(3)]
    assert [shop.over(job)["state"] for job in small] == ["done"] * 3
    assert shop.status(big[2])["state"] == "queued", "others do not wait for it"
    assert [shop.over(job)["state"] for job in big] == ["done"] * 3
    marks = [line.split()[:2] for line in shop.marked() if " big" in line]
    assert marks == [[word, f"big{number}"] for number in range(3) for word in ("begin", "end")]


def test_a_reload_keeps_to_it(shop):
    shop.start(routes=("--offload", "/api/reports/big* concurrency=1"))
    jobs = [shop.send("/api/reports/big0?s=3")]
    shop.wait_begun("big0")
    shop.target.kill(signal.SIGHUP)
    wait_until(lambda: "Hang up: Master" in shop.target.log() or "Handling signal: hup" in shop.target.log(), 10, "it reloads")
    jobs.append(shop.send("/api/reports/big1"))
    assert [shop.over(job)["state"] for job in jobs] == ["done"] * 2
    assert [line.split()[:2] for line in shop.marked()] == [[word, f"big{number}"] for number in range(2) for word in ("begin", "end")]


def test_a_route_that_says_too_much_is_explained(tmp_path):
    for route, reason in (("/a timeout=soon", "is no number of seconds"), ("/a priority=1", "a route has timeout, retries, retention, concurrency")):
        done = run_command(["app:app", "--offload", route], tmp_path)
        assert done.returncode == 1 and reason in done.stderr, done.stderr


def test_a_signed_url_leads_to_its_job_for_its_time(shop):
    shop.start("--offload-url-lifetime", 3, config=f"offload_url_secret = {SECRET!r}\n")
    answer = shop.target.get("/api/reports/signed?s=0.3", "POST")
    told = json.loads(answer.body)
    place = answer.header("Location")
    assert place == told["status_url"] and place.startswith(f"{PREFIX}{told['id']}?until=")
    until = time.time()
    status = wait_until(lambda: (found := shop.target.get(place)).status == 303 and found, 20, "it is done")
    again = json.loads(status.body)
    assert again["status_url"] == place and again["result_url"] == status.header("Location"), "it is no longer good for that"
    assert json.loads(shop.target.get(status.header("Location")).body)["name"] == "signed"
    forged = place.replace("until=", "until=9")
    for url in (PREFIX + told["id"], PREFIX + told["id"] + "/result", forged, place[:-1]):
        assert shop.target.get(url).status == shop.target.get(url, "DELETE").status == 404, url
    assert time.time() - until < 3, "the rest is about its end"
    late = wait_until(lambda: (found := shop.target.get(place)).status == 410 and found, 20, "its time is over")
    assert "not good any more" in json.loads(late.body)["detail"]
    assert shop.target.get(status.header("Location")).status == 410
    # What an operator sees is not signed.
    assert shop.jobs("show", told["id"])["state"] == "done"


def test_a_secret_is_not_shown(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(f"offload_url_secret = {SECRET!r}\noffload = ['/a']\n")
    done = run_command(["app:app", "--print-config"], tmp_path)
    assert "offload_url_secret" in done.stdout and SECRET not in done.stdout + done.stderr
    (tmp_path / "gunicorn.conf.py").write_text("offload_url_secret = 'short'\n")
    done = run_command(["app:app"], tmp_path)
    assert done.returncode == 1 and "16 letters" in done.stderr and "'short'" not in done.stderr


def test_scripts_of_named_origins_may_read(shop):
    shop.start("--offload-cors-origin", "https://app.example")
    origin = [("Origin", "https://app.example")]
    taken = shop.target.get("/api/reports/cors", "POST", headers=origin)
    assert taken.header("Access-Control-Allow-Origin") == "https://app.example"
    assert "Location" in taken.header("Access-Control-Expose-Headers")
    job = json.loads(taken.body)["id"]
    assert shop.over(job)["state"] == "done"
    for url in (PREFIX + job, PREFIX + job + "/result"):
        assert shop.target.get(url, headers=origin).header("Access-Control-Allow-Origin") == "https://app.example"
        assert shop.target.get(url, headers=[("Origin", "https://evil.example")]).header("Access-Control-Allow-Origin") is None
    asked = [*origin, ("Access-Control-Request-Method", "DELETE")]
    allowed = shop.target.get(PREFIX + job, "OPTIONS", headers=asked)
    assert allowed.status == 204 and "DELETE" in allowed.header("Access-Control-Allow-Methods")
    # Whether it may send the request itself is the application's to say.
    assert shop.target.get("/api/reports/cors", "OPTIONS", headers=asked).status == 200
