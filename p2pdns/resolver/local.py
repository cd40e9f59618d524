"""Zones without a publisher: our suffixes, `alt` and `internal`, the special-use names of the RFCs, and local data.

Guarantees: a negative answer has the SOA of its zone. Does not know which names are answered from here; `names` decides
that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2pdns.dns.message import RR, Question, RRset, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.dns.zonefile import reader
from p2pdns.errors import ConfigError, FormatError, ZoneFileError, together

LOCAL_TTL_S = 300  # A petname may be added at any time, and no invalidation reaches the cache of a stub resolver.
# The engine asks its upstreams for names below this one that do not exist, to find upstreams that ask us in turn. It is
# an ordinary name in class IN, because resolvers answer class CHAOS and the names of RFC 6761 and 6303 themselves; of
# `example` alone RFC 6761 §6.5 says that resolvers should not treat it as special.
PROBE_SUFFIX = Name.read("p2pdns-probe.example.com.")

_LOCALHOST = Name.read("localhost.")
_NOBODY = Name.read("nobody.invalid.")


@dataclass(frozen=True, slots=True)
class LocalZone:
    """A zone answered here. With `has_data` its apex has SOA and NS; with `covers_all` every name below it exists.

    Rows of `data` without an owner belong to every name. `has_parent`: the zone is delegated in the DNS, so a question
    for its DS is not answered here; only the parent can prove that there is none.
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
        """Return the RRs that answer the question, if there are any."""
        rows = [(owner or question.name, rtype, rdata) for owner, rtype, rdata in self.data]
        if self.has_data:
            rows += [(self.apex, Type.SOA, self.soa().rdata), (self.apex, Type.NS, _LOCALHOST.wire())]
        # ANY gets one RRset only (RFC 8482).
        here = [(owner, rtype, rdata) for owner, rtype, rdata in rows if owner == question.name]
        wanted = here[0][1] if here and question.rtype == Type.ANY else question.rtype
        return tuple(RR(owner, rtype, Class.IN, LOCAL_TTL_S, rdata) for owner, rtype, rdata in here if rtype == wanted)


@dataclass(frozen=True, slots=True)
class LocalName:
    """A name with records in the configuration; its other types and the names below it do not exist here."""

    apex: Name
    rrsets: tuple[RRset, ...]
    has_parent: bool = False

    def soa(self) -> RR:
        """Return the SOA of a zone that consists of this name."""
        return LocalZone(self.apex).soa()

    def answer(self, question: Question) -> tuple[RR, ...]:
        """Return the RRs that answer the question, if there are any; a CNAME answers every type."""
        for rrset in self.rrsets:
            if question.rtype in (rrset.rtype, Type.ANY) or rrset.rtype == Type.CNAME:
                return tuple(RR(question.name, rrset.rtype, Class.IN, rrset.ttl, rdata) for rdata in rrset.rdatas)
        return ()


def read_local_data(lines: Sequence[str]) -> Mapping[Name, LocalName]:
    """Return the names that have records in lines of a zone file; ConfigError with the line that is wrong.

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


def _special_use() -> dict[Name, LocalZone]:
    # RFC 6761 (invalid, test, private reverse zones), 7686 (onion), 6303, 6762 §22.1 (local, used by multicast DNS).
    zones = {name: LocalZone(name) for name in map(Name.read, ("invalid.", "test.", "onion.", "local."))}
    # RFC 6303 §7: these zones are delegated and unsigned, so a validating client learns that nothing is to validate.
    for name in map(Name.read, (*_reverse_v4(), *_reverse_v6())):
        zones[name] = LocalZone(name, has_parent=True)
    # RFC 9462 §4: a resolver without a designated resolver answers NODATA, also at the names below.
    discovery, home = Name.read("resolver.arpa."), Name.read("home.arpa.")
    zones[discovery] = LocalZone(discovery, covers_all=True)
    # RFC 8375 §4: only a question for its DS is forwarded.
    zones[home] = LocalZone(home, has_parent=True)
    loopback = ((None, int(Type.A), bytes([127, 0, 0, 1])), (None, int(Type.AAAA), bytes(15) + b"\x01"))
    zones[_LOCALHOST] = LocalZone(_LOCALHOST, covers_all=True, data=loopback)
    for host, apex in (("1.0.0.127.in-addr.arpa.", "127.in-addr.arpa."), (f"1.{'.'.join('0' * 31)}.ip6.arpa.",) * 2):
        owner, top = Name.read(host), Name.read(apex)
        zones[top] = LocalZone(top, has_parent=True, data=((owner, int(Type.PTR), _LOCALHOST.wire()),))
    return zones


SPECIAL_USE = _special_use()
"""By apex, the special-use zones, which are answered here and not forwarded."""

_BY_LABELS = {apex.canonical_key(): zone for apex, zone in SPECIAL_USE.items()}
_LABEL_COUNTS = sorted({len(labels) for labels in _BY_LABELS})
# RFC 6761 §6.3 and 6.4, RFC 7686 §2, RFC 9462 §6.4: never forwarded, because the answer would describe the upstream.
_NEVER_FORWARDED = frozenset(Name.read(text) for text in ("localhost.", "invalid.", "onion.", "resolver.arpa."))


def special_zone_of(name: Name) -> LocalZone | None:
    """Return the nearest special-use zone at or above a name.

    The cost does not grow with the labels of the name: a message of an upstream may have many owners of 127 labels.

    >>> special_zone_of(Name.read("a.b.Localhost")).apex
    <Name localhost.>
    """
    labels, found = name.canonical_key(), None
    for count in _LABEL_COUNTS:
        if count > len(labels):
            break
        found = _BY_LABELS.get(labels[:count]) or found
    return found


def read_forward_local(text: str) -> Name:
    """Return a name in a special-use zone that the upstreams shall be asked for all the same; else ConfigError.

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
