"""A zone under another apex, as a succeeded key shows it."""

from __future__ import annotations

from hypothesis import given

from p2pdns.dns.message import RR, Question, RRset, records_of
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.name import Name
from p2pdns.dns.registry import COMMITMENT, Class, Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.answer import Kind
from p2pdns.items.keys import SecretKey
from tests.unit.dns.strategies import KEY, rrsets_of, zone_records

NEXT = Name.read(str(KEY))
OLD = SecretKey.generate(b"\x21" * 32).zone_key.apex
SEQ = 1_800_000_000_000_000
WWW, MAIL = NEXT.child(b"www"), NEXT.child(b"mail")
HOST = Name.read("host.example.")


def zone_with(*rrsets: RRset) -> Zone:
    """Return the zone of the next key."""
    return Zone.of(NEXT, rrsets, SEQ)


def test_owners_and_names_in_rdata_that_end_in_the_next_key_end_in_the_old_one() -> None:
    target = (10).to_bytes(2) + MAIL.wire()
    zone = zone_with(
        RRset(NEXT, Type.MX, 300, (target, (20).to_bytes(2) + HOST.wire())),
        RRset(WWW, Type.CNAME, 60, (MAIL.wire(),)),
        RRset(MAIL, Type.A, 300, (bytes([192, 0, 2, 1]),)),
        RRset(NEXT.child(b"away"), Type.CNAME, 60, (HOST.wire(),)),
    ).at(OLD)
    answer = zone.answer(Question(OLD.child(b"www"), Type.A))
    assert [rrset.owner for rrset in answer.answer] == [OLD.child(b"www"), OLD.child(b"mail")]
    assert names_in(Type.CNAME, answer.answer[0].rdatas[0]) == (OLD.child(b"mail"),)
    assert zone.answer(Question(OLD.child(b"away"), Type.A)).target == HOST
    mail = zone.answer(Question(OLD, Type.MX))
    assert [names_in(Type.MX, rdata) for rdata in mail.answer[0].rdatas] == [(OLD.child(b"mail"),), (HOST,)]
    assert [rrset.owner for rrset in mail.additional] == [OLD.child(b"mail")]


def test_text_that_spells_the_next_key_and_rdata_of_unknown_types_stay_as_they_are() -> None:
    text = WWW.wire()
    zone = zone_with(RRset(NEXT, 65_400, 60, (text,)), RRset(WWW, Type.TXT, 60, (b"\x03www",))).at(OLD)
    assert zone.rrsets[OLD, 65_400].rdatas == (text,)
    assert zone.rrsets[OLD.child(b"www"), Type.TXT].rdatas == (b"\x03www",)


def test_the_made_soa_has_the_other_apex_and_the_same_serial() -> None:
    zone = zone_with(RRset(WWW, Type.TXT, 60, (b"\x03www",)))
    moved = zone.at(OLD)
    assert moved.soa.owner == OLD
    assert names_in(Type.SOA, moved.soa.rdatas[0]) == (OLD, OLD.child(b"hostmaster"))
    assert moved.soa.rdatas[0][-20:] == zone.soa.rdatas[0][-20:]


def test_the_commitment_of_the_next_key_stays_behind() -> None:
    zone = Zone(NEXT, {}, {}, SEQ, (RR(NEXT, COMMITMENT, Class.IN, 0, b"x" * 72),))
    assert zone.at(OLD).made == ()


def test_a_delegation_to_the_next_key_itself_leads_to_the_old_one() -> None:
    moved = zone_with(RRset(WWW, Type.NS, 60, (NEXT.wire(),))).at(OLD)
    answer = moved.answer(Question(OLD.child(b"www"), Type.A))
    assert (answer.kind, answer.delegates) == (Kind.DELEGATED, (OLD,))


@given(zone_records)
def test_a_zone_that_goes_there_and_back_is_the_same(drawn: list[RR]) -> None:
    zone = Zone.of(NEXT, rrsets_of(drawn), SEQ)
    moved = zone.at(OLD)
    assert sum(1 for _ in records_of(moved.rrsets.values())) == sum(1 for _ in records_of(zone.rrsets.values()))
    assert all(owner.is_at_or_below(OLD) for owner, _ in moved.rrsets)
    assert moved.at(NEXT) == zone
    assert (moved.lowest_ttl, moved.expire_seconds) == (zone.lowest_ttl, zone.expire_seconds)
