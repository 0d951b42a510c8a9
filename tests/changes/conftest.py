"""Fixtures of the tests about changes."""

import pytest
from services import Attached, Ours


@pytest.fixture(params=[Ours, Attached], ids=lambda host: host.kind)
def service(request, tmp_path):
    """A service on each host."""
    service = request.param(tmp_path)
    try:
        yield service.start()
    except AssertionError:
        print(service.log())
        raise
    finally:
        service.stop()
