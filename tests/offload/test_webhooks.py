"""Who wants to be told when a job is over, and is."""

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness import wait_until
from harness.server import run_command

pytestmark = [pytest.mark.only_ferricorn("knows no jobs"), pytest.mark.timeout(120)]

KEY = b"a key of 32 bytes, for the tests"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver:
    """Somebody who is told; answers with the next of ``answers``, then with 204."""

    def __init__(self):
        self.got, self.answers = [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path="/hook"):
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def next(self):
        wait_until(lambda: self.got, 30, "somebody is told")
        return self.got.pop(0)


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()


def config(more=""):
    return f"offload_webhook_secret = {SECRET!r}\n{more}\n"


def verified(headers, body):
    """As the libraries of Standard Webhooks do it."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert f"v1,{expected}" in headers["webhook-signature"].split(" ")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    return headers["webhook-id"], json.loads(body)


def test_who_wants_to_is_told_of_every_job(shop, receiver):
    shop.start("--offload-webhook", receiver.url(), config=config())
    job = shop.send("/api/reports/told")
    path, headers, body = receiver.next()
    _, told = verified(headers, body)
    assert path == "/hook" and told["type"] == "job.done" and headers["content-type"] == "application/json"
    assert (told["data"]["id"], told["data"]["state"], told["data"]["status"]) == (job, "done", 201)
    assert shop.target.get(told["data"]["result_url"]).status == 201
    failed = shop.send("/api/broken/told")
    ids = {verified(*receiver.next()[1:])[1]["data"]["id"]}
    assert ids == {failed}
    # Begun again, it ends again.
    shop.mended.touch()
    shop.jobs("retry", failed)
    assert verified(*receiver.next()[1:])[1]["type"] == "job.done"
    slow = shop.send("/api/reports/withdrawn?s=20")
    assert shop.target.get(f"/.well-known/ferricorn/jobs/{slow}", "DELETE").status == 204
    assert verified(*receiver.next()[1:])[1]["type"] == "job.cancelled"


def test_who_is_not_there_is_told_later_and_by_the_next_dispatcher(shop, receiver):
    receiver.answers = [500, 302]
    shop.start("--offload-webhook", receiver.url(), config=config())
    job = shop.send("/api/reports/again")
    first, _ = verified(*receiver.next()[1:])
    told = lambda: shop.jobs("show", job)["webhooks"][0]  # noqa: E731
    waits = wait_until(lambda: (found := told())["tries"] == 1 and found, 10, "it is written down")
    assert waits["state"] == "waiting" and waits["error"] == "it answered 500" and waits["url"].endswith("/...")
    shop.kill(shop.companion("dispatcher"))
    path, headers, body = receiver.next()
    assert verified(headers, body)[0] == first and path == "/hook", "it is the same message, and no redirect is followed"
    wait_until(lambda: told()["error"] == "it answered 302", 10, "no redirect is followed")
    assert f"Job {job}: its webhook at 127.0.0.1 was not told: it answered 302; it is told again in 30 s" in shop.target.log()
    assert shop.over(job)["state"] == "done", "its client does not notice"


def test_a_client_names_who_is_told_where_that_is_allowed(shop, receiver):
    hosts = ("--offload-webhook-host", "127.0.0.1", "--offload-webhook-host", "*.example.com", "--offload-webhook-networks", "127.0.0.0/8")
    shop.start(*hosts, config=config())
    job = shop.send("/api/reports/mine", headers=[("Ferricorn-Webhook", receiver.url("/mine?t=1"))])
    path, headers, body = receiver.next()
    assert path == "/mine?t=1" and verified(headers, body)[1]["data"]["id"] == job
    shop.over(shop.send("/api/reports/nobody"))
    refused = ("https://evil.example/", "http://localhost:1/", "ftp://127.0.0.1/", "https://a.example.com@127.0.0.1:1/", "no url")
    for url in refused:
        answer = shop.target.get("/api/reports/refused", "POST", headers=[("Ferricorn-Webhook", url)])
        assert answer.status == 422 and "Ferricorn-Webhook" in json.loads(answer.body)["detail"], url
    assert not receiver.got and not any("refused" in line for line in shop.marked())


def test_nobody_is_told_at_an_address_that_is_not_public(shop, receiver):
    """Whatever name leads there: a client that may name any host reaches none of the server's own networks."""
    shop.start("--offload-webhook-host", "*", config=config())
    port = receiver.server.server_port
    hosts = ("127.0.0.1", "localhost", "[::1]", "0x7f000001", "169.254.169.254", "10.0.0.1", "[::ffff:127.0.0.1]")
    for scheme in ("http", "https"):
        for host in hosts:
            job = shop.send("/api/reports/inward", headers=[("Ferricorn-Webhook", f"{scheme}://{host}:{port}/secret")])
            given_up = lambda job=job: (found := shop.jobs("show", job)["webhooks"][0])["state"] == "given_up" and found  # noqa: E731
            told = wait_until(given_up, 20, f"{scheme} {host} is given up")
            assert told["error"] == "its address may not be reached" and told["tries"] == 1
    assert not receiver.got and "/secret" not in shop.target.log()


def test_what_was_to_be_told_is_told_whatever_becomes_of_the_job(shop, receiver):
    receiver.answers = [503]
    shop.start("--offload-webhook", receiver.url(), "--offload-retention", 1, config=config())
    job = shop.send("/api/reports/brief")
    first = verified(*receiver.next()[1:])
    shop.target.get(f"/.well-known/ferricorn/jobs/{job}", "DELETE")
    assert verified(*receiver.next()[1:]) == first and first[1]["type"] == "job.done", "it is the same message"


def test_a_webhook_without_a_secret_is_explained(tmp_path):
    done = run_command(["app:app", "--offload", "/a", "--offload-webhook", "https://hooks.example/t0ken"], tmp_path)
    assert done.returncode == 1 and "offload_webhook_secret" in done.stderr and "t0ken" not in done.stderr
