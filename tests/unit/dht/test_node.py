"""The node machine, alone and in swarms; time is a number and loss is not delivering."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.addresses import Address
from p2pdns.dht import bencode, krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.bootstrap import QUARANTINE_MAX
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.peers import HASHES_MAX, PEER_S, PEERS_MAX, PeerStore
from p2pdns.dht.node.turns import REQUESTS_IN_FLIGHT_MAX
from p2pdns.dht.node.values import GetDone, ItemArrived, Joined, NodeSettings, PutProgress, Wanted
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.routing.ids import distance
from p2pdns.dht.storage import Storage
from p2pdns.items.item import ImmutableItem, MutableItem, Present
from tests.unit.dht.swarm import UNIX_NOW, Swarm, acquaint, item_of, prove, secret_of

NETWORK = krpc.network_of("swarm")
STRANGER: Address = ("127.0.0.1", 4_000)
ITEM = item_of(1)
KEY = ITEM.key


def swarm_of(count: int, seed: int = 1, **settings_: object) -> Swarm:
    """Return a swarm that has settled."""
    swarm = Swarm(seed, **settings_)  # type: ignore[arg-type]
    swarm.grow(count)
    return swarm


def nodes_of(swarm: Swarm) -> list[Node]:
    """Return its nodes."""
    return list(swarm.nodes.values())


def cold(swarm: Swarm, target: bytes) -> Node:
    """Return a living node that does not hold the target."""
    return next(
        node
        for address, node in swarm.nodes.items()
        if address not in swarm.dead and node.storage.held(target, swarm.now) is None
    )


# Put and get


@pytest.mark.parametrize("count", [2, 5, 30])
def test_what_one_node_put_another_gets(count: int) -> None:
    swarm = swarm_of(count)
    outcome = swarm.put(nodes_of(swarm)[0], ITEM)
    others = min(20, count - 1)
    assert outcome.others == (others, others), "a copy here takes the place of none"
    assert outcome.is_kept_here == (nodes_of(swarm)[0].storage.held(ITEM.target, swarm.now) is not None)
    got = swarm.get(nodes_of(swarm)[-1], ITEM.target, KEY)
    assert got.item == ITEM
    assert got.complete
    assert got.verdict is Verdict.COMPLETE


def test_a_put_reaches_exactly_the_k_nearest_nodes() -> None:
    swarm = swarm_of(60)
    by_distance = sorted(nodes_of(swarm), key=lambda node: distance(node.node_id, ITEM.target))
    # A publisher that is near would keep a copy beside those of the others.
    swarm.put(by_distance[-1], ITEM)
    holders = [node for node in nodes_of(swarm) if node.storage.held(ITEM.target, swarm.now)]
    nearest = by_distance[:20]
    assert {node.node_id for node in holders} == {node.node_id for node in nearest}


def test_our_own_storage_keeps_an_item_that_it_is_near_and_counts_as_none_of_the_others() -> None:
    swarm = swarm_of(3)
    progress: list[PutProgress] = []
    node = nodes_of(swarm)[1]
    outcome = swarm.put(node, ITEM)
    events = swarm.events[swarm.address_of(node)]
    progress = [event for event in events if isinstance(event, PutProgress)]
    assert (outcome.sent_count, outcome.stored_count, outcome.is_kept_here) == (2, 2, True)
    assert node.storage.held(ITEM.target, swarm.now) is not None
    assert progress[-1].stored == 2


def test_a_read_only_node_puts_at_others_only() -> None:
    swarm = swarm_of(4)
    node = swarm.new_node(read_only=True)
    node.add_bootstrap([next(iter(swarm.nodes))], swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    outcome = swarm.put(node, ITEM)
    assert (outcome.sent_count, outcome.stored_count) == (4, 4)
    assert node.storage.held(ITEM.target, swarm.now) is None
    assert all(other.contact_count == 3 for other in nodes_of(swarm)[:4]), "nobody remembers a read-only node"


def test_immutable_items_are_put_and_got() -> None:
    swarm = swarm_of(5)
    leaf = ImmutableItem(b"leaf")
    assert swarm.put(nodes_of(swarm)[0], leaf).stored_count == 4
    swarm.new_node(read_only=True)
    assert swarm.get(nodes_of(swarm)[3], leaf.target, None).item == leaf


def test_salted_items_have_a_target_of_their_own() -> None:
    swarm = swarm_of(5)
    salted = MutableItem.signed(secret_of(1), ITEM.seq, b"salted", b"salt")
    swarm.put(nodes_of(swarm)[0], ITEM)
    swarm.put(nodes_of(swarm)[0], salted)
    assert swarm.get(nodes_of(swarm)[4], salted.target, KEY, salt=b"salt").item == salted
    assert swarm.get(nodes_of(swarm)[4], ITEM.target, KEY).item == ITEM


def test_an_update_is_found_and_the_older_item_refused() -> None:
    swarm = swarm_of(25)
    newer = item_of(1, ITEM.seq + 1, b"newer")
    swarm.put(nodes_of(swarm)[0], ITEM)
    swarm.put(nodes_of(swarm)[3], newer)
    assert swarm.get(cold(swarm, ITEM.target), ITEM.target, KEY).item == newer
    stale = swarm.put(nodes_of(swarm)[5], ITEM)
    assert stale.stored_count == 0
    assert stale.refused[302] == stale.sent_count
    assert stale.seq_seen == newer.seq


def test_cas_conflicts_are_counted_by_their_code() -> None:
    swarm = swarm_of(5)
    swarm.put(nodes_of(swarm)[0], ITEM)
    outcome = swarm.put(nodes_of(swarm)[1], item_of(1, ITEM.seq + 1), cas=(ITEM.seq - 5,))
    # Our own storage goes by the same rule, or we would serve what everybody else has refused.
    assert (outcome.stored_count, outcome.refused, outcome.refused_here) == (0, {301: 4}, 301)
    assert outcome.reasons == {"301": 5}
    assert swarm.put(nodes_of(swarm)[1], item_of(1, ITEM.seq + 1), cas=(ITEM.seq,)).stored_count == 4


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_lower_seq_held_by_most_never_wins(order: tuple[int, int]) -> None:
    swarm = swarm_of(30)
    newer = item_of(1, ITEM.seq + 1, b"newer")
    swarm.put(nodes_of(swarm)[0], ITEM)
    holders = [node for node in nodes_of(swarm) if node.storage.held(ITEM.target, swarm.now)]
    holders[order[0] * 7].storage.put_own(newer, swarm.now)
    node = cold(swarm, ITEM.target)
    outcome = swarm.get(node, ITEM.target, KEY)
    assert outcome.item == newer
    assert [found.value for found in swarm.found_items(node)] in ([b"value", b"newer"], [b"newer"])


def test_the_first_item_is_handed_out_before_the_look_up_ends() -> None:
    swarm = swarm_of(40)
    swarm.put(nodes_of(swarm)[0], ITEM)
    outcome = swarm.get(cold(swarm, ITEM.target), ITEM.target, KEY)
    assert outcome.first_s is not None
    assert outcome.first_s < outcome.done_s / 2
    assert outcome.rpcs_to_first is not None
    assert outcome.rpcs_to_first <= 6


def test_an_item_in_our_own_storage_is_handed_out_before_anything_is_sent() -> None:
    swarm = swarm_of(3)
    node = nodes_of(swarm)[0]
    node.storage.put_own(ITEM, swarm.now)
    node.start_get(Wanted(ITEM.target, KEY), swarm.now)
    event = node.next_event()
    assert event is not None
    assert getattr(event, "item", None) == ITEM


def test_a_get_with_a_known_seq_finds_only_newer_items() -> None:
    swarm = swarm_of(30)
    swarm.put(nodes_of(swarm)[0], ITEM)
    outcome = swarm.get(cold(swarm, ITEM.target), ITEM.target, KEY, known_seq=ITEM.seq)
    assert outcome.item is None
    assert outcome.complete
    assert outcome.confirmed_count == 20
    assert swarm.get(cold(swarm, ITEM.target), ITEM.target, KEY, known_seq=ITEM.seq - 1).item == ITEM


def test_a_seq_from_the_future_does_not_hide_the_true_item() -> None:
    swarm = swarm_of(30)
    swarm.put(nodes_of(swarm)[0], ITEM)
    future = item_of(1, ITEM.seq + 10**13)
    for node in nodes_of(swarm):
        if node.storage.held(ITEM.target, swarm.now) and node is not nodes_of(swarm)[3]:
            node.storage.put_own(future, swarm.now)
            break
    got = swarm.get(cold(swarm, ITEM.target), ITEM.target, KEY, present=Present(UNIX_NOW))
    assert got.item == ITEM


def tell_time(swarm: Swarm, unix: float = UNIX_NOW) -> None:
    """Tell every node the time, as the engine does."""
    for node in nodes_of(swarm):
        node.storage.precedence.tell_time(swarm.now, Present(unix))


@pytest.mark.parametrize("cas", [None, (ITEM.seq - 5,)])
def test_a_publication_from_the_future_is_replaced_by_the_saner_one_everywhere(cas: tuple[int, ...] | None) -> None:
    swarm = swarm_of(30)
    future = item_of(1, ITEM.seq + 10**13, b"future")
    # Put by a publisher whose clock is ahead, with nodes that have nothing else yet.
    swarm.put(nodes_of(swarm)[0], future)
    tell_time(swarm)
    reader = cold(swarm, ITEM.target)
    assert swarm.get(reader, ITEM.target, KEY, present=Present(UNIX_NOW)).item == future
    outcome = swarm.put(nodes_of(swarm)[1], ITEM, **({} if cas is None else {"cas": cas}))
    assert (tuple(outcome.others), outcome.refused) == ((20, 20), {})
    assert swarm.get(reader, ITEM.target, KEY, present=Present(UNIX_NOW)).item == ITEM
    # And it does not come back.
    again = swarm.put(nodes_of(swarm)[2], future)
    # The twenty others and the node itself refuse it.
    assert (again.stored_count, again.refused, again.refused_here, again.seq_seen) == (0, {203: 20}, 203, ITEM.seq)
    assert swarm.get(reader, ITEM.target, KEY, present=Present(UNIX_NOW)).item == ITEM


def test_values_of_the_largest_size_travel_with_their_contacts_behind() -> None:
    swarm = swarm_of(40)
    large = MutableItem.signed(secret_of(1), ITEM.seq, b"x" * 996)
    swarm.put(nodes_of(swarm)[0], large)
    outcome = swarm.get(cold(swarm, large.target), large.target, KEY)
    assert outcome.item == large
    assert outcome.complete


@pytest.mark.parametrize(("host", "limit", "salt"), [("127.0.0.1", 1300, b"s" * 64), ("::1", 1232, b"")])
def test_a_storer_whose_token_makes_the_put_too_long_is_left_out_and_another_stands_in(
    monkeypatch: pytest.MonkeyPatch, host: str, limit: int, salt: bytes
) -> None:
    swarm = Swarm()
    nodes = [swarm.new_node(host, k=4) for _ in range(7)]
    for node in nodes[1:]:
        node.add_bootstrap([swarm.address_of(nodes[0])], swarm.now)
    swarm.run_for(20.0)
    item = MutableItem.signed(secret_of(1), ITEM.seq, b"x" * 996, salt)
    near = sorted(nodes, key=lambda node: distance(node.node_id, item.target))
    for node in near[:2]:
        guard = node._core.guard
        monkeypatch.setattr(guard, "token", lambda *facts: b"t" * 64)
        monkeypatch.setattr(guard, "is_token_valid", lambda *facts: True)
    longest = 0

    def measure(data: bytes, source: Address, target: Address) -> bool:
        nonlocal longest
        longest = max(longest, len(data) if b"1:q3:put" in data else 0)
        return False

    swarm.is_lost = measure
    outcome = swarm.put(near[-1], item)
    assert 1000 < longest <= limit
    assert (outcome.sent_count, outcome.stored_count) == (4, 4)
    assert outcome.refused == {"put-too-long": 2}
    assert near[-1].counters["put-too-long"] == 2
    assert [node.storage.held(item.target, swarm.now) is not None for node in near[:4]] == [False, False, True, True]


def test_an_arrived_item_is_told_and_a_refused_one_is_not() -> None:
    swarm = swarm_of(4)
    swarm.put(nodes_of(swarm)[0], ITEM)
    arrived = swarm.took(nodes_of(swarm)[2], ItemArrived)
    assert arrived == ItemArrived(ITEM.target, ITEM)
    for events in swarm.events.values():
        events.clear()
    swarm.put(nodes_of(swarm)[0], item_of(1, ITEM.seq - 1))
    assert swarm.took(nodes_of(swarm)[2], ItemArrived) is None


# The dead


@pytest.mark.parametrize("percent", [30, 50])
def test_dead_peers_do_not_keep_an_item_from_being_found(percent: int) -> None:
    swarm = swarm_of(60)
    swarm.put(nodes_of(swarm)[0], ITEM)
    for node in swarm.rng.sample(nodes_of(swarm), 60 * percent // 100):
        swarm.kill(node)
    outcome = swarm.get(cold(swarm, ITEM.target), ITEM.target, KEY)
    assert outcome.item == ITEM
    assert outcome.complete
    assert outcome.retransmit_count > 0


def test_an_absent_key_among_the_dead_is_settled_soon() -> None:
    swarm = swarm_of(60)
    for node in swarm.rng.sample(nodes_of(swarm), 18):
        swarm.kill(node)
    outcome = swarm.get(cold(swarm, ITEM.target), ITEM.target, KEY)
    assert outcome.item is None
    assert outcome.complete
    assert outcome.done_s < 0.5


def test_a_put_among_the_dead_is_stored_at_the_living() -> None:
    swarm = swarm_of(60)
    for node in swarm.rng.sample(nodes_of(swarm), 18):
        swarm.kill(node)
    outcome = swarm.put(cold(swarm, ITEM.target), ITEM)
    assert outcome.others == (20, 20)


def test_others_that_answer_and_keep_nothing_count_among_the_known() -> None:
    swarm = swarm_of(5, store=True)
    keepers = nodes_of(swarm)
    for _ in range(4):
        node = swarm.new_node(store=False)
        node.add_bootstrap([swarm.address_of(keepers[0])], swarm.now)
    swarm.run_for(30.0)
    outcome = swarm.put(keepers[0], ITEM)
    assert (outcome.others, outcome.is_kept_here) == ((8, 4), True)
    assert not outcome.others.is_enough, "half of them is not more than half"


def test_alone_an_item_is_kept_here_and_nowhere_else() -> None:
    swarm = swarm_of(1)
    outcome = swarm.put(nodes_of(swarm)[0], ITEM)
    assert (outcome.others, outcome.is_kept_here) == ((0, 0), True)
    assert not outcome.others.is_enough


def test_a_lost_datagram_is_sent_again_with_a_transaction_of_two_bytes() -> None:
    swarm = swarm_of(2)
    asker, other = swarm.nodes
    lost: list[bytes] = []

    def is_lost(data: bytes, source: Address, target: Address) -> bool:
        message = parse(data)
        if source == asker and isinstance(message, krpc.RequestMessage) and len(message.transaction) == 4:
            lost.append(data)
            return True
        return False

    swarm.is_lost = is_lost
    swarm.seen.clear()
    outcome = swarm.get(swarm.nodes[asker], ITEM.target, KEY)
    assert lost
    assert outcome.answered_count == 1
    assert outcome.retransmit_count == 1
    transactions = [parse(data).transaction for data, _ in swarm.seen[other]]
    assert [len(transaction) for transaction in transactions] == [4, 2]


def test_a_late_reply_is_used_and_forgives() -> None:
    swarm = swarm_of(2)
    asker, other = swarm.nodes
    swarm.is_lost = lambda data, source, target: target == other
    swarm.nodes[other].storage.put_own(ITEM, swarm.now)
    swarm.seen.clear()
    outcome = swarm.get(swarm.nodes[asker], ITEM.target, KEY)
    assert outcome.verdict is Verdict.NO_ANSWER
    # The first request arrives after all, long after it was given up.
    data, _ = swarm.seen[other][0]
    swarm.is_lost = lambda data, source, target: False
    swarm.inject(data, asker, other)
    swarm.run_for(0.1)
    assert swarm.nodes[asker].counters["reply-late"] == 1
    assert swarm.nodes[asker].contact_count == 1


def test_silence_of_everybody_evicts_nobody() -> None:
    swarm = swarm_of(10)
    node = nodes_of(swarm)[0]
    swarm.is_lost = lambda data, source, target: True
    for _ in range(6):
        swarm.run_for(5.0)
        assert swarm.get(node, ITEM.target, KEY).verdict is Verdict.NO_ANSWER
    assert node.contact_count == 9, "our cable was pulled, they are not dead"


def test_repeated_silence_of_one_evicts_it() -> None:
    swarm = swarm_of(10)
    swarm.kill(nodes_of(swarm)[9])
    node = nodes_of(swarm)[0]
    for _ in range(4):
        swarm.get(node, ITEM.target, KEY)
    assert node.contact_count == 8


def test_a_deadline_cuts_a_look_up_and_says_so() -> None:
    swarm = swarm_of(20)
    node = nodes_of(swarm)[0]
    outcome = swarm.get(node, ITEM.target, KEY, deadline=swarm.now + 0.012)
    assert outcome.verdict is Verdict.DEADLINE
    assert not outcome.complete
    assert outcome.done_s == pytest.approx(0.012)


def test_a_spent_budget_cuts_a_look_up_and_says_so() -> None:
    swarm = swarm_of(40)
    outcome = swarm.get(nodes_of(swarm)[0], ITEM.target, KEY, rpc_max=6)
    assert outcome.verdict is Verdict.BUDGET
    assert outcome.rpc_count == 6


def test_a_cancelled_get_ends_without_an_outcome() -> None:
    swarm = swarm_of(20)
    node = nodes_of(swarm)[0]
    swarm.events[swarm.address_of(node)].clear()
    number = node.start_get(Wanted(ITEM.target, KEY), swarm.now)
    node.cancel(number, swarm.now)
    node.cancel(number, swarm.now)
    swarm.run_for(5.0)
    assert swarm.events[swarm.address_of(node)] == []
    assert node.operation_count == 0


def test_a_node_without_contacts_sends_nothing_and_says_so() -> None:
    swarm = Swarm()
    node = swarm.new_node()
    assert swarm.get(node, ITEM.target, KEY).verdict is Verdict.NO_CONTACTS
    swarm.run_for(3600.0)
    assert swarm.trace == []


def test_requests_in_flight_are_bounded_and_all_gets_end() -> None:
    swarm = swarm_of(40)
    node = nodes_of(swarm)[0]
    address = swarm.address_of(node)
    swarm.events[address].clear()
    for number in range(100):
        node.start_get(Wanted(random.Random(number).randbytes(20)), swarm.now)
        assert node.in_flight_count <= REQUESTS_IN_FLIGHT_MAX
    swarm.run_until(lambda: len(swarm.events[address]) == 100)
    assert node.in_flight_count == 0


# Determinism


def test_the_same_seed_is_the_same_history() -> None:
    def history(seed: int) -> list[tuple[Address, Address, int]]:
        swarm = swarm_of(25, seed)
        swarm.put(nodes_of(swarm)[0], ITEM)
        for node in swarm.rng.sample(nodes_of(swarm), 8):
            swarm.kill(node)
        swarm.get(cold(swarm, ITEM.target), ITEM.target, KEY)
        return swarm.trace

    assert history(5) == history(5)
    assert history(5) != history(6)


# Strangers


def query(request: krpc.Request, *, node_id: bytes = b"\x77" * 20, network: bytes | None = NETWORK) -> bytes:
    """Return a stranger's query."""
    return compose(krpc.RequestMessage(transaction=b"tttt", node_id=node_id, request=request, network=network))


