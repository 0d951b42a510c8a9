"""Fixtures of the tests of jobs; see ``jobshop`` for what they are made of."""

import pytest
from jobshop import Shop


@pytest.fixture
def shop(server, tmp_path):
    return Shop(server, tmp_path / "state")
