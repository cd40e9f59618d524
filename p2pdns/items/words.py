"""A secret key as 24 words for paper: BIP-39, whose entropy here is the 32-byte seed of the key.

The seed of a key and its words are the same thing in two forms, so any program that turns the words into their entropy
has the key; the stretching that wallets apply to such words (PBKDF2) has no part here. The list is the English one.
Guarantees: words that are read fit their checksum of 8 bits; an error names words by their number, and shows no more of
them than one suggestion. Does not know where the words are written.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

from mnemonic import Mnemonic

from p2pdns.errors import LIKENESS_MIN, KeyFileError
from p2pdns.items.keys import SecretKey

WORD_COUNT = 24  # BIP-39: 256 bits of entropy and 8 of checksum, in words of 11 bits.
PREFIX_CHARACTERS = 4  # BIP-39: these tell each word of the list from all others.
WORDS_BYTES_MAX = 4_096  # 24 words take 216 characters at most, and their numbers and blanks some more.

_NUMBER = re.compile(r"[0-9]{1,2}[.):]?", re.ASCII)  # As paper has them beside the words.


@lru_cache(maxsize=1)
def _list() -> Mnemonic:
    return Mnemonic("english")


def words_of(secret: SecretKey) -> tuple[str, ...]:
    """Return the 24 words of a key, in their order."""
    return tuple(_list().to_mnemonic(secret.seed()).split(" "))


def count_of(text: str) -> int:
    """Return how many words a text has; numbers beside them do not count."""
    return len(_words_in(text))


def read_words(text: str, place: str) -> SecretKey:
    """Return the key of 24 words, in any case; four letters of each are enough. `place` is only for the error."""
    typed = _words_in(text)
    if len(typed) != WORD_COUNT:
        hint = "all words stand in one text, with blanks or line ends between them"
        if len(typed) in (12, 15, 18, 21):
            hint = "fewer words are those of a wallet; a zone key has 24"
        raise KeyFileError(f"{len(typed)} words, {WORD_COUNT} are needed", place=place, hint=hint)
    words = [_listed(word) for word in typed]
    unknown = [number for number, word in enumerate(words, 1) if word is None]
    if unknown:
        raise _not_listed(typed, unknown, place)
    try:
        seed = bytes(_list().to_entropy([word for word in words if word is not None]))
    except (ValueError, LookupError):
        # The message of the library may quote a word.
        hint = "each word is in the list, so one is another word than on the paper, or two have changed places"
        raise KeyFileError("the words do not fit their checksum", place=place, hint=hint) from None
    return SecretKey.generate(seed)


def _words_in(text: str) -> list[str]:
    return [word for word in text.lower().split() if not _NUMBER.fullmatch(word)]


def _listed(word: str) -> str | None:
    """Return the word of the list that a typed word is or begins, None where there is none."""
    listed = _list().wordlist
    if word in listed:
        return word
    # A longer beginning is read too, but only the first four letters may be left alone.
    near = [other for other in listed if len(word) >= PREFIX_CHARACTERS and other.startswith(word)]
    return near[0] if len(near) == 1 else None


def _not_listed(typed: list[str], unknown: list[int], place: str) -> KeyFileError:
    first = unknown[0]
    near = difflib.get_close_matches(typed[first - 1], _list().wordlist, n=1, cutoff=LIKENESS_MIN)
    hint = f'did you mean "{near[0]}" as word {first}?' if near else f"look at word {first} on the paper once more"
    if len(unknown) == 1:
        return KeyFileError(f"word {first} is not in the list of BIP-39", place=place, hint=hint)
    numbers = f"{', '.join(map(str, unknown[:-1]))} and {unknown[-1]}"
    if len(unknown) > WORD_COUNT // 2:
        hint = "is that the English list? others are not read"
    return KeyFileError(f"words {numbers} are not in the list of BIP-39", place=place, hint=hint)
