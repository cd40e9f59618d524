"""Divided zones under bad input: directories, values, heads and shards of any bytes."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.shards import HEAD, RDATA, SHARD, VALUE, read
from tests.fuzz.targets import TARGETS
from tests.unit.items.test_item_fuzz import changed

RUNS = 3_000


def test_changed_directories_values_heads_and_shards_end_in_values_or_reasons() -> None:
    chance = random.Random(16)
    seeds = TARGETS["shards"].seeds()
    for _ in range(RUNS):
        read(changed(chance.choice(seeds), chance))


@settings(deadline=None)
@given(st.sampled_from([RDATA, VALUE, HEAD, SHARD]), st.binary(max_size=300))
def test_any_bytes_end_in_a_value_or_a_reason(kind: int, data: bytes) -> None:
    read(bytes([kind]) + data)
