"""Zones made to cost or to mislead, resolved through a real overlay: they end, cheaply, and speak for nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.message import Message, Question, records_of
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.dns.zone.answer import TOO_MANY_LINKS
from p2pdns.engine.link_server import compose_answer
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.limits import QUESTION_LOOKUPS_MAX, QUESTION_RPCS_MAX
from p2pdns.link import Ask
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.parts import zone_id_of
from p2pdns.resolver.names import Elsewhere, InZone, ResolverSettings
from p2pdns.resolver.service import Service
from p2pdns.resolver.steps import NoReply, Replied, Resolved
from tests.overlay_doubles import KEYS, UNIX, A, Clock, FakeDht, FakeState, FakeUpstream, Told, item_of, rrsets

LOOKUP_RPCS = 30  # What each look-up of the stand-in is charged with.
SECRETS = [SecretKey.generate(bytes([100 + number]) * 32) for number in range(20)]
CHAIN = [secret.zone_key for secret in SECRETS]
OPTIONS = ResolverSettings.of(petnames={"alice": str(A)})


def signed(secret: SecretKey, *lines: str) -> MutableItem:
    """Return an item of a key that has no letter."""
    value = compose(Message(0, 0x8000, None, records_of(rrsets(secret.zone_key.apex, *lines))))
    return MutableItem.signed(secret, int(UNIX * 1_000_000), value)


class World:
    """A service over a DHT that has these items, and whose upstreams are silent."""

    def __init__(self, items: Iterable[MutableItem]) -> None:
        self.clock = Clock()
        self.dht = FakeDht({zone_id_of(item): item for item in items})
        self.upstream = FakeUpstream(*[NoReply("silence")] * 100)
        overlay = Overlay(
            self.dht,
            FakeState(),
            clock=self.clock.boot,
            unix_clock=self.clock.wall,
            tell=Told(),
            later=self.clock.later,
        )
        self.service = Service(overlay, self.upstream, OPTIONS, clock=self.clock.boot)

    async def ask(self, name: str, rtype: Type = Type.A) -> tuple[Resolved, int]:
        """Return the answer to a question, and how many look-ups it caused."""
        before = len(self.dht.gets)
        answer = await self.service.resolve(Question(Name.read(name), rtype), Ask(self.clock.now + 4))
        return answer, len(self.dht.gets) - before


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test's story."""
    asyncio.run(asyncio.wait_for(story, 30))


def assert_failed(answer: Resolved) -> None:
    """Expect SERVFAIL with an extended error, and nothing of the chain."""
    assert (answer.rcode, answer.failure, answer.answer, answer.authority) == (Rcode.SERVFAIL, True, (), ())
    assert answer.ede
    assert answer.ede[0][1]


@pytest.mark.parametrize("link", ["www 60 CNAME www.{}.", "@ 60 DNAME {}.", "@ 60 CNAME {}.", "www 60 NS {}."])
def test_a_chain_of_twenty_keys_ends_within_the_budget_in_servfail(link: str) -> None:
    async def story() -> None:
        items = [signed(secret, link.format(key)) for secret, key in zip(SECRETS, CHAIN[1:], strict=False)]
        world = World([*items, signed(SECRETS[-1], "www 60 A 192.0.2.1", "@ 60 A 192.0.2.1")])
        # A delegation takes the label that it stands at.
        labels = {"@ 60 CNAME {}.": "", "www 60 NS {}.": "www." * 20}.get(link, "www.")
        answer, gets = await world.ask(f"{labels}{CHAIN[0]}.")
        assert_failed(answer)
        assert gets <= QUESTION_LOOKUPS_MAX
        assert answer.rpc_count <= QUESTION_RPCS_MAX
        # What is known by now does not take the chain further.
        again, gets = await world.ask(f"{labels}{CHAIN[0]}.")
        assert_failed(again)
        assert gets == 0

    run(story())


