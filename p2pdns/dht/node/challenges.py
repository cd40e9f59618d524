"""Replies that wait until their receivers have shown that they are where their queries came from.

Guarantees: a held reply goes out when its address has answered a ping of ours, and never otherwise; what is held is
bounded in addresses, in replies for each, and in time. Does not know when a challenge is due (`dht.guard` does).
"""

from __future__ import annotations

from collections.abc import Callable

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.requests import OutgoingRequest

# Of the 128 requests that may be in flight: a flood of sources that never answer leaves three quarters to look-ups.
CHALLENGES_MAX = 32
HELD_MAX = 4  # Replies for one address; a look-up that starts asks one node no more than a few things at once.


class _Challenge(OutgoingRequest):
    """The ping that proves an address, whatever id is there."""

    __slots__ = ("_challenges",)

    def __init__(self, challenges: Challenges, address: Address) -> None:
        super().__init__(krpc.Ping(), address, None, is_urgent=True)
        self._challenges = challenges

    def reply_received(self, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Send what was held."""
        del reply, size_bytes, now
        self._challenges.release(self.address)

    def error_received(self, error: krpc.Error, now: float) -> None:
        """Send what was held: a refusal comes from the same address as a reply would."""
        del error, now
        self._challenges.release(self.address)

    def timed_out(self, now: float) -> bool:
        """Drop what was held; an address that may be a victim is not asked twice."""
        del now
        self._challenges.drop(self.address)
        return False


class Challenges:
    """The pings that replies wait for; `send` sends what their answer has set free."""

    def __init__(self, core: Core, send: Callable[[bytes, Address], None]) -> None:
        self._core = core
        self._send = send
        self._held: dict[Address, list[bytes]] = {}

    def __len__(self) -> int:
        """Return the number of addresses that are waited for."""
        return len(self._held)

    @property
    def has_room(self) -> bool:
        """Whether another address may be challenged."""
        return len(self._held) < CHALLENGES_MAX and self._core.turns.room() > 0

    def join(self, address: Address, data: bytes) -> bool:
        """Put a reply to those that wait for the same address; False when none does."""
        waiting = self._held.get(address)
        if waiting is None:
            return False
        self._core.counters["reply-held"] += 1
        waiting.append(data)
        del waiting[:-HELD_MAX]
        return True

    def hold(self, address: Address, data: bytes, now: float) -> None:
        """Keep a reply back and ask its receiver whether it is there."""
        self._held[address] = [data]
        self._core.counters["reply-held"] += 1
        self._core.ask(_Challenge(self, address), now)

    def release(self, address: Address) -> None:
        """Send what was held for an address."""
        for data in self._held.pop(address, ()):
            self._send(data, address)

    def drop(self, address: Address) -> None:
        """Forget what was held for an address."""
        self._held.pop(address, None)
