"""Queries and answers as bytes, for the tests of the front: made by hand, so that no library hides a mistake."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import dns.message
from hypothesis import HealthCheck, settings

from p2pdns.addresses import read_network
from p2pdns.config import CacheTable
from p2pdns.dns.registry import Explanations
from p2pdns.front.cache import AnswerCache
from p2pdns.front.cookies import Cookies
from p2pdns.front.funnel import Funnel
from p2pdns.front.gate import AccessList, Gate
from p2pdns.link import Answer

UDP_SIZE = 1232
# Properties are about what holds, not about how busy the machine is.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
A, TXT, AAAA, OPT = 1, 16, 28, 41


def wire_name(text: str) -> bytes:
    """Return a name of plain letters as on the wire."""
    labels = [label.encode() for label in text.strip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\x00"


def question(name: str, rtype: int = A, rclass: int = 1) -> bytes:
    """Return the wire form of a question."""
    return wire_name(name) + struct.pack("!HH", rtype, rclass)


def opt(size: int = 1232, *, do: bool = False, version: int = 0, options: bytes = b"") -> bytes:
    """Return an OPT record."""
    return b"\x00" + struct.pack("!HHBBHH", OPT, size, 0, version, 0x8000 * do, len(options)) + options


def query(
    name: str = "www.example",
    rtype: int = A,
    *,
    number: int = 0x1234,
    flags: int = 0x0100,
    rclass: int = 1,
    records: Sequence[bytes] = (),
    questions: Sequence[bytes] | None = None,
    counts: tuple[int, int, int] | None = None,
) -> bytes:
    """Return a query; `records` go to the additional section unless `counts` says otherwise."""
    asked = [question(name, rtype, rclass)] if questions is None else questions
    an, ns, ar = counts or (0, 0, len(records))
    return struct.pack("!HHHHHH", number, flags, len(asked), an, ns, ar) + b"".join(asked) + b"".join(records)


def answer(
    name: str = "www.example",
    rtype: int = A,
    *,
    rdatas: Sequence[bytes] = (bytes([192, 0, 2, 1]),),
    ttl: int = 300,
    rcode: int = 0,
    number: int = 0,
    made_at: float = 0.0,
    expiry: float | None = None,
    stale_until: float | None = None,
    ede: Explanations = (),
    ad_eligible: bool = False,
    provisional: bool = False,
    cacheable: bool = True,
    failure: bool = False,
    tags: tuple[bytes, ...] = (),
    generation: int = 0,
) -> Answer:
    """Return an answer as the engine gives it."""
    asked = question(name, rtype)
    message = struct.pack("!HHHHHH", 0, 0x8400 | rcode, 1, len(rdatas), 0, 0) + asked
    offsets = []
    for rdata in rdatas:
        offsets.append(len(message) + 6)
        message += b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, ttl, len(rdata)) + rdata
    until = made_at + ttl if expiry is None else expiry
    return Answer(
        id=number,
        message=message,
        ttl_offsets=tuple(offsets),
        made_at=made_at,
        expiry=until,
        stale_until=until + 86_400 if stale_until is None else stale_until,
        ede=ede,
        ad_eligible=ad_eligible,
        provisional=provisional,
        cacheable=cacheable,
        failure=failure,
        tags=tags,
        generation=generation,
    )


def failure(name: str = "www.example", *, number: int = 0, now: float = 0.0, lasts_s: float = 5.0) -> Answer:
    """Return a SERVFAIL of the engine."""
    return answer(
        name,
        rdatas=(),
        rcode=2,
        number=number,
        made_at=now,
        expiry=now + lasts_s,
        stale_until=now + lasts_s,
        failure=True,
        ede=((22, "no contact had it"),),
    )


def crowd(number: int) -> str:
    """Return the address of one of thousands of hosts, all of which may ask."""
    return f"10.0.{number // 256}.{number % 256}"


def gate(allow: Sequence[str] = ("127.0.0.0/8", "::1/128"), listed: Sequence[str] = ()) -> Gate:
    """Return a gate with an access list."""
    access = AccessList([read_network(text) for text in allow], [read_network(text) for text in listed])
    return Gate(access, udp_size_max=UDP_SIZE, server_texts=(b"p2pdns 0", b"p2pdns"), cookies=Cookies(os.urandom))


def cache(bytes_max: int = 1 << 20) -> AnswerCache:
    """Return an empty cache."""
    return AnswerCache(CacheTable(answers_bytes_max=bytes_max))


def unheard(response: bytes) -> None:
    """Take a response to a client of which only the query counts."""


def funnel(now: float = 0.0) -> Funnel:
    """Return a funnel without an engine, for this machine and a crowd."""
    return Funnel(gate(["127.0.0.0/8", "::1/128", "10.0.0.0/8"]), cache(), now=now)


def ede_codes(response: bytes) -> list[int]:
    """Return the EDE codes of a response."""
    return [int(option.code) for option in dns.message.from_wire(response).extended_errors()]
