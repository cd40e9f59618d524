"""The signer's process: its parts put together, its signals, its end.

Guarantees: SIGHUP reads the zone file again; SIGTERM and SIGINT answer no more, bring out what is due for a few
seconds, and end; what could not be brought out is in the journal and comes at the next start. Does not know the command
line, or how a zone is signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2pdns import log
from p2pdns.addresses import Address, AddressClass, class_of, write_address
from p2pdns.clock import boot_now, unix_now
from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.errors import P2pdnsError
from p2pdns.net.sockets import DnsSockets
from p2pdns.signer.answers import Hooks, Responder
from p2pdns.signer.filed import ZoneFile
from p2pdns.signer.journal import Journal
from p2pdns.signer.notify import Notifier
from p2pdns.signer.outlet import Outlet, ZonePublisher
from p2pdns.signer.primary import Primary
from p2pdns.signer.server import Doors
from p2pdns.signer.tsig import Keys, ReplayMemory
from p2pdns.signer.zone import SignedZone

END_S_MAX = 10.0  # For the last publication at the end; systemd waits for 90.
JOURNAL_ENDING = ".journal"


@dataclass(frozen=True)
class Settings:
    """The settings of a signer, fixed at its start; `made` returns the records that p2pdns alone makes."""

    apex: Name
    file: ZoneFile
    keys: Keys
    sockets: DnsSockets
    suffixes: Sequence[str]
    size_bytes_max: int
    notify: Sequence[Address] = field(default=())
    primary: Address | None = None
    primary_name: Name | None = None
    made: Callable[[], Sequence[RRset]] = tuple


def journal_path(zone_path: Path) -> Path:
    """Return where the journal of a zone file is: beside it, as that of BIND."""
    return zone_path.with_name(zone_path.name + JOURNAL_ENDING)


def run(settings: Settings, publisher: ZonePublisher) -> None:
    """Run a signer until a signal ends it; an error of its files before it answers."""
    asyncio.run(_run(settings, publisher))


async def _run(settings: Settings, publisher: ZonePublisher) -> None:
    logger = log.get_logger("signer")
    tell = log.LimitedLogger(logger, boot_now)
    memory = ReplayMemory()
    # A file with a mistake gets no journal beside it.
    settings.file.load()
    journal = Journal(journal_path(settings.file.path), str(settings.apex))
    try:
        zone = SignedZone(
            settings.file,
            journal,
            settings.apex,
            memory,
            size_bytes_max=settings.size_bytes_max,
            unix_clock=unix_now,
            tell=logger,
            made=settings.made,
        )
        await _Process(settings, publisher, zone, memory, logger, tell).run()
    finally:
        journal.close()


class _Process:
    """The parts of a running signer."""

    def __init__(
        self,
        settings: Settings,
        publisher: ZonePublisher,
        zone: SignedZone,
        memory: ReplayMemory,
        logger: object,
        tell: log.LimitedLogger,
    ) -> None:
        self._settings = settings
        self._zone = zone
        self._tell = tell
        key = next(iter(settings.keys.values()))
        self._notifier = Notifier(zone, settings.notify, key, unix_clock=unix_now, tell=tell)
        self._outlet = Outlet(zone, publisher, self._notifier.notify, clock=boot_now, tell=logger)
        self._primary: Primary | None = None
        if settings.primary is not None:
            self._primary = Primary(
                settings.primary, key, zone, self._outlet.wake, tell=logger, name=settings.primary_name
            )
        hooks = Hooks(self._outlet.wake, self._primary.notified if self._primary is not None else lambda: None)
        self._answers = Responder(
            zone,
            settings.keys,
            settings.suffixes,
            memory,
            hooks,
            unix_clock=unix_now,
            logger=logger,
            tell=tell,
            primary_host=None if settings.primary is None else settings.primary[0],
        )

    async def run(self) -> None:
        """Answer until a signal comes."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log.loop_trouble(self._tell))
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        doors = Doors(self._answers, tell=self._tell)
        await doors.open(self._settings.sockets)
        self._say_where()
        # The content of the journal or the file may not be in the overlay yet. A signer without content waits for its
        # primary.
        if self._primary is None or self._zone.content:
            self._outlet.wake()
        tasks = [asyncio.ensure_future(self._outlet.run())]
        if self._primary is not None:
            tasks.append(asyncio.ensure_future(self._primary.run()))
        ending = asyncio.ensure_future(ended.wait())
        try:
            # A part that ends has met a mistake of ours, and must not end unseen.
            await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            doors.close()
            self._notifier.close()
            ending.cancel()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        await self._bring_out_the_rest()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _reload(self) -> None:
        try:
            is_changed = self._zone.reload()
        except P2pdnsError as trouble:
            self._tell.error("the zone file is not taken", why=str(trouble))
            return
        self._tell.info("the zone file is read", changed=is_changed)
        if is_changed:
            self._outlet.wake()

    def _say_where(self) -> None:
        address = self._settings.sockets.address
        self._tell.info(
            "the signer answers", zone=self._zone.apex, address=write_address(address), serial=self._zone.serial
        )
        if class_of(address[0]) is not AddressClass.LOOPBACK:
            what = "other machines reach the signer: UPDATE and transfers need a TSIG, the rest is open to all"
            self._tell.warning(what, address=write_address(address))

    async def _bring_out_the_rest(self) -> None:
        if not self._outlet.is_due:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S_MAX):
                await self._outlet.bring_out()
