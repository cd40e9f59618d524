"""The daemon that all modules ask, and the client of each transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.world import Client, World, running


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The daemon, its overlay and its upstream, for the whole run."""
    with running(tmp_path_factory.mktemp("conformance")) as made:
        yield made


@pytest.fixture
def world(started: World) -> World:
    """The same with nothing provisional in it, however long ago it was started."""
    started.settle()
    return started


@pytest.fixture(params=["udp", "tcp"])
def client(world: World, request: pytest.FixtureRequest) -> Client:
    """A client, once over UDP and once over TCP."""
    return Client(world, request.param)


@pytest.fixture
def udp(world: World) -> Client:
    """A client over UDP."""
    return Client(world, "udp")


@pytest.fixture
def tcp(world: World) -> Client:
    """A client over TCP."""
    return Client(world, "tcp")
