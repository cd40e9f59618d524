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

from p2pdns.dns.registry import Rcode
from p2pdns.sim import liveness
from p2pdns.sim.behaviours import BEHAVIOURS, casting
from p2pdns.sim.churn import MINUTE_S, clock_off_s
from p2pdns.sim.engine import Habits, VirtualEngine
from p2pdns.sim.network import Weather
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.rules import Cut, Partition
from p2pdns.sim.scenarios.story import told
from p2pdns.sim.world import CONTACTS_AT_START, Owner, Progress, World

LOSS_MAX, DUPLICATION_MAX = 0.05, 0.02
NATTED_MAX = 0.3
LIARS_MAX, LIAR_SHARE_MIN, LIAR_SHARE_MAX = 2, 0.02, 0.06  # Kinds of liars, and how many machines are of each.
STATE_LOST = 0.3  # Of the crashes; a publisher keeps its disk, or it could not go on.
SETTLE_S = 600.0  # Until machines know who they are, and have filled their tables.
STEP_S = 20.0
CRASHED_S = (5.0, 600.0)
PARTED_S = (30.0, 300.0)
PARTED_SHARE = (0.1, 0.5)
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
    drawn = random.Random(f"{scale.seed}/draw")
    loss, duplication = drawn.uniform(0.0, LOSS_MAX), drawn.uniform(0.0, DUPLICATION_MAX)
    weather = Weather(loss=round(loss, 4), duplication=round(duplication, 4))
    natted = round(drawn.uniform(0.0, NATTED_MAX), 2)
    kinds = drawn.sample(sorted(BEHAVIOURS), drawn.randint(0, LIARS_MAX))
    liars = {kind: round(drawn.uniform(LIAR_SHARE_MIN, LIAR_SHARE_MAX), 3) for kind in kinds}
    draw = {"loss": weather.loss, "duplication": weather.duplication, "rtt_ms_median": weather.rtt_s_median * 1000}
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
    """What happens to a world, step by step."""

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
        ]

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
        """Some machines ask for a name that there is, and for one that there is not."""
        owner = self._drawn.choice(self._world.owners)
        joined = [engine for engine in self._world.honest if engine.node.has_joined]
        for reader in self._drawn.sample(joined, min(READERS_A_STEP, len(joined))):
            await asyncio.gather(*(self._ask_of(reader, owner, is_absent) for is_absent in (False, True)))

    async def _ask_of(self, reader: VirtualEngine, owner: Owner, is_absent: bool) -> None:
        question = owner.absent_question if is_absent else owner.question
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

    def _trouble(self, rule: Cut | Partition) -> None:
        world, seconds = self._world, self._drawn.uniform(*PARTED_S)
        # Before the translators: what is cut off reaches none of them.
        world.network.rules.insert(0, rule)

        async def end() -> None:
            await asyncio.sleep(seconds)
            world.network.rules.remove(rule)
            world.healing.append(rule)

        self._later(end())

    def _later(self, what: Awaitable[None]) -> None:
        self._under_way.append(asyncio.ensure_future(what))
