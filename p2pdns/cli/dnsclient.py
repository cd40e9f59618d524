"""A DNS client: sends one question to one server and returns the whole response (the door to dnspython for cli).

`ask` returns texts to show, `ask_for_records` records to work with. Guarantees: a response to another question is never
returned; a timeout, a closed port and a broken response are `Unavailable` with the server's address. Does not know zone
keys: p2pdns is a DNS server like any other here.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update

from p2pdns.addresses import Address, write_address
from p2pdns.dns.message import RR, Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import UDP_SIZE_BYTES
from p2pdns.errors import Unavailable, UsageError, did_you_mean, words_of
from p2pdns.moving.gathering import ServerReply

ANSWER_TIMEOUT_S = 6.0  # A resolver says SERVFAIL, with the reason, after 4 s; that must come before the timeout.
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # A server that listens on all addresses is asked on loopback.


@dataclass(frozen=True)
class Record:
    """One RR in text form."""

    owner: str
    ttl: int
    type: str
    data: str

    def __str__(self) -> str:
        return f"{self.owner} {self.ttl} IN {self.type} {self.data}"


@dataclass(frozen=True)
class ExtendedError:
    """An extended DNS error (RFC 8914)."""

    code: int
    meaning: str
    text: str

    def __str__(self) -> str:
        head = f"EDE {self.code} ({self.meaning})"
        return f"{head}: {self.text}" if self.text else head


@dataclass(frozen=True)
class DnsReply:
    """The response of a server, and how long it took."""

    name: str
    type: str
    server: str
    transport: str
    rcode: str
    flags: tuple[str, ...]
    answer: tuple[Record, ...]
    authority: tuple[Record, ...]
    extended_errors: tuple[ExtendedError, ...]
    ms: float

    @property
    def is_truncated(self) -> bool:
        return "tc" in self.flags


# The types that zone files can have or that people often ask for; completion offers them.
USUAL_TYPES = (
    *("A", "AAAA", "CAA", "CNAME", "DNAME", "HTTPS", "MX", "NAPTR", "NS", "PTR"),
    *("SOA", "SRV", "SSHFP", "SVCB", "TLSA", "TXT", "URI", "ANY"),
)


def is_type(text: str) -> bool:
    """Return whether a word names a record type."""
    try:
        dns.rdatatype.from_text(text)
    except (dns.rdatatype.UnknownRdatatype, ValueError):
        return False
    return True


def read_type(text: str) -> str:
    """Return the usual name of a record type, for `aaaa`, `AAAA` or `TYPE28`."""
    if not is_type(text):
        hint = did_you_mean(text.upper(), USUAL_TYPES) or "a type is a word as AAAA or TXT, or TYPE and a number"
        raise UsageError("not a record type", place=f'"{text}"', hint=hint)
    return dns.rdatatype.to_text(dns.rdatatype.from_text(text))


def _read_name(text: str) -> dns.name.Name:
    hint = "a name is labels of 1 to 63 characters with dots between, 253 in all"
    try:
        return dns.name.from_text(text)
    except dns.exception.DNSException as trouble:
        what = f"not a name: {str(trouble).rstrip('.').lower()}"
        raise UsageError(what, place=f'"{text}"', hint=hint) from None
    except UnicodeError:
        raise UsageError("not a name", place=f'"{text}"', hint=hint) from None


def _records(section: list[dns.rrset.RRset]) -> tuple[Record, ...]:
    return tuple(
        Record(rrset.name.to_text(), rrset.ttl, dns.rdatatype.to_text(rrset.rdtype), rdata.to_text())
        for rrset in section
        for rdata in rrset
    )


def meaning_of(code: int) -> str:
    """Return the name that RFC 8914 gives an extended error.

    >>> meaning_of(22)
    'no reachable authority'
    """
    try:
        return dns.edns.EDECode(code).name.replace("_", " ").lower()
    except ValueError:
        return "unknown"


def _extended_errors(reply: dns.message.Message) -> tuple[ExtendedError, ...]:
    return tuple(
        ExtendedError(int(option.code), meaning_of(option.code), option.text or "")
        for option in reply.options
        if isinstance(option, dns.edns.EDEOption)
    )


def _exchange_udp(query: dns.message.Message, server: Address, timeout_s: float) -> dns.message.Message:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    # A connected socket reports a closed port at once; an unconnected one would wait until the timeout.
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(server)
        host, port = server
        return dns.query.udp(query, host, timeout_s, port, sock=sock, ignore_unexpected=True, ignore_errors=True)


def ask(
    name: str,
    rtype: str,
    server: Address,
    *,
    transport: str = "auto",
    udp_size_bytes: int = UDP_SIZE_BYTES,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> DnsReply:
    """Return the server's response. `auto` is UDP, and TCP if that was truncated; `udp` and `tcp` are nothing else."""
    query = dns.message.make_query(
        _read_name(name), read_type(rtype), use_edns=0, payload=udp_size_bytes, flags=dns.flags.RD | dns.flags.AD
    )
    place = write_address(server)
    began = time.perf_counter()
    reply, used = _exchange(query, server, transport, timeout_s)
    elapsed_ms = (time.perf_counter() - began) * 1000
    question = reply.question[0] if reply.question else query.question[0]
    return DnsReply(
        name=question.name.to_text(),
        type=dns.rdatatype.to_text(question.rdtype),
        server=place,
        transport=used,
        rcode=dns.rcode.to_text(reply.rcode()),
        flags=tuple(dns.flags.to_text(reply.flags).lower().split()),
        answer=_records(reply.answer),
        authority=_records(reply.authority),
        extended_errors=_extended_errors(reply),
        ms=elapsed_ms,
    )


