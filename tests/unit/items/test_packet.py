"""A zone in one item: the bytes, the round trip, pkarr's own packet, and what a zone too large is told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.message import RR, Message, RRset, type_of, wire
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem, ZoneFileError
from p2pdns.items.item import VALUE_BYTES_READ_MAX, VALUE_BYTES_WRITE_MAX, MutableItem
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet, size_of, zone_of
from tests.unit.dns.strategies import uncompressed

SECRET = SecretKey.generate(bytes(range(32)))
APEX = SECRET.zone_key.apex
A, SOA, MX, TXT, AAAA, SRV, PRIVATE = 1, 6, 15, 16, 28, 33, 65280
PKARR: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "pkarr.json").read_text(encoding="utf-8"))[
    "vectors"
][0]


def rrset(owner: str, rtype: int, ttl: int, *rdatas: bytes, apex: Name = APEX) -> RRset:
    """Return an RRset at an owner relative to the apex."""
    labels = () if owner == "@" else Name.read(owner).labels
    return RRset(Name.of(*labels, *apex.labels), rtype, ttl, rdatas)


def contents(rrsets: Any) -> dict[tuple[Name, int], tuple[int, tuple[bytes, ...]]]:
    """Return what a zone says, without the SOA that a reader makes, in an order that does not matter."""
    return {(one.owner, one.rtype): (one.ttl, tuple(sorted(one.rdatas))) for one in rrsets if one.rtype != SOA}


LABELS = st.sampled_from([b"www", b"mail", b"*", b"_tcp", b"\x00\xff.", b"x" * 63, b"a"])
OWNERS = st.lists(LABELS, max_size=3)
TTLS = st.integers(0, 2**31 - 1)
RDATAS: dict[int, st.SearchStrategy[bytes]] = {
    A: st.binary(min_size=4, max_size=4),
    AAAA: st.binary(min_size=16, max_size=16),
    TXT: st.binary(max_size=20).map(lambda text: bytes([len(text)]) + text),
    MX: st.tuples(st.binary(min_size=2, max_size=2), OWNERS).map(lambda parts: parts[0] + Name.of(*parts[1]).wire()),
    SRV: st.tuples(st.binary(min_size=6, max_size=6), OWNERS).map(
        lambda parts: parts[0] + Name.of(*parts[1], *APEX.labels).wire()
    ),
    PRIVATE: st.binary(max_size=30),
}
RRSETS = st.lists(
    st.sampled_from(sorted(RDATAS)).flatmap(
        lambda rtype: st.builds(
            lambda owner, ttl, rdatas: RRset(Name.of(*owner, *APEX.labels), rtype, ttl, tuple(rdatas)),
            OWNERS,
            TTLS,
            st.lists(RDATAS[rtype], min_size=1, max_size=3, unique=True),
        )
    ),
    max_size=5,
    unique_by=lambda one: (one.owner, one.rtype),
)


@given(RRSETS)
@settings(max_examples=80, deadline=None)
def test_what_is_published_is_what_readers_read(rrsets: list[RRset]) -> None:
    """compose ∘ sign ∘ verify ∘ read is the identity, unknown types and odd bytes included."""
    value = compose_packet(rrsets, APEX, size_bytes_max=65_000)
    if len(value) > VALUE_BYTES_WRITE_MAX:
        return
    item = MutableItem.signed(SECRET, 1_000_000, value)
    zone = zone_of(MutableItem.read_file(item.to_bytes()))
    assert zone.apex == APEX
    assert zone.dropped == {}
    assert contents(zone.rrsets.values()) == contents(rrsets)


@given(RRSETS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_of_rrsets_and_rdata_does_not_change_the_value(rrsets: list[RRset], chance: random.Random) -> None:
    """Publishing a zone again is the same value, so equal seqs have nothing to decide."""
    shuffled = [
        RRset(one.owner, one.rtype, one.ttl, tuple(chance.sample(one.rdatas, len(one.rdatas)))) for one in rrsets
    ]
    chance.shuffle(shuffled)
    assert compose_packet(shuffled, APEX, size_bytes_max=65_000) == compose_packet(rrsets, APEX, size_bytes_max=65_000)


@given(RRSETS)
@settings(max_examples=40, deadline=None)
def test_packet_is_a_response_with_answers_only(rrsets: list[RRset]) -> None:
    """ID 0, flags 0x8000, no question, nothing in the other sections: what pkarr writes."""
    value = compose_packet(rrsets, APEX, size_bytes_max=65_000)
    count = sum(len(one.rdatas) for one in rrsets)
    assert value[:12] == bytes.fromhex("0000 8000 0000") + count.to_bytes(2) + bytes(4)
    read = wire.parse(value)
    assert len(read.answer) == count
    assert size_of(rrsets, APEX).size_bytes == len(value)


def test_names_are_compressed() -> None:
    """The key's name stands once; every further owner costs a pointer."""
    one = compose_packet([rrset("@", A, 300, bytes(4))], APEX)
    two = compose_packet([rrset("@", A, 300, bytes(4)), rrset("www", A, 300, bytes(4))], APEX)
    assert len(one) == 12 + 54 + 10 + 4
    assert len(two) - len(one) == len(b"\3www") + 2 + 10 + 4


