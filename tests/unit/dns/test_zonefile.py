"""Zone files: what is read, what is refused and in which words, and the way back to text."""

from __future__ import annotations

from pathlib import Path

import dns.exception
import dns.ipv4
import dns.rdtypes.IN.AAAA
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pdns.dns.message import RR, Message, RRset, records_of
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Flag, Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile import placeholders, reader, writing
from p2pdns.errors import ZoneFileError
from tests.unit.dns.strategies import KEY, OTHER_KEYS, rrsets_of, zone_records

ZONES = sorted((Path(__file__).parents[3] / "zones").glob("*.zone"))
BOB = OTHER_KEYS[0]


def read(text: str, reroot: str | None = None) -> tuple[RRset, ...]:
    """Return the RRsets of a text."""
    return reader.reading(text, apex=KEY, path="a.zone", reroot=Name.read(reroot) if reroot else None).rrsets


def shown(text: str, reroot: str | None = None) -> list[str]:
    """Return the zone of a text as `write` shows it."""
    return writing.write(Zone.of(KEY, read(text, reroot), 0)).splitlines()


@pytest.mark.parametrize("path", ZONES, ids=lambda path: path.name)
def test_example_zone_survives_item_and_text(path: Path) -> None:
    text = placeholders.fill(path.read_text(), {"friend": str(BOB).removesuffix(".")}, path=str(path)).text
    rrsets = reader.reading(text, apex=KEY, path=str(path)).rrsets
    zone = Zone.of(KEY, rrsets, 10**15)
    assert tuple(zone.rrsets.values()) == rrsets
    assert not zone.dropped
    assert Zone.verified(KEY, compose(Message(0, Flag.QR, None, records_of(rrsets))), 10**15) == zone
    assert read(writing.write(zone)) == rrsets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@ A 192.0.2.1", ["@ 300 A 192.0.2.1"]),
        (" A 192.0.2.1", ["@ 300 A 192.0.2.1"]),
        ("www 1h IN A 192.0.2.1", ["www 3600 A 192.0.2.1"]),
        ("www IN 60 A 192.0.2.1", ["www 60 A 192.0.2.1"]),
        ("$TTL 1d\nwww A 192.0.2.1", ["www 86400 A 192.0.2.1"]),
        ("www A 192.0.2.1\n AAAA ::1", ["www 300 A 192.0.2.1", "www 300 AAAA ::1"]),
        ("$ORIGIN sub\nwww A 192.0.2.1", ["www.sub 300 A 192.0.2.1"]),
        (f"www CNAME {BOB}", [f"www 300 CNAME {BOB}"]),
        (f"www.{KEY} A 192.0.2.1", ["www 300 A 192.0.2.1"]),
        ("_s._tcp SRV 1 2 3 host", ["_s._tcp 300 SRV 1 2 3 host"]),
        ("@ HTTPS 1 . alpn=h2 port=8443", ['@ 300 HTTPS 1 . alpn="h2" port="8443"']),
        ("_x SVCB 2 host key65280=a", ['_x 300 SVCB 2 host key65280="a"']),
        ('@ CAA 0 issue "ca.example"', ['@ 300 CAA 0 issue "ca.example"']),
        ('@ NAPTR 1 2 "s" "SIP" "" _sip', ['@ 300 NAPTR 1 2 "s" "SIP" "" _sip']),
        ("@ TYPE65280 \\# 3 ab cd ef", ["@ 300 TYPE65280 \\# 3 abcdef"]),
        ("@ TYPE1 \\# 4 c0000201", ["@ 300 A 192.0.2.1"]),
        ('@ TXT ( "a"\n  "b" ) ; two lines', ['@ 300 TXT "a" "b"']),
        ('@ TXT \\065\\"b', ['@ 300 TXT "A\\"b"']),
        ("a\\.b A 192.0.2.1", ["a\\.b 300 A 192.0.2.1"]),
        ("$GENERATE 1-2 h$ A 192.0.2.$", ["h1 300 A 192.0.2.1", "h2 300 A 192.0.2.2"]),
        ("* A 192.0.2.1", ["* 300 A 192.0.2.1"]),
        ("@ A 192.0.2.2\n@ A 192.0.2.1\n@ A 192.0.2.2", ["@ 300 A 192.0.2.1", "@ 300 A 192.0.2.2"]),
        (f"friend NS {BOB}", [f"friend 300 NS {BOB}"]),
        ("@ TLSA 3 1 0 abcd", ["@ 300 TLSA 3 1 0 abcd"]),
    ],
)
def test_text_is_read_and_written(text: str, expected: list[str]) -> None:
    assert shown(text) == expected
    assert shown("\n".join(expected)) == expected


