"""Every raw request of the table, in every cut: whole, in two pieces at each byte, and byte by byte."""

import pytest
from raw_cases import SECTIONS, WAITS

from harness import FERRICORN, exchange_many
from harness.wire import parse_response

CASES = [
    pytest.param(case[0], case[-1] if len(case) == 3 and not FERRICORN else case[1], id=f"{section}: {name}")
    for section, cases in SECTIONS.items()
    for name, case in cases.items()
    if FERRICORN or case[-1] != WAITS
]
# Bounds the time: in longer requests only so many of the cuts are tried, evenly spread.
CUTS_MAX = 40


@pytest.fixture(scope="module", params=["sync", "gthread"])
def address(request, module_server):
    threads = ["--threads", "4"] if request.param == "gthread" else []
    return module_server("-k", request.param, *threads).address


def answers(address, messages):
    """Status and body of what came back for each message; the body of a refusal is the server's own business."""
    out = []
    for data in exchange_many(address, messages):
        assert data is not None, "the server neither answered nor closed"
        if not data:
            out.append((None, b""))
            continue
        response, size = parse_response(data, closed=True)
        assert size == len(data), f"bytes after the response: {data[size:]!r}"
        out.append((response.status, response.body if response.status == 200 else b""))
    return out


@pytest.mark.parametrize(("raw", "status"), CASES)
def test_request(address, raw, status):
    step = max(1, len(raw) // CUTS_MAX)
    cuts = range(1, len(raw), step)
    messages = [[raw]] + [[raw[:cut], raw[cut:]] for cut in cuts]
    whole, *split = answers(address, messages)
    assert whole[0] == status
    wrong = {cut: answer for cut, answer in zip(cuts, split, strict=True) if answer != whole}
    assert not wrong, f"whole: {whole}"


def test_byte_by_byte(address):
    """All of the table at once, one byte each at a time."""
    raws = [(name, raw.values[0], raw.values[1]) for name, raw in ((case.id, case) for case in CASES)]
    got = []
    for at in range(0, len(raws), 40):
        pieces = [[bytes([byte]) for byte in raw] for _, raw, _ in raws[at : at + 40]]
        got += [status for status, _ in answers(address, pieces)]
    wrong = {name: (status, seen) for (name, _, status), seen in zip(raws, got, strict=True) if status != seen}
    assert not wrong
