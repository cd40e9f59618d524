"""Holders keep alive what their publisher left with them: in swarms, over days of virtual time."""

from __future__ import annotations

from p2pdns.addresses import Address
from p2pdns.dht.bencode import encode
from p2pdns.dht.krpc import PutImmutable, PutMutable
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.republish import (
    KEPT_BYTES_BURST,
    KEPT_BYTES_PER_SECOND,
    KEPT_S_MAX,
    LOOK_AFTER_S,
    LOOKERS,
    PUT_AFTER_S,
    SALTED_KEPT_S_MAX,
)
from p2pdns.dht.node.values import GetOutcome, Joined
from p2pdns.dht.routing.ids import distance
from p2pdns.dht.storage import RETENTION_S
from p2pdns.items.dividing import RENEWED_AFTER_S
from p2pdns.items.item import ImmutableItem, MutableItem
from tests.unit.dht.swarm import UNIX_NOW, Swarm, item_of, secret_of

DAY_S, HOUR_S = 86_400.0, 3_600.0
ITEM = item_of(1)
AFAR: Address = ("11.0.0.1", 6881)


def swarm_of(count: int, seed: int = 1) -> Swarm:
    """Return a settled swarm whose stores know what time it is."""
    swarm = Swarm(seed)
    swarm.grow(count)
    tell_time(swarm)
    return swarm


def tell_time(swarm: Swarm) -> None:
    """Tell every store the Unix time, as a save to the disk does."""
    for node in swarm.nodes.values():
        node.storage.take_changes(swarm.now, UNIX_NOW + swarm.now - 1_000.0)


def living(swarm: Swarm) -> list[Node]:
    """Return the nodes that were not killed."""
    return [node for address, node in swarm.nodes.items() if address not in swarm.dead]


def holders(swarm: Swarm, item: MutableItem | ImmutableItem = ITEM) -> list[Node]:
    """Return the living nodes that hold an item."""
    return [node for node in living(swarm) if node.storage.held(item.target, swarm.now) is not None]


