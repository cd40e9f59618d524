"""The doors of the signer: real sockets on loopback, with bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import dns.rcode
import dns.xfr
import dns.zone
import pytest

from p2pdns.net.sockets import open_dns
from p2pdns.signer import server as room
from p2pdns.signer.server import Doors
from tests.signing import HOST, KEY, TSIG_KEY, ZONE_NAME, Signing, update
from tests.waiting import GUARD_S


def run(signing: Signing, story: Callable[[int], Coroutine[Any, Any, None]], idle_s_max: float = GUARD_S) -> None:
    """Tell a story with open doors; it is told their port."""

    async def main() -> None:
        sockets = open_dns((HOST, 0))
        doors = Doors(signing.answers, tell=signing.lines, idle_s_max=idle_s_max)
        await doors.open(sockets)
        try:
            await story(sockets.address[1])
        finally:
            doors.close()

    asyncio.run(main())


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    """A signer of the usual zone."""
    return Signing(tmp_path)


def test_an_update_goes_by_udp_and_by_tcp_and_a_transfer_by_tcp(signing: Signing) -> None:
    async def story(port: int) -> None:
        first, second = update(), update()
        for number, message in enumerate((first, second)):
            message.add(f"n{number}", 60, "A", "192.0.2.9")
            message.use_tsig(TSIG_KEY)
        by_udp = await dns.asyncquery.udp(first, HOST, port=port, timeout=GUARD_S)
        by_tcp = await dns.asyncquery.tcp(second, HOST, port=port, timeout=GUARD_S)
        assert [by_udp.rcode(), by_tcp.rcode()] == [dns.rcode.NOERROR] * 2
        copy = dns.zone.Zone(ZONE_NAME, relativize=False)
        query, _ = dns.xfr.make_query(copy, keyring=TSIG_KEY)
        await dns.asyncquery.inbound_xfr(HOST, copy, query, port=port, lifetime=GUARD_S)
        assert {f"n0.{KEY}.", f"n1.{KEY}."} <= {str(name) for name in copy}

    run(signing, story)


def test_an_update_of_64_kb_is_answered_with_one_rcode(signing: Signing) -> None:
    message = update()
    for number in range(2_850):
        message.add(f"n{number}", 60, "A", "192.0.2.9")
    message.use_edns(payload=1232, request_payload=65_535)
    message.use_tsig(TSIG_KEY)
    assert len(message.to_wire()) > 60_000
    before = signing.text()

    async def story(port: int) -> None:
        response = await dns.asyncquery.tcp(message, HOST, port=port, timeout=GUARD_S)
        assert response.rcode() == dns.rcode.REFUSED
        assert "2850 records in one UPDATE, 1000 allowed" in str(response.options[0])

    run(signing, story)
    assert signing.text() == before


def test_bytes_that_are_no_request_get_formerr_or_nothing(signing: Signing) -> None:
    async def story(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        response_to = dns.message.make_response(dns.message.make_query(ZONE_NAME, "SOA")).to_wire()
        for junk in (b"", b"\0" * 11, response_to, b"\0\1\x28\0" + b"\xff" * 20):
            writer.write(len(junk).to_bytes(2) + junk)
        # The last of them is answered alone: the others have no header, or are responses.
        assert await reader.readexactly(14) == b"\0\x0c\0\1\xa8\1" + bytes(8)
        writer.close()

    run(signing, story)


def test_so_many_connections_and_no_more_are_served(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CONNECTIONS_MAX", 2)
    query = dns.message.make_query(ZONE_NAME, "SOA").to_wire()

    async def story(port: int) -> None:
        open_ones = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(len(query).to_bytes(2) + query)
            await reader.readexactly(2)
            open_ones.append(writer)
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await reader.read() == b""
        for one in [*open_ones, writer]:
            one.close()

    run(signing, story, idle_s_max=GUARD_S / 3)
    assert any("connection is refused" in event for _, event, _ in signing.lines.kept)


def test_a_client_that_says_nothing_is_let_go(signing: Signing) -> None:
    async def story(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"\0")
        assert await reader.read() == b""
        writer.close()

    run(signing, story, idle_s_max=0.05)
