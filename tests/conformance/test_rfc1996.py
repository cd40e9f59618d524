"""RFC 1996: NOTIFY in, from a primary that was named."""

from __future__ import annotations

from pathlib import Path

import dns.flags
import dns.message
import dns.opcode
import pytest

from tests.signing import KEY, OTHER_KEY, ZONE_NAME, Signing

PRIMARY = "127.0.0.7"


def notify(name: str = ZONE_NAME) -> dns.message.Message:
    """Return a NOTIFY about a zone."""
    message = dns.message.make_query(name, "SOA")
    message.set_opcode(dns.opcode.NOTIFY)
    message.flags |= dns.flags.AA
    message.flags &= ~dns.flags.RD
    return message


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    """A signer whose zone comes from a primary."""
    return Signing(tmp_path, primary_host=PRIMARY)


def test_the_primary_is_answered_and_asked(signing: Signing) -> None:
    for number, name in enumerate((ZONE_NAME, f"{KEY}.p2p.alt."), start=1):
        response = signing.ask(notify(name), key=None, is_udp=True, host=PRIMARY)
        assert (response.opcode(), dns.rcode.to_text(response.rcode())) == (dns.opcode.NOTIFY, "NOERROR")
        assert response.flags & dns.flags.AA
        assert signing.notifies == number


def test_a_notify_with_a_tsig_counts_from_any_address_and_with_a_wrong_one_from_none(signing: Signing) -> None:
    assert signing.rcode(notify(), host="127.0.0.9") == "NOERROR"
    message = notify()
    message.use_tsig(OTHER_KEY)
    signing.send(message.to_wire(), host=PRIMARY)
    assert signing.notifies == 1


def test_a_stranger_s_notify_and_one_about_another_zone_are_refused(signing: Signing) -> None:
    assert signing.rcode(notify(), key=None, host="127.0.0.9") == "REFUSED"
    assert signing.rcode(notify("example."), key=None, host=PRIMARY) == "NOTAUTH"
    assert signing.rcode(notify(f"www.{KEY}."), key=None, host=PRIMARY) == "NOTAUTH"
    assert signing.notifies == 0


def test_without_a_primary_every_notify_is_refused(tmp_path: Path) -> None:
    signing = Signing(tmp_path)
    assert signing.rcode(notify()) == "REFUSED"
    assert signing.notifies == 0


def test_a_zone_of_a_primary_takes_no_update(signing: Signing) -> None:
    assert signing.add("new", 60, "A", "192.0.2.9") == "REFUSED"
    assert any("comes from its primary" in reason for reason in signing.lines.reasons())