def test_a_chain_within_the_budget_is_followed_to_its_end() -> None:
    async def story() -> None:
        secrets, keys = SECRETS[:QUESTION_LOOKUPS_MAX], CHAIN[:QUESTION_LOOKUPS_MAX]
        items = [signed(secret, f"www 60 CNAME www.{key}.") for secret, key in zip(secrets[:-1], keys[1:], strict=True)]
        world = World([*items, signed(secrets[-1], "www 60 A 192.0.2.1")])
        answer, gets = await world.ask(f"www.{keys[0]}.")
        assert (answer.rcode, len(answer.answer), gets) == (Rcode.NOERROR, QUESTION_LOOKUPS_MAX, QUESTION_LOOKUPS_MAX)
        again, gets = await world.ask(f"www.{keys[0]}.")
        assert (again.answer, gets) == (answer.answer, 0)

    run(story())


@pytest.mark.parametrize(
    "lines",
    [
        (["www 60 CNAME www.{a}"], []),
        (["www 60 CNAME www.{b}"], ["www 60 CNAME www.{a}"]),
        (["www 60 CNAME www.{b}"], ["www 60 CNAME www.alice.p2p.alt."]),
        (["@ 60 DNAME {b}"], ["@ 60 DNAME {a}"]),
        (["www 60 NS {b}"], ["@ 60 CNAME www.{a}"]),
        (["www 60 NS {a}", "@ 60 CNAME www.{a}"], []),
        (["@ 60 DNAME x.{a}"], []),
        (["@ 60 DNAME x.{b}"], ["@ 60 DNAME {a}"]),
    ],
    ids=["self", "two", "by petname", "DNAME", "NS and CNAME", "NS to itself", "growing", "growing by two"],
)
def test_a_loop_fails_and_asking_again_costs_no_look_up(lines: tuple[list[str], list[str]]) -> None:
    async def story() -> None:
        world = World([item_of("a", *lines[0]), item_of("b", *lines[1])])
        answer, gets = await world.ask(f"www.{A}.")
        assert answer.rcode in (Rcode.SERVFAIL, Rcode.YXDOMAIN)
        assert (answer.answer, answer.ad_eligible and answer.failure) == ((), False)
        assert gets <= 2
        assert (await world.ask(f"www.{A}."))[1] == 0

    run(story())


def test_keys_that_nobody_published_are_looked_up_once_however_often_they_are_asked_for() -> None:
    async def story() -> None:
        secret = SECRETS[0]
        fan = [f"f 60 NS {key}." for key in CHAIN[1:6]]
        world = World([signed(secret, *fan)])
        answer, gets = await world.ask(f"f.{secret.zone_key}.")
        assert_failed(answer)
        assert gets == QUESTION_LOOKUPS_MAX
        for label in ("f", "x.f", "y.f"):
            answer, gets = await world.ask(f"{label}.{secret.zone_key}.")
            assert_failed(answer)
            assert gets == 0

    run(story())


def test_as_many_delegates_as_fit_into_an_item_cost_no_more_than_a_question_may() -> None:
    async def story() -> None:
        secret = SECRETS[0]
        world = World([signed(secret, *(f"f 60 NS {key}." for key in CHAIN[1:15]))])
        answer, gets = await world.ask(f"f.{secret.zone_key}.")
        assert_failed(answer)
        assert gets == QUESTION_LOOKUPS_MAX
        assert answer.rpc_count == QUESTION_LOOKUPS_MAX * LOOKUP_RPCS
        assert (await world.ask(f"f.{secret.zone_key}."))[1] == 0

    run(story())


def test_a_question_follows_sixteen_aliases_whichever_zones_they_are_in() -> None:
    """A ladder: in each zone a few DNAMEs, the last of which leads to the next zone, as far as a question may go."""

    def ladder(secret: SecretKey, following: str, count: int) -> MutableItem:
        steps = [f"a{n} 60 DNAME a{n + 1}" for n in range(count - 1)]
        return signed(secret, *steps, f"a{count - 1} 60 DNAME a0.{following}.", "a0 60 TXT x")

    async def story() -> None:
        for count, is_followed in ((3, True), (4, False), (12, False)):
            items = [ladder(SECRETS[n], str(CHAIN[n + 1]), count) for n in range(5)]
            end = signed(SECRETS[5], "a0 60 DNAME b", "www.b 60 A 192.0.2.1")
            world = World([*items, end])
            answer, _ = await world.ask(f"www.a0.{CHAIN[0]}.")
            links = sum(rr.rtype == Type.CNAME for rr in answer.answer)
            if is_followed:
                assert (answer.rcode, links) == (Rcode.NOERROR, 5 * count + 1)
            else:
                assert_failed(answer)
                assert any(TOO_MANY_LINKS in text for _, text in answer.ede)

    run(story())


