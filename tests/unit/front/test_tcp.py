"""The TCP door on real sockets inside this process, where every turn of the loop can be looked at."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import pairwise

import pytest

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.config import LimitsTable
from p2pdns.front.doors.fairness import (
    QUERIES_IN_A_ROW_MAX,
    QUERIES_PER_TURN_MAX,
    QUERIES_WAITING_MAX,
    QUERIES_WAITING_OWN_MAX,
    QUERIES_WAITING_PER_CLIENT_MAX,
    Account,
)
from p2pdns.front.doors.tcp import (
    LENGTH_BYTES,
    READ_AHEAD_BYTES_MAX,
    UNTAKEN_BYTES_MAX,
    UNTAKEN_BYTES_SOFT_MAX,
    Connection,
    TcpDoor,
)
from p2pdns.front.funnel import Funnel
from p2pdns.front.gate import AccessList
from p2pdns.front.transport import UDP, Transport
from p2pdns.link import Answer, QuestionFrame
from p2pdns.net.pieces import PIECE_BYTES_MAX
from tests.front_messages import TXT, answer, funnel, query
from tests.waiting import at_rest, until

GUARD_S = 60.0  # No story takes a tenth of it.
LARGE = [bytes([255]) + bytes(255)] * 200  # An answer of 54 kB.


class World:
    """A door, its funnel, and an engine played by the test."""

    def __init__(self, limits: LimitsTable) -> None:
        self.funnel: Funnel = funnel(boot_now())
        self.asked: list[QuestionFrame] = []
        self.funnel.send_query = self.asked.append
        self.funnel.engine_connected(1, boot_now())
        self.door = TcpDoor(self.funnel, limits)
        self.sockets = contextlib.ExitStack()
        self.order: list[Address] = []
        self.address: Address = ("", 0)
        self._receive = self.funnel.receive
        self.funnel.receive = self._received  # type: ignore[method-assign]

    def _received(
        self, data: bytes, address: Address, reply: Callable[[bytes], None], now: float, transport: Transport
    ) -> bytes | None:
        self.order.append(address)
        return self._receive(data, address, reply, now, transport)

    def keep(self, name: str, rtype: int = 1, rdatas: Sequence[bytes] = (bytes(4),)) -> None:
        """Put an answer into the cache."""
        self.funnel.receive(query(name, rtype), ("127.0.0.1", 9), lambda _: None, boot_now(), UDP)
        self.tell(name, rtype, rdatas)
        self.order.clear()

    def tell(self, name: str, rtype: int = 1, rdatas: Sequence[bytes] = (bytes(4),)) -> None:
        """Answer the question that was asked last, which must be this one."""
        made = answer(name, rtype, rdatas=rdatas, made_at=boot_now(), number=self.asked[-1].id)
        self.funnel.frame_received(made, boot_now())

    async def client(self, *queries: bytes, receive_bytes: int = 0, host: str = "127.0.0.1") -> socket.socket:
        """Return a connection over which so many queries were sent before anybody looked."""
        sock = self.sockets.enter_context(socket.socket())
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.bind((host, 0))
        sock.connect(self.address)
        sock.sendall(b"".join(map(framed, queries)))
        sock.setblocking(False)
        return sock


@contextlib.asynccontextmanager
async def opened(limits: LimitsTable) -> AsyncIterator[World]:
    """Return a world with a listening door."""
    world = World(limits)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        world.address = sock.getsockname()
        await world.door.listen(sock)
        try:
            yield world
        finally:
            world.sockets.close()
            world.door.close()


def played(story: Callable[[World], Awaitable[None]], limits: LimitsTable | None = None) -> None:
    """Play a story on a loop of its own."""

    async def told() -> None:
        async with opened(limits or LimitsTable()) as world:
            await asyncio.wait_for(story(world), GUARD_S)

    asyncio.run(told())


def framed(message: bytes) -> bytes:
    """Return a message as it travels over TCP."""
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


async def read_all(sock: socket.socket, count: int) -> list[bytes]:
    """Return so many messages of a stream, or fewer where it ends before."""
    data = b""
    messages: list[bytes] = []
    while len(messages) < count:
        try:
            piece = await asyncio.get_running_loop().sock_recv(sock, 1 << 20)
        except ConnectionResetError:
            break
        if not piece:
            break
        data += piece
        while len(data) >= LENGTH_BYTES and len(data) >= (end := LENGTH_BYTES + int.from_bytes(data[:2], "big")):
            messages.append(data[LENGTH_BYTES:end])
            data = data[end:]
    return messages


def test_a_turn_of_the_loop_works_on_so_many_queries_whoever_sent_them() -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        clients = [await world.client(*[query(number=i) for i in range(500)]) for _ in range(3)]
        counts = [0]

        def is_all_done() -> bool:
            counts.append(len(world.order))
            return counts[-1] == 1500

        await until(is_all_done)
        assert max(after - before for before, after in pairwise(counts)) == QUERIES_PER_TURN_MAX
        for client in clients:
            assert len(await read_all(client, 500)) == 500

    played(story)


def test_connections_take_turns_of_a_few_queries() -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        clients = [await world.client(*[query(number=i) for i in range(2000)]) for _ in range(5)]
        late = await world.client(query(number=7))
        await until(lambda: late.getsockname() in world.order)
        # Each of the others had a few turns while this one was accepted and read; none was worked on to its end.
        done = Counter(world.order)
        assert max(done.values()) < 500
        await until(lambda: len(world.order) == 10_001)
        first = [world.order.index(client.getsockname()) for client in clients]
        last = [len(world.order) - 1 - world.order[::-1].index(client.getsockname()) for client in clients]
        shared = Counter(world.order[max(first) : min(last)])
        shares = [shared[client.getsockname()] for client in clients]
        # A turn is shorter where the bytes read so far end in the middle of a query.
        assert max(shares) - min(shares) <= 4 * QUERIES_IN_A_ROW_MAX

    played(story)


def test_a_connection_has_so_many_questions_at_the_engine_and_the_rest_waits_in_its_socket() -> None:
    async def story(world: World) -> None:
        count = 10_000
        client = await world.client()
        sent = asyncio.get_running_loop().sock_sendall(
            client,
            b"".join(
                len(one).to_bytes(2, "big") + one for one in (query(f"n{i}.example", number=i) for i in range(count))
            ),
        )
        sending = asyncio.ensure_future(sent)
        await until(lambda: len(world.asked) >= QUERIES_WAITING_MAX)
        assert len(world.asked) == QUERIES_WAITING_MAX
        other = await world.client(query("version.bind", TXT, rclass=3, number=9))
        (reply,) = await read_all(other, 1)
        assert reply[:2] == b"\x00\x09"
        assert len(world.asked) == QUERIES_WAITING_MAX
        reading = asyncio.ensure_future(read_all(client, count))
        told = 0
        while told < count:
            await until(lambda at=told: len(world.asked) > at)  # type: ignore[misc]
            assert len(world.asked) - told <= QUERIES_WAITING_MAX
            made = answer(f"n{told}.example", made_at=boot_now(), number=world.asked[told].id)
            world.funnel.frame_received(made, boot_now())
            told += 1
        replies = await reading
        assert [int.from_bytes(one[:2], "big") for one in replies] == list(range(count))
        await sending

    played(story)


def test_all_addresses_of_loopback_are_one_client() -> None:
    async def story(world: World) -> None:
        hosts = [f"127.0.0.{1 + n % 4}" for n in range(10)]
        for n, host in enumerate(hosts):
            names = [f"n{i}.c{n}.example" for i in range(QUERIES_WAITING_MAX)]
            await world.client(*[query(name, number=i) for i, name in enumerate(names)], host=host)
        most = QUERIES_WAITING_PER_CLIENT_MAX + len(hosts) * QUERIES_WAITING_OWN_MAX
        await until(lambda: len(world.asked) >= QUERIES_WAITING_PER_CLIENT_MAX)
        await at_rest()
        assert len(world.asked) <= most
        late = await world.client(query("late.example"), host="127.0.0.9")
        assert await read_all(late, 1) == []
        assert world.door.counters["client-limit"] == 1

    played(story, LimitsTable(tcp_connections_per_client_max=10))


@pytest.mark.usefixtures("is_crowded")
@pytest.mark.parametrize("host_count", [1, 2, 4])
def test_though_all_wait_there_is_a_place_for_the_connection_of_another(host_count: int) -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        for n in range(8):
            await world.client(query(f"n{n}.example"), host=f"127.0.0.{1 + n % host_count}")
        await until(lambda: len(world.asked) == 1 + 8)
        # Not for those that have as many.
        surplus = await world.client(query(), host="127.0.0.1")
        assert await read_all(surplus, 1) == []
        assert world.door.counters["limit"] == 1
        late = await world.client(query(), host="127.0.0.99")
        assert len(await read_all(late, 1)) == 1
        held = Counter(account.host for account in world.door.fairness.accounts)
        assert held.total() == 8
        assert held["127.0.0.99"] == 1

    played(story, LimitsTable(tcp_connections_max=8))


def test_a_machine_gives_up_the_connection_that_was_idle_for_longest_for_others_of_its_own() -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        first = await world.client(query())
        assert len(await read_all(first, 1)) == 1
        silent = [await world.client(host=host) for host in ("127.0.0.2", "127.0.0.3")]
        silent[1].send(b"\x00\x30half")
        await connections(world, 3)
        # What it asks again makes it the one that was idle for the shortest time.
        first.send(framed(query(number=2)))
        assert len(await read_all(first, 1)) == 1
        late = []
        for n in range(2):
            late.append(await world.client(query(number=n), host="127.0.0.9"))
            assert len(await read_all(late[n], 1)) == 1
        assert [await read_all(one, 1) for one in silent] == [[], []]
        # Then one that has asked, and not one that waits for its answer.
        first.send(framed(query("slow.example")))
        await until(lambda: len(world.asked) == 2)
        for n in range(2):
            assert len(await read_all(await world.client(query(number=n)), 1)) == 1
        assert [await read_all(one, 1) for one in late] == [[], []]
        assert (world.door.counters["made-room"], world.door.counters["client-limit"]) == (4, 0)

    played(story, LimitsTable(tcp_connections_per_client_max=3))


@pytest.mark.usefixtures("is_crowded")
def test_a_machine_gives_up_no_connection_of_another() -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        other = await world.client(query(), host="127.0.0.9")
        assert len(await read_all(other, 1)) == 1
        for n in range(2):
            await world.client(query(f"n{n}.example"))
        await until(lambda: len(world.asked) == 3)
        assert await read_all(await world.client(query()), 1) == []
        other.send(framed(query(number=2)))
        assert len(await read_all(other, 1)) == 1

    played(story, LimitsTable(tcp_connections_per_client_max=2))


def test_a_machine_whose_connections_all_wait_for_answers_has_no_further_one() -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        for n in range(3):
            await world.client(query(f"n{n}.example"))
        await until(lambda: len(world.asked) == 1 + 3)
        assert await read_all(await world.client(query()), 1) == []
        assert (world.door.counters["made-room"], world.door.counters["client-limit"]) == (0, 1)

    played(story, LimitsTable(tcp_connections_per_client_max=3))


HTTP = [b"GET / HTTP/1.1\r\n", b"POST /", b"HEAD", b"PUT ", b"OPTIONS", b"DELETE", b"PATCH", b"CONNECT", b"TRACE"]
OTHER_PROTOCOLS = [*HTTP, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"post /", b"#! /", b"\x16\x03\x01\x02\x00\x01\x00"]


@pytest.mark.parametrize("begin", OTHER_PROTOCOLS, ids=lambda begin: begin[:4].hex())
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_connection_that_begins_as_another_protocol_is_closed_at_its_second_byte(begin: bytes, is_cut: bool) -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        client = await world.client()
        if is_cut:
            client.send(begin[:1])
            (connection,) = await connections(world, 1)
            await until(lambda: connection.unread_bytes == 1)
            client.send(begin[1:2])
        else:
            # What a page says in the body of its request are queries, behind as many bytes as its first two say.
            asked = len(query()).to_bytes(LENGTH_BYTES, "big") + query()
            length = int.from_bytes(begin[:2], "big")
            client.send(begin + bytes(length + LENGTH_BYTES - len(begin)) + asked * 20)
        assert await read_all(client, 1) == []
        await until(lambda: not world.door.fairness.accounts)
        assert world.door.counters["no-dns"] == 1
        assert world.order == []

    played(story)


# What a page can send by ICE over TCP, which puts a length in front of a STUN message, and what others may begin with.
STUN = b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(range(12)) + b"\x80\x22\x00\x04test"
UNASKED = {
    "response": (query(flags=0x8180), None),
    "STUN": (STUN, None),
    "NOTIFY": (query(flags=4 << 11), 4),
    "UPDATE": (query(flags=5 << 11), 4),
    "many questions": (struct.pack("!HHHHHH", 7, 0x0100, 300, 0, 0, 0) + bytes(300), 1),
}


@pytest.mark.parametrize("name", UNASKED)
def test_a_first_message_that_is_no_query_ends_the_connection(name: str) -> None:
    async def story(world: World) -> None:
        message, rcode = UNASKED[name]
        world.keep("www.example")
        client = await world.client(message, query(number=5))
        rcodes = [one[3] & 0x0F for one in await read_all(client, 2)]
        # What has an answer is told it (RFC 8906), and nothing behind it is read.
        assert rcodes == ([] if rcode is None else [rcode])
        await until(lambda: not world.door.fairness.accounts)
        assert world.door.counters["no-query"] == 1

    played(story)


def test_behind_a_query_any_message_may_come() -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        long = query(number=3) + bytes(int.from_bytes(b"GE", "big") - len(query()))
        client = await world.client(query(number=1), query(flags=0x8180), query(number=2, flags=4 << 11))
        assert [one[1] for one in await read_all(client, 2)] == [1, 2]
        await asyncio.get_running_loop().sock_sendall(client, len(long).to_bytes(LENGTH_BYTES, "big") + long)
        assert [one[1] for one in await read_all(client, 1)] == [3]

    played(story)


def test_all_connections_of_one_client_leave_the_engine_room_for_others() -> None:
    async def story(world: World) -> None:
        greedy = [
            await world.client(*[query(f"n{i}.c{n}.example", number=i) for i in range(QUERIES_WAITING_MAX)])
            for n in range(10)
        ]
        await until(lambda: len(world.asked) >= QUERIES_WAITING_PER_CLIENT_MAX)
        assert len(world.asked) == QUERIES_WAITING_PER_CLIENT_MAX
        other = await world.client(query("other.example"), host="127.0.0.2")  # A connection has room of its own.
        await until(lambda: len(world.asked) >= QUERIES_WAITING_PER_CLIENT_MAX + 1)
        assert len(world.asked) == QUERIES_WAITING_PER_CLIENT_MAX + 1
        world.tell("other.example")
        assert len(await read_all(other, 1)) == 1
        # What is answered makes room for what was not read yet, until all are.
        for told in range(10 * QUERIES_WAITING_MAX + 1):
            await until(lambda at=told: len(world.asked) > at)  # type: ignore[misc]
            assert len(world.asked) - told <= QUERIES_WAITING_PER_CLIENT_MAX + 1
            asked = world.asked[told]
            message = answer(rdatas=()).message[:12] + asked.question
            now = boot_now()
            world.funnel.frame_received(Answer(asked.id, message, (), now, now + 60, now + 60), now)
        for client in greedy:
            assert len(await read_all(client, QUERIES_WAITING_MAX)) == QUERIES_WAITING_MAX
        await until(lambda: not world.door.fairness.waiting)

    played(story)


def test_a_connection_has_room_of_its_own_whatever_others_from_its_address_do() -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        for n in range(3):
            await world.client(*[query(f"n{i}.c{n}.example", number=i) for i in range(QUERIES_WAITING_MAX)])
        greedy = 1 + QUERIES_WAITING_PER_CLIENT_MAX
        await until(lambda: len(world.asked) == greedy)
        # All programs of a machine come from one address.
        client = await world.client(*[query(number=i) for i in range(20)], query("other.example", number=99))
        assert [one[1] for one in await read_all(client, 20)] == list(range(20))
        await until(lambda: len(world.asked) > greedy)
        world.tell("other.example")
        ((_, last, *_),) = await read_all(client, 1)
        assert last == 99
        assert len(world.asked) == greedy + 1

    played(story)


def test_a_client_that_goes_while_it_waits_leaves_nothing_behind() -> None:
    async def story(world: World) -> None:
        for _ in range(10):
            await world.client(*[query(f"n{i}.example", number=i) for i in range(QUERIES_WAITING_MAX)])
        await until(lambda: world.door.fairness.waiting.total() == QUERIES_WAITING_PER_CLIENT_MAX)
        world.sockets.close()

        # The front learns of it at the latest when it has something to say.
        def is_nothing_left() -> bool:
            for asked in world.asked:
                message = answer(rdatas=()).message[:12] + asked.question
                now = boot_now()
                world.funnel.frame_received(Answer(asked.id, message, (), now, now + 60, now + 60), now)
            world.asked.clear()
            return not world.door.fairness.accounts and not world.door.fairness.waiting

        await until(is_nothing_left)

    played(story)


def test_a_client_that_broke_off_is_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        names = [f"n{i}.example" for i in range(QUERIES_WAITING_MAX)]
        client = await world.client(*[query(name, number=i) for i, name in enumerate(names)])
        await until(lambda: len(world.asked) == QUERIES_WAITING_MAX)
        # With what it sent unread or no time to linger, its end is a reset; the loop has not heard of it yet.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        for asked, name in zip(world.asked, names, strict=True):
            world.funnel.frame_received(answer(name, made_at=boot_now(), number=asked.id), boot_now())
        await until(lambda: not world.door.fairness.accounts)

    played(story)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_answers_come_in_the_order_in_which_they_are_ready() -> None:
    async def story(world: World) -> None:
        world.keep("there.example")
        client = await world.client(query("slow.example", number=1), query("there.example", number=2))
        await until(lambda: bool(world.order))
        # Both came in one segment, and so in one turn.
        assert len(world.order) == 2
        (first,) = await read_all(client, 1)
        assert first[:2] == b"\x00\x02"
        world.tell("slow.example")
        (second,) = await read_all(client, 1)
        assert second[:2] == b"\x00\x01"

    played(story)


def test_of_a_client_that_takes_nothing_no_more_is_read_and_it_is_closed_in_the_end() -> None:
    async def story(world: World) -> None:
        world.keep("www.example", TXT, LARGE)
        client = await world.client(*[query(rtype=TXT)] * 2000, receive_bytes=4096)
        (connection,) = await connections(world, 1)
        largest = 0

        def is_closed() -> bool:
            nonlocal largest
            largest = max(largest, connection.untaken_bytes)
            assert largest <= UNTAKEN_BYTES_SOFT_MAX + QUERIES_IN_A_ROW_MAX * 60_000
            return bool(world.door.counters["idle"])

        await until(is_closed)
        assert largest > UNTAKEN_BYTES_SOFT_MAX
        assert len(world.order) < 2000
        assert len(await read_all(client, 2000)) < 2000

    played(story, LimitsTable(tcp_idle_ms=1_500))


@pytest.fixture
def is_crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each address of loopback be a machine of its own: there are no others to connect from."""
    monkeypatch.setattr("p2pdns.front.doors.tcp.client_host", str)


