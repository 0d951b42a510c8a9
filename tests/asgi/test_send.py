"""Responses as they come over the wire: framing, statuses, fields; what well-behaved applications rely on."""

import datetime
import email.utils
from urllib.parse import quote_from_bytes

import pytest

from harness import ASGI, FERRICORN, Connection, request

APP = "asgi_answers:app"
OLD = "HTTP/1.0"
ours = pytest.mark.only_ferricorn


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app=APP)


def raw(server, path, method="GET", version="HTTP/1.1"):
    """All bytes of a response whose connection is then closed."""
    with Connection(server.address) as client:
        client.send(request(path, method, version=version, close=True))
        assert client.at_end() or client.closed
        return client.data


@pytest.mark.parametrize(
    ("path", "body"),
    [("/single", b"single"), ("/pieces?3", b"piece 0;piece 1;piece 2;"), ("/pieces?0", b""), ("/sleepy", b"one two")],
)
def test_without_a_length(running, path, body):
    """Chunked from the start, but a server that knows the whole of it may say the length."""
    response = running.get(path)
    assert (response.status, response.body) == (200, body)
    assert response.framing in (("chunked", "length") if FERRICORN else ("chunked",))
    with running.connect() as client:
        assert client.request(path).body == client.request(path).body == body


def test_pieces_are_chunked(running):
    response = running.get("/pieces?3")
    assert (response.framing, response.header("Transfer-Encoding")) == ("chunked", "chunked")


@ours("sends chunks to a client that does not know them")
@pytest.mark.parametrize(("path", "body"), [("/single", b"single"), ("/pieces?3", b"piece 0;piece 1;piece 2;")])
def test_without_a_length_to_an_old_client(running, path, body):
    with running.connect() as client:
        response = client.request(path, version=OLD)
        assert response.framing in ("close", "length") and response.body == body
        assert client.at_end()


@pytest.mark.parametrize("version", [OLD, "HTTP/1.1"])
@pytest.mark.parametrize(
    ("query", "size"), [("6:6", 6), ("6:3,3", 6), ("6:1,2,3", 6), ("0:", 0), ("0:0", 0), ("6:0,6,0", 6)]
)
def test_content_length(running, query, size, version):
    with running.connect() as client:
        response = client.request(f"/length?{query}", version=version)
        assert (response.status, response.body, response.framing) == (200, b"x" * size, "length")
        assert response.header("Content-Length") == str(size)


@pytest.mark.parametrize("path", ["/single", "/pieces?3", "/length?6:6", "/status?200", "/large?100000", "/defaults"])
def test_head_has_the_fields_and_no_body(running, path):
    head, _, body = raw(running, path, "HEAD").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK") and body == b""
    if "length" in path:
        assert b"content-length: 6" in head.lower()
    with running.connect() as client:
        assert client.request(path, "HEAD").body == b""
        assert client.request("/pid").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/status_without_length?204",
        "/status_without_length?304",
        pytest.param("/status?204", marks=ours("sends the application's body")),
        pytest.param("/status?304", marks=ours("sends the application's body")),
    ],
)
def test_statuses_without_a_body(running, path):
    data = raw(running, path)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + path[-3:].encode()) and b"chunked" not in head.lower()
    if FERRICORN:
        assert body == b""


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, "OK"),
        (404, "Not Found"),
        (418, "I'm a Teapot"),
        (422, None),
        (500, "Internal Server Error"),
        (299, ""),
        (599, ""),
    ],
)
def test_status_line(running, status, reason):
    """422 has changed its name."""
    response = running.get(f"/status?{status}")
    assert (response.status, response.body) == (status, b"body")
    if reason is not None:
        assert response.reason.lower() == reason.lower()


def test_status_is_any_int(running):
    assert running.get("/status_enum").status == 201


@pytest.mark.parametrize("kind", ["tuples", "lists", "tuple", "upper", "generator", "items"])
def test_headers_as(running, kind):
    response = running.get(f"/headers?{kind}")
    assert (response.status, response.header("X-One"), response.header("X-Two")) == (200, "1", "2")


@pytest.mark.parametrize("kind", ["bytearray", "memoryview", "bytes_subclass"])
def test_body_as(running, kind):
    """More than the specification asks for; Uvicorn takes them, and applications use it."""
    assert running.get(f"/body_as?{kind}").body == b"body"


@pytest.mark.parametrize(("path", "body"), [("/defaults", b""), ("/truth", b"one two")])
def test_optional_keys(running, path, body):
    assert (running.get(path).status, running.get(path).body) == (200, body)


def test_messages_changed_after_they_were_sent(running):
    response = running.get("/same_message")
    assert (response.body, response.header("X-Late")) == (b"onetwo", None)


@pytest.mark.parametrize("value", ["a b", "caf\xe9", "\u4f61", "", '"q";,=:', "a\tb", "x" * 2000])
def test_header_values(running, value):
    sent = value.encode("utf-8")
    response = running.get(f"/header?x-value={quote_from_bytes(sent)}")
    assert response.header("X-Value") == sent.decode("latin-1")


def test_same_field_several_times(running):
    response = running.get("/header?x-last=first")
    assert [value for name, value in response.headers if name.lower() == "x-last"] == ["first", "yes"]


def test_date_and_server(running):
    response = running.get("/single")
    date = email.utils.parsedate_to_datetime(response.header("Date"))
    assert abs((datetime.datetime.now(datetime.timezone.utc) - date).total_seconds()) < 5
    assert response.header("Server").startswith("ferricorn" if FERRICORN else "uvicorn")


@pytest.mark.parametrize("name", ["date", "server"])
@ours("sends two")
def test_date_and_server_are_sent_once(running, name):
    """Frameworks set them at times."""
    response = running.get(f"/header?{name}=mine")
    assert response.status == 200 and len([key for key, _ in response.headers if key.lower() == name]) == 1


@pytest.mark.parametrize("value", ["close", "Close", "x-mine,%20close"])
def test_application_closes(running, value):
    with running.connect() as client:
        response = client.request(f"/header?connection={value}")
        assert response.body == b"body" and "close" in response.header("Connection").lower()
        assert client.at_end()


def test_application_cannot_break_the_framing(running):
    """Fields that belong to the connection: the client reads one whole response, and the next one."""
    for field in ("transfer-encoding=chunked", "keep-alive=timeout%3D5", "connection=keep-alive", "upgrade=h2c"):
        if not FERRICORN and "transfer" in field:
            continue
        with running.connect() as client:
            assert client.request(f"/header?{field}").body == b"body", field
            assert client.request("/pid").status == 200


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1 << 20, 10 << 20])
def test_large_messages(running, size):
    response = running.get(f"/large?{size}", timeout=20)
    assert len(response.body) == size and response.body.strip(b"x") == b""


def test_many_pieces(running):
    assert running.get("/pieces?20000", timeout=20).body == b"".join(b"piece %d;" % number for number in range(20_000))


@pytest.mark.parametrize("path", ["steps", "head_only"])
def test_each_piece_goes_out_when_it_is_sent(running, tmp_path, path):
    """Not even the head waits for what comes later."""
    flag = tmp_path / "seen"
    with running.connect() as client:
        client.send(request(f"/{path}?{flag}"))
        while (b"first" if path == "steps" else b"\r\n\r\n") not in client.data:
            client._receive()
        flag.touch()
        assert client.response().body in (b"firstsecond", b"second")
