"""Absolute domain names: labels, comparison, canonical order, ancestry, text and uncompressed wire form.

Guarantees: a `Name` that exists fits the wire (labels of 1–63 bytes, 255 bytes in all); it keeps its bytes as
given, while `==`, `hash` and every ancestry test ignore ASCII case and nothing else (RFC 4343).
Does not know: compression (dns/message.py), what a zone key is beyond its shape (items/keys.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pdns.dns.labels import LABEL_BYTES_MAX, NAME_BYTES_MAX
from p2pdns.errors import FormatError

NAME_CHARACTERS_MAX = 4 * NAME_BYTES_MAX  # Every byte written as \DDD; longer text cannot be a name.

_LENGTHS = tuple([bytes((size,)) for size in range(LABEL_BYTES_MAX + 1)])  # The byte before a label of each size.
_PLAIN_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*/+:=!#%&',<>?[]^`{|}~"
_PLAIN = frozenset(_PLAIN_BYTES)


def wire_of(labels: Iterable[bytes]) -> bytes:
    """Return the uncompressed wire form of labels that are known to fit it.

    >>> wire_of([b"www", b"Example"])
    b'\\x03www\\x07Example\\x00'
    """
    return b"".join([_LENGTHS[len(label)] + label for label in labels]) + b"\x00"


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
    _wire: bytes | None  # Made when it is asked for: the owner of a thousand records is written a thousand times.

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
        self._adopt(labels)

    def _adopt(self, labels: tuple[bytes, ...], wire: bytes | None = None) -> None:
        # The key is what everything compares by: lower case, nearest the root first (RFC 4034 §6.1).
        key = tuple(map(bytes.lower, reversed(labels)))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_hash", hash(key))
        object.__setattr__(self, "_wire", wire)

    @classmethod
    def _trusted(cls, labels: tuple[bytes, ...]) -> Name:
        # For pieces of names that were measured already.
        name = cls.__new__(cls)
        name._adopt(labels)
        return name

    @classmethod
    def measured(cls, labels: tuple[bytes, ...], wire: bytes) -> Name:
        """Return the name that fits the wire in this form, which its reader has measured label by label."""
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
        what it would become depends on a version of IDNA, which belongs to the one who types.

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
        labels = []
        start, size = offset, len(wire)
        while True:
            if offset >= size:
                raise FormatError("truncated-name", f"at byte {offset}")
            length = wire[offset]
            offset += 1
            if length == 0:
                break
            if length > LABEL_BYTES_MAX:
                raise FormatError("compressed-name" if length >= 0xC0 else "label-type", f"at byte {offset - 1}")
            label = bytes(wire[offset : offset + length])
            if len(label) < length:
                raise FormatError("truncated-name", f"at byte {offset}")
            labels.append(label)
            offset += length
            if offset - start >= NAME_BYTES_MAX:
                raise FormatError("name-too-long", f"more than {NAME_BYTES_MAX} bytes")
        return cls.measured(tuple(labels), bytes(wire[start:offset])), offset

    def wire(self) -> bytes:
        """Return the uncompressed wire form, case as given."""
        if self._wire is None:
            object.__setattr__(self, "_wire", wire_of(self.labels))
        assert self._wire is not None, "it was made just now"
        return self._wire

    def __str__(self) -> str:
        labels = self.labels
        # What is left when the plain bytes are taken away: nothing, for most names.
        if labels and not b"".join(labels).translate(None, _PLAIN_BYTES):
            return b".".join(labels).decode("ascii") + "."
        return "".join([_text_of_label(label) + "." for label in labels]) or "."

    def __repr__(self) -> str:
        return f"<Name {self}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Name):
            return NotImplemented
        # The hash first: names of a hundred labels that differ in the last are compared by the thousand.
        return self._hash == other._hash and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __lt__(self, other: Name) -> bool:
        return self.canonical_key() < other.canonical_key()

    def canonical_key(self) -> tuple[bytes, ...]:
        """Return what sorts names canonically: lower-case labels, nearest the root first (RFC 4034 §6.1).

        >>> names = [Name.read(text) for text in ("z.example", "a.example", "yljkjljk.a.example", "example")]
        >>> " ".join(str(name) for name in sorted(names))
        'example. a.example. yljkjljk.a.example. z.example.'
        """
        return self._key

    @property
    def last_label(self) -> bytes | None:
        """The label nearest the root; None for the root itself."""
        return self.labels[-1] if self.labels else None

    @property
    def is_wildcard(self) -> bool:
        """Whether the leftmost label is an asterisk (RFC 4592)."""
        return self.labels[:1] == (b"*",)

    def folded(self) -> Name:
        """Return the name in lower case."""
        # Lengths of labels are no letters, so that the bytes fold as a whole; most names are folded already.
        wire = self.wire()
        if wire.lower() == wire:
            return self
        return Name._trusted(tuple([label.lower() for label in self.labels]))

    def is_at_or_below(self, apex: Name) -> bool:
        """Return whether this is `apex` or a name below it."""
        key = apex.canonical_key()
        return self.canonical_key()[: len(key)] == key

    def relative_to(self, apex: Name) -> tuple[bytes, ...]:
        """Return the labels in front of `apex`, which must be an ancestor or the name itself."""
        assert self.is_at_or_below(apex), f"{self} is not below {apex}"
        return self.labels[: len(self.labels) - len(apex.labels)]

    def text_in(self, apex: Name) -> str:
        """Return the name as the zone file of `apex` has it: relative, `@` for the apex itself, absolute elsewhere.

        >>> apex = Name.read("example.")
        >>> [Name.read(text).text_in(apex) for text in ("www.example.", "example.", "www.test.")]
        ['www', '@', 'www.test.']
        """
        if not self.is_at_or_below(apex):
            return str(self)
        labels = self.relative_to(apex)
        return str(Name._trusted(labels)).removesuffix(".") if labels else "@"

    def parent(self) -> Name:
        """Return the name without its leftmost label; the root has none."""
        assert self.labels, "the root has no parent"
        return Name._trusted(self.labels[1:])

    def ancestor(self, label_count: int) -> Name:
        """Return the ancestor (or the name itself) that has this many labels."""
        assert 0 <= label_count <= len(self.labels), f"{self} has no ancestor of {label_count} labels"
        return Name._trusted(self.labels[len(self.labels) - label_count :])

    def child(self, label: bytes) -> Name:
        """Return the name one label below; FormatError when that is no name."""
        return Name((label, *self.labels))

    def under(self, suffix: Name) -> Name:
        """Return this name with `suffix` appended; FormatError `name-too-long` past 255 bytes.

        >>> Name.read("www").under(Name.read("p2p.alt"))
        <Name www.p2p.alt.>
        """
        return Name(self.labels + suffix.labels)

    def moved(self, old_apex: Name, new_apex: Name) -> Name:
        """Return the name below `new_apex` that stands where this one stands below `old_apex`.

        FormatError `name-too-long` past 255 bytes.
        """
        return Name(self.relative_to(old_apex) + new_apex.labels)


def _labels_of_text(text: str) -> list[bytes]:
    labels: list[bytes] = []
    label = bytearray()
    index = 0
    while index < len(text):
        character = text[index]
        index += 1
        if not " " < character < "\x7f":
            raise FormatError("not-ascii", f"character {index} of the name; write international names as xn--")
        if character == ".":
            labels.append(bytes(label))
            label.clear()
        elif character != "\\":
            label.append(ord(character))
        else:
            byte, index = _escape_at(text, index)
            label.append(byte)
    labels.append(bytes(label))
    return labels


def _escape_at(text: str, index: int) -> tuple[int, int]:
    digits = text[index : index + 3]
    if len(digits) == 3 and digits.isascii() and digits.isdigit():
        if int(digits) > 255:
            raise FormatError("bad-escape", f"\\{digits} is no byte")
        return int(digits), index + 3
    if not digits or digits[0].isdigit() or not " " <= digits[0] < "\x7f":
        raise FormatError("bad-escape", "a backslash is followed by three digits or by one character")
    return ord(digits[0]), index + 1


def _text_of_label(label: bytes) -> str:
    if _PLAIN.issuperset(label):
        return label.decode("ascii")
    return "".join([_text_of_byte(byte) for byte in label])


def _text_of_byte(byte: int) -> str:
    if byte in _PLAIN:
        return chr(byte)
    return f"\\{chr(byte)}" if 32 < byte < 127 else f"\\{byte:03d}"


_ROOT = Name(())
