"""A divided zone through the DNS port: a name in a far shard, its absence, and a shard that nobody has."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import dns.edns
import dns.rcode

from p2pdns.addresses import read_address
from p2pdns.clock import boot_now
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.storage import Storage
from p2pdns.dns.message import Question, RRset
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.items.dividing import Division, divide
from p2pdns.items.item import MutableItem
from p2pdns.items.shards.content import content_of
from p2pdns.items.shards.partial import Needed
from p2pdns.net.endpoint import Endpoint
from tests.live.front_process import GUARD_S
from tests.live.served import KEY, NETWORK, SECRET, Served, p2pdns

APEX = SECRET.zone_key.apex
HOSTS = 120


def divided() -> Division:
    """Return a zone of hosts as items."""
    hosts = [RRset(APEX.child(b"n%d" % n), Type.A, 300, (bytes([192, 0, 2, n]),)) for n in range(HOSTS)]
    return divide(Zone.of(APEX, hosts, 1), entropy=bytes(32), unix_now=time.time())


async def beside(daemon: Served, items: list[MutableItem], story: Callable[[], None]) -> None:
    """Have a daemon store items for a node of ours, and tell the story while that node is there."""
    node = Node(
        node_id=None,
        network=NETWORK,
        entropy=os.urandom,
        storage=Storage(),
        settings=NodeSettings(bind_host="127.0.0.1"),
        now=boot_now(),
    )
    endpoint = await Endpoint.open(node, ("127.0.0.1", 0))
    try:
        await endpoint.bootstrap([read_address(daemon.status()["dht_address"])])
        for item in items:
            assert (await endpoint.put(item)).others.stored == 1
        await asyncio.to_thread(story)
    finally:
        endpoint.close()


def test_a_name_in_a_far_shard_its_absence_and_a_shard_that_nobody_has(tmp_path: Path) -> None:
    division, seq = divided(), int(time.time() * 1e6)
    head = MutableItem.signed(SECRET, seq, division.head)
    needed = content_of(head).answer(Question(APEX.child(b"n7"), Type.A))
    assert isinstance(needed, Needed)
    (lost,) = needed.items
    items = [
        MutableItem.signed(SECRET, seq, value, wanted.salt) for wanted, value in division.items() if wanted != lost
    ]
    daemon = Served(tmp_path / "state")

    def story() -> None:
        answers = {n: daemon.ask(f"n{n}.{KEY}") for n in range(20)}
        failed = [n for n, answer in answers.items() if answer.rcode() == dns.rcode.SERVFAIL]
        assert 7 in failed
        found = [n for n in answers if n not in failed]
        assert found
        assert [str(answers[n].answer[0][0]) for n in found] == [f"192.0.2.{n}" for n in found]
        (ede,) = [option for option in answers[7].options if isinstance(option, dns.edns.EDEOption)]
        assert ede.text is not None
        assert ede.text.startswith(f"shard {lost.index + 1} of {1 << lost.bits} of {KEY}.: ")
        # A name that no shard has is denied only by the shard that would have it.
        codes = {daemon.ask(f"absent{n}.{KEY}").rcode() for n in range(20)}
        assert codes == {dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL}
        told = p2pdns("resolve", f"n{found[0]}.{KEY}", "--trace", "--state", daemon.state)
        assert told.returncode == 0
        assert "the zone is divided" not in told.stdout, "the shard is at hand"
        missed = p2pdns("resolve", f"n7.{KEY}", "--trace", "--state", daemon.state)
        assert f"the zone is divided: {lost} is needed" in missed.stdout
        assert daemon.status()["shards_at_hand"]["items"] == len(items)
        shown = p2pdns("resolve", KEY, "--holders", "--state", daemon.state)
        assert "the head of the newest edition" in shown.stderr
        inspected = p2pdns("inspect", KEY, "-o", tmp_path / "head.item", "--state", daemon.state)
        assert "head of the zone alone" in inspected.stderr
        assert f"@ in {1 << lost.bits} shards" in inspected.stdout

    try:
        asyncio.run(asyncio.wait_for(beside(daemon, [*items, head], story), 3 * GUARD_S))
    finally:
        assert daemon.end() == 0
