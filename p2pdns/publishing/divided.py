"""The divided editions of one publication: found ones are gathered, new ones are made, and their items are put.

Guarantees: a head is signed only after more than half of the others hold each new item that it pins, or where no others
are known; if its own put finds some, it counts only once they hold these items. What the found edition has already is
neither signed nor put again, unless it would end before the head: then it is signed again after the head. Where an item
of the found edition is missing, that is said and not taken for a change. Does not know heads that came in between
(`publication` does).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from p2pdns.dns.message import RRset
from p2pdns.errors import BadItem, Unavailable, counted
from p2pdns.items.dividing import ENTROPY_BYTES, Division, divide, gathered, is_renewed_with
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT, MutableItem
from p2pdns.items.keys import ZoneKey
from p2pdns.items.shards.directory import Directory
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.pinned import Pinned, pin_of
from p2pdns.publishing.changes import Changes, changes_between
from p2pdns.publishing.compared import changes_of_divisions
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.editions import DividedItem, Extent, Found, LargeZone, is_head
from p2pdns.publishing.edits import Edit, EditJournal, EditsInMemory, base_of
from p2pdns.publishing.replicas import Tell

ROUNDS_MAX = 4  # From the head to the last part: manifests, shards, parts; and one round to spare.
NAMED_MAX = 3  # Items named in an error.


class Placed(NamedTuple):
    """How the puts of items went: those that too few others hold, and why they refused, by reason.

    With `is_alone` no other node was known for any of them.
    """

    poor: tuple[MutableItem, ...] = ()
    refused: Mapping[str, int] = {}
    is_alone: bool = False


class SaltedItems(Protocol):
    """The overlay as a publication uses it for the items of one zone that have a salt."""

    async def fetch(self, salts: Sequence[bytes], tell: Tell) -> Mapping[bytes, MutableItem]:
        """Return the items that are found, by salt."""

    async def place(self, items: Sequence[MutableItem], tell: Tell) -> Placed:
        """Have the others keep items; returns when each is kept by more than half of them, or was tried enough."""


@dataclass(frozen=True)
class Dividing:
    """All that a publication needs to divide a zone: it signs items with a salt, and draws so many random bytes."""

    sign: Callable[[int, bytes, bytes], MutableItem]
    draw: Callable[[int], bytes]
    items: SaltedItems
    journal: EditJournal = field(default_factory=EditsInMemory)


class DividedEditions:
    """The divided editions that one publication has found or made, by the values of their heads."""

    def __init__(self, key: ZoneKey, dividing: Dividing | None, tell: Tell) -> None:
        self._key = key
        self._dividing = dividing
        self._tell = tell
        self._divisions: dict[bytes, Division] = {}
        self._drafts: dict[bytes, LargeZone] = {}
        self._items: dict[bytes, MutableItem] = {}  # By salt; those that others hold.
        self._alone: dict[bytes, list[MutableItem]] = {}  # Those that were put with nobody there, by the value.

    def found(self, item: MutableItem) -> Found:
        """Return an item with all that it pins, if it is the head of a divided zone that was gathered or made here."""
        division = self._divisions.get(item.value)
        return item if division is None or not division.directories else DividedItem(item, division)

    def changes(self, before: Found | None, value: bytes) -> Changes:
        """Return what a value that is about to be signed changes in an edition."""
        new = self._divisions.get(value)
        if isinstance(before, DividedItem) and new is not None and before.division.shards and new.directories:
            found = changes_of_divisions(before.division, new)
            if found is not None:
                return found
        return changes_between(before, self._key.apex, self._drafts.get(value, value))

    # Editions that were found

    async def gather(self, item: MutableItem) -> Unavailable | None:
        """Find all that an item pins; return why its zone is not known whole, None where it is."""
        if item.value in self._divisions or not is_head(item.value):
            return None
        try:
            head = Head.of(item)
            if not head.directories:
                return None
            division = await self._gathered(item)
        except BadItem as trouble:
            return self._unknown(item, f"it breaks a rule ({trouble})")
        unreadable = [one for one in head.directories.values() if not isinstance(one, Directory)]
        if unreadable:
            return self._unknown(item, f"the directory at {unreadable[0].owner} cannot be read")
        if isinstance(division, Division):
            self._divisions[item.value] = division
            return None
        readable = {owner: one for owner, one in head.directories.items() if isinstance(one, Directory)}
        # Epochs go on from it, and none of its shards is taken for known.
        self._divisions[item.value] = Division(self._key.apex, item.value, readable)
        named = ", ".join(map(str, division[:NAMED_MAX])) + (" and others" if len(division) > NAMED_MAX else "")
        return self._unknown(item, f"{counted(len(division), 'item')} of it cannot be found: {named}")

    def _unknown(self, item: MutableItem, why: str) -> Unavailable:
        what = f"seq {item.seq} of {date_of(item.seq)} is a zone of several items, and {why}"
        return Unavailable(what, place=str(self._key), hint="try again; p2pdns inspect shows what is found")

    async def _gathered(self, item: MutableItem) -> Division | list[Pinned]:
        found: dict[bytes, MutableItem] = {}

        def value_of(pinned: Pinned) -> bytes | None:
            one = found.get(pinned.salt)
            return None if one is None else one.value

        missing: list[Pinned] = []
        for _ in range(ROUNDS_MAX):
            division = gathered(self._key.apex, item.value, value_of)
            if isinstance(division, Division):
                self._items |= found
                return division
            if self._dividing is None or division == missing:
                return division
            missing = division
            salts = [pinned.salt for pinned in missing if pinned.salt not in found]
            pinned_by_salt = {pinned.salt: pinned for pinned in missing}
            fetched = await self._dividing.items.fetch(salts, self._tell)
            # Another value under one of these salts belongs to no edition.
            found |= {salt: one for salt, one in fetched.items() if _is_pinned(pinned_by_salt.get(salt), one)}
        self._items |= found
        return missing

    # New editions

    def value_of(
        self,
        draft: LargeZone,
        former: Found | None,
        *,
        made: Iterable[RRset],
        size_bytes_max: int,
        unix_now: float,
    ) -> bytes:
        """Divide a content; return the value of its head. ZoneFileError with the numbers where that cannot be."""
        if self._dividing is None:
            what = "the zone does not fit one item, and this program publishes no others"
            raise Unavailable(what, place=str(self._key), hint="p2pdns publish does")
        division = divide(
            draft.zone(self._key.apex),
            entropy=self._dividing.draw(ENTROPY_BYTES),
            unix_now=unix_now,
            made=made,
            former=self._former(former),
            value_bytes_max=max(size_bytes_max, VALUE_BYTES_WRITE_DEFAULT),
            path=str(self._key),
        )
        self._divisions[division.head] = division
        self._drafts[division.head] = draft
        return division.head

    def _former(self, found: Found | None) -> Division | None:
        """Return the division that the new one goes on from: an unfinished edit of the found edition, or that one."""
        assert self._dividing is not None, "it divides"
        kept = self._dividing.journal.begun()
        edit = None if kept is None else Edit.parse(self._key.apex, kept)
        value = None if found is None else found.value
        if edit is not None and (edit.base == base_of(value) or edit.division.head == value):
            return edit.division
        return None if found is None else self._divisions.get(found.value)

    async def place(self, value: bytes, seq: int, base: bytes | None) -> None:
        """Have the others keep all new items that a value pins, before it is signed; Unavailable where too few do."""
        division, dividing = self._divisions.get(value), self._dividing
        if division is None or not division.directories or dividing is None:
            return
        items = [
            dividing.sign(seq, content, pinned.salt)
            for pinned, content in division.items()
            if pinned.salt not in self._items
        ]
        if not items:
            return
        dividing.journal.begin(Edit(base_of(base), division).compose())
        placed = await self._placed(dividing, items)
        # With nobody else there, the head fails as that of a small zone does, and a daemon keeps all of it.
        self._alone[value] = items if placed.is_alone else []
        if placed.poor and not placed.is_alone:
            hint = ", and readers see the edition before until then"
            raise self._held_by_too_few(division, items, placed, "so its head was not signed", hint)

    async def place_again(self, value: bytes) -> None:
        """Have the others keep what was put when nobody was there; Unavailable where too few of them do.

        The put of the head has found others by now.
        """
        items, division = self._alone.pop(value, []), self._divisions.get(value)
        if not items or division is None or self._dividing is None:
            return
        placed = await self._placed(self._dividing, items)
        if placed.poor:
            raise self._held_by_too_few(division, items, placed, "though its head is stored")

    async def renew(self, head: MutableItem) -> None:
        """Sign again, with the same values, what a stored head pins and would outlive.

        Such an item is there meanwhile, so it holds no edit up; what fails is signed again with the next head, and a
        daemon goes on with what too few others have taken.
        """
        division, dividing = self._divisions.get(head.value), self._dividing
        if division is None or dividing is None:
            return
        items = [
            dividing.sign(head.seq, content, pinned.salt)
            for pinned, content in division.items()
            if (known := self._items.get(pinned.salt)) is not None and is_renewed_with(head.seq, known.seq)
        ]
        if items:
            with contextlib.suppress(Unavailable):
                await self._placed(dividing, items)

    async def _placed(self, dividing: Dividing, items: Sequence[MutableItem]) -> Placed:
        placed = await dividing.items.place(items, self._tell)
        poor = {one.salt for one in placed.poor}
        self._items |= {one.salt: one for one in items if one.salt not in poor}
        return placed

    def _held_by_too_few(
        self, division: Division, items: Sequence[MutableItem], placed: Placed, consequence: str, hint: str = ""
    ) -> Unavailable:
        poor = {one.salt for one in placed.poor}
        names = [str(pinned) for pinned, _ in division.items() if pinned.salt in poor]
        reasons = ", ".join(f"{count} × {reason}" for reason, count in sorted(placed.refused.items()))
        what = f"{len(poor)} of {counted(len(items), 'item')} are held by too few other nodes ({names[0]}"
        what += f"{' and others' if len(names) > 1 else ''}{'; ' + reasons if reasons else ''})"
        hint = f"publish again: what is stored is not put twice{hint}"
        return Unavailable(f"{what}, {consequence}", place=str(self._key), hint=hint)

    def stored(self, value: bytes) -> None:
        """Note that a head is stored: the edit is finished."""
        if self._dividing is not None and value in self._divisions and self._dividing.journal.begun() is not None:
            self._dividing.journal.end()

    def division_of(self, value: bytes) -> Division | None:
        """Return the division that a head begins, if it was made or gathered here."""
        return self._divisions.get(value)

    def extent_of(self, value: bytes) -> Extent | None:
        """Return how much room the zone takes that a head begins, if its division was made or gathered here."""
        division = self._divisions.get(value)
        if division is None or not division.directories:
            return None
        return Extent(division.item_count, division.size_bytes)


async def whole(item: MutableItem, items: SaltedItems, tell: Tell) -> Found:
    """Return an edition with all that it pins; Unavailable where some of that cannot be found."""

    def none_signed(seq: int, value: bytes, salt: bytes) -> MutableItem:
        raise AssertionError("nothing is published")

    editions = DividedEditions(item.key, Dividing(none_signed, bytes, items), tell)
    if unknown := await editions.gather(item):
        raise unknown
    return editions.found(item)


def _is_pinned(pinned: Pinned | None, item: MutableItem) -> bool:
    return pinned is not None and item.salt == pinned.salt and pin_of(item.value) == pinned.pin
