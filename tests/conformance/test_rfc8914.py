"""RFC 8914: every failure and every answer that is not what it seems says why."""

from __future__ import annotations

import pytest

from p2pdns.front.pending import QUEUED_S_MAX, WAITERS_MAX
from p2pdns.front.transport import TCP, UDP
from p2pdns.limits import QUESTIONS_MAX
from tests.conformance import wire
from tests.conformance.virtual import VirtualFront
from tests.conformance.wire import Response
from tests.conformance.world import BLOCKED, GONE_KEY, KEY, Client
from tests.front_messages import gate

OTHER, STALE, CACHED_ERROR, NOT_READY, BLOCKED_CODE = 0, 3, 13, 14, 15
PROHIBITED, NOT_AUTHORITATIVE, NOT_SUPPORTED, NO_AUTHORITY, NETWORK_ERROR, INVALID_TYPE = 18, 20, 21, 22, 23, 30


def told(client: Client, qname: str, qtype: int = wire.A, qclass: int = wire.IN) -> tuple[int, tuple[int, ...]]:
    """Return the rcode and the reasons given for it."""
    response = client.ask(qname, qtype, qclass=qclass, additional=[wire.opt()])
    return response.rcode, response.ede


@pytest.mark.parametrize("owner", ["loop", "www.host"])
def test_a_zone_that_leads_nowhere_is_a_failure_with_its_reason(client: Client, owner: str) -> None:
    rcode, codes = told(client, f"{owner}.{KEY}")
    assert rcode == wire.SERVFAIL
    assert NO_AUTHORITY in codes


def test_a_zone_that_nobody_has_is_a_failure_with_its_reason(client: Client) -> None:
    assert told(client, f"www.{GONE_KEY}") == (wire.SERVFAIL, (NO_AUTHORITY,))


@pytest.mark.parametrize("behaviour", ["servfail", "refused", "formerr"])
def test_an_upstream_that_fails_is_a_failure_with_a_reason(client: Client, behaviour: str) -> None:
    rcode, codes = told(client, client.world.upstream.fresh(behaviour))
    assert rcode == wire.SERVFAIL
    assert codes


def test_the_reason_of_an_upstream_is_passed_on(client: Client) -> None:
    qname = client.world.upstream.fresh("told")
    response = client.ask(qname, additional=[wire.opt()])
    # Code 9: DNSKEY missing.
    assert 9 in response.ede
    assert any(b"no key" in data for code, data in response.options if code == wire.EDE)


def test_a_failure_that_is_remembered_says_why_too(client: Client) -> None:
    qname = client.world.upstream.fresh("servfail")
    for _ in range(2):
        rcode, codes = told(client, qname)
        assert rcode == wire.SERVFAIL
        assert codes


def test_a_withheld_address_is_blocked(client: Client) -> None:
    rcode, codes = told(client, f"private.{KEY}")
    assert (rcode, codes) == (wire.NOERROR, (BLOCKED_CODE,))


@pytest.mark.parametrize("below", ["", "x.", "a.b.c."])
@pytest.mark.parametrize("qtype", [wire.A, wire.AAAA, wire.HTTPS])
def test_a_name_on_a_block_list_does_not_exist_and_says_why(client: Client, below: str, qtype: int) -> None:
    response = client.ask(f"{below}{BLOCKED}", qtype, additional=[wire.opt()])
    assert (response.rcode, response.answer, response.ede) == (wire.NXDOMAIN, (), (BLOCKED_CODE,))
    assert [one.rtype for one in response.authority] == [wire.SOA]
    assert client.world.upstream.queries_for(f"{below}{BLOCKED}") == []


def test_an_alias_does_not_lead_around_a_block_list(client: Client) -> None:
    response = client.ask(client.world.upstream.fresh("toblocked"), additional=[wire.opt()])
    assert response.data(wire.A) == []
    assert response.ede == (BLOCKED_CODE,)


