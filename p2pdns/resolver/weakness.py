"""The parts of an answer that may not rest on an item, because it is not settled or not confirmed.

Guarantees: an item that is kept alive by somebody else makes no name disappear and moves none to another zone. Does not
know how an item becomes settled.
"""

from __future__ import annotations

from p2pdns.dns.message import RR, Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.dns.zone.answer import Kind, ZoneAnswer
from p2pdns.items.shards.partial import Needed
from p2pdns.resolver.draft import owner_at_end
from p2pdns.resolver.steps import Found


def unfit_for_provisional(found: Found, said: ZoneAnswer, question: Question) -> str:
    """Return the part of an answer that may not rest on an item that is not settled; empty if there is none.

    An older item that is kept alive by somebody must not make names disappear or move to other zones.
    """
    if said.kind in (Kind.DELEGATED, Kind.DELEGATED_AWAY):
        return "a delegation"
    if found.zone.is_empty:
        return "an empty zone"
    if found.previous is not None:
        before = found.previous.answer(question)
        # Without its shards, nobody knows what the older item has said.
        if isinstance(before, Needed) or before.kind in (Kind.DELEGATED, Kind.DELEGATED_AWAY):
            return "the end of a delegation"
    return _absence(found, said, question)


def denied_by(found: Found, said: ZoneAnswer, question: Question) -> str:
    """Return the part of an answer that may not rest on an unconfirmed item; empty if there is none.

    A newer item may have the denied name, and be withheld. The records of this item were confirmed before.
    """
    if said.kind in (Kind.DELEGATED, Kind.DELEGATED_AWAY):
        return ""
    return "an empty zone" if found.zone.is_empty else _absence(found, said, question)


def _absence(found: Found, said: ZoneAnswer, question: Question) -> str:
    """Return the word for an answer that denies a name; empty for any other answer, as one that only lacks a type."""
    if said.kind is Kind.NODATA:
        aliases = [RR(s.owner, s.rtype, Class.IN, s.ttl, s.rdatas[0]) for s in said.answer]
        owner = owner_at_end(question.name, aliases)
        # A browser asks for A and AAAA at once: if a missing AAAA counted, each first visit would wait long.
        return "" if _has_data_at(found, owner) else "an absence"
    return "" if said.kind in (Kind.ANSWER, Kind.ALIAS) else "an absence"


def _has_data_at(found: Found, owner: Name) -> bool:
    """Return whether the item has records at a name, and no delegation there."""
    types = found.zone.types_at(owner)
    return bool(types) and (Type.NS not in types or owner == found.zone.apex)
