"""Addresses of the reader's own network, withheld from what strangers publish.

A page of a stranger's zone may run scripts against names of that zone; an address of the reader's network behind
such a name would hand those scripts the network (DNS rebinding). Guarantees: no address that leads there is left in
A, AAAA or the hints of SVCB and HTTPS. Does not know which zones are trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from p2pdns.addresses import is_rebinding_risk
from p2pdns.dns.message import RR, Type, svcb_params, with_svcb_params
from p2pdns.errors import FormatError

ADDRESS_BYTES = {int(Type.A): 4, int(Type.AAAA): 16}
HINT_BYTES = {4: 4, 6: 16}  # SvcParamKeys ipv4hint and ipv6hint (RFC 9460 §14.3.2), and the size of an address.
MANDATORY_KEY = 0


def without_risks(rrs: Iterable[RR]) -> tuple[tuple[RR, ...], int]:
    """Return the RRs a stranger may publish, and how many RRs lost an address or were left out."""
    kept: list[RR] = []
    count = 0
    for rr in rrs:
        safe = _safe(rr)
        count += safe is not rr
        if safe is not None:
            kept.append(safe)
    return tuple(kept), count


def _safe(rr: RR) -> RR | None:
    """Return the RR itself, or what is left of it."""
    size = ADDRESS_BYTES.get(rr.rtype)
    if size is not None:
        return None if len(rr.rdata) != size or is_rebinding_risk(rr.rdata) else rr
    if rr.rtype not in (Type.SVCB, Type.HTTPS):
        return rr
    try:
        params = svcb_params(rr.rdata)
        kept = tuple((key, _safe_hints(key, value)) for key, value in params)
    except FormatError:
        # What cannot be read cannot be called safe.
        return None
    left = tuple((key, value) for key, value in kept if value or key not in HINT_BYTES)
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
    return b"".join(hint for hint in hints if not is_rebinding_risk(hint))
