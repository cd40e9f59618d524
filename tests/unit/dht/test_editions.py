"""The editions that a look-up has met: few are kept, and they tell of every conflict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht.lookup import editions as editions_module
from p2pdns.dht.lookup.editions import COMMITMENTS_MAX, Editions
from p2pdns.items import succession as succession_module
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.succession import Commitment, are_in_conflict, commitment_of, commitment_to
from tests.committed import ANOTHER, COMMITTED, KEY, committed_item

KINDS = [None, COMMITTED, ANOTHER]
EDITIONS = {(kind, seq): committed_item(kind, seq=seq) for kind in KINDS for seq in range(1, 9)}


def noted(items: list[MutableItem]) -> Editions:
    """Return what a look-up knows that has met these items in this order."""
    editions = Editions(wants_all=True)
    for item in items:
        editions.note(item)
    return editions


@given(st.lists(st.sampled_from(list(EDITIONS.values())), max_size=12))
def test_a_conflict_among_all_editions_is_one_among_those_that_are_kept(items: list[MutableItem]) -> None:
    met = noted(items).met
    assert are_in_conflict(list(met)) == are_in_conflict(items)
    assert len(met) <= 2 * len(KINDS)
    assert (
        {min(items, key=lambda one: one.seq).seq, max(items, key=lambda one: one.seq).seq} <= {item.seq for item in met}
        if items
        else met == ()
    )


def test_few_editions_are_kept_and_the_oldest_and_the_newest_are_among_them() -> None:
    commitments = [commitment_to(KEY, SecretKey.generate(bytes([100 + number]) * 32)) for number in range(20)]
    items = [committed_item(commitment, seq=seq) for seq, commitment in enumerate(commitments, 10)]
    for order in (items, items[::-1]):
        met = noted(order).met
        assert len(met) <= 2 * COMMITMENTS_MAX
        assert met[0] == items[0]
        assert are_in_conflict(list(met))
    bare = [committed_item(None, seq=seq) for seq in range(1, 40)]
    assert noted([bare[20], *bare]).met == (bare[0], bare[-1])


def test_each_value_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    def counted(item: MutableItem) -> Commitment | None:
        parsed.append(item.seq)
        return commitment_of(item)

    items = [EDITIONS[COMMITTED, 1], EDITIONS[None, 2], EDITIONS[COMMITTED, 3]]
    monkeypatch.setattr(editions_module, "commitment_of", counted)
    editions = noted([*items, *items])
    editions.needs_older(items[0])
    # The value of the third is that of the first.
    assert parsed == [1, 2]
    parsed.clear()
    monkeypatch.setattr(succession_module, "commitment_of", counted)
    are_in_conflict([EDITIONS[COMMITTED, seq] for seq in (1, 2, 3)])
    assert parsed == [1, 2, 3]