def ask(node: Node, data: bytes, now: float, source: Address = STRANGER) -> krpc.Message | None:
    """Return what a node answers to a datagram; pings of newcomers left out."""
    node.datagrams_to_send(now)
    node.receive_datagram(data, source, now)
    answers = [parse(out) for out, target in node.datagrams_to_send(now) if target == source]
    return next((answer for answer in answers if not isinstance(answer, krpc.RequestMessage)), None)


def test_ping_and_find_node_are_answered_with_our_id_and_the_askers_address() -> None:
    swarm = swarm_of(10)
    node = nodes_of(swarm)[0]
    pong = ask(node, query(krpc.Ping()), swarm.now)
    assert isinstance(pong, krpc.Reply)
    assert (pong.node_id, pong.ip, pong.transaction, pong.network) == (node.node_id, STRANGER, b"tttt", NETWORK)
    found = ask(node, query(krpc.FindNode(ITEM.target)), swarm.now)
    assert isinstance(found, krpc.Reply)
    nearest = sorted(nodes_of(swarm)[1:], key=lambda other: distance(other.node_id, ITEM.target))
    assert [contact.node_id for contact in found.nodes] == [other.node_id for other in nearest[: len(found.nodes)]]
    assert len(found.nodes) >= 8


def test_a_node_alone_answers_with_nothing_but_itself() -> None:
    swarm = Swarm()
    node = swarm.new_node()
    found = ask(node, query(krpc.FindNode(ITEM.target)), swarm.now)
    assert isinstance(found, krpc.Reply)
    assert found.nodes == ()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 32])
