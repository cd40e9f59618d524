"""RFC 2181: RRsets, TTLs, aliases, names of any bytes, truncation, and the address a reply leaves from."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.conformance import wire
from tests.conformance.upstream import ADDRESS
from tests.conformance.world import KEY, OTHER_KEY, THIRD_KEY, Client
from tests.live.fake_engine import FakeEngine
from tests.live.front_process import GUARD_S, FrontProcess


def test_the_rrs_of_a_set_have_one_ttl(client: Client) -> None:
    response = client.ask(f"bits.{KEY}")
    assert len(response.answer) == 2
    assert len({one.ttl for one in response.answer}) == 1


def test_of_unequal_ttls_in_an_upstreams_rrset_none_outlives_the_lowest(client: Client) -> None:
    # RFC 2181 §5.2: unequal TTLs are an error of the server; a client uses the lowest.
    qname = client.world.upstream.fresh("unequal")
    client.ask(qname)
    response = client.ask(qname)
    assert len(response.answer) == 3
    assert max(one.ttl for one in response.answer) <= 30


def test_a_set_holds_an_rr_once(client: Client) -> None:
    assert client.ask(client.world.upstream.fresh("twice")).data(wire.A) == [ADDRESS]


def test_a_ttl_with_the_top_bit_set_is_zero(client: Client) -> None:
    qname = client.world.upstream.fresh("top")
    assert [one.ttl for one in client.ask(qname).answer] == [0]
    client.ask(qname)
    # And so it is not kept.
    assert len(client.world.upstream.queries_for(qname)) == 2


def test_a_ttl_of_zero_is_passed_on_and_not_kept(client: Client) -> None:
    qname = client.world.upstream.fresh("zero")
    assert [one.ttl for one in client.ask(qname).answer] == [0]
    assert [one.ttl for one in client.ask(qname).answer] == [0]
    assert len(client.world.upstream.queries_for(qname)) == 2


def test_a_ttl_of_a_year_is_kept_for_no_longer_than_the_limit(client: Client) -> None:
    (one,) = client.ask(client.world.upstream.fresh("year")).answer
    assert one.ttl <= 86_400


def test_an_alias_stands_alone(client: Client) -> None:
    response = client.ask(f"alias.{KEY}", wire.MX)
    assert [one.rtype for one in response.answer] == [wire.CNAME]
    assert [one.rtype for one in response.authority] == [wire.SOA]


@pytest.mark.parametrize(
    ("owner", "address"),
    [
        (wire.labels(b"\x00\xff", b"bin", KEY.encode()), [192, 0, 2, 9]),
        (wire.labels(b"a.b", KEY.encode()), [192, 0, 2, 10]),
    ],
    ids=["bytes 0 and 255", "a dot inside a label"],
)
def test_labels_may_have_any_bytes(client: Client, owner: bytes, address: list[int]) -> None:
    response = client.ask(owner)
    assert response.data(wire.A) == [bytes(address)]
    assert response.question == wire.question(owner)
    assert response.answer[0].owner == owner


def test_a_dot_inside_a_label_is_no_border_of_labels(client: Client) -> None:
    assert client.ask(wire.labels(b"a", b"b", KEY.encode())).rcode == wire.NXDOMAIN


def test_a_cut_response_has_no_part_of_a_set(udp: Client) -> None:
    # UDP only: over TCP nothing is cut.
    response = udp.ask(f"long.{OTHER_KEY}", wire.TXT, additional=[wire.opt(512)])
    assert response.flags & wire.TC
    assert response.answer == response.authority == ()


def test_only_a_missing_answer_sets_tc(udp: Client, tcp: Client) -> None:
    # UDP only, TCP shows what was left out. RFC 2181 §9: additional data without room is no reason for TC.
    whole = tcp.ask(THIRD_KEY, wire.MX)
    assert len(whole.wire) > 512
    for additional in ([], [wire.opt(512)]):
        response = udp.ask(THIRD_KEY, wire.MX, additional=additional)
        assert not response.flags & wire.TC
        assert (len(response.data(wire.MX)), response.additional) == (8, ())
        assert (response.opt is not None) == bool(additional)


def test_a_reply_leaves_from_the_address_that_was_asked(tmp_path: Path) -> None:
    # UDP: a connection has that by itself. The socket is bound to every address of this machine, as many are.
    engine = FakeEngine(tmp_path)
    front = FrontProcess(tmp_path, host="0.0.0.0")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(GUARD_S)
            for host in ("127.0.0.1", "127.0.0.2", "127.9.9.9"):
                sock.sendto(wire.query("answer.example"), (host, front.address[1]))
                response, sender = sock.recvfrom(512)
                assert wire.Response(response).counts[1] == 1
                assert sender == (host, front.address[1])
    finally:
        errors = front.close()
        engine.close()
    assert "Traceback" not in errors
