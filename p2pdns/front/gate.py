"""The gate: which messages deserve an answer, and the header, question and OPT of a query.

Guarantees: any bytes end in a verdict, never in an exception: `Dropped` (silence), `Told` (a response without the
engine: an error, or who we are), or `Passed` (a question for the cache and the engine). What is refused costs
no more than one pass over the message. Clients outside the access list get REFUSED within a budget, so that
spoofed sources are not showered. Does not know what is cached, nor any zone.

Rules and their sources: RFC 1035 §4, RFC 6891 (EDNS), RFC 9619 (one question), RFC 8906 (answer every sane query),
RFC 7873 (cookies), RFC 5358 (no open resolver).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from p2pdns.addresses import Address, AddressClass, Network, class_of, in_any, prefix_of
from p2pdns.errors import FormatError
from p2pdns.link import HEADER_BYTES, ClientClass, folded_question, question_end

UDP_SIZE_MIN = 512  # RFC 6891 §6.2.3: lower values count as 512.
CLASSIC_UDP_SIZE = 512  # What a client without EDNS can take (RFC 1035 §4.2.1).
TCP_SIZE = 65_535
CLIENTS_REMEMBERED_MAX = 4096  # Hosts whose class we need not work out again.
REFUSALS_PER_S = 20.0  # For all clients outside the access list together: enough to be told, too little to aim.
REFUSALS_PER_PREFIX_S = 2.0
REFUSAL_PREFIXES_MAX = 1024
# Services that answer anything (echo, daytime, quotd, chargen, time): an error sent there comes back for ever.
ECHOING_PORTS = frozenset({0, 7, 13, 17, 19, 37})

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
TYPE_SOA, TYPE_TXT, TYPE_OPT, TYPE_NXNAME = 6, 16, 41, 128
TYPE_IXFR, TYPE_AXFR, TYPE_ANY = 251, 252, 255
CLASS_IN, CLASS_CHAOS = 1, 3
PROBE_SUFFIX = b"\x0cp2pdns-probe\x07invalid\x00"  # What the engine asks upstreams for, to find those that are us.
OPTION_COOKIE = 10
EDE_PROHIBITED, EDE_NOT_SUPPORTED, EDE_INVALID_QUERY_TYPE = 18, 21, 30

FLAG_QR, FLAG_AA, FLAG_TC, FLAG_RD, FLAG_RA, FLAG_AD, FLAG_CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
FLAG_DO = 0x8000  # In the TTL field of OPT.

Ede = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: an address, how far it is trusted, and whether the transport proves the address."""

    address: Address
    client_class: ClientClass
    is_allowed: bool
    is_stream: bool

    @property
    def is_trusted(self) -> bool:
        """Return whether AD means something to this client: nobody else is on the way to it."""
        return self.client_class is not ClientClass.OTHER


@dataclass(frozen=True, slots=True)
class Asked:
    """One query as it stands: what a response to it must repeat, and how large it may be.

    `question` keeps the letter case of the client, and is empty where there was none that could be read.
    """

    id: bytes
    flags: int
    question: bytes
    has_opt: bool
    dnssec_ok: bool
    size_max: int

    @property
    def key(self) -> bytes:
        """Return what equal questions have in common: lower-case question, RD, DO and CD."""
        bits = (self.flags & FLAG_RD and 1) | (self.dnssec_ok and 2) | (self.flags & FLAG_CD and 4)
        return folded_question(self.question) + bytes([bits])


