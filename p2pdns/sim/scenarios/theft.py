"""The scenario `theft`: the key of a zone is stolen, and the zone has committed itself to a next key before.

The thief publishes his own commitment, or none, or keeps the owner's; or he has only the right to change records. Then
the owner moves the zone to the next key. In one world all machines are ours, and refuse an item that drops a
commitment; in the other one all are of other programs, so that every holder of the zone is the thief's.

Guarantees: a reader that has seen the commitment and adopts an item without it is a finding, and so is one that is
shown both for the first time and takes the thief's for settled; the machines hold what the story says without a put,
which is not what is measured. Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from p2pdns.addresses import Address
from p2pdns.clock import boot_now, unix_now
from p2pdns.dht import bencode, krpc
from p2pdns.dht.node.machine import Node
from p2pdns.dht.routing.ids import distance
from p2pdns.dht.routing.table import K
from p2pdns.dht.storage import Storage
from p2pdns.dns.message import Question, RRset
from p2pdns.dns.registry import Type
from p2pdns.dns.zone.answer import ZoneAnswer
from p2pdns.errors import BadRequest
from p2pdns.items.item import ImmutableItem, MutableItem, next_seq
from p2pdns.items.keys import SEED_BYTES, SecretKey, ZoneId
from p2pdns.items.packet import compose_packet
from p2pdns.items.succession import Commitment, commitment_to, succession_values
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.parts import zone_id_for
from p2pdns.overlay.successions import HOUR_S
from p2pdns.resolver.steps import Budget, Found, ZoneOutcome
from p2pdns.sim.engine import VirtualEngine
from p2pdns.sim.memory import MemoryCommitments, MemoryState
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.story import Story, drawn_weather, one_after_another
from p2pdns.sim.world import TTL_S, Progress, World

SETTLE_S = 60.0
BATCH_MAX = 50  # Thefts whose readers look at the same time.
HOSTS_OF_OWNERS = range(1, 255)  # The last octet of the addresses that items are put from: each node rations a prefix.
MOVED_MIN = 0.95  # One look an hour, at a loss of up to 2 %: a look-up may fail, and is made again the next hour.
FRESH_FAILED_MIN = 0.95  # The others had a look-up that was not complete, so that nothing they were shown is settled.
OWNERS, THIEFS, NEXTS = b"\xc0\x00\x02\x01", b"\xc6\x33\x64\x01", b"\xcb\x00\x71\x01"


class Thief(Enum):
    """What the thief does; the values are the words of the report."""

    ANOTHER = "his commitment"
    NONE = "no commitment"
    KEEPS = "the same one"
    UPDATES = "UPDATE rights"


class ReadableValues(Enum):
    """Which of the two values can be read once the owner has moved the zone; the values are indexes."""

    BOTH = (0, 1)
    FIRST = (0,)
    SECOND = (1,)
    NEITHER = ()


@dataclass(frozen=True)
class TheftRow:
    """The thefts of one kind, by what holds the zone.

    `adopted`: readers with the commitment that were shown an item without it. `followed`: those that were shown the
    thief's records, before a value could be read. `moved`: of `movable` readers, those that were shown the next key's
    zone an hour later. `fresh_failed`: of `fresh` new readers that were shown both items, those that showed neither.
    """

    holders: str
    thief: str
    thefts: int
    saw: int
    adopted: int
    followed: int
    kept_old: int
    moved: int
    movable: int
    fresh: int
    fresh_failed: int

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "holders": self.holders,
            "thief": self.thief,
            "thefts": f"{self.thefts}",
            "saw it": f"{self.saw}",
            "adopted": f"{self.adopted}",
            "followed": f"{self.followed}",
            "kept the old": f"{self.kept_old}",
            "moved in 1 h": f"{self.moved} of {self.movable}",
            "new: SERVFAIL": f"{self.fresh_failed} of {self.fresh}" if self.fresh else "-",
        }


@dataclass
class _Theft:
    """One zone, its thief, and its readers: `reader` with all that it has seen, `bare` with the commitment alone."""

    number: int
    kind: Thief
    readable: ReadableValues
    old: SecretKey
    following: SecretKey
    thief: SecretKey
    counts: Counter[str]
    machine: VirtualEngine
    state: MemoryState = field(default_factory=MemoryState)
    overlays: list[Overlay] = field(default_factory=list)

    @property
    def zone_id(self) -> ZoneId:
        return zone_id_for(self.old.zone_key)

    @property
    def commitment(self) -> Commitment:
        return commitment_to(self.old.zone_key, self.following)

    def item(self, address: bytes, seq: int, *, is_thiefs: bool = False) -> MutableItem:
        """Return an edition of the zone."""
        commitment: Commitment | None = self.commitment
        if is_thiefs and self.kind is Thief.ANOTHER:
            commitment = commitment_to(self.old.zone_key, self.thief)
        elif is_thiefs and self.kind is Thief.NONE:
            commitment = None
        return _item(self.old, address, seq, commitment)

    def overlay(self, world: World, state: MemoryState) -> Overlay:
        """Return a new overlay of the reader's machine, as after a restart."""
        overlay = Overlay(self.machine.endpoint, state, clock=boot_now, unix_clock=unix_now, tell=world.told)
        self.overlays.append(overlay)
        return overlay


