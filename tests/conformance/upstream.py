"""A resolver on loopback that obeys the first label of what it is asked, over UDP and TCP on one port.

`a-7.upstream.example` is treated as `a`: the number only makes a name of its own. What it was asked is written down.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance import wire
from tests.conformance.wire import AD, CD, DO, QR, RA, RD, TC

ZONE = wire.name("upstream.example")
ADDRESS = bytes([192, 0, 2, 1])
MINIMUM_S = 60  # Of the SOA in negative answers, whose own TTL is 300.
BIG_COUNT, HUGE_COUNT = 8, 240  # TXT records of 255 bytes: more than a datagram holds, and nearly a whole message.
PORT_TRIES_MAX = 20


@dataclass(frozen=True)
class Asked:
    """One query as it arrived."""

    label: str
    qname: bytes
    qtype: int
    flags: int
    dnssec_ok: bool
    is_stream: bool
    head: bytes
    question: bytes
    is_first: bool

    def reply(
        self,
        *answer: bytes,
        rcode: int = 0,
        authority: tuple[bytes, ...] = (),
        additional: tuple[bytes, ...] = (),
        flags: int = 0,
    ) -> bytes:
        """Return a reply with these RRs."""
        word = QR | RA | (self.flags & (RD | CD)) | flags | rcode
        counts = struct.pack("!HHHHH", word, 1, len(answer), len(authority), len(additional))
        return self.head + counts + self.question + b"".join([*answer, *authority, *additional])

    def address(self, ttl: int = 300, flags: int = 0) -> bytes:
        """Return a reply with one address."""
        return self.reply(wire.record(b"\xc0\x0c", wire.A, ADDRESS, ttl), flags=flags)

    def many(self, count: int) -> bytes:
        """Return a reply with many TXT records, cut where a datagram is too short for it."""
        if not self.is_stream:
            return self.reply(flags=TC)
        return self.reply(*(wire.record(b"\xc0\x0c", wire.TXT, b"\xfe%0254d" % number) for number in range(count)))


def soa(ttl: int = 300) -> bytes:
    """Return the SOA record of the zone."""
    rdata = ZONE + ZONE + struct.pack("!IIIII", 1, 3600, 600, 864_000, MINIMUM_S)
    return wire.record(ZONE, wire.SOA, rdata, ttl)


def rrsig(owner: bytes, covered: int) -> bytes:
    """Return a record that looks like a signature of the zone's."""
    rdata = struct.pack("!HBBIIIH", covered, 15, 3, 300, 2_000_000_000, 1_700_000_000, 7) + ZONE + bytes(64)
    return wire.record(owner, wire.RRSIG, rdata)


def _signed(asked: Asked) -> bytes:
    records = [wire.record(b"\xc0\x0c", wire.A, ADDRESS)]
    records += [rrsig(b"\xc0\x0c", wire.A)] if asked.dnssec_ok else []
    return asked.reply(*records, flags=AD)


def _denied(asked: Asked) -> bytes:
    # The proof that a validating client asks for: from the apex to the apex there is nothing.
    nsec = wire.record(ZONE, wire.NSEC, ZONE + b"\x00\x01\x02")
    proof = [rrsig(ZONE, wire.SOA), nsec, rrsig(ZONE, wire.NSEC)] if asked.dnssec_ok else []
    return asked.reply(rcode=3, authority=(soa(), *proof))


def _loud(asked: Asked) -> bytes:
    # Servers that answer in lower case are in use; the client's own case has to come back all the same.
    lower = Asked(**{**asked.__dict__, "question": asked.qname.lower() + asked.question[-4:]})
    return lower.address()


def _told(asked: Asked) -> bytes:
    ede = wire.option(wire.EDE, b"\x00\x09" + b"no key")
    return asked.reply(rcode=2, additional=(wire.opt(1232, ede),))


def _alias(asked: Asked) -> bytes:
    target = b"\x06target" + ZONE
    alias = wire.record(b"\xc0\x0c", wire.CNAME, target)
    return asked.reply(alias, wire.record(target, wire.A, ADDRESS))


def _blocked_alias(asked: Asked) -> bytes:
    target = b"\x03ads" + ZONE
    return asked.reply(wire.record(b"\xc0\x0c", wire.CNAME, target), wire.record(target, wire.A, ADDRESS))


def _dead_alias(asked: Asked) -> bytes:
    return asked.reply(wire.record(b"\xc0\x0c", wire.CNAME, b"\x07nowhere" + ZONE), rcode=3, authority=(soa(),))


def _compressed(asked: Asked) -> bytes:
    # RFC 3597 §4 forbids such a pointer in SRV, and old servers sent it: the target is "target" in our zone.
    labels = asked.qname[0] + 1
    rdata = struct.pack("!HHH", 0, 1, 443) + b"\x06target" + struct.pack("!H", 0xC000 | (12 + labels))
    return asked.reply(wire.record(b"\xc0\x0c", wire.SRV, rdata))


def _twice(asked: Asked) -> bytes:
    return asked.reply(*[wire.record(b"\xc0\x0c", wire.A, ADDRESS)] * 2)


