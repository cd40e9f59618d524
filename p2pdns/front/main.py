"""The front process: inherited sockets, their doors, the link to the engine, signals.

Guarantees: it ends with its supervisor, by SIGTERM or by SIGINT, and ends cleanly; at SIGHUP it takes over a new
configuration, except for the sockets; nothing that comes from the network makes a traceback on standard error. Does not
know how it is restarted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import p2pdns
from p2pdns import log
from p2pdns.addresses import read_network, write_address
from p2pdns.clock import boot_now, unix_now
from p2pdns.config import Config, from_descriptor
from p2pdns.directory import StateDirectory
from p2pdns.errors import P2pdnsError
from p2pdns.front.cache import AnswerCache
from p2pdns.front.cookies import Cookies
from p2pdns.front.doors.tcp import TcpDoor
from p2pdns.front.doors.udp import UdpDoor
from p2pdns.front.engine_link import EngineLink
from p2pdns.front.funnel import Funnel
from p2pdns.front.gate import AccessList, Gate
from p2pdns.garbage import collect_seldom
from p2pdns.link import Counters
from p2pdns.net.sockets import address_of, adopt

COUNTERS_S = 2.0  # The age of the front's counters in `p2pdns status`; a frame of a kilobyte costs microseconds.
ENGINE_WAIT_S = 5.0  # After so long without an engine, a line in the log says that the front waits for it.

_log = log.get_logger("dns")


class Front:
    """The doors, the funnel and the link of one front process."""

    def __init__(self, config: Config, state_dir: Path) -> None:
        texts = (f"p2pdns {p2pdns.__version__}".encode(), b"p2pdns")
        size = config.dns.udp_size_bytes_max
        cookies = Cookies(os.urandom, unix_at_zero=unix_now() - boot_now())
        gate = Gate(access_of(config), udp_size_max=size, server_texts=texts, cookies=cookies)
        self.funnel = Funnel(gate, AnswerCache(config.cache), now=boot_now())
        self.funnel.on_timer_changed = self._arm
        self.link = EngineLink(state_dir, self.funnel)
        self.tcp = TcpDoor(self.funnel, config.limits)
        self.udp: list[UdpDoor] = []
        self._timer: asyncio.TimerHandle | None = None
        self.apply(config)

    async def open(self, udp: Sequence[socket.socket], tcp: Sequence[socket.socket]) -> None:
        """Begin to read from the sockets."""
        self.udp = [UdpDoor(sock, self.funnel) for sock in udp]
        for sock in tcp:
            await self.tcp.listen(sock)

    def apply(self, config: Config) -> None:
        """Take over all settings that can change while running: all but the sockets."""
        dns = config.dns
        self.funnel.gate.access = access_of(config)
        self.funnel.gate.tcp_idle_ms = config.limits.tcp_idle_ms
        self.funnel.change_responses(udp_size=dns.udp_size_bytes_max, require_cookies=dns.require_cookies)
        self.funnel.cache.change_limits(config.cache)
        self.tcp.fairness.limits = config.limits

    @property
    def counters(self) -> dict[str, int]:
        """Return every counter of this process, with the name of its part in front."""
        rooms = [
            ("gate", self.funnel.gate.counters),
            ("cache", self.funnel.cache.facts),
            ("funnel", self.funnel.counters),
            ("link", self.link.counters),
            ("tcp", self.tcp.counters),
            *(("udp", door.counters) for door in self.udp),
        ]
        total: Counter[str] = Counter()
        for room, counters in rooms:
            total.update({f"{room}-{name}": count for name, count in counters.items()})
        return dict(total)

    async def report_counters(self) -> None:
        """Send the counters to the engine every two seconds, for ever."""
        while True:
            await asyncio.sleep(COUNTERS_S)
            self.link.report(Counters.of(self.counters))

    def close(self) -> None:
        """Stop reading, and close all connections."""
        for door in self.udp:
            door.close()
        self.tcp.close()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.funnel.get_timer()
        if due is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, due - boot_now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.funnel.handle_timer(boot_now())
        self._arm()


def access_of(config: Config) -> AccessList:
    """Return the access list that a configuration names."""
    allowed, listed = (
        [read_network(text) for text in texts] for texts in (config.dns.allow, config.dns.trusted_clients)
    )
    return AccessList(allowed, listed)


async def serve(front: Front, arguments: argparse.Namespace) -> None:
    """Serve until the supervisor ends or a signal says stop."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log.loop_trouble(log.get_limited_logger("dns", boot_now)))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, front, arguments.config_fd)
    # Only the supervisor holds the other end of this pipe and it writes nothing, so it is readable when that has ended.
    loop.add_reader(arguments.alive_fd, stopped.set)
    udp = [adopt(fd) for fd in arguments.udp_fd]
    tcp = [adopt(fd) for fd in arguments.tcp_fd]
    await front.open(udp, tcp)
    works = (front.link.run(), front.report_counters(), _announce(front, udp))
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await stopped.wait()
    finally:
        front.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _announce(front: Front, udp: Sequence[socket.socket]) -> None:
    # The line tells people that they can ask, so it waits for the engine; questions are accepted before that.
    try:
        await asyncio.wait_for(front.link.connected.wait(), ENGINE_WAIT_S)
    except TimeoutError:
        _log.warning("waiting for the engine; questions get stale answers or SERVFAIL until then")
        await front.link.connected.wait()
    for sock in udp:
        _log.info(f"listening on {write_address(address_of(sock))} (udp, tcp)")


def _reload(front: Front, config_fd: int) -> None:
    try:
        config = from_descriptor(config_fd)
        log.configure(config.status.log_level)
        front.apply(config)
    except (P2pdnsError, OSError, UnicodeDecodeError) as trouble:
        _log.error("configuration not taken over", reason=str(trouble))
    else:
        _log.info("configuration taken over")


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line, which the supervisor has written."""
    parser = argparse.ArgumentParser(prog="p2pdns.front.main", description="the front process of p2pdns serve")
    parser.add_argument("--config-fd", type=int, required=True)
    parser.add_argument("--alive-fd", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--state-fd", type=int)
    parser.add_argument("--udp-fd", type=int, action="append", default=[])
    parser.add_argument("--tcp-fd", type=int, action="append", default=[])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the front process and return its exit status."""
    options = read_arguments(arguments)
    try:
        config = from_descriptor(options.config_fd)
        log.configure(config.status.log_level)
        state = options.state if options.state_fd is None else StateDirectory(options.state_fd).path
        front = Front(config, state)
        collect_seldom()
        asyncio.run(serve(front, options))
    except KeyboardInterrupt:
        return 0
    except P2pdnsError as trouble:
        _log.error(str(trouble), hint=trouble.hint)
        return trouble.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
