"""A front process on real sockets, with an engine played by the test and clients that are not ours."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from p2pdns.config import Config, LimitsTable
from tests.front_messages import query
from tests.live.fake_engine import FakeEngine, invalidate_all_tagged
from tests.live.front_process import GUARD_S, FrontProcess, framed, read_framed, wait_until

DIG = shutil.which("dig")


class World:
    """A front, its engine, and a state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.engine: FakeEngine | None = None
        self.front: FrontProcess | None = None

    def start(self, config: Config | None = None, *, engine: bool = True) -> FrontProcess:
        """Start the front, and an engine unless told otherwise."""
        if engine:
            self.start_engine()
        self.front = FrontProcess(self.state_dir, config)
        if self.engine is not None:
            assert self.engine.connected.wait(GUARD_S)
        return self.front

    def start_engine(self, epoch: int = 1) -> FakeEngine:
        """Start an engine."""
        self.engine = FakeEngine(self.state_dir, epoch=epoch)
        return self.engine

    def close(self) -> None:
        """End both; the front must not have shown a traceback."""
        errors = self.front.close() if self.front is not None else ""
        if self.engine is not None:
            self.engine.close()
        assert "Traceback" not in errors, errors


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world that is taken down afterwards."""
    made = World(tmp_path)
    yield made
    made.close()


def with_limits(**limits: int) -> Config:
    """Return a configuration with other limits."""
    return dataclasses.replace(Config(), limits=dataclasses.replace(LimitsTable(), **limits))


def test_a_client_gets_the_answer_of_the_engine_and_then_of_the_cache(world: World) -> None:
    front = world.start()
    assert world.engine is not None
    reply = front.ask("Answer.example")
    assert reply.answer[0][0].to_text() == "192.0.2.1"
    assert reply.answer[0].name.to_text() == "Answer.example."
    assert reply.flags & dns.flags.RA
    assert front.ask("answer.EXAMPLE").answer[0].name.to_text() == "answer.EXAMPLE."
    assert front.ask_tcp("answer.example").answer[0][0].to_text() == "192.0.2.1"
    assert world.engine.asked == ["answer.example"]


def test_negative_answers_failures_and_their_reasons_reach_the_client(world: World) -> None:
    front = world.start()
    assert front.ask("missing.example").rcode() == dns.rcode.NXDOMAIN
    failing = front.ask("failing.example", use_edns=True)
    assert failing.rcode() == dns.rcode.SERVFAIL
    assert [int(told.code) for told in failing.extended_errors()] == [22]


def test_what_is_too_large_for_udp_comes_over_tcp(world: World) -> None:
    front = world.start()
    cut = front.ask("big.example", "TXT")
    assert cut.flags & dns.flags.TC
    assert cut.question
    assert len(front.ask_tcp("big.example", "TXT").answer[0]) == 100


def test_dig_understands_us(world: World) -> None:
    assert DIG, "dig is not installed: make test, or apt-get install bind9-dnsutils"
    front = world.start()
    host, port = front.address
    base = [DIG, f"@{host}", "-p", str(port), "+tries=1"]

    def dig(*words: str) -> str:
        done = subprocess.run([*base, *words], capture_output=True, text=True, check=True)
        assert "WARNING" not in done.stdout, done.stdout
        assert "Malformed" not in done.stdout, done.stdout
        return done.stdout

    assert dig("+short", "aNsWeR.example") == "192.0.2.1\n"
    whole = dig("+adflag", "aNsWeR.example")
    assert "flags: qr rd ra ad;" in whole
    assert "aNsWeR.example." in whole
    assert "EDNS: version: 0, flags:; udp: 1232" in whole
    assert dig("+short", "+tcp", "answer.example") == "192.0.2.1\n"
    assert dig("+short", "+bufsize=512", "big.example", "TXT").count('"') == 200
    assert "Truncated" in dig("big.example", "TXT")
    assert "EDE: 22 (No Reachable Authority): (no contact had it)" in dig("failing.example")
    assert "status: NOTIMP" in dig("+opcode=NOTIFY", "+noedns", "+norecurse", "answer.example")
    assert "status: BADVERS" in dig("+edns=1", "+noednsnegotiation", "answer.example")
    assert "status: REFUSED" in dig("-t", "TYPE250", "answer.example")
    assert '"p2pdns' in dig("+short", "CH", "TXT", "version.bind")


def test_invalidation_is_visible_at_the_door(world: World) -> None:
    front = world.start()
    assert world.engine is not None
    front.ask("answer.example")
    front.ask("answer.example")
    assert len(world.engine.asked) == 1
    world.engine.push(invalidate_all_tagged())
    engine = world.engine

    def asked_again() -> bool:
        front.ask("answer.example")
        return len(engine.asked) == 2

    wait_until(asked_again, "the engine is asked again")


def test_without_an_engine_a_question_ends_in_servfail_with_a_reason(world: World) -> None:
    front = world.start(engine=False)
    reply = front.ask("answer.example", use_edns=True)
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert [int(told.code) for told in reply.extended_errors()] == [14]


def test_without_an_engine_what_is_cached_is_answered_and_what_is_stale_after_a_while(world: World) -> None:
    front = world.start()
    assert world.engine is not None
    front.ask("answer.example")
    front.ask("short.example")
    world.engine.close()
    world.engine = None
    assert front.ask("answer.example").rcode() == dns.rcode.NOERROR

    def is_stale() -> bool:
        reply = front.ask("short.example", use_edns=True)
        return [int(told.code) for told in reply.extended_errors()] == [3] and reply.answer[0].ttl == 30

    wait_until(is_stale, "the stale answer")


def test_a_question_waits_for_an_engine_that_comes_in_time(world: World) -> None:
    front = world.start(engine=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(GUARD_S)
        sock.sendto(query("answer.example", number=99), front.address)
        world.start_engine()
        reply = dns.message.from_wire(sock.recv(4096))
    assert (reply.id, reply.rcode()) == (99, dns.rcode.NOERROR)


def test_what_waits_is_asked_again_when_the_engine_is_another(world: World) -> None:
    front = world.start()
    assert world.engine is not None
    world.engine.is_mute = True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(GUARD_S)
        sock.sendto(query("answer.example", number=98), front.address)
        first = world.engine
        wait_until(lambda: bool(first.asked), "the first engine is asked")
        first.close()
        world.start_engine(epoch=2)
        reply = dns.message.from_wire(sock.recv(4096))
    assert (reply.id, reply.rcode()) == (98, dns.rcode.NOERROR)


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 32, b"\x00\x00\x00\x00", b"\x00\x00\x00\x01\x09", b"\x00\x00\x00\x0b\x01" + bytes(10)],
    ids=["no length", "empty frame", "no kind", "a second hello"],
)
def test_garbage_on_the_link_costs_the_connection_and_nothing_else(world: World, garbage: bytes) -> None:
    front = world.start()
    assert world.engine is not None
    world.engine.garbage = garbage
    world.engine.connected.clear()
    front_pid = front.process.pid
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(query("garbage.example"), front.address)
        assert world.engine.connected.wait(GUARD_S), "the front connects again"
    assert front.ask("answer.example").rcode() == dns.rcode.NOERROR
    assert (front.process.pid, front.process.poll()) == (front_pid, None)


def test_an_engine_of_another_version_is_not_believed(world: World) -> None:
    world.engine = FakeEngine(world.state_dir, version=999)
    world.front = FrontProcess(world.state_dir)
    assert world.engine.connected.wait(GUARD_S)
    assert world.front.ask("answer.example").rcode() == dns.rcode.SERVFAIL
    assert world.engine.asked == []


def test_pipelined_queries_are_answered_out_of_order(world: World) -> None:
    front = world.start()
    with front.connect() as sock:
        sock.sendall(framed(query("mute.example", number=1)) + framed(query("answer.example", number=2)))
        first = read_framed(sock)
        assert first is not None
        assert dns.message.from_wire(first).id == 2
        second = read_framed(sock)
        assert second is not None
        assert (dns.message.from_wire(second).id, dns.message.from_wire(second).rcode()) == (1, dns.rcode.SERVFAIL)


def test_a_query_that_comes_byte_by_byte_is_answered(world: World) -> None:
    front = world.start()
    with front.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in framed(query("answer.example", number=5)):
            sock.sendall(bytes([byte]))
        reply = read_framed(sock)
    assert reply is not None
    assert dns.message.from_wire(reply).id == 5


def test_a_thousand_pipelined_queries_are_all_answered_and_others_are_not_held_up(world: World) -> None:
    front = world.start()
    count = 1000
    with front.connect() as sock:
        names = [f"answer{i % 50}.example" for i in range(count)]
        sock.sendall(b"".join(framed(query(name, number=i)) for i, name in enumerate(names)))
        assert front.ask("answer.example", timeout_s=GUARD_S).rcode() == dns.rcode.NOERROR
        seen = set()
        for _ in range(count):
            reply = read_framed(sock)
            assert reply is not None
            seen.add(int.from_bytes(reply[:2], "big"))
    assert seen == set(range(count))


def test_a_client_that_closes_its_half_still_gets_its_answers(world: World) -> None:
    front = world.start()
    with front.connect() as sock:
        sock.sendall(framed(query("answer.example", number=1)) + framed(query("failing.example", number=2)))
        sock.shutdown(socket.SHUT_WR)
        seen = {int.from_bytes((read_framed(sock) or b"")[:2], "big") for _ in range(2)}
        assert seen == {1, 2}
        assert read_framed(sock) is None


@pytest.mark.parametrize("data", [b"\x00\x00", b"\x00\x0b" + bytes(11)], ids=["nothing", "less than a header"])
def test_a_length_that_no_query_has_closes_the_connection(world: World, data: bytes) -> None:
    front = world.start()
    with front.connect() as sock:
        sock.sendall(data)
        assert read_framed(sock) is None


def test_a_query_of_64_kilobytes_is_read_and_answered(world: World) -> None:
    front = world.start()
    with front.connect() as sock:
        sock.sendall(framed(query("answer.example", number=3) + bytes(65_000)))
        reply = read_framed(sock)
    assert reply is not None
    assert reply[:2] == b"\x00\x03"


def test_an_idle_connection_and_a_slow_one_are_closed(world: World) -> None:
    front = world.start(with_limits(tcp_idle_ms=200))
    with front.connect() as idle, front.connect() as slow:
        slow.sendall(framed(query("answer.example"))[:7])
        assert read_framed(idle) is None
        assert read_framed(slow) is None


def test_a_client_has_so_many_connections_and_no_more(world: World) -> None:
    front = world.start(with_limits(tcp_connections_per_client_max=3))
    held = [front.connect() for _ in range(3)]
    for sock in held:
        sock.sendall(framed(query("answer.example")))
        assert read_framed(sock) is not None
    with front.connect() as surplus:
        assert read_framed(surplus) is None
    for sock in held:
        sock.close()

    def has_room() -> bool:
        with front.connect() as sock:
            try:
                sock.sendall(framed(query("answer.example")))
            except (BrokenPipeError, ConnectionResetError):
                return False
            return read_framed(sock) is not None

    wait_until(has_room, "room after the others have gone")


def test_what_the_front_counts_reaches_every_engine_and_only_when_it_has_changed(world: World) -> None:
    front = world.start()
    first = world.engine
    assert first is not None
    for _ in range(3):
        front.ask("answer.example")
    wait_until(lambda: bool(first.counted) and first.counted[-1].get("cache-hit") == 2, "two hits")
    assert first.counted[-1]["cache-miss"] == 1
    assert first.counted[-1]["gate-passed"] >= 1
    assert first.counted[-1]["udp-sent"] == 3
    first.close()
    second = world.start_engine(epoch=2)
    wait_until(lambda: bool(second.counted), "the counters of a front that is older than its engine")
    assert second.counted[-1]["link-connected"] == 2
    assert all(before != after for before, after in itertools.pairwise(first.counted))


def test_a_full_door_gives_up_its_longest_idle_connection(world: World) -> None:
    front = world.start(with_limits(tcp_connections_max=2))
    first, second = front.connect(), front.connect()
    for sock in (first, second):
        sock.sendall(framed(query("answer.example")))
        assert read_framed(sock) is not None
    assert front.ask_tcp("answer.example").rcode() == dns.rcode.NOERROR
    assert read_framed(first) is None
    second.sendall(framed(query("answer.example")))
    assert read_framed(second) is not None
    first.close()
    second.close()


def test_noise_on_both_doors_is_dropped_and_service_goes_on(world: World) -> None:
    front = world.start()
    chance = random.Random(768)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(2000):
            sock.sendto(chance.randbytes(chance.randrange(0, 600)), front.address)
        sock.sendto(bytes(9000), front.address)
    for _ in range(20):
        with front.connect() as stream:
            try:
                stream.sendall(chance.randbytes(2000))
            except (BrokenPipeError, ConnectionResetError):
                continue

    def is_answered() -> bool:
        try:
            return front.ask("answer.example", timeout_s=1.0).rcode() == dns.rcode.NOERROR
        except dns.exception.Timeout:
            # Where the noise has filled the socket, the system drops the question, and clients repeat it.
            return False

    wait_until(is_answered, "service goes on")


def test_the_front_ends_when_its_supervisor_does(world: World) -> None:
    front = world.start()
    front.leave()
    assert front.process.wait(GUARD_S) == 0


def test_sighup_takes_over_another_access_list(world: World) -> None:
    front = world.start()
    assert front.ask("answer.example").rcode() == dns.rcode.NOERROR
    closed = dataclasses.replace(Config(), dns=dataclasses.replace(Config().dns, allow=("192.0.2.0/24",)))
    data = closed.to_json().encode()
    os.ftruncate(front.config_fd, 0)
    os.pwrite(front.config_fd, data, 0)
    front.process.send_signal(signal.SIGHUP)
    wait_until(lambda: front.ask("answer.example").rcode() == dns.rcode.REFUSED, "the new access list")


def test_a_broken_configuration_is_not_taken_over(world: World) -> None:
    front = world.start()
    os.ftruncate(front.config_fd, 0)
    os.pwrite(front.config_fd, b"{]", 0)
    front.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "not taken over" in front.errors.read_text(), "the line in the log")
    assert front.ask("answer.example").rcode() == dns.rcode.NOERROR


def test_a_wildcard_listener_replies_from_the_address_that_was_asked(world: World) -> None:
    world.start_engine()
    world.front = FrontProcess(world.state_dir, host="0.0.0.0")
    port = world.front.address[1]
    reply = dns.query.udp(dns.message.make_query("answer.example", "A"), "127.0.0.5", timeout=GUARD_S, port=port)
    assert reply.answer


def test_ipv6_is_served(world: World) -> None:
    world.start_engine()
    world.front = FrontProcess(world.state_dir, host="::1")
    assert world.front.ask("answer.example").answer
    assert world.front.ask_tcp("answer.example").answer


def test_a_state_directory_with_a_long_path_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    directory = os.open(deep, os.O_RDONLY)
    made = World(deep)
    try:
        made.engine = FakeEngine(Path(f"/proc/self/fd/{directory}"))
        made.front = FrontProcess(deep)
        assert made.engine.connected.wait(GUARD_S)
        assert made.front.ask("answer.example").answer
    finally:
        made.close()
        os.close(directory)
