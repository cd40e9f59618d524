"""docs/integrate.md holds for systemd-resolved and for ssh, in a container: both want a machine of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.outside.machine import NAS_ADDRESS, WWW_ADDRESS, Machine, machine_with
from tests.outside.validating import ORDINARY, ORDINARY_ADDRESS, blocks_of, section_of

pytestmark = pytest.mark.outside

NEGATIVE = "/etc/dnssec-trust-anchors.d/p2pdns.negative"
SETTINGS = "/etc/systemd/resolved.conf.d/p2pdns.conf"
PACKAGES = ("systemd-resolved", "dbus", "openssh-client", "openssh-server")
SSHD = """
mkdir -p /run/sshd
/usr/sbin/sshd
ssh-keygen -r host | sed 's/ IN / /' >> /tmp/host.zone
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


def start_resolved(machine: Machine, *, validates: bool, negative: str = "") -> None:
    """Start systemd-resolved with the page's settings, DNSSEC on or off, and a file of names that nobody signs."""
    settings = blocks_of("systemd-resolved")[SETTINGS]
    machine.inside.run(f"rm -f {NEGATIVE}")
    machine.inside.put({SETTINGS: settings + f"DNSSEC={'yes' if validates else 'no'}\n"})
    if negative:
        machine.inside.put({NEGATIVE: negative})
    status = machine.inside.run(RESOLVED)
    assert f"DNSSEC={'yes' if validates else 'no'}" in status
    assert names_in(negative) <= set(re.findall(r"\S+", machine.inside.run("grep '^Negative' /tmp/resolved.log")))
    assert "nvalid" not in machine.inside.run("cat /tmp/resolved.log")


def found(machine: Machine, name: str) -> str:
    """Return what resolvectl says of a name: its address, or why there is none."""
    said = machine.inside.run(f"resolvectl query --legend=no -4 {name}", may_fail=True)
    address = re.match(rf"{re.escape(name)}: (\d[\d.]+)", said)
    return address[1] if address else said


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Yield a machine with systemd-resolved and ssh."""
    with machine_with(*PACKAGES, prepare=SSHD) as found:
        yield found


@pytest.mark.parametrize("validates", [False, True])
def test_the_page_leads_names_of_ours_to_us_and_ordinary_names_still_resolve(machine: Machine, validates: bool) -> None:
    start_resolved(machine, validates=validates, negative=blocks_of("systemd-resolved")[NEGATIVE])
    for suffix in ("p2pdns.internal", "p2p.alt"):
        assert found(machine, f"www.{machine.key}.{suffix}") == WWW_ADDRESS
        assert found(machine, f"nas.{machine.key}.{suffix}") == NAS_ADDRESS
        assert "not found" in found(machine, f"absent.{machine.key}.{suffix}")
    assert found(machine, ORDINARY) == ORDINARY_ADDRESS


def test_without_the_file_only_the_suffix_below_internal_passes_validation(machine: Machine) -> None:
    start_resolved(machine, validates=True)
    assert found(machine, f"www.{machine.key}.p2pdns.internal") == WWW_ADDRESS
    assert "no-signature" in found(machine, f"www.{machine.key}.p2p.alt")


def test_a_file_that_does_not_name_it_takes_the_suffix_below_internal_away(machine: Machine) -> None:
    start_resolved(machine, validates=True, negative="p2p.alt\n")
    assert found(machine, f"www.{machine.key}.p2p.alt") == WWW_ADDRESS
    assert "no-signature" in found(machine, f"www.{machine.key}.p2pdns.internal")


@pytest.mark.parametrize(("options", "kind"), [("options trust-ad", "secure"), ("", "insecure")])
def test_ssh_believes_a_fingerprint_of_a_zone_where_resolv_conf_trusts(
    machine: Machine, options: str, kind: str
) -> None:
    assert "VerifyHostKeyDNS=yes" in section_of("resolv.conf")
    machine.ask_p2pdns(options)
    name = f"host.{machine.key}.p2pdns.internal"
    ssh = "ssh -v -o VerifyHostKeyDNS=yes -o StrictHostKeyChecking=yes -o BatchMode=yes -o UserKnownHostsFile=/dev/null"
    said = machine.inside.run(f"{ssh} {name} true", may_fail=True)
    assert re.search(rf"found \d+ {kind} fingerprints in DNS", said), said
    assert ("Host key verification failed" in said) == (kind == "insecure")
    # Past the host key, ssh asks who we are; nobody of this test may log in.
    assert ("Permission denied" in said) == (kind == "secure")