def _exchange(
    query: dns.message.Message, server: Address, transport: str, timeout_s: float
) -> tuple[dns.message.Message, str]:
    """Return the response to a query, and whether it came over `udp` or `tcp`; Unavailable where there is none."""
    used = "tcp" if transport == "tcp" else "udp"
    with server_troubles(server, f"no answer within {timeout_s:g} s"):
        if used == "udp":
            reply = _exchange_udp(query, server, timeout_s)
            used = "tcp" if transport == "auto" and reply.flags & dns.flags.TC else "udp"
        if used == "tcp":
            reply = dns.query.tcp(query, server[0], timeout_s, server[1])
    return reply, used


@contextmanager
def server_troubles(server: Address, too_late: str) -> Iterator[None]:
    """Raise Unavailable, with the address of the server, for what can go wrong with it."""
    place = write_address(server)
    try:
        yield
    except dns.exception.Timeout:
        hint = "is that the address of a DNS server?"
        raise Unavailable(too_late, place=place, hint=hint) from None
    except ConnectionRefusedError:
        hint = 'start a daemon with "p2pdns serve", or name its address with @ADDR:PORT'
        raise Unavailable("nobody listens there", place=place, hint=hint) from None
    except OSError as trouble:
        hint = "is the address one that this machine can reach?"
        raise Unavailable(words_of(trouble), place=place, hint=hint) from None
    except (dns.exception.DNSException, EOFError) as trouble:
        what = f"not a DNS reply to the question ({type(trouble).__name__})"
        raise Unavailable(what, place=place, hint="is that the address of a DNS server?") from None


def update(zone: str, record: tuple[str, int, str, str], server: Address, tsig_name: str, tsig_secret: bytes) -> str:
    """Have a server add a record (owner, TTL, type, data) to a zone, signed by TSIG (RFC 2136); return the rcode."""
    key = dns.tsig.Key(tsig_name, tsig_secret, dns.tsig.HMAC_SHA256)
    message = dns.update.UpdateMessage(f"{zone}.", keyring=key)
    owner, ttl, rtype, data = record
    message.add(owner, ttl, rtype, data)
    host, port = server
    with server_troubles(server, f"no answer within {ANSWER_TIMEOUT_S:g} s"):
        return dns.rcode.to_text(dns.query.tcp(message, host, timeout=ANSWER_TIMEOUT_S, port=port).rcode())


def ask_for_records(question: Question, server: Address, *, timeout_s: float = ANSWER_TIMEOUT_S) -> ServerReply:
    """Return the records of the server's response, over TCP if it does not fit into UDP; Unavailable without one."""
    name, kind = dns.name.Name((*question.name.labels, b"")), dns.rdatatype.RdataType.make(question.rtype)
    query = dns.message.make_query(name, kind, use_edns=0, payload=UDP_SIZE_BYTES, flags=dns.flags.RD)
    reply, _ = _exchange(query, server, "auto", timeout_s)
    return ServerReply(int(reply.rcode()), tuple(records_in(reply.answer)), tuple(records_in(reply.authority)))


def records_in(section: list[dns.rrset.RRset]) -> Iterator[RR]:
    """Yield the records of a section, names uncompressed."""
    for rrset in section:
        for rdata in rrset:
            raw = rdata.to_wire()
            assert raw is not None, "without a file to write to, it returns the bytes"
            yield RR(Name(rrset.name.labels[:-1]), int(rrset.rdtype), int(rrset.rdclass), int(rrset.ttl), raw)
