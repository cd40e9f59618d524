"""Whose a name is: a zone's, ours to answer, or the rest of the DNS; and how a zone's names look to who asked.

Guarantees: a name whose last label has the shape of a zone key, one below a suffix of ours or below `alt`, and one
that a search list made of either is never called someone else's, so nothing of the kind is ever forwarded; what a
`View` presents ends in the suffix or petname that the question came with. Does not know what a zone holds.
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

TAG_BYTES = 8  # As the link carries them; 2⁶⁴ makes an accidental hit, which only costs a cache entry, rare enough.
LABELS_REMEMBERED_MAX = 4_096  # Labels read as keys, 300 bytes each: one message may say the same one a hundred times.
# Firefox asks for it at the system's resolver; without an address there it keeps to that one (support.mozilla.org,
# "Canary domain - use-application-dns.net").
CANARY = Name.read("use-application-dns.net.")
CANARY_TEXT = "this resolver asks browsers to keep to it ([dns] browser_doh)"
BLOCKED_TEXT = "on a block list of this resolver"
# What is told of a blocked name that must look as if it were there: addresses that lead nowhere.
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
    """Return the tag of answers that depend on what a petname stands for, or on its absence."""
    return _tag(b"petname", label.lower())


@lru_cache(maxsize=64)
def tag_of_setting(entry: str) -> bytes:
    """Return the tag of answers that depend on an entry of the configuration."""
    return _tag(b"setting", entry.encode())


@dataclass(frozen=True, slots=True)
class View:
    """How names of zones look to who asked: bare, below a suffix, and one zone below a petname.

    A client that routes only `p2p.alt` to us would send a bare zone key to its other resolver.
    """

    suffix: Name | None = None
    petname: bytes | None = None
    zone_id: ZoneId | None = None

    def present(self, name: Name) -> Name:
        """Return the name as the client may ask for it; FormatError when that has more than 255 bytes."""
        last = name.last_label
        if self.suffix is None or last is None or not is_zone_key_label(last):
            return name
        if self.petname is not None and last.lower() == str(self.zone_id).encode():
            name = Name.of(*name.labels[:-1], self.petname)
        return name.under(self.suffix)


@dataclass(frozen=True, slots=True)
class InZone:
    """A name of a zone, in the zone's own form, and the view it was asked through."""

    zone_id: ZoneId
    name: Name
    view: View


