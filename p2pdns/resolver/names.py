"""The place of a name: in a zone, answered here, or elsewhere in the DNS; and the form of a zone's names for a client.

Guarantees: a name whose last label has the shape of a zone key, a name below a suffix of ours or below `alt`, and
either of them with a search domain appended is never placed elsewhere, so none of them is ever forwarded; a name that a
`View` presents ends in the suffix or petname of the question. Does not know the content of a zone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from p2pdns.dns.labels import NAME_BYTES_MAX
from p2pdns.dns.life import STALE_S_MAX
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Ede, Rcode, Type
from p2pdns.errors import ConfigError, FormatError
from p2pdns.items.keys import ZoneId
from p2pdns.items.mistyped import MISTYPED_CHARACTERS_MIN, PRIVATE_TOPS, fault_at_end, key_inside
from p2pdns.naming import DEFAULT_SUFFIXES, ZONE_KEY_CHARACTERS, is_zone_key_label, read_petname, read_suffix
from p2pdns.resolver.blocking import BlockedNames
from p2pdns.resolver.local import LocalName, LocalZone, read_forward_local, read_local_data, special_zone_of

TAG_BYTES = 8  # As on the link. Of 2⁶⁴ tags, two are equal by accident rarely enough; that costs a cache entry only.
LABELS_REMEMBERED_MAX = 4_096  # Labels read as keys, 300 bytes each: one message may repeat a label a hundred times.
# Firefox asks the system's resolver for this name; without an address in the answer it uses that resolver and no DoH
# (support.mozilla.org, "Canary domain - use-application-dns.net").
CANARY = Name.read("use-application-dns.net.")
CANARY_TEXT = "this resolver asks browsers to keep to it ([dns] browser_doh)"
BLOCKED_TEXT = "on a block list of this resolver"
# The data of a blocked name with `blocks_with_zeros`: addresses that lead nowhere.
_NOWHERE = ((None, int(Type.A), bytes(4)), (None, int(Type.AAAA), bytes(16)))

_DS = int(Type.DS)
_NOTHING_BLOCKED = BlockedNames()
ALT = Name.read("alt.")
INTERNAL = Name.read("internal.")
_KEPT_TOPS = {b"alt": ALT, b"internal": INTERNAL}


def _tag(kind: bytes, text: bytes) -> bytes:
    return hashlib.sha256(kind + b":" + text).digest()[:TAG_BYTES]


@lru_cache(maxsize=4096)
def tag_of_zone(zone_id: ZoneId) -> bytes:
    """Return the tag of answers that depend on a zone."""
    return _tag(b"key", zone_id.raw)


def tag_of_petname(label: bytes) -> bytes:
    """Return the tag of answers that depend on the zone of a petname, or on the petname's absence."""
    return _tag(b"petname", label.lower())


@lru_cache(maxsize=64)
def tag_of_setting(entry: str) -> bytes:
    """Return the tag of answers that depend on an entry of the configuration."""
    return _tag(b"setting", entry.encode())


@dataclass(frozen=True, slots=True)
class View:
    """The form of zones' names for the client: bare, or below a suffix, and one zone's names below a petname.

    A client that sends only `p2p.alt` to us would send the bare name of a zone to its other resolver.
    """

    suffix: Name | None = None
    petname: bytes | None = None
    zone_id: ZoneId | None = None

    def present(self, name: Name) -> Name:
        """Return the name as the client may ask for it; FormatError when it has more than 255 bytes then."""
        last = name.last_label
        if self.suffix is None or last is None or not is_zone_key_label(last):
            return name
        if self.petname is not None and last.lower() == str(self.zone_id).encode():
            name = Name.of(*name.labels[:-1], self.petname)
        return name.under(self.suffix)


@dataclass(frozen=True, slots=True)
class InZone:
    """A name in a zone, in its bare form, and the view of the question."""

    zone_id: ZoneId
    name: Name
    view: View


