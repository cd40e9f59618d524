"""RFC 7766 and 9210: DNS over TCP. All of it is about one transport, so there is no UDP half."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from p2pdns.config import Config, LimitsTable
from tests.conformance import wire
from tests.conformance.world import KEY, World, framed, read_exactly, read_framed
from tests.live.fake_engine import FakeEngine
from tests.live.front_process import GUARD_S, FrontProcess

WWW = f"www.{KEY}"
PIPELINED_COUNT = 200
IDLE_MS = 1_000  # Longer than a busy machine pauses between a connection and its first query.

StartFront = Callable[..., FrontProcess]


@pytest.fixture
def start_front(tmp_path: Path) -> Iterator[StartFront]:
    """Start a front with limits of its own and an engine that answers by the first label."""
    with ExitStack() as stack:

        def start(**limits: int) -> FrontProcess:
            engine = FakeEngine(tmp_path)
            stack.callback(engine.close)
            config = dataclasses.replace(Config(), limits=dataclasses.replace(LimitsTable(), **limits))
            front = FrontProcess(tmp_path, config)
            stack.callback(front.close)
            assert engine.connected.wait(GUARD_S)
            return front

        yield start


def is_closed(sock: socket.socket) -> bool:
    """Wait for the end of a connection; False when something is said instead."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def asked(sock: socket.socket, qname: str, number: int = 1) -> wire.Response:
    """Return the response to one query over a connection."""
    sock.sendall(framed(wire.query(qname, number=number)))
    return wire.Response(read_framed(sock))


def test_a_connection_carries_one_query_after_another(world: World) -> None:
    with world.connect() as sock:
        for number in range(20):
            response = asked(sock, WWW, number)
            assert (response.id, len(response.data(wire.A))) == (number, 1)


def test_pipelined_queries_are_all_answered_each_to_its_id_and_question(world: World) -> None:
    names = [f"n{number}.wild.{KEY}" for number in range(PIPELINED_COUNT)]
    with world.connect() as sock:
        sock.sendall(b"".join(framed(wire.query(qname, number=number)) for number, qname in enumerate(names)))
        for _ in names:
            response = wire.Response(read_framed(sock))
            assert response.question == wire.question(names[response.id])
            names[response.id] = ""
    assert not any(names)


def test_an_answer_that_is_ready_does_not_wait_for_one_that_is_not(world: World) -> None:
    with world.connect() as sock:
        sock.sendall(framed(wire.query(world.upstream.fresh("silent"), number=1)))
        sock.sendall(framed(wire.query(WWW, number=2)))
        assert wire.Response(read_framed(sock)).id == 2


def test_a_query_may_come_byte_by_byte(world: World) -> None:
    with world.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in framed(wire.query(WWW)):
            sock.sendall(bytes([byte]))
        assert wire.Response(read_framed(sock)).data(wire.A)


def test_a_segment_may_end_inside_a_later_query(world: World) -> None:
    stream = b"".join(framed(wire.query(WWW, number=number)) for number in range(3))
    with world.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cut = len(stream) // 2
        sock.sendall(stream[:cut])
        assert wire.Response(read_framed(sock)).id == 0
        sock.sendall(stream[cut:])
        assert {wire.Response(read_framed(sock)).id for _ in range(2)} == {1, 2}


def test_length_and_message_come_together(world: World) -> None:
    with world.connect() as sock:
        assert asked(sock, WWW).answer
        sock.sendall(framed(wire.query(WWW)))
        # Loopback keeps what was written together in one segment.
        first = sock.recv(65_535)
        assert len(first) == 2 + int.from_bytes(first[:2])


def test_what_is_owed_is_sent_to_a_client_that_has_closed_its_half(world: World) -> None:
    with world.connect() as sock:
        qname = world.upstream.fresh("a")
        sock.sendall(framed(wire.query(qname, number=1)) + framed(wire.query(WWW, number=2)))
        sock.shutdown(socket.SHUT_WR)
        assert {wire.Response(read_framed(sock)).id for _ in range(2)} == {1, 2}
        assert is_closed(sock)


