"""The resolvers of this machine, followed while its files change: DHCP may come after us, and laptops move.

Guarantees: the next look sees any change of a file (an edit, a rename, another link); this resolver itself is not among
the servers; if no other is left, the servers used before are taken from a copy in the state directory; `problem` says
in words when that is so, and when there is no server at all. Does not know when to look, nor how a server is asked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from p2pdns.addresses import Address, read_address, write_address
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import ConfigError
from p2pdns.net.upstream.servers import FILES, SERVERS_MAX, system_search_domains, system_servers
from p2pdns.state.kept import Copy

COPY_NAME = "upstream.servers"
COPY_BYTES_MAX = 1_024  # Eight addresses with their ports.

Signature = tuple[tuple[int, int, int, int] | None, ...]


class SystemServers:
    """The servers that `[upstream] servers = "system"` means now."""

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
        """Read the files if one of them has changed; return whether servers or search domains have changed."""
        signature = tuple(map(_signature_of, self._files))
        if signature == self._signature:
            return False
        self._signature = signature
        before = self.servers, self.search_domains
        self.servers, self._is_only_ourselves = system_servers(self._own, self._files)
        self.is_remembered = False
        if self._is_only_ourselves:
            self.fall_back()
        self.search_domains = system_search_domains(self._files[0])
        return (self.servers, self.search_domains) != before

    def fall_back(self) -> bool:
        """Take the servers used before, because the files lead to this resolver; return whether there are any."""
        if self.is_remembered or not self._remembered:
            return False
        self.servers, self.is_remembered = self._remembered, True
        return True

    def remember(self, servers: Sequence[Address]) -> None:
        """Keep the servers in use, one of which has replied, for a time when the files lead to this resolver alone.

        All are kept: the fastest is asked first, so a good second one may never have had a question.
        """
        # No servers: all have turned out to be this resolver, which is when the remembered ones are needed.
        if self._copy is None or not servers or self.is_remembered or set(servers) == set(self._remembered):
            return
        self._remembered = tuple(servers[:SERVERS_MAX])
        with self._copy.written() as draft:
            for server in self._remembered:
                draft.write(write_address(server))

    @property
    def problem(self) -> str | None:
        """The problem and the line to write; None without a problem."""
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
        try:
            return tuple(map(read_address, lines[:SERVERS_MAX]))
        except ConfigError:
            return ()


def _signature_of(path: Path) -> tuple[int, int, int, int] | None:
    try:
        # The link is followed: on most machines resolv.conf is one, often to a file that is replaced.
        about = os.stat(path)
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size
