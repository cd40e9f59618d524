"""The target of the reader of messages: what an upstream or an item says."""

from __future__ import annotations

from p2pdns.dns.labels import MESSAGE_BYTES_MAX
from p2pdns.dns.message import Message
from p2pdns.dns.message.wire import compose_for_cache, parse
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.errors import FormatError, StrangerError
from tests.unit.dns.strategies import uncompressed

APEX = Name.of(b"y" * 52)


def read(data: bytes) -> None:
    """Read bytes as a message, write it and read it again; then the same as the value of an item."""
    try:
        message = parse(data)
    except FormatError:
        pass
    else:
        _judge(message, data)
    try:
        zone = Zone.verified(APEX, data, 1)
    except StrangerError:
        return
    assert all(owner.is_at_or_below(APEX) for owner, _ in zone.rrsets), data.hex()


def _judge(message: Message, data: bytes) -> None:
    # Names that stood on one another may need more room than a message has, once each stands alone.
    if len(wire := uncompressed(message)) <= MESSAGE_BYTES_MAX:
        assert parse(wire) == message, data.hex()
    try:
        wire, offsets = compose_for_cache(message)
    except FormatError as error:
        if error.reason != "message-too-long":
            raise
        return
    assert parse(wire) == message, data.hex()
    records = (*message.answer, *message.authority, *message.additional)
    ttls = [int.from_bytes(wire[at : at + 4], "big") for at in offsets]
    assert ttls == [record.ttl for record in records if record.rtype != 41], data.hex()
