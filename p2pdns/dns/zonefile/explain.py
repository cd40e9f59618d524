"""What is wrong with the data of a record, in words of the type it should be.

Guarantees: of what a file says no more is quoted than `Quotes` allows: a file that is no zone file may hold a secret,
and fifty mistakes with a word each could show all of it. Does not know lines, owners or what is allowed in a zone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.tokenizer

from p2pdns.dns.registry import Type
from p2pdns.errors import TOKEN_CHARACTERS_MAX, did_you_mean, first_token

Words = tuple[str, str | None]
"""What is wrong, and a hint."""

LINE_HINT = "a line is: OWNER [TTL] TYPE DATA"
TYPE_LIKENESS_MIN = 0.7  # Types are short: with less, many words would be near to one.
SHORT_WORD_CHARACTERS_MAX = 6  # Types, numbers and typing mistakes; nobody writes a key in pieces of that size.

_PLAIN_WORD = re.compile(r"[a-z._-]{1,24}")
_ADDRESS_WORD = re.compile(r"(?=.*[.:])[0-9a-f.:]{1,45}|[0-9]{1,10}", re.IGNORECASE | re.ASCII)


class Quotes:
    """How many more characters may be quoted of words of one file that could be parts of a key."""

    def __init__(self) -> None:
        self._left = TOKEN_CHARACTERS_MAX + 1  # A longer word is cut there, and has an ellipsis for the rest.

    def of(self, word: str) -> str | None:
        """Return a word as an error may show it, None where nothing of it may be shown any more.

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


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    kind: str = "text"
    number_max: int = 0


def _number(name: str, number_max: int) -> _Field:
    return _Field(name, "number", number_max)


_U8, _U16, _U32 = 0xFF, 0xFFFF, 0xFFFFFFFF
_TARGET = _Field("target", "name")
_HASH = (_number("algorithm", _U8), _number("kind of fingerprint", _U8), _Field("fingerprint"))
_TLSA = (_number("usage", _U8), _number("selector", _U8), _number("matching type", _U8), _Field("data"))
_SVCB = (_number("priority", _U16), _TARGET)

# The fields of a type, whether more may stand behind them, and a line that is right.
_FORMS: dict[int, tuple[tuple[_Field, ...], bool, str]] = {
    Type.A: ((_Field("address", "ipv4"),), False, "A 192.0.2.1"),
    Type.AAAA: ((_Field("address", "ipv6"),), False, "AAAA 2001:db8::1"),
    Type.NS: ((_TARGET,), False, "NS KEY."),
    Type.CNAME: ((_TARGET,), False, "CNAME www"),
    Type.DNAME: ((_TARGET,), False, "DNAME other"),
    Type.PTR: ((_TARGET,), False, "PTR www"),
    Type.MX: ((_number("preference", _U16), _TARGET), False, "MX 10 mail"),
    Type.SRV: (
        (_number("priority", _U16), _number("weight", _U16), _number("port", _U16), _TARGET),
        False,
        "SRV 0 5 443 www",
    ),
    Type.SOA: (
        (
            *(_Field("primary server", "name"), _Field("mailbox", "name"), _number("serial", _U32)),
            *(_Field("refresh time"), _Field("retry time"), _Field("expire time"), _Field("minimum")),
        ),
        False,
        "SOA ns hostmaster 1 3600 600 2592000 300",
    ),
    Type.TXT: ((_Field("text"),), True, 'TXT "some text"'),
    Type.CAA: ((_number("flag", _U8), _Field("tag"), _Field("value")), False, 'CAA 0 issue "ca.example"'),
    Type.SVCB: (_SVCB, True, "SVCB 1 www port=8443"),
    Type.HTTPS: (_SVCB, True, "HTTPS 1 . alpn=h2"),
    Type.TLSA: (_TLSA, True, "TLSA 3 1 1 HEX"),
    Type.SSHFP: (_HASH, True, "SSHFP 4 2 HEX"),
}


def rdata_trouble(
    rtype: int, tokens: Sequence[dns.tokenizer.Token], codec: dns.name.IDNACodec, quotes: Quotes
) -> Words | None:
    """Return what is wrong with the data of a record of this type, None where nothing is found that can be told."""
    form = _FORMS.get(rtype)
    words = [token.value for token in tokens]
    if form is None or words[:1] == ["\\#"]:
        return None
    fields, is_open, example = form
    kind = Type(rtype).name
    hint = f"as {example}"
    if len(words) < len(fields):
        return _missing(kind, fields, words, hint, quotes)
    for field, word in zip(fields, words, strict=False):
        if (trouble := _field_trouble(kind, field, word, hint, codec, quotes)) is not None:
            return trouble
    if len(words) > len(fields) and not is_open:
        return f"{kind}: more stands behind the {fields[-1].name}", "one record a line; a remark begins with ;"
    return None


def _missing(kind: str, fields: tuple[_Field, ...], words: list[str], hint: str, quotes: Quotes) -> Words:
    for field, word in zip(fields, words, strict=False):
        if field.kind == "number" and not word.isdecimal():
            if kind == "MX" and len(words) == 1:
                return (
                    f"MX needs a preference: MX 10 {quotes.of(word) or 'mail'}",
                    "the lowest preference is tried first",
                )
            return f"{kind}: the {field.name} is missing", hint
    return f"{kind}: the {fields[len(words)].name} is missing", hint


def _field_trouble(
    kind: str, field: _Field, word: str, hint: str, codec: dns.name.IDNACodec, quotes: Quotes
) -> Words | None:
    if field.kind in ("ipv4", "ipv6"):
        return _address_trouble(field.kind, word, quotes)
    if field.kind == "number" and not (word.isascii() and word.isdecimal() and _is_within(word, field.number_max)):
        predicate = f"is not a {field.name}, a number from 0 to {field.number_max}"
        return quotes.sentence(word, predicate, f"the {field.name} of {kind} is no number"), hint
    if field.kind == "name":
        return name_trouble(word, codec, quotes)
    return None


def _is_within(digits: str, number_max: int) -> bool:
    # Python refuses to read thousands of digits, and no number here has more than ten.
    return len(digits.lstrip("0")) <= len(str(number_max)) and int(digits) <= number_max


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
            # Its words end with the whole of the label.
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
    """Return the words of dnspython's readers in our form; None for words that say nothing."""
    text = re.sub(r"^caught exception <class '[^']*'>: ?", "", text).strip()
    text = _READERS_WORDS.get(text[:1].lower() + text[1:], text)
    words = (text if text[1:2].isupper() else text[:1].lower() + text[1:]).rstrip(".")
    return None if words in ("", "text input is malformed", "DNS message is malformed") else words


def example_of(rtype: int) -> str:
    """Return a hint: how a record of a type is written."""
    form = _FORMS.get(rtype)
    return LINE_HINT if form is None else f"as {form[2]}"


def unknown_type(word: str, quotes: Quotes) -> Words | None:
    """Return what to say of a word that stands where a type should be, None where it does not look like one."""
    if not re.fullmatch("[A-Za-z][A-Za-z0-9-]{0,15}", word):
        return None
    what = quotes.of(word)
    hint = did_you_mean(word.upper(), Type.__members__, likeness_min=TYPE_LIKENESS_MIN) or LINE_HINT
    return ("unknown type" if what is None else f'unknown type "{what}"'), hint
