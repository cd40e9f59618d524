"""A world: machines that join, publish, look up and fall silent, in one network, by one seed.

Guarantees: every draw comes from the seed, in an order that does not depend on hashes; troubles that the machines
report are kept. Does not know what a scenario measures.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2pdns.clock import boot_now, unix_now
from p2pdns.dht.node.values import GetOutcome, Wanted
from p2pdns.dns.message import RRset
from p2pdns.dns.registry import Type
from p2pdns.items.item import Item, MutableItem, mutable_target, next_seq
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet
from p2pdns.sim.engine import MakeNode, VirtualEngine, host_of
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import VirtualNetwork, Weather

CONTACTS_AT_START = 3  # A person who sets a machine up also has a few addresses; here a lot chooses them.
JOINING_AT_ONCE_MAX = 20  # Machines that join together; with more, the table of each is poorer for a while.
TROUBLES_KEPT_MAX = 100  # Lines; so many are enough to find out what is wrong.
TTL_S = 300

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass
class Owner:
    """A zone of a world: its key, the machine it is published at, and what was published last."""

    secret: SecretKey
    engine: VirtualEngine
    edition: int = 0
    seq: int | None = None

    @property
    def key(self) -> ZoneKey:
        """The zone's key."""
        return self.secret.zone_key

    def next_item(self) -> MutableItem:
        """Return the zone's next edition, whose number its only record says."""
        self.edition += 1
        self.seq = next_seq(unix_now(), self.seq)
        apex = self.key.apex
        content = [RRset(apex.child(b"www"), Type.TXT, TTL_S, (bytes([1, self.edition]),))]
        return MutableItem.signed(self.secret, self.seq, compose_packet(content, apex))


@dataclass(frozen=True)
class Look:
    """One look-up of a machine that had never asked for the zone: what it was shown first, and how it ended."""

    first_s: float | None
    outcome: GetOutcome
    shown_seq: int | None
    wanted_seq: int
    first_seq: int | None = None


class World:
    """All machines, all zones, and the network between them."""

    def __init__(self, loop: VirtualLoop, seed: int, weather: Weather, progress: Progress | None = None) -> None:
        self.seed = seed
        self.loop = loop
        self.random = random.Random(f"{seed}/world")
        self.network = VirtualNetwork(loop, seed, weather)
        self.engines: list[VirtualEngine] = []
        self.owners: list[Owner] = []
        self.troubles: list[str] = []
        # What makes the node of the machine with a number; None for an honest one, as the first must be.
        self.cast: Callable[[int], MakeNode | None] = lambda number: None
        self._progress = progress or _in_silence

    @property
    def living(self) -> list[VirtualEngine]:
        """The machines that are up, in the order in which they joined."""
        return [engine for engine in self.engines if engine.is_up]

    @property
    def honest(self) -> list[VirtualEngine]:
        """The machines that are up and run our code unchanged, in the order in which they joined."""
        return [engine for engine in self.living if engine.is_honest]

    async def grow(self, count: int) -> None:
        """Add so many machines, each of which knows a few that are there already."""
        grown_count = 0
        while grown_count < count:
            # Many that join a world of a few at once would know only those few for minutes.
            at_once = min(JOINING_AT_ONCE_MAX, len(self.engines) // 10 or 1, count - grown_count)
            known = list(self.engines)
            joining = [self._new_engine() for _ in range(at_once)]
            await asyncio.gather(*(engine.start([other.address for other in self._some(known)]) for engine in joining))
            grown_count += at_once
            self._progress("joining", grown_count, count)

    async def publish(self, count: int) -> None:
        """Have so many zones published, each at an honest machine chosen by lot."""
        honest = self.honest
        for number in range(count):
            owner = Owner(SecretKey.generate(self.random.randbytes(32)), self.random.choice(honest))
            self.owners.append(owner)
            put = await owner.engine.publisher.publish(owner.next_item())
            self.network.note("published", str(owner.key), owner.edition, put.others)
            self._progress("publishing", number + 1, count)

    async def silence(self, share: float) -> None:
        """Let a share of the machines fall silent at once, publishers among them."""
        for engine in self.random.sample(self.living, round(share * len(self.living))):
            await engine.stop()

    async def look_up(self, owner: Owner) -> Look:
        """Look a zone up from an honest machine that neither publishes it nor stores it for others."""
        engine, began = self.reader_of(owner), boot_now()
        seen: list[tuple[float, Item]] = []
        wanted = Wanted(mutable_target(owner.key.raw), owner.key)
        outcome = await engine.endpoint.get(wanted, on_item=lambda item: seen.append((boot_now() - began, item)))
        self.network.note("looked up", str(owner.key), outcome.verdict.name, outcome.rpc_count)
        seqs = [item.seq for _, item in seen if isinstance(item, MutableItem)]
        first_seq, shown_seq = (seqs[0], seqs[-1]) if seqs else (None, None)
        assert owner.seq is not None, "it was published"
        return Look(seen[0][0] if seen else None, outcome, shown_seq, owner.seq, first_seq)

    def reader_of(self, owner: Owner) -> VirtualEngine:
        """Return an honest machine, by lot, that neither publishes a zone nor, where that can be, stores it."""
        now, target = boot_now(), mutable_target(owner.key.raw)
        others = [one for one in self.honest if one is not owner.engine]
        return self.random.choice([one for one in others if one.node.storage.held(target, now) is None] or others)

    async def close(self) -> None:
        """Stop every machine."""
        for engine in self.living:
            await engine.stop()

    def _new_engine(self) -> VirtualEngine:
        number = len(self.engines)
        engine = VirtualEngine(self.network, host_of(number), f"{self.seed}/{number}", self.told, self.cast(number))
        self.engines.append(engine)
        return engine

    def _some(self, others: Sequence[VirtualEngine]) -> list[VirtualEngine]:
        some = self.random.sample(others, min(CONTACTS_AT_START, len(others)))
        if others and not any(other.is_honest for other in some):
            # Else it might never join: the address of one honest machine is all that a newcomer has to trust in.
            some[0] = self.random.choice([other for other in others if other.is_honest])
        return some

    def told(self, event: str, **fields: object) -> None:
        """Keep a trouble that a machine reports."""
        if len(self.troubles) < TROUBLES_KEPT_MAX:
            self.troubles.append(f"{event} {fields}")


def _in_silence(_what: str, _done: int, _all: int) -> None:
    return None
