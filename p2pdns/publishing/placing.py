"""The many items of one zone on their way: puts side by side, with counts and an estimate; look-ups side by side.

Guarantees: at most `PLACED_AT_ONCE_MAX` items are put at a time, and `FETCHED_AT_ONCE_MAX` looked up; each is tried a
few times, and those that too few others hold at the end are told. Does not know zones, nor who keeps the items alive.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from p2pdns.dht.node.values import RATIONED, PutOutcome, Wanted
from p2pdns.errors import Unavailable
from p2pdns.items.item import Item, MutableItem, mutable_target
from p2pdns.items.keys import ZoneKey
from p2pdns.overlay.ports import Gets
from p2pdns.publishing.divided import Placed
from p2pdns.publishing.pacing import PUTS_AT_ONCE_MAX
from p2pdns.publishing.replicas import LOOK_S_MAX, PublishStage, Tell
from p2pdns.timing import Clock

PLACED_AT_ONCE_MAX = PUTS_AT_ONCE_MAX
FETCHED_AT_ONCE_MAX = 32  # A look-up is some 30 datagrams, and ends at its first reply.
# Puts of one item; among nodes of which a few fail, the second one reaches others.
TRIES_MAX = 4
# Puts of an item that others ration: at the right pace one or two are enough.
RATIONED_TRIES_MAX = 24
FETCH_TRIES_MAX = 2  # One reply in ten may be lost; a look-up asks some thirty nodes.

PutOne = Callable[[MutableItem], Awaitable[PutOutcome]]


class Tally:
    """How many of the items are done, and how long the rest takes, by what the others have taken."""

    def __init__(self, stage: str, count: int, clock: Clock, tell: Tell) -> None:
        self._stage = stage
        self._count = count
        self._clock = clock
        self._tell = tell
        self._began_at = clock()
        self._done = 0

    def one_more(self) -> None:
        """Note that one more item is done, and tell it."""
        self._done += 1
        self.tell(self._done)

    def tell(self, done: int) -> None:
        """Tell that so many are done; of none nothing can be said."""
        if not done:
            return
        left_s = (self._clock() - self._began_at) / done * (self._count - done)
        self._tell(PublishStage(self._stage, {"done": done, "of": self._count, "seconds_left": round(left_s, 1)}))


async def place(items: Sequence[MutableItem], put: PutOne, *, clock: Clock, tell: Tell) -> Placed:
    """Have others keep items, in this order; return those that too few of them hold after all tries."""
    tally = Tally("items", len(items), clock, tell)
    left, poor, refused = iter(items), list[MutableItem](), Counter[str]()
    most_known = 0

    async def work(left: Iterator[MutableItem]) -> None:
        nonlocal most_known
        for one in left:
            outcome = await _placed(one, put)
            most_known = max(most_known, outcome.others.known)
            if not outcome.others.is_enough:
                poor.append(one)
                refused.update(outcome.reasons)
            tally.one_more()

    await asyncio.gather(*(work(left) for _ in range(min(PLACED_AT_ONCE_MAX, len(items)))))
    return Placed(tuple(poor), refused, is_alone=bool(items) and not most_known)


async def _placed(item: MutableItem, put: PutOne) -> PutOutcome:
    tries = 0
    while True:
        try:
            outcome = await put(item)
        except Unavailable:
            # The overlay is closed: there are no others.
            return PutOutcome(0, 0)
        tries += 1
        is_rationed = RATIONED in outcome.reasons
        if outcome.others.is_enough or not outcome.others.known:
            return outcome
        if tries >= (RATIONED_TRIES_MAX if is_rationed else TRIES_MAX):
            return outcome


async def fetch(
    network: Gets, key: ZoneKey, salts: Sequence[bytes], *, clock: Clock, tell: Tell
) -> Mapping[bytes, MutableItem]:
    """Return the items of a key that are found under some salts, by salt."""
    found: dict[bytes, MutableItem] = {}
    tally = Tally("fetch", len(salts), clock, tell)
    left = iter(salts)

    async def work(left: Iterator[bytes]) -> None:
        for salt in left:
            for _ in range(FETCH_TRIES_MAX):
                item = await first_found(network, Wanted(mutable_target(key.raw, salt), key, salt), clock)
                if item is not None:
                    found[salt] = item
                    break
            tally.one_more()

    await asyncio.gather(*(work(left) for _ in range(min(FETCHED_AT_ONCE_MAX, len(salts)))))
    return found


async def first_found(network: Gets, wanted: Wanted, clock: Clock) -> MutableItem | None:
    """Return the first valid item of a look-up, which ends with that; None where there is none.

    That is enough where the value is pinned.
    """
    first: asyncio.Future[Item | None] = asyncio.get_running_loop().create_future()

    def on_item(item: Item) -> None:
        if not first.done():
            first.set_result(item)

    look_up = asyncio.ensure_future(network.get(replace(wanted, deadline=clock() + LOOK_S_MAX), on_item=on_item))
    look_up.add_done_callback(lambda ended: None if first.done() else first.set_result(None))
    try:
        item = await first
    finally:
        look_up.cancel()
    if item is None:
        # Our own storage may have it, and no contact.
        item = (await look_up).item
    return item if isinstance(item, MutableItem) else None


class NodeItems:
    """The items with a salt of one zone, by a node that keeps none of them alive: `SaltedItems`."""

    def __init__(self, network: Gets, key: ZoneKey, put: PutOne, clock: Clock) -> None:
        self._network = network
        self._key = key
        self._put = put
        self._clock = clock

    async def fetch(self, salts: Sequence[bytes], tell: Tell) -> Mapping[bytes, MutableItem]:
        """Return the items that are found, by salt."""
        return await fetch(self._network, self._key, salts, clock=self._clock, tell=tell)

    async def place(self, items: Sequence[MutableItem], tell: Tell) -> Placed:
        """Have the others keep items."""
        return await place(items, self._put, clock=self._clock, tell=tell)
