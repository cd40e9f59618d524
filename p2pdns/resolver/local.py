"""Zones without a publisher: our suffixes, `alt` and `internal`, the special-use names of the RFCs, and local data.

Guarantees: a negative answer has an SOA of the zone it speaks for. Does not know which names are looked up where;
`names` decides that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from p2pdns.dns.message import RR, Question, RRset, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.dns.zonefile import reader
from p2pdns.errors import ConfigError, FormatError, ZoneFileError, together

LOCAL_TTL_S = 300  # A petname may be added any minute, and a stub's own cache hears of no invalidation.
# Below it lie the names that nodes ask their upstreams for, to find those that lead back to themselves.
# Below it the engine asks upstreams for names that nobody has, to find those that ask us in turn. An ordinary name of
# class IN, because resolvers answer others themselves: those of RFC 6761 and 6303, and what class CHAOS asks. Only of
# `example` does RFC 6761 §6.5 say that resolvers should not know it as special.
PROBE_SUFFIX = Name.read("p2pdns-probe.example.com.")

_LOCALHOST = Name.read("localhost.")
_NOBODY = Name.read("nobody.invalid.")


@dataclass(frozen=True, slots=True)
class LocalZone:
    """A zone answered here. With `has_data` its apex has SOA and NS; `covers_all` gives every name below it `data`.

    `has_parent`: it is delegated in the DNS, so that its DS is not answered here: only the parent can prove that there
    is none.
    """

    apex: Name
    has_data: bool = True
    covers_all: bool = False
    has_parent: bool = False
    data: tuple[tuple[Name | None, int, bytes], ...] = ()

    def has_owner(self, name: Name) -> bool:
        """Return whether the name exists: the apex, an owner, or a name above an owner (RFC 8020)."""
        return name == self.apex or any(owner is not None and owner.is_at_or_below(name) for owner, _, _ in self.data)

    def soa(self) -> RR:
        """Return the SOA, as resolvers with built-in zones have it (RFC 6303 §3)."""
        numbers = (1, 3600, 1200, 604_800, LOCAL_TTL_S)
        rdata = _LOCALHOST.wire() + _NOBODY.wire() + b"".join(number.to_bytes(4) for number in numbers)
        return RR(self.apex, Type.SOA, Class.IN, LOCAL_TTL_S, rdata)

    def answer(self, question: Question) -> tuple[RR, ...]:
        """Return the RRs that answer the question, none where it has none."""
        rows = [(owner or question.name, rtype, rdata) for owner, rtype, rdata in self.data]
        if self.has_data:
            rows += [(self.apex, Type.SOA, self.soa().rdata), (self.apex, Type.NS, _LOCALHOST.wire())]
        # ANY gets one RRset and no more (RFC 8482).
        here = [(owner, rtype, rdata) for owner, rtype, rdata in rows if owner == question.name]
        wanted = here[0][1] if here and question.rtype == Type.ANY else question.rtype
        return tuple(RR(owner, rtype, Class.IN, LOCAL_TTL_S, rdata) for owner, rtype, rdata in here if rtype == wanted)


@dataclass(frozen=True, slots=True)
class LocalName:
    """A name whose records the configuration says; what is below it, and what it has not, is nobody's here."""

    apex: Name
    rrsets: tuple[RRset, ...]
    has_parent: bool = False

    def soa(self) -> RR:
        """Return the SOA of a zone that is this name alone."""
        return LocalZone(self.apex).soa()

    def answer(self, question: Question) -> tuple[RR, ...]:
        """Return the RRs that answer the question, none where it has none; an alias answers whatever is asked."""
        for rrset in self.rrsets:
            if question.rtype in (rrset.rtype, Type.ANY) or rrset.rtype == Type.CNAME:
                return tuple(RR(question.name, rrset.rtype, Class.IN, rrset.ttl, rdata) for rdata in rrset.rdatas)
        return ()


def read_local_data(lines: Sequence[str]) -> Mapping[Name, LocalName]:
    """Return the names that lines of a zone file give records to; ConfigError with the line that does not hold.

    >>> list(read_local_data(["router.lan 300 A 192.168.1.1"]))
    [<Name router.lan.>]
    """
    if not lines:
        return {}
    place = "[dns] local_data"
    try:
        rrsets = reader.reading("\n".join(lines) + "\n", apex=Name.root(), path=place, ttl=LOCAL_TTL_S).rrsets
    except ZoneFileError as trouble:
        raise together(
            ConfigError(
                mistake.what,
                place=place if mistake.line is None else f"{place}, line {mistake.line}",
                line=mistake.line,
                hint=mistake.hint,
            )
            for mistake in trouble.mistakes
        ) from None
    names: dict[Name, list[RRset]] = {}
    for rrset in rrsets:
        if rrset.owner.is_wildcard or rrset.rtype == Type.DNAME:
            what = "a wildcard" if rrset.owner.is_wildcard else type_text(rrset.rtype)
            raise ConfigError(f"{rrset.owner} is {what}", place=place, hint="local data is of single names")
        names.setdefault(rrset.owner, []).append(rrset)
    return {owner: LocalName(owner, tuple(found)) for owner, found in names.items()}


