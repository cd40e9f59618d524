"""The gate: it reads header, question and OPT of a query, and decides which messages get an answer.

Guarantees: any bytes end in a verdict, never in an exception: `Dropped` (no response), `Told` (a response without the
engine: an error, or our version), or a `ClientQuery` for the cache and the engine. A refused message costs one pass
over it at most. Clients outside the access list get REFUSED within a budget, so that forged queries do not make us
flood their victim. Does not know the cache, nor any zone.

Rules and their sources: RFC 1035 §4, RFC 6891 (EDNS), RFC 9619 (one question), RFC 8906 (answer every sane query),
RFC 7873 (cookies), RFC 7828 (keepalive), RFC 5358 (no open resolver).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from p2pdns.addresses import LOOPBACK_CLIENT, Address, Network, client_host, client_prefix, in_any
from p2pdns.dns.labels import HEADER_BYTES, folded_question, owner_end, question_end
from p2pdns.dns.registry import DO_FLAG, NXNAME, OPCODE_MASK, Class, Ede, Explanations, Flag, Option, Rcode, Type
from p2pdns.errors import FormatError
from p2pdns.front.cookies import CLIENT_BYTES, Cookies, is_sized
from p2pdns.front.transport import Transport
from p2pdns.link import ClientClass
from p2pdns.rates import PrefixRates, RateLimit
from p2pdns.values import Value

CLIENTS_REMEMBERED_MAX = 4096  # Hosts whose class need not be worked out again.
REFUSALS_PER_S = 20.0  # All refusals together: enough for clients to learn of it, too few for an attack on others.
REFUSALS_PER_PREFIX_S = 2.0
REFUSAL_PREFIXES_MAX = 1024
# Services that answer anything (echo, daytime, quotd, chargen, time): our error and their answer would go on for ever.
ECHOING_PORTS = frozenset({0, 7, 13, 17, 19, 37})
# RFC 8489 §5: a browser sends this to the STUN server that a web page names. Without this rule it would get FORMERR.
STUN_COOKIE = b"\x21\x12\xa4\x42"

QUESTIONS_READ_MAX = 8  # More than one is an error; the others are read only to find the OPT behind them.
RECORDS_READ_MAX = 64  # A sane query has an OPT and a signature; a message of 64 kB could have six thousand records.
OPTIONS_READ_MAX = 256  # A sane OPT has a handful; skipping one takes a third of a microsecond.
KEEPALIVE_UNIT_MS = 100  # RFC 7828 §3.1

# Every query passes these (the registry says why they are bound here).
_QR, _RD, _CD = int(Flag.QR), int(Flag.RD), int(Flag.CD)
_TYPE_OPT, _COOKIE, _KEEPALIVE = int(Type.OPT), int(Option.COOKIE), int(Option.KEEPALIVE)
_IN, _CH = int(Class.IN), int(Class.CH)
_TRANSFERS, _NEVER_ASKED = (int(Type.IXFR), int(Type.AXFR)), (int(Type.OPT), NXNAME)
_META_TYPES = range(NXNAME + 1, Type.ANY)  # RFC 6895 §3.1 keeps 128 to 255 for questions: no record has such a type.

_COUNTS = struct.Struct("!HHHH")  # Of questions, answers, authority and additional records.
_FIXED = struct.Struct("!HHIH")  # Type, class, TTL and RDATA size, which follow the owner of a record.
_OPTION = struct.Struct("!HH")

Reply = Callable[[bytes], None]
"""A function that sends a response to the client that it was made for."""


class Client(Value, frozen=True):
    """The client of a query: its address, how far it is trusted, the transport it uses, and the way back to it.

    `reply` is for a response that comes later. `is_trusted`: AD means something to this client, because nobody else is
    on the way to it.
    """

    address: Address
    client_class: ClientClass
    is_allowed: bool
    transport: Transport
    reply: Reply

    @property
    def is_trusted(self) -> bool:
        return self.client_class is not ClientClass.OTHER


class ClientQuery(Value, frozen=True):
    """One query: its client, the parts that a response must repeat, and the size that the response may have.

    `question` keeps the letter case of the client, and is empty if no question could be read. `options` are the EDNS
    options that the response must have, as on the wire. `is_proven`: by a cookie of ours the client has shown that it
    reads what is sent to its address.
    """

    client: Client
    id: bytes
    flags: int
    question: bytes
    has_opt: bool
    dnssec_ok: bool
    size_max: int
    options: bytes = b""
    is_proven: bool = False

    @property
    def key(self) -> bytes:
        """Return the key that equal questions share: lower-case question, RD, DO and CD."""
        bits = (self.flags & _RD and 1) | (self.dnssec_ok and 2) | (self.flags & _CD and 4)
        return folded_question(self.question) + bytes([bits])


@dataclass(frozen=True, slots=True)
class Dropped:
    """No response, for a reason that is counted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """A response that needs no look-up; `texts` are the strings of one TXT RR in the class of the question.

    `is_cut` sets TC, which makes the client ask again over TCP.
    """

    asked: ClientQuery
    rcode: int
    reason: str
    ede: Explanations = ()
    texts: tuple[bytes, ...] = ()
    is_cut: bool = False


