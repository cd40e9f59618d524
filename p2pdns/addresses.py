"""Classes, prefixes and texts of IP addresses.

Guarantees: every IPv4 and IPv6 address has exactly one class, the same on every Python (`ipaddress.is_private` changes
with patch releases, and has no class for documentation). Does not know what is done with a class: routing tables,
look-ups, the access list and the rebinding filter each have their own rule.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TypeVar

from p2pdns.errors import ConfigError, FormatError
from p2pdns.remembered import remembered

Address = tuple[str, int]
"""Host as text, and a port."""
Holder = TypeVar("Holder", bound=Hashable)

PREFIX_BITS_V4 = 24  # One customer or one small network: ISPs announce no smaller block.
PREFIX_BITS_V6 = 48  # One site (RFC 6177); within it addresses are free of charge.
CLIENT_BITS_V6 = 64  # One link, so mostly one machine, which can take any address of it.
LOOPBACK_CLIENT = "loopback"  # All of 127.0.0.0/8 and ::1: they are this machine.
LINK_BITS_V6 = 64  # One link: a host can take any address of it.
HOST_BITS_V6 = 64  # One machine: an IPv6 link gives it a whole /64 to choose addresses from (RFC 4291).
PARSED_HOSTS_MAX = 4096  # Host texts whose number is cached; a busy node talks to a few hundred at a time.


class AddressClass(Enum):
    """The kind of network that an address is in."""

    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    DOCUMENTATION = "documentation"
    UNUSABLE = "unusable"
    PUBLIC = "public"

    # Each class is one object. That of `Enum` is written in Python, and each datagram asks it several times.
    __hash__ = object.__hash__


NON_PUBLIC = frozenset({AddressClass.LOOPBACK, AddressClass.PRIVATE, AddressClass.LINK_LOCAL})
# A stranger may publish these: public addresses lead out of the reader's network, documentation addresses nowhere.
PUBLISHABLE = frozenset({AddressClass.PUBLIC, AddressClass.DOCUMENTATION})


@dataclass(frozen=True, slots=True)
class Network:
    """A block of addresses, as in an access list.

    >>> read_network("192.168.0.0/16").has("192.168.7.1")
    True
    """

    version: int
    first: int
    bits: int

    def has(self, host: str) -> bool:
        """Return whether the host lies in the block; an IPv4-mapped host counts as the IPv4 address it is."""
        version, number = _parsed(unmapped(host))
        return self._covers(version, number)

    def _covers(self, version: int, number: int) -> bool:
        shift = (32 if version == 4 else 128) - self.bits
        return version == self.version and number >> shift == self.first >> shift

    def __str__(self) -> str:
        return f"{_text(self.version, self.first)}/{self.bits}"


_MAPPED = Network(6, 0xFFFF << 32, 96)  # IPv4-mapped: a dual-stack socket shows an IPv4 client by such an address.


def read_network(text: str) -> Network:
    """Return the block that a text such as `10.0.0.0/8`, `fd00::/8` or `192.0.2.1` names."""
    hint = 'write a block such as "192.168.0.0/16" or "fd00::/8", or a single address'
    try:
        loose = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ConfigError(f'"{text}" is not a block of addresses', hint=hint) from None
    try:
        ipaddress.ip_network(text.strip())
    except ValueError:
        # A set host bit is mostly a typing mistake, and the two readings allow different clients.
        raise ConfigError(f'"{text}" has host bits set', hint=f'did you mean "{loose}"?') from None
    network = Network(loose.version, int(loose.network_address), loose.prefixlen)
    if _MAPPED._covers(network.version, network.first) and network.bits >= _MAPPED.bits:
        # `has` matches an IPv4-mapped host as an IPv4 address, so the block must be an IPv4 block too.
        return Network(4, network.first & 0xFFFFFFFF, network.bits - _MAPPED.bits)
    return network


def read_address(text: str, default_port: int | None = None) -> Address:
    """Return the (host, port) of `127.0.0.1:5300` or `[::1]:5300`; the port may be left out where there is a default.

    >>> read_address("[::1]:5300")
    ('::1', 5300)
    >>> read_address("192.0.2.1", 53)
    ('192.0.2.1', 53)
    """
    match = re.fullmatch(r"\[([^\]]*)\](?::([^:]*))?|([^:]*)(?::([^:]*))?", text)
    if match is None:
        # Two colons and no bracket: this can only be an IPv6 address without a port.
        host, port_text = text, None
        if default_port is None:
            raise ConfigError(f'"{text}" has no port', hint=f"write an IPv6 address as [{text}]:PORT")
    else:
        host = match[1] if match[1] is not None else match[3]
        port_text = match[2] if match[1] is not None else match[4]
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(f'"{text}" is not an address', hint="write ADDR:PORT, as 127.0.0.1:5300") from None
    if port_text is None:
        if default_port is None:
            raise ConfigError(f'"{text}" has no port', hint=f"write ADDR:PORT, as {text}:5300")
        return str(parsed), default_port
    if not re.fullmatch(r"[0-9]{1,5}", port_text) or int(port_text) > 65535:
        raise ConfigError(f'"{text}": "{port_text}" is not a port', hint="a port is a number from 0 to 65535")
    return str(parsed), int(port_text)


def write_address(address: Address) -> str:
    """Return the text that `read_address` reads back.

    >>> write_address(("::1", 53))
    '[::1]:53'
    """
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_any(host: str, networks: Iterable[Network]) -> bool:
    """Return whether the host lies in one of the blocks."""
    version, number = _parsed(unmapped(host))
    return any(network._covers(version, number) for network in networks)


@remembered(PARSED_HOSTS_MAX)
def _parsed(host: str) -> tuple[int, int]:
    try:
        # A scope ("%eth0") is no part of the address.
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        raise FormatError("not-an-address", repr(host[:64])) from None
    return address.version, int(address)


def packed_of(host: str) -> bytes:
    """Return the 4 (IPv4) or 16 (IPv6) bytes of an address.

    >>> packed_of("192.0.2.1").hex(), packed_of("fe80::1%eth0").hex()
    ('c0000201', 'fe800000000000000000000000000001')
    """
    version, number = _parsed(host)
    return number.to_bytes(4 if version == 4 else 16)


def _text(version: int, number: int) -> str:
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))


def _table(rows: Iterable[tuple[str, AddressClass]]) -> tuple[tuple[Network, AddressClass], ...]:
    """Return the rows, longest prefix first, so that the first match is the most exact one."""
    return tuple(sorted(((read_network(net), kind) for net, kind in rows), key=lambda row: -row[0].bits))


# IANA's special-purpose registries (RFC 6890 and successors), reduced to the classes above.
TABLE_V4 = _table(
    [
        ("0.0.0.0/8", AddressClass.UNUSABLE),  # "This network"; many systems connect 0.0.0.0 to themselves.
        ("10.0.0.0/8", AddressClass.PRIVATE),
        ("100.64.0.0/10", AddressClass.PRIVATE),  # Shared space behind a carrier's NAT, and every Tailscale host.
        ("127.0.0.0/8", AddressClass.LOOPBACK),
        ("169.254.0.0/16", AddressClass.LINK_LOCAL),  # Cloud metadata services live here.
        ("172.16.0.0/12", AddressClass.PRIVATE),
        ("192.0.0.0/24", AddressClass.UNUSABLE),
        ("192.0.2.0/24", AddressClass.DOCUMENTATION),
        ("192.88.99.0/24", AddressClass.UNUSABLE),
        ("192.168.0.0/16", AddressClass.PRIVATE),
        ("198.18.0.0/15", AddressClass.UNUSABLE),
        ("198.51.100.0/24", AddressClass.DOCUMENTATION),
        ("203.0.113.0/24", AddressClass.DOCUMENTATION),
        ("224.0.0.0/4", AddressClass.UNUSABLE),
        ("240.0.0.0/4", AddressClass.UNUSABLE),
        ("0.0.0.0/0", AddressClass.PUBLIC),
    ]
)
TABLE_V6 = _table(
    [
        ("::1/128", AddressClass.LOOPBACK),
        ("64:ff9b:1::/48", AddressClass.PRIVATE),  # A site's own NAT64 (RFC 8215): the site chooses what it embeds.
        ("2001::/23", AddressClass.UNUSABLE),  # Teredo, ORCHID, benchmarking: protocol assignments.
        ("2001:db8::/32", AddressClass.DOCUMENTATION),
        ("3fff::/20", AddressClass.DOCUMENTATION),
        ("fc00::/7", AddressClass.PRIVATE),
        ("fe80::/10", AddressClass.LINK_LOCAL),
        ("fec0::/10", AddressClass.PRIVATE),  # Site-local: deprecated, and still routed at some sites.
        ("2000::/3", AddressClass.PUBLIC),  # Global unicast.
        ("::/0", AddressClass.UNUSABLE),
    ]
)
_NAT64 = read_network("64:ff9b::/96")
_SIX_TO_FOUR = read_network("2002::/16")
# RFC 5214 §6.1: interface identifiers whose last half is an IPv4 address, with the u bit clear or set.
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


def _borders(table: Iterable[tuple[Network, AddressClass]], width: int) -> tuple[list[int], list[AddressClass]]:
    """Return the numbers at which a class begins, in order, and these classes: bisection is quicker than the table."""
    rows = tuple(table)
    edges = {edge for net, _ in rows for edge in (net.first, net.first + (1 << width - net.bits))}
    starts = sorted(edge for edge in edges if edge < 1 << width)
    version = 4 if width == 32 else 6
    return starts, [next(kind for net, kind in rows if net._covers(version, start)) for start in starts]


_BORDERS = {4: _borders(TABLE_V4, 32), 6: _borders(TABLE_V6, 128)}


def unmapped(host: str) -> str:
    """Return the IPv4 text of an IPv4-mapped host; any other host unchanged.

    >>> unmapped("::ffff:192.0.2.1")
    '192.0.2.1'
    """
    if ":" not in host or ("." not in host and "ffff" not in host.lower()):
        return host
    version, number = _parsed(host)
    return _text(4, number & 0xFFFFFFFF) if _MAPPED._covers(version, number) else host


def _embedded(number: int) -> int | None:
    """Return the IPv4 number inside a NAT64 or 6to4 number, if it is one."""
    if _NAT64._covers(6, number):
        return number & 0xFFFFFFFF
    if _SIX_TO_FOUR._covers(6, number):
        return number >> 80 & 0xFFFFFFFF
    return None


def _class(version: int, number: int) -> AddressClass:
    if version == 6 and (inner := _embedded(number)) is not None:
        # A translator sends the packet to the embedded address, so the class is that of the embedded address.
        return _class(4, inner)
    starts, kinds = _BORDERS[version]
    return kinds[bisect_right(starts, number) - 1]


@remembered(PARSED_HOSTS_MAX)
def class_of(host: str) -> AddressClass:
    """Return the class of an address; an IPv4-mapped one is unusable, because no packet can be sent to it."""
    return _class(*_parsed(host))


def is_non_public(host: str) -> bool:
    """Return whether the address is loopback, private or link-local.

    >>> class_of("100.64.0.1").value, is_non_public("100.64.0.1")
    ('private', True)
    """
    return class_of(host) in NON_PUBLIC


def prefix_of(address: Address) -> str:
    """Return the prefix that counts as one place, for rules that want several places.

    A /24 or /48; the address itself in private and link-local space (a LAN is one /24); address and port on loopback
    (all nodes of a demo have one address).

    >>> prefix_of(("203.0.113.7", 6881)), prefix_of(("10.1.2.3", 6881)), prefix_of(("127.0.0.1", 6881))
    ('203.0.113.0/24', '10.1.2.3', '127.0.0.1:6881')
    """
    is_whole, text = _prefix_of_host(address[0])
    return text if is_whole else write_address((text, address[1]))


@remembered(PARSED_HOSTS_MAX)
def _prefix_of_host(host: str) -> tuple[bool, str]:
    """Return whether the host alone decides its prefix, which is true but on loopback, and the prefix or the host."""
    version, number = _parsed(unmapped(host))
    if version == 6 and _NAT64._covers(6, number):
        # All of IPv4 is in one /48 here; the embedded address tells the places apart.
        version, number = 4, number & 0xFFFFFFFF
    kind = _class(version, number)
    if kind in NON_PUBLIC:
        return kind is not AddressClass.LOOPBACK, _text(version, number)
    return True, _block(version, number, PREFIX_BITS_V4 if version == 4 else PREFIX_BITS_V6)


def _block(version: int, number: int, bits: int) -> str:
    shift = (32 if version == 4 else 128) - bits
    return f"{_text(version, number >> shift << shift)}/{bits}"


@lru_cache(maxsize=PARSED_HOSTS_MAX)
def client_host(host: str) -> str:
    """Return the text by which a client is counted, so that one machine cannot count as many clients.

    All of loopback is one client; an IPv6 address counts as its /64, an IPv4 address as itself, IPv4-mapped or not.

    >>> client_host("127.9.9.9"), client_host("::1"), client_host("2001:db8::7"), client_host("::ffff:192.0.2.1")
    ('loopback', 'loopback', '2001:db8::/64', '192.0.2.1')
    """
    version, number = _parsed(unmapped(host))
    inner = _embedded(number) if version == 6 else None
    if inner is not None and _class(4, inner) is AddressClass.PUBLIC:
        # One IPv4 address owns a whole block of NAT64 or 6to4 addresses.
        version, number = 4, inner
    elif inner is None and _class(version, number) is AddressClass.LOOPBACK:
        return LOOPBACK_CLIENT
    return _text(version, number) if version == 4 else _block(version, number, CLIENT_BITS_V6)


@lru_cache(maxsize=PARSED_HOSTS_MAX)
def client_prefix(host: str) -> str:
    """Return the place of a client: its `prefix_of` in public space, elsewhere its `client_host`.

    >>> client_prefix("203.0.113.7"), client_prefix("10.1.2.3"), client_prefix("127.0.0.1")
    ('203.0.113.0/24', '10.1.2.3', 'loopback')
    """
    return client_host(host) if is_non_public(unmapped(host)) else prefix_of((host, 0))


def is_over_share(held: int, free: int) -> bool:
    """Return whether a client that holds `held` places may take no further one while `free` are free.

    No client may hold more places than are free: one client has half at most, two have a third each, n have n parts of
    n + 1. So there is always a place for a newcomer, and no place is reserved for clients that never come.

    >>> [is_over_share(held, 1024 - held) for held in (0, 511, 512)]
    [False, False, True]
    """
    return held >= free


def give_back(counts: Counter[Holder], holder: Holder) -> None:
    """Count one less of a holder of places; one that holds nothing is forgotten, so newcomers do not fill the memory.

    >>> counts = Counter(a=2, b=1)
    >>> give_back(counts, "a"), give_back(counts, "b"), counts
    (None, None, Counter({'a': 1}))
    """
    counts[holder] -= 1
    if not counts[holder]:
        del counts[holder]


def storage_prefix_of(address: Address) -> str:
    """Return the prefix that counts as one place in the storage of items: as `prefix_of`, but never a single host.

    A /24 or /48 in public space; a /24 or /64 in private and link-local space, where one machine can take every address
    of its network; address and port on loopback. A NAT64 or 6to4 address counts as its embedded IPv4 address.

    >>> storage_prefix_of(("10.1.2.3", 6881)), storage_prefix_of(("fd00:1:2:3::4", 6881))
    ('10.1.2.0/24', 'fd00:1:2:3::/64')
    """
    version, number = _parsed(unmapped(address[0]))
    kind = _class(version, number)
    if version == 6 and (inner := _embedded(number)) is not None:
        version, number = 4, inner
    elif kind is AddressClass.LOOPBACK:
        return prefix_of(address)
    if version == 4:
        return _block(version, number, PREFIX_BITS_V4)
    return _block(version, number, LINK_BITS_V6 if kind in NON_PUBLIC else PREFIX_BITS_V6)


def host_of(address: Address) -> str:
    """Return the text that counts as one machine: the address; its /64 in public IPv6 space; on loopback with its port.

    >>> host_of(("203.0.113.7", 6881)), host_of(("2600::1:2", 6881)), host_of(("127.0.0.1", 6881))
    ('203.0.113.7', '2600::/64', '127.0.0.1:6881')
    """
    key = _host_key(address[0])
    return write_address(address) if key is None else key


@remembered(PARSED_HOSTS_MAX)
def _host_key(host: str) -> str | None:
    version, number = _parsed(unmapped(host))
    inner = _embedded(number) if version == 6 else None
    if inner is not None:
        # One IPv4 address owns a whole block of NAT64 or 6to4 addresses.
        version, number = 4, inner
    kind = _class(version, number)
    if kind is AddressClass.LOOPBACK:
        return None
    is_single = version == 4 or kind in NON_PUBLIC
    return _text(version, number) if is_single else _block(version, number, HOST_BITS_V6)


def is_rebinding_risk(packed: bytes) -> bool:
    """Return whether an address of 4 or 16 bytes, published by a stranger, could lead into the reader's own network.

    True for every class but public and documentation. An embedded IPv4 address (NAT64, 6to4, ISATAP) is judged too.
    """
    if len(packed) not in (4, 16):
        raise FormatError("not-an-address", f"{len(packed)} bytes, 4 or 16 expected")
    version, number = (4 if len(packed) == 4 else 6), int.from_bytes(packed)
    if _class(version, number) not in PUBLISHABLE:
        return True
    # An ISATAP tunnel sends the packet to the embedded IPv4 address.
    is_isatap = version == 6 and number >> 32 & 0xFFFFFFFF in _ISATAP
    return is_isatap and _class(4, number & 0xFFFFFFFF) not in PUBLISHABLE


def is_rebinding_risk_block(packed: bytes, bits: int) -> bool:
    """Return whether a block has an address that is a rebinding risk; `packed` is its first address, 4 or 16 bytes.

    >>> is_rebinding_risk_block(bytes([8, 0, 0, 0]), 6), is_rebinding_risk_block(bytes([8, 0, 0, 0]), 8)
    (True, False)
    """
    if is_rebinding_risk(packed):
        return True
    version, width = (4, 32) if len(packed) == 4 else (6, 128)
    if not 0 <= bits <= width:
        raise FormatError("not-an-address", f"a block of {bits} bits, at most {width} allowed")
    number = int.from_bytes(packed)
    for network, shift in ((_NAT64, 0), (_SIX_TO_FOUR, 80)):
        if bits >= network.bits and network._covers(version, number):
            # The block fixes this many bits of the embedded address.
            inner = (number >> shift & 0xFFFFFFFF).to_bytes(4)
            return is_rebinding_risk_block(inner, min(32, bits - network.bits))
    first = number >> (width - bits) << (width - bits)
    starts, kinds = _BORDERS[version]
    # The class at the start of the block, and every class that begins within it.
    begin, end = bisect_right(starts, first) - 1, bisect_right(starts, first + (1 << (width - bits)) - 1)
    return any(kind not in PUBLISHABLE for kind in kinds[begin:end])