def _item(secret: SecretKey, address: bytes, seq: int, commitment: Commitment | None = None) -> MutableItem:
    apex = secret.zone_key.apex
    made = () if commitment is None else (commitment.record_of(secret.zone_key),)
    content = [RRset(apex.child(b"www"), Type.A, TTL_S, (address,))]
    return MutableItem.signed(secret, seq, compose_packet(content, apex, made=made))


def theft(scale: Scale, progress: Progress) -> Report:
    """Have keys stolen, in a world of machines of ours, and in one of other programs' machines."""
    _, weather, draw = drawn_weather(scale.seed)

    def among(holders: str) -> Story:
        async def story(world: World, report: Report) -> None:
            if holders == "foreign":
                world.cast = lambda number: _foreign if number else None
            await world.grow(scale.nodes)
            await asyncio.sleep(SETTLE_S)
            await _thefts(world, report, holders, (scale.gets + 1) // 2, progress)

        return story

    report = one_after_another(Report("theft", scale, draw), weather, progress, map(among, ("ours", "foreign")))
    judge(report)
    return report


def _foreign(**facts: Any) -> Node:
    """Return a node that stores as other programs do."""
    return Node(**{**facts, "storage": Storage(heeds_commitments=False)})


async def _thefts(world: World, report: Report, holders: str, count: int, progress: Progress) -> None:
    lot = random.Random(f"{world.seed}/theft/{holders}")
    counts = {kind: Counter[str]() for kind in Thief}
    thefts = [_drawn(world, lot, number, counts) for number in range(count)]
    for first in range(0, count, BATCH_MAX):
        await asyncio.gather(*(_stolen(world, report, holders, one) for one in thefts[first : first + BATCH_MAX]))
        progress(f"thefts, {holders} holders,", min(count, first + BATCH_MAX), count)
    # Whatever the thief keeps, one readable value is found within the hour, by a reader that goes on asking.
    for first in range(0, count, BATCH_MAX):
        await asyncio.gather(*(_asked(one) for one in thefts[first : first + BATCH_MAX]))
    await asyncio.sleep(HOUR_S + QUESTION_S_MAX)
    for first in range(0, count, BATCH_MAX):
        await asyncio.gather(*(_looked_after(one) for one in thefts[first : first + BATCH_MAX]))
        progress(f"an hour later, {holders} holders,", min(count, first + BATCH_MAX), count)
    report.rows += [_row(holders, kind, counts[kind]) for kind in Thief]


def _drawn(world: World, lot: random.Random, number: int, counts: dict[Thief, Counter[str]]) -> _Theft:
    kind = list(Thief)[number % len(Thief)]
    old, following, thief = (SecretKey.generate(lot.randbytes(SEED_BYTES)) for _ in range(3))
    # In one theft of ten neither value can be read: both targets are surrounded.
    readable = (
        ReadableValues.NEITHER if lot.random() < 0.1 else lot.choice([one for one in ReadableValues if one.value])
    )
    return _Theft(number, kind, readable, old, following, thief, counts[kind], lot.choice(world.living))


async def _stolen(world: World, report: Report, holders: str, one: _Theft) -> None:
    """Tell the story of one theft up to the move to the next key."""
    now_seq = next_seq(unix_now(), None)
    honest = one.item(OWNERS, now_seq)
    _hold(world, one, honest, among=slice(None))
    one.counts["thefts"] += 1
    reader = one.overlay(world, one.state)
    await reader.zone(one.zone_id, True, _budget())
    if one.state.commitments.kept(one.zone_id) is None:
        # Its look-up was not complete, so it has seen nothing that it could rely on.
        one.counts["saw none"] += 1
        return
    one.counts["saw"] += 1
    thiefs = one.item(THIEFS, now_seq + 1, is_thiefs=True)
    _hold(world, one, thiefs, among=_thiefs_places(world, holders))
    # The reader that goes on, one that has lost all but the commitment, and a new one.
    reader.flush(one.zone_id)
    bare = MemoryState()
    bare.commitments = MemoryCommitments(one.state.commitments.all)
    for overlay in (reader, one.overlay(world, bare)):
        shown = await overlay.zone(one.zone_id, True, _budget())
        _judge_shown(report, holders, one, shown)
    if holders == "ours" and one.kind in (Thief.ANOTHER, Thief.NONE):
        fresh = await one.overlay(world, MemoryState()).zone(one.zone_id, True, _budget())
        one.counts["fresh"] += 1
        one.counts["fresh failed"] += not isinstance(fresh, Found)
        if isinstance(fresh, Found) and fresh.settled:
            report.findings.append(f"theft {one.number}: a new reader that could see both took one for settled")
    _move(world, one, now_seq + 2)
    world.network.note("theft", one.number, one.kind.value, sorted(one.counts.items()))


def _thiefs_places(world: World, holders: str) -> slice:
    # Nodes of ours that hold the zone refuse the thief's item, so he has it at others that are near too.
    return slice(None) if holders == "foreign" else slice(K // 2, K + K // 2)


def _judge_shown(report: Report, holders: str, one: _Theft, shown: ZoneOutcome) -> None:
    if not isinstance(shown, Found) or _address_in(one, shown) == OWNERS:
        one.counts["kept old"] += 1
        return
    if one.kind in (Thief.ANOTHER, Thief.NONE):
        one.counts["adopted"] += 1
        text = f"theft {one.number}, {holders} holders: adopted an item with {one.kind.value}"
        report.findings.append(text)
    else:
        one.counts["followed"] += 1


def _address_in(one: _Theft, shown: Found) -> bytes:
    said = shown.zone.answer(Question(one.old.zone_key.apex.child(b"www"), Type.A))
    return said.answer[0].rdatas[0] if isinstance(said, ZoneAnswer) and said.answer else b""


def _move(world: World, one: _Theft, seq: int) -> None:
    """Publish the zone under the next key, and the values of which readers can reach a holder."""
    _hold(world, one, _item(one.following, NEXTS, seq), among=slice(None))
    values = succession_values(one.old.zone_key, one.following)
    for index in one.readable.value:
        _hold(world, one, values[index], among=slice(None))


async def _asked(one: _Theft) -> None:
    if one.overlays:
        await one.overlays[0].zone(one.zone_id, True, _budget())


async def _looked_after(one: _Theft) -> None:
    """Look what the first reader is shown an hour after the move."""
    if one.overlays and one.state.commitments.kept(one.zone_id) is not None:
        shown = await one.overlays[0].zone(one.zone_id, True, _budget())
        is_moved = isinstance(shown, Found) and _address_in(one, shown) == NEXTS
        one.counts["movable"] += bool(one.readable.value)
        one.counts["moved"] += is_moved and bool(one.readable.value)
    for overlay in one.overlays:
        await overlay.close()


def _hold(world: World, one: _Theft, item: MutableItem | ImmutableItem, *, among: slice) -> None:
    """Have the machines nearest to an item hold it, as after a put of its publisher; some may refuse it."""
    # What the reader's own machine stores would be no word of others.
    others = [engine for engine in world.living if engine is not one.machine]
    nearest = sorted(others, key=lambda engine: distance(engine.node.node_id, item.target))
    value = bencode.encode(item.value)
    request: krpc.Put = krpc.PutImmutable(value, b"")
    if isinstance(item, MutableItem):
        request = krpc.PutMutable(item.key.raw, item.seq, value, item.signature, b"")
    for engine in nearest[:K] if among == slice(None) else nearest[among]:
        try:
            engine.node.storage.put(request, _publisher_of(one), boot_now(), has_token=True)
        except BadRequest as refusal:
            one.counts[f"refused {refusal.reason}"] += 1


def _publisher_of(one: _Theft) -> Address:
    high, low = divmod(one.number, len(HOSTS_OF_OWNERS))
    return f"192.{high % 160}.{HOSTS_OF_OWNERS[low]}.1", 6_881


def _budget() -> Budget:
    return Budget(deadline=boot_now() + QUESTION_S_MAX)


def _row(holders: str, kind: Thief, counts: Counter[str]) -> TheftRow:
    return TheftRow(
        holders=holders,
        thief=kind.value,
        thefts=counts["thefts"],
        saw=counts["saw"],
        adopted=counts["adopted"],
        followed=counts["followed"],
        kept_old=counts["kept old"],
        moved=counts["moved"],
        movable=counts["movable"],
        fresh=counts["fresh"],
        fresh_failed=counts["fresh failed"],
    )


def rows_of(report: Report) -> Iterator[TheftRow]:
    """Yield the rows."""
    for row in report.rows:
        assert isinstance(row, TheftRow)
        yield row


def judge(report: Report) -> None:
    """Note the missed goals."""
    for row in rows_of(report):
        what = f"{row.thief}, {row.holders} holders"
        report.must_not_exceed(f"items adopted without the commitment ({what})", row.adopted, 0)
        if row.movable:
            report.must_reach(f"share moved to the next key ({what})", row.moved / row.movable, MOVED_MIN)
        if row.fresh:
            share = row.fresh_failed / row.fresh
            report.must_reach(f"share of new readers that show neither ({what})", share, FRESH_FAILED_MIN)