Verdict = Dropped | Told | ClientQuery


class AccessList:
    """The clients that may ask, and those that are trusted.

    `standing` returns the class of a host and whether it may ask, and remembers that of recent clients.
    """

    def __init__(self, allowed: Sequence[Network], listed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)
        self._listed = tuple(listed)
        self.standing = lru_cache(CLIENTS_REMEMBERED_MAX)(self._looked_up)

    def client(self, address: Address, transport: Transport, reply: Reply) -> Client:
        """Return the client at that address, which uses that transport."""
        client_class, is_allowed = self.standing(address[0])
        return Client(address, client_class, is_allowed, transport, reply)

    def _looked_up(self, host: str) -> tuple[ClientClass, bool]:
        allowed = in_any(host, self._allowed)
        if client_host(host) == LOOPBACK_CLIENT:
            return ClientClass.LOOPBACK, allowed
        if in_any(host, self._listed):
            return ClientClass.LISTED, True
        return ClientClass.OTHER, allowed


class Gate:
    """The judge of every message of a client, whichever door it came through."""

    def __init__(
        self, access: AccessList, *, udp_size_max: int, server_texts: tuple[bytes, bytes], cookies: Cookies
    ) -> None:
        self.access = access
        self.counters: Counter[str] = Counter()
        self.udp_size_max = udp_size_max
        self.tcp_idle_ms = 0
        self.require_cookies = False
        self._cookies = cookies
        version, server_id = server_texts
        self._chaos_texts = {
            b"\x07version\x04bind\x00": version,
            b"\x07version\x06server\x00": version,
            b"\x02id\x06server\x00": server_id,
            b"\x08hostname\x04bind\x00": server_id,
        }
        self._refusals = RateLimit(REFUSALS_PER_S, REFUSALS_PER_S, 0.0)
        self._refusals_by_prefix = PrefixRates(REFUSALS_PER_PREFIX_S, REFUSALS_PER_PREFIX_S, REFUSAL_PREFIXES_MAX)

    def verdict(self, data: bytes, client: Client, now: float) -> Verdict:
        """Return the verdict on one message, and count it."""
        verdict = self._judged(data, client, now)
        self.counters["passed" if isinstance(verdict, ClientQuery) else verdict.reason] += 1
        return verdict

    def _judged(self, data: bytes, client: Client, now: float) -> Verdict:
        if len(data) < HEADER_BYTES:
            return Dropped("short")
        flags = int.from_bytes(data[2:4], "big")
        # A response is never answered: two servers that answer responses would go on for ever.
        if flags & _QR:
            return Dropped("response")
        if not client.transport.proves_address and client.address[1] in ECHOING_PORTS:
            return Dropped("echoing-port")
        if data[4:8] == STUN_COOKIE:
            return Dropped("stun")
        query = _QueryBody(data, client.transport)
        if flags & OPCODE_MASK:
            # Under another opcode this section means something else (a zone, in an UPDATE), so it is not repeated.
            query.question = b""
        asked = self._asked(data[0:2], flags, query, client, now)
        if client.is_allowed:
            return self._answered_here(asked, query)
        # A connection or a cookie of ours proves an address. A datagram does not, so refusals by datagram are rationed.
        if not (client.transport.proves_address or asked.is_proven or self._may_refuse(client.address[0], now)):
            return Dropped("refused-silently")
        return Told(asked, Rcode.REFUSED, "refused", ((Ede.PROHIBITED, "this client is not in the access list"),))

    def _may_refuse(self, host: str, now: float) -> bool:
        # The rate for all comes first: it still holds when a flood makes the table of prefixes forget.
        return self._refusals.take(now) and self._refusals_by_prefix.take(client_prefix(host), now)

    def _asked(self, number: bytes, flags: int, query: _QueryBody, client: Client, now: float) -> ClientQuery:
        if not query.has_opt:
            return ClientQuery(client, number, flags, query.question, False, False, client.transport.plain_bytes_max)
        size_max = client.transport.plain_bytes_max
        if not client.transport.is_stream:
            # RFC 6891 §6.2.3: less than 512 counts as 512.
            size_max = min(max(query.opt_size, size_max), self.udp_size_max)
        options, is_proven = b"", False
        if query.cookie:
            known = self._cookies.known(query.cookie, client.address[0], now)
            options, is_proven = _option(_COOKIE, known.reply), known.is_ours
        if query.wants_keepalive:
            options += _option(_KEEPALIVE, (self.tcp_idle_ms // KEEPALIVE_UNIT_MS).to_bytes(2, "big"))
        dnssec_ok = bool(query.opt_ttl & DO_FLAG)
        return ClientQuery(client, number, flags, query.question, True, dnssec_ok, size_max, options, is_proven)

    def _answered_here(self, asked: ClientQuery, query: _QueryBody) -> Told | ClientQuery:
        # The opcode comes first: under another one, the bytes behind the header mean something else (RFC 8906 §3.1.4).
        if asked.flags & OPCODE_MASK:
            return Told(asked, Rcode.NOTIMP, "opcode")
        if query.trouble:
            return Told(asked, Rcode.FORMERR, query.trouble)
        if query.opt_version:
            return Told(asked, Rcode.BADVERS, "edns-version")
        if not asked.question:
            return _without_question(asked, query)
        if self.require_cookies and not (asked.client.transport.proves_address or asked.is_proven):
            # RFC 7873 §5.2.3. A client that does not know cookies proves its address by a connection instead.
            rcode = Rcode.BADCOOKIE if query.cookie else Rcode.NOERROR
            return Told(asked, rcode, "cookie", is_cut=not query.cookie)
        rtype = int.from_bytes(asked.question[-4:-2], "big")
        rclass = int.from_bytes(asked.question[-2:], "big")
        if rtype in _TRANSFERS:
            return Told(asked, Rcode.REFUSED, "transfer", ((Ede.NOT_SUPPORTED, "no zone transfers here"),))
        if rclass == _CH:
            return self._chaos(asked, rtype)
        if rclass != _IN:
            return Told(asked, Rcode.REFUSED, "class", ((Ede.NOT_SUPPORTED, "only class IN is served"),))
        if rtype in _NEVER_ASKED:
            return Told(asked, Rcode.FORMERR, "type", ((Ede.INVALID_QUERY_TYPE, ""),))
        if rtype in _META_TYPES:
            return Told(asked, Rcode.REFUSED, "type", ((Ede.NOT_SUPPORTED, "meta types are not served"),))
        if query.has_records:
            return Told(asked, Rcode.FORMERR, "records")
        return asked

    def _chaos(self, asked: ClientQuery, rtype: int) -> Told:
        text = self._chaos_texts.get(asked.question[:-4].lower())
        if text is None:
            return Told(asked, Rcode.REFUSED, "chaos", ((Ede.NOT_SUPPORTED, "only version.bind and id.server"),))
        is_text = rtype in (Type.TXT, Type.ANY)
        return Told(asked, Rcode.NOERROR, "chaos", texts=(text,) if is_text else ())


def is_query(data: bytes) -> bool:
    """Return whether a message is a query by its header: QR and opcode 0, and one question or none (RFC 9619)."""
    flags, questions = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:6], "big")
    return not flags & (_QR | OPCODE_MASK) and questions <= 1