def test_transactions_of_any_length_are_echoed(size: int) -> None:
    swarm = Swarm()
    message = krpc.RequestMessage(transaction=b"x" * size, node_id=b"\x77" * 20, request=krpc.Ping(), network=NETWORK)
    pong = ask(swarm.new_node(), compose(message), swarm.now)
    assert pong is not None
    assert pong.transaction == b"x" * size


def put_of(item: MutableItem, token: bytes) -> krpc.PutMutable:
    """Return the request that puts an item."""
    return krpc.PutMutable(item.key.raw, item.seq, bencode.encode(item.value), item.signature, token)


def test_a_put_needs_the_token_of_its_address_and_target() -> None:
    swarm = Swarm()
    node = swarm.new_node()
    got = ask(node, query(krpc.Get(ITEM.target)), swarm.now)
    assert isinstance(got, krpc.Reply)
    assert got.token is not None
    other: Address = ("127.0.0.1", 4_001)
    refused = ask(node, query(put_of(ITEM, got.token)), swarm.now, other)
    assert isinstance(refused, krpc.Error)
    assert refused.code == 203
    another = ask(node, query(put_of(item_of(2), got.token)), swarm.now)
    assert isinstance(another, krpc.Error)
    assert isinstance(ask(node, query(put_of(ITEM, got.token)), swarm.now), krpc.Reply)
    assert node.storage.held(ITEM.target, swarm.now) is not None


