"""The way of changes out: to the zone file, to the overlay and to the secondaries, once a second at most.

Guarantees: what was changed while a publication was under way is published after it; a publication that did not reach
enough nodes is tried again, less and less often, and a newer change ends the waiting. Does not know how a zone is
signed or put: that is its `ZonePublisher`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from p2pdns.errors import P2pdnsError
from p2pdns.publishing.editions import Draft
from p2pdns.signer.zone import SignedZone
from p2pdns.timing import Clock

INTERVAL_S = 1.0  # Between two publications: each is a look-up and a put at some twenty nodes.
RETRY_S_MIN, RETRY_S_MAX = 2.0, 300.0  # A daemon that restarts needs seconds; an overlay that is away, longer.


@dataclass(frozen=True)
class ZonePublished:
    """The end of a publication: whether enough nodes hold the zone, and the words for it."""

    is_enough: bool
    text: str


class ZonePublisher(Protocol):
    """Signs a zone and brings it into the overlay."""

    async def publish(self, value: Draft) -> ZonePublished:
        """Publish a zone; P2pdnsError where that is not possible at all."""


class Outlet:
    """Brings a zone out whenever `wake` was called. `notify` tells the secondaries."""

    def __init__(
        self,
        zone: SignedZone,
        publisher: ZonePublisher,
        notify: Callable[[], None],
        *,
        clock: Clock,
        tell: Any,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._zone = zone
        self._publisher = publisher
        self._notify = notify
        self._clock = clock
        self._tell = tell
        self._sleep = sleep
        self._interval_s = interval_s
        self._woken = asyncio.Event()
        self._is_due = False
        self._told_serial: int | None = None
        self._retry_s = RETRY_S_MIN

    @property
    def is_due(self) -> bool:
        return self._is_due

    def wake(self) -> None:
        """Have the zone brought out."""
        self._is_due = True
        self._retry_s = RETRY_S_MIN
        self._woken.set()

    async def run(self) -> None:
        """Bring the zone out, for ever."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            began = self._clock()
            await self.bring_out()
            if self._is_due and not self._woken.is_set():
                await self._wait_for_retry()
            left_s = began + self._interval_s - self._clock()
            if left_s > 0:
                await self._sleep(left_s)

    async def _wait_for_retry(self) -> None:
        """Wait for the time of another try, or for a change."""
        retry = asyncio.ensure_future(self._sleep(self._retry_s))
        change = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait([retry, change], return_when=asyncio.FIRST_COMPLETED)
        finally:
            retry.cancel()
            change.cancel()
        self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)
        self._woken.set()

    async def bring_out(self) -> None:
        """Write the file, tell the secondaries and publish, once; what fails is logged, and stays due."""
        self._is_due = False
        self._write_back()
        if self._zone.serial != self._told_serial:
            self._told_serial = self._zone.serial
            self._notify()
        serial = self._zone.serial
        try:
            done = await self._publisher.publish(self._zone.value())
        except P2pdnsError as trouble:
            done = ZonePublished(False, f"{trouble}; {trouble.hint}" if trouble.hint else str(trouble))
        except asyncio.CancelledError:
            self._is_due = True
            raise
        if done.is_enough:
            self._tell.info("published", serial=serial, outcome=done.text)
        else:
            self._is_due = True
            self._tell.warning("not published yet, and tried again", serial=serial, outcome=done.text)

    def _write_back(self) -> None:
        try:
            self._zone.write_back()
        except P2pdnsError as trouble:
            # The journal has the change. A file with a mistake is being edited, and is left alone.
            self._tell.warning("the zone file is not written; the journal has the changes", why=str(trouble))
