"""RFC 9460: SVCB and HTTPS records pass through whole, with what a client needs next."""

from __future__ import annotations

import struct

import pytest

from tests.conformance import wire
from tests.conformance.world import KEY, Client

ALPN_H2 = struct.pack("!HH", 1, 3) + b"\x02h2"
ALPN_H3 = struct.pack("!HH", 1, 3) + b"\x02h3"
HINT = struct.pack("!HH", 4, 4) + bytes([192, 0, 2, 80])


def test_an_https_record_keeps_its_target_and_parameters(client: Client) -> None:
    (rdata,) = client.ask(f"web.{KEY}", wire.HTTPS).data(wire.HTTPS)
    assert rdata == struct.pack("!H", 1) + b"\x00" + ALPN_H2 + HINT


@pytest.mark.parametrize("suffix", ["", ".p2p.alt"])
def test_keys_come_in_order_and_an_unknown_one_untouched(client: Client, suffix: str) -> None:
    (rdata,) = client.ask(f"mand.{KEY}{suffix}", wire.SVCB).data(wire.SVCB)
    mandatory = struct.pack("!HHH", 0, 2, 1)
    port = struct.pack("!HHH", 3, 2, 8443)
    private = struct.pack("!HH", 65_333, 2) + b"ab"
    target = wire.name(f"www.{KEY}{suffix}")
    assert rdata == struct.pack("!H", 2) + target + mandatory + ALPN_H3 + port + private


def test_the_target_is_not_compressed(client: Client) -> None:
    (rdata,) = client.ask(f"mand.{KEY}", wire.SVCB).data(wire.SVCB)
    assert wire.name(f"www.{KEY}") in rdata


def test_the_addresses_of_the_target_come_along(client: Client) -> None:
    response = client.ask(f"mand.{KEY}", wire.SVCB, additional=[wire.opt()])
    assert {(one.owner, one.rtype) for one in response.additional} == {
        (wire.name(f"www.{KEY}"), wire.A),
        (wire.name(f"www.{KEY}"), wire.AAAA),
    }


def test_a_name_without_the_record_is_no_data(client: Client) -> None:
    response = client.ask(f"www.{KEY}", wire.HTTPS)
    assert (response.rcode, response.answer) == (wire.NOERROR, ())
    assert [one.rtype for one in response.authority] == [wire.SOA]


def test_an_alias_is_followed_to_where_the_record_would_be(client: Client) -> None:
    response = client.ask(f"alias.{KEY}", wire.HTTPS)
    assert [one.rtype for one in response.answer] == [wire.CNAME]
    assert response.rcode == wire.NOERROR
