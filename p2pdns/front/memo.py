"""The memo of the UDP door: the same bytes get the same response again, for less than a second.

Guarantees: but for the ID, a response is byte for byte what the cache would give: the key of the memo holds flags,
size, letter case and trust, the TTLs are those of the same second, and no answer was replaced or invalidated meanwhile.
A response with a cookie goes only to the host that it was made for. The memo keeps only answers of the cache, and only
allowed clients get them. Does not know what the bytes mean.
"""

from __future__ import annotations

from p2pdns.addresses import Address
from p2pdns.front.cache import AnswerCache
from p2pdns.front.gate import ECHOING_PORTS, AccessList
from p2pdns.link import Answer, ClientClass

ENTRIES_MAX = 4096  # Clients with random letter case (0x20) fill the memo with queries that never come again.


class Memo:
    """Responses by the exact bytes of their queries."""

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache
        self._version = 0
        # By query and trust: the response, its end, and the only host that may have it (None: every host may).
        self._responses: dict[tuple[bytes, bool], tuple[bytes, float, str | None]] = {}

    def clear(self) -> None:
        """Forget every response."""
        self._responses.clear()

    def response(self, data: bytes, address: Address, access: AccessList, now: float) -> bytes | None:
        """Return the response to a datagram that was answered already in this second, or None."""
        if self._version != self._cache.version:
            self._responses.clear()
            self._version = self._cache.version
            return None
        client_class, is_allowed = access.standing(address[0])
        found = self._responses.get((data[2:], client_class is not ClientClass.OTHER))
        if found is None or now >= found[1] or not is_allowed or address[1] in ECHOING_PORTS:
            return None
        if found[2] is not None and found[2] != address[0]:
            return None
        self._cache.counters["hit"] += 1
        return data[:2] + found[0]

    def keep(
        self, data: bytes, response: bytes, answer: Answer, is_trusted: bool, now: float, *, host: str | None
    ) -> None:
        """Keep the response to a datagram until its TTLs change; with `host`, for that host alone."""
        if self._version != self._cache.version or len(self._responses) >= ENTRIES_MAX:
            self._responses.clear()
            self._version = self._cache.version
        until = min(answer.made_at + int(max(0.0, now - answer.made_at)) + 1, answer.expiry)
        self._responses[(data[2:], is_trusted)] = (response[2:], until, host)
