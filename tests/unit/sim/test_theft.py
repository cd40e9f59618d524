"""The scenario `theft`: what is counted, and that no reader with the commitment follows a thief who drops it."""

from __future__ import annotations

from dataclasses import replace

from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.theft import TheftRow, judge, rows_of, theft

ROW = TheftRow("ours", "no commitment", 10, 10, 0, 0, 20, 9, 9, 10, 10)


def judged(row: TheftRow) -> list[str]:
    """Return the goals that a row misses."""
    report = Report("theft", Scale(1), rows=[row])
    judge(report)
    return report.missed


def test_one_adopted_item_is_a_missed_goal_and_so_are_readers_that_are_left_behind() -> None:
    assert judged(ROW) == []
    assert "adopted without the commitment" in judged(replace(ROW, adopted=1))[0]
    assert "moved to the next key" in judged(replace(ROW, moved=8))[0]
    assert "new readers that show neither" in judged(replace(ROW, fresh_failed=9))[0]
    assert judged(replace(ROW, fresh=0, fresh_failed=0)) == []


def test_a_row_says_whose_holders_they_are_and_leaves_out_what_was_not_asked() -> None:
    assert ROW.cells()["new: SERVFAIL"] == "10 of 10"
    assert replace(ROW, fresh=0).cells()["new: SERVFAIL"] == "-"


def test_in_a_small_world_no_commitment_is_dropped_and_every_reader_moves_within_the_hour() -> None:
    report = theft(Scale(7, nodes=30, gets=16), lambda *_: None)
    assert (report.findings, report.missed) == ([], [])
    rows = list(rows_of(report))
    assert sum(row.thefts for row in rows) == 16
    assert all(row.saw and not row.adopted for row in rows)
    keeps = [row for row in rows if row.thief in ("the same one", "UPDATE rights")]
    assert all(row.followed == 2 * row.saw for row in keeps), "the same commitment is followed until a value is read"
    fresh = [row for row in rows if row.fresh]
    assert {row.holders for row in fresh} == {"ours"}
    assert all(row.fresh_failed == row.fresh for row in fresh)
