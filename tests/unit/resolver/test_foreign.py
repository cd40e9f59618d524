"""What is left of an upstream's reply: the chain from the name to its end, in order, and what belongs to it."""

from __future__ import annotations

import pytest

from p2pdns.dns.message import Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Rcode, Type
from p2pdns.dns.zone.answer import CHAIN_LINKS_MAX, TOO_MANY_LINKS
from p2pdns.resolver.steps import Answered, Forward, NoReply, Replied
from tests.overlay_doubles import NOW, A, found, item_of, question
from tests.unit.resolver.test_resolver import WWW, begin, replied, resolved, target_of, text_of, texts_of

SOA = ("example. 300 TYPE6 " + Name.read("a.").wire().hex() * 2 + "00000001" * 5,)


def forwards(text: str, *outcomes: Replied | NoReply) -> list[str]:
    """Return the names that an upstream is asked for, one after another, when it says these things."""
    resolution, step = begin(text)
    asked = []
    for outcome in outcomes:
        assert isinstance(step, Forward)
        asked.append(str(step.question.name))
        step = resolution.step_done(outcome, NOW)
    assert isinstance(step, Answered)
    return asked


def test_an_alias_alone_is_followed_to_an_answer() -> None:
    alias = replied("www.example. A", "www.example. 60 CNAME other.example.", ad=True)
    address = replied("other.example. A", "other.example. 60 A 192.0.2.1", ad=True)
    assert forwards("www.example. A", alias, address) == ["www.example.", "other.example."]
    answer = resolved("www.example. A", alias, address)
    assert text_of(answer) == ["www.example. 60 CNAME", "other.example. 60 A"]
    assert answer.ad_eligible
    assert not resolved("www.example. A", alias, replied("x. A", "other.example. 60 A 192.0.2.1")).ad_eligible


def test_an_alias_alone_is_an_answer_to_who_asks_for_it() -> None:
    for rtype in ("CNAME", "ANY"):
        text = f"www.example. {rtype}"
        assert text_of(resolved(text, replied(text, "www.example. 60 CNAME other.example."))) == [
            "www.example. 60 CNAME"
        ]


@pytest.mark.parametrize("rcode", [Rcode.NOERROR, Rcode.NXDOMAIN])
def test_what_is_denied_at_the_end_of_an_alias_is_not_asked_for_again(rcode: Rcode) -> None:
    reply = replied("www.example. A", "www.example. 60 CNAME other.example.", rcode=int(rcode), authority=SOA)
    answer = resolved("www.example. A", reply)
    assert (answer.rcode, text_of(answer)) == (rcode, ["www.example. 60 CNAME"])


def test_an_alias_alone_whose_end_cannot_be_had_is_a_failure() -> None:
    answer = resolved(
        "www.example. A",
        replied("www.example. A", "www.example. 60 CNAME other.example."),
        NoReply("no upstream answered in time"),
    )
    assert (answer.rcode, answer.answer) == (Rcode.SERVFAIL, ())


def test_aliases_told_one_by_one_end_within_the_steps_of_a_question() -> None:
    resolution, step = begin("n0.example. A")
    count = 0
    while isinstance(step, Forward):
        count += 1
        step = resolution.step_done(replied("x. A", f"n{count - 1}.example. 60 CNAME n{count}.example."), NOW)
    assert isinstance(step, Answered)
    assert (step.answer.rcode, count) == (Rcode.SERVFAIL, 8)


def test_aliases_that_come_behind_what_they_lead_to_are_put_in_order() -> None:
    lines = (
        "c.example. 60 A 192.0.2.1",
        "b.example. 60 CNAME c.example.",
        "a.example. 60 CNAME b.example.",
    )
    answer = resolved("a.example. A", replied("a.example. A", *lines))
    assert text_of(answer) == ["a.example. 60 CNAME", "b.example. 60 CNAME", "c.example. 60 A"]