def test_a_node_that_keeps_nothing_gives_no_token_and_refuses_puts() -> None:
    swarm = Swarm()
    node = swarm.new_node(store=False)
    got = ask(node, query(krpc.Get(ITEM.target)), swarm.now)
    assert isinstance(got, krpc.Reply)
    assert got.token is None
    refused = ask(node, query(put_of(ITEM, b"token")), swarm.now)
    assert isinstance(refused, krpc.Error)
    assert refused.code == 202


def test_a_reply_with_a_value_fits_an_unfragmented_datagram() -> None:
    swarm = swarm_of(30)
    node = nodes_of(swarm)[0]
    large = MutableItem.signed(secret_of(1), ITEM.seq, b"x" * 940)
    node.storage.put_own(large, swarm.now)
    padded = query(krpc.Get(large.target, pad_bytes=400))
    reply = ask(node, padded, swarm.now)
    assert isinstance(reply, krpc.Reply)
    assert len(compose(reply)) <= 1232
    assert reply.value is not None
    assert len(reply.nodes) >= 2


def test_unpadded_gets_of_a_forged_address_stop_drawing_values() -> None:
    swarm = swarm_of(30)
    node = nodes_of(swarm)[0]
    large = MutableItem.signed(secret_of(1), ITEM.seq, b"x" * 940)
    node.storage.put_own(large, swarm.now)
    data = query(krpc.Get(large.target))
    node.datagrams_to_send(swarm.now)
    for _ in range(1000):
        node.receive_datagram(data, STRANGER, swarm.now)
    sent = sum(len(out) for out, target in node.datagrams_to_send(swarm.now) if target == STRANGER)
    # Two values, which a prefix may have in a second, and the ping that all the other replies wait for.
    assert sent < 3_000
    assert node.counters["reply-held"] > 900


