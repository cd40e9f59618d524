"""What keeps strangers from using this node against others: write tokens, proven addresses, reply budgets, rates.

A source address in UDP is a claim. It is *proven* for ten minutes when a reply came from it to a query of ours, or
when it presented a token that we had sent there. A proven address gets whole replies; an unproven one gets a reply
of more than three times its request only while budgets last, then contacts alone, then nothing.

Guarantees: a token holds for its address, its target, and 5 to 10 minutes; replies above three times the request to
unproven addresses, and what is sent in their place, stay within `UNPROVEN_BYTES_PER_SECOND` (and one burst of as
much), whatever arrives; every table is bounded. Does not know what a reply says, nor whom the look-ups trust.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from p2pdns.addresses import Address, prefix_of

TOKEN_BYTES = 8  # 1 in 2⁶⁴ to guess, and two contacts still fit beside a value in an unfragmented reply.
TOKEN_PERIOD_S = 300.0  # BEP 5: the secret changes every five minutes, tokens are good for up to ten.
SECRET_BYTES = 32

PROVEN_S = 600.0  # As long as a token holds; a home's NAT keeps a quiet mapping for less.
PROVEN_ADDRESSES_MAX = 8_192  # About 2 MB; a full routing table and the guests of ten busy minutes fit.

AMPLIFICATION_MAX = 3  # QUIC's limit (RFC 9000 §8.1) before an address is validated.
UNPROVEN_BYTES_PER_SECOND = 8_000.0  # What a whole libtorrent node may send for its DHT by default.
FULL_RESERVE_BYTES = 4_000.0  # Values stop at half of the budget, so that contacts can still be handed out.
UNPROVEN_REPLIES_PER_SECOND = 2.0  # A prefix: a victim sees at most two values a second from us.
UNPROVEN_CONTACTS_PER_SECOND = 8.0  # A prefix: one victim cannot use up what the others are owed.
PREFIXES_MAX = 4_096  # Prefixes whose rate is remembered at a time; about 1 MB.


class RateLimit:
    """An amount that refills at `per_second` up to `burst`, and that is taken from."""

    __slots__ = ("burst", "level", "per_second", "updated_at")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self.per_second = per_second
        self.burst = burst
        self.level = burst
        self.updated_at = now

    def left(self, now: float) -> float:
        """Return how much could be taken at `now`."""
        elapsed = max(0.0, now - self.updated_at)
        self.level = min(self.burst, self.level + elapsed * self.per_second)
        self.updated_at = max(self.updated_at, now)
        return self.level

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take `amount`; return whether there was enough, and take nothing if not."""
        if self.left(now) < amount:
            return False
        self.level -= amount
        return True


