"""Protection from DNS rebinding: addresses that are not public are withheld from the answers of untrusted zones.

The scripts of a page in a stranger's zone may send requests to names of that zone; with an address of the reader's
network behind such a name, they reach that network. Guarantees: every address that is left is public or of
documentation, in A, AAAA, the hints of SVCB and HTTPS, and the other types whose RDATA has addresses: A6, AMTRELAY,
APL, IPSECKEY, L32, L64 and WKS. Does not know which zones are trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pdns.addresses import is_rebinding_risk, is_rebinding_risk_block
from p2pdns.dns.message import RR
from p2pdns.dns.message.rdata import svcb_params, with_svcb_params
from p2pdns.dns.registry import Type
from p2pdns.errors import FormatError
from p2pdns.values import replace

ADDRESS_BYTES = {int(Type.A): 4, int(Type.AAAA): 16}
HINT_BYTES = {4: 4, 6: 16}  # SvcParamKeys ipv4hint and ipv6hint (RFC 9460 §14.3.2), and the size of an address.
MANDATORY_KEY = 0
FAMILY_BYTES = {1: 4, 2: 16}  # IANA's address families IPv4 and IPv6, as APL and the gateways of tunnels number them.
LOCATOR_BITS = 64  # RFC 6742: L64 has the first half of an IPv6 address.
_WITH_HINTS = frozenset([int(Type.SVCB), int(Type.HTTPS)])


def without_risks(rrs: Iterable[RR]) -> tuple[tuple[RR, ...], int]:
    """Return the RRs that an untrusted zone may publish, and how many RRs lost an address or were left out."""
    kept: list[RR] = []
    count = 0
    for rr in rrs:
        safe = _safe(rr)
        count += safe is not rr
        if safe is not None:
            kept.append(safe)
    return tuple(kept), count


def _safe(rr: RR) -> RR | None:
    """Return the RR itself if it is safe, or the RR without unsafe hints, or None."""
    if rr.rtype in _WITH_HINTS:
        return _with_safe_hints(rr)
    is_risk = _RISKS.get(rr.rtype)
    if is_risk is None:
        return rr
    try:
        return None if is_risk(rr.rdata) else rr
    except (FormatError, IndexError):
        # RDATA that cannot be read may have any address.
        return None


def _has_locator(rdata: bytes) -> bool:
    # L32 and L64: a preference and a locator; the second half of an L64's address comes from another record.
    size = len(rdata) - 2
    if size not in (4, 8):
        raise FormatError("not-an-address", f"a locator of {size} bytes")
    return is_rebinding_risk(rdata[2:]) if size == 4 else is_rebinding_risk_block(rdata[2:] + bytes(8), LOCATOR_BITS)


def _has_gateway(rdata: bytes, kind_mask: int, at: int) -> bool:
    """Return whether the gateway of a tunnel is a risk; its kind is in the bits of byte 1 that the mask selects.

    A gateway that is a name (3) or absent (0) has no address; one of an unknown kind may have any.
    """
    kind = rdata[1] & kind_mask
    if kind in FAMILY_BYTES:
        packed = rdata[at : at + FAMILY_BYTES[kind]]
        return len(packed) < FAMILY_BYTES[kind] or is_rebinding_risk(packed)
    return kind not in (0, 3)


def _has_listed_block(rdata: bytes) -> bool:
    """Return whether a block of addresses in APL (RFC 3123) is a risk; a negated block counts too."""
    at = 0
    while at < len(rdata):
        family, bits, size = int.from_bytes(rdata[at : at + 2]), rdata[at + 2], rdata[at + 3] & 0x7F
        part = rdata[at + 4 : at + 4 + size]
        width = FAMILY_BYTES.get(family)
        if len(part) < size or (width is not None and size > width):
            raise FormatError("not-an-address", f"a block of {size} bytes")
        if width is not None and is_rebinding_risk_block(part + bytes(width - size), bits):
            return True
        at += 4 + size
    return False


def _has_suffix(rdata: bytes) -> bool:
    # A6 (RFC 2874, historic): the last bytes of an address; its first bits come from another name.
    size = 16 - rdata[0] // 8
    if rdata[0] > 128 or len(rdata) < 1 + size:
        raise FormatError("not-an-address", f"a suffix behind {rdata[0]} bits")
    return bool(size) and is_rebinding_risk(bytes(16 - size) + rdata[1 : 1 + size])


_RISKS: dict[int, Callable[[bytes], bool]] = {
    int(Type.A): lambda rdata: len(rdata) != ADDRESS_BYTES[Type.A] or is_rebinding_risk(rdata),
    int(Type.AAAA): lambda rdata: len(rdata) != ADDRESS_BYTES[Type.AAAA] or is_rebinding_risk(rdata),
    int(Type.WKS): lambda rdata: is_rebinding_risk(rdata[:4]),
    int(Type.L32): _has_locator,
    int(Type.L64): _has_locator,
    int(Type.APL): _has_listed_block,
    int(Type.A6): _has_suffix,
    int(Type.IPSECKEY): lambda rdata: _has_gateway(rdata, 0xFF, 3),
    int(Type.AMTRELAY): lambda rdata: _has_gateway(rdata, 0x7F, 2),
}
"""By type, the function that finds a risk in RDATA; FormatError or IndexError if the RDATA is malformed."""


def _with_safe_hints(rr: RR) -> RR | None:
    try:
        params = svcb_params(rr.rdata)
    except FormatError:
        return None  # As in `_safe`.
    left = tuple((key, safe) for key, value in params if (safe := _safe_hints(key, value)) or key not in HINT_BYTES)
    if left == params:
        return rr
    mandatory = dict(params).get(MANDATORY_KEY, b"")
    named = [int.from_bytes(mandatory[i : i + 2]) for i in range(0, len(mandatory), 2)]
    # A record that calls a missing parameter mandatory is malformed, and clients would drop it anyway.
    if any(key in named for key in HINT_BYTES if key not in dict(left)):
        return None
    return replace(rr, rdata=with_svcb_params(rr.rdata, left))


def _safe_hints(key: int, value: bytes) -> bytes:
    size = HINT_BYTES.get(key)
    if size is None:
        return value
    hints = [value[i : i + size] for i in range(0, len(value), size)]
    return b"".join([hint for hint in hints if not is_rebinding_risk(hint)])
