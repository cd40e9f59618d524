"""Look-ups of pinned items: the pinned value and no other, and no request after the reply that has it."""

from __future__ import annotations

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.machine import Node
from p2pdns.dns.name import Name
from p2pdns.items.item import MutableItem
from p2pdns.items.shards.pinned import Pinned, SaltLetter, pin_of
from tests.unit.dht.swarm import UNIX_NOW, Swarm, secret_of

SECRET = secret_of(1)
KEY = SECRET.zone_key
VALUE, OTHER = b"\0abcd the pinned value", b"\0abcd another value"
SEQ = int(UNIX_NOW * 1e6)
PINNED = Pinned(SaltLetter.SHARD, Name.read("example."), 1, 3, pin_of(VALUE), 5)
TARGET = PINNED.target(KEY)


def item(value: bytes = VALUE, seq: int = SEQ) -> MutableItem:
    """Return an item under the salt of the pin, with any value."""
    return MutableItem.signed(SECRET, seq, value, PINNED.salt)


def swarm_of(count: int) -> tuple[Swarm, list[Node]]:
    """Return a swarm that has settled, and its nodes."""
    swarm = Swarm(3)
    swarm.grow(count)
    return swarm, list(swarm.nodes.values())


def cold(swarm: Swarm) -> Node:
    """Return a node that does not hold the target."""
    return next(node for node in swarm.nodes.values() if node.storage.held(TARGET, swarm.now) is None)


def test_a_look_up_of_a_pinned_item_ends_at_its_first_valid_reply() -> None:
    swarm, nodes = swarm_of(40)
    swarm.put(nodes[0], item())
    reader = cold(swarm)
    whole = swarm.get(reader, TARGET, KEY, salt=PINNED.salt)
    pinned = swarm.get(reader, TARGET, KEY, salt=PINNED.salt, pinned=PINNED)
    assert (pinned.item, pinned.verdict) == (item(), Verdict.FOUND)
    # Those that were asked together with the first are counted; nobody is asked afterwards.
    assert pinned.rpc_count == pinned.rpcs_to_first
    assert pinned.rpc_count < whole.rpc_count / 2


def test_the_pinned_value_is_found_whatever_the_seqs_of_others_are() -> None:
    swarm, nodes = swarm_of(12)
    reader = nodes[0]
    for number, node in enumerate(nodes[1:]):
        newer = item(OTHER, SEQ + number) if number != 5 else item(seq=SEQ - 10)
        node.storage.put_own(newer, swarm.now)
    outcome = swarm.get(reader, TARGET, KEY, salt=PINNED.salt, pinned=PINNED)
    assert outcome.item == item(seq=SEQ - 10)
    assert swarm.found_items(reader) == [item(seq=SEQ - 10)]


def test_another_value_under_the_salt_is_counted_and_never_handed_out() -> None:
    swarm, nodes = swarm_of(8)
    for node in nodes:
        node.storage.put_own(item(OTHER), swarm.now)
    outcome = swarm.get(nodes[0], TARGET, KEY, salt=PINNED.salt, pinned=PINNED)
    assert outcome.item is None
    # One of them lies in the node's own storage.
    assert outcome.dropped["pin-wrong"] == len(nodes)
    assert outcome.confirmation.copies_of(SEQ) == 0
    assert swarm.found_items(nodes[0]) == []


def test_a_pinned_item_in_our_own_storage_costs_no_request() -> None:
    swarm, nodes = swarm_of(8)
    nodes[0].storage.put_own(item(), swarm.now)
    outcome = swarm.get(nodes[0], TARGET, KEY, salt=PINNED.salt, pinned=PINNED)
    assert (outcome.item, outcome.rpc_count, outcome.verdict) == (item(), 0, Verdict.FOUND)
    assert not nodes[0].operation_count