@pytest.mark.usefixtures("is_crowded")
def test_a_full_door_gives_up_who_was_idle_for_longest_and_nobody_who_waits() -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        waiting = await world.client(query("slow.example", number=1))
        await until(lambda: bool(world.order))
        oldest, newer = [await world.client(query(), host=host) for host in ("127.0.0.2", "127.0.0.3")]
        for client in (oldest, newer):
            assert len(await read_all(client, 1)) == 1
        late = await world.client(query(), host="127.0.0.4")
        assert len(await read_all(late, 1)) == 1
        assert await read_all(oldest, 1) == []
        world.tell("slow.example")
        assert len(await read_all(waiting, 1)) == 1
        asked = query()
        newer.send(len(asked).to_bytes(LENGTH_BYTES, "big") + asked)
        assert len(await read_all(newer, 1)) == 1
        assert world.door.counters["made-room"] == 1

    played(story, LimitsTable(tcp_connections_max=3))


def test_only_a_whole_query_is_a_sign_of_life() -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        whole = len(query()).to_bytes(LENGTH_BYTES, "big") + query()
        client = await world.client()
        (account,) = await accounts(world, 1)
        idle_since = account.active_at
        for sent in range(1, len(whole)):
            client.send(whole[sent - 1 : sent])
            await until(lambda sent=sent: account.connection.unread_bytes == sent)  # type: ignore[misc]
            assert account.active_at == idle_since
        client.send(whole[-1:])
        assert len(await read_all(client, 1)) == 1
        assert account.active_at > idle_since

    played(story)


