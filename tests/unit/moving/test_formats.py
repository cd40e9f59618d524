"""Zones in the form of other programs: read back by the rules of those programs, whatever a stranger has signed."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter

import dns.tokenizer
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pdns.dns.message import RR, Question, RRset, type_of
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile import placeholders, reader
from p2pdns.errors import FormatError
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.moving.formats import FORMATS, export, shown_below
from p2pdns.moving.formats.lines import COMMENT_CHARACTERS_MAX, LINE_CHARACTERS_MAX, comment
from tests.unit.dns import strategies
from tests.unit.dns.strategies import rrsets_of

KEY = strategies.KEY
BOB = str(SecretKey.generate(bytes(32)).zone_key)
DNSMASQ_BUFFER = 1024  # src/option.c reads lines of MAXDNAME characters; what is longer becomes the next line.

# Labels and strings that mean something to a reader of one of the forms.
HOSTILE = [
    *(
        b"'",
        b'"',
        b"\n",
        b"\r",
        b"#",
        b" ",
        b";",
        b"\\",
        b",",
        b"=",
        b"/",
        b"\0",
        b"\xff",
        b"(",
        b")",
        b"@",
        b"$TTL",
        b"*",
    ),
    *(b"' \n    local-data: 'evil. A 192.0.2.66", b"\nserver=192.0.2.66", b"{zone:bob}", b"-x", b"10", b"192.0.2.66"),
    *(b"x\nserver=192.0.2.66 #", b"evil 192.0.2.66", b"$ORIGIN", b"$INCLUDE", b"\\010", b"\t", b"IN", b"A", b"300"),
]
labels = st.one_of(st.sampled_from([*HOSTILE, b"www", b"mail", b"_tcp", b"*"]), st.binary(min_size=1, max_size=63))


def _name(parts: list[bytes]) -> Name:
    try:
        return Name.of(*parts, *KEY.labels)
    except FormatError:
        return KEY


owners = st.lists(labels, max_size=3).map(_name)
targets = st.one_of(owners, st.lists(labels, max_size=3).map(lambda parts: _name(parts).relative_to(KEY)).map(Name))
strings = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=255), st.text(max_size=60).map(str.encode)),
    min_size=1,
    max_size=3,
)
texts = st.builds(
    lambda owner, ttl, parts: RR(
        owner, Type.TXT, Class.IN, ttl, b"".join(bytes([len(p[:255])]) + p[:255] for p in parts)
    ),
    owners,
    st.integers(0, 0x7FFFFFFF),
    strings,
)
zones = st.lists(st.one_of(strategies.records(owners, targets), texts), max_size=8).map(
    lambda records: Zone.of(KEY, rrsets_of(records), 0)
)


def zone_of(text: str) -> Zone:
    """Return the zone of a text."""
    return Zone.of(KEY, reader.reading(text, apex=KEY, path="zone").rrsets, 0)


def triples(zone: Zone) -> Counter[tuple[Name, int, int, bytes]]:
    """Return the records of a zone as (owner, type, TTL, data)."""
    return Counter(
        (rrset.owner, rrset.rtype, rrset.ttl, rdata) for rrset in zone.rrsets.values() for rdata in rrset.rdatas
    )


def data_of(kind: str, words: str) -> bytes:
    """Return the RDATA of presentation form, unknown types too."""
    generic = re.fullmatch(r"\\# (\d+) ?([0-9a-f]*)", words)
    if generic:
        raw = bytes.fromhex(generic[2])
        assert len(raw) == int(generic[1])
        return raw
    (rrset,) = reader.reading(f"@ 300 {kind} {words}", apex=KEY, path="line").rrsets
    return rrset.rdatas[0]


def read_unbound(text: str) -> list[tuple[Name, int, int, bytes]]:
    """Return the records of local-data, read as unbound's lexer does: a quote ends at the next one, without escapes."""
    found = []
    for line in text.split("\n"):
        if not line or line.startswith("#") or line == "server:":
            continue
        match = re.fullmatch(r"    (local-data|local-zone): '([^']*)'( static)?", line)
        assert match, line
        if match[1] == "local-zone":
            assert match[2] == str(KEY)
            continue
        words = dns.tokenizer.Tokenizer(match[2]).get().value, *match[2].split(" ", 4)[1:]
        owner, ttl, rclass, kind, data = words
        assert rclass == "IN"
        found.append((Name.read(match[2].split(" ")[0]), type_of(kind), int(ttl), data_of(kind, data)))
        assert owner
    return found


def read_dnsmasq(text: str) -> list[tuple[str, list[str]]]:
    """Return options and their values, read as dnsmasq does: by lines of its buffer, without comments."""
    found = []
    for line in text.split("\n"):
        pieces = [line[at : at + DNSMASQ_BUFFER] for at in range(0, len(line), DNSMASQ_BUFFER)] or [""]
        assert len(pieces) == 1, "dnsmasq would read the rest as a line of its own"
        # A "#" behind a blank begins a comment, outside quotes only; ours are whole lines.
        if not line or line.startswith("#"):
            continue
        assert "#" not in line
        option, _, value = line.partition("=")
        parts = re.findall(r'"[^"\\]*"|[^",\\]+', value)
        assert ",".join(parts) == value
        found.append((option, [part.strip('"') for part in parts]))
    return found


