"""The changes of a new edition of a zone against the one before, and how they are made again on top of another's.

Guarantees: changes that are made again undo none of another publisher's; if both have changed the same RRset, that is
an error which names it. Does not know signatures, the overlay, or the publisher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from p2pdns.dns.message import RRset, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem, P2pdnsError, counted
from p2pdns.items.item import VALUE_BYTES_WRITE_MAX
from p2pdns.items.packet import compose_packet
from p2pdns.publishing.editions import DividedItem, Draft, Found, LargeZone, draft_of, zone_in
from p2pdns.values import replace

SHOWN_MAX = 4  # RRsets named in an error; the rest is counted.
APEX_SOA = f"@ {type_text(Type.SOA)}"
SERIAL_HALF = 1 << 31  # RFC 1982: a serial is later if it is less than half of the circle ahead.

RRsets = Mapping[tuple[Name, int], RRset]


class Conflict(P2pdnsError):
    """Two publishers have changed the same RRsets, or their changes do not fit together."""


class Content(Protocol):
    """The content to publish: a whole zone, or a change of the zone that is published now."""

    def value_above(self, current: Found | None) -> Draft:
        """Return what to sign above an edition, None where there is none; Conflict if there can be no such zone.

        It is called first with the edition that the look-up has found, and then with each one that came in between.
        """

    def value_again(self, missed: Found) -> Draft:
        """Return what to sign above an own edition that the look-up has missed, in place of the first one."""


@dataclass(frozen=True)
class Changes:
    """The RRsets that differ between two editions, as `(owner, type)` texts; `before_count` were there before."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    before_count: int = 0

    @property
    def count(self) -> int:
        return len(self.added) + len(self.removed) + len(self.changed)

    @property
    def taken(self) -> tuple[str, ...]:
        """The RRsets of the edition before that are no longer what they were, but for its SOA, which always changes."""
        return (*self.removed, *(name for name in self.changed if name != APEX_SOA))

    @property
    def is_mostly_gone(self) -> bool:
        """Whether more than half of what was there goes."""
        return 2 * len(self.removed) > self.before_count

    def __str__(self) -> str:
        parts = [(len(self.added), "added"), (len(self.removed), "removed"), (len(self.changed), "changed")]
        return ", ".join(f"{counted(count, 'RRset')} {word}" for count, word in parts if count) or "no RRset differs"


def rrsets_of(found: Found | None) -> RRsets:
    """Return the RRsets of an edition in one order of their RDATA; none where it is no zone."""
    if found is None:
        return {}
    try:
        return in_order(zone_in(found).rrsets.items())
    except BadItem:
        return {}


def in_order(rrsets: Iterable[tuple[tuple[Name, int], RRset]]) -> RRsets:
    """Return RRsets in one order of their RDATA, so that equal ones compare as equal."""
    return {key: replace(rrset, rdatas=tuple(sorted(rrset.rdatas))) for key, rrset in rrsets}


@dataclass(frozen=True)
class Difference:
    """An RRset that differs between two editions; None in the one that does not have it."""

    owner: Name
    rtype: int
    before: RRset | None
    after: RRset | None

    @property
    def mark(self) -> str:
        """The sign of `diff` for it: `+`, `-` or `~`."""
        if self.before is None:
            return "+"
        return "-" if self.after is None else "~"


def differences(current: Found | None, apex: Name, value: Draft) -> tuple[Difference, ...]:
    """Return the RRsets in which a draft differs from an edition, in the order of the two."""
    before, after = rrsets_of(current), _rrsets_in(apex, value)
    keys = dict.fromkeys([*before, *after])
    return tuple(Difference(*key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key))


def changes_between(current: Found | None, apex: Name, value: Draft) -> Changes:
    """Return what a draft would change in an edition."""
    return changes_of(rrsets_of(current), _rrsets_in(apex, value), apex)


def changes_of(before: RRsets, after: RRsets, apex: Name) -> Changes:
    """Return what the one content changes in the other."""

    def named(keys: list[tuple[Name, int]]) -> tuple[str, ...]:
        return tuple(_text(key, apex) for key in keys)

    return Changes(
        added=named([key for key in after if key not in before]),
        removed=named([key for key in before if key not in after]),
        changed=named([key for key in after if key in before and after[key] != before[key]]),
        before_count=len(before),
    )


def _rrsets_in(apex: Name, value: Draft) -> RRsets:
    if isinstance(value, LargeZone):
        return {(rrset.owner, rrset.rtype): rrset for rrset in value.rrsets}
    try:
        return in_order(Zone.verified(apex, value, 0).rrsets.items())
    except BadItem:
        # Programs may publish what is no zone; then nothing can be said about RRsets.
        return {}