def test_unknown_methods_get_nodes_for_a_target_and_an_error_without() -> None:
    swarm = swarm_of(10)
    node = nodes_of(swarm)[0]
    found = ask(node, query(krpc.Unknown(b"vote", ITEM.target)), swarm.now)
    assert isinstance(found, krpc.Reply)
    assert found.nodes
    error = ask(node, query(krpc.Unknown(b"vote", None)), swarm.now)
    assert isinstance(error, krpc.Error)
    assert error.code == 204


def test_a_malformed_query_is_told_so_and_other_garbage_is_dropped_and_counted() -> None:
    swarm = Swarm()
    node = swarm.new_node()
    bad = bencode.encode({b"t": b"tt", b"y": b"q", b"q": b"get", b"a": {b"id": b"short"}, b"nw": NETWORK})
    error = ask(node, bad, swarm.now)
    assert isinstance(error, krpc.Error)
    assert error.code == 203
    for garbage in (b"", b"d", b"de", b"l" * 2000, b"\xff" * 100, b"i1e"):
        assert ask(node, garbage, swarm.now) is None
    assert sum(count for reason, count in node.counters.items() if reason.startswith("dropped-")) == 7


@pytest.mark.parametrize("network", [None, b"x" * 8])
def test_messages_of_another_network_are_dropped(network: bytes | None) -> None:
    swarm = Swarm()
    node = swarm.new_node()
    assert ask(node, query(krpc.Ping(), network=network), swarm.now) is None
    assert node.counters["dropped-other-network"] == 1


@pytest.mark.parametrize("name", ["mainline", "unnamed"])
def test_mainlines_wire_has_no_network_and_eight_contacts(name: str) -> None:
    swarm = Swarm(network=name)
    swarm.grow(30)
    node = nodes_of(swarm)[0]
    found = ask(node, query(krpc.FindNode(ITEM.target), network=None), swarm.now)
    assert isinstance(found, krpc.Reply)
    assert found.network is None
    assert 7 <= len(found.nodes) <= 8
    assert ask(node, query(krpc.Ping()), swarm.now) is None
    swarm.put(nodes_of(swarm)[1], ITEM)
    assert swarm.get(cold(swarm, ITEM.target), ITEM.target, KEY).item == ITEM


def test_peers_are_announced_in_mainline_and_not_in_a_named_network() -> None:
    swarm = Swarm(network="unnamed")
    node = swarm.new_node()
    info_hash = b"\x42" * 20
    first = ask(node, query(krpc.GetPeers(info_hash), network=None), swarm.now)
    assert isinstance(first, krpc.Reply)
    assert first.peers is None
    forged = query(krpc.AnnouncePeer(info_hash, 99, b"token"), network=None)
    assert isinstance(ask(node, forged, swarm.now), krpc.Error)
    announce = query(krpc.AnnouncePeer(info_hash, None, first.token or b""), network=None)
    assert isinstance(ask(node, announce, swarm.now), krpc.Reply)
    second = ask(node, query(krpc.GetPeers(info_hash), network=None), swarm.now)
    assert isinstance(second, krpc.Reply)
    assert second.peers == (STRANGER,)
    named = Swarm().new_node()
    error = ask(named, query(krpc.AnnouncePeer(info_hash, 99, b"token")), swarm.now)
    assert isinstance(error, krpc.Error)
    assert error.code == 204


def test_announced_peers_are_bounded_and_expire() -> None:
    store = PeerStore()
    for number in range(HASHES_MAX + 50):
        store.announce(number.to_bytes(20), STRANGER, 1.0)
    for port in range(1, PEERS_MAX + 50):
        store.announce(b"\x01" * 20, ("127.0.0.1", port), 2.0)
    assert len(store) == HASHES_MAX
    assert store.peers(b"\x01" * 20, 3.0)[0] == ("127.0.0.1", PEERS_MAX + 49)
    assert store.peers(b"\x01" * 20, 3.0 + PEER_S) == ()