@given(zones)
@example(zone_of('@ TXT "\\010server=192.0.2.66"'))
def test_every_form_is_lines_of_printable_characters_and_each_record_is_one(zone: Zone) -> None:
    for form, (mark, _) in FORMATS.items():
        made = export(zone, form, ["a remark\nserver=192.0.2.66", "x" * 3000])
        lines = made.text.split("\n")
        assert lines.pop() == ""
        assert all(re.fullmatch("[ -~]*", line) for line in lines), form
        said = [line for line in lines if not line.startswith(mark) or (form == "zone" and not line.startswith("; "))]
        assert len(said) == made.record_count + {"unbound": 2, "dnsmasq": 1}.get(form, 0)
        notes = [line for line in lines if line.startswith(f"{mark} ")]
        assert len(notes) >= len(made.unsaid)
        assert all(len(line) <= COMMENT_CHARACTERS_MAX + 5 for line in notes)


@given(zones)
def test_a_zone_file_is_read_as_the_zone_it_was_made_of(zone: Zone) -> None:
    made = export(zone, "zone", [])
    filled = placeholders.fill(made.text, {"bob": BOB}, path="zone")
    assert filled.text == made.text
    if made.record_count:
        again = Zone.of(KEY, reader.reading(filled.text, apex=KEY, path="zone").rrsets, 0)
        missing = triples(zone) - triples(again)
        assert len(list(missing.elements())) == len(made.unsaid)
        assert triples(again) <= triples(zone)
        if not made.unsaid:
            assert again == zone
            assert compose_packet(again, KEY, size_bytes_max=65_535) == compose_packet(zone, KEY, size_bytes_max=65_535)


@given(zones)
def test_unbound_reads_records_of_the_zone_and_no_others(zone: Zone) -> None:
    for owner, rtype, ttl, rdata in read_unbound(export(zone, "unbound", []).text):
        assert not owner.is_wildcard
        answer = zone.answer(Question(owner, rtype)).answer
        assert any(rrset.rtype == rtype and rrset.ttl == ttl and rdata in rrset.rdatas for rrset in answer)


@given(zones)
def test_dnsmasq_reads_records_of_the_zone_and_no_others(zone: Zone) -> None:
    options = read_dnsmasq(export(zone, "dnsmasq", []).text)
    assert options[0] == ("local", [f"/{str(KEY)[:-1]}/"])
    for option, values in options[1:]:
        owner = Name.read(values[0])
        assert owner.is_at_or_below(KEY)
        if option == "dns-rr":
            rdata, rtype = bytes.fromhex(values[2] if len(values) > 2 else ""), int(values[1])
        elif option == "host-record":
            address = ipaddress.ip_address(values[1])
            rdata, rtype = address.packed, Type.A if address.version == 4 else Type.AAAA
        elif option == "txt-record":
            rdata, rtype = b"".join(bytes([len(text)]) + text.encode() for text in values[1:]), Type.TXT
        elif option == "cname":
            rdata, rtype = Name.read(values[1]).wire(), Type.CNAME
        elif option == "mx-host":
            rdata, rtype = int(values[2]).to_bytes(2) + Name.read(values[1]).wire(), Type.MX
        else:
            assert option == "srv-host"
            numbers = b"".join(int(values[at]).to_bytes(2) for at in (3, 4, 2))
            rdata, rtype = numbers + Name.read(values[1]).wire(), Type.SRV
        answer = zone.answer(Question(owner, rtype)).answer
        assert any(rdata in rrset.rdatas for rrset in answer), (option, values)


@given(zones)
def test_a_hosts_file_has_addresses_of_the_zone_and_nothing_else(zone: Zone) -> None:
    for line in export(zone, "hosts", []).text.split("\n"):
        words = line.partition("#")[0].split()
        if not words:
            continue
        packed, owner = ipaddress.ip_address(words[0]).packed, Name.read(words[1])
        assert len(words) == 2
        rtype = Type.A if len(packed) == 4 else Type.AAAA
        assert any(packed in rrset.rdatas for rrset in zone.answer(Question(owner, rtype)).answer)


ZONE = """
@ 300 A 192.0.2.80
@ MX 10 mail
@ TXT "v=spf1 -all"
www CNAME @
twice CNAME www
out CNAME www.example.net.
nowhere CNAME missing
mail A 192.0.2.25
mail AAAA 2001:db8::25
_imaps._tcp SRV 0 1 993 mail
null MX 0 .
wild CNAME x.any
*.any A 192.0.2.7
@ CAA 0 issue "ca.example"
friend NS bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.
old DNAME new
text TXT "a, b" "c\\"d"
"""


def lines_of(form: str, text: str = ZONE) -> list[str]:
    """Return the lines of a form without comments, with `K` for the key and without blanks in front."""
    made = export(zone_of(text), form, [])
    return [line.strip().replace("y" * 52, "K") for line in made.text.splitlines() if not line.startswith("#")]


