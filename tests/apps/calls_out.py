"""Calls to a service that says nothing (at the port of ``SILENT``), by several libraries, and queries (``TEST_DSN``).

``/LIBRARY/WAY`` makes one call and answers with the name of what it raised and how long that took, as JSON.
"""

import contextlib
import json
import os
import threading
import time

import ferricorn

SILENT = int(os.environ.get("SILENT", "0"))
URL = f"http://127.0.0.1:{SILENT}/"


def requests_default():
    import requests

    requests.get(URL)


def requests_explicit():
    import requests

    requests.get(URL, timeout=0.3)


def requests_none():
    import requests

    requests.get(URL, timeout=None)


def requests_session():
    import requests

    with requests.Session() as session:
        session.send(session.prepare_request(requests.Request("GET", URL)))


def requests_adapter():
    """An adapter with a timeout of its own, as many applications have one."""
    import requests
    from requests.adapters import HTTPAdapter

    class Own(HTTPAdapter):
        def send(self, request, **kwargs):
            if kwargs.get("timeout") is None:
                kwargs["timeout"] = 0.3
            return super().send(request, **kwargs)

    with requests.Session() as session:
        session.mount("http://", Own())
        session.get(URL)


def requests_retries():
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(total=5, backoff_factor=1)))
        session.get(URL)


def requests_body():
    """The head comes, the body does not."""
    import requests

    requests.get(URL + "head")


def urllib3_default():
    import urllib3

    urllib3.PoolManager().request("GET", URL, retries=False)


def urllib3_retries():
    import urllib3

    urllib3.PoolManager().request("GET", URL)


def urllib3_explicit():
    import urllib3

    urllib3.PoolManager().request("GET", URL, timeout=0.3, retries=False)


def urllib3_pool():
    import urllib3

    urllib3.PoolManager(timeout=0.3).request("GET", URL, retries=False)


def urllib3_none():
    import urllib3

    urllib3.PoolManager().request("GET", URL, timeout=None, retries=False)


def http_default():
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", SILENT)
    connection.request("GET", "/")
    connection.getresponse()


def http_explicit():
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", SILENT, timeout=0.3)
    connection.request("GET", "/")
    connection.getresponse()


def http_none():
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", SILENT, timeout=None)
    connection.request("GET", "/")
    connection.getresponse()


def http_own():
    """The application sets the socket's own time."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", SILENT)
    connection.connect()
    connection.sock.settimeout(0.3)
    connection.request("GET", "/")
    connection.getresponse()


def http_body():
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", SILENT)
    connection.request("GET", "/head")
    connection.getresponse().read()


def urlopen_default():
    import urllib.request

    urllib.request.urlopen(URL)


def urlopen_none():
    import urllib.request

    urllib.request.urlopen(URL, timeout=None)


def httpx_default():
    import httpx

    httpx.get(URL)


def httpx_none():
    import httpx

    httpx.get(URL, timeout=None)


def redis_default():
    import redis

    redis.Redis("127.0.0.1", SILENT).ping()


def redis_explicit():
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    redis.Redis("127.0.0.1", SILENT, socket_timeout=0.3, retry=Retry(NoBackoff(), 0)).ping()


def redis_none():
    import redis

    redis.Redis("127.0.0.1", SILENT, socket_timeout=None).ping()


def redis_url():
    import redis

    redis.from_url(f"redis://127.0.0.1:{SILENT}").ping()


def psycopg2_connect():
    import psycopg2

    psycopg2.connect(host="127.0.0.1", port=SILENT, user="nobody", sslmode="disable")


def psycopg2_explicit():
    import psycopg2

    psycopg2.connect(host="127.0.0.1", port=SILENT, user="nobody", sslmode="disable", connect_timeout=2)


def psycopg_connect():
    import psycopg

    psycopg.connect(f"host=127.0.0.1 port={SILENT} user=nobody sslmode=disable")


def thread_default():
    """A thread of the application's own has no deadline: its call is left to hang."""
    import requests

    ended = threading.Event()

    def work():
        with contextlib.suppress(Exception):
            requests.get(URL)
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    if not ended.wait(3.0):
        raise RuntimeError("it waits on")


def answer_requests():
    import requests

    return requests.get(URL + "answer").text


def answer_urllib3():
    import urllib3

    return urllib3.PoolManager().request("GET", URL + "answer").data.decode()


def answer_http():
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", SILENT)
    connection.request("GET", "/answer")
    return connection.getresponse().read().decode()


def answer_urlopen():
    import urllib.request

    return urllib.request.urlopen(URL + "answer").read().decode()


def answer_httpx():
    import httpx

    return httpx.get(URL + "answer").text


def answer_own():
    """With a header of the application's own."""
    import requests

    return requests.get(URL + "answer", headers={"x-left-ms": "42"}).text


def answer_ownhttpx():
    import httpx

    return httpx.get(URL + "answer", headers={"X-LEFT-MS": "42"}).text


def answer_thread():
    """Where there is no request, nothing is left to tell."""
    thread = threading.Thread(target=answer_requests)
    thread.start()
    thread.join()


def left_now():
    return {"found": ferricorn.deadline(), "error": None}


def left_busy():
    time.sleep(2.0)


KEPT = []


def kept_connection():
    """A connection that a later request uses again."""
    import http.client

    KEPT.append(http.client.HTTPConnection("127.0.0.1", SILENT))
    KEPT[0].request("GET", "/answer")
    return KEPT[0].getresponse().read().decode()


def kept_limits():
    """What its socket is limited to: in a request, a moment later, and in a thread without one."""
    limits = []

    def ask():
        KEPT[0].request("GET", "/answer")
        KEPT[0].getresponse().read()
        limits.append(KEPT[0].sock.gettimeout())

    ask()
    time.sleep(0.2)
    ask()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return limits


def timed(call):
    """What a call raised, and how long it took."""
    begun = time.monotonic()
    try:
        found = call()
    except Exception as error:
        found = {"error": f"{type(error).__module__}.{type(error).__name__}", "text": str(error)}
    if not isinstance(found, dict):
        found = {"error": None, "found": found}
    return {**found, "seconds": time.monotonic() - begun, "left": ferricorn.deadline()}


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").replace("/", "_")
    body = json.dumps(timed(globals()[name])).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