@dataclass(frozen=True, slots=True)
class Here:
    """A name that is answered here: the zone has its data, or the SOA of a negative answer."""

    rcode: Rcode
    zone: LocalZone | LocalName
    tags: tuple[bytes, ...]
    text: str = ""
    ede: Ede = Ede.OTHER


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A name of the ordinary DNS."""


Place = InZone | Here | Elsewhere


@dataclass(frozen=True)
class ResolverSettings:
    """The settings of the resolver.

    `trusted` zones may publish addresses of private networks. With `withholds_upstreams`, upstreams may do so at or
    below `private_names` only. `search_domains` are the domains that this machine appends to names. `forward_local`
    names and all names below them are forwarded, although they lie in special-use zones.
    """

    suffixes: tuple[Name, ...] = tuple(Name.read(text) for text in DEFAULT_SUFFIXES)
    petnames: Mapping[bytes, ZoneId] = field(default_factory=dict)
    trusted: frozenset[ZoneId] = frozenset()
    stale_s: float = STALE_S_MAX
    ttl_s_min: int = 0
    private_names: tuple[Name, ...] = ()
    withholds_upstreams: bool = False
    local_data: Mapping[Name, LocalName] = field(default_factory=dict)
    blocked: BlockedNames = _NOTHING_BLOCKED
    blocks_with_zeros: bool = False
    search_domains: tuple[Name, ...] = ()
    forward_local: tuple[Name, ...] = ()
    keeps_browsers: bool = False

    @classmethod
    def of(
        cls,
        *,
        suffixes: Iterable[str] = DEFAULT_SUFFIXES,
        petnames: Mapping[str, str] | None = None,
        private_zones: Iterable[str] = (),
        local_data: Sequence[str] = (),
        search_domains: Iterable[str] = (),
        forward_local: Iterable[str] = (),
    ) -> ResolverSettings:
        """Return the settings that are texts of a configuration, read; ConfigError when one of them is wrong."""
        names = {read_petname(label).encode(): _read_key(text, label) for label, text in (petnames or {}).items()}
        # A name of the ordinary DNS has a dot, at least the final one; a petname or zone key has none.
        private = [(text, "." in text) for text in private_zones]
        return cls(
            suffixes=tuple(Name.read(read_suffix(text)) for text in suffixes),
            petnames=names,
            trusted=frozenset(_trusted_key(text, names) for text, is_name in private if not is_name),
            private_names=tuple(Name.read(text) for text, is_name in private if is_name),
            local_data=read_local_data(local_data),
            search_domains=tuple(Name.read(text) for text in search_domains),
            forward_local=tuple(read_forward_local(text) for text in forward_local),
        )

    def place_of(self, name: Name) -> Place:
        """Return the place of a name: the configuration of this machine comes before any zone."""
        local = self.local_data.get(name)
        if local is not None:
            return Here(Rcode.NOERROR, local, (tag_of_setting("local_data"),))
        covering = self.blocked.covering(name)
        if covering is not None:
            return self._blocked(covering)
        if self.keeps_browsers and name.is_at_or_below(CANARY):
            return _denied(CANARY, CANARY_TEXT, tag_of_setting("browser_doh"))
        place = self._place_of(name)
        # A block list may have the bare name of a zone, which has other names below suffixes and petnames.
        if isinstance(place, InZone) and (covering := self.blocked.covering(place.name)) is not None:
            return self._blocked(covering)
        return place

    def place_asked(self, name: Name, rtype: int) -> Place:
        """Return the place of a question: the parent answers a question for DS (RFC 4035 §3.1.4.1)."""
        place = self.place_of(name)
        if rtype != _DS:
            return place
        if isinstance(place, Here) and place.zone.has_parent and name == place.zone.apex:
            return Elsewhere()
        # Below a suffix, the suffix is the parent of a zone. In bare form a zone has none, and denies its DS itself.
        if isinstance(place, InZone) and place.view.suffix is not None and len(place.name.labels) == 1:
            petname = () if place.view.petname is None else (tag_of_petname(place.view.petname),)
            return Here(Rcode.NOERROR, LocalZone(place.view.suffix), (tag_of_setting("suffixes"), *petname))
        return place

    def _blocked(self, covering: Name) -> Here:
        data = _NOWHERE if self.blocks_with_zeros else ()
        zone = LocalZone(covering, has_data=False, covers_all=True, data=data)
        rcode = Rcode.NOERROR if self.blocks_with_zeros else Rcode.NXDOMAIN
        return Here(rcode, zone, (tag_of_setting("block"),), BLOCKED_TEXT, Ede.BLOCKED)

    def _place_of(self, name: Name) -> Place:
        last = name.last_label
        if last is None:
            return Elsewhere()
        if is_zone_key_label(last):
            return _in_zone(name.labels, last, View(), None)
        # Most names have another top-level label than our suffixes, so they cannot be at or below one.
        if last.lower() in self._tops and (suffix := self._suffix_of(name)) is not None:
            return self._below(suffix, name)
        if (special := self._special_place(name)) is not None:
            return special
        return self._searched(name) or self._mistyped(name) or Elsewhere()

    def _mistyped(self, name: Name) -> Here | None:
        """Return the place of a name whose end is a mistyped or decorated zone key; None for any other name."""
        labels = name.labels
        if sum(map(len, labels)) < MISTYPED_CHARACTERS_MIN:
            return None
        for tail in (0, *self._search_tails(name)):
            fault, count = fault_at_end(labels[: len(labels) - tail])
            if fault:
                return _denied(name.ancestor(tail + count), f"{_shown(*labels[-tail - count :][:count])}: {fault}")
        for at, label in enumerate(labels):
            if len(label) > ZONE_KEY_CHARACTERS and key_inside(label):
                text = f"{_shown(label)}: a zone key stands there with something round it"
                return _denied(name.ancestor(len(labels) - at), text)
        return None

    def _search_tails(self, name: Name) -> list[int]:
        """Return the numbers of labels that a search list may have added to the end of a name."""
        tails = [len(domain.labels) for domain in self.search_domains if name.is_at_or_below(domain)]
        return [*tails, 1] if name.canonical_key()[0] in PRIVATE_TOPS else tails

    @cached_property
    def _tops(self) -> frozenset[bytes]:
        return frozenset(suffix.canonical_key()[0] for suffix in self.suffixes)

    def _suffix_of(self, name: Name) -> Name | None:
        found = [suffix for suffix in self.suffixes if name.is_at_or_below(suffix)]
        return max(found, key=lambda suffix: len(suffix.labels), default=None)

    def _below(self, suffix: Name, name: Name) -> Place:
        zone = LocalZone(suffix, has_data=True)
        labels = name.relative_to(suffix)
        tags = (tag_of_setting("suffixes"),)
        if not labels:
            return Here(Rcode.NOERROR, zone, tags)
        last = labels[-1]
        if is_zone_key_label(last):
            return _in_zone(labels, last, View(suffix), zone)
        petname = last.lower()
        zone_id = self.petnames.get(petname)
        if zone_id is None:
            fault, count = fault_at_end(labels)
            text = f"{_shown(last)} is neither a zone key nor a petname of this resolver"
            text = f"{_shown(*labels[-count:])}: {fault}" if fault else text
            return Here(Rcode.NXDOMAIN, zone, (*tags, tag_of_petname(petname)), text)
        try:
            return InZone(zone_id, Name.of(*labels[:-1], str(zone_id).encode()), View(suffix, petname, zone_id))
        except FormatError:
            # A petname is shorter than its zone key, so some names below it are too long below the key.
            text = f"the name is too long: below the zone key it would have more than {NAME_BYTES_MAX} bytes"
            return _denied(name.ancestor(len(suffix.labels) + 1), text, *tags, tag_of_petname(petname))

    def _special_place(self, name: Name) -> Here | None:
        """Return the place of a name in `alt`, above a suffix, or in a special-use zone; None for any other name."""
        top = _KEPT_TOPS.get(name.canonical_key()[0])
        if top is not None:
            tags = (tag_of_setting("suffixes"),)
            # RFC 8020: nothing exists below a name that does not exist, so the names above a suffix must exist.
            is_above = any(suffix.is_at_or_below(name) for suffix in self.suffixes)
            if name == top or (is_above and name.is_at_or_below(top)):
                return Here(Rcode.NOERROR, LocalZone(top, has_data=False), tags)
            if top is ALT:
                return _denied(ALT, "names in alt are not in the DNS (RFC 9476)", *tags)
        zone = special_zone_of(name)
        if zone is None or any(name.is_at_or_below(passed) for passed in self.forward_local):
            return None
        # For the same reason, the names above a forwarded name must exist.
        is_above = any(passed.is_at_or_below(name) for passed in self.forward_local)
        exists = zone.covers_all or is_above or zone.has_owner(name)
        return Here(Rcode.NOERROR if exists else Rcode.NXDOMAIN, zone, ())

    def _searched(self, name: Name) -> Here | None:
        """Return the place of a name of ours with a search domain appended; None for any other name."""
        # Most names have no label as long as a key, and one message may have 64 owners of 127 labels.
        long = name.labels[:-1] if ZONE_KEY_CHARACTERS in map(len, name.labels) else ()
        for label in long:
            if is_zone_key_label(label) and _zone_id_of(label)[0] is not None:
                text = f"{_shown(label)} is a zone key: nothing may follow it but {_suffix_text(self.suffixes)}"
                return _denied(Name.of(*name.labels[name.labels.index(label) :]), text)
        for suffix in self.suffixes:
            # A suffix of one label, such as "home", is too common a word in names of the DNS to be claimed there.
            if len(suffix.labels) > 1 and (label_count := _end_inside(name, suffix)):
                text = f"nothing may follow the suffix {suffix}"
                return _denied(name.ancestor(label_count), text, tag_of_setting("suffixes"))
        return None


def _denied(apex: Name, text: str, *tags: bytes) -> Here:
    return Here(Rcode.NXDOMAIN, LocalZone(apex, has_data=False), tags, text)


def _end_inside(name: Name, suffix: Name) -> int:
    """Return how many labels a name has from a suffix inside it to its end; 0 where there is no suffix inside."""
    key, wanted = name.canonical_key(), suffix.canonical_key()
    at = 0
    while wanted[0] in key[at + 1 :]:
        at = key.index(wanted[0], at + 1)
        if key[at : at + len(wanted)] == wanted:
            return at + len(wanted)
    return 0


def _in_zone(labels: tuple[bytes, ...], label: bytes, view: View, zone: LocalZone | None) -> Place:
    zone_id, fault = _zone_id_of(label)
    if zone_id is None:
        # No item can be signed for such a key, so the absence is proved without a look-up. After a SERVFAIL the client
        # would ask its next resolver for a name that must not leave this machine.
        # RFC 2308 §3: a negative answer needs an SOA for its lifetime; in the bare form there is no suffix to give it.
        zone = zone or LocalZone(Name.of(label), has_data=False)
        return Here(Rcode.NXDOMAIN, zone, (), f"{_shown(label)} is no zone key: {fault}")
    return InZone(zone_id, Name.of(*labels[:-1], str(zone_id).encode()), view)


@lru_cache(maxsize=LABELS_REMEMBERED_MAX)
def _zone_id_of(label: bytes) -> tuple[ZoneId | None, str]:
    try:
        return ZoneId.of_label(label), ""
    except FormatError as error:
        return None, error.detail or error.reason


def zone_of_name(name: Name) -> ZoneId | None:
    """Return the zone of a name that ends in a valid zone key; None for any other name."""
    last = name.last_label
    return _zone_id_of(last)[0] if last is not None and is_zone_key_label(last) else None


def _shown(*labels: bytes) -> str:
    return str(Name.of(*labels)).removesuffix(".")


def _suffix_text(suffixes: tuple[Name, ...]) -> str:
    return " or ".join(str(suffix).removesuffix(".") for suffix in suffixes) or "a final dot"


def _read_key(text: str, label: str) -> ZoneId:
    try:
        return ZoneId.read(text)
    except FormatError as error:
        raise ConfigError(
            f'petname "{label}" stands for "{text}", which is no zone key: {error}',
            hint="a zone key has 52 characters of z-base-32; `p2pdns pubkey FILE` shows one",
        ) from None


def _trusted_key(text: str, petnames: Mapping[bytes, ZoneId]) -> ZoneId:
    named = petnames.get(text.lower().encode("utf-8", "replace"))
    if named is not None:
        return named
    try:
        return ZoneId.read(text)
    except FormatError as error:
        raise ConfigError(
            f'"{text}" is neither a petname nor a zone key: {error}',
            place="[zones] private_zones",
            hint=f'p2pdns name add {text} KEY makes it a petname; a name of the ordinary DNS has a dot, as "{text}."',
        ) from None
