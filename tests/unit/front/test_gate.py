"""The gate: what is dropped, what is told, what passes."""

from __future__ import annotations

import random
import struct

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.registry import Rcode
from p2pdns.front.compose import compose_told
from p2pdns.front.gate import REFUSALS_PER_PREFIX_S, REFUSALS_PER_S, Client, ClientQuery, Dropped, Gate, Told, Verdict
from p2pdns.front.transport import TCP, UDP
from p2pdns.link import ClientClass
from tests.front_messages import CALM, UDP_SIZE, gate, opt, query, question, unheard

COOKIE = b"\x00\x0a\x00\x08" + b"clientco"
KEEPALIVE = b"\x00\x0b\x00\x00"
IDLE_MS = 12_345
FUZZ_COUNT = 100_000


def judged(data: bytes, *, stream: bool = False, judge: Gate | None = None, now: float = 0.0) -> Verdict:
    """Return the verdict on a message from loopback."""
    door = judge or gate()
    return door.verdict(data, door.access.client(("127.0.0.1", 4000), TCP if stream else UDP, unheard), now)


def passed(data: bytes, *, stream: bool = False) -> ClientQuery:
    """Return the verdict on a message that must pass."""
    verdict = judged(data, stream=stream)
    assert isinstance(verdict, ClientQuery), verdict
    return verdict


def asked(verdict: Verdict) -> ClientQuery:
    """Return the query that a verdict answers or passes on."""
    assert not isinstance(verdict, Dropped)
    return verdict.asked if isinstance(verdict, Told) else verdict


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "short"),
        (query()[:11], "short"),
        (query(flags=0x8100), "response"),
        (query(flags=0x8580, records=[opt()]), "response"),
        (query(flags=0xA000), "response"),
    ],
    ids=["nothing", "11 bytes", "QR", "QR with OPT", "QR with another opcode"],
)
def test_what_is_no_query_gets_silence(data: bytes, reason: str) -> None:
    assert judged(data) == Dropped(reason)
    assert judged(data, stream=True) == Dropped(reason)


def test_what_a_page_makes_a_browser_send_over_udp_is_never_passed_on() -> None:
    """STUN for a server that the page names (WebRTC), and QUIC for WebTransport."""
    for attributes in (b"", b"\x80\x22\x00\x04test", question("www.example")):
        stun = struct.pack("!HHI", 1, len(attributes), 0x2112A442) + bytes(range(12)) + attributes
        assert judged(stun) == Dropped("stun")
    quic = b"\xc3\x00\x00\x00\x01\x08" + bytes(range(8)) + bytes(1186)
    verdict = judged(quic)
    assert isinstance(verdict, Told)
    assert verdict.rcode == Rcode.FORMERR
    assert verdict.asked.question == b""


