"""Absolute domain names: labels, comparison, canonical order, wire and text.

A `Name` keeps the octets of its labels as they were given and compares without regard to ASCII case (RFC 4343).
Guarantees: a Name that exists has labels of 1 to 63 octets and at most 255 octets on the wire (RFC 1035 §3.1).
Does not know compression pointers (see `message`), nor which names are ours.
"""

from __future__ import annotations

import functools
import re

from p2pdns.errors import FormatError

NAME_OCTETS_MAX = 255  # RFC 1035 §3.1, the final zero octet included
LABEL_OCTETS_MAX = 63  # RFC 1035 §3.1: two bits of the length octet are taken
ZONE_KEY_LABEL_CHARACTERS = 52  # 256 bits at five bits a character

_ZONE_KEY_LABEL = re.compile(rb"[ybndrfg8ejkmcpqxot1uwisza345h769]{52}", re.IGNORECASE)
# RFC 1035 §5.1: these need a backslash in text; everything else printable stands for itself.
_ESCAPED = frozenset(b'."\\;()@$')


def is_zone_key_label(label: bytes) -> bool:
    """Return whether a label has the shape of a zone key: 52 characters of z-base-32, any case."""
    return len(label) == ZONE_KEY_LABEL_CHARACTERS and _ZONE_KEY_LABEL.fullmatch(label) is not None


def _label_text(label: bytes) -> str:
    parts = []
    for octet in label:
        if octet in _ESCAPED:
            parts.append("\\" + chr(octet))
        elif 0x21 <= octet <= 0x7E:
            parts.append(chr(octet))
        else:
            parts.append(f"\\{octet:03d}")
    return "".join(parts)


def _read_escape(text: str, index: int) -> tuple[int, int]:
    """Return (octet, index after it) for the escape whose backslash stands at `index`."""
    digits = text[index + 1 : index + 4]
    if digits[:1].isdigit():
        if len(digits) == 3 and digits.isascii() and digits.isdigit() and int(digits) <= 255:
            return int(digits), index + 4
        raise FormatError("bad-escape", text)
    if index + 1 >= len(text) or not text[index + 1].isascii():
        raise FormatError("bad-escape", text)
    return ord(text[index + 1]), index + 2


@functools.total_ordering
class Name:
    """An absolute domain name.

    >>> Name.read("WWW.example") == Name.read("www.example.")
    True
    >>> str(Name.read("a b.example"))
    'a\\\\032b.example.'
    """

    __slots__ = ("_folded", "_hash", "labels")

    labels: tuple[bytes, ...]

    def __init__(self, labels: tuple[bytes, ...]) -> None:
        size = 1
        for label in labels:
            if not label:
                raise FormatError("empty-label")
            if len(label) > LABEL_OCTETS_MAX:
                raise FormatError("label-too-long", f"{len(label)} octets, {LABEL_OCTETS_MAX} allowed")
            size += len(label) + 1
        if size > NAME_OCTETS_MAX:
            raise FormatError("name-too-long", f"{size} octets, {NAME_OCTETS_MAX} allowed")
        self.labels = labels
        # bytes.lower() touches ASCII letters only, which is what RFC 4343 asks for.
        self._folded = tuple([label.lower() for label in labels])
        self._hash = hash(self._folded)

    @classmethod
    def root(cls) -> Name:
        """Return the root name."""
        return cls(())

    @classmethod
    def of(cls, *labels: bytes) -> Name:
        """Return the name with these labels, the leftmost first."""
        return cls(labels)

    @classmethod
    def read(cls, text: str) -> Name:
        """Return the absolute name a text stands for, with or without its final dot; `\\DDD` and `\\X` escape."""
        if text in (".", ""):
            if text:
                return cls(())
            raise FormatError("empty-name")
        labels: list[bytes] = []
        label = bytearray()
        index = 0
        while index < len(text):
            character = text[index]
            if character == "\\":
                octet, index = _read_escape(text, index)
                label.append(octet)
                continue
            if character == ".":
                labels.append(bytes(label))
                label.clear()
            elif character.isascii():
                label.append(ord(character))
            else:
                raise FormatError("not-ascii", text)
            index += 1
        if label or not text.endswith("."):
            labels.append(bytes(label))
        return cls(tuple(labels))

    @classmethod
    def parse(cls, wire: bytes, offset: int = 0) -> tuple[Name, int]:
        """Return (name, offset after it) from uncompressed wire form."""
        labels: list[bytes] = []
        # 127 one-octet labels fill a name; one more round sees the root.
        for _ in range(NAME_OCTETS_MAX // 2 + 1):
            if offset >= len(wire):
                raise FormatError("name-truncated")
            length = wire[offset]
            if length > LABEL_OCTETS_MAX:
                raise FormatError("name-compressed" if length >= 0xC0 else "bad-label-type")
            offset += 1
            if not length:
                return cls(tuple(labels)), offset
            label = wire[offset : offset + length]
            if len(label) != length:
                raise FormatError("name-truncated")
            labels.append(bytes(label))
            offset += length
        raise FormatError("name-too-long")

    def wire(self) -> bytes:
        """Return the uncompressed wire form."""
        return b"".join([bytes((len(label),)) + label for label in self.labels]) + b"\x00"

    def folded(self) -> Name:
        """Return the name in lower case."""
        return Name(self._folded)

    def is_at_or_below(self, apex: Name) -> bool:
        """Return whether this name is `apex` or ends in it."""
        count = len(apex._folded)
        return count == 0 or self._folded[-count:] == apex._folded

    def relative_to(self, apex: Name) -> tuple[bytes, ...]:
        """Return the labels in front of `apex`; the name must be at or below it."""
        assert self.is_at_or_below(apex), f"{self} is not below {apex}"
        return self.labels[: len(self.labels) - len(apex.labels)]

    def parent(self) -> Name:
        """Return the name without its first label; the root has none."""
        assert self.labels, "the root has no parent"
        return Name(self.labels[1:])

    def child(self, label: bytes) -> Name:
        """Return the name with one more label in front."""
        return Name((label, *self.labels))

    def under(self, suffix: Name) -> Name:
        """Return this name's labels followed by those of `suffix`; FormatError "name-too-long" past 255."""
        return Name(self.labels + suffix.labels)

    def canonical_key(self) -> tuple[bytes, ...]:
        """Return what sorts names in canonical order (RFC 4034 §6.1): labels in lower case from the right."""
        return self._folded[::-1]

    @property
    def is_wildcard(self) -> bool:
        """Whether the first label is a lone asterisk (RFC 4592 §2.1.1)."""
        return bool(self.labels) and self.labels[0] == b"*"

    @property
    def last_label(self) -> bytes | None:
        """The rightmost label as given, None for the root."""
        return self.labels[-1] if self.labels else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Name) and self._folded == other._folded

    def __lt__(self, other: Name) -> bool:
        return self.canonical_key() < other.canonical_key()

    def __hash__(self) -> int:
        return self._hash

    def __len__(self) -> int:
        return len(self.labels)

    def __str__(self) -> str:
        return "".join(_label_text(label) + "." for label in self.labels) or "."

    def __repr__(self) -> str:
        return f"Name.read({str(self)!r})"