OUTSIDE = "write owners relative to @, without a final dot, or re-root the file with --origin NAME"


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ("\n\nwww A 1.2.3", 3, "1.2.3 is not an IPv4 address", "such as 192.0.2.1"),
        ("www", 1, 'cannot read "www"', "OWNER [TTL] TYPE DATA"),
        ("www AAA ::1", 1, 'unknown type "AAA"', 'did you mean "AAAA"?'),
        ("www HTTP 1 .", 1, 'unknown type "HTTP"', 'did you mean "HTTPS"?'),
        ("$ORIGIN example.com.\n@ A 192.0.2.1", 2, "example.com. is outside the zone", OUTSIDE),
        ("www.example.com. A 192.0.2.1", 1, "www.example.com. is outside the zone", OUTSIDE),
        (f"www.{BOB} A 192.0.2.1", 1, f"www.{BOB} is outside the zone", OUTSIDE),
        ("a A 192.0.2.1\n\nb TXT ( x\n y\n z", 3, "parentheses", None),
        ('a TXT "x', 1, "the quotes are not closed", "ends on its own line"),
        ("a CH TXT x", 1, "a class other than IN", "class IN only"),
        ("a" * 64 + " A 192.0.2.1", 1, "63", None),
        ("$TTL x", 1, "TTL", None),
        ("$INCLUDE other.zone", 1, "$INCLUDE is off", "the lines of the other file"),
        ("$GENERATE 1-999999999 h$ TXT x", 1, "more than 100000 records", "another key"),
        ("x DNSKEY 257 3 15 AA==", 1, "DNSKEY is DNSSEC", "signature of the item"),
        ("x NSEC a A", 1, "NSEC is DNSSEC", "signature of the item"),
        ("x TYPE249 \\# 1 00", 1, "", None),
        ("x SOA a b 1 2 3 4 5", 1, "SOA stands below the apex", "at @"),
        (f"*.x NS {BOB}", 1, "NS delegates a wildcard", "each name"),
        ("x CNAME a\n\nx A 192.0.2.1", 3, "A beside CNAME at x", "alias stands alone"),
        ("x A 192.0.2.1\nx CNAME a", 1, "A beside CNAME at x", "alias stands alone"),
        ("x CNAME a\nx CNAME b", 2, "a second CNAME at x, the first is in line 1", "remove one"),
        ("x DNAME a\nx DNAME b", 2, "a second DNAME at x, the first is in line 1", "remove one"),
        ("@ SOA a b 1 2 3 4 5\n@ SOA a b 2 2 3 4 5", 2, "a second SOA at @, the first is in line 1", "remove one"),
    ],
)
def test_what_cannot_be_part_of_a_zone_is_refused_with_its_line(text: str, line: int, what: str, hint: str) -> None:
    with pytest.raises(ZoneFileError) as caught:
        read(text)
    assert caught.value.place == f"a.zone:{line}"
    assert what in caught.value.what
    assert (hint or "") in (caught.value.hint or "")
    assert not caught.value.what.endswith(".")
    assert "class '" not in caught.value.what


@pytest.mark.parametrize("text", ["", "\n\n", "; nothing\n", "$TTL 60\n"])
def test_a_zone_without_records_is_refused(text: str) -> None:
    with pytest.raises(ZoneFileError, match="no records") as caught:
        read(text)
    assert caught.value.hint


def test_no_owner_outside_the_apex_is_left_out_in_silence() -> None:
    """A reader that is told the zone's origin drops such owners, and one good line would hide it."""
    with pytest.raises(ZoneFileError, match="outside"):
        read("@ A 192.0.2.1\nwww.example.com. A 192.0.2.2\n")
    with pytest.raises(ZoneFileError, match="outside"):
        read("@ A 192.0.2.1\n$ORIGIN example.com.\n$GENERATE 1-2 h$ A 192.0.2.$\n")


def test_a_file_written_for_another_apex_is_rerooted_with_the_names_inside() -> None:
    text = """
$ORIGIN example.com.
@    SOA ns.example.com. mail 1 2 3 4 5
     MX  10 mail.example.com.
     NS  ns.elsewhere.
www  CNAME @
$ORIGIN sub.example.com.
_s._tcp SRV 1 2 3 www.example.com.
"""
    assert shown(text, "example.com") == [
        "@ 5 NS ns.elsewhere.",
        "@ 5 SOA ns mail 1 2 3 4 5",
        "@ 5 MX 10 mail",
        "_s._tcp.sub 5 SRV 1 2 3 www",
        "www 5 CNAME @",
    ]
    assert shown("www A 192.0.2.1", "example.com") == ["www 300 A 192.0.2.1"]
    with pytest.raises(ZoneFileError, match="outside"):
        read("www.example.org. A 192.0.2.1", "example.com")


