"""RFC 4343: names are compared without case and shown in the case they were asked in (what 0x20 relies on)."""

from __future__ import annotations

import random

import pytest

from tests.conformance import wire
from tests.conformance.world import KEY, Client

ADDRESS = bytes([192, 0, 2, 80])


def scattered(text: str, seed: int) -> str:
    """Return the text with the case of each letter thrown anew."""
    chance = random.Random(seed)
    return "".join(chance.choice((letter.upper(), letter.lower())) for letter in text)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("suffix", ["", ".p2p.alt"])
def test_the_case_of_the_question_is_echoed_in_question_and_owner(client: Client, suffix: str, seed: int) -> None:
    qname = scattered(f"www.{KEY}{suffix}", seed)
    for _ in range(2):
        response = client.ask(qname)
        assert response.question == wire.question(qname)
        assert [(one.owner, one.rdata) for one in response.answer] == [(wire.name(qname), ADDRESS)]


@pytest.mark.parametrize("behaviour", ["a", "loud"])
def test_the_case_is_the_clients_own_whatever_was_kept_or_what_an_upstream_sent(client: Client, behaviour: str) -> None:
    plain = client.world.upstream.fresh(behaviour)
    for seed in range(3):
        qname = scattered(plain, seed)
        response = client.ask(qname)
        assert response.question == wire.question(qname)
        assert response.answer[0].owner == wire.name(qname)
    # Names that differ in case only are one name: asked for once.
    assert len(client.world.upstream.queries_for(plain)) == 1


@pytest.mark.parametrize("qname", ["nosuch", "www"])
def test_the_case_is_echoed_in_negative_answers_and_errors(client: Client, qname: str) -> None:
    shown = scattered(f"{qname}.{KEY}", 5)
    assert client.ask(shown, wire.TXT).question == wire.question(shown, wire.TXT)
    assert client.ask(shown, wire.AXFR).question == wire.question(shown, wire.AXFR)


def test_only_the_26_letters_have_case(client: Client) -> None:
    # 0xE9 and 0xC9 are one letter in Latin-1 and two different bytes here; so are "[" and "{".
    upstream = client.world.upstream
    number = upstream.fresh("a").encode()
    for one, other in ((b"\xe9", b"\xc9"), (b"[", b"{"), (b"@", b"`")):
        for first in (one, other):
            qname = wire.labels(b"a-" + first + number, b"upstream", b"example")
            response = client.ask(qname)
            assert response.question == wire.question(qname)
        heard = {
            asked.qname.lower() for asked in upstream.asked if number in asked.qname and asked.qname[3:4] in one + other
        }
        assert len(heard) == 2


def test_bytes_of_the_type_that_look_like_letters_are_not_folded(client: Client) -> None:
    # Type 65 (HTTPS) is the byte of "A", type 97 that of "a".
    assert [one.rtype for one in client.ask(f"web.{KEY}", wire.HTTPS).answer] == [wire.HTTPS]
    assert client.ask(f"web.{KEY}", 97).answer == ()
    assert client.ask(f"web.{KEY}", 97).question == wire.question(f"web.{KEY}", 97)
