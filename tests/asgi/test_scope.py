"""The scope: every key with its exact value and type, over TCP and unix sockets, and what trusted proxies may set."""

import ast

import pytest

from harness import ASGI, exchange, expected, free_port, request

APP = "asgi_probe:app"
ours = pytest.mark.only_ferricorn
EXTENSIONS = {"http.response.trailers": {}, "http.response.pathsend": {}, "http.response.early_hint": {}}


@pytest.fixture(scope="module")
def tcp(module_server):
    return module_server("-k", ASGI, app=APP)


def scope(server, path="/scope", method="GET", **options):
    """The scope as the application saw it, with the client's own port beside it."""
    with server.connect() as connection:
        port = connection.sock.getsockname()[1] if isinstance(server.address, tuple) else None
        response = connection.request(path, method, close=True, **options)
    assert response.status == 200, response
    return {**ast.literal_eval(response.body.decode()), "own port": port}


def test_every_key(tcp):
    headers = [("X-One", "1"), ("User-Agent", "test")]
    seen = scope(tcp, "/scope/a%20b;c?q=%20&r", "POST", headers=headers, body=b"body")
    port = seen.pop("own port")
    # Uvicorn announces none; a server may always.
    assert seen.pop("extensions", {}) == expected(ferricorn=EXTENSIONS, gunicorn={})
    assert seen == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", tcp.port),
        "client": ("127.0.0.1", port),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": "/scope/a b;c",
        "raw_path": b"/scope/a%20b;c",
        "query_string": b"q=%20&r",
        "headers": [
            (b"host", b"test"),
            (b"x-one", b"1"),
            (b"user-agent", b"test"),
            (b"content-length", b"4"),
            (b"connection", b"close"),
        ],
        "state": {"number": 1, "shared": []},
    }


def test_nothing_of_the_request_before(tcp):
    first = scope(tcp, "/scope?one", headers=[("X-Secret", "s"), ("X-Forwarded-Proto", "https")])
    assert ((b"x-secret", b"s") in first["headers"], first["scheme"]) == (True, "https")
    second = scope(tcp)
    assert second["headers"] == [(b"host", b"test"), (b"connection", b"close")]
    assert (second["scheme"], second["query_string"]) == ("http", b"")


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        (
            [("X-A", "1"), ("X-B", "0"), ("x-a", "2"), ("X-A", "")],
            [(b"x-a", b"1"), (b"x-b", b"0"), (b"x-a", b"2"), (b"x-a", b"")],
        ),
        ([("Cookie", "a=1"), ("Cookie", "b=2")], [(b"cookie", b"a=1"), (b"cookie", b"b=2")]),
        ([("X-Latin", "caf\xe9")], [(b"x-latin", b"caf\xe9")]),
        ([("X.Y!Z", "v")], [(b"x.y!z", b"v")]),
        pytest.param(
            [("X-Pad", " \t v w \t")], [(b"x-pad", b"v w")], marks=ours("leaves white space at the end of a value")
        ),
        ([("X-Case", "MiXeD")], [(b"x-case", b"MiXeD")]),
        ([("Authorization", "Basic eDp5")], [(b"authorization", b"Basic eDp5")]),
        ([("Proxy", "http://evil")], [(b"proxy", b"http://evil")]),
        ([("TE", "trailers"), ("Via", "1.1 a")], [(b"te", b"trailers"), (b"via", b"1.1 a")]),
    ],
)
def test_headers(tcp, headers, seen):
    """Names in lower case, in the order of the request, none joined."""
    assert scope(tcp, headers=headers)["headers"] == [(b"host", b"test"), *seen, (b"connection", b"close")]


def test_many_names(tcp):
    """Names of fields may be kept from request to request; all must still be told apart."""
    for start in range(0, 900, 90):
        headers = [(f"X-Name-{number}", str(number)) for number in range(start, start + 90)]
        seen = scope(tcp, headers=headers)["headers"][1:-1]
        assert seen == [(name.lower().encode(), value.encode()) for name, value in headers]


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/scope", "/scope", b"/scope", b""),
        ("/scope?", "/scope", b"/scope", b""),
        ("/scope?a=1?b", "/scope", b"/scope", b"a=1?b"),
        ("/scope/%E4%BD%A0", "/scope/\u4f60", b"/scope/%E4%BD%A0", b""),
        ("/scope/%F0%9F%90%A6%20%e9", "/scope/\U0001f426 \ufffd", b"/scope/%F0%9F%90%A6%20%e9", b""),
        ("/scope/%ff%C3(", "/scope/\ufffd\ufffd(", b"/scope/%ff%C3(", b""),
        ("/scope/%ed%a0%80", "/scope/\ufffd\ufffd\ufffd", b"/scope/%ed%a0%80", b""),
        ("/scope/%2F%3f%25%00", "/scope//?%\0", b"/scope/%2F%3f%25%00", b""),
        ("/scope/%zz%4", "/scope/%zz%4", b"/scope/%zz%4", b""),
        ("/scope//a/../b/", "/scope//a/../b/", b"/scope//a/../b/", b""),
        ("/scope/a+b;p=1,2", "/scope/a+b;p=1,2", b"/scope/a+b;p=1,2", b""),
        ("/scope?q=%41&%ff", "/scope", b"/scope", b"q=%41&%ff"),
        ("http://test/scope/x?y", "/scope/x", b"/scope/x", b"y"),
    ],
)
def test_target(tcp, target, path, raw_path, query):
    seen = scope(tcp, target)
    assert (seen["path"], seen["raw_path"], seen["query_string"]) == (path, raw_path, query)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE", "PATCH", "PROPFIND"])
