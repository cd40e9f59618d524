"""A hidden primary: the zone comes from it by AXFR, when it says NOTIFY, and when its refresh time is over.

Guarantees: a transfer is taken whole or not at all, and only with a TSIG on its first and last message; what no zone
of ours can have refuses the whole transfer, so that nothing is missing unseen; a primary that is silent, slow or
endless costs one connection and one line of the log. Does not know how the zone is published.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.xfr
import dns.zone

from p2pdns.addresses import Address, write_address
from p2pdns.dns.message import RR, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import OURS_ALONE
from p2pdns.dns.zone.content import RRsets, select
from p2pdns.errors import P2pdnsError, Unavailable, words_of
from p2pdns.signer.content import is_newer, own_soa, serial_of
from p2pdns.signer.requests import READER_ERRORS, name_of
from p2pdns.signer.spelling import Spelling
from p2pdns.signer.tsig import Key
from p2pdns.signer.zone import SignedZone

CONNECT_S_MAX = 5.0  # A machine that is there answers at once.
TRANSFER_S_MAX = 30.0  # A zone that fits is a message or two.
TRANSFER_BYTES_MAX = 4 * 1024 * 1024  # Far more than fits into the overlay; a primary without end stops here.
# The refresh and retry times of the SOA, within reason (RFC 1912 §2.2): NOTIFY tells of changes at once.
REFRESH_S_MIN, REFRESH_S_MAX = 60.0, 86_400.0
BETWEEN_CHECKS_S = 1.0  # A storm of NOTIFY asks the primary once a second.
_SOA_REFRESH = struct.Struct("!II")  # Refresh and retry, behind the serial.


class Primary:
    """The primary of a zone at an address. `on_change` is called after each transfer that changed the zone."""

    def __init__(
        self,
        address: Address,
        key: Key,
        zone: SignedZone,
        on_change: Callable[[], None],
        *,
        tell: Any,
        name: Name | None = None,
    ) -> None:
        self.address = address
        self._key = key
        self._zone = zone
        self._on_change = on_change
        self._tell = tell
        self._name = zone.apex if name is None else name
        self._notified = asyncio.Event()

    def notified(self) -> None:
        """Ask the primary soon."""
        self._notified.set()

    async def run(self) -> None:
        """Ask now, after each NOTIFY, and at the times that the SOA gives; for ever."""
        while True:
            self._notified.clear()
            is_well = await self.check()
            await asyncio.sleep(BETWEEN_CHECKS_S)
            refresh_s, retry_s = self._times()
            try:
                async with asyncio.timeout(refresh_s if is_well else retry_s):
                    await self._notified.wait()
            except TimeoutError:
                pass

    def _times(self) -> tuple[float, float]:
        rdata = self._zone.soa.rdata
        refresh, retry = _SOA_REFRESH.unpack_from(rdata, len(rdata) - 16)
        bounded = [min(max(float(seconds), REFRESH_S_MIN), REFRESH_S_MAX) for seconds in (refresh, retry)]
        return bounded[0], bounded[1]

    async def check(self) -> bool:
        """Ask for the serial, and for the zone if that is newer; return whether the primary has answered well."""
        place = write_address(self.address)
        try:
            async with asyncio.timeout(TRANSFER_S_MAX):
                changed = await self._check()
        except TimeoutError:
            self._tell.warning("no transfer", primary=place, why=f"not done within {TRANSFER_S_MAX:g} s")
            return False
        except OSError as trouble:
            self._tell.warning("no transfer", primary=place, why=words_of(trouble))
            return False
        except EOFError:
            self._tell.warning("no transfer", primary=place, why="the primary ended the connection halfway")
            return False
        except (dns.exception.DNSException, P2pdnsError, *READER_ERRORS) as trouble:
            self._tell.warning("no transfer", primary=place, why=_why(trouble))
            return False
        if changed:
            self._tell.info("transferred from the primary", primary=place, serial=self._zone.serial)
            self._on_change()
        return True

    async def _check(self) -> bool:
        async with asyncio.timeout(CONNECT_S_MAX):
            reader, writer = await asyncio.open_connection(*self.address)
        try:
            query = self._query(dns.rdatatype.SOA)
            response = await self._asked(reader, writer, query)
            serials = [
                rdata.serial for rrset in response.answer if rrset.rdtype == dns.rdatatype.SOA for rdata in rrset
            ]
            if response.rcode() or not serials:
                raise Unavailable(f"asked for its SOA, the primary answers {dns.rcode.to_text(response.rcode())}")
            own = own_soa(self._zone.content, self._zone.apex)
            if own is not None and not is_newer(serials[0], serial_of(own.rdata)):
                return False
            return await self._transfer(reader, writer)
        finally:
            writer.close()

    def _query(self, rtype: dns.rdatatype.RdataType) -> dns.message.QueryMessage:
        name = dns.name.Name((*self._name.labels, b""))
        query = dns.message.make_query(name, rtype)
        query.flags &= ~dns.flags.RD
        query.use_tsig(self._key)
        return query

    async def _asked(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, query: dns.message.QueryMessage
    ) -> dns.message.Message:
        writer.write(query.to_wire(prepend_length=True))
        wire = await _message(reader)
        response = dns.message.from_wire(wire, keyring=self._key, request_mac=query.mac or b"")
        _refuse_unsigned(response)
        return response

    async def _transfer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        query = self._query(dns.rdatatype.AXFR)
        writer.write(query.to_wire(prepend_length=True))
        zone = dns.zone.Zone(query.question[0].name, relativize=False)
        context, size_bytes, is_done = None, 0, False
        records: list[RR] = []
        with dns.xfr.Inbound(zone, dns.rdatatype.AXFR) as inbound:
            while not is_done:
                wire = await _message(reader)
                size_bytes += len(wire)
                if size_bytes > TRANSFER_BYTES_MAX:
                    raise Unavailable(f"a transfer of more than {TRANSFER_BYTES_MAX} bytes")
                message = dns.message.from_wire(
                    wire,
                    keyring=self._key,
                    request_mac=query.mac or b"",
                    xfr=True,
                    tsig_ctx=context,
                    multi=True,
                )
                is_first, context = context is None, message.tsig_ctx
                is_done = inbound.process_message(message)
                records += _records_in(message)
                if is_first or is_done:
                    # RFC 8945 §5.3.1: the first message and the last one are signed, whatever is between.
                    _refuse_unsigned(message)
        return self._taken(records)

    def _taken(self, records: list[RR]) -> bool:
        spelling = Spelling(self._name, self._zone.apex)
        content = content_of_transfer([spelling.inward(record) for record in records], self._zone.apex)
        soa = own_soa(content, self._zone.apex)
        assert soa is not None, "a transfer begins and ends with an SOA"
        return self._zone.commit(content, serial=serial_of(soa.rdata))


def content_of_transfer(records: list[RR], apex: Name) -> RRsets:
    """Return the content that a transfer gives; Unavailable for records that no zone of ours can have.

    Glue at and below a delegation is left out, as in a zone file.
    """
    dropped: Counter[str] = Counter()
    for record in records:
        if record.rtype in OURS_ALONE:
            raise Unavailable(f"the transfer has {type_text(record.rtype)}, which p2pdns alone makes")
    content = select(apex, records, dropped)
    reasons = sorted(set(dropped) - {"occluded", "duplicate"})
    if reasons:
        count = sum(dropped[reason] for reason in reasons)
        raise Unavailable(f"the transfer has {count} records that no zone here can have ({', '.join(reasons)})")
    return content


def _records_in(message: dns.message.Message) -> list[RR]:
    """Return the records of a message as they were sent: a zone of dnspython drops some without a word."""
    found = []
    for rrset in message.answer:
        for rdata in rrset:
            data = rdata.to_wire()
            assert data is not None, "without a file the bytes are returned"
            found.append(RR(name_of(rrset.name), int(rrset.rdtype), int(rrset.rdclass), int(rrset.ttl), data))
    return found


def _refuse_unsigned(message: dns.message.Message) -> None:
    if not message.had_tsig:
        raise Unavailable("the primary does not sign its answers")


async def _message(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(2))
    return await reader.readexactly(length)


def _why(trouble: Exception) -> str:
    if isinstance(trouble, P2pdnsError):
        return trouble.what
    if isinstance(trouble, dns.tsig.PeerError | dns.tsig.BadSignature | dns.tsig.BadTime):
        return f"TSIG: {type(trouble).__name__}"
    text = str(trouble).rstrip(".")
    return text[:1].lower() + text[1:] or type(trouble).__name__