def test_the_same_id_may_be_used_for_two_questions_at_once(world: World) -> None:
    names = [f"same{number}.wild.{KEY}" for number in range(2)]
    with world.connect() as sock:
        sock.sendall(b"".join(framed(wire.query(qname, number=9)) for qname in names))
        found = {wire.Response(read_framed(sock)).question for _ in names}
    assert found == {wire.question(qname) for qname in names}


@pytest.mark.parametrize("size", [0, 1, 11])
def test_a_length_that_no_query_can_have_ends_the_connection(world: World, size: int) -> None:
    with world.connect() as sock:
        sock.sendall(size.to_bytes(2) + bytes(size))
        assert is_closed(sock)


def test_a_query_that_is_an_error_does_not_end_the_connection(world: World) -> None:
    with world.connect() as sock:
        sock.sendall(framed(wire.query(questions=[b"\x3fx"])))
        assert wire.Response(read_framed(sock)).rcode == wire.FORMERR
        assert asked(sock, WWW).answer


def test_a_connection_that_is_idle_for_the_time_allowed_is_closed(start_front: StartFront) -> None:
    front = start_front(tcp_idle_ms=IDLE_MS)
    with front.connect() as quiet, front.connect() as talker:
        assert asked(talker, "answer.example").answer
        assert is_closed(quiet)
        assert is_closed(talker)


def test_a_query_that_never_becomes_whole_does_not_keep_a_connection(start_front: StartFront) -> None:
    front = start_front(tcp_idle_ms=IDLE_MS)
    with front.connect() as sock:
        sock.sendall(framed(wire.query("answer.example"))[:-1])
        assert is_closed(sock)


def test_a_connection_that_waits_for_an_answer_is_not_idle(start_front: StartFront) -> None:
    front = start_front(tcp_idle_ms=IDLE_MS)
    with front.connect() as sock:
        # The engine never answers this; the deadline of the question ends it, several idle times later.
        assert asked(sock, "mute.example").rcode == wire.SERVFAIL


def test_one_client_has_so_many_connections_and_no_more(start_front: StartFront) -> None:
    # §6.2.3: a server may close idle connections when it runs short of them, and none that waits for an answer.
    front = start_front(tcp_connections_per_client_max=3)
    with ExitStack() as stack:
        held = [stack.enter_context(front.connect()) for _ in range(3)]
        for sock in held:
            assert asked(sock, "answer.example").answer
        held.append(stack.enter_context(front.connect()))
        assert asked(held[3], "answer.example").answer
        assert is_closed(held.pop(0))
        for sock in held:
            # The answer to the second one says that the first has been read.
            sock.sendall(framed(wire.query("mute.example")))
            assert asked(sock, "answer.example").answer
        assert is_closed(stack.enter_context(front.connect()))
        # Those that are there keep working.
        assert all(asked(sock, "answer.example").answer for sock in held)


def test_when_all_connections_are_taken_the_longest_idle_one_makes_room(start_front: StartFront) -> None:
    front = start_front(tcp_connections_max=3)
    with ExitStack() as stack:
        held = [stack.enter_context(front.connect()) for _ in range(3)]
        for sock in held:
            assert asked(sock, "answer.example").answer
        assert asked(stack.enter_context(front.connect()), "answer.example").answer
        assert is_closed(held[0])
        assert asked(held[1], "answer.example").answer


def test_a_response_of_64_kib_reaches_a_client_that_reads_slowly(world: World) -> None:
    with world.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(framed(wire.query(world.upstream.fresh("huge"), wire.TXT)))
        size = int.from_bytes(read_exactly(sock, 2))
        whole = b"".join(read_exactly(sock, 1) for _ in range(512)) + read_exactly(sock, size - 512)
        assert len(wire.Response(whole).answer) == 240
