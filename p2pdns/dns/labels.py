"""Names and questions on the wire: where they end, and their lower case.

Guarantees: no byte outside those given is read, and no pointer is followed; bytes that are no name end in
`FormatError`. Imports no library, so that the front uses it too. Does not know names as values (dns/name), nor how
names are compressed (dns/message).
"""

from __future__ import annotations

from p2pdns.errors import FormatError

HEADER_BYTES = 12  # RFC 1035 §4.1.1
MESSAGE_BYTES_MAX = 65_535  # The length field of RFC 1035 §4.2.2; no transport carries more.
NAME_BYTES_MAX = 255  # RFC 1035 §2.3.4, length bytes and the root's zero included.
LABEL_BYTES_MAX = 63  # RFC 1035 §2.3.4; the two upper bits of a length byte belong to compression.
POINTER = 0xC0  # RFC 1035 §4.1.4: a byte of this value or more is no length but the first of a pointer.
_TYPE_AND_CLASS_BYTES = 4


def name_end(wire: bytes, offset: int = 0) -> int:
    """Return the offset after the uncompressed name at `offset`.

    >>> name_end(b"\\x03www\\x00rest")
    5
    """
    at = offset
    try:
        while length := wire[at]:
            if length > LABEL_BYTES_MAX:
                raise FormatError("compressed-name" if length >= POINTER else "label-type", f"at byte {at}")
            at += 1 + length
    except IndexError:
        if at - offset < NAME_BYTES_MAX:
            raise FormatError("truncated-name", f"at byte {at}") from None
    if at - offset >= NAME_BYTES_MAX:
        raise FormatError("name-too-long", f"more than {NAME_BYTES_MAX} bytes")
    return at + 1


def owner_end(wire: bytes, offset: int) -> int:
    """Return the offset after the name at `offset`; a pointer at its end is passed and not followed.

    >>> owner_end(b"\\x03www\\xc0\\x0c", 0)
    6
    """
    at = offset
    try:
        while length := wire[at]:
            if length >= POINTER:
                return at + 2
            if length > LABEL_BYTES_MAX:
                raise FormatError("label-type", f"{length:#04x} at byte {at}")
            at += 1 + length
    except IndexError:
        raise FormatError("truncated-name", f"at byte {at}") from None
    return at + 1


def question_end(wire: bytes, offset: int) -> int:
    """Return the offset after the question (name, type, class) at `offset`.

    Its name must be uncompressed: no other name stands before it.

    >>> question_end(bytes([1, 97, 0, 0, 1, 0, 1]), 0)
    7
    """
    end = name_end(wire, offset) + _TYPE_AND_CLASS_BYTES
    if end > len(wire):
        raise FormatError("question-cut", "no room for type and class")
    return end


def folded_question(question: bytes) -> bytes:
    """Return a question with its name in lower case; type and class are no letters and stay.

    >>> folded_question(b"\\x01A\\x00\\x00\\x41\\x00\\x01")
    b'\\x01a\\x00\\x00A\\x00\\x01'
    """
    # Length bytes are at most 63, and letters begin at 65.
    return question[:-_TYPE_AND_CLASS_BYTES].lower() + question[-_TYPE_AND_CLASS_BYTES:]
