"""Mistakes in the data of a record, in words of the type.

Guarantees: a mistake quotes no more of a file than `Quotes` allows. A file that is no zone file may hold a secret, and
fifty mistakes with a word each could show all of it. Does not know lines, owners or the rules of a zone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple

import dns.exception
import dns.name
import dns.tokenizer

from p2pdns.dns.message import type_text
from p2pdns.dns.registry import Type
from p2pdns.errors import TOKEN_CHARACTERS_MAX, did_you_mean, first_token

Words = tuple[str, str | None]
"""A mistake and a hint."""

LINE_HINT = "a line is: OWNER [TTL] TYPE DATA"
TYPE_LIKENESS_MIN = 0.7  # Types are short: below this, too many words would be like a type.
SHORT_WORD_CHARACTERS_MAX = 6  # Types, numbers and typing mistakes; no secret is written in pieces of that size.

_PLAIN_WORD = re.compile(r"[a-z._-]{1,24}")
_ADDRESS_WORD = re.compile(r"(?=.*[.:])[0-9a-f.:]{1,45}|[0-9]{1,10}", re.IGNORECASE | re.ASCII)


class Quotes:
    """The characters that may still be quoted from words of one file that could be parts of a secret."""

    def __init__(self) -> None:
        self._left = TOKEN_CHARACTERS_MAX + 1  # A longer word is cut there, and an ellipsis is added.

    def of(self, word: str) -> str | None:
        """Return a word as an error may show it, None where the word may not be shown.

        >>> quotes = Quotes()
        >>> quotes.of("192.0.2.999"), quotes.of("MC4CAQAwBQYDK2VwBCIE"), quotes.of("IHcHbQpzGKV9PBbBclGy")
        ('192.0.2.999', 'MC4CAQAwBQYDK2VwBCIE', None)
        """
        shown = first_token(word)
        if len(word) <= SHORT_WORD_CHARACTERS_MAX or _PLAIN_WORD.fullmatch(word) or _ADDRESS_WORD.fullmatch(word):
            return shown
        if self._left < len(shown):
            return None
        self._left -= len(shown)
        return shown

    def sentence(self, word: str, predicate: str, otherwise: str) -> str:
        """Return `"WORD" PREDICATE`, or the other sentence where the word may not be shown."""
        shown = self.of(word)
        return otherwise if shown is None else f'"{shown}" {predicate}'


class _Field(NamedTuple):
    name: str
    kind: str  # "ipv4", "ipv6", "name", the largest number that is allowed, or "" for any text.


# The fields of a type, written as `name` or `name:kind`, "..." where more data may follow, and an example.
_FORMS: dict[int, tuple[str, str]] = {
    Type.A: ("address:ipv4", "A 192.0.2.1"),
    Type.AAAA: ("address:ipv6", "AAAA 2001:db8::1"),
    Type.NS: ("target:name", "NS KEY."),
    Type.CNAME: ("target:name", "CNAME www"),
    Type.DNAME: ("target:name", "DNAME other"),
    Type.PTR: ("target:name", "PTR www"),
    Type.MX: ("preference:65535, target:name", "MX 10 mail"),
    Type.SRV: ("priority:65535, weight:65535, port:65535, target:name", "SRV 0 5 443 www"),
    Type.SOA: (
        "primary server:name, mailbox:name, serial:4294967295, refresh time, retry time, expire time, minimum",
        "SOA ns hostmaster 1 3600 600 2592000 300",
    ),
    Type.TXT: ("text, ...", 'TXT "some text"'),
    Type.CAA: ("flag:255, tag, value", 'CAA 0 issue "ca.example"'),
    Type.SVCB: ("priority:65535, target:name, ...", "SVCB 1 www port=8443"),
    Type.HTTPS: ("priority:65535, target:name, ...", "HTTPS 1 . alpn=h2"),
    Type.TLSA: ("usage:255, selector:255, matching type:255, data, ...", "TLSA 3 1 1 HEX"),
    Type.SSHFP: ("algorithm:255, kind of fingerprint:255, fingerprint, ...", "SSHFP 4 2 HEX"),
}


def rdata_trouble(
    rtype: int, tokens: Sequence[dns.tokenizer.Token], codec: dns.name.IDNACodec, quotes: Quotes
) -> Words | None:
    """Return the mistake in the data of a record of this type, None where this module finds none."""
    form = _FORMS.get(rtype)
    words = [token.value for token in tokens]
    if form is None or words[:1] == ["\\#"]:
        return None
    listed, example = form
    fields = [_Field(*part.partition(":")[::2]) for part in listed.removesuffix(", ...").split(", ")]
    kind = Type(rtype).name
    hint = f"as {example}"
    if len(words) < len(fields):
        return _missing(kind, fields, words, hint, quotes)
    for field, word in zip(fields, words, strict=False):
        if (trouble := _field_trouble(kind, field, word, hint, codec, quotes)) is not None:
            return trouble
    if len(words) > len(fields) and not listed.endswith("..."):
        return f"{kind}: more stands behind the {fields[-1].name}", "one record a line; a remark begins with ;"
    return None


def _missing(kind: str, fields: list[_Field], words: list[str], hint: str, quotes: Quotes) -> Words:
    # A word that is no number stands for a later field, so a number before it is missing.
    for field, word in zip(fields, words, strict=False):
        if field.kind.isdecimal() and not word.isdecimal():
            if kind == "MX" and len(words) == 1:
                what = f"MX needs a preference: MX 10 {quotes.of(word) or 'mail'}"
                return what, "the lowest preference is tried first"
            return f"{kind}: the {field.name} is missing", hint
    return f"{kind}: the {fields[len(words)].name} is missing", hint


def _field_trouble(
    kind: str, field: _Field, word: str, hint: str, codec: dns.name.IDNACodec, quotes: Quotes
) -> Words | None:
    if field.kind in ("ipv4", "ipv6"):
        return _address_trouble(field.kind, word, quotes)
    if field.kind == "name":
        return name_trouble(word, codec, quotes)
    # Python refuses to read thousands of digits; no number here has more than ten.
    is_short = word.isascii() and word.isdecimal() and len(word.lstrip("0")) <= len(field.kind)
    if not field.kind or (is_short and int(word) <= int(field.kind)):
        return None
    predicate = f"is not a {field.name}, a number from 0 to {field.kind}"
    return quotes.sentence(word, predicate, f"the {field.name} of {kind} is no number"), hint


def _address_trouble(kind: str, word: str, quotes: Quotes) -> Words | None:
    wanted = 4 if kind == "ipv4" else 6
    try:
        version = ipaddress.ip_address(word).version
    except ValueError:
        version = None
    if version == wanted:
        return None
    hint = "A has an address such as 192.0.2.1" if wanted == 4 else "AAAA has an address such as 2001:db8::1"
    if version is not None:
        hint = f"{'AAAA' if version == 6 else 'A'} is the type for it"
    elif not _ADDRESS_WORD.fullmatch(word):
        hint = f"{hint}; CNAME has a name"
    predicate = f"is not an IPv{wanted} address"
    shown = quotes.of(word)
    return (f"this {predicate}" if shown is None else f"{shown} {predicate}"), hint


def name_trouble(word: str, codec: dns.name.IDNACodec, quotes: Quotes) -> Words | None:
    """Return why a word is not a name, None when it is one."""
    try:
        dns.name.from_text(word, dns.name.root, codec)
    except (dns.exception.DNSException, ValueError, IndexError) as error:
        if isinstance(error, dns.name.IDNAException):
            # The message of the library ends with the whole label, which is not quoted.
            why = str(error.kwargs.get("idna_exception", "")).partition(" of '")[0]
            hint = "international names are those of IDNA 2008"
        else:
            why, hint = str(error), "a label has at most 63 bytes, and a name 255"
        why = f" ({why.rstrip('.').lower()})" if why and len(why) < 80 and word not in why else ""
        return quotes.sentence(word, f"is not a name{why}", f"this is not a name{why}"), hint
    return None


_READERS_WORDS = {
    "unknown SVCB ParamKey": "a parameter that has no name; any other is written key65280",
    "not a uint16": "a number that is not from 0 to 65535",
    "non-hexadecimal digit found": "data that is not hexadecimal",
    "odd-length string": "data of half a byte",
    "string too long": 'a string of more than 255 bytes; write it in parts, as "…" "…"',
}


def reader_words(text: str) -> str | None:
    """Return a message of dnspython in our form; None for a message that tells nothing."""
    text = re.sub(r"^caught exception <class '[^']*'>: ?", "", text).strip()
    text = _READERS_WORDS.get(text[:1].lower() + text[1:], text)
    words = (text if text[1:2].isupper() else text[:1].lower() + text[1:]).rstrip(".")
    return None if words in ("", "text input is malformed", "DNS message is malformed") else words


def reader_trouble(rtype: int, tokens: Sequence[dns.tokenizer.Token], message: str) -> Words:
    """Return a message of dnspython about the data of a record in our form, with an example of the type."""
    words = reader_words(message)
    # Words of the line in the message may be parts of a secret.
    if words is None or any(len(token.value) > 4 and token.value in words for token in tokens):
        words = "the data cannot be read"
    form = _FORMS.get(rtype)
    return f"{type_text(rtype)}: {words}", LINE_HINT if form is None else f"as {form[1]}"


def unknown_type(word: str, quotes: Quotes) -> Words | None:
    """Return the mistake of a word in the place of a type, None where the word does not look like a type."""
    if not re.fullmatch("[A-Za-z][A-Za-z0-9-]{0,15}", word):
        return None
    what = quotes.of(word)
    hint = did_you_mean(word.upper(), Type.__members__, likeness_min=TYPE_LIKENESS_MIN) or LINE_HINT
    return ("unknown type" if what is None else f'unknown type "{what}"'), hint
