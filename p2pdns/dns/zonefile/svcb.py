"""SVCB and HTTPS between text and bytes, where RFC 9460 allows more than dnspython does.

AliasMode may carry parameters, which readers ignore (§2.4.2), and `ech` is any bytes in base64: clients judge them.
dnspython does the rest of these types. Guarantees: `write` gives text that `read` turns into the same bytes.
Does not know which parameters make sense together.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer

from p2pdns.dns.message.rdata import svcb_params, with_svcb_params
from p2pdns.dns.zonefile.entries import LineError

ECH_KEY = 5  # RFC 9848 §5.
_ECH_NAMES = ("ech", f"key{ECH_KEY}")
# The shortest list of ECH configurations that dnspython accepts. It stands in for the real bytes.
_ANY_ECH_TEXT = "AAQAAAAA"
_ANY_ECH = base64.b64decode(_ANY_ECH_TEXT)
_ALIAS_MODE, _SERVICE_MODE = b"\x00\x00", b"\x00\x01"


def rdata_of(rtype: int, text: str, origin: dns.name.Name, codec: dns.name.IDNACodec) -> bytes:
    """Return the RDATA that dnspython reads in a text; its errors where there is none."""
    words = dns.tokenizer.Tokenizer(text, idna_codec=codec)
    kind = dns.rdatatype.RdataType.make(rtype)
    rdata = dns.rdata.from_text(dns.rdataclass.IN, kind, words, origin, False).to_wire()
    assert rdata is not None, "without a file to write to, it returns the bytes"
    return rdata


def text_of(rtype: int, rdata: bytes, origin: dns.name.Name | None) -> str:
    """Return the text that dnspython writes for RDATA; its errors where there is none."""
    kind = dns.rdatatype.RdataType.make(rtype)
    value = dns.rdata.from_wire(dns.rdataclass.IN, kind, rdata, 0, len(rdata))
    return value.to_text(origin, origin is not None)


def quoted(token: dns.tokenizer.Token) -> str:
    """Return a word of a line as it was written, in quotes where it had them."""
    return f'"{token.value}"' if token.is_quoted_string() else str(token.value)


def read(rtype: int, tokens: list[dns.tokenizer.Token], origin: dns.name.Name, codec: dns.name.IDNACodec) -> bytes:
    """Return the RDATA of the words of a line; LineError or dnspython's errors where there is none."""
    ech: bytes | None = None
    words: list[str] = []
    is_alias = bool(tokens) and tokens[0].is_identifier() and tokens[0].value == "0"
    left = deque(tokens)
    while left:
        token = left.popleft()
        name, equals, text = token.value.partition("=")
        if len(words) < 2 or not token.is_identifier() or not equals or name.lower() not in _ECH_NAMES:
            words.append(quoted(token))
            continue
        if not text and left and left[0].is_quoted_string():
            text = left.popleft().value
        if ech is not None:
            raise LineError("ech is there twice", "leave one of them out")
        ech = _decoded(text)
        words.append(f"ech={_ANY_ECH_TEXT}")
    if is_alias:
        words[0] = "1"
    # A value in quotes belongs to the `key=` before it.
    rdata = rdata_of(rtype, " ".join(words).replace('= "', '="'), origin, codec)
    return _with(rdata, _ALIAS_MODE if is_alias else rdata[:2], ech)


def write(rtype: int, rdata: bytes, origin: dns.name.Name | None) -> str:
    """Return the text of RDATA; dnspython's errors and FormatError where there is none."""
    ech = dict(svcb_params(rdata)).get(ECH_KEY)
    is_alias = rdata[:2] == _ALIAS_MODE
    raw = _with(rdata, _SERVICE_MODE if is_alias else rdata[:2], None if ech is None else _ANY_ECH)
    text = text_of(rtype, raw, origin)
    if is_alias:
        text = "0" + text.removeprefix("1")
    if ech is not None:
        # Another value may hold any text, but quotes in it are escaped, so only the ech itself matches this word.
        before, _, after = text.partition(f' ech="{_ANY_ECH_TEXT}"')
        text = f'{before} ech="{base64.b64encode(ech).decode()}"{after}'
    return text


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    if not raw:
        raise LineError("ech is not base64", 'as ech="BASE64"')
    return raw


def _with(rdata: bytes, priority: bytes, ech: bytes | None) -> bytes:
    params = [(key, value if key != ECH_KEY or ech is None else ech) for key, value in svcb_params(rdata)]
    return priority + with_svcb_params(rdata, params)[2:]
