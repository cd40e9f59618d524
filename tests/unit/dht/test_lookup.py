"""One iterative look-up, fed by hand: no node, no datagrams, no time."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dht import bencode, krpc
from p2pdns.dht.lookup.search import Lookup
from p2pdns.dht.lookup.shortlist import ADDRESS_IDS_MAX, SHORTLIST_MAX, Candidate, CandidateState, Request, Shortlist
from p2pdns.dht.lookup.sought import Sought
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.lookup.width import ALPHA, ALPHA_FIRST, ALPHA_MAX, FIRST_RPCS
from p2pdns.dht.routing.ids import distance
from p2pdns.items.item import ImmutableItem, MutableItem, Present
from p2pdns.items.keys import SecretKey
from tests.committed import ANOTHER, COMMITTED, OLD, committed_item

OWN = b"\x55" * 20
SECRET = SecretKey.generate(b"\x01" * 32)
KEY = SECRET.zone_key
UNIX_NOW = 1_800_000_000.0
SEQ = int(UNIX_NOW * 1e6)


def item(seq: int = SEQ, value: bytes = b"value") -> MutableItem:
    """Return a signed item."""
    return MutableItem.signed(SECRET, seq, value)


TARGET = item().target


def near(number: int, port: int | None = None, host: str = "127.0.0.1") -> krpc.NodeInfo:
    """Return the contact at this distance from the target."""
    node_id = (int.from_bytes(TARGET) ^ number).to_bytes(20)
    return krpc.NodeInfo(node_id, (host, port or number % 60_000 + 1))


def reply(candidate: Candidate, *, nodes: Sequence[krpc.NodeInfo] = (), found: MutableItem | None = None) -> krpc.Reply:
    """Return the reply of a candidate."""
    envelope = krpc.Reply(transaction=b"t", node_id=candidate.contact.node_id, nodes=tuple(nodes), token=b"token")
    if found is None:
        return envelope
    return krpc.Reply(
        transaction=b"t",
        node_id=candidate.contact.node_id,
        nodes=tuple(nodes),
        token=b"token",
        key=found.key.raw,
        seq=found.seq,
        value=bencode.encode(found.value),
        signature=found.signature,
    )


def new_lookup(sought: Sought | None = None, *, k: int = 20, rpc_max: int = 250) -> Lookup:
    """Return a look-up for the item."""
    return Lookup(TARGET, OWN, sought or Sought(KEY, present=Present(UNIX_NOW)), k=k, rpc_max=rpc_max)


def state_of(candidate: Candidate) -> CandidateState:
    """Return the state now, whatever an earlier assertion has taught the type checker."""
    return candidate.state


EIGHT = [near(1000 + number) for number in range(8)]


def finish(lookup: Lookup, answer: Callable[[Request], krpc.Reply | None]) -> int:
    """Answer requests, or let them time out, until the look-up is over; return how many rounds that took."""
    rounds = 0
    under_way: list[Request] = lookup.requests_to_send()
    while under_way:
        rounds += 1
        request = under_way.pop(0)
        answered = answer(request)
        if answered is not None:
            lookup.reply_received(request, answered)
        elif lookup.timed_out(request):
            under_way.append(request)
        under_way += lookup.requests_to_send()
    assert lookup.is_done or lookup.is_cut
    return rounds


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120), st.integers(0, 60))
def test_finds_the_k_nearest_of_a_network_with_dead_nodes(seed: int, count: int, dead_percent: int) -> None:
    rng = random.Random(seed)
    network = [krpc.NodeInfo(rng.randbytes(20), ("127.0.0.1", port + 1)) for port in range(count)]
    dead = {contact for contact in network if rng.random() * 100 < dead_percent}

    def answer(request: Request) -> krpc.Reply | None:
        if request.candidate.contact in dead:
            return None
        return reply(request.candidate, nodes=sorted(network, key=lambda c: distance(c.node_id, TARGET))[:40])

    lookup = new_lookup(k=8, rpc_max=1000)
    lookup.add(network[:5])
    finish(lookup, answer)
    reachable = (
        set(network[:5])
        if dead >= set(network[:5])
        else set(network[:5]) | set(sorted(network, key=lambda c: distance(c.node_id, TARGET))[:40])
    )
    living = sorted((c for c in reachable if c not in dead), key=lambda c: distance(c.node_id, TARGET))
    assert [candidate.contact for candidate in lookup.answered()[:8]] == living[:8]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_ends_within_its_requests_however_many_contacts_strangers_make_up(seed: int, rpc_max: int) -> None:
    rng = random.Random(seed)

    def answer(request: Request) -> krpc.Reply | None:
        if rng.random() < 0.5:
            return None
        # Always nearer than whoever tells of it.
        closer = max(1, request.candidate.distance // 2)
        return reply(
            request.candidate, nodes=[near(rng.randrange(closer), rng.randrange(1, 60_000)) for _ in range(20)]
        )

    lookup = new_lookup(rpc_max=rpc_max)
    lookup.add([near(2**159)])
    finish(lookup, answer)
    assert lookup.rpc_count <= rpc_max


def test_the_first_valid_item_is_handed_out_at_once_and_gets_then_carry_its_seq() -> None:
    lookup = new_lookup()
    lookup.add([near(number) for number in range(1, 9)])
    first = lookup.requests_to_send()[0]
    assert lookup.seq is None
    assert lookup.reply_received(first, reply(first.candidate, nodes=EIGHT, found=item())) == item()
    assert lookup.seq == SEQ
    assert lookup.rpcs_to_first == ALPHA_FIRST
    assert not lookup.is_done


@pytest.mark.parametrize("order", list(permutations([SEQ - 2, SEQ - 1, SEQ])))
def test_a_lower_seq_never_wins_whatever_arrives_first(order: tuple[int, ...]) -> None:
    lookup = new_lookup()
    lookup.add([near(number) for number in range(1, 4)])
    handed_out = []
    for request, seq in zip(lookup.requests_to_send(), order, strict=True):
        found = lookup.reply_received(request, reply(request.candidate, nodes=EIGHT, found=item(seq)))
        if isinstance(found, MutableItem):
            handed_out.append(found.seq)
    assert handed_out == sorted(handed_out)
    assert lookup.item == item(SEQ)


def test_the_same_item_again_is_not_news_but_counts_as_confirmation() -> None:
    lookup = new_lookup()
    lookup.add([near(1), near(2)])
    first, second = lookup.requests_to_send()
    assert lookup.reply_received(first, reply(first.candidate, nodes=EIGHT, found=item())) == item()
    assert lookup.reply_received(second, reply(second.candidate, nodes=EIGHT, found=item())) is None
    assert lookup.confirmed_count == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([b"a", b"b", b"bb"])), min_size=1, max_size=6))
def test_any_order_of_arrival_ends_at_the_same_item(items: list[tuple[int, bytes]]) -> None:
    def best(order: Sequence[tuple[int, bytes]]) -> object:
        lookup = new_lookup()
        lookup.add([near(number) for number in range(1, 9)])
        requests = [*lookup.requests_to_send()]
        for seq, value in order:
            if not requests:
                break
            request = requests.pop(0)
            lookup.reply_received(request, reply(request.candidate, nodes=EIGHT, found=item(seq, value)))
            requests += lookup.requests_to_send()
        return lookup.item

    assert best(items) == best(items[::-1]) == best(sorted(items))


def test_a_seq_from_the_future_is_served_alone_and_hides_nothing() -> None:
    future = item(SEQ + 10 * 86_400 * 1_000_000)
    lookup = new_lookup()
    lookup.add([near(number) for number in range(1, 4)])
    first, second, third = lookup.requests_to_send()
    assert lookup.reply_received(first, reply(first.candidate, nodes=EIGHT, found=future)) == future
    assert lookup.seq is None, "a get that carried the future seq would not be told of the true one"
    assert lookup.reply_received(second, reply(second.candidate, nodes=EIGHT, found=item())) == item()
    assert lookup.reply_received(third, reply(third.candidate, nodes=EIGHT, found=future)) is None
    assert lookup.item == item()


def test_a_clock_that_is_behind_lets_no_replayed_item_win_over_one_that_was_adopted() -> None:
    """One contact that replays made 39 of 40 answers out of an item of fifty days ago."""
    day = 86_400 * 1_000_000
    behind = Present(UNIX_NOW - 40 * 86_400, newest_seq=SEQ)
    replayed = item(SEQ - 48 * day)
    for items in ((replayed, item()), (item(), replayed)):
        lookup = new_lookup(Sought(KEY, present=behind))
        lookup.add([near(number) for number in range(1, 3)])
        for request, found in zip(lookup.requests_to_send(), items, strict=True):
            lookup.reply_received(request, reply(request.candidate, nodes=EIGHT, found=found))
        assert lookup.item == item()
        assert lookup.seq == SEQ


def forged(candidate: Candidate, **changes: object) -> krpc.Reply:
    """Return a reply with an item that does not hold."""
    fields = {
        "transaction": b"t",
        "node_id": candidate.contact.node_id,
        "nodes": tuple(EIGHT),
        "key": KEY.raw,
        "seq": SEQ,
        "value": b"5:value",
        "signature": item().signature,
    }
    return krpc.Reply(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seq": SEQ + 1}, "signature-wrong"),
        ({"value": b"5:valuf"}, "signature-wrong"),
        ({"value": b"i7e"}, "value-not-a-string"),
        ({"value": b"1001:" + bytes(1001)}, "value-too-large"),
        ({"signature": None}, "item-incomplete"),
        ({"key": None}, "item-incomplete"),
        ({"key": SecretKey.generate(b"\x02" * 32).zone_key.raw}, "target-wrong"),
    ],
)
def test_a_forged_item_is_dropped_and_its_sender_not_followed(changes: dict[str, object], reason: str) -> None:
    lookup = new_lookup()
    lookup.add([near(1)])
    request = lookup.requests_to_send()[0]
    assert lookup.reply_received(request, forged(request.candidate, **changes)) is None
    assert lookup.bad_items[reason] == 1
    assert lookup.is_done, "contacts of a forger were put on the shortlist"
    assert lookup.verdict(None) is Verdict.NO_ANSWER


def test_without_a_key_an_immutable_item_is_found_by_its_hash() -> None:
    wanted = ImmutableItem(b"leaf")
    lookup = Lookup(wanted.target, OWN, Sought())
    lookup.add([near(1), near(2)])
    good, bad = lookup.requests_to_send()
    envelope = {"transaction": b"t", "nodes": tuple(EIGHT)}
    wrong = krpc.Reply(node_id=bad.candidate.contact.node_id, value=b"4:loaf", **envelope)  # type: ignore[arg-type]
    right = krpc.Reply(node_id=good.candidate.contact.node_id, value=b"4:leaf", **envelope)  # type: ignore[arg-type]
    assert lookup.reply_received(bad, wrong) is None
    assert lookup.reply_received(good, right) == wanted


def test_a_known_seq_asks_for_newer_items_only_and_counts_who_confirms_it() -> None:
    lookup = new_lookup(Sought(KEY, known_seq=SEQ))
    lookup.add([near(1), near(2)])
    first, second = lookup.requests_to_send()
    assert lookup.seq == SEQ
    same = krpc.Reply(transaction=b"t", node_id=first.candidate.contact.node_id, seq=SEQ)
    assert lookup.reply_received(first, same) is None
    assert lookup.reply_received(second, reply(second.candidate, found=item(SEQ - 1))) is None
    assert lookup.item is None
    assert lookup.confirmed_count == 1


def test_a_value_beside_few_contacts_is_followed_by_find_node() -> None:
    lookup = new_lookup()
    lookup.add([near(1)])
    request = lookup.requests_to_send()[0]
    lookup.reply_received(request, reply(request.candidate, nodes=EIGHT[:3], found=item()))
    follow_up, *others = lookup.requests_to_send()
    assert follow_up.is_follow_up
    assert follow_up.candidate is request.candidate
    for other in others:
        lookup.reply_received(other, reply(other.candidate))
    assert not lookup.is_done, "the contacts that the value pushed out are still on their way"
    lookup.reply_received(follow_up, reply(follow_up.candidate, nodes=EIGHT[:3]))
    assert lookup.is_done


def hidden_by_the_dead() -> tuple[Lookup, list[krpc.NodeInfo], Callable[[Request], krpc.Reply | None]]:
    """Return a look-up in a network whose nodes name the four nearest to a place, half of which are dead."""
    living = [near(number) for number in (1, 2, 9, 10, 11, 12, 13, 14)]
    dead = [near(number) for number in (3, 4)]

    def answer(request: Request) -> krpc.Reply | None:
        place = request.place or TARGET
        if request.candidate.contact in dead:
            return None
        named = sorted([*living, *dead], key=lambda one: distance(one.node_id, place))[:4]
        return reply(request.candidate, nodes=named)

    lookup = new_lookup(k=4)
    lookup.add([living[0], living[4], living[5]])
    finish(lookup, answer)
    return lookup, living, answer


def test_the_living_that_the_dead_hide_are_named_by_those_in_their_range() -> None:
    lookup, living, answer = hidden_by_the_dead()
    assert [one.contact for one in lookup.answered()][:4] == [living[0], living[1], living[4], living[5]]
    assert lookup.look_beyond()
    assert not lookup.is_done, "contacts are asked for those behind the dead"
    finish(lookup, answer)
    assert [one.contact for one in lookup.answered()][:4] == living[:4]


def test_where_all_live_nobody_is_asked_beyond() -> None:
    lookup = new_lookup(k=2)
    lookup.add([near(1), near(2), near(3)])
    finish(lookup, lambda request: reply(request.candidate))
    assert not lookup.look_beyond()
    assert lookup.requests_to_send() == []


def test_while_a_reply_is_late_another_contact_is_asked_and_no_longer() -> None:
    lookup = new_lookup()
    lookup.add([near(number) for number in range(1, 30)])
    first, *others = lookup.requests_to_send()
    assert len(others) == ALPHA_FIRST - 1
    assert not lookup.has_slots
    lookup.is_late(first)
    lookup.is_late(first)
    # A place for the late one, and the last of the usual ones.
    further, _ = lookup.requests_to_send()
    assert not lookup.has_slots
    lookup.reply_received(first, reply(first.candidate))
    assert not lookup.has_slots, "the late one has come, and the further one holds its place"
    lookup.is_late(further)
    assert lookup.timed_out(further), "it is only late until it is silent"
    assert len(lookup.requests_to_send()) == 2, "its slot, and one for the silence"


def test_a_value_beside_eight_contacts_is_not_followed_up() -> None:
    lookup = new_lookup()
    lookup.add([near(1)])
    request = lookup.requests_to_send()[0]
    lookup.reply_received(request, reply(request.candidate, nodes=EIGHT, found=item()))
    assert not any(request.is_follow_up for request in lookup.requests_to_send())


def test_a_silent_follow_up_does_not_hold_the_look_up_for_ever() -> None:
    lookup = new_lookup()
    lookup.add([near(1)])
    finish(lookup, lambda request: None if request.is_follow_up else reply(request.candidate, found=item()))
    assert lookup.is_done
    assert lookup.verdict(None) is Verdict.COMPLETE


def test_alpha_requests_are_in_flight_and_each_silence_opens_a_slot_more() -> None:
    lookup = Lookup(TARGET, OWN)
    lookup.add([near(number) for number in range(1, 60)])
    asked = lookup.requests_to_send()
    assert len(asked) == ALPHA
    assert lookup.requests_to_send() == []
    lookup.timed_out(asked[0])
    assert len(lookup.requests_to_send()) == 2
    for request in asked[1:]:
        lookup.timed_out(request)
    assert len(lookup.requests_to_send()) == 6


def test_a_search_for_an_item_begins_with_fewer_requests_in_flight_until_some_were_in_vain() -> None:
    lookup = new_lookup()
    lookup.add([near(number) for number in range(1, 60)])
    in_flight = lookup.requests_to_send()
    while lookup.rpc_count < FIRST_RPCS:
        assert len(in_flight) == ALPHA_FIRST < ALPHA
        request = in_flight.pop(0)
        lookup.reply_received(request, reply(request.candidate))
        in_flight += lookup.requests_to_send()
    request = in_flight.pop(0)
    lookup.reply_received(request, reply(request.candidate))
    assert len(in_flight + lookup.requests_to_send()) == ALPHA


def test_a_search_that_meets_silence_at_its_beginning_has_all_its_requests_in_flight() -> None:
    lookup = new_lookup()
    lookup.add([near(number) for number in range(1, 60)])
    first, *others = lookup.requests_to_send()
    lookup.timed_out(first)
    assert len(others + lookup.requests_to_send()) == ALPHA + 1


@given(st.integers(0, 40))
def test_never_more_than_the_widest_number_is_in_flight(silences: int) -> None:
    lookup = new_lookup(k=100)
    lookup.add([near(number) for number in range(1, 300)])
    in_flight = lookup.requests_to_send()
    for _ in range(silences):
        lookup.timed_out(in_flight.pop(0))
        in_flight += lookup.requests_to_send()
        assert len(in_flight) <= ALPHA_MAX


def test_a_silent_candidate_is_asked_twice_and_then_dead_here() -> None:
    lookup = new_lookup()
    lookup.add([near(1)])
    request = lookup.requests_to_send()[0]
    assert lookup.timed_out(request) is True
    assert state_of(request.candidate) is CandidateState.SLOW
    assert not lookup.is_done
    assert lookup.timed_out(request) is False
    assert state_of(request.candidate) is CandidateState.DEAD
    assert lookup.is_done
    assert (lookup.rpc_count, lookup.retransmit_count) == (2, 1)
    assert lookup.verdict(None) is Verdict.NO_ANSWER


def test_a_late_reply_is_still_used() -> None:
    lookup = new_lookup()
    lookup.add([near(1), near(2)])
    late, other = lookup.requests_to_send()
    lookup.timed_out(late)
    lookup.timed_out(late)
    assert lookup.reply_received(late, reply(late.candidate, nodes=EIGHT, found=item())) == item()
    assert late.candidate in lookup.answered()
    lookup.reply_received(other, reply(other.candidate))
    assert not lookup.is_done, "the contacts of the late reply are to be asked"


def test_a_refusal_is_neither_an_answer_nor_waited_for() -> None:
    lookup = new_lookup()
    lookup.add([near(1)])
    request = lookup.requests_to_send()[0]
    lookup.refused(request)
    assert lookup.is_done
    assert lookup.answered() == []


def test_one_address_is_asked_under_few_ids() -> None:
    lookup = new_lookup()
    lookup.add([near(number, port=7) for number in range(1, 100)])
    finish(lookup, lambda request: None)
    assert lookup.rpc_count - lookup.retransmit_count == ADDRESS_IDS_MAX
    assert len(lookup.asked) == 1


def test_a_public_peer_cannot_send_us_into_our_own_network() -> None:
    lookup = new_lookup()
    lookup.add([near(50, host="9.9.9.9")])
    request = lookup.requests_to_send()[0]
    told = [
        near(1, host="192.168.1.1"),
        near(2, host="127.0.0.1"),
        near(3, host="169.254.0.1"),
        near(4, host="0.0.0.1"),
    ]
    lookup.reply_received(request, reply(request.candidate, nodes=told))
    assert lookup.is_done


def test_our_own_id_and_repeated_contacts_are_not_asked() -> None:
    lookup = new_lookup()
    lookup.add([krpc.NodeInfo(OWN, ("127.0.0.1", 9)), near(1), near(1)])
    assert len(lookup.requests_to_send()) == 1


def test_the_shortlist_is_bounded_and_keeps_the_nearest() -> None:
    lookup = new_lookup()
    lookup.add([near(number) for number in range(10_000, 10_000 + SHORTLIST_MAX)])
    lookup.add([near(1)])
    assert lookup.requests_to_send(1)[0].candidate.contact == near(1)
    shortlist, many = Shortlist(), [near(number) for number in range(10_000, 10_000 + SHORTLIST_MAX)]
    for contact in [*many, near(1)]:
        shortlist.add(contact, distance(contact.node_id, TARGET), None)
    assert len(shortlist) == len(list(shortlist)) == SHORTLIST_MAX
    assert [contact for contact in [*many, near(1)] if contact not in shortlist.by_contact] == [many[-1]]


def test_done_only_when_nobody_nearer_than_the_kth_answer_is_open() -> None:
    lookup = new_lookup(k=2)
    lookup.add([near(1), near(2), near(3)])
    first, second = lookup.requests_to_send()
    lookup.reply_received(second, reply(second.candidate))
    assert not lookup.is_done
    lookup.reply_received(first, reply(first.candidate, nodes=[near(9)]))
    assert lookup.is_done
    assert lookup.requests_to_send() == []


def test_a_spent_budget_is_said() -> None:
    lookup = new_lookup(rpc_max=5)
    lookup.add([near(number) for number in range(1, 60)])
    finish(lookup, lambda request: reply(request.candidate))
    assert lookup.rpc_count == 5
    assert lookup.verdict(None) is Verdict.BUDGET


def test_an_empty_shortlist_is_said() -> None:
    lookup = new_lookup()
    assert lookup.is_done
    assert lookup.verdict(None) is Verdict.NO_CONTACTS


def test_a_look_up_in_a_thinner_place_than_the_network_is_sparse() -> None:
    lookup = new_lookup(k=2)
    lookup.add([near(100), near(200)])
    finish(lookup, lambda request: reply(request.candidate))
    assert lookup.verdict(None) is Verdict.COMPLETE
    assert lookup.verdict(50) is Verdict.COMPLETE
    assert lookup.verdict(49) is Verdict.SPARSE


def test_fewer_answers_than_k_in_a_large_network_are_sparse() -> None:
    lookup = new_lookup(k=3)
    lookup.add([near(1), near(2)])
    finish(lookup, lambda request: reply(request.candidate))
    assert lookup.verdict(2**100) is Verdict.SPARSE


def test_a_deadline_is_said() -> None:
    lookup = new_lookup()
    lookup.add([near(1)])
    lookup.requests_to_send()
    assert lookup.verdict(None, is_late=True) is Verdict.DEADLINE


def test_the_same_replies_give_the_same_requests() -> None:
    def history() -> list[bytes]:
        rng = random.Random(7)
        asked: list[bytes] = []

        def answer(request: Request) -> krpc.Reply | None:
            asked.append(request.candidate.contact.node_id)
            if rng.random() < 0.3:
                return None
            return reply(request.candidate, nodes=[near(rng.randrange(1, 2**150)) for _ in range(8)])

        lookup = new_lookup(rpc_max=100)
        lookup.add([near(2**155)])
        finish(lookup, answer)
        return asked

    assert history() == history()


def test_an_ended_look_up_leaves_no_garbage_to_search_for() -> None:
    def candidate_count() -> int:
        return sum(isinstance(one, Candidate) for one in gc.get_objects())

    gc.collect()
    before = candidate_count()
    gc.disable()
    try:
        lookup = new_lookup(Sought(KEY))
        lookup.add([near(number) for number in range(1, 30)])
        finish(lookup, lambda request: reply(request.candidate, nodes=[near(number) for number in range(30, 50)]))
        assert candidate_count() >= before + 40
        lookup.end()
        del lookup
        assert candidate_count() == before
    finally:
        gc.enable()


def committed_lookup(**sought: object) -> Lookup:
    """Return a look-up for the zone of a key with a commitment, which knows three contacts."""
    item = committed_item(COMMITTED)
    facts: dict[str, Any] = {"present": Present(UNIX_NOW), **sought}
    lookup = Lookup(item.target, OWN, Sought(OLD.zone_key, **facts))
    lookup.add([near(number) for number in (1, 2, 3)])
    return lookup


def answers_in_order(lookup: Lookup, *items: MutableItem | None) -> list[object]:
    """Answer the first requests of a look-up with these items; return what it hands out."""
    requests = lookup.requests_to_send()
    return [
        lookup.reply_received(request, reply(request.candidate, nodes=EIGHT, found=found))
        for request, found in zip(requests, items, strict=False)
    ]


def test_an_odd_item_hides_no_other_and_confirms_nothing_and_its_holder_counts_as_having_answered() -> None:
    honest, odd = committed_item(COMMITTED, seq=5), committed_item(ANOTHER, seq=9)
    lookup = committed_lookup(commitment=COMMITTED)
    assert answers_in_order(lookup, odd, honest, odd) == [None, honest, None]
    assert (lookup.item, lookup.bad_items["odd"], lookup.seq) == (honest, 2, 5)
    assert lookup.confirmation.is_of(honest)
    assert not lookup.confirmation.is_of(odd)
    assert [candidate.state for candidate in lookup.answered()] == [CandidateState.ANSWERED] * 3


def test_without_a_kept_commitment_no_item_is_odd() -> None:
    lookup = committed_lookup()
    odd = committed_item(None, seq=9)
    assert answers_in_order(lookup, committed_item(COMMITTED, seq=5), odd)[1] == odd
    assert lookup.editions.met == ()


def test_a_first_reader_is_told_of_the_older_editions_too_whatever_their_order() -> None:
    items = (committed_item(COMMITTED, seq=5), committed_item(None, seq=9), committed_item(COMMITTED, seq=3))
    for order in permutations(items):
        lookup = committed_lookup(wants_editions=True)
        answers_in_order(lookup, *order)
        assert [item.seq for item in lookup.editions.met] == [3, 5, 9]


@pytest.mark.parametrize(("commitment", "seq"), [(COMMITTED, None), (None, 5)], ids=["with", "without"])
def test_a_first_reader_of_a_zone_with_a_commitment_asks_for_older_editions_too(
    commitment: object, seq: int | None
) -> None:
    lookup = committed_lookup(wants_editions=True)
    answers_in_order(lookup, committed_item(commitment, seq=5))
    assert lookup.seq == seq


def test_an_odd_item_in_our_own_storage_is_left_out_and_counted() -> None:
    lookup = committed_lookup(commitment=COMMITTED)
    assert lookup.item_found(committed_item(None, seq=9)) is None
    assert (lookup.item, lookup.bad_items["odd"]) == (None, 1)
