"""The scenario `keeping`: what it costs to keep zones alive while machines come and go, some forget and some lie.

Half of the zones are kept alive by the production code. The others are put again every hour, whatever is known of them,
as it was done before: in the same world, so that both meet the same trouble. A tap counts every datagram about a zone
but those of the readers. Guarantees: the verdict is bad if a rule was broken. Does not know how it is shown; it is none
of the scenarios of the command line: `bench/upkeep.py` runs it for a day, and a test for some hours.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.errors import FormatError
from p2pdns.items.item import MutableItem
from p2pdns.overlay.parts import zone_id_of
from p2pdns.sim.behaviours import Claim, casting
from p2pdns.sim.churn import HOUR_S, MINUTE_S, Churn, Sessions
from p2pdns.sim.engine import Habits, VirtualEngine
from p2pdns.sim.network import Datagram
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.story import drawn_weather, told
from p2pdns.sim.world import CONTACTS_AT_START, Owner, Progress, World

SETTLE_S = 900.0
SESSIONS = Sessions(median_s=HOUR_S, state_lost=0.1)
UNDER_WAY_MAX = 100  # Queries of one machine that wait for a reply; the oldest are forgotten.
STAYING = 10  # Machines that stay, and store nothing for others: publisher and readers.
EVERY_S, EVERY_JITTER = HOUR_S, 0.1  # How zones were put again before there were looks.
NOW, BEFORE = "looks", "a put an hour"


@dataclass(frozen=True)
class Conditions:
    """The shares, from 0 to 1, of machines that forget after two hours, and that claim what they have not."""

    forgetful: float = 0.0
    liars: float = 0.0


@dataclass(frozen=True)
class KeepingRow:
    """One way to keep zones alive: datagrams of one zone a day, and the share of look-ups that found the zone.

    `own` datagrams are those of the publisher, `others` those that other machines sent about the zone by themselves.
    """

    way: str
    own: float
    others: float
    found: int
    gets: int

    @property
    def datagrams(self) -> float:
        return self.own + self.others

    @property
    def availability(self) -> float:
        return self.found / max(1, self.gets)

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "way": self.way,
            "own/day": f"{self.own:.0f}",
            "others/day": f"{self.others:.0f}",
            "found": f"{self.found} of {self.gets}",
            "availability": f"{self.availability:.2%}",
        }


class ZoneTap:
    """A rule of the network that decides nothing, and counts datagrams by the zone that they are about."""

    def __init__(self, owners: Sequence[Owner], publisher: VirtualEngine, readers: Sequence[VirtualEngine]) -> None:
        self.own: Counter[bytes] = Counter()
        self.others: Counter[bytes] = Counter()
        self._target_of = {name: one.target for one in owners for name in (one.target, one.key.raw)}
        self._names = re.compile(b"|".join(map(re.escape, self._target_of)))
        self._publisher = publisher.address
        self._readers = {engine.address: None for engine in readers}
        # Queries under way: of whom, with which transaction, about which target.
        self._asked: dict[Address, dict[bytes, bytes]] = {}

    def __call__(self, datagram: Datagram) -> None:
        """Count a datagram."""
        about, asked = self._names.search(datagram.data), self._asked.get(datagram.receiver, {})
        # Most datagrams are about nothing of this, and reading them all would take most of the time.
        if about is None and not any(transaction in datagram.data for transaction in asked):
            return
        try:
            message = parse(datagram.data)
        except FormatError:
            return
        if isinstance(message, krpc.RequestMessage):
            if about is not None:
                target = self._target_of[about.group()]
                under_way = self._asked.setdefault(datagram.sender, {})
                under_way[message.transaction] = target
                if len(under_way) > UNDER_WAY_MAX:
                    del under_way[next(iter(under_way))]
                self._count(datagram.sender, target)
        elif (asked_about := asked.pop(message.transaction, None)) is not None:
            self._count(datagram.receiver, asked_about)

    def _count(self, asker: Address, target: bytes) -> None:
        if asker == self._publisher:
            self.own[target] += 1
        elif asker not in self._readers:
            self.others[target] += 1


def keeping(scale: Scale, progress: Progress, conditions: Conditions) -> Report:
    """Keep zones alive in both ways for `scale.minutes`, and look them up all the time."""
    _, weather, draw = drawn_weather(scale.seed)
    draw |= {"forgetful": conditions.forgetful, "liars": conditions.liars}
    # They come last: a machine that knows only them could not join.
    first = max(CONTACTS_AT_START, scale.nodes - STAYING)

    def habits_of(number: int, lot: random.Random) -> Habits:
        forgets = lot.random() < conditions.forgetful
        stays = first <= number < first + STAYING
        return Habits(read_only=True if stays else None, is_behind_nat=stays, forgets=forgets and not stays)

    async def story(world: World, report: Report) -> None:
        liars = casting(scale.seed, 2 * scale.nodes, {Claim: conditions.liars})
        world.cast = lambda number: None if first <= number < first + STAYING else liars(number)
        await world.grow(first + STAYING)
        for _ in range(scale.nodes):
            world.new_engine()  # As many again that are away: half of the machines are up at a time.
        await asyncio.sleep(SETTLE_S)
        publisher, *readers = world.engines[first : first + STAYING]
        comers = [*world.engines[:first][1:], *world.engines[first + STAYING :]]
        coming = Churn(f"{scale.seed}/keeping", SESSIONS, lambda lot: world.addresses_of_some(drawn=lot))
        coming.begin(comers)
        await world.publish(2 * scale.zones, at=[publisher])
        before = world.owners[scale.zones :]
        tap = ZoneTap(world.owners, publisher, readers)
        world.network.rules.append(tap)
        hourly = [asyncio.ensure_future(_every_hour(world, owner)) for owner in before]
        began, seconds = world.loop.time(), scale.minutes * MINUTE_S
        found: Counter[bytes] = Counter()
        gets: Counter[bytes] = Counter()
        for number in range(scale.gets):
            await asyncio.sleep(began + (number + 1) * seconds / scale.gets - world.loop.time())
            for owner in (world.owners[number % scale.zones], before[number % scale.zones]):
                look = await world.look_up(owner, readers)
                gets[owner.target] += 1
                found[owner.target] += look.shown_seq == look.wanted_seq
            progress("looking up", number + 1, scale.gets)
        for task in hourly:
            task.cancel()
        days = (world.loop.time() - began) / (24 * HOUR_S) * scale.zones
        for way, owners in ((NOW, world.owners[: scale.zones]), (BEFORE, before)):
            targets = [owner.target for owner in owners]
            report.rows.append(
                KeepingRow(
                    way,
                    sum(tap.own[target] for target in targets) / days,
                    sum(tap.others[target] for target in targets) / days,
                    sum(found[target] for target in targets),
                    sum(gets[target] for target in targets),
                )
            )
        report.notes.append(str(dict(sorted(publisher.publisher.counters.items()))))
        await coming.stop()

    return told(Report("keeping", scale, draw), weather, progress, story, habits_of)


async def _every_hour(world: World, owner: Owner) -> None:
    """Put a zone again every hour, as it was done before there were looks."""
    item = owner.editions[-1]
    assert isinstance(item, MutableItem)
    owner.engine.publisher.forget(zone_id_of(item))
    drawn = random.Random(f"{world.seed}/hourly/{owner.key}")
    while True:
        await asyncio.sleep(EVERY_S * (1 + EVERY_JITTER * (2 * drawn.random() - 1)))
        await owner.engine.network.put(item)
