"""Publishing: which seq is signed, when a publication counts, and what is said when it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pdns.cli import publish
from p2pdns.cli.publish import Stored, chosen_seq, publish_through
from p2pdns.engine.control import ControlClient, Progress
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey

NOW = 1_790_000_000.0
HOUR = 3600.0


def microseconds(unix: float) -> int:
    """Return a seq of that time."""
    return int(unix * 1_000_000)


@pytest.mark.parametrize(
    ("sent", "stored", "is_enough"),
    [
        (0, 0, False),
        (1, 0, False),
        (1, 1, True),
        (2, 1, True),
        (3, 1, False),
        (3, 2, True),
        (8, 4, True),
        (8, 3, False),
    ],
)
def test_a_publication_counts_when_half_of_the_nodes_hold_it(sent: int, stored: int, is_enough: bool) -> None:
    assert Stored(1, sent, stored, "a node of its own").is_enough is is_enough


def test_the_seq_is_the_time_or_one_more_than_the_last() -> None:
    assert chosen_seq(None, NOW) == microseconds(NOW)
    assert chosen_seq(microseconds(NOW) - 5, NOW) == microseconds(NOW)
    assert chosen_seq(microseconds(NOW), NOW) == microseconds(NOW) + 1
    assert chosen_seq(microseconds(NOW + HOUR / 2), NOW) == microseconds(NOW + HOUR / 2) + 1


def test_a_last_seq_from_the_future_is_not_followed() -> None:
    with pytest.raises(Unavailable, match="more than an hour ahead"):
        chosen_seq(microseconds(NOW + 2 * HOUR), NOW)


def test_a_clock_before_the_program_was_made_signs_nothing() -> None:
    with pytest.raises(Unavailable, match="before this program was made"):
        chosen_seq(None, 0.0)


class FakeDaemon(ControlClient):
    """A daemon that answers from a table and keeps what it was asked."""

    def __init__(self, last: int | None) -> None:
        super().__init__(Path("/nonexistent"))
        self.last = last
        self.asked: list[dict[str, Any]] = []

    def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Answer as the engine does."""
        self.asked.append({"verb": verb, **arguments})
        if verb == "seq":
            return {"ok": True, "seq": self.last}
        assert verb == "publish"
        assert on_progress is not None
        on_progress({"sent": 8, "stored": 1})
        return {"ok": True, "sent": 8, "stored": 7, "seq": 1, "refused": {"timeout": 1}}


def test_the_daemon_gets_the_signed_item_and_never_the_key() -> None:
    secret = SecretKey.generate(bytes(range(32)))
    daemon = FakeDaemon(last=None)
    seen: list[tuple[int, int]] = []
    done = publish_through(daemon, secret, b"value", lambda sent, stored: seen.append((sent, stored)))
    assert (done.sent, done.stored, done.refused) == (8, 7, {"timeout": 1})
    assert seen == [(8, 1)]
    item = MutableItem.read_file(bytes.fromhex(daemon.asked[1]["item"]))
    assert (item.key, item.value, item.seq) == (secret.zone_key, b"value", done.seq)
    told = json.dumps(daemon.asked)
    assert bytes(range(32)).hex() not in told
    assert str(secret.zone_key) in told


def test_the_next_publication_supersedes_the_last_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "unix_now", lambda: NOW)
    last = microseconds(NOW) + 7
    done = publish_through(FakeDaemon(last), SecretKey.generate(bytes(32)), b"")
    assert done.seq == last + 1
    assert str(done) == f"stored at 7 of 8 nodes, seq {last + 1}"