def test_a_name_that_outgrows_255_bytes_by_rerooting_is_refused_with_its_line() -> None:
    long = ".".join(["l" * 60] * 4)
    with pytest.raises(ZoneFileError) as caught:
        read(f"\n{long} A 192.0.2.1", "x")
    assert caught.value.line == 2
    assert "too long" in caught.value.what


def test_include_opens_no_file(tmp_path: Path) -> None:
    other = tmp_path / "other.zone"
    other.write_text("www A 192.0.2.1\n")
    for line in (f"$INCLUDE {other}", f'$include "{other}"', f" $INCLUDE {other} sub"):
        with pytest.raises(ZoneFileError, match="INCLUDE is off"):
            read(f"@ A 192.0.2.2\n{line}\n")


LINES = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.sampled_from(
            ["@ A 192.0.2.1", "$TTL 5", "$ORIGIN x", "(", ")", '"', "x TXT \\", "$GENERATE 1-2 a$ A", "\\# 2"]
        ),
        st.builds(
            "{} {} {}".format, st.text(max_size=5), st.sampled_from(["A", "MX", "TXT", "SVCB"]), st.text(max_size=20)
        ),
    ),
    max_size=4,
).map("\n".join)


@given(LINES)
@example("$GENERATE 1-2")
@example("$UNICODE")
@example("$ORIGIN")
@example('"" A 192.0.2.1')
@example("@ LOC 1")
@example("@ APL x")
def test_any_text_ends_in_a_zone_or_a_zone_file_error(text: str) -> None:
    try:
        rrsets = read(text)
    except ZoneFileError:
        return
    assert rrsets
    assert not Zone.of(KEY, rrsets, 0).dropped


@given(zone_records)
def test_what_is_written_is_read_again_or_was_never_readable(found: list[RR]) -> None:
    """A stranger's RDATA may fit no text form of its type; all else comes back byte for byte."""
    zone = Zone.of(KEY, rrsets_of(found), 0)
    text = writing.write(zone)
    assert text.isascii()
    readable = {key: rrset for key, rrset in zone.rrsets.items() if key[1] not in (16, 257, 64, 65, 35)}
    if readable:
        again = read(writing.write(Zone.of(KEY, readable.values(), 0)))
        assert {(rrset.owner, rrset.rtype): rrset for rrset in again} == readable
        assert [names_in(r.rtype, d) for r in again for d in r.rdatas] == [
            names_in(r.rtype, d) for r in readable.values() for d in r.rdatas
        ]


@given(st.integers(0, 0xFFFF), st.binary(max_size=80))
def test_any_rdata_has_a_text_of_printable_ascii(rtype: int, rdata: bytes) -> None:
    text = writing.rdata_text(rtype, rdata)
    assert text.isascii()
    assert text.isprintable()


@given(st.sampled_from(list(Type)), st.binary(max_size=80))
def test_any_rdata_of_a_known_type_has_a_text_of_printable_ascii(rtype: Type, rdata: bytes) -> None:
    text = writing.rdata_text(rtype, rdata)
    assert text.isascii()
    assert text.isprintable()


