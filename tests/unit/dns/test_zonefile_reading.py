"""What zone files of other servers hold: glue, TTLs left out, $GENERATE, SVCB and names outside ASCII."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.message import RR, Message, Question, RRset, records_of
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Flag, Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile import reader, writing
from p2pdns.dns.zonefile.reader import Reading
from p2pdns.errors import ZoneFileError
from p2pdns.items.packet import compose_packet
from tests.unit.dns.strategies import KEY, OTHER_KEYS, records

BOB = OTHER_KEYS[0]


def reading(text: str, reroot_if_needed: str | None = None) -> Reading:
    """Return what a text says."""
    origin = Name.read(reroot_if_needed) if reroot_if_needed else None
    return reader.reading(text, apex=KEY, path="a.zone", reroot_if_needed=origin)


def shown(text: str) -> list[str]:
    """Return the zone of a text as `write` shows it."""
    return writing.write(Zone.of(KEY, reading(text).rrsets, 0)).splitlines()


def warnings(text: str) -> list[tuple[int, str]]:
    """Return the warnings about a text, with their lines."""
    return [(warning.line, warning.what) for warning in reading(text).warnings]


# What is left out.


def test_glue_and_ds_are_left_out_with_a_warning_a_cut() -> None:
    text = f"""$TTL 60
friend   NS   {BOB}
friend   DS   1 8 2 {"aa" * 32}
         A    192.0.2.1
ns.friend A   192.0.2.2
ns.friend RRSIG A 8 2 60 20300101000000 20200101000000 1 example. AAAA
x.friend CNAME a
x.friend CNAME b
friend   SOA  a b 1 2 3 4 5
moved    DNAME www
moved    TXT  "stays"
y.moved  NS   {BOB}
"""
    assert shown(text) == ["friend 60 NS " + str(BOB), 'moved 60 TXT "stays"', "moved 60 DNAME www"]
    assert warnings(text) == [
        (3, "DS at the delegation of friend is left out: the key in its NS is what counts"),
        (4, "A of friend and 5 more at or below the delegation of friend (line 2) are left out, as by every reader"),
        (12, "NS of y.moved below the DNAME of moved (line 10) is left out, as by every reader"),
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"x DS 1 8 2 {'aa' * 32}", "DS is DNSSEC"),
        (f"@ NS {BOB}\n@ DS 1 8 2 {'aa' * 32}", "DS is DNSSEC"),
        (f"x NS {BOB}\nxx DNSKEY 257 3 15 AA==", "DNSKEY is DNSSEC"),
        (f"x NS {BOB}\na.xx SOA a b 1 2 3 4 5", "SOA stands below the apex"),
        (f"x NS {BOB}\nx CNAME a", "NS beside CNAME at x"),
        (f"x NS {BOB}\n*.y NS {BOB}", "NS delegates a wildcard"),
    ],
)
def test_what_no_cut_hides_is_still_a_mistake(text: str, what: str) -> None:
    with pytest.raises(ZoneFileError, match=what):
        reading(text)


OWNERS = st.sampled_from(["a", "b", "a.a", "b.a", "c.b.a", "*.a", "www"]).map(lambda text: Name.read(text).under(KEY))
TARGETS = st.sampled_from([BOB, Name.read("ns.example"), Name.read("a").under(KEY), Name.read("x.b.a").under(KEY)])


@given(st.lists(records(OWNERS, TARGETS), min_size=1, max_size=12))
def test_a_zone_with_glue_answers_as_the_one_published_without(found: list[RR]) -> None:
    """What the file's reader leaves out is what every reader of an item would, whatever stands beside it."""
    readable = [rr for rr in found if rr.rtype in (1, 28, 2, 5, 6, 12, 15, 33, 39) and rr.ttl < 1 << 31]
    text = "".join(f"{rr.owner} {rr.ttl} TYPE{rr.rtype} {writing.rdata_text(rr.rtype, rr.rdata)}\n" for rr in readable)
    try:
        published = compose_packet(reading(text).rrsets, KEY, size_bytes_max=100_000)
    except ZoneFileError:
        return
    whole = Zone.verified(KEY, compose(Message(0, Flag.QR, None, tuple(readable))), 7)
    ours = Zone.verified(KEY, published, 7)
    assert not ours.dropped
    assert ours == whole
    names = {rr.owner for rr in readable} | {target for rr in readable for target in names_in(rr.rtype, rr.rdata)}
    for name in sorted(name for name in names if name.is_at_or_below(KEY)):
        for asked in (name, name.child(b"deep")):
            for rtype in (Type.A, Type.NS, Type.DS, Type.ANY):
                assert ours.answer(Question(asked, rtype)) == whole.answer(Question(asked, rtype))


