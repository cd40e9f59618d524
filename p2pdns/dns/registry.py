"""The numbers of the DNS: RR types, classes, response codes, header flags, EDNS options, extended errors.

Guarantees: each number stands here once, under its name in the registry of IANA ("Domain Name System (DNS)
Parameters"), and nowhere else in the package. Imports nothing of the project and no library, so the front, which loads
no DNS library, uses it too. Does not know names, messages, or what a number means for an answer.

Python 3.11 takes 0.2 µs to look up a member of an enumeration, and a query needs some fifty. So the modules of the
front that every query passes bind the members they use to names of their own.
"""

from __future__ import annotations

from enum import IntEnum

DNS_PORT = 53
UDP_SIZE_BYTES = 1232  # A message of this size is fragmented on no path (the DNS flag day of 2020).
UDP_SIZE_BYTES_MIN = 512  # RFC 1035 §4.2.1; for clients that name no size or a smaller one (RFC 6891 §6.2.3).

Explanations = tuple[tuple[int, str], ...]
"""The extended errors of one response (RFC 8914): the code and the text of each."""


class Type(IntEnum):
    """RR types that have a name here (RFC 6895 §3.1); any other code is a plain int, written TYPE12345 (RFC 3597)."""

    A, NS, MD, MF, CNAME, SOA, MB, MG, MR, NULL = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    WKS, PTR, HINFO, MINFO, MX, TXT, RP, AFSDB, X25, ISDN = 11, 12, 13, 14, 15, 16, 17, 18, 19, 20
    RT, NSAP, SIG, KEY, PX, GPOS, AAAA, LOC, NXT, SRV = 21, 22, 24, 25, 26, 27, 28, 29, 30, 33
    NAPTR, KX, CERT, A6, DNAME, OPT, APL, DS, SSHFP, IPSECKEY = 35, 36, 37, 38, 39, 41, 42, 43, 44, 45
    RRSIG, NSEC, DNSKEY, DHCID, NSEC3, NSEC3PARAM, TLSA, SMIMEA = 46, 47, 48, 49, 50, 51, 52, 53
    HIP, CDS, CDNSKEY, OPENPGPKEY, CSYNC, ZONEMD, SVCB, HTTPS = 55, 59, 60, 61, 62, 63, 64, 65
    SPF, NID, L32, L64, LP, EUI48, EUI64 = 99, 104, 105, 106, 107, 108, 109
    TKEY, TSIG, IXFR, AXFR, MAILB, MAILA, ANY = 249, 250, 251, 252, 253, 254, 255
    URI, CAA, AMTRELAY, DLV = 256, 257, 260, 32769


NXNAME = 128
"""A type that no record has and no question may ask for (RFC 9824). It is no `Type`, so no text is read as it."""


DIRECTORY, COMMITMENT = 65310, 65311
OURS_ALONE = (DIRECTORY, COMMITMENT)
"""Private types that p2pdns alone makes: the directory of a divided zone, and the commitment to a next key. They are
refused wherever records come from a user or another server. They are about the zone, and are no content of it."""


class Class(IntEnum):
    """Classes (RFC 6895 §3.2)."""

    IN, CH, NONE, ANY = 1, 3, 254, 255


class Rcode(IntEnum):
    """Response codes (RFC 6895 §2.3); those above 15 need an OPT (RFC 6891 §6.1.3)."""

    NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, YXDOMAIN = 0, 1, 2, 3, 4, 5, 6
    YXRRSET, NXRRSET, NOTAUTH, NOTZONE, BADVERS, BADCOOKIE = 7, 8, 9, 10, 16, 23


class Flag(IntEnum):
    """Bits of the second word of a header (RFC 1035 §4.1.1, RFC 4035 §3 for AD and CD)."""

    QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010


OPCODE_MASK = 0x7800  # In the second word of a header.
RCODE_MASK = 0x000F
DO_FLAG = 0x8000  # In the TTL field of an OPT (RFC 3225 §3).


class Option(IntEnum):
    """EDNS options (RFC 6891 §6.1.2): cookie (RFC 7873), TCP keepalive (RFC 7828), extended error (RFC 8914)."""

    COOKIE, KEEPALIVE, EDE = 10, 11, 15


class Ede(IntEnum):
    """The extended errors that a response of ours gives (RFC 8914 §4, and 30 by RFC 9824)."""

    OTHER = 0
    STALE_ANSWER = 3
    CACHED_ERROR = 13
    NOT_READY = 14
    BLOCKED = 15
    PROHIBITED = 18
    STALE_NXDOMAIN_ANSWER = 19
    NOT_AUTHORITATIVE = 20
    NOT_SUPPORTED = 21
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23
    INVALID_QUERY_TYPE = 30
