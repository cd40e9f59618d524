"""Records of an ordinary zone as a zone file that `publish` takes, with comments on what is missing.

Guarantees: the text is read as exactly the records that were kept, below any key, since it has relative names only;
every record that was left out is counted with the reason; no record can get out of its line, and no comment into one.
Does not know where the records came from, or which key will sign them.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from p2pdns.dns.message import RR, type_text
from p2pdns.dns.message.rdata import rewrite_wires
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.content import DNSSEC_TYPES, select
from p2pdns.errors import FormatError, counted
from p2pdns.items.keys import SEED_BYTES, SecretKey
from p2pdns.items.packet import PacketSize, size_of
from p2pdns.moving.formats import zonefile
from p2pdns.moving.gathering import Gathered

COMMENT_COLUMNS = 100
NAMES_SHOWN_MAX = 500  # In one comment; the names of a whole transfer would be another file.
PRIVATE_TYPES = range(65280, 65535)  # RFC 6895 §3.1; BIND keeps the state of its signing in 65534.

_SIGNING = frozenset([*DNSSEC_TYPES, Type.CDS, Type.CDNSKEY, Type.CSYNC, Type.ZONEMD, Type.DLV, Type.KEY, Type.SIG])
_SEED = bytes(SEED_BYTES)  # All keys have one length, so any key gives the size.

# Why records are left out, in words for the file.
REASONS = {
    "soa": "a zone here is dated by its signature",
    "apex-ns": "a zone here is found by its key and has no name servers",
    "dnssec-type": "DNSSEC: here the whole zone is signed, not its records",
    "private-type": "a private type, which means something to one program only",
    "delegation": "at or below a delegation to name servers, which are not followed: delegate to a KEY",
    "too-long": "the name is too long below a key of 52 characters",
    "foreign-owner": "the name is not in the domain",
    "class": "a class other than IN",
    "meta-type": "a type that only messages have",
    "soa-below-apex": "an SOA below the domain",
    "wildcard-ns": "a delegation at a wildcard",
    "svcb-params": "its parameters break RFC 9460",
    "second-cname": "a second CNAME at one name",
    "second-soa": "a second SOA",
    "second-dname": "a second DNAME at one name",
    "beside-cname": "other records beside a CNAME",
    "unreadable": "data that no reader of zone files takes",
    "occluded": "at or below a delegation, or below a DNAME",
}


@dataclass(frozen=True)
class Imported:
    """A zone file, how many records it has, its size in an item, and how many records were left out for which reason.

    `left_out` is in words, with the types.
    """

    text: str
    record_count: int
    size: PacketSize
    left_out: tuple[tuple[str, int], ...]


def zone_file(domain: Name, records: Iterable[RR], remarks: Sequence[str]) -> Imported:
    """Return the zone file of these records of a domain; `remarks` become comments above it, a paragraph each."""
    apex = SecretKey.generate(_SEED).zone_key.apex
    left_out: Counter[tuple[str, int]] = Counter()
    moved: list[RR] = []
    records = list(records)
    cuts = {r.owner for r in records if r.rtype == Type.NS and r.owner != domain and r.owner.is_at_or_below(domain)}
    for record in records:
        found = _moved(record, domain, apex, cuts)
        if isinstance(found, str):
            left_out[found, record.rtype] += 1
        else:
            moved.append(found)
    dropped: Counter[str] = Counter()
    zone = Zone(apex, select(apex, moved, dropped), {}, 0)
    dropped.pop("duplicate", None)  # One of the two is kept, so nothing is missing.
    written = zonefile.write(zone)
    dropped.update({"unreadable": len(written.unsaid)} if written.unsaid else {})
    listed = _listed(left_out, dropped)
    size = size_of(zone, apex)
    lines = [*_comments([*remarks, *_size_words(size), *_left_out_words(listed)]), "", *written.lines, ""]
    return Imported("\n".join(lines), written.record_count, size, listed)


def _moved(record: RR, domain: Name, apex: Name, cuts: set[Name]) -> RR | str:
    """Return the record below the key, or the reason why it is left out."""
    owner, rtype = record.owner, record.rtype
    if not owner.is_at_or_below(domain):
        return "foreign-owner"
    if rtype in _SIGNING:
        return "dnssec-type"
    if owner == domain and rtype in (Type.SOA, Type.NS):
        return "soa" if rtype == Type.SOA else "apex-ns"
    if rtype in PRIVATE_TYPES:
        return "private-type"
    if any(owner.ancestor(count) in cuts for count in range(len(domain.labels) + 1, len(owner.labels) + 1)):
        return "delegation"
    try:
        rdata = rewrite_wires(rtype, record.rdata, lambda wire: _below(Name.parse(wire)[0], domain, apex).wire())
        return RR(_below(owner, domain, apex), rtype, record.rclass, record.ttl, rdata)
    except FormatError as trouble:
        return "too-long" if trouble.reason == "name-too-long" else "svcb-params"


def _below(name: Name, domain: Name, apex: Name) -> Name:
    return name.moved(domain, apex) if name.is_at_or_below(domain) else name


def _listed(left_out: Counter[tuple[str, int]], dropped: Counter[str]) -> tuple[tuple[str, int], ...]:
    found: dict[str, int] = {}
    for (reason, rtype), count in left_out.items():
        words = f"{type_text(rtype)} ({REASONS[reason]})"
        found[words] = found.get(words, 0) + count
    for reason, count in dropped.items():
        found[REASONS.get(reason, reason)] = count
    return tuple(sorted(found.items()))


def _size_words(size: PacketSize) -> list[str]:
    words = f"Size: {size.size_bytes} of {size.size_bytes_max} bytes of an item."
    if size.over_bytes:
        largest = ", ".join(f"{owner} {rtype} ({count} bytes)" for owner, rtype, count in size.largest)
        words += f" So it takes several items: p2pdns check says how many. The largest are {largest}."
    return [words]


def _left_out_words(listed: tuple[tuple[str, int], ...]) -> list[str]:
    return [f"Left out: {count} × {words}." for words, count in listed]


def _comments(paragraphs: Iterable[str]) -> list[str]:
    # Wrapped at blanks only, each line behind its own ";": whatever a paragraph quotes, it stays a comment. A reader
    # refuses control characters even there.
    width = COMMENT_COLUMNS
    paragraphs = ["".join(one if one.isprintable() else " " for one in paragraph) for paragraph in paragraphs]
    return [
        f"; {line}"
        for paragraph in paragraphs
        for line in textwrap.wrap(paragraph, width, break_on_hyphens=False, break_long_words=False) or [""]
    ]


def remarks_of(found: Gathered, domain: Name) -> list[str]:
    """Return what a file made of usual names says of them: what was asked, and what cannot be seen that way."""
    asked = [name.text_in(domain) for name in found.asked]
    remarks = [
        f"Asked: {counted(found.question_count, 'question')} about {counted(len(asked), 'name')}: {_names(asked)}.",
        "Not seen: any other name of the domain, and types that were not asked for, as those of DNSSEC: here the "
        "whole zone is signed. Servers tell a whole zone by transfer only. TTLs of a resolver's answers have counted "
        "down; write those you want.",
    ]
    if found.unanswered:
        silent = [name.text_in(domain) for name in found.unanswered]
        remarks.append(f"No answer, so something may be missing: {_names(silent)}.")
    if found.wildcard:
        types = ", ".join(dict.fromkeys(type_text(record.rtype) for record in found.wildcard))
        remarks.append(f"Wildcard: a random name has {types} too, which is in the record of *.")
        if found.made_up:
            made = [name.text_in(domain) for name in found.made_up]
            remarks.append(f"Nothing but the wildcard answered for {_names(made)}.")
    if found.circles:
        circles = [name.text_in(domain) for name in found.circles]
        remarks.append(f"Left out: the CNAME of {_names(circles)}, which leads back to itself.")
    return remarks


def _names(names: list[str]) -> str:
    shown = " ".join(names[:NAMES_SHOWN_MAX])
    return shown if len(names) <= NAMES_SHOWN_MAX else f"{shown} and {len(names) - NAMES_SHOWN_MAX} more"