def test_method_and_version(tcp, method, version):
    seen = scope(tcp, method=method, version=f"HTTP/{version}")
    assert (seen["method"], seen["http_version"]) == (method, version)


def test_state_is_copied_shallowly(module_server):
    server = module_server("-k", ASGI, app=APP)
    seen = [ast.literal_eval(server.get(f"/state?{number}").body.decode()) for number in range(3)]
    assert [state["number"] for state in seen] == [1, 1, 1]
    assert [state["shared"] for state in seen] == [[], ["0"], ["0", "1"]]
    assert not any("own" in state for state in seen)


@ours("announces no extensions")
def test_inner_dicts_are_no_requests_own(tcp):
    """Who writes into ``extensions`` must not change what others see."""
    tcp.get("/state?x")
    assert scope(tcp)["extensions"] == EXTENSIONS


# addresses and proxies


def test_unix_socket(module_server):
    server = module_server("-k", ASGI, app=APP, bind="unix")
    seen = scope(server)
    assert (seen["client"], seen["server"]) == (None, (server.address, None))


def test_bound_to_all_addresses(server):
    """The address that this client has reached, not the one that was bound."""
    address = ("127.0.0.2", free_port())
    running = server("-k", ASGI, "--bind", f"0.0.0.0:{address[1]}", app=APP, bind=address)
    assert scope(running)["server"] == address


@pytest.mark.parametrize("name", ["X-Forwarded-Proto", "x-forwarded-proto"])
@pytest.mark.parametrize(("value", "scheme"), [("https", "https"), ("http", "http"), ("gopher", "http"), ("", "http")])
def test_scheme(tcp, name, value, scheme):
    assert scope(tcp, headers=[(name, value)])["scheme"] == scheme


@pytest.mark.parametrize(
    ("values", "host"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["203.0.113.8, 203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, 127.0.0.1"], "203.0.113.9"),
        (["203.0.113.8", "203.0.113.9, 127.0.0.1"], "203.0.113.9"),
        (["2001:db8::1"], "2001:db8::1"),
    ],
)
def test_client_behind_a_proxy(tcp, values, host):
    """Whom the trusted peer names; a port is not known."""
    assert scope(tcp, headers=[("X-Forwarded-For", value) for value in values])["client"] == (host, 0)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("203.0.113.9:4711", ("203.0.113.9", 4711)),
        ("[2001:db8::1]:4711", ("2001:db8::1", 4711)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
    ],
)
def test_client_with_its_port(tcp, value, client):
    assert scope(tcp, headers=[("X-Forwarded-For", value)])["client"] == client


def test_empty_forwarded_for(tcp):
    seen = scope(tcp, headers=[("X-Forwarded-For", "")])
    assert seen["client"] == ("127.0.0.1", seen["own port"])


def test_peers_that_are_not_trusted(module_server):
    server = module_server("-k", ASGI, "--forwarded-allow-ips", "192.0.2.1", app=APP)
    seen = scope(server, headers=[("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "203.0.113.9")])
    assert (seen["scheme"], seen["client"]) == ("http", ("127.0.0.1", seen["own port"]))


@ours("its worker for ASGI does not pass the setting on")
def test_root_path(module_server):
    """Part of the path, as the specification wants it since its version 2.3."""
    server = module_server("-k", ASGI, "--root-path", "/below", app="asgi_probe:below")
    seen = scope(server, "/a%20b?c")
    assert (seen["root_path"], seen["path"], seen["raw_path"]) == ("/below", "/below/a b", b"/below/a%20b")


@pytest.mark.parametrize("raw", ["GET /\xe9 HTTP/1.1", "GET relative HTTP/1.1"])
def test_bad_request_lines(tcp, raw):
    result = exchange(tcp.address, f"{raw}\r\nHost: test\r\n\r\n".encode("latin-1"))
    assert result.statuses == [400] and result.closed


def test_same_scope_for_pipelined_requests(tcp):
    raw = request("/scope?1") + request("/scope?2", headers=[("X-A", "a")], close=True)
    result = exchange(tcp.address, raw, methods=("GET", "GET"))
    first, second = (ast.literal_eval(response.body.decode()) for response in result.responses)
    assert first["client"] == second["client"]
    assert [first["query_string"], second["query_string"]] == [b"1", b"2"]
    assert first["headers"] == [(b"host", b"test")]
