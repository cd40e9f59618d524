"""Inquiries: one node asked for itself whether it still has an item; what it has to show, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pdns.dht import krpc
from p2pdns.dht.bencode import encode
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.inquiring import REQUESTS_MAX
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.turns import PATIENT_IN_FLIGHT_MIN, REQUESTS_IN_FLIGHT_MAX
from p2pdns.dht.node.values import Inquiry, InquiryDone, InquiryOutcome
from p2pdns.items.item import MutableItem
from p2pdns.values import replace as replaced
from tests.unit.dht.swarm import Swarm, item_of, secret_of

ITEM = item_of(7)
NEWER = item_of(7, ITEM.seq + 1)


def pair(**settings: object) -> tuple[Swarm, Node, Node]:
    """Return a swarm of two nodes that know each other: the asker and the storer."""
    swarm = Swarm(1, **settings)  # type: ignore[arg-type]
    swarm.grow(2)
    storer, asker = swarm.nodes.values()
    return swarm, asker, storer


def about(swarm: Swarm, storer: Node, **more: object) -> Inquiry:
    """Return an inquiry about the item at a node, asked so that a holder has to show it."""
    contact = krpc.NodeInfo(storer.node_id, swarm.address_of(storer))
    return replace(Inquiry(contact, ITEM.key, ITEM.salt, ITEM.seq - 1), **more)  # type: ignore[arg-type]


def sent(swarm: Swarm, asker: Node) -> int:
    """Return how many datagrams the asker has sent."""
    return sum(source == swarm.address_of(asker) for source, _, _ in swarm.trace)


def answering(swarm: Swarm, storer: Node, asker: Node, change: object) -> None:
    """Have a storer's replies to gets changed: a stand-in for a liar."""

    def is_lost(data: bytes, source: tuple[str, int], target: tuple[str, int]) -> bool:
        if source != swarm.address_of(storer):
            return False
        message = parse(data)
        if not isinstance(message, krpc.Reply) or message.token is None:
            return False
        changed = change(message)  # type: ignore[operator]
        swarm.inject(compose(changed), source, target)
        return True

    swarm.is_lost = is_lost


def test_a_node_that_has_the_item_shows_it_signed_for_two_datagrams() -> None:
    swarm, asker, storer = pair()
    swarm.put(asker, ITEM)
    before = sent(swarm, asker)
    outcome = swarm.inquire(asker, about(swarm, storer))
    assert (outcome.item, outcome.has_answered, outcome.is_kept, outcome.request_count) == (ITEM, True, False, 1)
    assert outcome.rtt_s == pytest.approx(0.01)
    assert sent(swarm, asker) - before == 1


def test_a_node_without_the_item_answers_and_shows_nothing() -> None:
    swarm, asker, storer = pair()
    outcome = swarm.inquire(asker, about(swarm, storer))
    assert (outcome.item, outcome.has_answered, outcome.is_kept) == (None, True, False)
    assert storer.storage.held(ITEM.target, swarm.now) is None


def test_a_dead_node_is_asked_once_and_twice_only_where_that_is_wanted() -> None:
    swarm, asker, storer = pair()
    inquiry = about(swarm, storer)
    swarm.kill(storer)
    assert swarm.inquire(asker, inquiry) == InquiryOutcome(request_count=1)
    assert swarm.inquire(asker, replace(inquiry, sends_again=True)).request_count == 2


def test_a_copy_is_renewed_where_it_was_lost_and_where_it_is() -> None:
    swarm, asker, storer = pair()
    for shown in (None, ITEM):
        outcome = swarm.inquire(asker, about(swarm, storer, again=ITEM))
        assert (outcome.item, outcome.is_kept) == (shown, True)
        held = storer.storage.held(ITEM.target, swarm.now)
        assert held is not None
        assert held.item == ITEM


def test_a_newer_item_is_shown_and_nothing_is_put_over_it() -> None:
    swarm, asker, storer = pair()
    swarm.put(asker, NEWER)
    outcome = swarm.inquire(asker, about(swarm, storer, again=ITEM))
    assert (outcome.item, outcome.is_kept, outcome.request_count) == (NEWER, False, 1)


