"""Bencode (BEP 3): byte strings, integers, lists and dictionaries, bounded.

Guarantees: `encode` writes the one canonical form (sorted, unique keys); `decode` ends in a value or a
`FormatError`, within bounds on size, depth, item count and digits, and refuses every number that has a second
spelling ("03", "-0", a length with a leading zero) and every key that occurs twice.

Keys out of order are read, not refused: libtorrent and older clients send them, and the order of the keys of a
message decides nothing. What is hashed or signed must be canonical, and `krpc` sees to that.
Does not know what a message is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from p2pdns.errors import FormatError

Value: TypeAlias = "bytes | int | list[Value] | dict[bytes, Value]"
Encodable: TypeAlias = "bytes | int | Sequence[Encodable] | Mapping[bytes, Encodable]"

SIZE_BYTES_MAX = 65_535  # No UDP datagram is longer.
DEPTH_MAX = 16  # KRPC needs 3; a stranger's item value may nest, the Python stack may not.
ITEM_COUNT_MAX = 2_048  # A full Ethernet frame holds at most 750 of the shortest items.
INTEGER_DIGITS_MAX = 20  # Unsigned 64-bit integers have 20; turning long ones into int is quadratic.
LENGTH_DIGITS_MAX = 5  # As many as SIZE_BYTES_MAX has.

_INT, _LIST, _DICT, _END, _ZERO, _NINE = b"ilde09"
# The one valid spelling of each length in a DHT message: what is found here needs no further check.
_LENGTHS = {b"%d" % size: size for size in range(2_049)}
# The same for the first two and the first three bytes of a string of one and of two digits: nearly all keys and most
# members have so many, and one look at a dictionary finds both the length and the colon.
_SHORT = {b"%d:" % size: size for size in range(10)}
_MIDDLE = {b"%d:" % size: size for size in range(10, 100)}


def encode(value: Encodable) -> bytes:
    """Return the canonical form of `value`.

    >>> encode({b"b": [1, b"x"], b"a": -7})
    b'd1:ai-7e1:bli1e1:xee'
    """
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: Encodable, parts: list[bytes]) -> None:
    if type(value) is bytes:
        parts.append(b"%d:%b" % (len(value), value))
    elif type(value) is int:
        parts.append(b"i%de" % value)
    elif isinstance(value, Mapping):
        parts.append(b"d")
        for key in sorted(value):
            parts.append(b"%d:%b" % (len(key), key))
            _write(value[key], parts)
        parts.append(b"e")
    elif isinstance(value, (list, tuple)):
        parts.append(b"l")
        for member in value:
            _write(member, parts)
        parts.append(b"e")
    else:
        # bool is an int to Python and nothing to bencode; it lands here, like every other mistake of ours.
        raise TypeError(f"bencode: no form for {type(value).__name__}")


def decode(data: bytes) -> Value:
    """Return the value that all of `data` spells; `FormatError` names the first rule that it breaks."""
    if len(data) > SIZE_BYTES_MAX:
        raise FormatError("bencode-too-long", f"{len(data)} bytes, {SIZE_BYTES_MAX} allowed")
    reader = _Reader(data)
    try:
        value, end = reader.read(0, DEPTH_MAX)
    except IndexError:
        raise FormatError("bencode-truncated") from None
    if end != len(data):
        raise FormatError("bencode-tail", f"{len(data) - end} bytes after the value")
    return value


class _Reader:
    # Each method takes an offset and returns what is there and the offset after it.

    __slots__ = ("data", "items_left")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.items_left = ITEM_COUNT_MAX

    def read(self, start: int, depth_left: int) -> tuple[Value, int]:
        self.items_left -= 1
        if self.items_left < 0:
            raise FormatError("bencode-too-many-items", f"{ITEM_COUNT_MAX} allowed")
        first = self.data[start]
        if _ZERO <= first <= _NINE:
            return self.read_bytes(start)
        if first == _INT:
            return self.read_integer(start + 1)
        if first not in (_LIST, _DICT):
            raise FormatError("bencode-type", f"byte {first:#04x} opens no value")
        if depth_left == 0:
            raise FormatError("bencode-too-deep", f"{DEPTH_MAX} levels allowed")
        if first == _DICT:
            return self.read_dict(start + 1, depth_left - 1)
        members: list[Value] = []
        at = start + 1
        while self.data[at] != _END:
            member, at = self.read(at, depth_left - 1)
            members.append(member)
        return members, at + 1

    def read_bytes(self, start: int) -> tuple[bytes, int]:
        data = self.data
        colon = data.find(b":", start, start + LENGTH_DIGITS_MAX + 1)
        digits = data[start:colon] if colon > 0 else b""
        size = _LENGTHS.get(digits)
        if size is None:
            # isdigit first: int() would read "1_0" and " 5" too.
            if not digits.isdigit() or (digits[0] == _ZERO and len(digits) > 1):
                raise FormatError("bencode-length")
            size = int(digits)
        end = colon + 1 + size
        if end > len(data):
            raise FormatError("bencode-truncated")
        return data[colon + 1 : end], end

    def read_integer(self, start: int) -> tuple[int, int]:
        end = self.data.find(b"e", start, start + INTEGER_DIGITS_MAX + 2)
        text = self.data[start:end] if end > 0 else b""
        digits = text[1:] if text[:1] == b"-" else text
        has_second_form = digits[:1] == b"0" and len(text) > 1
        if not digits.isdigit() or len(digits) > INTEGER_DIGITS_MAX or has_second_form:
            raise FormatError("bencode-integer")
        return int(text), end + 1

    def read_dict(self, start: int, depth_left: int) -> tuple[dict[bytes, Value], int]:
        # Keys and most members of a message are short strings. What `read_bytes` does is done here for those that are
        # as simple as can be, and everything else goes the long way; this is half of what a datagram costs.
        data, size_of, short, middle = self.data, _LENGTHS.get, _SHORT.get, _MIDDLE.get
        find, size_bytes = data.find, len(data)
        result: dict[bytes, Value] = {}
        at = start
        while data[at] != _END:
            size = short(data[at : at + 2])
            if size is None or at + 2 + size > size_bytes:
                key, at = self.read_bytes(at)
            else:
                start = at + 2
                at = start + size
                key = data[start:at]
            if key in result:
                raise FormatError("bencode-duplicate-key")
            size, colon = middle(data[at : at + 3]), at + 2
            if size is None:
                colon = find(b":", at, at + LENGTH_DIGITS_MAX)
                size = size_of(data[at:colon]) if colon > 0 else None
            if size is None or colon + size >= size_bytes or self.items_left <= 0:
                result[key], at = self.read(at, depth_left)
            else:
                self.items_left -= 1
                at = colon + 1 + size
                result[key] = data[colon + 1 : at]
        return result, at + 1
