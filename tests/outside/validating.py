"""Forwarders of others that validate DNSSEC, behind them a root of our own, and the blocks of docs/integrate.md.

Guarantees: a block is what the document shows, with only the port of p2pdns replaced; everything around it (ports,
folders, where ordinary names are asked, the trust anchor) stands here. Does not know what is asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from p2pdns.addresses import Address
from tests.oracle.nsd import running_nsd
from tests.outside.forwarders import UNBOUND_SERVER, Program, forwarding

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "integrate.md"
PORT_IN_PAGE = "5300"

ORDINARY, ORDINARY_ADDRESS = "www.ordinary.example", "9.0.0.9"  # Not one that dnsmasq takes for a private one.
ROOT_ZONE = f"""
@ 300 SOA ns.ordinary.example. nobody.invalid. 1 7200 3600 86400 300
@ 300 NS ns.ordinary.example.
ns.ordinary.example. 300 A 127.0.0.1
{ORDINARY}. 300 A {ORDINARY_ADDRESS}
"""
SIGNED_S = 86_400  # Long past any run.

UNBOUND = f"""{UNBOUND_SERVER}
server:
    # What Debian sets, so that a block must open what it needs.
    do-not-query-localhost: yes
    private-address: 192.168.0.0/16
    trust-anchor: "TRUST_ANCHOR"
{{options}}
stub-zone:
    name: "."
    stub-addr: {{host}}@{{upstream}}
"""

NAMED = """
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    lock-file none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    allow-query {{ 127.0.0.1; }};
    recursion yes;
    dnssec-validation yes;
    forward only;
    forwarders {{ {host} port {upstream}; }};
{options}
controls {{ }};
trust-anchors {{ . static-ds TRUST_DS_QUOTED; }};
"""

KRESD = """
net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})
net.ipv6 = false
cache.size = 10 * MB
trust_anchors.remove('.')
trust_anchors.add('TRUST_ANCHOR')
{options}
policy.add(policy.all(policy.FORWARD({{'{host}@{upstream}'}})))
"""

DNSMASQ = """
port={port}
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
no-daemon
dnssec
trust-anchor=.,TRUST_DS_COMMAS
stop-dns-rebind
server={host}#{upstream}
{options}
"""

RECURSOR = """
local-address=127.0.0.1
local-port={port}
socket-dir={folder}
dnssec=validate
lua-config-file={folder}/recursor.lua
security-poll-suffix=
forward-zones-recurse=.={host}:{upstream}
{options}
"""

DNSDIST = """
setLocal('127.0.0.1:{port}')
setSecurityPollSuffix('')
newServer({{address='{host}:{upstream}', checkName='ordinary.example.'}})
{options}
"""

PROGRAMS = {
    "unbound": Program("unbound", UNBOUND, ("-d", "-p", "-c", "{config}")),
    "BIND": Program("named", NAMED, ("-g", "-c", "{config}")),
    "kresd": Program("kresd", KRESD, ("-n", "-c", "{config}", "{folder}")),
    "dnsmasq": Program("dnsmasq", DNSMASQ, ("--conf-file={config}",)),
    "PowerDNS Recursor": Program("pdns_recursor", RECURSOR, ("--config-dir={folder}",), "recursor.conf"),
    "dnsdist": Program("dnsdist", DNSDIST, ("--supervised", "-C", "{config}")),
}
SECTIONS = {"kresd": "Knot Resolver (kresd)"}  # Headings that are not the program's name.


@dataclass(frozen=True)
class SignedRoot:
    """A root of our own: where it is served, and the digest of its key."""

    port: int
    anchor: str

    def program(self, name: str) -> Program:
        """Return the validating form of a forwarder that trusts this root and no other."""
        program = PROGRAMS[name]
        tag, algorithm, kind, digest = self.anchor.split()
        config = program.config.replace("TRUST_ANCHOR", f". IN DS {self.anchor}")
        config = config.replace("TRUST_DS_COMMAS", ",".join([tag, algorithm, kind, digest]))
        config = config.replace("TRUST_DS_QUOTED", f'{tag} {algorithm} {kind} "{digest}"')
        return dataclasses.replace(program, config=config)

    def lua(self) -> str:
        """Return the lines by which PowerDNS Recursor trusts this root and no other."""
        return f'clearTA(".")\naddTA(".", "{self.anchor}")\n'


def signed_root_zone() -> tuple[str, str]:
    """Return the text of a signed root zone, and the data of the DS record of its key."""
    zone = dns.zone.from_text(ROOT_ZONE, origin=".", relativize=False)
    secret = ec.generate_private_key(ec.SECP256R1())
    key = dns.dnssec.make_dnskey(secret.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257)
    now = time.time()
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(zone, transaction, keys=[(secret, key)], inception=now - 3600, expiration=now + SIGNED_S)
    return zone.to_text(relativize=False), dns.dnssec.make_ds(".", key, "SHA256").to_text()


@contextlib.contextmanager
def signed_root(folder: Path) -> Iterator[SignedRoot]:
    """Serve a signed root zone by NSD on loopback."""
    folder.mkdir()
    zone, anchor = signed_root_zone()
    with running_nsd({".": zone}, folder) as port:
        yield SignedRoot(port, anchor)


def section_of(title: str, page: str = "") -> str:
    """Return the text below a heading of the second level of the page."""
    page = page or PAGE.read_text()
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/integrate.md has no section {title}"
    return found[1]


def blocks_of(title: str, page: str = "") -> dict[str, str]:
    """Return the blocks of a section that are files: the path in their first line, and their text."""
    found = {}
    for block in re.findall(r"^```\w*\n(.*?)^```$", section_of(title, page), re.MULTILINE | re.DOTALL):
        if path := re.match(r"(?:#|//|--|;) (/\S+)", block):
            found[path[1]] = block
    return found


def with_port(block: str, port: int) -> str:
    """Return a block that leads to a p2pdns on another port of loopback."""
    return block.replace(PORT_IN_PAGE, str(port))


def without(block: str, *words: str) -> str:
    """Return a block without the lines that hold one of the words."""
    return "".join(line for line in block.splitlines(keepends=True) if not any(word in line for word in words))


@contextlib.contextmanager
def in_front(
    name: str, root: SignedRoot, port: int, folder: Path, *, leave_out: tuple[str, ...] = (), suffix: str = ""
) -> Iterator[Address]:
    """Run a forwarder with its blocks in front of the p2pdns at `port`, and yield where it answers.

    `leave_out` are words whose lines are not taken over; `suffix` stands where the page has p2p.alt.
    """
    blocks = blocks_of(SECTIONS.get(name, name))
    text = "".join(blocks.values())
    assert PORT_IN_PAGE in text
    assert all(word in text for word in leave_out), f"nothing with one of {leave_out} in {text}"
    texts = {
        path: with_port(without(block, *leave_out), port).replace("p2p.alt", suffix or "p2p.alt")
        for path, block in blocks.items()
    }
    folder.mkdir()
    for path in list(texts):
        if path.endswith("recursor.lua"):
            (folder / "recursor.lua").write_text(root.lua() + texts.pop(path))
        if path.endswith("named.conf.options"):
            texts[path] += "};\n"  # The block stands inside of options.
    options = "".join(texts.values())
    upstream = ("127.0.0.1", root.port)
    with forwarding(name, upstream, folder, options=options, program=root.program(name)) as address:
        yield address