KEYS = {"bob": "b" * 52, "carol-2": "c" * 52}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blog CNAME www.{zone:bob}.", "blog CNAME www.{b}."),
        ("bob NS {zone:BOB}.\nc NS {zone:carol-2}.", "bob NS {b}.\nc NS {c}."),
        ("@ MX 10 mail.{zone:bob}. ; {zone:nobody} in a comment", "@ MX 10 mail.{b}. ; {zone:nobody} in a comment"),
        ("@ MX ( 10 ; {zone:nobody}\n mail.{zone:bob}. )", "@ MX ( 10 ; {zone:nobody}\n mail.{b}. )"),
        ('@ TXT "{zone:nobody}" {zone:bob}.', '@ TXT "{zone:nobody}" {b}.'),
        (r'@ TXT "a \" {zone:nobody}" "; {zone:nobody}"', r'@ TXT "a \" {zone:nobody}" "; {zone:nobody}"'),
        (r"@ TXT \{zone:nobody} \\; {zone:nobody}", r"@ TXT \{zone:nobody} \\; {zone:nobody}"),
        ("www CNAME {bob}. ; any other braces", "www CNAME {bob}. ; any other braces"),
        ("www CNAME x.{zone:bob}.p2p.alt.", "www CNAME x.{b}.p2p.alt."),
    ],
)
def test_a_zone_key_is_filled_in_where_a_name_can_stand_and_nowhere_else(text: str, expected: str) -> None:
    wanted = expected.replace("{b}", KEYS["bob"]).replace("{c}", KEYS["carol-2"])
    assert placeholders.fill(text, KEYS, path="a.zone") == placeholders.FilledText(wanted, ())


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ("\n\nwww CNAME www.{zone:dora}.", 3, "{zone:dora} is not filled", "name add dora KEY"),
        ("www CNAME www.{zone:bop}.", 1, "{zone:bop} is not filled", "{zone:bob}?"),
        ('@ TXT "a\n{zone:dora}.', 2, "{zone:dora} is not filled", "--zone dora=KEY"),
        ("; a\r\n@ MX ( 10 ; b\r\n mail.{zone:dora}. )", 3, "{zone:dora} is not filled", "--zone dora=KEY"),
        ("a A 192.0.2.1\nwww CNAME www.{zone:bob}", 2, "no final dot", "write {zone:bob}."),
        ("@ TXT key={zone:bob}.", 1, "inside a label", "in quotes it is text"),
        ("www CNAME {zone:bob", 1, 'cannot read "{zone:bob"', "{zone:NAME}."),
        ("www CNAME {zone:}.", 1, 'cannot read "{zone:}"', "{zone:NAME}."),
        ("www CNAME {zone:a b}.", 1, 'cannot read "{zone:a"', "{zone:NAME}."),
    ],
)
def test_a_placeholder_that_cannot_be_filled_is_refused_with_its_line(
    text: str, line: int, what: str, hint: str
) -> None:
    mistake = placeholders.fill(text, KEYS, path="a.zone").mistakes[0]
    assert mistake.place == f"a.zone:{line}"
    assert what in mistake.what
    assert hint in (mistake.hint or "")


def test_all_placeholders_that_cannot_be_filled_are_told_a_name_once() -> None:
    filling = placeholders.fill(
        "a NS {zone:dora}.\nb NS {zone:DORA}.\nc NS x{zone:bob}.\nd NS {zone:eve}.\n", KEYS, path="a.zone"
    )
    assert [mistake.line for mistake in filling.mistakes] == [1, 3, 4]
    assert placeholders.placeholders(filling.text) == ()


def test_a_mistake_below_a_filled_name_keeps_its_line() -> None:
    text = placeholders.fill("a NS {zone:bob}.\n\nb A 300.1.1.1\n", KEYS, path="a.zone").text
    with pytest.raises(ZoneFileError) as caught:
        reader.reading(text, apex=KEY, path="a.zone")
    assert caught.value.line == 3


@given(st.text(alphabet='{}zone:bob."; \\\n(', max_size=80))
def test_any_text_is_filled_or_refused_and_keeps_its_lines(text: str) -> None:
    filling = placeholders.fill(text, KEYS, path="a.zone")
    lines = text.count("\n") + 1
    assert filling.text.count("\n") + 1 == lines
    if not filling.mistakes:
        assert filling.text.replace(KEYS["bob"], "{zone:bob}") == text
    assert all(1 <= (mistake.line or 0) <= lines for mistake in filling.mistakes)


_OCTETS = st.one_of(st.integers(0, 300).map(str), st.sampled_from(["00", "01", "", "1a", "\u0661"]))


@given(words=st.lists(_OCTETS, min_size=3, max_size=5))
@example(words=["0", "255", "10", "199"])
@example(words=["192", "0", "2", "256"])
@example(words=["192", "0", "2", "01"])
@example(words=["192", "0", "2", "1", "1"])
def test_an_ipv4_address_is_read_as_dnspython_reads_it_and_nothing_else_is_one(words: list[str]) -> None:
    text = ".".join(words)
    try:
        expected = dns.ipv4.inet_aton(text)
    except dns.exception.SyntaxError:
        with pytest.raises(ZoneFileError):
            read(f"@ A {text}\n")
        return
    (rrset,) = read(f"@ A {text}\n")
    assert rrset.rdatas == (expected,)
    assert writing.rdata_text(Type.A, expected) == dns.ipv4.inet_ntoa(expected)


def test_ctrl_c_while_a_line_is_read_is_no_mistake_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dns.rdtypes.IN.AAAA.AAAA, "from_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read("@ AAAA 2001:db8::1\n")
