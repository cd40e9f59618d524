"""The words of a key: those of BIP-39, read as people write them, and errors that show none of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.errors import KeyFileError
from p2pdns.items.keys import SecretKey
from p2pdns.items.words import count_of, read_words, words_of

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "bip39.json").read_text())
SEEDS = st.binary(min_size=32, max_size=32)
SEED = bytes(range(32))
WORDS = words_of(SecretKey.generate(SEED))


def refusal(text: str) -> KeyFileError:
    """Return the error for a text that is no key."""
    with pytest.raises(KeyFileError) as caught:
        read_words(text, "paper")
    return caught.value


def said_of(text: str) -> str:
    """Return all that a user sees of the error."""
    error = refusal(text)
    return f"{error}\n{error.hint}"


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["words"].split()[0] for vector in VECTORS])
def test_words_and_seed_are_those_of_bip39(vector: dict[str, str]) -> None:
    seed = bytes.fromhex(vector["entropy"])
    assert words_of(SecretKey.generate(seed)) == tuple(vector["words"].split())
    assert read_words(vector["words"], "paper").seed() == seed


@given(SEEDS)
def test_what_is_printed_is_read_as_the_same_key(seed: bytes) -> None:
    assert read_words(" ".join(words_of(SecretKey.generate(seed))), "paper").seed() == seed


@pytest.mark.parametrize(
    "written",
    [
        " ".join(WORDS).upper(),
        "\n\t " + "\r\n".join(WORDS) + "\n\n",
        " ".join(word[:4] for word in WORDS),
        " ".join(word[:5].title() for word in WORDS),
        "\n".join(f"{number}. {word}" for number, word in enumerate(WORDS, 1)),
        " ".join(f"{number:2} {word}" for number, word in enumerate(WORDS, 1)),
    ],
    ids=["capitals", "a word a line", "four letters", "five letters", "numbers with a dot", "numbers"],
)
def test_words_are_read_as_people_write_them(written: str) -> None:
    assert read_words(written, "paper").seed() == SEED
    assert count_of(written) == 24


def test_three_letters_of_a_word_are_too_few_unless_they_are_a_word() -> None:
    assert "word 1 " in said_of(" ".join(["aba", *["abandon"] * 22, "art"]))


def test_a_word_that_is_not_in_the_list_is_named_by_its_number_with_a_near_one() -> None:
    wrong = [*WORDS]
    wrong[6] = "abandom"
    assert said_of(" ".join(wrong)) == ('paper: word 7 is not in the list of BIP-39\ndid you mean "abandon" as word 7?')


def test_of_several_wrong_words_all_are_numbered_and_one_gets_a_suggestion() -> None:
    wrong = [*WORDS]
    wrong[1], wrong[4], wrong[20] = "qqqqqq", "abandom", "zooo"
    assert said_of(" ".join(wrong)) == (
        "paper: words 2, 5 and 21 are not in the list of BIP-39\nlook at word 2 on the paper once more"
    )


def test_words_of_another_language_get_no_suggestions() -> None:
    assert said_of(" ".join(["äpfelchen"] * 24)).endswith("\nis that the English list? others are not read")


@pytest.mark.parametrize("count", [0, 1, 12, 18, 23, 25, 48])
def test_another_number_of_words_is_said(count: int) -> None:
    assert f"{count} words, 24 are needed" in said_of(" ".join((WORDS * 2)[:count]))


def test_words_in_another_order_break_the_checksum() -> None:
    swapped = [WORDS[1], WORDS[0], *WORDS[2:]]
    assert "do not fit their checksum" in said_of(" ".join(swapped))


@given(SEEDS, SEEDS, st.integers(0, 23), st.sampled_from(["", "xyzzyx", "zoo zoo", "abandom", "äpfel"]))
def test_an_error_depends_on_the_wrong_word_alone(seed: bytes, other: bytes, at: int, instead: str) -> None:
    keys = [list(words_of(SecretKey.generate(one))) for one in (seed, other)]
    said = {said_of(" ".join([*words[:at], instead, *words[at + 1 :]])) for words in keys}
    assert len(said) == 1


def test_a_key_shows_its_seed_to_no_formatter() -> None:
    secret = read_words(" ".join(WORDS), "paper")
    assert SEED.hex() not in f"{secret!r} {secret}"