async def accounts(world: World, count: int) -> list[Account[Connection]]:
    """Return the accounts of the connections of a door once there are so many."""
    await until(lambda: len(world.door.fairness.accounts) == count)
    return list(world.door.fairness.accounts)


async def connections(world: World, count: int) -> list[Connection]:
    """Return the connections of a door once there are so many."""
    return [account.connection for account in await accounts(world, count)]


def test_a_client_that_takes_nothing_of_what_it_asked_before_is_closed_at_once() -> None:
    async def story(world: World) -> None:
        queries = [query(f"n{i}.example", TXT) for i in range(QUERIES_WAITING_MAX)]
        client = await world.client(*queries, receive_bytes=4096)
        await until(lambda: len(world.asked) == QUERIES_WAITING_MAX)
        (connection,) = await connections(world, 1)
        for i, asked in enumerate(world.asked):
            made = answer(f"n{i}.example", TXT, rdatas=LARGE, made_at=boot_now(), number=asked.id)
            world.funnel.frame_received(made, boot_now())
            assert connection.untaken_bytes <= UNTAKEN_BYTES_MAX + 60_000
        assert world.door.counters["untaken"] == 1
        assert len(await read_all(client, QUERIES_WAITING_MAX)) < QUERIES_WAITING_MAX

    played(story)


