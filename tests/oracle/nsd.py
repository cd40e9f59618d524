"""NSD as an oracle: an authoritative server that nobody here wrote, serving the same zones on loopback."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset

from p2pdns.net.sockets import open_dns

# NSD answers its first question a few hundred milliseconds after it started; each try waits at most this long.
READY_TRY_S = 0.5
READY_TRIES_MAX = 60
STARTS_MAX = 5  # It must be told its port, and other tests take ports too.

CONF = """
server:
    ip-address: 127.0.0.1@{port}
    port: {port}
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: "{folder}/nsd.pid"
    xfrdfile: "{folder}/xfrd.state"
    xfrdir: "{folder}"
    zonelistfile: "{folder}/zone.list"
    logfile: "{folder}/nsd.log"
    server-count: 1
    verbosity: 1
    refuse-any: no
    rrl-ratelimit: 0
    hide-version: yes
remote-control:
    control-enable: no
"""

# (owner in lower case, type) -> (TTL, the RDATA as a set)
Section = dict[tuple[str, int], tuple[int, frozenset[bytes]]]


@dataclass(frozen=True)
class Reply:
    """What the oracle said: rcode, AA, and each section's RRsets."""

    rcode: int
    is_authoritative: bool
    answer: Section
    authority: Section


def find_nsd() -> str:
    """Return the path of the nsd program; it lives where only root's PATH looks."""
    path = shutil.which("nsd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    assert path, "the oracle needs NSD (apt-get install nsd)"
    return path


def _free_port() -> int:
    sockets = open_dns(("127.0.0.1", 0))
    port = sockets.address[1]
    sockets.close()
    return port


@contextlib.contextmanager
def running_nsd(
    zones: Mapping[str, str],
    folder: Path,
    *,
    transferred: Collection[str] = (),
    keyed: Collection[str] = (),
    key_secret: str = "",
) -> Iterator[int]:
    """Serve `zones` (apex text -> zone file text) and yield the port; the process ends with the block.

    The zones in `transferred` are given to everybody on loopback by transfer, those in `keyed` to who has the key
    "mover" (hmac-sha256), the others to nobody.
    """
    conf = CONF.replace("{folder}", str(folder))
    if keyed:
        conf += f'key:\n    name: "mover"\n    algorithm: hmac-sha256\n    secret: "{key_secret}"\n'
    for index, (apex, text) in enumerate(zones.items()):
        (folder / f"{index}.zone").write_text(text)
        conf += f'zone:\n    name: "{apex}"\n    zonefile: "{index}.zone"\n'
        conf += "    provide-xfr: 127.0.0.1 NOKEY\n" if apex in transferred else ""
        conf += "    provide-xfr: 127.0.0.1 mover\n" if apex in keyed else ""
    for _ in range(STARTS_MAX):
        port = _free_port()
        (folder / "nsd.conf").write_text(conf.replace("{port}", str(port)))
        (folder / "nsd.log").unlink(missing_ok=True)
        command = [find_nsd(), "-d", "-c", str(folder / "nsd.conf")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            if _is_ready(process, port, next(iter(zones)), folder):
                yield port
                return
        finally:
            process.terminate()
            process.communicate(timeout=10)
    raise AssertionError("each port that was free a moment before was taken: " + (folder / "nsd.log").read_text())


def _is_ready(process: subprocess.Popen[str], port: int, apex: str, folder: Path) -> bool:
    """Wait until it answers; return False when somebody else has taken the port meanwhile."""
    query = dns.message.make_query(apex, "SOA")
    for _ in range(READY_TRIES_MAX):
        if process.poll() is not None:
            said = (folder / "nsd.log").read_text()
            assert "Address already in use" in said, said
            return False
        with contextlib.suppress(dns.exception.Timeout, OSError):
            reply = dns.query.udp(query, "127.0.0.1", port=port, timeout=READY_TRY_S)
            assert reply.rcode() == dns.rcode.NOERROR, (folder / "nsd.log").read_text()
            return True
    raise AssertionError("NSD never answered: " + (folder / "nsd.log").read_text())


def digest_of(rdata: dns.rdata.Rdata) -> bytes:
    """Return RDATA with its names in lower case: a compressing server may show them in the case of the question."""
    return bytes(rdata.to_digestable())


def section_of(rrsets: list[dns.rrset.RRset]) -> Section:
    """Return a section in comparable form."""
    found: Section = {}
    for rrset in rrsets:
        key = (rrset.name.to_text().lower(), int(rrset.rdtype))
        ttl, rdatas = found.get(key, (int(rrset.ttl), frozenset()))
        found[key] = (ttl, rdatas | frozenset(digest_of(rdata) for rdata in rrset))
    return found


def ask(port: int, owner: bytes, rtype: int) -> Reply:
    """Ask the oracle; `owner` is the name on the wire. Over UDP, then over TCP when the reply was cut."""
    name, _ = dns.name.from_wire(owner, 0)
    query = dns.message.make_query(name, dns.rdatatype.RdataType.make(rtype), flags=0)
    reply, _ = dns.query.udp_with_fallback(query, "127.0.0.1", port=port, timeout=5)
    return Reply(
        int(reply.rcode()),
        bool(reply.flags & dns.flags.AA),
        section_of(reply.answer),
        section_of(reply.authority),
    )
