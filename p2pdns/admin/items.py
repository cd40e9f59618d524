"""Items with a salt at the control socket: both ends, for publications of zones that do not fit one item.

Guarantees: what arrives is verified before anything else happens to it; a line has `ITEMS_AT_ONCE` items at most, and
so stays below the limit of the socket; progress counts all items, whatever lines they crossed in. Does not know zones,
nor who signs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from p2pdns.admin.control import ControlClient, Progress
from p2pdns.admin.replicas import PublishingParts
from p2pdns.clock import boot_now
from p2pdns.errors import FormatError, UsageError
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId, ZoneKey
from p2pdns.overlay.parts import key_of
from p2pdns.publishing.divided import Placed
from p2pdns.publishing.edits import SALT_BYTES
from p2pdns.publishing.placing import Tally
from p2pdns.publishing.placing import fetch as looked_up
from p2pdns.publishing.replicas import Tell
from p2pdns.timing import Clock

ITEMS_AT_ONCE = 256  # At 2.3 kB each they fit into a line of a megabyte.


def _row_of(item: MutableItem) -> list[Any]:
    return [item.seq, item.salt.hex(), item.value.hex(), item.signature.hex()]


def _item_of(key: ZoneKey, row: Any) -> MutableItem:
    """Return the item of a row; a StrangerError where it does not verify."""
    try:
        seq, salt, value, signature = row
        return MutableItem.verified(key, int(seq), bytes.fromhex(value), bytes.fromhex(signature), bytes.fromhex(salt))
    except (TypeError, ValueError):
        raise FormatError("not-an-item", "a row is seq, salt, value and signature in hexadecimal") from None


def _rows(request: Mapping[str, Any], argument: str) -> list[Any]:
    rows = request.get(argument)
    if not isinstance(rows, list) or not 1 <= len(rows) <= ITEMS_AT_ONCE:
        what = f"missing, or not a list of 1 to {ITEMS_AT_ONCE}"
        raise UsageError(what, place=f'{request["verb"]}: "{argument}"')
    return rows


# The daemon's end


async def place(
    engine: PublishingParts, zone_id: ZoneId, request: Mapping[str, Any], report: Progress
) -> dict[str, Any]:
    """Put the items of a request, and keep them alive."""
    items = [_item_of(key_of(zone_id), row) for row in _rows(request, "items")]
    if any(len(one.salt) != SALT_BYTES for one in items):
        raise UsageError("an item has no salt of a divided zone", place='place: "items"')
    placed = await engine.part_keeper.place(zone_id, items, lambda stage: report(stage.to_json()))
    poor = [one.salt.hex() for one in placed.poor]
    return {"poor": poor, "refused": dict(placed.refused), "is_alone": placed.is_alone}


async def fetch(
    engine: PublishingParts, zone_id: ZoneId, request: Mapping[str, Any], report: Progress
) -> dict[str, Any]:
    """Return items by their salts: those that are kept here, and those that a look-up finds."""
    try:
        salts = [bytes.fromhex(row) for row in _rows(request, "salts")]
    except (TypeError, ValueError):
        raise UsageError("not hexadecimal", place='fetch: "salts"') from None
    if any(len(salt) != SALT_BYTES for salt in salts):
        raise UsageError("not the salts of a divided zone", place='fetch: "salts"')
    kept = engine.part_keeper.items_of(zone_id)
    found = {salt: kept[salt] for salt in salts if salt in kept}
    missing = [salt for salt in salts if salt not in found]
    if missing:
        key, tell = key_of(zone_id), lambda stage: report(stage.to_json())
        found |= await looked_up(engine.endpoint, key, missing, clock=boot_now, tell=tell)
    return {"items": [_row_of(one) for one in found.values()]}


# The end of the process that signs


class DaemonItems:
    """The items with a salt of one zone, by the running daemon: `SaltedItems`. Nothing in it waits for a loop."""

    def __init__(self, client: ControlClient, key: ZoneKey, clock: Clock = time.monotonic) -> None:
        self._client = client
        self._key = key
        self._clock = clock

    async def fetch(self, salts: Sequence[bytes], tell: Tell) -> Mapping[bytes, MutableItem]:
        """Have the daemon return items, from its own state or from the overlay."""
        found: dict[bytes, MutableItem] = {}
        tally = Tally("fetch", len(salts), self._clock, tell)
        for at in range(0, len(salts), ITEMS_AT_ONCE):
            some = salts[at : at + ITEMS_AT_ONCE]
            request = {"key": str(self._key), "salts": [salt.hex() for salt in some]}
            reply = self._client.call("fetch", on_progress=_behind(tally, at), **request)
            items = [_item_of(self._key, row) for row in reply["items"]]
            found |= {one.salt: one for one in items}
            tally.tell(at + len(some))
        return found

    async def place(self, items: Sequence[MutableItem], tell: Tell) -> Placed:
        """Have the daemon put items, and keep them alive."""
        by_salt = {one.salt.hex(): one for one in items}
        poor, refused, alone = list[MutableItem](), dict[str, int](), list[bool]()
        tally = Tally("items", len(items), self._clock, tell)
        for at in range(0, len(items), ITEMS_AT_ONCE):
            some = items[at : at + ITEMS_AT_ONCE]
            request = {"key": str(self._key), "items": [_row_of(one) for one in some]}
            reply = self._client.call("place", on_progress=_behind(tally, at), **request)
            poor += [by_salt[salt] for salt in reply["poor"] if salt in by_salt]
            for reason, count in reply["refused"].items():
                refused[str(reason)] = refused.get(str(reason), 0) + int(count)
            alone.append(bool(reply["is_alone"]))
            tally.tell(at + len(some))
        return Placed(tuple(poor), refused, is_alone=all(alone))


def _behind(tally: Tally, before: int) -> Progress:
    """Return what takes the progress of one line, behind so many items."""
    return lambda facts: tally.tell(before + int(facts.get("done", 0)))