def test_a_peer_is_told_as_long_as_its_own_announcement_lasts() -> None:
    store = PeerStore()
    store.announce(b"\x01" * 20, STRANGER, 1.0)
    store.announce(b"\x01" * 20, ("127.0.0.1", 99), 2.0)
    assert store.peers(b"\x01" * 20, 1.0 + PEER_S) == (("127.0.0.1", 99), STRANGER)
    assert store.peers(b"\x01" * 20, 2.0 + PEER_S) == (("127.0.0.1", 99),)


def test_a_read_only_node_answers_nobody_and_says_ro() -> None:
    swarm = swarm_of(2)
    node = swarm.new_node(read_only=True)
    assert ask(node, query(krpc.Ping()), swarm.now) is None
    node.add_bootstrap([next(iter(swarm.nodes))], swarm.now)
    sent = parse(node.datagrams_to_send(swarm.now)[0][0])
    assert isinstance(sent, krpc.RequestMessage)
    assert sent.read_only
    assert node.read_only_reason == "the settings say so"


@pytest.mark.parametrize("seq", [None, 7])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("network", ["unnamed", "test"])
def test_each_get_of_ours_is_known_as_such(seq: int | None, host: str, network: str) -> None:
    # By pad or token; a node that may not send a value is silent to a get that has neither.
    node = Node(
        node_id=None,
        network=network,
        entropy=random.Random(1).randbytes,
        storage=Storage(),
        settings=NodeSettings(bind_host=host, read_only=True),
        now=1_000.0,
    )
    acquaint(node, krpc.NodeInfo(b"\x55" * 20, (host, 6881)), 0.01, 1_000.0)
    node.start_get(Wanted(b"t" * 20, known_seq=seq), 1_000.0)
    ((data, _),) = node.datagrams_to_send(1_000.0)
    asked = parse(data)
    assert isinstance(asked, krpc.RequestMessage)
    assert isinstance(asked.request, krpc.Get)
    assert (asked.request.seq, asked.request.pad_bytes > 0) == (seq, True)


# Who enters the table


def test_a_stranger_enters_the_table_only_after_it_answered() -> None:
    swarm = swarm_of(3)
    node = nodes_of(swarm)[0]
    node.receive_datagram(query(krpc.Ping()), STRANGER, swarm.now)
    assert node.contact_count == 2
    pings = [parse(data) for data, target in node.datagrams_to_send(swarm.now) if target == STRANGER]
    ping = next(message for message in pings if isinstance(message, krpc.RequestMessage))
    wrong_id = krpc.Reply(transaction=ping.transaction, node_id=b"\x78" * 20, network=NETWORK)
    node.receive_datagram(compose(wrong_id), STRANGER, swarm.now)
    assert node.contact_count == 2
    right = krpc.Reply(transaction=ping.transaction, node_id=b"\x77" * 20, network=NETWORK)
    node.receive_datagram(compose(right), ("127.0.0.1", 4_001), swarm.now)
    assert node.contact_count == 2
    node.receive_datagram(compose(right), STRANGER, swarm.now)
    assert node.contact_count == 3


@pytest.mark.parametrize("is_proven", [False, True])
def test_newcomers_are_asked_back_at_a_bounded_rate(is_proven: bool) -> None:
    swarm = Swarm()
    node = swarm.new_node()
    for number in range(500):
        node_id = random.Random(number).randbytes(20)
        source = ("127.0.0.1", 20_000 + number)
        if is_proven:
            # No budget for replies holds these back.
            prove(node, source, swarm.now)
        node.receive_datagram(query(krpc.Ping(), node_id=node_id), source, swarm.now)
    queries = [data for data, _ in node.datagrams_to_send(swarm.now) if isinstance(parse(data), krpc.RequestMessage)]
    assert len(queries) <= QUARANTINE_MAX
    assert node.contact_count == 0


def hostile_replies(
    request: krpc.RequestMessage, victim: Node, rng: random.Random
) -> list[tuple[bytes, Address | None]]:
    """Return answers to a request that must change nothing: datagrams, and the address they come from."""
    good = {"transaction": request.transaction, "node_id": b"\x66" * 20, "network": NETWORK}
    contacts = (krpc.NodeInfo(b"\x65" * 20, ("127.0.0.1", 6_500)),)

    def reply(**changes: object) -> bytes:
        return compose(krpc.Reply(**(good | {"nodes": contacts} | changes)))  # type: ignore[arg-type]

    return [
        (reply(transaction=rng.randbytes(4)), None),
        (reply(), ("127.0.0.1", 6_666)),
        (reply(node_id=b"\x64" * 20), None),
        (reply(node_id=victim.node_id), None),
        (reply(network=None), None),
        (reply(network=b"another!"), None),
        (reply()[:-1], None),
        (reply() + b"e", None),
        (reply().replace(b"5:nodes26:", b"5:nodes25:"), None),
        (compose(krpc.Reply(**(good | {"value": b"1500:" + bytes(1500)}))), ("127.0.0.1", 6_667)),  # type: ignore[arg-type]
    ]


def test_hostile_replies_leave_the_table_unchanged() -> None:
    swarm = Swarm()
    node = swarm.new_node()
    liar: Address = ("127.0.0.1", 6_600)
    node.restore_contacts([], swarm.now)
    # Make the liar a contact, honestly.
    node.receive_datagram(query(krpc.Ping(), node_id=b"\x66" * 20), liar, swarm.now)
    sent = [parse(data) for data, _ in node.datagrams_to_send(swarm.now)]
    ping = next(message for message in sent if isinstance(message, krpc.RequestMessage))
    pong = krpc.Reply(transaction=ping.transaction, node_id=b"\x66" * 20, network=NETWORK)
    node.receive_datagram(compose(pong), liar, swarm.now)
    assert node.contact_count == 1
    before = [contact.node_id for contact in node.contacts(swarm.now)]
    node.start_get(Wanted(ITEM.target, KEY), swarm.now)
    request = parse(node.datagrams_to_send(swarm.now)[0][0])
    assert isinstance(request, krpc.RequestMessage)
    for data, source in hostile_replies(request, node, random.Random(1)):
        dropped = sum(count for reason, count in node.counters.items() if reason.startswith("dropped-"))
        node.receive_datagram(data, source or liar, swarm.now)
        now_dropped = sum(count for reason, count in node.counters.items() if reason.startswith("dropped-"))
        assert now_dropped == dropped + 1, "a datagram was dropped without being counted"
        assert node.datagrams_to_send(swarm.now) == []
        assert [contact.node_id for contact in node.contacts(swarm.now)] == before


