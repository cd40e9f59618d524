"""The questions of bench/conformance.py, each with what the RFCs want of any resolver.

A probe is one message over UDP, over TCP, or over both, or a little play over TCP. `wanted` names only what a
standard settles; where it leaves a choice, the probe is for comparing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import resolvers  # noqa: F401  (makes the helpers of the tests importable)

from tests.conformance import wire
from tests.conformance.wire import (
    AD,
    ANY,
    CD,
    CH,
    COOKIE,
    DO,
    HS,
    KEEPALIVE,
    NSID,
    PADDING,
    QR,
    RD,
    TC,
    Z,
    opt,
    option,
    query,
)

BOTH, UDP, TCP = ("udp", "tcp"), ("udp",), ("tcp",)
COOKIE_OF_CLIENT = b"\x01\x23\x45\x67\x89\xab\xcd\xef"

Wanted = Mapping[str, object]


@dataclass(frozen=True)
class Probe:
    """One question: its name in the table, its bytes, the transports it goes over, and what must come back."""

    name: str
    message: bytes
    wanted: Wanted = field(default_factory=dict)
    transports: tuple[str, ...] = BOTH
    play: str = ""
    has_odd_rdata: bool = False


def ok(count: int, **more: object) -> Wanted:
    """Return the wish for an answer of so many RRs."""
    return {"rcode": "NOERROR", "answers": count, "question": "echoed", **more}


def error(rcode: str, **more: object) -> Wanted:
    """Return the wish for an rcode without data."""
    return {"rcode": rcode, "answers": 0, **more}


WWW = "www.example"
ONE = wire.question(WWW)
LONGEST = wire.labels(b"x" * 63, b"x" * 63, b"x" * 63, b"x" * 61)
TSIG = wire.record(wire.name("key"), wire.TSIG, wire.name("hmac-sha256") + bytes(16), ttl=0, rclass=255)
STRAY = wire.record(b"\xc0\x0c", wire.A, bytes([192, 0, 2, 1]))

NORMAL = [
    Probe("a", query(WWW), ok(1, flags="RD RA", edns="none")),
    Probe("aaaa", query(WWW, wire.AAAA), ok(1)),
    Probe("mx", query("example", wire.MX), ok(1)),
    Probe("srv", query("_s._tcp.example", wire.SRV), ok(1)),
    Probe("https", query("web.example", wire.HTTPS), ok(1)),
    Probe("many", query("many.example"), ok(3)),
    Probe("root soa", query("", wire.SOA), ok(1)),
    Probe("alias", query("alias.example"), ok(2)),
    Probe("chain", query("chain.example"), ok(3)),
    Probe("chain cname", query("chain.example", wire.CNAME), ok(1)),
    Probe("alias nodata", query("alias.example", wire.TXT), ok(1)),
    Probe("alias to nowhere", query("dead.example"), {"rcode": "NXDOMAIN", "answers": 1}),
    Probe("alias loop", query("loop.example"), {}),
    Probe("dname", query("www.tree.example"), ok(3)),
    Probe("wildcard", query("a.b.wild.example"), ok(1)),
    Probe("nxdomain", query("nosuch.example"), error("NXDOMAIN")),
    Probe("nxdomain below nxdomain", query("a.nosuch.example"), error("NXDOMAIN")),
    Probe("nodata", query(WWW, wire.TXT), ok(0)),
    Probe("empty non-terminal", query("ent.example"), ok(0)),
    Probe("ttl zero", query("zero.example"), ok(1)),
    Probe("unknown type with data", query("unknown.example", 65_280), ok(1)),
    Probe("unknown type", query(WWW, 65_281), ok(0)),
    Probe("null type", query(WWW, 10), ok(0)),
    # RDATA that libraries refuse and resolvers pass on (RFC 3597).
    Probe("https alias with parameters", query("svcalias.example", wire.HTTPS), ok(1), has_odd_rdata=True),
    Probe("https with another ech", query("echform.example", wire.HTTPS), ok(1), has_odd_rdata=True),
    Probe("loc of version 1", query("loc1.example", 29), ok(1), has_odd_rdata=True),
    Probe("amtrelay of type 4", query("amt4.example", 260), ok(1), has_odd_rdata=True),
    Probe("zonemd of scheme 0", query("zonemd0.example", 63), ok(1), has_odd_rdata=True),
    Probe("browser canary", query("use-application-dns.net"), error("NXDOMAIN")),
    Probe("binary label", query(wire.labels(b"\x00\xff", b"example")), ok(1)),
    Probe("dot in a label", query(wire.labels(b"a.b", b"example")), ok(1)),
    Probe("longest name", query(LONGEST), error("NXDOMAIN", question="echoed")),
    Probe("mixed case", query("wWw.ExAmPlE"), ok(1)),
    Probe("mixed case nxdomain", query("nOsUcH.eXaMpLe"), error("NXDOMAIN", question="echoed")),
    Probe("any", query(WWW, ANY), {"rcode": "NOERROR", "question": "echoed"}),
    Probe("any nxdomain", query("nosuch.example", ANY), error("NXDOMAIN")),
    Probe("ds", query("example", wire.DS), ok(0)),
]

HEADERS = [
    Probe("rd clear", query(WWW, flags=0), {"question": "echoed"}),
    Probe("ad set", query(WWW, flags=RD | AD), ok(1, flags="RD RA")),
    Probe("cd set", query(WWW, flags=RD | CD), ok(1, flags="RD RA CD")),
    Probe("ad and cd", query(WWW, flags=RD | AD | CD), ok(1, flags="RD RA CD")),
    Probe("z set", query(WWW, flags=RD | Z), ok(1, flags="RD RA")),
    Probe("aa set", query(WWW, flags=RD | wire.AA), ok(1, flags="RD RA")),
    Probe("tc set", query(WWW, flags=RD | TC), {}),
    Probe("ra set", query(WWW, flags=RD | wire.RA), ok(1)),
    Probe("rcode set", query(WWW, flags=RD | 3), ok(1)),
    Probe("id zero", query(WWW, number=0), ok(1)),
    Probe("response", query(WWW, flags=QR | RD), {"outcome": "silence"}, UDP),
    # RFC 7766 leaves it to the server; nothing on a connection that begins so is meant for it.
    Probe("response as the first message", query(WWW, flags=QR | RD), {"outcome": "closed"}, TCP),
    *(Probe(f"opcode {number}", query(WWW, flags=number << 11), error("NOTIMP")) for number in (1, 2, 3, 6, 7, 15)),
    Probe("notify", query(WWW, wire.SOA, flags=4 << 11), {}),
    Probe("update", query(WWW, wire.SOA, flags=5 << 11), {}),
    Probe("no question", query(questions=[]), error("FORMERR")),
    Probe("two questions", query(questions=[ONE, ONE]), error("FORMERR")),
    Probe(
        "count of two, one question",
        query(questions=[ONE])[:5] + b"\x02" + query(questions=[ONE])[6:],
        error("FORMERR"),
    ),
    Probe("answer in a query", query(WWW, answer=[STRAY]), {}),
    Probe("authority in a query", query(WWW, authority=[STRAY]), {}),
    Probe("additional in a query", query(WWW, additional=[STRAY]), {}),
    Probe("tsig of an unknown key", query(WWW, additional=[TSIG]), {}),
    Probe("trailing bytes", query(WWW) + b"\x00\x00\x00", {}),
    Probe("header alone, count of one", query(questions=[])[:4] + b"\x00\x01" + bytes(6), error("FORMERR")),
    Probe("question cut", query(WWW)[:-2], error("FORMERR")),
    Probe("pointer in the question", query(questions=[b"\x03www\xc0\x0c\x00\x01\x00\x01"]), error("FORMERR")),
    Probe("label of 64", query(questions=[b"\x40" + b"x" * 64 + b"\x00\x00\x01\x00\x01"]), error("FORMERR")),
    Probe("name of 257", query(questions=[wire.question(wire.labels(*[b"x" * 63] * 4))]), error("FORMERR")),
    Probe("eleven bytes", query(WWW)[:11], {"outcome": "silence"}, UDP),
]

CLASSES = [
    Probe("version.bind", query("version.bind", wire.TXT, qclass=CH), ok(1)),
    Probe("id.server", query("id.server", wire.TXT, qclass=CH), ok(1)),
    Probe("version.bind a", query("version.bind", wire.A, qclass=CH), {}),
    Probe("other name of chaos", query("nothing.bind", wire.TXT, qclass=CH), {}),
    Probe("hesiod", query(WWW, qclass=HS), {}),
    Probe("class any", query(WWW, qclass=255), {}),
    Probe("class none", query(WWW, qclass=254), {}),
    Probe("unknown class", query(WWW, qclass=65_280), {}),
    Probe("axfr", query("example", wire.AXFR), {}),
    Probe("ixfr", query("example", wire.IXFR), {}),
    Probe("type opt", query(WWW, wire.OPT), {}),
    Probe("type tsig", query(WWW, wire.TSIG), {}),
    Probe("type tkey", query(WWW, wire.TKEY), {}),
    Probe("type nxname", query(WWW, wire.NXNAME), {}),
    Probe("type maila", query(WWW, 254), {}),
    Probe("type zero", query(WWW, 0), {}),
    Probe("localhost", query("localhost"), ok(1)),
    Probe("invalid", query("x.invalid"), error("NXDOMAIN")),
    Probe("onion", query("x.onion"), error("NXDOMAIN")),
    Probe("alt", query("x.alt"), error("NXDOMAIN")),
    Probe("private reverse", query("1.1.168.192.in-addr.arpa", wire.PTR), error("NXDOMAIN")),
    Probe("loopback reverse", query("1.0.0.127.in-addr.arpa", wire.PTR), ok(1)),
    Probe("home.arpa", query("x.home.arpa"), error("NXDOMAIN")),
    Probe("designated resolver", query("_dns.resolver.arpa", wire.SVCB), ok(0)),
    Probe("bare alt", query("alt"), {}),
    Probe("bare internal", query("internal"), {}),
    Probe("suffix", query("p2p.alt", wire.SOA), {}),
]


def edns(name: str, *options: bytes, size: int = 1232, version: int = 0, flags: int = 0, **more: Wanted) -> Probe:
    """Return a probe for an address with an OPT."""
    wanted = more.get("wanted", ok(1, edns="0", options=""))
    return Probe(name, query(WWW, additional=[opt(size, *options, version=version, flags=flags)]), wanted)


BADVERS = {"rcode": "BADVERS", "edns": "0"}
SUBNET = option(8, b"\x00\x01\x18\x00\xc0\x00\x02")

EDNS = [
    edns("edns"),
    edns("edns do", flags=DO, wanted=ok(1, edns="0 DO")),
    edns("edns unknown flags", flags=0x7FFF, wanted=ok(1, edns="0")),
    edns("edns version 1", version=1, wanted=BADVERS),
    edns("edns version 255", version=255, wanted=BADVERS),
    edns("edns version 1, unknown option", option(65_001, b"x"), version=1, wanted=BADVERS),
    edns("edns unknown option", option(65_001, b"x")),
    edns("edns padding", option(PADDING, bytes(20)), wanted=ok(1, edns="0")),
    edns("edns nsid", option(NSID), wanted=ok(1, edns="0")),
    edns("edns client subnet", SUBNET, wanted=ok(1, edns="0")),
    edns("edns size 0", size=0),
    edns("edns size 65535", size=65_535),
    Probe("edns nxdomain", query("nosuch.example", additional=[opt()]), error("NXDOMAIN", edns="0")),
    Probe("edns chaos", query("version.bind", wire.TXT, qclass=CH, additional=[opt()]), ok(1, edns="0")),
    Probe("edns opcode 3", query(WWW, flags=3 << 11, additional=[opt()]), error("NOTIMP")),
    Probe("edns two opt", query(WWW, additional=[opt(), opt()]), error("FORMERR")),
    Probe("edns opt as answer", query(WWW, answer=[opt()]), {}),
    Probe("edns opt with an owner", query(WWW, additional=[opt(owner=b"\x01x\x00")]), error("FORMERR")),
    Probe("edns option cut", query(WWW, additional=[opt(1232, b"\x00\x03\x00\x09ab")]), error("FORMERR")),
    Probe("edns two questions", query(questions=[ONE, ONE], additional=[opt()]), error("FORMERR")),
    Probe("do, ad and cd", query(WWW, flags=RD | AD | CD, additional=[opt(1232, flags=DO)]), ok(1, flags="RD RA CD")),
    Probe("long, no edns", query("long.example", wire.TXT), {"rcode": "NOERROR", "flags": "TC RD RA"}, UDP),
    Probe("long, edns 512", query("long.example", wire.TXT, additional=[opt(512)]), {"flags": "TC RD RA"}, UDP),
    Probe("long, edns 1232", query("long.example", wire.TXT, additional=[opt()]), ok(3), UDP),
    Probe("big, edns 1232", query("big.example", wire.TXT, additional=[opt()]), {"flags": "TC RD RA"}, UDP),
    Probe("big, edns 4096", query("big.example", wire.TXT, additional=[opt(4096)]), {"flags": "TC RD RA"}, UDP),
    Probe("big over tcp", query("big.example", wire.TXT), ok(20), TCP),
    Probe("big over tcp, edns 512", query("big.example", wire.TXT, additional=[opt(512)]), ok(20, edns="0"), TCP),
]


def cookie(name: str, data: bytes, **wanted: object) -> Probe:
    """Return a probe with a cookie."""
    return Probe(name, query(WWW, additional=[opt(1232, option(COOKIE, data))]), wanted)


COOKIES = [
    cookie("cookie of the client", COOKIE_OF_CLIENT, **ok(1)),
    cookie("cookie unknown to the server", COOKIE_OF_CLIENT + bytes(16)),
    cookie("cookie of 7", bytes(7), **error("FORMERR")),
    cookie("cookie of 15", bytes(15), **error("FORMERR")),
    cookie("cookie of 41", bytes(41), **error("FORMERR")),
    Probe(
        "cookie without question",
        query(questions=[], additional=[opt(1232, option(COOKIE, COOKIE_OF_CLIENT))]),
        {"rcode": "NOERROR", "options": "10"},
    ),
]

STREAMS = [
    Probe("keepalive", query(WWW, additional=[opt(1232, option(KEEPALIVE))]), ok(1, options="11"), TCP),
    Probe("keepalive over udp", query(WWW, additional=[opt(1232, option(KEEPALIVE))]), ok(1, options=""), UDP),
    Probe("keepalive with a time", query(WWW, additional=[opt(1232, option(KEEPALIVE, b"\x00\x64"))]), {}, TCP),
    Probe("pipelined", query(WWW), {"outcome": "20 answers"}, TCP, play="pipelined"),
    Probe("byte by byte", query(WWW), ok(1), TCP, play="byte by byte"),
    Probe("one after another", query(WWW), {"outcome": "5 answers"}, TCP, play="one after another"),
    Probe("half closed", query(WWW), ok(1), TCP, play="half closed"),
    Probe("error, then a question", query(questions=[]), {}, TCP, play="then a question"),
    Probe("length of zero", b"", {"outcome": "closed"}, TCP),
    Probe("length of eleven", query(WWW)[:11], {"outcome": "closed"}, TCP),
]

PROBES = [*NORMAL, *HEADERS, *CLASSES, *EDNS, *COOKIES, *STREAMS]
