"""The standing of each upstream: its speed, its silence, whether it knows EDNS, and the questions it failed at.

Guarantees: a failure is remembered for its question and server, and not repeated before its time (RFC 9520); a failure
by silence ends with the first thing heard from the server; the memory is bounded. Does not know how a server is asked.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from p2pdns.addresses import Address
from p2pdns.dns.life import FAILURE_S_MAX, FAILURE_S_MIN

SERVERS_MAX = 8  # The C library reads three from resolv.conf; that of systemd may name some more.
FAILURES_MAX = 4_096  # Failed pairs of question and server: about 1 MB.
CHECK_S = 5.0  # Between two checks of a silent server, and the time for each reply.
# A server that answers only without EDNS is asked so for this long: unbound keeps its knowledge of a host as long.
NO_EDNS_S = 900.0
NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Server:
    """One upstream; times are those of the boot clock."""

    address: Address
    srtt_s: float = 0.0
    is_silent: bool = False
    heard_at: float = NEVER
    checked_at: float = NEVER
    no_edns_until: float = NEVER

    def heard(self, now: float, sent_at: float | None = None) -> bool:
        """Note a sign of life, for a query sent at that time; return whether the server was silent before."""
        if sent_at is not None:
            rtt_s = now - sent_at
            self.srtt_s = rtt_s if not self.srtt_s else 0.7 * self.srtt_s + 0.3 * rtt_s
        was_silent, self.is_silent = self.is_silent, False
        self.heard_at = now
        return was_silent

    def unanswered(self, sent_at: float) -> None:
        """Note that a query sent at that time got no reply for longer than replies take here.

        A server from which anything else came meanwhile is alive, and slow with this question only.
        """
        self.is_silent = self.is_silent or self.heard_at < sent_at

    def speaks_edns(self, now: float) -> bool:
        """Return whether this server is asked with EDNS."""
        return now >= self.no_edns_until


@dataclass(slots=True)
class Failure:
    """One question that a server failed at."""

    since: float
    retry_at: float
    backoff_s: float
    is_silence: bool


class Failures:
    """The questions that failed, for each server."""

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[bytes, Address], Failure] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def clear(self) -> None:
        """Forget all failures."""
        self._failures.clear()

    def forget(self, key: bytes, server: Server) -> None:
        """Forget a failure, because the server has answered the question."""
        self._failures.pop((key, server.address), None)

    def holding(self, key: bytes, server: Server, now: float) -> Failure | None:
        """Return the failure because of which a server is not asked this question now."""
        failure = self._failures.get((key, server.address))
        if failure is None or failure.retry_at <= now:
            return None
        if failure.is_silence and server.heard_at >= failure.since:
            del self._failures[key, server.address]
            return None
        return failure

    def remember(self, key: bytes, server: Server, now: float, *, is_silence: bool) -> None:
        """Remember a failure, for twice as long as the last one of this question and server."""
        last = self._failures.pop((key, server.address), None)
        backoff_s = FAILURE_S_MIN if last is None else min(FAILURE_S_MAX, last.backoff_s * 2)
        self._failures[key, server.address] = Failure(now, now + backoff_s, backoff_s, is_silence)
        if len(self._failures) > FAILURES_MAX:
            self._failures.popitem(last=False)
