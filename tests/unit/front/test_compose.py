"""Responses: what a client gets back."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.life import STALE_TTL_S
from p2pdns.front.compose import EDE_BYTES_MAX, compose_answer, compose_told
from p2pdns.front.gate import ClientQuery, Told
from p2pdns.front.transport import TCP, UDP
from p2pdns.link import Answer
from tests.front_messages import CALM, UDP_SIZE, answer, ede_codes, gate, opt, query, unheard


def asked_by(data: bytes, *, stream: bool = False, trusted: bool = True) -> ClientQuery:
    """Return what the gate makes of a query that passes."""
    door = gate(["127.0.0.0/8", "10.0.0.0/8"])
    address = ("127.0.0.1" if trusted else "10.0.0.1", 4000)
    verdict = door.verdict(data, door.access.client(address, TCP if stream else UDP, unheard), 0.0)
    assert isinstance(verdict, ClientQuery)
    return verdict


def response(
    data: bytes, kept: Answer, now: float = 0.0, *, stale: bool = False, trusted: bool = True, stream: bool = False
) -> bytes:
    """Return the response to a query from a kept answer."""
    asked = asked_by(data, stream=stream, trusted=trusted)
    return compose_answer(asked, kept, now, is_stale=stale, udp_size=UDP_SIZE)


def parsed(wire: bytes) -> dns.message.Message:
    """Return a response as dnspython reads it."""
    return dns.message.from_wire(wire)


@CALM
@given(st.integers(0, 65535), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_id_rd_cd_and_do_are_repeated_and_ra_is_set(number: int, rd: bool, cd: bool, do: bool, edns: bool) -> None:
    flags = 0x100 * rd | 0x10 * cd
    reply = parsed(response(query(number=number, flags=flags, records=[opt(do=do)] if edns else []), answer()))
    assert reply.id == number
    assert bool(reply.flags & dns.flags.RD) == rd
    assert bool(reply.flags & dns.flags.CD) == cd
    assert reply.flags & dns.flags.RA
    assert reply.flags & dns.flags.QR
    assert (reply.edns >= 0) == edns
    assert bool(reply.ednsflags & dns.flags.DO) == (do and edns)


def test_the_z_bit_of_a_query_is_not_repeated() -> None:
    assert not response(query(flags=0x0140), answer())[3] & 0x40


def test_the_case_of_the_question_is_echoed_in_question_and_owners() -> None:
    reply = parsed(response(query("wWw.eXaMpLe"), answer()))
    assert reply.question[0].name.to_text() == "wWw.eXaMpLe."
    assert reply.answer[0].name.to_text() == "wWw.eXaMpLe."


@CALM
@given(st.integers(0, 1000), st.floats(0, 2000))
def test_ttls_count_down_and_stop_at_nothing(ttl: int, age: float) -> None:
    reply = parsed(response(query(), answer(ttl=ttl, made_at=500.0), 500.0 + age))
    assert reply.answer[0].ttl == max(0, ttl - int(age))


def test_every_record_counts_down_by_itself() -> None:
    kept = answer(rdatas=[bytes(4), b"\x01" * 4])
    message = bytearray(kept.message)
    message[kept.ttl_offsets[1] : kept.ttl_offsets[1] + 4] = (40).to_bytes(4, "big")
    other = answer()
    both = Answer(0, bytes(message), kept.ttl_offsets, 0.0, 300.0, 300.0)
    wire = response(query(), both, 25.0)
    assert [int.from_bytes(wire[at : at + 4], "big") for at in kept.ttl_offsets] == [275, 15]
    assert other.ttl_offsets == kept.ttl_offsets[:1]


def test_a_stale_answer_has_a_ttl_of_30_and_says_so() -> None:
    wire = response(query(records=[opt()]), answer(ttl=60), 1000.0, stale=True)
    assert parsed(wire).answer[0].ttl == STALE_TTL_S
    assert ede_codes(wire) == [3]


@pytest.mark.parametrize(
    ("flags", "do", "eligible", "trusted", "stale", "provisional", "expected"),
    [
        (0x120, False, True, True, False, False, True),
        (0x100, True, True, True, False, False, True),
        (0x100, False, True, True, False, False, False),
        (0x120, True, False, True, False, False, False),
        (0x120, True, True, False, False, False, False),
        (0x120, True, True, True, True, False, False),
        (0x120, True, True, True, False, True, False),
    ],
    ids=["AD asked", "DO asked", "not asked", "not earned", "stranger", "stale", "provisional"],
)
def test_ad_is_given_where_it_was_asked_for_earned_and_can_be_trusted(
    flags: int, do: bool, eligible: bool, trusted: bool, stale: bool, provisional: bool, expected: bool
) -> None:
    kept = answer(ad_eligible=eligible, provisional=provisional)
    wire = response(query(flags=flags, records=[opt(do=do)]), kept, stale=stale, trusted=trusted)
    assert bool(wire[3] & 0x20) == expected


def test_no_query_without_opt_gets_one() -> None:
    wire = response(query(), answer(ede=((22, "why"),)))
    assert parsed(wire).edns == -1
    assert wire[10:12] == b"\x00\x00"


def test_ede_comes_with_its_text() -> None:
    reply = parsed(response(query(records=[opt()]), answer(ede=((22, "no contact had it"),))))
    assert [option.to_text() for option in reply.extended_errors()] == [
        "EDE 22 (No Reachable Authority): no contact had it"
    ]


def test_long_explanations_are_reduced_to_their_codes() -> None:
    told = tuple((22, "x" * 250) for _ in range(3))
    wire = response(query(records=[opt()]), answer(ede=told))
    assert ede_codes(wire) == [22, 22, 22]
    assert len(wire) < EDE_BYTES_MAX


def test_our_own_udp_size_is_told() -> None:
    assert parsed(response(query(records=[opt(4096)]), answer())).payload == UDP_SIZE


@CALM
@given(st.integers(0, 120), st.sampled_from([None, 0, 512, 700, 1232, 4096]), st.booleans(), st.integers(0, 3))
def test_no_response_is_larger_than_the_client_takes(count: int, size: int | None, stream: bool, told: int) -> None:
    data = query(records=[] if size is None else [opt(size, do=True, options=COOKIE * (count % 2))])
    kept = answer(rdatas=[bytes([i]) * 4 for i in range(count)], ede=((22, "y" * 90),) * told)
    wire = response(data, kept, stream=stream)
    limit = 65_535 if stream else 512 if size is None else min(max(size, 512), UDP_SIZE)
    assert len(wire) <= limit
    reply = parsed(wire)
    assert reply.question[0].name.to_text() == "www.example."
    assert (reply.edns >= 0) == (size is not None)
    if reply.flags & dns.flags.TC:
        assert not reply.answer
        assert len(kept.message) + 11 + 6 * told + 28 * (count % 2) > limit or len(kept.message) > limit
    else:
        assert sum(len(rrset) for rrset in reply.answer) == count


def test_an_answer_too_large_for_udp_is_whole_over_tcp() -> None:
    kept = answer(rdatas=[bytes([i]) * 4 for i in range(100)])
    assert parsed(response(query(), kept)).flags & dns.flags.TC
    whole = parsed(response(query(), kept, stream=True))
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 100


@pytest.mark.parametrize(
    ("flags", "stale", "expected"), [(0x0100, False, False), (0x0000, False, True), (0x0000, True, False)]
)
def test_aa_is_for_who_asks_without_rd_and_not_for_what_is_stale(flags: int, stale: bool, expected: bool) -> None:
    reply = parsed(response(query(flags=flags), answer(), 1000.0, stale=stale))
    assert bool(reply.flags & dns.flags.AA) == expected


def test_the_rcode_of_the_engine_is_kept() -> None:
    assert parsed(response(query(), answer(rdatas=(), rcode=3))).rcode() == 3


COOKIE = b"\x00\x0a\x00\x08clientco"


def test_what_is_owed_to_a_client_comes_with_every_response_cut_ones_too() -> None:
    data = query(records=[opt(options=COOKIE)])
    many = answer(rdatas=[bytes([i]) * 4 for i in range(200)], ede=((22, "why"),))
    cut = parsed(response(data, many))
    assert cut.flags & dns.flags.TC
    assert (cut.edns, len(cut.question)) == (0, 1)
    for reply in (
        cut,
        parsed(response(data, answer())),
        parsed(compose_told(Told(asked_by(data), 5, "x"), udp_size=UDP_SIZE)),
    ):
        (cookie,) = (option for option in reply.options if option.otype == dns.edns.OptionType.COOKIE)
        assert isinstance(cookie, dns.edns.CookieOption)
        assert (cookie.client, len(cookie.server)) == (b"clientco", 16)


def with_additional(count: int) -> Answer:
    """Return an answer of one record with others behind it that nobody asked for."""
    kept = answer(rdatas=[bytes([i]) * 4 for i in range(1 + count)])
    message = kept.message[:6] + b"\x00\x01\x00\x00" + count.to_bytes(2, "big") + kept.message[12:]
    return Answer(0, message, kept.ttl_offsets, 0.0, 300.0, 300.0, ((22, "why"),))


@pytest.mark.parametrize("records", [[], [opt(512)]], ids=["without OPT", "with OPT"])
def test_what_was_not_asked_for_is_left_out_before_the_answer_is_cut(records: list[bytes]) -> None:
    few = parsed(response(query(records=records), with_additional(5)))
    many = parsed(response(query(records=records), with_additional(100)))
    assert [len(rrset) for rrset in few.additional] == [5]
    assert not many.flags & dns.flags.TC
    assert [len(rrset) for rrset in many.answer] == [1]
    assert many.additional == []
    assert (many.edns >= 0) == bool(records)


def test_an_explanation_that_leaves_no_room_costs_additional_records_and_not_the_answer() -> None:
    kept = with_additional(40)
    sizes = range(len(kept.message), len(kept.message) + 40)
    replies = [parsed(response(query(records=[opt(size)]), kept)) for size in sizes]
    assert [len(reply.answer) for reply in replies] == [1] * len(sizes)
    # There is room for all of them in the end.
    assert {len(reply.additional) for reply in replies} == {0, 1}


def test_a_message_of_nothing_but_additions_is_left_with_its_question() -> None:
    kept = with_additional(100)
    message = kept.message[:6] + b"\x00\x00\x00\x00\x00\x65" + kept.message[12:]
    reply = parsed(response(query(), Answer(0, message, kept.ttl_offsets, 0.0, 300.0, 300.0)))
    assert (len(reply.question), reply.answer, reply.additional) == (1, [], [])


def test_a_cut_response_still_says_the_code_of_its_reason() -> None:
    kept = answer(rdatas=[bytes([i]) * 4 for i in range(200)], ede=((3, "x" * 200), (22, "y" * 200)))
    assert ede_codes(response(query(records=[opt(512)]), kept)) == [3, 22]


def test_badvers_is_told_in_the_opt() -> None:
    door = gate()
    verdict = door.verdict(query(records=[opt(version=3)]), door.access.client(("127.0.0.1", 9), UDP, unheard), 0.0)
    assert isinstance(verdict, Told)
    reply = parsed(compose_told(verdict, udp_size=UDP_SIZE))
    assert (reply.rcode(), reply.edns) == (16, 0)


@pytest.mark.parametrize(("rcode", "has_ra"), [(0, True), (1, False), (2, True), (4, False), (5, True), (16, True)])
def test_ra_is_set_where_a_question_was_understood(rcode: int, has_ra: bool) -> None:
    reply = parsed(compose_told(Told(asked_by(query(records=[opt()])), rcode, "x"), udp_size=UDP_SIZE))
    assert (reply.rcode(), bool(reply.flags & dns.flags.RA)) == (rcode, has_ra)


def test_a_told_error_repeats_the_question_and_the_flags() -> None:
    asked = asked_by(query("WWW.example", flags=0x0110))
    reply = parsed(compose_told(Told(asked, 2, "x"), udp_size=UDP_SIZE))
    assert reply.question[0].name.to_text() == "WWW.example."
    assert reply.flags & (dns.flags.RD | dns.flags.CD) == dns.flags.RD | dns.flags.CD
    assert not reply.flags & (dns.flags.TC | dns.flags.AA | dns.flags.AD), "it is whole, and nobody's data"
    assert reply.rcode() == 2