def test_a_dname_alone_makes_the_alias() -> None:
    lines = ("www.target.example. 60 A 192.0.2.8", "tree.example. 90 DNAME target.example.")
    answer = resolved("www.tree.example. A", replied("www.tree.example. A", *lines))
    assert text_of(answer) == ["tree.example. 90 DNAME", "www.tree.example. 90 CNAME", "www.target.example. 60 A"]
    assert target_of(answer.answer[1]) == "www.target.example."


def test_a_dname_alone_without_the_data_is_followed() -> None:
    dname = replied("www.tree.example. A", "tree.example. 90 DNAME target.example.")
    address = replied("www.target.example. A", "www.target.example. 60 A 192.0.2.8")
    assert forwards("www.tree.example. A", dname, address) == ["www.tree.example.", "www.target.example."]


def test_the_alias_that_an_upstream_made_of_a_dname_stays_as_it_is() -> None:
    lines = (
        "tree.example. 90 DNAME target.example.",
        "www.tree.example. 0 CNAME www.target.example.",
        "www.target.example. 60 A 192.0.2.8",
    )
    answer = resolved("www.tree.example. A", replied("www.tree.example. A", *lines))
    assert text_of(answer) == ["tree.example. 90 DNAME", "www.tree.example. 0 CNAME", "www.target.example. 60 A"]


def test_a_dname_that_makes_a_name_too_long_is_told_as_such() -> None:
    long = ".".join(["x" * 63] * 3) + "."
    text = f"{'y' * 63}.tree.example. A"
    answer = resolved(text, replied(text, f"tree.example. 90 DNAME {long}"))
    assert (answer.rcode, text_of(answer)) == (Rcode.YXDOMAIN, ["tree.example. 90 DNAME"])


def test_a_dname_says_nothing_of_its_own_name() -> None:
    lines = ("tree.example. 90 DNAME target.example.", "tree.example. 60 A 192.0.2.1")
    assert text_of(resolved("tree.example. A", replied("tree.example. A", *lines))) == ["tree.example. 60 A"]


def test_a_dname_into_the_overlay_leads_to_the_zone() -> None:
    dname = replied("www.tree.example. A", "tree.example. 90 DNAME {a}")
    answer = resolved("www.tree.example. A", dname, found(item_of("a", WWW)))
    assert text_of(answer)[-1] == "www.<a>. 300 A"


def test_an_alias_to_itself_is_left_out_and_alone_it_is_a_loop() -> None:
    lines = ("x.example. 60 CNAME x.example.", "x.example. 60 A 192.0.2.1")
    assert text_of(resolved("x.example. A", replied("x.example. A", *lines))) == ["x.example. 60 A"]
    answer = resolved("x.example. A", replied("x.example. A", lines[0]))
    assert answer.rcode == Rcode.SERVFAIL
    assert "lead back to it" in texts_of(answer)
    others = ("x.example. 60 CNAME y.example.", "y.example. 60 A 192.0.2.1")
    told = resolved("x.example. A", replied("x.example. A", lines[0], *others))
    assert [target_of(rr) for rr in told.answer if rr.rtype == Type.CNAME] == ["y.example."]


@pytest.mark.parametrize("count", [2, 3])
def test_aliases_in_a_circle_are_a_loop(count: int) -> None:
    lines = [f"n{n}.example. 60 CNAME n{(n + 1) % count}.example." for n in range(count)]
    assert resolved("n0.example. A", replied("n0.example. A", *lines)).rcode == Rcode.SERVFAIL


def test_aliases_told_one_by_one_in_a_circle_are_a_loop() -> None:
    there = replied("a.example. A", "a.example. 60 CNAME b.example.")
    back = replied("b.example. A", "b.example. 60 CNAME a.example.")
    answer = resolved("a.example. A", there, back)
    assert answer.rcode == Rcode.SERVFAIL
    assert "lead back to it" in texts_of(answer)


def test_of_two_aliases_of_one_name_the_first_counts() -> None:
    lines = ("x.example. 60 CNAME a.example.", "x.example. 60 CNAME b.example.", "a.example. 60 A 192.0.2.1")
    assert text_of(resolved("x.example. A", replied("x.example. A", *lines))) == [
        "x.example. 60 CNAME",
        "a.example. 60 A",
    ]


