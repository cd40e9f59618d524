"""Zones as items: what is divided how, what an edit changes, and what is refused with which numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.message import Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import COMMITMENT, Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.answer import Kind
from p2pdns.errors import ZoneFileError
from p2pdns.items.dividing import ITEMS_MAX, RENEWED_AFTER_S, Division, divide, gathered, is_renewed_with
from p2pdns.items.dividing.counts import Load
from p2pdns.items.item import SEQ_PER_SECOND, VALUE_BYTES_WRITE_DEFAULT, MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.items.shards.directory import BITS_MAX, index_of
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.partial import PartialZone
from p2pdns.items.shards.pinned import Pinned, SaltLetter
from p2pdns.items.shards.values import First, Manifest, verified
from tests.unit.items.divisions import asked

SECRET = SecretKey.generate(bytes(range(32)))
APEX = SECRET.zone_key.apex
SEQ = 1_790_000_000_000_000
NOW = 1_790_000_000.0
ASKED = (Type.A, Type.TXT, Type.SOA, Type.ANY)


def name(text: str) -> Name:
    """Return a name of the zone."""
    return APEX if text == "@" else Name.read(text).under(APEX)


def rrset(owner: str, rtype: int, *rdatas: bytes, ttl: int = 300) -> RRset:
    """Return an RRset at a name of the zone."""
    return RRset(name(owner), rtype, ttl, rdatas)


def text(size_bytes: int, mark: int = 0) -> bytes:
    """Return the RDATA of a TXT of about so many bytes."""
    raw = hashlib.sha256(mark.to_bytes(4)).digest() * (size_bytes // 32 + 1)
    return b"".join(bytes([len(part)]) + part for part in (raw[at : at + 255] for at in range(0, size_bytes, 255)))


def address(number: int) -> bytes:
    """Return an IPv4 address."""
    return (10 << 24 | number).to_bytes(4)


def hosts(count: int, prefix: str = "host") -> list[RRset]:
    """Return so many plain hosts."""
    return [rrset(f"{prefix}{number}", Type.A, address(number)) for number in range(count)]


def zone_of(rrsets: Iterable[RRset]) -> Zone:
    """Return the zone with these RRsets."""
    return Zone.of(APEX, rrsets, SEQ)


def divided(rrsets: Iterable[RRset], former: Division | None = None, *, mark: int = 0, now: float = NOW) -> Division:
    """Return a zone divided, with entropy that depends on the mark."""
    return divide(zone_of(rrsets), entropy=hashlib.sha256(bytes([mark])).digest(), unix_now=now, former=former)


def ip6(count: int, depth: int = 16) -> list[RRset]:
    """Return the PTR of so many addresses behind nibbles that all have in common."""
    found = []
    for number in range(count):
        nibbles = ".".join(f"{number:04x}"[::-1])
        found.append(rrset(nibbles + ".0" * depth, Type.PTR, name(f"host{number}").wire()))
    return found


ZONES = {
    "200 hosts": hosts(200),
    "1,000 hosts": hosts(1000),
    "a reverse zone": [
        rrset(f"{number % 256}.{number // 256}", Type.PTR, Name.read(f"host{number}.example.").wire())
        for number in range(1000)
    ],
    "an ip6.arpa tree": ip6(1000),
    "DKIM and SRV": [
        *(rrset(f"s{number}._domainkey", Type.TXT, text(410, number)) for number in range(12)),
        *(rrset(f"_s{number}._tcp", Type.SRV, bytes(6) + name("host1").wire()) for number in range(40)),
        *hosts(20),
    ],
    "wildcards at and below the apex": [*hosts(60), rrset("*", Type.A, address(1)), rrset("*.w", Type.TXT, text(9))],
    "a DNAME and delegations": [
        *hosts(60),
        rrset("d", Type.DNAME, name("e").wire()),
        rrset("x.e", Type.A, address(2)),
        rrset("friend", Type.NS, Name.of(b"b" * 52).wire()),
    ],
    "empty non-terminals": [rrset(f"a.b.c{number}", Type.A, address(number)) for number in range(80)],
    "3,000 names below one label": [*hosts(30), *(rrset(f"n{number}.lab", Type.A, bytes(4)) for number in range(3000))],
    "an RRset of 20 kB": [*hosts(60), rrset("big", Type.TXT, *(text(250, number) for number in range(80)))],
    "an OPENPGPKEY of 4 kB": [*hosts(10), rrset("abc._openpgpkey", Type.OPENPGPKEY, text(4000))],
    "an apex of 30 TXT": [
        rrset("@", Type.SOA, APEX.wire() * 2 + bytes(20)),
        rrset("@", Type.A, address(1)),
        rrset("@", Type.TXT, *(text(60, number) for number in range(30))),
        *hosts(20),
    ],
    "two cells of 15 kB": [
        *(rrset("one", Type.TXT, *(text(250, number) for number in range(60))),),
        *(rrset("two", Type.TXT, *(text(250, number) for number in range(60))),),
    ],
    "an apex with a DNAME": [
        rrset("@", Type.DNAME, Name.read("example.com.").wire()),
        rrset("@", Type.TXT, *(text(60, number) for number in range(30))),
    ],
    "a CNAME with 2,000 names below it": [
        rrset("c", Type.CNAME, name("host1").wire()),
        *(rrset(f"n{number}.c", Type.A, bytes(4)) for number in range(2000)),
        *hosts(10),
    ],
}


@cache
def whole(title: str) -> Division:
    """Return one of these zones divided."""
    return divided(ZONES[title])


def values_of(division: Division) -> dict[bytes, bytes]:
    """Return the values of a division by their salts."""
    return {pinned.salt: value for pinned, value in division.items()}


def partial(division: Division) -> PartialZone:
    """Return what a reader has who has found the head."""
    return PartialZone(Head.verified(APEX, division.head, SEQ))


@pytest.mark.parametrize("title", ZONES)
def test_a_divided_zone_is_the_zone(title: str) -> None:
    zone, division = zone_of(ZONES[title]), whole(title)
    assert division.zone(SEQ) == zone
    values = [division.head, *(value for _, value in division.items())]
    assert max(map(len, values)) <= VALUE_BYTES_WRITE_DEFAULT
    assert (len(values), sum(map(len, values))) == (division.item_count, division.size_bytes)
    assert len(values_of(division)) == division.item_count - 1
    assert not Head.verified(APEX, division.head, SEQ).dropped


@pytest.mark.parametrize("title", ZONES)
def test_readers_answer_from_the_items_what_the_zone_answers(title: str) -> None:
    zone, division = zone_of(ZONES[title]), whole(title)
    values, reader = values_of(division), partial(division)
    names = sorted(zone.nodes)
    for owner in [*names[:: max(1, len(names) // 15)], *names[-2:], APEX]:
        for asked_name in (owner, owner.child(b"nope"), owner.child(b"x").child(b"y")):
            for rtype in ASKED:
                question = Question(asked_name, rtype)
                said, reader, rounds = asked(reader, question, values)
                expected = zone.answer(question)
                assert (said.kind, said.rcode, said.answer) == (expected.kind, expected.rcode, expected.answer)
                assert said.authority == expected.authority
                # A manifest, a shard and its parts; at most once more for a wildcard; no zone here has two aliases.
                assert rounds <= 6


def test_a_zone_that_fits_one_item_is_its_packet_byte_for_byte() -> None:
    zone = zone_of(hosts(30))
    division = divided(hosts(30))
    assert division == Division(APEX, compose_packet(zone, APEX))
    assert (division.item_count, list(division.items())) == (1, [])


def test_a_zone_that_fits_again_is_one_item_again() -> None:
    former = divided(hosts(60))
    assert former.item_count > 1
    assert divided(hosts(30), former) == divided(hosts(30))


@pytest.mark.parametrize(("count", "bits"), [(60, 2), (200, 3), (1000, 6)])
def test_shards_are_four_fifths_full_and_few_have_parts(count: int, bits: int) -> None:
    division = divided(hosts(count))
    assert division.directories[APEX].bits == bits
    editions = list(division.shards.values())
    assert sum(len(edition.values[0]) for edition in editions) <= 0.8 * VALUE_BYTES_WRITE_DEFAULT * len(editions)
    assert sum(len(edition.values) > 1 for edition in editions) <= 0.2 * len(editions)
    # With half as many they would be too full, or too many in parts.
    assert sum(len(edition.message) for edition in editions) > 0.3 * VALUE_BYTES_WRITE_DEFAULT * len(editions)


def test_an_edit_of_one_host_changes_its_shard_and_the_head_and_no_more() -> None:
    former = divided(hosts(1000))
    rrsets = hosts(1000)
    rrsets[500] = rrset("host500", Type.A, address(9_999))
    division = divided(rrsets, former, mark=1, now=NOW + 99)
    assert [pinned.letter.value for pinned, _ in division.fresh_items(former)] == [b"s"]
    assert division.head != former.head
    assert division.directories[APEX].epoch == former.directories[APEX].epoch


def test_an_edit_beyond_128_shards_changes_a_manifest_too() -> None:
    rrsets = hosts(6000)
    former = divided(rrsets)
    assert former.directories[APEX].bits > 7
    rrsets[7] = rrset("host7", Type.AAAA, bytes(16))
    fresh = divided(rrsets, former, mark=1).fresh_items(former)
    # Parts before what pins them, and the manifest last: nothing is pinned that is not there.
    assert [pinned.letter.value for pinned, _ in fresh] == [b"s", b"m"]


def test_nothing_is_pinned_before_it_is_put() -> None:
    division = divided([*hosts(6000), *ZONES["an RRset of 20 kB"], *ZONES["an apex of 30 TXT"]])
    put: set[bytes] = set()
    letters = set()
    for pinned, value in division.fresh_items(None):
        # A value holds the pins of all that it pins.
        said = verified(pinned, value)
        if isinstance(said, First | Manifest):
            assert all(pin in put for pin in said.pins)
        put.add(pinned.pin)
        letters.add(pinned.letter)
    assert letters == set(SaltLetter)
    assert all(pin in put for directory in division.directories.values() for pin in directory.pins)


def test_an_item_is_signed_again_with_a_head_that_is_a_week_newer() -> None:
    week = RENEWED_AFTER_S * SEQ_PER_SECOND
    assert [is_renewed_with(SEQ + age, SEQ) for age in (0, week, week + 1)] == [False, False, True]


def test_the_same_zone_again_changes_nothing() -> None:
    for title in ZONES:
        former = whole(title)
        again = divided(ZONES[title], former, mark=1, now=NOW + 99)
        assert (again.head, again.fresh_items(former)) == (former.head, []), title


def test_an_edit_taken_back_does_not_bring_back_a_salt() -> None:
    former = divided(hosts(200))
    between = divided([*hosts(200), rrset("new", Type.A, address(1))], former, mark=1)
    after = divided(hosts(200), between, mark=2)
    assert after.zone(SEQ) == former.zone(SEQ)
    fresh = {pinned.salt for pinned, _ in after.fresh_items(between)}
    assert fresh
    assert not fresh & values_of(former).keys()


def test_nobody_without_the_entropy_can_foresee_a_pin() -> None:
    # An editor knows the content and the former items. Two draws give two pins.
    rrsets = [*hosts(200), rrset("ground", Type.TXT, text(9))]
    former = divided(hosts(200))
    one, other = (dict(divided(rrsets, former, mark=mark).fresh_items(former)) for mark in (1, 2))
    assert len(one) == len(other) == 1
    assert not one.keys() & other.keys()


def test_two_publishers_share_no_salt_and_one_that_dies_before_his_head_harms_nobody() -> None:
    base = divided(hosts(200))
    # Both change the same host, and so the same shard; the first one dies before he puts his head.
    dead = divided([*hosts(199), rrset("host199", Type.A, address(1))], base, mark=1)
    alive = divided([*hosts(199), rrset("host199", Type.A, address(2))], base, mark=2)
    left = {pinned.salt: value for pinned, value in dead.fresh_items(base)}
    assert left
    assert not left.keys() & (values_of(alive).keys() | values_of(base).keys())
    said, _, _ = asked(partial(alive), Question(name("host199"), Type.A), values_of(base) | left | values_of(alive))
    assert said.answer[0].rdatas == (address(2),)


def test_growth_begins_an_epoch_and_overwrites_nothing() -> None:
    former = divided(hosts(200))
    grown = divided(hosts(400), former, now=NOW - 1_000_000)
    old, new = former.directories[APEX], grown.directories[APEX]
    assert new.bits == old.bits + 1
    # The clock was set back, and the epoch goes on all the same.
    assert new.epoch == old.epoch + 1
    assert not values_of(former).keys() & values_of(grown).keys()
    # A reader with the old head still finds what it pins.
    said, _, _ = asked(partial(former), Question(name("host1"), Type.A), values_of(former) | values_of(grown))
    assert said.kind is Kind.ANSWER


def test_names_that_come_and_go_do_not_move_all_others() -> None:
    division = divided(hosts(60))
    count = 60
    while division.directories[APEX].bits == 2:
        count += 4
        division = divided(hosts(count), division)
    # Just beyond the count at which the shards were doubled, hosts come and go.
    epoch = division.directories[APEX].epoch
    for step in range(6):
        division = divided(hosts(count + (12 if step % 2 else -12)), division, now=NOW + step)
        assert (division.directories[APEX].bits, division.directories[APEX].epoch) == (3, epoch)


def test_a_planned_cell_is_in_the_shard_where_readers_look_for_it() -> None:
    cells = {b"host%d" % number: 1 for number in range(50)}
    load = Load(APEX, 7, cells, 0, 1000)
    for bits in range(BITS_MAX + 1):
        expected = {cell: index_of(APEX, 7, bits, cell) for cell in cells}
        assert {cell: load.index_of(cell, bits) for cell in cells} == expected
        assert {cell: index for index, shard in enumerate(load.shards(bits)) for cell in shard} == expected


def test_shards_become_fewer_when_they_are_nearly_empty() -> None:
    division = divided(hosts(1000))
    for count in (900, 800, 700):
        division = divided(hosts(count), division)
    assert division.directories[APEX].bits == 6
    assert divided(hosts(400), division).directories[APEX].bits < 6


def test_names_made_for_one_shard_are_scattered_by_another_epoch() -> None:
    former = divided(hosts(1000))
    directory = former.directories[APEX]
    chosen: list[RRset] = []
    number = 0
    while len(chosen) < 1_100:
        cell = b"g%d" % number
        if index_of(APEX, directory.epoch, directory.bits, cell) == 0:
            chosen.append(RRset(APEX.child(cell), Type.A, 300, (bytes(4),)))
        number += 1
    division = divided([*hosts(1000), *chosen], former)
    assert division.directories[APEX].epoch > directory.epoch
    assert len(division.directories) == 1
    assert max(len(edition.values) for edition in division.shards.values()) <= 3


def test_a_large_cell_gets_a_directory_where_it_branches() -> None:
    division = whole("an ip6.arpa tree")
    # Seventeen labels have one child each; the directory is at the last of them, and one more is not needed.
    assert [owner.text_in(APEX) for owner in division.directories] == ["@", "0" + ".0" * 16]
    lab = whole("3,000 names below one label")
    assert [owner.text_in(APEX) for owner in lab.directories] == ["@", "lab"]


def test_a_directory_of_a_large_cell_stays_until_it_is_small() -> None:
    division = whole("3,000 names below one label")
    for count, kept in ((1500, True), (500, True), (200, False)):
        rrsets = [*hosts(30), *(rrset(f"n{number}.lab", Type.A, bytes(4)) for number in range(count))]
        division = divided(rrsets, division)
        assert (name("lab") in division.directories) == kept, count
        assert division.zone(SEQ) == zone_of(rrsets)


def test_what_an_apex_has_beyond_its_head_is_in_its_own_shard() -> None:
    division = whole("an apex of 30 TXT")
    directory = division.directories[APEX]
    assert directory.own_pin is not None
    head = Head.verified(APEX, division.head, SEQ)
    assert {rtype for owner, rtype in head.zone.rrsets if owner == APEX} == {Type.SOA, Type.A}
    assert len(division.shards[APEX, None].values) > 1


def test_pins_are_in_the_head_up_to_128_shards() -> None:
    assert not whole("1,000 hosts").directories[APEX].by_manifests
    division = divided(hosts(6000))
    assert division.directories[APEX].by_manifests
    assert len(division.manifests) == division.directories[APEX].shard_count // 128


def test_the_head_is_a_packet_with_the_apex_and_copies_for_other_readers() -> None:
    rrsets = [
        *hosts(60),
        rrset("@", Type.A, address(1)),
        rrset("*", Type.A, address(2)),
        rrset("www", Type.A, address(3)),
    ]
    division = divided(rrsets)
    foreign = Zone.verified(APEX, division.head, SEQ)
    assert foreign.answer(Question(APEX, Type.A)).answer[0].rdatas == (address(1),)
    assert foreign.answer(Question(name("www"), Type.A)).answer[0].rdatas == (address(3),)
    # A reader of copies would give the wildcard for names that are in shards.
    assert foreign.answer(Question(name("host59x"), Type.A)).kind is Kind.NXDOMAIN
    assert name("www") not in Head.verified(APEX, division.head, SEQ).nodes


def test_a_commitment_to_a_next_key_stays_in_the_head() -> None:
    commitment = rrset("@", COMMITMENT, bytes(72), ttl=0)
    for count in (5, 200):
        division = divide(zone_of(hosts(count)), made=[commitment], entropy=bytes(32), unix_now=NOW)
        assert Head.verified(APEX, division.head, SEQ).zone.made == commitment.records()
        assert division.zone(SEQ).made == commitment.records()
        assert not Head.verified(APEX, division.head, SEQ).dropped


def test_items_can_be_signed_and_are_found_under_their_targets() -> None:
    division = whole("DKIM and SRV")
    for pinned, value in division.items():
        item = MutableItem.signed(SECRET, SEQ, value, pinned.salt)
        assert item.target == pinned.target(SECRET.zone_key)
        pinned.check(item.value)


@pytest.mark.parametrize("title", ZONES)
def test_a_division_is_gathered_from_its_items(title: str) -> None:
    division = whole(title)
    values, held = values_of(division), dict[bytes, bytes]()

    def value_of(pinned: Pinned) -> bytes | None:
        return held.get(pinned.salt)

    rounds: list[list[Pinned]] = []
    while isinstance(found := gathered(APEX, division.head, value_of), list):
        rounds.append(found)
        held.update({pinned.salt: values[pinned.salt] for pinned in found})
    assert found == division
    # Manifests, shards, parts: each item once.
    assert len(rounds) <= 3
    assert sum(map(len, rounds)) == division.item_count - 1


@pytest.mark.parametrize(
    ("rrsets", "words"),
    [
        ([rrset("big", Type.TXT, *(text(250, number) for number in range(95)))], ["big has 25", "23278 fit 25 items"]),
        ([rrset("@", Type.TXT, *(text(250, number) for number in range(95)))], ["@ has 25", "23278 fit 25 items"]),
        (
            [rrset("cut", Type.NS, *(Name.of(b"%060d" % number).wire() for number in range(400)))],
            ["cut has 29", "23278 fit 25 items"],
        ),
        ([*hosts(60), rrset("x", 65310, bytes(11))], ["x has TYPE65310, which p2pdns alone makes"]),
        (
            [rrset(f"n{number}.{label}", Type.TXT, text(900)) for label in range(50) for number in range(27)],
            ["names at and below it have", "3 directories above one another and 48 in all"],
        ),
        (
            [
                rrset(f"n{number}.{'.'.join('abcd'[depth:])}", Type.TXT, text(900))
                for depth in range(4)
                for number in range(30)
            ],
            ["names at and below it have", "3 directories above one another"],
        ),
    ],
    ids=[
        "a name",
        "the apex",
        "a delegation",
        "a directory of his own",
        "too many directories",
        "four above one another",
    ],
)
def test_what_cannot_be_divided_is_refused_with_its_numbers(rrsets: list[RRset], words: list[str]) -> None:
    with pytest.raises(ZoneFileError) as caught:
        divided(rrsets)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.hint


def test_a_head_without_room_for_its_directories_is_refused_with_its_numbers() -> None:
    rrsets = [rrset(f"n{number}.{'x' * 60}{label}", Type.TXT, text(900)) for label in range(12) for number in range(27)]
    with pytest.raises(ZoneFileError) as caught:
        divided(rrsets)
    assert "13 directories are" in str(caught.value)
    assert "bytes too large for one item" in str(caught.value)


def test_more_items_than_a_node_keeps_of_a_key_are_refused_with_their_number() -> None:
    rrsets = [rrset(f"n{number}", Type.TXT, text(900, number)) for number in range(8_100)]
    with pytest.raises(ZoneFileError) as caught:
        divided(rrsets)
    assert f"{ITEMS_MAX} allowed" in str(caught.value)


LABELS = st.sampled_from([b"a", b"b", b"*", b"www", b"_tcp"])
OWNERS = st.lists(LABELS, max_size=3).map(lambda labels: Name.of(*labels, *APEX.labels))
CONTENTS = st.lists(st.tuples(OWNERS, st.sampled_from([1, 16, 2, 5, 39]), st.integers(1, 600)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(CONTENTS, CONTENTS)
def test_any_zone_and_any_edit_of_it_is_read_as_it_was_divided(
    first: list[tuple[Name, int, int]], second: list[tuple[Name, int, int]]
) -> None:
    def made(rows: list[tuple[Name, int, int]]) -> Zone:
        rrsets = {}
        for owner, rtype, size in rows:
            rdata = {1: address(size), 16: text(size, size)}.get(rtype, name("b").wire())
            rrsets[owner, rtype] = RRset(owner, rtype, size, (rdata,))
        return zone_of(rrsets.values())

    former = divide(made(first), entropy=bytes(32), unix_now=NOW, value_bytes_max=200 + len(APEX.wire()))
    zone = made(first + second)
    division = divide(
        zone, entropy=bytes([1]) * 32, unix_now=NOW, former=former, value_bytes_max=200 + len(APEX.wire())
    )
    assert division.zone(SEQ) == zone
    kept = values_of(former)
    assert all(kept[salt] == value for salt, value in values_of(division).items() if salt in kept)
