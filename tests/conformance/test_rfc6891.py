"""RFC 6891: EDNS."""

from __future__ import annotations

import pytest

from tests.conformance import wire
from tests.conformance.wire import DO, TC
from tests.conformance.world import KEY, OTHER_KEY, Client

WWW = f"www.{KEY}"
UDP_SIZE = 1232


@pytest.mark.parametrize(
    ("qname", "qtype", "qclass"),
    [
        (WWW, wire.A, wire.IN),
        (f"nosuch.{KEY}", wire.A, wire.IN),
        (f"loop.{KEY}", wire.A, wire.IN),
        (KEY, wire.AXFR, wire.IN),
        (WWW, wire.A, wire.HS),
        ("version.bind", wire.TXT, wire.CH),
        (f"long.{OTHER_KEY}", wire.TXT, wire.IN),
    ],
)
def test_a_response_has_opt_if_and_only_if_the_query_had(client: Client, qname: str, qtype: int, qclass: int) -> None:
    assert client.ask(qname, qtype, qclass=qclass).opt is None
    opt = client.ask(qname, qtype, qclass=qclass, additional=[wire.opt()]).opt
    assert opt is not None
    assert (opt.owner, opt.rclass, opt.ttl & 0xFFFF) == (b"\x00", UDP_SIZE, 0)


def test_an_unknown_opcode_with_opt_is_answered(client: Client) -> None:
    assert client.ask(WWW, flags=0x1000, additional=[wire.opt()]).rcode == wire.NOTIMP


@pytest.mark.parametrize("version", [1, 2, 100, 255])
def test_a_later_version_is_badvers_and_ours_is_told(client: Client, version: int) -> None:
    response = client.ask(WWW, additional=[wire.opt(1232, version=version)])
    assert (response.rcode, response.answer) == (wire.BADVERS, ())
    assert response.opt is not None
    assert response.opt.ttl >> 16 & 0xFF == 0
    assert response.question == wire.question(WWW)


def test_a_later_version_with_unknown_options_is_badvers_too(client: Client) -> None:
    opt = wire.opt(1232, wire.option(65_001, b"xyz"), version=1, flags=0x4000)
    assert client.ask(WWW, additional=[opt]).rcode == wire.BADVERS


@pytest.mark.parametrize("code", [0, 4, 9, 100, 65_001, 65_535])
@pytest.mark.parametrize("data", [b"", b"\x00", b"x" * 100])
def test_an_unknown_option_is_ignored_and_not_repeated(client: Client, code: int, data: bytes) -> None:
    response = client.ask(WWW, additional=[wire.opt(1232, wire.option(code, data), wire.option(code, data))])
    assert response.rcode == wire.NOERROR
    assert response.options == ()


@pytest.mark.parametrize("flags", [0x0001, 0x4000, 0x7FFF])
def test_unknown_flags_are_ignored_and_come_back_clear(client: Client, flags: int) -> None:
    response = client.ask(WWW, additional=[wire.opt(1232, flags=flags | DO)])
    assert response.opt is not None
    assert response.opt.ttl & 0xFFFF == DO
    assert response.data(wire.A)


@pytest.mark.parametrize(
    "query",
    [
        wire.query(WWW, additional=[wire.opt(), wire.opt()]),
        wire.query(WWW, additional=[wire.opt(), wire.opt(4096, version=1)]),
        wire.query(WWW, answer=[wire.opt()]),
        wire.query(WWW, authority=[wire.opt()]),
        wire.query(WWW, additional=[wire.opt(owner=wire.name("x"))]),
        wire.query(WWW, additional=[wire.opt(1232, b"\x00")]),
        wire.query(WWW, additional=[wire.opt(1232, b"\x00\x03\x00\x05abc")]),
        wire.query(WWW, additional=[wire.opt()[:-1]]),
        wire.query(WWW, additional=[wire.opt()[:-2] + b"\x00\x09"]),
    ],
    ids=[
        "two",
        "two versions",
        "answer",
        "authority",
        "owner",
        "option cut",
        "option too long",
        "cut",
        "rdata too long",
    ],
)
def test_an_opt_that_breaks_the_rules_is_a_format_error(client: Client, query: bytes) -> None:
    response = client(query)
    assert (response.rcode, response.answer) == (wire.FORMERR, ())
    assert response.id == int.from_bytes(query[:2])


@pytest.mark.parametrize("size", [0, 1, 511, 512])
def test_a_size_below_512_counts_as_512(udp: Client, size: int) -> None:
    # UDP only: over TCP the size says nothing.
    response = udp.ask(f"long.{OTHER_KEY}", wire.TXT, additional=[wire.opt(size)])
    assert response.flags & TC
    assert response.opt is not None
    assert len(udp.ask(WWW, additional=[wire.opt(size)]).data(wire.A)) == 1


@pytest.mark.parametrize("size", [800, 1232, 4096, 65_535])
def test_an_answer_that_fits_into_the_clients_size_is_not_cut(udp: Client, size: int) -> None:
    # UDP only: over TCP the size says nothing.
    response = udp.ask(f"long.{OTHER_KEY}", wire.TXT, additional=[wire.opt(size)])
    assert not response.flags & TC
    assert len(response.data(wire.TXT)) == 3
    assert len(response.wire) <= min(size, UDP_SIZE)


@pytest.mark.parametrize("size", [0, 512, 65_535])
def test_the_size_means_nothing_over_tcp(tcp: Client, size: int) -> None:
    # TCP only: that is what the claim is about.
    response = tcp.ask(tcp.world.upstream.fresh("big"), wire.TXT, additional=[wire.opt(size)])
    assert len(response.data(wire.TXT)) == 8
    assert not response.flags & TC


def test_opt_is_found_behind_another_record(client: Client) -> None:
    stray = wire.record(b"\x00", wire.A, bytes(4))
    response = client.ask(WWW, additional=[stray, wire.opt(1232, flags=DO)])
    assert response.opt is not None
    assert response.opt.ttl & 0xFFFF == DO


def test_opt_is_not_asked_for(client: Client) -> None:
    assert client.ask(WWW, wire.OPT).rcode == wire.FORMERR
