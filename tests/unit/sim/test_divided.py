"""A divided zone in a simulated network: what a reader who has never met it is answered, and what that costs."""

from __future__ import annotations

import asyncio

import pytest

from p2pdns.dns.message import Question, RRset
from p2pdns.dns.registry import Rcode, Type
from p2pdns.dns.zone import Zone
from p2pdns.items.dividing import divide
from p2pdns.items.item import MutableItem, next_seq
from p2pdns.items.keys import SecretKey
from p2pdns.items.shards.pinned import SaltLetter
from p2pdns.limits import QUESTION_RPCS_MAX
from p2pdns.resolver.steps import Resolved
from p2pdns.sim.world import World
from tests.unit.items.divisions import Made, divided, index
from tests.unit.sim.test_world import in_world

SECRET = SecretKey.generate(b"\x07" * 32)
APEX = SECRET.zone_key.apex


async def put_all(world: World, head: bytes, values: dict[bytes, bytes]) -> None:
    """Have a machine put the items of a zone, the head last."""
    engine = world.engines[0]
    seq = next_seq(engine.unix_now(), None)
    for salt, value in [*values.items(), (b"", head)]:
        await engine.network.put(MutableItem.signed(SECRET, seq, value, salt))


def test_names_of_far_shards_are_answered_and_denied_and_a_publisher_may_be_gone() -> None:
    async def story(world: World) -> tuple[list[Resolved], int]:
        await world.grow(30)
        hosts = [RRset(APEX.child(b"n%d" % n), Type.A, 300, (bytes([192, 0, 2, n]),)) for n in range(120)]
        division = divide(Zone.of(APEX, hosts, 1), entropy=bytes(32), unix_now=world.engines[0].unix_now())
        await put_all(world, division.head, {wanted.salt: value for wanted, value in division.items()})
        await world.engines[0].stop()
        reader = world.engines[-1]
        names = (b"n17", b"n99", b"absent")
        answers = [await reader.ask(Question(APEX.child(name), Type.A)) for name in names]
        # The look-ups of heads go on after the first answer.
        await asyncio.sleep(30.0)
        return answers, len(reader.overlay.reports)

    answers, report_count = in_world(story)
    assert [answer.rcode for answer in answers] == [Rcode.NOERROR, Rcode.NOERROR, Rcode.NXDOMAIN]
    assert [answer.answer[0].rdata[-1] for answer in answers[:2]] == [17, 99]
    assert report_count <= 4, "one head, and a shard for each of the names at most"


@pytest.mark.parametrize("dead_share", [0.0, 0.3])
def test_a_shard_of_25_values_and_a_wildcards_shard_are_found_within_the_requests_of_a_question(
    dead_share: float,
) -> None:
    async def story(world: World) -> Resolved:
        await world.grow(60)
        deep = APEX.child(b"a").child(b"b")
        made = Made(deep, 1, by_manifests=True, part_bytes=235)
        # All names but the wildcard are in one shard, that of the absent name too.
        place = 1 - index(deep, made.epoch, made.bits, b"*")
        labels = [b"t%d" % n for n in range(80) if index(deep, made.epoch, made.bits, b"t%d" % n) == place]
        absent, *others = labels[:23]
        content = [RRset(deep.child(label), Type.TXT, 300, (bytes([240]) + b"x" * 240,)) for label in others]
        content.append(RRset(deep.child(b"*"), Type.A, 300, (bytes([192, 0, 2, 1]),)))
        items = divided(Zone.of(APEX, content, 1), [Made(APEX), made])
        await put_all(world, items.head, items.values)
        reader = world.engines[-1]
        if dead_share:
            for engine in world.random.sample(world.engines[1:-1], round(dead_share * len(world.engines))):
                await engine.stop()
        answer = await reader.ask(Question(deep.child(absent), Type.A))
        parts = [salt for salt in items.values if salt[:1] == SaltLetter.PART.value]
        assert len(parts) == 24
        await asyncio.sleep(30.0)
        return answer

    answer = in_world(story)
    assert (answer.rcode, answer.rpc_count <= QUESTION_RPCS_MAX) == (Rcode.NOERROR, True)
