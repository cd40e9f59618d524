"""Zone keys as people mistype and dress them: told apart from names of others, and kept here."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from p2pdns.cli.names import read_zone_key
from p2pdns.cli.resolve import read_words
from p2pdns.dns.message import Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.items.mistyped import fault_of, undressed
from p2pdns.net.upstream.system import SEARCH_DOMAINS_MAX, system_search_domains
from p2pdns.resolver.names import Elsewhere, Here, ResolverSettings
from tests.overlay_doubles import A, B
from tests.unit.resolver.test_resolver import resolved

KEY = str(A)
SETTINGS = ResolverSettings.of(petnames={"alice": KEY}, search_domains=["corp.example"])
CYRILLIC = "\u0430".encode()


def here(*labels: bytes) -> Here | None:
    """Return the place of a name that is answered here, None where it is somebody else's."""
    place = SETTINGS.place_of(Name.of(*labels))
    assert isinstance(place, Here | Elsewhere), place
    return place if isinstance(place, Here) else None


def text_of(*labels: bytes) -> str:
    """Return what is told of a name that does not exist."""
    place = here(*labels)
    assert place is not None, labels
    assert place.rcode == Rcode.NXDOMAIN
    return place.text


WRONG = [
    (KEY[1:], "51 characters; a zone key has 52"),
    (KEY[2:], "50 characters; a zone key has 52"),
    (KEY + KEY[-1], "53 characters; a zone key has 52"),
    (KEY + "yo", "54 characters; a zone key has 52"),
    (KEY[:20] + "l" + KEY[21:], '"l" is in no zone key'),
    (KEY[:20].upper() + "-" + KEY[21:].upper(), '"-" is in no zone key'),
    (f"xn--{KEY[:20]}{KEY[21:]}-abc", "in no zone key"),
]


@pytest.mark.parametrize(("label", "text"), WRONG)
@pytest.mark.parametrize("ending", [[], [b"p2p", b"alt"], [b"p2pdns", b"internal"], [b"lan"], [b"corp", b"example"]])
def test_a_mistyped_key_stays_here_and_is_told_what_is_wrong(label: str, text: str, ending: list[bytes]) -> None:
    for front in ([], [b"www"], [b"a", b"b"]):
        assert text in text_of(*front, label.encode(), *ending)


def test_its_answer_is_nxdomain_with_an_soa_and_the_count() -> None:
    answer = resolved(f"www.{KEY[1:]}. A", options=SETTINGS)
    assert (answer.rcode, len(answer.authority)) == (Rcode.NXDOMAIN, 1)
    assert any("51 characters; a zone key has 52" in text for _, text in answer.ede)
    assert Question(Name.read("a."), Type.A) != answer.question


def test_a_letter_of_another_alphabet_is_one_character() -> None:
    assert "outside ASCII" in text_of(KEY[:20].encode() + CYRILLIC + KEY[21:].encode())


def test_a_space_is_shown_as_the_character_that_it_is() -> None:
    assert '" " is in no zone key' in text_of(f"{KEY[:20]} {KEY[21:]}".encode())


@pytest.mark.parametrize("at", range(1, 52))
def test_a_key_cut_by_a_dot_stays_here(at: int) -> None:
    parts = [KEY[:at].encode(), KEY[at:].encode()]
    for ending in ([], [b"p2p", b"alt"], [b"lan"], [b"corp", b"example"]):
        assert here(b"www", *parts, *ending) is not None
    # Behind these is somebody else's domain.
    assert here(*parts, b"example") is None or max(map(len, parts)) >= 50


def test_a_key_cut_twice_and_one_that_is_not_valid_stay_here_too() -> None:
    assert here(KEY[:15].encode(), KEY[15:30].encode(), KEY[30:].encode()) is not None
    assert here(b"n" * 26, b"d" * 26) is not None


@pytest.mark.parametrize(
    "labels",
    [
        [f"pk:{KEY}".encode()],
        [f"PK:{KEY.upper()}".encode()],
        [f"pk:{KEY[1:]}".encode()],
        [b"https://www", f"{KEY}/".encode()],
        [f"https://{KEY}/".encode()],
        [f"https://{KEY}:443/index".encode()[:63], b"html"],
        [f"{KEY}:443".encode()],
        [b"www", f"{KEY}:443".encode(), b"lan"],
        [f"{KEY}/index".encode(), b"html"],
        [f"alice@{KEY}".encode()],
        [f" {KEY} ".encode()],
        [f"{KEY}_".encode()],
        [f"{KEY}:443".encode(), b"other", b"example"],
        [f"pk:{KEY}".encode(), b"other", b"example"],
    ],
)
def test_a_dressed_key_stays_here(labels: list[bytes]) -> None:
    assert here(*labels) is not None


