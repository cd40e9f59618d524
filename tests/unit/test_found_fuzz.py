"""Every target with the inputs it starts from, and with each one that ever broke it."""

from __future__ import annotations

import pytest

from tests.fuzz.run import NAMES
from tests.fuzz.targets import TARGETS, found_inputs


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_for_what_it_starts_from(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert len(seeds) > 5
    for data in [b"", *seeds, *[seed[: len(seed) // 2] for seed in seeds]]:
        TARGETS[name].run(data)


def test_what_once_broke_a_target_breaks_it_no_more() -> None:
    for name, path in found_inputs():
        TARGETS[name].run(path.read_bytes())


def test_make_fuzz_knows_every_target() -> None:
    assert tuple(TARGETS) == NAMES
