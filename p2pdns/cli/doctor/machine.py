"""The machine as `doctor` sees it: its files, the output of programs, answers over DNS, and the daemon's status.

Guarantees: reads only; every file, output and wait is bounded; DNS queries go to addresses of this machine only, so
nothing leaves it but through the daemon's configured upstream. Does not know what is good or bad.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pdns.addresses import Address, read_address
from p2pdns.cli import dnsclient
from p2pdns.cli.dnsclient import DnsReply
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import ConfigError, P2pdnsError

FILE_BYTES_MAX = 65_536  # Of a system's configuration file; the largest known has some kilobytes.
PROGRAM_S_MAX = 10.0  # getent waits 5 s for each of two tries by default.
ANSWER_S_MAX = 5.0  # The daemon takes up to 4 s to give up a name.
OUTPUT_CHARACTERS_MAX = 65_536
SERVERS_MAX = 8  # The C library asks three servers, other resolvers some more.


@dataclass(frozen=True)
class Done:
    """The exit status and the output of a program."""

    status: int
    output: str


@dataclass
class Machine:
    """This machine, with the files below `root`. `facts` is the daemon's status, empty where none answers."""

    facts: Mapping[str, Any]
    suffixes: Sequence[str] = ()
    root: Path = Path("/")
    name: str | None = None
    _leads: dict[str, bool | None] = field(default_factory=dict)

    def read(self, path: str) -> str | None:
        """Return the text of a file, None if it cannot be read."""
        try:
            with (self.root / path.lstrip("/")).open("rb") as file:
                return file.read(FILE_BYTES_MAX).decode("utf-8", "replace")
        except OSError:
            return None

    def files(self, directory: str, suffix: str) -> list[str]:
        """Return the paths of the files in a directory that end in `suffix`, by name."""
        try:
            names = sorted(entry.name for entry in (self.root / directory.lstrip("/")).iterdir())
        except OSError:
            return []
        return [f"{directory}/{name}" for name in names if name.endswith(suffix)]

    def run(self, *words: str) -> Done | None:
        """Run a program that only reads; None if it is not installed, or does not end in time."""
        program = shutil.which(words[0])
        if program is None:
            return None
        try:
            done = subprocess.run(
                [program, *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
                timeout=PROGRAM_S_MAX,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return Done(done.returncode, done.stdout.decode("utf-8", "replace")[:OUTPUT_CHARACTERS_MAX])

    @property
    def nameservers(self) -> list[str]:
        """The hosts that /etc/resolv.conf names, in its order."""
        lines = [line.split() for line in (self.read("/etc/resolv.conf") or "").splitlines()]
        hosts = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
        return list(dict.fromkeys(hosts))[:SERVERS_MAX]

    @property
    def own_servers(self) -> list[Address]:
        """The addresses at which the daemon answers DNS, as they can be asked from here."""
        servers = []
        for text in self.facts.get("dns_addresses") or []:
            try:
                host, port = read_address(str(text), DNS_PORT)
            except ConfigError:
                continue
            servers.append((dnsclient.ANY_ADDRESS.get(host, host), port))
        return servers

    def ask(self, name: str, rtype: str, server: Address) -> DnsReply | str:
        """Return the response of a server on this machine, or the reason why there is none."""
        assert is_here(server[0]), "only this machine is asked"
        try:
            return dnsclient.ask(name, rtype, server, timeout_s=ANSWER_S_MAX)
        except P2pdnsError as error:
            return str(error.what)

    def leads_here(self, host: str) -> bool | None:
        """Return whether port 53 of a host leads to the daemon: None if it is silent, False for any other machine."""
        if host not in self._leads:
            self._leads[host] = self._asked_for_us(host)
        return self._leads[host]

    def _asked_for_us(self, host: str) -> bool | None:
        if not is_here(host):
            return False
        # Only p2pdns answers for the apex of a suffix: the ordinary DNS has no such name.
        reply = self.ask(next(iter(self.suffixes), "p2p.alt"), "SOA", (host, DNS_PORT))
        if isinstance(reply, str):
            return None
        return any(record.type == "SOA" and "nobody.invalid." in record.data for record in reply.answer)

    def unknown_name(self) -> str:
        """Return a new name, which no cache can have."""
        return f"{secrets.token_hex(8)}.example.com"


def is_here(host: str) -> bool:
    """Return whether an address is one of this machine's; nothing is sent to find that out."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return not address.is_unspecified and not address.is_multicast