def _text(key: tuple[Name, int], apex: Name) -> str:
    return f"{key[0].text_in(apex)} {type_text(key[1])}"


class WholeZone:
    """A whole zone, which replaces the one before it.

    Its own change is its difference from the zone that the look-up has found. If another item comes in between, the
    change of that item stays, and the own change is made on top of it.
    """

    def __init__(self, apex: Name, value: Draft, before: Draft | None = None) -> None:
        """Make it; with `before` its own change is counted from there, and not from what the look-up finds."""
        self._apex = apex
        self._value = value
        self._after = _rrsets_in(apex, value)
        self._before: RRsets | None = None if before is None else _rrsets_in(apex, before)
        # The edition that was found first. What it has is read when another one comes in between, and mostly none does.
        self._found: Found | None = None
        self._is_begun = before is not None

    def value_above(self, current: Found | None) -> Draft:
        """Return the whole zone at first, and then the own change on top of an item that came in between."""
        if not self._is_begun:
            self._is_begun, self._found = True, current
            return self._value
        if current is None or current.value == self._value:
            return self._value
        if self._before is None:
            self._before = rrsets_of(self._found)
        theirs = rrsets_of(current)
        if not theirs and self._before:
            raise Conflict("the other publication is no zone, or an empty one", place=str(current.key))
        merged = self._merged(self._before, theirs, current)
        if merged == self._after:
            return self._value
        try:
            return draft_of(merged.values(), self._apex, size_bytes_max=VALUE_BYTES_WRITE_MAX)
        except P2pdnsError as error:
            raise Conflict(f"the changes of both do not fit together: {error}", place=str(current.key)) from None

    def value_again(self, missed: Found) -> Draft:
        """Return the whole zone: what it changes in the edition that was missed is its own change."""
        self._is_begun, self._found, self._before = True, missed, None
        return self._value

    def _merged(self, before: RRsets, theirs: RRsets, current: Found) -> RRsets:
        merged: dict[tuple[Name, int], RRset] = {}
        contested: list[str] = []
        for key in dict.fromkeys([*before, *theirs, *self._after]):
            old, their, own = before.get(key), theirs.get(key), self._after.get(key)
            if own in (old, their):
                kept = their
            elif their == old:
                kept = own
            elif key[1] == Type.SOA and own is not None and their is not None:
                # Every edition has a serial of its own, so this is no contradiction.
                kept = their if _is_later(their, own) else own
            else:
                kept = their
                contested.append(_text(key, self._apex))
            if kept is not None:
                merged[key] = kept
        if contested:
            raise Conflict(f"both publications change {few_of(contested)}", place=str(current.key))
        return merged


class EmptyZone:
    """A zone without any record, in place of whatever is published.

    It takes away whatever it finds, so it fits together with no change that came in between.
    """

    def __init__(self, apex: Name) -> None:
        self._value = compose_packet((), apex)
        self._is_begun = False

    def value_above(self, current: Found | None) -> Draft:
        """Return the empty zone at first, and above another one."""
        if self._is_begun and current is not None and current.value != self._value:
            raise Conflict("another publication came in between", place=str(current.key))
        self._is_begun = True
        return self._value

    def value_again(self, missed: Found) -> Draft:
        """Return the empty zone."""
        return self._value


class StandingZone:
    """What is published already; a zone of our own only where nothing is."""

    def __init__(self, apex: Name, value: Draft) -> None:
        self._apex = apex
        self._value = value
        self._zone: WholeZone | None = None

    def value_above(self, current: Found | None) -> Draft:
        """Return what stands, or the own zone, and then that on top of an item that came in between."""
        if self._zone is None:
            self._zone = WholeZone(self._apex, self._value if current is None else draft_again(current))
        return self._zone.value_above(current)

    def value_again(self, missed: Found) -> Draft:
        """Return the edition that was missed: that one stands."""
        self._zone = WholeZone(self._apex, draft_again(missed))
        return self._zone.value_again(missed)


def draft_again(found: Found) -> Draft:
    """Return what is to be signed so that an edition stands again."""
    return LargeZone(tuple(rrsets_of(found).values())) if isinstance(found, DividedItem) else found.value


def few_of(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - SHOWN_MAX
    return ", ".join(names[:SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _is_later(soa: RRset, other: RRset) -> bool:
    serials = [int.from_bytes(one.rdatas[0][-20:-16]) for one in (soa, other)]
    return 0 < (serials[0] - serials[1]) % (2 * SERIAL_HALF) < SERIAL_HALF
