"""Protection of third parties from this node: write tokens, proven addresses, reply budgets.

A source address in UDP is a claim. It is *proven* for ten minutes when a reply came from it to a query of ours, or
when it presented a token that we had sent there; a proven address gets whole replies without limit. Every datagram to
another address, however short, comes out of budgets, because many small replies to the forged address of a victim are
a flood as well:

- A prefix has `PREFIX_BYTES_PER_SECOND`, so that one victim receives little and uses up no budget of others.
- The node has three pools: for prefixes that it hears for the first time in a while, for those that it heard and could
  not serve, and for those that it served and that have not proven themselves since. Each may take what the others have
  above their halves, so without a flood they are one. In a flood, ever new sources use up the first pool, victims
  named again and again the third; the second is left to nodes that ask again, as all without an answer do.
- While a pool is above its half, only long replies are rationed (two a second for a prefix). Below it, a sender that
  can prove its address is sent a *challenge*: a ping, shorter than any query it answers; the reply follows when the
  ping is answered. A sender that cannot (read-only nodes never answer a ping, BEP 43) gets short replies as long as
  the pool lasts, and a token, which proves its address in its next query.
- Strangers get values first for targets that this node is among the nearest to: the more nodes are known to be
  nearer, the fuller the budgets must be. So if a client asks for more than all holders may send, the nearest holder
  of an item still answers, and the client finds each key at some node.
- A reply that is useless without its value is sent whole or not at all: contacts alone, from a node that holds the
  item, mean "not found" to every node but ours, which know the word `prove`.

Guarantees: a token holds for its address, its target, and 5 to 10 minutes; unproven addresses are sent, all
messages together, at most 3 × `POOL_BURST_BYTES` and 3 × `POOL_BYTES_PER_SECOND`, which from the fourth second of a
flood on is at most `REFLECTED_BYTES_PER_SECOND_MAX`, whatever arrives; every table is bounded. Does not know the
content of a reply, nor which contacts the look-ups trust.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from p2pdns.addresses import Address, prefix_of
from p2pdns.dht.recent import Recent
from p2pdns.rates import PrefixRates, RateLimit

TOKEN_BYTES = 8  # 1 in 2⁶⁴ to guess, and two contacts still fit beside a value in an unfragmented reply.
TOKEN_PERIOD_S = 300.0  # BEP 5: the secret changes every five minutes, tokens are good for up to ten.
SECRET_BYTES = 32

PROVEN_S = 600.0  # As long as a token holds; a home's NAT keeps a quiet mapping for less.
PROVEN_ADDRESSES_MAX = 8_192  # About 2 MB; a full routing table and the guests of ten busy minutes fit.

AMPLIFICATION_MAX = 3  # QUIC's limit (RFC 9000 §8.1) before an address is validated.
REFLECTED_BYTES_PER_SECOND_MAX = 8_000.0  # What a whole libtorrent node may send for its DHT by default.
POOL_BYTES_PER_SECOND = 2_000.0  # Three pools: 6,000, so that a flood of four seconds has paid for the bursts as well.
POOL_BURST_BYTES = 2_600.0  # With what the others have to spare: a score of nodes that join at the same moment.
POOL_RESERVE_BYTES = POOL_BURST_BYTES / 2  # Below it, replies are rationed; the other pools never take from it.
VALUES_BURST_BYTES = 3 * (
    POOL_BURST_BYTES - POOL_RESERVE_BYTES
)  # The most that a pool gives for values, with what others lend it.
# The most for one victim. A stranger that reads five keys of 300 bytes a second from eight nodes, with a ping beside
# each get, needs five sixths of it for at least one node to answer each; with two thirds it misses 1 in 1,000.
PREFIX_BYTES_PER_SECOND = 3_000.0
PREFIX_BURST_BYTES = 3_000.0  # Two values and a few contacts-only replies: a resolver's first minute.
# (count, share): if fewer than `count` known nodes are nearer to its target, a value must leave `share` of the budgets.
# The counts double, and with them the number of targets for which a node has such a rank.
VALUE_SHARES = ((1, 0.0), (2, 0.125), (4, 0.25), (8, 0.5))
VALUE_SHARE_FAR = 0.75
UNPROVEN_REPLIES_PER_SECOND = 2.0  # A prefix: long replies that could be made shorter.
LEAST_BYTES = 80  # Of the shortest replies; with less than that left, none need be composed.
SHORT_REPLY_BYTES = 450  # Eight contacts of either family and a token: all that a rationed reply has room for.
CHALLENGE_BYTES = 85  # Our longest ping, with a network's name, has 82.
HEARD_S = 10.0  # For how long at least a prefix counts as heard; a node without an answer asks again within seconds.
SERVED_S = 60.0  # The same for served: the budgets suffice for 70 challenges a second, and a victim waits its turn.
LATELY_MAX = 16_384  # Prefixes remembered in such a time; beyond, they are forgotten sooner. About 2 MB.


class Answering(Enum):
    """How much of a reply an address gets."""

    FULL = "full"
    NODES_ONLY = "nodes only"
    CHALLENGE = "challenge"
    SILENT = "silent"


class Allowance(NamedTuple):
    """How to answer: `bytes_max` bounds a reply of nodes only; FULL is bounded elsewhere."""

    answering: Answering
    bytes_max: int


class Lately:
    """Prefixes noted in the last `period_s`, or up to twice as long ago: two generations make forgetting cheap."""

    def __init__(self, period_s: float, now: float) -> None:
        self._period_s = period_s
        self._young: dict[str, None] = {}
        self._old: dict[str, None] = {}
        self._since = now

    def has(self, prefix: str, now: float) -> bool:
        """Return whether a prefix was noted lately."""
        self.forget_old(now)
        return prefix in self._young or prefix in self._old

    def forget_old(self, now: float) -> None:
        """Begin another generation if the time of the younger one is over."""
        if now - self._since >= self._period_s or len(self._young) >= LATELY_MAX:
            # After a long silence the younger generation is old news as well.
            self._old = self._young if now - self._since < 2 * self._period_s else {}
            self._young = {}
            self._since = now

    def note(self, prefix: str) -> None:
        """Note a prefix."""
        self._young[prefix] = None

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


class Guard:
    """The tokens, proven addresses and reply budgets of one node."""

    def __init__(self, entropy: Callable[[int], bytes], now: float) -> None:
        self._secret = entropy(SECRET_BYTES)
        self._proven: Recent[Address] = Recent(PROVEN_S, PROVEN_ADDRESSES_MAX)
        self._pools = tuple(RateLimit(POOL_BYTES_PER_SECOND, POOL_BURST_BYTES, now) for _ in range(3))
        self._of_prefix = PrefixRates(PREFIX_BYTES_PER_SECOND, PREFIX_BURST_BYTES)
        self._replies = PrefixRates(UNPROVEN_REPLIES_PER_SECOND, UNPROVEN_REPLIES_PER_SECOND)
        self._heard = Lately(HEARD_S, now)
        self._served = Lately(SERVED_S, now)
        self.counters: Counter[str] = Counter()

    # Tokens

    def token(self, address: Address, target: bytes, now: float) -> bytes:
        """Return the token with which `address` may put at `target` for the next 5 to 10 minutes."""
        return self._token(address, target, int(now // TOKEN_PERIOD_S))

    def is_token_valid(self, token: bytes, address: Address, target: bytes, now: float) -> bool:
        """Return whether we gave `token` to `address` for `target` lately; if so, the address is proven."""
        is_valid = self.show(token, address, target, now)
        if not is_valid:
            self.counters["token-refused"] += 1
        return is_valid

    def show(self, token: bytes, address: Address, target: bytes, now: float) -> bool:
        """As `is_token_valid`, for a token that is only a proof: a wrong one is not counted."""
        period = int(now // TOKEN_PERIOD_S)
        is_valid = any(
            hmac.compare_digest(token, self._token(address, target, given)) for given in (period, period - 1)
        )
        if is_valid:
            self.prove(address, now)
        return is_valid

    def _token(self, address: Address, target: bytes, period: int) -> bytes:
        # The secret of a period is the node's secret and the period's number: as unguessable as a fresh one, and no
        # rotation can be forgotten.
        host, port = address
        text = b"%d|%d|%b|%b" % (period, port, host.encode(), target)
        return hashlib.blake2b(text, key=self._secret, digest_size=TOKEN_BYTES).digest()

    # Proven addresses

    def prove(self, address: Address, now: float) -> None:
        """Note that `address` answered a query of ours, or presented a token."""
        self._proven.note(address, now)

    def is_proven(self, address: Address, now: float) -> bool:
        """Return whether `address` was proven within the last ten minutes."""
        return self._proven.has(address, now)

    def forget_old(self, now: float) -> None:
        """Drop addresses whose proof has expired."""
        self._proven.forget_old(now)
        self._heard.forget_old(now)
        self._served.forget_old(now)

    # Reply budgets

    def allowance(
        self,
        address: Address,
        request_bytes: int,
        reply_bytes: int,
        now: float,
        *,
        can_challenge: bool = False,
        nearer_count: int = 0,
        is_whole_only: bool = False,
    ) -> Allowance:
        """Return how to answer a request of `request_bytes` whose whole reply takes `reply_bytes`, and charge for it.

        Call it once for a query, with the whole reply composed. For NODES_ONLY compose another, without value and
        within `bytes_max`; for CHALLENGE, which needs `can_challenge`, send a ping and hold the reply. `nearer_count`
        is, for a value to a stranger, how many nodes are known to be nearer to its target than we are; a reply that
        `is_whole_only` must not be made shorter.
        """
        if self.is_proven(address, now):
            return Allowance(Answering.FULL, reply_bytes)
        prefix = prefix_of(address)
        pools = self._pools_of(prefix, now)
        self._heard.note(prefix)
        is_modest = reply_bytes <= AMPLIFICATION_MAX * request_bytes
        share = 0.0
        if nearer_count:
            share = next((share for count, share in VALUE_SHARES if nearer_count < count), VALUE_SHARE_FAR)
        # The share must be left after this reply; only the first reply from a full budget may have any size.
        in_pools = POOL_RESERVE_BYTES + _with_share(reply_bytes, share, VALUES_BURST_BYTES)
        of_prefix = _with_share(reply_bytes, share, PREFIX_BURST_BYTES)
        told, size = Answering.SILENT, 0
        if self._has_left(pools, prefix, in_pools, of_prefix, now) and (
            is_modest or is_whole_only or self._replies.take(prefix, now)
        ):
            told, size = Answering.FULL, reply_bytes
        elif can_challenge and self._has_left(pools, prefix, CHALLENGE_BYTES, CHALLENGE_BYTES, now):
            told, size = Answering.CHALLENGE, CHALLENGE_BYTES
        elif not is_whole_only:
            short_bytes = min(reply_bytes, AMPLIFICATION_MAX * request_bytes, SHORT_REPLY_BYTES)
            if self._has_left(pools, prefix, short_bytes, short_bytes, now):
                is_short = is_modest and reply_bytes <= SHORT_REPLY_BYTES
                told, size = Answering.FULL if is_short else Answering.NODES_ONLY, short_bytes
        if size:
            self._served.note(prefix)
            self._charge(pools, prefix, size, now)
        self.counters[f"unproven-{told.value.replace(' ', '-')}"] += 1
        return Allowance(told, size)

    def is_spent(self, address: Address, now: float) -> bool:
        """Return whether any query of an address would get no reply; if so, this one is counted as heard."""
        if self.is_proven(address, now):
            return False
        prefix = prefix_of(address)
        pools = self._pools_of(prefix, now)
        if self._has_left(pools, prefix, LEAST_BYTES, LEAST_BYTES, now):
            return False
        self._heard.note(prefix)
        self.counters["unproven-silent"] += 1
        return True

    def may_ask_back(self, address: Address, now: float) -> bool:
        """Return whether a stranger that wrote to us may be sent a ping for the table's sake, and charge for it.

        Under a flood the rest of the budgets is for answers; the table can wait.
        """
        if self.is_proven(address, now):
            return True
        prefix = prefix_of(address)
        if not self._has_left(self._pools, prefix, CHALLENGE_BYTES + POOL_RESERVE_BYTES, CHALLENGE_BYTES, now):
            return False
        self._charge(self._pools, prefix, CHALLENGE_BYTES, now)
        return True

    def _pools_of(self, prefix: str, now: float) -> tuple[RateLimit, ...]:
        """Return the pools in the order in which a prefix takes from them, its own first."""
        newcomers, unserved, served = self._pools
        was_heard = self._heard.has(prefix, now)
        if self._served.has(prefix, now):
            return served, unserved, newcomers
        return (unserved, newcomers, served) if was_heard else self._pools

    def _has_left(
        self, pools: tuple[RateLimit, ...], prefix: str, in_pools: float, of_prefix: float, now: float
    ) -> bool:
        left = pools[0].left(now)
        for other in pools[1:]:
            left += max(0.0, other.left(now) - POOL_RESERVE_BYTES)
        return left >= in_pools and self._of_prefix.left(prefix, now) >= of_prefix

    def _charge(self, pools: tuple[RateLimit, ...], prefix: str, size_bytes: float, now: float) -> None:
        self._of_prefix.take(prefix, now, size_bytes)
        for pool in pools:
            part = min(size_bytes, pool.left(now) - (0.0 if pool is pools[0] else POOL_RESERVE_BYTES))
            if part > 0:
                pool.take(now, part)
                size_bytes -= part


def _with_share(size_bytes: int, share: float, burst_bytes: float) -> float:
    """Return what a budget must have to leave the share after a reply; a full budget always suffices."""
    return max(size_bytes, min(size_bytes + share * burst_bytes, burst_bytes))
