"""TSIG (RFC 8945): the keys of a file, the verification of requests, the signing of responses, and replay memory.

dnspython computes and compares the MACs; this module is told the time. Guarantees: a request passes by a key of the
file alone, within its fudge of the time; a MAC that is remembered is refused for as long as it would pass; no message
of this module has a secret in it. Does not know what a request asks.
"""

# These functions of dnspython carry no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import base64
import re
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.tsig

from p2pdns.dns.registry import Class, Type
from p2pdns.errors import KEY_FILE_HINT, KEY_FILE_MARK, FormatError, KeyFileError, Unavailable
from p2pdns.signer.requests import SignatureRecord

KEYS_MAX = 64  # A key for each program and machine that may change one zone.
SECRET_BYTES_MIN = 16  # Half of what tsig-keygen makes; a shorter secret can be guessed (RFC 8945 §10).
# RFC 8945 §10 recommends 300. A client may ask for less; a larger fudge would keep a stolen message good for longer.
FUDGE_S = 300
# MACs live for ten minutes at most, so this many are 109 UPDATEs a second. Only requests that verify get in.
MACS_MAX = 65_536
BADSIG, BADKEY, BADTIME = 16, 17, 18
ALGORITHMS: Mapping[str, dns.name.Name] = {
    "hmac-sha256": dns.tsig.HMAC_SHA256,
    "hmac-sha384": dns.tsig.HMAC_SHA384,
    "hmac-sha512": dns.tsig.HMAC_SHA512,
}
_HINT = "tsig-keygen NAME > FILE makes one: key NAME { algorithm hmac-sha256; secret BASE64; };"
_TOKEN = re.compile(
    r'(?P<gap>\s+|//[^\n]*|#[^\n]*|/\*.*?\*/)|"(?P<string>[^"\n]*)"|(?P<mark>[{};])|(?P<word>[^\s{};"]+)', re.DOTALL
)
_ADDITIONAL_COUNT_AT = 10
_FIXED = struct.Struct("!HHIH")
_TSIG_FIXED_BYTES = 16  # Time signed, fudge, MAC size, original id, error and other length (RFC 8945 §4.2).

Key = dns.tsig.Key
Keys = Mapping[dns.name.Name, Key]


@dataclass(frozen=True)
class Signer:
    """The signature of a request: the key, the MAC, and the time at which it was made."""

    key: Key
    mac: bytes
    time_signed: int

    @property
    def name(self) -> str:
        return self.key.name.to_text(omit_final_dot=True)