@pytest.mark.parametrize(
    ("data", "rcode", "reason"),
    [
        (query(flags=0x0800), Rcode.NOTIMP, "opcode"),
        (query(flags=0x2000), Rcode.NOTIMP, "opcode"),
        (query(flags=0x7800, questions=[]), Rcode.NOTIMP, "opcode"),
        (query(flags=0x2000) + b"\xff" * 40, Rcode.NOTIMP, "opcode"),
        (query(questions=[question("a"), question("b")]), Rcode.FORMERR, "questions"),
        (query(questions=[]), Rcode.FORMERR, "questions"),
        (query(questions=[], records=[opt()]), Rcode.FORMERR, "questions"),
        (query(questions=[], records=[opt(options=COOKIE)]), Rcode.NOERROR, "cookie-only"),
        (query(questions=[b"\xc0\x0c\x00\x01\x00\x01"]), Rcode.FORMERR, "compressed-name"),
        (query(questions=[b"\x03www\x00\x00\x01"]), Rcode.FORMERR, "question-cut"),
        (query(questions=[(b"\x3f" + b"a" * 63) * 4 + b"\x00\x00\x01\x00\x01"]), Rcode.FORMERR, "name-too-long"),
        (query(records=[opt(), opt()]), Rcode.FORMERR, "opt"),
        (query(records=[b"\x01a" + opt()]), Rcode.FORMERR, "opt"),
        (query(records=[opt()], counts=(1, 0, 0)), Rcode.FORMERR, "opt"),
        (query(records=[opt(version=1)]), Rcode.BADVERS, "edns-version"),
        (query(records=[opt(version=255, options=b"another format")]), Rcode.BADVERS, "edns-version"),
        (query(questions=[], records=[opt(version=1, options=COOKIE)]), Rcode.BADVERS, "edns-version"),
        (query(records=[opt(options=b"\x00\x0a\x00\x07" + b"1234567")]), Rcode.FORMERR, "cookie-size"),
        (query(records=[opt(options=b"\x00\x0a\x00\x0c" + b"123456789012")]), Rcode.FORMERR, "cookie-size"),
        (query(records=[opt(options=b"\x00\x0a\x00\x29" + b"1" * 41)]), Rcode.FORMERR, "cookie-size"),
        (query(records=[opt(options=b"\x00\x0a\x00\x00")]), Rcode.FORMERR, "cookie-size"),
        (query(records=[opt(options=b"\x00\x0a\x00\x0f" + b"1" * 15)]), Rcode.FORMERR, "cookie-size"),
        (query(records=[opt(options=b"\x00\x0a\x00\x09" + b"12345678")]), Rcode.FORMERR, "option-cut"),
        (query(records=[opt(options=b"\x00\x0a\x00")]), Rcode.FORMERR, "option-cut"),
        (query(counts=(0, 0, 1)), Rcode.FORMERR, "truncated-name"),
        (query(records=[b"\x00\x00\x29"]), Rcode.FORMERR, "record-cut"),
        (query(records=[opt()[:-1] + b"\x01"]), Rcode.FORMERR, "record-cut"),
        (query(records=[opt(options=bytes(4) * 257)]), Rcode.FORMERR, "options"),
        (query(records=[opt(), *[bytes(11)] * 5950], counts=(0, 0, 5951)), Rcode.FORMERR, "records"),
        (query(records=[b"\xc0\x0c" + bytes(10)], counts=(1, 0, 0)), Rcode.FORMERR, "records"),
        (query(records=[b"\xc0\x0c" + bytes(10)], counts=(0, 1, 0)), Rcode.FORMERR, "records"),
        (query(rtype=252), Rcode.REFUSED, "transfer"),
        (query("version.bind", rtype=252, rclass=3), Rcode.REFUSED, "transfer"),
        (query(rtype=251, records=[b"\xc0\x0c" + bytes(10)], counts=(0, 1, 0)), Rcode.REFUSED, "transfer"),
        (query(rtype=41), Rcode.FORMERR, "type"),
        (query(rtype=128), Rcode.FORMERR, "type"),
        (query(rtype=249), Rcode.REFUSED, "type"),
        (query(rtype=250), Rcode.REFUSED, "type"),
        (query(rtype=254), Rcode.REFUSED, "type"),
        (query(rclass=255), Rcode.REFUSED, "class"),
        (query(rclass=4), Rcode.REFUSED, "class"),
        (query("example", 16, rclass=3), Rcode.REFUSED, "chaos"),
    ],
)
def test_what_cannot_be_looked_up_is_told_so(data: bytes, rcode: int, reason: str) -> None:
    for stream in (False, True):
        verdict = judged(data, stream=stream)
        assert isinstance(verdict, Told), verdict
        assert (verdict.rcode, verdict.reason) == (rcode, reason)


@pytest.mark.parametrize("rtype", [0, 1, 28, 65, 255, 257, 1000, 65280, 65535])
def test_unknown_types_and_any_pass(rtype: int) -> None:
    passed(query(rtype=rtype))


@pytest.mark.parametrize(
    "data",
    [
        query(flags=0x0040),
        query(flags=0x0130),
        query(records=[opt(options=b"\xfd\xe9\x00\x03abc" + COOKIE)]),
        query(records=[opt(options=bytes(4) * 256)]),
        query(records=[b"\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x00"]),
        query() + b"trailing bytes",
        query(questions=[b"\x00\x00\x02\x00\x01"]),
    ],
    ids=["Z bit", "AD and CD", "unknown option", "256 options", "TSIG", "tail", "the root"],
)
def test_what_is_odd_and_sane_passes(data: bytes) -> None:
    passed(data)


