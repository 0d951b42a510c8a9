"""The environ: every key that Gunicorn gives, from TCP and unix sockets, and what trusted proxies may set."""

import contextlib
import json
import socket

import pytest

from harness import Connection, expected, request

APP = "wsgi_environ:app"
weak = pytest.mark.only_ferricorn
# Ferricorn tells its own name; frameworks only show it.
SOFTWARE = expected(ferricorn="ferricorn/", gunicorn="gunicorn/")


def environ(server, path="/environ", method="GET", **options):
    """The variables as the application saw them."""
    with server.connect() as connection:
        # The client's own port is one of them.
        port = connection.sock.getsockname()[1] if isinstance(server.address, tuple) else None
        response = connection.request(path, method, close=True, **options)
    assert response.status == 200, response.body
    return {**json.loads(response.body)["plain"], "client port": port}


@pytest.fixture(scope="module", params=["sync", "gthread"])
def tcp(request, module_server):
    threads = ["--threads", "4"] if request.param == "gthread" else []
    return module_server("-k", request.param, *threads, app=APP)


@pytest.fixture(scope="module")
def unix(module_server):
    return module_server(app=APP, bind="unix")


def test_every_key(tcp):
    headers = [("X-One", "1"), ("Content-Type", "text/plain"), ("User-Agent", "test")]
    seen = environ(tcp, "/environ/a%20b;c?q=%20&r", "POST", headers=headers, body=b"body")
    port = seen.pop("client port")
    threads = seen.pop("wsgi.multithread")
    assert threads == ("gthread" in tcp.args)
    assert seen.pop("SERVER_SOFTWARE").startswith(SOFTWARE)
    assert seen == {
        "wsgi.version": [1, 0],
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.url_scheme": "http",
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ/a b;c",
        "QUERY_STRING": "q=%20&r",
        "RAW_URI": "/environ/a%20b;c?q=%20&r",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(tcp.port),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(port),
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "4",
        "HTTP_HOST": "test",
        "HTTP_CONNECTION": "close",
        "HTTP_X_ONE": "1",
        "HTTP_USER_AGENT": "test",
    }


def test_keys_of_objects(tcp):
    types = json.loads(tcp.get("/environ").body)["types"]
    assert set(types) == {"wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "wsgi.early_hints", "gunicorn.socket"}


def test_no_keys_of_a_body_without_one(tcp):
    seen = environ(tcp)
    assert not {"CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_LENGTH", "HTTPS"} & set(seen)


def test_nothing_of_the_request_before(tcp):
    """Environs are made from a common base: what one request adds must not show in the next."""
    first = environ(tcp, "/environ?one", headers=[("X-Secret", "s"), ("X-Forwarded-Proto", "https")])
    assert (first["HTTP_X_SECRET"], first["wsgi.url_scheme"]) == ("s", "https")
    second = environ(tcp, "/environ")
    assert not {"HTTP_X_SECRET", "HTTP_X_FORWARDED_PROTO"} & set(second)
    assert (second["wsgi.url_scheme"], second["QUERY_STRING"]) == ("http", "")


@pytest.mark.parametrize(
    ("headers", "key", "value"),
    [
        ([("X-A", "1"), ("X-A", "2"), ("x-a", "3")], "HTTP_X_A", "1,2,3"),
        ([("Cookie", "a=1"), ("Cookie", "b=2")], "HTTP_COOKIE", "a=1,b=2"),
        ([("X-A", "1"), ("X-B", "0"), ("X-A", "")], "HTTP_X_A", "1,"),
        ([("X-Latin", "caf\xe9")], "HTTP_X_LATIN", "caf\xe9"),
        ([("x-lower-case", "v")], "HTTP_X_LOWER_CASE", "v"),
        ([("X.Y!Z", "v")], "HTTP_X.Y!Z", "v"),
        ([("X-Pad", " \t v w \t")], "HTTP_X_PAD", "v w"),
        ([("X-Empty", "")], "HTTP_X_EMPTY", ""),
        ([("Content-Type", "a/b; c=d")], "CONTENT_TYPE", "a/b; c=d"),
        ([("Authorization", "Basic eDp5")], "HTTP_AUTHORIZATION", "Basic eDp5"),
        ([("Proxy", "http://evil")], "HTTP_PROXY", "http://evil"),
    ],
)
def test_headers(tcp, headers, key, value):
    assert environ(tcp, headers=headers)[key] == value


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/environ", "/environ", ""),
        ("/environ?", "/environ", ""),
        ("/environ?a=1?b", "/environ", "a=1?b"),
        ("/environ/%E4%BD%A0", "/environ/\xe4\xbd\xa0", ""),
        ("/environ/%2F%3f%25", "/environ//?%", ""),
        ("/environ/%zz%4", "/environ/%zz%4", ""),
        ("/environ//a/../b/", "/environ//a/../b/", ""),
        ("/environ/a+b;p=1,2", "/environ/a+b;p=1,2", ""),
        ("http://test/environ/x?y", "/environ/x", "y"),
        ("/environ?q=%41", "/environ", "q=%41"),
    ],
)
def test_target(tcp, target, path, query):
    seen = environ(tcp, target)
    assert (seen["PATH_INFO"], seen["QUERY_STRING"], seen["RAW_URI"]) == (path, query, target)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE", "PROPFIND"])
