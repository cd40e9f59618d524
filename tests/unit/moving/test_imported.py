"""Zone files made of records of other servers: they are read as those records, and say what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.message import RR
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile import reader
from p2pdns.items.keys import SecretKey
from p2pdns.moving.gathering import Gathered
from p2pdns.moving.imported import NAMES_SHOWN_MAX, Imported, remarks_of, zone_file
from tests.unit.dns import strategies

DOMAIN = Name.read("example.com")
KEY = SecretKey.generate(bytes(range(32))).zone_key
OTHER = SecretKey.generate(bytes(range(1, 33))).zone_key


def records_of(text: str) -> list[RR]:
    """Return the records of a zone file of the domain; the reader refuses some that zones elsewhere have."""
    found = reader.reading(text, apex=DOMAIN, path="zone")
    return [record for rrset in found.rrsets for record in rrset.records()]


def below(made: Imported, apex: Name) -> Zone:
    """Return the zone that is read of a text under a key."""
    return Zone.of(apex, reader.reading(made.text, apex=apex, path="zone").rrsets, 0)


def comments(made: Imported) -> str:
    """Return the comments of a text in one line."""
    return " ".join(line.removeprefix("; ") for line in made.text.splitlines() if line.startswith(";"))


TEXT = """
$TTL 300
@ SOA ns1 hostmaster 7 7200 3600 1209600 300
@ NS ns1
@ A 192.0.2.80
@ MX 10 mail
www CNAME @
alias CNAME www.example.net.
mail A 192.0.2.25
ns1 A 192.0.2.53
@ TXT "v=spf1 include:example.com -all"
"""


def test_the_file_is_read_below_any_key_as_the_records_that_were_kept() -> None:
    made = zone_file(DOMAIN, records_of(TEXT), [])
    for key in (KEY, OTHER):
        zone = below(made, key.apex)
        assert {(owner.text_in(key.apex), rtype) for owner, rtype in zone.rrsets} == {
            *(("@", rtype) for rtype in (Type.A, Type.MX, Type.TXT)),
            *(("www", Type.CNAME), ("alias", Type.CNAME), ("mail", Type.A), ("ns1", Type.A)),
        }
        assert Name.read("mail").under(key.apex).wire() in zone.rrsets[key.apex, Type.MX].rdatas[0]
        assert zone.rrsets[Name.read("alias").under(key.apex), Type.CNAME].rdatas == (
            Name.read("www.example.net").wire(),
        )
    assert made.record_count == 7


def rr(owner: str, rtype: int, rdata: bytes = b"", rclass: int = Class.IN) -> RR:
    """Return a record of the domain."""
    name = DOMAIN if owner == "@" else Name.read(owner).under(DOMAIN)
    return RR(name, rtype, rclass, 300, rdata)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (rr("@", Type.NS, DOMAIN.wire()), "1 × NS (a zone here is found by its key"),
        (rr("@", Type.SOA, DOMAIN.wire() * 2 + bytes(20)), "1 × SOA (a zone here is dated"),
        (rr("www", Type.RRSIG, bytes(40)), "1 × RRSIG (DNSSEC"),
        (rr("@", Type.DNSKEY, bytes(40)), "1 × DNSKEY (DNSSEC"),
        (rr("@", Type.NSEC3PARAM, bytes(5)), "1 × NSEC3PARAM (DNSSEC"),
        (rr("@", Type.CDS, bytes(40)), "1 × CDS (DNSSEC"),
        (rr("@", 65534, bytes(5)), "1 × TYPE65534 (a private type"),
        (rr("sub", Type.NS, DOMAIN.wire()), "1 × NS (at or below a delegation"),
        (RR(Name.read("www.example.net"), Type.A, 1, 300, bytes(4)), "1 × A (the name is not in the domain)"),
        (rr("www", Type.A, bytes(4), Class.CH), "1 × a class other than IN"),
        (
            rr(f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 40}", Type.A, bytes(4)),
            "1 × A (the name is too long below a key",
        ),
        (rr("www", Type.MX, b"\0\0" + Name.of(*[b"x" * 63] * 3, b"y" * 40).wire()), ""),
        (rr("www", Type.HTTPS, b"\0\1\0\0\1\0"), "1 × its parameters break RFC 9460"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_record_that_is_left_out_is_counted_with_the_reason(record: RR, words: str) -> None:
    made = zone_file(DOMAIN, [rr("@", Type.A, bytes(4)), record], [])
    assert below(made, KEY.apex).rrsets
    if words:
        assert f"Left out: {words}" in comments(made)
        assert made.record_count == 1
        assert sum(count for _, count in made.left_out) == 1
    else:
        assert made.record_count == 2


def test_glue_and_ds_go_with_their_delegation() -> None:
    cut = [rr("sub", Type.NS, DOMAIN.wire()), rr("sub", Type.DS, bytes(8)), rr("ns.sub", Type.A, bytes(4))]
    made = zone_file(DOMAIN, [*cut, rr("@", Type.A, bytes(4))], [])
    assert made.record_count == 1
    assert [count for _, count in made.left_out] == [1, 1, 1]


def test_a_zone_that_is_too_large_is_written_with_its_size_and_its_largest_records() -> None:
    large = [rr("@", Type.TXT, bytes([250]) + b"x" * 249 + bytes([number])) for number in range(8)]
    made = zone_file(DOMAIN, large, [])
    assert made.size.over_bytes > 0
    assert made.record_count == 8
    assert "So it takes several items: p2pdns check says how many. The largest are @ TXT" in comments(made)


@pytest.mark.parametrize("remark", ["x\nwww A 192.0.2.66", "x\r@ TXT y", "x\v\f\x1c\x85\u2028@ TXT y", "a " * 500])
def test_a_remark_stays_a_comment(remark: str) -> None:
    made = zone_file(DOMAIN, [rr("@", Type.A, bytes(4))], [remark])
    assert below(made, KEY.apex).rrsets == below(zone_file(DOMAIN, [rr("@", Type.A, bytes(4))], []), KEY.apex).rrsets


RECORDS = st.lists(strategies.records(strategies.zone_names, strategies.zone_targets), max_size=8)


@given(RECORDS)
def test_any_records_give_a_file_that_is_read_whole(records: list[RR]) -> None:
    """The strategy's zone stands for the domain: its names are hostile, and so is their data."""
    made = zone_file(strategies.KEY, records, [])
    if made.record_count:
        reading = reader.reading(made.text, apex=KEY.apex, path="zone")
        assert sum(len(rrset.rdatas) for rrset in reading.rrsets) == made.record_count
    assert zone_file(strategies.KEY, list(reversed(records)), []).text == made.text


def test_the_remarks_say_what_was_asked_and_what_cannot_be_seen() -> None:
    www, mail = (Name.read(text).under(DOMAIN) for text in ("www", "mail"))
    star = rr("*", Type.A, bytes(4))
    found = Gathered([], [DOMAIN, www, mail], [mail], [star], [www], [www], 12)
    said = " ".join(remarks_of(found, DOMAIN))
    for words in (
        "12 questions about 3 names: @ www mail.",
        "Not seen: any other name of the domain",
        "No answer, so something may be missing: mail.",
        "Wildcard: a random name has A too",
        "Nothing but the wildcard answered for www.",
        "the CNAME of www, which leads back to itself",
    ):
        assert words in said


def test_the_remarks_list_no_more_names_than_a_person_reads() -> None:
    many = [Name.read(f"n{number}").under(DOMAIN) for number in range(NAMES_SHOWN_MAX + 7)]
    assert "and 7 more" in remarks_of(Gathered(asked=many), DOMAIN)[0]
