"""Python objects that stand in the WSGI environ: the file wrapper, the error stream, the socket.

Request bodies and ``start_response`` are Rust's.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Any

# Long enough to mean "no limit", and short enough for poll(), which counts milliseconds in 31 bits.
_UNLIMITED_S = 86_400.0


def plain_file(filelike: Any) -> tuple[int, int] | None:
    """Returns descriptor and position of a file that can be sent as it is; None if reading it means more than that.

    An archive's member or a compressed file has a descriptor too, but other bytes behind it.
    """
    if type(filelike).__module__ == "tempfile":
        filelike = getattr(filelike, "file", None)
    raw = filelike.raw if type(filelike) in (io.BufferedReader, io.BufferedRandom) else filelike
    if type(raw) is not io.FileIO:
        return None
    try:
        return raw.fileno(), filelike.tell()
    except (OSError, ValueError):
        return None


def log_failure(log: Any, error: BaseException | None, method: str, target: str, detail: str) -> None:
    """Logs a request that the application has failed, as a logger of the user's expects it: inside the handling."""
    if error is None:
        log.error("Error handling request %s %s: %s", method, target, detail)
        return
    try:
        raise error
    except BaseException:
        log.exception("Error handling request %s %s", method, target)


class FileWrapper:
    """An iterable over a file, in blocks (PEP 3333, "Optional Platform-Specific File Handling").

    The server recognizes it and sends a real file without going through Python.
    """

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            # An instance attribute, because PEP 3333 wants a close method only if the file has one.
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.blksize)
        if not data:
            raise StopIteration
        return data

    def __getitem__(self, _index: int) -> bytes:
        # The iteration protocol of old middleware; the index is not looked at, as in wsgiref.
        data: bytes = self.filelike.read(self.blksize)
        if not data:
            raise IndexError
        return data


class WSGIErrorsWrapper(io.TextIOBase):
    """``wsgi.errors``: writes go where the error log goes, as they are.

    Streams are looked up at each write, since a reopened log has a new one. A closed stream loses the text and breaks
    nothing: an application must not fail because its complaint could not be heard.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self._to_stderr = cfg.errorlog == "-"

    def write(self, data: str) -> int:
        """Writes and flushes."""
        for stream in self._streams():
            with contextlib.suppress(OSError, ValueError):
                try:
                    stream.write(data)
                except UnicodeError:
                    encoding = getattr(stream, "encoding", None) or "ascii"
                    stream.write(data.encode(encoding, "backslashreplace").decode(encoding))
                stream.flush()
        return len(data)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        """Writes each of ``lines``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Does nothing: every write is flushed."""

    def close(self) -> None:
        """Does nothing: the stream outlives the request."""

    def writable(self) -> bool:
        """Returns True."""
        return True

    def _streams(self) -> list[Any]:
        handlers = logging.getLogger("gunicorn.error").handlers
        streams = [stream for handler in handlers if (stream := getattr(handler, "stream", None)) is not None]
        if self._to_stderr:
            # The handler's stream is the stderr of its creation; a test or an application may have replaced it since.
            streams = [sys.stderr, *streams[1:]]
        return [stream for stream in streams if stream is not None]


class SocketAlias:
    """``gunicorn.socket``: the client's connection for those who take it over, a duplicate made on first use.

    The duplicate shares its O_NONBLOCK flag with the server's descriptor, and the event loop depends on it. Blocking
    mode is therefore a very long timeout, which Python keeps by polling without touching the flag.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._socket: socket.socket | None = None

    def expire(self) -> None:
        """Ends the alias with the request: from here on its number may belong to another connection."""
        self._fd = -1

    def setblocking(self, flag: bool) -> None:
        """Sets blocking mode."""
        self.settimeout(None if flag else 0.0)

    def settimeout(self, value: float | None) -> None:
        """Sets the timeout of operations; None waits as long as it takes."""
        self._real().settimeout(_UNLIMITED_S if value is None else value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def _real(self) -> socket.socket:
        if self._socket is None:
            if self._fd < 0:
                raise OSError(errno.EBADF, "the request of this socket is over")
            duplicate = socket.socket(fileno=os.dup(self._fd))
            duplicate.settimeout(_UNLIMITED_S)
            self._socket = duplicate
        return self._socket

    def __repr__(self) -> str:
        return f"<SocketAlias of {self._socket or self._fd}>"