def test_a_way_in_that_leads_to_ourselves_is_none() -> None:
    """Of an address named by hand the id is not known, and it may well be our own."""
    node = Swarm().new_node()
    node.add_bootstrap([STRANGER], 1000.0)
    request = parse(node.datagrams_to_send(1000.0)[0][0])
    ourselves = krpc.Reply(transaction=request.transaction, node_id=node.node_id, network=NETWORK)
    node.receive_datagram(compose(ourselves), STRANGER, 1000.0)
    assert node.counters["dropped-own-id"] == 1
    node.handle_timer(1010.0)
    assert not node.has_joined


def test_useless_contacts_in_a_reply_are_not_asked() -> None:
    swarm = swarm_of(2)
    node = nodes_of(swarm)[0]
    other = swarm.address_of(nodes_of(swarm)[1])
    node.start_find(ITEM.target, swarm.now)
    request = parse(node.datagrams_to_send(swarm.now)[0][0])
    useless = (
        krpc.NodeInfo(node.node_id, ("127.0.0.1", 1)),
        krpc.NodeInfo(b"\x01" * 20, ("8.8.8.8", 53)),
        krpc.NodeInfo(b"\x02" * 20, ("224.0.0.1", 53)),
        krpc.NodeInfo(b"\x03" * 20, ("192.0.2.1", 53)),
        krpc.NodeInfo(nodes_of(swarm)[1].node_id, other),
    )
    reply = krpc.Reply(
        transaction=request.transaction, node_id=nodes_of(swarm)[1].node_id, nodes=useless, network=NETWORK
    )
    node.receive_datagram(compose(reply), other, swarm.now)
    assert node.datagrams_to_send(swarm.now) == [], "a node bound to loopback can reach nobody else"
    assert node.contact_count == 1


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([STRANGER, ("0.0.0.0", 5), ("255.255.255.255", 1), ("1.2.3.4", 0)]))
def test_no_datagram_raises(data: bytes, source: Address) -> None:
    node = Swarm().new_node()
    node.receive_datagram(data, source, 1000.0)


def test_mutated_datagrams_of_a_real_swarm_are_answered_or_counted() -> None:
    swarm = swarm_of(6)
    swarm.put(nodes_of(swarm)[0], ITEM)
    swarm.get(nodes_of(swarm)[3], ITEM.target, KEY)
    corpus = [entry for entries in swarm.seen.values() for entry in entries]
    rng = random.Random(11)
    node = nodes_of(swarm)[2]
    before = node.contact_count
    for _ in range(5_000):
        data, source = rng.choice(corpus)
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        node.receive_datagram(bytes(changed[: rng.randrange(len(changed)) + 1]), source, swarm.now)
        node.datagrams_to_send(swarm.now)
    assert node.contact_count == before


# Joining and staying


