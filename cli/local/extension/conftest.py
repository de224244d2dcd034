"""One local AWS for a run of the tests."""

import pytest

from .test_support import World, local_aws


@pytest.fixture(scope="session")
def world():
    with local_aws() as endpoint:
        yield World(endpoint)