@pytest.mark.parametrize(
    ("qname", "qtype", "qclass", "expected"),
    [
        (KEY, wire.AXFR, wire.IN, (wire.REFUSED, (NOT_SUPPORTED,))),
        (KEY, wire.A, wire.HS, (wire.REFUSED, (NOT_SUPPORTED,))),
        ("nothing.bind", wire.TXT, wire.CH, (wire.REFUSED, (NOT_SUPPORTED,))),
        (KEY, wire.TKEY, wire.IN, (wire.REFUSED, (NOT_SUPPORTED,))),
        (KEY, wire.NXNAME, wire.IN, (wire.FORMERR, (INVALID_TYPE,))),
    ],
)
def test_a_refusal_says_what_is_not_served(
    client: Client, qname: str, qtype: int, qclass: int, expected: tuple[int, tuple[int, ...]]
) -> None:
    assert told(client, qname, qtype, qclass) == expected


def test_a_client_outside_the_access_list_is_told_so() -> None:
    # In this process: loopback is inside the access list of any daemon that can be asked here.
    front = VirtualFront(is_stream=True)
    front.funnel.gate = gate()
    query = wire.query(f"www.{KEY}", additional=[wire.opt()])
    for is_stream in (False, True):
        response = front.funnel.receive(query, ("192.0.2.1", 4000), front.late.append, 0.0, TCP if is_stream else UDP)
        assert response
        assert (wire.Response(response).rcode, wire.Response(response).ede) == (wire.REFUSED, (PROHIBITED,))


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_question_without_an_engine_says_that_we_are_not_ready(is_stream: bool) -> None:
    # In this process: the engine is taken away.
    front = VirtualFront(is_stream=is_stream)
    front.funnel.engine_lost(0.0)
    assert front.ask("x.example", now=0.0) is None
    front.funnel.handle_timer(2.0)
    assert (front.last().rcode, front.last().ede) == (wire.SERVFAIL, (NOT_READY,))


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_question_whose_time_is_over_says_so(is_stream: bool) -> None:
    # In this process: an engine that never answers.
    front = VirtualFront(is_stream=is_stream)
    assert front.ask("x.example", now=0.0) is None
    front.funnel.handle_timer(60.0)
    assert (front.last().rcode, front.last().ede) == (wire.SERVFAIL, (NO_AUTHORITY,))


def test_a_question_for_which_there_is_no_room_in_time_says_so_on_a_stream() -> None:
    # In this process, as above. Over UDP it is dropped, so that the stub asks again.
    front = VirtualFront(is_stream=True)
    for number in range(QUESTIONS_MAX):
        assert front.ask(f"n{number}.example", now=0.0, host=f"10.0.{number // 250}.{1 + number % 250}") is None
    assert front.ask("one.more.example", now=0.0, host="10.1.0.1") is None
    front.funnel.handle_timer(QUEUED_S_MAX)
    (refused,) = front.late
    assert (Response(refused).rcode, Response(refused).ede) == (wire.SERVFAIL, (OTHER,))


def test_a_client_with_too_many_questions_is_told_that_it_is_the_one_on_a_stream() -> None:
    # In this process, as above; at the TCP door what is too much waits in the client's socket before it comes here.
    front = VirtualFront(is_stream=True)
    asked = (front.ask(f"n{number}.example", now=0.0) for number in range(WAITERS_MAX))
    refused = next(response for response in asked if response is not None)
    assert (refused.rcode, refused.ede) == (wire.SERVFAIL, (OTHER,))
    assert b"this client" in (refused.option(wire.EDE) or b"")
    assert len(front.asked) < QUESTIONS_MAX // 2


def test_no_reason_is_given_to_who_has_no_edns(client: Client) -> None:
    assert client.ask(f"loop.{KEY}").opt is None


def test_texts_are_utf_8_and_do_not_end_in_a_null(client: Client) -> None:
    response = client.ask(f"loop.{KEY}", additional=[wire.opt()])
    texts = [data[2:] for code, data in response.options if code == wire.EDE]
    assert texts
    assert all(text.decode() and text[-1] for text in texts)


def test_a_normal_answer_has_no_reason(client: Client) -> None:
    for qname, qtype in ((f"www.{KEY}", wire.A), (f"nosuch.{KEY}", wire.A), (f"www.{KEY}", wire.TXT)):
        assert told(client, qname, qtype)[1] == ()
