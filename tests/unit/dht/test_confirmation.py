"""What confirms an item at the end of a look-up, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.confirmation import CHECKS_MAX, CHECKS_SILENT_MAX, Confirmation
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.machine import Node
from p2pdns.dht.storage import Storage
from p2pdns.dht.stored import Selected
from p2pdns.items.item import ImmutableItem, MutableItem, Present
from tests.unit.dht.swarm import UNIX_NOW, Swarm, item_of, secret_of

ITEM = item_of(1)
OLDER = item_of(1, ITEM.seq - 1)
KEY = ITEM.key
TWIN = MutableItem.signed(secret_of(1), ITEM.seq, b"another value of the same seq")


def said(*words: tuple[str, MutableItem | int]) -> Confirmation:
    """Return what contacts at these hosts said: an item that they returned, or a seq that they named."""
    confirmation = Confirmation()
    for host, word in words:
        if isinstance(word, MutableItem):
            confirmation.item_returned((host, 6881), word)
        else:
            confirmation.seq_named((host, 6881), word)
    return confirmation


NAMED = ITEM.seq
THREE = [("192.0.2.1", NAMED), ("198.51.100.1", NAMED), ("203.0.113.1", NAMED)]


@pytest.mark.parametrize(
    ("words", "is_confirmed"),
    [
        ([], False),
        ([("192.0.2.1", ITEM)], True),
        ([("192.0.2.1", OLDER)], False),
        ([("192.0.2.1", TWIN)], False),
        (THREE, True),
        (THREE[:2], False),
        ([*THREE[:2], ("192.0.2.77", NAMED)], False),
        ([*THREE[:2], ("203.0.113.1", NAMED + 1)], False),
        ([*THREE[:2], ("203.0.113.1", NAMED - 1)], False),
        ([*THREE, ("192.0.2.200", NAMED + 1)], True),
        ([*THREE[:2], ("127.0.0.1", NAMED), ("10.0.0.1", NAMED), ("10.0.0.2", NAMED), ("fd00::1", NAMED)], False),
        ([*THREE[:2], ("192.0.2.1", ITEM)], True),
        ([("192.0.2.1", ITEM), ("192.0.2.1", NAMED + 9)], True),
    ],
)
def test_the_item_itself_or_its_seq_from_three_prefixes_confirms(
    words: list[tuple[str, MutableItem | int]], is_confirmed: bool
) -> None:
    assert said(*words).is_of(ITEM) is is_confirmed


def test_a_contact_that_said_less_when_asked_again_counts_no_more() -> None:
    confirmation = said(*THREE)
    assert confirmation.is_of_seq(NAMED)
    confirmation.withdrawn(("203.0.113.1", 6881))
    assert not confirmation.is_of_seq(NAMED)


def test_an_immutable_item_needs_no_word() -> None:
    assert Confirmation().is_of(ImmutableItem(b"value"))


def test_contacts_that_named_the_seq_are_asked_before_those_that_named_a_higher_one() -> None:
    confirmation = said(("192.0.2.1", NAMED + 5), ("198.51.100.1", NAMED), ("203.0.113.1", NAMED - 1))
    assert [host for host, _ in confirmation.addresses_to_check(NAMED)] == ["198.51.100.1", "192.0.2.1"]


def test_one_contact_of_each_prefix_is_asked_before_the_second_of_any() -> None:
    hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1", "198.51.100.2"]
    asked = [host for host, _ in said(*[(host, NAMED) for host in hosts]).addresses_to_check(NAMED)]
    assert asked == ["192.0.2.1", "198.51.100.1", "192.0.2.2", "198.51.100.2", "192.0.2.3"]


def test_copies_are_counted_by_prefix() -> None:
    assert said(*THREE, ("192.0.2.8", NAMED), ("192.0.2.9", ITEM), ("198.51.100.3", OLDER)).copies_of(NAMED) == 3


def test_the_words_of_both_families_count_together() -> None:
    parts = [said(*THREE[:2]), said(("2001:db8::1", NAMED))]
    assert not any(part.is_of(ITEM) for part in parts)
    assert Confirmation.merged(parts).is_of(ITEM)


# In a network.


def swarm_of(count: int, **settings: object) -> Swarm:
    """Return a swarm that has settled."""
    swarm = Swarm(**settings)  # type: ignore[arg-type]
    swarm.grow(count)
    return swarm


def names_only(node: Node, seq: int) -> None:
    """Let a node name this seq for whatever it is asked, and return nothing."""
    node.storage.select = (  # type: ignore[method-assign]
        lambda target, known_seq, address, now: Selected(None, None, seq, None)
    )


def checks_of(reader: Node) -> int:
    """Return how many gets without a seq the reader has sent at the end of its look-ups."""
    return reader.counters["asked-again-without-seq"]


def refreshed(swarm: Swarm, reader: Node, item: MutableItem = ITEM) -> bool:
    """Look for something newer than the item, and return whether the look-up confirms it."""
    outcome = swarm.get(reader, item.target, item.key, known_seq=item.seq, present=Present(UNIX_NOW))
    assert outcome.complete
    return outcome.confirmation.is_of(item)


def test_a_complete_look_up_in_which_nobody_has_the_item_confirms_nothing() -> None:
    swarm = swarm_of(5)
    reader = list(swarm.nodes.values())[-1]
    assert not refreshed(swarm, reader)
    assert checks_of(reader) == 0


@pytest.mark.parametrize("count", [2, 3])
def test_holders_in_three_prefixes_confirm_without_another_request(count: int) -> None:
    swarm = Swarm()
    reader, *holders = [swarm.new_node(f"11.0.{number}.1") for number in range(count + 1)]
    for holder in holders:
        holder.storage.put_own(ITEM, swarm.now)
        reader.add_bootstrap([swarm.address_of(holder)], swarm.now)
    swarm.run_for(5.0)
    assert refreshed(swarm, reader)
    assert checks_of(reader) == (1 if count < 3 else 0)


def test_on_loopback_one_holder_is_asked_again_however_many_there_are() -> None:
    swarm = swarm_of(5)
    *_, publisher, reader = swarm.nodes.values()
    swarm.put(publisher, ITEM)
    assert refreshed(swarm, reader)
    assert checks_of(reader) == 1


def test_any_number_of_liars_on_one_machine_confirms_nothing() -> None:
    swarm = swarm_of(CHECKS_MAX + 3)
    *liars, reader = swarm.nodes.values()
    for liar in liars:
        names_only(liar, ITEM.seq)
    assert not refreshed(swarm, reader)
    assert checks_of(reader) == CHECKS_MAX


def test_a_single_holder_is_asked_again_without_the_seq_and_returns_the_item() -> None:
    swarm = swarm_of(2)
    holder, reader = swarm.nodes.values()
    holder.storage.put_own(ITEM, swarm.now)
    assert refreshed(swarm, reader)
    assert checks_of(reader) == 1


def test_contacts_that_repeat_the_seq_of_the_get_confirm_nothing() -> None:
    swarm = swarm_of(3)
    *liars, reader = swarm.nodes.values()
    for liar in liars:
        names_only(liar, ITEM.seq)
    assert not refreshed(swarm, reader)
    assert checks_of(reader) == 2


def test_liars_before_the_holder_do_not_hide_it() -> None:
    swarm = swarm_of(4)
    liar, other, holder, reader = swarm.nodes.values()
    names_only(liar, ITEM.seq + 5)
    names_only(other, ITEM.seq + 6)
    holder.storage.put_own(ITEM, swarm.now)
    assert refreshed(swarm, reader)


def test_few_are_asked_again_and_within_the_budget() -> None:
    swarm = swarm_of(12)
    *liars, reader = swarm.nodes.values()
    for number, liar in enumerate(liars):
        names_only(liar, ITEM.seq + number)
    assert not refreshed(swarm, reader)
    assert checks_of(reader) == CHECKS_MAX
    outcome = swarm.get(reader, ITEM.target, KEY, known_seq=ITEM.seq, rpc_max=11, present=Present(UNIX_NOW))
    assert (outcome.complete, outcome.rpc_count) == (True, 11)


def test_our_own_storage_confirms_nothing() -> None:
    swarm = swarm_of(3)
    reader = list(swarm.nodes.values())[-1]
    reader.storage.put_own(ITEM, swarm.now)
    outcome = swarm.get(reader, ITEM.target, KEY, present=Present(UNIX_NOW))
    assert (outcome.item, outcome.complete, outcome.rpcs_to_first) == (ITEM, True, 0)
    assert not outcome.confirmation.is_of(ITEM)


def is_check(data: bytes) -> bool:
    """Return whether a datagram is a get without a seq."""
    message = parse(data)
    return (
        isinstance(message, krpc.RequestMessage)
        and isinstance(message.request, krpc.Get)
        and message.request.seq is None
    )


@pytest.mark.parametrize(("liar_count", "is_confirmed"), [(1, True), (CHECKS_SILENT_MAX, False)])
def test_contacts_that_are_silent_when_asked_again_do_not_hold_up_the_end(liar_count: int, is_confirmed: bool) -> None:
    swarm = swarm_of(liar_count + 2)
    *liars, holder, reader = swarm.nodes.values()
    silent = {swarm.address_of(liar) for liar in liars}
    for liar in liars:
        names_only(liar, ITEM.seq)
    # It is asked last, because it only names a higher seq.
    names_only(holder, ITEM.seq + 1)
    select = holder.storage.select
    holder.storage.put_own(ITEM, swarm.now)

    def honest(target: bytes, known_seq: int | None, address: Address, now: float) -> Selected | None:
        return (
            Storage.select(holder.storage, target, None, address, now)
            if known_seq is None
            else select(target, known_seq, address, now)
        )

    holder.storage.select = honest  # type: ignore[method-assign]
    swarm.is_lost = lambda data, source, target: target in silent and is_check(data)
    before = swarm.now
    assert refreshed(swarm, reader) is is_confirmed
    assert swarm.now - before < 2.0
    assert checks_of(reader) == 2


def test_a_newer_item_that_is_returned_in_place_of_a_named_seq_is_handed_out() -> None:
    swarm = swarm_of(2)
    holder, reader = swarm.nodes.values()
    newer = item_of(1, ITEM.seq + 7)
    holder.storage.put_own(newer, swarm.now)
    select = holder.storage.select

    def shy(target: bytes, known_seq: int | None, address: Address, now: float) -> Selected | None:
        selected = select(target, known_seq, address, now)
        return selected if selected is None or known_seq is None else selected._replace(value=None)

    holder.storage.select = shy  # type: ignore[method-assign]
    outcome = swarm.get(reader, ITEM.target, KEY, known_seq=ITEM.seq, present=Present(UNIX_NOW))
    assert outcome.item == newer
    assert outcome.confirmation.is_of(newer)
    assert not outcome.confirmation.is_of(ITEM)
    assert swarm.found_items(reader) == [newer]


def test_a_look_up_that_is_not_complete_asks_nobody_again() -> None:
    swarm = swarm_of(2)
    holder, reader = swarm.nodes.values()
    holder.storage.put_own(ITEM, swarm.now)
    swarm.kill(holder)
    outcome = swarm.get(reader, ITEM.target, KEY, known_seq=ITEM.seq, present=Present(UNIX_NOW))
    assert not outcome.complete
    assert not replace(outcome, verdict=Verdict.COMPLETE).confirmation.is_of(ITEM)
    assert checks_of(reader) == 0
