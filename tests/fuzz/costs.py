"""Messages made to be expensive, and a search that makes them worse.

`heavy_queries` aims at what the gate walks, `heavy_messages` at what the reader of messages follows. `worst_of` climbs
from there: it changes one thing at a time and keeps what costs more.

A cost is CPU time of the thread, so waiting for a turn is none of it. A core that is shared or has cold caches still
makes it longer, never shorter, so the least of several trials is what is judged.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterable

from tests.front_messages import opt, query
from tests.fuzz.queries import CLIENT_COOKIE, LONGEST, MANY_LABELS, option, record

TRIALS = 3  # The least of so many tells work from a garbage collector's turn.
TRIALS_MAX = 40  # On a machine whose every core is shared, one of so many is left alone.
DATAGRAM_BYTES = 1232
CLASS_IN = b"\x00\x01"


def least_ms(trial: Callable[[], int], *, enough_ms: float | None = None) -> float:
    """Return the least of a few trials, each of which tells what it cost in nanoseconds.

    With `enough_ms` one trial below that is enough, and many are made before the cost is believed to be higher.
    """
    least = trial() / 1e6
    count = TRIALS if enough_ms is None else TRIALS_MAX
    for _ in range(count - 1):
        if enough_ms is not None and least < enough_ms:
            break
        least = min(least, trial() / 1e6)
    return least


def cpu_ms(work: Callable[[bytes], object], data: bytes, *, enough_ms: float | None = None) -> float:
    """Return the CPU time that some work takes for these bytes, as `least_ms` tells it."""

    def trial() -> int:
        started = time.thread_time_ns()
        work(data)
        return time.thread_time_ns() - started

    return least_ms(trial, enough_ms=enough_ms)


def worst_of(
    cost_of: Callable[[bytes], float], starts: Iterable[bytes], *, steps: int, chance: random.Random
) -> tuple[float, bytes]:
    """Return the highest cost found in so many steps, and the bytes that cause it."""
    ranked = sorted(((cost_of(data), data) for data in starts), reverse=True)[:4]
    for _ in range(steps):
        place = chance.randrange(len(ranked))
        raw = bytearray(ranked[place][1])
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(4, len(raw))
            raw[at] = chance.choice((0, 1, 2, 12, 14, 0xC0, 0xC1, chance.randrange(256)))
        cost = cost_of(bytes(raw))
        if cost > ranked[place][0]:
            ranked[place] = (cost, bytes(raw))
    return max(ranked)


def heavy_queries(size_bytes: int = DATAGRAM_BYTES) -> dict[str, bytes]:
    """Return queries of that size whose every byte is some work for the gate."""
    room = size_bytes - len(query(records=[opt()]))
    empty = record(b"\x00", 1)
    long_owner = record(MANY_LABELS, 1)
    return {
        "options without a value": query(records=[opt(options=option(0) * (room // 4))]),
        "cookies": query(records=[opt(options=CLIENT_COOKIE * (room // 12))]),
        "keepalives": query(records=[opt(options=option(11) * (room // 4))]),
        "OPTs": query(records=[opt()] * (room // 11)),
        "records before the OPT": query(records=[*[empty] * (room // 11 - 1), opt()]),
        "owners of 127 labels": query(records=[*[long_owner] * (room // len(long_owner)), opt()]),
        "a name of 127 labels": query(questions=[MANY_LABELS + b"\x00\x01" + CLASS_IN], records=[opt()]),
        "a name of 255 bytes": query(questions=[LONGEST + b"\x00\x01" + CLASS_IN], records=[opt()]),
        "questions of 127 labels": query(questions=[MANY_LABELS + b"\x00\x01" + CLASS_IN] * 4),
        "counts beyond the end": query(records=[empty] * (room // 11), counts=(0xFFFF, 0xFFFF, 0xFFFF)),
        "many questions": query(questions=[b"\x00\x00\x01" + CLASS_IN] * (room // 5)),
    }


def _pointer(offset: int) -> bytes:
    return struct.pack("!H", 0xC000 | offset)


def _filled(make: Callable[[int], bytes], size_bytes: int, asked: bytes) -> bytes:
    records: list[bytes] = []
    left = size_bytes - 12 - len(asked)
    while len(made := make(len(records))) <= left:
        records.append(made)
        left -= len(made)
    return struct.pack("!6H", 0, 0x8000, bool(asked), len(records), 0, 0) + asked + b"".join(records)


def heavy_messages(size_bytes: int = DATAGRAM_BYTES) -> dict[str, bytes]:
    """Return messages of that size that say long names in few bytes."""
    asked = MANY_LABELS[2:] + b"\x00\x01" + CLASS_IN  # 126 labels: one can be put before it.

    def inside(number: int) -> bytes:
        return _pointer(12 + 2 * (number % 120))

    def fresh(number: int) -> bytes:
        return b"\x01" + bytes([number % 256]) + _pointer(14 + 2 * (number // 256))

    minfo, soa, naptr = 14, 6, 35
    return {
        "one name": _filled(lambda _: record(_pointer(12), minfo, _pointer(12) * 2), size_bytes, asked),
        "its parents": _filled(
            lambda n: record(inside(3 * n), minfo, inside(3 * n + 1) + inside(3 * n + 2)), size_bytes, asked
        ),
        "parents as owners": _filled(lambda n: record(inside(n), 65_280), size_bytes, asked),
        "its children": _filled(
            lambda n: record(fresh(3 * n), minfo, fresh(3 * n + 1) + fresh(3 * n + 2)), size_bytes, asked
        ),
        "children as owners": _filled(lambda n: record(fresh(n), 65_280), size_bytes, asked),
        "SOAs": _filled(lambda n: record(inside(n), soa, fresh(n) + inside(n + 1) + bytes(20)), size_bytes, asked),
        "NAPTRs": _filled(lambda n: record(inside(n), naptr, bytes(7) + fresh(n)), size_bytes, asked),
        "pointers to pointers": _chain(size_bytes, b"\x00"),
        "pointers to nowhere": _chain(size_bytes, b"\x80"),
        "names too long": _chain(size_bytes, b"\x01a" * 150),
    }


def heavy_values(key_label: bytes, size_bytes: int) -> dict[str, bytes]:
    """Return values of items whose zone, that of a key, has as many and as deep names as fit."""
    apex = bytes([len(key_label)]) + key_label + b"\x00"
    first = record(apex, 65_280)
    deepest = 12 + len(first)  # Where the name of 98 labels below the apex begins, in the second record.
    ns, cname, minfo = 2, 5, 14

    def below(number: int, make: Callable[[int], bytes]) -> bytes:
        return (first, record(b"\x01a" * 98 + _pointer(12), 65_280))[number] if number < 2 else make(number)

    def inside(number: int) -> bytes:
        return _pointer(deepest + 2 * (number % 97))

    def child(number: int) -> bytes:
        return b"\x01" + bytes([number]) + _pointer(deepest + 2)

    makes: dict[str, Callable[[int], bytes]] = {
        "children of one name": lambda n: record(child(n), 1, bytes(4)),
        "children at many depths": lambda n: record(b"\x01" + bytes([n]) + inside(n), 65_280),
        "delegations": lambda n: record(child(n), ns, inside(n)),
        "aliases": lambda n: record(inside(n), cname if n % 2 else minfo, child(n) * (1 if n % 2 else 2)),
    }
    values = {name: _filled(lambda n, m=make: below(n, m), size_bytes, b"") for name, make in makes.items()}  # type: ignore[misc]
    chains = _filled(lambda n: first if not n else record(bytes([1, n]) * 100 + _pointer(12), 65_280), size_bytes, b"")
    return {**values, "chains that share nothing": chains}


def _chain(size_bytes: int, end: bytes) -> bytes:
    """Return a message whose first record hides pointers to one another, and whose others start at the last one."""
    asked = b"\x00\x00\x01" + CLASS_IN
    start = 12 + len(asked) + 11
    hidden = bytearray(end)
    last = start
    for _ in range(120):
        following = start + len(hidden)
        hidden += _pointer(last)
        last = following
    first = record(b"\x00", 65_280, bytes(hidden))
    return _filled(lambda n: first if n == 0 else record(b"\x00", 2, _pointer(last - 2 * (n % 2))), size_bytes, asked)
