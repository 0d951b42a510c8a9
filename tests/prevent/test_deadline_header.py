"""``deadline_header``: what a trusted caller says shortens a request's deadline, and calls to others say what is left."""

import json
import re
import threading
import time

import pytest

pytestmark = pytest.mark.only_ferricorn("has no such setting")

TIMEOUT = 20
HEADER = "X-Left-Ms"


def start(factory, silent, *args, **options):
    args = ["--timeout", TIMEOUT, "--no-reflex", "--deadline-header", HEADER, *args]
    return factory(*args, app=options.pop("app", "calls_out:app"), env={"SILENT": str(silent.port)}, **options)


def ask(target, path, left=None):
    begun = time.monotonic()
    response = target.get(path, headers=[] if left is None else [(HEADER, left)], timeout=30)
    return response, time.monotonic() - begun


def left(target, said):
    return json.loads(ask(target, "/left/now", said)[0].body)["found"]


@pytest.fixture(scope="module")
def trusting(module_server, module_silent):
    return start(module_server, module_silent, "--threads", "2")


SAID = [("5000", 5), ("1000000", TIMEOUT), (None, TIMEOUT), ("0", TIMEOUT), ("soon", TIMEOUT), ("5000.5", TIMEOUT), ("-1", TIMEOUT)]


@pytest.mark.parametrize(("said", "most"), SAID)
def test_it_shortens_and_never_lengthens(trusting, said, most):
    assert most - 3 < left(trusting, said) <= most


def test_a_request_is_answered_when_its_caller_waits_no_more(trusting):
    response, seconds = ask(trusting, "/http/none", "700")
    assert response.status == 504 and 0.65 <= seconds < 5
    # The next one on this thread has its own time.
    assert left(trusting, None) > TIMEOUT - 3


def test_without_another_deadline_it_is_one(server, silent):
    target = start(server, silent, "--timeout", "0")
    assert left(target, None) is None
    response, seconds = ask(target, "/http/none", "700")
    assert response.status == 504 and 0.65 <= seconds < 5


def test_strangers_are_not_believed(server, silent):
    target = start(server, silent, "--forwarded-allow-ips", "10.1.2.3")
    assert left(target, "5000") > 5


def test_without_the_setting_it_is_a_header_like_others(server, silent):
    target = server("--timeout", TIMEOUT, "--no-reflex", app="calls_out:app", env={"SILENT": str(silent.port)})
    assert left(target, "5000") > 5


def test_who_waits_no_more_gets_no_thread(server, silent):
    target = start(server, silent, "-k", "sync")
    busy = threading.Thread(target=ask, args=(target, "/left/busy"))
    busy.start()
    time.sleep(0.5)
    response, seconds = ask(target, "/left/now", "400")
    busy.join()
    assert response.status == 503 and seconds < 1.4
    assert b"its sender waits no more" in response.body


CALLS = ["requests", "urllib3", "http", "urlopen", "httpx"]


@pytest.fixture(scope="module")
def telling(module_server, module_silent):
    return start(module_server, module_silent, "--outbound-timeout", "auto")


def heard(silent):
    return [int(value) for value in re.findall(rb"x-left-ms: *(\d+)", b"".join(silent.heard), re.IGNORECASE)]


@pytest.mark.parametrize("library", CALLS)
def test_calls_say_what_is_left(telling, module_silent, library):
    for said, most in (("6000", 5700), (None, 1000 * TIMEOUT)):
        module_silent.heard.clear()
        response, _ = ask(telling, f"/answer/{library}", said)
        assert response.status == 200 and json.loads(response.body)["found"] == "ok"
        [value] = heard(module_silent)
        assert most - 4000 < value <= most


@pytest.mark.parametrize("path", ["/answer/own", "/answer/ownhttpx"])
def test_what_the_application_says_goes_out(telling, module_silent, path):
    module_silent.heard.clear()
    ask(telling, path)
    assert heard(module_silent) == [42]


def test_outside_of_a_request_nothing_is_said(telling, module_silent):
    module_silent.heard.clear()
    ask(telling, "/answer/thread")
    assert module_silent.heard and heard(module_silent) == []


def test_calls_say_nothing_without_outbound_timeout(trusting, module_silent):
    module_silent.heard.clear()
    ask(trusting, "/answer/requests")
    assert module_silent.heard and heard(module_silent) == []


@pytest.mark.parametrize("kind", ["asgi", "gevent"])
def test_tasks_and_greenlets_have_it_too(server, silent, kind):
    app = {"asgi": "asgi_calls:app", "gevent": "calls_out:app"}[kind]
    target = start(server, silent, "-k", kind, "--outbound-timeout", "auto", app=app)
    path = {"asgi": "/thread", "gevent": "/requests/default"}[kind]
    response, _ = ask(target, path, "5000")
    found = json.loads(response.body)
    assert response.status == 200 and found["error"] == "requests.exceptions.ReadTimeout"
    assert 0 < found["left"] < 5


def test_a_websocket_outlives_it(server, silent):
    """Its sender waits for the handshake."""
    from websockets.sync.client import connect

    target = start(server, silent, "-k", "asgi", app="asgi_websocket:app")
    with connect(f"ws://127.0.0.1:{target.port}/echo", additional_headers={HEADER: "500"}) as socket:
        for _ in range(3):
            time.sleep(0.5)
            socket.send("still there")
            assert socket.recv(timeout=5) == "still there"
