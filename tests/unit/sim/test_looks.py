"""The rules between two looks at a machine, each shown a change that is a fault and one that is none."""

from __future__ import annotations

import asyncio
import random

import pytest

from p2pdns.clock import boot_now
from p2pdns.dht import krpc
from p2pdns.dht.node.values import Peer
from p2pdns.dht.routing.table import K
from p2pdns.dht.storage import RETENTION_S
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.sim import looks
from p2pdns.sim.engine import HOSTS_MAX, NETWORK_NAME, PORT, host_of
from p2pdns.sim.stranger import Stranger
from p2pdns.sim.world import World
from tests.unit.sim.test_world import in_world

TARGET = bytes(range(20))
OWN_ID = bytes(20)


def test_a_stored_seq_that_goes_back_is_a_finding_unless_the_higher_one_was_from_the_future() -> None:
    def findings(before: dict[bytes, int], held: dict[bytes, int], ahead_from: int = 100) -> list[str]:
        return list(looks.holding_findings(before, held, lambda seq: seq >= ahead_from))

    assert findings({TARGET: 2}, {TARGET: 1}) == ["a node stores seq 1 of 00010203, and stored 2 before"]
    assert findings({TARGET: 2}, {TARGET: 2}) == []
    assert findings({}, {TARGET: 1}) == []
    assert findings({TARGET: 2}, {}) == []
    assert findings({TARGET: 2}, {TARGET: 1}, ahead_from=2) == []


def peer(number: int, known_s: float, failures: int = 0, is_allowed: bool = True) -> Peer:
    """Return a contact in the farthest range of ids."""
    return Peer(bytes([128, number, *bytes(18)]), (f"12.0.0.{number}", 1), 0.1, 1.0, known_s, failures, is_allowed)


FULL = [peer(number, 1_000.0 - number) for number in range(K)]
NEWCOMER = peer(K, 1.0)


def losses(
    lost: int, *, before: list[Peer] = FULL, come: int = 1, own_id: bytes = OWN_ID, is_safe: bool = True
) -> list[str]:
    """Return what is found when a table has lost the contact at an index, and so many have come."""
    after = [*before[:lost], *before[lost + 1 :], *(peer(K + number, 1.0) for number in range(come))]
    looked = looks.TableLook(0.0, OWN_ID, before), looks.TableLook(20.0, own_id, after)
    return list(looks.table_findings(*looked, lambda one: is_safe))


def test_a_contact_of_the_older_half_that_answers_stays() -> None:
    assert losses(0) == ["a table has lost 12.0.0.0, which it knew for 1000 s and which answers"]
    # One that came may be older than it, and has taken the last place of the older half.
    assert [bool(losses(index)) for index in (K // 2 - 2, K // 2 - 1, K - 1)] == [True, False, False]
    assert [bool(losses(K // 2 - 1, come=count)) for count in (0, 1)] == [True, False]


def test_a_contact_may_go_for_a_reason() -> None:
    assert losses(0, is_safe=False) == []
    assert losses(0, own_id=bytes([1, *bytes(19)])) == []
    assert losses(0, before=FULL[: K - 1]) == []
    assert losses(0, before=[peer(0, 1_000.0, failures=1), *FULL[1:]]) == []
    assert losses(0, before=[peer(0, 1_000.0, is_allowed=False), *FULL[1:]]) == []


@pytest.mark.parametrize(
    ("session_s", "since_put_s", "is_finding"),
    [
        (looks.PUT_AGAIN_S_MAX + 1, None, True),
        (looks.PUT_AGAIN_S_MAX - 1, None, False),
        (looks.PUT_AGAIN_S_MAX + 1, looks.PUT_AGAIN_S_MAX + 1, True),
        (looks.PUT_AGAIN_S_MAX - 1, looks.PUT_AGAIN_S_MAX + 1, False),
        (looks.PUT_AGAIN_S_MAX + 1, looks.PUT_AGAIN_S_MAX - 1, False),
    ],
)
def test_a_publisher_that_leaves_a_zone_alone_while_it_is_up_is_a_finding(
    session_s: float, since_put_s: float | None, is_finding: bool
) -> None:
    assert bool(list(looks.put_findings("key", session_s, since_put_s))) is is_finding


def test_a_node_that_keeps_what_came_with_another_token_is_a_finding() -> None:
    assert len(list(looks.token_findings(("12.0.0.1", 1), True))) == 1
    assert list(looks.token_findings(("12.0.0.1", 1), False)) == []


def test_a_stranger_puts_with_the_token_of_its_target_and_with_no_other_one() -> None:
    secret = SecretKey.generate(bytes(32))
    item = MutableItem.signed(secret, 1, b"")

    async def story(world: World) -> list[int | None]:
        await world.grow(5)
        node = world.engines[0]
        stranger = Stranger(world.network, (host_of(HOSTS_MAX - 1), PORT), NETWORK_NAME, random.Random(1))
        held: list[int | None] = []
        for target in (TARGET, item.target):
            reply = await stranger.ask(krpc.Get(target), node.address)
            assert reply is not None
            assert reply.token is not None
            await stranger.ask(krpc.PutMutable(item.key.raw, 1, b"0:", item.signature, reply.token), node.address)
            held.append(world.seq_held(node, item.target))
        stranger.close()
        return held

    assert in_world(story) == [None, 1]


def test_a_world_looks_at_what_its_machines_store_whom_they_know_and_what_they_put() -> None:
    """In a world, `findings` is where the rules of this module are asked."""

    async def story(world: World) -> list[bool]:
        await world.grow(3)
        await world.publish(1)
        owner, holder = world.owners[0], world.engines[0]
        item = MutableItem.signed(owner.secret, owner.editions[0].seq + 1, b"")
        holder.node.storage.put_own(item, boot_now())
        assert list(world.findings()) == []
        # As a disk that was put back would: the machine has an older item than before.
        holder.node.storage.expire(boot_now() + 2 * RETENTION_S)
        holder.node.storage.put_own(owner.editions[0], boot_now())
        stored = [text for text in world.findings() if "stores seq" in text]
        await owner.engine.publisher.close()
        await asyncio.sleep(looks.PUT_AGAIN_S_MAX + 1)
        late = [text for text in world.findings() if "was not put again" in text]
        await owner.engine.stop()
        return [len(stored) == 1, len(late) == 1]

    assert in_world(story) == [True, True]
