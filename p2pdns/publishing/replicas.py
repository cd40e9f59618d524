"""The copies of one item at other nodes, as its publisher looks at them before and after a put.

Guarantees: a look has every version that contacts returned, signed, with how many hold it; the look after a put begins
at contacts that the put has not asked, if there are others. Does not know what is published, nor whether it may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from p2pdns.addresses import Address
from p2pdns.dht.node.storing import HELD_CODES
from p2pdns.dht.node.values import Cas, GetOutcome, Others, PutOutcome
from p2pdns.errors import FormatError
from p2pdns.items.item import MutableItem, Present
from p2pdns.items.keys import ZoneId
from p2pdns.overlay.parts import parts_of, zone_id_of
from p2pdns.overlay.ports import Gets, OnProgress
from p2pdns.timing import Clock, UnixClock

LOOK_S_MAX = 8.0  # No client waits for this, and among many dead contacts a look takes some seconds.
VERSIONS_MAX = 8  # More versions at a time than publishers race; each is 2 kB in a line of the control socket.
LOOKS_MAX = 3  # Looks after a put before it counts as not read back: one reply in ten may be lost.
HOLDERS_MIN = 3  # Others that must return the item; all of them where fewer are known.


@dataclass(frozen=True)
class PublishStage:
    """How far a publication is: `stage` is `look-up`, `fetch`, `items`, `put`, `rationed`, `read-back` or `rebase`.

    `fetch` and `items` count the items of a zone that has several: those looked up, and those put.

    >>> str(PublishStage("put", {"stored": 12, "sent": 20})), str(PublishStage("read-back", {"holders": 3}))
    ('at 12 of 20', 'read back from 3')
    """

    stage: str
    facts: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        match self.stage:
            case "look-up":
                return "looking up"
            case "fetch":
                return f"reading item {self.facts['done']:.0f} of {self.facts['of']:.0f}"
            case "items":
                left = f", about {self.facts['seconds_left']:.0f} s left"
                return f"item {self.facts['done']:.0f} of {self.facts['of']:.0f} stored{left}"
            case "put":
                return f"at {self.facts['stored']} of {self.facts['sent']}"
            case "read-back":
                return f"read back from {self.facts['holders']}"
            case "rationed":
                return f"rationed, about {self.facts['seconds_left']:.0f} s left"
        return f"another publication came in between, going above seq {self.facts['seq']}"

    @property
    def share(self) -> float | None:
        """How much of the stage is done, from 0 to 1; None where nobody knows.

        >>> PublishStage("put", {"stored": 5, "sent": 20}).share, PublishStage("look-up").share
        (0.25, None)
        """
        if self.stage in ("fetch", "items"):
            return self.facts["done"] / self.facts["of"]
        return self.facts["stored"] / self.facts["sent"] if self.facts.get("sent") else None

    def to_json(self) -> dict[str, Any]:
        """Return the stage and its facts in one table."""
        return {"stage": self.stage, **self.facts}

    @classmethod
    def of_json(cls, facts: Mapping[str, Any]) -> PublishStage:
        """Return the progress that such a table tells."""
        return cls(str(facts["stage"]), {name: value for name, value in facts.items() if name != "stage"})


Tell = Callable[[PublishStage], None]


@dataclass(frozen=True)
class Version:
    """An item of a key, and how many others have returned it."""

    item: MutableItem
    holders: int


@dataclass(frozen=True)
class Seen:
    """The findings of one look at the copies of a key.

    `mark_seq` is the highest seq that this machine has adopted, which counts at any clock.
    """

    versions: tuple[Version, ...] = ()
    is_complete: bool = False
    mark_seq: int | None = None

    def holders_of(self, value: bytes) -> int:
        """Return how many others hold a value, whatever its seq."""
        return sum(version.holders for version in self.versions if version.item.value == value)

    def newest(self, now: float) -> MutableItem | None:
        """Return the newest version that is not from the future."""
        present = Present(now, mark_seq=self.mark_seq)
        items = [version.item for version in self.versions if not present.is_ahead(version.item.seq)]
        return max(items, key=lambda item: (item.seq, item.value), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return it as it crosses the control socket."""
        versions = [{"item": one.item.to_bytes().hex(), "holders": one.holders} for one in self.versions]
        return {"versions": versions, "complete": self.is_complete, "mark": self.mark_seq}

    @classmethod
    def of_json(cls, facts: Mapping[str, Any]) -> Seen:
        """Return what such a table says; a StrangerError where an item does not verify."""
        try:
            versions = tuple(
                Version(MutableItem.read_file(bytes.fromhex(one["item"])), int(one["holders"]))
                for one in facts["versions"]
            )
        except ValueError:
            raise FormatError("not-hexadecimal", "an item of the daemon's reply") from None
        return cls(versions, bool(facts["complete"]), facts["mark"])


