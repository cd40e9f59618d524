"""A world: machines that join, publish, look up and fall silent, in one network, by one seed.

Guarantees: every draw comes from the seed, in an order that does not depend on hashes; every item, get and question of
every machine is checked; troubles that the machines report are kept. Does not know what a scenario measures.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.dht.node.values import TIMEOUT_S_FIRST, GetOutcome, Peer, PutOutcome, Wanted
from p2pdns.dht.routing.table import K
from p2pdns.dns.message import Question, RRset
from p2pdns.dns.registry import Type
from p2pdns.items.item import Item, MutableItem, mutable_target, next_seq
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet
from p2pdns.overlay.parts import zone_id_of
from p2pdns.sim import looks
from p2pdns.sim.checkers import Beginning, Checkers, identity_findings, store_size_findings, table_findings
from p2pdns.sim.engine import Habits, MakeNode, VirtualEngine, host_of
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import VirtualNetwork, Weather
from p2pdns.sim.rules import Translator, Trouble, is_parted

CONTACTS_AT_START = 3  # A person who sets a machine up also has a few addresses; here a lot chooses them.
JOINING_AT_ONCE_MAX = 20  # Machines that join together; with more, the table of each is poorer for a while.
TROUBLES_KEPT_MAX = 100  # Lines; so many are enough to find out what is wrong.
TTL_S = 300
# After so long a node with so many contacts has heard from enough of them where it is, and has taken an id for that.
ID_SETTLED_S, ID_CONTACTS_MIN = 600.0, 10

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

HabitsOf = Callable[[int, random.Random], Habits]
"""Draws the habits of a machine by its number."""


@dataclass
class Owner:
    """A zone of a world: its key, the machine it is published at, and what was published last."""

    secret: SecretKey
    engine: VirtualEngine
    edition: int = 0
    seq: int | None = None
    editions: list[MutableItem] = field(default_factory=list)

    @property
    def key(self) -> ZoneKey:
        """The zone's key."""
        return self.secret.zone_key

    @property
    def target(self) -> bytes:
        """The target of the zone's item."""
        return mutable_target(self.key.raw)

    @property
    def question(self) -> Question:
        """The question for the zone's first record."""
        return Question(self.key.apex.child(b"www"), Type.TXT)

    @property
    def absent_question(self) -> Question:
        """A question for a name that the zone does not have."""
        return Question(self.key.apex.child(b"absent"), Type.TXT)

    @property
    def empty_question(self) -> Question:
        """A question for a name that has no record, and one below it."""
        return Question(self.key.apex.child(b"empty"), Type.TXT)

    def next_item(self) -> MutableItem:
        """Return the zone's next edition, whose number its records say."""
        self.edition += 1
        self.seq = next_seq(self.engine.unix_now(), self.seq)
        apex = self.key.apex
        names = apex.child(b"www"), apex.child(b"empty").child(b"below")
        content = [RRset(name, Type.TXT, TTL_S, (bytes([1, self.edition]),)) for name in names]
        self.editions.append(MutableItem.signed(self.secret, self.seq, compose_packet(content, apex)))
        return self.editions[-1]


@dataclass(frozen=True)
class Look:
    """One look-up of a machine that had never asked for the zone: the first item it was shown, and how it ended."""

    first_s: float | None
    outcome: GetOutcome
    shown_seq: int | None
    wanted_seq: int
    first_seq: int | None = None


