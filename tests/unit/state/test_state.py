"""The state directory: marks that never go down, files that break, one process a directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.storage import Storage
from p2pdns.dht.stored import StoredChange, StoredRow
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.publishing.cycle import CYCLE_S_MAX, KeptCycle
from p2pdns.state import State, tables
from p2pdns.state import marks as reader_module
from p2pdns.state import protection as protection_module
from p2pdns.state.store import SavedNode
from tests.unit.state.disk import Disk
from tests.waiting import until

ALICE = SecretKey.generate(b"\x01" * 32)
BOB = SecretKey.generate(b"\x02" * 32)


def item_of(seq: int, value: bytes = b"v", secret: SecretKey = ALICE, salt: bytes = b"") -> MutableItem:
    """Return an item of Alice's."""
    return MutableItem.signed(secret, seq, value, salt)


def adopt(state: State, *items: MutableItem, confirmed_unix: float = 0.0, own: bool = False) -> None:
    """Adopt the items one after the other."""

    async def all_of_them() -> None:
        for item in items:
            await state.reader.adopt(item, confirmed_unix, own=own)

    asyncio.run(all_of_them())


def held_seq(state: State, secret: SecretKey = ALICE, salt: bytes = b"") -> int | None:
    """Return the seq of the mark."""
    held = state.reader.held(ZoneId.of_key(secret.zone_key), salt)
    return None if held is None else held.item.seq


def mark_seq(state: State, secret: SecretKey = ALICE) -> int | None:
    """Return the seq of the mark, whether its item is held or not."""
    mark = state.reader.mark(ZoneId.of_key(secret.zone_key))
    return None if mark is None else mark.seq


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_adopted_item_is_held(tmp_path: Path, in_memory: bool) -> None:
    state = State.open(None if in_memory else tmp_path)
    assert state.reader.held(ZoneId.of_key(ALICE.zone_key)) is None
    adopt(state, item_of(7), confirmed_unix=5.0)
    held = state.reader.held(ZoneId.of_key(ALICE.zone_key))
    assert held is not None
    assert (held.item, held.confirmed_unix, held.is_own) == (item_of(7), 5.0, False)
    assert state.reader.mark_count == 1
    state.close()


def test_a_restart_keeps_items_salts_flags_names_contacts_and_the_node(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7), own=True)
    adopt(state, item_of(9, salt=b"mail"), item_of(3, secret=BOB), confirmed_unix=11.0)
    state.reader.names.keep({"alice": ZoneId.of_key(ALICE.zone_key)})
    state.store.save_node("demo", SavedNode(b"n" * 20, 6881))
    contacts = [SavedContact(b"a" * 20, ("127.0.0.1", 6881), 12.5, 60.0), SavedContact(b"b" * 20, ("::1", 1), None)]
    asyncio.run(state.store.save_contacts("demo", contacts))
    state.close()
    state = State.open(tmp_path)
    assert held_seq(state) == 7
    assert held_seq(state, salt=b"mail") == 9
    assert held_seq(state, BOB) == 3
    assert [held.item.seq for held in state.reader.kept_alive()] == [7]
    assert state.reader.names.read() == {"alice": str(ALICE.zone_key)}
    assert state.store.load_node("demo") == SavedNode(b"n" * 20, 6881)
    assert state.store.load_node("mainline") is None
    assert state.store.load_contacts("demo") == contacts
    assert state.store.load_contacts("mainline") == []
    assert state.warnings == []
    state.close()


@given(
    order=st.lists(st.tuples(st.integers(1, 5), st.sampled_from([b"a", b"b", b""])), min_size=1, max_size=8),
    splits=st.lists(st.integers(0, 8), max_size=3),
    in_memory=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mark_never_goes_down_in_any_order_across_restarts(
    tmp_path_factory: pytest.TempPathFactory, order: list[tuple[int, bytes]], splits: list[int], in_memory: bool
) -> None:
    directory = None if in_memory else tmp_path_factory.mktemp("state")
    items = [item_of(seq, value) for seq, value in order]
    best: tuple[int, bytes] = (0, b"")
    state = State.open(directory)
    for index, item in enumerate(items):
        if index in splits and directory is not None:
            state.close()
            state = State.open(directory)
        adopt(state, item)
        best = max(best, (item.seq, item.value))
        held = state.reader.held(ZoneId.of_key(ALICE.zone_key))
        assert held is not None
        assert (held.item.seq, held.item.value) == best
    state.close()


@given(order=st.permutations([(seq, value) for seq in (1, 2, 3) for value in (b"a", b"b")]))
@settings(max_examples=25, deadline=None)
def test_items_adopted_at_once_end_at_the_same_mark_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[tuple[int, bytes]]
) -> None:
    directory = tmp_path_factory.mktemp("state")

    async def at_once(state: State) -> None:
        await asyncio.gather(*(state.reader.adopt(item_of(seq, value), 0.0) for seq, value in order))

    for _ in range(2):
        state = State.open(directory)
        asyncio.run(at_once(state))
        held = state.reader.held(ZoneId.of_key(ALICE.zone_key))
        assert held is not None
        assert (held.item.seq, held.item.value) == (3, b"b")
        assert mark_seq(state) == 3
        state.close()


