"""A zone as a zone file that `publish` takes.

Guarantees: the lines, read under the key of the zone, give its records again; a record that no zone file can say, such
as a CAA of no bytes, is left out. Does not know petnames: a name of a stranger's zone that looks like a placeholder for
a key stays that name.
"""

from __future__ import annotations

from p2pdns.dns.message import type_text
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile import placeholders, reader, writing
from p2pdns.errors import ZoneFileError
from p2pdns.moving.formats.lines import Written

NO_READER = "no reader of zone files takes its data"


def write(zone: Zone) -> Written:
    """Return the lines of the zone file, names relative to the apex."""
    written = Written()
    records = [(rrset, rdata) for rrset in zone.rrsets.values() for rdata in rrset.rdatas]
    lines = placeholders.escaped(writing.write(zone)).splitlines()
    for (rrset, rdata), line in zip(records, lines, strict=True):
        if _is_read(line, zone.apex, rdata):
            written.say(line)
        else:
            written.unsaid.append(f"{type_text(rrset.rtype)} of {rrset.owner.text_in(zone.apex)}: {NO_READER}")
    return written


def _is_read(line: str, apex: Name, rdata: bytes) -> bool:
    # A stranger may sign any bytes as the data of a record, and readers of text know some types well enough to refuse.
    try:
        (rrset,) = reader.reading(line, apex=apex, path="zone").rrsets
    except (ZoneFileError, ValueError):
        return False
    return rrset.rdatas == (rdata,)
