"""Zones of many names and of large RRsets, as owners have them: made by rule, so that a count and a seed say all.

Guarantees: the same count and seed make the same zone; of each kind of name there is one at least.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from tests.oracle.grown import OTHER_KEY, SEQ, SOA_RDATA

CROWD = 3_000  # Names below one label.
BIG_RRSET_BYTES = 20_000
OPENPGPKEY_BYTES = 4_000
APEX_TXT_COUNT = 30
HOST_SHARE, REVERSE_SHARE, IP6_SHARE, KEY_SHARE = 0.5, 0.15, 0.15, 0.1  # Of the names; the others have services.


class _Maker:
    def __init__(self, apex: Name, seed: int) -> None:
        self._apex = apex
        self._seed = seed

    def rrset(self, owner: str, rtype: int, *rdatas: bytes, ttl: int = 300) -> RRset:
        """Return an RRset at a name below the apex, or at the apex itself, `@`."""
        return RRset(self.name(owner), rtype, ttl, rdatas)

    def name(self, owner: str) -> Name:
        """Return a name below the apex."""
        return self._apex if owner == "@" else Name.read(owner).under(self._apex)

    def octets(self, count: int, *mark: object) -> bytes:
        """Return bytes that are the same in each run, and do not repeat."""
        blocks = range(count // 32 + 1)
        return b"".join(hashlib.sha256(repr((self._seed, mark, block)).encode()).digest() for block in blocks)[:count]

    def text(self, count: int, *mark: object) -> bytes:
        """Return the RDATA of a TXT record with so many bytes of text."""
        raw = self.octets(count, *mark)
        return b"".join(bytes([len(part)]) + part for part in (raw[at : at + 255] for at in range(0, count, 255)))

    def plain(self, count: int) -> Iterator[RRset]:
        """Yield hosts, a reverse zone, an ip6.arpa tree, DKIM keys and services, `count` names in all."""
        hosts, reverse, ip6, keys = (
            max(1, int(count * share)) for share in (HOST_SHARE, REVERSE_SHARE, IP6_SHARE, KEY_SHARE)
        )
        for number in range(hosts):
            yield self.rrset(f"host{number}", Type.A, struct.pack("!I", 10 << 24 | number))
            if number % 3 == 0:
                yield self.rrset(f"host{number}", Type.AAAA, b"\xfd" + bytes(11) + struct.pack("!I", number))
        for number in range(reverse):
            owner = f"{number % 256}.{number // 256}.10.in-addr"
            yield self.rrset(owner, Type.PTR, self.name(f"host{number}").wire())
        for number in range(ip6):
            nibbles = ".".join(f"{number:04x}"[::-1])
            yield self.rrset(f"{nibbles}{'.0' * 20}.d.f.ip6", Type.PTR, self.name(f"host{number}").wire())
        for number in range(keys):
            yield self.rrset(f"s1._domainkey.host{number}", Type.TXT, self.text(400, "dkim", number))
        for number in range(max(1, count - hosts - reverse - ip6 - keys)):
            service = struct.pack("!HHH", 0, 5, 443) + self.name(f"host{number}").wire()
            yield self.rrset(f"_https._tcp.host{number}", Type.SRV, service)

    def odd(self) -> Iterator[RRset]:
        """Yield one of each kind that has rules of its own."""
        for index in range(3):
            yield self.rrset(f"*.wild{index}", Type.A, bytes((192, 0, 2, index)))
            yield self.rrset(f"named.wild{index}", Type.TXT, self.text(20, "named", index))
        yield self.rrset("*", Type.TXT, self.text(30, "wildcard"))
        yield self.rrset("old", Type.DNAME, self.name("new").wire())
        yield self.rrset("a.new", Type.A, bytes((192, 0, 2, 9)))
        yield self.rrset("deep.old-too", Type.DNAME, self.name("in-addr").wire())
        yield self.rrset("www", Type.CNAME, self.name("host0").wire())
        yield self.rrset("far", Type.CNAME, self.name("a.old").wire())
        yield self.rrset("loop", Type.CNAME, self.name("loop").wire())
        yield self.rrset("out", Type.CNAME, Name.read("www.example").wire())
        yield self.rrset("sub", Type.NS, OTHER_KEY.wire())
        yield self.rrset("below.ent.sub2", Type.NS, OTHER_KEY.wire())
        yield self.rrset("x.y.z.ent", Type.A, bytes((192, 0, 2, 10)))

    def large(self) -> Iterator[RRset]:
        """Yield RRsets that are larger than an item."""
        count = BIG_RRSET_BYTES // 200
        yield self.rrset("big", Type.TXT, *(self.text(200, "big", number) for number in range(count)))
        yield self.rrset("key", 61, self.octets(OPENPGPKEY_BYTES, "openpgp"))
        yield self.rrset("@", Type.TXT, *(self.text(60, "apex", number) for number in range(APEX_TXT_COUNT)))

    def crowd(self) -> Iterator[RRset]:
        """Yield many names below one label."""
        for number in range(CROWD):
            yield self.rrset(f"n{number}.crowd", Type.A, struct.pack("!I", 172 << 24 | number))
        yield self.rrset("*.crowd", Type.TXT, self.text(20, "crowd"))


def large_zone(apex: Name, count: int, seed: int = 1, *, is_crowded: bool = False) -> Zone:
    """Return a zone with so many names of the usual kinds, one of each odd kind, and large RRsets.

    One label has 3,000 more names below it if the zone `is_crowded`.
    """
    maker = _Maker(apex, seed)
    rrsets = [RRset(apex, Type.SOA, 600, (SOA_RDATA,)), *maker.plain(count), *maker.odd(), *maker.large()]
    return Zone.of(apex, [*rrsets, *(maker.crowd() if is_crowded else ())], SEQ)
