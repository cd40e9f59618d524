"""The scenario `history`: the troubles of all others at once, in an order that the seed draws, and then quiet.

Machines crash and come back with and without their disks, sides part and heal, hosts go deaf to others, clocks are
wrong, some machines lie, datagrams are lost and doubled; all the while zones change and are asked for. The rules are
checked after every step. Guarantees: the verdict is bad if a rule was broken, or if a machine does not find the newest
edition of a zone that is published once the troubles have stopped. Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from p2pdns.addresses import Address
from p2pdns.dht import bencode, krpc
from p2pdns.dht.routing.ids import ID_BYTES
from p2pdns.dns.message import Question
from p2pdns.dns.registry import Rcode
from p2pdns.items.item import MutableItem, next_seq
from p2pdns.items.keys import SecretKey
from p2pdns.sim import liveness, looks
from p2pdns.sim.behaviours import BEHAVIOURS, casting
from p2pdns.sim.churn import MINUTE_S, clock_off_s
from p2pdns.sim.engine import HOSTS_MAX, NETWORK_NAME, PORT, Habits, VirtualEngine, host_of
from p2pdns.sim.network import Weather
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.rules import Cut, Partition, Slow, Trouble
from p2pdns.sim.scenarios.story import drawn_weather, told
from p2pdns.sim.stranger import Stranger
from p2pdns.sim.world import CONTACTS_AT_START, Owner, Progress, World

LOSS_MAX, DUPLICATION_MAX = 0.05, 0.02
NATTED_MAX = 0.3
LIARS_MAX, LIAR_SHARE_MIN, LIAR_SHARE_MAX = 2, 0.02, 0.06  # Kinds of liars, and how many machines are of each.
STATE_LOST = 0.3  # Share of the crashes that lose the disk; a publisher keeps its own, or it could not go on.
SETTLE_S = 600.0  # Until machines know who they are, and have filled their tables.
STEP_S = 20.0
CRASHED_S = (5.0, 600.0)
PARTED_S = (30.0, 300.0)
PARTED_SHARE = (0.1, 0.5)
SLOW_SHARE = 0.2
SLOW_S = (0.5, 3.0)  # One way. A request is waited for one second at most, and a question for four.
READERS_A_STEP = 3
CRASHED_SHARE_MAX = 0.3  # With more machines down at once, items may rightly be lost.
QUIET_S = 300.0  # From the last trouble to the last look: contacts that went silent are asked again by then.
PUBLISHER_SHARE = 0.1
CLOCK_OFF_S_MAX = 300.0  # A publisher's: nodes refuse an edition that is signed a day ahead.


@dataclass(frozen=True)
class HistoryRow:
    """How often each trouble came, and what became of the questions meanwhile and of the look-ups afterwards."""

    crashes: int
    disks_lost: int
    partitions: int
    cuts: int
    editions: int
    asked: int
    answered: int
    denied: int
    gets: int
    newest: int

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "crashes": f"{self.crashes}",
            "disks lost": f"{self.disks_lost}",
            "partitions": f"{self.partitions}",
            "cuts": f"{self.cuts}",
            "editions": f"{self.editions}",
            "answered": f"{self.answered} of {self.asked}",
            "denied": f"{self.denied}",
            "newest at the end": f"{self.newest} of {self.gets}",
        }


def history(scale: Scale, progress: Progress) -> Report:
    """Grow a world, publish, let drawn troubles happen for some time, stop them, and look everything up."""
    drawn, weather, draw = drawn_weather(scale.seed, LOSS_MAX, DUPLICATION_MAX)
    natted = round(drawn.uniform(0.0, NATTED_MAX), 2)
    kinds = drawn.sample(sorted(BEHAVIOURS), drawn.randint(0, LIARS_MAX))
    liars = {kind: round(drawn.uniform(LIAR_SHARE_MIN, LIAR_SHARE_MAX), 3) for kind in kinds}
    draw |= {"natted": natted, **liars}

    def habits_of(number: int, lot: random.Random) -> Habits:
        return Habits(clock_off_s=clock_off_s(lot), is_behind_nat=lot.random() < natted)

    async def story(world: World, report: Report) -> None:
        world.cast = casting(scale.seed, scale.nodes, {BEHAVIOURS[kind]: share for kind, share in liars.items()})
        await world.grow(scale.nodes)
        await asyncio.sleep(SETTLE_S)
        await _Troubles(world, report, progress).happen()

    return told(Report("history", scale, draw), weather, progress, story, habits_of)


class _Troubles:
    """The troubles of a world, drawn step by step."""

    def __init__(self, world: World, report: Report, progress: Progress) -> None:
        self._world = world
        self._report = report
        self._progress = progress
        self._drawn = random.Random(f"{report.scale.seed}/troubles")
        self._counts: Counter[str] = Counter()
        self._under_way: list[asyncio.Task[None]] = []
        able = [
            engine
            for engine in world.honest[CONTACTS_AT_START:]
            if abs(engine.habits.clock_off_s) <= CLOCK_OFF_S_MAX and engine.node.has_joined
        ]
        self._publishers = able[: max(1, round(PUBLISHER_SHARE * len(world.engines)))]
        # The most frequent things are in here more than once.
        self._acts: list[Callable[[], Awaitable[None]]] = [
            *[self._ask] * 6,
            *[self._publish] * 2,
            *[self._crash] * 3,
            self._part,
            self._deafen,
            self._slow,
            self._put_older,
            self._put_with_another_token,
        ]
        self._stranger_count = 0
        self._asked: dict[Address, Owner] = {}

    async def happen(self) -> None:
        """Let the troubles happen, stop them, and see that all is well."""
        world, scale = self._world, self._report.scale
        await world.publish(scale.zones, at=self._publishers)
        steps = round(scale.minutes * MINUTE_S / STEP_S)
        for step in range(steps):
            await self._drawn.choice(self._acts)()
            await asyncio.sleep(STEP_S)
            self._report.findings += world.findings()
            self._progress("trouble", step + 1, steps)
        await asyncio.gather(*self._under_way)
        world.network.weather = Weather()
        await asyncio.sleep(QUIET_S)
        # By now each machine can know of all others again.
        world.healing.clear()
        # Between this look and the next one there is no trouble, and every machine asks many others.
        self._report.findings += world.findings()
        for owner in world.owners:
            await world.publish_next(owner)
        self._report.rows.append(await self._row())
        self._report.findings += liveness.stranded_findings(world)
        self._report.findings += world.findings()

    async def _row(self) -> HistoryRow:
        looks, unfound = await liveness.looks_of_all(self._world, each=1)
        self._report.findings += unfound
        counts = self._counts
        return HistoryRow(
            crashes=counts["crash"],
            disks_lost=counts["disk"],
            partitions=counts["part"],
            cuts=counts["cut"],
            editions=sum(owner.edition for owner in self._world.owners),
            asked=counts["asked"],
            answered=counts["answered"],
            denied=counts["denied"],
            gets=len(looks),
            newest=sum(look.shown_seq == look.wanted_seq for look in looks),
        )

    async def _ask(self) -> None:
        """Some machines ask for a name that there is, for one that there is not, and for one that has no record."""
        owner = self._drawn.choice(self._world.owners)
        joined = [engine for engine in self._world.honest if engine.node.has_joined]
        for reader in self._drawn.sample(joined, min(READERS_A_STEP, len(joined))):
            questions = owner.question, owner.absent_question, owner.empty_question
            await asyncio.gather(*(self._ask_of(reader, owner, question) for question in questions))

    async def _ask_of(self, reader: VirtualEngine, owner: Owner, question: Question) -> None:
        self._asked[reader.address] = owner
        resolved = await reader.ask(question)
        self._world.network.note("answer", str(question.name), resolved.rcode, resolved.answer)
        self._counts["asked"] += 1
        self._counts["answered"] += resolved.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN)
        self._counts["denied"] += resolved.rcode == Rcode.NXDOMAIN

    async def _publish(self) -> None:
        """A publisher that is up puts a new edition."""
        owners = [owner for owner in self._world.owners if owner.engine.is_up]
        if owners:
            await self._world.publish_next(self._drawn.choice(owners))

    async def _put_older(self) -> None:
        """A machine that was away puts an old edition again; any node may do that, and none may accept it."""
        owners = [owner for owner in self._world.owners if len(owner.editions) > 1]
        joined = [engine for engine in self._world.honest if engine.node.has_joined]
        if not owners or not joined:
            return
        owner, engine = self._drawn.choice(owners), self._drawn.choice(joined)
        put = await engine.network.put(self._drawn.choice(owner.editions[:-1]))
        self._world.network.note("put again", str(owner.key), put.stored_count)

    async def _put_with_another_token(self) -> None:
        """A stranger asks a node for one target, and puts an item of its own at another one with the token."""
        world, drawn = self._world, self._drawn
        node = drawn.choice(world.honest)
        self._stranger_count += 1
        address = (host_of(HOSTS_MAX - self._stranger_count), PORT)
        stranger = Stranger(world.network, address, NETWORK_NAME, drawn)
        reply = await stranger.ask(krpc.Get(drawn.randbytes(ID_BYTES)), node.address)
        if reply is not None and reply.token is not None:
            item = MutableItem.signed(SecretKey.generate(drawn.randbytes(32)), next_seq(node.unix_now(), None), b"")
            value = bencode.encode(item.value)
            await stranger.ask(
                krpc.PutMutable(item.key.raw, item.seq, value, item.signature, reply.token), node.address
            )
            is_kept = node.is_up and world.seq_held(node, item.target) is not None
            self._report.findings += looks.token_findings(node.address, is_kept)
        stranger.close()

    async def _crash(self) -> None:
        """A machine ends, and comes back later, perhaps with a new disk."""
        world, drawn = self._world, self._drawn
        able = world.honest[CONTACTS_AT_START:]
        if len(world.living) < (1 - CRASHED_SHARE_MAX) * len(world.engines) or not able:
            return
        engine = drawn.choice(able)
        loses_disk = drawn.random() < STATE_LOST and engine not in self._publishers
        seconds = drawn.uniform(*CRASHED_S)
        self._counts["crash"] += 1
        self._counts["disk"] += loses_disk
        await engine.stop()

        async def back() -> None:
            await asyncio.sleep(seconds)
            if loses_disk:
                engine.lose_state()
            engine.begin(world.addresses_of_some(drawn=random.Random(f"{engine.address}/{seconds}")))
            asked = self._asked.get(engine.address)
            if asked is not None:
                # The programs on it do not wait until it has joined.
                await self._ask_of(engine, asked, asked.question)

        self._later(back())

    async def _part(self) -> None:
        """Some of the machines are cut off from the others, in both directions."""
        hosts = [engine.address[0] for engine in self._world.engines]
        share = self._drawn.uniform(*PARTED_SHARE)
        self._counts["part"] += 1
        self._trouble(Partition(self._drawn.sample(hosts, round(share * len(hosts)))))

    async def _deafen(self) -> None:
        """Some machines hear nothing from others."""
        hosts = self._drawn.sample([engine.address[0] for engine in self._world.engines], len(self._world.engines) // 5)
        self._counts["cut"] += 1
        self._trouble(Cut(hosts[::2], hosts[1::2]))

    async def _slow(self) -> None:
        """Some machines are on lines so slow that most replies come too late."""
        hosts = [engine.address[0] for engine in self._world.engines]
        count = max(1, round(SLOW_SHARE * len(hosts)))
        self._counts["slow"] += 1
        self._trouble(Slow(self._drawn.sample(hosts, count), self._drawn.uniform(*SLOW_S)))

    def _trouble(self, rule: Trouble) -> None:
        world, seconds = self._world, self._drawn.uniform(*PARTED_S)
        # Cuts come before the translators, as what is cut off reaches none of them, and delays behind them, as they
        # would otherwise hear nothing of what is only late.
        rules = world.network.rules
        rules.insert(len(rules) if isinstance(rule, Slow) else 0, rule)

        async def end() -> None:
            await asyncio.sleep(seconds)
            world.network.rules.remove(rule)
            world.healing.append(rule)

        self._later(end())

    def _later(self, what: Awaitable[None]) -> None:
        self._under_way.append(asyncio.ensure_future(what))
