"""RFC 4035: a client behind us that validates for itself gets all that it needs; the client is delv, of BIND.

A signed root of our own at NSD is the daemon's upstream. delv is told its key, asks the daemon alone, over UDP and TCP,
and says whether the signatures hold. What is proven here is that nothing on the way was lost, added or changed.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pdns.addresses import Address, read_address
from p2pdns.demo.swarm import Swarm
from tests.live.front_process import GUARD_S
from tests.oracle.nsd import running_nsd

DELV = shutil.which("delv")
DAY_S = 86_400
ZONE = """$TTL 300
.              SOA   a.root. host.root. 1 3600 600 86400 60
.              NS    a.root.
a.root.        A     127.0.0.1
www.example.   A     192.0.2.80
www.example.   AAAA  2001:db8::80
alias.example. CNAME www.example.
tree.example.  DNAME target.example.
www.target.example. A 192.0.2.8
*.wild.example. TXT  "made"
x.ent.example. TXT   "below"
www.example.   TYPE65280 \\# 5 C00C00FF41
""" + "".join(f'big.example. TXT "{number:0200d}"\n' for number in range(20))


@dataclass(frozen=True)
class Validating:
    """The daemon's address, and the files with the right anchor and with a wrong one."""

    address: Address
    anchors: Path
    wrong_anchors: Path

    def ask(self, *words: str, anchors: Path | None = None) -> str:
        """Return what delv says of a question."""
        assert DELV, "delv is not installed: make test, or apt-get install bind9-dnsutils"
        host, port = self.address
        program = [DELV, f"@{host}", "-p", str(port), "-a", str(anchors or self.anchors), "+root=.", *words]
        done = subprocess.run(program, capture_output=True, text=True, timeout=GUARD_S, check=False)
        return done.stdout + done.stderr


def signed(text: str, key: Ed25519PrivateKey) -> tuple[str, str]:
    """Return a zone with its signatures, and the line of a trust anchor for its key."""
    zone = dns.zone.from_text(text, origin=".", relativize=False)
    dnskey = dns.dnssec.make_dnskey(key.public_key(), dns.dnssectypes.Algorithm.ED25519, flags=257)
    now = int(time.time())
    dns.dnssec.sign_zone(zone, keys=[(key, dnskey)], inception=now - DAY_S, expiration=now + DAY_S)
    return zone.to_text(relativize=False), anchor_of(key)


def anchor_of(key: Ed25519PrivateKey) -> str:
    """Return the line of a trust anchor for a key of the root."""
    dnskey = dns.dnssec.make_dnskey(key.public_key(), dns.dnssectypes.Algorithm.ED25519, flags=257)
    flags, protocol, algorithm, data = dnskey.to_text().split(maxsplit=3)
    return f'trust-anchors {{ . static-key {flags} {protocol} {algorithm} "{data.replace(" ", "")}"; }};\n'


@pytest.fixture(scope="module")
def validating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validating]:
    """A daemon above a signed root."""
    folder = tmp_path_factory.mktemp("validating")
    for name in ("nsd", "swarm"):
        (folder / name).mkdir()
    text, anchor = signed(ZONE, Ed25519PrivateKey.generate())
    anchors, wrong_anchors = folder / "anchors", folder / "wrong"
    anchors.write_text(anchor)
    wrong_anchors.write_text(anchor_of(Ed25519PrivateKey.generate()))
    with running_nsd({".": text}, folder / "nsd") as port, Swarm(folder / "swarm", "validating") as swarm:
        node = swarm.start("resolver", "--dns", "127.0.0.1:0", "--upstream", f"127.0.0.1:{port}")
        address = read_address(swarm.wait_until_ready(node)["dns_addresses"][0])
        yield Validating(address, anchors, wrong_anchors)


@pytest.fixture(params=["+notcp", "+tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """How delv asks."""
    word: str = request.param
    return word


@pytest.mark.parametrize(
    ("qname", "qtype", "word"),
    [
        ("www.example", "A", "192.0.2.80"),
        ("www.example", "AAAA", "2001:db8::80"),
        ("alias.example", "A", "192.0.2.80"),
        ("www.tree.example", "A", "192.0.2.8"),
        ("any.wild.example", "TXT", "made"),
        ("www.example", "TYPE65280", "C00C00FF41"),
        ("big.example", "TXT", "19"),
        (".", "DNSKEY", "257"),
    ],
)
def test_an_answer_validates(validating: Validating, transport: str, qname: str, qtype: str, word: str) -> None:
    said = validating.ask(transport, qname, qtype)
    assert "; fully validated" in said
    assert word in said


@pytest.mark.parametrize(
    ("qname", "qtype"), [("nosuch.example", "A"), ("www.example", "MX"), ("ent.example", "A"), ("www.example", "DS")]
)
def test_an_absence_validates(validating: Validating, transport: str, qname: str, qtype: str) -> None:
    assert "; negative response, fully validated" in validating.ask(transport, qname, qtype)


def test_a_second_question_is_answered_from_the_cache_and_validates_too(validating: Validating, transport: str) -> None:
    for _ in range(2):
        assert "; fully validated" in validating.ask(transport, "WWW.Example", "A")


def test_with_another_key_nothing_validates(validating: Validating, transport: str) -> None:
    said = validating.ask(transport, "www.example", "A", anchors=validating.wrong_anchors)
    assert "fully validated" not in said
    assert "192.0.2.80" not in said