def test_a_seq_that_is_only_named_is_no_item() -> None:
    swarm, asker, storer = pair()
    swarm.put(asker, ITEM)
    answering(swarm, storer, asker, lambda reply: replace_reply(reply, key=None, value=None, signature=None))
    outcome = swarm.inquire(asker, about(swarm, storer))
    assert (outcome.item, outcome.seq_named) == (None, ITEM.seq)


def test_a_forgery_is_no_item_and_its_sender_gets_no_put() -> None:
    swarm, asker, storer = pair()
    swarm.put(asker, ITEM)
    answering(swarm, storer, asker, lambda reply: replace_reply(reply, value=encode(b"forged")))
    outcome = swarm.inquire(asker, about(swarm, storer, again=ITEM))
    assert (outcome.item, outcome.is_kept, outcome.dropped) == (None, False, "signature-wrong")
    assert outcome.request_count == 1


def test_an_item_of_another_key_is_no_item() -> None:
    swarm, asker, storer = pair()
    swarm.put(asker, ITEM)
    other = MutableItem.signed(secret_of(9), ITEM.seq, b"other")

    def foreign(reply: krpc.Reply) -> krpc.Reply:
        return replace_reply(reply, key=other.key.raw, value=encode(other.value), signature=other.signature)

    answering(swarm, storer, asker, foreign)
    outcome = swarm.inquire(asker, about(swarm, storer))
    assert (outcome.item, outcome.dropped) == (None, "target-wrong")


def test_many_inquiries_leave_room_for_questions_and_all_end() -> None:
    swarm, asker, storer = pair()
    swarm.put(asker, ITEM)
    count = 200
    for _ in range(count):
        asker.start_inquiry(about(swarm, storer), swarm.now)
    assert 0 < asker.in_flight_count <= max(REQUESTS_IN_FLIGHT_MAX // 2, PATIENT_IN_FLIGHT_MIN)
    events = swarm.events[swarm.address_of(asker)]
    swarm.run_until(lambda: sum(isinstance(event, InquiryDone) for event in events) == count)
    assert asker.operation_count == 0


def test_a_cancelled_inquiry_tells_nothing() -> None:
    swarm, asker, storer = pair()
    number = asker.start_inquiry(about(swarm, storer), swarm.now)
    asker.cancel(number, swarm.now)
    swarm.run_for(5.0)
    assert not [event for event in swarm.events[swarm.address_of(asker)] if isinstance(event, InquiryDone)]


def test_an_address_that_no_datagram_can_reach_costs_none() -> None:
    swarm, asker, _ = pair()
    contact = krpc.NodeInfo(b"n" * 20, ("203.0.113.1", 6_881))
    before = sent(swarm, asker)
    outcome = swarm.inquire(asker, Inquiry(contact, ITEM.key, seq=6))
    assert (outcome, sent(swarm, asker)) == (InquiryOutcome(), before)


def test_a_node_that_must_be_shown_our_address_first_is_asked_with_its_token() -> None:
    swarm, asker, storer = pair()
    swarm.put(asker, ITEM)
    count = 0

    def short(reply: krpc.Reply) -> krpc.Reply:
        nonlocal count
        count += 1
        if count > 1:
            return reply
        return replace_reply(reply, key=None, value=None, signature=None, seq=None, is_proof_wanted=True)

    answering(swarm, storer, asker, short)
    outcome = swarm.inquire(asker, about(swarm, storer))
    assert (outcome.item, outcome.request_count) == (ITEM, 2)
    # And one that asks for proof for ever is asked no third time.
    answering(swarm, storer, asker, lambda reply: replace_reply(short_of(reply), is_proof_wanted=True))
    outcome = swarm.inquire(asker, about(swarm, storer, sends_again=True))
    assert (outcome.item, outcome.has_answered) == (None, True)
    assert outcome.request_count <= REQUESTS_MAX


def short_of(reply: krpc.Reply) -> krpc.Reply:
    """Return a reply without its item."""
    return replace_reply(reply, key=None, value=None, signature=None, seq=None)


def replace_reply(reply: krpc.Reply, **changes: object) -> krpc.Reply:
    """Return a reply with other fields."""
    return replaced(reply, **changes)
