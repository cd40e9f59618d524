"""Two hundred thousand mutated messages with a fixed seed: each ends in a Message or a StrangerError."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

from p2pdns.dns.message import Message, compose, parse
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.errors import StrangerError

SEED = 20_110_602
MESSAGE_COUNT = 200_000
ZONE_EVERY = 20  # Every 20th message is also read as the value of an item, and the zone is asked.
FOLDER = Path(__file__).parents[1] / "vectors"
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
    octets = bytearray(wire)
    for _ in range(chance.randint(1, 4)):
        kind = chance.random()
        place = chance.randrange(len(octets)) if octets else 0
        if kind < 0.4 and octets:
            octets[place] = chance.choice(INTERESTING)
        elif kind < 0.7 and octets:
            octets[place] ^= 1 << chance.randrange(8)
        elif kind < 0.8:
            del octets[place : place + chance.randint(1, 8)]
        elif kind < 0.9:
            octets[place:place] = chance.randbytes(chance.randint(1, 8))
        else:
            octets[place:place] = bytes((0xC0, chance.randrange(256)))
    return bytes(octets)


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
    for reason in ("truncated", "bad-pointer", "label-type", "rdata-length", "record-count", "trailing-octets", "zone"):
        assert outcomes[reason] > 20, outcomes


def _read_as_a_zone(wire: bytes, outcomes: Counter[str]) -> None:
    try:
        zone = Zone.verified(APEX, wire, 1)
    except StrangerError:
        return
    outcomes["zone"] += 1
    assert all(owner.is_at_or_below(APEX) for owner, _ in zone.rrsets)
