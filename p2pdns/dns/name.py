"""Absolute domain names: labels, comparison, canonical order, ancestry, text and uncompressed wire form.

Guarantees: a `Name` that exists fits the wire: labels of 1–63 bytes, 255 bytes in all. It keeps its bytes as given;
`==`, `hash` and every test of ancestry ignore ASCII case and nothing else (RFC 4343).
Does not know: compression (dns/message), zone keys (items/keys).
"""

from __future__ import annotations

import re

from p2pdns.dns.labels import LABEL_BYTES_MAX, NAME_BYTES_MAX, name_end
from p2pdns.errors import FormatError

NAME_CHARACTERS_MAX = 4 * NAME_BYTES_MAX  # Every byte written as \DDD; longer text cannot be a name.

_LENGTHS = tuple([bytes((size,)) for size in range(LABEL_BYTES_MAX + 1)])  # The byte before a label of each size.
# Bytes that stand for themselves in text; any other is escaped.
_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*/+:=!#%&',<>?[]^`{|}~"
# One piece of a name in text: a byte, or the dot behind a label.
_PIECE = re.compile(
    r"\\(?P<code>[0-9]{3})|\\(?P<escaped>[ -/:-~])|(?P<bad>\\)|(?P<plain>[!-~])|(?P<strange>.)", re.DOTALL
)


