"""docs/integrate.md holds for systemd-resolved and for ssh, in a container: both want a machine of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.outside.container import Container, container
from tests.outside.validating import ORDINARY, ORDINARY_ADDRESS, blocks_of, section_of, signed_root_zone
from tests.testbed.conftest import leave_out

pytestmark = pytest.mark.outside

WWW_ADDRESS, NAS_ADDRESS = "192.0.2.80", "192.168.7.7"
NEGATIVE = "/etc/dnssec-trust-anchors.d/p2pdns.negative"
SETTINGS = "/etc/systemd/resolved.conf.d/p2pdns.conf"
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
# p2pdns asks NSD for ordinary names. At port 53 it is the machine's resolver, for ssh.
SERVE = """
/usr/sbin/nsd -c /tmp/nsd/nsd.conf 2>/dev/null
p2pdns keygen -o /tmp/zone.key
key=$(p2pdns pubkey /tmp/zone.key)
mkdir -p /run/sshd
/usr/sbin/sshd
ssh-keygen -r host | sed 's/ IN / /' >> /tmp/host.zone
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
X
p2pdns serve -c /tmp/p2pdns.toml --state /tmp/state >/tmp/p2pdns.log 2>&1 &
for _ in $(seq 100); do p2pdns status --state /tmp/state >/dev/null 2>&1 && break; sleep 0.1; done
p2pdns publish -k /tmp/zone.key --state /tmp/state /tmp/host.zone || true
echo "zone key $key"
"""
# The daemon that ran before, if any, is ended by its own pid.
RESOLVED = """
mkdir -p /run/dbus /run/systemd/resolve
chown systemd-resolve: /run/systemd/resolve
[ -S /run/dbus/system_bus_socket ] || dbus-daemon --system --fork
[ ! -e /tmp/resolved.pid ] || kill $(cat /tmp/resolved.pid)
for _ in $(seq 100); do
    [ -e /tmp/resolved.pid ] && kill -0 $(cat /tmp/resolved.pid) 2>/dev/null || break
    sleep 0.1
done
/lib/systemd/systemd-resolved >/tmp/resolved.log 2>&1 &
echo $! > /tmp/resolved.pid
for _ in $(seq 100); do resolvectl status >/dev/null 2>&1 && break; sleep 0.1; done
resolvectl status
"""


def names_in(negative: str) -> set[str]:
    """Return the names that a file of names that nobody signs has."""
    return {line for line in negative.splitlines() if not line.startswith(";")}


@dataclass(frozen=True)
class Machine:
    """A machine on which p2pdns runs, and the key of the zone it has."""

    inside: Container
    key: str

    def resolved(self, *, validates: bool, negative: str = "") -> None:
        """Start systemd-resolved with the page's settings, DNSSEC on or off, and a file of names that nobody signs."""
        settings = blocks_of("systemd-resolved")[SETTINGS]
        self.inside.run(f"rm -f {NEGATIVE}")
        self.inside.put({SETTINGS: settings + f"DNSSEC={'yes' if validates else 'no'}\n"})
        if negative:
            self.inside.put({NEGATIVE: negative})
        status = self.inside.run(RESOLVED)
        assert f"DNSSEC={'yes' if validates else 'no'}" in status
        assert names_in(negative) <= set(re.findall(r"\S+", self.inside.run("grep '^Negative' /tmp/resolved.log")))
        assert "nvalid" not in self.inside.run("cat /tmp/resolved.log")

    def found(self, name: str) -> str:
        """Return what resolvectl says of a name: its address, or why there is none."""
        said = self.inside.run(f"resolvectl query --legend=no -4 {name}", may_fail=True)
        address = re.match(rf"{re.escape(name)}: (\d[\d.]+)", said)
        return address[1] if address else said


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Yield a machine of its own."""
    if (
        not shutil.which("docker")
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0
    ):
        leave_out("no container engine answers")
    zone, anchor = signed_root_zone()
    host_zone = f"$TTL 300\nwww A {WWW_ADDRESS}\nnas A {NAS_ADDRESS}\nhost A 127.0.0.1\n"
    with container(f"p2pdns-outside-{os.getpid()}") as inside:
        inside.put(
            {
                "/tmp/nsd/root.zone": zone,
                "/tmp/nsd/nsd.conf": NSD,
                "/tmp/host.zone": host_zone,
                "/etc/dnssec-trust-anchors.d/root.positive": f". IN DS {anchor}\n",
            }
        )
        said = inside.run(SERVE)
        key = re.search(r"^zone key (\w{52})$", said, re.MULTILINE)
        assert key is not None, said
        yield Machine(inside, key[1])


@pytest.mark.parametrize("validates", [False, True])
def test_the_page_leads_names_of_ours_to_us_and_ordinary_names_still_resolve(machine: Machine, validates: bool) -> None:
    machine.resolved(validates=validates, negative=blocks_of("systemd-resolved")[NEGATIVE])
    for suffix in ("p2pdns.internal", "p2p.alt"):
        assert machine.found(f"www.{machine.key}.{suffix}") == WWW_ADDRESS
        assert machine.found(f"nas.{machine.key}.{suffix}") == NAS_ADDRESS
        assert "not found" in machine.found(f"absent.{machine.key}.{suffix}")
    assert machine.found(ORDINARY) == ORDINARY_ADDRESS


def test_without_the_file_only_the_suffix_below_internal_passes_validation(machine: Machine) -> None:
    machine.resolved(validates=True)
    assert machine.found(f"www.{machine.key}.p2pdns.internal") == WWW_ADDRESS
    assert "no-signature" in machine.found(f"www.{machine.key}.p2p.alt")


def test_a_file_that_does_not_name_it_takes_the_suffix_below_internal_away(machine: Machine) -> None:
    machine.resolved(validates=True, negative="p2p.alt\n")
    assert machine.found(f"www.{machine.key}.p2p.alt") == WWW_ADDRESS
    assert "no-signature" in machine.found(f"www.{machine.key}.p2pdns.internal")


@pytest.mark.parametrize(("options", "kind"), [("options trust-ad", "secure"), ("", "insecure")])
def test_ssh_believes_a_fingerprint_of_a_zone_where_resolv_conf_trusts(
    machine: Machine, options: str, kind: str
) -> None:
    block = blocks_of("resolv.conf")["/etc/resolv.conf"]
    assert "options trust-ad" in block
    assert "VerifyHostKeyDNS=yes" in section_of("resolv.conf")
    # Docker has mounted this file, so it is written and not replaced.
    machine.inside.run(f"cat > /etc/resolv.conf <<X\n{block.replace('options trust-ad', options)}\nX\n")
    name = f"host.{machine.key}.p2pdns.internal"
    ssh = "ssh -v -o VerifyHostKeyDNS=yes -o StrictHostKeyChecking=yes -o BatchMode=yes -o UserKnownHostsFile=/dev/null"
    said = machine.inside.run(f"{ssh} {name} true", may_fail=True)
    assert re.search(rf"found \d+ {kind} fingerprints in DNS", said), said
    assert ("Host key verification failed" in said) == (kind == "insecure")
    # Past the host key, ssh asks who we are; nobody of this test may log in.
    assert ("Permission denied" in said) == (kind == "secure")
