"""Any history of a divided zone: each answer is that of one edition, the one whose head was shown, or a failure."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.registry import Rcode
from p2pdns.dns.zone import Zone
from p2pdns.items.dividing import Division, divide
from tests.overlay_doubles import UNIX, A, question
from tests.unit.overlay.test_divided import SEQ, SOA, World, zone_of
from tests.unit.overlay.test_finder import OVERLAYS
from tests.waiting import at_rest

NAMES = [*[f"n{n}" for n in range(12)], "deep.a", "deep.b", "alias", "x.wild", "cut"]
EDITIONS = 5


@dataclass(frozen=True)
class Edition:
    """One edition of the zone."""

    zone: Zone
    division: Division


def editions() -> list[Edition]:
    """Return the editions of a zone that is edited, grows by a large name, shrinks, and is divided anew."""
    base = [SOA, *[f"f{n} 300 TXT {'x' * 60}" for n in range(40)], "*.wild 300 A 192.0.2.77"]
    contents = [
        [f"n{n} 300 A 192.0.2.{n}" for n in range(9)] + ["alias 300 CNAME n3", "deep.a 300 A 192.0.2.50"],
        [f"n{n} 300 A 198.51.100.{n}" for n in range(12)] + ["alias 300 CNAME n4", "cut 300 NS ns.example."],
        [f"n{n} 300 A 198.51.100.{n}" for n in range(3)] + [f"n5 300 TXT {n:03}{'y' * 200}" for n in range(12)],
        [f"n{n} 300 A 192.0.2.{n}" for n in range(12)]
        + [f"h{n}.b 300 TXT {n:03}{'z' * 200}" for n in range(140)]
        + ["deep.b 300 A 192.0.2.51"],
        [f"n{n} 300 A 203.0.113.{n}" for n in range(4, 12)] + ["alias 300 CNAME n9", "deep.b 300 A 192.0.2.52"],
    ]
    made: list[Edition] = []
    for number, content in enumerate(contents):
        zone = zone_of([*base, *content], SEQ + number)
        former = made[-1].division if made else None
        entropy = hashlib.sha256(bytes([number])).digest()
        division = divide(zone, entropy=entropy, unix_now=UNIX + number, former=former)
        made.append(Edition(zone, division))
    return made


ALL = editions()
ACTIONS = st.one_of(
    st.just(("publish", 0)),
    st.tuples(st.just("lose"), st.integers(0, 10_000)),
    st.just(("restore", 0)),
    st.tuples(st.just("turn"), st.sampled_from([1, 6, 40, 301])),
    *[st.tuples(st.just("ask"), st.integers(0, 4 * len(NAMES) - 1)) for _ in range(3)],
)


def test_the_editions_are_divided_differently() -> None:
    counts = [len(edition.division.directories) for edition in ALL]
    assert min(counts) >= 1
    assert len(dict.fromkeys(counts)) > 1
    assert any(len(shard.values) > 1 for edition in ALL for shard in edition.division.shards.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, min_size=4, max_size=30))
def test_each_answer_is_that_of_the_edition_whose_head_was_shown_or_a_failure(actions: list[tuple[str, int]]) -> None:
    async def story() -> None:
        world, published, highest = World(), 0, -1
        world.publish(ALL[0].division, SEQ)
        for action, number in actions:
            if action == "publish" and published + 1 < EDITIONS:
                published += 1
                world.publish(ALL[published].division, SEQ + published)
            elif action == "lose" and world.dht.salted:
                del world.dht.salted[list(world.dht.salted)[number % len(world.dht.salted)]]
            elif action == "restore":
                for one in range(published + 1):
                    world.publish(ALL[one].division, SEQ + one)
            elif action == "turn":
                world.clock.turn(float(number))
                await at_rest()
            elif action == "ask":
                rtype = ("A", "AAAA", "TXT", "NS")[number // len(NAMES)]
                asked = question(f"{NAMES[number % len(NAMES)]}.{{a}} {rtype}")
                answer = await world.service.trace(asked)
                shown = (world.state.seq_of(A) or SEQ) - SEQ
                assert shown >= highest, "a reader's seq never goes back"
                highest = shown
                assert answer.rpc_count <= 250
                if answer.rcode == Rcode.SERVFAIL:
                    continue
                expected = ALL[shown].zone.answer(asked)
                assert (answer.rcode, [(rr.owner, rr.rtype, rr.rdata) for rr in answer.answer]) == (
                    expected.rcode,
                    [(s.owner, s.rtype, rdata) for s in expected.answer for rdata in s.rdatas],
                )
        # Once all items can be had, and failures are over, every name is answered.
        for one in range(published + 1):
            world.publish(ALL[one].division, SEQ + one)
        world.clock.turn(700.0)
        await at_rest()
        for name in NAMES:
            asked = question(f"{name}.{{a}} TXT")
            expected = ALL[published].zone.answer(asked)
            answer = await world.service.trace(asked)
            assert answer.rcode == expected.rcode, (name, answer.ede)
        await OVERLAYS.pop().close()

    asyncio.run(asyncio.wait_for(story(), 60))
