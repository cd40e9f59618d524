"""RFC 7828: how long a TCP connection may stay open."""

from __future__ import annotations

import pytest

from tests.conformance import wire
from tests.conformance.wire import KEEPALIVE
from tests.conformance.world import KEY, Client

WWW = f"www.{KEY}"
IDLE_100_MS = 100  # The idle time of the default configuration, 10 s, in the option's unit.


def test_who_asks_is_told_the_idle_time(tcp: Client) -> None:
    # TCP only, as the option is.
    response = tcp.ask(WWW, additional=[wire.opt(1232, wire.option(KEEPALIVE))])
    assert response.option(KEEPALIVE) == IDLE_100_MS.to_bytes(2)
    assert response.data(wire.A)


@pytest.mark.parametrize("qname", [f"nosuch.{KEY}", f"loop.{KEY}", "version.bind"])
def test_it_is_told_with_every_kind_of_response(tcp: Client, qname: str) -> None:
    # TCP only, as the option is.
    response = tcp.ask(qname, additional=[wire.opt(1232, wire.option(KEEPALIVE))])
    assert response.option(KEEPALIVE) == IDLE_100_MS.to_bytes(2)


def test_who_does_not_ask_is_not_told(client: Client) -> None:
    assert client.ask(WWW, additional=[wire.opt()]).option(KEEPALIVE) is None


def test_over_udp_it_is_ignored(udp: Client) -> None:
    # UDP only: the other transport has its own cases.
    for data in (b"", b"\x00\x64", b"odd"):
        response = udp.ask(WWW, additional=[wire.opt(1232, wire.option(KEEPALIVE, data))])
        assert (response.rcode, response.options) == (wire.NOERROR, ())


def test_a_client_that_states_a_time_is_told_of_its_error(tcp: Client) -> None:
    # TCP only. RFC 7828 §3.2.1: a client sends it without a time; what is malformed is FORMERR, as unbound has it.
    assert tcp.ask(WWW, additional=[wire.opt(1232, wire.option(KEEPALIVE, b"\x00\x64"))]).rcode == wire.FORMERR