def test_method_and_version(tcp, method, version):
    seen = environ(tcp, method=method, version=version)
    assert (seen["REQUEST_METHOD"], seen["SERVER_PROTOCOL"]) == (method, version)


# gunicorn.socket and wsgi.errors


SOCKET_APP = """
def app(environ, start_response):
    sock = environ["gunicorn.socket"]
    if environ["PATH_INFO"] == "/names":
        start_response("200 OK", [])
        return [repr([sock.getpeername()[1], sock.getsockname()[1], sock.fileno() > 2]).encode()]
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: mine\\r\\nConnection: upgrade\\r\\n\\r\\n")
    while data := sock.recv(100):
        sock.sendall(data.upper())
    start_response("200 OK", [])
    return []
"""
ERRORS_APP = """
def app(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("written\\n")
    errors.writelines(["several\\n", "lines\\n"])
    print("printed", file=errors)
    errors.write("caf\\xe9 \\u20ac\\n")
    errors.write("")
    errors.flush()
    start_response("200 OK", [])
    return []
"""


def with_app(server, folder, text, *args, **options):
    (folder / "own.py").write_text(text)
    return server(*args, app="own:app", path=[folder], **options)


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_socket(server, tmp_path, worker):
    running = with_app(server, tmp_path, SOCKET_APP, "-k", worker)
    with running.connect() as connection:
        names = eval(connection.request("/names", close=True).body)
        assert names == [connection.sock.getsockname()[1], running.port, True]
    with running.connect() as connection:
        connection.send(request("/", headers=[("Connection", "upgrade"), ("Upgrade", "mine")]))
        assert connection.response().status == 101
        for word in (b"hello", b"again"):
            connection.data = b""
            connection.send(word)
            connection._receive()
            assert connection.data == word.upper()
    assert running.get("/names").status == 200


@pytest.mark.parametrize("target", ["stderr", "file"])
@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "utf-8"}, {"LC_ALL": "C.UTF-8"}])
def test_errors(server, tmp_path, target, env):
    log = tmp_path / "error.log"
    args = ["--error-logfile", log] if target == "file" else []
    running = with_app(server, tmp_path, ERRORS_APP, *args, env=env)
    running.get("/")
    text = log.read_text(encoding="utf-8") if target == "file" else running.log()
    assert "written\nseveral\nlines\nprinted\ncaf\xe9 \u20ac\n" in text


