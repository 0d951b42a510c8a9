"""``error_page``: the user's own page for browsers, wherever the server itself answers."""

import json
import os
import signal
import time

import pytest

from harness import request, wait_until

pytestmark = pytest.mark.only_ferricorn("has no pages of one's own")

PAGE = "<style>p {{ margin: 0 }}</style><h1>{word}</h1><p>{{status}}|{{title}}|{{detail}}|{{request_id}}|é"
BROWSER = [("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")]


def page(word="ours"):
    return PAGE.format(word=word)


@pytest.fixture
def branded(server, tmp_path):
    """Factory of servers whose page is ``branded.path``."""

    def start(*args, **options):
        return server("--error-page", start.path, *args, app="stuck:app", **options)

    start.path = tmp_path / "error.html"
    start.path.write_text(page())
    return start


def check(response, status, title, word="ours"):
    text = response.body.decode()
    style, _, rest = text.partition(f"<h1>{word}</h1><p>")
    assert style == "<style>p { margin: 0 }</style>", text
    got_status, got_title, detail, request_id, end = rest.split("|")
    assert (response.status, got_status, got_title, end) == (status, str(status), title, "é")
    assert response.header("Content-Type") == "text/html; charset=utf-8"
    assert detail and "<" not in detail
    assert request_id == (response.header("X-Request-Id") or "")
    return detail


def test_late_and_waiting_requests(branded):
    target = branded("-k", "sync", "--timeout", "2", "--queue-timeout", "1")
    with target.connect() as late, target.connect() as waiting:
        late.send(request("/stuck/sleep", headers=BROWSER))
        time.sleep(0.2)
        waiting.send(request("/hello", headers=BROWSER))
        check(waiting.response(), 503, "Service Unavailable")
        check(late.response(), 504, "Gateway Timeout")


def test_the_guardian_has_it(branded):
    target = branded()
    check(target.get("/stuck/killed", headers=BROWSER), 502, "Bad Gateway")


def test_what_is_refused(branded):
    target = branded("--header-timeout", "1", "--body-timeout", "1", "--body-limit", "100", "--limit-request-fields", "20")
    post = "POST / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nContent-Length: {}\r\n\r\n"
    refused = {
        400: ("Bad Request", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: <x>\r\n\r\n"),
        408: ("Request Timeout", post.format(10)),
        413: ("Content Too Large", post.format(101)),
        431: ("Request Header Fields Too Large", "GET / HTTP/1.1\r\nHost: a\r\n" + "A: b\r\n" * 20 + "\r\n"),
    }
    for status, (title, raw) in refused.items():
        with target.connect() as client:
            client.send(raw.encode())
            check(client.response(), status, title)
    with target.connect() as client:
        client.send(b"GET / <b>\r\n\r\n")
        assert "&lt;b&gt;" in check(client.response(), 400, "Bad Request")


def test_others_get_what_they_read(branded):
    target = branded()
    for accept, kind in [("application/json", "application/problem+json"), ("text/plain", "text/plain; charset=utf-8")]:
        response = target.get("/stuck/killed", headers=[("Accept", accept)])
        assert response.header("Content-Type") == kind
        assert b"ours" not in response.body
        wait_until(lambda: target.get("/hello", timeout=20).status == 200, what="a new worker")
    assert json.loads(target.get("/stuck/killed").body)["status"] == 502


def test_the_largest_page_arrives_whole(branded):
    branded.path.write_text("{status}" + "x" * ((64 << 10) - 8))
    target = branded("--timeout", "1")
    for kind, status in [("sleep", b"504"), ("killed", b"502")]:
        response = target.get(f"/stuck/{kind}", headers=BROWSER)
        assert response.body == status + b"x" * ((64 << 10) - 8)
    assert wait_until(lambda: target.get("/a b", headers=BROWSER), what="refused").body.startswith(b"400xxx")


def test_a_reload_reads_it_again(branded):
    target = branded()
    branded.path.write_text(page("mended"))
    check(target.get("/a b"), 400, "Bad Request")
    [before] = target.workers()
    target.kill(signal.SIGHUP)
    wait_until(lambda: target.workers() and target.workers() != [before] and before not in target.workers(), what="reload")
    check(target.get("/a b"), 400, "Bad Request", "mended")


BROKEN = {
    "missing": (lambda path: path.unlink(), "No such file or directory"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    "large": (lambda path: path.write_bytes(b"x" * ((64 << 10) + 1)), "it is larger than 64 KiB"),
    "no text": (lambda path: path.write_bytes(b"\xff"), "it is not UTF-8"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_page_that_cannot_be_read_stops_the_start(branded, broken):
    change, said = BROKEN[broken]
    change(branded.path)
    target = branded(ready=False)
    assert target.wait() == 1
    assert f"Invalid value for error_page: {branded.path}: {said}" in target.log()


@pytest.mark.parametrize("broken", BROKEN)
def test_a_reload_without_it_changes_nothing(branded, broken):
    target = branded()
    before = target.workers()
    change, said = BROKEN[broken]
    change(branded.path)
    target.kill(signal.SIGHUP)
    target.wait_log("Reload failed, nothing has changed: .*" + said)
    check(target.get("/a b"), 400, "Bad Request")
    # One that is born later has the old page, too.
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: target.workers() and target.workers() != before, what="a new worker")
    check(target.get("/a b"), 400, "Bad Request")


def test_a_relative_path_begins_at_chdir(branded, server):
    target = server("--chdir", branded.path.parent, "--error-page", "error.html", app="stuck:app")
    check(target.get("/a b"), 400, "Bad Request")
