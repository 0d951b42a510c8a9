"""start_response, write(), iterables and their close(), Early Hints: what well-behaved applications rely on."""

import pytest

from harness import Connection, wait_until

OLD = "HTTP/1.0"
weak = pytest.mark.only_ferricorn


@pytest.fixture(scope="module", params=["sync", "gthread"])
def running(request, module_server):
    threads = ["--threads", "4"] if request.param == "gthread" else []
    return module_server("-k", request.param, *threads, app="wsgi_answers:app")


def counts(server):
    return [int(number) for number in server.get("/counts").body.split()]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("replaced", marks=weak("sends the fields of both heads, and cuts the body to the first's length")),
        pytest.param("replaced_by_keyword", marks=weak("sends the fields of both heads")),
        pytest.param("replaced_in_iterator", marks=weak("sends the head before it looks at the piece")),
        "exc_info_first",
    ],
)
def test_exc_info_replaces_the_head(running, name):
    response = running.get(f"/{name}")
    assert (response.status, response.reason, response.body) == (503, "Later", b"sorry")
    names = {key.lower() for key, _ in response.headers}
    assert "x-second" in names and not names & {"x-first", "set-cookie", "content-type"}


@pytest.mark.parametrize(("name", "status"), [("exc_info_none", 200), ("second_after_refused", 400)])
def test_start_response(running, name, status):
    response = running.get(f"/{name}")
    assert (response.status, response.body) == (status, b"body")


@pytest.mark.parametrize("kind", ["list", "tuple", "items", "generator", "list_of_lists", "subclass"])
def test_headers_as(running, kind):
    """Gunicorn takes any iterable of pairs; applications that never ran under wsgiref.validate count on it."""
    response = running.get(f"/headers_{kind}")
    assert (response.status, response.header("X-One"), response.header("X-Two")) == (200, "1", "2")


def test_headers_changed_after_start_response(running):
    response = running.get("/headers_changed_later")
    assert (response.header("X-One"), response.header("X-Two")) == ("1", None)


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("200+OK", 200, "OK"),
        ("404+Gone+fishing", 404, "Gone fishing"),
        ("299+", 299, ""),
        ("299", 299, ""),
        ("599+Odd", 599, "Odd"),
    ],
)
def test_status_line(running, line, status, reason):
    response = running.get(f"/status?{line}")
    assert (response.status, response.reason, response.body) == (status, reason, b"body")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Connection", "x-made-up"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Authorization", "Basic+eA"),
        ("TE", "trailers"),
        ("te", "trailers"),
        ("Trailers", "x"),
        ("Transfer-Encoding", "identity"),
        ("transfer-encoding", "gzip"),
        ("Upgrade", "h2c"),
        ("Server", "mine"),
        ("DATE", "yesterday"),
    ],
)
def test_hop_by_hop_fields_are_the_servers(running, name, value):
    response = running.get(f"/header?{name}={value}")
    assert (response.status, response.body, response.header("X-Last")) == (200, b"body", "yes")
    same = [seen for key, seen in response.headers if key.lower() == name.lower()]
    assert value.replace("+", " ") not in same and len(same) <= 1


@pytest.mark.parametrize(("sent", "seen"), [("a+b", "a b"), ("++padded++", "padded"), ("", ""), ('"q";,=', '"q";,=')])
def test_header_values(running, sent, seen):
    assert running.get(f"/header?X-Value={sent}").header("X-Value") == seen


@pytest.mark.parametrize("version", [OLD, "HTTP/1.1"])
@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("6:6", b"x" * 6),
        ("6:3,3", b"x" * 6),
        ("6:3,9", b"x" * 6),
        ("6:9", b"x" * 6),
        ("0:9", b""),
        ("0:", b""),
    ],
)
def test_no_more_than_content_length(running, query, body, version):
    with running.connect() as connection:
        response = connection.request(f"/length?{query}", version=version, close=True)
        assert (response.status, response.body) == (200, body)
        assert connection.at_end(), "bytes after the end of the response"
    assert response.header("Content-Length") == str(len(body))


