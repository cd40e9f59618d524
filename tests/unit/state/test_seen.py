"""Small marks on the disk: there before the answer, in millions, never washed out where a person relies on them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from p2pdns.clock import unix_now
from p2pdns.errors import Unavailable
from p2pdns.items.item import Present
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.overlay.ports import Mark
from p2pdns.state import State, protection, tables
from p2pdns.state import marks as reader_module
from tests.unit.state.disk import Disk, kill
from tests.unit.state.test_state import ALICE, BOB, adopt, held_seq, item_of, mark_seq
from tests.waiting import until

NOW_SEQ = int(unix_now() * 1_000_000)
DAY_SEQ = 86_400_000_000


def secrets(count: int) -> list[SecretKey]:
    """Return that many keys."""
    return [SecretKey.generate(number.to_bytes(4) * 8) for number in range(1, count + 1)]


def sql(directory: Path, *statements: str) -> list[tuple[object, ...]]:
    """Do something to the file behind the reader's back; return what the last statement says."""
    with contextlib.closing(sqlite3.connect(directory / "reader.sqlite")) as connection:
        rows = [connection.execute(statement).fetchall() for statement in statements]
        connection.commit()
    return rows[-1]


# What is on the disk, and when.


def test_the_mark_of_a_first_item_is_on_the_disk_at_once_and_has_28_bytes(tmp_path: Path) -> None:
    with contextlib.closing(State.open(tmp_path)) as state:
        adopt(state, item_of(7))
        assert sql(tmp_path, "SELECT length(mark) + 8, seq FROM seen") == [(28, 7)]
        assert sql(tmp_path, "SELECT count(*) FROM marks") == [(0,)]
        assert held_seq(state) == 7
        assert (state.reader.mark_count, state.reader.item_count) == (1, 0)


@pytest.mark.parametrize("how", ["second question", "a minute later", "own", "the end"])
def test_the_item_itself_follows(tmp_path: Path, how: str) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7), own=how == "own")

    async def go_on() -> None:
        if how == "second question":
            state.reader.keep(ZoneId.of_key(ALICE.zone_key))
            state.reader.keep(ZoneId.of_key(ALICE.zone_key))
            await until(lambda: sql(tmp_path, "SELECT seq FROM marks") == [(7,)])
        elif how == "a minute later":
            await state.reader.save()

    asyncio.run(go_on())
    (state.close if how == "the end" else lambda: kill(state, tmp_path))()
    with contextlib.closing(State.open(tmp_path)) as state:
        assert (held_seq(state), mark_seq(state)) == (7, 7)
        assert len(state.reader.kept_alive()) == (how == "own")


