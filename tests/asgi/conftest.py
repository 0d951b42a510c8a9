"""What the tests in this folder share."""

import itertools

import pytest

NAMES = (f"name{number}" for number in itertools.count())


@pytest.fixture
def name():
    """A name that no other request of this run has: what it leaves in the application is found by it."""
    return next(NAMES)
