"""RFC 8906: every sane query is answered, and what is unknown in it is answered by the book."""

from __future__ import annotations

import itertools

import pytest

from tests.conformance import wire
from tests.conformance.wire import AD, CD, DO, OPCODE, RD, Z
from tests.conformance.world import KEY, Client

WWW = f"www.{KEY}"
VERSION_AT = 6  # The byte of an OPT record in which its version stands.
OPCODES = list(range(1, 16))


@pytest.mark.parametrize("opcode", OPCODES)
def test_an_unknown_opcode_is_not_implemented_and_comes_back(client: Client, opcode: int) -> None:
    for additional in ([], [wire.opt()]):
        response = client.ask(WWW, flags=opcode << 11 | RD, additional=additional)
        assert response.rcode == wire.NOTIMP
        assert response.flags & OPCODE == opcode << 11
        assert response.answer == ()


@pytest.mark.parametrize("opcode", OPCODES)
def test_a_header_alone_with_an_unknown_opcode_is_not_implemented(client: Client, opcode: int) -> None:
    assert client(wire.query(questions=[], flags=opcode << 11)).rcode == wire.NOTIMP


@pytest.mark.parametrize("qtype", [1_000, 65_279, 40, 9, 54])
def test_an_unknown_type_is_no_data(client: Client, qtype: int) -> None:
    for additional in ([], [wire.opt()]):
        response = client.ask(WWW, qtype, additional=additional)
        assert (response.rcode, response.answer) == (wire.NOERROR, ())


@pytest.mark.parametrize("qtype", [129, 200, wire.TKEY, wire.TSIG, 253, 254])
def test_a_meta_type_is_refused_and_not_dropped(client: Client, qtype: int) -> None:
    assert client.ask(WWW, qtype).rcode in (wire.REFUSED, wire.NOTIMP)


def test_the_z_bit_is_ignored_and_comes_back_clear(client: Client) -> None:
    response = client.ask(WWW, flags=RD | Z)
    assert response.data(wire.A)
    assert not response.flags & Z


@pytest.mark.parametrize("flags", [wire.AA, wire.TC, wire.RA, 0x000F])
def test_flags_that_belong_to_responses_are_ignored(client: Client, flags: int) -> None:
    response = client.ask(WWW, flags=RD | flags)
    assert (response.rcode, len(response.data(wire.A))) == (wire.NOERROR, 1)
    assert not response.flags & (wire.AA | wire.TC)


SOME_OPTS = [
    (),
    (wire.opt(),),
    (wire.opt(512),),
    (wire.opt(1232, flags=DO),),
    (wire.opt(1232, flags=0x7FFF),),
    (wire.opt(1232, version=1),),
    (wire.opt(1232, wire.option(100, b"x")),),
    (wire.opt(1232, wire.option(wire.NSID)),),
    (wire.opt(1232, wire.option(8, b"\x00\x01\x18\x00\xc0\x00\x02")),),
    (wire.opt(1232, wire.option(wire.PADDING, bytes(40))),),
    (wire.opt(1232, wire.option(wire.EDE, b"\x00\x00")),),
    (wire.opt(1232, wire.option(100, b"x"), version=1, flags=0xFFFF),),
]


@pytest.mark.parametrize("qname", [WWW, f"nosuch.{KEY}", KEY, "www.alt", "version.bind"])
@pytest.mark.parametrize("flags", [0, RD, RD | AD, RD | CD | Z])
def test_no_sane_query_is_dropped_whatever_it_combines(client: Client, qname: str, flags: int) -> None:
    types = (wire.A, wire.SOA, wire.DS, 1_000, wire.ANY)
    for qtype, opts in itertools.product(types, SOME_OPTS):
        response = client.ask(qname, qtype, flags=flags, additional=list(opts))
        is_later_version = bool(opts) and opts[0][VERSION_AT] == 1
        assert response.rcode in ((wire.BADVERS,) if is_later_version else (wire.NOERROR, wire.NXDOMAIN))
        assert (response.opt is not None) == bool(opts)


def test_a_signed_query_is_answered_as_one_that_is_not(client: Client) -> None:
    # TSIG with a key that nobody has: it is no part of this service, and no reason for silence.
    tsig = wire.record(wire.name("key"), wire.TSIG, wire.name("hmac-sha256") + bytes(16), ttl=0, rclass=255)
    assert client.ask(WWW, additional=[tsig]).rcode in (wire.NOERROR, wire.FORMERR, wire.NOTIMP, 9)
