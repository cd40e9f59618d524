"""`{public_ipv4}` and `{public_ipv6}` in zone files: where they stand, what they stand for, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.zonefile import placeholders
from p2pdns.dns.zonefile.placeholders import Unfilled

V4, V6 = "93.184.216.34", "2a00:1450:4001:81b::200e"
ADDRESSES = {"public_ipv4": V4, "public_ipv6": V6}
UNKNOWN = {"public_ipv4": Unfilled("the address is not known", "2 of 3 prefixes report one")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@ A {public_ipv4}", "@ A {4}"),
        ("@ A {PUBLIC_IPv4}\nhome AAAA {public_ipv6} ; {public_ipv6}", "@ A {4}\nhome AAAA {6} ; {public_ipv6}"),
        ("@ A ( {public_ipv4} )", "@ A ( {4} )"),
        ("@ A ({public_ipv4})", "@ A ({4})"),
        ("w HTTPS 1 . ipv4hint={public_ipv4},192.0.2.7", "w HTTPS 1 . ipv4hint={4},192.0.2.7"),
        ("w HTTPS 1 . ipv4hint=192.0.2.7,{public_ipv4} alpn=h2", "w HTTPS 1 . ipv4hint=192.0.2.7,{4} alpn=h2"),
        ('@ TXT "{public_ipv4}"', '@ TXT "{public_ipv4}"'),
        (r"@ TXT \{public_ipv4}", r"@ TXT \{public_ipv4}"),
    ],
)
def test_an_address_is_filled_in_where_one_can_stand_and_nowhere_else(text: str, expected: str) -> None:
    wanted = expected.replace("{4}", V4).replace("{6}", V6)
    assert placeholders.fill(text, {}, ADDRESSES, path="a.zone") == placeholders.FilledText(wanted, ())


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ("\n@ A {public_ipv4}", 2, "{public_ipv4} is not filled: the address is not known", "2 of 3 prefixes"),
        ("{public_ipv4} A 192.0.2.1", 1, "{public_ipv4} stands where no address can", "home A {public_ipv4}"),
        ("@ NS {public_ipv4}.", 1, "stands where no address can", "home A {public_ipv4}"),
        ("@ A 1{public_ipv4}", 1, "stands where no address can", "home A {public_ipv4}"),
        ("@ A {public_ipv4}1", 1, "stands where no address can", "home A {public_ipv4}"),
        ("@ A {public_ipv5}", 1, 'cannot read "{public_ipv5}"', "home A {public_ipv4}"),
        ("@ A {public_ipv4", 1, 'cannot read "{public_ipv4"', "home A {public_ipv4}"),
        ("@ A {public_}", 1, 'cannot read "{public_}"', "home A {public_ipv4}"),
    ],
)
def test_a_placeholder_without_an_address_is_refused_with_its_line(text: str, line: int, what: str, hint: str) -> None:
    (mistake,) = placeholders.fill(text, {}, UNKNOWN, path="a.zone").mistakes
    assert mistake.place == f"a.zone:{line}"
    assert what in mistake.what
    assert hint in (mistake.hint or "")


def test_an_address_that_is_not_known_is_one_mistake_in_the_first_line_of_it() -> None:
    filling = placeholders.fill("a A {public_ipv4}\nb A {public_ipv4}\n", {}, UNKNOWN, path="a.zone")
    assert [mistake.line for mistake in filling.mistakes] == [1]
    assert placeholders.public_placeholders(filling.text) == ()


def test_a_reader_that_knows_no_address_signs_none_for_documentation() -> None:
    (mistake,) = placeholders.fill("home A {public_ipv4}", {}, path="a.zone").mistakes
    assert str(mistake) == "a.zone:1: {public_ipv4} is not filled: the address is not known here"


def test_the_words_of_a_text_are_told_once_and_those_of_zones_apart() -> None:
    text = "a A {public_ipv4}\nb A {public_IPV4}\nc NS x.{zone:bob}.\nd A {public_ipv7}\n"
    assert placeholders.public_placeholders(text) == ("public_ipv4",)
    assert placeholders.placeholders(text) == ("bob",)


@given(st.text(alphabet='{}public_ipv46,="; \\\n(', max_size=80))
def test_any_text_is_filled_or_refused_and_keeps_its_lines(text: str) -> None:
    filling = placeholders.fill(text, {}, ADDRESSES, path="a.zone")
    assert filling.text.count("\n") == text.count("\n")
