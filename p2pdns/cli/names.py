"""The names and zone keys that a user types: one reader for all verbs.

Guarantees: every verb reads a pasted word alike: blanks and dots around it, `pk:`, a scheme, a port and a path are
removed, letters of other scripts become xn--, a petname becomes its key. The error for an unreadable word has a hint: a
near petname, the key file that was meant, or the wrong character. Does not know the verb.
"""

from __future__ import annotations

import re
import unicodedata

from p2pdns.cli.mixups import is_key_file
from p2pdns.cli.petnames import Book
from p2pdns.dns.name import Name
from p2pdns.errors import FormatError, UsageError, first_token
from p2pdns.items.keys import ZoneKey
from p2pdns.items.mistyped import fault_of, undressed
from p2pdns.naming import ZONE_KEY_CHARACTERS

KEY_HINT = "a zone key has 52 letters and digits; p2pdns pubkey KEYFILE prints one"
NAME_HINT = "a name is labels of 1 to 63 characters with dots between, 253 in all"
TYPED_CHARACTERS_MAX = 4_096  # A pasted URL may be long; a longer text was pasted by mistake.
_NO_BOOK = Book({}, ())
# The full stops of other scripts, which UTS 46 turns into a dot.
_DOTS = re.compile("[\u3002\uff0e\uff61]")
# Invisible characters without a meaning (UTS 46): soft hyphen, zero width space, word joiner, byte order mark.
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))


def to_ascii(text: str) -> str:
    """Return a name with each label of another script in its xn-- form; UsageError if a label has none.

    Letters are folded as browsers do it (UTS 46 without transition: the ß stays).

    >>> to_ascii("www.B\u00dccher.example"), to_ascii("stra\u00dfe"), to_ascii("a.b")
    ('www.xn--bcher-kva.example', 'xn--strae-oqa', 'a.b')
    """
    if text.isascii():
        return text
    text = _DOTS.sub(".", text.translate(_UNSEEN))
    return ".".join(map(_label_to_ascii, text.split(".")))


def _label_to_ascii(label: str) -> str:
    if label.isascii():
        return label
    # Letter by letter: `lower` of a whole word turns a capital sigma at its end into another letter.
    folded = unicodedata.normalize("NFKC", "".join(character.lower() for character in label))
    folded = unicodedata.normalize("NFC", "".join(character.lower() for character in folded))
    if folded.isascii():
        return folded
    place = f'"{first_token(label)}"'
    if not all(unicodedata.category(character)[0] in "LMN" or character in "-_" for character in folded):
        hint = "letters, digits and hyphens of any script make a label; an emoji needs its xn-- form"
        raise UsageError("a character that no name has", place=place, hint=hint)
    return "xn--" + folded.encode("punycode").decode("ascii")


def read_name(text: str) -> str:
    """Return the name of a pasted word in ASCII, for a question; a final dot stays."""
    place = f'"{first_token(text)}"'
    if len(text) > TYPED_CHARACTERS_MAX:
        raise UsageError(f"not a name: more than {TYPED_CHARACTERS_MAX} characters", place=place, hint=NAME_HINT)
    name = to_ascii(undressed(text))
    try:
        Name.read(name)
    except FormatError as trouble:
        fault = "nothing between two dots" if ".." in name else trouble.detail or "it is empty"
        raise UsageError(f"not a name: {fault}", place=place, hint=NAME_HINT) from None
    return name


def read_zone_key(text: str, *, place: str | None = None, book: Book = _NO_BOOK, hint: str = KEY_HINT) -> ZoneKey:
    """Return the zone key of a word, or of the petname in it; errors call the word `place`."""
    place = place or f'"{first_token(text)}"'
    word = to_ascii(undressed(text)) if len(text) <= TYPED_CHARACTERS_MAX else text
    bare = book.bare_name(word).rstrip(".")
    try:
        return ZoneKey.read(bare)
    except FormatError as trouble:
        fault = trouble.detail or trouble.reason
    if is_key_file(text):
        prints = f"p2pdns pubkey {text} prints the one it signs for"
        raise UsageError("a key file, and a zone key is needed", place=place, hint=prints)
    if near := book.hint_for(word):
        raise UsageError("neither a zone key nor a petname", place=place, hint=near)
    mistyped = fault_of(bare.encode("utf-8", "replace"))
    if book.names and not mistyped and abs(len(bare) - ZONE_KEY_CHARACTERS) > 2:
        raise UsageError("neither a zone key nor a petname", place=place, hint=hint)
    raise UsageError(f"not a zone key ({mistyped or fault})", place=place, hint=hint)