def test_items_adopted_in_one_tick_share_one_commit(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")
    state = disk.opened(tmp_path)
    before = disk.commit_count
    secrets = [SecretKey.generate(bytes([number]) * 32) for number in range(1, 41)]

    async def at_once() -> None:
        await asyncio.gather(*(state.reader.adopt(item_of(5, secret=secret), 0.0) for secret in secrets))

    asyncio.run(at_once())
    assert disk.commit_count == before + 1
    assert state.reader.mark_count == 40
    state.close()


@pytest.mark.parametrize("own", [False, True])
def test_the_first_mark_of_a_key_is_not_read_back_and_verified_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    item = item_of(1)
    verified, checked = MutableItem.verified, list[Any]()

    def check(*facts: Any) -> MutableItem:
        checked.append(facts)
        return verified(*facts)

    with contextlib.closing(State.open(tmp_path)) as state:
        with monkeypatch.context() as patched:
            patched.setattr(MutableItem, "verified", check)
            adopt(state, item, own=own)
        assert checked == []
        held = state.reader.held(ZoneId.of_key(ALICE.zone_key))
        assert held is not None
        assert held.item is item


@pytest.mark.parametrize("own", [False, True])
def test_a_mark_forgotten_while_it_is_written_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    with contextlib.closing(State.open(tmp_path)) as state:

        async def story() -> None:
            loop = asyncio.get_running_loop()
            run = loop.run_in_executor

            async def written_and_forgotten(*work: Any) -> None:
                await run(*work)
                assert state.reader.forget(ZoneId.of_key(ALICE.zone_key)), (
                    "it is on the disk, and nobody has been told so yet"
                )

            monkeypatch.setattr(loop, "run_in_executor", written_and_forgotten)
            await state.reader.adopt(item_of(1), 0.0, own=own)

        asyncio.run(story())
        assert held_seq(state) is None
        assert mark_seq(state) is None


def test_adopt_returns_after_the_commit(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7), own=True)
    # Another connection sees only what is committed.
    other = sqlite3.connect(tmp_path / "reader.sqlite")
    assert other.execute("SELECT seq, is_own FROM marks").fetchall() == [(7, 1)]
    other.close()
    state.close()


