"""Every atom of the access log, line by line as stock Gunicorn writes it for the same request."""

import base64
import re

import pytest

import harness.server
from harness import COMMAND, FERRICORN, request, wait_until
from harness.server import APPS

ATOMS = [
    "h", "l", "u", "r", "s", "m", "U", "q", "H", "b", "B", "f", "a",
    "{User-Agent}i", "{x-one}i", "{X-ONE}i", "{Host}i", "{authorization}i", "{Content-Length}i", "{missing}i",
    "{Content-Type}o", "{content-length}o", "{X-Out}o", "{x-out}o", "{Server}o", "{Date}o", "{Connection}o",
    "{Transfer-Encoding}o", "{set-cookie}o", "{missing}o",
]  # fmt: skip
VARIABLES = [
    "{REQUEST_METHOD}e", "{raw_uri}e", "{wsgi.url_scheme}e", "{HTTP_X_ONE}e", "{remote_addr}e", "{missing}e",
    "{wsgi.multiprocess}e", "{PATH_INFO}e", "{SCRIPT_NAME}e", "{server_protocol}e",
]  # fmt: skip
# Also what is no atom at all.
UNKNOWN = ["z", "hh", "x-one"]
BETWEEN = " <|> "
# How the line comes about: from a format without variables, or with them, or by a logger of the user's.
FORMATS = {
    "plain": [*ATOMS, *UNKNOWN],
    "variables": [*ATOMS, *VARIABLES],
    "logger": [*ATOMS, *VARIABLES, *UNKNOWN, "{x-one}z"],
}
LOGGER = """
from gunicorn.glogging import Logger

class Own(Logger):
    pass

logger_class = Own
"""


def basic(text):
    return [("Authorization", "Basic " + base64.b64encode(text).decode())]


def post(path, body, **options):
    return request(path, "POST", body=body, **options)


REQUESTS = {
    "plain": request("/"),
    "query": request("/a/b?c=d&e=%20"),
    "empty query": request("/a?"),
    "escapes in the path": request("/caf%C3%A9/%20%22%25s"),
    "quote in the target": request('/a"b?c"d'),
    "percent signs": request("/%25(h)s?%(h)s%d", headers=[("User-Agent", "%s %(h)s %%")]),
    "old": request("/", version="HTTP/1.0"),
    "head": request("/", "HEAD"),
    "options": request("*", "OPTIONS"),
    "post": post("/", b"12345678"),
    "referer and agent": request("/", headers=[("Referer", "http://r/?x"), ("User-Agent", "Mozilla/5.0 (X11)")]),
    "quotes": request("/", headers=[("User-Agent", 'a "quoted" agent'), ("Referer", '"'), ("X-One", 'say "1"')]),
    "backslash": request("/", headers=[("User-Agent", "a\\b\\"), ("X-One", "\\x41")]),
    "empty": request("/", headers=[("User-Agent", ""), ("Referer", ""), ("X-One", "")]),
    "latin-1": request("/", headers=[("User-Agent", "caf\xe9"), ("X-One", "\xff\xa0")]),
    "repeated": request("/", headers=[("X-One", "1"), ("x-one", "2"), ("X-One", "3")]),
    "user": request("/", headers=basic(b"ann:secret:more")),
    "user without password": request("/", headers=basic(b"ann")),
    "empty user": request("/", headers=basic(b":secret")),
    "user in UTF-8": request("/", headers=basic("j\xf6rg:x".encode())),
    "user not in UTF-8": request("/", headers=basic(b"j\xf6rg:x")),
    "user with quotes": request("/", headers=basic(b'a"b:x')),
    "user in lower case": request("/", headers=[("authorization", "basic " + base64.b64encode(b"ann:x").decode())]),
    "credentials without padding": request("/", headers=[("Authorization", "Basic YW5uOng9PQ")]),
    "bad credentials": request("/", headers=[("Authorization", "Basic !")]),
    "no credentials": request("/", headers=[("Authorization", "Basic")]),
    "bearer": request("/", headers=[("Authorization", "Bearer abc")]),
    "chunked": request("/answer?200+OK&3,4"),
    "length": request("/answer?200+OK&3,4&Content-Length=7"),
    "cut to the length": request("/answer?200+OK&3,4&Content-Length=5"),
    "not found": request("/answer?404+Not+Found&10&X-Out=yes"),
    "no reason": request("/answer?299&1"),
    "no content": request("/answer?204+No+Content&"),
    "not modified": request("/answer?304+Not+Modified&&ETag=x"),
    "response fields": request("/answer?200+OK&1&X-Out=a&x-out=b&Set-Cookie=c=1&Set-Cookie=d=2&Content-Type=a/b"),
    "quotes in a response field": request("/answer?200+OK&1&X-Out=%22q%22&Content-Type=a%22b"),
    "latin-1 in a response field": request("/answer?200+OK&1&X-Out=caf%E9"),
    "hop-by-hop response fields": request("/answer?200+OK&1&Connection=x&Server=mine&Date=now"),
    "padded response field": request("/answer?200+OK&1&X-Out=+x+"),
    "write": request("/write"),
    "file": request("/file"),
    "file to head": request("/file", "HEAD"),
    "failure": request("/fail?x=1", headers=[("User-Agent", "agent"), ("X-One", "1")]),
    "failure after bytes": request("/fail_late"),
    "script name": request("/a/b", headers=[("SCRIPT_NAME", "/a")]),
}  # fmt: skip
UNLIKE = {
    # After a 500 Gunicorn makes its line from an empty response and an environ without the request's headers.
    "failure": {
        "u", "b", "B", "f", "a", "U", "{Content-Type}o", "{content-length}o",
        "{HTTP_X_ONE}e", "{PATH_INFO}e", "{SCRIPT_NAME}e", "{wsgi.url_scheme}e",
    },
    # Gunicorn does not count what it sends by sendfile.
    "file": {"b", "B"},
}  # fmt: skip


