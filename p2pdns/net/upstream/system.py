"""The resolvers and search domains of this machine, followed while its files change: DHCP may come after us.

Guarantees: a server is an address, and never this resolver itself; files of any size and content are read within a
bound; the next look sees any change of a file (an edit, a rename, another link); if no other server is left, those used
before are taken from a copy in the state directory; `problem` says in words when that is so, and when there is no
server at all. Does not know when to look, nor how a server is asked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from p2pdns.addresses import Address, AddressClass, class_of, read_address, write_address
from p2pdns.dns.name import Name
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import ConfigError, FormatError
from p2pdns.net.upstream.standing import SERVERS_MAX
from p2pdns.state.kept import Copy

STUB_HOSTS = ("127.0.0.53", "127.0.0.54")  # Of systemd-resolved, see its manual.
RESOLV_CONF = Path("/etc/resolv.conf")
# The second and third are read when the first names only a stub.
FILES = (RESOLV_CONF, Path("/run/systemd/resolve/resolv.conf"), Path("/run/NetworkManager/no-stub-resolv.conf"))
RESOLV_CONF_BYTES_MAX = 65_536
SEARCH_DOMAINS_MAX = 32  # The C library had six for decades; each costs a comparison for names that end like a key.
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
        # Without servers (all turned out to be this resolver) the remembered ones are needed, so they stay.
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


def system_servers(own: Sequence[Address], files: Sequence[Path]) -> tuple[tuple[Address, ...], bool]:
    """Return the name servers that the files name, and whether they name none but this resolver itself.

    The first file counts. If it names a stub, the first of the other files that names a usable server counts. A stub is
    that of systemd, or our own front at `own`, if it is listed in place of the network's servers.
    """
    first, *others = files
    listed = _nameservers(first)
    found = [server for server in listed if not _is_own(server, own)]
    is_only_ourselves = bool(listed) and not found
    if is_only_ourselves or any(host in STUB_HOSTS for host, _ in found):
        behind = (_nameservers(path) for path in others)
        usable = ([one for one in some if not _is_own(one, own) and one[0] not in STUB_HOSTS] for some in behind)
        found = next(filter(None, usable), found)
    return tuple(dict.fromkeys(found))[:SERVERS_MAX], is_only_ourselves and not found


def system_search_domains(resolv_conf: Path = RESOLV_CONF) -> tuple[str, ...]:
    """Return the search domains of this machine, which programs append to names."""
    found: list[str] = []
    for words in _resolv_conf_lines(resolv_conf):
        # As in the C library, the last of these lines counts.
        found = words[1:] if words[:1] in (["search"], ["domain"]) else found
    domains = []
    for text in found[:SEARCH_DOMAINS_MAX]:
        with suppress(FormatError):
            domains += [text] if Name.read(text).labels else []
    return tuple(domains)


def _resolv_conf_lines(path: Path) -> list[list[str]]:
    try:
        with path.open("rb") as file:
            text = file.read(RESOLV_CONF_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return []
    return [line.split() for line in text.splitlines()]


def _nameservers(path: Path) -> list[Address]:
    servers = []
    for words in _resolv_conf_lines(path):
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                class_of(words[1])
            except FormatError:
                continue
            servers.append((words[1], DNS_PORT))
    return servers


def _is_own(server: Address, own: Sequence[Address]) -> bool:
    for host, port in own:
        if port != server[1]:
            continue
        # A listener on all addresses answers at every loopback address too; probes find the other ways to it.
        if host == server[0] or (host in ("0.0.0.0", "::") and class_of(server[0]) is AddressClass.LOOPBACK):
            return True
    return False
