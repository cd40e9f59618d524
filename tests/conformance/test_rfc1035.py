"""RFC 1034 and 1035: header, question, sections, names, and what a query must look like."""

from __future__ import annotations

import pytest

from p2pdns.front.transport import TCP, UDP
from tests.conformance import wire
from tests.conformance.upstream import HUGE_COUNT
from tests.conformance.wire import AA, CH, OPCODE, QR, RA, RD, TC, Z
from tests.conformance.world import KEY, OTHER_KEY, Client
from tests.front_messages import answer, funnel
from tests.front_messages import query as funnel_query

A_WWW = bytes([192, 0, 2, 80])


@pytest.mark.parametrize("number", [0, 1, 0x8000, 0xFFFF])
def test_the_id_and_the_question_are_repeated_and_qr_is_set(client: Client, number: int) -> None:
    response = client.ask(f"www.{KEY}", number=number)
    assert response.id == number
    assert response.flags & QR
    assert response.question == wire.question(f"www.{KEY}")
    assert response.counts[0] == 1


@pytest.mark.parametrize("flags", [0, RD])
def test_rd_is_copied_and_ra_is_set(client: Client, flags: int) -> None:
    response = client.ask(f"www.{KEY}", flags=flags)
    assert response.flags & (RD | RA) == flags | RA
    assert response.data(wire.A) == [A_WWW]


def test_opcode_z_and_tc_are_clear_and_a_resolver_is_no_authority(client: Client) -> None:
    assert not client.ask(f"www.{KEY}").flags & (OPCODE | Z | TC | AA)


def test_what_an_upstream_refuses_to_answer_without_recursion_is_refused_here(client: Client) -> None:
    qname = client.world.upstream.fresh("recursive")
    for flags, rcode in ((0, wire.REFUSED), (RD, wire.NOERROR), (0, wire.REFUSED)):
        assert client.ask(qname, flags=flags).rcode == rcode


@pytest.mark.parametrize("suffix", ["", ".p2p.alt", ".p2pdns.internal"])
def test_an_address_is_answered_in_the_form_it_was_asked_for(client: Client, suffix: str) -> None:
    response = client.ask(f"www.{KEY}{suffix}")
    assert response.rcode == wire.NOERROR
    (one,) = response.answer
    assert (one.owner, one.rtype, one.rclass, one.rdata) == (wire.name(f"www.{KEY}{suffix}"), wire.A, wire.IN, A_WWW)
    assert 0 <= one.ttl <= 300


def test_a_chain_of_aliases_stands_in_its_order_before_the_data(client: Client) -> None:
    response = client.ask(f"chain.{KEY}")
    assert [(one.owner, one.rtype) for one in response.answer] == [
        (wire.name(f"chain.{KEY}"), wire.CNAME),
        (wire.name(f"alias.{KEY}"), wire.CNAME),
        (wire.name(f"www.{KEY}"), wire.A),
    ]


def test_a_question_for_the_alias_itself_is_not_led_on(client: Client) -> None:
    assert [one.rtype for one in client.ask(f"chain.{KEY}", wire.CNAME).answer] == [wire.CNAME]


@pytest.mark.parametrize(
    ("owner", "address"),
    [(f"away.{KEY}", [192, 0, 2, 91]), (f"www.friend.{KEY}", [192, 0, 2, 91]), (f"www.tree.{KEY}", [192, 0, 2, 91])],
)
def test_aliases_lead_into_the_zone_of_another_key(client: Client, owner: str, address: list[int]) -> None:
    response = client.ask(owner)
    assert response.data(wire.A) == [bytes(address)]
    assert response.answer[-1].owner == wire.name(f"www.{OTHER_KEY}")


def test_an_alias_into_the_ordinary_dns_is_followed_there(client: Client) -> None:
    response = client.ask(f"outside.{KEY}")
    assert [one.rtype for one in response.answer] == [wire.CNAME, wire.A]


