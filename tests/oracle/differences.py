"""Where p2pdns means to differ from the oracle, and why. Whatever is not explained here is a defect.

Each difference is a function of (question, our answer, the oracle's reply) that says whether it applies; the text
of its docstring is the reason shown when a run counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.dns.zone.answer import Kind, ZoneAnswer
from tests.oracle.nsd import Reply, Section


@dataclass(frozen=True)
class Case:
    """One question with both answers, ours in the oracle's form."""

    name: Name
    rtype: int
    said: ZoneAnswer
    answer: Section
    authority: Section
    reply: Reply


def delegation_to_a_key(case: Case) -> bool:
    """A cut to a zone key is followed by a synthesised CNAME (docs/spec.md); the oracle gives a referral there."""
    cut = [owner for owner, rtype in case.reply.authority if rtype == Type.NS]
    return (
        case.said.kind is Kind.DELEGATED
        and case.reply.rcode == Rcode.NOERROR
        and bool(cut)
        and dict(list(case.answer.items())[:-1]) == case.reply.answer
    )


def delegation_to_a_host(case: Case) -> bool:
    """A cut to a host name is not followed: a stranger's NS and glue must not make us send packets anywhere."""
    return case.said.kind is Kind.DELEGATED_AWAY and any(rtype == Type.NS for _, rtype in case.reply.authority)


def any_is_minimal(case: Case) -> bool:
    """ANY gets one RRset that the owner has (RFC 8482); the oracle gives all of them."""
    return (
        case.rtype == Type.ANY
        and case.said.kind is Kind.ANSWER
        and bool(case.answer)
        and all(case.reply.answer.get(key) == rrset for key, rrset in case.answer.items())
    )


def loop_is_a_failure(case: Case) -> bool:
    """Aliases without end are SERVFAIL, so that nobody keeps a part of a loop; the oracle gives what it walked."""
    return (
        case.said.kind is Kind.FAILED
        and case.said.rcode == Rcode.SERVFAIL
        and case.reply.rcode == Rcode.NOERROR
        and bool(case.reply.answer)
        and all(rtype in (Type.CNAME, Type.DNAME) for _, rtype in case.reply.answer)
    )


def ns_at_a_cut(case: Case) -> bool:
    """NS at a cut to a key is told as an answer: the key is the whole referral; the oracle gives it as one."""
    told = {key: rrset for key, rrset in case.answer.items() if key not in case.reply.answer}
    referral = {key: rrset for key, rrset in case.reply.authority.items() if key[1] == Type.NS}
    return case.rtype == Type.NS and bool(told) and told == referral


DIFFERENCES: tuple[Callable[[Case], bool], ...] = (
    delegation_to_a_key,
    delegation_to_a_host,
    ns_at_a_cut,
    any_is_minimal,
    loop_is_a_failure,
)