def test_packet_of_pkarrs_javascript_is_read() -> None:
    """Names uncompressed, and the answers that its test prints."""
    item = MutableItem.verified(
        ZoneKey.read(PKARR["zone_key"]),
        PKARR["seq"],
        bytes.fromhex(PKARR["value"]),
        bytes.fromhex(PKARR["signature"]),
    )
    expected = [
        rrset(owner, type_of(rtype), ttl, bytes.fromhex(rdata), apex=item.key.apex)
        for owner, rtype, ttl, rdata in PKARR["rrsets"]
    ]
    zone = zone_of(item)
    assert contents(zone.rrsets.values()) == contents(expected)
    assert zone.dropped == {}
    # The same zone as we write it: the same message, and the only difference is compression.
    value = compose_packet(expected, item.key.apex)
    assert len(value) < len(item.value)
    assert wire.parse(value) == wire.parse(item.value)
    assert uncompressed(wire.parse(value)) == item.value


def txt(count: int) -> bytes:
    """Return the RDATA of a TXT of `count` bytes."""
    return bytes([count - 1]) + b"t" * (count - 1)


def test_zone_too_large_is_told_by_how_much_what_is_largest_and_what_to_do() -> None:
    """The numbers add up: after removing what the message says, the zone fits."""
    rrsets = [
        rrset("@", A, 300, bytes(4)),
        rrset("big", TXT, 300, *(txt(size) for size in (250, 251, 252))),
        rrset("middle", TXT, 300, txt(200)),
        rrset("small", TXT, 300, txt(20)),
    ]
    with pytest.raises(ZoneFileError) as caught:
        compose_packet(rrsets, APEX, path="zones/big.zone")
    size = size_of(rrsets, APEX)
    assert size.over_bytes == size.size_bytes - 940
    assert str(caught.value) == (
        f"zones/big.zone: {size.over_bytes} bytes too large for one item: {size.size_bytes}, 940 allowed; "
        f"largest: big TXT ({3 * 12 + 753} bytes), middle TXT (212 bytes), small TXT (32 bytes)"
    )
    assert caught.value.hint is not None
    assert "remove RRs" in caught.value.hint
    assert "on request" not in caught.value.hint, "a zone that 996 bytes do not hold is not promised to fit them"
    assert size_of(rrsets[:1] + rrsets[2:], APEX).over_bytes == 0