# TTLs.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a A 192.0.2.1", ["a 300"]),
        ("a 60 A 192.0.2.1\nb A 192.0.2.1", ["a 60", "b 60"]),
        ("a 60 A 192.0.2.1\n$TTL 90\nb A 192.0.2.1\nc 5 A 192.0.2.1\nd A 192.0.2.1", ["a 60", "b 90", "c 5", "d 90"]),
        ("@ SOA a b 1 2 3 4 77\nb A 192.0.2.1", ["@ 77", "b 77"]),
        ("b A 192.0.2.1\n@ SOA a b 1 2 3 4 77", ["@ 77", "b 77"]),
        ("@ 3600 SOA a b 1 2 3 4 77\nb A 192.0.2.1", ["@ 3600", "b 3600"]),
        ("@ SOA a b 1 2 3 4 77\nb 5 A 192.0.2.1\nc A 192.0.2.1", ["@ 77", "b 5", "c 5"]),
        ("@ SOA a b 1 2 3 4 4294967295\nb A 192.0.2.1", ["@ 2147483647", "b 2147483647"]),
        ("a 60 A 192.0.2.1\n$GENERATE 1-1 h$ A 192.0.2.$", ["a 60", "h1 60"]),
        ("$TTL 1d12h\na A 192.0.2.1\nb 1W IN A 192.0.2.1\nc IN 0 A 192.0.2.1", ["a 129600", "b 604800", "c 0"]),
    ],
)
def test_a_missing_ttl_is_the_last_one_else_the_minimum_of_the_soa(text: str, expected: list[str]) -> None:
    assert [" ".join(line.split()[:2]) for line in shown(text)] == expected