@pytest.mark.parametrize(
    "stray",
    ["bank.example. 60 A 192.0.2.66", "www.example. 60 MX 10 mail.example.", "example. 60 A 192.0.2.66"],
    ids=["another owner", "another type", "an ancestor"],
)
def test_what_is_no_part_of_the_answer_is_left_out_of_it(stray: str) -> None:
    lines = ("www.example. 60 A 192.0.2.1", stray)
    answer = resolved("www.example. A", replied("www.example. A", *lines))
    assert text_of(answer) == ["www.example. 60 A"]


def test_signatures_stay_with_what_they_cover() -> None:
    def signature(owner: str, rtype: Type) -> str:
        return f"{owner} 60 TYPE46 {int(rtype).to_bytes(2).hex()}{'00' * 17}00"

    lines = [
        "www.example. 60 CNAME other.example.",
        signature("www.example.", Type.CNAME),
        signature("www.example.", Type.TXT),
        "other.example. 60 A 192.0.2.1",
        signature("other.example.", Type.A),
        signature("bank.example.", Type.A),
    ]
    answer = resolved("www.example. A", replied("www.example. A", *lines))
    assert text_of(answer) == [
        "www.example. 60 CNAME",
        "www.example. 60 RRSIG",
        "other.example. 60 A",
        "other.example. 60 RRSIG",
    ]


def test_beside_an_answer_stay_its_zone_proofs_and_the_addresses_of_hosts_it_names() -> None:
    authority = (
        "example. 60 NS ns.example.",
        "bank.example. 60 NS evil.example.",
        "www.example. 60 A 192.0.2.66",
        "a.example. 60 TYPE47 00",
    )
    additional = ("mail.example. 60 A 192.0.2.1", "ns.example. 60 A 192.0.2.2", "bank.example. 60 A 192.0.2.66")
    reply = replied("www.example. MX", "www.example. 60 MX 10 mail.example.", authority=(*authority, *additional))
    message = reply.message
    sections = (message.authority[:4], message.authority[4:])
    split = Replied(type(message)(0, message.flags, message.question, message.answer, *sections))
    answer = resolved("www.example. MX", split)
    assert [f"{rr.owner} {Type(rr.rtype).name}" for rr in answer.authority] == ["example. NS", "a.example. NSEC"]
    assert [str(rr.owner) for rr in answer.additional] == ["mail.example.", "ns.example."]


def test_a_chain_longer_than_any_may_be_is_a_failure() -> None:
    count = CHAIN_LINKS_MAX + 1
    lines = [f"n{n}.example. 60 CNAME n{n + 1}.example." for n in range(count)]
    reply = replied("n0.example. A", *lines, f"n{count}.example. 60 A 192.0.2.1")
    answer = resolved("n0.example. A", reply)
    assert answer.rcode == Rcode.SERVFAIL
    assert TOO_MANY_LINKS in texts_of(answer)


def test_a_failure_because_of_silence_depends_on_it() -> None:
    silent = resolved("www.example. A", NoReply("no upstream answered in time", is_silence=True))
    said = resolved("www.example. A", NoReply("the upstream cut its reply over TCP too"))
    assert len(silent.tags) == len(said.tags) + 1


def test_an_alias_into_the_overlay_is_followed_there_and_never_forwarded() -> None:
    resolution, step = begin("www.example. A")
    assert isinstance(step, Forward)
    step = resolution.step_done(replied("www.example. A", "www.example. 60 CNAME www.{a}"), NOW)
    assert not isinstance(step, Forward)
    assert str(A) in str(step)


def test_class_and_case_make_no_difference_to_a_chain() -> None:
    asked = Question(question("WWW.Example. A").name, Type.A, Class.IN)
    lines = ("www.EXAMPLE. 60 CNAME OTHER.example.", "other.EXAMPLE. 60 A 192.0.2.1")
    answer = resolved("WWW.Example. A", replied(str(asked), *lines))
    assert [Type(rr.rtype).name for rr in answer.answer] == ["CNAME", "A"]
