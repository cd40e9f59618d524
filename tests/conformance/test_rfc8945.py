"""RFC 8945: TSIG of requests and responses, its errors, its fudge, and no MAC twice."""

from __future__ import annotations

from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.update
import pytest

from p2pdns.signer.requests import parse_request
from p2pdns.signer.tsig import BADTIME, FUDGE_S, TsigRefused, verified
from tests.signing import OTHER_KEY, TSIG_KEY, ZONE_NAME, Signing, rcode_of, tsig_of, update


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    """A signer of the usual zone."""
    return Signing(tmp_path)


def change() -> dns.update.UpdateMessage:
    """Return an UPDATE that adds a record."""
    message = update()
    message.add("new", 60, "A", "192.0.2.9")
    return message


def tsig_error(signing: Signing, message: dns.message.Message, key: dns.tsig.Key) -> tuple[str, int, bytes, bytes]:
    """Return the rcode of a response, the error in its TSIG, its MAC, and its other data."""
    message.use_tsig(key)
    (wire,) = signing.send(message.to_wire())
    response = dns.message.from_wire(wire, keyring=False)
    assert response.tsig is not None
    rdata = response.tsig[0]
    return dns.rcode.to_text(response.rcode()), rdata.error, rdata.mac, rdata.other


def test_a_signed_request_gets_a_response_whose_mac_covers_that_of_the_request(signing: Signing) -> None:
    message = change()
    assert signing.rcode(message) == "NOERROR"
    message = change()
    message.use_tsig(TSIG_KEY)
    (wire,) = signing.send(message.to_wire())
    with pytest.raises(dns.tsig.BadSignature):
        dns.message.from_wire(wire, keyring=TSIG_KEY, request_mac=b"\1" * 32)


@pytest.mark.parametrize("algorithm", [dns.tsig.HMAC_SHA256, dns.tsig.HMAC_SHA512])
def test_an_unknown_key_and_a_known_one_of_another_algorithm_are_badkey_unsigned(
    signing: Signing, algorithm: dns.name.Name
) -> None:
    name = "nobody." if algorithm == dns.tsig.HMAC_SHA256 else "update."
    error = tsig_error(signing, change(), dns.tsig.Key(name, TSIG_KEY.secret, algorithm))
    assert error == ("NOTAUTH", 17, b"", b"")
    assert signing.changes == 0


def test_a_wrong_mac_is_badsig_unsigned(signing: Signing) -> None:
    assert tsig_error(signing, change(), OTHER_KEY) == ("NOTAUTH", 16, b"", b"")
    assert signing.changes == 0


def test_a_message_that_was_changed_on_the_way_is_badsig(signing: Signing) -> None:
    message = change()
    message.use_tsig(TSIG_KEY)
    wire = message.to_wire()
    at = wire.index(b"\xc0\x00\x02\x09")
    (response,) = signing.send(wire[:at] + b"\xc0\x00\x02\x0a" + wire[at + 4 :])
    assert tsig_of(response).error == 16


@pytest.mark.parametrize("off_s", [FUDGE_S + 60, -FUDGE_S - 60])
def test_a_wrong_clock_is_badtime_with_our_time_and_a_mac(signing: Signing, off_s: float) -> None:
    signing.clock_off_s = off_s
    message = change()
    message.use_tsig(TSIG_KEY)
    (wire,) = signing.send(message.to_wire())
    # RFC 8945 §5.2.3: it carries the time of the request, so a client with the wrong clock accepts its MAC.
    with pytest.raises(dns.tsig.PeerBadTime):
        dns.message.from_wire(wire, keyring=TSIG_KEY, request_mac=message.mac)
    rdata = tsig_of(wire)
    assert (rdata.error, len(rdata.mac), len(rdata.other)) == (BADTIME, 32, 6)
    assert abs(int.from_bytes(rdata.other) - signing.now()) < 60
    assert signing.changes == 0
    assert "it is late or early" in signing.lines.reasons()


@pytest.mark.parametrize(("fudge", "off_s", "passes"), [(300, 300, 1), (300, 301, 0), (20, 21, 0), (9_000, 301, 0)])
def test_the_fudge_is_the_clients_and_300_seconds_at_most(fudge: int, off_s: int, passes: int) -> None:
    message = change()
    message.use_tsig(TSIG_KEY, fudge=fudge)
    request = parse_request(message.to_wire())
    assert request.tsig is not None
    signed_at = request.tsig.rdata.time_signed
    for now in (signed_at + off_s, signed_at - off_s):
        if passes:
            assert verified(request.wire, request.tsig, {TSIG_KEY.name: TSIG_KEY}, now).mac == message.mac
            continue
        with pytest.raises(TsigRefused) as refused:
            verified(request.wire, request.tsig, {TSIG_KEY.name: TSIG_KEY}, now)
        assert refused.value.error == BADTIME


