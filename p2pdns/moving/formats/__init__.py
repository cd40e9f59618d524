"""Zones in the form that other programs read: zone files, and settings of unbound, dnsmasq and hosts files.

Guarantees: each record is in one line at most, and nothing that a stranger has put into a zone gets out of its line,
whatever bytes it has; what a form cannot say is a comment with the reason. Does not know where the zone came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2pdns.dns.message.rdata import rewrite_wires
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.moving.formats import dnsmasq, hosts, unbound, zonefile
from p2pdns.moving.formats.lines import Written, comment
from p2pdns.values import replace

FORMATS: dict[str, tuple[str, Callable[[Zone], Written]]] = {
    "zone": (";", zonefile.write),
    "unbound": ("#", unbound.write),
    "dnsmasq": ("#", dnsmasq.write),
    "hosts": ("#", hosts.write),
}
"""Each form with the mark of its comments and its writer."""


@dataclass(frozen=True)
class Exported:
    """The text of a zone in some form, how many records it says, and what it cannot say."""

    text: str
    record_count: int
    unsaid: tuple[str, ...]


def export(zone: Zone, form: str, remarks: Sequence[str], *, names_origin: bool = False) -> Exported:
    """Return a zone in a form; `remarks` become comments above it.

    With `names_origin` a zone file names its apex.
    """
    mark, write = FORMATS[form]
    written = write(zone)
    if names_origin and form == "zone":
        written.lines.insert(0, f"$ORIGIN {zone.apex}")
    head = [comment(mark, remark) for remark in remarks]
    foot = [comment(mark, f"not said here: {what}") for what in written.unsaid]
    return Exported("\n".join([*head, *written.lines, *foot, ""]), written.record_count, tuple(written.unsaid))


def shown_below(zone: Zone, apex: Name) -> Zone:
    """Return the zone with its names below another apex; FormatError where one of them gets too long."""

    def moved(name: Name) -> Name:
        return name.moved(zone.apex, apex) if name.is_at_or_below(zone.apex) else name

    rrsets = [
        replace(
            rrset,
            owner=moved(rrset.owner),
            rdatas=tuple(
                rewrite_wires(rrset.rtype, rdata, lambda wire: moved(Name.parse(wire)[0]).wire())
                for rdata in rrset.rdatas
            ),
        )
        for rrset in zone.rrsets.values()
    ]
    return Zone.of(apex, rrsets, 0)
