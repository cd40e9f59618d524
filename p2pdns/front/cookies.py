"""DNS cookies (RFC 7873): they prove that a client reads what is sent to its address.

A server cookie has the 16 bytes of RFC 9018: version, three zeros, seconds, and a hash over these, the client cookie
and the client's address. The hash is BLAKE2s with a secret of this process, so the version is one for private use.

Guarantees: a cookie is valid only at the address it was made for, for an hour, and with the present secret or the one
before it; a cookie that was checked is not hashed again while it is valid; memory is bounded. The time and the source
of randomness are arguments. Does not know messages.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from p2pdns.addresses import unmapped

CLIENT_BYTES = 8  # RFC 7873 §4
COOKIE_BYTES_MIN, COOKIE_BYTES_MAX = 16, 40  # Of client and server cookie together; the latter has 8 to 32.
SERVER_BYTES = 16
VERSION = 240  # RFC 9018 §7: 1 stands for SipHash-2-4, 240 to 254 are for private use.
LIFETIME_S = 3600  # RFC 9018 §4.3, as the next two.
AHEAD_S_MAX = 300
RENEW_S = 1800
SECRET_S = 86_400.0  # RFC 7873 §7.1 allows 36 days and advises one; below LIFETIME_S two secrets are not enough.
SECRET_BYTES = 32  # The longest key of BLAKE2s.
KNOWN_MAX = 4096  # Cookies that need not be hashed again; each costs some 400 bytes.
FRESH_S = 60.0  # A client that never sends our cookie back gets the same one for so long: one hash, not one a query.


@dataclass(frozen=True, slots=True)
class Known:
    """A checked cookie of one address: whether it is valid, the cookie to send back, and how long both hold."""

    is_ours: bool
    reply: bytes
    until: float


def is_sized(cookie: bytes) -> bool:
    """Return whether a cookie has a length of RFC 7873 §5.2.2: a client cookie, alone or with a server cookie."""
    return len(cookie) == CLIENT_BYTES or COOKIE_BYTES_MIN <= len(cookie) <= COOKIE_BYTES_MAX


class Cookies:
    """The cookies of one server."""

    def __init__(self, entropy: Callable[[int], bytes], *, unix_at_zero: float = 0.0) -> None:
        self._entropy = entropy
        # The wall clock may jump, so it is read once and the boot clock counts from there.
        self._unix_at_zero = unix_at_zero
        self._secret = self._secret_before = entropy(SECRET_BYTES)
        self._secret_until: float | None = None
        self._known: dict[tuple[bytes, str], Known] = {}

    def known(self, cookie: bytes, host: str, now: float) -> Known:
        """Return whether a cookie of an allowed size is ours at this host, and what to send back."""
        known = self._known.get((cookie, host))
        if known is None or now >= known.until:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[(cookie, host)] = self._judged(cookie, host, now)
        return known

    def _judged(self, cookie: bytes, host: str, now: float) -> Known:
        self._rotate(now)
        client, server = cookie[:CLIENT_BYTES], cookie[CLIENT_BYTES:]
        address = unmapped(host).encode()
        seconds = int(self._unix_at_zero + now) & 0xFFFFFFFF
        age_s = _age_s(server, seconds)
        counts = age_s < LIFETIME_S
        is_present = counts and hmac.compare_digest(server, _made(self._secret, client, server[:8], address))
        is_before = counts and hmac.compare_digest(server, _made(self._secret_before, client, server[:8], address))
        if is_present and age_s < RENEW_S:
            return Known(True, cookie, now + RENEW_S - max(0, age_s))
        head = bytes([VERSION, 0, 0, 0]) + seconds.to_bytes(4, "big")
        reply = client + _made(self._secret, client, head, address)
        # A verdict of "ours" must end with the cookie's own lifetime.
        left_s = min(FRESH_S, LIFETIME_S - age_s) if counts else FRESH_S
        return Known(is_present or is_before, reply, now + left_s)

    def _rotate(self, now: float) -> None:
        if self._secret_until is None or now >= self._secret_until:
            if self._secret_until is not None:
                self._secret_before, self._secret = self._secret, self._entropy(SECRET_BYTES)
            self._secret_until = now + SECRET_S


def _age_s(server: bytes, seconds: int) -> int:
    """Return the age that a server cookie states; LIFETIME_S for one that cannot be a valid one of ours."""
    if len(server) != SERVER_BYTES or server[0] != VERSION:
        return LIFETIME_S
    # RFC 9018 §4.3: seconds are serial numbers (RFC 1982), which wrap.
    age_s = (seconds - int.from_bytes(server[4:8], "big")) & 0xFFFFFFFF
    if age_s >= 1 << 31:
        age_s -= 1 << 32
    return age_s if age_s >= -AHEAD_S_MAX else LIFETIME_S


def _made(secret: bytes, client: bytes, head: bytes, address: bytes) -> bytes:
    return head + hashlib.blake2s(client + head + address, key=secret, digest_size=8).digest()
