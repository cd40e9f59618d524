"""Thefts by the thousand: the real overlay, look-up and storage, without datagrams and machines between them.

What a world of machines adds (timeouts, contacts, republishing) is in the scenario `theft` of the simulator.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from p2pdns.dht import bencode, krpc
from p2pdns.dht.lookup.search import Lookup
from p2pdns.dht.lookup.sought import Sought
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import GetOutcome, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.dns.message import Question, RRset
from p2pdns.dns.registry import Type
from p2pdns.dns.zone.answer import ZoneAnswer
from p2pdns.errors import BadRequest
from p2pdns.items.item import ImmutableItem, Item, MutableItem, SignatureMemo
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.packet import compose_packet
from p2pdns.items.succession import Commitment, commitment_to, succession_values
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.successions import HOUR_S
from p2pdns.resolver.steps import Budget, Found, Missing, NotFound, ZoneOutcome
from p2pdns.sim.memory import MemoryCommitments, MemoryState
from tests.overlay_doubles import UNIX, Clock, Told
from tests.waiting import at_rest

HOLDERS = 8
OWNER, THIEF, NEXT = bytes([192, 0, 2, 1]), bytes([198, 51, 100, 1]), bytes([203, 0, 113, 1])
PUBLISHER = ("192.0.2.1", 6881)
READER = ("198.51.100.7", 6881)
SEQ = int(UNIX * 1e6)


class Neighbourhood:
    """The nodes nearest to everything: storages of ours, and of other programs, which heed no commitment."""

    def __init__(self, lot: random.Random, clock: Clock, ours: int) -> None:
        self.storages = [Storage(heeds_commitments=index < ours) for index in range(HOLDERS)]
        self.refused: Counter[str] = Counter()
        # Of which targets an attacker has surrounded every holder.
        self.hidden: set[bytes] = set()
        self._lot = lot
        self._clock = clock
        self._memo = SignatureMemo()

    def put(self, item: Item) -> None:
        """Have every node asked to keep an item."""
        value = bencode.encode(item.value)
        request: krpc.Put = krpc.PutImmutable(value, b"")
        if isinstance(item, MutableItem):
            request = krpc.PutMutable(item.key.raw, item.seq, value, item.signature, b"")
        for storage in self.storages:
            try:
                storage.put(request, PUBLISHER, self._clock.now, has_token=True)
            except BadRequest as refusal:
                self.refused[refusal.reason] += 1

    def get(
        self, wanted: Wanted, *, on_item: Callable[[Item], None], on_patient: Callable[[], None] | None = None
    ) -> Awaitable[GetOutcome]:
        """Look an item up: each node is asked, in an order of the lot, and answers as its storage does."""
        sought = Sought(
            wanted.key,
            wanted.salt,
            wanted.known_seq,
            wanted.present,
            commitment=wanted.commitment,
            wants_editions=wanted.wants_editions,
        )
        lookup = Lookup(wanted.target, bytes(20), sought, k=HOLDERS, memo=self._memo)
        order = self._lot.sample(range(HOLDERS), HOLDERS)
        number = int.from_bytes(wanted.target)
        nodes = {
            krpc.NodeInfo((number ^ (place + 1)).to_bytes(20), (f"{11 + place}.0.0.1", 6881)): self.storages[index]
            for place, index in enumerate(order)
        }
        lookup.add(nodes)
        while requests := lookup.requests_to_send(1):
            contact = requests[0].candidate.contact
            found = lookup.reply_received(requests[0], self._reply(nodes[contact], contact, wanted.target, lookup.seq))
            if found is not None:
                on_item(found)
        ended: asyncio.Future[GetOutcome] = asyncio.get_running_loop().create_future()
        ended.set_result(
            GetOutcome(
                item=lookup.item,
                verdict=Verdict.COMPLETE,
                rpc_count=lookup.rpc_count,
                retransmit_count=0,
                peer_count=HOLDERS,
                answered_count=HOLDERS,
                first_s=None,
                done_s=0.0,
                bytes_sent=0,
                bytes_received=0,
                rpcs_to_first=lookup.rpcs_to_first,
                dropped=dict(lookup.bad_items),
                confirmation=lookup.confirmation,
                editions=lookup.editions.met,
            )
        )
        return ended

    def _reply(self, storage: Storage, contact: krpc.NodeInfo, target: bytes, seq: int | None) -> krpc.Reply:
        envelope = krpc.Reply(transaction=b"t", node_id=contact.node_id, token=b"token")
        selected = None if target in self.hidden else storage.select(target, seq, READER, self._clock.now)
        if selected is None:
            return envelope
        return krpc.Reply(
            transaction=b"t",
            node_id=contact.node_id,
            token=b"token",
            key=selected.key,
            seq=selected.seq,
            value=selected.value,
            signature=selected.signature,
        )


def zone_item(secret: SecretKey, address: bytes, seq: int, commitment: Commitment | None) -> MutableItem:
    """Return an edition of a zone."""
    apex = secret.zone_key.apex
    made = () if commitment is None else (commitment.record_of(secret.zone_key),)
    value = compose_packet([RRset(apex.child(b"www"), Type.A, 300, (address,))], apex, made=made)
    return MutableItem.signed(secret, seq, value)


class Theft:
    """One zone, its owner, its thief, and the nodes that hold it."""

    def __init__(self, lot: random.Random, kind: str) -> None:
        self.kind = kind
        self.clock = Clock()
        self.told = Told()
        # In half of the thefts all holders may be his; in the others some are of ours and refuse.
        self.ours = lot.choice([0, lot.randint(1, HOLDERS)])
        self.nodes = Neighbourhood(lot, self.clock, self.ours)
        self.old, self.following, thief = (SecretKey.generate(lot.randbytes(32)) for _ in range(3))
        self.zone_id = ZoneId.of_key(self.old.zone_key)
        self.commitment = commitment_to(self.old.zone_key, self.following)
        others = {"another": commitment_to(self.old.zone_key, thief), "none": None}
        self.honest = zone_item(self.old, OWNER, SEQ, self.commitment)
        self.thiefs = zone_item(self.old, THIEF, SEQ + 1, others.get(kind, self.commitment))
        # Which values can be read: both, one, or in one theft of ten none.
        self.readable = lot.choice([(0, 1), (0,), (1,)]) if lot.random() < 0.9 else ()
        self.overlays: list[Overlay] = []

    def reader(self, state: MemoryState) -> Overlay:
        """Return a reader with a state."""
        overlay = Overlay(
            self.nodes,
            state,
            clock=self.clock.boot,
            unix_clock=self.clock.wall,
            tell=self.told,
            later=self.clock.later,
        )
        self.overlays.append(overlay)
        return overlay

    async def seen(self, overlay: Overlay) -> bytes | Missing:
        """Return the address that a reader is shown after a complete look-up, or why it is shown none."""
        overlay.flush(self.zone_id)
        shown: ZoneOutcome = await overlay.zone(self.zone_id, True, Budget(self.clock.now + 4))
        if isinstance(shown, NotFound):
            return shown.reason
        assert isinstance(shown, Found)
        said = shown.zone.answer(Question(self.old.zone_key.apex.child(b"www"), Type.A))
        assert isinstance(said, ZoneAnswer)
        return said.answer[0].rdatas[0]

    def move(self) -> None:
        """Publish under the next key, then the values that can be read."""
        self.nodes.put(zone_item(self.following, NEXT, SEQ + 2, None))
        values: tuple[ImmutableItem, ImmutableItem] = succession_values(self.old.zone_key, self.following)
        for index, value in enumerate(values):
            self.nodes.put(value)
            if index not in self.readable:
                self.nodes.hidden.add(value.target)


async def stolen(lot: random.Random, kind: str, counts: Counter[str]) -> None:
    """Tell the story of one theft, and hold it against the rules."""
    one = Theft(lot, kind)
    state = MemoryState()
    one.nodes.put(one.honest)
    reader = one.reader(state)
    assert await one.seen(reader) == OWNER
    kept = state.commitments.kept(one.zone_id)
    assert kept is not None
    assert kept.commitment == one.commitment
    one.nodes.put(one.thiefs)
    one.overlays[0].item_arrived(one.thiefs.target, one.thiefs)
    await at_rest()
    # A reader that goes on, one that was restarted, and one that has lost all but the commitment.
    bare = MemoryState()
    bare.commitments = MemoryCommitments(state.commitments.all)
    readers = [reader, one.reader(state), one.reader(bare)]
    drops = kind in ("another", "none")
    for shown in [await one.seen(overlay) for overlay in readers]:
        counts["adopted"] += drops and shown == THIEF
        counts["followed"] += not drops and shown == THIEF
        assert (shown == THIEF) is (not drops), (kind, one.ours, shown)
    if drops and one.ours and one.ours < HOLDERS:
        # Some nodes have the owner's item and others the thief's.
        fresh = await one.seen(one.reader(MemoryState()))
        counts["shown both"] += 1
        assert fresh is Missing.CONFLICT, (kind, one.ours, fresh)
    one.move()
    for overlay in readers:
        await one.seen(overlay)
    one.clock.turn(HOUR_S)
    await at_rest()
    for shown in [await one.seen(overlay) for overlay in readers]:
        counts["moved"] += shown == NEXT
        assert (shown == NEXT) is bool(one.readable), (kind, one.ours, one.readable, shown)
        assert shown != THIEF or not (drops or one.readable)
    counts["thefts"] += 1
    assert one.told.events == []
    for overlay in one.overlays:
        await overlay.close()


def run_thefts(seed: int, count: int) -> Counter[str]:
    """Have so many keys stolen, by a seed."""
    lot, counts = random.Random(seed), Counter[str]()

    async def story() -> None:
        for number in range(count):
            # Somebody with UPDATE rights has the owner's signer sign his records, beside the same commitment.
            await stolen(lot, ("another", "none", "same", "UPDATE rights")[number % 4], counts)

    asyncio.run(story())
    sys.stdout.write(f"seed {seed}: {dict(counts)}\n")
    return counts


def test_in_a_hundred_thefts_no_reader_with_the_commitment_adopts_an_item_without_it() -> None:
    counts = run_thefts(15, 100)
    assert (counts["thefts"], counts["adopted"]) == (100, 0)
    assert counts["followed"] == 3 * 50
    assert counts["shown both"] > 10


@pytest.mark.full
@pytest.mark.parametrize("part", range(8))
def test_in_ten_thousand_thefts_no_reader_with_the_commitment_adopts_an_item_without_it(part: int) -> None:
    seed = random.SystemRandom().randrange(2**32) + part
    counts = run_thefts(seed, 1_250)
    assert (counts["thefts"], counts["adopted"]) == (1_250, 0)
