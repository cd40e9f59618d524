"""Upstreams over real sockets on loopback: UDP, TCP after TC, silence, closed ports, forged replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from p2pdns.addresses import Address
from p2pdns.clock import boot_now, unix_now
from p2pdns.dns.message import Message, compose, parse
from p2pdns.engine.overlay import Overlay
from p2pdns.engine.service import QueryFacts, Service
from p2pdns.engine.upstream import Upstream
from p2pdns.resolver import NoReply, Replied, Resolved, ResolverSettings
from tests.overlay_doubles import FakeDht, FakeState, question, reply_to

ASKED = question("example.com. A")
MANY = tuple(f"example.com. 60 A 192.0.2.{number}" for number in range(1, 251))


class Double(asyncio.DatagramProtocol):
    """A resolver on loopback; `reply` makes the datagrams it sends for a query."""

    def __init__(self, reply: Callable[[Message], list[bytes]]) -> None:
        self.reply = reply
        self.queries: list[Message] = []
        self.sources: list[Address] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Reply."""
        query = parse(data)
        self.queries.append(query)
        self.sources.append(addr)
        for wire in self.reply(query):
            self.transport.sendto(wire, addr)


@asynccontextmanager
async def resolver(
    reply: Callable[[Message], list[bytes]], *, tcp: Callable[[Message], bytes] | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Double, Address]]:
    """Open a resolver, on TCP too where the test says what it replies there."""
    loop = asyncio.get_running_loop()
    transport, double = await loop.create_datagram_endpoint(lambda: Double(reply), local_addr=(host, 0))
    address = transport.get_extra_info("sockname")[:2]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert tcp is not None
        size = int.from_bytes(await reader.readexactly(2))
        wire = tcp(parse(await reader.readexactly(size)))
        writer.write(len(wire).to_bytes(2) + wire)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, host, address[1]) if tcp is not None else None
    try:
        yield double, address
    finally:
        transport.close()
        if server is not None:
            server.close()
            await server.wait_closed()


def answered(query: Message, *lines: str, flags: int = 0) -> bytes:
    """Return a reply with these lines."""
    made = reply_to(query.question or ASKED, *lines)
    return compose(Message(query.id, made.flags | flags, made.question, made.answer))


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test's story."""
    asyncio.run(asyncio.wait_for(story, 30))


async def ask(*servers: Address, seconds: float = 20.0, **flags: bool) -> Replied | NoReply:
    """Return what an upstream of these servers makes of a question."""
    upstream = Upstream(servers, clock=boot_now)
    facts = {"rd": True, "do": False, "cd": False, **flags}
    return await upstream.ask(ASKED, deadline=boot_now() + seconds, **facts)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_question_goes_over_udp_with_its_flags(host: str) -> None:
    async def story() -> None:
        async with resolver(lambda query: [answered(query, "example.com. 60 A 192.0.2.9")], host=host) as (double, at):
            outcome = await ask(at, do=True, cd=True)
            assert isinstance(outcome, Replied)
            assert [rr.rdata for rr in outcome.message.answer] == [bytes([192, 0, 2, 9])]
            (query,) = double.queries
            assert (query.question, query.rd, query.cd, query.ad) == (ASKED, True, True, False)
            assert query.opt is not None
            assert (query.opt.rclass, query.opt.ttl >> 15 & 1) == (1232, 1)

    run(story())


def test_every_query_has_an_id_and_a_port_of_its_own() -> None:
    async def story() -> None:
        async with resolver(lambda query: [answered(query, "example.com. 60 A 192.0.2.9")]) as (double, at):
            for _ in range(20):
                assert isinstance(await ask(at), Replied)
            # A port or an ID may come up twice by chance, but not all of the time.
            assert len({query.id for query in double.queries}) > 15
            assert len({port for _, port in double.sources}) > 15

    run(story())


def test_a_cut_reply_is_asked_for_again_over_tcp() -> None:
    async def story() -> None:
        async with resolver(
            lambda query: [answered(query, flags=0x0200)], tcp=lambda query: answered(query, *MANY)
        ) as (_, at):
            outcome = await ask(at)
            assert isinstance(outcome, Replied)
            assert len(outcome.message.answer) == len(MANY)

    run(story())


def test_a_tcp_connection_that_is_closed_early_is_no_reply() -> None:
    async def story() -> None:
        async with resolver(
            lambda query: [answered(query, flags=0x0200)], tcp=lambda query: answered(query, *MANY)[:0]
        ) as (_, at):
            assert isinstance(await ask(at), NoReply)

    run(story())


def test_forged_and_malformed_replies_are_passed_over_until_the_real_one() -> None:
    def replies(query: Message) -> list[bytes]:
        other = Message(query.id, query.flags, question("example.org. A"))
        wrong_id = Message(query.id ^ 1, query.flags, query.question)
        lie = "example.com. 60 A 192.0.2.66"
        return [
            b"",
            b"\x00" * 40,
            answered(wrong_id, lie),
            answered(other),
            answered(query, lie)[:30],
            answered(query, "example.com. 60 A 192.0.2.9"),
        ]

    async def story() -> None:
        async with resolver(replies) as (_, at):
            outcome = await ask(at)
            assert isinstance(outcome, Replied)
            assert [rr.rdata for rr in outcome.message.answer] == [bytes([192, 0, 2, 9])]

    run(story())


def test_a_server_at_a_closed_port_is_passed_over_at_once() -> None:
    async def story() -> None:
        async with resolver(lambda query: []) as (_, gone):
            pass
        async with resolver(lambda query: [answered(query, "example.com. 60 A 192.0.2.9")]) as (_, at):
            assert isinstance(await ask(gone, at), Replied)
        assert isinstance(await ask(gone), NoReply)

    run(story())


def test_silence_ends_at_the_deadline() -> None:
    async def story() -> None:
        async with resolver(lambda query: []) as (double, at):
            outcome = await ask(at, seconds=0.2)
            assert isinstance(outcome, NoReply)
            assert double.queries

    run(story())


def test_an_upstream_that_is_ourselves_is_found_out_and_dropped() -> None:
    async def story() -> None:
        services: list[Service] = []

        def forward(query: Message) -> list[bytes]:
            """Be the front of our own service: what it is asked goes there, and the probe needs no reply."""
            assert query.question is not None
            facts = QueryFacts(query.question, boot_now() + 5)
            tasks.append(asyncio.create_task(services[0].resolve(facts)))
            return [answered(query)]

        tasks: list[asyncio.Task[Resolved]] = []
        async with resolver(forward) as (_, at), resolver(lambda query: [answered(query)]) as (_, honest):
            upstream = Upstream((at, honest), clock=boot_now)
            nothing = Overlay(FakeDht(), FakeState(), clock=boot_now, unix_clock=unix_now)
            services.append(Service(nothing, upstream, ResolverSettings(), clock=boot_now))
            # The question comes back while the probe of it is still under way, as it does through a front.
            await upstream.probe(iter(["abc123", "def456"]).__next__)
            await asyncio.gather(*tasks)
            assert upstream.servers == (honest,)

    run(story())


def test_nothing_is_sent_to_any_other_address() -> None:
    async def story() -> None:
        async with (
            resolver(lambda query: [answered(query)]) as (chosen, at),
            resolver(lambda query: [answered(query)]) as (other, _),
        ):
            await ask(at)
            assert (len(chosen.queries), len(other.queries)) == (1, 0)

    run(story())
