"""Questions to ordinary resolvers: which ones, in what order, and what of their replies is believed.

Guarantees: packets go to the configured servers and nowhere else, each from a port and with an ID of its own; a
reply is parsed behind the wall of `p2pdns.dns.message`; AD survives only where the configuration trusts it; a
failure is remembered per question and server and not repeated before its time (RFC 9520). Does not know which names
are ours: whoever asks here has decided that.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

from p2pdns.addresses import Address
from p2pdns.dns.message import RR, Message, Question, Rcode, Type, parse
from p2pdns.dns.name import Name
from p2pdns.engine.upstream.servers import SERVERS_MAX
from p2pdns.errors import FormatError, StrangerError
from p2pdns.log import get_logger
from p2pdns.resolver import NoReply, Replied, UpstreamOutcome
from p2pdns.resolver.local import CLASS_IN, PROBE_SUFFIX

UDP_SIZE_BYTES = 1232  # What passes every path unfragmented (the DNS flag day of 2020).
REPLY_RECORDS_MAX = 512  # Real answers have tens; to read, withhold and write so many takes some 20 ms.
ATTEMPTS_MAX = 6  # Two rounds of three servers.
TRY_SECONDS_MIN = 0.3  # A resolver that has to look up itself is not slow yet.
TRY_SECONDS_MAX = 1.2  # Two tries fit before a stub repeats its question.
PENALTY_SECONDS = 30.0  # How long a server that gave no reply is asked last.
FAILURE_SECONDS_MIN = 5.0  # RFC 9520 §3.2
FAILURE_SECONDS_MAX = 300.0
FAILURES_MAX = 4_096  # Failed pairs of question and server kept: about 1 MB.
EDE_TEXT_CHARACTERS_MAX = 128  # Enough for the texts that resolvers write.
EDE_OPTION = 15
PROBE_SECONDS = 5.0  # Long enough for a front that starts after the engine.

NONE_TEXT = "not a name of the overlay, and no upstream is configured"
LOOP_TEXT = "not a name of the overlay, and every upstream is this resolver itself"
# Another server may do better than one that says these.
SERVER_FAULTS = (Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED)

# What an exchange without a reply ends in; EOFError when a TCP connection is closed early, ValueError when asyncio
# finds that an address does not fit the socket.
NO_REPLY = (OSError, EOFError, ValueError, dns.exception.DNSException)

log = get_logger("upstream")


@dataclass(frozen=True, slots=True)
class Asking:
    """One question as it goes out."""

    question: Question
    rd: bool
    do: bool
    cd: bool
    ad: bool


Exchange = Callable[[Address, Asking, float], Awaitable[bytes]]


async def exchange(server: Address, asking: Asking, timeout_s: float) -> bytes:
    """Return the reply of a server as wire bytes: over UDP, and over TCP when that was cut.

    Raises one of `NO_REPLY` where there is none in time.
    """
    query = _query(asking)
    host, port = server
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    backend = dns.asyncbackend.get_default_backend()
    family = dns.inet.af_for_address(host)
    # A connected socket takes datagrams from the server only, and hears at once that nobody listens there.
    made = backend.make_socket(family, socket.SOCK_DGRAM, 0, None, (host, port))  # type: ignore[no-untyped-call]
    async with await made as sock:
        reply = await dns.asyncquery.udp(
            query, host, timeout_s, port, ignore_unexpected=True, ignore_errors=True, sock=sock
        )
    if reply.flags & dns.flags.TC:
        reply = await dns.asyncquery.tcp(query, host, max(0.0, until - loop.time()), port)
    assert reply.wire is not None, "a reply that was read has a wire form"
    return bytes(reply.wire)


def _query(asking: Asking) -> dns.message.QueryMessage:
    name = dns.name.Name((*asking.question.name.labels, b""))
    query = dns.message.make_query(
        name,
        dns.rdatatype.RdataType.make(asking.question.rtype),
        dns.rdataclass.RdataClass.make(asking.question.rclass),
        use_edns=0,
        want_dnssec=asking.do,
        payload=UDP_SIZE_BYTES,
    )
    query.flags = dns.flags.RD * asking.rd | dns.flags.CD * asking.cd | dns.flags.AD * asking.ad
    return query


@dataclass(slots=True)
class _Server:
    address: Address
    srtt_s: float = 0.0
    penalty_until: float = float("-inf")

    def measured(self, rtt_s: float) -> None:
        self.srtt_s = rtt_s if not self.srtt_s else 0.7 * self.srtt_s + 0.3 * rtt_s
        self.penalty_until = float("-inf")


@dataclass(slots=True)
class _Failure:
    retry_at: float
    backoff_s: float


class Upstream:
    """The ordinary resolvers of this node, fastest first."""

    def __init__(
        self,
        servers: Sequence[Address],
        *,
        clock: Callable[[], float],
        trust_ad: bool = False,
        exchange: Exchange = exchange,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._servers = [_Server(address) for address in servers[:SERVERS_MAX]]
        self._clock = clock
        self._trust_ad = trust_ad
        self._exchange = exchange
        self._failures: OrderedDict[tuple[bytes, Address], _Failure] = OrderedDict()
        self._probes: dict[Name, Address] = {}

    @property
    def servers(self) -> tuple[Address, ...]:
        """The servers asked, in the order in which they would be asked now."""
        return tuple(server.address for server in self._in_order())

    def flush(self) -> None:
        """Forget failures."""
        self._failures.clear()
        for server in self._servers:
            server.penalty_until = float("-inf")

    async def ask(self, question: Question, *, rd: bool, do: bool, cd: bool, deadline: float) -> UpstreamOutcome:
        """Return the first usable reply of a server before the deadline."""
        if not self._servers:
            return NoReply(LOOP_TEXT if self.counters["servers-dropped"] else NONE_TEXT, is_refusal=True)
        asking = Asking(question, rd, do, cd, self._trust_ad)
        key = question.name.folded().wire() + question.wire()[-4:] + bytes([rd, do, cd])
        now = self._clock()
        open_servers = [server for server in self._in_order() if self._may_ask(key, server, now)]
        if not open_servers:
            self.counters["failures-remembered"] += 1
            retry_at = min(self._failures[key, server.address].retry_at for server in self._servers)
            return NoReply("no upstream answered this question a moment ago", is_remembered=True, retry_at=retry_at)
        worst: UpstreamOutcome | None = None
        silent: list[_Server] = []
        tries = (open_servers * 2)[:ATTEMPTS_MAX]
        for count, server in enumerate(tries):
            if not self._may_ask(key, server, self._clock()):
                continue
            remaining = deadline - self._clock()
            if remaining <= 0:
                break
            outcome = await self._try(server, asking, min(remaining, self._patience(server, count)))
            if isinstance(outcome, Replied) and outcome.message.rcode not in SERVER_FAULTS:
                self._failures.pop((key, server.address), None)
                return outcome
            if not rd and isinstance(outcome, Replied) and outcome.message.rcode == Rcode.REFUSED:
                # Many resolvers refuse what they are not asked to look up: an answer of theirs, and no failure.
                return NoReply("the upstream refuses questions without recursion", is_refusal=True)
            if outcome is None:
                silent.append(server)
                continue
            worst = outcome
            self._remember(key, server)
        # One that was silent may reply to the second try; only after that it has failed.
        for server in silent:
            if self._may_ask(key, server, self._clock()):
                self._remember(key, server)
        return worst or NoReply("no upstream answered in time", retry_at=self._clock() + FAILURE_SECONDS_MIN)

    async def probe(self, random_label: Callable[[], str]) -> None:
        """Ask each server for a name that nobody has; `came_back` drops a server whose question reaches ourselves.

        See `PROBE_SUFFIX`: whatever could close a loop passes such a question on, be it a forwarder or a resolver.
        """
        names = [(PROBE_SUFFIX.child(random_label().encode()), server.address) for server in self._servers]
        await asyncio.gather(*(self._probe(name, address) for name, address in names))

    async def _probe(self, name: Name, address: Address) -> None:
        self._probes[name] = address
        asking = Asking(Question(name, int(Type.TXT), CLASS_IN), True, False, False, False)
        try:
            await self._exchange(address, asking, PROBE_SECONDS)
        except NO_REPLY:
            self.counters["probes-unanswered"] += 1
        finally:
            self._probes.pop(name, None)

    def came_back(self, question: Question) -> bool:
        """Return whether a question we were asked is a probe of ours; its server is not asked any more."""
        address = self._probes.pop(question.name, None)
        if address is None:
            return False
        self.drop(address)
        log.warning("upstream asks us, so it is not asked any more", server=f"{address[0]}:{address[1]}")
        return True

    def drop(self, address: Address) -> None:
        """Ask a server no more."""
        self._servers = [server for server in self._servers if server.address != address]
        self.counters["servers-dropped"] += 1

    def _in_order(self) -> list[_Server]:
        now = self._clock()
        return sorted(self._servers, key=lambda server: (server.penalty_until > now, server.srtt_s))

    def _patience(self, server: _Server, count: int) -> float:
        if len(self._servers) > 1 and count < len(self._servers) and server.srtt_s:
            return min(TRY_SECONDS_MAX, max(TRY_SECONDS_MIN, 4 * server.srtt_s))
        return TRY_SECONDS_MAX if count < len(self._servers) else 2 * TRY_SECONDS_MAX

    async def _try(self, server: _Server, asking: Asking, timeout_s: float) -> UpstreamOutcome | None:
        """Return what a server made of the question; None when there was no reply."""
        asked_at = self._clock()
        self.counters["queries"] += 1
        try:
            wire = await self._exchange(server.address, asking, timeout_s)
            message = _checked(parse(wire, records_max=REPLY_RECORDS_MAX), asking.question)
        except NO_REPLY:
            self.counters["no-reply"] += 1
            server.penalty_until = self._clock() + PENALTY_SECONDS
            return None
        except StrangerError as error:
            self.counters[f"reply-{error.reason}"] += 1
            return NoReply("the upstream's reply cannot be read", retry_at=self._clock() + FAILURE_SECONDS_MIN)
        server.measured(self._clock() - asked_at)
        self.counters["replies"] += 1
        return Replied(message, ad=self._trust_ad and _has_ad(wire), ede=_ede_of(message.additional))

    def _may_ask(self, key: bytes, server: _Server, now: float) -> bool:
        failure = self._failures.get((key, server.address))
        return failure is None or failure.retry_at <= now

    def _remember(self, key: bytes, server: _Server) -> None:
        last = self._failures.pop((key, server.address), None)
        backoff_s = FAILURE_SECONDS_MIN if last is None else min(FAILURE_SECONDS_MAX, last.backoff_s * 2)
        self._failures[key, server.address] = _Failure(self._clock() + backoff_s, backoff_s)
        if len(self._failures) > FAILURES_MAX:
            self._failures.popitem(last=False)


def _checked(message: Message, question: Question) -> Message:
    """Return the reply if it answers the question."""
    if not message.is_response:
        raise FormatError("not-a-response", "the reply is a query")
    if message.question != question:
        raise FormatError("other-question", "the reply answers a question that was not asked")
    return message


def _has_ad(wire: bytes) -> bool:
    return bool(wire[3] & 0x20)


def _ede_of(additional: Iterable[RR]) -> tuple[tuple[int, str], ...]:
    """Return the extended errors (RFC 8914) that the reply's OPT carries."""
    found: list[tuple[int, str]] = []
    for rr in additional:
        at = 0
        while rr.rtype == Type.OPT and at + 4 <= len(rr.rdata) and len(found) < 2:
            code, size = int.from_bytes(rr.rdata[at : at + 2]), int.from_bytes(rr.rdata[at + 2 : at + 4])
            body = rr.rdata[at + 4 : at + 4 + size]
            if code == EDE_OPTION and len(body) >= 2:
                text = body[2:].decode("utf-8", "replace")[:EDE_TEXT_CHARACTERS_MAX]
                found.append((int.from_bytes(body[:2]), "".join(c for c in text if c.isprintable())))
            at += 4 + size
    return tuple(found)
