"""The engine process: the parts of the overlay's side put together, its timers, its signals, and how it ends.

Guarantees: one engine a state directory; `link.sock` and `control.sock` appear when questions can be answered; others'
items are on disk within seconds, contacts within a minute; SIGTERM, SIGINT and the supervisor's end are a clean end; a
mistake of the user's is one line and a hint, never a traceback. Does not know DNS clients (the front does).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from p2pdns import log
from p2pdns.addresses import read_address, write_address
from p2pdns.admin.commands import Commands
from p2pdns.admin.control_server import ControlServer
from p2pdns.admin.tables import PublishedTables
from p2pdns.clock import boot_now, unix_now
from p2pdns.config import Config, RefusedConfig, from_descriptor, newest_from_descriptor, resolve_state_dir
from p2pdns.dht.node.machine import Node
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.storage import Storage
from p2pdns.dht.stored import StoredChange
from p2pdns.directory import StateDirectory, runtime_directory
from p2pdns.engine.keeping import publisher_of
from p2pdns.engine.link_server import LinkServer
from p2pdns.engine.settings import changed_settings, in_force, needs_restart, node_settings, resolver_settings
from p2pdns.errors import P2pdnsError, StrangerError, Unavailable, counted
from p2pdns.garbage import collect_seldom
from p2pdns.items.keys import ZoneId
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.net.changes import NetworkWatch
from p2pdns.net.discovery import Discovery
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.families import Families, dht_socket, socket_beside
from p2pdns.net.sockets import address_of
from p2pdns.net.upstream.asking import Upstream
from p2pdns.net.upstream.current import Upstreams
from p2pdns.overlay.finder import Overlay
from p2pdns.publishing.revealing import Revealing
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.service import Service
from p2pdns.resolver.steps import Budget
from p2pdns.state import State
from p2pdns.state.blocklists import BlockLists, files_of
from p2pdns.state.clockwatch import ClockWatch
from p2pdns.state.store import SavedNode

SAVE_CHANGES_S = 5.0  # A crash loses the last seconds of others' items; a save is one commit of a few rows.
SAVE_CONTACTS_S = 60.0  # Contacts change slowly, and the first save is made soon after the start.
FOLLOW_S = 1.0  # How long a laptop that moves may wait for its new resolvers; a look is three system calls.
LOADED_AT_ONCE = 16  # Items verified in one go at the start: 4 ms, then other tasks run.
RELOAD_S_MAX = 5.0  # How long the supervisor may take to hand over a new configuration.

_log = log.get_logger("engine")


class Engine:
    """The parts of one engine and what holds them together."""

    def __init__(
        self,
        config: Config,
        state: State,
        *,
        dns_addresses: Sequence[str] = (),
        read_config: Callable[[], Config] | None = None,
        supervisor_pid: int | None = None,
    ) -> None:
        self.config = config
        self.state = state
        self.dns_addresses = tuple(dns_addresses)
        self.started_at = boot_now()
        self.supervisor_pid = supervisor_pid
        self._read_config = read_config
        self._reloaded = asyncio.Event()
        self._reload_result: dict[str, Any] = {}
        self.reload_trouble: P2pdnsError | None = None
        self.tables = PublishedTables()
        self._tasks: list[asyncio.Task[None]] = []
        # Each node (one of each family), and the name under which the state remembers it.
        self._nodes: dict[Node, str] = {}
        self.storage = Storage(items_max=config.limits.store_items_max, bytes_max=config.limits.store_bytes_max)
        self._discovery = Discovery(config.dht, state.store)
        self.upstreams = Upstreams(config.upstream, list(map(read_address, dns_addresses)), state.directory)
        self.clock_watch = ClockWatch(
            state.reader, unix_now, lambda now: self.storage.precedence.tell_time(boot_now(), now)
        )
        self.block_lists = BlockLists(state.directory)
        self._network_watch = NetworkWatch(self._network_changed)
        # A wrong name in the configuration is an error here, before any socket is opened.
        self._settings = self._settings_of(config)

    async def open(self) -> None:
        """Start every part; after this the sockets of front and control are there."""
        directory = self.state.directory
        assert directory is not None, "an engine has a state directory; short-lived nodes are put together otherwise"
        await self._open_overlay()
        # This comes before the first answer, so that no blocked name gets through.
        await self.block_lists.start(files_of(self.config.dns))
        self._settings = self._taken(self._settings_of(self.config))
        self._open_service()
        self._tasks.append(asyncio.create_task(self._load_store()))
        await self._discovery.join(self.endpoint)
        self.link = LinkServer(directory, self.service, epoch=secrets.randbits(63), clock=boot_now)
        await self.link.open()
        self._probe()
        self.part_keeper.start()
        self.publisher.start()
        self.revealing.start()
        self._network_watch.open()
        timers = (
            self._every(FOLLOW_S, self._follow_system),
            self._every(SAVE_CHANGES_S, lambda: self.state.store.save_changes(self._changes())),
            self._every(SAVE_CONTACTS_S, self._save_contacts, SAVE_CHANGES_S),
        )
        self._tasks += map(asyncio.create_task, timers)
        verbs, group = Commands(self).verbs, self.config.control.group
        self._control = ControlServer(directory, verbs, group=group, runtime=runtime_directory(os.environ))
        await self._control.open()
        network = f"network {self.node.network}, {counted(self.contact_count, 'contact')}"
        for endpoint in self.endpoint.endpoints:
            log.get_logger("dht").info(f"listening on {write_address(endpoint.address)} ({network})")

    def _taken(self, settings: ResolverSettings) -> ResolverSettings:
        """Return settings that are going to be in force, and protect the marks of the zones that they name."""
        self.state.reader.protect({*settings.petnames.values(), *settings.trusted})
        return settings

    async def _open_overlay(self) -> None:
        config = self.config.dht
        saved = self.state.store.load_node(config.network)
        sock = dht_socket(config.listen, None if saved is None else saved.port)
        first = await self._open_family(sock, config.network)
        self.node = first.node
        self.endpoint: Endpoint | Families = first
        sock_ipv6 = socket_beside(config.listen_ipv6, address_of(sock))
        if sock_ipv6 is not None:
            # One machine for each family, one storage for both (BEP 32).
            second = await self._open_family(sock_ipv6, f"{config.network} (IPv6)")
            self.endpoint = Families((first, second))

    async def _open_family(self, sock: socket.socket, remembered_as: str) -> Endpoint:
        saved = self.state.store.load_node(remembered_as)
        host, port = address_of(sock)
        now = boot_now()
        node = Node(
            node_id=None if saved is None else saved.node_id,
            network=self.config.dht.network,
            entropy=os.urandom,
            storage=self.storage,
            settings=node_settings(self.config.dht, host),
            now=now,
        )
        self.state.store.save_node(remembered_as, SavedNode(node.node_id, port))
        self._nodes[node] = remembered_as
        node.restore_contacts(self._discovery.saved, now)
        return Endpoint(node, sock)

    def _open_service(self) -> None:
        self.overlay = Overlay(
            self.endpoint,
            self.state.reader,
            clock=boot_now,
            unix_clock=unix_now,
            tell=log.get_limited_logger("overlay", boot_now).error,
        )
        self.endpoint.on_arrival = self.overlay.item_arrived
        self.service = Service(self.overlay, self.upstreams.current, self._settings, clock=boot_now)
        self.overlay.on_invalidate = self.service.invalidate
        for endpoint in self.endpoint.endpoints:
            endpoint.on_joined = self.overlay.joined
        self.publisher, self.part_keeper = publisher_of(
            self.endpoint, self.state, on_published=self.overlay.published, look_up=self._look_up
        )
        self.revealing = Revealing(
            self.endpoint,
            self.state.reader.revealed,
            clock=boot_now,
            jitter=random.random,
            tell=log.get_logger("publisher").warning,
        )

    async def _look_up(self, zone_id: ZoneId) -> None:
        self.overlay.flush(zone_id)
        await self.overlay.unfollowed(zone_id, True, Budget(deadline=boot_now() + QUESTION_S_MAX))

    def _follow_system(self) -> None:
        upstream = self.upstreams.look()
        if upstream is not None:
            self._probe()
            # The answers of the old upstreams go as well: they may have been those of another network.
            self.names_changed(upstream)
        elif self.upstreams.is_probe_due(boot_now()):
            self._probe()

    def _network_changed(self) -> None:
        for endpoint in self.endpoint.endpoints:
            endpoint.network_changed()
        self._discovery.network_changed()
        # Silent servers may be reached now, and the machine may have others.
        self.upstreams.current.flush()
        self._follow_system()

    def _settings_of(self, config: Config) -> ResolverSettings:
        return resolver_settings(config, self.state.reader.names.read(), self.block_lists.names)

    def _probe(self) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self.upstreams.probe()))

    async def close(self) -> None:
        """End every part, the sockets of front and control first, and save."""
        await self._control.close()
        await self.link.close()
        self.service.close()
        self._network_watch.close()
        await self._discovery.close()
        await self.publisher.close()
        await self.part_keeper.close()
        await self.revealing.close()
        self.block_lists.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.overlay.close()
        self.state.store.save_now(self.node.network, self._changes(), self._contacts())
        self.endpoint.close()

    # Timers

    async def _every(
        self, seconds: float, action: Callable[[], Awaitable[None] | None], first_seconds: float | None = None
    ) -> None:
        pause_s = seconds if first_seconds is None else first_seconds
        while True:
            await asyncio.sleep(pause_s)
            pause_s = seconds
            try:
                work = action()
                if work is not None:
                    await work
            except Exception as error:
                # If a timer ended, only the data missing after a restart would show it.
                _log.error("a timer's work broke off", reason=repr(error))

    async def _load_store(self) -> None:
        try:
            rows = self.state.store.rows()
        except Unavailable as error:
            _log.error("items kept for others stay away", reason=str(error))
            return
        now, unix = boot_now(), unix_now()
        for first in range(0, len(rows), LOADED_AT_ONCE):
            for row in rows[first : first + LOADED_AT_ONCE]:
                self.storage.load(row, now, unix)
            await asyncio.sleep(0)
        if rows:
            _log.info("items kept for others are back", loaded=len(self.storage), saved=len(rows))

    async def _save_contacts(self) -> None:
        self.clock_watch.look()
        await self._discovery.save(self._contacts())
        for node, name in self._nodes.items():
            saved = self.state.store.load_node(name)
            # BEP 42 may have given the node another id; the next run begins with that one.
            if saved is not None and saved.node_id != node.node_id:
                self.state.store.save_node(name, saved._replace(node_id=node.node_id))
        await self.state.reader.save()

    def _changes(self) -> list[StoredChange]:
        return self.storage.take_changes(boot_now(), unix_now())

    def _contacts(self) -> list[SavedContact]:
        return [contact for node in self._nodes for contact in node.contacts(boot_now())]

    # For the verbs of the control socket

    @property
    def contact_count(self) -> int:
        """How many contacts there are, in both families."""
        return sum(node.contact_count for node in self._nodes)

    @property
    def front_count(self) -> int:
        return len(self.link.connections)

    @property
    def counters(self) -> dict[str, dict[str, int]]:
        """Every counter, by room."""
        dht: Counter[str] = Counter()
        for node in self._nodes:
            # All nodes count their shared storage, but it must count once.
            dht.update(node.counters)
            dht.subtract(self.storage.counters)
        dht.update(self.storage.counters)
        rooms = {
            "dht": dht,
            "overlay": self.overlay.counters,
            "service": self.service.counters,
            "upstream": self.upstreams.current.counters,
            "link": self.link.counters,
            "publisher": self.publisher.counters + self.revealing.counters,
            "front": self.link.front_counters,
        }
        return {room: dict(sorted(counters.items())) for room, counters in rooms.items()}

    @property
    def hint(self) -> str | None:
        """What to do when there is no contact."""
        return self._discovery.hint or "the contacts of this node are silent; is the network up?"

    def names_changed(self, upstream: Upstream | None = None) -> None:
        """Take over the petnames and the block lists of now, and another upstream where there is one."""
        self.service.change_settings(self._taken(self._settings_of(self.config)), upstream)

    async def reload(self) -> dict[str, Any]:
        """Have the configuration read again, by the supervisor where there is one; return what took effect."""
        supervisor = self.supervisor_pid
        if supervisor is None or os.getppid() != supervisor:
            result = self.take_new_config()
            await self.block_lists.finished()
            return result
        self._reloaded.clear()
        # The supervisor reads the file, hands the result to both children and sends them SIGHUP.
        os.kill(supervisor, signal.SIGHUP)
        try:
            await asyncio.wait_for(self._reloaded.wait(), RELOAD_S_MAX)
        except TimeoutError:
            what = "the supervisor has not handed over a new configuration"
            raise Unavailable(what, place="reload", hint="its log may say why") from None
        if self.reload_trouble is not None:
            raise self.reload_trouble
        await self.block_lists.finished()
        return self._reload_result

    def take_new_config(self) -> dict[str, Any]:
        """Read the configuration again, take over the settings that need no restart, and return what took effect."""
        if self._read_config is None:
            raise Unavailable("this node was started without a configuration file", place="reload", hint="restart it")
        refusal: RefusedConfig | None = None
        try:
            config = self._read_config()
        except RefusedConfig as error:
            # The configuration in force may be newer than the one that was read here last.
            config, refusal = error.in_force, error
        settings = self._settings_of(config)
        changed = changed_settings(self.config, config)
        has_new_lists = self.block_lists.is_outdated(files_of(config.dns))
        if has_new_lists and not {"dns.block", "dns.block_except"} & set(changed):
            changed.append("dns.block")
        upstream = None
        if config.upstream != self.config.upstream:
            upstream = self.upstreams.use(config.upstream)
            self._probe()
        log.configure(config.status.log_level)
        self.service.change_settings(self._taken(settings), upstream)
        late = [setting for setting in changed if needs_restart(setting)]
        self.config = in_force(self.config, config)
        if has_new_lists:
            self.block_lists.begin(files_of(config.dns), self.names_changed)
        if refusal is not None:
            raise refusal
        self._reload_result = {"changed": changed, "needs_restart": late}
        self._reloaded.set()
        return self._reload_result

    def on_hangup(self) -> None:
        """Answer SIGHUP."""
        self.reload_trouble = None
        try:
            result = self.take_new_config()
        except (P2pdnsError, StrangerError, OSError, UnicodeDecodeError) as trouble:
            _log.error("configuration not taken over", reason=str(trouble))
            # A caller that waits at the control socket is told at once.
            ours = trouble if isinstance(trouble, P2pdnsError) else None
            self.reload_trouble = ours or Unavailable(str(trouble), place="configuration")
            self._reloaded.set()
            return
        _log.info("configuration taken over", **{word: ",".join(texts) or "nothing" for word, texts in result.items()})


def run(
    config: Config,
    state_dir: Path | StateDirectory,
    alive_fd: int | None = None,
    *,
    dns_addresses: Sequence[str] = (),
    reload: Callable[[], Config] | None = None,
) -> int:
    """Run an engine until a signal, or until no process holds the other end of `alive_fd`; return the exit status.

    This is all of `serve --no-dns`. `reload` reads the configuration again after SIGHUP.
    """
    log.configure(config.status.log_level)
    state = State.open(state_dir)
    try:
        pid = os.getppid() if alive_fd is not None and os.getppid() > 1 else None
        make = partial(Engine, config, state, dns_addresses=dns_addresses, read_config=reload, supervisor_pid=pid)
        collect_seldom()
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(make, alive_fd))
    finally:
        state.close()
    return 0


async def _serve(make: Callable[[], Engine], alive_fd: int | None) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log.loop_trouble(log.get_limited_logger("engine", boot_now)))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if alive_fd is not None:
        # The supervisor writes nothing to this pipe: it becomes readable when the supervisor is gone.
        loop.add_reader(alive_fd, stopped.set)
    engine = make()
    # Block lists may take seconds to read, and until then there is no part that could use another configuration.
    hung_up = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    await engine.open()
    loop.add_signal_handler(signal.SIGHUP, engine.on_hangup)
    if hung_up.is_set():
        engine.on_hangup()
    try:
        await stopped.wait()
    finally:
        await engine.close()


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options that the supervisor put on the command line."""
    parser = argparse.ArgumentParser(prog="p2pdns.engine.main", description="the engine process of p2pdns serve")
    parser.add_argument("--config-fd", type=int)
    parser.add_argument("--alive-fd", type=int)
    parser.add_argument("--state")
    parser.add_argument("--state-fd", type=int)
    parser.add_argument("--dns-listen", action="append", default=[])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the engine process and return its exit status."""
    options = read_arguments(arguments)
    fd: int | None = options.config_fd
    try:
        config = Config() if fd is None else from_descriptor(fd)
        state_fd: int | None = options.state_fd
        return run(
            config,
            resolve_state_dir(options.state, os.environ) if state_fd is None else StateDirectory(state_fd),
            options.alive_fd,
            dns_addresses=options.dns_listen,
            reload=None if fd is None else (lambda: newest_from_descriptor(fd)),
        )
    except (P2pdnsError, StrangerError) as trouble:
        sys.stderr.write(f"{log.priority('error')}p2pdns: error: {trouble}\n")
        if hint := getattr(trouble, "hint", None):
            sys.stderr.write(f"{log.priority('notice')}p2pdns: hint: {hint}\n")
        return getattr(trouble, "exit_code", 1)


if __name__ == "__main__":
    sys.exit(main())