@weak("its gthread worker leaves the client waiting")
@pytest.mark.parametrize("query", ["9:3", "9:3,3", "9:"])
def test_less_than_content_length_closes(running, query):
    """The client must learn that something is missing, at once, and not from the next response."""
    with running.connect(timeout=1.0) as connection, pytest.raises(EOFError):
        connection.request(f"/length?{query}")
    assert running.get("/pid").status == 200


@pytest.mark.parametrize("version", [OLD, "HTTP/1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("write_only", b"one two"),
        ("write_then_pieces", b"one two three"),
        ("write_in_iterator", b"one two three"),
        ("write_with_length", b"one two"),
        ("write_by_keyword", b"body"),
        ("write_much", b"x" * 4_000_000),
    ],
)
def test_write(running, name, body, method, version):
    response = running.get(f"/{name}", method, version=version)
    assert (response.status, response.body) == (200, b"" if method == "HEAD" else body)


@weak("its gthread worker writes into the kept connection")
def test_write_of_a_request_that_is_over(running):
    with running.connect() as first:
        assert first.request("/write_kept").body == b"kept"
        assert running.get("/write_used_later").body == b"an error"
        first.at_end(0.2)
        assert first.data == b""


@pytest.mark.parametrize("version", [OLD, "HTTP/1.1"])
@pytest.mark.parametrize(
    "name",
    [
        "list",
        "tuple",
        "generator",
        "iterator",
        "set",
        "dict_of_bytes",
        "map",
        "old_protocol",
        "sized",
        "empty_pieces",
        "bytes_subclass",
        "list_subclass",
        "callable_sentinel",
    ],
)
def test_iterables(running, name, version):
    response = running.get(f"/iterable_{name}", version=version)
    assert (response.status, response.body) == (200, b"one two")


@pytest.mark.parametrize("name", ["steps", "written_steps"])
def test_a_piece_is_sent_before_the_next_is_made(running, name, tmp_path):
    flag = tmp_path / "flag"
    with Connection(running.address) as connection:
        connection.send(f"GET /{name}?{flag} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        wait_until(lambda: b"first" in connection.data or connection._receive(), what="the first piece")
        assert b"second" not in connection.data
        flag.touch()
        assert connection.response().body == b"firstsecond"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ["counted", "counted_204", "counted_304", "counted_none"])
def test_closed_when_done(running, name, method):
    before, _ = counts(running)
    response = running.get(f"/{name}", method)
    assert response.body == (b"piece" * 3 if (name, method) == ("counted", "GET") else b"")
    wait_until(lambda: counts(running)[0] == before + 1, 3, "close()")


def test_a_list_with_close_is_closed(running):
    _, before = counts(running)
    running.get("/iterable_list_subclass")
    wait_until(lambda: counts(running)[1] == before + 1, 3, "close()")


def test_closed_when_the_client_leaves(running):
    before, _ = counts(running)
    with running.connect() as connection:
        connection.send(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n")
        wait_until(lambda: len(connection.data) > 50_000 or connection._receive(), what="some of the stream")
    wait_until(lambda: counts(running)[0] == before + 1, what="close()")


def test_early_hints(running):
    with running.connect() as connection:
        response = connection.request("/hints", close=True)
        assert connection.at_end()
    assert response.body == b"one two"
    assert [(hint.status, hint.reason, hint.headers) for hint in response.interim] == [
        (103, "Early Hints", [("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")]),
        (103, "Early Hints", [("Link", "</c.png>; rel=preload")]),
        (103, "Early Hints", [("X-Before-The-Head", "yes")]),
    ]


def test_no_early_hints_for_old_clients(running):
    response = running.get("/hints", version=OLD)
    assert (response.status, response.interim, response.body) == (200, [], b"one two")


@pytest.mark.parametrize("field", ["=empty", "Li%20nk=space", "Link=aCRLFX-Injected:yes", "Link:=colon"])
def test_bad_early_hints_are_an_error(running, field):
    with running.connect() as connection:
        response = connection.request(f"/bad_hint?{field}")
    assert (response.status, response.interim) == (500, [])
    assert not any(name == "X-Injected" for name, _ in response.headers)
