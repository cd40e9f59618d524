"""Hostile machines: what each of them does, and that readers among them are told nothing that is not signed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2pdns.addresses import Address, AddressClass, class_of
from p2pdns.clock import boot_now
from p2pdns.dht import bencode, krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.values import NodeSettings, Wanted
from p2pdns.dht.routing.ids import distance, is_id_allowed
from p2pdns.dht.storage import Storage
from p2pdns.errors import BadItem, FormatError
from p2pdns.items.item import Item, MutableItem, mutable_target
from p2pdns.items.keys import L, SecretKey
from p2pdns.limits import QUESTION_RPCS_MAX
from p2pdns.sim.behaviours import (
    BEHAVIOURS,
    DRIPS_S,
    FLOOD_EVERY_S,
    FLOOD_QUERIES,
    Behaviour,
    Drip,
    Exchange,
    Flood,
    Forge,
    Garbage,
    Invent,
    LyingNode,
    Malleate,
    Mute,
    Parcel,
    Replay,
    casting,
    twin_of,
    with_item,
)
from p2pdns.sim.engine import NETWORK_NAME, PORT, host_of
from p2pdns.sim.loop import VirtualLoop, run
from p2pdns.sim.network import Weather
from p2pdns.sim.world import Owner, World

ROOT = Path(__file__).resolve().parents[3]
GUARD_S = 600.0
NODES, ZONES, GETS = 40, 4, 16
SHARE = 0.2
SECRET = SecretKey.generate(bytes(32))
ASKER = (host_of(7), PORT)
NETWORK = krpc.network_of(NETWORK_NAME)


class Silent(Behaviour):
    """Answers nothing."""

    def answers(self, exchange: Exchange) -> Sequence[Parcel]:
        """Return nothing."""
        return ()


@dataclass
class Seen:
    """What came of the look-ups of honest readers in a world with hostile machines."""

    items: list[tuple[Owner, Item]] = field(default_factory=list)
    newest: int = 0
    rpcs: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    trace: str = ""


def read_among(shares: Mapping[type[Behaviour], float], seed: int = 1) -> Seen:
    """Return what honest readers see of zones that were published and updated among such machines."""

    async def story(loop: VirtualLoop) -> Seen:
        seen = Seen()
        world = World(loop, seed, Weather())
        world.cast = casting(seed, NODES, shares)
        await world.grow(NODES)
        await world.publish(ZONES)
        await asyncio.sleep(10.0)
        for owner in world.owners:
            await owner.engine.publisher.publish(owner.next_item())
        for number in range(GETS):
            await look(world, world.owners[number % ZONES], seen)
        for engine in world.honest:
            seen.counters.update(engine.node.counters)
        seen.troubles = world.troubles
        await world.close()
        seen.trace = world.network.trace.hexdigest()
        return seen

    return run(story)


async def look(world: World, owner: Owner, seen: Seen) -> None:
    """Look a zone up from an honest machine."""
    items: list[Item] = []
    reader = world.reader_of(owner)
    assert reader.is_honest
    outcome = await reader.endpoint.get(Wanted(mutable_target(owner.key.raw), owner.key), on_item=items.append)
    seen.items += [(owner, item) for item in items]
    seen.rpcs.append(outcome.rpc_count)
    seen.dropped.update(outcome.dropped)
    last = items[-1] if items else None
    seen.newest += isinstance(last, MutableItem) and last.seq == owner.seq


# Of 16 look-ups; with seeds 1 to 4 all 512 readers of these worlds found the newest edition.
NEWEST_MIN = 15


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_readers_among_a_fifth_of_hostile_machines_see_what_is_signed_and_nearly_always_the_newest(name: str) -> None:
    seen = read_among({BEHAVIOURS[name]: SHARE})
    for owner, item in seen.items:
        assert isinstance(item, MutableItem)
        assert owner.key.verify(item.signature, b"3:seqi%de1:v%b" % (item.seq, bencode.encode(item.value)))
        assert int.from_bytes(item.signature[32:], "little") < L
    assert max(seen.rpcs) <= QUESTION_RPCS_MAX
    assert seen.newest >= NEWEST_MIN
    assert seen.troubles == []
    reasons = {"forge": ("signature-wrong", "target-wrong"), "malleate": ("signature-wrong",)}.get(name, ())
    assert tuple(sorted(seen.dropped)) == reasons
    assert all(seen.counters[f"item-{reason}"] >= seen.dropped[reason] for reason in reasons)
    if name == "garbage":
        assert min(seen.counters[f"dropped-{reason}"] for reason in ("bencode-truncated", "unknown-transaction")) > 0


MIXED = (
    "import json\n"
    "from p2pdns.sim.behaviours import BEHAVIOURS\n"
    "from tests.unit.sim.test_behaviours import read_among\n"
    "from p2pdns.sim.attackers import Ids\n"
    "from p2pdns.sim.report import Scale\n"
    "from p2pdns.sim.scenarios.eclipse import Case, eclipse\n"
    "seen = read_among(dict.fromkeys(BEHAVIOURS.values(), 0.05), SEED)\n"
    "report = eclipse(Scale(SEED, nodes=30, gets=1), lambda *_: None, [Case(Ids.SPACED, 20)])\n"
    "print(json.dumps([seen.trace, seen.newest, report.trace_sha256]))\n"
)


def test_the_same_seed_is_the_same_history_among_all_of_them_and_attackers_whatever_order_sets_have() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIXED.replace("SEED", str(seed))],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
        )
        for seed, hash_seed in ((3, "0"), (3, "4242"), (4, "0"))
    ]
    try:
        one, again, other = (json.loads(process.communicate(timeout=GUARD_S)[0]) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert one == again
    assert one[0] != other[0]
    assert one[2] != other[2]


def test_more_hostile_machines_are_the_same_and_others() -> None:
    few, many = casting(1, 100, {Mute: 0.05}), casting(1, 100, {Mute: 0.2})
    first = [number for number in range(100) if few(number) is not None]
    then = [number for number in range(100) if many(number) is not None]
    assert (len(first), len(then)) == (5, 20)
    assert not [number for number in first if number not in then]


def test_the_first_machine_is_honest_or_nobody_could_join() -> None:
    assert casting(1, 100, {Mute: 0.99})(0) is None


def test_each_behaviour_has_its_share_of_the_machines() -> None:
    cast = casting(1, 100, {Mute: 0.1, Drip: 0.3})
    assert sum(cast(number) is not None for number in range(100)) == 40
    assert cast(100) is None


def test_readers_and_owners_are_honest() -> None:
    async def story(loop: VirtualLoop) -> None:
        world = World(loop, 1, Weather())
        world.cast = casting(1, 10, {Replay: 0.5})
        await world.grow(10)
        await world.publish(10)
        assert [engine.is_honest for engine in world.honest] == [True] * 5
        assert all(owner.engine.is_honest for owner in world.owners)
        assert all(world.reader_of(owner).is_honest for owner in world.owners)
        await world.close()

    run(story)


def test_a_newcomer_knows_an_honest_machine() -> None:
    async def story(loop: VirtualLoop) -> None:
        world = World(loop, 1, Weather())
        world.cast = casting(1, 10, {Silent: 0.8})
        # Without an honest machine to ask, one would try to join for ever.
        await asyncio.wait_for(world.grow(10), 100.0)
        await world.close()

    run(story)


# One machine


def item_of(seq: int, content: bytes = b"content") -> krpc.PutMutable:
    """Return a put of a signed item."""
    item = MutableItem.signed(SECRET, seq, content)
    return krpc.PutMutable(item.key.raw, seq, bencode.encode(item.value), item.signature, b"token")


TARGET = item_of(1).target


def exchange(request: krpc.Request, **said: object) -> Exchange:
    """Return a query, and what an honest node says to it."""
    query = krpc.RequestMessage(transaction=b"tr", node_id=bytes(20), request=request)
    return Exchange(query, krpc.Reply(transaction=b"tr", node_id=b"n" * 20, **said), b"n" * 20)  # type: ignore[arg-type]


def holding(seq: int = 5) -> Exchange:
    """Return a get whose honest answer has an item."""
    asked = exchange(krpc.Get(TARGET))
    assert isinstance(asked.answer, krpc.Reply)
    return asked._replace(answer=with_item(asked.answer, item_of(seq)))


def verified(reply: krpc.Reply | krpc.Error) -> MutableItem:
    """Return the item of a reply; `BadItem` if it is none of the target."""
    assert isinstance(reply, krpc.Reply)
    assert reply.key is not None
    if mutable_target(reply.key) != TARGET:
        raise BadItem("target-wrong")
    value = krpc.string_of(reply.value or b"")
    return MutableItem.verified(reply.key, reply.seq or 0, value or b"", reply.signature or b"")


def test_a_mute_machine_answers_a_ping_and_no_get() -> None:
    mute = Mute(random.Random(1))
    assert len(mute.answers(exchange(krpc.Ping()))) == len(mute.answers(exchange(krpc.FindNode(TARGET)))) == 1
    assert len(mute.answers(exchange(krpc.Get(TARGET)))) == 0


def test_a_replaying_machine_serves_the_oldest_that_it_was_put_and_acknowledges_what_its_node_refuses() -> None:
    machine = Replay(random.Random(1))
    for seq in (6, 5, 7):
        machine.answers(exchange(item_of(seq)))
    assert verified(machine.changed(holding(7))).seq == 5
    refused = exchange(item_of(8))._replace(answer=krpc.Error(transaction=b"tr", code=krpc.SEQ_TOO_LOW))
    assert isinstance(machine.changed(refused), krpc.Reply)
    other = exchange(krpc.Get(b"x" * 20))
    assert machine.changed(other) == other.answer


def test_a_forger_never_says_anything_that_is_signed_for_the_target() -> None:
    forger = Forge(random.Random(1))
    forger.changed(exchange(item_of(5)))
    reasons: Counter[str] = Counter()
    for _ in range(40):
        with pytest.raises(BadItem) as caught:
            verified(forger.changed(holding()))
        reasons[caught.value.reason] += 1
    assert sorted(reasons) == ["signature-wrong", "target-wrong"]


def test_garbage_is_no_reply_to_its_query() -> None:
    machine = Garbage(random.Random(1))
    for _ in range(60):
        (parcel,) = machine.answers(holding())
        try:
            message = parse(parcel.data)
        except FormatError:
            continue
        assert isinstance(message, krpc.Reply)
        assert message.transaction != b"tr"


def test_invented_contacts_belong_to_nobody_and_some_are_allowed_and_some_nearer_than_that() -> None:
    reply = Invent(random.Random(1)).changed(exchange(krpc.Get(TARGET)))
    assert isinstance(reply, krpc.Reply)
    assert all(class_of(host) is AddressClass.PUBLIC for _, (host, _) in reply.nodes)
    assert not {host for _, (host, _) in reply.nodes} & {host_of(number) for number in range(20_000)}
    allowed = [is_id_allowed(node_id, address[0]) for node_id, address in reply.nodes]
    assert sum(allowed) == len(allowed) // 2 == 10
    assert (
        max(distance(node_id, TARGET) for (node_id, _), is_one in zip(reply.nodes, allowed, strict=True) if not is_one)
        < 2**80
    )


def test_a_malleated_item_is_the_honest_one_or_none() -> None:
    machine, whole = Malleate(random.Random(1)), item_of(5)
    accepted, reasons = 0, Counter[str]()
    for _ in range(60):
        try:
            item = verified(machine.changed(holding()))
        except BadItem as error:
            reasons[error.reason] += 1
        else:
            accepted += 1
            assert (item.seq, item.signature, bencode.encode(item.value)) == (5, whole.signature, whole.value)
    assert accepted > 0
    assert sorted(reasons) == ["signature-wrong"]


def test_a_signature_has_one_twin() -> None:
    signature = item_of(5).signature
    twin = twin_of(signature)
    assert twin[:32] == signature[:32]
    assert twin[32:] != signature[32:]
    assert twin_of(twin) == twin


# A node that lies


def lying(behaviour: Behaviour) -> LyingNode:
    """Return a node with a behaviour, at time 0."""
    return LyingNode(
        behaviour,
        node_id=None,
        network=NETWORK_NAME,
        entropy=random.Random(1).randbytes,
        storage=Storage(),
        settings=NodeSettings(bind_host=host_of(0)),
        now=0.0,
    )


def query(request: krpc.Request, address: Address = ASKER) -> bytes:
    """Return the datagram of a query."""
    return compose(krpc.RequestMessage(transaction=b"tr", node_id=b"q" * 20, request=request, network=NETWORK))


def replies(datagrams: list[tuple[bytes, Address]]) -> int:
    """Return how many of these are replies."""
    return sum(isinstance(parse(data), krpc.Reply) for data, _ in datagrams)


def test_a_drip_is_held_back_until_its_time_and_then_leaves() -> None:
    node = lying(Drip(random.Random(1)))
    node.receive_datagram(query(krpc.Get(TARGET, pad_bytes=400)), ASKER, 1.0)
    assert replies(node.datagrams_to_send(1.0)) == 0
    due = node.get_timer()
    assert due is not None
    assert due <= 1.0 + max(DRIPS_S)
    assert replies(node.datagrams_to_send(1.0 + min(DRIPS_S) - 0.001)) == 0
    late = [replies(node.datagrams_to_send(1.0 + drip_s + 0.001)) for drip_s in sorted(DRIPS_S)]
    assert sum(late) == 1


def test_a_flood_goes_to_those_that_it_knows_and_has_a_bound() -> None:
    node = lying(Flood(random.Random(1)))
    assert node.datagrams_to_send(FLOOD_EVERY_S) == []
    node.add_bootstrap([ASKER], 1.1)
    ((data, _),) = node.datagrams_to_send(1.1)
    reply = krpc.Reply(transaction=parse(data).transaction, node_id=b"q" * 20, network=NETWORK)
    node.receive_datagram(compose(reply), ASKER, 1.2)
    node.datagrams_to_send(1.2)
    flood = node.datagrams_to_send(2 * FLOOD_EVERY_S)
    assert [address for _, address in flood] == [ASKER] * FLOOD_QUERIES
    assert node.datagrams_to_send(2 * FLOOD_EVERY_S) == []


def test_storers_refuse_the_puts_of_a_machine_that_malleates_and_keep_twins_as_the_honest_item() -> None:
    async def story(loop: VirtualLoop) -> tuple[Counter[str], list[MutableItem]]:
        world = World(loop, 1, Weather())
        world.cast = casting(1, NODES, {Malleate: 1 / NODES})
        await world.grow(NODES)
        (liar,) = [engine for engine in world.engines if not engine.is_honest]
        owner = Owner(SECRET, liar)
        item = owner.next_item()
        await liar.endpoint.put(item)
        counters: Counter[str] = Counter()
        kept = []
        for engine in world.honest:
            counters.update(engine.node.counters)
            held = engine.node.storage.held(item.target, boot_now())
            if held is not None:
                assert held.item == item
                kept.append(item)
        await world.close()
        return counters, kept

    counters, kept = run(story)
    assert counters["put-refused-bad-signature"] > 0
    assert kept
