"""Zones: the rules of content as vectors, and every way a zone can answer."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.message import RR, Message, Question, RRset, records_of, type_of
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Flag, Rcode, Type
from p2pdns.dns.zone import EXPIRE_S_MIN, Zone
from p2pdns.dns.zone.answer import ADDITIONAL_RRSETS_MAX, CHAIN_LINKS_MAX, Kind, ZoneAnswer
from p2pdns.dns.zonefile import reader, writing
from p2pdns.errors import BadItem
from tests.unit.dns.strategies import KEY, OTHER_KEYS, records, rrsets_of, zone_names, zone_records, zone_targets

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "zones.json").read_text("utf-8"))
SEQ = VECTORS["seq"]
BOB, DORA = OTHER_KEYS

ZONE = f"""
$TTL 300
@        SOA ns mail 7 60 60 60 120
@        NS  ns
@        A   192.0.2.1
@        MX  10 mail
@        MX  20 mail.example.
ns       A   192.0.2.2
mail     A   192.0.2.3
mail     AAAA 2001:db8::3
www  60  CNAME web
web      A   192.0.2.4
away     CNAME www.example.com.
tobob    CNAME www.{BOB}
dangling CNAME nowhere
loop1    CNAME loop2
loop2    CNAME loop3
loop3    CNAME loop1
self     CNAME self
a.b.c    TXT "deep"
*.w      A   192.0.2.5
*.w      TXT "star"
x.w      TXT "x"
y.x.w    TXT "y"
*.cw     CNAME web
under.*.e TXT "the asterisk is an empty non-terminal"
d        DNAME c
d        TXT "at the DNAME"
tobobs   DNAME {BOB}
out      DNAME example.com.
round    DNAME under.round2
friend 90 NS {DORA}
friend   NS  {BOB}
hosted   NS  ns1.example.
both     NS  ns1.example.
both     NS  {BOB}
_s._tcp  SRV 0 0 1 mail
svc      HTTPS 1 . alpn=h2
svc      A   192.0.2.6
svc2     HTTPS 1 svc alpn=h2
"""


def at(text: str) -> Name:
    """Return a name of the zone."""
    return KEY if text == "@" else Name.read(text).under(KEY)


def zone_of(text: str) -> Zone:
    """Return the zone of a zone file."""
    return Zone.of(KEY, reader.reading(text, apex=KEY, path="test.zone").rrsets, SEQ)


WHOLE = zone_of(ZONE)


def ask(text: str, rtype: str, zone: Zone = WHOLE) -> ZoneAnswer:
    """Return what the zone says about a relative name."""
    return zone.answer(Question(at(text), type_of(rtype)))


def lines(rrsets: tuple[RRset, ...]) -> list[str]:
    """Return RRsets as `owner ttl TYPE rdata…`, the apex as @ and the other keys as BOB and DORA."""
    found = []
    for rrset in rrsets:
        rdatas = " | ".join(writing.rdata_text(rrset.rtype, rdata) for rdata in rrset.rdatas)
        text = f"{rrset.owner} {rrset.ttl} {Type(rrset.rtype).name} {rdatas}"
        for name, short in ((f".{KEY}", ""), (str(KEY), "@"), (str(BOB), "BOB"), (str(DORA), "DORA")):
            text = text.replace(name, short)
        found.append(text)
    return found


def vector_name(vector: dict[str, Any]) -> str:
    """Return what the test run calls a vector."""
    return str(vector["name"])


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=vector_name)
def test_content_rule_leaves_what_the_vector_says(vector: dict[str, Any]) -> None:
    zone = Zone.verified(Name.read(VECTORS["apex"]), bytes.fromhex(vector["value"]), SEQ)
    assert writing.write(zone).splitlines() == vector["zone"]
    assert dict(zone.dropped) == vector["dropped"]
    assert vector["bug"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=vector_name)
def test_value_that_is_no_response_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(BadItem) as caught:
        Zone.verified(KEY, bytes.fromhex(vector["value"]), SEQ)
    assert caught.value.reason == vector["reason"]


def test_a_zone_file_comes_back_from_an_item() -> None:
    value = compose(Message(0, Flag.QR, None, records_of(WHOLE.rrsets.values())))
    assert Zone.verified(KEY, value, SEQ) == WHOLE
    assert not WHOLE.dropped


@given(zone_records, st.randoms(use_true_random=False))
def test_order_of_records_has_no_influence(found: list[RR], chance: Any) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)
    one = Zone.verified(KEY, compose(Message(0, Flag.QR, None, tuple(found))), SEQ)
    other = Zone.verified(KEY, compose(Message(0, Flag.QR, None, tuple(shuffled))), SEQ)
    assert one == other
    assert one.dropped == other.dropped
    assert list(one.rrsets) == list(other.rrsets)


@given(zone_records)
def test_selecting_twice_changes_nothing_more(found: list[RR]) -> None:
    zone = Zone.of(KEY, rrsets_of(found), SEQ)
    again = Zone.of(KEY, zone.rrsets.values(), SEQ)
    assert again == zone
    assert not again.dropped
    assert Zone.verified(KEY, compose(Message(0, Flag.QR, None, records_of(zone.rrsets.values()))), SEQ) == zone
    kept = sum(len(rrset.rdatas) for rrset in zone.rrsets.values())
    assert kept + sum(zone.dropped.values()) == len(found)


@given(zone_records, st.lists(st.tuples(zone_names, st.integers(0, 300)), max_size=8))
def test_every_question_has_an_answer_of_its_own_zone(found: list[RR], questions: list[tuple[Name, int]]) -> None:
    zone = Zone.of(KEY, rrsets_of(found), SEQ)
    for owner, rtype in [*zone.rrsets, *questions]:
        answer = zone.answer(Question(owner, rtype))
        assert len(answer.answer) <= 2 * (CHAIN_LINKS_MAX + 1)
        for rrset in answer.answer + answer.authority + answer.additional:
            assert rrset.owner.is_at_or_below(KEY)
            assert rrset.rdatas
        assert (answer.target is not None) == (answer.kind in (Kind.ALIAS, Kind.DELEGATED))
        assert (answer.kind in (Kind.NODATA, Kind.NXDOMAIN)) == bool(answer.authority)
        assert (answer.rcode == Rcode.NXDOMAIN) == (answer.kind is Kind.NXDOMAIN)


@given(st.lists(records(zone_names, zone_targets), max_size=12), zone_names)
def test_nothing_exists_below_a_name_that_does_not(found: list[RR], name: Name) -> None:
    """RFC 8020, and its other direction: what exists makes every name above it exist."""
    zone = Zone.of(KEY, rrsets_of(found), SEQ)
    for owner, _ in zone.rrsets:
        parent = owner
        while parent != KEY:
            parent = parent.parent()
            answer = zone.answer(Question(parent, 65281))
            # An alias exists even where what it leads to does not.
            assert answer.answer or answer.kind is not Kind.NXDOMAIN
    answer = zone.answer(Question(name, 65281))
    if answer.kind is Kind.NXDOMAIN and not answer.answer and len(name.wire()) < 250:
        assert zone.answer(Question(name.child(b"x"), 65281)).kind is Kind.NXDOMAIN


ANSWERS = [
    ("@", "A", ["@ 300 A 192.0.2.1"]),
    ("@", "SOA", ["@ 300 SOA ns mail 7 60 60 60 120"]),
    ("WwW", "A", ["WwW 60 CNAME web", "web 300 A 192.0.2.4"]),
    ("www", "CNAME", ["www 60 CNAME web"]),
    ("self", "CNAME", ["self 300 CNAME self"]),
    ("foo.w", "A", ["foo.w 300 A 192.0.2.5"]),
    ("foo.bar.w", "A", ["foo.bar.w 300 A 192.0.2.5"]),
    ("*.w", "TXT", ['*.w 300 TXT "star"']),
    ("x.w", "TXT", ['x.w 300 TXT "x"']),
    ("foo.cw", "A", ["foo.cw 300 CNAME web", "web 300 A 192.0.2.4"]),
    ("d", "TXT", ['d 300 TXT "at the DNAME"']),
    ("d", "DNAME", ["d 300 DNAME c"]),
    ("a.b.d", "TXT", ["d 300 DNAME c", "a.b.d 300 CNAME a.b.c", 'a.b.c 300 TXT "deep"']),
    ("nope.d", "CNAME", ["d 300 DNAME c", "nope.d 300 CNAME nope.c"]),
    ("x.out", "ANY", ["out 300 DNAME example.com.", "x.out 300 CNAME x.example.com."]),
    ("friend", "NS", ["friend 90 NS BOB | DORA"]),
]


@pytest.mark.parametrize(("name", "rtype", "expected"), ANSWERS)
def test_answer(name: str, rtype: str, expected: list[str]) -> None:
    answer = ask(name, rtype)
    assert (answer.kind, answer.rcode) == (Kind.ANSWER, Rcode.NOERROR)
    assert lines(answer.answer) == expected
    assert not answer.authority


@pytest.mark.parametrize(
    ("name", "rtype", "chain"),
    [
        ("@", "TXT", 0),
        ("www", "AAAA", 1),
        ("b.c", "TXT", 0),
        ("c", "A", 0),
        ("_tcp", "SRV", 0),
        ("w", "A", 0),
        ("foo.w", "AAAA", 0),
        ("x.w", "A", 0),
        ("*.e", "A", 0),
        ("foo.e", "A", 0),
        ("friend", "DS", 0),
        ("d", "A", 0),
        ("b.d", "A", 2),
        ("mail", "TYPE65281", 0),
    ],
)
def test_nodata_has_the_soa_and_its_negative_ttl(name: str, rtype: str, chain: int) -> None:
    answer = ask(name, rtype)
    assert (answer.kind, answer.rcode) == (Kind.NODATA, Rcode.NOERROR)
    assert [(rrset.rtype, rrset.ttl) for rrset in answer.authority] == [(Type.SOA, 120)]
    assert len(answer.answer) == chain


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("nope", 0),
        ("a.a.b.c", 0),
        ("foo.mail", 0),
        ("z.x.w", 0),  # The wildcard above is not that of the closest encloser.
        ("foo.y.x.w", 0),
        ("foo.www", 0),
        ("dangling", 1),
        ("nope.d", 2),
        ("*.nope", 0),
    ],
)
def test_nxdomain_has_the_soa_and_the_chain(name: str, chain: int) -> None:
    answer = ask(name, "A")
    assert (answer.kind, answer.rcode) == (Kind.NXDOMAIN, Rcode.NXDOMAIN)
    assert [(rrset.rtype, rrset.ttl) for rrset in answer.authority] == [(Type.SOA, 120)]
    assert len(answer.answer) == chain


@pytest.mark.parametrize(
    ("name", "target", "chain"),
    [
        ("away", "www.example.com", 1),
        ("tobob", f"www.{BOB}", 1),
        ("www.tobobs", f"www.{BOB}", 2),
        ("a.b.out", "a.b.example.com", 2),
    ],
)
def test_alias_that_leaves_the_zone_tells_where_to_go_on(name: str, target: str, chain: int) -> None:
    answer = ask(name, "A")
    assert answer.kind is Kind.ALIAS
    assert answer.target == Name.read(target)
    assert len(answer.answer) == chain


@pytest.mark.parametrize("name", ["loop1", "loop2", "self"])
def test_cname_loop_ends_in_servfail(name: str) -> None:
    answer = ask(name, "A")
    assert (answer.kind, answer.rcode) == (Kind.FAILED, Rcode.SERVFAIL)
    assert "loop" in answer.reason


def test_a_long_chain_is_followed_and_one_without_end_is_not() -> None:
    text = "".join(f"c{i} CNAME c{i + 1}\n" for i in range(CHAIN_LINKS_MAX + 1))
    zone = zone_of(text + f"c{CHAIN_LINKS_MAX + 1} A 192.0.2.1\n")
    assert ask("c1", "A", zone).kind is Kind.ANSWER
    assert ask("c0", "A", zone).rcode == Rcode.SERVFAIL
    growing = zone_of("d DNAME x.d\n")
    assert ask("a.d", "A", growing).rcode == Rcode.SERVFAIL


def test_a_dname_passed_twice_is_told_once() -> None:
    zone = zone_of("d DNAME e\na.e CNAME b.d\nb.e A 192.0.2.1\n")
    answer = ask("a.d", "A", zone)
    assert answer.kind is Kind.ANSWER
    assert [rrset.rtype for rrset in answer.answer] == [Type.DNAME, Type.CNAME, Type.CNAME, Type.CNAME, Type.A]


def test_dname_into_a_name_too_long_is_yxdomain() -> None:
    long = ".".join(["l" * 60] * 3)
    zone = zone_of(f"d DNAME {long}\n")
    answer = ask("a" * 40 + ".d", "A", zone)
    assert (answer.kind, answer.rcode) == (Kind.FAILED, Rcode.YXDOMAIN)
    assert [rrset.rtype for rrset in answer.answer] == [Type.DNAME]


@pytest.mark.parametrize("rtype", ["A", "TXT", "ANY", "SOA", "CNAME"])
def test_a_cut_hands_the_question_to_the_first_key(rtype: str) -> None:
    for name, rest in (("friend", ""), ("www.friend", "www."), ("x.WWW.friend", "x.WWW.")):
        answer = ask(name, rtype)
        assert answer.kind is Kind.DELEGATED
        assert answer.delegates == (BOB, DORA)
        assert answer.target == Name.read(f"{rest}{BOB}")
        assert lines(answer.answer) == [f"{name} 90 CNAME {rest}BOB"]


def test_below_a_cut_even_ns_and_ds_belong_to_the_other_key() -> None:
    for rtype in ("NS", "DS"):
        assert ask("www.friend", rtype).kind is Kind.DELEGATED


def test_a_cut_to_hosts_only_is_servfail_and_one_with_a_key_beside_is_followed() -> None:
    answer = ask("www.hosted", "A")
    assert (answer.kind, answer.rcode) == (Kind.DELEGATED_AWAY, Rcode.SERVFAIL)
    assert "host name" in answer.reason
    assert ask("www.both", "A").delegates == (BOB,)
    assert ask("hosted", "NS").kind is Kind.ANSWER


@pytest.mark.parametrize("host", ["ns1.{bob}", "{bob}example."])
def test_a_host_name_with_a_key_in_it_is_a_host_name(host: str) -> None:
    cut = KEY.child(b"cut")
    zone = Zone.of(KEY, [RRset(cut, Type.NS, 60, (Name.read(host.format(bob=BOB)).wire(),))], SEQ)
    assert zone.answer(Question(cut.child(b"www"), Type.A)).kind is Kind.DELEGATED_AWAY


def test_any_is_one_rrset_and_always_the_same() -> None:
    for name in ("@", "mail", "foo.w", "www"):
        answer = ask(name, "ANY")
        assert answer.kind is Kind.ANSWER
        assert len(answer.answer) == 1
        assert answer == ask(name, "ANY")
    assert ask("b.c", "ANY").kind is Kind.NODATA
    assert ask("nope", "ANY").kind is Kind.NXDOMAIN


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        ("@", "MX", ["mail 300 A 192.0.2.3", "mail 300 AAAA 2001:db8::3"]),
        ("@", "NS", ["ns 300 A 192.0.2.2"]),
        ("_s._tcp", "SRV", ["mail 300 A 192.0.2.3", "mail 300 AAAA 2001:db8::3"]),
        ("svc", "HTTPS", ["svc 300 A 192.0.2.6"]),
        ("svc2", "HTTPS", ["svc 300 A 192.0.2.6"]),
        ("web", "A", []),
    ],
)
def test_addresses_of_targets_in_the_zone_come_along(name: str, rtype: str, expected: list[str]) -> None:
    assert lines(ask(name, rtype).additional) == expected


def test_additional_addresses_are_bounded() -> None:
    zone = zone_of("".join(f"@ MX 1 m{i}\nm{i} A 192.0.2.1\n" for i in range(40)))
    assert len(ask("@", "MX", zone).additional) == ADDITIONAL_RRSETS_MAX


def test_the_owner_of_an_answer_is_spelled_as_it_was_asked() -> None:
    assert ask("MaIl", "A").answer[0].owner.labels[0] == b"MaIl"
    assert ask("MaIl.W", "A").answer[0].owner.labels[:2] == (b"MaIl", b"W")


def test_a_zone_without_soa_gets_one_of_its_item() -> None:
    zone = zone_of("www A 192.0.2.1\n")
    assert (KEY, Type.SOA) not in zone.rrsets
    answer = ask("@", "SOA", zone)
    assert answer.answer[0].ttl == 300
    numbers = struct.unpack("!5I", answer.answer[0].rdatas[0][-20:])
    assert numbers[0] == SEQ // 1_000_000
    assert numbers[4] == 300
    assert ask("nope", "A", zone).authority[0].ttl == 300
    assert Zone.of(KEY, (), (2**32 + 5) * 1_000_000).soa.rdatas[0][-20:-16] == b"\0\0\0\5"


def test_a_negative_ttl_is_the_lesser_of_the_soa_ttl_and_its_minimum() -> None:
    for ttl, minimum in ((60, 600), (600, 60)):
        zone = zone_of(f"@ {ttl} SOA a b 1 2 3 4 {minimum}\n")
        assert ask("nope", "A", zone).authority[0].ttl == 60
        assert ask("@", "SOA", zone).answer[0].ttl == ttl


def test_an_item_lives_thirty_days_or_as_long_as_its_soa_says() -> None:
    assert zone_of("@ A 192.0.2.1\n").expire_seconds == EXPIRE_S_MIN == 30 * 86400
    assert zone_of("@ SOA a b 1 2 3 3600 5\n").expire_seconds == EXPIRE_S_MIN
    assert zone_of("@ SOA a b 1 2 3 9999999 5\n").expire_seconds == 9999999


def test_an_empty_zone_has_an_apex_and_nothing_else() -> None:
    zone = Zone.of(KEY, (), SEQ)
    assert ask("@", "A", zone).kind is Kind.NODATA
    assert ask("www", "A", zone).kind is Kind.NXDOMAIN
    assert ask("@", "ANY", zone).answer[0].rtype == Type.SOA


def test_an_alias_at_the_apex_is_followed_for_every_type_but_its_own() -> None:
    zone = zone_of("@ CNAME www\nwww A 192.0.2.1\n")
    assert [rrset.rtype for rrset in ask("@", "A", zone).answer] == [Type.CNAME, Type.A]
    assert ask("@", "SOA", zone).kind is Kind.NODATA
    assert ask("nope", "A", zone).authority[0].owner == KEY


def test_a_zone_never_changes() -> None:
    assert isinstance(WHOLE.rrsets, Mapping)
    with pytest.raises(TypeError):
        WHOLE.rrsets[KEY, 1] = WHOLE.soa  # type: ignore[index]
    assert WHOLE != "zone"
    assert WHOLE.lowest_ttl == 60
    assert str(KEY) in repr(WHOLE)