class Side:
    """One of the two servers, and its access log."""

    def __init__(self, server):
        self.server = server
        self.path = server.folder / "access.log"
        self.seen = 0

    def lines(self):
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []

    def line(self, raw):
        """Sends the request and returns the one line that it makes, as atoms."""
        with self.server.connect() as connection:
            connection.send(raw.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            assert connection.at_end() or connection.closed
        wait_until(lambda: len(self.lines()) > self.seen, 5, "a line in the access log")
        new, self.seen = self.lines()[self.seen :], len(self.lines())
        assert len(new) == 1, new
        return new[0].split(BETWEEN)


@pytest.fixture(scope="module", params=FORMATS)
def sides(request, module_server):
    names = FORMATS[request.param]
    text = BETWEEN.join(f"%({name})s" for name in names)
    options = {"config": LOGGER} if request.param == "logger" else {}

    def start():
        args = ["--access-logfile", "access.log", "--access-logformat", text]
        return Side(module_server(*args, app="logs_app:app", **options))

    ours = start()
    if not FERRICORN:
        return names, ours, ours
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.server, "COMMAND", COMMAND.with_name("gunicorn"))
        return names, ours, start()


@pytest.mark.parametrize("name", REQUESTS)
def test_line(sides, name):
    names, ours, theirs = sides
    raw = REQUESTS[name]
    got = dict(zip(names, ours.line(raw), strict=True))
    right = dict(zip(names, theirs.line(raw), strict=True)) if FERRICORN else got
    wrong = {atom: (got[atom], right[atom]) for atom in names if got[atom] != right[atom]}
    wrong = {atom: both for atom, both in wrong.items() if atom not in UNLIKE.get(name, ())}
    assert not wrong, "atom: (this server, Gunicorn)"


def test_the_comparison_is_one(sides):
    """The atoms must be told apart, or equal lines would prove nothing."""
    names, ours, _ = sides
    raw = request("/a?b", headers=[("X-One", "1"), ("User-Agent", "agent"), ("Referer", "r"), *basic(b"ann:x")])
    got = dict(zip(names, ours.line(raw), strict=True))
    assert got["h"] == "127.0.0.1" and got["l"] == "-" and got["u"] == "ann"
    assert (got["r"], got["s"], got["m"], got["U"], got["q"]) == ("GET /a?b HTTP/1.1", "200", "GET", "/a", "b")
    assert (got["H"], got["b"], got["B"], got["f"], got["a"]) == ("HTTP/1.1", "5", "5", "r", "agent")
    assert (got["{x-one}i"], got["{X-ONE}i"], got["{missing}i"]) == ("1", "1", "-")
    assert (got["{Content-Type}o"], got["{content-length}o"]) == ("text/plain", "5")
    assert got.get("{wsgi.url_scheme}e", "http") == "http" and got.get("z", "-") == "-"


