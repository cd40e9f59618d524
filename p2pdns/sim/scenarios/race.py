"""The scenario `race`: two publishers with copies of one key publish at the same time, at three rates of loss.

Each of them changes an RRset of its own, and in one race of five both change the same one. By turns they publish a zone
that exists or one that is new, whole zone files or single changes, through their daemons or by themselves, at once or
one a little later.

Guarantees: the verdict is bad if a publisher was told that its update is stored, and a reader does not find it
afterwards. Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, replace

from p2pdns.clock import boot_now
from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SEED_BYTES, SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet
from p2pdns.overlay.parts import zone_id_for
from p2pdns.publishing.changes import Content, WholeZone, rrsets_of
from p2pdns.publishing.editions import Found
from p2pdns.publishing.memory import Made
from p2pdns.publishing.publication import Publication
from p2pdns.publishing.stored import Stored
from p2pdns.sim.engine import VirtualEngine
from p2pdns.sim.report import Report, Scale, ms_text, quantiles
from p2pdns.sim.scenarios.story import Story, drawn_weather, one_after_another
from p2pdns.sim.world import TTL_S, Progress, World

LOSSES = (0.0, 0.02, 0.1)
SETTLE_S = 60.0
AFTER_S = 5.0  # Between the end of a race and the look at what is left of it.
LOOKS = 3  # Of the reader afterwards; the newest of what it sees counts.
LATER_S_MAX = 2.0  # How much later the second may begin: a publication takes about as long.
STORED_MIN = 0.5  # Of the publications: at least one of two should come through, whatever the loss.


@dataclass(frozen=True)
class RaceRow:
    """The races at one rate of loss: how the publications ended, and how many updates were lost though stored."""

    loss: float
    races: int
    stored: int
    merged: int
    refused: int
    failed: int
    lost: int
    took_s: tuple[float, float, float]

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "loss": f"{self.loss:.0%}",
            "races": f"{self.races}",
            "stored": f"{self.stored} of {2 * self.races}",
            "with another's change": f"{self.merged}",
            "refused": f"{self.refused}",
            "failed": f"{self.failed}",
            "stored and lost": f"{self.lost}",
            "p50/p95/p98 ms": ms_text(self.took_s),
        }


class _OneMore:
    """A change of whatever is published: one RRset more."""

    def __init__(self, apex: Name, rrset: RRset) -> None:
        self._apex = apex
        self._rrset = rrset

    def value_above(self, current: Found | None) -> bytes:
        """Return the zone of an item with the RRset."""
        rrsets = {**rrsets_of(current), (self._rrset.owner, self._rrset.rtype): self._rrset}
        return compose_packet(rrsets.values(), self._apex)

    def value_again(self, missed: Found) -> bytes:
        """Return the zone of an own edition with the RRset."""
        return self.value_above(missed)


def _rrset(apex: Name, label: bytes, text: bytes) -> RRset:
    return RRset(apex.child(label), Type.TXT, TTL_S, (bytes([len(text)]) + text,))


@dataclass
class _Racer:
    """One publisher: its machine, the copy of the key, what was made with it, and how its publication ended."""

    engine: VirtualEngine
    secret: SecretKey
    rrset: RRset
    is_kept: bool
    memory: Made
    done: Stored | None = None
    error: str = ""

    async def publish(self, content: Content, delay_s: float = 0.0) -> None:
        """Publish."""
        await asyncio.sleep(delay_s)
        key = self.secret.zone_key
        publication = Publication(
            key,
            lambda seq, value: MutableItem.signed(self.secret, seq, value),
            content,
            self.engine.replicas(zone_id_for(key), is_kept=self.is_kept),
            memory=self.memory,
        )
        self.done, self.error = None, ""
        try:
            self.done = await publication.run()
        except Unavailable as error:
            self.error = str(error)

    @property
    def is_stored(self) -> bool:
        return self.done is not None and self.done.is_done


def race(scale: Scale, progress: Progress) -> Report:
    """Have two publishers race, at each rate of loss in a world of its own."""
    _, weather, draw = drawn_weather(scale.seed)

    def at(loss: float) -> Story:
        async def story(world: World, report: Report) -> None:
            await world.grow(scale.nodes)
            await asyncio.sleep(SETTLE_S)
            world.network.weather = replace(world.network.weather, loss=loss)
            report.rows.append(await _races(world, report, loss, scale.gets, progress))

        return story

    report = one_after_another(Report("race", scale, draw), weather, progress, map(at, LOSSES))
    judge(report)
    return report


async def _races(world: World, report: Report, loss: float, count: int, progress: Progress) -> RaceRow:
    lot = random.Random(f"{world.seed}/race/{loss}")
    ends: Counter[str] = Counter()
    took_s: list[float] = []
    for number in range(count):
        secret = SecretKey.generate(lot.randbytes(SEED_BYTES))
        racers, began = await _raced(world, lot, secret, number)
        took_s.append(boot_now() - began)
        await asyncio.sleep(AFTER_S)
        left = await _rrsets_left(world, lot, racers, secret.zone_key)
        for racer in racers:
            ends["stored"] += racer.is_stored
            ends["merged"] += racer.is_stored and bool(racer.done and racer.done.rebased)
            ends["refused"] += "was not made by this key file" in racer.error
            ends["failed"] += not racer.is_stored and "was not made by this key file" not in racer.error
            if racer.is_stored and racer.rrset not in left:
                ends["lost"] += 1
                report.findings.append(
                    f"at {loss:.0%} loss, race {number}: the update of {racer.engine.address[0]} was stored and is lost"
                )
        world.network.note("race", number, len(left), [racer.error for racer in racers])
        progress(f"races, {loss:.0%} lost,", number + 1, count)
    return RaceRow(
        loss=loss,
        races=count,
        stored=ends["stored"],
        merged=ends["merged"],
        refused=ends["refused"],
        failed=ends["failed"],
        lost=ends["lost"],
        took_s=quantiles(took_s),
    )


async def _raced(world: World, lot: random.Random, secret: SecretKey, number: int) -> tuple[list[_Racer], float]:
    """Let two publishers race, and return them with the time of the start."""
    apex = secret.zone_key.apex
    is_new, is_kept, is_whole = number % 4 == 0, number % 2 == 1, number % 3 != 0
    is_contested = is_whole and number % 5 == 4
    racers = [
        _Racer(engine, secret, _rrset(apex, b"both" if is_contested else text, text), is_kept, Made())
        for engine, text in zip(lot.sample(world.honest, 2), (b"one", b"two"), strict=True)
    ]
    base: list[RRset] = []
    if not is_new:
        base = [_rrset(apex, b"base", b"base")]
        await racers[0].publish(WholeZone(apex, compose_packet(base, apex)))
        # The copies of the key were made after that, with what stood beside the key.
        racers[1].memory = Made(racers[0].memory.lines)
    contents: list[Content] = [
        WholeZone(apex, compose_packet([*base, racer.rrset], apex)) if is_whole else _OneMore(apex, racer.rrset)
        for racer in racers
    ]
    delay_s = lot.choice([0.0, LATER_S_MAX]) * lot.random()
    began = boot_now()
    await asyncio.gather(racers[0].publish(contents[0]), racers[1].publish(contents[1], delay_s))
    return racers, began


async def _rrsets_left(world: World, lot: random.Random, racers: list[_Racer], key: ZoneKey) -> list[RRset]:
    """Return the RRsets that a reader finds, who looks several times."""
    publishing = [racer.engine for racer in racers]
    reader = lot.choice([engine for engine in world.honest if engine not in publishing])
    newest: MutableItem | None = None
    for _ in range(LOOKS):
        seen = await reader.replicas(zone_id_for(key), is_kept=False).look_up()
        for version in seen.versions:
            if newest is None or version.item.supersedes(newest):
                newest = version.item
    return list(rrsets_of(newest).values())


def judge(report: Report) -> None:
    """Note the missed goals."""
    for row in report.rows:
        assert isinstance(row, RaceRow)
        report.must_not_exceed(f"updates stored and lost at {row.loss:.0%} loss", row.lost, 0)
        report.must_reach(f"share of stored updates at {row.loss:.0%} loss", row.stored / (2 * row.races), STORED_MIN)
