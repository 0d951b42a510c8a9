"""Flow control under ASGI: who does not read stops who sends, in both directions; memory is bounded."""

import hashlib
import time
from pathlib import Path

import pytest

from harness import ASGI, request, wait_until

ours = pytest.mark.only_ferricorn
# What fits into the buffers of two sockets of this machine, and a server's own.
IN_FLIGHT = 24 << 20


@pytest.fixture(scope="module")
def answers(module_server):
    return module_server("-k", ASGI, app="asgi_answers:app")


@pytest.fixture(scope="module")
def probe(module_server):
    return module_server("-k", ASGI, app="asgi_probe:app")


def resident(server):
    """MiB of memory of the only worker."""
    status = Path(f"/proc/{server.workers()[0]}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) >> 10


def given(server, name):
    return int(server.get(f"/given?{name}").body)


def stands_still(read):
    """Waits until ``read()`` gives the same twice; returns that."""
    last = read()

    def same():
        nonlocal last
        time.sleep(0.15)
        before, last = last, read()
        return before == last

    wait_until(same, 10, "a value that stands still")
    return last


def test_producer_waits_for_its_reader(answers, name):
    before = resident(answers)
    with answers.connect() as client:
        client.send(request(f"/endless?{name}"))
        client._receive()
        stopped = stands_still(lambda: given(answers, name))
        assert 0 < stopped < IN_FLIGHT
        assert resident(answers) - before < 40
        # Reading lets it go on.
        size = len(client.data)
        while size < stopped + (8 << 20):
            size += len(client.sock.recv(1 << 16))
        wait_until(lambda: given(answers, name) > stopped, 5, "the producer goes on")
        again = stands_still(lambda: given(answers, name))
        assert again < size + IN_FLIGHT


def test_producer_ends_when_its_reader_goes(answers, name):
    """All further sending is void; nobody waits for room any more."""
    with answers.connect() as client:
        client.send(request(f"/endless?{name}"))
        client._receive()
        stands_still(lambda: given(answers, name))
    wait_until(lambda: given(answers, name) == 200_000_000, 10, "the application's end")


def test_one_slow_reader_stops_nobody_else(answers, name):
    with answers.connect() as client:
        client.send(request(f"/endless?{name}"))
        client._receive()
        for _ in range(20):
            begun = time.monotonic()
            assert answers.get("/single").body == b"single"
            assert time.monotonic() - begun < 0.5


def test_large_message_to_a_slow_reader(answers):
    with answers.connect() as client:
        client.send(request("/large?20000000"))
        time.sleep(0.3)
        assert answers.get("/single").body == b"single"
        size = 0
        while size < 20_000_000:
            chunk = client.sock.recv(1 << 20)
            assert chunk, f"closed after {size} bytes"
            size += len(chunk)


def sent_until_full(client, block):
    """Sends until nothing more goes; returns how much went."""
    client.sock.setblocking(False)
    sent, still = 0, 0
    while still < 10:
        try:
            sent += client.sock.send(block)
            still = 0
        except BlockingIOError:
            still += 1
            time.sleep(0.03)
        assert sent < 4 * IN_FLIGHT, "nobody stops the client"
    client.sock.settimeout(20)
    return sent


def test_client_waits_for_an_application_that_does_not_receive(probe):
    """Its body stays with the client; later all of it comes."""
    size = 60 << 20
    before = resident(probe)
    block = hashlib.sha256(b"block").digest() * 2048
    with probe.connect(30) as client:
        client.send(request("/late_read?1.5", "POST", headers=[("Content-Length", str(size))]))
        sent = sent_until_full(client, block)
        assert sent < IN_FLIGHT
        assert resident(probe) - before < 40
        whole = block * (size // len(block) + 1)
        client.sock.sendall(whole[sent % len(block) :][: size - sent])
        response = client.response()
    assert b"'size': %d" % size in response.body


def test_large_upload_needs_little_memory(probe):
    before = resident(probe)
    block = b"x" * (1 << 20)
    with probe.connect(30) as client:
        client.send(request("/upload", "POST", headers=[("Content-Length", str(100 << 20))]))
        for _ in range(100):
            client.sock.sendall(block)
        assert b"'size': %d" % (100 << 20) in client.response().body
    assert resident(probe) - before < 40


def test_echo_of_pieces_in_both_directions(probe):
    """A client that writes all before it reads would wait for ever; one that does both gets all."""
    body = hashlib.sha256(b"both").digest() * 100_000
    with probe.connect(20) as client:
        client.send(request("/pieces", "POST", headers=[("Content-Length", str(len(body)))]))
        for at in range(0, len(body), 1 << 16):
            client.sock.sendall(body[at : at + (1 << 16)])
            client.sock.setblocking(False)
            try:
                while chunk := client.sock.recv(1 << 20):
                    client.data += chunk
            except BlockingIOError:
                pass
            client.sock.settimeout(20)
        assert client.response().body == body


@ours("has no limit for a client that does not read")
def test_client_that_never_reads(server, name):
    running = server("-k", ASGI, "--write-timeout", "1", app="asgi_answers:app")
    with running.connect() as client:
        client.send(request(f"/endless?{name}"))
        client._receive()
        wait_until(lambda: given(running, name) == 200_000_000, 10, "the application's end")