def test_a_mac_passes_once_and_also_only_once_across_a_restart(signing: Signing) -> None:
    message = change()
    message.use_tsig(TSIG_KEY)
    wire = message.to_wire()
    assert rcode_of(signing.send(wire)[0]) == "NOERROR"
    removal = update()
    removal.delete("new")
    assert signing.rcode(removal) == "NOERROR"
    for _ in range(2):
        assert rcode_of(signing.send(wire)[0]) == "REFUSED"
        assert "new" not in signing.text()
        signing.restart()
    assert "this MAC was seen before" in signing.lines.reasons()


def test_a_mac_whose_request_changed_nothing_or_was_refused_does_not_pass_later(signing: Signing) -> None:
    nothing = update()
    nothing.add("www", 60, "A", "192.0.2.2")
    refused = update()
    refused.absent("www", "A")
    refused.add("late", 60, "A", "192.0.2.9")
    wires = []
    for message in (nothing, refused):
        message.use_tsig(TSIG_KEY)
        wires.append(message.to_wire())
        signing.send(wires[-1])
    removal = update()
    removal.delete("www")
    signing.ask(removal)
    signing.restart()
    for wire in wires:
        assert rcode_of(signing.send(wire)[0]) == "REFUSED"
    assert "www 60" not in signing.text()
    assert "late" not in signing.text()


def test_a_transfer_with_a_mac_seen_before_is_refused(signing: Signing) -> None:
    query = dns.message.make_query(ZONE_NAME, "AXFR")
    query.use_tsig(TSIG_KEY)
    wire = query.to_wire()
    assert [signing.send(wire)[0][3] & 15 for _ in range(2)] == [dns.rcode.NOERROR, dns.rcode.REFUSED]
    signing.restart()
    assert signing.send(wire)[0][3] & 15 == dns.rcode.REFUSED


def test_a_tsig_that_is_not_the_last_record_or_comes_twice_is_a_format_error(signing: Signing) -> None:
    message = change()
    message.use_tsig(TSIG_KEY)
    wire = message.to_wire()
    request = parse_request(wire)
    assert request.tsig is not None
    record = wire[request.tsig.start :]
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    for more in (opt, record):
        (response,) = signing.send(wire[:10] + b"\0\2" + wire[12:] + more)
        assert response[3] & 15 == dns.rcode.FORMERR
    assert signing.changes == 0


def test_a_request_that_carries_a_tsig_error_is_no_request(signing: Signing) -> None:
    message = change()
    message.use_tsig(TSIG_KEY, tsig_error=16)
    (response,) = signing.send(message.to_wire())
    assert response[3] & 15 == dns.rcode.FORMERR


def test_every_message_of_a_transfer_is_signed_over_the_one_before(tmp_path: Path) -> None:
    text = "".join(f't{number} TXT "{"x" * 200}"\n' for number in range(200))
    signing = Signing(tmp_path, "", size_bytes_max=60_000)
    message = update()
    for line in text.splitlines():
        owner, rtype, data = line.split(" ", 2)
        message.add(owner, 60, rtype, data)
    assert signing.rcode(message) == "NOERROR"
    query = dns.message.make_query(ZONE_NAME, "AXFR")
    query.use_tsig(TSIG_KEY)
    wires = signing.send(query.to_wire())
    assert len(wires) > 2
    context = None
    count = 0
    for wire in wires:
        part = dns.message.from_wire(
            wire, keyring=TSIG_KEY, request_mac=query.mac, xfr=True, multi=True, tsig_ctx=context
        )
        assert part.had_tsig
        context = part.tsig_ctx
        count += sum(len(rrset) for rrset in part.answer)
    assert count == 203
    # One message is left out: the next one does not verify.
    first = dns.message.from_wire(wires[0], keyring=TSIG_KEY, request_mac=query.mac, xfr=True, multi=True)
    with pytest.raises(dns.tsig.BadSignature):
        dns.message.from_wire(
            wires[2], keyring=TSIG_KEY, request_mac=query.mac, xfr=True, multi=True, tsig_ctx=first.tsig_ctx
        )
