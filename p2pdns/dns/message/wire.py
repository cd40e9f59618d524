"""The wall round dnslib: messages from bytes and to bytes.

Guarantees: `parse` ends for any bytes in a Message or a FormatError, after a bounded number of steps. RDATA comes out
uncompressed. `compose` compresses only names that RFC 1035 and RFC 3597 §4 allow, and no pointer leads past offset
16383. No dnslib object leaves this module.
Does not know: zones, or what a client may ask.

dnslib's buffer reads the fields. Its readers of RR types are not used: they refuse an RR without RDATA, drop the end
of an OPT, do not compare the fields with the length of the RDATA, and take longer.
"""

# dnslib carries no types, and this module is its door.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

import struct
from collections.abc import Sequence

from dnslib.buffer import BufferError as DnslibBufferError
from dnslib.label import DNSBuffer, DNSLabel

from p2pdns.dns.labels import HEADER_BYTES, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, POINTER
from p2pdns.dns.message import RR, Message, Question, type_text
from p2pdns.dns.message.rdata import COMPRESSIBLE, LAYOUTS, pieces_of
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.errors import FormatError

RECORDS_MAX = 2048  # Real answers have tens; the work for this many takes milliseconds.
STEPS_MAX = 32768  # For one message. A step is to read a label or pointer, or to make a label of a name.
# Messages of honest servers need less than one step a byte, while 43 records of a hostile datagram can hold 129 names
# of 127 labels each. The free steps are for a short message with a long name in its question.
STEPS_PER_BYTE = 2
STEPS_FREE = 512
HOPS_MAX = 127  # A name has 127 labels at most, and an honest pointer leads to at least one.
POINTER_OFFSET_MAX = 0x3FFF  # RFC 1035 §4.1.4: a pointer has 14 bits.
_FIXED = struct.Struct("!HHIH")  # Type, class, TTL and length of the RDATA: they follow the owner.
_HEADER = struct.Struct("!6H")  # ID, flags, and the counts of questions, answers, authorities and additionals.
_QUESTION = struct.Struct("!HH")  # Type and class: they follow the name of a question.
_POINTER = struct.Struct("!H")
_TTL_AT = 4  # Bytes between the owner and the TTL.
_OPT, _IN = int(Type.OPT), int(Class.IN)
_TO_QUESTION = _POINTER.pack(0xC000 | HEADER_BYTES)
_ROOT = Name.root()
_ADDRESS_BYTES = {int(Type.A): 4, int(Type.AAAA): 16}  # In class IN. Most records of most replies have these types.
# With these reasons a name is bad whatever labels precede a pointer to it.
_BROKEN_FROM_ANYWHERE = frozenset(["truncated", "bad-pointer", "label-type"])


class _ReadLabel(DNSLabel):
    """A name that was read. It keeps its uncompressed bytes, since joining a hundred labels again costs far more."""

    def __init__(self, labels: Sequence[bytes], wire: bytes) -> None:
        self.label = tuple(labels)
        self.wire = wire