class TsigRefused(Exception):
    """A TSIG that does not pass: the error of RFC 8945 §3, the record, and its key where the MAC is by that key."""

    def __init__(self, error: int, record: SignatureRecord, key: Key | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.record = record
        self.key = key

    @property
    def reason(self) -> str:
        words = {BADKEY: "the key is not in the file", BADSIG: "the MAC is wrong", BADTIME: "it is late or early"}
        return words[self.error]


def read_keys(text: str, path: str) -> Keys:
    """Return the keys of a file as tsig-keygen writes it; KeyFileError with the line of a mistake."""
    if KEY_FILE_MARK in text:
        raise KeyFileError("a key file of a zone, and keys of TSIG are needed", place=path, hint=KEY_FILE_HINT)
    keys: dict[dns.name.Name, Key] = {}
    tokens = _tokens(text, path)
    for line, word in tokens:
        if word != "key":
            raise _wrong(path, line, 'a statement begins with "key"')
        key = _read_key(tokens, path, line)
        if key.name in keys:
            raise _wrong(path, line, f"a second key {key.name.to_text(omit_final_dot=True)}")
        if len(keys) == KEYS_MAX:
            raise _wrong(path, line, f"more than {KEYS_MAX} keys")
        keys[key.name] = key
    if not keys:
        raise KeyFileError("no TSIG key", place=path, hint=_HINT)
    return keys


def _tokens(text: str, path: str) -> Iterator[tuple[int, str]]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(path, line, "the quotes are not closed")
        if match["gap"] is None:
            string = match["string"]
            yield line, match[0] if string is None else string
        line += match[0].count("\n")
        at = match.end()


def _read_key(tokens: Iterator[tuple[int, str]], path: str, line: int) -> Key:
    fields: dict[str, tuple[int, str]] = {}

    def word(wanted: str | None = None) -> str:
        nonlocal line
        line, found = next(tokens, (line, ""))
        if not found or (wanted is not None and found != wanted):
            raise _wrong(path, line, f'"{wanted}" is missing' if wanted else "the file ends inside a key")
        return found

    name = word()
    word("{")
    while (field := word()) != "}":
        if field not in ("algorithm", "secret") or field in fields:
            raise _wrong(path, line, "a key has one algorithm and one secret")
        text = word()
        fields[field] = (line, text)
        word(";")
    word(";")
    for field in ("algorithm", "secret"):
        if field not in fields:
            raise _wrong(path, line, f"the key has no {field}")
    algorithm = _read_algorithm(*fields["algorithm"], path)
    try:
        owner = dns.name.from_text(name).canonicalize()
    except (dns.exception.DNSException, ValueError):
        raise _wrong(path, line, "the key has no name of the DNS") from None
    return Key(owner, _read_secret(*fields["secret"], path), algorithm)


def _read_algorithm(line: int, text: str, path: str) -> dns.name.Name:
    # Some servers write the name of the algorithm with a final dot, and in capitals.
    word = text.lower().rstrip(".")
    if word not in ALGORITHMS:
        # The word is not shown if it may be the secret, written in the place of the algorithm.
        shown = f' "{word}"' if re.fullmatch(r"hmac-[a-z0-9.-]{1,30}", word) else ""
        hint = f"{', '.join(ALGORITHMS)} are taken: tsig-keygen -a hmac-sha256 NAME"
        raise KeyFileError(f"no algorithm of TSIG{shown} here", place=f"{path}:{line}", hint=hint)
    return ALGORITHMS[word]


def _read_secret(line: int, text: str, path: str) -> bytes:
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError:
        raise _wrong(path, line, "the secret is not base64") from None
    if len(secret) < SECRET_BYTES_MIN:
        raise _wrong(path, line, f"a secret of {len(secret)} bytes, {SECRET_BYTES_MIN} are needed")
    return secret


def _wrong(path: str, line: int, what: str) -> KeyFileError:
    return KeyFileError(what, place=f"{path}:{line}", hint=_HINT)


def verified(wire: bytes, record: SignatureRecord, keys: Keys, now: float) -> Signer:
    """Return whose request it is; TsigRefused where its TSIG does not pass at this time (RFC 8945 §5.2)."""
    key = keys.get(record.owner)
    rdata = record.rdata
    if key is None or key.algorithm != rdata.algorithm:
        raise TsigRefused(BADKEY, record)
    try:
        # dnspython compares the time last; here it must not, because the fudge of the client is limited.
        dns.tsig.validate(wire, key, record.owner, rdata, rdata.time_signed, b"", record.start)
    except dns.tsig.BadSignature:
        raise TsigRefused(BADSIG, record) from None
    except dns.exception.DNSException as trouble:
        raise FormatError("tsig-form", type(trouble).__name__) from None
    if abs(rdata.time_signed - now) > min(rdata.fudge, FUDGE_S):
        raise TsigRefused(BADTIME, record, key)
    return Signer(key, rdata.mac, rdata.time_signed)


def size_bytes(key: Key) -> int:
    """Return how many bytes the TSIG of a response has, without other data."""
    names = len(key.name.to_wire() or b"") + len(key.algorithm.to_wire() or b"")
    return names + _FIXED.size + _TSIG_FIXED_BYTES + dns.tsig.mac_sizes[key.algorithm]


class Responses:
    """The signing of the messages that answer one request; each MAC covers the one before (RFC 8945 §5.3.1)."""

    def __init__(self, key: Key, request_mac: bytes, number: int) -> None:
        self._key = key
        self._mac = request_mac
        self._number = number
        self._context: object = None

    def signed(self, wire: bytes, now: float, *, is_one_of_many: bool = False) -> bytes:
        """Return a message with its TSIG."""
        rdata = _rdata(self._key.algorithm, int(now), self._number, 0)
        made, self._context = dns.tsig.sign(wire, self._key, rdata, int(now), self._mac, self._context, is_one_of_many)
        return _appended(wire, self._key.name, made)


def refusal(wire: bytes, refused: TsigRefused, now: float) -> bytes:
    """Return a response with the TSIG that RFC 8945 §5.2 wants: a MAC only where the request had a right one."""
    record, asked = refused.record, refused.record.rdata
    if refused.key is None:
        return _appended(wire, record.owner, _rdata(asked.algorithm, int(now), asked.original_id, refused.error))
    # §5.2.3: the time is that of the request, so that the client accepts the response; ours stands in Other Data.
    ours = int(now).to_bytes(6)
    rdata = _rdata(asked.algorithm, asked.time_signed, asked.original_id, refused.error, ours)
    made, _ = dns.tsig.sign(wire, refused.key, rdata, asked.time_signed, asked.mac)
    return _appended(wire, record.owner, made)


def _rdata(
    algorithm: dns.name.Name, time_signed: int, number: int, error: int, other: bytes = b""
) -> dns.rdtypes.ANY.TSIG.TSIG:
    return dns.rdtypes.ANY.TSIG.TSIG(
        dns.rdataclass.ANY, dns.rdatatype.TSIG, algorithm, time_signed, FUDGE_S, b"", number, error, other
    )


def _appended(wire: bytes, owner: dns.name.Name, rdata: dns.rdtypes.ANY.TSIG.TSIG) -> bytes:
    data = rdata.to_wire()
    name = owner.to_wire()
    assert data is not None, "without a file the bytes are returned"
    assert name is not None, "without a file the bytes are returned"
    count = int.from_bytes(wire[_ADDITIONAL_COUNT_AT : _ADDITIONAL_COUNT_AT + 2]) + 1
    head = wire[:_ADDITIONAL_COUNT_AT] + count.to_bytes(2) + wire[_ADDITIONAL_COUNT_AT + 2 :]
    return head + name + _FIXED.pack(Type.TSIG, Class.ANY, 0, len(data)) + data


class ReplayMemory:
    """The MACs that would still pass, so that none passes twice. Full, it refuses new ones rather than forget one."""

    def __init__(self, macs_max: int = MACS_MAX) -> None:
        self._macs_max = macs_max
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def has(self, mac: bytes) -> bool:
        """Return whether a MAC was seen."""
        return mac in self._until

    def remember(self, mac: bytes, time_signed: int, now: float) -> None:
        """Remember a MAC for as long as it would pass; Unavailable where there is no room."""
        while self._until and next(iter(self._until.values())) < now:
            self._until.popitem(last=False)
        if len(self._until) >= self._macs_max:
            raise Unavailable(f"{self._macs_max} requests were signed in the last minutes", place="tsig")
        self._until[mac] = time_signed + FUDGE_S

    def recent(self, now: float) -> list[tuple[bytes, int]]:
        """Return the MACs that would still pass, each with the time at which it was signed."""
        return [(mac, int(until - FUDGE_S)) for mac, until in self._until.items() if until >= now]
