"""Two hundred thousand mutated messages with a fixed seed, and messages built wrong on purpose.

Each ends in a Message or a StrangerError, and says what an independent library reads there.
"""

from __future__ import annotations

import json
import random
import struct
from collections import Counter
from pathlib import Path

import dns.exception
import dns.message
from hypothesis import given, settings

from p2pdns.dns.message import Message
from p2pdns.dns.message.wire import compose, parse
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.errors import StrangerError
from tests.front_messages import CALM
from tests.fuzz import messages as target
from tests.fuzz.strategies import messages

SEED = 20_110_602
MESSAGE_COUNT = 200_000
ZONE_EVERY = 20  # Every 20th message is also read as the value of an item, and the zone is asked.
FOLDER = Path(__file__).parents[2] / "vectors"
INTERESTING = (0, 1, 12, 63, 64, 127, 128, 192, 193, 255)
APEX = Name.of(b"y" * 52)


def base_messages() -> list[bytes]:
    """Return the messages of the vectors that are short enough to be tried many times."""
    messages = json.loads((FOLDER / "messages.json").read_text("utf-8"))
    zones = json.loads((FOLDER / "zones.json").read_text("utf-8"))
    wires = [bytes.fromhex(vector["wire"]) for vector in messages["good"] + messages["bad"]]
    wires += [bytes.fromhex(vector["value"]) for vector in zones["vectors"]]
    return [wire for wire in wires if 12 <= len(wire) <= 160]


def mutated(wire: bytes, chance: random.Random) -> bytes:
    """Return the message with one to four things wrong with it."""
    raw = bytearray(wire)
    for _ in range(chance.randint(1, 4)):
        kind = chance.random()
        place = chance.randrange(len(raw)) if raw else 0
        if kind < 0.4 and raw:
            raw[place] = chance.choice(INTERESTING)
        elif kind < 0.7 and raw:
            raw[place] ^= 1 << chance.randrange(8)
        elif kind < 0.8:
            del raw[place : place + chance.randint(1, 8)]
        elif kind < 0.9:
            raw[place:place] = chance.randbytes(chance.randint(1, 8))
        else:
            raw[place:place] = bytes((0xC0, chance.randrange(256)))
    return bytes(raw)


def test_every_mutated_message_ends_in_a_message_or_a_strangers_error() -> None:
    chance = random.Random(SEED)
    bases = base_messages()
    outcomes: Counter[str] = Counter()
    for number in range(MESSAGE_COUNT):
        wire = mutated(bases[number % len(bases)], chance)
        try:
            message = parse(wire)
            outcomes["message"] += 1
            if number % ZONE_EVERY == 0:
                assert isinstance(message, Message)
                assert parse(compose(message)) == message
        except StrangerError as error:
            outcomes[error.reason] += 1
        if number % ZONE_EVERY == 0:
            _read_as_a_zone(wire, outcomes)
    # The mutations reach every corner, and neither all nor none of them survive.
    assert MESSAGE_COUNT * 0.1 < outcomes["message"] < MESSAGE_COUNT * 0.9
    for reason in ("truncated", "bad-pointer", "label-type", "rdata-length", "record-count", "trailing-bytes", "zone"):
        assert outcomes[reason] > 20, outcomes


def _read_as_a_zone(wire: bytes, outcomes: Counter[str]) -> None:
    try:
        zone = Zone.verified(APEX, wire, 1)
    except StrangerError:
        return
    outcomes["zone"] += 1
    assert all(owner.is_at_or_below(APEX) for owner, _ in zone.rrsets)


POOLS = 3_000
POOL_RECORDS = 12
NS = 2


def read_alone(wire: bytes, at: int) -> tuple[bytes, ...] | None:
    """Return the labels of a name, byte by byte and without remembering anything, or None when it does not hold."""
    labels: list[bytes] = []
    run_start, size_bytes = at, 1
    while at < len(wire) and wire[at]:
        length = wire[at]
        if length <= 63:
            labels.append(wire[at + 1 : at + 1 + length])
            size_bytes += 1 + length
            at += 1 + length
            if at > len(wire) or size_bytes > 255:
                return None
        elif length >= 0xC0 and at + 1 < len(wire):
            target = (length & 0x3F) << 8 | wire[at + 1]
            if not 12 <= target < run_start:
                return None
            at = run_start = target
        else:
            return None
    return tuple(labels) if at < len(wire) else None


def pool_of_names(chance: random.Random) -> bytes:
    """Return a response whose first record hides labels and pointers, and whose others are names leading there."""
    long = chance.choice((1, 2, 60))
    # Some begin with a name that is long already, and too long behind a few labels more.
    pool = bytearray((bytes([60]) + b"x" * 60) * chance.randrange(4) + b"\x00")
    while len(pool) < chance.choice((20, 100, 500)):
        pool += chance.choice((b"\x01a", b"\x02bc", bytes([long]) + b"x" * long, b"\x00", b"", b"\x80"))
        if chance.random() < 0.3 and pool:
            pool += struct.pack("!H", 0xC000 | (23 + chance.randrange(len(pool) + 2)))
    records = [bytearray(b"\x00" + struct.pack("!HHIH", 65_280, 1, 0, len(pool)) + pool)]
    size_bytes = 12 + len(records[0])
    # Few targets, so that one is reached by names of any length.
    targets = [23, *[chance.randrange(23, size_bytes) for _ in range(3)]]
    for _ in range(POOL_RECORDS):
        name = b"".join(chance.choice((b"\x01p", b"\x3c" + b"q" * 60)) for _ in range(chance.randrange(4)))
        name += struct.pack("!H", 0xC000 | chance.choice((*targets, chance.randrange(23, size_bytes))))
        records.append(bytearray(b"\x00" + struct.pack("!HHIH", NS, 1, 0, len(name)) + name))
        size_bytes += len(records[-1])
    return struct.pack("!6H", 0, 0x8000, 0, len(records), 0, 0) + b"".join(records)


def test_names_that_share_their_ends_are_read_as_if_each_stood_alone() -> None:
    """What is remembered of one name must be neither more nor less than what another finds there."""
    chance = random.Random(SEED)
    good = bad = 0
    for _ in range(POOLS):
        wire = pool_of_names(chance)
        expected: list[bytes] = []
        at = 12 + 11 + int.from_bytes(wire[21:23], "big")
        for _ in range(POOL_RECORDS):
            labels = read_alone(wire, at + 11)
            if labels is not None:
                expected.append(b"".join(bytes([len(label)]) + label for label in labels) + b"\x00")
            at += 11 + int.from_bytes(wire[at + 9 : at + 11], "big")
        left_out: dict[str, int] = {}
        message = parse(wire, bad_rdata=left_out)
        assert [record.rdata for record in message.answer[1:]] == expected, wire.hex()
        good, bad = good + len(expected), bad + sum(left_out.values())
    assert min(good, bad) > POOLS, (good, bad)


@settings(CALM, max_examples=250)
@given(messages())
def test_what_a_message_says_is_what_others_read_there(data: bytes) -> None:
    target.read(data)
    try:
        read = parse(data)
        other = dns.message.from_wire(data, one_rr_per_rrset=True)
    except (StrangerError, dns.exception.DNSException, ValueError):
        return
    for ours, theirs in zip((read.answer, read.authority, read.additional), other.sections[1:], strict=True):
        # Types that belong to messages are no records to the other one.
        told = [(rrset.name.labels[:-1], rrset.rdtype) for rrset in theirs]
        assert [(record.owner.labels, record.rtype) for record in ours] == told, data.hex()
