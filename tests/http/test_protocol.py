"""Connections, limits, expectations, framing of responses, and the settings that loosen the parser."""

import hashlib
import json
import os
import re
import socket
import time

import pytest
from raw_cases import chunked, get, post

from harness import FERRICORN, Connection, exchange, exchange_many, expected, request

REASONS = {
    400: "Bad Request",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    # Gunicorn says "Bad Request" here.
    501: expected(ferricorn="Not Implemented", gunicorn="Bad Request"),
}


@pytest.fixture(scope="module")
def threaded(module_server):
    """A server with keep-alive on both programs."""
    return module_server("-k", "gthread", "--threads", "4", "--keep-alive", "5")


def echoed(response):
    assert response.status == 200, response
    return json.loads(response.body)


# --- limits --------------------------------------------------------------------------------------------------------


def line_of(length):
    """A request whose request line has ``length`` bytes without its CRLF."""
    path = b"/echo?" + b"a" * (length - len(b"GET /echo? HTTP/1.1"))
    return get(line=b"GET " + path + b" HTTP/1.1")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(line_of(4094), 200, id="line at limit"),
        pytest.param(line_of(4098), 414, id="line over limit"),
        pytest.param(get(b"".join(b"X-%d: a\r\n" % n for n in range(98))), 200, id="fields at limit"),
        pytest.param(get(b"".join(b"X-%d: a\r\n" % n for n in range(99))), 431, id="fields over limit"),
        pytest.param(get(b"X-A: " + b"a" * 8180 + b"\r\n"), 200, id="field near limit"),
        pytest.param(get(b"X-A: " + b"a" * 8200 + b"\r\n"), 431, id="field over limit"),
    ],
)
def test_default_limits(threaded, raw, status):
    result = exchange(threaded.address, raw)
    assert result.statuses == [status]
    assert result.closed


@pytest.mark.parametrize(
    ("args", "raw", "status"),
    [
        (["--limit-request-line", "100"], line_of(100), 200),
        (["--limit-request-line", "100"], line_of(104), 414),
        (["--limit-request-line", "0"], line_of(8000), 200),
        (["--limit-request-fields", "3"], get(b"X-A: a\r\n"), 200),
        (["--limit-request-fields", "3"], get(b"X-A: a\r\nX-B: b\r\n"), 431),
        (["--limit-request-field_size", "50"], get(b"X-A: " + b"a" * 40 + b"\r\n"), 200),
        (["--limit-request-field_size", "50"], get(b"X-A: " + b"a" * 60 + b"\r\n"), 431),
    ],
)
def test_set_limits(server, args, raw, status):
    assert exchange(server(*args).address, raw).statuses == [status]


def test_line_without_end_is_refused_early(threaded):
    """Nobody may fill memory with a line that never ends."""
    with threaded.connect() as client:
        client.send([b"GET /" + b"a" * 10_000])
        assert client.response().status == 414
        assert client.at_end()


def test_fields_without_end_are_refused_early(threaded):
    with threaded.connect(timeout=15) as client:
        for _ in range(2000):
            if not client.send(b"GET / HTTP/1.1\r\nHost: test\r\n" if not _ else b"X-A: %s\r\n" % (b"a" * 1000)):
                break
        assert client.response().status == 431
        assert client.at_end()


@pytest.mark.only_ferricorn("has no limit of body size")
@pytest.mark.parametrize("raw", [post(b"Content-Length: 2001\r\n"), chunked(b"7d1\r\n" + b"a" * 2001 + b"\r\n0\r\n\r\n")])
def test_body_limit(server, raw):
    address = server("--body-limit", "2000").address
    response = exchange(address, raw).responses[0]
    assert (response.status, response.reason) == (413, "Content Too Large")
    assert exchange(address, post(b"Content-Length: 2000\r\n", b"a" * 2000)).statuses == [200]


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get(b"X A: a\r\n"), 400),
        (line_of(5000), 414),
        (post(b"Expect: other\r\n"), 417),
        (get(b"X-A: " + b"a" * 9000 + b"\r\n"), 431),
        (post(b"Transfer-Encoding: br, chunked\r\n", b"0\r\n\r\n"), 501),
    ],
)
def test_refusal_is_a_page_that_closes(threaded, raw, status):
    result = exchange(threaded.address, raw)
    [response] = result.responses
    assert (response.version, response.status, response.reason) == ("HTTP/1.1", status, REASONS[status])
    assert response.header("Connection") == "close"
    assert response.header("Content-Type").startswith("text/html")
    assert response.framing == "length"
    assert f"<title>{response.reason}</title>".encode() in response.body
    assert result.closed


