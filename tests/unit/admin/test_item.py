"""The item of a key, and its pin, where another key has followed it."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from p2pdns.admin.commands import Commands
from p2pdns.items.item import MutableItem
from p2pdns.items.succession import Succession
from p2pdns.overlay.ports import Held, KeptCommitment
from p2pdns.state import State
from tests.committed import COMMITTED, KEY, NEXT, NEXT_ID, OLD_ID, VALUES, committed_item
from tests.overlay_doubles import UNIX, FakeState
from tests.unit.overlay.test_finder import World, run

if TYPE_CHECKING:
    from p2pdns.admin.commands import EngineParts

SEQ = int((UNIX - 100) * 1e6)
HONEST, MOVED = committed_item(COMMITTED, seq=SEQ), committed_item(None, seq=SEQ + 1, secret=NEXT)


def unseen(report: dict[str, Any]) -> None:
    """Take no note of progress."""


def test_item_and_pin_are_of_the_key_that_was_named_and_say_which_one_has_followed_it() -> None:
    async def story() -> None:
        with contextlib.closing(State.open(None)) as state:
            await state.reader.commitments.keep(OLD_ID, COMMITTED)
            await state.reader.commitments.succeed(OLD_ID, Succession.verified(KEY, COMMITTED, VALUES[0].value))
            known = FakeState({NEXT_ID: Held(MOVED, UNIX - 1)})
            known.commitments.all[OLD_ID] = KeptCommitment(COMMITTED, NEXT.zone_key)
            world = World(state=known, at_once=True)
            assert world.dht.items is not None
            world.dht.items |= {OLD_ID: HONEST, NEXT_ID: MOVED}

            async def pinned(zone_id: object) -> MutableItem:
                return world.state.marks[OLD_ID].item

            engine = SimpleNamespace(
                overlay=world.overlay, state=state, publisher=SimpleNamespace(copies=lambda zone_id: None, pin=pinned)
            )
            verbs = Commands(cast("EngineParts", engine)).verbs
            assert (await verbs["pin"]({"key": str(KEY)}, unseen))["seq"] == HONEST.seq
            old = await verbs["item"]({"key": str(KEY), "settled": True}, unseen)
            assert MutableItem.read_file(bytes.fromhex(old["item"])) == HONEST
            assert old["notes"] == [f"succeeded by {NEXT_ID}, whose zone answers"]
            following = await verbs["item"]({"key": str(NEXT_ID), "settled": True}, unseen)
            assert following["notes"] == []

    run(story())