class WallBuffer(DNSBuffer):
    """dnslib's buffer, with a reader of names that neither recurses nor loops and counts its steps."""

    data: bytearray
    offset: int

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.steps = 0
        self._steps_max = min(STEPS_MAX, STEPS_FREE + STEPS_PER_BYTE * len(data))
        # Offset of a name that was read -> that name.
        self._whole: dict[int, _ReadLabel] = {}
        # Offset of a label that was read -> labels and bytes of its name, and the place of the label in each of them.
        self._tails: dict[int, tuple[list[bytes], int, bytes, int]] = {}
        self._broken: dict[int, str] = {}  # Offset of a name that cannot be read -> the reason.
        self._made: dict[bytes, Name] = {}  # Uncompressed bytes -> the name.
        self._asked: Name | None = None
        self._paid: set[bytes] = set()  # Uncompressed bytes of the names in RDATA whose labels were counted.

    def spend(self, step_count: int) -> None:
        """Count steps; FormatError when there are too many for a message of this size."""
        self.steps += step_count
        if self.steps > self._steps_max:
            raise FormatError("work-limit", f"more than {self._steps_max} steps")

    def decode_name(self, last: int = -1) -> _ReadLabel:
        """Return the name at the offset and move past it. Pointers lead strictly backwards, so no loop exists."""
        # Most names of a message are a pointer to a name that was read before.
        data, at = self.data, self.offset
        if at + 1 < len(data) and data[at] >= POINTER:
            known = self._whole.get((data[at] & 0x3F) << 8 | data[at + 1])
            if known is not None and self.steps < self._steps_max:
                self.steps += 1
                self.offset = at + 2
                return known
        hops: list[tuple[int, int, int]] = []
        try:
            return self._walked(hops)
        except FormatError as error:
            # All RRs may point to one bad name. It is walked once, and later pointers to it are refused at once.
            for target, _, before_bytes in hops:
                if error.reason in _BROKEN_FROM_ANYWHERE or (error.reason == "name-too-long" and before_bytes == 1):
                    self._broken[target] = error.reason
            raise

    def _walked(self, hops: list[tuple[int, int, int]]) -> _ReadLabel:
        """Read a name; `hops` collects the target of each pointer, and the count of labels and bytes before it."""
        data, position = self.data, self.offset
        run_start = position
        labels: list[bytes] = []
        runs: list[bytes | bytearray] = []
        size_bytes, end = 1, -1
        starts: list[tuple[int, int, int]] = []
        while True:
            self.spend(1)
            if position >= len(data):
                raise FormatError("truncated", f"inside a name, at byte {position}")
            length = data[position]
            if length == 0:
                runs.append(data[run_start : position + 1])
                end = position + 1 if end < 0 else end
                break
            if length <= 63:
                label = bytes(data[position + 1 : position + 1 + length])
                if len(label) < length:
                    raise FormatError("truncated", f"inside a label, at byte {position}")
                starts.append((position, len(labels), size_bytes))
                labels.append(label)
                size_bytes += 1 + length
                position += 1 + length
            elif length >= POINTER:
                runs.append(data[run_start:position])
                end = position + 2 if end < 0 else end
                position = run_start = self._target_at(position, run_start)
                tail = self._tails.get(position)
                if tail is not None:
                    labels += tail[0][tail[1] :]
                    runs.append(tail[2][tail[3] :])
                    size_bytes += len(runs[-1]) - 1
                    break
                if position in self._broken:
                    raise FormatError(self._broken[position], f"again, at byte {position}")
                hops.append((position, len(labels), size_bytes))
                if len(hops) >= HOPS_MAX:
                    raise FormatError("pointer-hops", f"more than {HOPS_MAX}")
            else:
                raise FormatError("label-type", f"{length:#04x} at byte {position}")
            if size_bytes > NAME_BYTES_MAX:
                break
        if size_bytes > NAME_BYTES_MAX:
            raise FormatError("name-too-long", f"more than {NAME_BYTES_MAX} bytes")
        wire = b"".join(runs)
        # A later pointer to any of these labels costs no second walk.
        for start, index, before_bytes in (*hops, *starts):
            self._tails[start] = (labels, index, wire, before_bytes - 1)
        first, self.offset = self.offset, end
        # A name that begins with a pointer is known by the offset that the pointer leads to.
        name = self._whole[hops[0][0] if hops and hops[0][1] == 0 else first] = _ReadLabel(labels, wire)
        return name

    def _target_at(self, position: int, run_start: int) -> int:
        if position + 1 >= len(self.data):
            raise FormatError("truncated", f"inside a pointer, at byte {position}")
        target = (self.data[position] & 0x3F) << 8 | self.data[position + 1]
        if not HEADER_BYTES <= target < run_start:
            raise FormatError("bad-pointer", f"from byte {position} to {target}")
        return int(target)

    def name_of(self, label: _ReadLabel) -> Name:
        """Return the Name of a name that was read: one object for equal bytes."""
        name = self._made.get(label.wire)
        if name is None:
            self.spend(len(label.label))
            name = self._made[label.wire] = Name.measured(label.label, label.wire)
        return name

    def expect(self, name: Name) -> None:
        """Use this name as the one behind the header, without reading it."""
        wire = name.wire()
        self._whole[HEADER_BYTES] = _ReadLabel(name.labels, wire)
        self._made[wire] = name
        self._asked = name

    def owner(self) -> Name:
        """Return the owner of a record at the offset, and move past it."""
        data, at = self.data, self.offset
        # Most owners are the name of the question, and the owner of an OPT is the root.
        if self._asked is not None and data[at : at + 2] == _TO_QUESTION:
            self.spend(1)
            self.offset = at + 2
            return self._asked
        if data[at : at + 1] == b"\0":
            self.spend(1)
            self.offset = at + 1
            return _ROOT
        return self.name_of(self.decode_name())

    def wire_of(self, label: _ReadLabel) -> bytes:
        """Return the uncompressed bytes of a name that was read, without making a Name, which takes much longer."""
        if label.wire not in self._paid:
            # Composing the message again goes through these labels.
            self.spend(len(label.label))
            self._paid.add(label.wire)
        return label.wire


