"""The scenario `replay`: what is counted, and that marks hold among machines that serve the oldest."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from p2pdns.addresses import Address
from p2pdns.dht.confirmation import Confirmation
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import GetOutcome
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.overlay.parts import zone_id_of
from p2pdns.sim.intervals import shared
from p2pdns.sim.loop import VirtualLoop, run
from p2pdns.sim.memory import MemoryState
from p2pdns.sim.network import Weather
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.replay import (
    MarksAlone,
    ReplayRow,
    is_stale_and_settled,
    mark_findings,
    replay,
    row_of,
)
from p2pdns.sim.scenarios.story import Story, one_after_another
from p2pdns.sim.world import Look, World

OLDER = MutableItem.signed(SecretKey.generate(bytes(32)), 5, b"older")
HOLDER: Address = ("11.0.0.1", 6_881)


def word_of(item: MutableItem) -> Confirmation:
    """Return the word of one contact that has returned an item."""
    confirmation = Confirmation()
    confirmation.item_returned(HOLDER, item)
    return confirmation


OUTCOME = GetOutcome(OLDER, Verdict.COMPLETE, 20, 0, 20, 20, 0.1, 0.5, 1_000, 1_000, 4, confirmation=word_of(OLDER))
STALE = Look(0.1, OUTCOME, shown_seq=5, wanted_seq=6, first_seq=5)
MENDED = Look(0.1, OUTCOME, shown_seq=6, wanted_seq=6, first_seq=5)
NEWEST = Look(0.1, OUTCOME, shown_seq=6, wanted_seq=6, first_seq=6)
NOTHING = Look(None, replace(OUTCOME, item=None), shown_seq=None, wanted_seq=6)


def test_an_interval_is_that_of_wilson() -> None:
    # Newcombe (1998), the row 81 of 263; and nothing of so many is no certainty.
    assert (round(shared(81, 263).low, 4), round(shared(81, 263).high, 4)) == (0.2553, 0.3662)
    assert (shared(0, 29).low, round(shared(0, 29).high, 4)) == (0.0, 0.1170)
    assert (shared(0, 0).low, shared(0, 0).high) == (0.0, 1.0)


def test_stale_first_answers_and_stale_settled_ones_are_counted_apart() -> None:
    row = row_of(0.2, [STALE, MENDED, MENDED, NEWEST, NOTHING], [True, False, None, True])
    assert (row.gets, row.newest, row.stale_first.count, row.stale_settled.count) == (5, 3, 3, 1)
    assert (row.shown_less.count, row.shown_less.of, row.went_without) == (1, 4, 1)


def test_an_older_edition_is_settled_only_after_a_complete_look_up_that_confirmed_it() -> None:
    assert is_stale_and_settled(STALE)
    assert not is_stale_and_settled(replace(STALE, outcome=replace(OUTCOME, verdict=Verdict.SPARSE)))
    assert not is_stale_and_settled(replace(STALE, outcome=replace(OUTCOME, confirmation=Confirmation())))
    assert not is_stale_and_settled(NEWEST)


def test_less_than_was_seen_is_a_finding() -> None:
    row = row_of(0.2, [NEWEST], [True, None])
    assert mark_findings(row) == []
    assert mark_findings(replace(row, shown_less=shared(1, 2))) == ["1 of 2 readers were shown less than they had seen"]


def test_a_reader_with_marks_alone_knows_the_seq_and_has_no_item() -> None:
    async def story(_: VirtualLoop) -> None:
        state = MemoryState()
        await MarksAlone(state).adopt(OLDER, 0.0)
        zone_id = zone_id_of(OLDER)
        assert state.held(zone_id) is not None
        mark = MarksAlone(state).mark(zone_id)
        assert mark is not None
        assert mark.seq == 5
        assert MarksAlone(state).held(zone_id) is None

    run(story)


def test_worlds_one_after_another_make_one_report() -> None:
    async def one(world: World, report: Report) -> None:
        await asyncio.sleep(5.0)
        world.network.note("one")
        report.findings.append("a rule")

    async def other(world: World, report: Report) -> None:
        await asyncio.sleep(7.0)
        report.missed.append("a goal")
        report.notes.append("too short")
        await world.grow(2)
        await asyncio.sleep(10.0)

    def of(*stories: Story) -> Report:
        return one_after_another(Report("replay", Scale(1)), Weather(), lambda *_: None, stories)

    whole = of(one, other)
    assert (whole.findings, whole.missed, whole.notes) == (["a rule"], ["a goal"], ["too short"])
    assert whole.virtual_s == pytest.approx(5.0 + of(other).virtual_s)
    assert whole.lived_s == of(other).lived_s > 20.0
    assert whole.trace_sha256 == of(one, other).trace_sha256
    assert whole.trace_sha256 not in (of(other, one).trace_sha256, of(other).trace_sha256)


def rows_of(*replaying: float, zones: int = 3, gets: int = 9) -> list[ReplayRow]:
    """Return what comes of small worlds in which such shares replay."""
    report = replay(Scale(1, nodes=36, zones=zones, gets=gets), lambda *_: None, replaying)
    assert report.findings == []
    return [row for row in report.rows if isinstance(row, ReplayRow)]


def test_where_nobody_replays_every_reader_ends_with_the_newest() -> None:
    (row,) = rows_of(0.0)
    assert (row.newest, row.stale_settled.count, row.gets) == (9, 0, 9)
    # A machine that missed the update may be the first to answer.
    assert row.stale_first.count <= 1


def test_where_a_third_replays_first_answers_are_stale_and_readers_with_a_mark_are_shown_no_less() -> None:
    # Readers ask the same few holders of a zone first, and of three zones none may have a machine that replays there.
    (row,) = rows_of(1 / 3, zones=12, gets=24)
    assert row.stale_first.count > 0
    assert (row.newest, row.stale_settled.count) == (24, 0)
    # Two answers for each reader that has seen the newest edition.
    assert (row.shown_less.count, row.shown_less.of) == (0, 48)