@dataclass(frozen=True)
class Tried:
    """How one put went: how many `others` were known, and how many of them hold the item.

    `held` has an entry for each node that refused it because of what it holds: the seq that it returned afterwards,
    None where it returned nothing. `seen` is the look after the put.
    """

    others: Others
    refused: Mapping[str, int]
    held: tuple[int | None, ...]
    seen: Seen

    def is_read_back(self, item: MutableItem) -> bool:
        """Return whether a complete look-up has met enough others that hold the content of an item."""
        return self.seen.is_complete and self.seen.holders_of(item.value) >= min(HOLDERS_MIN, self.others.known)

    def to_json(self) -> dict[str, Any]:
        """Return it as it crosses the control socket."""
        known, stored = self.others
        return {
            "sent": known,
            "stored": stored,
            "refused": dict(self.refused),
            "held": list(self.held),
            "seen": self.seen.to_json(),
        }

    @classmethod
    def of_json(cls, facts: Mapping[str, Any]) -> Tried:
        """Return what such a table says."""
        refused = {str(reason): int(count) for reason, count in facts["refused"].items()}
        others = Others(facts["sent"], facts["stored"])
        return cls(others, refused, tuple(facts["held"]), Seen.of_json(facts["seen"]))


async def look(
    network: Gets,
    zone_id: ZoneId,
    *,
    clock: Clock,
    present: Present | None = None,
    avoided: frozenset[Address] = frozenset(),
) -> GetOutcome:
    """Return the outcome of a look-up that asks every contact for the item that it holds."""
    (part,) = parts_of(zone_id)
    deadline = clock() + LOOK_S_MAX
    wanted = replace(part, wants_copies=True, avoided=avoided, present=present, deadline=deadline)
    return await network.get(wanted, on_item=lambda item: None)


def seen_in(outcome: GetOutcome, mark_seq: int | None = None) -> Seen:
    """Return what a look-up has seen, the newest versions first.

    The families of the internet are two ways to one node, so the one where more hold a version counts.
    """
    counts: dict[bool, Counter[tuple[int, bytes]]] = {False: Counter(), True: Counter()}
    items: dict[tuple[int, bytes], MutableItem] = {}
    for address, item in outcome.copies.items():
        counts[":" in address[0]][item.seq, item.value] += 1
        items[item.seq, item.value] = item
    if isinstance(outcome.item, MutableItem):
        # Our own storage may hold one that no contact has returned.
        items.setdefault((outcome.item.seq, outcome.item.value), outcome.item)
    newest = sorted(items, reverse=True)[:VERSIONS_MAX]
    versions = tuple(Version(items[name], max(counts[False][name], counts[True][name])) for name in newest)
    return Seen(versions, outcome.complete, mark_seq)


