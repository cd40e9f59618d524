"""The target of divided zones: directories, salted values, heads, and shards below them.

The first byte says what the rest is: the RDATA of a directory, the value of a salted item, the value of a head, or the
message of a shard that a head pins, whole or in parts.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping

from p2pdns.dns.message import RR, Message, Question
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import DIRECTORY
from p2pdns.dns.zone.answer import Kind, ZoneAnswer
from p2pdns.errors import FormatError, StrangerError
from p2pdns.items.shards.directory import BITS_MAX, Directory
from p2pdns.items.shards.head import ENCLOSING_MAX, Head
from p2pdns.items.shards.partial import Needed, PartialZone
from p2pdns.items.shards.pinned import Pinned, SaltLetter
from p2pdns.items.shards.values import PARTS_MAX, cut, verified

APEX = Name.of(b"y" * 52)
RDATA, VALUE, HEAD, SHARD = range(4)
SEQ = 1_700_000_000_000_000
TYPES = (1, 2, 5, 6, 16, 39, 255, DIRECTORY)
QUESTIONS_MAX = 40
ROUNDS_MAX = 3 * 17 * 2  # Manifest, shard and parts, of a name and a wildcard, for each alias.
_PLACES = tuple(SaltLetter)


def read(data: bytes) -> None:
    """Do with the rest what the first byte says."""
    kind, rest = (data[0] & 3 if data else RDATA), data[1:]
    (_read_directory, _read_value, _read_head, _read_shard)[kind](rest)


def _read_directory(data: bytes) -> None:
    try:
        directory = Directory.parse(APEX, data)
    except FormatError:
        return
    assert directory.compose() == data, data.hex()
    assert directory.bits <= BITS_MAX
    for index in (0, directory.shard_count - 1):
        wanted = directory.manifest(index) if directory.by_manifests else directory.shard(index)
        assert len(wanted.salt) == 16


def _read_value(data: bytes) -> None:
    place, bits, value = (
        _PLACES[data[0] % len(_PLACES)] if data else SaltLetter.SHARD,
        (data[1:2] or b"\0")[0] % 13,
        data[2:],
    )
    pin = hashlib.sha256(value).digest()[:4]
    wanted = Pinned(place, APEX, 1, bits, pin)
    with contextlib.suppress(StrangerError):
        said = verified(wanted, value)
        assert said.compose() == value, data.hex()
        assert len(getattr(said, "pins", ())) <= max(PARTS_MAX, 128)
    reason = ""
    try:
        verified(Pinned(place, APEX, 1, bits, bytes(4)), value)
    except StrangerError as error:
        reason = error.reason
    assert reason == "pin-wrong" or pin == bytes(4), data.hex()


def _read_head(value: bytes) -> None:
    try:
        head = Head.verified(APEX, value, SEQ)
    except StrangerError:
        return
    for owner in head.directories:
        assert owner.is_at_or_below(APEX), value.hex()
        assert sum(owner.is_at_or_below(other) for other in head.directories) <= ENCLOSING_MAX, value.hex()
    _ask(PartialZone(head), {}, value)


def _read_shard(data: bytes) -> None:
    """A head divides the apex, and one of its names further; the rest is the message of the apex's only shard."""
    how, message = (data[:1] or b"\0")[0], data[1:]
    values = cut(message, b"nonc", 940 if how & 1 else 40 + (how >> 2))
    if len(values) > PARTS_MAX + 1:
        return
    pins = [hashlib.sha256(value).digest()[:4] for value in values]
    inner = Directory(APEX.child(b"a").child(b"b"), 0, 1, (bytes(4),))
    directory = Directory(APEX, 0, 1, (pins[0],), None, bool(how & 2))
    records = [RR(found.owner, DIRECTORY, 1, 300, found.compose()) for found in (directory, inner)]
    wanted = directory.shard(0)
    held = {wanted.salt: values[0]}
    held |= {wanted.part(number, pins[number]).salt: value for number, value in enumerate(values) if number}
    zone = PartialZone(Head.verified(APEX, compose(Message(0, 0x8000, None, tuple(records))), SEQ))
    _ask(zone, held, data)


def _ask(zone: PartialZone, values: Mapping[bytes, bytes], told: bytes) -> None:
    names = [*zone.head.nodes, APEX.child(b"*"), APEX.child(b"a").child(b"c"), APEX.child(b"a").child(b"b").child(b"c")]
    for name in names[:QUESTIONS_MAX]:
        for rtype in TYPES:
            for _ in range(ROUNDS_MAX):
                outcome = zone.answer(Question(name, rtype))
                if isinstance(outcome, ZoneAnswer):
                    assert outcome.kind is not Kind.FAILED or outcome.reason, told.hex()
                    break
                assert isinstance(outcome, Needed)
                assert 1 <= len(outcome.items) <= PARTS_MAX, told.hex()
                known = [wanted for wanted in outcome.items if wanted.salt in values]
                if not known:
                    break
                try:
                    for wanted in known:
                        zone = zone.with_value(wanted, values[wanted.salt])
                except StrangerError:
                    return
            else:
                raise AssertionError(f"a question without end: {told.hex()}")


def inputs(messages: list[bytes], vectors: Mapping[str, list[dict[str, str]]]) -> list[bytes]:
    """Return inputs to begin with: the vectors, and messages as heads and as shards."""
    found = [bytes([RDATA]) + bytes.fromhex(vector["rdata"]) for vector in vectors["directories"]]
    for vector in vectors["values"]:
        place = [member.value.decode() for member in _PLACES].index(vector["letter"])
        found.append(bytes([VALUE, place, int(vector["bits"])]) + bytes.fromhex(vector["value"]))
    found += [bytes([HEAD]) + bytes.fromhex(vector["value"]) for vector in vectors["heads"]]
    shards = [bytes.fromhex(vector["message"]) for vector in vectors["shards"]] + messages[:20]
    found += [bytes([SHARD, how]) + message for message in shards for how in (1, 2, 63)]
    return found
