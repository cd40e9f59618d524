"""A private root on loopback and the resolvers over it, for bench/conformance.py: NSD, unbound, BIND and ours.

Guarantees: every process started here is ended by its own pid; each resolver sends from 127.0.0.1, which the kernel
lets go nowhere else, and knows no server but the one it is given. Does not know what they are asked.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from p2pdns.addresses import read_address
from p2pdns.demo.swarm import Swarm
from tests.oracle.nsd import running_nsd
from tests.outside.forwarders import PROGRAMS, SYSTEM_PATH, UNBOUND_SERVER, forwarding

ROOT = Path(__file__).resolve().parents[1]
# Commands, and the Debian packages they come in. Their services need not run, and are not touched.
PACKAGES = {"unbound": "unbound", "named": "bind9", "nsd": "nsd"}
HOST = "127.0.0.1"

ZONE = (
    """$TTL 300
@             SOA   a.root. host.root. 1 3600 600 86400 60
@             NS    a.root.
a.root.       A     127.0.0.1
www.example.  A     192.0.2.80
www.example.  AAAA  2001:db8::80
many.example. A     192.0.2.1
many.example. A     192.0.2.2
many.example. A     192.0.2.3
example.      MX    10 www.example.
example.      TXT   "an example"
alias.example. CNAME www.example.
chain.example. CNAME alias.example.
dead.example. CNAME nowhere.example.
loop.example. CNAME back.example.
back.example. CNAME loop.example.
*.wild.example. A   192.0.2.7
x.ent.example. TXT  "below"
tree.example. DNAME target.example.
www.target.example. A 192.0.2.8
_s._tcp.example. SRV 0 1 443 www.example.
unknown.example. TYPE65280 \\# 5 C00C00FF41
web.example.  HTTPS 1 . alpn=h2 ipv4hint=192.0.2.80
zero.example. 0 A   192.0.2.9
a\\.b.example. A     192.0.2.10
\\000\\255.example. A 192.0.2.11
svcalias.example. TYPE65 \\# 22 000003777777076578616d706c650000010003026832
echform.example. TYPE65 \\# 10 00010000050003ffffff
loc1.example. TYPE29 \\# 16 01121613800000008000000080000000
amt4.example. TYPE260 \\# 5 0a0478797a
"""
    + f"zonemd0.example. TYPE63 \\# 54 000000010001{'00' * 48}\n"
    + "".join(f'long.example. TXT "{letter * 200}"\n' for letter in "abc")
    + "".join(f'big.example. TXT "{number:0200d}"\n' for number in range(20))
)

UNBOUND = f"""{UNBOUND_SERVER}
server:
    outgoing-interface: 127.0.0.1
    module-config: "iterator"
    do-not-query-localhost: no
    hide-identity: no
    hide-version: no
    ede: yes
    edns-tcp-keepalive: yes
stub-zone:
    name: "."
    stub-addr: {{host}}@{{upstream}}
"""
NAMED_OPTIONS = "    query-source address 127.0.0.1;"


@dataclass(frozen=True)
class Resolver:
    """A running resolver: what it is called in the table, which version it is, and where it answers."""

    name: str
    version: str
    port: int

    @property
    def address(self) -> tuple[str, int]:
        """Where it answers."""
        return HOST, self.port


def missing_packages() -> list[str]:
    """Return the Debian packages that the bench needs and this machine lacks."""
    return [package for program, package in PACKAGES.items() if shutil.which(program, path=SYSTEM_PATH) is None]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[list[Resolver]]:
    """Start everything and yield ours, unbound and BIND, in this order."""
    places = {name: folder / name for name in ("nsd", "unbound", "named", "ours")}
    for place in places.values():
        place.mkdir()
    with contextlib.ExitStack() as stack:
        root = HOST, stack.enter_context(running_nsd({".": ZONE}, places["nsd"]))
        plain = replace(PROGRAMS["unbound"], config=UNBOUND)
        unbound = stack.enter_context(forwarding("unbound", root, places["unbound"], program=plain))
        named = stack.enter_context(forwarding("BIND", root, places["named"], options=NAMED_OPTIONS))
        yield [
            Resolver("p2pdns", "this checkout", stack.enter_context(_ours(places["ours"], unbound[1]))),
            Resolver("unbound", _version("unbound", "-V"), unbound[1]),
            Resolver("BIND", _version("named", "-v"), named[1]),
        ]


@contextlib.contextmanager
def _ours(folder: Path, upstream: int) -> Iterator[int]:
    with Swarm(folder, "conformance bench") as swarm:
        node = swarm.start("ours", "--dns", f"{HOST}:0", "--upstream", f"{HOST}:{upstream}")
        addresses = swarm.wait_until_ready(node)["dns_addresses"]
        yield read_address(addresses[0])[1]


def _path(program: str) -> str:
    path = shutil.which(program, path=SYSTEM_PATH)
    assert path, program
    return path


def _version(program: str, flag: str) -> str:
    done = subprocess.run([_path(program), flag], capture_output=True, text=True, check=False)
    return next((word for word in done.stdout.split() if word[:1].isdigit()), "?")
