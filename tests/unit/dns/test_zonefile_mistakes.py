"""Mistakes in zone files: all of a file at once, in words of the type they are in, and never a key among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.zonefile import placeholders, reader
from p2pdns.errors import MISTAKES_MAX, ZoneFileError
from tests.unit.dns.strategies import KEY, OTHER_KEYS

BOB = OTHER_KEYS[0]
SECRET = "MC4CAQAwBQYDK2VwBCIEIHcHbQpzGKV9PBbBclGyZkXfTC7H68CZKrF3t6UduSwq"
SHOWN_MAX = 25  # Characters of a file that could be parts of a key, in all that is said of it; a key has 43 at least.


def refused(text: str) -> ZoneFileError:
    """Return the error about a text."""
    with pytest.raises(ZoneFileError) as caught:
        reader.reading(text, apex=KEY, path="a.zone")
    return caught.value


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("www A 192.0.2.999", "192.0.2.999 is not an IPv4 address", "192.0.2.1"),
        ("www A ::1", "::1 is not an IPv4 address", "AAAA is the type for it"),
        ("www A host", "host is not an IPv4 address", "CNAME has a name"),
        ("www AAAA 192.0.2.1", "192.0.2.1 is not an IPv6 address", "A is the type for it"),
        ("www A", "A: the address is missing", "as A 192.0.2.1"),
        ("www A 192.0.2.1 192.0.2.2", "A: more stands behind the address", "one record a line"),
        ("@ MX mail", "MX needs a preference: MX 10 mail", "lowest preference"),
        ("@ MX 10", "MX: the target is missing", "as MX 10 mail"),
        ("@ MX 65536 mail", '"65536" is not a preference, a number from 0 to 65535', "as MX"),
        (f"@ MX {'9' * 5000} mail", "is not a preference, a number", "as MX"),
        ("_s._tcp SRV 0 5 5060", "SRV: the target is missing", "as SRV 0 5 443 www"),
        ("_s._tcp SRV 0 5 host", "SRV: the port is missing", "as SRV"),
        ("_s._tcp SRV 0 5 http host", '"http" is not a port', "as SRV"),
        ("@ CAA 0 issue", "CAA: the value is missing", 'as CAA 0 issue "ca.example"'),
        ("@ SOA a b 1 2 3", "SOA: the expire time is missing", "as SOA"),
        ("@ HTTPS . alpn=h2", '"." is not a priority', "as HTTPS 1 ."),
        ("@ HTTPS 1 . port=99999", "HTTPS: a number that is not from 0 to 65535", "as HTTPS 1 ."),
        ("@ HTTPS 1 . prot=1", "HTTPS: a parameter that has no name", "as HTTPS"),
        ("@ SVCB 1 . ech=*", "ech is not base64", 'as ech="BASE64"'),
        ("@ SVCB 1 . ech=AAAA key5=AAAA", "ech is there twice", "leave one"),
        ("@ TLSA 3 1 1 zz", "TLSA: data that is not hexadecimal", "as TLSA"),
        ("x CNAME a..b", '"a..b" is not a name', "63 bytes"),
        ("x CNAME \u2603", '"\u2603" is not a name', "IDNA 2008"),
        ("\u2603 A 192.0.2.1", '"\u2603" is not a name', "IDNA 2008"),
        ("A 192.0.2.1", "the owner is missing: @ A …", "owner of the line above"),
        ("MX 10 mail", "the owner is missing: @ MX …", "owner of the line above"),
        ('TXT "x"', "the owner is missing: @ TXT …", "owner of the line above"),
        ("www 192.0.2.1", "the type is missing: A 192.0.2.1", "OWNER [TTL] TYPE DATA"),
        ("www 300 2001:db8::1", "the type is missing: AAAA 2001:db8::1", "OWNER [TTL] TYPE DATA"),
        ("www 2147483648 A 192.0.2.1", "a TTL has at most 2147483647", "1h"),
        ("www 4000w A 192.0.2.1", "a TTL has at most 2147483647", "1h"),
        (f"www {'9' * 5000} A 192.0.2.1", "a TTL has at most 2147483647", "1h"),
        ("$TTL 2147483648", "a TTL has at most 2147483647", "1h"),
        ("$TTL soon", '"soon" is not a TTL', "$TTL 3600"),
        ("$TTL", "$TTL has one value", "$TTL 3600"),
        ("$ORIGIN a b", "$ORIGIN has one value", "$ORIGIN sub"),
        ("$FOO x", "$FOO is not a directive", "$TTL, $ORIGIN and $GENERATE"),
        ("x AXFR y", "AXFR belongs to messages", "remove the record"),
        ("@ TXT " + " ".join(['"' + "x" * 255 + '"'] * 256), "TXT of 65536 bytes, 65535 allowed", "no record"),
        ("@ TYPE65280 \\# 65536 " + "00" * 65536, "65535", ""),
        (f'@ TXT "{"x" * 256}"', "TXT: a string of more than 255 bytes; write it in parts", "as TXT"),
        ('@ TXT "abc', "the quotes are not closed", "its own line"),
        ('@ TXT "abc\\', "the quotes are not closed", "its own line"),
        ("@ TXT a )", "a closing parenthesis without an opening one", "remove it"),
        ("@ TXT ( a", "the parentheses are not closed", "put )"),
        ("@ TXT a\\", "a backslash at the end of the line", "three digits"),
        ("@ TXT a\x00b", "a control character, 0x00, in column 8", "right file"),
        ("@ TXT " + "x" * 1_100_000, "a record of more than 1048576 characters", "right file"),
        ("$GENERATE 3-1 h$ A 192.0.2.$", "$GENERATE needs a range", "as 1-10"),
        ("$GENERATE 10000000000-10000000001 h$ A 192.0.2.1", "$GENERATE needs a range", "as 1-10"),
        ("$GENERATE 1-2 h${x} A 192.0.2.$", "$GENERATE cannot read what stands behind ${", "OFFSET"),
        ("$GENERATE 1-2 h${0,200} A 192.0.2.$", "a width of 200, at most 127", ""),
        ("$GENERATE 1-2 h$ A 192.0.2.${-9}", "192.0.2.-8 is not an IPv4 address", ""),
        ("$GENERATE 1-2", "$GENERATE needs an owner", "as $GENERATE"),
        ("$GENERATE 1-9999999999 h$ A 192.0.2.1", "more than 100000 records", "another key"),
    ],
)
def test_a_mistake_is_told_in_words_of_its_type_and_hides_none_behind_it(line: str, what: str, hint: str) -> None:
    error = refused(f"ok A 192.0.2.1\n{line}\nbad A 192.0.2.256\nok AAAA 2001:db8::1\n")
    assert [mistake.line for mistake in error.mistakes] == [2, 3]
    assert what in error.what
    assert hint in (error.hint or "")
    assert error.what[0].islower() or error.what[0] in '"$A0123456789:\u2603THSCMP'
    assert not error.what.endswith(".")
    assert error.mistakes[1].what == "192.0.2.256 is not an IPv4 address"


def test_all_mistakes_are_told_by_line_whatever_finds_them() -> None:
    text = "c CNAME a\nx A 300.1.1.1\nc A 192.0.2.1\ny DNSKEY 257 3 15 AA==\nfriend NS {zone:nobody}.\nz A 1\n"
    filling = placeholders.fill(text, {}, path="a.zone")
    with pytest.raises(ZoneFileError) as caught:
        reader.reading(filling.text, apex=KEY, path="a.zone", mistakes=filling.mistakes)
    error = caught.value
    assert [mistake.line for mistake in error.mistakes] == [2, 3, 4, 5, 6]
    assert str(error) == "a.zone:2: 300.1.1.1 is not an IPv4 address"
    assert error.exit_code == 1
    assert [mistake.place for mistake in error.mistakes] == [f"a.zone:{line}" for line in (2, 3, 4, 5, 6)]


def test_a_record_of_several_lines_is_told_at_its_first_one_and_ends_where_it_ends() -> None:
    error = refused("a A (\n 1 )\n@ SOA ( a b\n 1 2 3 4\n ) ; no minimum\nb TXT ( x\n y\nc A 2\n")
    assert [(mistake.line, mistake.what) for mistake in error.mistakes] == [
        (1, "1 is not an IPv4 address"),
        (3, "SOA: the minimum is missing"),
        (6, "the parentheses are not closed"),
        (7, 'unknown type "y"'),
        (8, "2 is not an IPv4 address"),
    ]


def test_records_without_an_owner_are_nobodys_behind_an_owner_that_is_no_name() -> None:
    for owner in ("a..b A 192.0.2.1", "prose is written here", "A 192.0.2.1"):
        error = refused(f'c CNAME a\n{owner}\n TXT "x"\n A x\nc CNAME b\n')
        assert [mistake.line for mistake in error.mistakes] == [2, 4, 5]
    known = refused("www A x\n CNAME a\nwww CNAME b\n")
    assert [mistake.what[:15] for mistake in known.mistakes] == ["x is not an IPv", "a second CNAME "]


def test_fifty_mistakes_are_told_and_no_more() -> None:
    error = refused("".join(f"h{number} A x{number}\n" for number in range(200)))
    assert [mistake.line for mistake in error.mistakes] == list(range(1, MISTAKES_MAX + 1))
    assert "these are the first 50" in (error.mistakes[-1].hint or "")
    exactly = refused("".join(f"h{number} A x{number}\n" for number in range(MISTAKES_MAX)))
    assert len(exactly.mistakes) == MISTAKES_MAX
    assert "first 50" not in (exactly.mistakes[-1].hint or "")


@pytest.mark.parametrize("text", ["(\n" * 50_000, "(" * 200_000, '"\n' * 50_000, ")\n" * 50_000, "\x00" * 100_000])
def test_a_file_of_nothing_but_brackets_ends_in_at_most_fifty_mistakes(text: str) -> None:
    assert 1 <= len(refused(text).mistakes) <= MISTAKES_MAX


def test_prose_is_one_mistake_and_no_flood() -> None:
    error = refused("".join(f"word{number} is nothing that servers read\n" for number in range(500)) + "x A y\n")
    assert [mistake.line for mistake in error.mistakes] == [1, 501]
    assert error.what == 'cannot read "word0 …", nor the 499 behind it'


@pytest.mark.parametrize("size", [7, 8, 12, 16, 20, 24, 40])
@pytest.mark.parametrize(
    "template",
    [
        *(
            "{}",
            "{} x",
            "x {}",
            " {}",
            "x A {}",
            "x A 192.0.2.1 {}",
            "x MX {}",
            "x MX {} y",
            "x MX 1 {}..",
            "x HTTPS {} .",
        ),
        *(
            "$TTL {}",
            "$ORIGIN {}..",
            "${}",
            "$GENERATE {} x A y",
            "$GENERATE 1-2 {} x",
            "x TLSA 3 1 1 {}",
            "x TYPE9 {}",
        ),
        *("x CAA 0 {}", "x 300 IN {}", "x SVCB 1 . {}", "x SVCB 1 . ech={}*", "{}.. A 192.0.2.1", "x LOC {}", 'x "{}"'),
        *("{}\u2603 A 192.0.2.1", "x SSHFP 1 1 {}", "x NAPTR {}", "x DS {}", "x CERT {}", "x APL {}"),
    ],
)
def test_a_key_in_pieces_is_not_shown_piece_by_piece(template: str, size: int) -> None:
    pieces = [SECRET[at : at + size] for at in range(0, len(SECRET), size)]
    # With a good line between, each bad one is a mistake of its own.
    error = refused("good A 192.0.2.1\n".join(template.replace("{}", piece) + "\n" for piece in pieces))
    said = "\n".join(f"{mistake} {mistake.hint}" for mistake in error.mistakes)
    shown = [piece for piece in pieces if len(piece) > 6 and piece[:7].lower() in said.lower()]
    assert sum(len(piece) for piece in shown) <= max(SHOWN_MAX, size), said


def test_a_key_file_is_one_mistake_without_a_word_of_it() -> None:
    error = refused(f"a A x\nb A y\n-----BEGIN PRIVATE KEY-----\n{SECRET}\n")
    assert len(error.mistakes) == 1
    assert SECRET[:7] not in f"{error} {error.hint}"


def test_line_ends_and_a_byte_order_mark_of_other_systems_are_read() -> None:
    wanted = reader.reading("@ A 192.0.2.1\nwww TXT (\n x )\n", apex=KEY, path="a.zone").rrsets
    for end in ("\r\n", "\r"):
        text = "\ufeff" + f"@ A 192.0.2.1{end}www TXT ({end} x ){end}"
        assert reader.reading(text, apex=KEY, path="a.zone").rrsets == wanted
        assert refused(text + f"{end}x A y{end}").line == 5
        assert placeholders.placeholders(f"; a{end}www CNAME {{zone:bob}}.{end}") == ("bob",)


PARTS = st.sampled_from(
    [
        *(
            "@",
            "www",
            "A",
            "TXT",
            "MX",
            "SVCB",
            "$TTL",
            "$GENERATE",
            "1-3",
            "h$",
            "${-1,3,x}",
            "300",
            "IN",
            "192.0.2.1",
        ),
        *(
            " ",
            "\t",
            "(",
            ")",
            '"',
            ";",
            "\\",
            "\\000",
            "\\#",
            "\n",
            "\r\n",
            "\x00",
            "\ufeff",
            "ß",
            "ech=",
            "=",
            ".",
            "1",
        ),
    ]
)


@given(st.lists(PARTS, max_size=40).map(" ".join), st.lists(PARTS, max_size=40).map("".join))
def test_any_parts_of_a_zone_file_end_in_a_zone_or_in_mistakes_by_line(spaced: str, joined: str) -> None:
    for text in (spaced, joined):
        try:
            rrsets = reader.reading(text, apex=KEY, path="a.zone").rrsets
        except ZoneFileError as error:
            found = [mistake.line for mistake in error.mistakes if mistake.line is not None]
            assert found == sorted(found)
            assert all(1 <= line <= text.count("\n") + text.count("\r") + 1 for line in found)
        else:
            assert rrsets
