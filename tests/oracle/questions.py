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


def names_around(zone: Zone) -> list[Name]:
    """Return every owner, every name above and below one, siblings, wildcards' edges, in a fixed order."""
    found: dict[Name, None] = {}
    for owner, _ in zone.rrsets:
        name = owner
        while name.is_at_or_below(zone.apex):
            found[name] = None
            for child in _children(name):
                found[child] = None
                for grandchild in _children(child):
                    found[grandchild] = None
            if name.is_wildcard:
                inside = name.parent().child(b"inside")
                found[inside] = None
                found[inside.child(b"deeper")] = None
            if name == zone.apex:
                break
            name = name.parent()
    return list(found)


def mixed_case(name: Name, chance: random.Random) -> Name:
    """Return the name with the case of each letter thrown anew."""
    return Name.of(
        *(bytes(chance.choice((o, ord(chr(o).upper()))) if o < 128 else o for o in lab) for lab in name.labels)
    )


def questions_about(zone: Zone, chance: random.Random, most: int | None = None) -> list[tuple[Name, int]]:
    """Return (name, type) pairs; with `most`, a sample that always has every owner with every type it owns."""
    types = dict.fromkeys([*(int(code) for code in ALWAYS), *(int(rtype) for _, rtype in zone.rrsets)])
    certain = [(owner, int(rtype)) for owner, rtype in zone.rrsets]
    cloud = [(name, rtype) for name in names_around(zone) for rtype in types]
    if most is not None and len(cloud) > most:
        cloud = chance.sample(cloud, most)
    return [(mixed_case(name, chance), rtype) for name, rtype in _unique(certain + cloud)]


def _unique(pairs: Iterable[tuple[Name, int]]) -> list[tuple[Name, int]]:
    return list(dict.fromkeys(pairs))
