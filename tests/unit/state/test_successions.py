"""Commitments on the disk: the first one for ever, never washed out where a person relies on it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from p2pdns.errors import Unavailable
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.succession import Commitment, Succession, commitment_to, succession_values
from p2pdns.overlay.ports import KeptCommitment
from p2pdns.state import State, database, successions, tables
from tests.committed import ANOTHER, COMMITTED, KEY, LAST, LAST_ID, NEXT, NEXT_ID, OLD, OLD_ID, VALUES
from tests.unit.state.disk import Disk, kill
from tests.unit.state.test_seen import secrets, sql
from tests.unit.state.test_state import adopt, item_of, mark_seq

SUCCESSION = Succession.verified(KEY, COMMITTED, VALUES[0].value)


def keep(state: State, zone_id: ZoneId = OLD_ID, commitment: Commitment = COMMITTED) -> None:
    """Keep a commitment."""
    asyncio.run(state.reader.commitments.keep(zone_id, commitment))


def succeed(state: State) -> None:
    """Keep the next key."""
    asyncio.run(state.reader.commitments.succeed(OLD_ID, SUCCESSION))


def test_the_first_commitment_stays_whatever_comes_later_and_outlives_a_kill(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    assert state.reader.commitments.kept(OLD_ID) is None
    keep(state)
    keep(state, OLD_ID, ANOTHER)
    kill(state, tmp_path)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert state.reader.commitments.kept(OLD_ID) == KeptCommitment(COMMITTED)
        assert state.reader.commitments.kept(NEXT_ID) is None
        assert state.reader.facts.commitment_count == 1


def test_a_commitment_takes_140_bytes_with_its_next_key(tmp_path: Path) -> None:
    with contextlib.closing(State.open(tmp_path)) as state:
        keep(state)
        succeed(state)
        query = "SELECT length(mark) + length(commitment) + length(next) + 8 FROM successions"
        assert sql(tmp_path, query) == [(20 + 72 + 32 + 8,)]


def test_a_next_key_outlives_a_kill_and_is_counted(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    succeed(state)
    assert state.reader.commitments.kept(OLD_ID) is None, "a next key belongs to a commitment"
    keep(state)
    succeed(state)
    kill(state, tmp_path)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert state.reader.commitments.kept(OLD_ID) == KeptCommitment(COMMITTED, NEXT.zone_key)
        assert state.reader.commitments.succeeded_count == 1
        assert state.reader.commitments.chain(OLD_ID) == (OLD_ID, NEXT_ID)


def test_a_disk_that_refuses_is_told_and_the_commitment_holds_and_is_written_later(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")
    state = disk.opened(tmp_path)
    disk.refuse()
    with pytest.raises(Unavailable):
        keep(state)
    assert state.reader.commitments.kept(OLD_ID) == KeptCommitment(COMMITTED)
    assert state.reader.trouble is not None
    # While it waits, it is the first one no less.
    keep(state, OLD_ID, ANOTHER)
    assert state.reader.commitments.kept(OLD_ID) == KeptCommitment(COMMITTED)
    disk.accept()
    adopt(state, item_of(7))
    kill(state, tmp_path)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert state.reader.commitments.kept(OLD_ID) == KeptCommitment(COMMITTED)


def test_no_more_commitments_wait_for_a_disk_than_memory_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(successions, "WAITING_MAX", 2)
    disk = Disk("reader.sqlite")
    with contextlib.closing(disk.opened(tmp_path)) as state:
        disk.refuse()
        zone_ids = [ZoneId.of_key(secret.zone_key) for secret in secrets(4)]
        for zone_id in zone_ids:
            with pytest.raises(Unavailable):
                keep(state, zone_id)
        assert [state.reader.commitments.kept(zone_id) is not None for zone_id in zone_ids] == [
            True,
            True,
            False,
            False,
        ]
        disk.accept()


def test_without_a_disk_commitments_hold_as_long_as_the_process() -> None:
    with contextlib.closing(State.open(None)) as state:
        keep(state)
        succeed(state)
        assert state.reader.commitments.kept(OLD_ID) == KeptCommitment(COMMITTED, NEXT.zone_key)
        assert state.reader.facts.commitment_count == 1


def test_commitments_of_throw_away_zones_wash_out_none_that_a_person_relies_on_and_what_goes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(successions, "COMMITMENTS_MAX", 12)
    monkeypatch.setattr(tables, "EVICTED_AT_ONCE", 4)
    named, own, pinned, *strangers = secrets(43)
    state = State.open(tmp_path)
    state.reader.protect([ZoneId.of_key(named.zone_key)])
    adopt(state, item_of(5, secret=own), own=True)
    asyncio.run(state.reader.adopt(item_of(5, secret=pinned), 0.0, pinned=True))

    def is_kept(secret: SecretKey) -> bool:
        return state.reader.commitments.kept(ZoneId.of_key(secret.zone_key)) is not None

    for secret in (named, own, pinned, *strangers):
        keep(state, ZoneId.of_key(secret.zone_key))
    assert list(map(is_kept, (named, own, pinned))) == [True, True, True]
    left = sum(map(is_kept, strangers))
    assert left + 3 == state.reader.facts.commitment_count <= 12
    assert f"{40 - left} commitments to next keys made room" in state.reader.roll_back_protection
    assert mark_seq(state, own) == 5
    kill(state, tmp_path)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert f"{40 - left} commitments to next keys made room" in state.reader.roll_back_protection


def test_what_follows_a_protected_key_is_protected_too(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    keep(state)
    state.reader.protect([OLD_ID])
    assert not state.reader.is_protected(NEXT_ID)
    succeed(state)
    assert state.reader.is_protected(NEXT_ID)
    state.close()
    with contextlib.closing(State.open(tmp_path)) as state:
        state.reader.protect([OLD_ID])
        assert state.reader.is_protected(NEXT_ID)
        state.reader.protect([])
        assert not state.reader.is_protected(NEXT_ID)


@pytest.mark.parametrize("kept", ["own", "pinned"])
def test_what_follows_an_own_or_pinned_key_is_protected_and_its_commitment_makes_room_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    monkeypatch.setattr(successions, "COMMITMENTS_MAX", 12)
    monkeypatch.setattr(tables, "EVICTED_AT_ONCE", 8)
    state = State.open(tmp_path)
    asyncio.run(state.reader.adopt(item_of(7, secret=OLD), 0.0, own=kept == "own", pinned=kept == "pinned"))
    further = commitment_to(NEXT.zone_key, LAST)
    keep(state)
    keep(state, NEXT_ID, further)
    succeed(state)
    assert state.reader.is_protected(NEXT_ID)
    for secret in secrets(60):
        keep(state, ZoneId.of_key(secret.zone_key))
    assert state.reader.commitments.kept(NEXT_ID) == KeptCommitment(further)
    state.close()
    with contextlib.closing(State.open(tmp_path)) as state:
        state.reader.protect([])
        assert state.reader.is_protected(NEXT_ID)


def test_what_follows_a_key_that_was_pinned_later_makes_room_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(successions, "COMMITMENTS_MAX", 12)
    monkeypatch.setattr(tables, "EVICTED_AT_ONCE", 8)
    with contextlib.closing(State.open(tmp_path)) as state:
        further = commitment_to(NEXT.zone_key, LAST)
        keep(state)
        keep(state, NEXT_ID, further)
        succeed(state)
        asyncio.run(state.reader.adopt(item_of(7, secret=OLD), 0.0, pinned=True))
        for secret in secrets(60):
            keep(state, ZoneId.of_key(secret.zone_key))
        assert state.reader.commitments.kept(NEXT_ID) == KeptCommitment(further)


def test_all_that_follows_a_key_is_protected_once_the_first_link_is_known(tmp_path: Path) -> None:
    further = commitment_to(NEXT.zone_key, LAST)
    value = succession_values(NEXT.zone_key, LAST)[0].value
    with contextlib.closing(State.open(tmp_path)) as state:
        state.reader.protect([OLD_ID])
        keep(state)
        keep(state, NEXT_ID, further)
        asyncio.run(state.reader.commitments.succeed(NEXT_ID, Succession.verified(NEXT.zone_key, further, value)))
        assert not state.reader.is_protected(LAST_ID)
        succeed(state)
        assert state.reader.is_protected(LAST_ID)


def test_what_follows_a_protected_key_is_protected_though_the_disk_takes_nothing(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")
    with contextlib.closing(disk.opened(tmp_path)) as state:
        state.reader.protect([OLD_ID])
        keep(state)
        disk.refuse()
        with pytest.raises(Unavailable):
            succeed(state)
        assert state.reader.is_protected(NEXT_ID)
        disk.accept()


def test_a_broken_commitment_on_a_disk_that_takes_nothing_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.0)
    state = State.open(tmp_path)
    keep(state)
    state.close()
    sql(tmp_path, "UPDATE successions SET commitment = x'00'")
    with contextlib.closing(State.open(tmp_path)) as state:
        with contextlib.closing(sqlite3.connect(tmp_path / "reader.sqlite")) as other:
            other.execute("BEGIN IMMEDIATE")
            assert state.reader.commitments.kept(OLD_ID) is None
        assert state.warnings


def test_forget_clears_the_commitment_even_where_there_is_no_mark(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    keep(state)
    assert state.reader.forget(OLD_ID)
    assert state.reader.commitments.kept(OLD_ID) is None
    assert state.reader.facts.commitment_count == 0
    assert not state.reader.forget(OLD_ID)
    keep(state, OLD_ID, ANOTHER)
    assert state.reader.commitments.kept(OLD_ID) == KeptCommitment(ANOTHER)
    state.close()


def test_keys_that_follow_each_other_in_a_circle_are_named_once(tmp_path: Path) -> None:
    back = commitment_to(NEXT.zone_key, OLD)
    value = succession_values(NEXT.zone_key, OLD)[0].value
    with contextlib.closing(State.open(tmp_path)) as state:
        keep(state)
        succeed(state)
        keep(state, NEXT_ID, back)
        asyncio.run(state.reader.commitments.succeed(NEXT_ID, Succession.verified(NEXT.zone_key, back, value)))
        assert state.reader.commitments.chain(OLD_ID) == (OLD_ID, NEXT_ID)


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("UPDATE successions SET commitment = x'00'", None),
        (f"UPDATE successions SET next = x'{LAST.zone_key.raw.hex()}'", KeptCommitment(COMMITTED)),
        ("UPDATE successions SET next = x'00'", KeptCommitment(COMMITTED)),
    ],
    ids=["size", "another next key", "no key"],
)
def test_a_row_that_was_tampered_with_is_believed_as_far_as_it_verifies(
    tmp_path: Path, statement: str, left: KeptCommitment | None
) -> None:
    state = State.open(tmp_path)
    keep(state)
    succeed(state)
    state.close()
    sql(tmp_path, statement)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert state.reader.commitments.kept(OLD_ID) == left
        assert bool(state.warnings) == (left is None)


def test_a_file_of_version_2_keeps_what_it_holds(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    state.close()
    sql(tmp_path, "DROP TABLE successions", "DROP TABLE revealed", "PRAGMA user_version=2")
    with contextlib.closing(State.open(tmp_path)) as state:
        assert not list(tmp_path.glob("*.corrupt-*"))
        assert (mark_seq(state), state.warnings) == (7, [])
        keep(state)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert state.reader.commitments.kept(OLD_ID) == KeptCommitment(COMMITTED)


def test_the_commitment_is_written_with_the_marks_of_the_same_turn(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")

    async def both(state: State) -> None:
        item = item_of(7, secret=OLD)
        await asyncio.gather(state.reader.adopt(item, 0.0), state.reader.commitments.keep(OLD_ID, COMMITTED))

    with contextlib.closing(disk.opened(tmp_path)) as state:
        before = disk.commit_count
        asyncio.run(both(state))
        assert disk.commit_count == before + 1
