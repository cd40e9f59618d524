"""Addresses and contacts in the compact forms of BEP 5 and BEP 32.

Guarantees: what is read has a port that is not 0; what is written is read back the same. Does not know whether an
address is usable (`p2pdns.addresses` does) or a contact alive.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from p2pdns.addresses import Address
from p2pdns.errors import FormatError

PACKED_HOSTS_MAX = 4_096  # Addresses whose packed form we remember: about what a full table and its guests hold.
_COMPACT_IPV4 = struct.Struct(">20s4BH")
_COMPACT_IPV6 = struct.Struct(">20s16sH")


class Contact(NamedTuple):
    """A node as KRPC names it: id and address."""

    node_id: bytes
    address: Address


def parse_address(data: bytes) -> Address | None:
    """Return the address in 6 or 18 bytes, None for another size or port 0."""
    if len(data) not in (6, 18):
        return None
    port = int.from_bytes(data[-2:], "big")
    return (_host_text(data[:-2]), port) if port else None


@lru_cache(maxsize=PACKED_HOSTS_MAX)
def compose_address(address: Address) -> bytes:
    """Return the 6 (IPv4) or 18 (IPv6) bytes of `address`."""
    host, port = address
    packed = ipaddress.ip_address(host.partition("%")[0]).packed
    return packed + port.to_bytes(2, "big")


def parse_contacts(data: bytes, *, ipv6: bool = False) -> tuple[Contact, ...]:
    """Return the contacts of `nodes` (26 bytes each) or `nodes6` (38), without those at port 0."""
    compact = _COMPACT_IPV6 if ipv6 else _COMPACT_IPV4
    if len(data) % compact.size:
        raise FormatError("krpc-nodes", f"{len(data)} bytes are no multiple of {compact.size}")
    if ipv6:
        return tuple(
            Contact(node_id, (_host_text(host), port)) for node_id, host, port in compact.iter_unpack(data) if port
        )
    return tuple(
        Contact(node_id, (f"{a}.{b}.{c}.{d}", port)) for node_id, a, b, c, d, port in compact.iter_unpack(data) if port
    )


def compose_contacts(contacts: Sequence[Contact]) -> bytes:
    """Return `contacts`, all of one family, as `nodes` or `nodes6` carries them."""
    return b"".join([contact.node_id + compose_address(contact.address) for contact in contacts])


def _host_text(packed: bytes) -> str:
    if len(packed) == 4:
        return "{}.{}.{}.{}".format(*packed)
    return str(ipaddress.IPv6Address(packed))