@pytest.mark.only_ferricorn("its lines about failures and files lack what it knew")
def test_where_gunicorn_knows_less(sides):
    names, ours, _ = sides
    got = dict(zip(names, ours.line(REQUESTS["failure"]), strict=True))
    assert (got["s"], got["a"], got["U"], got["q"], got["{x-one}i"]) == ("500", "agent", "/fail", "x=1", "1")
    assert int(got["b"]) > 0
    got = dict(zip(names, ours.line(REQUESTS["file"]), strict=True))
    assert got["b"] == got["B"] == str((APPS / "logs_app.py").stat().st_size)


# Time, durations, pid


TIMES = "%(t)s <|> %(T)s <|> %(M)s <|> %(D)s <|> %(L)s <|> %(p)s"
STAMP = re.compile(r"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]")


@pytest.mark.parametrize("extra", ["", " <|> %({wsgi.url_scheme}e)s"], ids=["plain", "variables"])
@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_durations(server, worker, extra):
    args = ["-k", worker, "--access-logfile", "access.log", "--access-logformat", TIMES + extra]
    running = server(*args, app="logs_app:app")
    side = Side(running)
    stamp, seconds, millis, micros, decimal, pid, *_ = side.line(request("/sleep?0.2"))
    assert STAMP.fullmatch(stamp)
    assert 200_000 <= int(micros) < 1_000_000
    assert (int(seconds), int(millis)) == (0, int(micros) // 1000)
    assert decimal == f"0.{int(micros):06d}"
    assert pid == f"<{running.workers()[0]}>"
    quick = side.line(request("/"))
    assert int(quick[3]) < 200_000


def test_a_second_and_more(server):
    running = server("--access-logfile", "access.log", "--access-logformat", TIMES, app="logs_app:app")
    _, seconds, millis, micros, decimal, _ = Side(running).line(request("/sleep?1.1"))
    assert seconds == "1" and int(millis) == int(micros) // 1000 >= 1100
    assert decimal == f"{int(micros) // 10**6}.{int(micros) % 10**6:06d}"


def test_a_unix_client_has_no_address(server):
    running = server("--access-logfile", "access.log", app="logs_app:app", bind="unix")
    side = Side(running)
    (line,) = side.line(request("/"))
    assert line.startswith(" - - [")


def test_default_format(server):
    running = server("--access-logfile", "access.log", app="logs_app:app")
    (line,) = Side(running).line(request("/x?y", headers=[("Referer", "http://r/"), ("User-Agent", "agent/1")]))
    right = r'127\.0\.0\.1 - - ' + STAMP.pattern + r' "GET /x\?y HTTP/1\.1" 200 5 "http://r/" "agent/1"'
    assert re.fullmatch(right, line)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("%(m)s %% %(s)s", "GET % 200"),
        ("%(m)6s|%(m)-6s|", "   GET|GET   |"),
        ("%(B)d", "5"),
        ("%(B)05d", "00005"),
        ("%(m).1s", "G"),
        ("no atom", "no atom"),
        ("caf\xe9 \u20ac %(m)s", "caf\xe9 \u20ac GET"),
        ("%(s)s\t%(m)s", "200\tGET"),
        ("{%(m)s} {m} $m %(l)s", "{GET} {m} $m -"),
    ],
)
def test_formats(server, text, right):
    running = server("--access-logfile", "access.log", "--access-logformat", text, app="logs_app:app")
    assert Side(running).line(request("/")) == [right]


@pytest.mark.parametrize("text", ["%(h", "%(h)", "%(h)d", "%q", "%"])
def test_a_broken_format_breaks_no_request(server, text):
    running = server("--access-logfile", "access.log", "--access-logformat", text, app="logs_app:app")
    for _ in range(3):
        assert running.get("/").body == b"hello"
