"""What each test of the DHT leaves behind is closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.dht.swarm import LOOPS


@pytest.fixture(autouse=True)
def closed_loops() -> Iterator[None]:
    """Close the event loops of the test's swarms."""
    yield
    while LOOPS:
        LOOPS.pop().close()
