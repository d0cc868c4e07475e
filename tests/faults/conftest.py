"""The sound things that the tests of faults make wrong; made once a process."""

import pytest

from faults.world import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))
