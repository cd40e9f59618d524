"""Records of one file that exclude each other: mistakes, and records that readers leave out.

A record at or below a zone cut, or below a DNAME, is no mistake, since zones of other servers hold glue and DS there.
It is left out, with one warning for each cut. Guarantees: `dns/zone/content` keeps every record that is neither a
mistake nor left out. Does not know text, TTLs, or where the file is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from p2pdns.dns.message import type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone.content import SINGLETONS, canonical_rdata
from p2pdns.dns.zonefile.entries import ReadRecord, Remark

REASONS: Mapping[str, tuple[str, str]] = {
    "meta-type": ("belongs to messages, not to zones", "remove the record"),
    "dnssec-type": (
        "is DNSSEC, which an item does not carry",
        "remove the record: the signature of the item covers the whole zone",
    ),
    "soa-below-apex": ("stands below the apex", "a zone has one SOA, at @"),
    "wildcard-ns": ("delegates a wildcard, which no resolver understands alike", "delegate each name with a line"),
    "svcb-params": ("has parameters that do not hold", "check the service parameters against RFC 9460"),
}


def judged(apex: Name, entries: Iterable[ReadRecord]) -> tuple[list[Remark], list[Remark]]:
    """Return the mistakes of records that exclude each other, and the warnings about records that are left out."""
    by_owner: dict[Name, list[ReadRecord]] = {}
    for entry in entries:
        by_owner.setdefault(entry.record.owner, []).append(entry)
    mistakes: list[Remark] = []
    hidden: dict[ReadRecord, list[ReadRecord]] = {}
    blocker: ReadRecord | None = None
    # In canonical order all names below a name follow it directly, so one blocker at a time is enough.
    for owner in sorted(by_owner):
        group = by_owner[owner]
        if blocker is not None and owner.is_at_or_below(blocker.record.owner):
            hidden[blocker].extend(group)
            continue
        first = {entry.record.rtype: entry for entry in reversed(group) if entry.refusal is None}
        if Type.NS in first and owner != apex and Type.CNAME not in first:
            blocker = first[Type.NS]
            hidden[blocker] = [entry for entry in group if entry.record.rtype != Type.NS]
            continue
        for entry in group:
            if entry.refusal is not None:
                what, hint = REASONS[entry.refusal]
                mistakes.append(Remark(entry.line, f"{type_text(entry.record.rtype)} {what}", hint))
        mistakes += _clashes([entry for entry in group if entry.refusal is None], owner.text_in(apex))
        if Type.DNAME in first and Type.CNAME not in first:
            blocker = first[Type.DNAME]
            hidden[blocker] = []
    return mistakes, [warning for cut, left_out in hidden.items() for warning in _left_out(apex, cut, left_out)]


def _clashes(group: list[ReadRecord], owner: str) -> Iterable[Remark]:
    first: dict[int, ReadRecord] = {}
    for entry in group:
        record = entry.record
        twin = first.setdefault(record.rtype, entry)
        if record.rtype not in SINGLETONS:
            continue
        if canonical_rdata(record.rtype, record.rdata) != canonical_rdata(record.rtype, twin.record.rdata):
            what = f"a second {type_text(record.rtype)} at {owner}, the first is in line {twin.line}"
            yield Remark(entry.line, what, "remove one of the two")
    if Type.CNAME in first and len(first) > 1:
        other = next(entry for entry in group if entry.record.rtype != Type.CNAME)
        hint = "an alias stands alone: remove it, or the other records of that owner"
        yield Remark(other.line, f"{type_text(other.record.rtype)} beside CNAME at {owner}", hint)


def _left_out(apex: Name, cut: ReadRecord, left_out: list[ReadRecord]) -> Iterable[Remark]:
    """Yield the warnings about the records that a cut or a DNAME hides: one for all, and one for the DS of the cut."""
    owner = cut.record.owner.text_in(apex)
    ds: list[ReadRecord] = []
    rest: list[ReadRecord] = []
    for entry in sorted(left_out, key=lambda entry: entry.line):
        is_ds = entry.record.rtype == Type.DS and entry.record.owner == cut.record.owner
        (ds if is_ds else rest).append(entry)
    if ds:
        yield Remark(ds[0].line, f"DS at the delegation of {owner} is left out: the key in its NS is what counts")
    if not rest:
        return
    first = rest[0]
    what = f"{type_text(first.record.rtype)} of {first.record.owner.text_in(apex)}"
    more = f" and {len(rest) - 1} more" if len(rest) > 1 else ""
    is_cut = cut.record.rtype == Type.NS
    where = f"at or below the delegation of {owner}" if is_cut else f"below the DNAME of {owner}"
    are = "are" if more else "is"
    yield Remark(first.line, f"{what}{more} {where} (line {cut.line}) {are} left out, as by every reader")
