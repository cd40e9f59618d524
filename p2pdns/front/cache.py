"""The answer cache: one whole answer for each question, with its times and the tags that it depends on.

Guarantees: an answer is fresh until its expiry and stale until its stale-until, never later; a provisional answer
lives 5 seconds at most and replaces no settled answer that is still fresh; a failure never replaces an answer that can
be served stale; an answer that depends on an invalidated tag is gone; the stated cost of all answers stays below the
limit, and the least recently used is evicted first; each answer is reported as due for renewal at most once.
Does not know what a question means: keys are bytes, and answers come from the engine only.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from p2pdns.config import CacheTable
from p2pdns.dns.life import FAILURE_S_MAX, PROVISIONAL_TTL_S, sane_ttl
from p2pdns.dns.registry import RCODE_MASK, Rcode, Type
from p2pdns.link import Answer
from p2pdns.values import replace

# The memory of one kept answer beside its bytes: two objects, the headers of key and message, and a row in each table.
ENTRY_OVERHEAD_BYTES = 700
OFFSET_BYTES = 40  # A number in a tuple.
TAG_OVERHEAD_BYTES = 340  # A tag that no other answer has: its row, its table, and the answer in it.
PREFETCH_SHARE = 0.1  # The last part of an answer's life, in which a hit makes the front fetch the next answer.
# No prefetch in shorter lives: the last tenth is within the second that the memo answers alone.
PREFETCH_LIFE_S_MIN = 10.0
NEVER = float("inf")
SHOWN = ("hit", "miss", "stale", "prefetch", "evict")
_NXDOMAIN, _TYPE_SOA = int(Rcode.NXDOMAIN), Type.SOA.to_bytes(2, "big")


@dataclass(slots=True)
class CachedAnswer:
    """One answer as it is kept.

    From `prefetch_at` on, the next hit makes the front fetch a new answer. Until `held_until`, `failure` lets this
    answer be served stale without asking the engine again.
    """

    key: bytes
    answer: Answer
    epoch: int
    cost_bytes: int
    prefetch_at: float = NEVER
    held_until: float = 0.0
    failure: Answer | None = None


def is_negative(answer: Answer) -> bool:
    """Return whether an answer says that something does not exist."""
    message = answer.message
    rcode = message[3] & RCODE_MASK
    if rcode:
        return rcode == _NXDOMAIN
    answer_count, authority_count = int.from_bytes(message[6:8], "big"), int.from_bytes(message[8:10], "big")
    # A negative answer behind an alias has an answer section too; it is known by its SOA (RFC 2308 §2.2).
    authority = answer.ttl_offsets[answer_count : answer_count + authority_count]
    return not answer_count or any(message[at - 4 : at - 2] == _TYPE_SOA for at in authority)


def cost_of(key: bytes, answer: Answer) -> int:
    """Return the bytes that one kept answer is counted with."""
    texts = sum(100 + len(text) for _, text in answer.ede)
    numbers = OFFSET_BYTES * len(answer.ttl_offsets) + TAG_OVERHEAD_BYTES * len(answer.tags)
    return ENTRY_OVERHEAD_BYTES + len(key) + len(answer.message) + numbers + texts


class AnswerCache:
    """Answers by question, bounded in bytes."""

    def __init__(self, limits: CacheTable) -> None:
        self.counters: Counter[str] = Counter()
        self.size_bytes = 0
        self.epoch = 0
        # The count of changes after which an earlier response could be wrong; the funnel's memo watches it.
        self.version = 0
        self._limits = limits
        self._entries: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        self._keys_of_tag: dict[bytes, dict[bytes, None]] = {}

    def change_limits(self, limits: CacheTable) -> None:
        """Take new limits: evict at once what is too much, and forget all answers when a limit of time changed."""
        old, self._limits = self._limits, limits
        if dataclasses.replace(old, answers_bytes_max=limits.answers_bytes_max) != limits:
            self.invalidate(None)
        self._make_room()

    @property
    def facts(self) -> dict[str, int]:
        return {**dict.fromkeys(SHOWN, 0), **self.counters, "entries": len(self), "bytes": self.size_bytes}

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, key: bytes, now: float) -> Answer | None:
        """Return the answer to a question while it is fresh, and count a hit or a miss."""
        entry = self._entries.get(key)
        if entry is not None and now < entry.answer.expiry:
            self._entries.move_to_end(key)
            self.counters["hit"] += 1
            return entry.answer
        self.counters["miss"] += 1
        return None

    def is_due(self, key: bytes, now: float) -> bool:
        """Return whether this hit is the one at which the next answer should be fetched: True once for each answer."""
        entry = self._entries.get(key)
        if entry is None or now < entry.prefetch_at:
            return False
        entry.prefetch_at = NEVER
        return True

    def stale(self, key: bytes, now: float) -> Answer | None:
        """Return the answer to a question while it may be served, even past its expiry; None for a failure."""
        entry = self._entries.get(key)
        if entry is None or entry.answer.failure or now >= entry.answer.stale_until:
            return None
        return entry.answer

    def held_stale(self, key: bytes, now: float) -> tuple[Answer, Answer] | None:
        """Return a stale answer that may be served without asking the engine, and the failure that allows it."""
        entry = self._entries.get(key)
        if entry is None or entry.failure is None or not now < min(entry.held_until, entry.answer.stale_until):
            return None
        return entry.answer, entry.failure

    def accepted(self, answer: Answer, now: float) -> Answer:
        """Return an answer of the engine with its TTLs, expiry and stale-until cut to the limits of this cache."""
        ttl_max = self._limits.ttl_s_max
        if is_negative(answer):
            ttl_max = min(ttl_max, self._limits.negative_ttl_s_max)
        if answer.provisional:
            ttl_max = min(ttl_max, PROVISIONAL_TTL_S)
        made_at = min(answer.made_at, now)
        expiry = min(answer.expiry, made_at + ttl_max)
        stale_until = min(max(answer.stale_until, expiry), expiry + self._limits.stale_s_max)
        if answer.provisional:
            stale_until = expiry
        if answer.failure:
            expiry = stale_until = min(answer.expiry, now + FAILURE_S_MAX)
        message = _capped(answer.message, answer.ttl_offsets, ttl_max)
        times = (made_at, expiry, stale_until)
        if message is answer.message and times == (answer.made_at, answer.expiry, answer.stale_until):
            return answer
        return replace(answer, message=message, made_at=made_at, expiry=expiry, stale_until=stale_until)

    def put(self, key: bytes, answer: Answer, now: float) -> None:
        """Keep an accepted answer, if it may be kept and no better one is there."""
        if not answer.cacheable or (answer.stale_until <= now and answer.expiry <= now):
            return
        old = self._entries.get(key)
        if old is not None:
            may_be_served = not old.answer.failure and now < max(old.answer.expiry, old.answer.stale_until)
            if answer.failure and may_be_served:
                self._hold(old, answer)
                return
            # Frames may overtake each other; within one epoch the answer of the later generation is right.
            if old.epoch == self.epoch and old.answer.generation > answer.generation and now < old.answer.expiry:
                return
            # A prefetch must not replace a settled answer by a provisional one.
            if answer.provisional and not (old.answer.provisional or old.answer.failure) and now < old.answer.expiry:
                return
            self._remove(key)
            self.version += 1
        cost = cost_of(key, answer)
        if cost > self._limits.answers_bytes_max:
            return
        self._entries[key] = CachedAnswer(key, answer, self.epoch, cost, _prefetch_at(answer, now))
        self.size_bytes += cost
        self.counters["insert"] += 1
        for tag in answer.tags:
            self._keys_of_tag.setdefault(tag, {})[key] = None
        self._make_room()

    def invalidate(self, tags: tuple[bytes, ...] | None) -> None:
        """Forget the answers that depend on one of the tags; all answers when `tags` is None."""
        self.version += 1
        if tags is None:
            self.counters["invalidated"] += len(self._entries)
            self._entries.clear()
            self._keys_of_tag.clear()
            self.size_bytes = 0
            return
        for tag in tags:
            for key in list(self._keys_of_tag.get(tag, ())):
                entry = self._entries[key]
                if tag in entry.answer.tags:
                    self._remove(key)
                else:
                    # Only the failure had the tag: the answer stays, and the engine is asked again.
                    self._let_go(entry)
                self.counters["invalidated"] += 1

    def new_epoch(self, epoch: int) -> None:
        """Forget what a new engine might answer differently: provisional and negative answers, and failures."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        self.version += 1
        for key, entry in list(self._entries.items()):
            self._let_go(entry)
            if entry.answer.provisional or entry.answer.failure or is_negative(entry.answer):
                self._remove(key)

    def _make_room(self) -> None:
        while self.size_bytes > self._limits.answers_bytes_max:
            self._remove(next(iter(self._entries)))
            self.counters["evict"] += 1

    def _hold(self, entry: CachedAnswer, failure: Answer) -> None:
        """Let an answer be served stale until a failure expires."""
        self._let_go(entry)
        entry.held_until, entry.failure = failure.expiry, failure
        for tag in failure.tags:
            self._keys_of_tag.setdefault(tag, {})[entry.key] = None

    def _let_go(self, entry: CachedAnswer) -> None:
        failure, entry.failure, entry.held_until = entry.failure, None, 0.0
        if failure is not None:
            self._untag(entry.key, [tag for tag in failure.tags if tag not in entry.answer.tags])

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self.size_bytes -= entry.cost_bytes
        self._let_go(entry)
        self._untag(key, entry.answer.tags)

    def _untag(self, key: bytes, tags: Iterable[bytes]) -> None:
        for tag in tags:
            keys = self._keys_of_tag.get(tag)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del self._keys_of_tag[tag]


def _prefetch_at(answer: Answer, now: float) -> float:
    life_s = answer.expiry - now
    if answer.failure or answer.provisional or life_s < PREFETCH_LIFE_S_MIN:
        return NEVER
    return answer.expiry - PREFETCH_SHARE * life_s


def _capped(message: bytes, offsets: tuple[int, ...], ttl_max: int) -> bytes:
    capped: bytearray | None = None
    for offset in offsets:
        ttl = int.from_bytes(message[offset : offset + 4], "big")
        if ttl > ttl_max:
            capped = capped or bytearray(message)
            capped[offset : offset + 4] = min(sane_ttl(ttl), ttl_max).to_bytes(4, "big")
    return message if capped is None else bytes(capped)
