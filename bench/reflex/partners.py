"""The partners that the shop asks: small HTTP servers on loopback, well or out of order, and a name server.

They answer as real ones do when they are well. Not here: when they fall ill (`faults`)."""

import contextlib
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
from pathlib import Path

from harness.process import MeasurementError

WELL, SILENT, STALLED, BUSY, FULL = "well", "silent", "stalled", "busy", "full"
_FILLERS = 4


class Partner:
    """One partner. `mode` says how it is; `seconds` how long it takes for an answer."""

    def __init__(self, certificate=None):
        self.mode = WELL
        self.seconds = 0.01
        # Only requests of paths that begin so are hit by its mode.
        self.only = ""
        self.asked = 0
        self._context = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._fillers = []

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._socket.getsockname()[1]
        self._closing = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def url(self, host="127.0.0.1"):
        return f"{'https' if self._context else 'http'}://{host}:{self.port}"

    def fill(self):
        """Takes no connections any more, and lets its queue run full: the next to connect gets no answer at all."""
        self.mode = FULL
        time.sleep(0.3)
        # For a queue that exists already, too.
        self._socket.listen(0)
        for _ in range(_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", self.port))
            self._fillers.append(filler)

    def heal(self):
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        if self.mode == FULL:
            self._socket.listen(128)
        self.mode = WELL

    def _accept(self):
        while not self._closing:
            if self.mode == FULL:
                time.sleep(0.05)
                continue
            try:
                if not select.select([self._socket], [], [], 0.1)[0]:
                    continue
                connection, _ = self._socket.accept()
            except (OSError, ValueError):
                # Closed meanwhile.
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError, ValueError), connection:
            connection.settimeout(60)
            if self._context:
                if self.mode == STALLED:
                    self._until_well()
                connection = self._context.wrap_socket(connection, server_side=True)
            while self._answer(connection):
                pass

    def _answer(self, connection):
        """One request; whether another may follow."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                return False
            head += piece
        self.asked += 1
        hit = head.split(b" ", 2)[1].startswith(self.only.encode())
        if self.mode == BUSY and hit:
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return True
        time.sleep(self.seconds)
        if self.mode != WELL and hit:
            self._until_well()
        body = b'{"answer": "yes", "amount": "12.50"}'
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        # A connection for each request, as behind many load balancers: so a new one is needed when it falls ill.
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
        return False

    def _until_well(self):
        while self.mode != WELL and not self._closing:
            time.sleep(0.1)

    def __exit__(self, *_):
        self._closing = True
        self._thread.join(2)
        for filler in self._fillers:
            filler.close()
        self._socket.close()


class NameServer:
    """Knows that every name is this host; answers A, and AAAA with nothing. Silent when told so."""

    def __init__(self, address):
        self.address = address
        self.silent = False
        self.asked = 0

    def __enter__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((self.address, 53))
        except OSError as error:
            self._socket.close()
            raise MeasurementError(f"no name server at {self.address}:53: {error.strerror}") from error
        self._socket.settimeout(0.2)
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def _serve(self):
        while not self._closing:
            try:
                query, client = self._socket.recvfrom(2048)
            except TimeoutError:
                continue
            except OSError:
                return
            self.asked += 1
            if not self.silent and len(query) > 16:
                self._socket.sendto(_answer_of_names(query), client)

    def __exit__(self, *_):
        self._closing = True
        self._thread.join(2)
        self._socket.close()


def _answer_of_names(query):
    """RFC 1035, section 4: the question again, and an address if one was asked for."""
    end = query.index(b"\0", 12) + 5
    kind = struct.unpack(">H", query[end - 4:end - 2])[0]
    answers = 1 if kind == 1 else 0
    head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, answers, 0, 0)
    address = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + bytes((127, 0, 0, 1))
    return head + query[12:end] + address * answers


def certificate(folder):
    """A key and a certificate of this host's, in one file that also serves as authority."""
    path, key = Path(folder, "host.pem"), Path(folder, "host.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
               "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    done = subprocess.run([*command, "-keyout", key, "-out", path], capture_output=True, text=True)
    if done.returncode != 0:
        raise MeasurementError(f"openssl: {done.stderr.strip()[-300:]}")
    with path.open("ab") as file:
        file.write(key.read_bytes())
    key.unlink()
    return path