class Name:
    """An absolute domain name.

    >>> Name.read("www.Example") == Name.of(b"WWW", b"example")
    True
    >>> str(Name.read("www.Example"))
    'www.Example.'
    """

    __slots__ = ("_hash", "_key", "_wire", "labels")

    labels: tuple[bytes, ...]
    _key: tuple[bytes, ...]
    _hash: int
    _wire: bytes | None  # Kept once it is made: the owner of a thousand records is written a thousand times.

    def __init__(self, labels: tuple[bytes, ...]) -> None:
        # A message may hold hundreds of names of 127 labels, so nothing here is done label by label.
        sizes = list(map(len, labels))
        if sizes and (0 in sizes or max(sizes) > LABEL_BYTES_MAX):
            wrong = next(size for size in sizes if not 0 < size <= LABEL_BYTES_MAX)
            reason = "label-too-long" if wrong else "empty-label"
            raise FormatError(reason, f"{wrong} bytes, {LABEL_BYTES_MAX} allowed")
        size_bytes = 1 + len(sizes) + sum(sizes)
        if size_bytes > NAME_BYTES_MAX:
            raise FormatError("name-too-long", f"{size_bytes} bytes, {NAME_BYTES_MAX} allowed")
        self._adopt(labels, None)

    def _adopt(self, labels: tuple[bytes, ...], wire: bytes | None) -> None:
        key = tuple(map(bytes.lower, reversed(labels)))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_hash", hash(key))
        object.__setattr__(self, "_wire", wire)

    @classmethod
    def measured(cls, labels: tuple[bytes, ...], wire: bytes | None = None) -> Name:
        """Return the name of labels that the caller knows to fit the wire, and its wire form where that is known."""
        name = cls.__new__(cls)
        name._adopt(labels, wire)
        return name

    def __setattr__(self, attribute: str, value: object) -> None:
        raise AttributeError(f"a name does not change: {attribute}")

    def __reduce__(self) -> tuple[type[Name], tuple[tuple[bytes, ...]]]:
        return (Name, (self.labels,))

    @staticmethod
    def root() -> Name:
        """Return the name without labels."""
        return _ROOT

    @classmethod
    def of(cls, *labels: bytes) -> Name:
        """Return the name made of these labels, the one nearest the root last."""
        return cls(labels)

    @classmethod
    def read(cls, text: str) -> Name:
        r"""Return the absolute name that a text says, with or without its final dot.

        `\DDD` is a byte in decimal, any other `\x` is x itself (RFC 1035 §5.1). Text outside ASCII is refused:
        its form in ASCII depends on the version of IDNA that the typing program uses.

        >>> Name.read(r"a\.b.c").labels
        (b'a.b', b'c')
        """
        if text == ".":
            return _ROOT
        if not text:
            raise FormatError("empty-name")
        if len(text) > NAME_CHARACTERS_MAX:
            raise FormatError("name-too-long", f"{len(text)} characters, {NAME_CHARACTERS_MAX} allowed")
        labels = _labels_of_text(text)
        if labels[-1] == b"":
            labels.pop()
        return cls(tuple(labels))

    @classmethod
    def parse(cls, wire: bytes, offset: int = 0) -> tuple[Name, int]:
        """Return the uncompressed name at `offset`, and the offset after it."""
        end = name_end(wire, offset)
        labels = []
        at = offset
        while length := wire[at]:
            labels.append(bytes(wire[at + 1 : at + 1 + length]))
            at += 1 + length
        return cls.measured(tuple(labels), bytes(wire[offset:end])), end

    def wire(self) -> bytes:
        """Return the uncompressed wire form, case as given."""
        wire = self._wire
        if wire is None:
            wire = b"".join([_LENGTHS[len(label)] + label for label in self.labels]) + b"\x00"
            object.__setattr__(self, "_wire", wire)
        return wire

    def __str__(self) -> str:
        labels = self.labels
        # Most names have plain bytes only.
        if labels and not b"".join(labels).translate(None, _PLAIN):
            return b".".join(labels).decode("ascii") + "."
        return "".join(["".join(map(_text_of_byte, label)) + "." for label in labels]) or "."

    def __repr__(self) -> str:
        return f"<Name {self}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Name):
            return NotImplemented
        # The hash comes first: hostile messages make us compare thousands of long names that differ in one label.
        return self._hash == other._hash and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __lt__(self, other: Name) -> bool:
        return self._key < other._key

    def canonical_key(self) -> tuple[bytes, ...]:
        """Return the key of the canonical order: lower-case labels, nearest the root first (RFC 4034 §6.1).

        >>> names = [Name.read(text) for text in ("z.example", "a.example", "yljkjljk.a.example", "example")]
        >>> " ".join(str(name) for name in sorted(names))
        'example. a.example. yljkjljk.a.example. z.example.'
        """
        return self._key

    @property
    def last_label(self) -> bytes | None:
        return self.labels[-1] if self.labels else None

    @property
    def is_wildcard(self) -> bool:
        return self.labels[:1] == (b"*",)

    def folded(self) -> Name:
        """Return the name in lower case."""
        # No length of a label is a letter, so the wire form folds as a whole. Most names are folded already.
        wire = self.wire()
        if wire.lower() == wire:
            return self
        return Name.measured(tuple([label.lower() for label in self.labels]))

    def is_at_or_below(self, apex: Name) -> bool:
        """Return whether this is `apex` or a name below it."""
        key = apex._key
        return self._key[: len(key)] == key

    def relative_to(self, apex: Name) -> tuple[bytes, ...]:
        """Return the labels in front of `apex`, which must be an ancestor or the name itself."""
        assert self.is_at_or_below(apex), f"{self} is not below {apex}"
        return self.labels[: len(self.labels) - len(apex.labels)]

    def text_in(self, apex: Name) -> str:
        """Return the name as the zone file of `apex` says it: relative below the apex, `@` at it, else absolute.

        >>> apex = Name.read("example.")
        >>> [Name.read(text).text_in(apex) for text in ("www.example.", "example.", "www.test.")]
        ['www', '@', 'www.test.']
        """
        if not self.is_at_or_below(apex):
            return str(self)
        labels = self.relative_to(apex)
        return str(Name.measured(labels)).removesuffix(".") if labels else "@"

    def parent(self) -> Name:
        """Return the name without its leftmost label; the root has none."""
        assert self.labels, "the root has no parent"
        return Name.measured(self.labels[1:])

    def ancestor(self, label_count: int) -> Name:
        """Return the ancestor (or the name itself) that has this many labels."""
        assert 0 <= label_count <= len(self.labels), f"{self} has no ancestor of {label_count} labels"
        return Name.measured(self.labels[len(self.labels) - label_count :])

    def child(self, label: bytes) -> Name:
        """Return the name one label below; FormatError where that name is too long."""
        return Name((label, *self.labels))

    def under(self, suffix: Name) -> Name:
        """Return this name with `suffix` appended; FormatError `name-too-long` past 255 bytes.

        >>> Name.read("www").under(Name.read("p2p.alt"))
        <Name www.p2p.alt.>
        """
        return Name(self.labels + suffix.labels)

    def moved(self, old_apex: Name, new_apex: Name) -> Name:
        """Return this name with its end `old_apex` replaced by `new_apex`; FormatError `name-too-long`."""
        return Name(self.relative_to(old_apex) + new_apex.labels)


def _labels_of_text(text: str) -> list[bytes]:
    labels = [bytearray()]
    for piece in _PIECE.finditer(text):
        if piece["strange"]:
            raise FormatError("not-ascii", f"character {piece.end()} of the name; write international names as xn--")
        if piece["bad"]:
            raise FormatError("bad-escape", "a backslash is followed by three digits or by one character")
        if piece[0] == ".":
            labels.append(bytearray())
        elif not piece["code"]:
            labels[-1] += (piece["escaped"] or piece["plain"]).encode("ascii")
        elif int(piece["code"]) <= 255:
            labels[-1].append(int(piece["code"]))
        else:
            raise FormatError("bad-escape", f"{piece[0]} is no byte")
    return [bytes(label) for label in labels]


def _text_of_byte(byte: int) -> str:
    if byte in _PLAIN:
        return chr(byte)
    return f"\\{chr(byte)}" if 32 < byte < 127 else f"\\{byte:03d}"


_ROOT = Name(())
