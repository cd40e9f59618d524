"""The upstreams as one: which server is asked, how long its reply is waited for, and which reply is believed.

Guarantees: no question waits for a silent server while another is alive; a silent server is checked now and then by a
question of our own; an earlier try is still listened to while later ones are under way, and the first usable reply is
the answer; AD survives only if the configuration trusts it; a server that does not know EDNS is asked without it. Does
not know sockets, nor which names are ours: its caller has decided that.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2pdns.addresses import Address
from p2pdns.dns.life import FAILURE_S_MIN
from p2pdns.dns.message import RR, Message, Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Explanations, Flag, Option, Rcode, Type
from p2pdns.log import get_logger
from p2pdns.net.upstream.exchange import SERVER_FAULTS, Asking, Close, Exchange, Exchanges, Heard, Sign, Trouble
from p2pdns.net.upstream.standing import CHECK_S, NO_EDNS_S, SERVERS_MAX, Failures, Server
from p2pdns.net.upstream.waiting import Waits, later
from p2pdns.resolver.local import PROBE_SUFFIX
from p2pdns.resolver.steps import NoReply, Replied, UpstreamOutcome
from p2pdns.timing import Clock, Later, Timer

ATTEMPTS_MAX = 6  # Two rounds of three servers.
TRY_S_MIN = 0.3  # A resolver that must look the name up itself may take this long.
TRY_S_NEW = 0.4  # For a server of which nothing is known, while there is another; unbound begins with 0.376.
TRY_S_MAX = 1.2  # Two tries fit in before a stub resolver repeats its question.
EDE_TEXT_CHARACTERS_MAX = 128  # Enough for the texts that resolvers write.
PROBE_S = 5.0  # Long enough for a front that starts after the engine.

NONE_TEXT = "not a name of the overlay, and no upstream is configured"
LOOP_TEXT = "not a name of the overlay, and every upstream is this resolver itself"
LAME_TEXT = "the upstream neither looks names up nor knows this one"
# The check of a silent server: every resolver knows the answer, and the question reveals nothing about clients.
CHECK = Asking(Question(Name.root(), int(Type.NS)), rd=True, do=False, cd=False, ad=False)

# Every reply passes these; reading a member of an Enum takes ten times as long.
_NOERROR = int(Rcode.NOERROR)
_NOT_UNDERSTOOD = frozenset([int(Rcode.FORMERR), int(Rcode.NOTIMP)])

log = get_logger("upstream")


class Upstream:
    """The ordinary resolvers of this node, fastest first."""

    def __init__(
        self,
        servers: Sequence[Address],
        *,
        clock: Clock,
        trust_ad: bool = False,
        exchange: Exchange | None = None,
        later: Later = later,
    ) -> None:
        self.counters: Counter[str] = Counter()
        # Called when a silent server is heard again: questions that failed because of it need not fail any more.
        self.on_return: Callable[[], None] = lambda: None
        self.trust_ad = trust_ad
        self.clock = clock
        self.later = later
        self.waits = Waits(clock, later)
        self._exchanges = Exchanges(self.counters)
        self.exchange: Exchange = self._exchanges.begin if exchange is None else exchange
        self.failures = Failures()
        self._servers = [Server(address) for address in servers[:SERVERS_MAX]]
        self._probes: dict[Name, Address] = {}
        # By server: the query that is still listened to though no question waits for it.
        self._beside: dict[Address, Close] = {}

    @property
    def servers(self) -> tuple[Address, ...]:
        """The servers, in the order in which they would be asked now."""
        return tuple(server.address for server in self._in_order())

    def flush(self) -> None:
        """Forget the failures, and of each server everything but its speed."""
        self.failures.clear()
        self._servers = [Server(server.address, server.srtt_s) for server in self._servers]

    def close(self) -> None:
        """End the queries that no question waits for; the others end as they would have."""
        for close in list(self._beside.values()):
            close()
        self._exchanges.close()

    async def ask(self, question: Question, *, rd: bool, do: bool, cd: bool, deadline: float) -> UpstreamOutcome:
        """Return the first usable reply of a server before the deadline."""
        if not self._servers:
            return NoReply(LOOP_TEXT if self.counters["servers-dropped"] else NONE_TEXT, is_refusal=True)
        now = self.clock()
        usable = self._servers if len(self._servers) == 1 else self._in_order()
        asking = Asking(question, rd, do, cd, self.trust_ad)
        if len(self.failures) or True in [server.is_silent for server in usable]:
            found = self._usable(asking.key, usable, now)
            if isinstance(found, NoReply):
                return found
            usable = found
        asked = _Asked(self, asking, deadline, usable)
        try:
            asked.send_next(now)
            return await asked.outcome
        finally:
            asked.close()

    def _usable(self, key: bytes, order: list[Server], now: float) -> list[Server] | NoReply:
        """Return the servers that may be asked a question: of those that are alive, or of all if none is."""
        living = [server for server in order if not server.is_silent]
        holding = [(server, self.failures.holding(key, server, now)) for server in living or order]
        usable = [server for server, failure in holding if failure is None]
        if len(living) < len(order) and (living or not usable):
            self._check_silent(now)
        if usable:
            return usable
        self.counters["failures-remembered"] += 1
        held = [failure for _, failure in holding if failure is not None]
        is_silence = any(failure.is_silence for failure in held)
        retry_at = min(failure.retry_at for failure in held)
        # A silent server may be back long before that, and a cache that keeps this failure may not hear of it.
        retry_at = min(retry_at, now + FAILURE_S_MIN) if is_silence else retry_at
        text = "no upstream answered this question a moment ago"
        return NoReply(text, is_remembered=True, retry_at=retry_at, is_silence=is_silence)

    async def probe(self, random_label: Callable[[], str]) -> None:
        """Ask each server for a name that does not exist; `came_back` drops a server whose question comes back to us.

        See `PROBE_SUFFIX`: every forwarder or resolver that could close a loop passes such a question on.
        """
        names = [(PROBE_SUFFIX.child(random_label().encode()), server.address) for server in self._servers]
        await asyncio.gather(*(self._probe(name, address) for name, address in names))

    async def _probe(self, name: Name, address: Address) -> None:
        self._probes[name] = address
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def end(is_answered: bool) -> None:
            if not answered.done():
                answered.set_result(is_answered)

        asking = Asking(Question(name, int(Type.TXT), Class.IN), True, False, False, False)
        close = self.exchange(address, asking, lambda heard: end(not isinstance(heard, Trouble)))
        timer = self.later(PROBE_S, lambda: end(False))
        try:
            self.counters["probes-unanswered"] += not await answered
        finally:
            timer.cancel()
            close()
            self._probes.pop(name, None)

    def came_back(self, question: Question) -> bool:
        """Return whether a question to be forwarded is a probe of ours; if so, drop the server it was sent to."""
        address = self._probes.pop(question.name, None) if self._probes else None
        if address is None:
            return False
        self.drop(address)
        log.warning("upstream asks us, so it is not asked any more", server=f"{address[0]}:{address[1]}")
        return True

    def drop(self, address: Address) -> None:
        """Ask a server no more."""
        self._servers = [server for server in self._servers if server.address != address]
        self.counters["servers-dropped"] += 1

    def heard(self, server: Server, now: float, sent_at: float | None = None) -> None:
        """Note a sign of life of a server, for a query sent at that time."""
        if server.heard(now, sent_at):
            self.counters["servers-back"] += 1
            self.on_return()

    def patience(self, server: Server, count: int) -> float:
        """Return how long the try of this number is waited for before the next one is sent."""
        if count >= len(self._servers):
            return 2 * TRY_S_MAX
        if len(self._servers) == 1:
            return TRY_S_MAX
        return min(TRY_S_MAX, max(TRY_S_MIN, 4 * server.srtt_s)) if server.srtt_s else TRY_S_NEW

    def listen_beside(self, server: Server, close: Close) -> Close:
        """Keep listening to a query that no question waits for, one a server; return a function that ends it."""
        if server.address in self._beside:
            close()
            return close

        def end() -> None:
            timer.cancel()
            close()
            self._beside.pop(server.address, None)

        timer = self.later(CHECK_S, end)
        self._beside[server.address] = end
        return end

    def _in_order(self) -> list[Server]:
        if len(self._servers) == 1:
            return list(self._servers)
        return sorted(self._servers, key=lambda server: (server.is_silent, server.srtt_s))

    def _check_silent(self, now: float) -> None:
        for server in self._servers:
            if server.is_silent and now >= server.checked_at + CHECK_S and server.address not in self._beside:
                server.checked_at = now
                self.counters["checks"] += 1
                self._check(server, now)

    def _check(self, server: Server, now: float) -> None:
        def hear(heard: Heard) -> None:
            if not isinstance(heard, Trouble) or heard in (Trouble.UNREADABLE, Trouble.CUT):
                self.heard(server, self.clock(), now)
            end()

        asking = CHECK if server.speaks_edns(now) else CHECK.without_opt()
        end = self.listen_beside(server, self.exchange(server.address, asking, hear))


def _nothing() -> None:
    return None


@dataclass(slots=True, eq=False)
class _Try:
    """One query of a question; `is_void`: its failure says nothing about its server."""

    server: Server
    asking: Asking
    sent_at: float
    close: Close = _nothing
    is_latest: bool = True
    is_over: bool = False
    is_void: bool = False


class _Asked:
    """One question at the upstreams: its tries and its outcome."""

    __slots__ = ("_asking", "_count", "_deadline", "_plan", "_timer", "_tries", "_upstream", "_worst", "outcome")

    def __init__(self, upstream: Upstream, asking: Asking, deadline: float, servers: Sequence[Server]) -> None:
        self.outcome: asyncio.Future[UpstreamOutcome] = asyncio.get_running_loop().create_future()
        self._upstream = upstream
        self._asking = asking
        self._deadline = deadline
        # Two rounds, in reverse: the next server is the last of the list.
        self._plan = [*servers, *servers][ATTEMPTS_MAX - 1 :: -1]
        self._count = 0
        self._tries: list[_Try] = []
        self._worst: UpstreamOutcome | None = None
        self._timer: Timer | None = None

    def close(self) -> None:
        """End it, but go on listening: a server that has not replied yet may still show that it is alive."""
        if self._timer is not None:
            self._timer.cancel()
        for one in self._tries:
            if not one.is_over:
                one.is_over = True
                one.close = self._upstream.listen_beside(one.server, one.close)

    def send_next(self, now: float) -> None:
        """Ask the next server; without one, fail if no try is under way any more."""
        for one in self._tries:
            one.is_latest = False
        failures = self._upstream.failures
        while self._plan and now < self._deadline:
            server = self._plan.pop()
            if not len(failures) or failures.holding(self._asking.key, server, now) is None:
                self._ask(server, self._asking, now, self._upstream.patience(server, self._count))
                self._count += 1
                return
        if all(one.is_over for one in self._tries):
            self._fail(now)

    def _ask(self, server: Server, asking: Asking, now: float, patience_s: float) -> None:
        upstream = self._upstream
        if not server.speaks_edns(now):
            asking = asking.without_opt()
        one = _Try(server, asking, now)
        self._tries.append(one)
        upstream.counters["queries"] += 1
        one.close = upstream.exchange(server.address, asking, lambda heard: self._heard(one, heard))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = upstream.waits.call_at(min(now + patience_s, self._deadline), self._waited)

    def _waited(self) -> None:
        """Go on after the time of the latest try."""
        now = self._upstream.clock()
        self._timer = None
        for one in self._tries:
            if not one.is_over:
                self._unanswered(one)
        if now >= self._deadline or not self._plan:
            self._fail(now)
            return
        self.send_next(now)
        if self._timer is None and not self.outcome.done():
            self._fail(now)

    def _heard(self, one: _Try, heard: Heard) -> None:
        upstream = self._upstream
        now = upstream.clock()
        if one.is_over or self.outcome.done():
            # No question waits for this reply any more, but it shows that the server is alive.
            if not isinstance(heard, Trouble):
                upstream.heard(one.server, now, one.sent_at)
            one.close()
            return
        if isinstance(heard, Sign):
            upstream.heard(one.server, now, one.sent_at)
            return
        one.is_over = True
        one.close()
        if isinstance(heard, Trouble):
            self._troubled(one, heard, now)
            return
        upstream.heard(one.server, now, one.sent_at)
        upstream.counters["replies"] += 1
        self._replied(one, heard, now)

    def _replied(self, one: _Try, message: Message, now: float) -> None:
        upstream, rcode = self._upstream, message.rcode
        if rcode in _NOT_UNDERSTOOD and one.asking.has_opt:
            # RFC 6891 §7: a server that does not know EDNS answers so; without EDNS it may give an answer.
            upstream.counters["asked-again-without-edns"] += 1
            self._ask(one.server, one.asking.without_opt(), now, upstream.patience(one.server, 0))
            return
        if not one.asking.has_opt and rcode not in _NOT_UNDERSTOOD and one.server.speaks_edns(now):
            one.server.no_edns_until = now + NO_EDNS_S
        replied = Replied(message, ad=upstream.trust_ad and message.ad, ede=_ede_of(message.opt))
        if rcode not in SERVER_FAULTS and not (rcode == _NOERROR and _is_lame(message)):
            if len(upstream.failures):
                upstream.failures.forget(self._asking.key, one.server)
            self._finish(replied)
            return
        if not self._asking.rd and rcode == Rcode.REFUSED:
            # Many resolvers refuse questions without recursion: that is an answer, and no failure.
            self._finish(NoReply("the upstream refuses questions without recursion", is_refusal=True))
            return
        is_lame = rcode not in SERVER_FAULTS
        upstream.counters["lame"] += is_lame
        self._failed(one, NoReply(LAME_TEXT, retry_at=now + FAILURE_S_MIN) if is_lame else replied, now)

    def _troubled(self, one: _Try, trouble: Trouble, now: float) -> None:
        upstream = self._upstream
        upstream.counters[f"trouble-{trouble.name.lower().replace('_', '-')}"] += 1
        if trouble in (Trouble.GONE, Trouble.STRAY, Trouble.CROWDED):
            if trouble is Trouble.GONE:
                self._unanswered(one)
            else:
                self._worst = self._worst or NoReply(trouble.value, retry_at=now + FAILURE_S_MIN)
            # A lack of sockets in this process is not the server's fault.
            one.is_void = trouble is Trouble.CROWDED
            self._go_on(one, now)
            return
        upstream.heard(one.server, now)
        self._failed(one, NoReply(trouble.value, retry_at=now + FAILURE_S_MIN), now)

    def _failed(self, one: _Try, outcome: UpstreamOutcome, now: float) -> None:
        """Note that a server failed at the question, and ask the next one."""
        self._worst = outcome
        self._upstream.failures.remember(self._asking.key, one.server, now, is_silence=False)
        self._go_on(one, now)

    def _go_on(self, one: _Try, now: float) -> None:
        # A later try that is under way has its time first.
        if one.is_latest or all(other.is_over for other in self._tries):
            self.send_next(now)

    def _unanswered(self, one: _Try) -> None:
        self._upstream.counters["no-reply"] += 1
        one.server.unanswered(one.sent_at)

    def _fail(self, now: float) -> None:
        failures = self._upstream.failures
        servers = list({one.server.address: one.server for one in self._tries if not one.is_void}.values())
        for server in servers:
            # Only a server that is still silent after its second try has failed by silence. A server that answers other
            # questions has failed at this one, and its answers to others do not end that failure.
            if failures.holding(self._asking.key, server, now) is None:
                failures.remember(self._asking.key, server, now, is_silence=server.is_silent)
        is_silence = any(server.is_silent for server in servers)
        retry_at = now + FAILURE_S_MIN
        self._finish(self._worst or NoReply(Trouble.GONE.value, retry_at=retry_at, is_silence=is_silence))

    def _finish(self, outcome: UpstreamOutcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


def _is_lame(message: Message) -> bool:
    """Return whether a reply is a referral or less, from a server that neither looks up (RA) nor knows (AA)."""
    if message.flags & (Flag.AA | Flag.RA) or message.answer:
        return False
    return all(rr.rtype != Type.SOA for rr in message.authority)


def _ede_of(opt: RR | None) -> Explanations:
    """Return the extended errors (RFC 8914) that the reply's OPT carries."""
    if opt is None or not opt.rdata:
        return ()
    found: list[tuple[int, str]] = []
    rdata, at = opt.rdata, 0
    while at + 4 <= len(rdata) and len(found) < 2:
        code, size = int.from_bytes(rdata[at : at + 2]), int.from_bytes(rdata[at + 2 : at + 4])
        body = rdata[at + 4 : at + 4 + size]
        if code == Option.EDE and len(body) >= 2:
            text = body[2:].decode("utf-8", "replace")[:EDE_TEXT_CHARACTERS_MAX]
            found.append((int.from_bytes(body[:2]), "".join(c for c in text if c.isprintable())))
        at += 4 + size
    return tuple(found)