@dataclass(frozen=True, slots=True)
class Here:
    """A name we answer ourselves; the zone has it, or denies it by its SOA."""

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
    """What the configuration says about names.

    `trusted` zones may publish addresses of private networks; with `withholds_upstreams`, upstreams may tell of such
    addresses at or below `private_names` only. `search_domains` are those that this machine puts behind names.
    `forward_local` names are asked of the upstreams with all below them, though they lie in zones answered here.
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
        stale_s: float = STALE_S_MAX,
        ttl_s_min: int = 0,
        withholds_upstreams: bool = False,
        local_data: Sequence[str] = (),
        blocked: BlockedNames | None = None,
        blocks_with_zeros: bool = False,
        search_domains: Iterable[str] = (),
        forward_local: Iterable[str] = (),
        keeps_browsers: bool = False,
    ) -> ResolverSettings:
        """Return the settings that texts of a configuration mean; ConfigError when one of them means nothing."""
        names = {read_petname(label).encode(): _read_key(text, label) for label, text in (petnames or {}).items()}
        # A name of the ordinary DNS is told from a petname by its dot, of which the last one may be all it has.
        private = [(text, "." in text) for text in private_zones]
        return cls(
            suffixes=tuple(Name.read(read_suffix(text)) for text in suffixes),
            petnames=names,
            trusted=frozenset(_trusted_key(text, names) for text, is_name in private if not is_name),
            stale_s=stale_s,
            ttl_s_min=ttl_s_min,
            private_names=tuple(Name.read(text) for text, is_name in private if is_name),
            withholds_upstreams=withholds_upstreams,
            local_data=read_local_data(local_data),
            blocked=_NOTHING_BLOCKED if blocked is None else blocked,
            blocks_with_zeros=blocks_with_zeros,
            search_domains=tuple(Name.read(text) for text in search_domains),
            forward_local=tuple(read_forward_local(text) for text in forward_local),
            keeps_browsers=keeps_browsers,
        )

    def place_of(self, name: Name) -> Place:
        """Return whose the name is: what the person here says comes before what anybody else does."""
        local = self.local_data.get(name)
        if local is not None:
            return Here(Rcode.NOERROR, local, (tag_of_setting("local_data"),))
        covering = self.blocked.covering(name)
        if covering is not None:
            return self._blocked(covering)
        if self.keeps_browsers and name.is_at_or_below(CANARY):
            zone = LocalZone(CANARY, has_data=False)
            return Here(Rcode.NXDOMAIN, zone, (tag_of_setting("browser_doh"),), CANARY_TEXT)
        place = self._place_of(name)
        # A list may have the key of a zone, which is reached by more names than that.
        if isinstance(place, InZone) and (covering := self.blocked.covering(place.name)) is not None:
            return self._blocked(covering)
        return place

    def place_asked(self, name: Name, rtype: int) -> Place:
        """Return who answers a question for a type at a name: DS is the parent's to answer (RFC 4035 §3.1.4.1)."""
        place = self.place_of(name)
        if rtype != _DS:
            return place
        if isinstance(place, Here) and place.zone.has_parent and name == place.zone.apex:
            return Elsewhere()
        # The bare form of a zone has no parent here; there the zone itself says that it has none.
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
        # Nothing that ends elsewhere is at, above or below a suffix: most names are none of ours.
        if last.lower() in self._tops and (suffix := self._suffix_of(name)) is not None:
            return self._below(suffix, name)
        if (special := self._special_place(name)) is not None:
            return special
        return self._searched(name) or self._mistyped(name) or Elsewhere()

    def _mistyped(self, name: Name) -> Here | None:
        """Return the place of a name whose end is a zone key that was mistyped or dressed up, and so is nobody's."""
        labels = name.labels
        if sum(map(len, labels)) < MISTYPED_CHARACTERS_MIN:
            return None
        for tail in (0, *self._search_tails(name)):
            fault, count = fault_at_end(labels[: len(labels) - tail])
            if fault:
                zone = LocalZone(name.ancestor(tail + count), has_data=False)
                return Here(Rcode.NXDOMAIN, zone, (), f"{_shown(*labels[-tail - count :][:count])}: {fault}")
        for at, label in enumerate(labels):
            if len(label) > ZONE_KEY_CHARACTERS and key_inside(label):
                zone = LocalZone(name.ancestor(len(labels) - at), has_data=False)
                text = f"{_shown(label)}: a zone key stands there with something round it"
                return Here(Rcode.NXDOMAIN, zone, (), text)
        return None

    def _search_tails(self, name: Name) -> list[int]:
        """Return how many labels at the end of a name a search list may have added."""
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
            # A petname is shorter than its key, so below it fit names that no zone can have.
            zone = LocalZone(name.ancestor(len(suffix.labels) + 1), has_data=False)
            text = f"the name is too long: below the zone key it would have more than {NAME_BYTES_MAX} bytes"
            return Here(Rcode.NXDOMAIN, zone, (*tags, tag_of_petname(petname)), text)

    def _special_place(self, name: Name) -> Here | None:
        """Return the place of a name that no upstream may hear of, or that RFC 6761 and its kin keep at home."""
        top = _KEPT_TOPS.get(name.canonical_key()[0])
        if top is not None:
            tags = (tag_of_setting("suffixes"),)
            # RFC 8020: nothing exists below a name that does not exist, so what lies above a suffix must exist.
            is_above = any(suffix.is_at_or_below(name) for suffix in self.suffixes)
            if name == top or (is_above and name.is_at_or_below(top)):
                return Here(Rcode.NOERROR, LocalZone(top, has_data=False), tags)
            if top is ALT:
                text = "names in alt are not in the DNS (RFC 9476)"
                return Here(Rcode.NXDOMAIN, LocalZone(ALT, has_data=False), tags, text)
        zone = special_zone_of(name)
        if zone is None or any(name.is_at_or_below(passed) for passed in self.forward_local):
            return None
        # What lies above a name that upstreams answer for exists.
        is_above = any(passed.is_at_or_below(name) for passed in self.forward_local)
        exists = zone.covers_all or is_above or zone.has_owner(name)
        return Here(Rcode.NOERROR if exists else Rcode.NXDOMAIN, zone, ())

    def _searched(self, name: Name) -> Here | None:
        """Return the place of a name of ours to which a search list has added something."""
        # Most names have no label as long as a key; 64 owners of 127 labels are looked at in one message.
        long = name.labels[:-1] if ZONE_KEY_CHARACTERS in map(len, name.labels) else ()
        for label in long:
            if is_zone_key_label(label) and _zone_id_of(label)[0] is not None:
                text = f"{_shown(label)} is a zone key: nothing may follow it but {_suffix_text(self.suffixes)}"
                zone = LocalZone(Name.of(*name.labels[name.labels.index(label) :]), has_data=False)
                return Here(Rcode.NXDOMAIN, zone, (), text)
        for suffix in self.suffixes:
            # A suffix of one label, such as a made-up "home", is too common a word to claim in others' names.
            if len(suffix.labels) > 1 and (label_count := _end_inside(name, suffix)):
                zone = LocalZone(name.ancestor(label_count), has_data=False)
                text = f"nothing may follow the suffix {suffix}"
                return Here(Rcode.NXDOMAIN, zone, (tag_of_setting("suffixes"),), text)
        return None


def _end_inside(name: Name, suffix: Name) -> int:
    """Return how many labels of a name begin with those of a suffix that other labels follow; 0 where none do."""
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
        # No item can ever be signed for it, so this absence is proved without a look-up; and a SERVFAIL would send
        # the client on to its next resolver, with a name that should not leave.
        # RFC 2308 §3: whoever denies says by an SOA for how long; the bare form has no suffix to give one.
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
    """Return the zone that a name lies in, if it ends in a valid zone key."""
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
