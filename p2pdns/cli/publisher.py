"""The signer of a server: the process that holds the keys of the `[[publish]]` tables and publishes their zones.

The supervisor starts it beside engine and front. Guarantees: it has no right but those of its user, and no other
process of that user can look into it; a table that cannot be published stops no other, and is reported to the engine
with the reason; it ends with the supervisor. Does not know when a table is due (`signer.tables` does), nor who may put.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from p2pdns import log, privileges
from p2pdns.admin.control import ControlClient
from p2pdns.admin.public_address import ask_daemon
from p2pdns.admin.publishing import publish_through, whole_through
from p2pdns.cli import committed, files
from p2pdns.cli.daemon_or_node import Daemon
from p2pdns.cli.settings import Given
from p2pdns.cli.tables import TableMemory, read_table_zone, refuse_mostly_gone, refuse_second, rules_for
from p2pdns.cli.threads import in_thread
from p2pdns.cli.unfinished import journal_of_table
from p2pdns.cli.watching import NotAgreed
from p2pdns.clock import boot_now
from p2pdns.config import Config, from_descriptor
from p2pdns.config.published import PublishTable
from p2pdns.directory import StateDirectory
from p2pdns.errors import P2pdnsError, StrangerError, Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.editions import Draft
from p2pdns.publishing.publication import Plan
from p2pdns.publishing.stored import Stored
from p2pdns.signer.keyfiles import read_key
from p2pdns.signer.tables import MostlyGone, TableEdition, TableKeeper, facts_of, trouble_text

AT_ONCE_MAX = 4  # Publications under way; each asks some forty nodes, which ration what one publisher may put.
CONTACTS_S_MAX = 10.0  # A node that joins has contacts within seconds; without any a zone is kept here, and put later.
POLL_S = 0.25
REPORT_S = 10.0  # An engine that was started again knows nothing of the tables until the next report.

_log = log.get_logger("signer")


class ZoneOfTable:
    """Reads and publishes the zone of one table through the daemon of a state directory."""

    def __init__(
        self, table: PublishTable, secret: SecretKey, config: Config, state: Path, turns: asyncio.Semaphore
    ) -> None:
        self._table = table
        self._secret = secret
        self._config = config
        self._state = state
        self._turns = turns
        self._last: tuple[Draft, TableEdition] | None = None

    def stamp(self) -> Hashable:
        """Return time, size and number of the file; None where it is not there."""
        return committed.stamp_of(self._table.zone)

    def beside(self) -> Hashable:
        """Return the same of the commitment beside the key."""
        return committed.stamp_of(committed.path_of(self._table.key))

    def read(self) -> str:
        """Return the text of the file; whatever else is there must not stop the loop of all tables."""
        return files.read_text(self._table.zone, is_regular=True)

    async def publish(self, text: str, settled: Mapping[str, str], *, is_first: bool) -> TableEdition:
        """Publish a text, if its zone is another than the last one."""
        async with self._turns:
            return await in_thread(lambda: self._publish(text, settled, is_first))

    async def addresses(self) -> Mapping[str, str | None]:
        """Return the public addresses that the daemon knows."""
        reported = await in_thread(lambda: ask_daemon(ControlClient(self._state)))
        return {f"public_{family}": one.address for family, one in reported.items()}

    def _publish(self, text: str, settled: Mapping[str, str], is_first: bool) -> TableEdition:
        key = self._secret.zone_key
        client = ControlClient(self._state)
        with client.session(), Daemon(self._config, Given(state_flag=str(self._state))) as daemon:
            if is_first:
                _wait_for_contacts(client)
            zone = read_table_zone(self._table, key, daemon, text, settled)
            if self._last is not None and self._last[0] == zone.value:
                return self._last[1]
            self._last = None
            edition = self._kept(client, zone.value, zone.public) if is_first else None
            if edition is None:
                edition = self._put(client, zone.value, zone.public)
            self._last = zone.value, edition
        return edition

    def _kept(self, client: ControlClient, value: Draft, public: Mapping[str, str]) -> TableEdition | None:
        """Return the edition that the daemon keeps alive from an earlier run, if it has this value."""
        key = str(self._secret.zone_key)
        if not any(zone["key"] == key and zone["kind"] == "own" for zone in client.call("zones")["zones"]):
            return None
        try:
            item = MutableItem.read_file(bytes.fromhex(client.call("item", key=key)["item"]))
            found = whole_through(client, item, lambda progress: None)
        except (P2pdnsError, ValueError):
            # It cannot be found at this moment: then it is published again.
            return None
        if not committed.has_value(found, value, committed.read(self._table.key, self._secret.zone_key)):
            return None
        return TableEdition(item.seq, public, f"kept alive as it is, seq {item.seq}")

    def _put(self, client: ControlClient, value: Draft, public: Mapping[str, str]) -> TableEdition:
        def approve(plan: Plan) -> None:
            hint = f"p2pdns publish --yes -k {self._table.key} {self._table.zone} publishes it all the same"
            refuse_mostly_gone(plan, self._table.zone, hint)

        memory = TableMemory(self._table.key, self._secret.zone_key, self._state)
        try:
            # The file of the commitment is read, and never written here: the folder may be another user's.
            rules = rules_for(self._table, self._secret.zone_key, approve=approve)
            journal = journal_of_table(self._table.key, str(self._secret.zone_key), self._state)
            done = publish_through(client, self._secret, value, memory=memory, rules=rules, journal=journal)
        except NotAgreed as trouble:
            raise MostlyGone(trouble.what, place=trouble.place, hint=trouble.hint) from None
        # The daemon has it and goes on putting it, so it is not signed again, whatever the others said.
        return TableEdition(done.seq, public, str(done), _trouble_of(done, str(self._secret.zone_key)))


def _trouble_of(done: Stored, key: str) -> str | None:
    texts = [] if done.is_done else [trouble_text(done.failure(key))]
    if done.rebased:
        seqs = ", ".join(map(str, done.rebased))
        texts.append(f"seq {seqs} came in between, from elsewhere; its change is kept, and is not in the zone file")
    return "; ".join(texts) or None


def _wait_for_contacts(client: ControlClient) -> None:
    """Let a node that has just been started find others, so that the first look-up sees what is published."""
    until = boot_now() + CONTACTS_S_MAX
    while not client.call("status")["status"]["contacts"] and boot_now() < until:
        time.sleep(POLL_S)


class Tables:
    """All tables of a server: those that can be published, and those whose key cannot be read."""

    def __init__(self, config: Config, state: Path, descriptors: Mapping[int, int]) -> None:
        self._state = state
        self._changed = asyncio.Event()
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)
        self.keepers: list[TableKeeper] = []
        self._rows: list[TableKeeper | dict[str, Any]] = []
        known: dict[str, int] = {}
        for index, table in enumerate(config.publish):
            try:
                secret = read_key(table.key, descriptors.get(index))
                key = str(secret.zone_key)
                refuse_second(known, key, index, table)
            except P2pdnsError as trouble:
                text = trouble_text(trouble)
                _log.error("a zone is not published", file=table.zone, why=text)
                self._rows.append(facts_of(table, None, f"{text}; restart the server then"))
                continue
            publisher = ZoneOfTable(table, secret, config, state, self._turns)
            keeper = TableKeeper(table, publisher, self._changed.set, key=key, clock=boot_now, tell=_log)
            self.keepers.append(keeper)
            self._rows.append(keeper)
        for descriptor in descriptors.values():
            os.close(descriptor)

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What is said of each table."""
        return [row.facts if isinstance(row, TableKeeper) else row for row in self._rows]

    async def wait_for_daemon(self) -> None:
        """Wait until the engine answers; it is started at the same time."""
        await in_thread(partial(_wait_for_daemon, self._state))

    async def report(self) -> None:
        """Tell the engine how the tables stand, at each change and again at times; for ever."""
        while True:
            self._changed.clear()
            with contextlib.suppress(P2pdnsError):
                await in_thread(partial(ControlClient(self._state).call, "tables", tables=self.facts))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._changed.wait()


