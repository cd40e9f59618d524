"""A thousand names at once over one socket of a client: each is answered, and nobody else waits for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.bursts import Client, answering
from tests.live.served import KEY, Served

COUNT = 1_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run a daemon that publishes a zone of wildcards and has an upstream that answers everything."""
    folder = tmp_path_factory.mktemp("burst")
    with answering(delay_s=0.02) as upstream:
        daemon = Served(folder / "state", "--upstream", f"127.0.0.1:{upstream}")
        try:
            daemon.publish_here(folder)
            yield daemon
        finally:
            assert daemon.end() == 0


@pytest.mark.parametrize("parent", [KEY, "example"], ids=["of one zone of the overlay", "ordinary"])
def test_a_thousand_names_at_once_are_all_answered_and_another_client_before_them(served: Served, parent: str) -> None:
    names = [f"n{number}.{parent}" for number in range(COUNT)]
    with Client(served.port) as greedy, Client(served.port) as other:
        greedy.ask(names)
        other.ask([f"other.{parent}"])
        # What the system has dropped for want of room a stub asks again.
        while other.hear() != {f"other.{parent}": 0}:
            other.repeat()
        heard_before_count = greedy.heard_count()
        while len(greedy.hear()) < COUNT:
            greedy.repeat()
        assert greedy.rcodes == dict.fromkeys(names, 0)
        assert heard_before_count < COUNT


def test_questions_of_an_upstream_that_is_slow_wait_and_are_answered(tmp_path: Path) -> None:
    """Three sockets have more questions than may wait for the upstreams at a time."""
    with answering(delay_s=0.3) as upstream:
        daemon = Served(tmp_path / "state", "--upstream", f"127.0.0.1:{upstream}")
        with Client(daemon.port) as first, Client(daemon.port) as second, Client(daemon.port) as third:
            clients = {"a": first, "b": second, "c": third}
            for letter, client in clients.items():
                client.ask([f"{letter}{number}.example" for number in range(200)])
            for client in clients.values():
                while len(client.hear()) < 200:
                    client.repeat()
                assert set(client.rcodes.values()) == {0}
        assert daemon.status()["counters"]["service"]["forwards-postponed"] > 0
        assert daemon.end() == 0