def test_a_killed_process_loses_nothing_that_was_adopted(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, signal
from dataclasses import replace
from pathlib import Path
from p2pdns.state import State
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
state = State.open(Path({str(tmp_path)!r}))
async def main():
    await state.reader.adopt(MutableItem.signed(SecretKey.generate(b"\\x01" * 32), 77, b"v"), 0.0, own=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert done.returncode == -9
    state = State.open(tmp_path)
    assert held_seq(state) == 77
    assert [held.item.seq for held in state.reader.kept_alive()] == [77]
    assert state.warnings == []
    state.close()


def test_a_confirmation_is_kept_without_a_commit_of_its_own(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")
    state = disk.opened(tmp_path)
    adopt(state, item_of(7), confirmed_unix=1.0)
    before = disk.commit_count
    adopt(state, item_of(7), confirmed_unix=9.0)
    adopt(state, item_of(7), confirmed_unix=4.0)
    assert disk.commit_count == before
    held = state.reader.held(ZoneId.of_key(ALICE.zone_key))
    assert held is not None
    assert held.confirmed_unix == 9.0
    asyncio.run(state.reader.save())
    assert disk.commit_count == before + 1
    state.close()
    state = State.open(tmp_path)
    held = state.reader.held(ZoneId.of_key(ALICE.zone_key))
    assert held is not None
    assert held.confirmed_unix == 9.0
    state.close()


def test_own_stays_own_when_a_newer_item_arrives_from_elsewhere(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7), own=True)
    adopt(state, item_of(8))
    assert [(held.item.seq, held.is_own) for held in state.reader.kept_alive()] == [(8, True)]
    state.close()


def test_publishing_an_item_already_held_makes_it_own(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    assert state.reader.kept_alive() == []
    adopt(state, item_of(7), own=True)
    assert [held.item.seq for held in state.reader.kept_alive()] == [7]
    held = state.reader.held(ZoneId.of_key(ALICE.zone_key))
    assert held is not None
    assert held.is_own
    state.close()


def test_pinning_keeps_the_newest_item_of_the_key(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    asyncio.run(state.reader.adopt(item_of(6), 0.0, pinned=True))
    assert [(held.item.seq, held.is_pinned, held.is_own) for held in state.reader.kept_alive()] == [(7, True, False)]
    state.close()


def test_forget_clears_the_marks_of_one_key(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7), item_of(8, salt=b"s"), item_of(9, secret=BOB))
    assert state.reader.forget(ZoneId.of_key(ALICE.zone_key))
    assert not state.reader.forget(ZoneId.of_key(ALICE.zone_key))
    assert held_seq(state) is None
    assert held_seq(state, salt=b"s") is None
    assert held_seq(state, BOB) == 9
    adopt(state, item_of(1))
    assert held_seq(state) == 1
    assert state.reader.mark_count == 2
    state.close()


def test_when_there_are_too_many_items_the_longest_unconfirmed_go_and_all_marks_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "ITEMS_MAX", 4)
    monkeypatch.setattr(tables, "EVICTED_AT_ONCE", 2)
    monkeypatch.setattr(reader_module, "CACHED_MAX", 1)
    secrets = [SecretKey.generate(bytes([number]) * 32) for number in range(1, 6)]
    state = State.open(tmp_path)
    adopt(state, item_of(1, secret=secrets[0]), own=True)
    state.reader.protect([ZoneId.of_key(secrets[1].zone_key)])
    for age, secret in enumerate(secrets[1:], 1):
        adopt(state, item_of(1, secret=secret), confirmed_unix=float(age))
        asyncio.run(state.reader.save())
    assert [held_seq(state, secret) for secret in secrets] == [1, 1, None, None, 1]
    assert [mark_seq(state, secret) for secret in secrets] == [1] * 5
    assert (state.reader.item_count, state.reader.mark_count) == (3, 5)
    assert state.reader.roll_back_protection == "whole"
    state.close()


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def _truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _wrong_schema(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE surprise (x)")
    connection.commit()
    connection.close()


def _newer_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()


def _foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.commit()
    connection.close()


def _torn_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : 4096 + 512] = b"\xff" * 512
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["reader.sqlite", "store.sqlite"])
def test_a_file_of_a_newer_version_is_left_alone_and_named(tmp_path: Path, name: str) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    state.close()
    _newer_version(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    state = State.open(tmp_path)
    assert f"{tmp_path / name}: version 99 of a newer p2pdns" in state.warnings[0]
    assert "left alone" in state.warnings[0]
    adopt(state, item_of(8))
    assert held_seq(state) == 8, "this run remembers"
    state.close()
    assert (tmp_path / name).read_bytes() == before
    assert not list(tmp_path.glob("*.corrupt-*"))


@pytest.mark.parametrize("spoil", [_garbage, _truncated, _wrong_schema, _foreign, _torn_page])
@pytest.mark.parametrize("name", ["reader.sqlite", "store.sqlite"])
def test_a_broken_file_is_set_aside_and_made_anew(tmp_path: Path, name: str, spoil: Callable[[Path], None]) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    state.store.save_node("demo", SavedNode(b"n" * 20, 6881))
    state.close()
    spoil(tmp_path / name)
    spoilt = (tmp_path / name).read_bytes()
    state = State.open(tmp_path)
    assert (tmp_path / f"{name}.corrupt-1").read_bytes() == spoilt
    assert f"set aside as {name}.corrupt-1" in state.warnings[0]
    assert ("roll-back protection starts anew" in " ".join(state.warnings)) == (name == "reader.sqlite")
    # What strangers write to never endangers the marks.
    assert held_seq(state) == (None if name == "reader.sqlite" else 7)
    adopt(state, item_of(8))
    state.close()
    state = State.open(tmp_path)
    assert held_seq(state) == 8
    assert state.warnings == []
    state.close()


def test_protection_that_started_anew_is_told_after_every_restart_with_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State.open(tmp_path)
    assert state.reader.roll_back_protection == "whole"
    state.close()
    _garbage(tmp_path / "reader.sqlite")
    monkeypatch.setattr(protection_module, "unix_now", lambda: 1_790_000_000.0)
    State.open(tmp_path).close()
    monkeypatch.setattr(protection_module, "unix_now", lambda: 1_799_999_999.0)
    for _ in range(2):
        state = State.open(tmp_path)
        assert (
            state.reader.roll_back_protection == "starts anew as of 2026-09-21 14:13:20 UTC: reader.sqlite was broken"
        )
        assert state.warnings == []
        state.close()


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff" * 9])
def test_a_note_that_was_tampered_with_still_says_that_protection_started_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reader.anew").write_bytes(content)
    state = State.open(tmp_path)
    assert state.reader.roll_back_protection.startswith("starts anew as of ")
    state.close()


def test_a_dropped_mark_is_told_after_a_restart_and_a_dropped_petname_or_a_broken_store_costs_no_protection(
    tmp_path: Path,
) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))
    state.reader.names.keep({"alice": ZoneId.of_key(ALICE.zone_key)})
    state.close()
    connection = sqlite3.connect(tmp_path / "reader.sqlite")
    connection.execute("UPDATE names SET key = 'none'")
    connection.commit()
    connection.close()
    _garbage(tmp_path / "store.sqlite")
    state = State.open(tmp_path)
    assert state.reader.names.read() == {}
    assert len(state.warnings) == 2
    assert state.reader.roll_back_protection == "whole"
    state.close()
    connection = sqlite3.connect(tmp_path / "reader.sqlite")
    connection.execute("UPDATE marks SET seq = 8")
    connection.commit()
    connection.close()
    state = State.open(tmp_path)
    assert held_seq(state) is None
    assert mark_seq(state) == 7
    assert state.reader.roll_back_protection == "whole"
    state.close()
    # Without its small mark a broken row is all that there was.
    state = State.open(tmp_path)
    adopt(state, item_of(7), own=True)
    state.close()
    connection = sqlite3.connect(tmp_path / "reader.sqlite")
    connection.execute("UPDATE marks SET seq = 8")
    connection.execute("DELETE FROM seen")
    connection.commit()
    connection.close()
    state = State.open(tmp_path)
    assert held_seq(state) is None
    state.close()
    state = State.open(tmp_path)
    assert state.reader.roll_back_protection.endswith("UTC: the row of a key did not verify")
    state.close()