def test_unbound_gets_the_records_of_the_target_for_an_alias() -> None:
    lines = lines_of("unbound")
    assert lines[:2] == ["server:", "local-zone: 'K.' static"]
    for words in (
        "'K. 300 IN A 192.0.2.80'",
        "'www.K. 300 IN A 192.0.2.80'",
        "'twice.K. 300 IN MX 10 mail.K.'",
        "'out.K. 300 IN CNAME www.example.net.'",
        "'_imaps._tcp.K. 300 IN SRV 0 1 993 mail.K.'",
        "'wild.K. 300 IN A 192.0.2.7'",
        '\'text.K. 300 IN TXT "a, b" "c\\034d"\'',
        "'K. 300 IN TYPE257 \\# 17 0005697373756563612e6578616d706c65'",
    ):
        assert f"local-data: {words}" in lines
    assert not any("CNAME" in line for line in lines if "'www." in line or "'twice." in line)


def test_dnsmasq_gets_options_of_its_own_and_the_rest_in_hexadecimal() -> None:
    lines = lines_of("dnsmasq")
    assert lines[0] == "local=/K/"
    for line in (
        "host-record=K,192.0.2.80,300",
        "host-record=mail.K,2001:db8::25,300",
        "cname=www.K,K,300",
        "cname=twice.K,www.K,300",
        "host-record=wild.K,192.0.2.7,300",
        "mx-host=K,mail.K,10",
        "dns-rr=null.K,15,000000",
        "srv-host=_imaps._tcp.K,mail.K,993,0,1",
        'txt-record=K,"v=spf1 -all"',
        "dns-rr=text.K,16,04612c206203632264",
        "dns-rr=K,257,0005697373756563612e6578616d706c65",
    ):
        assert line in lines
    assert not any(line.startswith(("cname=out.", "cname=nowhere.")) for line in lines)


def test_a_hosts_file_has_addresses_and_aliases_with_one() -> None:
    assert lines_of("hosts") == [
        "192.0.2.80 K",
        "192.0.2.25 mail.K",
        "2001:db8::25 mail.K",
        "192.0.2.80 twice.K",
        "192.0.2.7 wild.K",
        "192.0.2.80 www.K",
    ]


@pytest.mark.parametrize(
    ("form", "unsaid"),
    [
        ("zone", set()),
        ("unbound", {"*.any", "friend", "old"}),
        ("dnsmasq", {"*.any", "friend", "old", "out", "nowhere"}),
        ("hosts", {"*.any", "friend", "old", "out", "nowhere", "text", "null", "_imaps._tcp", "@"}),
    ],
)
def test_what_a_form_cannot_say_is_told_with_the_reason(form: str, unsaid: set[str]) -> None:
    made = export(zone_of(ZONE), form, [])
    told = {re.match(r"\w+ of (\S+): \w+", what)[1] for what in made.unsaid}  # type: ignore[index]
    assert {Name.read(name).text_in(KEY) for name in told} == unsaid
    assert made.text.count("not said here: ") == len(made.unsaid)


def test_a_record_that_is_too_long_for_a_line_of_dnsmasq_is_told() -> None:
    made = export(zone_of("@ TXT " + " ".join(['"' + "\\," * 250 + '"'] * 3)), "dnsmasq", [])
    assert made.record_count == 0
    assert made.unsaid == (f"TXT of {KEY}: a line of dnsmasq has at most {LINE_CHARACTERS_MAX} characters",)


def test_a_long_comment_is_cut() -> None:
    assert len(comment("#", "x" * 5000)) < DNSMASQ_BUFFER // 4


def test_a_zone_is_shown_below_another_name_with_its_targets() -> None:
    lan = Name.read("alice.lan")
    zone = shown_below(zone_of(ZONE), lan)
    assert zone.apex == lan
    assert zone.rrsets[lan, Type.MX].rdatas == (b"\0\n" + Name.read("mail.alice.lan").wire(),)
    assert zone.rrsets[Name.read("out.alice.lan"), Type.CNAME].rdatas == (Name.read("www.example.net").wire(),)
    made = export(zone, "zone", [], names_origin=True)
    reading = reader.reading(made.text, apex=KEY, path="zone", reroot=lan)
    assert Zone.of(KEY, reading.rrsets, 0) == zone_of(ZONE)


def test_a_name_that_is_too_long_below_another_one_is_an_error() -> None:
    long = ".".join(["x" * 60] * 3)
    with pytest.raises(FormatError, match="name-too-long"):
        shown_below(
            Zone.of(KEY, [RRset(Name.read(long).under(KEY), Type.A, 1, (bytes(4),))], 0),
            Name.read("y" * 60 + ".z" * 10),
        )


def test_a_placeholder_in_a_strangers_name_stays_a_name() -> None:
    alias = RRset(KEY.child(b"www"), Type.CNAME, 300, (Name.of(b"{zone:bob}").wire(),))
    made = export(Zone.of(KEY, [alias], 0), "zone", [])
    assert placeholders.placeholders(made.text) == ()
    assert made.text == "www 300 CNAME \\{zone:bob}.\n"
