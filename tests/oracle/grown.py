"""Zones grown by hypothesis: few labels, many collisions, so that wildcards, cuts and aliases meet."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone

LABELS = (b"a", b"b", b"c", b"*", b"www")
SEQ = 1_790_000_000_000_000
DEPTH_MAX = 4
RRSETS_MAX = 14
SOA_RDATA = b"\x02ns\x00\x05owner\x00" + struct.pack(">5I", 1, 3600, 600, 864_000, 90)
OTHER_KEY = Name.of(b"yqrxjzyqrxjzyqrxjzyqrxjzyqrxjzyqrxjzyqrxjzyqrxjzyqry")
# An NS RRset at the apex is no cut, and the oracle wants it to name servers; the other two would leave nothing else.
NOT_AT_THE_APEX = (Type.NS, Type.CNAME, Type.DNAME)

# (labels of the owner, type, TTL, labels of the target, one byte of data)
Grown = tuple[list[bytes], Type, int, list[bytes], int]

_labels = st.lists(st.sampled_from(LABELS), max_size=DEPTH_MAX)
_types = st.sampled_from((Type.A, Type.TXT, Type.MX, Type.CNAME, Type.CNAME, Type.DNAME, Type.NS))
contents = st.lists(
    st.tuples(_labels, _types, st.sampled_from((0, 30, 300)), _labels, st.integers(97, 122)), max_size=RRSETS_MAX
)


def zone_of(apex: Name, rows: list[Grown]) -> Zone:
    """Return the zone that remains after the rules have dropped what cannot stand together."""
    found = {(apex, Type.SOA): RRset(apex, Type.SOA, 600, (SOA_RDATA,))}
    for owner_labels, rtype, ttl, target_labels, byte in rows:
        owner = Name.of(*owner_labels).under(apex)
        target = Name.of(*target_labels).under(apex).wire()
        if owner == apex and rtype in NOT_AT_THE_APEX:
            continue
        rdata = {
            Type.A: bytes((192, 0, 2, byte)),
            Type.TXT: bytes((1, byte)),
            Type.MX: b"\x00\x0a" + target,
            Type.NS: OTHER_KEY.wire(),
        }.get(rtype, target)
        found.setdefault((owner, rtype), RRset(owner, rtype, ttl, (rdata,)))
    return Zone.of(apex, tuple(found.values()), SEQ)