class World:
    """All machines, all zones, and the network between them."""

    def __init__(
        self,
        loop: VirtualLoop,
        seed: int,
        weather: Weather,
        progress: Progress | None = None,
        habits_of: HabitsOf = lambda number, drawn: Habits(),
    ) -> None:
        self.seed = seed
        self.loop = loop
        self.random = random.Random(f"{seed}/world")
        self.network = VirtualNetwork(loop, seed, weather)
        self.engines: list[VirtualEngine] = []
        self.owners: list[Owner] = []
        self.troubles: list[str] = []
        self.checkers = Checkers(self._beginning, self._left)
        # False while a scenario overloads or parts its world: then a complete look-up may lack most of the nearest.
        self.is_calm = True
        # Cuts that have ended a moment ago: no machine can know of the other side yet.
        self.healing: list[Trouble] = []
        # The seqs that each machine stored at the last look at it, by target, and its contacts before any trouble.
        self._stored: dict[str, dict[bytes, int]] = {}
        self._tables: dict[str, looks.TableLook] = {}
        self._habits_of = habits_of
        self._translator = Translator()
        # For the number of a machine, the maker of its node; None for an honest machine, as the first must be.
        self.cast: Callable[[int], MakeNode | None] = lambda number: None
        self.told_progress = progress or _in_silence

    @property
    def living(self) -> list[VirtualEngine]:
        """The machines that are up, in the order in which they joined."""
        return [engine for engine in self.engines if engine.is_up]

    @property
    def lived_s(self) -> float:
        """The seconds that all machines together were up."""
        return sum(engine.lived_s for engine in self.engines)

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
            joining = [self.new_engine() for _ in range(at_once)]
            await asyncio.gather(*(engine.start(self.addresses_of_some(known)) for engine in joining))
            grown_count += at_once
            self.told_progress("joining", grown_count, count)

    async def publish(self, count: int, at: Sequence[VirtualEngine] = ()) -> None:
        """Have so many zones published, each at one of these machines, or of all honest ones that live, by lot."""
        machines = list(at) or self.honest
        for number in range(count):
            owner = Owner(SecretKey.generate(self.random.randbytes(32)), self.random.choice(machines))
            self.owners.append(owner)
            await self.publish_next(owner)
            self.told_progress("publishing", number + 1, count)

    async def publish_next(self, owner: Owner) -> PutOutcome:
        """Have the next edition of a zone published."""
        item = owner.next_item()
        self.checkers.published(owner.engine.address[0], owner.key, item.seq)
        put = await owner.engine.publisher.publish(item)
        self.network.note("published", str(owner.key), owner.edition, put.others)
        return put

    async def silence(self, share: float) -> None:
        """Let a share of the machines fall silent at once, publishers among them."""
        for engine in self.random.sample(self.living, round(share * len(self.living))):
            await engine.stop()

    async def look_up(
        self, owner: Owner, among: Iterable[VirtualEngine] | None = None, deadline_s: float | None = None
    ) -> Look:
        """Look a zone up from an honest machine that neither publishes it nor stores it for others."""
        return await self.look_up_at(self.reader_of(owner, among), owner, deadline_s)

    async def look_up_at(self, engine: VirtualEngine, owner: Owner, deadline_s: float | None = None) -> Look:
        """Look a zone up from a machine."""
        began = boot_now()
        seen: list[tuple[float, Item]] = []
        wanted = Wanted(owner.target, owner.key, deadline=None if deadline_s is None else began + deadline_s)
        outcome = await engine.network.get(wanted, on_item=lambda item: seen.append((boot_now() - began, item)))
        self.network.note("looked up", str(owner.key), outcome.verdict.name, outcome.rpc_count)
        seqs = [item.seq for _, item in seen if isinstance(item, MutableItem)]
        first_seq, shown_seq = (seqs[0], seqs[-1]) if seqs else (None, None)
        assert owner.seq is not None, "it was published"
        return Look(seen[0][0] if seen else None, outcome, shown_seq, owner.seq, first_seq)

    def reader_of(self, owner: Owner, among: Iterable[VirtualEngine] | None = None) -> VirtualEngine:
        """Return an honest machine, by lot, that neither publishes a zone nor, where that can be, stores it."""
        now = boot_now()
        others = [one for one in (self.honest if among is None else among) if one.is_honest and one is not owner.engine]
        left = list(others)
        # Few of many store it, so lots are drawn until one does not.
        while left:
            place = self.random.randrange(len(left))
            left[place], left[-1] = left[-1], left[place]
            engine = left.pop()
            if engine.node.storage.held(owner.target, now) is None:
                return engine
        return self.random.choice(others)

    # The truth about the world, which no machine knows

    def nearest(
        self, target: bytes, count: int = K, among: Iterable[VirtualEngine] | None = None
    ) -> list[VirtualEngine]:
        """Return the honest machines that should keep an item: the nearest that strangers can reach, nearest first."""
        engines = self.honest if among is None else among
        full = [engine for engine in engines if engine.is_up and not engine.node.is_read_only]
        number = int.from_bytes(target)
        # Quicker than a key that is called for each of thousands; no two nodes have one id.
        by_distance = {int.from_bytes(engine.node.node_id) ^ number: engine for engine in full}
        return [by_distance[distance] for distance in heapq.nsmallest(count, by_distance)]

    def seq_held(self, engine: VirtualEngine, target: bytes) -> int | None:
        """Return the seq of the item that a machine stores for others."""
        held = engine.node.storage.held(target, boot_now())
        return None if held is None else held.seq

    def _beginning(self, host: str, wanted: Wanted) -> Beginning:
        nearest = self.nearest(wanted.target, among=self._reached(host))
        held = {engine.address[0]: self.seq_held(engine, wanted.target) for engine in nearest}
        return Beginning(held, self._is_calm_now)

    def _left(self, host: str, began: Beginning) -> Beginning:
        # A get goes on after its first item was shown, and a scenario may part its world meanwhile.
        reached = {engine.address[0]: None for engine in self._reached(host)}
        gone = tuple(one for one in began.held if one not in reached)
        return replace(began, is_calm=began.is_calm and self._is_calm_now, gone=gone)

    @property
    def _cuts(self) -> list[Trouble]:
        return [rule for rule in (*self.network.rules, *self.healing) if isinstance(rule, Trouble)]

    @property
    def _is_calm_now(self) -> bool:
        return self.is_calm and not self._cuts

    def _reached(self, host: str) -> list[VirtualEngine]:
        cuts = self._cuts
        if not cuts:
            return self.honest
        return [engine for engine in self.honest if not is_parted(cuts, host, engine.address[0])]

    def findings(self) -> Iterator[str]:
        """Check every table and store, and yield all faults since the last time, the machines' own reports among them.

        A fault that lasts is found again each time.
        """
        for engine in self.honest:
            self._check(engine)
        self._check_tables()
        for owner in self.owners:
            self._check_puts(owner)
        yield from self.checkers.findings
        yield from self.troubles
        self.checkers.findings.clear()
        self.troubles.clear()

    def _check(self, engine: VirtualEngine) -> None:
        host, node, now = engine.address[0], engine.node, boot_now()
        peers = node.peers(now)
        self.checkers.note(host, table_findings(node.node_id, peers, len(self.engines)))
        is_settled = engine.session_s >= ID_SETTLED_S and len(peers) >= ID_CONTACTS_MIN
        self.checkers.note(host, identity_findings(host, node.node_id, is_settled=is_settled))
        self.checkers.note(host, store_size_findings(len(node.storage), node.storage.size_bytes))
        held: dict[bytes, int] = {}
        for stored in node.storage.everything(now):
            self.checkers.stored(host, stored)
            held[stored.target] = stored.seq
        before, self._stored[host] = self._stored.get(host, {}), held
        precedence = node.storage.precedence
        self.checkers.note(host, looks.holding_findings(before, held, lambda seq: precedence.is_ahead(seq, now)))

    def _check_tables(self) -> None:
        tables, self._tables = self._tables, {}
        # A contact that was silent once may go for the next one that answers: only calm tells who was silent.
        if self.network.weather.loss or any(isinstance(rule, Trouble) for rule in self.network.rules):
            return
        now, machines = boot_now(), {engine.address: engine for engine in self.honest}
        for engine in machines.values():
            host, address = engine.address[0], engine.address
            after = self._tables[host] = looks.TableLook(now, engine.node.node_id, engine.node.peers(now))
            before = tables.get(host)
            if before is None or engine.session_s < now - before.at:
                continue
            since_s = now - before.at

            def is_safe(peer: Peer, address: Address = address, since_s: float = since_s) -> bool:
                other = machines.get(peer.address)
                if other is None or other.habits.is_behind_nat or other.session_s < since_s:
                    return False
                # A reply that is this slow may be late, and then the contact counts as silent.
                is_fast = (
                    self.network.rtt_s(address, peer.address) * (1 + self.network.weather.jitter) < TIMEOUT_S_FIRST
                )
                return is_fast and other.node.node_id == peer.node_id

            self.checkers.note(host, looks.table_findings(before, after, is_safe))

    def _check_puts(self, owner: Owner) -> None:
        engine = owner.engine
        # A publisher that lost its disk does not know its zone any more.
        if not (engine.is_up and owner.editions and engine.state.is_protected(zone_id_of(owner.editions[-1]))):
            return
        host, put_at = engine.address[0], self.checkers.put_at(engine.address[0], owner.key)
        since_s = None if put_at is None else boot_now() - put_at
        self.checkers.note(host, looks.put_findings(str(owner.key), engine.session_s, since_s))

    async def close(self) -> None:
        """Stop every machine."""
        for engine in self.living:
            await engine.stop()

    def new_engine(self) -> VirtualEngine:
        """Return a new machine that is not up yet."""
        number = len(self.engines)
        host = host_of(number)
        habits = self._habits_of(number, random.Random(f"{self.seed}/habits/{number}"))
        if number < CONTACTS_AT_START:
            # The first machines of a public network are told so, as docs/how-to/vps.md says, and have no translator.
            habits = replace(habits, read_only=False, is_behind_nat=False)
        if habits.is_behind_nat:
            if self._translator not in self.network.rules:
                # Each rule sees every datagram, and most worlds have no translators.
                self.network.rules.insert(0, self._translator)
            self._translator.add(host)
        make_node = self.cast(number)
        # A liar is not checked.
        observer = self.checkers if make_node is None else None
        self.checkers.has_liars |= make_node is not None
        engine = VirtualEngine(
            self.network,
            host,
            f"{self.seed}/{number}",
            self.told,
            observer=observer,
            habits=habits,
            make_node=make_node,
        )
        self.engines.append(engine)
        return engine

    def addresses_of_some(
        self, others: Sequence[VirtualEngine] | None = None, drawn: random.Random | None = None
    ) -> list[Address]:
        """Return the addresses of a few machines that strangers can reach, by lot, an honest one among them."""
        lot = drawn or self.random
        reachable = [one for one in (self.living if others is None else others) if not one.habits.is_behind_nat]
        some = lot.sample(reachable, min(CONTACTS_AT_START, len(reachable)))
        if some and not any(one.is_honest for one in some):
            # Else it might never join: the address of one honest machine is all that a newcomer has to trust in.
            some[0] = lot.choice([one for one in reachable if one.is_honest])
        return [engine.address for engine in some]

    def told(self, event: str, **fields: object) -> None:
        """Keep a trouble that a machine reports."""
        if len(self.troubles) < TROUBLES_KEPT_MAX:
            self.troubles.append(f"{event} {fields}")


def _in_silence(_what: str, _done: int, _all: int) -> None:
    return None