def test_limit_is_exact_and_the_larger_one_is_offered_where_it_helps() -> None:
    """940 fits, 941 does not; 996 is mentioned to whom it would help."""
    fixed = len(compose_packet([rrset("@", TXT, 300, *(txt(255) for _ in range(1)))], APEX)) - 255
    sizes = [250, 249, 248, 940 - fixed - 3 * 12 - 747]
    fitting = [rrset("@", TXT, 300, *(txt(size) for size in sizes))]
    assert len(compose_packet(fitting, APEX)) == 940
    over = [rrset("@", TXT, 300, *(txt(size) for size in [*sizes[:3], sizes[3] + 1]))]
    with pytest.raises(ZoneFileError, match="1 bytes too large for one item: 941, 940 allowed") as caught:
        compose_packet(over, APEX)
    assert "up to 996 bytes can be published on request" in str(caught.value.hint)
    assert len(compose_packet(over, APEX, size_bytes_max=VALUE_BYTES_WRITE_MAX)) == 941


def test_huge_zone_is_refused_without_composing_it() -> None:
    """A hundred thousand RRs exceed what a message can count; the error is the same kind."""
    rrsets = [rrset(f"h{number}", A, 300, number.to_bytes(4)) for number in range(70_000)]
    with pytest.raises(ZoneFileError, match="bytes too large for one item"):
        compose_packet(rrsets, APEX)


def test_what_readers_would_drop_is_not_signed() -> None:
    """A foreign owner in a zone is the publisher's mistake, and he hears of it."""
    foreign = RRset(Name.read("example.com."), A, 300, (bytes(4),))
    with pytest.raises(ZoneFileError, match=r"mine.zone: readers would leave out 1 RRs \(1 × ") as caught:
        compose_packet([rrset("@", A, 300, bytes(4)), foreign], APEX, path="mine.zone")
    assert caught.value.hint is not None


def test_a_zone_is_published_without_the_soa_made_for_it() -> None:
    """What a reader made of an item's seq must not become content of the next item."""
    rrsets = [rrset("www", A, 300, bytes(4)), rrset("@", TXT, 300, txt(5))]
    zone = Zone.of(APEX, rrsets, 1_000_000)
    assert (APEX, SOA) not in zone.rrsets
    assert compose_packet(zone, APEX) == compose_packet(rrsets, APEX)
    assert size_of(zone, APEX) == size_of(rrsets, APEX)


def test_zone_of_a_salted_item_is_refused() -> None:
    """A salt makes another item of the same key; it does not speak for the zone."""
    value = compose_packet([rrset("@", A, 300, bytes(4))], APEX)
    with pytest.raises(BadItem, match="zone-with-salt"):
        zone_of(MutableItem.signed(SECRET, 1, value, b"salt"))


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_any_signed_value_ends_in_a_zone_or_a_bad_item(value: bytes) -> None:
    """The publisher is a stranger too."""
    item = MutableItem.signed(SECRET, 1_000_000, value)
    try:
        zone = zone_of(item)
    except BadItem:
        return
    assert zone.apex == APEX


def test_serial_of_a_made_soa_is_the_seq_in_seconds() -> None:
    """zone_of hands the seq down."""
    value = compose_packet([rrset("@", A, 300, bytes(4))], APEX)
    soa = zone_of(MutableItem.signed(SECRET, 1_697_016_827_303_000, value)).soa
    _, offset = Name.parse(soa.rdatas[0], 0)
    _, offset = Name.parse(soa.rdatas[0], offset)
    assert int.from_bytes(soa.rdatas[0][offset : offset + 4]) == 1_697_016_827


def test_packet_of_a_thousand_bytes_from_elsewhere_is_read() -> None:
    """pkarr allows more than we write."""
    rrs = tuple(RR(APEX, TXT, 1, 300, txt(size)) for size in (251, 252, 253, 132))
    value = wire.compose(Message(0, 0x8000, None, rrs, (), ()))
    assert VALUE_BYTES_WRITE_MAX < len(value) <= VALUE_BYTES_READ_MAX
    signature = SECRET.sign(b"3:seqi9e1:v%d:%b" % (len(value), value))
    assert zone_of(MutableItem.verified(SECRET.zone_key, 9, value, signature)).dropped == {}
