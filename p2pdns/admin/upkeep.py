"""What the control socket says about the zones that are kept alive, and about the nodes that hold a zone.

Guarantees: looking changes nothing and sends nothing but the question about holders; every fact can be written as JSON.
Does not know sockets, nor how zones are kept alive (`publishing` does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from p2pdns.addresses import write_address
from p2pdns.admin import petnames
from p2pdns.clock import boot_now, unix_now
from p2pdns.errors import BadItem, FormatError, UsageError
from p2pdns.items.dividing import Division, gathered
from p2pdns.items.item import FUTURE_S_MAX, SEQ_PER_SECOND, MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.packet import zone_of
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.pinned import Pinned
from p2pdns.overlay.holders import Holder, Holders
from p2pdns.overlay.parts import zone_id_of
from p2pdns.publishing.editions import is_head

if TYPE_CHECKING:
    from p2pdns.admin.commands import EngineParts

_ANCOUNT = slice(6, 8)  # In the header of a DNS message: how many records it has.
PARSED_AT_ONCE = 16  # Zones read in one go: some milliseconds, then other tasks run.


def record_count(item: MutableItem) -> int | None:
    """Return how many records the zone in an item has; None where it holds no zone."""
    try:
        zone = zone_of(item)
    except (BadItem, FormatError):
        return None
    return sum(len(rrset.rdatas) for rrset in zone.rrsets.values())


def extent_of(item: MutableItem, parts: Mapping[bytes, MutableItem]) -> tuple[int | None, int | None]:
    """Return how many records and items the zone of an item has; None for what cannot be told from the parts here."""
    if not is_head(item.value):
        return record_count(item), 1
    values = {salt: one.value for salt, one in parts.items()}

    def value_of(pinned: Pinned) -> bytes | None:
        return values.get(pinned.salt)

    try:
        head = Head.of(item)
        division = gathered(item.key.apex, item.value, value_of)
    except (BadItem, FormatError):
        return None, None
    if not isinstance(division, Division):
        return None, None
    # To read the records of ten thousand names takes half a second; their count is in the header of each message.
    own = sum(len(rrset.rdatas) for rrset in head.zone.rrsets.values())
    in_shards = sum(int.from_bytes(edition.message[_ANCOUNT]) for edition in division.shards.values())
    return own + in_shards, division.item_count


async def zones_of(engine: EngineParts) -> list[dict[str, Any]]:
    """Return the zones that an engine keeps alive, each with what is known of its copies; those in trouble first."""
    names = {
        entry.key: name for name, entry in petnames.in_use(engine.config, engine.state.reader.names.read()).items()
    }
    rows: list[dict[str, Any]] = []
    for number, (zone_id, copies) in enumerate(engine.publisher.kept):
        if number % PARSED_AT_ONCE == PARSED_AT_ONCE - 1:
            await asyncio.sleep(0)
        held = engine.state.reader.held(zone_id)
        if held is None:
            continue
        now, measured = boot_now(), engine.publisher.measured(zone_id)
        records, items = extent_of(held.item, engine.part_keeper.items_of(zone_id))

        def since(at: float | None, now: float = now) -> float | None:
            return None if at is None else round(max(0.0, now - at), 1)

        def until(at: float | None, now: float = now) -> float | None:
            return None if at is None else round(max(0.0, at - now), 1)

        rows.append(
            {
                "key": str(zone_id),
                "petname": names.get(str(zone_id)),
                "kind": "own" if held.is_own else "pinned",
                "records": records,
                "items": items,
                "items_poor": engine.part_keeper.poor_count(zone_id),
                "seq": held.item.seq,
                "acknowledged": measured.acknowledged,
                "copies": None if measured.at is None else measured.copies,
                "measured_s": since(measured.at),
                "last_put_s": since(measured.put_at),
                "next_put_s": until(measured.put_next_at),
                "next_look_s": until(measured.look_next_at),
                "time_left_s": until(measured.until),
                "trouble": None if copies is None else copies.warning or copies.trouble,
            }
        )
    return sorted(rows, key=lambda row: (row["trouble"] is None, row["petname"] or row["key"]))


def released(engine: EngineParts, zone_id: ZoneId, seq: object) -> bool:
    """Keep a zone alive no longer, if its newest item is the one with this seq; return whether it is."""
    if not isinstance(seq, int) or isinstance(seq, bool):
        raise UsageError("missing, or not a number", place='release: "seq"')
    return engine.publisher.release(zone_id, seq)


def forgotten_ahead(engine: EngineParts) -> int:
    """Clear all marks ahead of the clock, and keep their items alive no longer; return how many there were."""
    latest = int((unix_now() + FUTURE_S_MAX) * SEQ_PER_SECOND)
    for held in engine.state.reader.kept_alive():
        if held.item.seq > latest:
            engine.publisher.forget(zone_id_of(held.item))
    count = engine.state.reader.forget_above(latest)
    engine.overlay.forget_above(latest)
    engine.clock_watch.look()
    return count


def holders_facts(found: Holders, unix: float) -> dict[str, Any]:
    """Return the nodes nearest to a zone as JSON shows them; `unix` is the time now."""
    return {
        "verdict": found.verdict.value,
        "newest_seq": found.newest_seq,
        "divided": found.is_divided,
        "holders": [_holder_facts(one, unix) for one in found.nearest],
    }


def _holder_facts(one: Holder, unix: float) -> dict[str, Any]:
    return {
        "address": write_address(one.address),
        "node_id": one.node_id.hex(),
        "seq": one.seq,
        "age_s": None if one.seq is None else round(unix - one.seq / 1_000_000, 1),
        "rtt_ms": None if one.rtt_s is None else round(1_000 * one.rtt_s, 1),
        "says": _words_of(one),
        "id_allowed": one.is_allowed,
    }


def _words_of(one: Holder) -> str:
    if one.seq is not None:
        return "signed"
    if one.dropped is not None:
        return f"forged: {one.dropped}"
    if one.seq_named is not None:
        return "a seq, and no item"
    return "silent" if one.is_silent else "nothing"
