"""The questions for the oracle: every owner, every type, and a cloud of near misses round each."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.errors import FormatError

# Types asked at every name, whether the zone has them or not; 65281 stands for a type nobody knows.
ALWAYS = (Type.A, Type.AAAA, Type.CNAME, Type.DNAME, Type.NS, Type.SOA, Type.MX, Type.TXT, Type.DS, 65281)


def _children(name: Name) -> Iterator[Name]:
    for label in (b"x", b"*", b"\x00", b"ent", b"www"):
        try:
            yield name.child(label)
        except FormatError:
            continue


def names_around(owners: Iterable[Name], apex: Name) -> list[Name]:
    """Return these owners, every name above and below one, siblings, wildcards' edges, in a fixed order."""
    found: dict[Name, None] = {}
    for owner in owners:
        name = owner
        while name.is_at_or_below(apex):
            found[name] = None
            for child in _children(name):
                found[child] = None
                for grandchild in _children(child):
                    found[grandchild] = None
            if name.is_wildcard:
                inside = name.parent().child(b"inside")
                found[inside] = None
                found[inside.child(b"deeper")] = None
            if name == apex:
                break
            name = name.parent()
    return list(found)


def mixed_case(name: Name, chance: random.Random) -> Name:
    """Return the name with the case of each letter thrown anew."""
    return Name.of(
        *(bytes(chance.choice((o, ord(chr(o).upper()))) if o < 128 else o for o in lab) for lab in name.labels)
    )


def questions_about(
    zone: Zone, chance: random.Random, most: int | None = None, owners_max: int | None = None
) -> list[tuple[Name, int]]:
    """Return (name, type) pairs; with `most`, a sample that always has every owner with every type it owns.

    With `owners_max` these are the types of so many RRsets, drawn from all, and of the apex.
    """
    types = dict.fromkeys([*(int(code) for code in ALWAYS), *(int(rtype) for _, rtype in zone.rrsets)])
    certain = [(owner, int(rtype)) for owner, rtype in zone.rrsets]
    if owners_max is not None and len(certain) > owners_max:
        certain = [pair for pair in certain if pair[0] == zone.apex] + chance.sample(certain, owners_max)
    cloud = [(name, rtype) for name in names_around((owner for owner, _ in certain), zone.apex) for rtype in types]
    if most is not None and len(cloud) > most:
        cloud = chance.sample(cloud, most)
    return [(mixed_case(name, chance), rtype) for name, rtype in _unique(certain + cloud)]


def _unique(pairs: Iterable[tuple[Name, int]]) -> list[tuple[Name, int]]:
    return list(dict.fromkeys(pairs))