def join(swarm: Swarm) -> Node:
    """Add a node that knows one living other."""
    known = [address for address in swarm.nodes if address not in swarm.dead]
    node = swarm.new_node()
    node.add_bootstrap([swarm.rng.choice(known)], swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    tell_time(swarm)
    return node


def get(swarm: Swarm, item: MutableItem) -> GetOutcome:
    """Look an item up from a node that asks others."""
    return swarm.get(living(swarm)[-1], item.target, item.key)


def counted(swarm: Swarm, word: str) -> int:
    """Return a counter of all nodes together."""
    return sum(node.counters[word] for node in swarm.nodes.values())


def place(node: Node, item: MutableItem | ImmutableItem, now: float, host: str = AFAR[0]) -> None:
    """Have a node keep an item as if somebody far away had put it there."""
    request: PutMutable | PutImmutable = PutImmutable(encode(item.value), b"")
    if isinstance(item, MutableItem):
        request = PutMutable(item.key.raw, item.seq, encode(item.value), item.signature, b"", item.salt)
    node.storage.put(request, (host, 6881), now, has_token=True)


def test_a_zone_outlives_a_week_without_its_publisher_and_every_node_that_it_was_put_to() -> None:
    swarm = swarm_of(5)
    publisher = living(swarm)[0]
    swarm.put(publisher, ITEM)
    first = holders(swarm)
    assert len(first) == 5
    swarm.kill(publisher)
    for _ in range(7):
        swarm.run_for(DAY_S)
        swarm.kill(living(swarm)[0])
        join(swarm)
    assert not [node for node in first if node in living(swarm)], "whoever heard of it from the publisher is gone"
    assert get(swarm, ITEM).item == ITEM


def test_eight_copies_are_enough_until_a_put_is_due_and_one_holder_puts_for_all() -> None:
    swarm = swarm_of(12)
    for node in living(swarm):
        place(node, ITEM, swarm.now)
    swarm.run_for(LOOK_AFTER_S + HOUR_S)
    assert counted(swarm, "keep-enough") == LOOKERS
    assert counted(swarm, "keep-put") == 0
    swarm.run_for(PUT_AFTER_S - LOOK_AFTER_S)
    assert counted(swarm, "keep-put") == 1
    assert counted(swarm, "keep-enough") == LOOKERS


def test_too_few_copies_are_put_again_at_the_first_look() -> None:
    swarm = swarm_of(12)
    for node in living(swarm)[:4]:
        place(node, ITEM, swarm.now)
    swarm.run_for(LOOK_AFTER_S + HOUR_S)
    assert counted(swarm, "keep-put") == 1
    assert len(holders(swarm)) == 12


def test_nothing_is_kept_for_longer_than_a_fortnight_after_its_seq_by_old_or_new_holders() -> None:
    swarm = swarm_of(3)
    old = item_of(1, int((UNIX_NOW - KEPT_S_MAX + DAY_S) * 1e6))
    for node in living(swarm):
        place(node, old, swarm.now)
    swarm.run_for(DAY_S / 2)
    join(swarm)
    swarm.run_for(DAY_S / 2)
    assert len(holders(swarm, old)) == 4, "it has one day left, and who came later holds it too"
    swarm.run_for(RETENTION_S + HOUR_S)
    assert holders(swarm, old) == []


def test_items_with_a_salt_are_kept_a_week_longer_because_a_newer_head_may_pin_them() -> None:
    assert SALTED_KEPT_S_MAX - KEPT_S_MAX == RENEWED_AFTER_S
    swarm = swarm_of(3)
    seq = int((UNIX_NOW - KEPT_S_MAX - 2 * DAY_S) * 1e6)
    shard = MutableItem.signed(secret_of(1), seq, b"shard", b"salt")
    ending = MutableItem.signed(secret_of(1), int((UNIX_NOW - SALTED_KEPT_S_MAX) * 1e6), b"shard", b"older")
    for node in living(swarm):
        place(node, shard, swarm.now)
        place(node, ending, swarm.now)
    swarm.run_for(RETENTION_S + HOUR_S)
    assert len(holders(swarm, shard)) == 3
    assert holders(swarm, ending) == []


def test_a_seq_that_is_no_time_counts_from_its_arrival() -> None:
    swarm = swarm_of(3)
    plain = item_of(1, 7)
    for node in living(swarm):
        place(node, plain, swarm.now)
    swarm.run_for(RETENTION_S + HOUR_S)
    assert len(holders(swarm, plain)) == 3


def test_a_machine_that_has_run_for_a_month_keeps_what_comes_then() -> None:
    swarm = Swarm()
    swarm.now += 30 * DAY_S
    swarm.grow(3)
    plain = item_of(1, 7)
    for node in living(swarm):
        place(node, plain, swarm.now)
    swarm.run_for(RETENTION_S + HOUR_S)
    assert len(holders(swarm, plain)) == 3


def test_who_is_left_alone_lets_go_after_a_day_because_its_own_word_is_none() -> None:
    swarm = swarm_of(2)
    holder, other = living(swarm)
    place(holder, ITEM, swarm.now)
    swarm.run_for(LOOK_AFTER_S + HOUR_S)
    assert holders(swarm) == [holder, other]
    swarm.kill(other)
    swarm.run_for(RETENTION_S - LOOK_AFTER_S - 2 * HOUR_S)
    assert holders(swarm) == [holder]
    swarm.run_for(2 * HOUR_S)
    assert holders(swarm) == []


def test_putting_again_makes_nothing_our_own() -> None:
    swarm = swarm_of(2)
    holder = living(swarm)[0]
    place(holder, ITEM, swarm.now)
    put_at = swarm.now
    swarm.run_for(LOOK_AFTER_S + HOUR_S)
    assert holder.counters["keep-put"] == 1
    assert [holding.put_at for holding in holder.storage.holdings(swarm.now)] == [put_at]


def test_own_items_are_the_publishers_business() -> None:
    swarm = swarm_of(2)
    living(swarm)[0].storage.put_own(ITEM, swarm.now)
    swarm.run_for(PUT_AFTER_S + HOUR_S)
    assert counted(swarm, "keep-put") == 0


def test_an_older_item_is_replaced_by_the_newer_one_that_the_look_found() -> None:
    swarm = swarm_of(12)
    newer = item_of(1, ITEM.seq + 1, b"newer")
    for node in living(swarm):
        place(node, ITEM, swarm.now)
    # The nearest looks first, and must have the older one, or it would only put its own.
    place(max(living(swarm), key=lambda node: distance(node.node_id, ITEM.target)), newer, swarm.now)
    swarm.run_for(LOOK_AFTER_S + HOUR_S)
    assert [node.storage.held(ITEM.target, swarm.now).seq for node in living(swarm)] == [newer.seq] * 12  # type: ignore[union-attr]
    assert counted(swarm, "keep-newer-found") >= 1


def test_an_item_from_the_future_is_not_put_over_the_saner_one_that_the_look_found() -> None:
    swarm = swarm_of(12)
    future = item_of(1, ITEM.seq + 10**13, b"future")
    # The nearest looks first.
    keeper, *others = sorted(living(swarm), key=lambda node: distance(node.node_id, ITEM.target))
    place(keeper, future, swarm.now)
    for node in others:
        # These stand for nodes of other programs, to which the higher seq is the newer one.
        node.storage.precedence.unix_skew = None
        place(node, ITEM, swarm.now)
    swarm.run_for(LOOK_AFTER_S + HOUR_S)
    assert keeper.counters["keep-newer-found"] == 1
    assert {stored.seq for node in living(swarm) for stored in node.storage.everything(swarm.now)} == {ITEM.seq}


def test_what_is_kept_alive_fits_a_byte_quota() -> None:
    swarm = swarm_of(2)
    holder = living(swarm)[0]
    for number in range(200):
        place(holder, ImmutableItem(b"%d" % number + b"x" * 900), swarm.now, f"11.0.{number}.1")
    swarm.run_for(LOOK_AFTER_S + HOUR_S)
    assert holder.counters["keep-over-quota"] >= 1
    most = KEPT_BYTES_BURST + HOUR_S * KEPT_BYTES_PER_SECOND
    assert 10 < holder.counters["keep-put"] <= most / (20 * 900)


def test_a_read_only_node_keeps_nothing_alive() -> None:
    swarm = swarm_of(2)
    node = swarm.new_node(read_only=True)
    node.add_bootstrap(list(swarm.nodes)[:2], swarm.now)
    place(node, ITEM, swarm.now)
    swarm.run_for(PUT_AFTER_S + HOUR_S)
    assert counted(swarm, "keep-put") == 0


def test_what_came_back_from_the_disk_is_looked_for_before_it_is_put() -> None:
    swarm = swarm_of(12)
    for node in living(swarm):
        place(node, ITEM, swarm.now)
    row = living(swarm)[0].storage.take_changes(swarm.now, UNIX_NOW)[0].row
    assert row is not None
    node = join(swarm)
    node.storage.load(row._replace(put_unix=UNIX_NOW - 10 * HOUR_S), swarm.now, UNIX_NOW)
    swarm.run_for(HOUR_S)
    assert (node.counters["keep-enough"], node.counters["keep-put"]) == (1, 0)