def _without_question(asked: ClientQuery, query: _QueryBody) -> Told:
    if not query.cookie:
        return Told(asked, Rcode.FORMERR, "questions")
    # RFC 7873 §5.4: a query without a question asks for a cookie, or whether its cookie is still valid.
    is_first = len(query.cookie) == CLIENT_BYTES
    return Told(asked, Rcode.NOERROR if is_first or asked.is_proven else Rcode.BADCOOKIE, "cookie-only")


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value


class _QueryBody:
    """The part of a query behind its header, as far as it could be read; `trouble` is the reason why it ends there."""

    question = cookie = b""
    has_opt = wants_keepalive = has_records = False
    opt_size = opt_ttl = 0
    trouble = ""

    def __init__(self, data: bytes, transport: Transport) -> None:
        self._transport = transport
        try:
            self._read(data)
        except FormatError as trouble:
            self.trouble = trouble.reason

    @property
    def opt_version(self) -> int:
        return self.opt_ttl >> 16 & 0xFF

    def _read(self, data: bytes) -> None:
        questions, answers, authorities, additionals = _COUNTS.unpack_from(data, 4)
        if questions > QUESTIONS_READ_MAX:
            raise FormatError("questions")
        at = HEADER_BYTES
        for _ in range(questions):
            at = question_end(data, at)
        if questions == 1:
            self.question = data[HEADER_BYTES:at]
        self.has_records = bool(answers or authorities)
        count = answers + authorities + additionals
        for index in range(min(count, RECORDS_READ_MAX)):
            at = self._read_record(data, at, is_additional=index >= answers + authorities)
        if questions > 1:
            raise FormatError("questions")
        if count > RECORDS_READ_MAX:
            raise FormatError("records")

    def _read_record(self, data: bytes, at: int, *, is_additional: bool) -> int:
        is_root = at < len(data) and data[at] == 0
        at = owner_end(data, at)
        if at + _FIXED.size > len(data):
            raise FormatError("record-cut")
        rtype, opt_size, opt_ttl, size = _FIXED.unpack_from(data, at)
        end = at + _FIXED.size + int(size)
        if end > len(data):
            raise FormatError("record-cut")
        if rtype == _TYPE_OPT:
            # RFC 6891 §6.1.1: at most one, in the additional section, at the root.
            if self.has_opt or not is_root or not is_additional:
                raise FormatError("opt")
            self.has_opt = True
            # RFC 6891 §6.1.2: the fields for class and TTL have another meaning in an OPT.
            self.opt_size, self.opt_ttl = opt_size, opt_ttl
            # The options of another version are unknown here (RFC 6891 §6.1.3).
            if not self.opt_version:
                self._read_options(data, at + _FIXED.size, end)
        return end

    def _read_options(self, data: bytes, at: int, end: int) -> None:
        for _ in range(OPTIONS_READ_MAX):
            if at >= end:
                return
            if at + _OPTION.size > end:
                raise FormatError("option-cut")
            code, size = _OPTION.unpack_from(data, at)
            start = at + _OPTION.size
            at = start + size
            if at > end:
                raise FormatError("option-cut")
            if code == _COOKIE and not self.cookie:
                if not is_sized(data[start:at]):
                    raise FormatError("cookie-size")
                self.cookie = data[start:at]
            # RFC 7828 §3.3.1: over UDP it is ignored, and only a server puts a value into it.
            elif code == _KEEPALIVE and self._transport.is_stream:
                if at > start:
                    raise FormatError("keepalive-size")
                self.wants_keepalive = True
        if at < end:
            raise FormatError("options")
