"""What a restart must not lose: marks and items that grew older are lost, newer ones are not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.state import State
from p2pdns.state.seen import mark_of
from tests.testbed import inside
from tests.testbed.world import Memory

ALICE = SecretKey.generate(b"\x01" * 32)
BEFORE = Memory({"node id": "ab", "items kept alive": 8}, {"alice": 7, "bob": 3}, {"aa": 7, "bb": 1})


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        (BEFORE, []),
        (replace(BEFORE, marks={"alice": 8, "bob": 3, "new": 1}, stored={"aa": 7, "bb": 2}), []),
        (replace(BEFORE, identity={"node id": "cd", "items kept alive": 8}), ["node id"]),
        (replace(BEFORE, identity={}), ["node id", "items kept alive"]),
        (replace(BEFORE, marks={"alice": 6, "bob": 3}), ["mark alice"]),
        (replace(BEFORE, marks={"alice": 7}), ["mark bob"]),
        (replace(BEFORE, stored={"aa": 7}), ["item bb"]),
        (replace(BEFORE, stored={"aa": 6, "bb": 1}), ["item aa"]),
    ],
)
def test_what_is_gone_or_older_is_lost(after: Memory, lost: list[str]) -> None:
    assert BEFORE.lost_in(after) == lost


def test_marks_are_read_from_the_disk_while_the_daemon_has_its_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    state = State.open(tmp_path)
    assert inside.marks(None) == {}
    asyncio.run(state.adopt(MutableItem.signed(ALICE, 7, b"v"), 0.0))
    asyncio.run(state.adopt(MutableItem.signed(ALICE, 9, b"v", b"salt"), 0.0))
    raw = ALICE.zone_key.raw
    assert inside.marks(None) == {mark_of(raw).hex(): 7, mark_of(raw, b"salt").hex(): 9}
    state.close()
