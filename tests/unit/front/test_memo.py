"""The memo of the UDP door: it must never be told from the cache behind it."""

from __future__ import annotations

import random

import pytest

from p2pdns.config import CacheTable
from p2pdns.front.cache import AnswerCache
from p2pdns.front.funnel import REMEMBERED_MAX, Funnel, Memo
from p2pdns.front.transport import UDP
from p2pdns.link import Answer, Invalidate, QuestionFrame
from p2pdns.values import replace
from tests.front_messages import UDP_SIZE, answer, funnel, gate, opt, query

TAG = b"12345678"
LOOPBACK = ("127.0.0.1", 4000)


def engine_of(door: Funnel) -> list[QuestionFrame]:
    """Connect an engine played by the test; return where its questions arrive."""
    asked: list[QuestionFrame] = []
    door.send_query = asked.append
    door.engine_connected(1, 0.0)
    return asked


def filled(given: Answer, now: float = 0.0, data: bytes | None = None) -> Funnel:
    """Return a funnel that has an answer in its cache."""
    door = funnel()
    asked = engine_of(door)
    door.receive(data or query(), LOOPBACK, lambda _: None, now, UDP)
    door.frame_received(replace(given, id=asked[-1].id), now)
    return door


def ask(door: Funnel, data: bytes, now: float, address: tuple[str, int] = LOOPBACK) -> bytes | None:
    """Ask over UDP."""
    return door.receive(data, address, lambda _: None, now, UDP)


def ttl_of(response: bytes | None) -> int:
    """Return the TTL of the one record of a response."""
    assert response is not None
    at = len(query()) + 6
    return int.from_bytes(response[at : at + 4], "big")


def test_the_id_is_the_clients_own_each_time() -> None:
    door = filled(answer())
    replies = [ask(door, query(number=number), 1.0) for number in (1, 2, 3)]
    assert [reply[:2] if reply else None for reply in replies] == [b"\0\1", b"\0\2", b"\0\3"]
    assert len({reply[2:] for reply in replies if reply}) == 1


def test_ttls_go_on_counting_and_the_answer_ends_in_time() -> None:
    door = filled(answer(ttl=3, made_at=0.5), 0.5)
    seen = [ttl_of(ask(door, query(), now)) for now in (0.6, 1.4, 1.5, 2.4, 2.5, 3.4)]
    assert seen == [3, 3, 2, 2, 1, 1]
    assert ask(door, query(), 3.5) is None


def test_what_is_invalidated_is_not_given_again() -> None:
    door = filled(answer(tags=(TAG,)))
    assert ask(door, query(), 0.1)
    assert ask(door, query(), 0.2)
    door.frame_received(Invalidate((TAG,)), 0.3)
    assert ask(door, query(), 0.3) is None


def test_types_that_differ_in_the_bit_of_letter_case_are_told_apart() -> None:
    # Type 65 (HTTPS) in lower case would be type 97.
    door = filled(answer(rtype=65), data=query(rtype=65))
    assert ask(door, query(rtype=65), 0.1)
    assert ask(door, query(rtype=97), 0.1) is None


def test_a_stranger_does_not_get_what_a_trusted_client_got() -> None:
    door = filled(answer(ad_eligible=True), data=query(flags=0x0120))
    door.gate.access = gate(allow=["127.0.0.0/8", "192.0.2.0/25"]).access
    mine = ask(door, query(flags=0x0120), 0.1)
    theirs = ask(door, query(flags=0x0120), 0.1, ("192.0.2.1", 4000))
    refused = ask(door, query(flags=0x0120), 0.1, ("192.0.2.200", 4000))
    assert mine is not None
    assert theirs is not None
    assert refused is not None
    assert (mine[3] & 0x20, theirs[3] & 0x20) == (0x20, 0)
    assert refused[3] & 0x0F == 5


def test_a_cookie_goes_to_the_host_it_was_made_for_and_to_no_other() -> None:
    data = query(records=[opt(options=b"\x00\x0a\x00\x08clientco")])
    door = filled(answer(), data=data)
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2", "127.0.0.2")
    replies = [ask(door, data, 0.1, (host, 4000)) for host in hosts]
    assert replies[0] == replies[2]
    assert replies[1] == replies[3] == replies[4]
    assert replies[0] != replies[1]
    assert door.cache.counters["hit"] == len(hosts)


def test_the_memo_forgets_when_it_is_full_and_when_the_cache_has_changed() -> None:
    cache, access, given = AnswerCache(CacheTable()), gate().access, answer()
    memo = Memo(cache)

    def keep(number: int) -> bytes:
        data = b"id" + number.to_bytes(4)
        memo.keep(data, data, given, True, 0.5, host=None)
        return data

    first = keep(0)
    for number in range(1, REMEMBERED_MAX):
        last = keep(number)
    assert (memo.response(first, LOOPBACK, access, 0.5), memo.response(last, LOOPBACK, access, 0.5)) == (first, last)
    last = keep(REMEMBERED_MAX)
    assert (memo.response(first, LOOPBACK, access, 0.5), memo.response(last, LOOPBACK, access, 0.5)) == (None, last)
    cache.invalidate(None)
    newer = keep(0)
    assert (memo.response(newer, LOOPBACK, access, 0.5), memo.response(last, LOOPBACK, access, 0.5)) == (newer, None)


def test_what_was_remembered_ends_when_cookies_are_required() -> None:
    door = filled(answer())
    assert ask(door, query(), 0.1) == ask(door, query(), 0.1)
    door.change_responses(udp_size=UDP_SIZE, require_cookies=True)
    cut = ask(door, query(), 0.1)
    assert cut is not None
    assert cut[2] & 0x02


@pytest.mark.parametrize("port", [7, 19])
def test_a_port_that_echoes_gets_silence_here_too(port: int) -> None:
    door = filled(answer())
    assert ask(door, query(), 0.1)
    assert ask(door, query(), 0.1, ("127.0.0.1", port)) == b""


def test_any_sequence_of_queries_gets_what_a_funnel_without_memo_gives() -> None:
    chance = random.Random(4343)
    door, plain = filled(answer(ad_eligible=True)), filled(answer(ad_eligible=True))
    # Two servers would give two cookies.
    door.gate = plain.gate
    now = 0.0
    for _ in range(2000):
        now += chance.choice((0.0, 0.01, 0.3))
        name = "".join(chance.choice((c, c.upper())) for c in "ww.example")
        flags = chance.choice((0x0100, 0x0120, 0x0110, 0x0000))
        records = chance.choice(([], [opt(do=True)], [opt(600)], [opt(options=b"\x00\x0a\x00\x08clientco")]))
        data = query(chance.choice(("www.example", "wWw.example", "w" + name)), flags=flags, records=records)
        port = chance.choice((7, 4000, 4001))
        host = chance.choice(("127.0.0.1", "127.0.0.2"))
        # A stream never meets the memo; sizes differ there, so the memo of the other funnel is emptied instead.
        plain.cache.version += 1
        expected = ask(plain, data, now, (host, port))
        assert ask(door, data, now, (host, port)) == expected
