"""Zones that our side publishes to strangers: each has a type, a size or a TTL of its own to get wrong."""

from __future__ import annotations

_LONG = " ".join(f'"{letter * 200}"' for letter in "abcd")

ZONES: dict[str, str] = {
    "A": "www A 192.0.2.1",
    "AAAA": "www AAAA 2001:db8::1",
    "CNAME": "www CNAME www.example.com.",
    "DNAME": "old DNAME new.example.com.",
    "MX": "@ MX 10 mail\nmail A 192.0.2.2",
    "TXT": '@ TXT "v=1" "" "two words"',
    "TXT, every kind of byte": r'@ TXT "\000\034\092\127\255"',
    "TXT, 800 bytes": f"@ TXT {_LONG}",
    "SRV": "_sip._udp SRV 1 2 5060 sip.example.com.",
    "NS, a delegation": "child NS ns.example.com.",
    "SOA": "@ SOA ns.example.com. root.example.com. 7 3600 600 2592000 60",
    "HTTPS": "@ HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.3",
    "SVCB, alias": "_dns SVCB 0 svc.example.com.",
    "CAA": '@ CAA 128 issue "ca.example.net"',
    "PTR": "7.2.0.192 PTR www.example.com.",
    "NAPTR": 'e NAPTR 1 2 "U" "E2U+sip" "!^.*$!sip:info@example.com!" .',
    "TLSA": "_443._tcp TLSA 3 1 1 " + "ab" * 32,
    "SSHFP": "host SSHFP 4 2 " + "cd" * 32,
    "wildcard": "* A 192.0.2.4\n*.deep TXT wild",
    "TTL 0": "now 0 A 192.0.2.5",
    "TTL of years": "ever 2147483647 A 192.0.2.6",
    "type of no name": r"odd TYPE65280 \# 3 010203",
    "36 names": "\n".join(f"host-{n} A 192.0.2.{n}" for n in range(36)),
    "996 bytes": "",  # Made to measure below.
}
FILLED_BYTES = 996 - 12 - 54 - 10  # Header, owner with the key, fixed fields.


def filled() -> str:
    """Return the zone whose packet has 996 bytes: with its bencoded length 1000, the most that BEP 44 allows."""
    whole, left = divmod(FILLED_BYTES, 256)
    strings = ["z" * 255] * whole + ["z" * (left - 1)]
    return "@ TXT " + " ".join(f'"{text}"' for text in strings)


ZONES["996 bytes"] = filled()
