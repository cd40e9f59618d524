"""What a zone may say and a person seldom means: names without their final dot, servers that nobody asks, and the like.

Guarantees: a warning changes nothing of the zone. Does not know whether anybody shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import dns.tokenizer

from p2pdns.addresses import is_rebinding_risk
from p2pdns.dns.message import RR, type_text
from p2pdns.dns.message.rdata import names_in, svcb_params
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zonefile.entries import ReadRecord, Remark
from p2pdns.dns.zonefile.toplevel import GENERIC, TOP_LEVEL_DOMAINS
from p2pdns.dns.zonefile.writing import rdata_text
from p2pdns.naming import is_zone_key_label

_HINTS = (4, 6)  # SvcParamKeys ipv4hint and ipv6hint (RFC 9460 §14.3.2).
_HINT_BYTES = {4: 4, 6: 16}


class Dotless:
    """Names that were typed without a final dot and end as names of the ordinary DNS do, until the zone is known."""

    def __init__(self) -> None:
        self._found: list[tuple[int, str, Name]] = []

    def add_target(self, line: int, word: str, name: Name) -> None:
        """Keep a name in RDATA as it was typed, and what it was read as."""
        if _ends_like_a_domain(word, TOP_LEVEL_DOMAINS):
            self._found.append((line, word, name))

    def warnings(self, apex: Name, entries: Iterable[ReadRecord]) -> Iterator[Remark]:
        """Yield a warning for each of them at or below which the zone itself has nothing."""
        if not self._found:
            return
        exists = {
            entry.record.owner.ancestor(count) for entry in entries for count in _depths(entry.record.owner, apex)
        }
        for line, word, name in self._found:
            if name not in exists:
                yield Remark(line, f"{word} is a name in this zone: did you forget the final dot?")


def _depths(owner: Name, apex: Name) -> range:
    return range(len(apex.labels), len(owner.labels) + 1)


def _ends_like_a_domain(word: str, endings: frozenset[bytes]) -> bool:
    before, dot, last = word.rpartition(".")
    return bool(before and dot) and last.lower().encode() in endings


def about_owner(line: int, word: str, has_class: bool) -> Iterator[Remark]:
    """Yield what is odd about the owner of a record as it was typed."""
    if word.upper() == "IN" and not has_class:
        yield Remark(line, f'"{word}" is read as the owner of this record: did you mean @ IN …?')
    elif _ends_like_a_domain(word, GENERIC):
        yield Remark(line, f"the owner {word} is a name in this zone: did you forget the final dot?")


def about_text(line: int, tokens: Sequence[dns.tokenizer.Token]) -> Iterator[Remark]:
    """Yield a warning about TXT that is not in quotes."""
    if not any(token.is_identifier() for token in tokens) or tokens[0].value == "\\#":
        return
    count = f", and this is {len(tokens)} strings that are joined without a space" if len(tokens) > 1 else ""
    yield Remark(line, f'TXT without quotes ends a string at each space and the text at ";"{count}: write it in "…"')


def about_zone(apex: Name, entries: Iterable[ReadRecord]) -> Iterator[Remark]:
    """Yield what is odd about records that readers will see."""
    seen: set[tuple[int, Name]] = set()
    followed = {
        entry.record.owner for entry in entries if entry.record.rtype == Type.NS and _is_followed(entry.record.rdata)
    }
    for entry in entries:
        record = entry.record
        if record.rtype == Type.NS and record.owner not in followed and (Type.NS, record.owner) not in seen:
            seen.add((Type.NS, record.owner))
            yield _about_servers(apex, entry)
        if record.rtype == Type.HTTPS and (Type.HTTPS, record.owner) not in seen:
            seen.add((Type.HTTPS, record.owner))
            what = f"HTTPS at {record.owner.text_in(apex)}: browsers will insist on https, and no public CA signs"
            yield Remark(entry.line, f"{what} keys")
        if (address := _private_address(record)) is not None:
            what = f"{address} is a private address: readers withhold it unless they list this zone in private_zones"
            yield Remark(entry.line, what)


def _is_followed(rdata: bytes) -> bool:
    (target,) = names_in(Type.NS, rdata)
    return len(target.labels) == 1 and is_zone_key_label(target.labels[0])


def _about_servers(apex: Name, entry: ReadRecord) -> Remark:
    owner = entry.record.owner
    if owner == apex:
        return Remark(entry.line, "NS of @ names hosts, which are not followed: this zone is found by its key")
    name = owner.text_in(apex)
    return Remark(entry.line, f"NS of {name} names hosts only, which are not followed: write {name} NS KEY.")


def _private_address(record: RR) -> str | None:
    rdata = record.rdata
    if record.rtype in (Type.A, Type.AAAA):
        return rdata_text(record.rtype, rdata) if is_rebinding_risk(rdata) else None
    if record.rtype not in (Type.SVCB, Type.HTTPS):
        return None
    for key, value in svcb_params(rdata):
        for at in range(0, len(value) if key in _HINTS else 0, _HINT_BYTES.get(key, 1)):
            packed = value[at : at + _HINT_BYTES[key]]
            if is_rebinding_risk(packed):
                return f"a hint of {type_text(record.rtype)}, {rdata_text(Type.A if key == 4 else Type.AAAA, packed)},"
    return None
