"""Zones and RDATA as the text of a zone file.

Guarantees: `write` gives text that is read as the same zone; `rdata_text` gives printable ASCII for any bytes.
Does not know where the bytes came from.
"""

from __future__ import annotations

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from p2pdns.dns.message import RRset, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile import svcb
from p2pdns.errors import FormatError

IPV4_BYTES = 4
_READER_ERRORS = (
    *(dns.exception.DNSException, FormatError, ValueError),
    *(LookupError, ArithmeticError, AttributeError, TypeError),
)


def write(zone: Zone) -> str:
    """Return a zone file of the zone: one record a line, names relative to the apex where that is possible."""
    return "".join(f"{line}\n" for rrset in zone.rrsets.values() for line in rrset_lines(rrset, zone.apex))


def rrset_lines(rrset: RRset, apex: Name) -> list[str]:
    """Return an RRset as lines of a zone file, names relative to the apex where that is possible."""
    head = f"{rrset.owner.text_in(apex)} {rrset.ttl} {type_text(rrset.rtype)}"
    return [f"{head} {_rdata_text(rrset.rtype, rdata, apex)}" for rdata in rrset.rdatas]


def rdata_text(rtype: int, rdata: bytes, apex: Name | None = None) -> str:
    r"""Return RDATA as a zone file says it, or `\# 4 0a000001` where that is not possible (RFC 3597).

    Names are absolute; with an `apex`, those in it are relative to it.

    >>> rdata_text(Type.A, bytes([192, 0, 2, 1])), rdata_text(65280, b"ab")
    ('192.0.2.1', '\\# 2 6162')
    """
    return _rdata_text(rtype, rdata, apex)


def dnspython_name(name: Name) -> dns.name.Name:
    """Return a name as dnspython has it."""
    return dns.name.Name((*name.labels, b""))


def _rdata_text(rtype: int, rdata: bytes, apex: Name | None) -> str:
    if rtype == Type.A and len(rdata) == IPV4_BYTES:
        # Most records of large zones are such, and dnspython takes far longer for them.
        return ".".join(map(str, rdata))
    generic = f"\\# {len(rdata)} {rdata.hex()}".rstrip()
    try:
        write_rdata = svcb.write if rtype in (Type.SVCB, Type.HTTPS) else svcb.text_of
        text = write_rdata(rtype, rdata, None if apex is None else dnspython_name(apex))
    except _READER_ERRORS:
        # A stranger wrote these bytes. Where dnspython cannot read them, the generic form remains.
        return generic
    return text if text.isascii() and text.isprintable() else generic
