"""RFC 2136: UPDATE, its prerequisites, its four forms of change, and the serial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.update
import pytest

from tests.signing import KEY, ZONE_NAME, Signing, signed_again, soa_of, update

WITH_SOA = f"@ 300 SOA ns.{KEY}. hostmaster 7 3600 600 2592000 60\n@ 60 NS ns1.{KEY}.\nns1 60 A 192.0.2.1\n"


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    """A signer of the usual zone."""
    return Signing(tmp_path)


def texts(signing: Signing) -> set[str]:
    """Return the zone as lines."""
    return set(signing.text().splitlines())


def raw(message: dns.update.UpdateMessage, section: str, owner: str, rclass: int, rtype: str, ttl: int = 0) -> None:
    """Append a record without RDATA, in any class, to a section."""
    name = dns.name.from_text(owner, dns.name.from_text(ZONE_NAME))
    rrset = dns.rrset.RRset(name, dns.rdataclass.IN, dns.rdatatype.from_text(rtype))
    rrset.deleting = dns.rdataclass.RdataClass.make(rclass)
    rrset.ttl = ttl
    getattr(message, section).append(rrset)


# §2.3, §3.1: the zone section.


def test_the_zone_is_the_key_or_the_key_below_a_suffix(signing: Signing) -> None:
    for index, name in enumerate((ZONE_NAME, f"{KEY}.p2p.alt.", f"{KEY}.p2pdns.internal.", ZONE_NAME.upper())):
        message = update(name)
        message.add(f"new{index}", 60, "CNAME", f"www.{name}")
        assert signing.rcode(message) == "NOERROR"
    assert {f"new{index} 60 CNAME www" for index in range(4)} <= texts(signing)


@pytest.mark.parametrize("name", ["example.", f"www.{KEY}.", "p2p.alt.", f"{'y' * 52}.", f"{KEY}.alt."])
def test_another_zone_is_notauth(signing: Signing, name: str) -> None:
    message = update(name)
    message.add("new", 60, "A", "192.0.2.9")
    assert signing.rcode(message) == "NOTAUTH"
    assert signing.changes == 0


def test_a_zone_of_another_type_than_soa_or_two_zones_are_format_errors(signing: Signing) -> None:
    message = update()
    wire = bytearray(message.to_wire())
    (response,) = signing.send(bytes(wire[:-4]) + b"\0\1" + bytes(wire[-2:]))
    assert response[3] & 15 == dns.rcode.FORMERR
    wire[4:6] = b"\0\2"
    (response,) = signing.send(bytes(wire) + bytes(wire[12:]))
    assert response[3] & 15 == dns.rcode.FORMERR


def test_a_zone_of_another_class_is_notauth(signing: Signing) -> None:
    message = dns.update.UpdateMessage(ZONE_NAME, rdclass=dns.rdataclass.CH)
    assert signing.rcode(message) == "NOTAUTH"


# §2.4, §3.2: prerequisites.

PREREQUISITES: list[tuple[str, tuple[Any, ...], str]] = [
    ("present", ("www",), "NOERROR"),
    ("present", ("mail.nobody",), "NXDOMAIN"),
    ("present", ("www", "A"), "NOERROR"),
    ("present", ("www", "AAAA"), "NXRRSET"),
    ("present", ("@", "SOA"), "NOERROR"),
    ("present", ("www", "A", "192.0.2.2"), "NOERROR"),
    ("present", ("www", "A", "192.0.2.3"), "NXRRSET"),
    ("present", ("mail", "MX", "10 WWW"), "NOERROR"),
    ("absent", ("nobody",), "NOERROR"),
    ("absent", ("www",), "YXDOMAIN"),
    ("absent", ("@",), "YXDOMAIN"),
    ("absent", ("www", "AAAA"), "NOERROR"),
    ("absent", ("www", "A"), "YXRRSET"),
    ("absent", ("@", "SOA"), "YXRRSET"),
]


@pytest.mark.parametrize(("kind", "words", "rcode"), PREREQUISITES)
def test_each_prerequisite_is_checked_before_anything_is_changed(
    signing: Signing, kind: str, words: tuple[Any, ...], rcode: str
) -> None:
    message = update()
    getattr(message, kind)(*words)
    message.add("new", 60, "A", "192.0.2.9")
    assert signing.rcode(message) == rcode
    assert ("new 60 A 192.0.2.9" in texts(signing)) == (rcode == "NOERROR")


def test_a_prerequisite_with_data_wants_the_whole_rrset(signing: Signing) -> None:
    signing.add("www", 60, "A", "192.0.2.3")
    message = update()
    message.present("www", "A", "192.0.2.2")
    assert signing.rcode(message) == "NXRRSET"
    message = update()
    message.present("www", "A", "192.0.2.3", "192.0.2.2")
    assert signing.rcode(message) == "NOERROR"


def test_a_prerequisite_outside_the_zone_is_notzone(signing: Signing) -> None:
    message = update()
    message.present("www.example.")
    assert signing.rcode(message) == "NOTZONE"


def test_a_prerequisite_with_a_ttl_is_a_format_error(signing: Signing) -> None:
    message = update()
    message.present("www", "A")
    wire = message.to_wire()
    # Name (6), type and class, then the TTL of the only prerequisite.
    at = wire.rindex(b"\0\1\0\xff") + 4
    broken = dns.message.from_wire(wire, keyring=False)
    assert broken.opcode() == dns.opcode.UPDATE
    signed = signed_again(wire[:at] + b"\0\0\0\1" + wire[at + 4 :])
    (response,) = signing.send(signed)
    assert response[3] & 15 == dns.rcode.FORMERR


# §2.5, §3.4: the four forms of change.


def test_a_record_is_added_and_its_ttl_becomes_that_of_the_rrset(signing: Signing) -> None:
    assert signing.add("www", 30, "A", "192.0.2.9") == "NOERROR"
    assert {"www 30 A 192.0.2.2", "www 30 A 192.0.2.9"} <= texts(signing)


def test_an_rrset_is_removed(signing: Signing) -> None:
    signing.add("www", 60, "A", "192.0.2.9")
    message = update()
    message.delete("www", "A")
    assert signing.rcode(message) == "NOERROR"
    assert {line for line in texts(signing) if line.startswith("www")} == {'www 60 TXT "two words"'}


def test_all_rrsets_of_a_name_are_removed(signing: Signing) -> None:
    message = update()
    message.delete("www")
    assert signing.rcode(message) == "NOERROR"
    assert not [line for line in texts(signing) if line.startswith("www")]


def test_one_record_is_removed_whatever_its_case_and_a_missing_one_is_no_error(signing: Signing) -> None:
    message = update()
    message.delete("MAIL", "MX", "10 WwW")
    message.delete("www", "A", "192.0.2.77")
    assert signing.rcode(message) == "NOERROR"
    assert "mail 60 MX 10 www" not in texts(signing)
    assert "www 60 A 192.0.2.2" in texts(signing)


def test_records_are_judged_in_their_order(signing: Signing) -> None:
    message = update()
    message.delete("www")
    message.add("www", 60, "CNAME", "mail")
    message.delete("mail", "MX")
    message.add("mail", 60, "A", "192.0.2.9")
    assert signing.rcode(message) == "NOERROR"
    assert {"www 60 CNAME mail", "mail 60 A 192.0.2.9"} <= texts(signing)


def test_of_an_update_with_one_bad_record_nothing_is_applied(signing: Signing) -> None:
    before = signing.text()
    message = update()
    message.add("new", 60, "A", "192.0.2.9")
    message.add("www.example.", 60, "A", "192.0.2.9")
    assert signing.rcode(message) == "NOTZONE"
    assert signing.text() == before


def test_a_cname_is_not_added_beside_data_nor_data_beside_a_cname(signing: Signing) -> None:
    assert signing.add("www", 60, "CNAME", "mail") == "NOERROR"
    assert "www 60 CNAME mail" not in texts(signing)
    assert signing.add("alias", 60, "CNAME", "www") == "NOERROR"
    assert signing.add("alias", 60, "A", "192.0.2.9") == "NOERROR"
    assert signing.add("alias", 60, "CNAME", "mail") == "NOERROR"
    assert {line for line in texts(signing) if line.startswith("alias")} == {"alias 60 CNAME mail"}


def test_no_cname_is_added_at_the_apex_which_always_has_an_soa(tmp_path: Path) -> None:
    signing = Signing(tmp_path, "www 60 A 192.0.2.1\n")
    assert signing.add("@", 60, "CNAME", "www") == "NOERROR"
    assert signing.text() == "www 60 A 192.0.2.1\n"


def test_soa_and_ns_of_the_apex_are_not_removed_by_name_nor_the_last_ns_by_data(tmp_path: Path) -> None:
    signing = Signing(tmp_path, WITH_SOA)
    message = update()
    message.delete("@")
    message.delete("@", "NS")
    message.delete("@", "SOA")
    message.delete("@", "NS", f"ns1.{KEY}.")
    assert signing.rcode(message) == "NOERROR"
    assert "@ 60 NS ns1" in texts(signing)
    assert str(soa_of(signing.ask(dns.message.make_query(ZONE_NAME, "SOA"), key=None)).mname) == f"ns.{KEY}."
    signing.add("@", 60, "NS", f"ns2.{KEY}.")
    message = update()
    message.delete("@", "NS", f"ns1.{KEY}.")
    assert signing.rcode(message) == "NOERROR"
    assert {line for line in texts(signing) if " NS " in line} == {"@ 60 NS ns2"}


@pytest.mark.parametrize("rtype", ["AXFR", "MAILA", "MAILB", "ANY", "IXFR", "TKEY"])
def test_types_of_questions_and_messages_are_format_errors(signing: Signing, rtype: str) -> None:
    # Type and class follow the owner; the data is one byte that no such type has.
    code = int(dns.rdatatype.from_text(rtype)).to_bytes(2)
    message = update()
    message.add("new", 60, "TYPE65000", "\\# 1 00")
    wire = message.to_wire().replace(b"\xfd\xe8\0\1", code + b"\0\1")
    (response,) = signing.send(signed_again(wire))
    assert response[3] & 15 == dns.rcode.FORMERR
    assert signing.changes == 0


@pytest.mark.parametrize("rtype", ["TYPE65310", "TYPE65311", "DS"])
def test_types_that_no_user_may_write_are_refused(signing: Signing, rtype: str) -> None:
    data = "1 8 2 " + "00" * 32 if rtype == "DS" else "\\# 1 00"
    assert signing.add("new", 60, rtype, data) == "REFUSED"
    assert signing.changes == 0


@pytest.mark.parametrize("rclass", [3, 4, 1000])
def test_a_record_of_another_class_is_a_format_error(signing: Signing, rclass: int) -> None:
    message = update()
    message.add("new", 60, "TYPE65000", "\\# 1 00")
    wire = message.to_wire().replace(b"\xfd\xe8\0\1", b"\xfd\xe8" + rclass.to_bytes(2))
    (response,) = signing.send(signed_again(wire))
    assert response[3] & 15 == dns.rcode.FORMERR


def test_a_removal_with_a_ttl_is_a_format_error(signing: Signing) -> None:
    message = update()
    message.delete("www", "A")
    wire = message.to_wire()
    at = wire.rindex(b"\0\1\0\xff") + 4
    (response,) = signing.send(signed_again(wire[:at] + b"\0\0\0\1" + wire[at + 4 :]))
    assert response[3] & 15 == dns.rcode.FORMERR
    assert "www 60 A 192.0.2.2" in texts(signing)


# §3.3: permission, and §3.6, §4.2: the serial.


def test_an_update_without_a_tsig_is_refused(signing: Signing) -> None:
    message = update()
    message.add("new", 60, "A", "192.0.2.9")
    assert signing.rcode(message, key=None) == "REFUSED"
    assert signing.changes == 0


def serial(signing: Signing) -> int:
    """Return the serial that a client sees."""
    return int(soa_of(signing.ask(dns.message.make_query(ZONE_NAME, "SOA"), key=None)).serial)


def test_a_change_raises_the_serial_and_an_update_without_one_does_not(signing: Signing) -> None:
    before = serial(signing)
    signing.add("www", 60, "A", "192.0.2.2")
    assert (serial(signing), signing.changes) == (before, 0)
    signing.add("www", 60, "A", "192.0.2.3")
    assert (serial(signing) > before, signing.changes) == (True, 1)


def test_a_serial_that_its_owner_wrote_counts_by_ones_and_a_client_may_raise_it(tmp_path: Path) -> None:
    signing = Signing(tmp_path, WITH_SOA)
    signing.add("www", 60, "A", "192.0.2.3")
    assert serial(signing) == 8
    soa = f"ns.{KEY}. hostmaster.{KEY}. {{}} 3600 600 2592000 60"
    signing.add("@", 300, "SOA", soa.format(100))
    assert serial(signing) == 100
    # §3.4.2.2: a lower one is ignored.
    signing.add("@", 300, "SOA", soa.format(50))
    assert serial(signing) == 100
    signing.add("@", 300, "SOA", soa.format(2**31 + 90))
    signing.add("@", 300, "SOA", soa.format(5))
    assert serial(signing) == 5


def test_a_query_for_the_soa_is_answered_with_aa_under_the_name_that_was_asked(signing: Signing) -> None:
    for name in (ZONE_NAME, f"{KEY}.p2p.alt."):
        response = signing.ask(dns.message.make_query(name, "SOA"), key=None, is_udp=True)
        assert response.flags & dns.flags.AA
        assert [str(rrset.name) for rrset in response.answer] == [name]
        below = signing.ask(dns.message.make_query(f"_acme-challenge.{name}", "SOA"), key=None)
        assert dns.rcode.to_text(below.rcode()) == "NXDOMAIN"
        assert [str(rrset.name) for rrset in below.authority] == [name]
    assert signing.rcode(dns.message.make_query("p2p.alt.", "SOA"), key=None) == "REFUSED"
