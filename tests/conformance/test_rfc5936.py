"""RFC 5936: AXFR, and who gets it."""

from __future__ import annotations

from pathlib import Path

import dns.flags
import dns.message
import pytest

from tests.signing import KEY, ZONE_NAME, Signing


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    """A signer of the usual zone."""
    return Signing(tmp_path)


def query(name: str = ZONE_NAME) -> dns.message.QueryMessage:
    """Return a question for the whole zone."""
    return dns.message.make_query(name, "AXFR")


def test_the_zone_comes_between_two_equal_soas_with_aa(signing: Signing) -> None:
    message = query()
    records = signing.transfer(message)
    assert records[0] == records[-1]
    assert records[0][:2] == ("@", "SOA")
    assert sorted(records[1:-1]) == [
        ("@", "A", "192.0.2.1"),
        # The zone has no NS, and BIND and dnspython take no zone without one.
        ("@", "NS", ZONE_NAME),
        ("mail", "MX", f"10 www.{KEY}."),
        ("www", "A", "192.0.2.2"),
        ("www", "TXT", '"two words"'),
    ]
    assert signing.ask(query()).flags & dns.flags.AA


def test_a_zone_that_has_an_ns_gets_no_other_one_and_who_had_the_other_one_gets_the_zone(signing: Signing) -> None:
    before = signing.zone.serial
    signing.add("www", 60, "A", "192.0.2.3")
    signing.add("@", 60, "NS", f"www.{KEY}.")
    assert [data for _, rtype, data in signing.transfer(query()) if rtype == "NS"] == [f"www.{KEY}."]
    assert signing.zone.steps_since(before) is None
    signing.restart()
    assert signing.zone.steps_since(before) is None


def test_under_a_suffix_every_name_of_the_zone_has_it(signing: Signing) -> None:
    response = signing.ask(query(f"{KEY}.p2p.alt."))
    assert all(str(rrset.name).endswith(f"{KEY}.p2p.alt.") for rrset in response.answer)
    assert f"10 www.{KEY}.p2p.alt." in [str(rdata) for rrset in response.answer for rdata in rrset]


def test_without_a_tsig_nothing_is_transferred(signing: Signing) -> None:
    response = signing.ask(query(), key=None)
    assert (dns.rcode.to_text(response.rcode()), response.answer) == ("REFUSED", [])
    assert "it has no TSIG" in signing.lines.reasons()


def test_a_name_inside_the_zone_is_no_zone(signing: Signing) -> None:
    assert signing.rcode(query(f"www.{KEY}.")) == "NOTAUTH"
    assert signing.rcode(query("example.")) == "REFUSED"


def test_axfr_by_udp_is_a_format_error(signing: Signing) -> None:
    response = signing.ask(query(), is_udp=True)
    assert (dns.rcode.to_text(response.rcode()), response.answer) == ("FORMERR", [])
