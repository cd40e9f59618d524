"""Addresses and contacts in the compact forms of BEP 5 and BEP 32.

Guarantees: an address that was read has no port 0; reading returns the address that was written. Does not know whether
an address is usable (`p2pdns.addresses` does) or a contact alive.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from p2pdns.addresses import Address, packed_of
from p2pdns.errors import FormatError
from p2pdns.remembered import remembered

PACKED_HOSTS_MAX = 4_096  # Addresses whose packed form we remember: those of a full table and its guests.
# Contacts whose two forms we remember, about 2 MB: the replies of a look-up name the same neighbours twenty times.
CONTACTS_REMEMBERED_MAX = 4_096
ID_BYTES = 20
CONTACT_BYTES, CONTACT6_BYTES = 26, 38


class NodeInfo(NamedTuple):
    """A node as KRPC names it: id and address."""

    node_id: bytes
    address: Address


@remembered(CONTACTS_REMEMBERED_MAX)
def shared(contact: NodeInfo) -> NodeInfo:
    """Return an equal contact that many can keep: the nodes of a simulated world know the same others."""
    return contact


@remembered(PACKED_HOSTS_MAX)
def parse_address(data: bytes) -> Address | None:
    """Return the address in 6 or 18 bytes, None for another size or port 0."""
    if len(data) not in (6, 18):
        return None
    port = int.from_bytes(data[-2:], "big")
    host = "{}.{}.{}.{}".format(*data[:4]) if len(data) == 6 else str(ipaddress.IPv6Address(data[:-2]))
    return (host, port) if port else None


@remembered(PACKED_HOSTS_MAX)
def compose_address(address: Address) -> bytes:
    """Return the 6 (IPv4) or 18 (IPv6) bytes of `address`."""
    host, port = address
    return packed_of(host) + port.to_bytes(2, "big")


@remembered(CONTACTS_REMEMBERED_MAX)
def _parse_contact(data: bytes) -> NodeInfo | None:
    """Return the contact in 26 or 38 bytes, None at port 0."""
    address = parse_address(data[ID_BYTES:])
    return None if address is None else NodeInfo(data[:ID_BYTES], address)


@remembered(CONTACTS_REMEMBERED_MAX)
def _compose_contact(contact: NodeInfo) -> bytes:
    return contact.node_id + compose_address(contact.address)


def parse_contacts(data: bytes, *, ipv6: bool = False) -> tuple[NodeInfo, ...]:
    """Return the contacts of `nodes` (26 bytes each) or `nodes6` (38), without those at port 0."""
    if not data:
        return ()
    size = CONTACT6_BYTES if ipv6 else CONTACT_BYTES
    if len(data) % size:
        raise FormatError("krpc-nodes", f"{len(data)} bytes are no multiple of {size}")
    found = [_parse_contact(data[at : at + size]) for at in range(0, len(data), size)]
    return tuple([contact for contact in found if contact is not None])


def compose_contacts(contacts: Sequence[NodeInfo]) -> bytes:
    """Return `contacts`, all of one family, as `nodes` or `nodes6` carries them."""
    return b"".join([_compose_contact(contact) for contact in contacts])