def test_what_is_read_ahead_is_bounded() -> None:
    async def story(world: World) -> None:
        # A hundred questions wait, and behind them come queries as long as a length can say.
        small = [query(f"n{i}.example") for i in range(QUERIES_WAITING_MAX)]
        long = query("long.example") + bytes(65_000)
        client = await world.client(*small)
        await until(lambda: len(world.asked) == QUERIES_WAITING_MAX)
        sending = asyncio.ensure_future(
            asyncio.get_running_loop().sock_sendall(client, (len(long).to_bytes(2, "big") + long) * 200)
        )
        (connection,) = await connections(world, 1)

        def look() -> None:
            # What is read at once comes on top.
            assert connection.unread_bytes < READ_AHEAD_BYTES_MAX + PIECE_BYTES_MAX

        await at_rest(look)
        assert not sending.done()
        sending.cancel()

    played(story)


def test_what_connections_send_in_parts_by_turns_stays_apart() -> None:
    """All are read through one buffer."""

    async def story(world: World) -> None:
        world.keep("www.example")
        clients = [await world.client() for _ in range(3)]
        # Parts of different lengths, so that what a longer one leaves in the buffer stands behind a shorter one.
        sent = [framed(query(number=n)) + framed(query(number=n + 100)) for n in range(3)]
        for at in range(0, len(sent[0]), 10):
            for n, client in enumerate(clients):
                client.send(sent[n][at : at + 10 - 3 * n])
                client.send(sent[n][at + 10 - 3 * n : at + 10])
                await at_rest()
        for n, client in enumerate(clients):
            assert [one[1] for one in await read_all(client, 2)] == [n, n + 100]

    played(story)


def test_a_client_that_may_not_ask_is_told_once_and_its_connection_is_closed() -> None:
    async def story(world: World) -> None:
        world.funnel.gate.access = AccessList(())
        client = await world.client(*[query(number=i) for i in range(50)])
        replies = await read_all(client, 50)
        assert [(one[:2], one[3] & 0x0F) for one in replies] == [(b"\x00\x00", 5)]
        await until(lambda: not world.door.fairness.accounts)

    played(story)


@pytest.mark.parametrize("size", [0, 1, 11])
def test_what_came_before_a_length_that_no_query_has_is_answered(size: int) -> None:
    async def story(world: World) -> None:
        world.keep("www.example")
        client = await world.client(query(number=5), bytes(size), query(number=6))
        replies = await read_all(client, 3)
        assert [one[:2] for one in replies] == [b"\x00\x05"]
        assert world.door.counters["length"] == 1

    played(story)
