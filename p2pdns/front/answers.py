"""The answer cache: whole answers per question, their time, what they depend on, and what makes room.

Guarantees: an answer is fresh until its expiry and stale until its stale-until, never later; a provisional answer
lives 5 seconds at most; a failure never takes the place of an answer that can be served stale; what depends on an
invalidated tag is gone; the stated cost of all entries stays below the limit, least recently used first out.
Does not know what a question means: keys are bytes, and answers come from the engine only.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace

from p2pdns.link import Answer

PROVISIONAL_TTL_S = 5  # An answer given before its look-up was complete must not outlive the second look.
FAILURE_S_MAX = 300.0  # RFC 9520 §3.2: a failure is remembered for five minutes at most.
# What Python keeps for one entry beside its bytes: two objects, key and message headers, and a row in each table.
ENTRY_OVERHEAD_BYTES = 800
OFFSET_BYTES = 40  # A number in a tuple.
TAG_OVERHEAD_BYTES = 160  # A tag's own row, and this entry's row in it.
NXDOMAIN = 3
TTL_LIMIT = 1 << 31  # RFC 2181 §8: a TTL with the top bit set counts as 0.


@dataclass(slots=True)
class Entry:
    """One answer as it is kept; `held_until` is how long a failure lets it be served stale without asking again."""

    key: bytes
    answer: Answer
    epoch: int
    cost_bytes: int
    held_until: float = 0.0
    failure: Answer | None = None


def is_negative(answer: Answer) -> bool:
    """Return whether an answer says that something does not exist."""
    rcode = answer.message[3] & 0x0F
    return rcode == NXDOMAIN or (rcode == 0 and answer.message[6:8] == b"\x00\x00")


def cost_of(key: bytes, answer: Answer) -> int:
    """Return the bytes that one entry is counted with."""
    texts = sum(100 + len(text) for _, text in answer.ede)
    numbers = OFFSET_BYTES * len(answer.ttl_offsets) + TAG_OVERHEAD_BYTES * len(answer.tags)
    return ENTRY_OVERHEAD_BYTES + len(key) + len(answer.message) + numbers + texts


class AnswerCache:
    """Answers by question, bounded in bytes."""

    def __init__(self, *, bytes_max: int, ttl_s_max: int, stale_s_max: int) -> None:
        self.counters: Counter[str] = Counter()
        self.size_bytes = 0
        self.epoch = 0
        # Counts every change after which a response made earlier could be wrong; the funnel's memo watches it.
        self.version = 0
        self._bytes_max = bytes_max
        self._ttl_s_max = ttl_s_max
        self._stale_s_max = stale_s_max
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._keys_of_tag: dict[bytes, dict[bytes, None]] = {}

    def change_limits(self, *, bytes_max: int, ttl_s_max: int, stale_s_max: int) -> None:
        """Take new limits: room is made at once, and what was kept under other times is forgotten."""
        if (ttl_s_max, stale_s_max) != (self._ttl_s_max, self._stale_s_max):
            self._ttl_s_max, self._stale_s_max = ttl_s_max, stale_s_max
            self.invalidate(None)
        self._bytes_max = bytes_max
        self._make_room()

    def __len__(self) -> int:
        """Return how many answers are kept."""
        return len(self._entries)

    def fresh(self, key: bytes, now: float) -> Answer | None:
        """Return the answer to a question while it holds, and count a hit or a miss."""
        entry = self._entries.get(key)
        if entry is not None and now < entry.answer.expiry:
            self._entries.move_to_end(key)
            self.counters["hit"] += 1
            return entry.answer
        self.counters["miss"] += 1
        return None

    def stale(self, key: bytes, now: float) -> Answer | None:
        """Return the answer to a question when it holds no more but may still be given."""
        entry = self._entries.get(key)
        if entry is None or entry.answer.failure or now >= entry.answer.stale_until:
            return None
        return entry.answer

    def held_stale(self, key: bytes, now: float) -> tuple[Answer, Answer] | None:
        """Return a stale answer and the failure that lets it be given at once, without asking the engine again."""
        entry = self._entries.get(key)
        if entry is None or entry.failure is None or not now < min(entry.held_until, entry.answer.stale_until):
            return None
        return entry.answer, entry.failure

    def accepted(self, answer: Answer, now: float) -> Answer:
        """Return an answer of the engine within the limits of this cache: TTLs, expiry, stale-until."""
        ttl_max = min(self._ttl_s_max, PROVISIONAL_TTL_S) if answer.provisional else self._ttl_s_max
        made_at = min(answer.made_at, now)
        expiry = min(answer.expiry, made_at + ttl_max)
        stale_until = min(max(answer.stale_until, expiry), expiry + self._stale_s_max)
        if answer.provisional:
            stale_until = expiry
        if answer.failure:
            expiry = stale_until = min(answer.expiry, now + FAILURE_S_MAX)
        message = _capped(answer.message, answer.ttl_offsets, ttl_max)
        return replace(answer, message=message, made_at=made_at, expiry=expiry, stale_until=stale_until)

    def put(self, key: bytes, answer: Answer, now: float) -> None:
        """Keep an accepted answer, if it may be kept and nothing better is there."""
        if not answer.cacheable or (answer.stale_until <= now and answer.expiry <= now):
            return
        old = self._entries.get(key)
        if old is not None:
            if answer.failure and self._survives_failure(old, now):
                old.held_until, old.failure = answer.expiry, answer
                return
            # Answers may overtake each other; within one life of the engine the later generation is right.
            if old.epoch == self.epoch and old.answer.generation > answer.generation and now < old.answer.expiry:
                return
            self._remove(key)
            self.version += 1
        cost = cost_of(key, answer)
        if cost > self._bytes_max:
            return
        self._entries[key] = Entry(key, answer, self.epoch, cost)
        self.size_bytes += cost
        self.counters["insert"] += 1
        for tag in answer.tags:
            self._keys_of_tag.setdefault(tag, {})[key] = None
        self._make_room()

    def invalidate(self, tags: tuple[bytes, ...] | None) -> None:
        """Forget what depends on one of the tags; everything when there are none given (None)."""
        self.version += 1
        if tags is None:
            self.counters["invalidated"] += len(self._entries)
            self._entries.clear()
            self._keys_of_tag.clear()
            self.size_bytes = 0
            return
        for tag in tags:
            for key in list(self._keys_of_tag.get(tag, ())):
                self._remove(key)
                self.counters["invalidated"] += 1

    def new_epoch(self, epoch: int) -> None:
        """Forget what a new engine might see differently: provisional, negative and failure entries."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        self.version += 1
        for key, entry in list(self._entries.items()):
            entry.held_until, entry.failure = 0.0, None
            if entry.answer.provisional or entry.answer.failure or is_negative(entry.answer):
                self._remove(key)

    def _make_room(self) -> None:
        while self.size_bytes > self._bytes_max:
            self._remove(next(iter(self._entries)))
            self.counters["evict"] += 1

    def _survives_failure(self, entry: Entry, now: float) -> bool:
        return not entry.answer.failure and now < max(entry.answer.expiry, entry.answer.stale_until)

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self.size_bytes -= entry.cost_bytes
        for tag in entry.answer.tags:
            keys = self._keys_of_tag.get(tag)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del self._keys_of_tag[tag]


def _capped(message: bytes, offsets: tuple[int, ...], ttl_max: int) -> bytes:
    capped: bytearray | None = None
    for offset in offsets:
        ttl = int.from_bytes(message[offset : offset + 4], "big")
        if ttl > ttl_max:
            capped = capped or bytearray(message)
            capped[offset : offset + 4] = (0 if ttl >= TTL_LIMIT else ttl_max).to_bytes(4, "big")
    return message if capped is None else bytes(capped)