@pytest.mark.parametrize(
    ("size", "expected"), [(0, 512), (511, 512), (512, 512), (1000, 1000), (1232, 1232), (4096, 1232), (65535, 1232)]
)
def test_the_size_of_a_client_is_clamped(size: int, expected: int) -> None:
    assert passed(query(records=[opt(size)])).size_max == expected
    assert passed(query(records=[opt(size)]), stream=True).size_max == 65_535


def test_without_opt_a_datagram_has_512_bytes() -> None:
    assert passed(query()).size_max == 512


def test_equal_questions_share_a_key_whatever_their_case_and_id() -> None:
    key = passed(query("www.example", 65)).key
    assert passed(query("wWw.EXAMPLE", 65, number=7)).key == key
    assert passed(query("www.example", 97)).key != key


def test_rd_do_and_cd_part_keys_and_ad_does_not() -> None:
    keys = {
        passed(query(flags=flags, records=[opt(do=do)])).key
        for flags in (0, 0x100, 0x10, 0x110)
        for do in (False, True)
    }
    assert len(keys) == 8
    assert passed(query(flags=0x120)).key == passed(query(flags=0x100)).key


@pytest.mark.parametrize("name", ["version.bind", "VERSION.BIND", "version.server", "id.server", "hostname.bind"])
def test_chaos_questions_get_a_polite_text(name: str) -> None:
    verdict = judged(query(name, 16, rclass=3))
    assert isinstance(verdict, Told)
    assert verdict.rcode == Rcode.NOERROR
    reply = dns.message.from_wire(compose_told(verdict, udp_size=UDP_SIZE))
    assert "p2pdns" in str(reply.answer[0][0])


def test_a_chaos_question_of_another_type_is_empty() -> None:
    verdict = judged(query("version.bind", 1, rclass=3))
    assert isinstance(verdict, Told)
    assert (verdict.rcode, verdict.texts) == (Rcode.NOERROR, ())


@pytest.mark.parametrize("port", [0, 7, 13, 17, 19, 37])
def test_a_datagram_from_a_service_that_echoes_gets_silence(port: int) -> None:
    door = gate()
    client = door.access.client(("127.0.0.1", port), UDP, unheard)
    assert door.verdict(query(), client, 0.0) == Dropped("echoing-port")
    assert isinstance(door.verdict(query(), door.access.client(("127.0.0.1", port), TCP, unheard), 0.0), ClientQuery)


@pytest.mark.parametrize(
    "data",
    [
        query(flags=0x2000, records=[opt()]),
        query(questions=[question("a"), question("b")], records=[opt()]),
        query(questions=[], records=[opt()]),
        query(records=[opt(version=1)]),
        query(records=[opt(), opt()]),
        query(records=[opt(), b"\x01a" + opt()]),
        query(records=[opt(options=b"\x00\x0a\x00\x07" + b"1234567")]),
        query(records=[opt(options=b"\x00\x0a\x00")]),
        query(records=[opt(), b"\x00\x00"]),
        query(records=[opt(), b"\xc0\x0c" + bytes(10)], counts=(0, 0, 2)) + b"tail",
        query(rtype=252, records=[opt()]),
        query(rclass=4, records=[opt()]),
    ],
    ids=str,
)
def test_whatever_is_wrong_with_a_query_its_opt_is_answered_by_one(data: bytes) -> None:
    assert asked(judged(data)).has_opt


@pytest.mark.parametrize("data", [query(records=[b"\x01a" + opt()]), query(records=[opt()], counts=(1, 0, 0)), query()])
def test_what_is_no_opt_is_not_answered_by_one(data: bytes) -> None:
    assert not asked(judged(data)).has_opt


def test_the_question_of_another_opcode_is_not_repeated() -> None:
    verdict = judged(query(flags=0x2800))
    assert isinstance(verdict, Told)
    assert verdict.asked.question == b""


def cookie_option(cookie: bytes) -> bytes:
    """Return a COOKIE option."""
    return b"\x00\x0a" + len(cookie).to_bytes(2, "big") + cookie


def cookie_of(door: Gate, host: str = "127.0.0.1") -> bytes:
    """Return the option that a client gets by asking for it."""
    client = door.access.client((host, 4000), UDP, unheard)
    verdict = door.verdict(query(questions=[], records=[opt(options=COOKIE)]), client, 0.0)
    assert isinstance(verdict, Told)
    return verdict.asked.options


