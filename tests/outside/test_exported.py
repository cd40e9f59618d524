"""What `export` writes is taken by the programs it is for, which answer with the zone; BIND gives `import` a zone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.name
import dns.query
import dns.rcode
import pytest

from p2pdns.addresses import Address
from p2pdns.cli.dnsclient import records_in
from p2pdns.cli.transfer import transfer
from p2pdns.dns.message import Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zonefile import reader
from p2pdns.moving.formats import export
from p2pdns.moving.formats.lines import plain_name
from tests.outside.forwarders import NAMED, PROGRAMS, SYSTEM_PATH, Program, forwarding

ASK_S_MAX = 20.0  # A guard only.
# The question by which `forwarding` sees that a program is ready; dnsmasq would forward it.
READY = {"dnsmasq": "host-record=localhost,127.0.0.1\n"}
NOBODY = ("127.0.0.1", 9)  # Nothing is forwarded: all questions are about the zone.
LAN = Name.read("alice.lan")
TEXT = """
$TTL 300
@ A 192.0.2.80
@ AAAA 2001:db8::80
@ MX 10 mail
@ TXT "v=spf1 -all" "a, b; c"
www CNAME @
twice CNAME www
mail A 192.0.2.25
mail A 192.0.2.26
_imaps._tcp SRV 0 1 993 mail
h HTTPS 1 . alpn=h2 ipv4hint=192.0.2.80
@ CAA 0 issue "ca.example"
x TYPE65280 \\# 2 6162
*.any A 192.0.2.7
out CNAME www.example.net.
"""
# Strings and names that would end a line, a string or a comment, and then begin an option of their own.
HOSTILE = [
    b"' \n    local-data: 'evil.alice.lan. A 192.0.2.66",
    b'"\nhost-record=evil.alice.lan,192.0.2.66',
    b"\n192.0.2.66 evil.alice.lan\n#",
    b'it\'s "quoted" \\ # \0 \xff',
    b"x" * 255,
]


def zone() -> Zone:
    """Return a zone of every kind of record, and of what a stranger would put into one."""
    rrsets = list(reader.reading(TEXT, apex=LAN, path="zone").rrsets)
    for number, raw in enumerate(HOSTILE):
        rrsets.append(RRset(LAN.child(b"t%d" % number), Type.TXT, 300, (bytes([len(raw)]) + raw,)))
        rrsets.append(RRset(LAN.child(raw[:63]), Type.A, 300, (bytes([192, 0, 2, 9]),)))
    # So long that a comment about it would be two lines to dnsmasq, the second of which is an option.
    cut = b"a" * 20 + b"\nhost-record=evil.alice.lan,192.0.2.66"
    long = Name((cut[:63], cut[:63], *LAN.labels))
    rrsets.append(RRset(long, Type.NS, 300, (LAN.wire(),)))
    return Zone.of(LAN, rrsets, 0)


def _outside(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.outside)


@pytest.fixture(params=["unbound", _outside("dnsmasq")])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Address]:
    """Yield where a program answers that has read the zone in its form."""
    options = READY.get(request.param, "") + export(zone(), request.param, ["x"]).text
    with forwarding(request.param, NOBODY, tmp_path / "it", options=options) as at:
        yield at


def asked(address: Address, name: Name, rtype: int) -> tuple[int, set[bytes]]:
    """Return the rcode and the data of the type in an answer."""
    query = dns.message.make_query(dns.name.Name((*name.labels, b"")), dns.rdatatype.RdataType.make(rtype))
    reply, _ = dns.query.udp_with_fallback(query, address[0], ASK_S_MAX, address[1])
    return int(reply.rcode()), {record.rdata for record in records_in(reply.answer) if record.rtype == rtype}


def test_the_program_answers_with_the_zone(server: Address, request: pytest.FixtureRequest) -> None:
    wanted, unsaid = zone(), 0
    is_dnsmasq = "dnsmasq" in request.node.name
    for owner, rtype in wanted.rrsets:
        if (
            owner.is_wildcard
            or rtype == Type.NS
            or (is_dnsmasq and (plain_name(owner) is None or owner == LAN.child(b"out")))
        ):
            unsaid += 1
            continue
        types = (Type.A, Type.AAAA) if rtype == Type.CNAME and owner != LAN.child(b"out") else (rtype,)
        for kind in types:
            answer = wanted.answer(Question(owner, kind)).answer
            data = {rdata for rrset in answer if rrset.rtype == kind for rdata in rrset.rdatas}
            assert data, (owner, kind)
            assert asked(server, owner, kind) == (dns.rcode.NOERROR, data), (owner, kind)
    assert unsaid == len(export(wanted, "dnsmasq" if is_dnsmasq else "unbound", []).unsaid)


def test_no_name_got_in_by_the_data_of_another(server: Address) -> None:
    assert asked(server, LAN.child(b"evil"), Type.A) == (dns.rcode.NXDOMAIN, set())


def test_the_checker_of_unbound_takes_the_text(tmp_path: Path) -> None:
    path = shutil.which("unbound-checkconf", path=SYSTEM_PATH)
    assert path, "it comes with unbound, which make test installs"
    (tmp_path / "unbound.conf").write_text(export(zone(), "unbound", []).text)
    done = subprocess.run([path, tmp_path / "unbound.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.outside
def test_the_checker_of_dnsmasq_takes_the_text(tmp_path: Path) -> None:
    path = shutil.which("dnsmasq", path=SYSTEM_PATH)
    assert path, "make outside installs it"
    (tmp_path / "dnsmasq.conf").write_text(export(zone(), "dnsmasq", []).text)
    words = [path, "--test", f"--conf-file={tmp_path / 'dnsmasq.conf'}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.outside
def test_bind_transfers_a_zone_to_us(tmp_path: Path) -> None:
    (tmp_path / "alice.zone").write_text(f"$TTL 300\n@ SOA ns hostmaster 7 7200 3600 1209600 300\n@ NS mail\n{TEXT}")
    zone_block = (
        f'zone "alice.lan" {{{{ type primary; file "{tmp_path}/alice.zone"; allow-transfer {{{{ any; }}}}; }}}};'
    )
    config = f"{NAMED}\n{zone_block}\n"
    program = PROGRAMS["BIND"]
    with forwarding("BIND", NOBODY, tmp_path / "it", program=Program(program.command, config, program.arguments)) as at:
        records = transfer(LAN, at, timeout_s=ASK_S_MAX)
    assert {(record.owner, record.rtype) for record in records} == {
        *(
            (owner, rtype)
            for owner, rtype in Zone.of(LAN, reader.reading(TEXT, apex=LAN, path="zone").rrsets, 0).rrsets
        ),
        (LAN, Type.SOA),
        (LAN, Type.NS),
    }
