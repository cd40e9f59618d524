"""Upstreams: who is asked in what order, what of a reply is believed, how long a failure lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.addresses import Address
from p2pdns.dns.message import RR, Message, Question, Type, compose
from p2pdns.dns.name import Name
from p2pdns.engine.upstream import (
    ATTEMPTS_MAX,
    FAILURES_MAX,
    SERVERS_MAX,
    Asking,
    Upstream,
    read_server,
    servers_of,
    system_servers,
)
from p2pdns.errors import FormatError
from p2pdns.resolver import NoReply, Replied
from p2pdns.resolver.local import PROBE_SUFFIX
from tests.overlay_doubles import Clock, question, reply_to

ONE, TWO = ("192.0.2.1", 53), ("192.0.2.2", 53)
ASKED = question("example.com. A")
GOOD = compose(reply_to(ASKED, "example.com. 60 A 192.0.2.9"))
FAILED = compose(reply_to(ASKED, rcode=2))
HOSTS = [f"192.0.2.{number}" for number in range(20)]
SILENT = TimeoutError("no reply")


class Net:
    """Servers that reply what the test says, and cost the time it says."""

    def __init__(self, replies: dict[Address, bytes | Exception], costs: dict[Address, float] | None = None) -> None:
        self.clock = Clock()
        self.replies = replies
        self.costs = costs or {}
        self.asked: list[tuple[Address, Asking]] = []

    async def exchange(self, server: Address, asking: Asking, timeout_s: float) -> bytes:
        """Reply."""
        self.asked.append((server, asking))
        reply = self.replies[server]
        self.clock.turn(timeout_s if reply is SILENT else self.costs.get(server, 0.01))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def upstream(self, *servers: Address, **more: Any) -> Upstream:
        """Return an upstream of these servers."""
        return Upstream(servers, clock=self.clock.boot, exchange=self.exchange, **more)

    @property
    def order(self) -> list[Address]:
        """The servers asked, in order."""
        return [server for server, _ in self.asked]


def ask(upstream: Upstream, net: Net, asked: Question = ASKED, **flags: bool) -> Replied | NoReply:
    """Return what an upstream makes of a question with four seconds of time."""
    facts = {"rd": True, "do": False, "cd": False, **flags}
    return asyncio.run(upstream.ask(asked, deadline=net.clock.now + 4, **facts))


def test_without_servers_the_question_is_refused() -> None:
    net = Net({})
    outcome = ask(net.upstream(), net)
    assert isinstance(outcome, NoReply)
    assert outcome.is_refusal


def test_the_flags_of_the_question_go_out_and_ad_only_when_it_is_trusted() -> None:
    net = Net({ONE: GOOD})
    for trusted in (False, True):
        upstream = net.upstream(ONE, trust_ad=trusted)
        ask(upstream, net, rd=False, do=True, cd=True)
        assert net.asked[-1][1] == Asking(ASKED, False, True, True, trusted)


@pytest.mark.parametrize("trusted", [False, True])
def test_ad_of_a_reply_counts_only_when_it_is_trusted(trusted: bool) -> None:
    wire = bytearray(GOOD)
    wire[3] |= 0x20
    net = Net({ONE: bytes(wire)})
    outcome = ask(net.upstream(ONE, trust_ad=trusted), net)
    assert isinstance(outcome, Replied)
    assert outcome.ad is trusted
    assert not isinstance(ask(net.upstream(ONE, trust_ad=trusted), Net({ONE: GOOD})), NoReply)


def test_a_silent_server_is_asked_last_from_then_on() -> None:
    net = Net({ONE: SILENT, TWO: GOOD})
    upstream = net.upstream(ONE, TWO)
    assert isinstance(ask(upstream, net), Replied)
    assert isinstance(ask(upstream, net, question("other.example. A")), NoReply)
    assert net.order[:3] == [ONE, TWO, TWO]


def test_servers_are_asked_fastest_first() -> None:
    net = Net({ONE: GOOD, TWO: GOOD}, {ONE: 0.2, TWO: 0.01})
    upstream = net.upstream(ONE, TWO)
    for _ in range(3):
        ask(upstream, net)
    assert net.order == [ONE, TWO, TWO]
    assert upstream.servers == (TWO, ONE)


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
def test_a_server_that_fails_is_followed_by_the_next(rcode: int) -> None:
    net = Net({ONE: compose(reply_to(ASKED, rcode=rcode)), TWO: GOOD})
    outcome = ask(net.upstream(ONE, TWO), net)
    assert isinstance(outcome, Replied)
    assert outcome.message.rcode == 0
    assert net.order == [ONE, TWO]


def test_a_refusal_without_recursion_is_an_answer_and_no_failure() -> None:
    net = Net({ONE: compose(reply_to(ASKED, rcode=5))})
    upstream = net.upstream(ONE)
    for _ in range(2):
        outcome = ask(upstream, net, rd=False)
        assert isinstance(outcome, NoReply)
        assert outcome.is_refusal
    assert net.order == [ONE, ONE]


def test_when_every_server_fails_the_reply_says_how_and_is_not_asked_for_again() -> None:
    net = Net({ONE: FAILED, TWO: FAILED})
    upstream = net.upstream(ONE, TWO)
    outcome = ask(upstream, net)
    assert isinstance(outcome, Replied)
    assert (outcome.message.rcode, net.order) == (2, [ONE, TWO])
    again = ask(upstream, net)
    assert isinstance(again, NoReply)
    assert (again.is_remembered, len(net.asked)) == (True, 2)
    # Another question is another matter.
    ask(upstream, net, question("other.example. A"))
    assert len(net.asked) > 2


def test_a_failure_lasts_five_seconds_and_twice_as_long_each_time() -> None:
    net = Net({ONE: FAILED})
    upstream = net.upstream(ONE)
    for seconds in (5, 10, 20, 40, 80, 160, 300, 300):
        count = len(net.asked)
        ask(upstream, net)
        assert len(net.asked) == count + 1
        net.clock.turn(seconds - 0.5)
        outcome = ask(upstream, net)
        assert isinstance(outcome, NoReply)
        assert outcome.is_remembered
        net.clock.turn(0.6)


def test_a_flush_and_a_good_reply_end_a_failure() -> None:
    net = Net({ONE: FAILED})
    upstream = net.upstream(ONE)
    ask(upstream, net)
    upstream.flush()
    net.replies[ONE] = GOOD
    assert isinstance(ask(upstream, net), Replied)
    assert isinstance(ask(upstream, net), Replied)


def test_a_dead_upstream_ends_at_the_deadline_and_within_the_tries() -> None:
    net = Net({ONE: SILENT, TWO: SILENT})
    outcome = ask(net.upstream(ONE, TWO), net)
    assert isinstance(outcome, NoReply)
    assert net.clock.now <= 1004.0 + 1e-6
    assert 2 <= len(net.asked) <= ATTEMPTS_MAX


def test_a_server_that_was_not_asked_has_not_failed() -> None:
    servers = [(host, 53) for host in HOSTS[:SERVERS_MAX]]
    net = Net({server: ConnectionRefusedError() for server in servers})
    upstream = net.upstream(*servers)
    ask(upstream, net)
    assert net.order == servers[:ATTEMPTS_MAX]
    net.replies[servers[-1]] = GOOD
    assert isinstance(ask(upstream, net), Replied)


def test_a_refused_connection_is_not_waited_for() -> None:
    net = Net({ONE: ConnectionRefusedError(), TWO: GOOD})
    assert isinstance(ask(net.upstream(ONE, TWO), net), Replied)
    assert net.clock.now < 1001.0


def other(text: str) -> bytes:
    """Return a good reply to another question."""
    return compose(reply_to(question(text), "example.com. 60 A 192.0.2.66"))


@pytest.mark.parametrize(
    "wire",
    [b"", b"x", GOOD[:20], GOOD + b"tail", other("example.org. A"), other("example.com. AAAA"), b"\x00" * 12],
    ids=["empty", "byte", "cut", "tail", "other name", "other type", "no question"],
)
def test_a_reply_that_does_not_answer_the_question_is_not_believed(wire: bytes) -> None:
    net = Net({ONE: wire})
    outcome = ask(net.upstream(ONE), net)
    assert not isinstance(outcome, Replied) or not outcome.message.answer


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_octet_may_be_wrong_and_nothing_is_raised(position: int, octet: int) -> None:
    wire = bytearray(GOOD)
    wire[position] = octet
    net = Net({ONE: bytes(wire)})
    assert isinstance(ask(net.upstream(ONE), net), Replied | NoReply)


def test_a_query_that_comes_back_as_reply_is_not_believed() -> None:
    net = Net({ONE: compose(Message(0, 0x0100, ASKED))})
    assert isinstance(ask(net.upstream(ONE), net), NoReply)


def test_extended_errors_of_a_reply_pass_on_without_control_characters() -> None:
    options = b"\x00\x0a\x00\x01x" + b"\x00\x0f\x00\x08\x00\x06bog\nus" + b"\x00\x0f\x00\x01\x00" + b"\x00\x0f\xff\xff"
    opt = RR(Name.root(), Type.OPT, 1232, 0, options)
    message = reply_to(ASKED, rcode=2)
    net = Net({ONE: compose(Message(0, message.flags, ASKED, (), (), (opt,)))})
    outcome = ask(net.upstream(ONE), net)
    assert isinstance(outcome, Replied)
    assert outcome.ede == ((6, "bogus"),)


def test_remembered_failures_are_bounded() -> None:
    net = Net({ONE: FAILED})
    upstream = net.upstream(ONE)
    for number in range(FAILURES_MAX + 10):
        upstream._remember(number.to_bytes(4), upstream._servers[0])
    assert len(upstream._failures) == FAILURES_MAX


# Loops.


def test_a_server_whose_question_comes_back_to_us_is_dropped() -> None:
    upstream: Upstream

    class Loop(Net):
        async def exchange(self, server: Address, asking: Asking, timeout_s: float) -> bytes:
            if server == TWO:
                assert upstream.came_back(asking.question)
            assert (asking.question.rtype, asking.question.rclass) == (Type.TXT, 1)
            assert asking.question.name.is_at_or_below(PROBE_SUFFIX)
            raise SILENT

    upstream = Loop({}).upstream(ONE, TWO)
    labels = iter(["a1", "b2"])
    asyncio.run(upstream.probe(lambda: next(labels)))
    assert upstream.servers == (ONE,)
    assert upstream.counters["servers-dropped"] == 1


def test_when_every_server_is_ourselves_the_question_is_refused_and_says_so() -> None:
    upstream: Upstream

    class Loop(Net):
        async def exchange(self, server: Address, asking: Asking, timeout_s: float) -> bytes:
            upstream.came_back(asking.question)
            raise SILENT

    net = Loop({})
    upstream = net.upstream(ONE, TWO)
    asyncio.run(upstream.probe(iter(["a1", "b2"]).__next__))
    outcome = ask(upstream, net)
    assert isinstance(outcome, NoReply)
    assert (outcome.is_refusal, "this resolver itself" in outcome.text) == (True, True)


def test_a_slow_server_holds_up_the_probe_of_no_other() -> None:
    async def story() -> None:
        gate, seen = asyncio.Event(), asyncio.Event()

        async def exchange(server: Address, asking: Asking, timeout_s: float) -> bytes:
            if server == ONE:
                await gate.wait()
            seen.set()
            raise SILENT

        upstream = Upstream((ONE, TWO), clock=Clock().boot, exchange=exchange)
        probe = asyncio.create_task(upstream.probe(iter(["a1", "b2"]).__next__))
        await asyncio.wait_for(seen.wait(), 30)
        gate.set()
        await probe

    asyncio.run(story())


def test_a_question_that_merely_looks_like_a_probe_drops_nobody() -> None:
    upstream = Net({}).upstream(ONE)
    assert not upstream.came_back(question("a1.p2pdns-probe.example.com. TXT"))
    assert upstream.servers == (ONE,)


# Which servers.


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_servers_are_read_as_people_write_them(text: str, address: Address) -> None:
    assert read_server(text) == address


@pytest.mark.parametrize("text", ["", "dns.example", "192.0.2.1:0", "192.0.2.1:x", "192.0.2.1:70000", "[::1"])
def test_what_is_no_address_is_no_server(text: str) -> None:
    if text == "[::1":
        assert read_server(text) == ("::1", 53)
        return
    with pytest.raises(FormatError):
        read_server(text)


@pytest.mark.parametrize(
    ("resolv", "systemd", "own", "expected"),
    [
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", None, [], ["192.0.2.1", "2001:db8::1"]),
        ("nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.7\n", [], ["192.0.2.7"]),
        ("nameserver 127.0.0.53\n", None, [], ["127.0.0.53"]),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", None, [("127.0.0.1", 53)], ["192.0.2.1"]),
        ("nameserver 127.0.0.1\n", None, [("127.0.0.1", 5300)], ["127.0.0.1"]),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", None, [("0.0.0.0", 53)], ["192.0.2.1"]),
        ("# nameserver 192.0.2.1\nnameserver\nnameserver nonsense\nsearch lan\n", None, [], []),
        ("nameserver 192.0.2.1\nnameserver 192.0.2.1\n", None, [], ["192.0.2.1"]),
        (None, "nameserver 192.0.2.7\n", [], []),
        (
            "".join(f"nameserver 192.0.2.{n}\n" for n in range(20)),
            None,
            [],
            [f"192.0.2.{n}" for n in range(SERVERS_MAX)],
        ),
    ],
)
def test_the_systems_servers_are_taken_without_its_stub_and_ourselves(
    tmp_path: Path, resolv: str | None, systemd: str | None, own: Sequence[Address], expected: list[str]
) -> None:
    paths = tmp_path / "resolv.conf", tmp_path / "systemd.conf"
    for path, text in zip(paths, (resolv, systemd), strict=True):
        if text is not None:
            path.write_text(text)
    found = system_servers(own, paths)
    assert found == tuple((host, 53) for host in expected)


def test_the_setting_none_means_none_and_a_list_itself() -> None:
    assert servers_of("none") == ()
    assert servers_of(["192.0.2.1", "[::1]:5353"]) == (("192.0.2.1", 53), ("::1", 5353))
    assert servers_of("192.0.2.1:54") == (("192.0.2.1", 54),)