# Servers and addresses


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("example.com", "example.com", "80"),
        ("example.com:8080", "example.com", "8080"),
        ("EXAMPLE.com", "EXAMPLE.com", "80"),
        pytest.param("[::1]:99", "[::1]", "99", marks=weak("cuts a host at its first colon")),
        pytest.param("[::1]", "[::1]", "80", marks=weak("cuts a host at its first colon")),
    ],
)
def test_unix_socket(unix, host, name, port):
    seen = environ(unix, host=host)
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == (name, port)
    assert seen["REMOTE_ADDR"] == "" and "REMOTE_PORT" not in seen


def test_unix_peers_are_trusted(unix):
    seen = environ(unix, headers=[("X-Forwarded-Proto", "https"), ("SCRIPT_NAME", "/environ")])
    assert (seen["wsgi.url_scheme"], seen["SERVER_PORT"], seen["SCRIPT_NAME"]) == ("https", "443", "/environ")


def test_unix_without_host(unix):
    with Connection(unix.address) as connection:
        connection.send(b"GET /environ HTTP/1.0\r\n\r\n")
        seen = json.loads(connection.response().body)["plain"]
    assert seen["SERVER_PORT"] == "" and "HTTP_HOST" not in seen


def test_ipv6(server):
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        port = probe.getsockname()[1]
    running = server("--bind", f"[::1]:{port}", app=APP, bind=("::1", port))
    seen = environ(running)
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"], seen["REMOTE_ADDR"]) == ("::1", str(port), "::1")
    assert seen["REMOTE_PORT"] == str(seen["client port"])


def test_multiprocess(server):
    assert environ(server("-w", "2", app=APP))["wsgi.multiprocess"] is True


# What a proxy may say, and who is one


HTTPS = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Ssl": "on",
}


@pytest.mark.parametrize(("name", "value"), [*HTTPS.items(), ("x-forwarded-proto", "https")])
def test_scheme_of_a_trusted_proxy(tcp, name, value):
    assert environ(tcp, headers=[(name, value)])["wsgi.url_scheme"] == "https"
    assert environ(tcp, headers=[(name, "other")])["wsgi.url_scheme"] == "http"


def test_scheme_said_twice_alike(tcp):
    assert environ(tcp, headers=list(HTTPS.items()))["wsgi.url_scheme"] == "https"


def test_contradicting_schemes(tcp):
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")]
    assert tcp.get("/environ", headers=headers).status == 400


def test_forwarded_for_is_not_the_peer(tcp):
    headers = [("X-Forwarded-For", "9.9.9.9"), ("Forwarded", "for=9.9.9.9;proto=https"), ("X-Real-IP", "9.9.9.9")]
    seen = environ(tcp, headers=headers)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("127.0.0.1", "http")


