"""The worlds in which planted faults are found: no rule is broken in them as long as no fault is planted.

`make mutants` plants them, row by row of tests/mutants/worlds.toml, and each world must then break a rule.
"""

from __future__ import annotations

import pytest

from tests.sim.earning import Place, worlds


@pytest.mark.sim
@pytest.mark.parametrize("world", worlds(), ids=str)
def test_no_rule_is_broken(world: Place) -> None:
    assert world.lived().findings == []
