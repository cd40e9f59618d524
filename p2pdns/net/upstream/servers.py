"""The ordinary resolvers and the search domains in the files of this machine.

Guarantees: a server is an address, never a name that would have to be looked up first; this resolver itself is not
among the servers; files of any size and content are read within a bound. Does not know when a server is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from p2pdns.addresses import Address, AddressClass, class_of
from p2pdns.dns.name import Name
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import FormatError

SERVERS_MAX = 8  # The C library reads three from resolv.conf; that of systemd may name some more.
STUB_HOSTS = ("127.0.0.53", "127.0.0.54")  # Of systemd-resolved, see its manual.
RESOLV_CONF = Path("/etc/resolv.conf")
# The second and third are read when the first names only a stub.
FILES = (RESOLV_CONF, Path("/run/systemd/resolve/resolv.conf"), Path("/run/NetworkManager/no-stub-resolv.conf"))
RESOLV_CONF_BYTES_MAX = 65_536
SEARCH_DOMAINS_MAX = 32  # The C library had six for decades; each costs a comparison for names that end like a key.


def system_servers(own: Sequence[Address], files: Sequence[Path]) -> tuple[tuple[Address, ...], bool]:
    """Return the name servers that the files name, and whether they name none but this resolver itself.

    The first file counts. If it names a stub, the first of the other files that names a usable server counts. A stub is
    that of systemd, or our own front (`own` are its addresses), which then stands in place of the network's servers.
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
