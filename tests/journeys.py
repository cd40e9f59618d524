"""The journeys of docs/architecture.md made for real, and a tracer that writes down which files they pass.

A daemon stands in a thread of this process: an `Engine` and a `Front`, as the two processes have them, joined by their
real socket. A second node in another thread is the rest of the overlay. The tracer (`sys.setprofile`) watches the
thread of the daemon and the one that publishes; the second node and the clients are not watched.

Guarantees: nothing stands in for our own code; what the daemon does by its own timers belongs to no journey. Does not
know what the documents say.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from inspect import CO_OPTIMIZED
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import dns.message
import dns.query

import p2pdns
from p2pdns import log
from p2pdns.addresses import Address
from p2pdns.cli.main import main as p2pdns_main
from p2pdns.clock import boot_now, unix_now
from p2pdns.config import Config
from p2pdns.dht import bencode, krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.storage import Storage
from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.engine.main import Engine
from p2pdns.front.main import Front
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.sockets import address_of, open_udp
from p2pdns.state import State
from tests.house.rules import GROUND_FLOOR, LADDER, PACKAGE, is_inside, row_of

NETWORK = "journeys"
HERE: Address = ("127.0.0.1", 0)
GUARD_S = 60.0
ADDRESS = "192.0.2.80"
ZONE = f"$TTL 300\nwww A {ADDRESS}\n"
LOOP = "the event loop"
# A call that one of these began is the work of a timer or of a start, and not of the journey beside it.
BACKGROUND = ("engine.main", "front.main", "net.changes", "net.discovery")

Crossing = tuple[str, str, str]
"""The module that a call comes from, the module that it enters, and the function there."""

Watcher = Callable[[FrameType, str, object], None]
"""Called with what `sys.setprofile` says of a journey: frame, event, argument."""


def module_of(frame: FrameType) -> str | None:
    """Return the module of a frame below p2pdns; None for what is not ours, and for the body of a module or class."""
    name = str(frame.f_globals.get("__name__", ""))
    if not name.startswith(p2pdns.__name__ + ".") or not frame.f_code.co_flags & CO_OPTIMIZED:
        return None
    return name.removeprefix(p2pdns.__name__ + ".")


def stack_of(frame: FrameType | None) -> list[tuple[str, str]]:
    """Return (module, function) of every call of ours that a frame stands in, the outermost first."""
    calls = []
    while frame is not None:
        module = module_of(frame)
        if module is not None:
            calls.append((module, frame.f_code.co_qualname))
        frame = frame.f_back
    return calls[::-1]


def file_of(module: str) -> str:
    """Return the file of a module; its folder where that has a row of the ladder to itself, as dht/node/."""
    for room in chain.from_iterable(LADDER):
        if "." in room and is_inside(module, room):
            module = room
            break
    path = module.replace(".", "/")
    if not (PACKAGE / path).is_dir():
        return path + ".py"
    return path + ("/" if row_of(module) is not None and "." in module else "/__init__.py")


@dataclass
class Trace:
    """The calls into another module that a journey made, each where it was made for the first time."""

    crossings: dict[Crossing, None] = field(default_factory=dict)
    on_event: Watcher = lambda frame, event, argument: None

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """Note an event of `sys.setprofile`."""
        calls = stack_of(frame)
        if not calls or any(is_inside(calls[0][0], module) for module in BACKGROUND):
            return
        self.on_event(frame, event, argument)
        if event == "call" and module_of(frame) is not None:
            (came_from, _), (module, function) = [(LOOP, ""), *calls][-2:]
            if came_from != module:
                self.crossings[came_from, module, function] = None

    @property
    def files(self) -> list[str]:
        """The files that were entered, in that order, without the ground floor, which all others use, and the mains.

        Whether a main is passed is chance: a question arms the front's timer only where none is armed.
        """
        modules = [module for _, module, _ in self.crossings if module not in {*GROUND_FLOOR, *BACKGROUND}]
        return list(dict.fromkeys(map(file_of, modules)))


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Any) -> Any:
        """Return the result of a coroutine that runs there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(GUARD_S)

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return the result of a function that is called there."""

        async def called() -> Any:
            return function(*arguments)

        return self.run(called())

    def close(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(GUARD_S)
        self.loop.close()


class World:
    """One daemon, and one node that is the rest of the overlay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        log.configure("error")
        self._trace: Trace | None = None
        self._count = 0
        self._others, self._daemon = Loop(), Loop()
        self.others: Endpoint = self._others.run(self._open_others())
        self._daemon.run(self._open_daemon())

    async def _open_others(self) -> Endpoint:
        settings = NodeSettings(bind_host=HERE[0])
        storage = Storage()
        node = Node(node_id=None, network=NETWORK, entropy=os.urandom, storage=storage, settings=settings, now=0.0)
        return await Endpoint.open(node, HERE)

    async def _open_daemon(self) -> None:
        self.state = State.open(self.state_dir)
        config = Config()
        host, port = self.others.address[:2]
        dht = replace(
            config.dht, network=NETWORK, listen="127.0.0.1:0", listen_ipv6="off", bootstrap=(f"{host}:{port}",)
        )
        upstream = replace(config.upstream, servers="none")
        status = replace(config.status, log_level="error")
        config = replace(config, dht=replace(dht, lan_discovery=False), upstream=upstream, status=status)
        self.engine = Engine(config, self.state)
        await self.engine.open()
        assert await self.engine.endpoint.bootstrap([self.others.address])
        self.door = open_udp(HERE)
        self.front = Front(config, self.state_dir)
        await self.front.open([self.door], [])
        self._link = asyncio.create_task(self.front.link.run())
        await self.front.link.connected.wait()
        self._lasting = asyncio.all_tasks()

    async def _settled(self) -> None:
        """Wait until the daemon is done with what a journey leaves behind, such as the rest of a look-up."""

        def left() -> set[asyncio.Task[Any]]:
            tasks = asyncio.all_tasks() - self._lasting - {asyncio.current_task()}
            # What keeps a publication alive sleeps for an hour.
            return {task for task in tasks if "_kept_alive" not in repr(task.get_coro())}

        while tasks := left():
            await asyncio.wait(tasks)

    async def _close_daemon(self) -> None:
        self.front.close()
        self._link.cancel()
        await asyncio.gather(self._link, return_exceptions=True)
        await self.engine.close()
        self.state.close()
        self.door.close()

    def close(self) -> None:
        """End all of it."""
        self._daemon.run(self._close_daemon())
        self._others.call(self.others.close)
        self._daemon.close()
        self._others.close()

    @contextlib.contextmanager
    def traced(self, on_event: Watcher = lambda frame, event, argument: None) -> Iterator[Trace]:
        """Trace the daemon while the block runs, and in this thread the commands of `publish`."""
        trace = Trace(on_event=on_event)
        self._trace = trace
        self._daemon.run(self._settled())
        self._daemon.call(sys.setprofile, trace.profile)
        try:
            yield trace
            self._daemon.run(self._settled())
        finally:
            self._trace = None
            self._daemon.call(sys.setprofile, None)

    def new_secret(self) -> SecretKey:
        """Return the key of a zone that no journey has seen."""
        self._count += 1
        return SecretKey.generate(self._count.to_bytes(32))

    # The journeys: each with a zone of its own, so that nothing is known of it.

    def publish(self) -> None:
        """Publish a zone through the daemon, as the command line does."""
        secret = self.new_secret()
        key, zone = self.folder / f"{secret.zone_key}.key", self.folder / "journey.zone"
        key.touch(mode=0o600)
        key.write_bytes(secret.write(None))
        zone.write_text(ZONE)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            sys.setprofile(None if self._trace is None else self._trace.profile)
            try:
                status = p2pdns_main(["publish", "--state", str(self.state_dir), "-k", str(key), str(zone)])
            finally:
                sys.setprofile(None)
        assert status == 0, said.getvalue()

    def ask(self) -> None:
        """Ask the daemon over UDP for a name of a zone that only the rest of the overlay holds."""
        self.ask_for(self.hold_elsewhere())

    def hold_elsewhere(self) -> MutableItem:
        """Return the item of a new zone, which the rest of the overlay holds from now on."""
        item = signed(self.new_secret())
        self._others.call(self.others.node.storage.put_own, item, boot_now())
        return item

    def ask_for(self, item: MutableItem) -> None:
        """Ask for the name in the zone of an item."""
        query = dns.message.make_query(f"www.{item.key}.", "A", use_edns=True)
        host, port = address_of(self.door)[:2]
        response = dns.query.udp(query, host, timeout=GUARD_S, port=port)
        assert ADDRESS in response.to_text(), response

    def send_as_a_stranger(self) -> None:
        """Send two datagrams from a socket of nobody's: a get, and with the token of its reply a put."""
        item = signed(self.new_secret())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(GUARD_S)
            sock.connect(self.engine.endpoint.endpoints[0].address)
            found = self._exchange(sock, krpc.Get(item.target))
            assert isinstance(found, krpc.Reply)
            assert found.token is not None
            put = krpc.PutMutable(
                item.key.raw, item.seq, bencode.encode(item.value), item.signature, found.token, item.salt
            )
            stored = self._exchange(sock, put)
            assert isinstance(stored, krpc.Reply), stored

    @staticmethod
    def _exchange(sock: socket.socket, request: Any) -> object:
        asker, network = os.urandom(20), krpc.network_of(NETWORK)
        query = krpc.RequestMessage(transaction=b"aa", node_id=asker, request=request, read_only=True, network=network)
        sock.send(compose(query))
        return parse(sock.recv(2048))


def signed(secret: SecretKey) -> MutableItem:
    """Return an item of now that is a zone."""
    apex = secret.zone_key.apex
    rrset = RRset(Name.read("www.").under(apex), Type.A, 300, (ip_address(ADDRESS).packed,))
    return MutableItem.signed(secret, int(unix_now() * 1_000_000), compose_packet([rrset], apex))