def test_after_a_kill_the_mark_is_known_and_its_item_can_serve_again(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    kill(state, tmp_path)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert (held_seq(state), mark_seq(state)) == (None, 7)
        # Nothing older becomes the mark again, and what made it is no news for the disk.
        commits = state.reader.commits.count
        adopt(state, item_of(6))
        assert held_seq(state) is None
        adopt(state, item_of(7))
        assert (held_seq(state), state.reader.commits.count) == (7, commits)


def test_the_newer_item_of_one_that_is_kept_is_kept_at_once(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    asyncio.run(state.reader.save())
    adopt(state, item_of(8))
    kill(state, tmp_path)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert held_seq(state) == 8


def test_an_item_on_the_disk_that_lies_below_the_mark_is_not_held(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7), own=True)
    state.close()
    sql(tmp_path, "UPDATE seen SET seq = 9")
    with contextlib.closing(State.open(tmp_path)) as state:
        assert (held_seq(state), mark_seq(state)) == (None, 9)


def test_a_hundred_first_items_of_one_tick_share_one_commit_that_is_counted(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")
    with contextlib.closing(disk.opened(tmp_path)) as state:

        async def at_once() -> None:
            await asyncio.gather(*(state.reader.adopt(item_of(5, secret=secret), 0.0) for secret in secrets(100)))

        asyncio.run(at_once())
        assert (state.reader.commits.count, state.reader.commits.mark_count) == (1, 100)
        assert state.reader.commits.seconds > 0.0
        assert set(disk.settings("synchronous")) == {2}, "FULL: a commit is on the disk"


def test_a_process_killed_as_soon_as_the_first_item_is_adopted_has_its_mark(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, signal
from pathlib import Path
from p2pdns.state import State
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
state = State.open(Path({str(tmp_path)!r}))
async def main():
    await state.reader.adopt(MutableItem.signed(SecretKey.generate(b"\\x01" * 32), 77, b"v"), 0.0)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == -9
    with contextlib.closing(State.open(tmp_path)) as state:
        assert mark_seq(state) == 77
        assert state.reader.roll_back_protection == "whole"


# A disk that refuses.


def test_a_mark_that_the_disk_refuses_holds_in_memory_and_is_written_when_it_can_be(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")
    state = disk.opened(tmp_path)
    disk.refuse()
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be written"):
            adopt(state, item_of(7))
    assert state.reader.mark(ZoneId.of_key(ALICE.zone_key)) == Mark(7, is_on_disk=False)
    assert state.reader.roll_back_protection == "whole but for this; 1 marks are not on the disk, which takes none"
    disk.accept()
    adopt(state, item_of(3, secret=BOB))
    assert state.reader.mark(ZoneId.of_key(ALICE.zone_key)) == Mark(7)
    assert state.reader.roll_back_protection == "whole"
    kill(state, tmp_path)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert (mark_seq(state), mark_seq(state, BOB)) == (7, 3)


def test_what_the_disk_refused_is_written_with_the_next_save_and_never_below_what_is_there(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")
    state = disk.opened(tmp_path)
    adopt(state, item_of(5))
    disk.refuse()
    for seq in (9, 8):
        with pytest.raises(Unavailable):
            adopt(state, item_of(seq))
    disk.accept()
    asyncio.run(state.reader.save())
    kill(state, tmp_path)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert mark_seq(state) == 9


def test_a_mark_on_the_disk_stays_there_when_the_disk_then_refuses_its_item(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")
    with contextlib.closing(disk.opened(tmp_path)) as state:
        adopt(state, item_of(0), item_of(7, secret=BOB))
        disk.refuse()
        asyncio.run(state.reader.save())
        assert (state.reader.mark(ZoneId.of_key(ALICE.zone_key)), state.reader.mark(ZoneId.of_key(BOB.zone_key))) == (
            Mark(0),
            Mark(7),
        )
        assert state.reader.roll_back_protection == "whole"


def test_where_nothing_is_kept_beyond_the_run_no_new_mark_counts_as_kept(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    state.close()
    sql(tmp_path, "PRAGMA user_version=99")
    with contextlib.closing(State.open(tmp_path)) as state:
        adopt(state, item_of(8))
        assert (held_seq(state), state.reader.mark(ZoneId.of_key(ALICE.zone_key))) == (8, Mark(8, is_on_disk=False))
        assert "1 marks are not on the disk" in state.reader.roll_back_protection
    with contextlib.closing(State.open(None)) as state:
        # Who never keeps anything misses nothing.
        adopt(state, item_of(8))
        assert (state.reader.mark(ZoneId.of_key(ALICE.zone_key)), state.reader.roll_back_protection) == (
            Mark(8),
            "whole",
        )


# Room.


def test_throw_away_zones_wash_out_no_mark_that_a_person_relies_on_and_what_goes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SEEN_MAX", 40)
    monkeypatch.setattr(tables, "EVICTED_AT_ONCE", 8)
    named, own, pinned, *strangers = secrets(203)
    state = State.open(tmp_path)
    state.reader.protect([ZoneId.of_key(named.zone_key)])
    adopt(state, item_of(5, secret=own), own=True)
    asyncio.run(state.reader.adopt(item_of(5, secret=pinned), 0.0, pinned=True))
    adopt(state, item_of(5, secret=named), *(item_of(5, secret=secret) for secret in strangers))
    assert [mark_seq(state, secret) for secret in (named, own, pinned)] == [5, 5, 5]
    left = sum(mark_seq(state, secret) is not None for secret in strangers)
    assert left + 3 == state.reader.mark_count <= 40
    assert f"{200 - left} marks made room for others, the last at 20" in state.reader.roll_back_protection
    kill(state, tmp_path)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert f"{200 - left} marks made room for others" in state.reader.roll_back_protection
        assert state.reader.mark_count == left + 3


def test_that_marks_make_room_is_logged_once_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SEEN_MAX", 4)
    monkeypatch.setattr(tables, "EVICTED_AT_ONCE", 1)
    now = [1_000.0]
    monkeypatch.setattr(protection, "boot_now", lambda: now[0])
    with contextlib.closing(State.open(tmp_path)) as state, capture_logs() as told:
        keys = secrets(12)
        adopt(state, *(item_of(5, secret=secret) for secret in keys[:8]))
        assert [line["count"] for line in told] == [1]
        now[0] += protection.TOLD_AGAIN_S
        adopt(state, *(item_of(5, secret=secret) for secret in keys[8:]))
        assert [line["count"] for line in told] == [1, 5]
        assert all(line["event"].startswith("marks made room for others") for line in told)


# What a person clears, and the bound of the time.


def test_forget_is_told_with_its_moment_for_ever_and_takes_the_bound_back(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    assert state.reader.newest_seq is None
    adopt(state, item_of(NOW_SEQ - 2 * DAY_SEQ), item_of(NOW_SEQ, secret=BOB))
    assert state.reader.newest_seq == NOW_SEQ
    assert not state.reader.forget(ZoneId.of_key(secrets(1)[0].zone_key))
    assert state.reader.roll_back_protection == "whole"
    assert state.reader.forget(ZoneId.of_key(BOB.zone_key))
    assert state.reader.newest_seq == NOW_SEQ - 2 * DAY_SEQ
    assert mark_seq(state, BOB) is None
    state.close()
    with contextlib.closing(State.open(tmp_path)) as state:
        assert state.reader.newest_seq == NOW_SEQ - 2 * DAY_SEQ
        assert state.reader.roll_back_protection.startswith(
            "whole but for this; 1 marks were cleared with forget, the last "
        )
        assert mark_seq(state, BOB) is None
        assert mark_seq(state) == NOW_SEQ - 2 * DAY_SEQ


def test_what_lies_ahead_of_the_clock_can_be_cleared_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = NOW_SEQ + 40 * DAY_SEQ
    state = State.open(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(reader_module, "unix_now", lambda: ahead / 1_000_000)
        adopt(state, item_of(ahead), item_of(5, secret=BOB))
    assert Present(unix_now(), state.reader.newest_seq).is_clock_behind
    assert state.reader.forget_above(NOW_SEQ + DAY_SEQ) == 1
    assert (mark_seq(state), held_seq(state), mark_seq(state, BOB), state.reader.newest_seq) == (None, None, 5, 5)
    state.close()
    with contextlib.closing(State.open(tmp_path)) as state:
        assert (mark_seq(state), mark_seq(state, BOB), state.reader.mark_count) == (None, 5, 1)


@pytest.mark.parametrize("has_clock", [False, True])
def test_what_no_clock_can_judge_becomes_a_mark_and_bounds_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_clock: bool
) -> None:
    monkeypatch.setattr(reader_module, "unix_now", lambda: NOW_SEQ / 1_000_000 if has_clock else 0.0)
    with contextlib.closing(State.open(tmp_path)) as state:
        adopt(state, item_of(NOW_SEQ + 400 * DAY_SEQ))
        assert mark_seq(state) == NOW_SEQ + 400 * DAY_SEQ
        assert state.reader.newest_seq is None


@pytest.mark.parametrize("forged", ["'x'", "-5", "9223372036854775807", "x'00'", "1.5"])
def test_a_forged_fact_is_believed_by_nobody(tmp_path: Path, forged: str) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    state.close()
    sql(tmp_path, f"UPDATE facts SET value = {forged} WHERE name = 'newest_seq'", "INSERT INTO facts VALUES ('x', 1)")
    with contextlib.closing(State.open(tmp_path)) as state:
        assert state.reader.newest_seq is None
        assert mark_seq(state) == 7


# Files of before, and files that are gone.


VERSION_1 = """
CREATE TABLE marks (
    key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL, signature BLOB NOT NULL,
    confirmed_unix REAL NOT NULL, is_own INTEGER NOT NULL, is_pinned INTEGER NOT NULL, PRIMARY KEY (key, salt)
) STRICT;
CREATE INDEX marks_by_age ON marks (is_own, is_pinned, confirmed_unix);
CREATE TABLE names (name TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT;
"""


def older_file(directory: Path, *rows: tuple[object, ...]) -> None:
    """Write a file of version 1."""
    directory.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(directory / "reader.sqlite")) as connection:
        connection.executescript(VERSION_1)
        connection.executemany("INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("INSERT INTO names VALUES ('bob', ?)", (str(BOB.zone_key),))
        connection.execute(f"PRAGMA application_id={0x70327064}")
        connection.execute("PRAGMA user_version=1")
        connection.commit()


def row(seq: int, secret: SecretKey = ALICE, *, is_own: int = 0, salt: bytes = b"") -> tuple[object, ...]:
    """Return a row of version 1."""
    item = item_of(seq, secret=secret, salt=salt)
    return item.key.raw, item.salt, item.seq, item.value, item.signature, 5.0, is_own, 0


def test_a_file_of_version_1_keeps_what_it_holds(tmp_path: Path) -> None:
    broken = (*row(9, secrets(1)[0])[:2], 10, *row(9, secrets(1)[0])[3:])
    older_file(tmp_path, row(NOW_SEQ, is_own=1), row(7, BOB), row(8, salt=b"s"), row(10**18, secrets(2)[1]), broken)
    with contextlib.closing(State.open(tmp_path)) as state:
        assert not list(tmp_path.glob("*.corrupt-*"))
        assert (held_seq(state), held_seq(state, BOB), held_seq(state, salt=b"s")) == (NOW_SEQ, 7, 8)
        assert (mark_seq(state), mark_seq(state, BOB), state.reader.mark(ZoneId.of_key(ALICE.zone_key), b"s")) == (
            NOW_SEQ,
            7,
            Mark(8),
        )
        assert state.reader.names.read() == {"bob": str(BOB.zone_key)}
        assert len(state.reader.kept_alive()) == 1
        # A seq that can only come of no clock at all is a mark, and bounds no time.
        assert (mark_seq(state, secrets(2)[1]), state.reader.newest_seq) == (10**18, NOW_SEQ)
        assert state.reader.roll_back_protection == "whole"
        # A row that does not verify makes no mark: that would keep every honest item out.
        assert mark_seq(state, secrets(1)[0]) is None
        assert held_seq(state, secrets(1)[0]) is None
        assert state.reader.mark_count == 4
    with contextlib.closing(State.open(tmp_path)) as state:
        assert (mark_seq(state), state.warnings) == (NOW_SEQ, [])


def _remove(path: Path) -> None:
    for companion in ("", "-wal", "-shm"):
        path.with_name(path.name + companion).unlink(missing_ok=True)


def _empty(path: Path) -> None:
    _remove(path)
    path.touch()


@pytest.mark.parametrize(("lose", "words"), [(_remove, "missing"), (_empty, "empty")])
def test_a_file_that_is_gone_beside_a_living_store_is_told_after_every_restart(
    tmp_path: Path, lose: object, words: str
) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    state.close()
    assert callable(lose)
    lose(tmp_path / "reader.sqlite")
    state = State.open(tmp_path)
    assert state.warnings[0] == f"reader.sqlite was {words}"
    assert "roll-back protection starts anew" in state.warnings[1]
    state.close()
    for _ in range(2):
        state = State.open(tmp_path)
        assert state.reader.roll_back_protection.startswith("starts anew as of 20")
        assert state.reader.roll_back_protection.endswith(f"UTC: reader.sqlite was {words}")
        assert state.warnings == []
        state.close()


@pytest.mark.parametrize("left", [(), ("reader.sqlite",)])
def test_a_new_directory_has_lost_nothing(tmp_path: Path, left: Iterable[str]) -> None:
    for name in left:
        (tmp_path / name).touch()
    with contextlib.closing(State.open(tmp_path)) as state:
        assert (state.reader.roll_back_protection, state.warnings) == ("whole", [])
