"""Zone transfers (AXFR, RFC 5936): all records of a zone from one of its servers (a door to dnspython).

Guarantees: a transfer is whole or an error; its records, bytes and time are bounded. Does not know which servers a zone
has, nor what becomes of the records.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig

from p2pdns.addresses import Address, write_address
from p2pdns.cli.dnsclient import records_in, server_troubles
from p2pdns.dns.message import RR
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.errors import Unavailable, counted

TRANSFER_RECORDS_MAX = 100_000  # What a zone file may have, see dns/zonefile.
TSIG_HINT = "--tsig FILE: the key has name, algorithm and secret as at the server, and both clocks are right"
_TSIG_TROUBLES = (
    *(dns.tsig.BadSignature, dns.tsig.BadTime, dns.tsig.BadKey, dns.tsig.BadAlgorithm),
    dns.message.UnknownTSIGKey,
)
OWNER_HINT = "its owner can allow it (allow-transfer, provide-xfr); --by questions asks for the usual names instead"


def transfer(domain: Name, server: Address, *, timeout_s: float, key: dns.tsig.Key | None = None) -> tuple[RR, ...]:
    """Return all records of a zone, the SOA first and once; Unavailable where the server does not give all of them.

    With a key the request is signed, and so must be the first message and the last one of the server (RFC 8945 §5.3.1).
    """
    query = dns.message.make_query(dns.name.Name((*domain.labels, b"")), dns.rdatatype.AXFR, flags=0)
    if key is not None:
        query.use_tsig(key)
    expiration = time.time() + timeout_s  # dnspython reads this clock.
    place, records = write_address(server), list[RR]()
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    context: dns.tsig.HMACTSig | dns.tsig.GSSTSig | None = None
    with (
        server_troubles(server, f"no whole transfer within {timeout_s:g} s"),
        _tsig_troubles(place),
        socket.socket(family, socket.SOCK_STREAM) as sock,
    ):
        sock.settimeout(timeout_s)
        sock.connect(server)
        sock.setblocking(False)
        dns.query.send_tcp(sock, query, expiration)
        stream = _Stream(sock, expiration)
        try:
            while not _is_whole(records):
                reply = dns.message.from_wire(
                    stream.message(),
                    keyring=key,
                    request_mac=query.mac or b"",
                    tsig_ctx=context,
                    multi=True,
                    one_rr_per_rrset=True,
                )
                context = reply.tsig_ctx
                _check(query, reply, is_first=not records, place=place, hint=OWNER_HINT if key is None else TSIG_HINT)
                is_first = not records
                records += records_in(reply.answer)
                if key is not None and not reply.had_tsig and (is_first or _is_whole(records)):
                    raise Unavailable("the server does not sign the transfer", place=place, hint=TSIG_HINT)
                if records[0].rtype != Type.SOA or records[0].owner != domain:
                    raise Unavailable("the transfer does not begin with the SOA of the zone", place=place)
                if len(records) > TRANSFER_RECORDS_MAX:
                    what = f"more than {TRANSFER_RECORDS_MAX:,} records"
                    raise Unavailable(
                        what, place=place, hint="an item holds some 60; a zone like that stays where it is"
                    )
        except (EOFError, ConnectionResetError):
            what = "the server has closed the connection without an answer to the transfer"
            if records:
                what = f"the server has closed the connection in the middle of the transfer, after {_count(records)}"
            hint = OWNER_HINT if not records else "half a zone is not taken; try again, or another server"
            raise Unavailable(what, place=place, hint=hint) from None
    return tuple(records[:-1])


class _Stream:
    """The messages that come by a connection, until a time."""

    def __init__(self, sock: socket.socket, expiration: float) -> None:
        self._sock = sock
        self._expiration = expiration

    def message(self) -> bytes:
        """Return the next message; EOFError where the connection ends before it."""
        return self._exactly(int.from_bytes(self._exactly(2)))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            left_s = self._expiration - time.time()
            if left_s <= 0:
                raise dns.exception.Timeout
            self._sock.settimeout(left_s)
            try:
                part = self._sock.recv(count - len(data))
            except TimeoutError:
                raise dns.exception.Timeout from None
            if not part:
                raise EOFError
            data += part
        return data


@contextlib.contextmanager
def _tsig_troubles(place: str) -> Iterator[None]:
    """Raise Unavailable for a key that one side does not take."""
    try:
        yield
    except dns.tsig.PeerError as trouble:
        word = type(trouble).__name__.removeprefix("Peer")
        raise Unavailable(f"the server refuses the TSIG ({word})", place=place, hint=TSIG_HINT) from None
    except _TSIG_TROUBLES as trouble:
        what = f"the server's TSIG does not pass with this key ({type(trouble).__name__})"
        raise Unavailable(what, place=place, hint=TSIG_HINT) from None


def _is_whole(records: list[RR]) -> bool:
    # RFC 5936 §2.2: the SOA opens and closes it.
    return len(records) > 1 and records[-1].rtype == Type.SOA and records[-1].rdata == records[0].rdata


def _count(records: list[RR]) -> str:
    return counted(len(records), "record")


def _check(
    query: dns.message.Message, reply: dns.message.Message, *, is_first: bool, place: str, hint: str = OWNER_HINT
) -> None:
    """Raise Unavailable for a message that is no part of the transfer."""
    if reply.id != query.id or (reply.question and reply.question != query.question):
        raise Unavailable("an answer to another question", place=place, hint="is that the address of a DNS server?")
    if reply.rcode() != dns.rcode.NOERROR:
        word = dns.rcode.to_text(reply.rcode())
        what = f"the transfer is refused ({word})"
        if not is_first:
            what = f"the server has given the transfer up in the middle ({word})"
        raise Unavailable(what, place=place, hint=hint)
    if not reply.answer:
        raise Unavailable("a message of the transfer has no records", place=place, hint=OWNER_HINT)
