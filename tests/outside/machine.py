"""A machine in a container on which p2pdns answers, with a zone of its own and a signed root for ordinary names.

Guarantees: p2pdns is at 127.0.0.1, ports 5300 and 53; its zone has public and private addresses, and the petname
`anna`. Does not know which program there asks.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.outside.container import Container, container
from tests.outside.validating import blocks_of, signed_root_zone
from tests.testbed.conftest import leave_out

WWW_ADDRESS, NAS_ADDRESS = "192.0.2.80", "192.168.7.7"
NSD = """
server:
    ip-address: 127.0.0.1@5353
    username: ""
    zonesdir: /tmp/nsd
    database: ""
    pidfile: ""
    xfrdfile: /tmp/nsd/xfrd.state
    xfrdir: /tmp/nsd
    zonelistfile: /tmp/nsd/zone.list
remote-control:
    control-enable: no
zone:
    name: "."
    zonefile: root.zone
"""
# p2pdns asks NSD for ordinary names. At port 53 it can be the machine's resolver.
SERVE = """
/usr/sbin/nsd -c /tmp/nsd/nsd.conf 2>/dev/null
p2pdns keygen -o /tmp/zone.key
key=$(p2pdns pubkey /tmp/zone.key)
cat > /tmp/p2pdns.toml <<X
[dns]
listen = ["127.0.0.1:5300", "127.0.0.1:53"]
[upstream]
servers = ["127.0.0.1:5353"]
[dht]
network = "outside"
listen = "127.0.0.1:0"
[zones]
private_zones = ["$key"]
[names]
anna = "$key"
X
p2pdns serve -c /tmp/p2pdns.toml --state /tmp/state >/tmp/p2pdns.log 2>&1 &
for _ in $(seq 100); do p2pdns status --state /tmp/state >/dev/null 2>&1 && break; sleep 0.1; done
p2pdns publish -k /tmp/zone.key --state /tmp/state /tmp/host.zone || true
echo "zone key $key"
"""


@dataclass(frozen=True)
class Machine:
    """A machine on which p2pdns runs, and the key of the zone it has."""

    inside: Container
    key: str

    def ask_p2pdns(self, options: str = "options trust-ad") -> None:
        """Make p2pdns the resolver of this machine, by the page's resolv.conf with these options."""
        block = blocks_of("resolv.conf")["/etc/resolv.conf"]
        assert "options trust-ad" in block
        # Docker has mounted this file, so it is written and not replaced.
        self.inside.run(f"cat > /etc/resolv.conf <<X\n{block.replace('options trust-ad', options)}\nX\n")


@contextlib.contextmanager
def machine_with(*packages: str, prepare: str = "") -> Iterator[Machine]:
    """Yield a machine with these packages; `prepare` may add lines to /tmp/host.zone before that is published."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        leave_out("no container engine answers")
    zone, anchor = signed_root_zone()
    host_zone = f"$TTL 300\nwww A {WWW_ADDRESS}\nnas A {NAS_ADDRESS}\nhost A 127.0.0.1\n"
    with container(f"p2pdns-outside-{os.getpid()}-{packages[0]}", *packages) as inside:
        inside.put(
            {
                "/tmp/nsd/root.zone": zone,
                "/tmp/nsd/nsd.conf": NSD,
                "/tmp/host.zone": host_zone,
                "/etc/dnssec-trust-anchors.d/root.positive": f". IN DS {anchor}\n",
            }
        )
        said = inside.run(prepare + SERVE)
        key = re.search(r"^zone key (\w{52})$", said, re.MULTILINE)
        assert key is not None, said
        yield Machine(inside, key[1])