def test_refusal_escapes_what_it_quotes(threaded):
    [response] = exchange(threaded.address, get(line=b"<script>alert(1)</script> / HTTP/1.1")).responses
    assert response.status == 400
    assert b"<script>" not in response.body


def test_refused_request_leaves_the_rest_unread(threaded):
    """What follows a request that cannot be understood is not a request."""
    result = exchange(threaded.address, get(b"X A: a\r\n") + get(), methods=["GET", "GET"])
    assert result.statuses == [400]
    assert result.closed


def test_worker_survives_refusals(threaded):
    before = threaded.workers()
    for raw in (b"\0" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n" * 50, b"GET / HTTP/1.1\r\n:\r\n\r\n"):
        exchange(threaded.address, raw + b"\r\n\r\n")
    assert threaded.workers() == before
    assert threaded.get("/").body == b"hello"


# --- connections ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("HTTP/1.1", None, True),
        ("HTTP/1.1", "keep-alive", True),
        ("HTTP/1.1", "close", False),
        ("HTTP/1.1", "Close", False),
        ("HTTP/1.1", "x-other, close", False),
        ("HTTP/1.0", None, False),
        ("HTTP/1.0", "keep-alive", True),
        ("HTTP/1.0", "Keep-Alive", True),
        ("HTTP/1.0", "close", False),
    ],
)
def test_keep_alive(threaded, version, connection, kept):
    headers = [("Connection", connection)] if connection else []
    with threaded.connect() as client:
        first = client.request("/", version=version, headers=headers)
        assert (first.status, first.body) == (200, b"hello")
        assert first.header("Connection").lower() == ("keep-alive" if kept else "close")
        if kept:
            assert client.request("/", version=version, headers=headers).body == b"hello"
        else:
            assert client.at_end()


def test_connection_field_may_be_repeated(threaded):
    with threaded.connect() as client:
        client.request("/", headers=[("Connection", "x-other"), ("Connection", "close")])
        assert client.at_end()


@pytest.mark.only_ferricorn("its sync worker has no keep-alive")
def test_sync_keeps_connections_too(server):
    with server("-k", "sync").connect() as client:
        for _ in range(5):
            assert client.request("/").header("Connection") == "keep-alive"


def test_keep_alive_0_closes(server):
    with server("-k", "gthread", "--keep-alive", "0").connect() as client:
        assert client.request("/").header("Connection") == "close"
        assert client.at_end()


def test_idle_connection_is_closed_in_silence(server):
    with server("-k", "gthread", "--keep-alive", "1").connect() as client:
        client.request("/")
        begun = time.monotonic()
        assert client.at_end(5)
        assert 0.5 < time.monotonic() - begun < 3.5


def test_many_requests_on_one_connection(threaded):
    with threaded.connect() as client:
        for number in range(100):
            assert echoed(client.request(f"/echo?{number}"))["QUERY_STRING"] == str(number)


@pytest.mark.parametrize("piece", [0, 1, 7, 100])
def test_pipelined_requests_are_answered_in_order(threaded, piece):
    raw = b"".join(
        request(f"/echo?{n}", "POST", body=b"b" * n) if n % 2 else request(f"/echo?{n}", close=n == 10) for n in range(11)
    )
    pieces = [raw[at : at + piece] for at in range(0, len(raw), piece)] if piece else raw
    result = exchange(threaded.address, pieces, methods=["GET"] * 11, pause=0.0002)
    assert [echoed(response)["QUERY_STRING"] for response in result.responses] == [str(n) for n in range(11)]
    assert result.closed