def test_a_client_gets_the_cookie_that_proves_its_address() -> None:
    door = gate()
    options = cookie_of(door)
    assert (options[:4], options[4:12], len(options)) == (b"\x00\x0a\x00\x18", b"clientco", 28)
    for stream in (False, True):
        verdict = judged(query(records=[opt(options=options)]), judge=door, stream=stream)
        assert isinstance(verdict, ClientQuery)
        assert (verdict.is_proven, verdict.options) == (True, options)


def test_a_wrong_server_cookie_is_answered_with_the_right_one() -> None:
    door = gate()
    right = cookie_of(door)
    wrong = cookie_option(b"clientco" + bytes(16))
    verdict = judged(query(records=[opt(options=wrong)]), judge=door)
    assert isinstance(verdict, ClientQuery)
    assert (verdict.is_proven, verdict.options) == (False, right)
    # The first cookie is the cookie; further ones are nothing.
    twice = judged(query(records=[opt(options=right + wrong)]), judge=door)
    assert isinstance(twice, ClientQuery)
    assert twice.is_proven


@pytest.mark.parametrize(
    ("kind", "rcode"), [("none", Rcode.NOERROR), ("right", Rcode.NOERROR), ("wrong", Rcode.BADCOOKIE)]
)
def test_a_query_without_a_question_says_whether_its_cookie_counts(kind: str, rcode: int) -> None:
    door = gate()
    right = cookie_of(door)
    option = {"none": COOKIE, "right": right, "wrong": cookie_option(b"clientco" + bytes(16))}[kind]
    verdict = judged(query(questions=[], records=[opt(options=option)]), judge=door)
    assert isinstance(verdict, Told)
    assert (verdict.rcode, verdict.asked.options) == (rcode, right)


def test_where_cookies_are_required_a_datagram_needs_one() -> None:
    door = gate()
    door.require_cookies = True
    right = cookie_of(door)
    passes = judged(query(records=[opt(options=right)]), judge=door)
    assert isinstance(passes, ClientQuery)
    for option in (COOKIE, cookie_option(b"clientco" + bytes(16))):
        told = judged(query(records=[opt(options=option)]), judge=door)
        assert isinstance(told, Told)
        assert (told.rcode, told.asked.options) == (Rcode.BADCOOKIE, right)
        assert isinstance(judged(query(records=[opt(options=option)]), judge=door, stream=True), ClientQuery)


@pytest.mark.parametrize("records", [[], [opt()]], ids=["no OPT", "no cookie"])
def test_where_cookies_are_required_who_knows_none_is_sent_to_tcp(records: list[bytes]) -> None:
    door = gate()
    door.require_cookies = True
    data = query(records=records)
    told = judged(data, judge=door)
    assert isinstance(told, Told)
    reply = dns.message.from_wire(compose_told(told, udp_size=UDP_SIZE))
    assert reply.flags & dns.flags.TC
    assert (reply.rcode(), len(reply.question)) == (0, 1)
    assert isinstance(judged(data, judge=door, stream=True), ClientQuery)


def test_where_cookies_are_required_errors_are_still_told() -> None:
    door = gate()
    door.require_cookies = True
    for data, rcode in ((query(flags=0x2000), Rcode.NOTIMP), (query(records=[opt(version=1)]), Rcode.BADVERS)):
        told = judged(data, judge=door)
        assert isinstance(told, Told)
        assert told.rcode == rcode


def test_keepalive_is_answered_over_tcp_with_the_idle_time_and_ignored_over_udp() -> None:
    door = gate()
    door.tcp_idle_ms = IDLE_MS
    data = query(records=[opt(options=KEEPALIVE)])
    assert asked(judged(data, judge=door, stream=True)).options == b"\x00\x0b\x00\x02\x00\x7b"
    assert asked(judged(data, judge=door)).options == b""


def test_keepalive_and_cookie_come_together() -> None:
    door = gate()
    data = query(records=[opt(options=COOKIE + KEEPALIVE)])
    assert asked(judged(data, judge=door, stream=True)).options == cookie_of(door) + b"\x00\x0b\x00\x02\x00\x00"


def test_a_client_that_says_a_time_in_keepalive_is_wrong_over_tcp_and_ignored_over_udp() -> None:
    data = query(records=[opt(options=b"\x00\x0b\x00\x02\x00\x64")])
    told = judged(data, stream=True)
    assert isinstance(told, Told)
    assert (told.rcode, told.reason) == (Rcode.FORMERR, "keepalive-size")
    passed(data)