class PrefixRates:
    """One `RateLimit` for each prefix; those seen longest ago are forgotten first."""

    def __init__(self, per_second: float, burst: float, prefixes_max: int = PREFIXES_MAX) -> None:
        self._per_second = per_second
        self._burst = burst
        self._prefixes_max = prefixes_max
        self._limits: OrderedDict[str, RateLimit] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of prefixes remembered."""
        return len(self._limits)

    def take(self, prefix: str, now: float, amount: float = 1.0) -> bool:
        """Take `amount` from what `prefix` has left; return whether there was enough."""
        return self._of(prefix, now).take(now, amount)

    def left(self, prefix: str, now: float) -> float:
        """Return what `prefix` could take at `now`."""
        limit = self._limits.get(prefix)
        return self._burst if limit is None else limit.left(now)

    def _of(self, prefix: str, now: float) -> RateLimit:
        limit = self._limits.get(prefix)
        if limit is None:
            limit = self._limits[prefix] = RateLimit(self._per_second, self._burst, now)
            if len(self._limits) > self._prefixes_max:
                self._limits.popitem(last=False)
        else:
            self._limits.move_to_end(prefix)
        return limit


class Answering(Enum):
    """How much of a reply an address gets."""

    FULL = "full"
    NODES_ONLY = "nodes only"
    SILENT = "silent"


class Allowance(NamedTuple):
    """How to answer: `bytes_max` bounds a reply of nodes only (three times the request); FULL is bounded elsewhere."""

    answering: Answering
    bytes_max: int


class Guard:
    """The tokens, proven addresses and reply budgets of one node."""

    def __init__(self, entropy: Callable[[int], bytes], now: float) -> None:
        self._secret = entropy(SECRET_BYTES)
        self._proven: OrderedDict[Address, float] = OrderedDict()
        self._bytes = RateLimit(UNPROVEN_BYTES_PER_SECOND, UNPROVEN_BYTES_PER_SECOND, now)
        self._replies = PrefixRates(UNPROVEN_REPLIES_PER_SECOND, UNPROVEN_REPLIES_PER_SECOND)
        self._contacts = PrefixRates(UNPROVEN_CONTACTS_PER_SECOND, UNPROVEN_CONTACTS_PER_SECOND)
        self.counters: Counter[str] = Counter()

    # Tokens

    def token(self, address: Address, target: bytes, now: float) -> bytes:
        """Return the token with which `address` may put at `target` for the next 5 to 10 minutes."""
        return self._token(address, target, int(now // TOKEN_PERIOD_S))

    def is_token_valid(self, token: bytes, address: Address, target: bytes, now: float) -> bool:
        """Return whether we gave `token` to `address` for `target` lately; if so, the address is proven."""
        period = int(now // TOKEN_PERIOD_S)
        is_valid = any(
            hmac.compare_digest(token, self._token(address, target, given)) for given in (period, period - 1)
        )
        if is_valid:
            self.prove(address, now)
        else:
            self.counters["token-refused"] += 1
        return is_valid

    def _token(self, address: Address, target: bytes, period: int) -> bytes:
        # The secret of a period is the node's secret and the period's number: nothing to rotate, nothing to forget
        # to rotate, and as unguessable as a fresh one.
        host, port = address
        text = b"%d|%d|%b|%b" % (period, port, host.encode(), target)
        return hashlib.blake2b(text, key=self._secret, digest_size=TOKEN_BYTES).digest()

    # Proven addresses

    def prove(self, address: Address, now: float) -> None:
        """Note that `address` was shown to be where it says: it answered a query of ours."""
        self._proven[address] = now + PROVEN_S
        self._proven.move_to_end(address)
        if len(self._proven) > PROVEN_ADDRESSES_MAX:
            self._proven.popitem(last=False)

    def is_proven(self, address: Address, now: float) -> bool:
        """Return whether `address` was proven within the last ten minutes."""
        return self._proven.get(address, 0.0) > now

    @property
    def proven_count(self) -> int:
        """Return the number of addresses remembered as proven, expired ones included."""
        return len(self._proven)

    # Reply budgets

    def allowance(self, address: Address, request_bytes: int, reply_bytes: int, now: float) -> Allowance:
        """Return how to answer a request of `request_bytes` whose whole reply takes `reply_bytes`, and charge for it.

        Ask once a reply, when the whole one is composed; for NODES_ONLY compose another, without value and within
        `bytes_max`.
        """
        modest_bytes = AMPLIFICATION_MAX * request_bytes
        if reply_bytes <= modest_bytes or self.is_proven(address, now):
            return Allowance(Answering.FULL, reply_bytes)
        prefix = prefix_of(address)
        if self._bytes.left(now) - reply_bytes >= FULL_RESERVE_BYTES and self._replies.take(prefix, now):
            self._bytes.take(now, reply_bytes)
            self.counters["unproven-full"] += 1
            return Allowance(Answering.FULL, reply_bytes)
        if self._bytes.left(now) >= modest_bytes and self._contacts.take(prefix, now):
            self._bytes.take(now, modest_bytes)
            self.counters["unproven-nodes-only"] += 1
            return Allowance(Answering.NODES_ONLY, modest_bytes)
        self.counters["unproven-silent"] += 1
        return Allowance(Answering.SILENT, 0)
