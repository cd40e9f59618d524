"""What a publisher asks of its node: every version that others hold, puts that replace only what it has seen."""

from __future__ import annotations

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.lookup.width import ALPHA_FIRST
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.storing import cas_for
from p2pdns.items.item import MutableItem
from tests.unit.dht.swarm import Swarm, item_of, nearest_of

OLD = item_of(1)
NEW = item_of(1, OLD.seq + 5, b"newer")
NEXT = item_of(1, OLD.seq + 9, b"next")


def swarm_with(held: dict[int, MutableItem], count: int = 8) -> tuple[Swarm, list[Node]]:
    """Return a settled swarm in which some nodes, by number, hold items of one key."""
    swarm = Swarm(1)
    swarm.grow(count)
    nodes = list(swarm.nodes.values())
    for number, item in held.items():
        nodes[number].storage.put_own(item, swarm.now)
    return swarm, nodes


def versions(swarm: Swarm, node: Node, **more: object) -> dict[bytes, int]:
    """Return how many contacts have returned each value."""
    outcome = swarm.get(node, OLD.target, OLD.key, wants_copies=True, **more)  # type: ignore[arg-type]
    values = [item.value for item in outcome.copies.values()]
    return {value: values.count(value) for value in values}


def test_each_contact_returns_what_it_holds_though_others_hold_something_newer() -> None:
    swarm, nodes = swarm_with({1: NEW, 2: OLD, 3: OLD, 4: NEW, 5: OLD})
    assert versions(swarm, nodes[0]) == {OLD.value: 3, NEW.value: 2}
    # A look-up for readers asks for nothing older than it has.
    assert swarm.get(nodes[0], OLD.target, OLD.key).copies == {}
    swarm, nodes = swarm_with({0: NEW, **dict.fromkeys(range(1, 25), OLD)}, 25)
    # Our own storage has the newest one from the start.
    assert versions(swarm, nodes[0]) == {OLD.value: 20}


def test_a_put_takes_the_place_of_each_version_that_was_named_and_of_no_other() -> None:
    swarm, nodes = swarm_with({1: NEW, 2: OLD, 3: OLD})
    outcome = swarm.put(nodes[0], NEXT, cas=(OLD.seq,))
    assert (outcome.stored_count, outcome.refused) == (6, {301: 1})
    assert outcome.held_at == (swarm.address_of(nodes[1]),)
    assert nodes[1].storage.held(OLD.target, swarm.now) is not None
    assert versions(swarm, nodes[0]) == {NEXT.value: 6, NEW.value: 1}
    last = item_of(1, OLD.seq + 12, b"last")
    assert swarm.put(nodes[0], last, cas=(NEW.seq, NEXT.seq)).stored_count == 7


def test_each_node_is_told_the_cas_that_it_has_named_and_one_without_an_item_the_highest() -> None:
    swarm, nodes = swarm_with({1: NEW, 2: OLD}, 4)
    told: dict[int | None, int] = {}

    def watched(data: bytes, *_: object) -> bool:
        message = parse(data)
        if isinstance(message, krpc.RequestMessage) and isinstance(message.request, krpc.PutMutable):
            told[message.request.cas] = told.get(message.request.cas, 0) + 1
        return False

    swarm.is_lost = watched
    swarm.put(nodes[0], NEXT, cas=(OLD.seq, NEW.seq))
    assert told == {NEW.seq: 2, OLD.seq: 1}
    assert cas_for((), None) == 0


def test_a_first_publication_replaces_nothing_that_came_meanwhile() -> None:
    swarm, nodes = swarm_with({1: OLD}, 4)
    outcome = swarm.put(nodes[0], NEXT, cas=())
    assert (outcome.stored_count, outcome.refused) == (2, {301: 1})


def test_a_second_look_begins_at_contacts_that_the_first_has_not_asked_and_else_at_the_same() -> None:
    swarm, nodes = swarm_with({}, 60)
    put = swarm.put(nodes[0], OLD)
    avoided = frozenset(put.asked)
    others = [peer.address for peer in nodes[0].peers(swarm.now) if peer.address not in avoided]
    assert others
    own = swarm.address_of(nodes[0])
    asked: list[object] = []

    def watched(data: bytes, source: object, target: object) -> bool:
        if source == own:
            asked.append(target)
        return False

    swarm.is_lost = watched
    assert versions(swarm, nodes[0], avoided=avoided) == {OLD.value: 20}
    first = asked[: min(ALPHA_FIRST, len(others))]
    assert set(first) <= set(others)
    everybody = frozenset(swarm.nodes)
    assert versions(swarm, nodes[0], avoided=everybody) == {OLD.value: 20}


def test_a_near_node_whose_reply_comes_after_two_timeouts_is_asked_to_keep_the_item_too() -> None:
    swarm, nodes = swarm_with({}, 60)
    ours = swarm.address_of(nodes[0])
    nearest = nearest_of(nodes[0], OLD.target, 22, swarm.now)
    near, far = nearest[0].address, nearest[21].address
    late: dict[Address, bytes] = {}
    is_putting = False

    def watched(data: bytes, source: Address, target: Address) -> bool:
        nonlocal is_putting
        message = parse(data)
        if isinstance(message, krpc.RequestMessage) and isinstance(message.request, krpc.PutMutable) and not is_putting:
            is_putting = True
            for address, reply in late.items():
                swarm.loop.call_soon(swarm.inject, reply, address, ours)
        if target == ours and source in (near, far) and isinstance(message, krpc.Reply) and not is_putting:
            late[source] = data
            return True
        return False

    swarm.is_lost = watched
    outcome = swarm.put(nodes[0], OLD)
    # The one that is farther than the twenty that answered is not needed.
    assert (outcome.sent_count, outcome.stored_count, sorted(late)) == (21, 21, sorted([near, far]))
    assert nodes[0].counters["put-to-the-late"] == 1
    assert outcome.others == (21, 21)
    assert swarm.nodes[near].storage.held(OLD.target, swarm.now) is not None
    assert swarm.nodes[far].storage.held(OLD.target, swarm.now) is None