# $GENERATE, SVCB, names.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('$GENERATE 1-2 h$ MX "10 mail$"', ["h1 300 MX 10 mail1", "h2 300 MX 10 mail2"]),
        ("$GENERATE 1-2 h$ MX 10 mail$", ["h1 300 MX 10 mail1", "h2 300 MX 10 mail2"]),
        ('$GENERATE 1-1 h$ CAA "0 issue \\"ca$.example\\""', ['h1 300 CAA 0 issue "ca1.example"']),
        ('$GENERATE 1-1 h$ TXT "host $"', ['h1 300 TXT "host 1"']),
        ("$GENERATE 10-11 h${-10} A 192.0.2.$", ["h0 300 A 192.0.2.10", "h1 300 A 192.0.2.11"]),
        ("$GENERATE 0-4/2 h${+1,3} 60 IN A 192.0.2.$", [f"h{n + 1:03} 60 A 192.0.2.{n}" for n in (0, 2, 4)]),
        ("$GENERATE 10-10 ${0,4,x}.${0,4,X}.${0,2,o} A 192.0.2.1", ["000a.000A.12 300 A 192.0.2.1"]),
        ("$GENERATE 18-18 ${0,3,n}.x A 192.0.2.1", ["2.1.x 300 A 192.0.2.1"]),
        ("$GENERATE 18-18 ${0,8,N}x A 192.0.2.1", ["2.1.0.0.x 300 A 192.0.2.1"]),
        ("$GENERATE 1-1 a$$b\\$ A 192.0.2.1", ["a\\$b\\$ 300 A 192.0.2.1"]),
        (
            "$GENERATE 1-2 @ HTTPS $ h$.example. port=${8440}",
            [f'@ 300 HTTPS {n} h{n}.example. port="{n + 8440}"' for n in (1, 2)],
        ),
        ("x HTTPS 0 example.com. alpn=h2 port=1", ['x 300 HTTPS 0 example.com. alpn="h2" port="1"']),
        ("x SVCB 0 .", ["x 300 SVCB 0 ."]),
        ("x SVCB 1 . ech=ZWFzdGVyIGVnZyE= port=60", ['x 300 SVCB 1 . port="60" ech="ZWFzdGVyIGVnZyE="']),
        ('x SVCB 0 . ech="AAECAw==" key9999="a b"', ['x 300 SVCB 0 . ech="AAECAw==" key9999="a b"']),
        ('x SVCB 1 . mandatory=ech ech="AQ=="', ['x 300 SVCB 1 . mandatory="ech" ech="AQ=="']),
        ('x SVCB 1 . key9=" ech=\\"AAQAAAAA\\"" ech="AQ=="', ['x 300 SVCB 1 . ech="AQ==" key9=" ech=\\"AAQAAAAA\\""']),
        ("x SVCB \\# 3 000100", ["x 300 SVCB 1 ."]),
        ("straße CNAME Straße.example.", ["xn--strae-oqa 300 CNAME xn--strae-oqa.example."]),
        ("_sip._tcp.bücher SRV 0 0 1 faß", ["_sip._tcp.xn--bcher-kva 300 SRV 0 0 1 xn--fa-hia"]),
        ("$ORIGIN βόλος\n@ A 192.0.2.1", ["xn--nxasmm1c 300 A 192.0.2.1"]),
        # Owners that hold addresses and are no host names: of Active Directory, of macros of SPF, of a policy zone.
        ("gc._msdcs A 192.0.2.1", ["gc._msdcs 300 A 192.0.2.1"]),
        ("b._spf A 192.0.2.1\nb._spf_rate A 192.0.2.1", ["b._spf 300 A 192.0.2.1", "b._spf_rate 300 A 192.0.2.1"]),
        ("24.0.2.0.192.rpz-ip CNAME .", ["24.0.2.0.192.rpz-ip 300 CNAME ."]),
        # What an unsigned zone says so that its parent drops its DS (RFC 8078, section 4).
        ("@ CDS 0 0 0 00", ["@ 300 CDS 0 0 0 00"]),
        ("@ CDNSKEY 0 3 0 AA==", ["@ 300 CDNSKEY 0 3 0 AA=="]),
        ("@ NSAP 0x47.0005.80", ["@ 300 NSAP 0x47000580"]),
    ],
)
def test_what_other_servers_read_is_read_and_written(text: str, expected: list[str]) -> None:
    assert shown(text) == expected
    assert shown("\n".join(expected)) == expected


def test_a_big_generate_is_refused_before_a_record_is_made() -> None:
    with pytest.raises(ZoneFileError, match="more than 100000 records") as caught:
        reading("$GENERATE 1-100001 h$ AAAA x\n$GENERATE 1-100001 h$ A 300.1.1.1\n")
    what = "more than 100000 records"
    assert [(mistake.line, mistake.what) for mistake in caught.value.mistakes] == [(1, what), (2, what)]


@given(st.sampled_from([Type.SVCB, Type.HTTPS]), st.integers(0, 2), st.binary(min_size=1, max_size=12))
def test_any_ech_survives_the_text(rtype: Type, priority: int, ech: bytes) -> None:
    rdata = bytes([0, priority, 0]) + b"\x00\x03\x00\x02\x00\x35" + b"\x00\x05" + len(ech).to_bytes(2) + ech
    text = f"@ {rtype.name} {writing.rdata_text(rtype, rdata)}"
    assert "ech=" in text
    assert reading(text).rrsets[0].rdatas == (rdata,)


# An apex of its own.


def test_a_file_that_is_named_after_its_apex_is_read_as_such_where_owners_need_it() -> None:
    text = "example.com. SOA ns.example.com. mail.example.com. 1 2 3 4 5\nwww.example.com. A 192.0.2.1\n"
    found = reading(text, "example.com")
    assert found.reroot == Name.read("example.com")
    assert [rrset.owner for rrset in found.rrsets] == [KEY, Name.read("www").under(KEY)]
    relative = reading("www CNAME web.example.com.\n", "example.com")
    assert relative.reroot is None
    assert writing.write(Zone.of(KEY, relative.rrsets, 0)) == "www 300 CNAME web.example.com.\n"
    for origin in (None, "example.org"):
        with pytest.raises(ZoneFileError, match="outside the zone"):
            reading(text, origin)


