"""Names and keys as people type them: one reader, whichever the verb."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.admin.petnames import Petname
from p2pdns.cli.main import main
from p2pdns.cli.names import read_name, read_zone_key, to_ascii
from p2pdns.cli.petnames import Book
from p2pdns.dns.name import Name
from p2pdns.errors import UsageError
from p2pdns.items.keys import SecretKey

SECRET = SecretKey.generate(bytes(range(32)))
KEY = str(SECRET.zone_key)
BOOK = Book({"alice": Petname(KEY, "state"), "xn--bcher-kva": Petname(KEY, "state")}, ("p2p.alt",))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (" www.example ", "www.example"),
        ("https://www.example:443/a?b#c", "www.example"),
        ("www.Example.", "www.Example."),
        (f"pk:{KEY}", KEY),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        # One letter or two code points: the same name.
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        # As browsers have it since 2023, and not as the codec of Python has it.
        ("straße.example", "xn--strae-oqa.example"),
        ("ΣΊΣΥΦΟΣ.example", "xn--kxa6akbbkh.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("www\u200b.example", "www.example"),
        ("Ｗｗｗ.example", "www.example"),
        (f"www.bücher.{KEY}", f"www.xn--bcher-kva.{KEY}"),
        (r"a\.b.example", r"a\.b.example"),
        (".", "."),
    ],
)
def test_a_name_is_read_as_its_writer_means_it(typed: str, name: str) -> None:
    assert read_name(typed) == name


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("a..b", "nothing between two dots"),
        ("💩.example", "a character that no name has"),
        ("x" * 64 + ".example", "64 bytes, 63 allowed"),
        ("a" * 5_000, "more than 4096 characters"),
        ("a b.example", "character"),
        ("", "it is empty"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(typed: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_name(typed)
    assert words in f"{caught.value} {caught.value.hint}"


@given(st.text(max_size=300))
def test_any_text_ends_in_a_name_or_a_usage_error(text: str) -> None:
    try:
        name = read_name(text)
    except UsageError:
        return
    assert name.isascii()
    Name.read(name)


@given(st.text(alphabet="abcxyzäöüßéèñøåçčšžłđαβγδсдфяабв-0123456789", min_size=1, max_size=20))
def test_a_label_of_another_script_reads_back_as_it_was(text: str) -> None:
    ascii_form = to_ascii(text)
    if ascii_form.startswith("xn--") and not text.isascii():
        assert ascii_form[4:].encode().decode("punycode") == text


@pytest.mark.parametrize(
    "typed",
    [
        KEY,
        KEY.upper(),
        f" {KEY} ",
        f"{KEY}.",
        f"pk:{KEY}",
        f"https://{KEY}/",
        f"{KEY}.p2p.alt",
        "alice",
        "Alice",
        "alice.p2p.alt",
        "bücher",
    ],
)
def test_a_zone_is_read_by_its_key_or_petname_in_any_dress(typed: str) -> None:
    assert read_zone_key(typed, book=BOOK) == SECRET.zone_key


@pytest.mark.parametrize(
    ("typed", "what", "hint"),
    [
        ("alise", "neither a zone key nor a petname", 'did you mean the petname "alice"?'),
        ("zzzzzzzz", "neither a zone key nor a petname", "a zone key has 52 letters"),
        (KEY[:-1], "51 characters; a zone key has 52", "a zone key has 52 letters"),
        (KEY[:-1] + "l", '"l" is in no zone key', "a zone key has 52 letters"),
        ("alice.", "neither a zone key nor a petname", 'did you mean the petname "alice"?'),
        ("alice.key", "a key file, and a zone key is needed", "p2pdns pubkey alice.key prints"),
    ],
)
def test_what_is_no_zone_gets_the_hint_that_fits(
    typed: str, what: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alice.key").write_bytes(SECRET.key_file(None))
    with pytest.raises(UsageError) as caught:
        read_zone_key(typed, book=BOOK)
    assert what in str(caught.value)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    "words",
    [
        "inspect {}",
        "pin {}",
        "forget {}",
        "flush {}",
        "flush --zone {}",
        "name add bob {}",
        "check --key {} example.zone",
        "check --zone friend={} example.zone",
    ],
)
def test_every_verb_that_takes_a_key_takes_it_in_the_same_dress(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PDNS_CONFIG", "/dev/null")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    Path("example.zone").write_text("www A 192.0.2.1\n")
    said = []
    for dress in (KEY, f" pk:{KEY} ", f"https://{KEY}:443/x", f"{KEY.upper()}."):
        main([word.format(dress) for word in words.split(" ")])
        said.append("".join(capsys.readouterr()).replace("was there before", "").replace(dress, KEY))
    assert "not a" not in said[0]
    assert all("not a" not in text and "neither" not in text for text in said)


def test_name_and_key_at_each_others_place_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("P2PDNS_CONFIG", "/dev/null")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert main(["name", "add", KEY, "alice"]) == 2
    assert f"hint: p2pdns name add alice {KEY}" in capsys.readouterr().err


def test_a_petname_of_another_script_is_kept_as_dns_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("P2PDNS_CONFIG", "/dev/null")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert main(["name", "add", "Bücher", KEY]) == 0
    assert capsys.readouterr().out == f"xn--bcher-kva {KEY}\n"
    assert main(["name", "rm", "bücher"]) == 0
