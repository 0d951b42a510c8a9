"""``outbound_timeout``: calls without a timeout end before the request's deadline, by the library's own exception; what the
application says counts; without the setting nothing changes."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.only_ferricorn("has no such setting")

# A call is to end 0.4 s before the deadline, where libpq is concerned up to 1 s before (it has whole seconds); what a busy
# machine adds must fit in there.
TIMEOUT = 8
EARLIEST = 0.8 * TIMEOUT
CLASSES = {
    "sync": ["-k", "sync", "-w", "4"],
    "gthread": ["-k", "gthread", "--threads", "16"],
    "gevent": ["-k", "gevent"],
}


def start(factory, silent, *args, outbound="auto", **options):
    args = ["--timeout", TIMEOUT, "--no-reflex", "--outbound-timeout", outbound, *args]
    return factory(*args, app="calls_out:app", env={"SILENT": str(silent.port)}, **options)


def call(target, path):
    response = target.get(path, timeout=3.0 * TIMEOUT)
    return response.status, json.loads(response.body) if response.status == 200 else None


def calls(target, paths):
    """Calls all at once."""
    with ThreadPoolExecutor(len(paths)) as pool:
        return dict(zip(paths, pool.map(lambda path: call(target, path), paths), strict=True))


@pytest.fixture(scope="module", params=list(CLASSES))
def threads(request, module_server, module_silent):
    return start(module_server, module_silent, *CLASSES[request.param])


# What ends by itself, before the deadline, and what it raises.
SPENT = {
    "/requests/default": "requests.exceptions.ReadTimeout",
    "/requests/body": "requests.exceptions.ConnectionError",
    "/http/default": "builtins.TimeoutError",
    "/redis/default": "redis.exceptions.TimeoutError",
    "/requests/session": "requests.exceptions.ReadTimeout",
    "/requests/retries": "requests.exceptions.ConnectionError",
    "/urllib3/default": "urllib3.exceptions.ReadTimeoutError",
    "/urllib3/retries": "urllib3.exceptions.MaxRetryError",
    "/http/body": "builtins.TimeoutError",
    "/urlopen/default": "builtins.TimeoutError",
    "/redis/url": "redis.exceptions.TimeoutError",
    "/psycopg2/connect": "psycopg2.OperationalError",
    "/psycopg/connect": "psycopg.errors.ConnectionTimeout",
}
# As many as there are workers.
SYNC = 4
# From redis-py 8 on a client has this of its own; one that was made from an URL does not try again after it.
REDIS_OWN = 5


def test_calls_without_a_timeout_end_before_the_deadline(threads):
    paths = list(SPENT)[:SYNC] if "sync" in threads.args else list(SPENT)
    if "gevent" in threads.args:
        # It holds the hub, and with it all others.
        paths.remove("/psycopg2/connect")
    for path, (status, found) in calls(threads, paths).items():
        if status == 504:
            # Other work on the machine has taken the little time that was left: by itself it has more.
            status, found = call(threads, path)
        assert status == 200 and found["error"] == SPENT[path], (path, status, found)
        earliest = REDIS_OWN if path == "/redis/url" else EARLIEST - 1
        assert earliest <= found["seconds"] < TIMEOUT, (path, found)
        assert 0 < found["left"] < TIMEOUT


EXPLICIT = [
    "/requests/explicit",
    "/requests/adapter",
    "/urllib3/explicit",
    "/urllib3/pool",
    "/http/explicit",
    "/http/own",
    "/redis/explicit",
    "/psycopg2/explicit",
]


@pytest.mark.parametrize("path", EXPLICIT)
def test_what_the_application_says_counts(threads, path):
    status, found = call(threads, path)
    assert status == 200 and found["error"] is not None
    # psycopg2's is a whole number, and 2 at least.
    assert 0.25 <= found["seconds"] < EARLIEST - 1


ENDLESS = ["/requests/none", "/urllib3/none", "/http/none", "/urlopen/none", "/redis/none", "/httpx/none"]


def test_none_is_a_word_of_the_application_too(server, silent):
    target = start(server, silent, "-k", "gthread", "--threads", "8")
    assert {path: found[0] for path, found in calls(target, ENDLESS).items()} == dict.fromkeys(ENDLESS, 504)


def test_off_changes_nothing(server, silent):
    target = start(server, silent, "--threads", "8", outbound="off")
    paths = ["/requests/default", "/urllib3/default", "/http/default", "/redis/default"]
    assert {path: found[0] for path, found in calls(target, paths).items()} == dict.fromkeys(paths, 504)


def test_a_number_is_the_most(server, silent):
    target = start(server, silent, outbound="0.5")
    status, found = call(target, "/requests/default")
    assert status == 200 and found["error"] == "requests.exceptions.ReadTimeout"
    assert 0.45 <= found["seconds"] < EARLIEST - 1


def test_a_thread_without_a_request_waits_on(server, silent):
    target = start(server, silent)
    assert call(target, "/thread/default")[1]["text"] == "it waits on"


def test_httpx_keeps_its_own(server, silent):
    target = start(server, silent)
    status, found = call(target, "/httpx/default")
    assert status == 200 and found["error"] == "httpx.ReadTimeout"
    assert 4.9 <= found["seconds"] < EARLIEST


def test_what_the_master_has_imported_is_adapted(server, silent):
    config = "import http.client, requests, redis, urllib3\n"
    target = start(server, silent, "--preload", "--threads", "8", config=config)
    paths = ["/requests/default", "/urllib3/default", "/http/default", "/redis/default"]
    for path, (status, found) in calls(target, paths).items():
        assert status == 200 and found["error"] == SPENT[path], (path, found)


def test_a_budget_follows_the_deadline(server, silent):
    """It is what is left when a wait begins, also on a connection that an earlier request has opened."""
    target = start(server, silent)
    status, found = call(target, "/kept/connection")
    assert status == 200 and found["found"] == "ok"
    status, found = call(target, "/kept/limits")
    assert status == 200, target.log()
    first, second, outside = found["found"]
    assert second < first < TIMEOUT and outside is None


# In tasks, and in threads that have the context of one.
TASKS = {
    "/thread": "requests.exceptions.ReadTimeout",
    "/anyio": "urllib3.exceptions.ReadTimeoutError",
    "/redis": "redis.exceptions.TimeoutError",
    "/psycopg": "psycopg.errors.ConnectionTimeout",
}


def test_tasks_and_their_threads_have_the_budget_of_their_request(server, silent):
    target = start_tasks(server, silent)
    for path, (status, found) in calls(target, list(TASKS)).items():
        assert status == 200 and found["error"] == TASKS[path], (path, status, found)
        assert EARLIEST - 1 <= found["seconds"] < TIMEOUT and 0 < found["left"] < TIMEOUT


def test_a_task_hears_none_too(server, silent):
    assert call(start_tasks(server, silent), "/redisnone") == (504, None)


def test_a_task_that_outlives_its_request_has_no_budget(server, silent):
    target = start_tasks(server, silent)
    assert call(target, "/background")[0] == 200
    assert call(target, "/seen")[1]["found"] == [True, None]


def start_tasks(factory, silent):
    args = ["-k", "asgi", "--timeout", TIMEOUT, "--no-reflex", "--outbound-timeout", "auto"]
    return factory(*args, app="asgi_calls:app", env={"SILENT": str(silent.port)})
