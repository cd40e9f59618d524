"""RFC 3597: types that nobody knows pass through unread."""

from __future__ import annotations

import struct

import pytest

from tests.conformance import wire
from tests.conformance.upstream import ZONE
from tests.conformance.world import KEY, Client

LOOKS_LIKE_A_POINTER = b"\xc0\x0c\x00\xff\x41"


def test_rdata_of_an_unknown_type_comes_byte_for_byte(client: Client) -> None:
    assert client.ask(f"unknown.{KEY}", 65_280).data(65_280) == [LOOKS_LIKE_A_POINTER]


def test_empty_rdata_of_an_unknown_type_is_a_record(client: Client) -> None:
    assert client.ask(f"nothing.{KEY}", 65_281).data(65_281) == [b""]


def test_a_suffix_does_not_touch_rdata_of_an_unknown_type(client: Client) -> None:
    assert client.ask(f"unknown.{KEY}.p2p.alt", 65_280).data(65_280) == [LOOKS_LIKE_A_POINTER]


@pytest.mark.parametrize("qtype", [4_000, 65_280, 65_534])
def test_rdata_of_any_type_passes_from_an_upstream_as_it_is(client: Client, qtype: int) -> None:
    response = client.ask(client.world.upstream.fresh("raw"), qtype)
    assert response.data(qtype) == [b"\xc0\x0c\x00\xff\x41\x61"]


@pytest.mark.parametrize("qtype", [3, 62, 100, 262, 65_279, 65_534])
def test_a_type_that_a_name_does_not_have_is_no_data_and_no_error(client: Client, qtype: int) -> None:
    response = client.ask(f"www.{KEY}", qtype)
    assert (response.rcode, response.answer) == (wire.NOERROR, ())
    assert [one.rtype for one in response.authority] == [wire.SOA]


def test_names_in_rdata_of_newer_types_are_not_compressed(client: Client) -> None:
    (rdata,) = client.ask(f"_s._tcp.{KEY}", wire.SRV).data(wire.SRV)
    assert rdata == struct.pack("!HHH", 0, 1, 443) + wire.name(f"www.{KEY}")


def test_names_that_an_upstream_compressed_are_written_out(client: Client) -> None:
    (rdata,) = client.ask(client.world.upstream.fresh("srv"), wire.SRV).data(wire.SRV)
    assert rdata == struct.pack("!HHH", 0, 1, 443) + b"\x06target" + ZONE