def _wait_for_daemon(state: Path) -> None:
    while True:
        with contextlib.suppress(Unavailable):
            if ControlClient(state).is_running():
                return
        time.sleep(POLL_S)


async def _serve(config: Config, state: Path, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log.loop_trouble(log.get_limited_logger("signer", boot_now)))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    # The supervisor writes nothing to this pipe: it becomes readable when the supervisor is gone.
    loop.add_reader(options.alive_fd, ended.set)
    tables = Tables(config, state, dict(options.key_fd))

    def on_hangup() -> None:
        with contextlib.suppress(P2pdnsError, OSError):
            log.configure(from_descriptor(options.config_fd).status.log_level)
        for keeper in tables.keepers:
            keeper.reread()

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    work = asyncio.ensure_future(_work(tables))
    ending = asyncio.ensure_future(ended.wait())
    await asyncio.wait([work, ending], return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if work.done():
        # A part that ends has met a mistake of ours, and must not end unseen.
        work.result()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def _work(tables: Tables) -> None:
    await tables.wait_for_daemon()
    async with asyncio.TaskGroup() as group:
        group.create_task(tables.report())
        for keeper in tables.keepers:
            group.create_task(keeper.run())


def _key_fd(text: str) -> tuple[int, int]:
    index, _, descriptor = text.partition(":")
    return int(index), int(descriptor)


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options that the supervisor put on the command line."""
    parser = argparse.ArgumentParser(prog="p2pdns.cli.publisher", description="the signer process of p2pdns serve")
    parser.add_argument("--config-fd", type=int, required=True)
    parser.add_argument("--alive-fd", type=int, required=True)
    parser.add_argument("--state", required=True)
    parser.add_argument("--state-fd", type=int, required=True)
    parser.add_argument("--key-fd", type=_key_fd, action="append", default=[], metavar="TABLE:DESCRIPTOR")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the signer of a server and return its exit status."""
    # First of all: until then another process of the same user could look into this one.
    try:
        privileges.give_up_all()
        options = read_arguments(arguments)
        config = from_descriptor(options.config_fd)
        log.configure(config.status.log_level)
        state = StateDirectory(options.state_fd).path
        asyncio.run(_serve(config, state, options))
    except (P2pdnsError, StrangerError) as trouble:
        _log.error(str(trouble), hint=trouble.hint)
        return trouble.exit_code
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
