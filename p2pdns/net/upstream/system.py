"""The resolvers of this machine, followed while its files change: DHCP comes after us, laptops move.

Guarantees: a change of a file is seen at the next look, whatever made it (an edit, a rename, another link); this
resolver itself is not among the servers; where no other is left, the servers used before are asked, from a copy in the
state directory; `problem` says in words when that is so, and when there is no server at all. Does not know when to
look, nor how a server is asked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from p2pdns.addresses import Address
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import FormatError
from p2pdns.net.upstream.servers import (
    NETWORK_MANAGER_RESOLV_CONF,
    RESOLV_CONF,
    SERVERS_MAX,
    SYSTEMD_RESOLV_CONF,
    found_in_system,
    read_server,
    system_search_domains,
)
from p2pdns.state.kept import Copy

COPY_NAME = "upstream.servers"
COPY_BYTES_MAX = 1_024  # Eight addresses with their ports.
FILES = (RESOLV_CONF, SYSTEMD_RESOLV_CONF, NETWORK_MANAGER_RESOLV_CONF)

Signature = tuple[tuple[int, int, int, int] | None, ...]


class SystemServers:
    """What `[upstream] servers = "system"` means now."""

    def __init__(self, own: Sequence[Address], directory: Path | None = None, files: Sequence[Path] = FILES) -> None:
        self.servers: tuple[Address, ...] = ()
        self.search_domains: tuple[str, ...] = ()
        self.is_remembered = False
        self._is_only_ourselves = False
        self._own = tuple(own)
        self._files = tuple(files)
        self._copy = None if directory is None else Copy(directory / COPY_NAME)
        self._remembered = self._read_copy()
        self._signature: Signature = ()
        self.look()

    def look(self) -> bool:
        """Read the files if one of them is another than before; return whether servers or search domains are others."""
        signature = tuple(map(_signature_of, self._files))
        if signature == self._signature:
            return False
        self._signature = signature
        before = self.servers, self.search_domains
        found = found_in_system(self._own, self._files)
        self.servers, self.is_remembered = found.servers, False
        self._is_only_ourselves = found.is_only_ourselves
        if self._is_only_ourselves:
            self.fall_back()
        self.search_domains = system_search_domains(self._files[0])
        return (self.servers, self.search_domains) != before

    def fall_back(self) -> bool:
        """Take the servers used before, because the files lead to ourselves; return whether there are any."""
        if self.is_remembered or not self._remembered:
            return False
        self.servers, self.is_remembered = self._remembered, True
        return True

    def remember(self, servers: Sequence[Address]) -> None:
        """Keep the servers in use, one of which has replied, for the day when the files lead to ourselves alone.

        All are kept: the fastest is asked first, so a good second one may never have had a question.
        """
        # None are left when all have turned out to be ourselves; what is remembered is for just that day.
        if self._copy is None or not servers or self.is_remembered or set(servers) == set(self._remembered):
            return
        self._remembered = tuple(servers[:SERVERS_MAX])
        with self._copy.written() as draft:
            for host, port in self._remembered:
                draft.write(f"[{host}]:{port}")

    @property
    def problem(self) -> str | None:
        """What is wrong and the line to write; None where nothing is."""
        place = '[upstream] servers = "system"'
        if not self.servers and not self._is_only_ourselves:
            return (
                f"{place}: {self._files[0]} names no resolver, so ordinary names are refused; if that stays so, write "
                'servers = ["ADDRESS"] with the address of one'
            )
        nobody = f"{place}: {self._files[0]} leads to no resolver but this one"
        if not self.servers:
            return f'{nobody}, so ordinary names are refused; write servers = ["ADDRESS"] with the address of another'
        if self.is_remembered:
            listed = ", ".join(f'"{host}"' if port == DNS_PORT else f'"[{host}]:{port}"' for host, port in self.servers)
            return f"{nobody}, so the servers used before are asked; to stay with them, write servers = [{listed}]"
        return None

    def _read_copy(self) -> tuple[Address, ...]:
        lines = [] if self._copy is None else self._copy.lines(COPY_BYTES_MAX)
        servers = []
        for line in lines[:SERVERS_MAX]:
            try:
                servers.append(read_server(line))
            except FormatError:
                return ()
        return tuple(servers)


def _signature_of(path: Path) -> tuple[int, int, int, int] | None:
    try:
        # Of what a link leads to: resolv.conf is one on most machines, and often to a file that is replaced.
        about = os.stat(path)
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size
