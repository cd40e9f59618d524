"""RFC 9715: responses that no path has to fragment. It is about UDP; TCP is where what is cut comes from."""

from __future__ import annotations

import pytest

from tests.conformance import wire
from tests.conformance.wire import TC
from tests.conformance.world import KEY, OTHER_KEY, Client

UDP_SIZE_MAX = 1232  # Below the 1400 that RFC 9715 §3 sets for everybody.


@pytest.mark.parametrize("size", [512, 1232, 1400, 1500, 4096, 65_535])
def test_no_datagram_is_longer_than_a_path_carries_whole_however_much_the_client_takes(udp: Client, size: int) -> None:
    for qname in (udp.world.upstream.fresh("big"), udp.world.upstream.fresh("huge"), f"long.{OTHER_KEY}"):
        response = udp.ask(qname, wire.TXT, additional=[wire.opt(size)])
        assert len(response.wire) <= min(max(size, 512), UDP_SIZE_MAX)


def test_what_is_cut_says_so_and_is_whole_over_tcp(udp: Client, tcp: Client) -> None:
    qname = udp.world.upstream.fresh("big")
    cut = udp.ask(qname, wire.TXT, additional=[wire.opt(65_535)])
    assert cut.flags & TC
    assert cut.opt is not None
    assert cut.question == wire.question(qname, wire.TXT)
    assert len(tcp.ask(qname, wire.TXT, additional=[wire.opt(65_535)]).data(wire.TXT)) == 8


def test_the_size_that_we_state_is_one_that_is_not_fragmented(client: Client) -> None:
    opt = client.ask(f"www.{KEY}", additional=[wire.opt(65_535)]).opt
    assert opt is not None
    assert opt.rclass == UDP_SIZE_MAX


def test_we_ask_an_upstream_with_such_a_size_and_take_what_is_cut_over_tcp(udp: Client) -> None:
    qname = udp.world.upstream.fresh("big")
    udp.ask(qname, wire.TXT)
    assert [asked.is_stream for asked in udp.world.upstream.queries_for(qname)] == [False, True]