def test_a_node_joins_by_one_living_address_among_dead_ones() -> None:
    swarm = swarm_of(10)
    node = swarm.new_node()
    dead: list[Address] = [("127.0.0.1", port) for port in range(1, 40)]
    node.add_bootstrap([*dead, next(iter(swarm.nodes))], swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    assert node.contact_count == 10


def test_bootstrap_contacts_that_come_late_are_found() -> None:
    swarm = Swarm()
    node = swarm.new_node()
    node.add_bootstrap([("127.0.0.1", 10_001)], swarm.now)
    swarm.run_for(60.0)
    assert node.contact_count == 0
    swarm.new_node()
    swarm.run_until(lambda: swarm.took(node, Joined) is not None, limit_s=120.0)


def test_saved_contacts_bring_a_node_back_without_bootstrap() -> None:
    swarm = swarm_of(20)
    old = nodes_of(swarm)[0]
    swarm.run_for(100.0)
    saved = old.contacts(swarm.now)
    node = swarm.new_node()
    node.restore_contacts(saved, swarm.now)
    assert node.contact_count == 0, "they enter when they answer"
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    swarm.run_until(lambda: not node.operation_count)
    assert node.contact_count == 20
    assert max(contact.known_s for contact in node.contacts(swarm.now)) > 100.0


def test_saved_contacts_elsewhere_than_we_can_reach_are_left_out() -> None:
    node = Swarm().new_node()
    node.restore_contacts([SavedContact(b"\x01" * 20, ("8.8.8.8", 53)), SavedContact(b"\x02" * 20, ("::1", 9))], 1000.0)
    node.add_bootstrap([("9.9.9.9", 53), ("127.0.0.1", 0)], 1000.0)
    assert node.datagrams_to_send(1000.0) == []


def test_two_networks_that_share_a_contact_do_not_merge() -> None:
    swarm = swarm_of(5)
    other = Swarm(network="another").new_node()
    other.add_bootstrap(list(swarm.nodes), swarm.now)
    for data, target in other.datagrams_to_send(swarm.now):
        swarm.inject(data, ("127.0.0.1", 9_999), target)
    swarm.run_for(1.0)
    assert all(node.contact_count == 4 for node in nodes_of(swarm))
    assert ("127.0.0.1", 9_999) not in swarm.seen


def test_an_idle_node_sends_at_most_twenty_queries_a_minute_and_keeps_its_contacts() -> None:
    swarm = swarm_of(30)
    before = {node.node_id: node.contact_count for node in nodes_of(swarm)}
    swarm.seen.clear()
    swarm.run_for(3600.0)
    asked: dict[Address, int] = {}
    for entries in swarm.seen.values():
        for data, source in entries:
            if isinstance(parse(data), krpc.RequestMessage):
                asked[source] = asked.get(source, 0) + 1
    assert max(asked.values()) <= 20 * 60
    assert min(asked.values()) > 0
    assert all(node.contact_count >= before[node.node_id] for node in nodes_of(swarm))


def test_two_halves_find_each_other_after_a_partition() -> None:
    swarm = swarm_of(12)
    west = list(swarm.nodes)[:6]
    swarm.is_lost = lambda data, source, target: (source in west) != (target in west)
    for _ in range(6):
        for node in nodes_of(swarm):
            swarm.get(node, ITEM.target, KEY)
    assert all(node.contact_count == 5 for node in nodes_of(swarm))
    newer = item_of(1, ITEM.seq + 1, b"newer")
    swarm.put(nodes_of(swarm)[0], newer)
    swarm.is_lost = lambda data, source, target: False
    swarm.run_until(lambda: all(node.contact_count == 11 for node in nodes_of(swarm)), limit_s=600.0)
    assert swarm.get(nodes_of(swarm)[11], ITEM.target, KEY).item == newer


def test_refinement_keeps_a_share_of_the_room_beside_a_flood_of_absent_keys() -> None:
    swarm = swarm_of(60)
    swarm.put(nodes_of(swarm)[0], ITEM)
    node = cold(swarm, ITEM.target)
    address = swarm.address_of(node)

    def flood(number: int) -> None:
        node.start_get(Wanted(random.Random(number).randbytes(20)), swarm.now)

    wanted = node.start_get(Wanted(ITEM.target, KEY), swarm.now)
    for number in range(400):
        flood(number)
    swarm.run_until(lambda: any(getattr(event, "operation", None) == wanted for event in swarm.events[address]))
    done: list[int] = []

    def is_done() -> bool:
        done[:] = [event.operation for event in swarm.events[address] if isinstance(event, GetDone)]
        assert len(done) < 20, "it ends long before the flood does"
        return wanted in done

    swarm.run_until(is_done)


# Reachability


def public_node() -> Node:
    """Return a node bound to every address, as on the public network."""
    return Node(
        node_id=None,
        network="unnamed",
        entropy=random.Random(3).randbytes,
        storage=Storage(),
        settings=NodeSettings(),
        now=0.0,
    )


def voters_of(node: Node, *contacts: Address) -> dict[Address, bytes]:
    """Have a node ask these contacts; return the transactions."""
    node.add_bootstrap(contacts, 0.0)
    return {target: parse(data).transaction for data, target in node.datagrams_to_send(0.0)}


def vote(node: Node, voters: dict[Address, bytes], contact: Address, ours: Address) -> None:
    """Have a contact answer and tell the node where it sees it."""
    node_id = random.Random(contact[0]).randbytes(20)
    reply = krpc.Reply(transaction=voters[contact], node_id=node_id, ip=ours)
    node.receive_datagram(compose(reply), contact, 0.01)


def test_a_public_node_is_read_only_until_three_prefixes_agree_and_a_stranger_came() -> None:
    node = public_node()
    ours: Address = ("93.184.216.34", 6881)
    assert node.is_read_only
    contacts: list[Address] = [(host, 6881) for host in ("8.8.8.8", "8.8.8.9", "9.9.9.9", "1.1.1.1")]
    voters = voters_of(node, *contacts)
    for contact in contacts[:3]:
        vote(node, voters, contact, ours)
    assert node.address is None, "two of the three are one prefix"
    vote(node, voters, contacts[3], ours)
    assert node.address == ours
    assert node.is_read_only
    assert "no query" in node.read_only_reason
    node.receive_datagram(query(krpc.Ping(), network=None), ("5.5.5.5", 1), 0.02)
    assert not node.is_read_only
    assert "queries of strangers arrive" in node.read_only_reason


def test_in_private_space_one_contact_is_enough() -> None:
    node = public_node()
    neighbour: Address = ("192.168.1.5", 6881)
    vote(node, voters_of(node, neighbour), neighbour, ("192.168.1.2", 6881))
    assert not node.is_read_only


def test_a_public_contact_cannot_tell_us_that_we_are_private() -> None:
    node = public_node()
    contact: Address = ("8.8.8.8", 6881)
    vote(node, voters_of(node, contact), contact, ("192.168.1.2", 6881))
    assert node.address is None
    assert node.is_read_only


def test_an_ipv6_node_speaks_nodes6() -> None:
    swarm = Swarm()
    first, second, third = (swarm.new_node("::1") for _ in range(3))
    for node in (second, third):
        node.add_bootstrap([swarm.address_of(first)], swarm.now)
    swarm.run_until(lambda: third.contact_count == 2 and second.contact_count == 2)
    swarm.put(second, ITEM)
    assert swarm.get(third, ITEM.target, KEY).item == ITEM


def test_peers_are_told_with_the_last_to_answer_first() -> None:
    swarm = swarm_of(6)
    node = nodes_of(swarm)[0]
    peers = node.peers(swarm.now)
    assert {(peer.node_id, peer.address) for peer in peers} == {
        (one.node_id, one.address) for one in node.contacts(swarm.now)
    }
    assert [peer.silent_s for peer in peers] == sorted(peer.silent_s for peer in peers)
    assert all(peer.silent_s <= peer.known_s and peer.failures == 0 for peer in peers)


def test_the_target_that_is_wanted_is_that_of_the_key_and_the_salt() -> None:
    salted = MutableItem.signed(secret_of(1), 1, b"value", b"salt")
    assert Wanted(salted.target, salted.key, b"salt").target == salted.target
    with pytest.raises(AssertionError, match="another item"):
        Wanted(salted.target, salted.key)
