"""A zone as lines of a hosts file: an address and a name.

Guarantees: each line has one address and one name of letters, digits, hyphens and underscores. Does not know programs
that read such a file in another way.
"""

from __future__ import annotations

from p2pdns.dns.message import RRset
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile.writing import rdata_text
from p2pdns.moving.formats.lines import Written, followed, plain_name

ADDRESS_TYPES = (Type.A, Type.AAAA)


def write(zone: Zone) -> Written:
    """Return the lines for the addresses of a zone; an alias gets those of its target where that is in the zone."""
    written = Written()
    for rrset in zone.rrsets.values():
        if rrset.rtype == Type.CNAME:
            found = list(followed(zone, rrset.owner, ADDRESS_TYPES))
            if not found:
                written.leave_out(rrset, "its target has no address in this zone")
            for one in found:
                _say(written, one)
        elif rrset.rtype in ADDRESS_TYPES:
            _say(written, rrset)
        else:
            written.leave_out(rrset, "a hosts file has addresses only")
    return written


def _say(written: Written, rrset: RRset) -> None:
    name = plain_name(rrset.owner)
    if name is None:
        why = "a hosts file has no wildcards" if rrset.owner.is_wildcard else "its name has characters of no host"
        written.leave_out(rrset, why)
        return
    for rdata in rrset.rdatas:
        written.say(f"{rdata_text(rrset.rtype, rdata)} {name}")
