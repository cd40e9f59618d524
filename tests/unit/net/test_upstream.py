"""Upstreams: who is asked in what order, how long for, what of a reply is believed, how long a failure lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from p2pdns.addresses import Address
from p2pdns.dns.message import RR, Message, Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Flag, Type
from p2pdns.net.upstream.asking import ATTEMPTS_MAX, CHECK, LAME_TEXT, Upstream
from p2pdns.net.upstream.exchange import Asking, Close, Heard, Listener, Sign, Trouble
from p2pdns.net.upstream.standing import CHECK_S, FAILURES_MAX, NO_EDNS_S, SERVERS_MAX, Server
from p2pdns.net.upstream.system import system_servers
from p2pdns.resolver.local import PROBE_SUFFIX
from p2pdns.resolver.steps import NoReply, Replied
from p2pdns.values import replace
from tests.overlay_doubles import Clock, question, reply_to, rrsets
from tests.waiting import at_rest

ONE, TWO = ("192.0.2.1", 53), ("192.0.2.2", 53)
ASKED = question("example.com. A")
GOOD = reply_to(ASKED, "example.com. 60 A 192.0.2.9")
FAILED = reply_to(ASKED, rcode=2)
HOSTS = [f"192.0.2.{number}" for number in range(20)]
SILENT = None


class Net:
    """Servers that say what the test says, after the time it says; `costs` are a hundredth of a second otherwise."""

    def __init__(self, replies: dict[Address, Heard | None], costs: dict[Address, float] | None = None) -> None:
        self.clock = Clock()
        self.replies = replies
        self.costs = costs or {}
        self.asked: list[tuple[Address, Asking]] = []
        self.open_count = 0

    def exchange(self, server: Address, asking: Asking, listener: Listener) -> Close:
        """Reply, unless it is closed first."""
        self.asked.append((server, asking))
        self.open_count += 1
        reply = self.reply(server, asking)
        cost_s = self.costs.get(server, 0.01)
        calls = [None if reply is SILENT else self.clock.later(cost_s, lambda: listener(reply))]

        def close() -> None:
            self.open_count -= bool(calls)
            while calls:
                call = calls.pop()
                if call is not None:
                    call.cancel()

        return close

    def reply(self, server: Address, asking: Asking) -> Heard | None:
        """Return what a server says."""
        return self.replies[server]

    def upstream(self, *servers: Address, **more: Any) -> Upstream:
        """Return an upstream of these servers."""
        return Upstream(servers, clock=self.clock.boot, later=self.clock.later, exchange=self.exchange, **more)

    @property
    def order(self) -> list[Address]:
        """The servers that were asked questions, in order."""
        return [server for server, asking in self.asked if asking.question != CHECK.question]

    @property
    def checked(self) -> list[Address]:
        """The servers that were asked whether they are back, in order."""
        return [server for server, asking in self.asked if asking.question == CHECK.question]

    def pass_time(self, seconds: float) -> None:
        """Let everything come that is due in so many seconds, each at its time."""
        until = self.clock.now + seconds
        while self.clock.calls and (due := min(at for at, _ in self.clock.calls)) <= until:
            self.clock.turn(max(0.0, due - self.clock.now))
        self.clock.turn(until - self.clock.now)


def ask(upstream: Upstream, net: Net, asked: Question = ASKED, **flags: bool) -> Replied | NoReply:
    """Return what an upstream makes of a question with four seconds of time."""
    facts = {"rd": True, "do": False, "cd": False, **flags}

    async def story() -> Replied | NoReply:
        task = asyncio.create_task(upstream.ask(asked, deadline=net.clock.now + 4, **facts))
        await at_rest()
        while not task.done():
            net.pass_time(min(at for at, _ in net.clock.calls) - net.clock.now)
            await at_rest()
        return task.result()

    return asyncio.run(story())


def with_flags(message: Message, flags: int) -> Message:
    """Return a message with more flags."""
    return replace(message, flags=message.flags | flags)


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
    net = Net({ONE: with_flags(GOOD, 0x20)})
    outcome = ask(net.upstream(ONE, trust_ad=trusted), net)
    assert isinstance(outcome, Replied)
    assert outcome.ad is trusted
    net = Net({ONE: GOOD})
    outcome = ask(net.upstream(ONE, trust_ad=trusted), net)
    assert isinstance(outcome, Replied)
    assert not outcome.ad


def test_servers_are_asked_fastest_first() -> None:
    net = Net({ONE: GOOD, TWO: GOOD}, {ONE: 0.2, TWO: 0.01})
    upstream = net.upstream(ONE, TWO)
    for _ in range(3):
        ask(upstream, net)
    assert net.order == [ONE, TWO, TWO]
    assert upstream.servers == (TWO, ONE)


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
def test_a_server_that_fails_is_followed_by_the_next(rcode: int) -> None:
    net = Net({ONE: reply_to(ASKED, rcode=rcode), TWO: GOOD})
    outcome = ask(net.upstream(ONE, TWO), net)
    assert isinstance(outcome, Replied)
    assert outcome.message.rcode == 0
    assert list(dict.fromkeys(net.order)) == [ONE, TWO]


def test_a_refusal_without_recursion_is_an_answer_and_no_failure() -> None:
    net = Net({ONE: reply_to(ASKED, rcode=5)})
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
    assert outcome.is_silence
    assert net.clock.now <= 1004.0 + 1e-6
    assert 2 <= len(net.asked) <= ATTEMPTS_MAX


def test_a_server_that_was_not_asked_has_not_failed() -> None:
    servers = [(host, 53) for host in HOSTS[:SERVERS_MAX]]
    net = Net(dict.fromkeys(servers, FAILED))
    upstream = net.upstream(*servers)
    ask(upstream, net)
    assert net.order == servers[:ATTEMPTS_MAX]
    net.replies[servers[-1]] = GOOD
    assert isinstance(ask(upstream, net), Replied)


def test_a_refused_connection_is_not_waited_for() -> None:
    net = Net({ONE: Trouble.GONE, TWO: GOOD})
    assert isinstance(ask(net.upstream(ONE, TWO), net), Replied)
    assert net.clock.now < 1000.1


@pytest.mark.parametrize("trouble", [Trouble.UNREADABLE, Trouble.CUT, Trouble.NO_TCP])
def test_a_reply_that_cannot_be_used_is_followed_by_the_next_server_and_told_as_what_it_is(trouble: Trouble) -> None:
    net = Net({ONE: trouble, TWO: GOOD})
    upstream = net.upstream(ONE, TWO)
    assert isinstance(ask(upstream, net), Replied)
    assert net.clock.now < 1000.1
    net = Net({ONE: trouble})
    outcome = ask(net.upstream(ONE), net)
    assert isinstance(outcome, NoReply)
    assert (outcome.text, outcome.is_silence, net.order) == (trouble.value, False, [ONE])


def test_for_want_of_sockets_no_server_is_blamed() -> None:
    net = Net({ONE: Trouble.CROWDED})
    upstream = net.upstream(ONE)
    outcome = ask(upstream, net)
    assert isinstance(outcome, NoReply)
    assert (outcome.text, outcome.is_silence) == (Trouble.CROWDED.value, False)
    net.replies[ONE] = GOOD
    assert isinstance(ask(upstream, net), Replied)


# Silence.


def test_while_another_server_lives_no_question_waits_for_a_silent_one() -> None:
    net = Net({ONE: SILENT, TWO: GOOD})
    upstream = net.upstream(ONE, TWO)
    assert isinstance(ask(upstream, net), Replied)
    assert net.order == [ONE, TWO]
    net.replies[TWO] = FAILED
    before = net.clock.now
    outcome = ask(upstream, net, question("other.example. A"))
    # The one that lives has said what there is to say.
    assert isinstance(outcome, Replied)
    assert (outcome.message.rcode, net.order) == (2, [ONE, TWO, TWO])
    assert net.clock.now - before < 0.1


def test_a_silent_server_is_asked_beside_the_questions_whether_it_is_back_one_at_a_time() -> None:
    net = Net({ONE: SILENT, TWO: GOOD})
    upstream = net.upstream(ONE, TWO)
    ask(upstream, net)
    net.pass_time(CHECK_S)
    for number in range(3):
        ask(upstream, net, question(f"n{number}.example. A"))
    assert net.checked == [ONE]
    net.pass_time(CHECK_S)
    ask(upstream, net, question("late.example. A"))
    assert net.checked == [ONE, ONE]
    assert net.order[2:] == [TWO] * 4
    net.pass_time(CHECK_S)
    assert net.open_count == 0


def test_a_server_at_a_closed_port_is_checked_no_more_often_than_a_silent_one() -> None:
    net = Net({ONE: Trouble.GONE, TWO: GOOD})
    upstream = net.upstream(ONE, TWO)
    for number in range(5):
        ask(upstream, net, question(f"n{number}.example. A"))
        net.pass_time(0.1)
    assert net.checked == [ONE]
    net.pass_time(CHECK_S)
    ask(upstream, net, question("late.example. A"))
    assert net.checked == [ONE, ONE]


def test_a_silent_server_that_replies_to_the_check_is_asked_again() -> None:
    net = Net({ONE: SILENT, TWO: GOOD}, {TWO: 0.2})
    upstream = net.upstream(ONE, TWO)
    returns: list[int] = []
    upstream.on_return = lambda: returns.append(1)
    ask(upstream, net)
    net.pass_time(CHECK_S)
    net.replies[ONE] = GOOD
    ask(upstream, net, question("n1.example. A"))
    net.pass_time(1.0)
    assert (upstream.servers, returns) == ((ONE, TWO), [1])
    ask(upstream, net, question("n2.example. A"))
    assert net.order[-1] == ONE


@pytest.mark.parametrize("seconds", [1.0, 100.0])
def test_what_was_remembered_of_silence_ends_with_the_first_reply(seconds: float) -> None:
    net = Net({ONE: SILENT})
    upstream = net.upstream(ONE)
    while net.clock.now < 1_000 + seconds:
        ask(upstream, net)
        net.pass_time(5.0)
    net.pass_time(CHECK_S)
    outcome = ask(upstream, net)
    assert isinstance(outcome, NoReply)
    net.replies[ONE] = GOOD
    # Another question finds out, and this one is free again, however long it was to wait.
    assert isinstance(ask(upstream, net, question("other.example. A")), Replied)
    assert isinstance(ask(upstream, net), Replied)


def test_a_question_answered_from_memory_still_finds_out_that_the_server_is_back() -> None:
    net = Net({ONE: SILENT})
    upstream = net.upstream(ONE)
    for _ in range(4):
        ask(upstream, net)
        net.pass_time(11.0)
    ask(upstream, net)
    net.replies[ONE] = GOOD
    net.pass_time(CHECK_S)
    outcome = ask(upstream, net)
    assert isinstance(outcome, NoReply)
    assert outcome.is_remembered
    assert outcome.retry_at <= net.clock.now + 5.0
    net.pass_time(1.0)
    assert isinstance(ask(upstream, net), Replied)


def test_what_was_said_is_remembered_though_the_server_is_heard_meanwhile() -> None:
    net = Net({ONE: FAILED})
    upstream = net.upstream(ONE)
    ask(upstream, net)
    net.replies[ONE] = GOOD
    assert isinstance(ask(upstream, net, question("other.example. A")), Replied)
    assert isinstance(ask(upstream, net), NoReply)


@pytest.mark.parametrize("servers", [[ONE], [ONE, TWO]])
def test_a_server_whose_every_reply_takes_long_is_listened_to_until_then(servers: list[Address]) -> None:
    net = Net({ONE: GOOD, TWO: GOOD}, {ONE: 2.6, TWO: 2.6})
    outcome = ask(net.upstream(*servers), net)
    assert isinstance(outcome, Replied)
    assert net.clock.now == pytest.approx(1002.6)


def test_the_first_usable_reply_wins_whichever_try_it_is_to() -> None:
    net = Net({ONE: GOOD, TWO: FAILED}, {ONE: 0.9})
    outcome = ask(net.upstream(ONE, TWO), net)
    assert isinstance(outcome, Replied)
    assert (outcome.message.rcode, net.order[:2]) == (0, [ONE, TWO])
    assert net.clock.now == pytest.approx(1000.9)


def test_a_reply_that_comes_when_the_question_is_answered_shows_that_the_server_lives() -> None:
    net = Net({ONE: GOOD, TWO: GOOD}, {ONE: 0.9})
    upstream = net.upstream(ONE, TWO)
    ask(upstream, net)
    assert upstream.servers == (TWO, ONE)
    net.pass_time(CHECK_S)
    ask(upstream, net, question("other.example. A"))
    assert net.checked == []
    assert net.open_count == 0


def test_a_server_that_answers_others_meanwhile_is_slow_and_not_silent() -> None:
    slow, quick = question("slow.example. A"), question("quick.example. A")

    class Recursive(Net):
        def reply(self, server: Address, asking: Asking) -> Heard | None:
            return SILENT if asking.question == slow else GOOD

    net = Recursive({})
    upstream = net.upstream(ONE)

    async def story() -> None:
        def put(asked: Question) -> asyncio.Task[Replied | NoReply]:
            return asyncio.create_task(upstream.ask(asked, rd=True, do=False, cd=False, deadline=net.clock.now + 4))

        task = put(slow)
        await at_rest()
        while not task.done():
            other = put(quick)
            await at_rest()
            net.pass_time(0.1)
            await other
            await at_rest()
        assert isinstance(await task, NoReply)

    asyncio.run(story())
    ask(upstream, net, question("last.example. A"))
    # Nobody that was never away comes back, and what it failed at it is not asked again at once.
    assert upstream.counters["servers-back"] == 0
    asked_count = len(net.asked)
    outcome = ask(upstream, net, slow)
    assert isinstance(outcome, NoReply)
    assert (outcome.is_remembered, outcome.is_silence, len(net.asked)) == (True, False, asked_count)


# What servers do not know.


@pytest.mark.parametrize("rcode", [1, 4])
def test_a_server_without_edns_is_asked_again_without_and_remembered(rcode: int) -> None:
    class Old(Net):
        def reply(self, server: Address, asking: Asking) -> Heard | None:
            return Message(0, Flag.QR | rcode) if asking.has_opt else GOOD

    net = Old({})
    upstream = net.upstream(ONE)
    assert isinstance(ask(upstream, net), Replied)
    assert [asking.has_opt for _, asking in net.asked] == [True, False]
    ask(upstream, net, question("other.example. A"))
    assert [asking.has_opt for _, asking in net.asked[2:]] == [False]
    net.pass_time(NO_EDNS_S)
    ask(upstream, net, question("later.example. A"))
    assert [asking.has_opt for _, asking in net.asked[3:]] == [True, False]


def test_a_server_that_never_understands_is_not_taken_for_one_without_edns() -> None:
    net = Net({ONE: Message(0, Flag.QR | 1)})
    upstream = net.upstream(ONE)
    outcome = ask(upstream, net)
    assert isinstance(outcome, Replied)
    assert outcome.message.rcode == 1
    ask(upstream, net, question("other.example. A"))
    assert [asking.has_opt for _, asking in net.asked] == [True, False, True, False]


REFERRAL = Message(0, Flag.QR, ASKED, (), rrsets(Name.root(), "com. 60 NS ns.example.")[0].records())


@pytest.mark.parametrize("lame", [REFERRAL, Message(0, Flag.QR, ASKED)], ids=["referral", "nothing"])
def test_a_lame_server_is_followed_by_the_next(lame: Message) -> None:
    net = Net({ONE: lame, TWO: GOOD})
    outcome = ask(net.upstream(ONE, TWO), net)
    assert isinstance(outcome, Replied)
    assert (outcome.message, net.order) == (GOOD, [ONE, TWO])
    net = Net({ONE: lame})
    outcome = ask(net.upstream(ONE), net)
    assert isinstance(outcome, NoReply)
    assert outcome.text == LAME_TEXT


SOA = rrsets(Name.root(), f"com. 60 TYPE6 {'00' * 22}")[0].records()


@pytest.mark.parametrize(
    "message",
    [Message(0, Flag.QR | Flag.RA, ASKED), Message(0, Flag.QR | Flag.AA, ASKED), Message(0, Flag.QR, ASKED, (), SOA)],
    ids=["recursive", "authoritative", "with an SOA"],
)
def test_an_absence_that_a_server_can_know_of_is_an_answer(message: Message) -> None:
    net = Net({ONE: message, TWO: GOOD})
    outcome = ask(net.upstream(ONE, TWO), net)
    assert isinstance(outcome, Replied)
    assert (outcome.message, net.order) == (message, [ONE])


def test_a_cut_reply_says_that_the_server_lives_though_the_whole_never_comes() -> None:
    net = Net({ONE: Sign.CUT})
    upstream = net.upstream(ONE)
    assert isinstance(ask(upstream, net), NoReply)
    net.replies[ONE] = GOOD
    ask(upstream, net, question("other.example. A"))
    assert net.checked == []


def test_extended_errors_of_a_reply_pass_on_without_control_characters() -> None:
    options = b"\x00\x0a\x00\x01x" + b"\x00\x0f\x00\x08\x00\x06bog\nus" + b"\x00\x0f\x00\x01\x00" + b"\x00\x0f\xff\xff"
    opt = RR(Name.root(), Type.OPT, 1232, 0, options)
    message = reply_to(ASKED, rcode=2)
    net = Net({ONE: Message(0, message.flags, ASKED, (), (), (opt,))})
    outcome = ask(net.upstream(ONE), net)
    assert isinstance(outcome, Replied)
    assert outcome.ede == ((6, "bogus"),)


def test_remembered_failures_are_bounded() -> None:
    net = Net({ONE: FAILED})
    upstream = net.upstream(ONE)
    for number in range(FAILURES_MAX + 10):
        server = Server(ONE)
        upstream.failures.remember(number.to_bytes(4), server, net.clock.now, is_silence=False)
    assert len(upstream.failures) == FAILURES_MAX


# Loops.


def probe(upstream: Upstream, net: Net) -> None:
    """Let an upstream look for loops until it is done."""

    async def story() -> None:
        task = asyncio.create_task(upstream.probe(iter(["a1", "b2"]).__next__))
        await at_rest()
        # All of them at once: each has been asked before any has answered.
        assert len(net.asked) == 2
        while not task.done():
            net.pass_time(1.0)
            await at_rest()
        await task

    asyncio.run(story())


def test_a_server_whose_question_comes_back_to_us_is_dropped() -> None:
    upstream: Upstream

    class Loop(Net):
        def reply(self, server: Address, asking: Asking) -> Heard | None:
            if server == TWO:
                assert upstream.came_back(asking.question)
            assert (asking.question.rtype, asking.question.rclass) == (Type.TXT, 1)
            assert asking.question.name.is_at_or_below(PROBE_SUFFIX)
            return SILENT

    net = Loop({})
    upstream = net.upstream(ONE, TWO)
    probe(upstream, net)
    assert upstream.servers == (ONE,)
    assert upstream.counters["servers-dropped"] == 1


def test_when_every_server_is_ourselves_the_question_is_refused_and_says_so() -> None:
    upstream: Upstream

    class Loop(Net):
        def reply(self, server: Address, asking: Asking) -> Heard | None:
            upstream.came_back(asking.question)
            return SILENT

    net = Loop({})
    upstream = net.upstream(ONE, TWO)
    probe(upstream, net)
    outcome = ask(upstream, net)
    assert isinstance(outcome, NoReply)
    assert (outcome.is_refusal, "this resolver itself" in outcome.text) == (True, True)


def test_a_slow_server_holds_up_the_probe_of_no_other() -> None:
    net = Net({ONE: SILENT, TWO: GOOD})
    upstream = net.upstream(ONE, TWO)
    probe(upstream, net)
    assert {server for server, _ in net.asked} == {ONE, TWO}
    assert upstream.counters["probes-unanswered"] == 1
    assert net.open_count == 0


def test_a_question_that_merely_looks_like_a_probe_drops_nobody() -> None:
    upstream = Net({}).upstream(ONE)
    assert not upstream.came_back(question("a1.p2pdns-probe.example.com. TXT"))
    assert upstream.servers == (ONE,)


# Which servers.


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
    found, _ = system_servers(own, paths)
    assert found == tuple((host, 53) for host in expected)
