"""The scenario `churn`: machines come and go, the publishers are gone, and names are looked up all the time.

Guarantees: the verdict is bad if a rule was broken, if something is not found once the trouble stops, or, in a run of a
day and more, if a goal is missed; a shorter run says what it does not judge. Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from p2pdns.errors import Unavailable
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.sim import liveness
from p2pdns.sim.churn import MINUTE_S, Churn, Sessions, clock_off_s
from p2pdns.sim.engine import Habits, VirtualEngine
from p2pdns.sim.network import Weather
from p2pdns.sim.report import Report, Scale, ms_text, quantiles
from p2pdns.sim.rules import Cut
from p2pdns.sim.scenarios.story import drawn_weather, told
from p2pdns.sim.world import CONTACTS_AT_START, Look, Owner, Progress, World

SESSION_MINUTES = (60.0, 5.0)  # Medians: as in the public network, and as hard as it gets with phones.
NATTED_MIN, NATTED_MAX = 0.1, 0.3  # Shares of the machines behind a translator; in Mainline it is more than half.
STATE_LOST_MIN, STATE_LOST_MAX = 0.05, 0.3
DEAF_SHARE = 0.05  # Of the machines: so many hear nothing from as many others.
SETTLE_S = 1_800.0  # Until read-only nodes were visited, and tables are full.
SLICES = 12  # Of the time, for the picture.
CLOCK_OFF_S_MAX = 300.0  # A publisher's: nodes refuse an edition that is signed a day ahead.
PUBLISHERS = 2
ASK_EVERY = 10  # One look-up in so many is followed by two questions, so that marks and denials are checked as well.
AVAILABILITY_MIN = 0.999  # Over a day at sessions of an hour.
GOAL_MINUTES_MIN = 1_440.0


@dataclass(frozen=True)
class ChurnRow:
    """Some hours at one length of sessions.

    `slices` has the availability in parts of the time; datagrams and bytes are those of upkeep, of one living machine
    in a second; `near` is the share of the nearest nodes that hold the newest edition when the trouble has stopped,
    `stranded` how many machines then know no other.
    """

    session_minutes: float
    living: float
    departures: int
    gets: int
    found: int
    availability: float
    slices: tuple[float, ...]
    first_s: tuple[float, float, float]
    datagrams_s: float
    bytes_s: float
    near: float
    stranded: int

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "sessions": f"{self.session_minutes:g} min",
            "living": f"{self.living:.0f}",
            "left": f"{self.departures}",
            "found": f"{self.found} of {self.gets}",
            "availability": f"{self.availability:.2%}",
            "worst slice": f"{min(self.slices):.0%}",
            "first p50/p95/p98 ms": ms_text(self.first_s),
            "datagrams/s": f"{self.datagrams_s:.2f}",
            "bytes/s": f"{self.bytes_s:.0f}",
            "nearest with it": f"{self.near:.0%}",
        }


def churn(scale: Scale, progress: Progress) -> Report:
    """Publish, send the publishers away, and look up while machines come and go; then let the trouble stop."""
    drawn, weather, draw = drawn_weather(scale.seed)
    state_lost = round(drawn.uniform(STATE_LOST_MIN, STATE_LOST_MAX), 2)
    natted = round(drawn.uniform(NATTED_MIN, NATTED_MAX), 2)
    draw |= {"state_lost": state_lost, "natted": natted}

    def habits_of(number: int, lot: random.Random) -> Habits:
        return Habits(clock_off_s=clock_off_s(lot), is_behind_nat=lot.random() < natted)

    async def story(world: World, report: Report) -> None:
        await world.grow(scale.nodes)
        for _ in range(scale.nodes):
            world.new_engine()  # As many again that are away: half of the machines are up at a time.
        await asyncio.sleep(SETTLE_S)
        publishers = _publishers(world)
        comers = [one for one in world.engines[CONTACTS_AT_START:] if one not in publishers]
        for minutes in SESSION_MINUTES:
            await _come_back(publishers)
            # Zones of their own for each row: those of the one before had to last through it.
            world.owners.clear()
            await world.publish(scale.zones, at=publishers)
            for engine in publishers:
                await engine.stop()
            row = await _row(world, report, Sessions(minutes * MINUTE_S, state_lost), comers, progress)
            report.rows.append(row)
        judge(report)

    return told(Report("churn", scale, draw), weather, progress, story, habits_of)


def _publishers(world: World) -> list[VirtualEngine]:
    able = [
        engine
        for engine in world.living[CONTACTS_AT_START:]
        if abs(engine.habits.clock_off_s) <= CLOCK_OFF_S_MAX and engine.node.has_joined
    ]
    return able[-PUBLISHERS:]


async def _come_back(publishers: Sequence[VirtualEngine]) -> None:
    away = [engine for engine in publishers if not engine.is_up]
    for engine in away:
        engine.begin()
    if away:
        await asyncio.sleep(SETTLE_S)


async def _row(
    world: World, report: Report, sessions: Sessions, comers: Sequence[VirtualEngine], progress: Progress
) -> ChurnRow:
    scale, network = report.scale, world.network
    weather, seconds = network.weather, scale.minutes * MINUTE_S
    minutes = sessions.median_s / MINUTE_S
    deaf = [engine.address[0] for engine in world.random.sample(comers, round(2 * DEAF_SHARE * len(comers)))]
    cut = Cut(deaf[::2], deaf[1::2])
    network.rules.append(cut)
    coming = Churn(f"{scale.seed}/churn/{minutes:g}", sessions, lambda lot: world.addresses_of_some(drawn=lot))
    began, lived_s = world.loop.time(), world.lived_s
    sent, size_bytes = network.counters["sent"], network.bytes_sent
    coming.begin(comers)
    looks: list[Look] = []
    for number in range(scale.gets):
        await asyncio.sleep(began + (number + 1) * seconds / scale.gets - world.loop.time())
        owner = world.owners[number % len(world.owners)]
        looks.append(await _look(world, owner))
        if number % ASK_EVERY == 0:
            await _ask(world, owner)
        if (number + 1) % max(1, scale.gets // SLICES) == 0:
            report.findings += world.findings()
        progress(f"looking up, sessions of {minutes:g} min,", number + 1, scale.gets)
    lived_s = world.lived_s - lived_s
    asked = sum(2 * (look.outcome.rpc_count + look.outcome.retransmit_count) for look in looks)
    asked_bytes = sum(look.outcome.bytes_sent + look.outcome.bytes_received for look in looks)
    sent, size_bytes = network.counters["sent"] - sent - asked, network.bytes_sent - size_bytes - asked_bytes
    took_s = world.loop.time() - began
    await coming.stop()
    network.rules.remove(cut)
    network.weather = Weather()
    stranded, nearest = await _calm(world, report)
    network.weather = weather
    found = [look.shown_seq == look.wanted_seq for look in looks]
    slices = tuple(_share(found[len(found) * i // SLICES : len(found) * (i + 1) // SLICES]) for i in range(SLICES))
    hours = scale.minutes / 60 / SLICES
    label = f"sessions of {minutes:g} min"
    report.picture.availability[label] = [(hours * (i + 1), share) for i, share in enumerate(slices)]
    return ChurnRow(
        session_minutes=minutes,
        living=lived_s / took_s,
        departures=coming.departures,
        gets=len(looks),
        found=sum(found),
        availability=_share(found),
        slices=slices,
        first_s=quantiles([look.first_s for look in looks if look.first_s is not None]),
        datagrams_s=sent / lived_s,
        bytes_s=size_bytes / lived_s,
        near=nearest,
        stranded=stranded,
    )


def _joined(world: World) -> list[VirtualEngine]:
    return [engine for engine in world.living if engine.node.has_joined]


async def _look(world: World, owner: Owner) -> Look:
    while True:
        # A machine that leaves before its look-up has ended did not want to know.
        with contextlib.suppress(Unavailable):
            return await world.look_up(owner, _joined(world), deadline_s=QUESTION_S_MAX)


async def _ask(world: World, owner: Owner) -> None:
    reader = world.random.choice(_joined(world))
    for question in (owner.question, owner.absent_question):
        if reader.is_up:
            resolved = await reader.ask(question)
            world.network.note("answer", str(question.name), resolved.rcode, resolved.answer)


async def _calm(world: World, report: Report) -> tuple[int, float]:
    """Wait until everything should be well again, and see that it is; return who is stranded, and the share near."""
    is_long = report.scale.minutes * MINUTE_S >= liveness.REFRESH_S
    await asyncio.sleep(max(liveness.forgetting_s(world), liveness.REFRESH_S if is_long else 0.0))
    stranded = list(liveness.stranded_findings(world))
    report.findings += stranded
    report.findings += liveness.dead_findings(world.honest, liveness.dead_counts(world))
    _, unfound = await liveness.looks_of_all(world)
    report.findings += unfound
    nearby = [(str(owner.key), liveness.near(world, owner)) for owner in world.owners]
    if is_long:
        report.findings += [text for key, one in nearby for text in liveness.near_findings(key, one)]
    report.findings += world.findings()
    return len(stranded), sum(one.share for _, one in nearby) / len(nearby)


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found) if found else 1.0


def judge(report: Report) -> None:
    """Note the missed goals of a day and more; of a shorter run, note what it does not judge."""
    rows = [row for row in report.rows if isinstance(row, ChurnRow)]
    minutes = report.scale.minutes
    if minutes < GOAL_MINUTES_MIN:
        report.notes.append(f"availability has its goal over a day; these are {minutes:g} minutes")
    else:
        report.must_reach("availability at sessions of an hour", rows[0].availability, AVAILABILITY_MIN)
    if minutes * MINUTE_S < liveness.REFRESH_S:
        hours = liveness.REFRESH_S / 3_600
        report.notes.append(f"holders put items again after up to {hours:.0f} h, so who holds them is not judged")
