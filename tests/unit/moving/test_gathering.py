"""The usual names of a domain: what is asked, what is kept, and that no answer makes it ask without end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.message import RR, Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Rcode, Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile import reader
from p2pdns.moving.gathering import FOLLOWED_MAX, QUESTIONS_MAX, Gathered, ServerReply, gather
from p2pdns.moving.usual import USUAL
from tests.unit.dns.strategies import rrsets_of

DOMAIN = Name.read("example.com")
PROBE = b"no-such-name"


class Server:
    """An authoritative server in memory, which notes what it was asked."""

    def __init__(self, text: str, *, failing: Iterable[str] = ()) -> None:
        self.zone = Zone.of(DOMAIN, reader.reading(text, apex=DOMAIN, path="zone").rrsets, 0)
        self.failing = {Name.read(name).under(DOMAIN) for name in failing}
        self.asked: list[Question] = []

    def ask(self, questions: Sequence[Question]) -> list[ServerReply | None]:
        """Answer each question."""
        self.asked += questions
        return [self._reply(question) for question in questions]

    def _reply(self, question: Question) -> ServerReply | None:
        if question.name in self.failing:
            return ServerReply(Rcode.SERVFAIL) if question.rtype == Type.A else None
        alias = self.zone.rrsets.get((question.name, Type.CNAME))
        if alias is not None:
            # The alias alone is an answer too, and in a circle the only one that is not a failure.
            return ServerReply(0, alias.records())
        answer = self.zone.answer(question)
        return ServerReply(answer.rcode, tuple(record for rrset in answer.answer for record in rrset.records()))


def gathered(text: str, *, failing: Iterable[str] = ()) -> Gathered:
    """Return what is found in the zone of a text."""
    return gather(DOMAIN, Server(text, failing=failing).ask, PROBE)


def names(found: Iterable[RR] | Iterable[Name]) -> list[str]:
    """Return names, or the owners of records, as texts relative to the domain."""
    owners = (one.owner if isinstance(one, RR) else one for one in found)
    return sorted({owner.text_in(DOMAIN) for owner in owners})


ZONE = """
@ 300 A 192.0.2.80
@ MX 10 mx-a
@ TXT "v=spf1 -all"
@ CAA 0 issue "ca.example"
www CNAME @
mx-a A 192.0.2.25
mx-a AAAA 2001:db8::25
_dmarc TXT "v=DMARC1; p=none"
default._domainkey TXT "v=DKIM1; p=AAAA"
_imaps._tcp SRV 0 1 993 imap-of-old
imap-of-old A 192.0.2.26
_atproto TXT "did=did:plc:x"
secret A 192.0.2.99
"""


def test_usual_names_and_the_names_they_point_to_are_found_and_no_others() -> None:
    found = gathered(ZONE)
    assert names(found.records) == sorted(
        ["@", "www", "mx-a", "_dmarc", "default._domainkey", "_imaps._tcp", "imap-of-old", "_atproto"]
    )
    assert not found.wildcard
    assert not found.unanswered
    assert {"www", "mx-a", "imap-of-old"} <= set(names(found.asked))
    assert "secret" not in names(found.asked)


def test_no_question_is_asked_twice_and_their_number_is_told() -> None:
    server = Server(ZONE)
    found = gather(DOMAIN, server.ask, PROBE)
    assert len(server.asked) == len(set(server.asked)) == found.question_count <= QUESTIONS_MAX


def test_nobody_is_asked_for_the_proof_of_a_certificate_authority() -> None:
    assert not any("acme" in name for name in USUAL)


def test_only_records_of_the_name_itself_are_kept() -> None:
    def ask(questions: Sequence[Question]) -> list[ServerReply | None]:
        strangers = [Name.read("evil.example"), Name.read("other.example.com")]
        return [
            ServerReply(0, tuple(RR(name, question.rtype, 1, 60, bytes(4)) for name in [*strangers, question.name]))
            if question.rtype == Type.A and question.name.labels[0] in (b"example", b"www")
            else ServerReply(Rcode.NXDOMAIN)
            for question in questions
        ]

    assert names(gather(DOMAIN, ask, PROBE).records) == ["@", "www"]


def test_the_dname_is_kept_and_not_the_alias_that_it_makes() -> None:
    found = gathered("_tcp DNAME services.example.net.\n@ A 192.0.2.1")
    assert {(record.owner.text_in(DOMAIN), record.rtype) for record in found.records} == {
        ("_tcp", Type.DNAME),
        ("@", Type.A),
    }


WILD = """
@ A 192.0.2.80
* A 192.0.2.200
* TXT "wild"
www A 192.0.2.81
selector1._domainkey TXT "wild"
selector2._domainkey TXT "mine"
ftp A 192.0.2.200
"""


def test_what_a_wildcard_makes_up_is_told_from_what_is_there() -> None:
    found = gathered(WILD)
    # The name ftp cannot be told from one that is made up, and answers the same without a record.
    assert names(found.records) == sorted(["@", "*", "www", "selector1._domainkey", "selector2._domainkey"])
    assert names(found.wildcard) == ["*"]
    assert "ftp" in names(found.made_up)
    assert "mail" in names(found.made_up)


def test_the_gathered_zone_answers_for_every_usual_name_as_the_server_does() -> None:
    for text in (ZONE, WILD, "* CNAME www\nwww A 192.0.2.1\n@ TXT x\n"):
        server = Server(text)
        found = gather(DOMAIN, server.ask, PROBE)
        mine = Zone.of(DOMAIN, rrsets_of(found.records), 0)
        for question in server.asked:
            assert mine.answer(question).rcode == server.zone.answer(question).rcode, question
            assert mine.answer(question).answer == server.zone.answer(question).answer, question


def test_names_without_a_useful_answer_are_told() -> None:
    found = gathered(ZONE, failing=["mail", "_dmarc"])
    assert names(found.unanswered) == ["_dmarc", "mail"]


@pytest.mark.parametrize(
    ("text", "circles"),
    [
        ("www CNAME blog\nblog CNAME www\n@ A 192.0.2.1", ["blog", "www"]),
        ("www CNAME www\n@ A 192.0.2.1", ["www"]),
        ("www CNAME x\nx CNAME y\ny CNAME x\n@ A 192.0.2.1", ["www", "x", "y"]),
        ("www CNAME blog\nblog CNAME @\n@ A 192.0.2.1", []),
    ],
)
def test_an_alias_that_leads_back_to_itself_is_left_out_and_told(text: str, circles: list[str]) -> None:
    found = gathered(text)
    assert names(found.circles) == circles
    assert not set(circles) & set(names(found.records))
    assert "@" in names(found.records)


def test_a_chain_without_an_end_ends() -> None:
    asked: list[Question] = []

    def ask(questions: Sequence[Question]) -> list[ServerReply | None]:
        asked.extend(questions)
        return [ServerReply(0, (RR(q.name, Type.CNAME, Class.IN, 60, _longer(q.name).wire()),)) for q in questions]

    assert gather(DOMAIN, ask, PROBE).question_count == len(asked) <= QUESTIONS_MAX


def _longer(name: Name) -> Name:
    return name.child(b"x") if len(name.labels) < 60 else DOMAIN


def test_a_domain_that_points_to_a_thousand_names_is_followed_within_the_bound() -> None:
    def ask(questions: Sequence[Question]) -> list[ServerReply | None]:
        targets = [DOMAIN.child(f"t{number}".encode()) for number in range(1000)]
        many = tuple(RR(DOMAIN, Type.MX, Class.IN, 60, b"\0\0" + target.wire()) for target in targets)
        return [ServerReply(0, many if question.name == DOMAIN else ()) for question in questions]

    found = gather(DOMAIN, ask, PROBE)
    assert found.question_count <= QUESTIONS_MAX
    assert sum(name.labels[0].startswith(b"t") for name in found.asked) >= FOLLOWED_MAX


def test_a_domain_of_250_bytes_is_asked_for_the_names_that_have_room() -> None:
    domain = Name.of(b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 57)
    found = gather(domain, lambda questions: [ServerReply(Rcode.NXDOMAIN)] * len(questions), PROBE)
    assert {name.text_in(domain) for name in found.asked} == {name for name in USUAL if len(name) < 4} | {"@"}


REPLIES = st.sampled_from([None, ServerReply(0), ServerReply(2), ServerReply(3), ServerReply(5), ServerReply(4095)])


@given(st.data())
def test_any_answers_end_within_the_bound(data: st.DataObject) -> None:
    def ask(questions: Sequence[Question]) -> list[ServerReply | None]:
        return [data.draw(REPLIES) if number < 5 else None for number, _ in enumerate(questions)]

    found = gather(DOMAIN, ask, PROBE)
    assert found.question_count <= QUESTIONS_MAX
    assert found.records == []
