"""SVCB and HTTPS between text and bytes, where RFC 9460 allows more than dnspython does.

AliasMode may carry parameters, which readers ignore (§2.4.2), and `ech` is any bytes in base64: what is in them is
for clients to judge. Everything else about these types is dnspython's. Guarantees: `write` gives what `read` reads.
Does not know which parameters make sense together.
"""

from __future__ import annotations

import base64
import binascii

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer

from p2pdns.dns.message.rdata import svcb_params, with_svcb_params
from p2pdns.dns.zonefile.entries import LineError

ECH_KEY = 5  # RFC 9848 §5.
# The shortest list of ECH configurations: dnspython takes it, and it stands where other bytes are.
_ANY_ECH = base64.b64decode("AAQAAAAA")
_ALIAS_MODE, _SERVICE_MODE = b"\x00\x00", b"\x00\x01"


def read(rtype: int, tokens: list[dns.tokenizer.Token], origin: dns.name.Name, codec: dns.name.IDNACodec) -> bytes:
    """Return the RDATA that the words of a line say; LineError and dnspython's errors where they say none."""
    ech: bytes | None = None
    words: list[str] = []
    is_alias = bool(tokens) and tokens[0].is_identifier() and tokens[0].value == "0"
    index = 0
    while index < len(tokens):
        value = tokens[index].value
        if index < 2 or not tokens[index].is_identifier() or not _is_ech(value):
            words.append(_quoted(tokens[index]))
            index += 1
            continue
        text = value.partition("=")[2]
        if not text and index + 1 < len(tokens) and tokens[index + 1].is_quoted_string():
            index += 1
            text = tokens[index].value
        if ech is not None:
            raise LineError("ech is there twice", "leave one of them out")
        ech = _decoded(text)
        words.append(f"ech={base64.b64encode(_ANY_ECH).decode()}")
        index += 1
    if is_alias:
        words[0] = "1"
    # A value in quotes belongs to the "key=" before it.
    line = " ".join(words).replace('= "', '="')
    tokenizer = dns.tokenizer.Tokenizer(line, idna_codec=codec)
    kind = dns.rdatatype.RdataType.make(rtype)
    rdata = dns.rdata.from_text(dns.rdataclass.IN, kind, tokenizer, origin, False).to_wire()
    assert rdata is not None, "without a file to write to, it returns the bytes"
    return _with(rdata, _ALIAS_MODE if is_alias else rdata[:2], ech)


def write(rtype: int, rdata: bytes, origin: dns.name.Name | None) -> str:
    """Return the text of RDATA; dnspython's errors and FormatError where there is none."""
    ech = dict(svcb_params(rdata)).get(ECH_KEY)
    is_alias = rdata[:2] == _ALIAS_MODE
    raw = _with(rdata, _SERVICE_MODE if is_alias else rdata[:2], None if ech is None else _ANY_ECH)
    kind = dns.rdatatype.RdataType.make(rtype)
    value = dns.rdata.from_wire(dns.rdataclass.IN, kind, raw, 0, len(raw))
    text = value.to_text(origin, origin is not None)
    if is_alias:
        text = "0" + text.removeprefix("1")
    if ech is not None:
        # A value may hold any text, so the one to be replaced is found as a whole word; a quote inside is escaped.
        before, _, after = text.partition(f' ech="{base64.b64encode(_ANY_ECH).decode()}"')
        text = f'{before} ech="{base64.b64encode(ech).decode()}"{after}'
    return text


def _is_ech(word: str) -> bool:
    return word.partition("=")[0].lower() in ("ech", f"key{ECH_KEY}") and "=" in word


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    if not raw:
        raise LineError("ech is not base64", 'as ech="BASE64"')
    return raw


def _quoted(token: dns.tokenizer.Token) -> str:
    return f'"{token.value}"' if token.is_quoted_string() else token.value


def _with(rdata: bytes, priority: bytes, ech: bytes | None) -> bytes:
    params = [(key, value if key != ECH_KEY or ech is None else ech) for key, value in svcb_params(rdata)]
    return priority + with_svcb_params(rdata, params)[2:]