@pytest.mark.parametrize(
    ("allow", "trusted"),
    [
        ("127.0.0.1", True),
        ("*", True),
        ("10.0.0.0/8,127.0.0.0/8", True),
        ("10.0.0.1", False),
        ("10.0.0.0/8,::1", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("how", ["flag", "environment"])
def test_forwarded_allow_ips(server, allow, trusted, how):
    args = [f"--forwarded-allow-ips={allow}"] if how == "flag" else []
    env = {"FORWARDED_ALLOW_IPS": allow} if how == "environment" else {}
    running = server(*args, app=APP, env=env)
    seen = environ(running, headers=[("X-Forwarded-Proto", "https"), ("SCRIPT_NAME", "/environ")])
    assert (seen["wsgi.url_scheme"], seen["SCRIPT_NAME"]) == (("https", "/environ") if trusted else ("http", ""))
    assert ("HTTP_SCRIPT_NAME" in seen) == trusted
    # Contradiction is only theirs to make who are listened to.
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")]
    assert running.get("/environ", headers=headers).status == (400 if trusted else 200)


def test_secure_scheme_headers(server):
    running = server(app=APP, config='secure_scheme_headers = {"X-MINE": "yes"}')
    assert environ(running, headers=[("X-Mine", "yes")])["wsgi.url_scheme"] == "https"
    assert environ(running, headers=[("X-Mine", "no")])["wsgi.url_scheme"] == "http"
    assert environ(running, headers=[("X-Forwarded-Proto", "https")])["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("args", "allow", "status", "seen"),
    [
        # header_map, forwarder_headers; trusted or not; what becomes of REMOTE_USER, X_Other, SCRIPT_NAME
        ([], True, 200, {"HTTP_SCRIPT_NAME"}),
        ([], False, 200, set()),
        (["--forwarder-headers", "SCRIPT_NAME,REMOTE_USER"], True, 200, {"HTTP_SCRIPT_NAME", "HTTP_REMOTE_USER"}),
        (["--forwarder-headers", "SCRIPT_NAME,REMOTE_USER"], False, 200, set()),
        (["--forwarder-headers", "*"], True, 200, {"HTTP_SCRIPT_NAME", "HTTP_REMOTE_USER", "HTTP_X_OTHER"}),
        (["--forwarder-headers", "*"], False, 200, set()),
        (["--header-map", "refuse"], True, 400, None),
        (["--header-map", "refuse"], False, 400, None),
        (["--header-map", "refuse", "--forwarder-headers", "*"], True, 200,
         {"HTTP_SCRIPT_NAME", "HTTP_REMOTE_USER", "HTTP_X_OTHER"}),
        (["--header-map", "dangerous"], True, 200, {"HTTP_SCRIPT_NAME", "HTTP_REMOTE_USER", "HTTP_X_OTHER"}),
    ],
)  # fmt: skip
def test_underscores(server, args, allow, status, seen):
    running = server(*args, "--forwarded-allow-ips", "127.0.0.1" if allow else "10.0.0.1", app=APP)
    headers = [("SCRIPT_NAME", "/environ"), ("REMOTE_USER", "root"), ("X_Other", "1")]
    response = running.get("/environ", headers=headers)
    assert response.status == status
    if seen is not None:
        plain = json.loads(response.body)["plain"]
        assert {key for key in plain if key in ("HTTP_SCRIPT_NAME", "HTTP_REMOTE_USER", "HTTP_X_OTHER")} == seen
        assert "REMOTE_USER" not in plain


def test_underscore_and_dash_are_one_variable_only_when_dangerous(server):
    headers = [("X-Name", "good"), ("X_Name", "evil")]
    assert environ(server(app=APP), headers=headers)["HTTP_X_NAME"] == "good"
    assert environ(server("--header-map", "dangerous", app=APP), headers=headers)["HTTP_X_NAME"] == "good,evil"


@pytest.mark.parametrize(
    ("script_name", "path", "status", "path_info"),
    [
        ("/environ", "/environ", 200, ""),
        ("/environ", "/environ/x%20y", 200, "/x y"),
        ("/other", "/environ", 500, None),
        ("/environ/", "/environ", 500, None),
    ],
)
@pytest.mark.parametrize("source", ["header", "environment"])
def test_script_name(server, script_name, path, status, path_info, source):
    env = {"SCRIPT_NAME": script_name} if source == "environment" else {}
    headers = [("SCRIPT_NAME", script_name)] if source == "header" else []
    running = server(app=APP, env=env)
    response = running.get(path, headers=headers)
    assert response.status == status
    if status == 200:
        assert divided(response) == (script_name, path_info, path)


def divided(response):
    plain = json.loads(response.body)["plain"]
    return tuple(plain[key] for key in ("SCRIPT_NAME", "PATH_INFO", "RAW_URI"))


def test_script_name_of_the_header_wins(server):
    running = server(app=APP, env={"SCRIPT_NAME": "/a"})
    response = running.get("/a/b/c", headers=[("SCRIPT_NAME", "/a/b")])
    assert divided(response) == ("/a/b", "/c", "/a/b/c")