class _Writer:
    """A message that is being written; `ttl_offsets` has the offset of the TTL of each RR but OPT, in order."""

    __slots__ = ("_question", "_suffixes", "data", "ttl_offsets")

    def __init__(self) -> None:
        self.data = bytearray()
        self.ttl_offsets: list[int] = []
        self._question: Name | None = None
        self._suffixes: dict[bytes, int] = {}  # Uncompressed bytes of a name or its end -> their offset.

    def write_question(self, question: Question) -> None:
        """Append the question; owners equal to its name in any case become pointers to it."""
        self._write_name(question.name.wire())
        self.data += _QUESTION.pack(question.rtype, question.rclass)
        self._question = question.name

    def write_record(self, record: RR) -> None:
        """Append an RR; names in RDATA are compressed where RFC 1035 defined the type."""
        self._write_owner(record.owner)
        data, rtype, rdata = self.data, record.rtype, record.rdata
        if rtype != _OPT:
            self.ttl_offsets.append(len(data) + _TTL_AT)
        if rtype not in COMPRESSIBLE:
            data += _FIXED.pack(rtype, record.rclass, record.ttl, len(rdata)) + rdata
            return
        data += _FIXED.pack(rtype, record.rclass, record.ttl, 0)
        start = len(data)
        for is_name, raw in pieces_of(rtype, rdata):
            if is_name:
                self._write_name(raw)
            else:
                data += raw
        data[start - 2 : start] = (len(data) - start).to_bytes(2)

    def _write_name(self, name: bytes) -> None:
        """Append a name; a pointer replaces its longest suffix that was written within a pointer's reach."""
        at, start = 0, len(self.data)
        while name[at]:
            suffix = name[at:]
            known = self._suffixes.get(suffix)
            if known is not None:
                self.data += name[:at] + _POINTER.pack(0xC000 | known)
                return
            if start + at <= POINTER_OFFSET_MAX:
                self._suffixes[suffix] = start + at
            at += 1 + name[at]
        self.data += name

    def _write_owner(self, owner: Name) -> None:
        """Append an owner; one that equals the question's name becomes the pointer to offset 12."""
        asked = self._question
        if asked is not None and owner.labels and (owner is asked or owner == asked):
            self.data += _TO_QUESTION
        else:
            self._write_name(owner.wire())


def _read_rdata(buffer: WallBuffer, rtype: int, rclass: int, length: int) -> bytes:
    """Return the RDATA at the offset with every name in it decompressed; FormatError `rdata-length`."""
    end = buffer.offset + length
    layout = LAYOUTS.get(rtype)
    address_bytes = _ADDRESS_BYTES.get(rtype)
    if layout is None or (address_bytes is not None and (address_bytes == length or rclass != _IN)):
        buffer.offset = end
        return bytes(buffer.data[end - length : end])
    pieces = []
    for field in layout:
        if field == "name":
            pieces.append(buffer.wire_of(buffer.decode_name()))
        elif field == "string":
            pieces.append(buffer.get(1 + buffer.data[buffer.offset]) if buffer.offset < end else b"")
        elif field == "rest":
            pieces.append(buffer.get(max(0, end - buffer.offset)))
        else:
            pieces.append(buffer.get(field))
    if buffer.offset != end:
        raise FormatError("rdata-length", f"{type_text(rtype)} of {length} bytes")
    return b"".join(pieces)


