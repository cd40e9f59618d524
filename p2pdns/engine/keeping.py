"""The parts of the engine that put this node's own zones: the publisher of heads, the keeper of all other items.

Guarantees: whatever zone is kept alive, all that its head pins is as well; both share one pace. Does not know the
control socket, nor what is published.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from p2pdns import log
from p2pdns.clock import boot_now, unix_now
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.families import Families
from p2pdns.publishing.cycles import Cycles
from p2pdns.publishing.partkeeping import SPREAD, PartKeeper
from p2pdns.publishing.upkeep import Publisher
from p2pdns.state import State


def publisher_of(
    endpoint: Endpoint | Families,
    state: State,
    *,
    on_published: Callable[[MutableItem], None],
    look_up: Callable[[ZoneId], Awaitable[object]],
) -> tuple[Publisher, PartKeeper]:
    """Return what keeps heads alive, and what keeps alive the items that they pin."""
    tell = log.get_logger("publisher").warning
    publisher = Publisher(
        endpoint,
        state.reader,
        clock=boot_now,
        unix_clock=unix_now,
        jitter=random.random,
        tell=tell,
        on_published=on_published,
        look_up=look_up,
        memory=state.store,
    )
    cycles = Cycles(
        endpoint,
        state.store,
        clock=boot_now,
        unix_clock=unix_now,
        jitter=random.random,
        counters=publisher.counters,
        spread=SPREAD,
    )
    keeper = PartKeeper(
        endpoint,
        state.parts,
        cycles,
        publisher.pacer,
        clock=boot_now,
        unix_clock=unix_now,
        jitter=random.random,
        tell=tell,
    )
    publisher.on_kept = keeper.follow
    return publisher, keeper