def _reverse_v4() -> list[str]:
    blocks = ["10", "168.192", "254.169", "0", "2.0.192", "100.51.198", "113.0.203", "255.255.255.255"]
    blocks += [f"{second}.172" for second in range(16, 32)]
    blocks += [f"{second}.100" for second in range(64, 128)]  # RFC 7793
    return [f"{block}.in-addr.arpa." for block in blocks]


def _reverse_v6() -> list[str]:
    unspecified = ".".join("0" * 32)
    return [
        f"{block}.ip6.arpa." for block in (unspecified, "d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f", "8.b.d.0.1.0.0.2")
    ]


@dataclass(slots=True)
class _Branch:
    """A name among the special-use ones: the zone that begins there, and the labels below it."""

    zone: LocalZone | None = None
    below: dict[bytes, _Branch] = field(default_factory=dict)


def _by_label(zones: Mapping[Name, LocalZone]) -> _Branch:
    root = _Branch()
    for apex, zone in zones.items():
        branch = root
        for label in apex.canonical_key():
            branch = branch.below.setdefault(label, _Branch())
        branch.zone = zone
    return root


def _special_use() -> dict[Name, LocalZone]:
    # RFC 6761 (invalid, test, private reverse zones), 7686 (onion), 6303, 6762 §22.1 (local: multicast DNS has it).
    zones = {name: LocalZone(name) for name in map(Name.read, ("invalid.", "test.", "onion.", "local."))}
    # RFC 6303 §7: these are delegated, unsigned, so that a validating client learns there is nothing to validate.
    for name in map(Name.read, (*_reverse_v4(), *_reverse_v6())):
        zones[name] = LocalZone(name, has_parent=True)
    # RFC 9462 §4: a resolver without a designated one says NODATA, also to names below.
    discovery, home = Name.read("resolver.arpa."), Name.read("home.arpa.")
    zones[discovery] = LocalZone(discovery, covers_all=True)
    # RFC 8375 §4: the one question about it that is forwarded is for its DS.
    zones[home] = LocalZone(home, has_parent=True)
    loopback = ((None, int(Type.A), bytes([127, 0, 0, 1])), (None, int(Type.AAAA), bytes(15) + b"\x01"))
    zones[_LOCALHOST] = LocalZone(_LOCALHOST, covers_all=True, data=loopback)
    for host, apex in (
        ("1.0.0.127.in-addr.arpa.", "127.in-addr.arpa."),
        (f"1.{'.'.join('0' * 31)}.ip6.arpa.",) * 2,
    ):
        owner, top = Name.read(host), Name.read(apex)
        zones[top] = LocalZone(top, has_parent=True, data=((owner, int(Type.PTR), _LOCALHOST.wire()),))
    return zones


SPECIAL_USE = _special_use()
"""By apex, the zones that no upstream needs to hear of."""

_BY_LABEL = _by_label(SPECIAL_USE)
# RFC 6761 §6.3 and 6.4, RFC 7686 §2, RFC 9462 §6.4: of these no upstream may hear, or its answer would be about itself.
_NEVER_FORWARDED = frozenset(Name.read(text) for text in ("localhost.", "invalid.", "onion.", "resolver.arpa."))


def special_zone_of(name: Name) -> LocalZone | None:
    """Return the nearest zone at or above a name that no upstream needs to hear of.

    One walk over the labels, from the root: a message of an upstream may have many owners of 127 labels.

    >>> special_zone_of(Name.read("a.b.Localhost")).apex
    <Name localhost.>
    """
    branch, found = _BY_LABEL, None
    for label in name.canonical_key():
        following = branch.below.get(label)
        if following is None:
            break
        branch = following
        found = branch.zone or found
    return found


def read_forward_local(text: str) -> Name:
    """Return the name, at or in a zone answered here, that shall be asked of the upstreams instead; else ConfigError.

    >>> read_forward_local("168.192.in-addr.arpa")
    <Name 168.192.in-addr.arpa.>
    """
    place = "[dns] forward_local"
    try:
        name = Name.read(text).folded()
    except FormatError as error:
        raise ConfigError(
            f'"{text}" is not a name: {error}', place=place, hint='write a zone, as "home.arpa"'
        ) from None
    zone = special_zone_of(name)
    if zone is None:
        hint = (
            "the zones that can be named are home.arpa, local, test and those of private addresses, as 10.in-addr.arpa"
        )
        raise ConfigError(f'"{text}" is not kept from the upstreams', place=place, hint=hint)
    if zone.apex in _NEVER_FORWARDED:
        hint = "leave it out: what an upstream says of such names is about itself"
        raise ConfigError(f'"{text}" is answered by this machine alone', place=place, hint=hint)
    return name
