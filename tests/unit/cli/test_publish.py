"""Publishing: which seq is signed, when a publication counts, and what is said when it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pdns.admin.control import ControlClient, Progress
from p2pdns.cli import publish, ui
from p2pdns.cli.publish import Stored, chosen_seq, publish_through
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
        (2, 1, False),
        (3, 1, False),
        (3, 2, True),
        (8, 5, True),
        (8, 4, False),
    ],
)
def test_a_publication_counts_when_more_than_half_of_the_others_hold_it(
    sent: int, stored: int, is_enough: bool
) -> None:
    assert Stored(1, sent, stored, "a node of its own").is_enough is is_enough


@pytest.mark.parametrize(
    ("done", "words", "warning"),
    [
        (Stored(7, 0, 0, "the running daemon", is_kept_here=True), "kept here, at 0 other nodes, seq 7", None),
        (Stored(7, 0, 0, "a node of its own"), "stored at 0 other nodes, seq 7", None),
        (Stored(7, 3, 1, "", is_kept_here=True), "stored at 1 of 3 nodes, seq 7", None),
        (Stored(7, 1, 1, ""), "stored at 1 of 1 nodes, seq 7", "only 1 other node keeps this zone, 20 are wanted"),
        (Stored(7, 4, 4, ""), "stored at 4 of 4 nodes, seq 7", "only 4 other nodes keep this zone, 20 are wanted"),
        (Stored(7, 5, 5, ""), "stored at 5 of 5 nodes, seq 7", None),
    ],
)
def test_what_is_said_of_a_publication(done: Stored, words: str, warning: str | None) -> None:
    assert (str(done), done.warning) == (words, warning)


@pytest.mark.parametrize(
    ("done", "what", "hint"),
    [
        (Stored(1, 0, 0, "", is_kept_here=True), "no other node is known", "--bootstrap ADDR:PORT, or wait"),
        (Stored(1, 0, 0, ""), "no other node is known", "name one with --bootstrap ADDR:PORT"),
        (Stored(1, 20, 9, "", {"rationed": 11}, True), "only 9 of 20 other nodes", "the daemon goes on trying"),
        (Stored(1, 20, 9, "", {"rationed": 11}), "only 9 of 20 other nodes", "few new zones at a time"),
        (Stored(1, 20, 0, "", {"302": 20}), "no other node holds", "newer publication of this key"),
    ],
)
def test_a_publication_that_failed_says_what_to_do(done: Stored, what: str, hint: str) -> None:
    trouble = publish._failure(done, "KEY")
    assert what in str(trouble)
    assert hint in (trouble.hint or "")


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
        on_progress({"rationed": {"done": 1, "of": 3, "seconds_left": 2.0}})
        return {"ok": True, "sent": 8, "stored": 7, "seq": 1, "refused": {"timeout": 1}, "kept_here": True}


def test_the_daemon_gets_the_signed_item_and_never_the_key() -> None:
    secret = SecretKey.generate(bytes(range(32)))
    daemon = FakeDaemon(last=None)
    seen: list[tuple[int, int]] = []
    rationed: list[dict[str, Any]] = []
    done = publish_through(daemon, secret, b"value", lambda sent, stored: seen.append((sent, stored)), rationed.append)
    assert (done.sent, done.stored, done.refused, done.is_kept_here) == (8, 7, {"timeout": 1}, True)
    assert seen == [(8, 1)]
    assert rationed == [{"done": 1, "of": 3, "seconds_left": 2.0}]
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


def test_a_publication_that_waits_says_so_at_once_and_then_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    with ui.progress() as line:
        rations = publish._Rations(line, clock=lambda: now)
        for second in range(21):
            now = float(second)
            rations.told({"done": second, "of": 300, "seconds_left": 100.0 - second})
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "p2pdns: rationed by the other nodes: 0 of 300 zones through, about 100 s left; the daemon goes on if you do "
        "not wait",
        "p2pdns: rationed by the other nodes: 10 of 300 zones through, about 90 s left",
        "p2pdns: rationed by the other nodes: 20 of 300 zones through, about 80 s left",
    ]