def test_a_dressed_key_is_absent_from_its_own_label_on() -> None:
    place = here(b"www", f"{KEY}:443".encode(), b"lan")
    assert place is not None
    assert place.zone.apex == Name.of(f"{KEY}:443".encode(), b"lan")


@pytest.mark.parametrize("name", ["local", "printer.local", "_ipp._tcp.local", "a.b.LOCAL", f"{KEY}.local"])
def test_local_is_multicast_dns_and_nobody_elses(name: str) -> None:
    assert here(*Name.read(name).labels) is not None


@pytest.mark.parametrize(
    "name",
    [
        "www.example.com",
        f"{'n' * 51}.example.com",
        f"{'n' * 51}l.example",
        f"{'n' * 49}.com",
        f"{'n' * 44}.photo",
        f"{'n' * 49}",
        f"{'n' * 55}",
        f"{'n' * 50}ll",
        f"{'n' * 26}.{'d' * 26}.example",
        "xn--vermgensberatung-pwb",
        "xn--mgberp4a5d4ar.example",
        "1/25.2.0.192.in-addr.arpa.example",
        "a-selector-of-more-than-fifty-characters-for-a-signature._domainkey.example.com",
        "notlocal",
        "local.example",
        "x.corp.example",
        f"{'0123456789abcdef' * 3}.info",
    ],
)
def test_names_of_others_are_left_to_them(name: str) -> None:
    assert here(*Name.read(name).labels) is None


def test_hardly_a_random_label_of_others_is_taken_for_a_key() -> None:
    chance = random.Random(5)
    hexadecimal = ["".join(chance.choices("0123456789abcdef", k=chance.randrange(30, 64))) for _ in range(3000)]
    base32 = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz234567", k=52)) for _ in range(3000)]
    for label in (*hexadecimal, *base32):
        for ending in ("example.com", "cdn.example.net", "com", "info"):
            assert here(*Name.read(f"{label}.{ending}").labels) is None


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        (f"pk:{KEY}", KEY),
        (f"  {KEY}\n", KEY),
        (f"https://www.{KEY}/a/b?c#d", f"www.{KEY}"),
        (f"http://alice:x@{KEY}:8080/", KEY),
        (f"{KEY}:443", KEY),
        (f"{KEY}/", KEY),
        (f"{KEY}.", f"{KEY}."),
        ("pk://" + KEY, KEY),
        ("www.example", "www.example"),
        ("1/25.2.0.192.in-addr.arpa", "1/25.2.0.192.in-addr.arpa"),
        ("_443._tcp.example", "_443._tcp.example"),
        ("", ""),
        ("https://", ""),
    ],
)
def test_a_text_is_undressed_to_the_name_in_it(text: str, bare: str) -> None:
    assert undressed(text) == bare


def test_verbs_read_keys_as_people_paste_them() -> None:
    for text in (f"pk:{B}", f" https://{B}:443/ ", f"{B}.", f"{B}:53"):
        assert str(read_zone_key(text)) == str(B)
    assert read_words((f"https://www.{KEY}:443/", "AAAA")).name == f"www.{KEY}"


def test_what_is_told_counts() -> None:
    assert [fault_of(b"n" * size) for size in (49, 52, 55)] == ["", "", ""]
    assert {fault_of(b"n" * size)[:2] for size in (50, 51, 53, 54)} == {"50", "51", "53", "54"}


def test_the_search_domains_are_those_of_the_last_line(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    assert system_search_domains(file) == ()
    file.write_text("domain old.example\nsearch a.example b..bad . B.Example.\nnameserver 192.0.2.1\n")
    assert system_search_domains(file) == ("a.example", "B.Example.")
    file.write_text("search " + " ".join(f"d{n}.example" for n in range(99)))
    assert len(system_search_domains(file)) == SEARCH_DOMAINS_MAX
