"""The objects in the environ: the file wrapper, the error stream, the socket."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import socket
import sys

import pytest

from ferricorn import wsgi
from ferricorn.glogging import Logger


@pytest.mark.parametrize(
    ("data", "size", "blocks"),
    [
        (b"", 4, []),
        (b"abcd", 4, [b"abcd"]),
        (b"abcdef", 4, [b"abcd", b"ef"]),
        (b"x" * 9000, 8192, [b"x" * 8192, b"x" * 808]),
    ],
)
def test_file_wrapper_yields_blocks(data, size, blocks):
    assert list(wsgi.FileWrapper(io.BytesIO(data), size)) == blocks
    wrapper = wsgi.FileWrapper(io.BytesIO(data), size)
    seen = []
    for i in range(len(blocks) + 1):
        try:
            seen.append(wrapper[i])
        except IndexError:
            break
    assert seen == blocks


def test_file_wrapper_closes_what_can_be_closed():
    file = io.BytesIO(b"x")
    wsgi.FileWrapper(file).close()
    assert file.closed
    assert wsgi.FileWrapper(file).blksize == 8192

    class NoClose:
        def read(self, size):
            return b""

    assert not hasattr(wsgi.FileWrapper(NoClose()), "close")


def test_errors_go_to_stderr(make_config, capsys):
    cfg = make_config()
    Logger(cfg)
    errors = wsgi.WSGIErrorsWrapper(cfg)
    assert errors.write("one\n") == 4
    errors.writelines(["two\n", "three\n"])
    print("four", file=errors)
    errors.flush()
    errors.close()
    errors.write("five\n")
    assert capsys.readouterr().err == "one\ntwo\nthree\nfour\nfive\n"


def test_errors_follow_a_reopened_file(make_config, tmp_path, capsys):
    path = tmp_path / "e.log"
    cfg = make_config(errorlog=str(path))
    log = Logger(cfg)
    errors = wsgi.WSGIErrorsWrapper(cfg)
    errors.write("one\n")
    path.rename(tmp_path / "e.log.1")
    log.reopen_files()
    errors.write("two\n")
    assert ((tmp_path / "e.log.1").read_text(), path.read_text()) == ("one\n", "two\n")
    assert capsys.readouterr().err == ""


def test_errors_never_fail(make_config, monkeypatch):
    errors = wsgi.WSGIErrorsWrapper(make_config())
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert errors.write("lost\n") == 5
    monkeypatch.setattr(sys, "stderr", None)
    assert errors.write("lost\n") == 5
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", ascii_only)
    errors.write("caf\u00e9\n")
    assert ascii_only.buffer.getvalue() == b"caf\\xe9\n"


def test_errors_work_as_a_handlers_stream(make_config, capsys):
    cfg = make_config()
    handler = logging.StreamHandler(wsgi.WSGIErrorsWrapper(cfg))
    handler.emit(logging.LogRecord("n", logging.INFO, "p", 1, "hello", None, None))
    assert capsys.readouterr().err == "hello\n"


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(5)
        yield ours, theirs


def is_nonblocking(sock):
    return bool(fcntl.fcntl(sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK)


def test_socket_is_duplicated_on_first_use(pair):
    ours, theirs = pair
    before = set(os.listdir("/proc/self/fd"))
    alias = wsgi.SocketAlias(ours.fileno())
    assert set(os.listdir("/proc/self/fd")) == before
    alias.sendall(b"hi")
    assert theirs.recv(10) == b"hi"
    assert alias.fileno() != ours.fileno()
    assert alias.family == socket.AF_UNIX
    alias.close()
    # The server's own descriptor is untouched.
    ours.send(b"still")
    assert theirs.recv(10) == b"still"


@pytest.mark.parametrize(
    "mode", [lambda s: None, lambda s: s.setblocking(True), lambda s: s.settimeout(None), lambda s: s.settimeout(3)]
)
def test_socket_blocks_without_disturbing_the_server(pair, mode):
    ours, theirs = pair
    alias = wsgi.SocketAlias(ours.fileno())
    mode(alias)
    theirs.send(b"x")
    assert alias.recv(1) == b"x"
    assert alias.gettimeout() > 0
    assert is_nonblocking(ours)
    alias.close()


def test_socket_can_be_nonblocking(pair):
    alias = wsgi.SocketAlias(pair[0].fileno())
    alias.setblocking(False)
    with pytest.raises(BlockingIOError):
        alias.recv(1)
    alias.close()


def test_socket_ends_with_the_request(pair):
    used, unused = wsgi.SocketAlias(pair[0].fileno()), wsgi.SocketAlias(pair[0].fileno())
    assert used.fileno() > 0
    used.expire()
    unused.expire()
    # Whoever took the connection over keeps it; who did not, gets none.
    used.sendall(b"x")
    with pytest.raises(OSError, match="the request of this socket is over"):
        unused.sendall(b"x")
    used.close()
