"""Warnings about records that a zone may have and that are seldom meant, such as names without their final dot.

Guarantees: a warning changes nothing in the zone. Does not know whether the warnings are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import dns.tokenizer

from p2pdns.addresses import is_rebinding_risk
from p2pdns.dns.message import RR, type_text
from p2pdns.dns.message.rdata import HINT_BYTES, svcb_params
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone.answer import delegates_in
from p2pdns.dns.zonefile.entries import ReadRecord, Remark
from p2pdns.dns.zonefile.writing import rdata_text

# Top-level domains that end the names people type. A missing one costs a warning, no more.
GENERIC = frozenset(b"com net org edu gov mil int info biz name arpa".split())  # Rare as names of hosts.
_OTHERS = b"""
academy agency app art bank berlin blog care center city cloud club company dev digital email events family foundation
fund games global group guru hamburg health help home homes host hosting house link live london mobi money museum
network news one online page paris photo photos plus press pro radio red rocks run school science services shop site
social software solutions space store studio systems tech tel today tools top tv vip website wiki work works world xyz
ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg
ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh
gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr
kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf
ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm
sn so sr ss st sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws
ye yt za zm zw
"""
TOP_LEVEL_DOMAINS = GENERIC | frozenset(_OTHERS.split())


def ends_like_a_domain(word: str, endings: frozenset[bytes] = TOP_LEVEL_DOMAINS) -> bool:
    """Return whether a name was typed as names of the public DNS are: with a dot and a top-level domain at its end."""
    before, dot, last = word.rpartition(".")
    return bool(before and dot) and last.lower().encode() in endings


def about_targets(apex: Name, entries: Iterable[ReadRecord], targets: list[tuple[int, str, Name]]) -> Iterator[Remark]:
    """Yield a warning for each target (line, word, name) that is no name of the zone."""
    if not targets:
        # Most zones have none, and to collect all names of a large one takes time.
        return
    owners = {entry.record.owner for entry in entries}
    exists = {owner.ancestor(count) for owner in owners for count in range(len(apex.labels), len(owner.labels) + 1)}
    for line, word, name in targets:
        if name not in exists:
            yield Remark(line, f"{word} is a name in this zone: did you forget the final dot?")


def about_owner(line: int, word: str, has_class: bool) -> Iterator[Remark]:
    """Yield a warning about the owner of a record, as it was typed."""
    if word.upper() == "IN" and not has_class:
        yield Remark(line, f'"{word}" is read as the owner of this record: did you mean @ IN …?')
    elif ends_like_a_domain(word, GENERIC):
        yield Remark(line, f"the owner {word} is a name in this zone: did you forget the final dot?")


def about_text(line: int, tokens: Sequence[dns.tokenizer.Token]) -> Iterator[Remark]:
    """Yield a warning about TXT that is not in quotes."""
    if not any(token.is_identifier() for token in tokens) or tokens[0].value == "\\#":
        return
    count = f", and this is {len(tokens)} strings that are joined without a space" if len(tokens) > 1 else ""
    yield Remark(line, f'TXT without quotes ends a string at each space and the text at ";"{count}: write it in "…"')


def about_zone(apex: Name, entries: Iterable[ReadRecord]) -> Iterator[Remark]:
    """Yield warnings about the records that readers will see."""
    seen: set[tuple[int, Name]] = set()
    servers = [entry.record for entry in entries if entry.record.rtype == Type.NS]
    followed = {record.owner for record in servers if delegates_in([record.rdata])}
    for entry in entries:
        record = entry.record
        is_first = (record.rtype, record.owner) not in seen
        seen.add((record.rtype, record.owner))
        if is_first and record.rtype == Type.NS and record.owner not in followed:
            yield _about_servers(apex, entry)
        if is_first and record.rtype == Type.HTTPS:
            what = f"HTTPS at {record.owner.text_in(apex)}: browsers will insist on https, and no public CA signs"
            yield Remark(entry.line, f"{what} keys")
        if (address := _private_address(record)) is not None:
            what = f"{address} is a private address: readers withhold it unless they list this zone in private_zones"
            yield Remark(entry.line, what)


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
        for at in range(0, len(value), HINT_BYTES[key]) if key in HINT_BYTES else ():
            packed = value[at : at + HINT_BYTES[key]]
            if is_rebinding_risk(packed):
                return f"a hint of {type_text(record.rtype)}, {rdata_text(Type.A if key == 4 else Type.AAAA, packed)},"
    return None