@dataclass(frozen=True, slots=True)
class Dropped:
    """Silence, for a reason that is counted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """A response that needs no look-up; `texts` are the strings of one TXT RR in the class of the question."""

    asked: Asked
    rcode: int
    reason: str
    ede: Ede = ()
    texts: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Passed:
    """A question for the cache and the engine."""

    asked: Asked


Verdict = Dropped | Told | Passed


class _Refused(Exception):
    """A query that is refused while it is being read; never leaves this module."""

    def __init__(self, rcode: int, reason: str, *ede: tuple[int, str]) -> None:
        self.rcode = rcode
        self.reason = reason
        self.ede = ede
        super().__init__(reason)


class AccessList:
    """Who may ask, and who counts as trusted; remembers the class of recent clients."""

    def __init__(self, allowed: Sequence[Network], listed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)
        self._listed = tuple(listed)
        self._known: dict[str, tuple[ClientClass, bool]] = {}

    def client(self, address: Address, *, is_stream: bool) -> Client:
        """Return who asks from that address."""
        client_class, is_allowed = self.standing(address[0])
        return Client(address, client_class, is_allowed, is_stream)

    def standing(self, host: str) -> tuple[ClientClass, bool]:
        """Return the class of a host, and whether it may ask."""
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= CLIENTS_REMEMBERED_MAX:
                self._known.clear()
            known = self._known[host] = self._looked_up(host)
        return known

    def _looked_up(self, host: str) -> tuple[ClientClass, bool]:
        allowed = in_any(host, self._allowed)
        if class_of(host) is AddressClass.LOOPBACK:
            return ClientClass.LOOPBACK, allowed
        if in_any(host, self._listed):
            return ClientClass.LISTED, True
        return ClientClass.OTHER, allowed


class RefusalBudget:
    """Token buckets for responses to clients outside the access list, one for all and one a prefix."""

    def __init__(self) -> None:
        self._all = (REFUSALS_PER_S, 0.0)
        self._prefixes: dict[str, tuple[float, float]] = {}

    def has_room(self, address: Address, now: float) -> bool:
        """Return whether one more response may go to that address now, and charge it."""
        self._all, all_ok = _charged(self._all, REFUSALS_PER_S, now)
        if not all_ok:
            return False
        prefix = prefix_of(address)
        if prefix not in self._prefixes and len(self._prefixes) >= REFUSAL_PREFIXES_MAX:
            # The bucket for all holds meanwhile: forgetting the small ones costs at most its rate.
            self._prefixes.clear()
        bucket = self._prefixes.get(prefix, (REFUSALS_PER_PREFIX_S, now))
        self._prefixes[prefix], ok = _charged(bucket, REFUSALS_PER_PREFIX_S, now)
        return ok


def _charged(bucket: tuple[float, float], rate: float, now: float) -> tuple[tuple[float, float], bool]:
    tokens = min(rate, bucket[0] + max(0.0, now - bucket[1]) * rate)
    return ((tokens - 1.0, now), True) if tokens >= 1.0 else ((tokens, now), False)


class Gate:
    """Judges every message from a client, whichever door it came through."""

    def __init__(self, access: AccessList, *, udp_size_max: int, server_texts: tuple[bytes, bytes]) -> None:
        self.access = access
        self.counters: Counter[str] = Counter()
        self.udp_size_max = udp_size_max
        self._version_text, self._id_text = server_texts
        self._budget = RefusalBudget()

    def verdict(self, data: bytes, client: Client, now: float) -> Verdict:
        """Return what becomes of one message, and count it."""
        verdict = self._judged(data, client, now)
        self.counters["passed" if isinstance(verdict, Passed) else verdict.reason] += 1
        return verdict

    def _judged(self, data: bytes, client: Client, now: float) -> Verdict:
        if len(data) < HEADER_BYTES:
            return Dropped("short")
        flags = int.from_bytes(data[2:4], "big")
        # Never answer a response: two servers that do so talk to each other for ever.
        if flags & FLAG_QR:
            return Dropped("response")
        if not client.is_stream and client.address[1] in ECHOING_PORTS:
            return Dropped("echoing-port")
        verdict = self._read(data, flags, client)
        if client.is_allowed:
            return verdict
        # A stream proves its address, a datagram does not: there the answer is rationed.
        if not client.is_stream and not self._budget.has_room(client.address, now):
            return Dropped("refused-silently")
        return Told(verdict.asked, REFUSED, "refused", ((EDE_PROHIBITED, "this client is not in the access list"),))

    def _read(self, data: bytes, flags: int, client: Client) -> Told | Passed:
        size_max = TCP_SIZE if client.is_stream else CLASSIC_UDP_SIZE
        asked = Asked(data[0:2], flags, b"", False, False, size_max)
        # The opcode comes first: what follows the header of another opcode has another meaning (RFC 8906 §3.1.4).
        if flags & 0x7800:
            return Told(asked, NOTIMP, "opcode")
        counts = [int.from_bytes(data[i : i + 2], "big") for i in (4, 6, 8, 10)]
        try:
            if counts[0] > 1:
                raise _Refused(FORMERR, "questions")
            end = question_end(data, HEADER_BYTES) if counts[0] else HEADER_BYTES
            asked = Asked(asked.id, flags, data[HEADER_BYTES:end], False, False, size_max)
            rrs = _Rrs(data, end, counts)
            asked = self._with_opt(asked, rrs, client)
            return self._answered_here(asked, rrs)
        except FormatError as trouble:
            return Told(asked, FORMERR, trouble.reason)
        except _Refused as trouble:
            return Told(asked, trouble.rcode, trouble.reason, trouble.ede)

    def _with_opt(self, asked: Asked, rrs: _Rrs, client: Client) -> Asked:
        if not rrs.has_opt:
            return asked
        size = TCP_SIZE if client.is_stream else min(max(rrs.opt_size, UDP_SIZE_MIN), self.udp_size_max)
        return Asked(asked.id, asked.flags, asked.question, True, bool(rrs.opt_ttl & FLAG_DO), size)

    def _answered_here(self, asked: Asked, rrs: _Rrs) -> Told | Passed:
        if rrs.has_opt and rrs.opt_ttl >> 16 & 0xFF:
            return Told(asked, BADVERS, "edns-version")
        if not asked.question:
            # RFC 7873 §5.4: a query without a question asks for a cookie; RFC 9619: anything else is an error.
            return Told(asked, NOERROR, "cookie-only") if rrs.has_cookie else Told(asked, FORMERR, "questions")
        rtype = int.from_bytes(asked.question[-4:-2], "big")
        rclass = int.from_bytes(asked.question[-2:], "big")
        if rclass == CLASS_CHAOS and rtype == TYPE_TXT and asked.question[:-4].lower().endswith(PROBE_SUFFIX):
            return Passed(asked)
        if rclass == CLASS_CHAOS:
            return self._chaos(asked, rtype)
        if rclass != CLASS_IN:
            return Told(asked, REFUSED, "class", ((EDE_NOT_SUPPORTED, "only class IN is served"),))
        if rtype in (0, TYPE_OPT, TYPE_NXNAME):
            return Told(asked, FORMERR, "type", ((EDE_INVALID_QUERY_TYPE, ""),))
        if rtype in (TYPE_IXFR, TYPE_AXFR):
            return Told(asked, REFUSED, "transfer", ((EDE_NOT_SUPPORTED, "no zone transfers here"),))
        if 128 < rtype < TYPE_ANY:
            # RFC 6895 §3.1 keeps 128 to 255 for question and meta types; no data can have one.
            return Told(asked, REFUSED, "type", ((EDE_NOT_SUPPORTED, "meta types are not served"),))
        if rrs.has_records:
            return Told(asked, FORMERR, "records")
        return Passed(asked)

    def _chaos(self, asked: Asked, rtype: int) -> Told:
        names = {
            b"\x07version\x04bind\x00": self._version_text,
            b"\x07version\x06server\x00": self._version_text,
            b"\x02id\x06server\x00": self._id_text,
            b"\x08hostname\x04bind\x00": self._id_text,
        }
        text = names.get(asked.question[:-4].lower())
        if text is None:
            return Told(asked, REFUSED, "chaos", ((EDE_NOT_SUPPORTED, "only version.bind and id.server"),))
        is_text = rtype in (TYPE_TXT, TYPE_ANY)
        return Told(asked, NOERROR, "chaos", texts=(text,) if is_text else ())


class _Rrs:
    """What a query carries behind its question: the OPT, and whether there is anything else of weight."""

    def __init__(self, data: bytes, at: int, counts: Sequence[int]) -> None:
        self.has_opt = False
        self.has_cookie = False
        self.opt_size = 0
        self.opt_ttl = 0
        self.has_records = bool(counts[1] or counts[2])
        for index in range(counts[1] + counts[2] + counts[3]):
            at = self._read(data, at, is_additional=index >= counts[1] + counts[2])

    def _read(self, data: bytes, at: int, *, is_additional: bool) -> int:
        is_root = at < len(data) and data[at] == 0
        at = _name_end(data, at)
        fixed = data[at : at + 10]
        if len(fixed) < 10:
            raise FormatError("record-cut")
        rtype = int.from_bytes(fixed[0:2], "big")
        end = at + 10 + int.from_bytes(fixed[8:10], "big")
        if end > len(data):
            raise FormatError("record-cut")
        if rtype == TYPE_OPT:
            # RFC 6891 §6.1.1: at most one, in the additional section, at the root.
            if self.has_opt or not is_root or not is_additional:
                raise FormatError("opt")
            self.has_opt = True
            self.opt_size = int.from_bytes(fixed[2:4], "big")
            self.opt_ttl = int.from_bytes(fixed[4:8], "big")
            self._read_options(data, at + 10, end)
        return end

    def _read_options(self, data: bytes, at: int, end: int) -> None:
        while at < end:
            if at + 4 > end:
                raise FormatError("option-cut")
            code = int.from_bytes(data[at : at + 2], "big")
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            at += 4 + size
            if at > end:
                raise FormatError("option-cut")
            if code == OPTION_COOKIE:
                # RFC 7873 §5.2.2: a client cookie of 8 bytes, alone or with a server cookie of 8 to 32.
                if size != 8 and not 16 <= size <= 40:
                    raise FormatError("cookie-size")
                self.has_cookie = True


def _name_end(data: bytes, at: int) -> int:
    """Return the offset behind an owner name; it is walked, never followed, so a pointer cannot lead astray."""
    while at < len(data):
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            break
        at += 1 + length
    raise FormatError("record-name")
