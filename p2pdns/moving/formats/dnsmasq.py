"""A zone as options of dnsmasq: `host-record`, `cname`, `mx-host`, `srv-host`, `txt-record`, and `dns-rr` for the rest.

Guarantees: a line has characters without a meaning to dnsmasq only; data with any others is in hexadecimal. Does not
know which other options dnsmasq has.
"""

from __future__ import annotations

import re

from p2pdns.dns.message import RRset
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile.writing import rdata_text
from p2pdns.moving.formats.lines import LINE_CHARACTERS_MAX, Written, followed, plain_name, strings_in

_ADDRESS_TYPES = (Type.A, Type.AAAA)
_FOLLOWABLE = (*_ADDRESS_TYPES, Type.CNAME)
_PLAIN_TEXT = re.compile(rb"[A-Za-z0-9 =.:;_/+~@-]{1,255}")
_CANNOT = {
    Type.DNAME: "dnsmasq has no DNAME",
    Type.NS: "dnsmasq does not follow a delegation to a key",
    Type.SOA: "dnsmasq has no SOA of its own for a name",
}


def write(zone: Zone) -> Written:
    """Return the lines of the zone: names that it does not have do not exist."""
    apex = plain_name(zone.apex)
    assert apex is not None, "a zone key and a suffix have plain characters only"
    written = Written([f"local=/{apex}/"])
    for rrset in zone.rrsets.values():
        name = plain_name(rrset.owner)
        if name is None:
            why = "dnsmasq has no such wildcard" if rrset.owner.is_wildcard else "its name has characters of no host"
            written.leave_out(rrset, why)
        elif rrset.rtype in _CANNOT:
            written.leave_out(rrset, _CANNOT[Type(rrset.rtype)])
        elif rrset.rtype == Type.CNAME:
            _say_alias(written, zone, rrset, name)
        else:
            _say_records(written, rrset, name)
    return written


def _say_alias(written: Written, zone: Zone, rrset: RRset, name: str) -> None:
    target = names_in(Type.CNAME, rrset.rdatas[0])[0]
    addresses = list(followed(zone, rrset.owner, _ADDRESS_TYPES))
    if not addresses:
        written.leave_out(rrset, "its target has no address in this zone")
    elif plain_name(target) is not None and any((target, rtype) in zone.rrsets for rtype in _FOLLOWABLE):
        written.say(f"cname={name},{plain_name(target)},{rrset.ttl}")
    else:
        # It follows an alias to names that it has itself, and a wildcard of the zone is not among them.
        for one in addresses:
            _say_records(written, one, name)


def _say_records(written: Written, rrset: RRset, name: str) -> None:
    for rdata in rrset.rdatas:
        line = _line(rrset, name, rdata)
        if len(line) > LINE_CHARACTERS_MAX:
            written.leave_out(rrset, f"a line of dnsmasq has at most {LINE_CHARACTERS_MAX} characters")
        else:
            written.say(line)


def _line(rrset: RRset, name: str, rdata: bytes) -> str:
    rtype = rrset.rtype
    if rtype in _ADDRESS_TYPES:
        return f"host-record={name},{rdata_text(rtype, rdata)},{rrset.ttl}"
    targets = [plain_name(target) for target in names_in(rtype, rdata)]
    if rtype == Type.MX and targets[0] is not None:
        return f"mx-host={name},{targets[0]},{int.from_bytes(rdata[:2])}"
    if rtype == Type.SRV and targets[0] is not None:
        priority, weight, port = (int.from_bytes(rdata[at : at + 2]) for at in (0, 2, 4))
        return f"srv-host={name},{targets[0]},{port},{priority},{weight}"
    strings = strings_in(rdata) if rtype == Type.TXT else None
    if strings is not None and all(_PLAIN_TEXT.fullmatch(string) for string in strings):
        return f"txt-record={name}," + ",".join(f'"{string.decode("ascii")}"' for string in strings)
    return f"dns-rr={name},{int(rtype)},{rdata.hex()}".removesuffix(",")
