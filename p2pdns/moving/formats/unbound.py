"""A zone as `local-zone` and `local-data` of unbound.

unbound does not follow an alias in such data, so an alias gets the records of its target where that is in the zone.
Guarantees: no quote and no line end is inside the quotes of a line. Does not know which names unbound answers already.
"""

from __future__ import annotations

from p2pdns.dns.message import RRset, type_text
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile.writing import rdata_text
from p2pdns.moving.formats.lines import Written, followed, strings_in

_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_SAFE_IN_STRINGS = _SAFE + b" =.:;,/+~@!*?&%"
_CANNOT = {
    Type.DNAME: "unbound has no local DNAME",
    Type.NS: "unbound does not follow a delegation to a key",
}


def write(zone: Zone) -> Written:
    """Return the lines of the zone: names that it does not have do not exist."""
    written = Written(["server:", f"    local-zone: '{_name(zone.apex)}' static"])
    for rrset in zone.rrsets.values():
        if rrset.owner.is_wildcard:
            written.leave_out(rrset, "unbound has no local wildcard")
        elif rrset.rtype in _CANNOT:
            written.leave_out(rrset, _CANNOT[Type(rrset.rtype)])
        elif rrset.rtype == Type.CNAME:
            # An alias that leads out of the zone stays one; its reader has to ask for the target.
            for one in list(followed(zone, rrset.owner)) or [rrset]:
                _say(written, one)
        else:
            _say(written, rrset)
    return written


def _say(written: Written, rrset: RRset) -> None:
    for rdata in rrset.rdatas:
        kind, data = _data(rrset.rtype, rdata)
        written.say(f"    local-data: '{_name(rrset.owner)} {rrset.ttl} IN {kind} {data}'")


def _data(rtype: int, rdata: bytes) -> tuple[str, str]:
    """Return type and data as unbound reads them: in words where they are few, else in the form of RFC 3597."""
    if rtype in (Type.A, Type.AAAA):
        return type_text(rtype), rdata_text(rtype, rdata)
    if rtype in (Type.CNAME, Type.PTR):
        return type_text(rtype), _name(names_in(rtype, rdata)[0])
    if rtype == Type.MX:
        return "MX", f"{int.from_bytes(rdata[:2])} {_name(names_in(rtype, rdata)[0])}"
    if rtype == Type.SRV:
        numbers = " ".join(str(int.from_bytes(rdata[at : at + 2])) for at in (0, 2, 4))
        return "SRV", f"{numbers} {_name(names_in(rtype, rdata)[0])}"
    if rtype == Type.TXT and (strings := strings_in(rdata)) is not None:
        return "TXT", " ".join(f'"{_escaped(string, _SAFE_IN_STRINGS)}"' for string in strings)
    return f"TYPE{rtype}", f"\\# {len(rdata)} {rdata.hex()}".rstrip()


def _name(name: Name) -> str:
    return "".join(f"{_escaped(label, _SAFE)}." for label in name.labels) or "."


def _escaped(raw: bytes, safe: bytes) -> str:
    # The reader of the file knows no escape, the reader of the record in it does: so a quote is written by its number.
    return "".join(chr(byte) if byte in safe else f"\\{byte:03d}" for byte in raw)
