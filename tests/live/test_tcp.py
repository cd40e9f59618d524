"""DNS over TCP at a front process: many queries, slow clients, floods of connections, and who is served meanwhile."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import dns.rcode
import pytest

from p2pdns.addresses import Address
from p2pdns.front.doors.fairness import QUERIES_WAITING_MAX
from tests.front_messages import TXT, opt, query
from tests.live.front_process import GUARD_S, FrontProcess, framed, read_framed, wait_until
from tests.live.test_front import World, with_limits

PIPELINED = 10_000
KEEPALIVE = b"\x00\x0b\x00\x00"
PATIENT_MS = 60_000  # Idle time of a front on a machine that is busy with other tests.


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world that is taken down afterwards."""
    with contextlib.closing(World(tmp_path)) as made:
        yield made


@pytest.fixture
def clients() -> Iterator[contextlib.ExitStack]:
    """Return where connections go that are closed with the test."""
    with contextlib.ExitStack() as stack:
        yield stack


def connected(front: FrontProcess, host: str) -> socket.socket:
    """Return a connection from one of the addresses of loopback."""
    return socket.create_connection(front.address, timeout=GUARD_S, source_address=(host, 0))


def ended(sock: socket.socket) -> bool:
    """Return whether the front has closed a connection over which it owes nothing."""
    if not select.select([sock], [], [], 0)[0]:
        return False
    try:
        return sock.recv(65_536) == b""
    except ConnectionResetError:
        return True


def in_background(sock: socket.socket, data: bytes) -> threading.Thread:
    """Send what the other side does not take at once."""

    def send() -> None:
        # The connection may be closed by the one or by the other side first.
        with contextlib.suppress(OSError):
            sock.sendall(data)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def test_ten_thousand_questions_of_one_client_wait_in_its_socket_while_others_are_answered(world: World) -> None:
    front = world.start(with_limits(tcp_idle_ms=PATIENT_MS))
    engine = world.engine
    assert engine is not None
    assert front.ask("answer.example").rcode() == dns.rcode.NOERROR
    with front.connect() as sock:
        sending = in_background(sock, b"".join(framed(query(f"mute{i}.example", number=i)) for i in range(PIPELINED)))
        wait_until(lambda: len(engine.asked) >= QUERIES_WAITING_MAX, "the first questions")
        for _ in range(20):
            assert front.ask("answer.example").rcode() == dns.rcode.NOERROR
            assert front.ask_tcp("answer.example").rcode() == dns.rcode.NOERROR
        assert front.ask("answer2.example").rcode() == dns.rcode.NOERROR
        muted = [name for name in engine.asked if name.startswith("mute")]
        # None of them is answered before its deadline, so none of those behind them was read.
        assert muted == [f"mute{i}.example" for i in range(QUERIES_WAITING_MAX)]
    sending.join(GUARD_S)


def test_ten_thousand_large_answers_that_a_client_does_not_take_hold_up_nobody(world: World) -> None:
    front = world.start(with_limits(tcp_idle_ms=PATIENT_MS))
    assert len(front.ask_tcp("big.example", "TXT").answer[0]) == 100
    with socket.socket() as sock:
        # Some 16 MB of answers: more than any system keeps for a client that takes nothing.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.settimeout(GUARD_S)
        sock.connect(front.address)
        sending = in_background(sock, framed(query("big.example", TXT)) * PIPELINED)
        # The first answer is there, and the last cannot be before it is taken.
        assert read_framed(sock) is not None
        for _ in range(20):
            assert len(front.ask_tcp("big.example", "TXT").answer[0]) == 100
            assert front.ask("big.example", "TXT").question
        for _ in range(PIPELINED - 1):
            assert read_framed(sock) is not None
    sending.join(GUARD_S)


def test_a_client_that_takes_nothing_is_closed(world: World) -> None:
    front = world.start(with_limits(tcp_idle_ms=500))
    front.ask_tcp("big.example", "TXT")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.connect(front.address)
        # More than any system holds for a server that does not read: this ends when the connection breaks.
        sending = in_background(sock, framed(query("big.example", TXT)) * PIPELINED * 50)
        sending.join(GUARD_S)
        assert not sending.is_alive()
    assert front.ask("answer.example").rcode() == dns.rcode.NOERROR


def test_a_client_that_drips_a_query_is_closed_and_one_that_asks_is_not(world: World) -> None:
    front = world.start(with_limits(tcp_idle_ms=2000))
    front.ask("answer.example")
    with front.connect() as dripping, front.connect() as asking:
        drops = iter(framed(query("answer.example") + bytes(60_000)))
        # A drop each time the other one has its answer: never is there nothing for as long as the idle time.
        while not ended(dripping):
            with contextlib.suppress(OSError):
                dripping.send(bytes([next(drops)]))
            asking.sendall(framed(query("answer.example")))
            assert read_framed(asking) is not None
            select.select([dripping], [], [], 0.01)
        asking.sendall(framed(query("answer.example")))
        assert read_framed(asking) is not None


