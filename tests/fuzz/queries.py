"""Good queries of every kind, and ways to spoil them that know where a message keeps its counts and lengths.

Guarantees: the same `random.Random` draws the same bytes. Does not know what may be answered.
"""

from __future__ import annotations

import random
import struct

from tests.front_messages import AAAA, TXT, opt, query, question, wire_name

HTTPS, SOA, TSIG, ANY_CLASS = 65, 6, 250, 255
COOKIE, KEEPALIVE, PADDING, EDE, SUBNET = 10, 11, 12, 15, 8
LONGEST = (b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"x" * 61 + b"\x00"
MANY_LABELS = b"\x01a" * 127 + b"\x00"
INTERESTING = (0, 1, 2, 8, 12, 16, 41, 63, 64, 127, 128, 192, 250, 255)
WORDS = (0, 1, 2, 3, 8, 9, 12, 40, 41, 255, 256, 511, 512, 1232, 4096, 0x8000, 0xC00C, 0xFFFF)
MUTATIONS_MAX = 4
QUERY_BYTES_MAX = 1232  # What becomes longer by mutation is cut: the doors are judged by datagrams of this size.
UNTOUCHED_SHARE = 0.08  # So many stay as they are but for the ID, so that cache and memo answer too.


def option(code: int, value: bytes = b"") -> bytes:
    """Return an EDNS option."""
    return struct.pack("!HH", code, len(value)) + value


def record(owner: bytes, rtype: int, rdata: bytes = b"", rclass: int = 1, ttl: int = 0) -> bytes:
    """Return a record."""
    return owner + struct.pack("!HHIH", rtype, rclass, ttl, len(rdata)) + rdata


CLIENT_COOKIE = option(COOKIE, b"\x24\x46\x4a\xbc\xd1\x07\x98\xb8")
FULL_COOKIE = option(COOKIE, bytes(range(24)))
TSIG_RDATA = wire_name("hmac-sha256") + bytes(6) + struct.pack("!HH", 300, 16) + bytes(16) + bytes(6)


def good_queries() -> list[bytes]:
    """Return queries that clients send, and some that are refused for a reason of their own."""
    names = [query(f"n{i}.example", records=[opt()] if i % 2 else ()) for i in range(24)]
    options = (
        CLIENT_COOKIE,
        FULL_COOKIE,
        option(KEEPALIVE),
        option(PADDING, bytes(60)),
        option(EDE, b"\x00\x16text"),
        option(SUBNET, b"\x00\x01\x18\x00\xc0\x00\x02"),
        option(65_001, b"?" * 9) + CLIENT_COOKIE + option(3) + option(PADDING),
        option(65_001, bytes(400)),
    )
    return [
        *names,
        query("n5.example", TXT),
        query("wWw.ExAmPlE", AAAA, records=[opt(4096, do=True)]),
        query("www.example", HTTPS, flags=0x0130, records=[opt(600)]),
        query("n6.example", TXT, records=[opt(512, do=True)]),
        *[query(f"o{i}.example", records=[opt(options=value)]) for i, value in enumerate(options)],
        query("version.bind", TXT, rclass=3, records=[opt()]),
        query("n.example", 255, records=[opt(0)]),
        query(questions=[b"\x00\x00\x02\x00\x01"]),
        query(questions=[LONGEST + b"\x00\x01\x00\x01"], records=[opt()]),
        query(questions=[MANY_LABELS + b"\x00\x01\x00\x01"], records=[opt(options=CLIENT_COOKIE)]),
        query(questions=[b"\x05\x00.\xff\\A\x04\xc0\x0c\x00\x29\x00\x00\x01\x00\x01"]),
        query(questions=[question("a.example"), question("b.example")], records=[opt()]),
        query(questions=[], records=[opt(options=CLIENT_COOKIE)]),
        query(questions=[], records=[opt(options=FULL_COOKIE)]),
        query(records=[opt(version=1, options=b"\x00")]),
        query(records=[opt(), opt(600)]),
        query(records=[record(b"\x00", TSIG, TSIG_RDATA, ANY_CLASS)]),
        query(records=[opt(), record(b"\xc0\x0c", TSIG, TSIG_RDATA, ANY_CLASS)]),
        query(rtype=252),
        query(rtype=251, records=[record(b"\xc0\x0c", SOA, bytes(22))], counts=(0, 1, 0)),
        query(flags=0x2000, rtype=SOA, records=[record(b"\xc0\x0c", SOA, bytes(22)), opt()], counts=(1, 0, 1)),
        query(flags=0x2800, rtype=SOA, records=[opt()]),
        query(flags=0x0150, records=[opt()]) + b"trailing",
        query(flags=0x7900, questions=[]),
    ]


def mutated(bases: list[bytes], chance: random.Random) -> bytes:
    """Return one of the queries with another ID, and mostly with one to four things wrong with it."""
    raw = bytearray(chance.choice(bases))
    raw[0:2] = chance.randbytes(2)
    if chance.random() < UNTOUCHED_SHARE:
        return bytes(raw)
    for _ in range(chance.randint(1, MUTATIONS_MAX)):
        kind = chance.randrange(len(_WAYS))
        if raw:
            _WAYS[kind](raw, bases, chance)
    del raw[QUERY_BYTES_MAX:]
    return bytes(raw)


def _flip_bit(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)


def _set_byte(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    raw[chance.randrange(len(raw))] = chance.choice(INTERESTING)


def _set_word(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    """Change a length or a type wherever one may stand."""
    at = chance.randrange(len(raw))
    raw[at : at + 2] = chance.choice(WORDS).to_bytes(2, "big")


def _change_flags(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    # Silence and NOTIMP teach little, so QR stays off and the opcode mostly a query.
    mask = 0x07FF if chance.random() < 0.7 else 0x7FFF
    raw[2:4] = (chance.getrandbits(16) & mask).to_bytes(2, "big")


def _change_count(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    at = chance.choice((4, 6, 8, 10))
    raw[at : at + 2] = chance.choice((0, 1, 1, 2, 3, 0xFFFF)).to_bytes(2, "big")


def _truncate(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    del raw[chance.randrange(len(raw)) :]


def _splice(raw: bytearray, bases: list[bytes], chance: random.Random) -> None:
    other = chance.choice(bases)
    raw[chance.randrange(len(raw)) :] = other[chance.randrange(len(other)) :]


def _insert_pointer(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(raw))
    raw[at:at] = bytes((0xC0 | chance.choice((0, 0, 0, 1, 63)), chance.choice((12, 0, chance.randrange(256)))))


def _double_tail(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    """Repeat what stands behind some place, as a second OPT or question, and count it somewhere."""
    raw += raw[chance.randrange(len(raw)) :]
    at = chance.choice((5, 7, 9, 11, 11, 11))
    if len(raw) > at:
        raw[at] = (raw[at] + 1) & 0xFF


def _append_opt(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    raw += opt(chance.choice(WORDS), do=chance.random() < 0.5, options=chance.choice((b"", CLIENT_COOKIE, b"\x00")))
    if len(raw) > 11:
        raw[11] = (raw[11] + 1) & 0xFF


def _change_case(raw: bytearray, _: list[bytes], chance: random.Random) -> None:
    for at in range(12, min(len(raw), 40)):
        if chr(raw[at]).isalpha() and raw[at] < 128 and chance.random() < 0.5:
            raw[at] ^= 0x20


_WAYS = (
    _flip_bit,
    _set_byte,
    _set_word,
    _change_flags,
    _change_count,
    _truncate,
    _splice,
    _insert_pointer,
    _double_tail,
    _append_opt,
    _change_case,
)
