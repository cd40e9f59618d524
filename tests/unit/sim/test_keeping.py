"""The scenario `keeping` in a small world: looks cost the publisher less than hourly puts, and the zones are found."""

from __future__ import annotations

import pytest

from p2pdns.sim.report import Scale
from p2pdns.sim.scenarios.keeping import BEFORE, NOW, Conditions, KeepingRow, keeping

# Three hours: a look before copies of two hours are forgotten, and one after.
SCALE = Scale(nodes=24, seed=3, zones=1, gets=20, minutes=200)


@pytest.mark.parametrize("forgetful", [0.0, 1.0])
def test_looks_cost_less_than_hourly_puts_and_the_zones_are_found(forgetful: float) -> None:
    report = keeping(SCALE, lambda what, done, of: None, Conditions(forgetful, liars=0.2))
    now, before = report.rows
    assert isinstance(now, KeepingRow)
    assert isinstance(before, KeepingRow)
    assert ((now.way, before.way), report.findings) == ((NOW, BEFORE), [])
    assert now.found == now.gets
    # The first put costs both ways the same, and is most of what the new way has cost in so few hours.
    assert before.own > 1.5 * now.own