async def read_back(
    network: Gets, item: MutableItem, put: PutOutcome, *, clock: Clock, tell: Tell = lambda progress: None
) -> Tried:
    """Look at the copies after a put, over other first contacts, and return how the put went."""
    known, stored = put.others
    outcome, avoided = None, frozenset(put.asked)
    copies: dict[Address, MutableItem] = {}
    if known:
        for _ in range(LOOKS_MAX):
            outcome = await look(network, zone_id_of(item), clock=clock, avoided=avoided)
            if not outcome.answered_count:
                # No other node answers.
                avoided = frozenset()
            copies.update(outcome.copies)
            outcome = replace(outcome, copies=copies)
            holders = sum(copy == item for copy in copies.values())
            tell(PublishStage("read-back", {"holders": holders}))
            if outcome.complete and (
                holders >= min(HOLDERS_MIN, known) or any(c.seq > item.seq for c in copies.values())
            ):
                break
    # The reply to a first datagram was lost, and the second was refused: these nodes hold the item.
    held = [copies.get(address) for address in put.held_at]
    own = [address for address, copy in zip(put.held_at, held, strict=True) if copy == item]
    stored = max(stored, *(_count_in(family, put, own) for family in (False, True)))
    seqs = [None if copy is None else copy.seq for copy in held if copy != item]
    # Our own storage is no contact, and returns nothing.
    seqs += [None] if put.refused_here in HELD_CODES else []
    seen = Seen() if outcome is None else seen_in(outcome)
    return Tried(Others(known, min(known, stored)), put.reasons, tuple(seqs), seen)


def _count_in(is_ipv6: bool, put: PutOutcome, own: Sequence[Address]) -> int:
    """Return how many nodes of one family of the internet hold an item: a node of both must not count twice."""
    storers = [contact.address for contact in put.storers]
    return sum((":" in host) == is_ipv6 for host, _ in (*storers, *own))


class HeldHere(NamedTuple):
    """The mark and the item of a key that this machine holds itself."""

    mark_seq: int | None = None
    item: MutableItem | None = None


PutItem = Callable[[MutableItem, Cas | None, OnProgress], Awaitable[PutOutcome]]


class NodeReplicas:
    """The copies of one zone, by the node of this process: the `Replicas` of a publication."""

    def __init__(
        self,
        zone_id: ZoneId,
        network: Gets,
        put: PutItem,
        *,
        clock: Clock,
        unix_clock: UnixClock,
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        known: Callable[[], HeldHere] = HeldHere,
        clear: Callable[[], None] = lambda: None,
        tell: Tell = lambda progress: None,
    ) -> None:
        self._zone_id = zone_id
        self._network = network
        self._put = put
        self._clock = clock
        self._sleep = sleep
        self._known = known
        self._clear = clear
        self._tell = tell
        self.unix_now = unix_clock
        self.jitter = jitter

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await self._sleep(seconds)

    async def look_up(self) -> Seen:
        """Return what a complete look-up sees, and the item that this machine holds."""
        known = self._known()
        present = Present(self.unix_now(), mark_seq=known.mark_seq)
        for _ in range(LOOKS_MAX):
            outcome = await look(self._network, self._zone_id, clock=self._clock, present=present)
            if outcome.complete or not outcome.answered_count:
                break
        seen = seen_in(outcome, known.mark_seq)
        if known.item is not None and all(version.item != known.item for version in seen.versions):
            seen = replace(seen, versions=(Version(known.item, 0), *seen.versions))
        return seen

    async def forget(self) -> None:
        """Clear this machine's mark of the key."""
        self._clear()

    async def put(self, item: MutableItem, cas: Cas | None) -> Tried:
        """Put an item in the place of items with these seqs, and look at the copies afterwards.

        Without `cas` it takes the place of any older item, and the copies are not looked at.
        """
        tell = self._tell
        outcome = await self._put(
            item, cas, lambda sent, stored: tell(PublishStage("put", {"sent": sent, "stored": stored}))
        )
        if cas is None:
            return Tried(outcome.others, outcome.reasons, (), Seen())
        return await read_back(self._network, item, outcome, clock=self._clock, tell=tell)