def test_the_second_broken_file_gets_the_next_number(tmp_path: Path) -> None:
    for number in (1, 2):
        State.open(tmp_path).close()
        _garbage(tmp_path / "reader.sqlite")
        State.open(tmp_path).close()
        assert (tmp_path / f"reader.sqlite.corrupt-{number}").exists()


@pytest.mark.parametrize(
    "change", ["seq = 9000000000", "value = x'00'", "signature = zeroblob(64)", "key = zeroblob(32)"]
)
def test_a_row_that_was_tampered_with_is_dropped_with_a_warning(tmp_path: Path, change: str) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7), own=True)
    adopt(state, item_of(9, secret=BOB))
    state.close()
    connection = sqlite3.connect(tmp_path / "reader.sqlite")
    connection.execute(f"UPDATE marks SET {change} WHERE seq = 7")
    connection.commit()
    connection.close()
    state = State.open(tmp_path)
    assert state.reader.kept_alive() == []
    assert held_seq(state) is None
    assert held_seq(state, BOB) == 9
    is_lost = change.startswith("key")
    assert any(("starts anew for it" if is_lost else "its mark stays") in text for text in state.warnings)
    assert mark_seq(state) == 7
    # A forged seq in the row must not keep the honest item out.
    adopt(state, item_of(8))
    assert held_seq(state) == 8
    state.close()


