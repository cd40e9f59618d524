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


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [
        (1.5 * HOUR, "publish again after 14:44 UTC, in 31 min"),
        (20 * HOUR - 30, "publish again after 09:13 UTC, in 19 h 0 min"),
        (25 * HOUR, "publish again after 2026-09-22 14:14 UTC, in 1 d 0 h 1 min"),
        (24 * HOUR * 40 + 2 * HOUR, "publish again after 2026-10-31 15:14 UTC, in 40 d 1 h 1 min"),
    ],
)
def test_a_refusal_says_when_to_publish_again_and_names_a_command(ahead_s: float, words: str) -> None:
    last = microseconds(NOW + ahead_s)
    with pytest.raises(Unavailable) as caught:
        chosen_seq(last, NOW, command="p2pdns publish --take-back -k a.key a.zone")
    assert words in str(caught.value)
    assert "p2pdns publish --take-back -k a.key a.zone" in str(caught.value.hint)
    # It is allowed then.
    assert chosen_seq(last, NOW + ahead_s - HOUR + 60) == last + 1


def test_what_is_taken_back_lies_just_above_and_never_where_readers_see_the_future() -> None:
    last = microseconds(NOW + 20 * HOUR)
    assert chosen_seq(last, NOW, takes_back=True) == last + 1
    assert chosen_seq(None, NOW, takes_back=True) == microseconds(NOW)
    with pytest.raises(Unavailable, match="more than an hour ahead"):
        chosen_seq(microseconds(NOW + 25 * HOUR), NOW, takes_back=True)


def test_a_clock_before_the_program_was_made_signs_nothing() -> None:
    with pytest.raises(Unavailable, match="before this program was made"):
        chosen_seq(None, 0.0)


class FakeDaemon(ControlClient):
    """A daemon that answers from a table and keeps what it was asked."""

    def __init__(self, last: int | None) -> None:
        super().__init__(Path("/nonexistent"))
        self.last = last
        self.ahead: int | None = None
        self.asked: list[dict[str, Any]] = []

    def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Answer as the engine does."""
        self.asked.append({"verb": verb, **arguments})
        if verb == "seq":
            return {"ok": True, "seq": self.last, "ahead": self.ahead}
        if verb == "forget":
            self.last, self.ahead = None, self.last
            return {"ok": True, "forgotten": True}
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


def test_a_publication_from_the_future_that_was_not_adopted_is_published_below() -> None:
    daemon = FakeDaemon(last=None)
    daemon.ahead = microseconds(NOW * 2)
    done = publish_through(daemon, SecretKey.generate(bytes(32)), b"")
    assert done.seq < microseconds(NOW * 2)
    assert done.ahead == daemon.ahead
    assert [asked["verb"] for asked in daemon.asked] == ["seq", "publish"]


@pytest.mark.parametrize(
    ("ahead_s", "verbs", "is_above"),
    [
        (0.0, ["seq", "publish"], True),
        (20 * HOUR, ["seq", "publish"], True),
        (30 * HOUR, ["seq", "forget", "seq", "publish"], False),
    ],
)
def test_taking_back_makes_the_daemon_forget_only_what_no_reader_adopts(
    monkeypatch: pytest.MonkeyPatch, ahead_s: float, verbs: list[str], is_above: bool
) -> None:
    monkeypatch.setattr(publish, "unix_now", lambda: NOW)
    last = microseconds(NOW + ahead_s)
    daemon = FakeDaemon(last)
    done = publish_through(daemon, SecretKey.generate(bytes(32)), b"", takes_back=True)
    assert [asked["verb"] for asked in daemon.asked] == verbs
    assert (done.seq > last) is is_above
    assert (done.ahead == last) is not is_above


def test_without_the_flag_the_daemon_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "unix_now", lambda: NOW)
    daemon = FakeDaemon(microseconds(NOW + 30 * HOUR))
    with pytest.raises(Unavailable, match=r"publish again after 2026-09-22 19:14 UTC"):
        publish_through(daemon, SecretKey.generate(bytes(32)), b"")
    assert [asked["verb"] for asked in daemon.asked] == ["seq"]
