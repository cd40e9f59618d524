"""NOTIFY out (RFC 1996): the secondaries that were named are told the new SOA, over UDP, until they answer.

Guarantees: nobody is told but those; five datagrams each at most for one change, further and further apart; a newer
change ends the telling of an older one. Does not know whether a secondary asks.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from p2pdns.addresses import Address, write_address
from p2pdns.dns.message import Message, Question
from p2pdns.dns.message.wire import compose
from p2pdns.dns.registry import Flag, Type
from p2pdns.signer.requests import NOTIFY, OPCODE_SHIFT
from p2pdns.signer.tsig import Key, Responses
from p2pdns.signer.zone import SignedZone
from p2pdns.timing import UnixClock

TARGETS_MAX = 32  # Secondaries of one zone; each is a socket for half a minute after a change.
# RFC 1996 §3.6 has a minute and five tries for distant servers; ours are near.
TRY_S = (1.0, 2.0, 4.0, 8.0, 16.0)


class _Conversation(asyncio.DatagramProtocol):
    """Waits for the response with the id of a NOTIFY."""

    def __init__(self, number: int, answered: asyncio.Future[int]) -> None:
        self._number = number
        self._answered = answered

    def datagram_received(self, data: bytes, addr: object) -> None:
        flags = int.from_bytes(data[2:4])
        if data[:2] == self._number.to_bytes(2) and flags & Flag.QR and not self._answered.done():
            self._answered.set_result(flags & 0x0F)

    def error_received(self, exc: Exception) -> None:
        """Ignore that no program listens there now; one may listen at the next try."""


class Notifier:
    """Tells the secondaries of a zone about its changes."""

    def __init__(
        self, zone: SignedZone, targets: Sequence[Address], key: Key, *, unix_clock: UnixClock, tell: Any
    ) -> None:
        self._zone = zone
        self._targets = tuple(targets)
        self._key = key
        self._clock = unix_clock
        self._tell = tell
        self._telling: list[asyncio.Task[None]] = []

    @property
    def is_done(self) -> bool:
        """Whether every secondary has answered, or was given up."""
        return all(task.done() for task in self._telling)

    def notify(self) -> None:
        """Begin to tell all of them the SOA of now."""
        self.close()
        self._telling = [asyncio.ensure_future(self._tell_one(target)) for target in self._targets]

    def close(self) -> None:
        """End the telling."""
        for task in self._telling:
            task.cancel()

    def _message(self, number: int) -> bytes:
        flags = NOTIFY << OPCODE_SHIFT | Flag.AA
        plain = compose(Message(number, flags, Question(self._zone.apex, Type.SOA), (self._zone.soa,)))
        return Responses(self._key, b"", number).signed(plain, self._clock())

    async def _tell_one(self, target: Address) -> None:
        loop = asyncio.get_running_loop()
        number = secrets.randbelow(1 << 16)
        answered: asyncio.Future[int] = loop.create_future()
        place = write_address(target)
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Conversation(number, answered), remote_addr=target
            )
        except OSError as trouble:
            self._tell.warning("a secondary cannot be told", secondary=place, why=str(trouble))
            return
        try:
            for try_s in TRY_S:
                transport.sendto(self._message(number))
                done, _ = await asyncio.wait([answered], timeout=try_s)
                if done:
                    if answered.result():
                        self._tell.warning("a secondary refuses NOTIFY", secondary=place, rcode=answered.result())
                    return
            self._tell.warning("a secondary does not answer NOTIFY", secondary=place, tries=len(TRY_S))
        finally:
            transport.close()
