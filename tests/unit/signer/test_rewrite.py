"""A zone file that is written back: untouched lines stay byte for byte, and what is read is what was wanted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.message import RR
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.dns.zonefile import reader
from p2pdns.dns.zonefile.reader import Reading
from p2pdns.signer.content import Content, add, content_of, difference, remove, with_soa_serial
from p2pdns.signer.rewrite import is_never_rewritten, rewritten
from tests.signing import APEX, KEY

FILE = """\ufeff; a zone with all that people write
$TTL 1h
@ IN SOA ns hostmaster (
      2024010101 ; serial
      1h 10m 30d 300 ) ; and the rest
www\t3600 IN A 192.0.2.1     ; first
    A 192.0.2.2              ; its owner is above
    TXT ( "several"
          "lines" )          ; one record
Mail MX 10 www

$ORIGIN sub
host A 192.0.2.3
$ORIGIN .
"""


def read(text: str, **how: Any) -> Reading:
    """Return a zone file, read."""
    return reader.reading(text, apex=APEX, path="z", **how)


def record(owner: str, rtype: int, rdata: bytes, ttl: int = 3600) -> RR:
    """Return a record of the zone."""
    name = APEX if owner == "@" else Name.read(f"{owner}.{KEY}")
    return RR(name, rtype, Class.IN, ttl, rdata)


def address(last: int) -> bytes:
    """Return an address of documentation."""
    return bytes([192, 0, 2, last])


def changed(text: str, *, gone: tuple[RR, ...] = (), new: tuple[RR, ...] = (), **how: Any) -> tuple[str, Content]:
    """Return the text after a change, and the wanted content; the text was read again and has it."""
    reading = read(text, **how)
    content = content_of(reading.rrsets)
    for old in gone:
        remove(content, old)
    for one in new:
        add(content, one)
    made = rewritten(text, reading, APEX, content, lambda candidate: read(candidate, **how))
    assert made is not None
    assert not difference(content_of(read(made, **how).rrsets), content)
    return made, content


def test_without_a_change_the_file_stays_byte_for_byte() -> None:
    assert changed(FILE)[0] == FILE
    crlf = FILE.replace("\n", "\r\n")
    assert changed(crlf)[0] == crlf


def test_a_new_record_comes_at_the_end_and_all_else_stays() -> None:
    made, _ = changed(FILE, new=(record("new", Type.A, address(9), 60),))
    # There are $ORIGIN lines, so a relative name could mean another one.
    assert made == FILE + f"new.{KEY}. 60 A 192.0.2.9\n"
    plain = "www A 192.0.2.1"
    assert changed(plain, new=(record("new", Type.A, address(9), 60),))[0] == "www A 192.0.2.1\nnew 60 A 192.0.2.9\n"


def test_a_name_that_looks_like_a_placeholder_is_written_as_the_name_that_it_is() -> None:
    owner, target = Name((b"{zone:bob}", *APEX.labels)), Name((b"{public_ipv4}", *APEX.labels))
    new = (RR(owner, Type.MX, Class.IN, 60, bytes(2) + target.wire()),)
    made, _ = changed("www A 192.0.2.1\n", new=new)
    assert made == "www A 192.0.2.1\n\\{zone:bob} 60 MX 0 \\{public_ipv4}\n"
    # So is the owner of a line that took it from one that goes.
    kept, _ = changed(
        "\\{zone:bob} 60 A 192.0.2.1\n 60 TXT kept\n", gone=(RR(owner, Type.A, Class.IN, 60, address(1)),)
    )
    assert kept == "\\{zone:bob} 60 TXT kept\n"


def test_a_record_that_goes_takes_its_lines_and_no_other() -> None:
    made, _ = changed(FILE, gone=(record("www", Type.TXT, b"\x07several\x05lines"),))
    assert made == FILE.replace('    TXT ( "several"\n          "lines" )          ; one record\n', "")


def test_a_line_that_took_its_owner_from_one_that_goes_is_given_it() -> None:
    made, _ = changed(FILE, gone=(record("www", Type.A, address(1)),))
    first, second = "www\t3600 IN A 192.0.2.1     ; first\n", "    A 192.0.2.2              ; its owner is above\n"
    assert made == FILE.replace(first + second, f"www.{KEY}.{second}")


def test_a_line_that_took_its_ttl_from_one_that_goes_is_written_anew() -> None:
    text = "a 111 A 192.0.2.1\nb A 192.0.2.2 ; mine\nc 222 A 192.0.2.3\n"
    made, _ = changed(text, gone=(record("a", Type.A, address(1)),))
    assert made == "b 111 A 192.0.2.2\nc 222 A 192.0.2.3\n"


def test_a_line_with_another_ttl_than_its_rrset_stays() -> None:
    text = "first 60 A 192.0.2.9\na A 192.0.2.1\na 1h A 192.0.2.2\nb A 192.0.2.3\n"
    made, _ = changed(text, new=(record("c", Type.A, address(4), 7),), gone=(record("first", Type.A, address(9)),))
    assert "a 1h A 192.0.2.2\n" in made


def test_a_line_whose_ttl_came_from_the_soa_keeps_it_when_the_soa_has_another_minimum() -> None:
    text = "www A 192.0.2.1\n@ SOA ns hostmaster 7 7 7 7 90\n"
    soa = next(rrset for rrset in read(text).rrsets if rrset.rtype == Type.SOA).records()[0]
    made, _ = changed(text, new=(RR(soa.owner, soa.rtype, Class.IN, soa.ttl, soa.rdata[:-1] + b"\x09"),))
    assert "www 90 A 192.0.2.1\n" in made


def test_a_new_ttl_is_written_into_every_line_of_its_rrset() -> None:
    made, _ = changed(FILE, new=(record("www", Type.A, address(7), 5),))
    assert made.count(f"www.{KEY}. 5 A 192.0.2.") == 3
    assert '    TXT ( "several"\n' in made


def test_a_new_serial_is_written_in_the_place_of_the_old_one() -> None:
    reading = read(FILE)
    content = with_soa_serial(content_of(reading.rrsets), APEX, 2024010102)
    assert rewritten(FILE, reading, APEX, content, read) == FILE.replace("2024010101", "2024010102")


def test_a_soa_with_other_data_is_written_anew() -> None:
    text = f"@ 60 SOA ns hostmaster 7 7 7 7 7\nns.{KEY}. A 192.0.2.1\n"
    soa = next(rrset for rrset in read(text).rrsets if rrset.rtype == Type.SOA).records()[0]
    made, _ = changed(text, new=(RR(soa.owner, soa.rtype, Class.IN, 60, soa.rdata[:-4] + b"\0\0\0\x09"),))
    assert "SOA ns hostmaster 7 7 7 7 9\n" in made


@pytest.mark.parametrize("line", ["$GENERATE 1-2 h$ A 192.0.2.$", "$generate 1-2 h$ A 192.0.2.$", " $INCLUDE other"])
def test_a_file_with_generate_or_include_is_never_rewritten(line: str) -> None:
    text = f"www A 192.0.2.9\n{line}\n"
    assert is_never_rewritten(text)
    assert not is_never_rewritten(f'www TXT "$INCLUDE"\n; {line}\n')
    if "INCLUDE" not in line:
        reading = read(text)
        assert rewritten(text, reading, APEX, content_of(reading.rrsets), read) is None


def test_a_file_for_another_apex_is_written_in_its_own_names() -> None:
    text = "www.example.com. A 192.0.2.1\nalias CNAME www.example.com.\n"
    reroot = Name.read("example.com")
    target = Name.read(f"www.{KEY}").wire()
    made, _ = changed(text, new=(record("more", Type.CNAME, target, 60),), reroot=reroot)
    assert made == text + "more 60 CNAME www\n"


def test_records_that_readers_leave_out_stay_in_the_file() -> None:
    text = f"sub NS {'y' * 52}.\nglue.sub A 192.0.2.1\nwww A 192.0.2.2\n"
    made, _ = changed(text, gone=(record("www", Type.A, address(2)),))
    assert made == text.replace("www A 192.0.2.2\n", "")


OWNERS = ("@", "a", "b", "c.d")
LINES = st.lists(
    st.builds(
        lambda owner, ttl, last, remark: f"{owner}{ttl} A 192.0.2.{last}{remark}\n",
        st.sampled_from(["@", "a", "b", "c.d", " "]),
        st.sampled_from(["", " 60", " 1h", " 90 IN"]),
        st.integers(0, 5),
        st.sampled_from(["", " ; remark", " ; 60 A"]),
    ),
    max_size=8,
)
CHANGES = st.lists(
    st.tuples(st.booleans(), st.sampled_from(OWNERS), st.integers(0, 5), st.sampled_from([60, 3600, 7])), max_size=6
)


@settings(max_examples=60)
@given(head=st.sampled_from(["", "$TTL 60\n", "; remark\n\n", "$ORIGIN x\n"]), lines=LINES, changes=CHANGES)
def test_whatever_is_changed_the_file_gives_it_and_lines_of_other_names_stay(
    head: str, lines: list[str], changes: list[tuple[bool, str, int, int]]
) -> None:
    text = head + "first 60 A 192.0.2.200\n" + "".join(lines)
    reading = read(text)
    content = content_of(reading.rrsets)
    touched = set()
    for is_new, owner, last, ttl in changes:
        one = record(owner, Type.A, address(last), ttl)
        touched.add(one.owner)
        (add if is_new else remove)(content, one)
    made = rewritten(text, reading, APEX, content, read)
    assert made is not None
    assert not difference(content_of(read(made).rrsets), content)
    kept = made.splitlines(True)
    owners = {entry.line: entry.record.owner for entry in reading.entries}
    for number, line in enumerate(text.splitlines(True), start=1):
        has_own = not line[0].isspace() and any(mark in line.partition(";")[0] for mark in (" 60", " 1h", " 90"))
        if number not in owners or (has_own and owners[number] not in touched):
            assert line in kept