def test_a_flood_of_silent_connections_makes_room_for_who_asks(world: World, clients: contextlib.ExitStack) -> None:
    front = world.start(with_limits(tcp_connections_max=12, tcp_connections_per_client_max=4, tcp_idle_ms=PATIENT_MS))
    flood = [clients.enter_context(connected(front, f"127.0.0.{2 + i // 4}")) for i in range(12)]
    for _ in range(5):
        assert front.ask_tcp("answer.example").rcode() == dns.rcode.NOERROR
    # And while the flood goes on; a half query is no claim to stay.
    for i in range(48):
        sock = clients.enter_context(connected(front, f"127.0.1.{2 + i}"))
        sock.sendall(framed(query("answer.example"))[:9])
        if not i % 8:
            assert front.ask_tcp("answer.example").rcode() == dns.rcode.NOERROR
    wait_until(lambda: all(map(ended, flood)), "the first ones have made room")


def test_connections_that_wait_for_answers_are_not_given_up_for_others(
    world: World, clients: contextlib.ExitStack
) -> None:
    front = world.start(with_limits(tcp_connections_max=2, tcp_idle_ms=PATIENT_MS))
    engine = world.engine
    assert engine is not None
    waiting = [clients.enter_context(front.connect()) for _ in range(2)]
    for i, sock in enumerate(waiting):
        sock.sendall(framed(query(f"mute{i}.example", number=i)))
    wait_until(lambda: len(engine.asked) == 2, "both questions")
    with front.connect() as surplus:
        assert read_framed(surplus) is None
    # Each has its failure in the end: the connection is still there.
    for sock in waiting:
        reply = read_framed(sock)
        assert reply is not None
        assert dns.message.from_wire(reply).rcode() == dns.rcode.SERVFAIL


def test_long_queries_of_many_clients_are_all_answered(world: World, clients: contextlib.ExitStack) -> None:
    front = world.start()
    front.ask("answer.example")
    # As long as a length can say, and as many records as fit.
    tail = bytes(65_535 - len(query("answer.example")))
    odd = [query("answer.example", number=1) + tail, query("answer.example", records=[bytes(11)] * 5950, number=2)]
    held = [clients.enter_context(front.connect()) for _ in range(10)]
    threads = [in_background(sock, b"".join(map(framed, odd)) * 10) for sock in held]
    rcodes = []
    for sock in held:
        for _ in range(20):
            reply = read_framed(sock)
            assert reply is not None
            rcodes.append((reply[1], reply[3] & 0x0F))
    assert set(rcodes) == {(1, dns.rcode.NOERROR), (2, dns.rcode.FORMERR)}
    for thread in threads:
        thread.join(GUARD_S)


def test_keepalive_tells_the_idle_time_over_tcp_and_is_no_answer_over_udp(world: World) -> None:
    front = world.start(with_limits(tcp_idle_ms=2500))
    host, port = front.address
    option = dns.edns.GenericOption(dns.edns.OptionType(11), b"")
    asked = dns.message.make_query("answer.example", "A", options=[option])
    (told,) = dns.query.tcp(asked, host, timeout=GUARD_S, port=port).options
    assert told.to_wire() == (25).to_bytes(2, "big")
    assert not dns.query.udp(asked, host, timeout=GUARD_S, port=port).options
    with front.connect() as sock:
        sock.sendall(framed(query("answer.example", records=[opt(options=KEEPALIVE)])))
        assert read_framed(sock) is not None
        # And it holds: the end comes, from the front.
        assert read_framed(sock) is None


def test_a_cookie_learnt_over_one_transport_counts_over_the_other(world: World) -> None:
    front = world.start()
    learnt = cookie_of(dns.query.tcp(asking(b"clientco"), *reach(front)))
    assert learnt[:8] == b"clientco"
    assert len(learnt) == 24
    for ask in (dns.query.tcp, dns.query.udp):
        assert cookie_of(ask(asking(learnt), *reach(front))) == learnt


def reach(front: FrontProcess) -> tuple[str, float, int]:
    """Return how a client of dnspython reaches a front."""
    address: Address = front.address
    return address[0], GUARD_S, address[1]


def asking(cookie: bytes) -> dns.message.Message:
    """Return a query with a cookie."""
    option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
    return dns.message.make_query("answer.example", "A", options=[option])


def cookie_of(reply: dns.message.Message) -> bytes:
    """Return the cookie of a response."""
    (option,) = reply.options
    return bytes(option.to_wire() or b"")
