"""Upstreams over real sockets on loopback: UDP, TCP after TC, silence, closed ports, forged replies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from p2pdns.addresses import Address
from p2pdns.clock import boot_now, unix_now
from p2pdns.dns.message import Message
from p2pdns.dns.message.wire import compose, parse
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Flag
from p2pdns.link import Ask
from p2pdns.net.sockets import open_dns
from p2pdns.net.upstream.asking import Upstream
from p2pdns.net.upstream.exchange import SOCKETS_MAX, STRAY_DATAGRAMS_MAX, Asking, Exchanges, Trouble
from p2pdns.overlay.finder import Overlay
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.service import Service
from p2pdns.resolver.steps import NoReply, Replied, Resolved
from tests.overlay_doubles import FakeDht, FakeState, Told, question, reply_to
from tests.waiting import at_rest

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
    # Both at one port, which another process may have for TCP when UDP gets it.
    sockets = open_dns((host, 0))
    address = sockets.address
    transport, double = await loop.create_datagram_endpoint(lambda: Double(reply), sock=sockets.udp)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert tcp is not None
        size = int.from_bytes(await reader.readexactly(2))
        wire = tcp(parse(await reader.readexactly(size)))
        writer.write(len(wire).to_bytes(2) + wire)
        await writer.drain()
        writer.close()

    server = None
    if tcp is None:
        sockets.tcp.close()
    else:
        server = await asyncio.start_server(serve, sock=sockets.tcp)
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
    try:
        return await upstream.ask(ASKED, deadline=boot_now() + seconds, **facts)
    finally:
        upstream.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_question_goes_over_udp_with_its_flags(host: str) -> None:
    async def story() -> None:
        async with resolver(lambda query: [answered(query, "example.com. 60 A 192.0.2.9")], host=host) as (double, at):
            outcome = await ask(at, do=True, cd=True)
            assert isinstance(outcome, Replied)
            assert [rr.rdata for rr in outcome.message.answer] == [bytes([192, 0, 2, 9])]
            (query,) = double.queries
            assert (query.question, query.flags) == (ASKED, Flag.RD | Flag.CD)
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


def test_a_reply_cut_inside_a_record_is_asked_for_again_over_tcp() -> None:
    async def story() -> None:
        async with resolver(
            lambda query: [answered(query, *MANY, flags=0x0200)[:300]], tcp=lambda query: answered(query, *MANY)
        ) as (_, at):
            outcome = await ask(at)
            assert isinstance(outcome, Replied)
            assert len(outcome.message.answer) == len(MANY)

    run(story())


def test_a_reply_cut_over_tcp_too_is_no_answer_whatever_it_holds() -> None:
    async def story() -> None:
        for lines in ((), MANY[:3]):
            async with resolver(
                lambda query: [answered(query, flags=0x0200)],
                tcp=lambda query, lines=lines: answered(query, *lines, flags=0x0200),  # type: ignore[misc]
            ) as (_, at):
                outcome = await ask(at)
                assert isinstance(outcome, NoReply)
                assert outcome.text == Trouble.CUT.value

    run(story())


def test_a_server_that_cuts_and_has_no_tcp_is_told_as_such() -> None:
    async def story() -> None:
        async with resolver(lambda query: [answered(query, flags=0x0200)]) as (_, at):
            outcome = await ask(at)
            assert isinstance(outcome, NoReply)
            assert outcome.text == Trouble.NO_TCP.value

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


def test_datagrams_that_are_no_reply_are_counted_by_reason_and_end_in_another_socket() -> None:
    asked: list[int] = []

    def replies(query: Message) -> list[bytes]:
        asked.append(query.id)
        if len(asked) > 1:
            return [answered(query, "example.com. 60 A 192.0.2.9")]
        wrong_id = Message(query.id ^ 1, query.flags, query.question)
        return [answered(wrong_id, "example.com. 60 A 192.0.2.66")] * STRAY_DATAGRAMS_MAX

    async def story() -> None:
        async with resolver(replies) as (double, at):
            upstream = Upstream((at,), clock=boot_now)
            outcome = await upstream.ask(ASKED, rd=True, do=False, cd=False, deadline=boot_now() + 20)
            upstream.close()
            assert isinstance(outcome, Replied)
            assert len(double.queries) == len(set(double.sources)) == 2
            assert upstream.counters["passed-over-wrong-id"] == STRAY_DATAGRAMS_MAX
            assert upstream.counters["trouble-stray"] == 1

    run(story())


def test_a_question_in_another_case_is_another_question() -> None:
    def replies(query: Message) -> list[bytes]:
        real = answered(query, "example.com. 60 A 192.0.2.9")
        return [real.replace(b"example", b"eXample").replace(b"\x09", b"\x42"), real]

    async def story() -> None:
        async with resolver(replies) as (_, at):
            outcome = await ask(at)
            assert isinstance(outcome, Replied)
            assert [rr.rdata[-1] for rr in outcome.message.answer] == [9]

    run(story())


def test_an_old_server_that_answers_its_header_alone_is_asked_again_without_edns() -> None:
    def replies(query: Message) -> list[bytes]:
        if query.opt is not None:
            return [query.id.to_bytes(2) + b"\x80\x01" + bytes(8)]
        return [answered(query, "example.com. 60 A 192.0.2.9")]

    async def story() -> None:
        async with resolver(replies) as (double, at):
            assert isinstance(await ask(at), Replied)
            assert [query.opt is not None for query in double.queries] == [True, False]

    run(story())


def name(text: str) -> bytes:
    """Return the bytes of a name."""
    return Name.read(text).wire()


# What libraries that read all of a message refuse, and what a resolver has to pass on or to leave out.
ODD_RECORDS = {
    "HTTPS alias with a parameter": (65, b"\0\0" + name("x.") + b"\0\x01\0\x03\x02h2", True),
    "HTTPS with another ech": (65, b"\0\x01\0" + b"\0\x05\0\x03abc", True),
    "HTTPS cut inside a parameter": (65, b"\0\x01\0" + b"\0\x01\0\x09\x02h2", True),
    "LOC version 1": (29, b"\x01" + bytes(15), True),
    "AMTRELAY type 4": (260, b"\x0a\x04abcd", True),
    "ZONEMD scheme 0": (63, bytes(4) + b"\0\x01" + bytes(48), True),
    "a type of nobody": (65_280, b"\xc0\x0c\xff", True),
    "A of five bytes": (1, b"\xc0\0\x02\x09\x09", False),
    "MX cut short": (15, b"\0", False),
}


@pytest.mark.parametrize("odd", ODD_RECORDS)
def test_an_odd_record_passes_or_is_left_out_and_the_rest_is_told(odd: str) -> None:
    rtype, rdata, passes = ODD_RECORDS[odd]

    def replies(query: Message) -> list[bytes]:
        record = b"\xc0\x0c" + rtype.to_bytes(2) + b"\0\x01\0\0\0\x3c" + len(rdata).to_bytes(2) + rdata
        wire = bytearray(answered(query, "example.com. 60 TXT good") + record)
        wire[7] = 2
        return [bytes(wire)]

    async def story() -> None:
        async with resolver(replies) as (double, at):
            upstream = Upstream((at,), clock=boot_now)
            outcome = await upstream.ask(ASKED, rd=True, do=False, cd=False, deadline=boot_now() + 20)
            upstream.close()
            assert isinstance(outcome, Replied)
            assert bool(upstream.counters["record-rdata-length"]) is not passes
            told = [(rr.rtype, rr.rdata) for rr in outcome.message.answer]
            assert told == [(16, b"\x04good"), *([(rtype, rdata)] if passes else [])]
            assert len(double.queries) == 1

    run(story())


def test_a_reply_of_which_nothing_holds_is_a_failure_that_says_so_and_no_absence() -> None:
    def replies(query: Message) -> list[bytes]:
        wire = bytearray(answered(query) + b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x05\xc0\0\x02\x09\x09")
        wire[7] = 1
        return [bytes(wire)]

    async def story() -> None:
        async with resolver(replies) as (_, at):
            outcome = await ask(at)
            assert isinstance(outcome, NoReply)
            assert (outcome.text, outcome.is_silence) == (Trouble.UNREADABLE.value, False)

    run(story())


# Behind a whole reply: bytes of nobody, and an OPT whose options are none of our business.
TAILS = {
    "bytes behind the message": (b"tail", 0),
    "client-subnet of family 0": (b"\0\0\x29\x04\xd0\0\0\0\0\0\x08\0\x08\0\x04\0\0\0\0", 1),
    "an option that is cut short": (b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0f\0\x09", 1),
}


@pytest.mark.parametrize("tail", TAILS)
def test_what_stands_behind_an_answer_does_not_spoil_it(tail: str) -> None:
    raw, count = TAILS[tail]

    def replies(query: Message) -> list[bytes]:
        wire = bytearray(answered(query, "example.com. 60 A 192.0.2.9") + raw)
        wire[11] = count
        return [bytes(wire)]

    async def story() -> None:
        async with resolver(replies) as (_, at):
            outcome = await ask(at)
            assert isinstance(outcome, Replied)
            assert [rr.rdata for rr in outcome.message.answer] == [bytes([192, 0, 2, 9])]

    run(story())


def test_sockets_are_bounded_and_the_oldest_query_gives_way() -> None:
    async def story() -> None:
        async with resolver(lambda query: []) as (_, at):
            exchanges = Exchanges(Counter())
            heard: list[tuple[int, object]] = []
            asking = Asking(ASKED, True, False, False, False)

            def listener(number: int) -> Callable[[object], None]:
                return lambda what: heard.append((number, what))

            closes = [exchanges.begin(at, asking, listener(number)) for number in range(SOCKETS_MAX + 2)]
            await at_rest()
            assert heard == [(0, Trouble.CROWDED), (1, Trouble.CROWDED)]
            for close in closes:
                close()
            exchanges.close()

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
            resolving = services[0].resolve(query.question, Ask(boot_now() + 5))
            tasks.append(asyncio.create_task(resolving))
            return [answered(query)]

        tasks: list[asyncio.Task[Resolved]] = []
        async with resolver(forward) as (_, at), resolver(lambda query: [answered(query)]) as (_, honest):
            upstream = Upstream((at, honest), clock=boot_now)
            nothing = Overlay(FakeDht(), FakeState(), clock=boot_now, unix_clock=unix_now, tell=Told())
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
