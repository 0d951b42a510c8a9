"""Properties of the parser that no table covers."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import Connection, exchange, request

LIMITS = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def address(module_server):
    return module_server("-k", "gthread", "--threads", "4").address


@st.composite
def conversations(draw):
    """Pipelined requests, what each must get back, and the places where the bytes are cut."""
    bodies = draw(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
    raw = b""
    for body in bodies:
        if draw(st.booleans()):
            raw += request("/echo", "POST", body=body)
        else:
            pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            raw += b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    cuts = sorted(draw(st.lists(st.integers(1, len(raw) - 1), max_size=5)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b]
    return bodies, pieces


@LIMITS
@given(conversations())
def test_cuts_do_not_change_the_answers(address, conversation):
    bodies, pieces = conversation
    with Connection(address) as client:
        client.send(pieces, pause=0.0005)
        for body in bodies:
            assert json.loads(client.response().body)["body"].encode("latin-1") == body


@LIMITS
@given(st.binary(max_size=200))
def test_noise_is_answered_or_dropped(address, noise):
    """Any bytes, then the end: a refusal or nothing, and the server goes on."""
    with contextlib.suppress(ConnectionResetError):
        result = exchange(address, noise + b"\r\n\r\n", half_close=True)
        assert all(status in (400, 414, 431, 501) for status in result.statuses)
    assert exchange(address, request("/", close=True)).statuses == [200]
