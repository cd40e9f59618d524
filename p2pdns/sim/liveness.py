"""The conditions that hold in a world some time after its troubles have stopped.

Guarantees: each check asks or reads every living machine, up to a bound that the report names. Does not know which
troubles there were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from p2pdns.clock import boot_now
from p2pdns.dht.node.bootstrap import dead_contacts_gone_s
from p2pdns.dht.node.republish import PUT_AFTER_S, STAGGER_S
from p2pdns.dht.routing.table import K
from p2pdns.sim.engine import VirtualEngine
from p2pdns.sim.world import Look, Owner, World

# One refresh of an item by its holders: the last of the twenty puts it after so long, and twenty turns later the one
# that has put it before.
REFRESH_S = PUT_AFTER_S + 2 * K * STAGGER_S
LOOKS_MAX = 2_000  # Beyond, each machine looks up a part of the zones, and each zone is looked up by a part of them.
LOOKS_AT_ONCE = 20


@dataclass(frozen=True)
class Near:
    """How many of the living nodes nearest to a target hold the newest edition, an older one, or none."""

    newest: int
    older: int
    without: int

    @property
    def share(self) -> float:
        """The share of them that hold the newest edition."""
        return self.newest / max(1, self.newest + self.older + self.without)


def near(world: World, owner: Owner) -> Near:
    """Return what the nodes nearest to a zone hold."""
    held = [world.seq_held(engine, owner.target) for engine in world.nearest(owner.target)]
    newest = sum(seq == owner.seq for seq in held)
    without = held.count(None)
    return Near(newest, len(held) - newest - without, without)


def near_findings(key: str, nearby: Near) -> Iterator[str]:
    """Yield whether the nodes nearest to a zone are behind: one holds an older edition, or most hold none."""
    if nearby.older:
        yield f"{key}: {nearby.older} of the nearest nodes hold an older edition"
    if 2 * nearby.newest <= nearby.newest + nearby.older + nearby.without:
        yield f"{key}: only {nearby.newest} of the nearest nodes hold the newest edition, {nearby.without} hold none"


def look_findings(host: str, key: str, look: Look) -> Iterator[str]:
    """Yield whether a machine did not find the newest edition of a zone."""
    if look.shown_seq is None:
        yield f"{host} does not find {key}: {look.outcome.verdict.value}, {look.outcome.answered_count} answered"
    elif look.shown_seq != look.wanted_seq:
        yield f"{host} finds an old edition of {key}"


async def looks_of_all(world: World, each: int | None = None) -> tuple[list[Look], list[str]]:
    """Have every honest machine that has joined look zones up; return the look-ups, and what was not found.

    `each` zones are looked up by each machine; without it all, as far as `LOOKS_MAX` allows.
    """
    machines, owners = [engine for engine in world.honest if engine.node.has_joined], world.owners
    each = min(len(owners), each or max(1, LOOKS_MAX // max(1, len(machines))))
    todo = [
        (engine, owners[(turn + part) % len(owners)]) for turn, engine in enumerate(machines) for part in range(each)
    ]
    looks: list[Look] = []
    findings: list[str] = []
    for first in range(0, len(todo), LOOKS_AT_ONCE):
        some = todo[first : first + LOOKS_AT_ONCE]
        done = await asyncio.gather(*(world.look_up_at(engine, owner) for engine, owner in some))
        for (engine, owner), look in zip(some, done, strict=True):
            findings += look_findings(engine.address[0], str(owner.key), look)
        looks += done
    return looks, findings


def dead_counts(world: World) -> list[int]:
    """Return how many contacts of each living machine are down."""
    now, living = boot_now(), {engine.address: None for engine in world.living}
    return [sum(peer.address not in living for peer in engine.node.peers(now)) for engine in world.honest]


def dead_findings(engines: Sequence[VirtualEngine], counts: Sequence[int]) -> Iterator[str]:
    """Yield the machines that keep dead contacts; called when the time for that is over."""
    for engine, count in zip(engines, counts, strict=True):
        if count:
            yield f"{engine.address[0]} keeps {count} dead contacts"


def forgetting_s(world: World) -> float:
    """Return after how many seconds of quiet no machine of this world keeps a dead contact."""
    return dead_contacts_gone_s(max(dead_counts(world), default=0))


def stranded_findings(world: World) -> Iterator[str]:
    """Yield the machines that are up and know no other machine."""
    for engine in world.honest:
        if not engine.node.contact_count:
            yield f"{engine.address[0]} knows no other machine"
