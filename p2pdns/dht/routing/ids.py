"""Node ids: their XOR distance, and which of them BEP 42 allows at an address.

Guarantees: pure functions of bytes and addresses. Does not know nodes.
"""

from __future__ import annotations

from p2pdns.addresses import AddressClass, class_of, packed_of
from p2pdns.remembered import remembered

ID_BYTES = 20
ID_BITS = 160
HOSTS_REMEMBERED_MAX = 4_096  # Hosts whose CRC for BEP 42 is remembered: a full table and its guests.
_CRC32C_POLYNOMIAL = 0x82F63B78
_BEP42_MASK_V4 = 0x030F3FFF
_BEP42_MASK_V6 = 0x0103070F1F3F7FFF


def distance(one: bytes, other: bytes) -> int:
    """Return the XOR distance of two ids.

    >>> distance(bytes(20), bytes(19) + b"\\x05")
    5
    """
    return int.from_bytes(one) ^ int.from_bytes(other)


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_CRC32C_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `data`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@remembered(HOSTS_REMEMBERED_MAX)
def _bep42_crc(place: tuple[str, int]) -> int:
    """Return the CRC of BEP 42 for a host and the last byte of an id, of which three bits count."""
    host, random_byte = place
    packed = packed_of(host)
    if len(packed) == 4:
        number = int.from_bytes(packed) & _BEP42_MASK_V4 | (random_byte & 7) << 29
        return crc32c(number.to_bytes(4))
    number = int.from_bytes(packed[:8]) & _BEP42_MASK_V6 | (random_byte & 7) << 61
    return crc32c(number.to_bytes(8))


def id_for(host: str, random_bytes: bytes) -> bytes:
    """Return a node id that BEP 42 allows at `host`, made of 20 random bytes."""
    if class_of(host) is not AddressClass.PUBLIC:
        # Exempt, and better so: the rule would crowd all nodes of one host into eight spots of the id space.
        return random_bytes
    crc = _bep42_crc((host, random_bytes[19] & 7))
    head = (crc >> 8).to_bytes(3)
    return head[:2] + bytes([head[2] & 0xF8 | random_bytes[2] & 0x07]) + random_bytes[3:]


def is_id_allowed(node_id: bytes, host: str) -> bool:
    """Return whether BEP 42 allows `node_id` at `host`; addresses that are not public are exempt."""
    if class_of(host) is not AddressClass.PUBLIC:
        return True
    return int.from_bytes(node_id[:3]) >> 3 == _bep42_crc((host, node_id[19] & 7)) >> 11