# What is odd.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("www CNAME www.example.com", ["www.example.com is a name in this zone: did you forget the final dot?"]),
        ("@ MX 10 Mail.Example.DE", ["Mail.Example.DE is a name in this zone: did you forget the final dot?"]),
        ("www CNAME www.example.com.", []),
        (f"www CNAME www.example.com.{KEY}", []),
        ("www CNAME web.shop\nweb.shop A 192.0.2.1", []),
        ("www CNAME web", []),
        (
            "$ORIGIN sub\nwww CNAME a.example.org",
            ["a.example.org is a name in this zone: did you forget the final dot?"],
        ),
        (
            "www.example.com A 192.0.2.1",
            ["the owner www.example.com is a name in this zone: did you forget the final dot?"],
        ),
        ("IN A 192.0.2.1", ['"IN" is read as the owner of this record: did you mean @ IN …?']),
        ("IN IN A 192.0.2.1", []),
        ("@ IN A 192.0.2.1", []),
        (
            "@ NS ns1.example.com.\n@ NS ns2.example.com.",
            ["NS of @ names hosts, which are not followed: this zone is found by its key"],
        ),
        (
            "x NS ns1.example.com.",
            ["NS of x names hosts only, which are not followed: write x NS KEY."],
        ),
        (f"x NS ns1.example.com.\nx NS {BOB}", []),
        (
            "@ A 10.0.0.1",
            ["10.0.0.1 is a private address: readers withhold it unless they list this zone in private_zones"],
        ),
        (
            "@ AAAA fe80::1",
            ["fe80::1 is a private address: readers withhold it unless they list this zone in private_zones"],
        ),
        (
            "@ SVCB 1 . ipv4hint=192.0.2.1,127.0.0.1",
            [
                "a hint of SVCB, 127.0.0.1, is a private address: "
                "readers withhold it unless they list this zone in private_zones"
            ],
        ),
        (
            "@ SVCB 1 . ipv6hint=2001:db8::1,2001:db8::2,fd00::1",
            [
                "a hint of SVCB, fd00::1, is a private address: "
                "readers withhold it unless they list this zone in private_zones"
            ],
        ),
        ("@ SVCB 1 . ipv4hint=192.0.2.1,8.8.8.8 ipv6hint=2001:db8::1,2001:db8::2", []),
        ("@ A 192.0.2.1\n@ A 8.8.8.8\n@ AAAA 2001:db8::1", []),
        (
            "@ HTTPS 1 . alpn=h2\n@ HTTPS 2 . alpn=h3",
            ["HTTPS at @: browsers will insist on https, and no public CA signs keys"],
        ),
        (
            "@ TXT v=spf1 -all",
            [
                'TXT without quotes ends a string at each space and the text at ";", '
                'and this is 2 strings that are joined without a space: write it in "…"'
            ],
        ),
        (
            "@ TXT v=DKIM1; p=",
            ['TXT without quotes ends a string at each space and the text at ";": write it in "…"'],
        ),
        ('@ TXT "v=spf1 -all" "x"', []),
        ("@ TXT \\# 2 0161", []),
    ],
)
def test_what_is_odd_is_said_and_read_all_the_same(text: str, expected: list[str]) -> None:
    assert [what for _, what in warnings(text)] == expected


def test_warnings_have_an_end() -> None:
    found = warnings("".join(f"h{number} A 10.0.0.{number}\n" for number in range(200)))
    assert len(found) == reader.WARNINGS_MAX
    assert found[-1] == (50, "151 more warnings are left out")


def test_what_is_left_out_is_not_called_odd() -> None:
    assert [what for _, what in warnings(f"x NS {BOB}\na.x A 10.0.0.1\nx HTTPS 1 .\n")] == [
        "A of a.x and 1 more at or below the delegation of x (line 1) are left out, as by every reader"
    ]


def test_records_of_a_reading_are_what_a_zone_keeps() -> None:
    rrsets: tuple[RRset, ...] = reading(f"x NS {BOB}\na.x A 192.0.2.1\n@ A 192.0.2.1\n").rrsets
    assert Zone.verified(KEY, compose(Message(0, Flag.QR, None, records_of(rrsets))), 0).dropped == {}
