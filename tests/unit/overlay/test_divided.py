"""Divided zones, from the question to the DHT: far shards, their denial, and all that may be missing or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dns.message import RR
from p2pdns.dns.registry import DIRECTORY, Class, Ede, Rcode, Type
from p2pdns.dns.zone import Zone
from p2pdns.items.dividing import Division, divide
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.shards.content import content_of
from p2pdns.items.shards.directory import index_of
from p2pdns.items.shards.partial import Needed
from p2pdns.items.shards.pinned import Pinned, SaltLetter
from p2pdns.limits import QUESTION_LOOKUPS_MAX, QUESTION_RPCS_MAX
from p2pdns.overlay import pinned as pinned_module
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.parts import zone_id_of
from p2pdns.overlay.ports import Held, KeptCommitment
from p2pdns.resolver.names import ResolverSettings, tag_of_zone
from p2pdns.resolver.service import Service
from p2pdns.resolver.steps import Budget, FetchPinned, Found, NotFound, Resolved
from tests.committed import COMMITTED
from tests.overlay_doubles import (
    SECRETS,
    UNIX,
    A,
    B,
    Clock,
    FakeDht,
    FakeState,
    FakeUpstream,
    Get,
    Told,
    question,
    rrsets,
)
from tests.unit.items.divisions import Items, Made, divided, packet
from tests.unit.overlay.test_finder import run
from tests.waiting import at_rest

SECRET = SECRETS["a"]
APEX = SECRET.zone_key.apex
SEQ = int(UNIX * 1e6)
SOA = "@ 300 SOA " + (APEX.wire() + APEX.wire() + b"".join(n.to_bytes(4) for n in (1, 300, 60, 5_000_000, 300))).hex()


def hosts(count: int, address: str = "192.0.2") -> list[str]:
    """Return the lines of that many hosts, and of aliases of some of them."""
    lines = [f"n{n} 300 A {address}.{n % 250}" for n in range(count)]
    return [SOA, *lines, *[f"alias{n} 300 CNAME n{n}" for n in range(6)], "@ 300 MX 10 n3"]


def zone_of(lines: Iterable[str], seq: int = SEQ) -> Zone:
    """Return the zone of these lines."""
    return Zone.of(APEX, rrsets(APEX, *lines), seq)


class World:
    """A resolver over a DHT in which a test puts the items of divided zones."""

    def __init__(self, *, at_once: bool = True, state: FakeState | None = None, **limits: Any) -> None:
        self.clock = Clock()
        self.dht = FakeDht({} if at_once else None)
        self.state = state or FakeState()
        self.invalidated: list[bytes] = []
        self.overlay = Overlay(
            self.dht,
            self.state,
            clock=self.clock.boot,
            unix_clock=self.clock.wall,
            tell=Told(),
            later=self.clock.later,
            on_invalidate=lambda tags: self.invalidated.extend(tags),
            held_wait_s=0.0,
            **limits,
        )
        self.service = Service(self.overlay, FakeUpstream(), ResolverSettings(), clock=self.clock.boot)
        from tests.unit.overlay.test_finder import OVERLAYS

        OVERLAYS.append(self.overlay)

    def put_head(self, value: bytes, seq: int = SEQ, secret: SecretKey = SECRET) -> MutableItem:
        """Put a head."""
        item = MutableItem.signed(secret, seq, value)
        if self.dht.items is not None:
            self.dht.items[zone_id_of(item)] = item
        return item

    def put(self, wanted: Pinned, value: bytes, seq: int = SEQ, secret: SecretKey = SECRET) -> MutableItem:
        """Put a value under a salt."""
        item = MutableItem.signed(secret, seq, value, wanted.salt)
        self.dht.salted[item.target] = item
        return item

    def publish(self, division: Division, seq: int = SEQ) -> MutableItem:
        """Put all items of a division."""
        for wanted, value in division.items():
            self.put(wanted, value, seq)
        return self.put_head(division.head, seq)

    def put_all(self, items: Items, seq: int = SEQ) -> MutableItem:
        """Put all items of a division that a test has made by hand."""
        for salt, value in items.values.items():
            item = MutableItem.signed(SECRET, seq, value, salt)
            self.dht.salted[item.target] = item
        return self.put_head(items.head, seq)

    async def ask(self, text: str) -> Resolved:
        """Return the answer to a question."""
        return await self.service.trace(question(text))

    def asked_for(self) -> list[str]:
        """Return what was looked up so far, in words."""
        return ["head" if get.wanted.pinned is None else str(get.wanted.pinned) for get in self.dht.gets]

    def gets_of(self, letter: SaltLetter) -> list[Get]:
        """Return the look-ups for items of one kind."""
        return [g for g in self.dht.gets if g.wanted.pinned is not None and g.wanted.pinned.letter is letter]


def division_of(count: int = 120, address: str = "192.0.2", former: Division | None = None, *more: str) -> Division:
    """Return the items of a zone of so many hosts."""
    lines = [*hosts(count, address), *more]
    return divide(zone_of(lines), entropy=bytes(range(32)), unix_now=UNIX, former=former)


BIG = division_of()
LARGE = division_of(400)


def text_of(answer: Resolved) -> list[str]:
    """Return the answer section."""
    return [f"{str(rr.owner).partition('.')[0]} {rr.rtype} {rr.rdata.hex()}" for rr in answer.answer]


# Answers.


def test_a_name_of_a_far_shard_is_answered_and_its_neighbour_denied() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        there = await world.ask("n17.{a} A")
        assert (there.rcode, text_of(there)) == (Rcode.NOERROR, ["n17 1 c0000211"])
        assert len(world.dht.gets) == 2, "the head and one shard"
        absent = await world.ask("n17x.{a} A")
        assert (absent.rcode, [rr.rtype for rr in absent.authority]) == (Rcode.NXDOMAIN, [Type.SOA])
        nodata = await world.ask("n17.{a} AAAA")
        assert (nodata.rcode, nodata.answer, [rr.rtype for rr in nodata.authority]) == (0, (), [Type.SOA])
        assert there.ad_eligible
        assert absent.ad_eligible

    run(story())


def test_every_name_is_answered_as_the_whole_zone_answers_it() -> None:
    async def story() -> None:
        whole = zone_of(hosts(120))
        world = World()
        world.publish(BIG)
        for name in ("n0", "n63", "n119", "alias2", "absent", "x.n4", "@"):
            for rtype in ("A", "AAAA", "MX", "CNAME"):
                asked = question(f"{name}.{{a}} {rtype}" if name != "@" else f"{{a}} {rtype}")
                answer = await world.service.trace(asked)
                expected = whole.answer(asked)
                assert (answer.rcode, [(rr.owner, rr.rtype, rr.rdata) for rr in answer.answer]) == (
                    expected.rcode,
                    [(s.owner, s.rtype, rdata) for s in expected.answer for rdata in s.rdatas],
                )

    run(story())


def test_a_shard_at_hand_costs_no_look_up() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        await world.ask("n17.{a} A")
        count = len(world.dht.gets)
        for text in ("n17.{a} A", "n17.{a} AAAA", "x.n17.{a} A"):
            await world.ask(text)
        assert len(world.dht.gets) == count

    run(story())


def test_an_alias_is_followed_from_shard_to_shard() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        far = next(n for n in range(6) if pinned_for(f"alias{n}.{{a}} A") != pinned_for(f"n{n}.{{a}} A"))
        answer = await world.ask(f"alias{far}.{{a}} A")
        assert [line.split()[0] for line in text_of(answer)] == [f"alias{far}", f"n{far}"]
        assert len(world.gets_of(SaltLetter.SHARD)) == 2

    run(story())


def test_questions_for_one_shard_share_its_look_up() -> None:
    async def story() -> None:
        world = World(at_once=False)
        head = world.put_head(BIG.head)
        tasks = [asyncio.create_task(world.ask(text)) for text in ("n17.{a} A", "n17.{a} AAAA", "n17.{a} TXT")]
        await at_rest()
        world.dht.gets[0].on_item(head)
        world.dht.gets[0].end(head)
        await at_rest()
        (shard,) = world.gets_of(SaltLetter.SHARD)
        values = {wanted.salt: value for wanted, value in BIG.items()}
        item = MutableItem.signed(SECRET, SEQ, values[shard.wanted.salt], shard.wanted.salt)
        shard.on_item(item)
        shard.end(item)
        await at_rest()
        assert [task.result().rcode for task in tasks] == [0, 0, 0]
        assert len(world.dht.gets) == 2

    run(story())


def test_an_answer_is_provisional_while_its_head_is() -> None:
    async def story() -> None:
        world = World(at_once=False)
        head = world.put_head(BIG.head)
        positive, negative = (asyncio.create_task(world.ask(text)) for text in ("n17.{a} A", "nowhere.{a} A"))
        await at_rest()
        world.dht.gets[0].on_item(head)
        await at_rest()
        values = {wanted.salt: value for wanted, value in BIG.items()}
        for get in world.gets_of(SaltLetter.SHARD):
            item = MutableItem.signed(SECRET, SEQ, values[get.wanted.salt], get.wanted.salt)
            get.on_item(item)
            get.end(item)
        await at_rest()
        first = positive.result()
        assert (first.provisional, first.ad_eligible, [rr.ttl for rr in first.answer]) == (True, False, [5])
        assert not negative.done(), "a denial waits for the complete look-up"
        world.dht.gets[0].end(head)
        await at_rest()
        assert (negative.result().rcode, negative.result().provisional) == (Rcode.NXDOMAIN, False)

    run(story())


# Heads and pins.


def test_an_unchanged_pin_confirms_its_shard_and_a_changed_one_is_looked_up() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        for n in (5, 17, 40, 60):
            await world.ask(f"n{n}.{{a}} A")
        edited = division_of(120, "192.0.2", BIG, "new 300 A 192.0.2.99")
        fresh = [wanted for wanted, _ in edited.fresh_items(BIG)]
        assert len(fresh) == 1, "an edit writes one shard and the head"
        world.publish(edited, SEQ + 1_000_000)
        before = len(world.dht.gets)
        world.clock.turn(301.0)
        for n in (5, 17, 40, 60):
            assert (await world.ask(f"n{n}.{{a}} A")).rcode == 0
        looked_up = [get.wanted.pinned for get in world.dht.gets[before:]]
        # One look-up of the head confirms all shards whose pins have not changed.
        assert [wanted for wanted in looked_up if wanted is not None and wanted not in fresh] == []
        assert looked_up.count(None) == 1
        assert (await world.ask("new.{a} A")).rcode == 0
        assert world.state.seq_of(A) == SEQ + 1_000_000, "the head alone makes a mark"

    run(story())


def test_five_hundred_hot_shards_are_refreshed_by_one_look_up() -> None:
    async def story() -> None:
        world = World()
        division = division_of(9_000)
        world.publish(division)
        # One name of each shard, however many that takes to find.
        names: dict[tuple[bytes, int], str] = {}
        (directory,) = division.directories.values()
        for number in range(9_000):
            index = index_of(directory.owner, directory.epoch, directory.bits, f"n{number}".encode())
            names.setdefault((directory.owner.wire(), index), f"n{number}.{{a}} A")
        assert len(names) == 512
        for text in names.values():
            assert (await world.ask(text)).rcode == 0
        for _ in range(3):
            before = len(world.dht.gets)
            world.clock.turn(301.0)
            for text in names.values():
                assert (await world.ask(text)).rcode == 0
            assert [get.wanted.pinned for get in world.dht.gets[before:]] == [None], "the head, once an interval"

    run(story())


def test_salted_items_make_no_mark_whatever_their_seqs_are() -> None:
    async def story() -> None:
        world = World()
        head = world.publish(BIG)
        for wanted, value in BIG.items():
            world.put(wanted, value, SEQ + 10**12)
        assert (await world.ask("n17.{a} A")).rcode == 0
        assert world.state.seq_of(A) == head.seq
        assert [seq for seq, _ in world.state.log] == [head.seq] * len(world.state.log)

    run(story())


def test_a_reader_between_two_heads_answers_from_the_newer_one() -> None:
    async def story() -> None:
        world = World(at_once=False)
        edited = division_of(120, "198.51.100", BIG)
        old, new = (MutableItem.signed(SECRET, SEQ + n, d.head) for n, d in enumerate((BIG, edited)))
        values = {wanted.salt: value for division in (BIG, edited) for wanted, value in division.items()}
        task = asyncio.create_task(world.ask("n17.{a} A"))
        await at_rest()
        world.dht.gets[0].on_item(old)
        await at_rest()
        (first,) = world.gets_of(SaltLetter.SHARD)
        # While the old shard is looked up, a contact returns the newer head.
        world.dht.gets[0].on_item(new)
        await at_rest()
        item = MutableItem.signed(SECRET, SEQ, values[first.wanted.salt], first.wanted.salt)
        first.on_item(item)
        first.end(item)
        await at_rest()
        second = world.gets_of(SaltLetter.SHARD)[1]
        item = MutableItem.signed(SECRET, SEQ, values[second.wanted.salt], second.wanted.salt)
        second.on_item(item)
        second.end(item)
        world.dht.gets[0].end(new)
        await at_rest()
        assert text_of(task.result()) == ["n17 1 c6336411"]

    run(story())


def test_a_shard_that_comes_while_the_mark_of_its_head_is_committed_stays_at_hand() -> None:
    async def story() -> None:
        world = World(at_once=False)
        old, new = (MutableItem.signed(SECRET, SEQ + n, BIG.head) for n in (0, 1))
        world.state.marks[A] = Held(old, 0.0)
        values = {wanted.salt: value for wanted, value in BIG.items()}
        task = asyncio.create_task(world.ask("n17x.{a} A"))
        await at_rest()
        world.dht.gets[0].on_item(new)
        await at_rest()
        world.state.gate = asyncio.Event()
        world.dht.gets[0].end(new)
        await at_rest()
        for get in world.gets_of(SaltLetter.SHARD):
            item = MutableItem.signed(SECRET, SEQ, values[get.wanted.salt], get.wanted.salt)
            get.on_item(item)
            get.end(item)
        await at_rest()
        assert not task.done()
        world.state.gate.set()
        await at_rest()
        assert task.result().rcode == Rcode.NXDOMAIN
        assert len(world.gets_of(SaltLetter.SHARD)) == 1

    run(story())


def test_an_epoch_that_goes_back_is_an_older_head_and_is_not_shown() -> None:
    async def story() -> None:
        world = World()
        zone = zone_of(hosts(30))
        old, new = (divided(zone, [Made(APEX, 2, epoch=epoch)]) for epoch in (1_000, 2_000))
        world.put_all(new, SEQ + 1)
        assert (await world.ask("n3.{a} A")).rcode == 0
        world.put_all(old, SEQ)
        world.clock.turn(301.0)
        answer = await world.ask("n4.{a} A")
        assert world.overlay.counters["items-below-the-mark"]
        # A higher seq counts, whatever its epoch: only the publisher compares epochs.
        world.put_all(old, SEQ + 2)
        world.clock.turn(301.0)
        later = await world.ask("n3.{a} A")
        assert answer.rcode == later.rcode == 0
        (head,) = [get.wanted for get in world.dht.gets if get.wanted.pinned is None][-1:]
        assert head.salt == b""

    run(story())


def test_pins_of_another_epoch_are_other_targets() -> None:
    async def story() -> None:
        world = World()
        zone = zone_of(hosts(30))
        old, new = (divided(zone, [Made(APEX, 2, epoch=epoch)]) for epoch in (1_000, 2_000))
        world.put_all(old)
        # The newer head is there, and of its shards none.
        world.put_head(new.head, SEQ + 1)
        answer = await world.ask("n3.{a} A")
        assert (answer.rcode, answer.answer) == (Rcode.SERVFAIL, ())
        assert not set(old.values) & {get.wanted.salt for get in world.gets_of(SaltLetter.SHARD)}

    run(story())


def test_a_key_that_was_followed_is_answered_from_the_shards_of_the_one_after() -> None:
    async def story() -> None:
        state = FakeState()
        state.commitments.all[B] = KeptCommitment(COMMITTED, SECRET.zone_key)
        world = World(state=state)
        world.publish(BIG)
        answers = [await world.ask(text) for text in ("n17.{b} A", "n17x.{b} A", "n17.{b} AAAA")]
        assert [answer.rcode for answer in answers] == [Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.NOERROR]
        assert text_of(answers[0]) == ["n17 1 c0000211"]
        assert str(answers[0].answer[0].owner) == str(question("n17.{b} A").name)
        assert {tag_of_zone(A), tag_of_zone(B)} <= set(answers[0].tags)
        assert {get.zone_id for get in world.dht.gets} == {A}

    run(story())


def test_a_newer_head_that_is_put_here_keeps_the_shards_at_hand() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        for n in range(20):
            await world.ask(f"n{n}.{{a}} A")
        edited = division_of(120, "192.0.2", BIG, "new 300 A 192.0.2.99")
        count = world.overlay.shards_at_hand[0]
        head = MutableItem.signed(SECRET, SEQ + 1, edited.head)
        world.overlay.item_arrived(head.target, head)
        await at_rest()
        before = len(world.dht.gets)
        same = [n for n in range(20) if pinned_for(f"n{n}.{{a}} A", edited) == pinned_for(f"n{n}.{{a}} A")]
        assert same
        for n in same:
            assert (await world.ask(f"n{n}.{{a}} A")).rcode == 0
        assert len(world.dht.gets) == before
        assert count > 1

    run(story())


def test_an_own_publication_of_a_divided_zone_is_answered_from_its_shards() -> None:
    async def story() -> None:
        world = World()
        head = world.publish(BIG)
        world.overlay.published(head)
        answer = await world.ask("n17.{a} A")
        assert text_of(answer) == ["n17 1 c0000211"]
        assert "head" not in world.asked_for()

    run(story())


# What is missing.


def pinned_for(text: str, division: Division = BIG) -> Pinned:
    """Return the shard that a question needs."""
    needed = content_of(MutableItem.signed(SECRET, SEQ, division.head)).answer(question(text))
    assert isinstance(needed, Needed)
    return needed.items[0]


def without(world: World, text: str) -> Pinned:
    """Remove the shard of a name from the DHT; return what is pinned."""
    wanted = pinned_for(text)
    del world.dht.salted[wanted.target(SECRET.zone_key)]
    return wanted


@pytest.mark.parametrize("rtype", ["A", "AAAA"])
def test_a_missing_shard_is_a_failure_that_names_it_and_never_an_absence(rtype: str) -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        lost = without(world, "n17.{a} A")
        answer = await world.ask(f"n17.{{a}} {rtype}")
        assert (answer.rcode, answer.failure, answer.answer) == (Rcode.SERVFAIL, True, ())
        assert answer.ede == ((Ede.NO_REACHABLE_AUTHORITY, f"{lost}: contacts answered, and none has this item"),)
        assert str(lost).startswith("shard ")
        # The head was looked up again, once; it pins the same shard.
        assert world.asked_for() == ["head", str(lost), "head"]
        # Other shards are answered.
        other = next(n for n in range(120) if pinned_for(f"n{n}.{{a}} A") != lost)
        assert (await world.ask(f"n{other}.{{a}} A")).rcode == 0

    run(story())


def test_a_shard_that_nobody_has_is_not_looked_for_again_before_its_time() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        lost = without(world, "n17.{a} A")
        await world.ask("n17.{a} A")
        count = len(world.dht.gets)
        again = await world.ask("n17.{a} TXT")
        assert (again.rcode, len(world.dht.gets)) == (Rcode.SERVFAIL, count)
        assert again.expiry > world.clock.now
        world.clock.turn(6.0)
        await world.ask("n17.{a} A")
        assert world.asked_for()[count:] == [str(lost), "head"]

    run(story())


def test_many_missing_shards_of_a_zone_have_its_head_looked_up_again_once_in_a_while() -> None:
    async def story() -> None:
        world = World()
        world.put_head(LARGE.head)
        for n in range(40):
            assert (await world.ask(f"n{n}.{{a}} A")).rcode == Rcode.SERVFAIL
        assert len(world.gets_of(SaltLetter.SHARD)) > 4
        assert world.asked_for().count("head") == 2
        world.clock.turn(6.0)
        await world.ask("n0.{a} A")
        assert world.asked_for().count("head") == 3

    run(story())


def test_a_shard_that_is_put_here_ends_its_failure() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        lost = without(world, "n17.{a} A")
        await world.ask("n17.{a} A")
        world.invalidated.clear()
        item = world.put(lost, dict(BIG.items())[lost])
        world.overlay.item_arrived(item.target, item)
        assert world.invalidated == [tag_of_zone(A)]
        assert (await world.ask("n17.{a} A")).rcode == 0
        world.invalidated.clear()
        world.overlay.item_arrived(item.target, item)
        assert world.invalidated == [], "only a failure that ends is told"

    run(story())


def test_where_a_shard_is_gone_a_newer_head_is_found_and_answers() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        await world.ask("n40.{a} A")
        edited = division_of(120, "198.51.100", BIG)
        world.dht.salted.clear()
        world.publish(edited, SEQ + 1)
        # The head in hand is confirmed, but its shard is gone.
        answer = await world.ask("n17.{a} A")
        assert text_of(answer) == ["n17 1 c6336411"]
        assert world.asked_for().count("head") == 2

    run(story())


def test_without_any_contact_the_failure_is_one_of_the_network() -> None:
    async def story() -> None:
        world = World(at_once=False)
        head = world.put_head(BIG.head)
        task = asyncio.create_task(world.ask("n17.{a} A"))
        await at_rest()
        world.dht.gets[0].on_item(head)
        world.dht.gets[0].end(head)
        await at_rest()
        world.dht.gets[1].end(None, answered_count=0)
        await at_rest()
        world.dht.gets[2].end(head)
        await at_rest()
        (code, text), *_ = task.result().ede
        assert task.result().rcode == Rcode.SERVFAIL
        assert "shard" in text
        assert code in (Ede.NETWORK_ERROR, Ede.NO_REACHABLE_AUTHORITY)

    run(story())


# What is wrong.


def test_a_replayed_shard_is_left_out_and_never_ends_in_a_negative() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        edited = division_of(120, "192.0.2", BIG, "new 300 A 192.0.2.99")
        head = content_of(world.put_head(edited.head, SEQ + 1))
        needed = head.answer(question("new.{a} A"))
        assert isinstance(needed, Needed)
        (wanted,) = needed.items
        # The shard of before, which lacks the name, under the salt of now: only the key's holder could sign that.
        (before,) = [v for p, v in BIG.items() if (p.letter, p.index) == (wanted.letter, wanted.index)]
        world.put(wanted, before)
        answer = await world.ask("new.{a} A")
        assert (answer.rcode, answer.authority) == (Rcode.SERVFAIL, ())
        assert any(report.dropped.get("pin-wrong") for report in world.overlay.reports)

    run(story())


def test_a_value_that_breaks_a_rule_is_counted_and_its_names_fail() -> None:
    async def story() -> None:
        world = World()
        zone = zone_of(hosts(30))
        items = divided(zone, [Made(APEX, 0)])
        (value,) = items.values.values()
        # The publisher has pinned a value of an unknown kind.
        bad = Items(APEX)
        from tests.unit.items.divisions import pin, salt

        broken = b"\x07" + value[1:]
        rdata = bytes([1, 0, 0]) + (1_790_000_000).to_bytes(4) + pin(broken)
        bad.head = packet([RR(APEX, DIRECTORY, Class.IN, 300, rdata)])
        bad.values[salt(b"s", APEX, 1_790_000_000, 0, 0, 0, pin(broken))] = broken
        world.put_all(bad)
        answer = await world.ask("n3.{a} A")
        assert answer.rcode == Rcode.SERVFAIL
        assert answer.ede[-1][1] == f"shard 1 of 1 of {APEX}: the item of this pin breaks a rule of divided zones"
        assert world.overlay.counters["item-shard-kind"] == 1

    run(story())


@pytest.mark.parametrize(
    ("rdata", "reason"),
    [
        (bytes([1, 16, 0]) + bytes(4) + bytes(4), "directory-bits"),
        (bytes([1, 3, 0]) + bytes(4) + bytes(16), "directory-pins"),
        (bytes([1, 255, 0]) + bytes(4), "directory-bits"),
        (bytes([2, 0, 0]) + bytes(8), "directory-version"),
    ],
    ids=["2^16 shards", "pins for half the shards", "d = 255", "another version"],
)
def test_a_directory_that_cannot_be_read_costs_no_look_up_and_denies_nothing(rdata: bytes, reason: str) -> None:
    async def story() -> None:
        world = World()
        world.put_head(packet([RR(APEX, DIRECTORY, Class.IN, 300, rdata)]))
        answer = await world.ask("www.{a} A")
        assert answer.rcode == Rcode.SERVFAIL
        assert reason in answer.ede[-1][1]
        assert world.asked_for() == ["head"]

    run(story())


def test_parts_of_other_digests_are_left_out_and_the_name_fails() -> None:
    async def story() -> None:
        world = World()
        items = divided(zone_of(hosts(30)), [Made(APEX, 0, part_bytes=200)])
        world.put_all(items)
        parts = [salt for salt in items.values if salt[:1] == b"p"]
        assert len(parts) > 1
        for salt in parts[:1]:
            item = MutableItem.signed(SECRET, SEQ, b"\3abcd another slice", salt)
            world.dht.salted[item.target] = item
        answer = await world.ask("n3.{a} A")
        assert answer.rcode == Rcode.SERVFAIL
        assert "part " in answer.ede[-1][1]
        assert any(report.dropped.get("pin-wrong") for report in world.overlay.reports)

    run(story())


def test_a_part_of_another_edition_is_counted_and_the_name_fails() -> None:
    async def story() -> None:
        from tests.unit.items.divisions import pin, salt

        world = World()
        whole = packet(
            [rr for rrset in zone_of(hosts(8)).rrsets.values() if rrset.owner != APEX for rr in rrset.records()]
        )
        epoch = 1_790_000_000
        part = b"\3" + b"eeee" + whole[100:]
        first = b"\1" + b"nnnn" + b"\1" + pin(part) + whole[:100]
        head = packet([RR(APEX, DIRECTORY, Class.IN, 300, bytes([1, 0, 0]) + epoch.to_bytes(4) + pin(first))])
        items = Items(APEX, head)
        items.values[salt(b"s", APEX, epoch, 0, 0, 0, pin(first))] = first
        items.values[salt(b"p", APEX, epoch, 0, 0, 1, pin(part))] = part
        world.put_all(items)
        answer = await world.ask("n3.{a} A")
        assert answer.rcode == Rcode.SERVFAIL
        assert world.overlay.counters["item-part-nonce"] == 1

    run(story())


# What it costs.


def deep(bits: int, *, by_manifests: bool, part_bytes: int = 0) -> tuple[Items, list[str]]:
    """Return a zone divided three times over, to the deepest that is allowed, with a wildcard at the deepest owner."""
    inner, deepest = APEX.child(b"a"), APEX.child(b"a").child(b"b")
    lines = [SOA, "*.b.a 300 A 192.0.2.1", *[f"n{n}.b.a 300 TXT {'x' * 200}" for n in range(24)]]
    mades = [Made(owner, bits, by_manifests=by_manifests) for owner in (APEX, inner)]
    mades.append(Made(deepest, bits, by_manifests=by_manifests, part_bytes=part_bytes))
    return divided(zone_of(lines), mades), lines


@pytest.mark.parametrize("bits", [0, 7, 8, 12])
def test_head_manifest_shard_parts_and_a_wildcards_shard_fit_the_budget_of_a_question(bits: int) -> None:
    async def story() -> None:
        world = World()
        # Among 1,000 nodes a pinned item costs five requests, and one of several that are looked up together.
        world.dht.salted_rpcs = 5
        items, _ = deep(bits, by_manifests=bits > 0, part_bytes=40 if bits else 260)
        world.put_all(items)
        answer = await world.ask("n3x.b.a.{a} A")
        assert (answer.rcode, text_of(answer)) == (0, ["n3x 1 c0000201"])
        assert answer.rpc_count <= QUESTION_RPCS_MAX
        numbers = {report.number for report in world.overlay.reports}
        manifests = {report.number for report in world.overlay.reports if report.pinned.startswith("manifest")}
        assert len(numbers) - len(manifests) <= QUESTION_LOOKUPS_MAX
        assert len(manifests) == (0 if bits == 0 else 1 if bits <= 7 else len(manifests))

    run(story())


def test_twenty_four_parts_are_one_look_up_of_the_budget_and_leave_within_it() -> None:
    async def story() -> None:
        world = World()
        world.dht.salted_rpcs = 6
        lines = [SOA, *[f"t 300 TXT {n:02}{'x' * 248}" for n in range(88)]]
        division = divide(zone_of(lines), entropy=bytes(32), unix_now=UNIX)
        world.publish(division)
        assert len(world.dht.salted) >= 24
        answer = await world.ask("t.{a} TXT")
        assert (answer.rcode, len(answer.answer)) == (0, 88)
        assert len(world.gets_of(SaltLetter.PART)) == 24
        assert answer.rpc_count <= QUESTION_RPCS_MAX
        assert [report.pinned for report in world.overlay.reports][-1].endswith("and 23 more")
        assert len(world.overlay.reports) == 3

    run(story())


def test_a_repeated_question_goes_on_where_the_first_one_ended() -> None:
    async def story() -> None:
        world = World()
        world.dht.salted_rpcs = 12
        lines = [SOA, *[f"t 300 TXT {n:02}{'x' * 248}" for n in range(88)]]
        world.publish(divide(zone_of(lines), entropy=bytes(32), unix_now=UNIX))
        # Every second part costs more than its share.
        first = await world.ask("t.{a} TXT")
        assert (first.rcode, "used up" in first.ede[-1][1]) == (Rcode.SERVFAIL, True)
        assert first.rpc_count <= QUESTION_RPCS_MAX
        asked: list[int] = []
        for _ in range(6):
            before = len(world.gets_of(SaltLetter.PART))
            world.dht.salted_rpcs = 8
            world.clock.turn(6.0)
            answer = await world.ask("t.{a} TXT")
            asked.append(len(world.gets_of(SaltLetter.PART)) - before)
            if answer.rcode == 0:
                break
        assert answer.rcode == 0

    run(story())


def test_a_look_up_that_the_budget_of_another_question_cut_short_is_made_again() -> None:
    async def story() -> None:
        world = World(at_once=False)
        head = world.put_head(BIG.head)
        first = asyncio.create_task(world.ask("n17.{a} A"))
        await at_rest()
        world.dht.gets[0].on_item(head)
        world.dht.gets[0].end(head)
        await at_rest()
        lost = pinned_for("n17.{a} A")
        world.dht.gets[1].end(None, rpc_count=9, verdict=Verdict.BUDGET)
        await at_rest()
        assert first.result().rcode == Rcode.SERVFAIL
        # One question with a small budget begins, another one with its own waits for the same look-up.
        step = FetchPinned(A, A, Needed((lost,)), settled=False)
        small, whole = (
            asyncio.create_task(world.overlay.pinned(step, Budget(world.clock.now + 4, rpc_max=rpc_max)))
            for rpc_max in (8, 200)
        )
        await at_rest()
        assert len(world.dht.gets) == 3
        world.dht.gets[2].end(None, rpc_count=8, verdict=Verdict.BUDGET)
        await at_rest()
        assert isinstance(small.result(), NotFound)
        assert world.dht.gets[3].wanted.rpc_max == 192
        item = MutableItem.signed(SECRET, SEQ, dict(BIG.items())[lost], lost.salt)
        world.dht.gets[3].on_item(item)
        world.dht.gets[3].end(item, rpc_count=5, verdict=Verdict.FOUND)
        await at_rest()
        outcome = whole.result()
        assert isinstance(outcome, Found)
        assert [rpc_count for _, rpc_count in outcome.earlier] == [8, 5]
        assert outcome.pinned_lookup == outcome.earlier[0][0]

    run(story())


def test_the_parts_that_were_found_stay_at_hand_though_others_were_not() -> None:
    async def story() -> None:
        world = World()
        items = divided(zone_of(hosts(30)), [Made(APEX, 0, part_bytes=120)])
        world.put_all(items)
        parts = [salt for salt in items.values if salt[:1] == b"p"]
        lost = MutableItem.signed(SECRET, SEQ, items.values[parts[1]], parts[1])
        del world.dht.salted[lost.target]
        assert (await world.ask("n3.{a} A")).rcode == Rcode.SERVFAIL
        world.dht.salted[lost.target] = lost
        world.clock.turn(6.0)
        before = len(world.dht.gets)
        assert (await world.ask("n3.{a} A")).rcode == 0
        again = [get.wanted.salt for get in world.dht.gets[before:] if get.wanted.pinned is not None]
        assert again == [parts[1]]

    run(story())


def test_of_parts_at_hand_none_is_looked_up() -> None:
    async def story() -> None:
        world = World()
        items = divided(zone_of(hosts(30)), [Made(APEX, 0, part_bytes=120)])
        world.put_all(items)
        await world.ask("n3.{a} A")
        (first,) = world.gets_of(SaltLetter.SHARD)
        wanted = first.wanted.pinned
        assert wanted is not None
        before = len(world.dht.gets)
        # As a question that was about to ask when another one has found it.
        step = FetchPinned(A, A, Needed((wanted,)), settled=False)
        outcome = await world.overlay.pinned(step, Budget(world.clock.now + 4))
        assert isinstance(outcome, Found)
        assert (outcome.earlier, outcome.pinned_lookup, len(world.dht.gets)) == ((), 0, before)

    run(story())


def test_a_chain_through_more_shards_than_the_budget_allows_is_answered_later() -> None:
    async def story() -> None:
        world = World()
        links = [f"c{n} 300 CNAME c{n + 1}" for n in range(9)]
        filler = ["c9 300 A 192.0.2.9", *[f"f{n} 300 TXT {'x' * 180}" for n in range(60)]]
        zone = zone_of([SOA, *links, *filler])
        world.put_all(divided(zone, [Made(APEX, 6)]))
        answers = []
        for _ in range(3):
            answers.append(await world.ask("c0.{a} A"))
            world.clock.turn(6.0)
        assert answers[0].rcode == Rcode.SERVFAIL
        assert answers[-1].rcode == 0
        assert len(answers[-1].answer) == 10
        shards = [get.wanted.salt for get in world.gets_of(SaltLetter.SHARD)]
        assert len(shards) == len(set(shards)), "none is looked up twice"

    run(story())


# Bounds.


def test_of_all_shards_at_hand_the_largest_zone_gives_up_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_module, "ITEMS_AT_HAND_MAX", 6)

    async def story() -> None:
        world = World()
        world.publish(LARGE)
        other = SECRETS["b"]
        apex = other.zone_key.apex
        zone = Zone.of(apex, rrsets(apex, *[f"n{n} 300 A 192.0.2.1" for n in range(4)]), SEQ)
        items = divided(zone, [Made(apex, 0)])
        for salt, value in items.values.items():
            item = MutableItem.signed(other, SEQ, value, salt)
            world.dht.salted[item.target] = item
        world.put_head(items.head, SEQ, other)
        await world.ask("n1.{b} A")
        for n in range(60):
            assert (await world.ask(f"n{n}.{{a}} A")).rcode == 0
        assert len(world.gets_of(SaltLetter.SHARD)) > 6
        assert world.overlay.shards_at_hand[0] <= 6
        before = len(world.dht.gets)
        await world.ask("n1.{b} A")
        assert len(world.dht.gets) == before, "the small zone has kept its shard"
        await world.ask("n59.{a} A")
        assert len(world.dht.gets) == before, "what was asked last is kept"

    run(story())


def test_the_shards_of_a_zone_that_is_forgotten_are_at_hand_no_more() -> None:
    async def story() -> None:
        world = World()
        world.publish(BIG)
        await world.ask("n1.{a} A")
        assert world.overlay.shards_at_hand[0] == 1
        world.overlay.forget(A)
        assert world.overlay.shards_at_hand == (0, 0)
        await world.ask("n1.{a} A")
        assert len(world.gets_of(SaltLetter.SHARD)) == 2

    run(story())


def test_bytes_at_hand_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_module, "BYTES_AT_HAND_MAX", 3_000)

    async def story() -> None:
        world = World()
        world.publish(LARGE)
        for n in range(60):
            assert (await world.ask(f"n{n}.{{a}} A")).rcode == 0
        assert len(world.gets_of(SaltLetter.SHARD)) > 6
        assert world.overlay.shards_at_hand[1] <= 3_000

    run(story())


def test_failures_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_module, "FAILURES_MAX", 2)

    async def story() -> None:
        world = World()
        world.put_head(LARGE.head)
        for n in range(60):
            await world.ask(f"n{n}.{{a}} A")
        lost = dict.fromkeys(pinned_for(f"n{n}.{{a}} A", LARGE) for n in range(60))
        assert len(lost) > 4
        count = len(world.dht.gets)
        await world.ask("n0.{a} A")
        assert len(world.dht.gets) > count, "the oldest failures are forgotten"

    run(story())
