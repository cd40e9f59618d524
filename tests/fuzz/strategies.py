"""DNS queries as hypothesis builds them: each part is drawn apart, so that any of them may be the odd one.

Sane parts come first in every choice, which is what a failing example shrinks towards.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypothesis import strategies as st

from p2pdns.addresses import Address
from tests.fuzz.door import HERE
from tests.fuzz.queries import COOKIE, EDE, KEEPALIVE, LONGEST, MANY_LABELS, PADDING, TSIG_RDATA, option, record

OPT, TSIG, ANY_CLASS = 41, 250, 255

labels = st.one_of(
    st.sampled_from([b"www", b"example", b"wWw", b"n1", b"n2", b"n3", b"p2p", b"alt", b"y" * 52]),
    st.binary(min_size=1, max_size=63),
).map(lambda raw: bytes([len(raw)]) + raw)
odd_labels = st.one_of(
    labels,
    st.sampled_from([b"\x40", b"\x80a", b"\xbf", b"\xc0\x0c", b"\xc0\x00", b"\xff\xff", b"\x3f", b"\x05abc"]),
)
names = st.lists(labels, max_size=6).map(lambda parts: b"".join(parts) + b"\x00")
odd_names = st.one_of(
    names,
    st.sampled_from([LONGEST, MANY_LABELS, b"\x01a" + MANY_LABELS, b"\xc0\x0c", b"\xc0\x0d", b"\x01a\xc0\x0c"]),
    st.lists(odd_labels, max_size=8).map(lambda parts: b"".join(parts) + b"\x00"),
    st.lists(odd_labels, max_size=3).map(b"".join),
)
types = st.one_of(st.sampled_from([1, 28, 65, 16, 2, 6, 255]), st.sampled_from([0, 41, 128, 249, 250, 251, 252, 65535]))
classes = st.sampled_from([1, 1, 1, 3, 254, 255, 0])
sane_questions = st.tuples(names, st.sampled_from([1, 28, 16, 65]), st.just(1))
questions = st.one_of(sane_questions, st.tuples(odd_names, types, classes)).map(
    lambda parts: parts[0] + struct.pack("!HH", parts[1], parts[2])
)

cookies = st.one_of(
    st.sampled_from([8, 24, 16, 40]), st.sampled_from([0, 1, 7, 9, 15, 41, 60]), st.integers(0, 60)
).flatmap(lambda size: st.binary(min_size=size, max_size=size))
options = st.one_of(
    cookies.map(lambda value: option(COOKIE, value)),
    st.sampled_from([b"", b"", b"\x00\x64", b"\x00"]).map(lambda value: option(KEEPALIVE, value)),
    st.integers(0, 500).map(lambda size: option(PADDING, bytes(size))),
    st.binary(max_size=40).map(lambda text: option(EDE, text)),
    st.tuples(st.integers(0, 65535), st.binary(max_size=40)).map(lambda parts: option(*parts)),
    st.binary(max_size=5),
)
sizes = st.one_of(st.sampled_from([1232, 512, 4096, 600]), st.integers(0, 65535))
opts = st.builds(
    lambda owner, size, rcode, version, flags, given, cut: _opt(owner, size, (rcode, version, flags), given, cut),
    st.sampled_from([b"\x00"] * 6 + [b"\x01a\x00", b"\xc0\x0c"]),
    sizes,
    st.sampled_from([0, 0, 0, 255]),
    st.sampled_from([0, 0, 0, 0, 1, 255]),
    st.sampled_from([0, 0x8000, 0xFFFF, 0x0001]),
    st.lists(options, max_size=4),
    st.sampled_from([0, 0, 0, 0, 1, -1, 300]),
)
others = st.one_of(
    st.just(record(b"\x00", TSIG, TSIG_RDATA, ANY_CLASS)),
    st.builds(record, odd_names, types, st.binary(max_size=30), classes, st.integers(0, 2**32 - 1)),
    st.binary(max_size=20),
)


def _opt(owner: bytes, size: int, ttl: tuple[int, int, int], given: list[bytes], cut: int) -> bytes:
    rdata = b"".join(given)
    length = max(0, len(rdata) + cut) & 0xFFFF
    return owner + struct.pack("!HHBBHH", OPT, size, *ttl, length) + rdata


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """A query whose every part may be wrong, its counts too."""
    flags = draw(st.one_of(st.sampled_from([0x0100, 0x0120, 0x0110, 0]), st.integers(0, 0xFFFF)))
    asked = draw(st.one_of(st.lists(questions, min_size=1, max_size=1), st.lists(questions, max_size=3)))
    sections = [
        draw(st.one_of(st.just([]), st.lists(others, max_size=2))),
        draw(st.one_of(st.just([]), st.lists(others, max_size=2))),
        draw(st.one_of(st.lists(opts, max_size=1), st.lists(st.one_of(opts, opts, others), max_size=4))),
    ]
    counts = [len(asked), *map(len, sections)]
    if draw(st.integers(0, 4)) == 4:
        at = draw(st.integers(0, 3))
        counts[at] = draw(st.sampled_from([0, 1, 2, 3, 9, 65535]))
    tail = draw(st.one_of(st.just(b""), st.binary(max_size=30)))
    head = draw(st.binary(min_size=2, max_size=2)) + struct.pack("!5H", flags, *counts)
    return head + b"".join([*asked, *sections[0], *sections[1], *sections[2]]) + tail


# What RDATA is made of, by type: names and bytes beside them (RFC 1035 §3.3, and the younger ones with a name inside).
SHAPES: dict[int, tuple[int, ...]] = {
    1: (4,), 28: (16,), 2: (0,), 5: (0,), 12: (0,), 39: (0,), 14: (0, 0), 15: (2, 0), 33: (6, 0), 6: (0, 0, 20),
    65: (2, 0, 4), 16: (9,), 65_280: (30,),
}  # fmt: skip
rdata_types = st.sampled_from(sorted(SHAPES))


class _Written:
    """A message while it is written, which knows which names a pointer may lead to, and how long those are."""

    def __init__(self, draw: st.DrawFn, *, is_sound: bool) -> None:
        self.raw = bytearray(12)
        self._suffixes: list[tuple[int, int]] = []
        self._draw = draw
        self._is_sound = is_sound

    def name(self) -> None:
        """Append a name that ends in a zero or in a pointer; where nothing need be sound, maybe in anything."""
        draw = self._draw
        parts = draw(st.lists(labels if self._is_sound else odd_labels, max_size=3))
        own_bytes = sum(map(len, parts))
        reachable = [suffix for suffix in self._suffixes if own_bytes + suffix[1] <= 255]
        offset, suffix_bytes = draw(st.sampled_from([(0, 1), *reachable, *reachable]))
        for label in parts:
            self._suffixes.append((len(self.raw), own_bytes + suffix_bytes))
            own_bytes -= len(label)
            self.raw += label
        if not self._is_sound and draw(st.integers(0, 3)) == 3:
            offset = draw(st.integers(0, len(self.raw) + 20))
        self.raw += struct.pack("!H", 0xC000 | offset & 0x3FFF) if offset else b"\x00"

    def record(self, rtype: int, off_by: int) -> None:
        """Append a record whose stated length may be wrong."""
        self.name()
        self.raw += struct.pack("!HHIH", rtype, 1, self._draw(st.integers(0, 2**32 - 1)), 0)
        start = len(self.raw)
        for size in SHAPES[rtype]:
            if size:
                self.raw += self._draw(st.binary(min_size=size, max_size=size))
            else:
                self.name()
        length = max(0, len(self.raw) - start + off_by)
        self.raw[start - 2 : start] = struct.pack("!H", length)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message whose names lean on one another; in half of them lengths, counts, labels and pointers may be wrong."""
    is_sound = draw(st.booleans())
    written = _Written(draw, is_sound=is_sound)
    has_question = draw(st.booleans())
    if has_question:
        written.name()
        written.raw += struct.pack("!HH", draw(types), 1)
    off_by = st.just(0) if is_sound else st.sampled_from([0, 0, 0, 0, 0, 1, -1, 9])
    counts = draw(st.lists(st.integers(0, 4), min_size=3, max_size=3))
    for _ in range(sum(counts)):
        written.record(draw(rdata_types), draw(off_by))
    if not is_sound and draw(st.integers(0, 3)) == 3:
        counts[draw(st.integers(0, 2))] += draw(st.sampled_from([1, -1, 300])) % 65_536
    written.raw[:12] = struct.pack("!6H", 0, draw(st.integers(0, 65_535)), has_question, *(n % 65_536 for n in counts))
    return bytes(written.raw)


@dataclass(frozen=True)
class Sent:
    """One message of a client: what, over which transport, from where, how long after the one before."""

    data: bytes
    is_stream: bool
    address: Address
    after_s: float


addresses: st.SearchStrategy[Address] = st.sampled_from(
    [HERE, HERE, HERE, ("::1", 5), ("192.0.2.7", 9), ("10.0.0.1", 7)]
)
sent = st.builds(
    Sent,
    queries(),
    st.booleans(),
    addresses,
    st.one_of(st.just(0.0), st.sampled_from([0.3, 1.0, 31.0, 400.0, 90000.0])),
)
conversations = st.lists(sent, min_size=1, max_size=5)
