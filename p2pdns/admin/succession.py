"""A zone that moves to its next key, as the daemon takes part: it reveals the key, and keeps that alive.

Guarantees: what does not verify is refused; every fact can be written as JSON. Does not know secret keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2pdns.admin.control import Progress
from p2pdns.clock import boot_now
from p2pdns.errors import StrangerError, UsageError
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneKey
from p2pdns.overlay.parts import zone_id_for
from p2pdns.publishing.revealing import Revealed, RevealedCopies

if TYPE_CHECKING:
    from p2pdns.admin.commands import EngineParts

PLACE = 'reveal: "values"'


def read_revealed(request: dict[str, Any]) -> Revealed:
    """Return what a request reveals: `old`, the two `values`, and the last `item` of the old key or null."""
    values, item = request.get("values"), request.get("item")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UsageError("missing, or not a list of texts", place=PLACE)
    if not isinstance(request.get("old"), str) or not isinstance(item, str | None):
        raise UsageError("missing, or not text", place='reveal: "old", "item"')
    try:
        last = None if item is None else MutableItem.read_file(bytes.fromhex(item))
        return Revealed.verified(ZoneKey.read(request["old"]).raw, [bytes.fromhex(value) for value in values], last)
    except StrangerError as error:
        raise UsageError(str(error), place=PLACE) from None
    except ValueError:
        raise UsageError("not hexadecimal", place=PLACE) from None


async def reveal(engine: EngineParts, request: dict[str, Any], report: Progress) -> dict[str, Any]:
    """Put the values that reveal a next key, and the last item of the old key, and keep them alive."""
    copies = await engine.revealing.reveal(read_revealed(request), lambda: report({}))
    # This node's own readers would look for the next key within the hour only.
    engine.overlay.look_for_next_key(zone_id_for(copies.revealed.old_key))
    return {"values": values_of(copies)}


def values_of(copies: RevealedCopies) -> list[dict[str, Any]]:
    """Return how many others were asked to keep each value at the last put, and how many do."""
    pairs = zip(copies.revealed.values, copies.others, strict=True)
    return [{"target": value.target.hex(), "sent": known, "stored": stored} for value, (known, stored) in pairs]


def moved_of(engine: EngineParts) -> list[dict[str, Any]]:
    """Return the zones that have moved to a next key, each with the values that this node puts again."""
    now = boot_now()
    return [
        {
            "key": str(one.revealed.old_key),
            "next": str(one.revealed.next_key),
            "seq": None if one.revealed.item is None else one.revealed.item.seq,
            "values": values_of(one),
            "last_put_s": None if one.put_at is None else round(max(0.0, now - one.put_at), 1),
            "next_put_s": None if one.next_at is None else round(max(0.0, one.next_at - now), 1),
            "trouble": one.trouble,
        }
        for one in engine.revealing.kept
    ]
