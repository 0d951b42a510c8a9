"""``wsgi.file_wrapper`` over every kind of file. The query says which: ``kind=real&offset=10&length=5&…``."""

import gzip
import io
import os
import pathlib
import socket
import tempfile
from urllib.parse import parse_qs

FOLDER = pathlib.Path(os.environ["FILES"])
CLOSED = []


def content(size):
    return bytes(number * 7 % 251 for number in range(1000)) * (size // 1000) + b"z" * (size % 1000)


class NoDescriptor:
    """A file-like object that has read() and nothing else."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def read(self, size=-1):
        return self._data.read(size)


class Upper:
    """Has a descriptor, but gives other bytes than those behind it."""

    def __init__(self, file):
        self._file = file
        self.fileno = file.fileno
        self.tell = file.tell

    def read(self, size=-1):
        return self._file.read(size).swapcase()


def real(data, **options):
    place = FOLDER / f"file{len(data)}"
    if not place.exists():
        # Another thread may do the same: what is renamed is whole.
        draft = FOLDER / f"draft{len(data)}.{os.getpid()}"
        draft.write_bytes(data)
        draft.rename(place)
    return place.open("rb", **options)


def temporary(data, kind=tempfile.TemporaryFile, **options):
    file = kind(**options)
    file.write(data)
    file.seek(0)
    return file


def piped(data):
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as out:
        out.write(data[:50_000])
    return os.fdopen(reader, "rb")


def socketed(data):
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(data[:50_000])
    with ours:
        return ours.makefile("rb")


def zipped(data):
    place = FOLDER / f"zipped{len(data)}.gz"
    if not place.exists():
        place.write_bytes(gzip.compress(data, 1))
    return gzip.open(place)


KINDS = {
    "real": real,
    "raw": lambda data: real(data, buffering=0),
    "bytesio": io.BytesIO,
    "no_descriptor": NoDescriptor,
    "temporary": temporary,
    "named_temporary": lambda data: temporary(data, tempfile.NamedTemporaryFile),
    "spooled": lambda data: temporary(data, tempfile.SpooledTemporaryFile, max_size=1 << 30),
    "pipe": piped,
    "socket": socketed,
    "gzip": zipped,
    "swapcase": lambda data: Upper(real(data)),
}


def noting(file):
    """Tells in CLOSED that the file was closed."""
    if hasattr(file, "close"):
        close = file.close

        def closing():
            CLOSED.append(1)
            close()

        return closing
    return None


def app(environ, start_response):
    if environ["PATH_INFO"] == "/closed":
        start_response("200 OK", [])
        return [b"%d" % len(CLOSED)]
    wanted = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    data = content(int(wanted.get("size", 30_000)))
    file = KINDS[wanted["kind"]](data)
    if "offset" in wanted:
        file.seek(int(wanted["offset"]))
    if "read" in wanted:
        file.read(int(wanted["read"]))
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in wanted:
        headers.append(("Content-Length", wanted["length"]))
    write = start_response(wanted.get("status", "200 OK"), headers)
    if "write" in wanted:
        write(wanted["write"].encode())
    wrapper = environ["wsgi.file_wrapper"]
    wrapped = wrapper(file, int(wanted["block"])) if "block" in wanted else wrapper(file)
    if closing := noting(file):
        wrapped.close = closing
    if "middleware" in wanted:
        return (piece for piece in wrapped)
    return wrapped