def _unequal(asked: Asked) -> bytes:
    rdatas = [bytes([192, 0, 2, number]) for number in (1, 2, 3)]
    ttls = (300, 30, 900)
    return asked.reply(*(wire.record(b"\xc0\x0c", wire.A, *pair) for pair in zip(rdatas, ttls, strict=True)))


def _wrong_id(asked: Asked) -> bytes:
    wrong = bytes([asked.head[0] ^ 0xFF]) + asked.head[1:]
    return Asked(**{**asked.__dict__, "head": wrong}).address()


BEHAVIOURS: dict[str, Callable[[Asked], bytes]] = {
    "a": Asked.address,
    "zero": lambda asked: asked.address(0),
    "top": lambda asked: asked.address(0x8000_012C),
    "year": lambda asked: asked.address(31_536_000),
    "ad": lambda asked: asked.address(flags=AD),
    "signed": _signed,
    "denied": _denied,
    "loud": _loud,
    "missing": lambda asked: asked.reply(rcode=3, authority=(soa(),)),
    "nodata": lambda asked: asked.reply(authority=(soa(),)),
    "nosoa": lambda asked: asked.reply(rcode=3),
    "servfail": lambda asked: asked.reply(rcode=2),
    "recursive": lambda asked: asked.address() if asked.flags & RD else asked.reply(rcode=5),
    "refused": lambda asked: asked.reply(rcode=5),
    "formerr": lambda asked: asked.reply(rcode=1),
    "told": _told,
    "alias": _alias,
    "toblocked": _blocked_alias,
    "deadend": _dead_alias,
    "srv": _compressed,
    "twice": _twice,
    "unequal": _unequal,
    "wrongid": _wrong_id,
    "raw": lambda asked: asked.reply(wire.record(b"\xc0\x0c", asked.qtype, b"\xc0\x0c\x00\xff\x41\x61")),
    "big": lambda asked: asked.many(BIG_COUNT),
    "huge": lambda asked: asked.many(HUGE_COUNT),
    "garbage": lambda asked: asked.head + b"\xff" * 30,
    "silent": lambda asked: b"",
    # What answers once, with little time to live, and then never again.
    "fails": lambda asked: asked.address(1) if asked.is_first else asked.reply(rcode=2),
    "falls": lambda asked: asked.address(1) if asked.is_first else b"",
}


class Upstream:
    """The resolver, in threads of its own."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.aliases: dict[str, bytes] = {}
        self._numbers = itertools.count(1)
        self._udp, self._tcp = _sockets()
        self.host, self.port = self._udp.getsockname()
        self._is_open = True
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def fresh(self, behaviour: str) -> str:
        """Return a name with a behaviour that nobody has asked for yet."""
        assert behaviour in BEHAVIOURS
        return f"{behaviour}-{next(self._numbers)}.upstream.example"

    def queries_for(self, qname: str) -> list[Asked]:
        """Return the queries for a name so far."""
        wanted = wire.name(qname).lower()
        return [asked for asked in list(self.asked) if asked.qname.lower() == wanted]

    def close(self) -> None:
        """Stop both threads."""
        self._is_open = False
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (self.host, self.port))
        with contextlib.suppress(OSError):
            socket.create_connection((self.host, self.port), 5).close()
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            data, sender = self._udp.recvfrom(4096)
            if not self._is_open:
                return
            response = self._response(data, is_stream=False)
            if response:
                self._udp.sendto(response, sender)

    def _serve_tcp(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection, contextlib.suppress(OSError), connection.makefile("rb") as stream:
                if not self._is_open:
                    return
                connection.settimeout(5)
                data = stream.read(int.from_bytes(stream.read(2)))
                response = self._response(data, is_stream=True)
                connection.sendall(len(response).to_bytes(2) + response)

    def _response(self, data: bytes, *, is_stream: bool) -> bytes:
        end = wire.name_end(data, wire.HEADER_BYTES)
        qname, asked_for = data[wire.HEADER_BYTES : end], data[wire.HEADER_BYTES : end + 4]
        label = qname[1 : 1 + qname[0]].decode("latin-1").lower().partition("-")[0] if qname[0] else ""
        flags = int.from_bytes(data[2:4])
        opt_flags = int.from_bytes(data[end + 4 + 7 : end + 4 + 9]) if len(data) > end + 4 else 0
        qtype = int.from_bytes(asked_for[-4:-2])
        is_first = all(before.qname.lower() != qname.lower() for before in self.asked)
        dnssec_ok = bool(opt_flags & DO)
        asked = Asked(label, qname, qtype, flags, dnssec_ok, is_stream, data[:2], asked_for, is_first)
        self.asked.append(asked)
        if label in self.aliases:
            return asked.reply(wire.record(b"\xc0\x0c", wire.CNAME, self.aliases[label]))
        return BEHAVIOURS.get(label, Asked.address)(asked)


def _sockets() -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a listening TCP socket on one port that the system chose."""
    for _ in range(PORT_TRIES_MAX):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
            continue
        tcp.listen(32)
        return udp, tcp
    raise AssertionError("no port is free for UDP and TCP")
