"""The DNS clients of the demo: `dig` if it is installed, else dnspython; both return the same kind of reply.

Guarantees: a client knows nothing of p2pdns but the address of its DNS server. Does not know the expected reply.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from p2pdns.addresses import Address, write_address
from p2pdns.cli import dnsclient
from p2pdns.cli.dnsclient import DnsReply, ExtendedError, Record
from p2pdns.errors import Unavailable

DIG_S_MAX = 15.0

_HEADER = re.compile(r"^;; ->>HEADER<<- opcode: \w+, status: (\w+), id: \d+$", re.MULTILINE)
_FLAGS = re.compile(r"^;; flags: ([a-z ]*);", re.MULTILINE)
_QUESTION = re.compile(r"^;(\S+)\s+IN\s+(\S+)$", re.MULTILINE)
_RECORD = re.compile(r"^([^;\s]\S*)\s+(\d+)\s+IN\s+(\S+)\s+(.*)$", re.MULTILINE)
_EDE = re.compile(r"^; EDE: (\d+)(?: \(([^)]*)\))?(?:: \((.*)\))?$", re.MULTILINE)
_TIME = re.compile(r"^;; Query time: (\d+) (usec|msec)$", re.MULTILINE)


@dataclass(frozen=True)
class PythonClient:
    """dnspython."""

    server: Address
    name: str = "dnspython (dig is not installed)"

    def ask(self, name: str, rtype: str, *, transport: str, udp_size_bytes: int) -> DnsReply:
        """Return the reply over `udp` or `tcp`; a truncated one is not asked for again."""
        return dnsclient.ask(name, rtype, self.server, transport=transport, udp_size_bytes=udp_size_bytes)


@dataclass(frozen=True)
class DigClient:
    """The `dig` of BIND."""

    server: Address
    program: str
    name: str

    def ask(self, name: str, rtype: str, *, transport: str, udp_size_bytes: int) -> DnsReply:
        """Return the reply over `udp` or `tcp`, as dig prints it; a truncated one is not asked for again."""
        host, port = self.server
        # -r: no ~/.digrc; -u: microseconds; +ignore: a truncated reply is shown and not asked for again.
        command = [self.program, "-r", "-u", f"@{host}", "-p", str(port)]
        command += ["+tries=1", "+time=10", "+ignore", "+nocookie"]
        command += [f"+bufsize={udp_size_bytes}", "+tcp" if transport == "tcp" else "+notcp", name, rtype]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DIG_S_MAX, check=False
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"no answer within {DIG_S_MAX:g} s", place="dig") from None
        return read_dig(done.stdout, server=write_address(self.server), transport=transport)


def _section(text: str, name: str) -> tuple[Record, ...]:
    match = re.search(rf"^;; {name} SECTION:\n((?:.+\n)*)", text, re.MULTILINE)
    if match is None:
        return ()
    return tuple(Record(owner, int(ttl), rtype, data) for owner, ttl, rtype, data in _RECORD.findall(match[1]))


def read_dig(text: str, *, server: str, transport: str) -> DnsReply:
    """Return the reply that dig's output shows; Unavailable when it shows none."""
    header, flags, question, took = (pattern.search(text) for pattern in (_HEADER, _FLAGS, _QUESTION, _TIME))
    if header is None or flags is None or question is None or took is None:
        words = [line for line in text.splitlines() if line.startswith(";;")]
        raise Unavailable(words[-1].lstrip("; ") if words else "dig printed nothing", place=server)
    errors = [ExtendedError(int(code), meaning, words) for code, meaning, words in _EDE.findall(text)]
    return DnsReply(
        name=question[1],
        type=question[2],
        server=server,
        transport=transport,
        rcode=header[1],
        flags=tuple(flags[1].split()),
        answer=_section(text, "ANSWER"),
        authority=_section(text, "AUTHORITY"),
        extended_errors=tuple(errors),
        ms=int(took[1]) / (1000 if took[2] == "usec" else 1),
    )


def client_for(server: Address) -> DigClient | PythonClient:
    """Return dig if it is installed and works, else dnspython."""
    program = shutil.which("dig")
    if program is not None:
        done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
        version = re.search(r"DiG ([0-9.]+)", done.stdout + done.stderr)
        if done.returncode == 0 and version is not None:
            return DigClient(server, program, f"dig {version[1]}")
    return PythonClient(server)
