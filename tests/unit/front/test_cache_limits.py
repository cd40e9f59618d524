"""The limits of the answer cache: how long, how negative, and how much memory an entry really takes."""

from __future__ import annotations

import gc
import struct
import sys
import tracemalloc
from pathlib import Path

import dns.message
import pytest

from p2pdns.config import CacheTable, Config
from p2pdns.dns.message import RR, Message, Question
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.front.cache import AnswerCache, is_negative
from p2pdns.front.main import Front
from p2pdns.link import Answer, FrameReader
from p2pdns.link import compose as compose_frame
from tests.front_messages import answer, cache, ede_codes, opt, query
from tests.ttl_walk import ttl_offsets
from tests.unit.front.test_cache import KEY, kept, ttl_of
from tests.unit.front.test_funnel import World

SOA_RDATA = b"\x00\x00" + struct.pack("!5I", 1, 2, 3, 4, 7200)
ENTRIES = 2_000


def with_soa(answer_count: int, *, rcode: int = 0, ttl: int = 7200, beside: Type = Type.SOA) -> Answer:
    """Return an answer of aliases with an SOA (or another record) in its authority section."""
    asked = Question(Name.read("www.example."), int(Type.A))
    aliases = tuple(RR(asked.name, int(Type.CNAME), 1, ttl, Name.read(f"t{i}.").wire()) for i in range(answer_count))
    rdata = SOA_RDATA if beside is Type.SOA else Name.read("ns.example.").wire()
    authority = (RR(Name.read("example."), int(beside), 1, ttl, rdata),)
    message = compose(Message(0, 0x8400 | rcode, asked, aliases, authority))
    return Answer(0, message, ttl_offsets(message), 0.0, float(ttl), float(ttl))


@pytest.mark.parametrize(
    ("given_answer", "expected"),
    [
        (with_soa(0, rcode=3), True),
        (with_soa(0), True),
        (with_soa(1, rcode=3), True),
        (with_soa(2), True),
        (with_soa(1, beside=Type.NS), False),
        (with_soa(0, rcode=2), False),
    ],
    ids=["NXDOMAIN", "NODATA", "alias to NXDOMAIN", "alias to NODATA", "alias and servers", "SERVFAIL"],
)
def test_an_absence_is_told_by_its_rcode_or_by_what_it_says_beside_aliases(
    given_answer: Answer, expected: bool
) -> None:
    assert is_negative(given_answer) is expected


@pytest.mark.parametrize("given_answer", [with_soa(0, rcode=3), with_soa(2)], ids=["NXDOMAIN", "alias to NODATA"])
def test_an_absence_is_kept_for_an_hour_at_most(given_answer: Answer) -> None:
    store = cache()
    accepted = kept(store, given_answer)
    assert accepted.expiry == 3600
    assert ttl_of(accepted) == 3600
    assert store.fresh(KEY, 3599.9) is not None
    assert store.fresh(KEY, 3600.0) is None


def test_the_limit_of_absences_is_a_setting_and_binds_nothing_else() -> None:
    store = AnswerCache(CacheTable(answers_bytes_max=1 << 20, ttl_s_max=86_400, stale_s_max=0, negative_ttl_s_max=60))
    assert store.accepted(with_soa(0, rcode=3), 0.0).expiry == 60
    assert store.accepted(answer(ttl=7200), 0.0).expiry == 7200
    store.change_limits(CacheTable(answers_bytes_max=1 << 20, ttl_s_max=30, stale_s_max=0, negative_ttl_s_max=60))
    assert store.accepted(with_soa(0, rcode=3), 0.0).expiry == 30


def test_the_front_takes_its_limits_from_the_configuration(tmp_path: Path) -> None:
    front = Front(Config(cache=CacheTable(negative_ttl_s_max=5)), tmp_path)
    assert front.funnel.cache.accepted(with_soa(0, rcode=3), 0.0).expiry == 5
    front.apply(Config(cache=CacheTable(negative_ttl_s_max=9)))
    assert front.funnel.cache.accepted(with_soa(0, rcode=3), 0.0).expiry == 9


def test_a_stale_absence_says_that_it_is_one_and_a_stale_answer_too() -> None:
    for rcode, code in ((3, 19), (0, 3)):
        world = World()
        world.ask(query(), 0.0)
        world.tell(answer(rcode=rcode, rdatas=() if rcode else (bytes(4),), ttl=60, expiry=60.0), 0.0)
        world.ask(query(records=[opt()]), 100.0)
        world.funnel.handle_timer(102.0)
        assert ede_codes(world.replies[-1]) == [code]


def test_what_the_engine_calls_stale_the_front_does_not_call_so_again() -> None:
    world = World()
    world.ask(query(), 0.0)
    world.tell(answer(ttl=30, ede=((3, "not renewed"),)), 0.0)
    world.ask(query(records=[opt()]), 100.0)
    world.funnel.handle_timer(102.0)
    reply = dns.message.from_wire(world.replies[-1])
    assert [(int(ede.code), ede.text) for ede in reply.extended_errors()] == [(3, "not renewed")]


def _as_received(number: int) -> tuple[bytes, Answer]:
    """Return a key and an answer as the link brings them: no object in them is shared with another answer."""
    name = Name.read(f"host-{number}.some-zone.example.")
    asked = Question(name, int(Type.A))
    record_count = 1 + number % 3
    records = tuple(RR(name, int(Type.A), 1, 300, bytes([192, 0, 2, i])) for i in range(record_count))
    message = compose(Message(0, 0x8400, asked, records))
    given_answer = Answer(
        number,
        message,
        ttl_offsets(message),
        1000.5 + number,
        1300.5 + number,
        90_000.5 + number,
        tags=tuple((number * 4 + i).to_bytes(8) for i in range(1 + number % 3)),
        ede=((3, f"a text of its own, {number}"),) if number % 10 == 0 else (),
    )
    (received,) = FrameReader().feed(compose_frame(given_answer))
    assert isinstance(received, Answer)
    return bytes(bytearray(asked.wire() + b"\x01")), received


def test_the_stated_cost_of_an_entry_is_what_it_takes() -> None:
    frames = [_as_received(number) for number in range(ENTRIES)]
    del frames
    store = AnswerCache(CacheTable(answers_bytes_max=1 << 30, ttl_s_max=86_400, stale_s_max=86_400))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(ENTRIES):
            key, given_answer = _as_received(number)
            store.put(key, store.accepted(given_answer, 1000.0), 1000.0)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    taken = after - before
    assert len(store) == ENTRIES
    each, stated = taken / ENTRIES, store.size_bytes / ENTRIES
    sys.stdout.write(f"an entry takes {each:.0f} bytes and is counted with {stated:.0f}\n")
    # Never less than it takes: the limit is a promise. Nor twice as much: memory that stands empty answers nothing.
    assert taken <= store.size_bytes <= 1.6 * taken


def test_what_a_person_looks_for_is_told_even_at_nothing(tmp_path: Path) -> None:
    counters = Front(Config(), tmp_path).counters
    told = ("hit", "miss", "stale", "prefetch", "evict", "entries", "bytes")
    assert {f"cache-{name}": counters.get(f"cache-{name}") for name in told} == {f"cache-{name}": 0 for name in told}
    world = hot_world()
    assert world.funnel.cache.facts["entries"] == 1
    assert world.funnel.cache.facts["bytes"] == world.funnel.cache.size_bytes > 0


def hot_world() -> World:
    """Return a front that has one answer."""
    world = World()
    world.ask(query(), 0.0)
    world.tell(answer(), 0.0)
    return world
