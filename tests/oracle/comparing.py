"""One answer of ours held against the oracle's, and a whole zone's."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable

import dns.rdata
import dns.rdatatype

from p2pdns.dns.message import Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.answer import Kind, ZoneAnswer
from tests.oracle.differences import DIFFERENCES, Case
from tests.oracle.nsd import Section, ask, digest_of
from tests.oracle.questions import questions_about

FINDINGS_SHOWN_MAX = 20  # one cause shows in many questions
SEED = 20_261_121

Answer = Callable[[Question], ZoneAnswer]


def section_of(rrsets: Iterable[RRset]) -> Section:
    """Return our RRsets in the oracle's comparable form."""
    return {(str(r.owner).lower(), int(r.rtype)): (r.ttl, frozenset(map(folded(r.rtype), r.rdatas))) for r in rrsets}


def folded(rtype: int) -> Callable[[bytes], bytes]:
    """Return what brings RDATA of a type, as we hold it, into the oracle's comparable form."""

    def fold(rdata: bytes) -> bytes:
        return digest_of(dns.rdata.from_wire("IN", dns.rdatatype.RdataType.make(rtype), rdata, 0, len(rdata)))

    return fold


def finding_of(answer: Answer, name: Name, rtype: int, port: int, explained: Counter[str]) -> str | None:
    """Ask both; return what differs without an explanation."""
    said = answer(Question(name, rtype))
    reply = ask(port, name.wire(), rtype)
    case = Case(name, rtype, said, section_of(said.answer), section_of(said.authority), reply)
    negative = said.kind in (Kind.NODATA, Kind.NXDOMAIN)
    ours = (int(said.rcode), case.answer, case.authority if negative else {})
    soas = {key: rrset for key, rrset in reply.authority.items() if key[1] == Type.SOA}
    theirs = (reply.rcode, reply.answer, soas if negative else {})
    if ours == theirs and said.kind not in (Kind.DELEGATED, Kind.DELEGATED_AWAY):
        return None
    for difference in DIFFERENCES:
        if difference(case):
            explained[difference.__name__] += 1
            return None
    return f"{name} {rtype}: {said.kind} {ours}\n   oracle: {theirs} authority {reply.authority}"


def assert_equal(
    zones: Iterable[tuple[Zone, Answer]], port: int, sample: int | None, owners_max: int | None = None
) -> None:
    """Ask about every zone, each with what answers for it, and show what differs without an explanation."""
    chance = random.Random(SEED)
    explained: Counter[str] = Counter()
    findings = []
    count = 0
    for zone, answer in zones:
        for name, rtype in questions_about(zone, chance, sample, owners_max):
            count += 1
            finding = finding_of(answer, name, rtype, port, explained)
            if finding is not None:
                findings.append(finding)
    assert count
    assert not findings, f"{len(findings)} of {count} differ, {explained} explained\n" + "\n".join(
        findings[:FINDINGS_SHOWN_MAX]
    )
