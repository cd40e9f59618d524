"""Commitments in a node: a newer item that lacks the one of the item kept is refused, and the older one is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht.bencode import encode
from p2pdns.dht.krpc import PutMutable
from p2pdns.dht.storage import Storage
from p2pdns.dht.stored import COMMITTED_SEQ_MIN
from p2pdns.errors import BadRequest
from p2pdns.items.item import MutableItem, Present
from tests.committed import ANOTHER, COMMITTED, OLD, WORDS, committed_item

HERE, THERE = ("192.0.2.1", 6881), ("198.51.100.1", 6881)
NOW, UNIX = 1_000.0, 1_800_000_000.0
SEQ = COMMITTED_SEQ_MIN
KINDS = [None, COMMITTED, ANOTHER]


def put(storage: Storage, item: MutableItem) -> None:
    """Have a stranger put an item."""
    asked = PutMutable(item.key.raw, item.seq, encode(item.value), item.signature, b"token", item.salt)
    storage.put(asked, HERE, NOW, has_token=True)


def refusal(storage: Storage, item: MutableItem) -> tuple[int, str]:
    """Return the code and the reason of a refused put, which changes nothing."""
    before = list(storage.everything(NOW))
    with pytest.raises(BadRequest) as caught:
        put(storage, item)
    assert list(storage.everything(NOW)) == before
    return caught.value.code, caught.value.reason


@pytest.mark.parametrize("thiefs", [None, ANOTHER], ids=["none", "another"])
def test_a_newer_item_without_the_commitment_of_the_one_kept_is_refused(thiefs: object) -> None:
    storage = Storage()
    put(storage, committed_item(COMMITTED, seq=SEQ + 5))
    assert refusal(storage, committed_item(thiefs, seq=SEQ + 6)) == (203, "commitment-dropped")
    assert storage.counters["put-refused-commitment-dropped"] == 1


@pytest.mark.parametrize("before", KINDS, ids=WORDS)
@pytest.mark.parametrize("after", KINDS, ids=WORDS)
@pytest.mark.parametrize("seq", [SEQ + 4, SEQ + 5, SEQ + 6])
def test_exactly_such_a_put_is_refused_for_its_commitment(before: object, after: object, seq: int) -> None:
    storage = Storage()
    put(storage, committed_item(before, seq=SEQ + 5))
    refused = ""
    try:
        put(storage, committed_item(after, seq=seq))
    except BadRequest as error:
        refused = error.reason
    is_dropped = before is not None and after != before and seq == SEQ + 6
    assert (refused == "commitment-dropped") == is_dropped
    if seq == SEQ + 6:
        assert bool(refused) == is_dropped


def test_this_nodes_own_put_is_judged_in_the_same_way() -> None:
    storage = Storage()
    storage.put_own(committed_item(COMMITTED, seq=SEQ + 5), NOW)
    with pytest.raises(BadRequest, match=f"it lacks the commitment of seq {SEQ + 5}"):
        storage.put_own(committed_item(None, seq=SEQ + 6), NOW)
    assert storage.put_own(committed_item(COMMITTED, seq=SEQ + 7), NOW).is_news


def test_a_thiefs_item_with_a_seq_that_no_owner_commits_with_has_no_item_of_the_owner_refused() -> None:
    storage, again = Storage(), Storage()
    put(storage, committed_item(ANOTHER, seq=SEQ - 1))
    put(storage, committed_item(COMMITTED, seq=SEQ + 5))
    assert refusal(storage, committed_item(ANOTHER, seq=SEQ + 6)) == (203, "commitment-dropped")
    put(again, committed_item(ANOTHER, seq=SEQ))
    assert refusal(again, committed_item(COMMITTED, seq=SEQ + 5)) == (203, "commitment-dropped")


def test_what_a_stranger_has_put_first_keeps_no_owner_from_his_own_node() -> None:
    storage = Storage()
    put(storage, committed_item(ANOTHER, seq=SEQ))
    assert storage.put_own(committed_item(COMMITTED, seq=SEQ + 5), NOW).is_news
    assert refusal(storage, committed_item(ANOTHER, seq=SEQ + 6)) == (203, "commitment-dropped")


def test_an_item_that_a_search_has_met_takes_no_place_without_the_commitment() -> None:
    storage = Storage()
    put(storage, committed_item(COMMITTED, seq=SEQ + 5))
    assert not storage.adopt(committed_item(ANOTHER, seq=SEQ + 6), NOW)
    assert storage.adopt(committed_item(COMMITTED, seq=SEQ + 7), NOW)


def test_a_value_that_is_no_zone_lacks_the_commitment_too() -> None:
    storage = Storage()
    put(storage, committed_item(COMMITTED, seq=SEQ + 5))
    assert refusal(storage, MutableItem.signed(OLD, SEQ + 6, b"no zone")) == (203, "commitment-dropped")
    dictionary = b"d1:a1:be"
    signature = OLD.sign(b"3:seqi%de1:v%b" % (SEQ + 6, dictionary))
    asked = PutMutable(OLD.zone_key.raw, SEQ + 6, dictionary, signature, b"token", b"")
    with pytest.raises(BadRequest, match="commitment"):
        storage.put(asked, HERE, NOW, has_token=True)


def test_a_saner_item_takes_the_place_of_one_from_the_future_whatever_that_has_committed() -> None:
    storage = Storage()
    put(storage, committed_item(COMMITTED, seq=int((UNIX + 400 * 86_400) * 1e6)))
    storage.precedence.tell_time(NOW, Present(UNIX))
    put(storage, committed_item(None, seq=int(UNIX * 1e6)))
    assert [stored.seq for stored in storage.everything(NOW)] == [int(UNIX * 1e6)]


def test_a_commitment_is_remembered_over_a_restart() -> None:
    storage, again = Storage(), Storage()
    put(storage, committed_item(COMMITTED, seq=SEQ + 5))
    for change in storage.take_changes(NOW, UNIX):
        assert change.row is not None
        assert again.load(change.row, NOW, UNIX)
    assert refusal(again, committed_item(None, seq=SEQ + 6)) == (203, "commitment-dropped")


@given(st.integers(0, 12))
def test_a_getter_that_knows_a_higher_seq_is_sent_an_older_item_with_a_commitment_and_no_other(known_seq: int) -> None:
    storage, bare = Storage(), Storage()
    item, other = committed_item(COMMITTED, seq=SEQ + 5), committed_item(None, seq=SEQ + 5)
    put(storage, item)
    put(bare, other)
    selected = storage.select(item.target, SEQ + known_seq, THERE, NOW)
    without = bare.select(other.target, SEQ + known_seq, THERE, NOW)
    assert selected is not None
    assert without is not None
    assert (selected.value is not None) == (known_seq != 5)
    assert (without.value is not None) == (known_seq < 5)
    assert selected.seq == without.seq == SEQ + 5
