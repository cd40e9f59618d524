"""Which ordinary resolvers the configuration means, and what this machine's own files say of them.

Guarantees: a server is an address, never a name that would have to be looked up first; this resolver itself is not
taken from the system's files; files of any size and content are read within a bound. Does not know which of them is
asked, nor what.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from p2pdns.addresses import Address, AddressClass, class_of
from p2pdns.dns.name import Name
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import FormatError

SERVERS_MAX = 8  # resolv.conf of the C library has three; systemd's may have some more.
STUB_HOSTS = ("127.0.0.53", "127.0.0.54")  # systemd-resolved's, see its manual.
RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
NETWORK_MANAGER_RESOLV_CONF = Path("/run/NetworkManager/no-stub-resolv.conf")
RESOLV_CONF_BYTES_MAX = 65_536
SEARCH_DOMAINS_MAX = 32  # The C library had six for decades; each is looked at for names that end like a key.


def servers_of(setting: str | Sequence[str], own: Sequence[Address] = ()) -> tuple[Address, ...]:
    """Return the servers that the setting `system`, `none` or a list of addresses means.

    `own` is where this machine's own front listens: a server found in the system's files is not asked there.
    """
    if setting == "none":
        return ()
    if setting == "system":
        return system_servers(own)
    listed = [setting] if isinstance(setting, str) else setting
    return tuple(read_server(text) for text in listed)


def read_server(text: str) -> Address:
    """Return the address that `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:53` means."""
    host, port = text.strip(), ""
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65_536):
        raise FormatError("not-a-port", repr(port[:16]))
    class_of(host)  # FormatError where it is no address: names of servers would have to be looked up first.
    return host, int(port) if port else DNS_PORT


@dataclass(frozen=True, slots=True)
class InSystem:
    """What the system's files say; `is_only_ourselves`: there are servers in them, and all are this resolver."""

    servers: tuple[Address, ...]
    is_only_ourselves: bool


def found_in_system(own: Sequence[Address], files: Sequence[Path]) -> InSystem:
    """Return the name servers of this machine: those of the first file, and where these are a stub, the next ones'.

    A stub is systemd's, or our own front, which somebody has put in the place of what came from the network.
    """
    first, *others = files
    listed = _nameservers(first)
    found = [server for server in listed if not _is_own(server, own)]
    is_only_ourselves = bool(listed) and not found
    if is_only_ourselves or any(host in STUB_HOSTS for host, _ in found):
        behind = (_nameservers(path) for path in others)
        usable = ([one for one in some if not _is_own(one, own) and one[0] not in STUB_HOSTS] for some in behind)
        found = next(filter(None, usable), found)
    return InSystem(tuple(dict.fromkeys(found))[:SERVERS_MAX], is_only_ourselves and not found)


def system_servers(
    own: Sequence[Address] = (),
    files: Sequence[Path] = (RESOLV_CONF, SYSTEMD_RESOLV_CONF, NETWORK_MANAGER_RESOLV_CONF),
) -> tuple[Address, ...]:
    """Return the name servers of this machine, past stubs, without those that are ourselves."""
    return found_in_system(own, files).servers


def system_search_domains(resolv_conf: Path = RESOLV_CONF) -> tuple[str, ...]:
    """Return the domains that this machine puts behind names which it is asked for."""
    found: list[str] = []
    for words in _resolv_conf_lines(resolv_conf):
        # As the C library does: the last of these lines counts.
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
        # A listener on all addresses is also reached at every loopback address; the probe finds the others.
        if host == server[0] or (host in ("0.0.0.0", "::") and class_of(server[0]) is AddressClass.LOOPBACK):
            return True
    return False