def test_a_petname_that_was_tampered_with_is_dropped_and_the_others_stay(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    for name in ("alice", "bob", "carol"):
        state.reader.names.keep({name: ZoneId.of_key(ALICE.zone_key)})
    state.close()
    connection = sqlite3.connect(tmp_path / "reader.sqlite")
    connection.execute("UPDATE names SET key = 'nonsense' WHERE name = 'alice'")
    connection.execute("UPDATE names SET name = 'b.o.b' WHERE name = 'bob'")
    connection.commit()
    connection.close()
    state = State.open(tmp_path)
    assert state.reader.names.read() == {"carol": str(ALICE.zone_key)}
    assert len(state.warnings) == 2
    assert state.reader.names.read() == {"carol": str(ALICE.zone_key)}
    assert len(state.warnings) == 2
    state.close()


@pytest.mark.parametrize(
    "change",
    ["host = 'router.example'", "port = 0", "port = 70000", "node_id = x'00'", "rtt_ms = 9e999", "known_s = 9e999"],
)
def test_a_contact_that_was_tampered_with_is_left_out(tmp_path: Path, change: str) -> None:
    state = State.open(tmp_path)
    contacts = [SavedContact(bytes([n]) * 20, ("127.0.0.1", n), 1.0, 1.0) for n in (1, 2)]
    asyncio.run(state.store.save_contacts("demo", contacts))
    state.close()
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute(f"UPDATE contacts SET {change} WHERE place = 0")
    connection.commit()
    connection.close()
    state = State.open(tmp_path)
    assert state.store.load_contacts("demo") == contacts[1:]
    state.close()


def test_a_second_process_in_the_directory_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first = State.open(tmp_path)
    with pytest.raises(
        Unavailable, match=rf"another p2pdns runs in this state directory \(pid {os.getpid()}\)"
    ) as caught:
        State.open(tmp_path)
    assert caught.value.hint is not None
    first.close()
    State.open(tmp_path).close()


def test_the_directory_and_its_files_are_the_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "state"
    state = State.open(directory)
    adopt(state, item_of(7))
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name
    state.close()


def test_a_state_directory_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(Unavailable, match=r"state: file exists") as caught:
        State.open(tmp_path / "state")
    assert "--state" in str(caught.value.hint)


def test_a_disk_that_refuses_is_an_error_and_the_mark_stays(tmp_path: Path) -> None:
    disk = Disk("reader.sqlite")
    state = disk.opened(tmp_path)
    adopt(state, item_of(7))
    disk.refuse()
    with pytest.raises(Unavailable, match=r"reader.sqlite: cannot be written"):
        adopt(state, item_of(8))
    assert held_seq(state) == 7
    disk.accept()
    adopt(state, item_of(8))
    assert held_seq(state) == 8
    state.close()


@pytest.mark.parametrize("broken", ["the commit", "what follows it"])
def test_whatever_breaks_while_marks_are_written_nobody_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7))

    def breaks(*args: object, **more: object) -> None:
        raise RuntimeError("no reason that anybody thought of")

    async def at_once() -> list[object]:
        if broken == "the commit":
            monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", breaks)
        wishes = [asyncio.ensure_future(state.reader.adopt(item_of(8, secret=secret), 0.0)) for secret in (ALICE, BOB)]
        await until(lambda: all(wish.done() for wish in wishes))
        return list(await asyncio.gather(*wishes, return_exceptions=True))

    with monkeypatch.context() as patch:
        if broken == "what follows it":
            patch.setattr(tables, "read_facts", breaks)
        outcomes = asyncio.run(at_once())
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert "no reason that anybody thought of" in str(outcomes[0])
    adopt(state, item_of(9))
    assert held_seq(state) == 9
    state.close()


@pytest.mark.parametrize("forged", ["9e999", "8e9", "-9e999"])
def test_a_forged_time_of_confirmation_is_believed_by_nobody(tmp_path: Path, forged: str) -> None:
    state = State.open(tmp_path)
    adopt(state, item_of(7), confirmed_unix=5.0)
    state.close()
    connection = sqlite3.connect(tmp_path / "reader.sqlite")
    connection.execute(f"UPDATE marks SET confirmed_unix = {forged}")
    connection.commit()
    connection.close()
    # Once read it is mended in the file too: no time on the clock makes it true later.
    for _ in range(2):
        state = State.open(tmp_path)
        held = state.reader.held(ZoneId.of_key(ALICE.zone_key))
        assert held is not None
        assert 0.0 <= held.confirmed_unix <= 1.0
        state.close()
    connection = sqlite3.connect(tmp_path / "reader.sqlite")
    assert connection.execute("SELECT confirmed_unix BETWEEN 0 AND 1 FROM marks").fetchall() == [(1,)]
    connection.close()
    state = State.open(tmp_path)
    adopt(state, item_of(7), confirmed_unix=9.0)
    held = state.reader.held(ZoneId.of_key(ALICE.zone_key))
    assert held is not None
    assert held.confirmed_unix == 9.0
    state.close()