def test_pipelined_behind_an_unread_body(threaded):
    """A body that the application leaves alone is not the next request."""
    raw = request("/noread", "POST", body=b"GET /evil HTTP/1.1\r\n\r\n") + request("/echo?next", close=True)
    first, second = exchange(threaded.address, raw, methods=["POST", "GET"]).responses
    assert first.body == b"not read"
    assert echoed(second)["QUERY_STRING"] == "next"


def test_nothing_is_read_after_close(threaded):
    result = exchange(threaded.address, request("/", close=True) + request("/"), methods=["GET", "GET"])
    assert result.statuses == [200]
    assert result.closed


def test_client_that_stops_sending_gets_its_answer(threaded):
    """shutdown(SHUT_WR) is not the end of the conversation."""
    result = exchange(threaded.address, request("/sleep?0.2"), half_close=True)
    assert [response.body for response in result.responses] == [b"slept"]


# --- responses -----------------------------------------------------------------------------------------------------


def test_head_of_a_response(threaded):
    response = threaded.get("/")
    assert (response.version, response.status, response.reason) == ("HTTP/1.1", 200, "OK")
    assert response.header("Server") == expected(ferricorn="ferricorn", gunicorn="gunicorn")
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", response.header("Date"))
    assert response.header("Connection") == "close"
    assert response.header("Transfer-Encoding") is None
    assert [name for name, _ in response.headers][-2:] == ["Content-Type", "Content-Length"]


def test_head_has_no_body(threaded):
    with threaded.connect() as client:
        response = client.request("/", "HEAD")
        assert (response.status, response.header("Content-Length")) == (200, "5")
        assert client.request("/").body == b"hello"


@pytest.mark.parametrize(("status", "length"), [("204 No Content", None), ("304 Not Modified", "4")])
def test_status_without_body(threaded, status, length):
    with threaded.connect() as client:
        response = client.request("/status?" + status.replace(" ", "+"))
        assert f"{response.status} {response.reason}" == status
        assert response.header("Transfer-Encoding") is None
        assert response.header("Content-Length") in (length, None)
        assert client.request("/").body == b"hello"


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "418 I'm a teapot", "503 Service Unavailable", "299 Odd"])
def test_status_line_is_the_applications(threaded, status):
    response = threaded.get("/status?" + status.replace(" ", "+"))
    assert f"{response.status} {response.reason}" == status


@pytest.mark.parametrize(("version", "framing"), [("HTTP/1.1", "chunked"), ("HTTP/1.0", "close")])
def test_body_of_unknown_length(threaded, version, framing):
    with threaded.connect() as client:
        response = client.request("/size?25000", version=version)
        assert response.framing == framing
        assert response.body == b"x" * 25000
        if framing == "chunked":
            assert client.request("/").body == b"hello"


def test_large_response_to_a_slow_reader(threaded):
    with threaded.connect(timeout=30) as client:
        client.send(request("/size?5000000", close=True))
        time.sleep(0.5)
        assert len(client.response().body) == 5_000_000


# --- bodies --------------------------------------------------------------------------------------------------------


def body_answer(body):
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 1_048_576, 1_048_577, 5_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_upload(threaded, size, framing):
    """Small ones stay in memory, large ones go to a file: the application cannot tell."""
    body = os.urandom(size)
    if framing == "length":
        raw = post(b"Content-Length: %d\r\n" % size, body)
    else:
        sizes = [min(size - at, 70_001) for at in range(0, size, 70_001)]
        chunks, at = [], 0
        for count in sizes:
            chunks.append(b"%x\r\n%s\r\n" % (count, body[at : at + count]))
            at += count
        raw = chunked(b"".join(chunks) + b"0\r\n\r\n")
    [response] = exchange(threaded.address, raw.replace(b"/echo", b"/upload", 1), methods=["POST"], timeout=30).responses
    assert response.body == body_answer(body)


def test_no_temporary_file_is_left(server):
    target = server("-k", "gthread", config="import os\ntmp_upload_dir = os.getcwd()\n")
    before = sorted(path.name for path in target.folder.iterdir())
    body = b"u" * 3_000_000
    assert target.get("/upload", "POST", body=body).body == body_answer(body)
    assert sorted(path.name for path in target.folder.iterdir()) == before


