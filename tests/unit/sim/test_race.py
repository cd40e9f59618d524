"""Two publishers with copies of one key at the same time: what was reported as stored is there afterwards."""

from __future__ import annotations

import pytest

from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.race import LOSSES, RaceRow, judge, race

ROW = RaceRow(0.02, 10, 18, 9, 2, 0, 0, (1.0, 2.0, 3.0))
RACES = 24  # Twice each kind; p2pdns sim --scenario race makes 200 at each rate of loss, in a minute and a half.


def test_no_update_is_stored_and_lost_at_any_rate_of_loss() -> None:
    report = race(Scale(1, nodes=40, gets=RACES), lambda *_: None)
    assert report.findings == []
    assert report.missed == []
    rows = [row for row in report.rows if isinstance(row, RaceRow)]
    assert [row.loss for row in rows] == list(LOSSES)
    assert all(row.stored + row.refused + row.failed == 2 * RACES for row in rows)
    # They did meet.
    assert all(row.merged for row in rows)


@pytest.mark.parametrize(
    ("row", "count"),
    [(ROW, 0), (RaceRow(0.02, 10, 18, 9, 2, 0, 1, ROW.took_s), 1), (RaceRow(0.0, 10, 9, 0, 0, 11, 0, ROW.took_s), 1)],
)
def test_a_lost_update_and_few_that_are_stored_are_missed_goals(row: RaceRow, count: int) -> None:
    report = Report("race", Scale(1), rows=[row])
    judge(report)
    assert len(report.missed) == count