def _read_record(buffer: WallBuffer, bad_rdata: dict[str, int] | None) -> RR | None:
    owner = buffer.owner()
    rtype, rclass, ttl, length = _FIXED.unpack_from(buffer.data, buffer.offset)
    buffer.offset += _FIXED.size
    end = buffer.offset + length
    if end > len(buffer):
        raise FormatError("truncated", f"RDATA of {length} bytes at byte {buffer.offset} of {len(buffer)}")
    try:
        rdata = _read_rdata(buffer, rtype, rclass, length)
    except (FormatError, DnslibBufferError) as error:
        reason = error.reason if isinstance(error, FormatError) else "rdata-length"
        # Too many steps end the reading. Any other fault of RDATA ends with that RDATA.
        if bad_rdata is None or reason == "work-limit":
            raise FormatError(reason, f"in {type_text(rtype)} at byte {end - length}") from error
        bad_rdata[reason] = bad_rdata.get(reason, 0) + 1
        buffer.offset = end
        return None
    return RR(owner, rtype, rclass, ttl, rdata)


def parse(
    wire: bytes,
    *,
    bad_rdata: dict[str, int] | None = None,
    records_max: int = RECORDS_MAX,
    allows_tail: bool = False,
    asked: Question | None = None,
) -> Message:
    """Return the message that is exactly these bytes; FormatError with a reason where they are none.

    With `bad_rdata`, an RR whose RDATA does not fit its type is left out and counted there by reason; the rest of the
    message is read, since the length of the RDATA is known. With `allows_tail`, bytes behind the message are ignored.
    `asked` is the question of the message, where the caller has compared it byte by byte.
    """
    if len(wire) > MESSAGE_BYTES_MAX:
        raise FormatError("message-too-long", f"{len(wire)} bytes, {MESSAGE_BYTES_MAX} allowed")
    buffer = WallBuffer(wire)
    if asked is not None:
        buffer.expect(asked.name)
    return parse_buffer(buffer, bad_rdata, records_max, allows_tail=allows_tail, asked=asked)


def parse_buffer(
    buffer: WallBuffer,
    bad_rdata: dict[str, int] | None,
    records_max: int = RECORDS_MAX,
    *,
    allows_tail: bool = False,
    asked: Question | None = None,
) -> Message:
    """Return the message in a buffer, whose `steps` then say how much work that was."""
    try:
        number, flags, question_count, *counts = _HEADER.unpack_from(buffer.data)
        buffer.offset = HEADER_BYTES
        if question_count > 1:
            raise FormatError("question-count", f"{question_count}, at most 1 allowed")
        if sum(counts) > records_max:
            raise FormatError("record-count", f"{sum(counts)}, {records_max} allowed")
        question = None
        if question_count and asked is not None:
            question = asked
            buffer.offset += len(asked.name.wire()) + _QUESTION.size
        elif question_count:
            name = buffer.name_of(buffer.decode_name())
            question = Question(name, *_QUESTION.unpack(buffer.get(_QUESTION.size)))
        sections: list[tuple[RR, ...]] = []
        for count in counts:
            if not count:
                sections.append(())
                continue
            found = [_read_record(buffer, bad_rdata) for _ in range(count)]
            sections.append(tuple([record for record in found if record is not None]))
    except (DnslibBufferError, struct.error) as error:
        raise FormatError("truncated", f"at byte {buffer.offset} of {len(buffer)}") from error
    if buffer.remaining() and not allows_tail:
        raise FormatError("trailing-bytes", f"{buffer.remaining()} after the message")
    if len(sections[2]) > 1 and [record.rtype for record in sections[2]].count(Type.OPT) > 1:
        raise FormatError("two-opts")
    return Message(number, flags, question, *sections)


def compose(message: Message) -> bytes:
    """Return the wire form; FormatError `message-too-long` past 65535 bytes.

    Owners equal to the question's name, in any case, become pointers to offset 12: the front has one place only where
    it writes the spelling that a client used.
    """
    return compose_for_cache(message)[0]


def compose_for_cache(message: Message) -> tuple[bytes, tuple[int, ...]]:
    """Return the wire form, and the offset of the TTL of each RR in it, in order; an OPT has no TTL."""
    writer = _Writer()
    sections = (message.answer, message.authority, message.additional)
    asked = message.question
    writer.data += _HEADER.pack(message.id, message.flags, asked is not None, *map(len, sections))
    if asked is not None:
        writer.write_question(asked)
    for section in sections:
        for record in section:
            writer.write_record(record)
            if len(writer.data) > MESSAGE_BYTES_MAX:
                raise FormatError("message-too-long", f"more than {MESSAGE_BYTES_MAX} bytes")
    return bytes(writer.data), tuple(writer.ttl_offsets)
