"""RFC 1995: IXFR, and when it is the whole zone."""

from __future__ import annotations

from pathlib import Path

import dns.message
import dns.xfr
import dns.zone
import pytest

from tests.signing import KEY, TSIG_KEY, ZONE_NAME, Signing, soa_of, update


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    """A signer of a zone with some records."""
    return Signing(tmp_path, "$TTL 60\n" + "".join(f"h{number} A 192.0.2.{number}\n" for number in range(20)))


def serial(signing: Signing) -> int:
    """Return the serial of now."""
    return int(soa_of(signing.ask(dns.message.make_query(ZONE_NAME, "SOA"), key=None)).serial)


def query(since: int) -> dns.message.Message:
    """Return a question for what has changed since a serial."""
    message = dns.message.make_query(ZONE_NAME, "IXFR")
    message.authority.append(dns.rrset.from_text(ZONE_NAME, 300, "IN", "SOA", f". . {since} 0 0 0 0"))
    return message


def test_the_changes_come_in_order_each_between_its_soas(signing: Signing) -> None:
    first = serial(signing)
    signing.add("new", 60, "A", "192.0.2.99")
    second = serial(signing)
    message = update()
    message.delete("h1")
    message.add("new", 60, "A", "192.0.2.98")
    signing.ask(message)
    third = serial(signing)
    records = signing.transfer(query(first))
    kinds = [(owner, int(data.split()[2]) if rtype == "SOA" else data) for owner, rtype, data in records]
    assert kinds == [
        ("@", third),
        ("@", first),
        ("@", second),
        ("new", "192.0.2.99"),
        ("@", second),
        ("h1", "192.0.2.1"),
        ("@", third),
        ("new", "192.0.2.98"),
        ("@", third),
    ]
    assert [kind[1] for kind in kinds[:5]] == [third, first, second, "192.0.2.99", second]
    assert len(signing.transfer(query(second))) == 6


def test_a_secondary_that_follows_has_the_zone(signing: Signing) -> None:
    copy = dns.zone.Zone(ZONE_NAME, relativize=False)
    take(signing, copy, dns.message.make_query(ZONE_NAME, "AXFR"), None)
    for number in range(5):
        since = serial(signing)
        message = update()
        message.add(f"n{number}", 30 + number, "TXT", "a", "b")
        message.delete(f"h{number}")
        message.add("h9", 100 + number, "A", f"192.0.2.{100 + number}")
        signing.ask(message)
        take(signing, copy, query(since), since)
    whole = dns.zone.Zone(ZONE_NAME, relativize=False)
    take(signing, whole, dns.message.make_query(ZONE_NAME, "AXFR"), None)
    assert copy == whole


def take(signing: Signing, copy: dns.zone.Zone, message: dns.message.Message, since: int | None) -> None:
    """Have dnspython apply a transfer."""
    message.use_tsig(TSIG_KEY)
    with dns.xfr.Inbound(copy, message.question[0].rdtype, since) as inbound:
        for wire in signing.send(message.to_wire()):
            part = dns.message.from_wire(
                wire, keyring=TSIG_KEY, request_mac=message.mac, xfr=True, one_rr_per_rrset=True
            )
            inbound.process_message(part)


def test_who_has_all_or_is_ahead_gets_one_soa(signing: Signing) -> None:
    now = serial(signing)
    for since in (now, now + 5):
        assert [record[:2] for record in signing.transfer(query(since))] == [("@", "SOA")]


def test_who_has_a_serial_that_nobody_remembers_gets_the_zone(signing: Signing) -> None:
    signing.add("new", 60, "A", "192.0.2.99")
    records = signing.transfer(query(12))
    assert len(records) == 24
    assert [record[1] for record in records].count("SOA") == 2


def test_changes_that_are_longer_than_the_zone_come_as_the_zone(tmp_path: Path) -> None:
    signing = Signing(tmp_path, "$TTL 60\n@ A 192.0.2.1\n")
    first = serial(signing)
    for number in range(6):
        signing.add("www", 60 + number, "A", "192.0.2.2")
    assert [record[1] for record in signing.transfer(query(first))] == ["SOA", "NS", "A", "A", "SOA"]


def test_by_udp_what_does_not_fit_is_one_soa_and_what_fits_is_all(signing: Signing) -> None:
    first = serial(signing)
    signing.add("new", 60, "A", "192.0.2.99")
    assert len(signing.transfer(with_opt(query(first)), is_udp=True)) == 5
    assert len(signing.transfer(query(12), is_udp=True)) == 1


def with_opt(message: dns.message.Message) -> dns.message.Message:
    """Return a question that allows 1,232 bytes."""
    message.use_edns(payload=1232)
    return message


def test_the_history_outlives_a_restart_and_ends_where_the_file_was_edited(signing: Signing) -> None:
    first = serial(signing)
    signing.add("new", 60, "A", "192.0.2.99")
    signing.zone.write_back()
    signing.restart()
    assert len(signing.transfer(query(first))) == 5
    signing.crash()
    signing.path.write_text(signing.path.read_text() + "edited A 192.0.2.55\n")
    signing.start()
    assert ("edited", "A", "192.0.2.55") in signing.transfer(query(first))
    assert len(signing.transfer(query(first))) == 25


def test_a_question_without_the_clients_soa_is_a_format_error(signing: Signing) -> None:
    assert signing.rcode(dns.message.make_query(ZONE_NAME, "IXFR")) == "FORMERR"
    assert signing.rcode(query(1), key=None) == "REFUSED"
    assert KEY in ZONE_NAME