def test_a_loop_of_aliases_is_a_failure_without_half_a_chain(client: Client) -> None:
    response = client.ask(f"loop.{KEY}")
    assert (response.rcode, response.answer) == (wire.SERVFAIL, ())


def test_a_wildcard_answers_for_names_that_do_not_exist_and_for_no_other(client: Client) -> None:
    response = client.ask(f"any.thing.wild.{KEY}")
    assert [(one.owner, one.rdata) for one in response.answer] == [
        (wire.name(f"any.thing.wild.{KEY}"), bytes([192, 0, 2, 7]))
    ]
    assert client.ask(f"any.thing.{KEY}").rcode == wire.NXDOMAIN


def test_addresses_of_a_target_stand_in_the_additional_section(client: Client) -> None:
    response = client.ask(KEY, wire.MX)
    assert [(one.owner, one.rdata) for one in response.additional] == [
        (wire.name(f"mail.{KEY}"), bytes([192, 0, 2, 25]))
    ]


def test_what_the_administrator_wrote_is_answered_and_nothing_else_at_that_name(client: Client) -> None:
    response = client.ask("box.home.example")
    assert [(one.owner, one.rtype) for one in response.answer] == [
        (wire.name("box.home.example"), wire.CNAME),
        (wire.name("router.home.example"), wire.A),
    ]
    assert (response.answer[-1].rdata, response.answer[-1].ttl <= 120) == (bytes([192, 168, 1, 1]), True)
    absent = client.ask("router.home.example", wire.AAAA)
    assert (absent.rcode, absent.answer, [one.rtype for one in absent.authority]) == (wire.NOERROR, (), [wire.SOA])


def test_of_what_is_written_here_we_are_the_authority_for_who_asks_without_recursion(client: Client) -> None:
    assert client.ask("router.home.example", flags=0).flags & AA
    assert not client.ask("router.home.example", flags=RD).flags & AA


def test_owners_are_compressed_to_the_question(client: Client) -> None:
    response = client.ask(f"www.{KEY}")
    after = wire.HEADER_BYTES + len(response.question)
    assert response.wire[after : after + 2] == b"\xc0\x0c"


def test_what_does_not_fit_into_512_bytes_is_cut_and_comes_over_tcp(udp: Client, tcp: Client) -> None:
    # Each transport has its own half of the rule.
    cut = udp.ask(f"long.{OTHER_KEY}", wire.TXT)
    assert cut.flags & TC
    assert cut.counts == (1, 0, 0, 0)
    assert len(cut.wire) <= 512
    whole = tcp.ask(f"long.{OTHER_KEY}", wire.TXT)
    assert not whole.flags & TC
    assert len(whole.data(wire.TXT)) == 3


def test_a_message_of_nearly_64_kib_comes_over_tcp(tcp: Client) -> None:
    # TCP only: no datagram is so long.
    response = tcp.ask(tcp.world.upstream.fresh("huge"), wire.TXT)
    assert len(response.data(wire.TXT)) == HUGE_COUNT


@pytest.mark.parametrize("flags", [QR, QR | RD, QR | AA | RA])
def test_a_response_is_never_answered(client: Client, flags: int) -> None:
    assert client.is_silent_about(wire.query(f"www.{KEY}", flags=flags))


def test_our_own_response_is_never_answered(client: Client) -> None:
    assert client.is_silent_about(client.ask(f"www.{KEY}").wire)


@pytest.mark.parametrize("size", [0, 1, 11])
def test_a_datagram_shorter_than_a_header_is_dropped(udp: Client, size: int) -> None:
    # UDP only: a stream closes on such a length (RFC 7766).
    assert udp.is_silent_about(wire.query(f"www.{KEY}")[:size])


TOO_LONG = wire.labels(*[b"x" * 63] * 4)  # 257 bytes
LONGEST = wire.labels(b"x" * 63, b"x" * 63, b"x" * 63, b"x" * 61)  # 255