def test_chunked_body_is_decoded(threaded):
    seen = echoed(exchange(threaded.address, chunked(b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-T: 1\r\n\r\n")).responses[0])
    assert seen["body"] == "hello world"
    assert "HTTP_X_T" not in seen["headers"]


@pytest.mark.only_ferricorn("runs the application with what has come")
@pytest.mark.parametrize("raw", [post(b"Content-Length: 10\r\n", b"hello"), chunked(b"a\r\nhello")])
def test_truncated_body_never_reaches_the_application(threaded, raw):
    # The end arrives with the last byte, or just before or after the worker looks: many times, to meet each.
    for _ in range(500):
        with threaded.connect() as client:
            client.send(raw.replace(b"/echo", b"/truncated", 1))
            client.sock.shutdown(socket.SHUT_WR)
            client.at_end()
            assert client.closed
            assert not client.data or client.data.startswith(b"HTTP/1.1 400 ")


def test_request_and_end_at_once(threaded):
    for _ in range(500):
        with threaded.connect() as client:
            client.send(request("/"))
            client.sock.shutdown(socket.SHUT_WR)
            started = time.monotonic()
            assert client.response().status == 200
            assert client.at_end()
            assert time.monotonic() - started < 1.5, "kept a connection whose client had shut its side"


# --- Expect --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
def test_continue(threaded, value):
    with threaded.connect() as client:
        client.send(post(b"Content-Length: 5\r\nExpect: %s\r\n" % value.encode()))
        client.sock.settimeout(5)
        assert client.sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert echoed(client.response())["body"] == "hello"


def test_no_continue_for_1_0(threaded):
    [response] = exchange(threaded.address, b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi").responses
    assert response.interim == []
    assert echoed(response)["body"] == "hi"


# --- what the application is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/echo?a=1&b=2", "/echo", "a=1&b=2"),
        ("/echo/%41%20%2F", "/echo/A /", ""),
        ("/echo/%c3%b6", "/echo/\u00c3\u00b6", ""),
        ("/echo/%zz%4", "/echo/%zz%4", ""),
        ("//echo//a", "//echo//a", ""),
        ("/echo??x=?", "/echo", "?x=?"),
        ("/echo/a;b=c", "/echo/a;b=c", ""),
        ("http://other/echo?q", "/echo", "q"),
    ],
)
def test_target(threaded, target, path, query):
    seen = echoed(threaded.get(target))
    assert (seen["PATH_INFO"], seen["QUERY_STRING"], seen["RAW_URI"]) == (path, query, target)


def test_repeated_fields_are_joined(threaded):
    seen = echoed(threaded.get("/echo", headers=[("X-A", "1"), ("x-a", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")]))
    assert seen["headers"]["HTTP_X_A"] == "1,2"
    assert seen["headers"]["HTTP_COOKIE"] == "a=1,b=2"


HEADER_MAPS = {
    "drop": (200, {"HTTP_X_A": "hyphen"}),
    "refuse": (400, None),
    "dangerous": (200, {"HTTP_X_A": "hyphen,underscore"}),
}


@pytest.mark.parametrize("mode", HEADER_MAPS)
def test_header_map(server, mode):
    status, fields = HEADER_MAPS[mode]
    [response] = exchange(server("--header-map", mode).address, get(b"X-A: hyphen\r\nX_A: underscore\r\n")).responses
    assert response.status == status
    if fields:
        assert fields.items() <= echoed(response)["headers"].items()


UNCONVENTIONAL = "--permit-unconventional-http-method"
LOOSENED = [
    (["--permit-obsolete-folding"], get(b"X-A: a\r\n b\r\n\tc\r\n"), "HTTP_X_A", "a b c"),
    (["--strip-header-spaces"], get(b"X-A \t: a\r\n"), "HTTP_X_A", "a"),
    ([UNCONVENTIONAL], get(line=b"g# /echo HTTP/1.1"), "REQUEST_METHOD", "g#"),
    # Alone it does nothing: lower case is unconventional first.
    (["--casefold-http-method", UNCONVENTIONAL], get(line=b"get /echo HTTP/1.1"), "REQUEST_METHOD", "GET"),
]


@pytest.mark.parametrize(("flags", "raw", "key", "value"), LOOSENED, ids=[row[0][0] for row in LOOSENED])
def test_loosened(server, flags, raw, key, value):
    target = server(*flags, "--http-parser", "python")
    seen = echoed(exchange(target.address, raw).responses[0])
    assert {**seen, **seen["headers"]}[key] == value


@pytest.mark.parametrize("raw", [row[1] for row in LOOSENED], ids=[row[0][0] for row in LOOSENED])
def test_loosened_only_by_its_flag(threaded, raw):
    assert exchange(threaded.address, raw).statuses == [400]


def test_unconventional_version(server):
    target = server("--permit-unconventional-http-version", "--http-parser", "python")
    [data] = exchange_many(target.address, [[get(line=b"GET /echo HTTP/2.0")]])
    # The version of the answer is the server's to choose.
    assert re.match(rb"HTTP/\d\.\d 200 OK\r\n", data)
    assert b'"SERVER_PROTOCOL": "HTTP/2.0"' in data


# --- proxies -------------------------------------------------------------------------------------------------------

SCHEMES = [
    ("X-Forwarded-Proto", "https", "https"),
    ("X-Forwarded-Proto", "http", "http"),
    ("X-Forwarded-Protocol", "ssl", "https"),
    ("X-Forwarded-Ssl", "on", "https"),
    ("X-Forwarded-Ssl", "off", "http"),
]


@pytest.mark.parametrize(("name", "value", "scheme"), SCHEMES)
def test_scheme_from_trusted_proxy(threaded, name, value, scheme):
    assert echoed(threaded.get("/echo", headers=[(name, value)]))["scheme"] == scheme


def test_contradicting_schemes(threaded):
    raw = get(b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n")
    assert exchange(threaded.address, raw).statuses == [400]


@pytest.mark.parametrize(
    ("allow", "scheme"),
    [("*", "https"), ("127.0.0.1", "https"), ("127.0.0.0/8", "https"), ("10.0.0.1,::1", "http"), ("10.0.0.0/8", "http")],
)
def test_forwarded_allow_ips(server, allow, scheme):
    target = server("--forwarded-allow-ips", allow)
    fields = [("X-Forwarded-Proto", "https"), ("SCRIPT_NAME", "/echo")]
    seen = echoed(target.get("/echo/rest", headers=fields))
    assert seen["scheme"] == scheme
    assert seen["SCRIPT_NAME"] == ("/echo" if scheme == "https" else "")


def test_unix_peers_are_trusted(server):
    target = server("--forwarded-allow-ips", "10.0.0.1", bind="unix")
    assert echoed(target.get("/echo", headers=[("X-Forwarded-Proto", "https")]))["scheme"] == "https"


def test_own_scheme_headers(server):
    target = server(config='secure_scheme_headers = {"X-TLS": "yes"}\n')
    assert echoed(target.get("/echo", headers=[("X-Tls", "yes")]))["scheme"] == "https"
    assert echoed(target.get("/echo", headers=[("X-Forwarded-Proto", "https")]))["scheme"] == "http"


@pytest.mark.parametrize(
    ("script", "target", "path"),
    [("/mnt", "/mnt/echo", "/echo"), ("/mnt", "/mnt", ""), ("", "/echo", "/echo")],
)
def test_script_name_of_the_environment(server, script, target, path):
    with Connection(server(env={"SCRIPT_NAME": script}).address) as client:
        response = client.request(target, close=True)
    if path:
        seen = echoed(response)
        assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == (script, path)
    else:
        assert response.status == 200


def test_script_name_that_does_not_fit(server):
    target = server(env={"SCRIPT_NAME": "/mnt"})
    assert target.get("/other").status == 500
    assert len(target.workers()) == 1


def test_forwarder_headers(server):
    target = server("--forwarder-headers", "REMOTE_USER")
    seen = echoed(target.get("/echo", headers=[("REMOTE_USER", "jo"), ("SCRIPT_NAME", "/echo")]))
    assert seen["headers"].get("HTTP_REMOTE_USER") == "jo"
    assert seen["SCRIPT_NAME"] == ""


def test_suite_runs_against_what_it_says(threaded):
    assert threaded.get("/").header("Server") == ("ferricorn" if FERRICORN else "gunicorn")