def stranger(door: Gate, host: str = "203.0.113.9", *, stream: bool = False) -> Client:
    """Return a client that the access list does not know."""
    return door.access.client((host, 5353), TCP if stream else UDP, unheard)


def test_a_client_outside_the_access_list_is_refused_with_ede_18() -> None:
    door = gate()
    verdict = door.verdict(query(records=[opt()]), stranger(door), 0.0)
    assert isinstance(verdict, Told)
    assert (verdict.rcode, [code for code, _ in verdict.ede]) == (Rcode.REFUSED, [18])


def test_malformed_queries_of_strangers_are_refused_like_the_others() -> None:
    door = gate()
    verdict = door.verdict(query(flags=0x2000), stranger(door), 0.0)
    assert isinstance(verdict, Told)
    assert verdict.rcode == Rcode.REFUSED


def test_refusals_over_udp_are_rationed_a_prefix_and_in_all() -> None:
    door = gate()
    told = [door.verdict(query(), stranger(door), 0.0) for _ in range(1000)]
    assert sum(isinstance(verdict, Told) for verdict in told) == REFUSALS_PER_PREFIX_S
    spread = [door.verdict(query(), stranger(door, f"203.{i >> 8}.{i & 255}.9"), 0.0) for i in range(3000)]
    assert sum(isinstance(verdict, Told) for verdict in spread) <= REFUSALS_PER_S
    later = door.verdict(query(), stranger(door), 10.0)
    assert isinstance(later, Told)


def test_refusals_over_tcp_are_not_rationed() -> None:
    door = gate()
    assert all(isinstance(door.verdict(query(), stranger(door, stream=True), 0.0), Told) for _ in range(100))


def test_refusals_to_a_proven_address_are_not_rationed() -> None:
    door = gate()
    host = "203.0.113.9"
    data = query(records=[opt(options=cookie_of(door, host))])
    assert all(isinstance(door.verdict(data, stranger(door, host), 0.0), Told) for _ in range(100))
    other = [door.verdict(data, stranger(door, "203.0.113.10"), 0.0) for _ in range(100)]
    assert sum(isinstance(verdict, Told) for verdict in other) <= REFUSALS_PER_PREFIX_S


def test_classes_of_clients() -> None:
    access = gate(allow=["127.0.0.0/8", "10.0.0.0/8"], listed=["192.0.2.1/32"]).access
    kinds = {
        host: access.client((host, 9), UDP, unheard) for host in ("127.0.0.1", "10.1.1.1", "192.0.2.1", "192.0.2.2")
    }
    assert [c.client_class for c in kinds.values()] == [
        ClientClass.LOOPBACK,
        ClientClass.OTHER,
        ClientClass.LISTED,
        ClientClass.OTHER,
    ]
    assert [c.is_allowed for c in kinds.values()] == [True, True, True, False]
    assert access.client(("::ffff:127.0.0.1", 9), UDP, unheard).is_allowed


@CALM
@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_verdict(data: bytes) -> None:
    for stream in (False, True):
        assert isinstance(judged(data, stream=stream), Dropped | Told | ClientQuery)


def test_a_hundred_thousand_mutated_queries_end_in_verdicts_and_small_replies() -> None:
    chance = random.Random(1035)
    door = gate()
    client = door.access.client(("127.0.0.1", 4000), UDP, unheard)
    seeds = [
        query(),
        query("a.b.c.d.e.example", 28, records=[opt(do=True, options=COOKIE)]),
        query("version.bind", 16, rclass=3),
        query(questions=[], records=[opt(options=COOKIE)]),
        query(records=[opt(), b"\xc0\x0c" + bytes(10)]),
    ]
    for _ in range(FUZZ_COUNT):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x29, 0x3F, 0xC0, 0xFF, chance.randrange(256)))
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        verdict = door.verdict(bytes(data), client, 0.0)
        if isinstance(verdict, Told):
            reply = compose_told(verdict, udp_size=UDP_SIZE)
            assert reply[:2] == data[:2]
            assert reply[2] & 0x80
            assert len(reply) <= verdict.asked.size_max
    assert sum(door.counters.values()) == FUZZ_COUNT
    assert len(door.counters) > 10
