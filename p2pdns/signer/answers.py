"""The messages of the signer: what it answers to a query, an UPDATE, a transfer and a NOTIFY.

Guarantees: bytes in, bytes out, and the time is told; a request without a TSIG that passes changes nothing and
transfers nothing; an UPDATE is answered NOERROR once it is on the disk, and never for a MAC seen before. Names are
answered below the name of the zone that was asked: `KEY` or `KEY.suffix`. Does not know sockets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.message import RR, Message, Question, records_of, type_text
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import (
    OPCODE_MASK,
    UDP_SIZE_BYTES,
    Class,
    Ede,
    Flag,
    Option,
    Rcode,
    Type,
)
from p2pdns.errors import FormatError, P2pdnsError, StrangerError, Unavailable, ZoneFileError
from p2pdns.signer import tsig
from p2pdns.signer.content import is_newer, serial_of
from p2pdns.signer.requests import NOTIFY, QUERY, UPDATE, DnsRequest, header_of, parse_request, skim_request
from p2pdns.signer.spelling import Spelling
from p2pdns.signer.transfer import axfr, divided, ixfr
from p2pdns.signer.tsig import Keys, ReplayMemory, Responses, Signer, TsigRefused
from p2pdns.signer.update import Update, UpdateRefused, updated
from p2pdns.signer.zone import SignedZone
from p2pdns.timing import UnixClock
from p2pdns.values import replace

EDE_CHARACTERS_MAX = 200  # A sentence; RFC 8914 §3 asks for short texts, and UDP has 1,232 bytes.


@dataclass(frozen=True)
class Hooks:
    """The callbacks of an event: the zone has changed, or a NOTIFY has come from the primary."""

    on_change: Callable[[], None]
    on_notify: Callable[[], None]


class Responder:
    """The answers of one zone; with `primary_host`, one that comes from there and that no UPDATE changes."""

    def __init__(
        self,
        zone: SignedZone,
        keys: Keys,
        suffixes: Sequence[str],
        memory: ReplayMemory,
        hooks: Hooks,
        *,
        unix_clock: UnixClock,
        logger: Any,
        tell: Any,
        primary_host: str | None = None,
    ) -> None:
        self._zone = zone
        self._keys = keys
        self._names = [zone.apex, *(zone.apex.under(Name.read(suffix)) for suffix in suffixes)]
        self._memory = memory
        self._hooks = hooks
        self._clock = unix_clock
        # Each request of a holder of a key is a line in the log; requests of others are at most one line a second.
        self._logger = logger
        self._tell = tell
        self._primary_host = primary_host

    def respond(self, wire: bytes, *, is_udp: bool, host: str) -> list[bytes]:
        """Return the responses to a message, none for one that must not be answered."""
        header = header_of(wire)
        if header is None:
            return []
        try:
            request = skim_request(wire)
            signer = self._signer_of(request)
            # The records of an UPDATE are read for those who have a key, because they may be many.
            if signer is not None or request.opcode != UPDATE:
                request = parse_request(wire)
        except TsigRefused as refused:
            self._tell.warning("a TSIG does not pass", host=host, why=refused.reason)
            response = compose(_plain(request, Rcode.NOTAUTH))
            return [tsig.refusal(response, refused, self._clock())]
        except StrangerError:
            return [_bare(*header, Rcode.FORMERR)]
        exchange = _Exchange(request, signer, is_udp=is_udp, host=host)
        try:
            parts = self._answered(exchange)
        except UpdateRefused as refused_update:
            self._tell_refusal(exchange, refused_update)
            parts = [exchange.failure(refused_update.rcode, refused_update.reason)]
        except FormatError as trouble:
            parts = [exchange.failure(Rcode.FORMERR, str(trouble))]
        except P2pdnsError as trouble:
            self._logger.error("a request cannot be served", why=str(trouble), key=exchange.key_name)
            parts = [exchange.failure(Rcode.SERVFAIL, trouble.what)]
        return self._sent(exchange, parts)

    def _signer_of(self, request: DnsRequest) -> Signer | None:
        if request.tsig is None:
            return None
        return tsig.verified(request.wire, request.tsig, self._keys, self._clock())

    def _tell_refusal(self, exchange: _Exchange, refused: UpdateRefused) -> None:
        rcode = Rcode(refused.rcode).name
        tell = self._tell if exchange.signer is None else self._logger
        tell.warning("an UPDATE is refused", rcode=rcode, why=refused.reason, key=exchange.key_name, host=exchange.host)

    def _sent(self, exchange: _Exchange, parts: list[Message]) -> list[bytes]:
        request, signer = exchange.request, exchange.signer
        wires = [compose(part) for part in parts]
        if exchange.is_udp:
            if len(wires) > 1 or len(wires[0]) > exchange.datagram_bytes_max:
                cut = replace(parts[0], flags=parts[0].flags | Flag.TC, answer=(), authority=(), additional=())
                wires = [compose(cut)]
        if signer is None:
            return wires
        signing = Responses(signer.key, signer.mac, request.number)
        return [signing.signed(wire, self._clock(), is_one_of_many=len(wires) > 1) for wire in wires]

    def _answered(self, exchange: _Exchange) -> list[Message]:
        request = exchange.request
        if request.opt is not None and request.opt.ttl >> 16 & 0xFF:
            return [exchange.response(Rcode.NOERROR, extended_rcode=Rcode.BADVERS)]
        spelling = self._spelling_of(request.question.name)
        if request.opcode == UPDATE:
            return [self._update(exchange, spelling)]
        if request.opcode == NOTIFY:
            return [self._notified(exchange, spelling)]
        if request.opcode != QUERY:
            return [exchange.response(Rcode.NOTIMP)]
        if spelling is None or request.question.rclass != Class.IN:
            what = "this signer has one zone, and the name is not in it"
            return [exchange.failure(Rcode.REFUSED, what, Ede.NOT_AUTHORITATIVE)]
        if request.question.rtype in (Type.AXFR, Type.IXFR):
            return self._transfer(exchange, spelling)
        return [self._query(exchange, spelling)]

    def _spelling_of(self, name: Name) -> Spelling | None:
        for asked in self._names:
            if name.is_at_or_below(asked):
                # In the letters of the question, as every answer is.
                return Spelling(name.ancestor(len(asked.labels)), self._zone.apex)
        return None

    def _query(self, exchange: _Exchange, spelling: Spelling) -> Message:
        question = exchange.request.question
        if question.rtype in (Type.MAILA, Type.MAILB, Type.TKEY, Type.TSIG, Type.OPT):
            return exchange.response(Rcode.NOTIMP)
        inside = question.name.moved(spelling.asked, spelling.apex)
        found = self._zone.zone.answer(Question(inside, question.rtype))
        answer, authority, additional = (
            tuple(map(spelling.outward, records_of(rrsets)))
            for rrsets in (found.answer, found.authority, found.additional)
        )
        response = exchange.response(found.rcode, answer=answer, authority=authority, flags=Flag.AA)
        return replace(response, additional=(*additional, *response.additional))

    def _transfer(self, exchange: _Exchange, spelling: Spelling) -> list[Message]:
        request = exchange.request
        kind = type_text(request.question.rtype)
        if request.question.name != spelling.asked:
            return [exchange.failure(Rcode.NOTAUTH, "no zone of this name is here", Ede.NOT_AUTHORITATIVE)]
        if exchange.signer is None:
            self._tell.warning("a transfer is refused", host=exchange.host, why="it has no TSIG")
            return [exchange.failure(Rcode.REFUSED, f"{kind} needs a TSIG", Ede.PROHIBITED)]
        if not self._is_first(exchange.signer):
            return [exchange.failure(Rcode.REFUSED, "this MAC was seen before", Ede.PROHIBITED)]
        if request.question.rtype == Type.AXFR:
            if exchange.is_udp:
                return [exchange.failure(Rcode.FORMERR, "AXFR goes by TCP")]
            records = axfr(self._zone)
        else:
            soas = [record for record in request.authority if record.rtype == Type.SOA]
            if len(soas) != 1 or len(soas[0].rdata) < 22:
                return [exchange.failure(Rcode.FORMERR, "IXFR needs the SOA that the client has")]
            records = ixfr(self._zone, serial_of(soas[0].rdata))
            # RFC 1995 §2: a client that is ahead, or whose answer does not fit in one datagram, gets the SOA alone.
            is_ahead = is_newer(serial_of(soas[0].rdata), self._zone.serial)
            if is_ahead or (exchange.is_udp and not self._fits(exchange, spelling, records)):
                records = [self._zone.soa]
        self._logger.info("transferred", type=kind, key=exchange.key_name, serial=self._zone.serial)
        return [
            exchange.response(Rcode.NOERROR, answer=tuple(map(spelling.outward, part)), flags=Flag.AA)
            for part in divided(records)
        ]

    @staticmethod
    def _fits(exchange: _Exchange, spelling: Spelling, records: Sequence[RR]) -> bool:
        whole = exchange.response(Rcode.NOERROR, answer=tuple(map(spelling.outward, records)))
        return len(compose(whole)) <= exchange.datagram_bytes_max

    def _is_first(self, signer: Signer) -> bool:
        if self._memory.has(signer.mac):
            return False
        self._memory.remember(signer.mac, signer.time_signed, self._clock())
        # The next process must know it too. A disk that takes nothing stops no transfer.
        with contextlib.suppress(Unavailable):
            self._zone.note(signer.mac, signer.time_signed)
        return True

    def _update(self, exchange: _Exchange, spelling: Spelling | None) -> Message:
        """Answer an UPDATE (RFC 2136 §3): its zone, its permission, its prerequisites, its records."""
        request, signer = exchange.request, exchange.signer
        if request.question.rtype != Type.SOA:
            raise UpdateRefused(Rcode.FORMERR, "the zone of an UPDATE has the type SOA")
        if spelling is None or request.question.name != spelling.asked or request.question.rclass != Class.IN:
            raise UpdateRefused(Rcode.NOTAUTH, f"no zone {request.question.name} is here")
        if signer is None:
            raise UpdateRefused(Rcode.REFUSED, "an UPDATE needs a TSIG")
        if self._primary_host is not None:
            raise UpdateRefused(Rcode.REFUSED, "this zone comes from its primary: send the UPDATE there")
        if self._memory.has(signer.mac):
            raise UpdateRefused(Rcode.REFUSED, "this MAC was seen before")
        try:
            self._memory.remember(signer.mac, signer.time_signed, self._clock())
            is_changed = self._applied(request, spelling, signer)
        except ZoneFileError as trouble:
            raise UpdateRefused(Rcode.REFUSED, trouble.what) from None
        if is_changed:
            serial = self._zone.serial
            self._logger.info("an UPDATE is taken", key=exchange.key_name, host=exchange.host, serial=serial)
            self._hooks.on_change()
        return exchange.response(Rcode.NOERROR)

    def _applied(self, request: DnsRequest, spelling: Spelling, signer: Signer) -> bool:
        """Apply an UPDATE and return whether the zone has changed; its MAC is on the disk however it ends."""
        try:
            rows = Update(*(tuple(map(spelling.inward, rows)) for rows in (request.answer, request.authority)))
            content = updated(self._zone.content, self._zone.apex, rows)
            return self._zone.commit(content, mac=signer.mac, time_signed=signer.time_signed)
        except (UpdateRefused, ZoneFileError, FormatError):
            # After a restart the same message could otherwise pass, if the zone is another by then.
            self._zone.note(signer.mac, signer.time_signed)
            raise

    def _notified(self, exchange: _Exchange, spelling: Spelling | None) -> Message:
        """Answer a NOTIFY (RFC 1996 §4.7): it is a hint to ask the primary, and says nothing by itself."""
        question = exchange.request.question
        if spelling is None or question.name != spelling.asked or question.rtype != Type.SOA:
            return exchange.response(Rcode.NOTAUTH)
        if self._primary_host is None or (exchange.signer is None and exchange.host != self._primary_host):
            return exchange.failure(Rcode.REFUSED, "no primary of this zone is there", Ede.PROHIBITED)
        self._hooks.on_notify()
        return exchange.response(Rcode.NOERROR, flags=Flag.AA)


@dataclass(frozen=True)
class _Exchange:
    """A request on its way to its response."""

    request: DnsRequest
    signer: Signer | None
    is_udp: bool
    host: str

    @property
    def key_name(self) -> str:
        return "none" if self.signer is None else self.signer.name

    @property
    def datagram_bytes_max(self) -> int:
        """The bytes of a response in a datagram, before its TSIG."""
        reserved = 0 if self.signer is None else tsig.size_bytes(self.signer.key)
        return min(UDP_SIZE_BYTES, self.request.payload_bytes) - reserved

    def response(
        self,
        rcode: int,
        *,
        answer: tuple[RR, ...] = (),
        authority: tuple[RR, ...] = (),
        flags: int = 0,
        ede: tuple[int, str] | None = None,
        extended_rcode: int = 0,
    ) -> Message:
        """Return a response with an OPT where the request has one."""
        plain = _plain(self.request, rcode)
        additional: tuple[RR, ...] = ()
        if self.request.opt is not None:
            options = b""
            if ede is not None:
                data = ede[0].to_bytes(2) + ede[1][:EDE_CHARACTERS_MAX].encode()
                options = int(Option.EDE).to_bytes(2) + len(data).to_bytes(2) + data
            opt = RR(Name.root(), Type.OPT, UDP_SIZE_BYTES, extended_rcode >> 4 << 24, options)
            additional = (opt,)
        return replace(plain, flags=plain.flags | flags, answer=answer, authority=authority, additional=additional)

    def failure(self, rcode: int, why: str, code: int = Ede.OTHER) -> Message:
        """Return a refusal; its reason is an extended error, for clients that understand these."""
        return self.response(rcode, ede=(code, why))


def _plain(request: DnsRequest, rcode: int) -> Message:
    flags = Flag.QR | (request.flags & (OPCODE_MASK | Flag.RD)) | rcode
    return Message(request.number, flags, request.question)


def _bare(number: int, flags: int, rcode: int) -> bytes:
    response = Flag.QR | (flags & (OPCODE_MASK | Flag.RD)) | rcode
    return number.to_bytes(2) + response.to_bytes(2) + bytes(HEADER_BYTES - 4)
