"""What a node does unasked: little, at a steady rate; and whom it asks first when it comes back."""

from __future__ import annotations

from collections import Counter

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose_error
from p2pdns.dht.node.bootstrap import BOOTSTRAP_AT_ONCE, BOOTSTRAP_MAX, dead_contacts_gone_s
from p2pdns.dht.node.values import Joined
from p2pdns.dht.routing.contact import SavedContact
from tests.unit.dht.swarm import Swarm

QUERIES_A_MINUTE_MAX = 20


def queries_a_minute(far_sizes: tuple[int, ...]) -> Counter[tuple[Address, int]]:
    """Return how many queries each of 50 idle nodes sends in each of 30 minutes."""
    swarm = Swarm(3, far_sizes=far_sizes)
    swarm.grow(50)
    # Two rounds of refresh: until then nodes still meet each other for the first time.
    swarm.run_for(2_400.0)
    sent: Counter[tuple[Address, int]] = Counter()

    def note(data: bytes, source: Address, target: Address) -> bool:
        if isinstance(parse(data), krpc.RequestMessage):
            sent[source, int(swarm.now // 60)] += 1
        return False

    swarm.is_lost = note
    swarm.run_for(1_800.0)
    assert len({source for source, _ in sent}) == 50, "everybody does something"
    return sent


def test_an_idle_node_sends_at_most_twenty_queries_in_any_minute() -> None:
    assert max(queries_a_minute(()).values()) <= QUERIES_A_MINUTE_MAX


def test_with_larger_far_buckets_it_is_at_most_twenty_a_minute_on_average() -> None:
    assert queries_a_minute((40, 30)).total() <= QUERIES_A_MINUTE_MAX * 50 * 30


def test_addresses_named_by_hand_are_asked_before_hundreds_of_dead_saved_ones() -> None:
    swarm = Swarm()
    living = swarm.new_node()
    node = swarm.new_node()
    dead = [SavedContact(bytes([n]) * 20, ("127.0.0.1", 20_000 + n)) for n in range(256)]
    node.restore_contacts(dead, swarm.now)
    node.add_bootstrap([swarm.address_of(living)], swarm.now)
    first = [target for _, target in node.datagrams_to_send(swarm.now)]
    assert first.index(swarm.address_of(living)) == BOOTSTRAP_AT_ONCE
    assert len(first) <= 2 * BOOTSTRAP_AT_ONCE


def test_saved_contacts_leave_room_for_addresses_that_are_named_later() -> None:
    swarm = Swarm()
    living = swarm.new_node()
    node = swarm.new_node()
    node.restore_contacts(
        [SavedContact(bytes([n]) * 20, ("127.0.0.1", 20_000 + n)) for n in range(BOOTSTRAP_MAX)], swarm.now
    )
    swarm.run_for(1.0)
    node.add_bootstrap([swarm.address_of(living)], swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    assert node.contact_count == 1


def test_contacts_of_the_other_family_take_no_place() -> None:
    swarm = Swarm()
    living = swarm.new_node()
    node = swarm.new_node()
    other_family = [SavedContact(bytes([n]) * 20, ("::1", 20_000 + n)) for n in range(256)]
    node.restore_contacts([*other_family, SavedContact(living.node_id, swarm.address_of(living))], swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    assert node.contact_count == 1


def test_when_the_network_comes_up_the_way_in_is_asked_at_once_however_long_it_was_away() -> None:
    swarm = Swarm()
    living, node = swarm.new_node(), swarm.new_node()
    is_up = False
    swarm.is_lost = lambda data, source, target: not is_up
    node.add_bootstrap([swarm.address_of(living)], swarm.now)
    swarm.run_for(3_000.0)
    is_up = True
    node.network_changed(swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None, limit_s=1.0)


def test_a_move_asks_the_contacts_that_had_gone_silent_in_one_round_at_most() -> None:
    swarm = Swarm()
    swarm.grow(40)
    node = next(iter(swarm.nodes.values()))
    away = [swarm.address_of(other) for other in list(swarm.nodes.values())[1:36]]
    swarm.is_lost = lambda data, source, target: target in away or source in away
    for number in range(6):
        node.start_find(bytes([number]) * 20, swarm.now)
        swarm.run_for(60.0)
    asked: list[Address] = []

    def note(data: bytes, source: Address, target: Address) -> bool:
        if source == swarm.address_of(node) and isinstance(parse(data), krpc.RequestMessage):
            asked.append(target)
        return True

    swarm.is_lost = note
    node.network_changed(swarm.now)
    swarm.run_for(0.01)
    assert set(asked) <= set(away)
    assert 1 <= len(asked) <= BOOTSTRAP_AT_ONCE


def test_a_way_in_that_refuses_late_is_asked_again_like_one_that_is_silent() -> None:
    swarm = Swarm()
    node = swarm.new_node()
    way_in: Address = ("127.0.0.1", 20_000)
    node.add_bootstrap([way_in], swarm.now)
    query = parse(node.datagrams_to_send(swarm.now)[0][0])
    now = swarm.now
    while node.in_flight_count or not node.counters["request-unanswered"]:
        now = node.get_timer() or now
        node.handle_timer(now)
    node.datagrams_to_send(now)
    error = krpc.Error(transaction=query.transaction, code=krpc.SERVER_ERROR, text="busy", network=query.network)
    node.receive_datagram(compose_error(error), way_in, now)
    assert node.counters[f"error-{krpc.SERVER_ERROR}"] == 1
    asked: list[Address] = []
    while not asked and now < swarm.now + 60.0:
        now = node.get_timer() or now
        node.handle_timer(now)
        asked = [target for _, target in node.datagrams_to_send(now)]
    assert asked == [way_in]


def test_an_idle_node_forgets_its_dead_contacts_in_the_time_that_is_stated() -> None:
    swarm = Swarm(7)
    swarm.grow(12)
    swarm.run_for(600.0)
    living, dead = list(swarm.nodes.values())[4:], list(swarm.nodes.values())[:4]
    for node in dead:
        swarm.kill(node)
    swarm.run_for(dead_contacts_gone_s(len(dead)))
    for node in living:
        assert {peer.node_id for peer in node.peers(swarm.now)} == {
            other.node_id for other in living if other is not node
        }


def test_an_idle_node_whose_network_is_down_for_hours_forgets_nobody() -> None:
    swarm = Swarm(7)
    swarm.grow(6)
    node = next(iter(swarm.nodes.values()))
    swarm.is_lost = lambda data, source, target: swarm.address_of(node) in (source, target)
    swarm.run_for(4 * 3_600.0)
    assert node.contact_count == 5
