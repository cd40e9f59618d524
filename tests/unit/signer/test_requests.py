"""Any bytes end in a request or a FormatError, and the signer answers any bytes or says nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.message import RR
from p2pdns.dns.name import Name
from p2pdns.errors import FormatError
from p2pdns.signer import requests
from p2pdns.signer.requests import QUERY_BYTES_MAX, QUERY_RECORDS_MAX, UPDATE, parse_request, skim_request
from tests.signing import KEY, OTHER_KEY, TSIG_KEY, ZONE_NAME, Signing, rcode_of, signed_again, update


def samples() -> list[bytes]:
    """Return messages that a signer gets."""
    change = update()
    change.present("www", "A", "192.0.2.2")
    change.absent("new")
    change.add("new", 60, "MX", "10 mail")
    change.add("new", 60, "TXT", '"a" "b"')
    change.add("_dns", 60, "SVCB", "1 www alpn=h2 port=8443")
    change.delete("www", "A")
    change.delete("mail")
    change.delete("www", "TXT", '"two words"')
    change.use_edns(payload=1232)
    transfer = dns.message.make_query(ZONE_NAME, "IXFR")
    transfer.authority.append(dns.rrset.from_text(ZONE_NAME, 300, "IN", "SOA", ". . 5 0 0 0 0"))
    messages = [change, transfer, dns.message.make_query(f"www.{KEY}.p2p.alt", "TXT", use_edns=True)]
    return [message.to_wire() for message in messages]


SAMPLES = samples()


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signing]:
    """A signer that meets all bytes of a run."""
    made = Signing(tmp_path_factory.mktemp("signer"), macs_max=100_000)
    yield made
    made.crash()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_format_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert parse_request(data).wire == data


@given(
    sample=st.sampled_from(SAMPLES),
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 40),
    is_udp=st.booleans(),
)
def test_whoever_has_a_key_gets_one_response_for_any_bytes(
    signing: Signing, sample: bytes, edits: list[tuple[int, int]], cut: int, is_udp: bool
) -> None:
    data = bytearray(sample)
    for at, value in edits:
        data[at % len(data)] = value
    wire = bytes(data[: len(data) - cut])
    for message in (wire, signed_again(wire)):
        responses = signing.send(message, is_udp=is_udp)
        is_response = bool(message[2] & 0x80)
        assert len(responses) <= 1 if is_response else len(responses) == 1
        for response in responses:
            assert (response[:2], bool(response[2] & 0x80)) == (message[:2], True)
            assert len(response) <= 1232 or not is_udp


def test_a_request_has_its_sections_with_class_and_ttl() -> None:
    message = update()
    message.delete("www", "MX")
    message.add("new", 7, "CNAME", "www")
    message.use_tsig(TSIG_KEY)
    request = parse_request(message.to_wire())
    assert (request.opcode, str(request.question.name)) == (UPDATE, ZONE_NAME)
    www, new = Name.read(f"www.{KEY}"), Name.read(f"new.{KEY}")
    assert request.authority == (RR(www, 15, 255, 0, b""), RR(new, 5, 1, 7, www.wire()))
    assert request.tsig is not None
    assert str(request.tsig.owner) == "update."


@pytest.mark.parametrize("count", [0, 2])
def test_a_request_has_one_question(count: int) -> None:
    wire = dns.message.make_query(ZONE_NAME, "SOA").to_wire()
    with pytest.raises(FormatError):
        parse_request(wire[:4] + count.to_bytes(2) + wire[6:12] + wire[12:] * count)


def test_pointers_to_a_long_name_are_not_followed_without_end() -> None:
    long_name = b"\x01a" * 120 + b"\x00"
    head = b"\x00\x01\x28\x00" + (1).to_bytes(2) + bytes(2) + (4_000).to_bytes(2) + bytes(2)
    question = long_name + b"\x00\x06\x00\x01"
    record = b"\xc0\x0c\x00\x02\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x0c"
    with pytest.raises(FormatError, match="too-many-pointers"):
        parse_request(head + question + 4_000 * record)
    few = head[:8] + (20).to_bytes(2) + bytes(2)
    assert len(parse_request(few + question + 20 * record).authority) == 20


@given(st.binary(max_size=200))
def test_any_bytes_can_be_skimmed_or_are_a_format_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert skim_request(data).wire == data


@pytest.mark.parametrize("wire", [*SAMPLES, *map(signed_again, SAMPLES)], ids=range(2 * len(SAMPLES)))
def test_a_skimmed_request_is_the_parsed_one_without_its_records(wire: bytes) -> None:
    skimmed, parsed = skim_request(wire), parse_request(wire)
    assert (skimmed.number, skimmed.flags, skimmed.question) == (parsed.number, parsed.flags, parsed.question)
    assert (skimmed.opt, skimmed.answer, skimmed.authority) == (parsed.opt, (), ())
    assert (skimmed.tsig is None) is (parsed.tsig is None)
    if skimmed.tsig is not None and parsed.tsig is not None:
        assert (skimmed.tsig.start, skimmed.tsig.owner) == (parsed.tsig.start, parsed.tsig.owner)
        assert skimmed.tsig.rdata == parsed.tsig.rdata


def test_nothing_of_a_large_query_is_read_whoever_signs_it(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    name_of = requests.name_of
    monkeypatch.setattr(requests, "name_of", lambda name: read.append(1) or name_of(name))  # type: ignore[func-returns-value]
    query = dns.message.make_query(f"www.{KEY}.", "A")
    for number in range(QUERY_RECORDS_MAX):
        query.additional.append(dns.rrset.from_text(f"n{number}.{KEY}.", 60, "IN", "A", "192.0.2.1"))
    long = dns.message.make_query(f"www.{KEY}.", "A")
    long.additional.append(dns.rrset.from_text(ZONE_NAME, 60, "IN", "TXT", " ".join(["x" * 250] * 17)))
    assert len(long.to_wire()) > QUERY_BYTES_MAX
    for message in (query, long):
        message.use_tsig(TSIG_KEY)
        (response,) = signing.send(message.to_wire())
        assert response[3] & 15 == 1, "FORMERR"
    assert read == []


def test_the_records_of_an_update_are_read_only_for_those_who_have_a_key(
    signing: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def parsed(wire: bytes) -> object:
        read.append(wire)
        return parse_request(wire)

    monkeypatch.setattr("p2pdns.signer.answers.parse_request", parsed)
    message = update()
    message.add("new", 60, "A", "192.0.2.9")
    message.use_edns(payload=1232)
    assert signing.rcode(message, key=None) == "REFUSED"
    message.use_tsig(OTHER_KEY)
    assert rcode_of(signing.send(message.to_wire())[0]) == "NOTAUTH"
    assert read == []
    assert signing.rcode(message) == "NOERROR"
    assert len(read) == 1