def test_a_chain_of_an_upstream_counts_with_those_of_zones() -> None:
    def chain(count: int) -> Replied:
        names = ["h.example.", *(f"n{n}.example." for n in range(count))]
        lines = [f"{owner} 60 CNAME {target}" for owner, target in pairwise(names)]
        records = records_of(rrsets(Name.root(), *lines, f"{names[-1]} 60 A 192.0.2.1"))
        return Replied(Message(0, 0x8180, Question(Name.read("h.example."), Type.A), records))

    async def story() -> None:
        for count, is_followed in ((15, True), (16, False), (250, False)):
            world = World([signed(SECRETS[0], "www 60 CNAME h.example.")])
            world.upstream.outcomes.clear()
            world.upstream.outcomes.extend([chain(count)] * 2)
            answer, _ = await world.ask(f"www.{CHAIN[0]}.")
            if is_followed:
                assert (answer.rcode, len(answer.answer)) == (Rcode.NOERROR, count + 2)
            else:
                assert_failed(answer)

    run(story())


TARGETS = ["{a}", "{b}", "{c}", "x.{a}", "y.x.{b}", "alice.p2p.alt.", "x.alice.p2pdns.internal.", "h.example.", "."]
OWNERS = ["@", "x", "y.x", "*", "*.x", "x.{b}"]
LINES = st.one_of(
    st.builds(
        "{} 60 {} {}".format,
        st.sampled_from(OWNERS),
        st.sampled_from(["CNAME", "DNAME", "NS"]),
        st.sampled_from(TARGETS),
    ),
    st.builds("{} 60 A {}".format, st.sampled_from(OWNERS), st.sampled_from(["192.0.2.1", "10.0.0.1"])),
    st.builds("{} 60 MX 10 {}".format, st.sampled_from(OWNERS), st.sampled_from(TARGETS)),
    st.builds("{} 60 HTTPS 000100000400040a00000{}".format, st.sampled_from(OWNERS), st.sampled_from("12")),
)
ASKED = ["x.{a}", "y.x.{a}", "q.y.x.{a}", "{a}", "x.alice.p2p.alt.", "y.x.{b}p2pdns.internal.", "q.{c}lan."]


@given(
    zones=st.fixed_dictionaries({letter: st.lists(LINES, max_size=4) for letter in "abc"}),
    missing=st.sets(st.sampled_from("bc")),
    name=st.sampled_from(ASKED),
    rtype=st.sampled_from([Type.A, Type.NS, Type.MX, Type.HTTPS, Type.CNAME, Type.DS, Type.ANY]),
)
@settings(max_examples=150, deadline=None)
def test_hostile_zones_end_in_an_answer_that_speaks_for_nobody_else(
    zones: dict[str, list[str]], missing: set[str], name: str, rtype: Type
) -> None:
    for letter, key in KEYS.items():
        name = name.replace(f"{{{letter}}}", f"{key}.")

    async def story() -> None:
        items = [item_of(letter, *lines) for letter, lines in zones.items() if letter not in missing]
        world = World(items)
        answer, gets = await world.ask(name, rtype)
        assert gets <= 3
        assert answer.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.SERVFAIL, Rcode.YXDOMAIN)
        # A key without an item denies nothing: what is denied was denied by a zone that was found, or by us.
        if answer.rcode == Rcode.NXDOMAIN:
            owners = [rr.owner for rr in answer.authority if rr.rtype == Type.SOA]
            places = [OPTIONS.place_of(owner) for owner in owners]
            assert all(not isinstance(place, InZone) or place.zone_id in world.dht.items for place in places)  # type: ignore[operator]
        for rr in (*answer.answer, *answer.authority, *answer.additional):
            assert not isinstance(OPTIONS.place_of(rr.owner), Elsewhere) or rr.owner == answer.question.name
            assert bytes([10, 0, 0, 1]) not in rr.rdata
            assert bytes([10, 0, 0, 2]) not in rr.rdata
        assert all(isinstance(OPTIONS.place_of(asked.name), Elsewhere) for asked in world.upstream.asked)
        assert compose_answer(1, answer, 0).message
        again, gets = await world.ask(name, rtype)
        assert (gets, again.rcode) == (0, answer.rcode)

    run(story())