@pytest.mark.parametrize(
    "asked",
    [
        wire.question(b"\xc0\x0c"),
        wire.question(b"\x03www\xc0\x0c"),
        wire.question(b"\x41" + b"a" * 65 + b"\x00"),
        wire.question(b"\x80" + b"\x00"),
        wire.question(TOO_LONG),
        wire.question("www.example")[:-1],
        wire.question("www.example")[:-5],
        b"\x3fabc",
        b"",
    ],
    ids=["pointer", "pointer inside", "label type 01", "label type 10", "256", "class cut", "cut", "label cut", "none"],
)
def test_a_question_that_cannot_be_read_is_a_format_error_without_question(client: Client, asked: bytes) -> None:
    response = client(wire.query(questions=[asked]))
    assert (response.rcode, response.counts) == (wire.FORMERR, (0, 0, 0, 0))


def test_the_longest_name_is_asked_for_and_comes_back_whole(client: Client) -> None:
    response = client.ask(LONGEST)
    assert response.rcode == wire.NOERROR
    assert response.question == wire.question(LONGEST)


@pytest.mark.parametrize("section", ["answer", "authority"])
def test_records_in_the_answer_of_a_query_are_a_format_error(client: Client, section: str) -> None:
    stray = wire.record(b"\xc0\x0c", wire.A, A_WWW)
    assert client(wire.query(f"www.{KEY}", **{section: [stray]})).rcode == wire.FORMERR  # type: ignore[arg-type]


def test_counts_that_promise_more_than_there_is_are_a_format_error(client: Client) -> None:
    for at in (6, 8, 10):
        query = bytearray(wire.query(f"www.{KEY}"))
        query[at : at + 2] = b"\xff\xff"
        assert client(bytes(query)).rcode == wire.FORMERR


@pytest.mark.parametrize("qtype", [wire.AXFR, wire.IXFR])
def test_zones_are_not_transferred(client: Client, qtype: int) -> None:
    for qname, qclass in ((KEY, wire.IN), ("a-0.upstream.example", wire.IN), ("version.bind", CH), (KEY, wire.HS)):
        response = client.ask(qname, qtype, qclass=qclass)
        assert (response.rcode, response.counts) == (wire.REFUSED, (1, 0, 0, 0))


@pytest.mark.parametrize("qname", ["version.bind", "version.server", "id.server", "hostname.bind", "VERSION.Bind"])
def test_who_we_are_is_told_in_class_chaos(client: Client, qname: str) -> None:
    response = client.ask(qname, wire.TXT, qclass=CH)
    (one,) = response.answer
    assert (response.rcode, one.rclass, one.ttl) == (wire.NOERROR, CH, 0)
    assert one.rdata[0] == len(one.rdata) - 1
    assert one.rdata[1:].startswith(b"p2pdns")


@pytest.mark.parametrize("qclass", [wire.HS, 255, 65_280])
def test_other_classes_are_refused(client: Client, qclass: int) -> None:
    response = client.ask(f"www.{KEY}", qclass=qclass)
    assert (response.rcode, response.counts) == (wire.REFUSED, (1, 0, 0, 0))


def test_the_root_can_be_asked_for(client: Client) -> None:
    response = client.ask(".", wire.NS)
    assert response.question == wire.question(b"\x00", wire.NS)
    assert response.rcode == wire.NOERROR


def test_ttls_count_down_second_by_second() -> None:
    # In this process: the funnel behind both transports is told the time.
    made = funnel()
    made.send_query = lambda query: None
    made.engine_connected(1, 0.0)
    made.receive(funnel_query(), ("127.0.0.1", 4000), lambda data: None, 0.0, UDP)
    made.frame_received(answer(ttl=300, number=1), 0.0)
    for is_stream in (False, True):
        for now, left in ((0.0, 300), (1.0, 299), (1.9, 299), (150.0, 150), (299.9, 1)):
            wired = made.receive(funnel_query(), ("127.0.0.1", 4000), lambda data: None, now, TCP if is_stream else UDP)
            assert wired
            assert wire.Response(wired).answer[0].ttl == left