def test_a_store_that_cannot_be_written_is_a_warning_said_once(tmp_path: Path) -> None:
    disk = Disk("store.sqlite")
    state = disk.opened(tmp_path)
    disk.refuse()
    for _ in range(2):
        asyncio.run(state.store.save_contacts("demo", []))
    assert len([text for text in state.warnings if "store.sqlite" in text]) == 1
    # Once the disk takes something again, nobody is to look for a fault that is gone.
    disk.accept()
    asyncio.run(state.store.save_contacts("demo", []))
    assert state.warnings == []
    state.close()


def row_of(number: int) -> StoredRow:
    """Return a row as the storage makes it."""
    return StoredRow(bytes([number]) * 20, b"", b"", 0, b"1:x", b"", "127.0.0.1:1", 1.0, 0.0, 1.0)


@given(steps=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
@settings(max_examples=30, deadline=None)
def test_the_store_is_what_its_changes_say(steps: Sequence[tuple[int, bool]]) -> None:
    state = State.open(None)
    expected: dict[bytes, StoredRow] = {}
    for number, is_kept in steps:
        row = row_of(number)
        asyncio.run(state.store.save_changes([StoredChange(row.target, row if is_kept else None)]))
        if is_kept:
            expected[row.target] = row
        else:
            expected.pop(row.target, None)
    assert {row.target: row for row in state.store.rows()} == expected
    state.close()


def test_rows_come_back_in_the_order_of_their_last_puts() -> None:
    state = State.open(None)
    rows = [row_of(number)._replace(put_unix=put_unix) for number, put_unix in ((1, 3.0), (3, 1.0), (2, 2.0))]
    asyncio.run(state.store.save_changes([StoredChange(row.target, row) for row in rows]))
    assert [row.put_unix for row in state.store.rows()] == [1.0, 2.0, 3.0]
    state.close()


def test_what_a_storage_changed_loads_into_the_next_one(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    storage = Storage()
    storage.put_own(item_of(7), 100.0)
    state.store.save_now("demo", storage.take_changes(100.0, 1_800_000_000.0), [])
    state.close()
    state = State.open(tmp_path)
    after = Storage()
    assert [after.load(row, 5.0, 1_800_000_060.0) for row in state.store.rows()] == [True]
    kept = after.held(item_of(7).target, 5.0)
    assert kept is not None
    assert kept.item == item_of(7)
    state.close()


OLD_ITEMS = """CREATE TABLE items (
    target BLOB PRIMARY KEY, key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL,
    signature BLOB NOT NULL, prefix TEXT NOT NULL, put_unix REAL NOT NULL, got_unix REAL NOT NULL,
    new_unix REAL NOT NULL
) STRICT"""


def _made_old(path: Path) -> None:
    """Make a store of the first version out of one of today."""
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE items RENAME TO newer")
    connection.execute(OLD_ITEMS)
    columns = "target, key, salt, seq, value, signature, prefix, put_unix, got_unix, new_unix"
    connection.execute(f"INSERT INTO items SELECT {columns} FROM newer")
    connection.execute("DROP TABLE newer")
    for table in ("cycles", "storers"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("PRAGMA user_version=1")
    connection.commit()
    connection.close()


def test_a_store_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state.store.save_node("demo", SavedNode(b"n" * 20, 6881))
    asyncio.run(state.store.save_changes([StoredChange(row_of(1).target, row_of(1)._replace(new_unix=7.0))]))
    state.close()
    _made_old(tmp_path / "store.sqlite")
    for _ in range(2):
        state = State.open(tmp_path)
        assert state.warnings == []
        assert state.store.rows() == [row_of(1)._replace(new_unix=7.0, other_prefix="", first_unix=7.0)]
        assert state.store.load_node("demo") == SavedNode(b"n" * 20, 6881)
        state.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "parts.sqlite", "reader.sqlite", "store.sqlite"]


def test_an_old_store_with_other_tables_than_it_had_is_set_aside_whole(tmp_path: Path) -> None:
    State.open(tmp_path).close()
    _made_old(tmp_path / "store.sqlite")
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute("CREATE TABLE more (x INTEGER) STRICT")
    connection.execute("ALTER TABLE items ADD COLUMN y TEXT")
    connection.commit()
    connection.close()
    state = State.open(tmp_path)
    assert "other tables than expected; set aside" in state.warnings[0]
    state.close()


KEPT_CYCLE = KeptCycle(
    7, 1_800_000_000.5, (NodeInfo(b"a" * 20, ("192.0.2.1", 1)), NodeInfo(b"b" * 20, ("2001:db8::1", 2))), True, False
)


def test_the_cycle_of_an_item_survives_a_restart(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    asyncio.run(state.store.save_cycle(b"t" * 20, KEPT_CYCLE))
    asyncio.run(state.store.save_cycle(b"t" * 20, replace(KEPT_CYCLE, seq=8)))
    state.close()
    state = State.open(tmp_path)
    assert state.store.load_cycle(b"t" * 20) == replace(KEPT_CYCLE, seq=8)
    assert state.store.load_cycle(b"u" * 20) is None
    state.store.drop_cycle(b"t" * 20)
    assert state.store.load_cycle(b"t" * 20) is None
    state.close()


def test_cycles_that_are_over_leave_no_rows(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    asyncio.run(state.store.save_cycle(b"t" * 20, KEPT_CYCLE))
    later = replace(KEPT_CYCLE, put_unix=KEPT_CYCLE.put_unix + CYCLE_S_MAX + 1)
    asyncio.run(state.store.save_cycle(b"u" * 20, later))
    assert state.store.load_cycle(b"t" * 20) is None
    state.close()
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    assert [row[0] for row in connection.execute("SELECT DISTINCT target FROM storers")] == [b"u" * 20]
    connection.close()


def test_a_storer_that_was_tampered_with_is_left_out(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    odd = (NodeInfo(b"short", ("192.0.2.1", 1)), NodeInfo(b"c" * 20, ("nonsense", 1)), KEPT_CYCLE.storers[0])
    asyncio.run(state.store.save_cycle(b"t" * 20, replace(KEPT_CYCLE, storers=odd)))
    found = state.store.load_cycle(b"t" * 20)
    assert found is not None
    assert found.storers == (KEPT_CYCLE.storers[0],)
    state.close()


def test_a_store_of_the_second_version_is_brought_up_to_date(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state.store.save_node("demo", SavedNode(b"n" * 20, 6881))
    state.close()
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    for statement in ("DROP TABLE cycles", "DROP TABLE storers", "PRAGMA user_version=2"):
        connection.execute(statement)
    connection.commit()
    connection.close()
    state = State.open(tmp_path)
    assert state.warnings == []
    assert state.store.load_node("demo") == SavedNode(b"n" * 20, 6881)
    asyncio.run(state.store.save_cycle(b"t" * 20, KEPT_CYCLE))
    assert state.store.load_cycle(b"t" * 20) == KEPT_CYCLE
    state.close()


def test_a_disk_that_takes_no_cycle_costs_a_warning_and_nothing_else(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    lock = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    lock.execute("PRAGMA busy_timeout=0")
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute("DROP TABLE storers")
    connection.commit()
    connection.close()
    lock.close()
    asyncio.run(state.store.save_cycle(b"t" * 20, KEPT_CYCLE))
    assert "cannot be written" in state.warnings[0]
    assert state.store.load_cycle(b"t" * 20) is None
    state.close()


def test_a_released_zone_is_kept_alive_no_longer_and_keeps_its_mark(tmp_path: Path) -> None:
    async def story() -> None:
        state = State.open(tmp_path)
        await state.reader.adopt(ITEM_OF_RELEASED, 1.0, own=True, pinned=True)
        state.reader.release(ZoneId.of_key(ITEM_OF_RELEASED.key))
        assert state.reader.kept_alive() == []
        state.close()
        state = State.open(tmp_path)
        mark = state.reader.mark(ZoneId.of_key(ITEM_OF_RELEASED.key))
        held = state.reader.held(ZoneId.of_key(ITEM_OF_RELEASED.key))
        assert state.reader.kept_alive() == []
        assert mark is not None
        assert mark.seq == ITEM_OF_RELEASED.seq
        assert held is not None
        state.close()

    asyncio.run(story())


ITEM_OF_RELEASED = MutableItem.signed(SecretKey.generate(b"\x05" * 32), 1_700_000_000_000_000, b"v")
