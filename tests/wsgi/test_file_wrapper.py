"""``wsgi.file_wrapper``: the same bytes whatever the file is, with sendfile and without."""

import time

import pytest

from harness import wait_until

PIECE = bytes(number * 7 % 251 for number in range(1000))
SIZE = 30_000
ALL = PIECE * 30
weak = pytest.mark.only_ferricorn
KINDS = [
    "real",
    "raw",
    "bytesio",
    "no_descriptor",
    "temporary",
    "named_temporary",
    "spooled",
    "pipe",
    "socket",
    pytest.param("gzip", marks=weak("sends the compressed bytes of the descriptor")),
]
SEEKABLE = ["real", "raw", "bytesio", "temporary", "spooled", KINDS[-1]]
WORKERS = {
    "sync": ["-k", "sync"],
    "gthread": ["-k", "gthread", "--threads", "4"],
    "no-sendfile": ["-k", "gthread", "--threads", "4", "--no-sendfile"],
}


@pytest.fixture(scope="module", params=WORKERS)
def running(request, module_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return module_server(*WORKERS[request.param], app="wsgi_files:app", env={"FILES": str(folder)})


def get(server, method="GET", version="HTTP/1.1", **query):
    """One request on a connection that must end right after its response."""
    path = "/?" + "&".join(f"{key}={value}" for key, value in query.items())
    with server.connect() as connection:
        response = connection.request(path, method, version=version, close=True)
        assert connection.at_end(), f"bytes after the response: {connection.data[:100]!r}"
        return response


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("length", [None, SIZE])
@pytest.mark.parametrize("kind", KINDS)
def test_whole(running, kind, length, method, version):
    query = {} if length is None else {"length": length}
    response = get(running, method, version, kind=kind, **query)
    assert response.status == 200
    assert response.body == (b"" if method == "HEAD" else ALL)
    assert response.header("Content-Length") in ((str(SIZE),) if length else (None, str(SIZE)))


@pytest.mark.parametrize("length", [None, SIZE - 12_345, 100])
@pytest.mark.parametrize("kind", SEEKABLE)
def test_from_an_offset(running, kind, length):
    query = {} if length is None else {"length": length}
    response = get(running, kind=kind, offset=12_345, **query)
    assert response.body == ALL[12_345:][:length]


@pytest.mark.parametrize(
    "kind", [pytest.param("real", marks=weak("starts where the buffer's reading ahead has come to")), "raw", "bytesio"]
)
def test_after_reading_some(running, kind):
    assert get(running, kind=kind, read=10).body == ALL[10:]


@pytest.mark.parametrize("length", [0, 1, 999, SIZE - 1])
@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_content_length(running, kind, length):
    response = get(running, kind=kind, length=length)
    assert (response.status, response.body) == (200, ALL[:length])


@weak("its gthread worker leaves the client waiting")
@pytest.mark.parametrize("kind", ["real", "bytesio", "pipe"])
def test_less_than_content_length_closes(running, kind):
    with running.connect(timeout=1.0) as connection:
        with pytest.raises(EOFError):
            connection.request(f"/?kind={kind}&length={SIZE + 1}")
        assert connection.data.endswith(ALL)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("real", marks=weak("ends a chunked body twice")),
        pytest.param("raw", marks=weak("ends a chunked body twice")),
        "bytesio",
    ],
)
@pytest.mark.parametrize("query", [{"size": 0}, {"offset": SIZE}, {"offset": SIZE + 5}])
def test_nothing_left(running, kind, query):
    response = get(running, kind=kind, **query)
    assert (response.status, response.body) == (200, b"")


@pytest.mark.parametrize("kind", ["real", "bytesio"])
@pytest.mark.parametrize("status", ["204+No+Content", "304+Not+Modified"])
def test_status_without_body(running, kind, status):
    response = get(running, kind=kind, status=status)
    assert (response.status, response.body) == (int(status[:3]), b"")


@pytest.mark.parametrize("kind", ["real", "bytesio", "pipe"])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_after_write(running, kind, version):
    assert get(running, version=version, kind=kind, write="before").body == b"before" + ALL


@pytest.mark.parametrize("kind", ["real", "bytesio", "no_descriptor"])
@pytest.mark.parametrize("block", [1, 1000, 100_000])
def test_block_size(running, kind, block):
    size = 1000 if block == 1 else SIZE
    assert get(running, kind=kind, block=block, size=size).body == ALL[:size]


@pytest.mark.parametrize("kind", KINDS)
def test_through_middleware(running, kind):
    """Middleware that iterates over the wrapper gets its bytes."""
    assert get(running, kind=kind, middleware=1).body == ALL


@weak("looks only whether there is a descriptor")
def test_an_object_that_reads_other_bytes_than_its_descriptor(running):
    assert get(running, kind="swapcase").body == ALL.swapcase()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["real", "bytesio", "pipe"])
def test_closed_once(running, kind, method):
    before = int(running.get("/closed").body)
    get(running, method, kind=kind)
    wait_until(lambda: int(running.get("/closed").body) == before + 1, 3, "close()")


@pytest.mark.parametrize("kind", ["real", "bytesio"])
@pytest.mark.parametrize("length", ["", "&length=5000000"])
def test_a_large_file_to_a_slow_reader(running, kind, length):
    with running.connect() as connection:
        connection.send(f"GET /?kind={kind}&size=5000000{length} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        for _ in range(5):
            connection._receive()
            time.sleep(0.05)
        assert connection.response().body == PIECE * 5000


def test_closed_when_the_client_leaves(running):
    before = int(running.get("/closed").body)
    with running.connect() as connection:
        connection.send(b"GET /?kind=real&size=20000000 HTTP/1.1\r\nHost: test\r\n\r\n")
        connection._receive()
    wait_until(lambda: int(running.get("/closed").body) == before + 1, 5, "close()")
    assert get(running, kind="real").body == ALL


def test_connection_is_kept_after_a_file(running):
    """Where the worker keeps connections at all, a file does not change that."""
    with running.connect() as connection:
        first = connection.request(f"/?kind=real&length={SIZE}")
        assert first.body == ALL
        if first.header("Connection") == "close":
            assert connection.at_end()
        else:
            assert connection.request("/?kind=real").body == ALL
            assert connection.request(f"/?kind=bytesio&length={SIZE}", close=True).body == ALL
