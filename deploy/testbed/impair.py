#!/usr/bin/env python3
"""Delay, jitter, loss, duplicates and a rate for the IPv4 packets that leave, or cross, this network namespace.

    impair --delay-ms 100 --jitter-ms 20 --loss-percent 10 [--path FROM TO]... [--seed 7]

For kernels without netem, whose words it uses. A policy rule routes the packets of each --path (networks, or "any";
default: every packet) into a TUN device; here each waits until it is due and then leaves through a raw socket whose
mark the rules pass by. Needs NET_ADMIN, NET_RAW and /dev/net/tun, and nothing but the standard library, because it
runs in containers beside nodes that have no rights at all. Prints one line of JSON when it has begun and one, with
its counters, when SIGTERM or SIGINT ended it.

Guarantees: its rules are gone when it ends; after SIGKILL its device is gone and the rules that are left lead nowhere,
so that packets go their usual way. With the same seed the same packets are lost. The number of packets that wait is
bounded. Does not know whose packets these are; leaves multicast that is bound to an interface alone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import heapq
import ipaddress
import json
import math
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

DEVICE = "impair0"
MARK = 0x70D5  # Any value with which no other program marks packets; `ip rule` shows it.
TABLE = 7055
RULE_OF_THE_SENT = 70  # Before the next: a packet that was held already goes by the table of a machine without us.
RULE_OF_THE_HELD = 71
PROTOCOL = "70"  # The origin that our rules carry, by which all of them can be deleted.

# 8,192 packets of 1,500 bytes are 12 MB, and 100 ms of 80,000 packets/s, more than Python sends. netem's own limit of
# 1,000 would turn the delay of a flood into a loss.
HELD_PACKETS_MAX = 8_192
READ_PACKETS_MAX = 256  # In one go, so that packets which are due never wait for a flood of new ones.
PACKET_BYTES_MAX = 65_535
TUN_QUEUE_PACKETS = 10_000  # The kernel holds these while this process is not scheduled; its default is 500.

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SO_MARK = 36
IPV4_HEADER_BYTES = 20


@dataclass(frozen=True)
class Impairment:
    """The settings for every packet. Jitter is uniform in ± `jitter_ms`; a rate of 0 is none."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    duplicate_percent: float = 0.0
    rate_kbit: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            # NaN compares false with everything, so a comparison that must hold refuses it.
            if not 0 <= value < math.inf:
                raise ValueError(f"{field.name} is {value:g}, which is below 0 or no number")
            if field.name.endswith("percent") and value > 100:
                raise ValueError(f"{field.name} is {value:g}, 100 allowed")


class Line:
    """The packets that wait, and the fate of each new one."""

    def __init__(self, impairment: Impairment, seed: int, held_packets_max: int = HELD_PACKETS_MAX) -> None:
        self._impairment = impairment
        # One source of chance each: whether the nth packet is lost does not depend on the other settings.
        self._loss, self._duplication, self._jitter = (random.Random(f"{seed} {what}") for what in ("l", "d", "j"))
        self._held_packets_max = held_packets_max
        self._held: list[tuple[float, int, bytes]] = []
        self._order = 0
        self._free_at = 0.0
        self.counters = dict.fromkeys(("taken", "lost", "duplicated", "overflowed", "sent", "refused"), 0)

    def take(self, packet: bytes, now: float) -> list[float]:
        """Decide about a packet that came at `now`; return when its copies are due (none: it is lost)."""
        self.counters["taken"] += 1
        is_lost = self._loss.random() * 100 < self._impairment.loss_percent
        is_doubled = self._duplication.random() * 100 < self._impairment.duplicate_percent
        self.counters["lost"] += is_lost
        self.counters["duplicated"] += is_doubled
        # netem's arithmetic: of a packet that is both, one is left.
        times = [self._due_time(packet, now) for _ in range(1 + is_doubled - is_lost)]
        return [due for due in times if self._hold(packet, due)]

    def _due_time(self, packet: bytes, now: float) -> float:
        if self._impairment.rate_kbit:
            # One packet after the other is written to a wire of that rate; then the way begins.
            now = self._free_at = max(now, self._free_at) + len(packet) * 8 / (self._impairment.rate_kbit * 1000)
        jitter_ms = self._jitter.uniform(-1, 1) * self._impairment.jitter_ms
        return now + max(0.0, self._impairment.delay_ms + jitter_ms) / 1000

    def _hold(self, packet: bytes, due: float) -> bool:
        if len(self._held) >= self._held_packets_max:
            self.counters["overflowed"] += 1
            return False
        self._order += 1
        heapq.heappush(self._held, (due, self._order, packet))
        return True

    def due(self, now: float) -> list[bytes]:
        """Take out the packets that are due, in the order of their times, equal ones in the order of their arrival."""
        packets = []
        while self._held and self._held[0][0] <= now:
            packets.append(heapq.heappop(self._held)[2])
        return packets

    def next_due(self) -> float | None:
        """Return when the next packet is due."""
        return self._held[0][0] if self._held else None


def run_ip(*arguments: str, check: bool = True) -> Any:
    """Run `ip -json`; return its output as values, None for no output."""
    done = subprocess.run(["ip", "-json", "-4", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and check:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def table_routes(routes: Sequence[dict[str, Any]], addresses: dict[str, str]) -> list[list[str]]:
    """Return the words of `ip route` that lead each destination of the main table into the device.

    The source address stays the one that the kernel would have chosen: without it a packet would leave with any
    address of the machine, and its reply come back on another way.
    """
    sources = [route.get("prefsrc") or addresses.get(route.get("dev", "")) for route in routes]
    return [
        [route["dst"], "dev", DEVICE, *(["src", source] if source else []), "table", str(TABLE)]
        for route, source in zip(routes, sources, strict=True)
    ]


def rule_words(paths: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return the words of the `ip rule` of each path, after the one for packets that we send ourselves."""
    rules = [["pref", str(RULE_OF_THE_SENT), "fwmark", hex(MARK), "lookup", "main"]]
    for source, destination in paths:
        ends = [*([] if source == "any" else ["from", source]), *([] if destination == "any" else ["to", destination])]
        rules.append(["pref", str(RULE_OF_THE_HELD), *ends, "lookup", str(TABLE)])
    return rules


def open_device() -> int:
    """Create the TUN device, with the routes of the main table and the least MTU of the others; return its descriptor.

    A device that is in use already is an error.
    """
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    # A filter leaves empty objects in place of the devices that it has left out.
    links = {link["ifname"]: link for link in run_ip("address", "show", "up", "scope", "global") or [] if link}
    mtu_bytes = min((int(link["mtu"]) for link in links.values()), default=1500)
    run_ip("link", "set", DEVICE, "mtu", str(mtu_bytes), "txqueuelen", str(TUN_QUEUE_PACKETS), "up")
    addresses = {name: link["addr_info"][0]["local"] for name, link in links.items() if link.get("addr_info")}
    routes = [route for route in run_ip("route", "show", "table", "main") or [] if route.get("dev") != DEVICE]
    for words in table_routes(routes, addresses):
        run_ip("route", "replace", *words)
    return tun


@contextlib.contextmanager
def rules_in_place(paths: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Put the rules in, and take them out at the end, after an error too; those of a killed predecessor go first."""
    flush = ("rule", "flush", "protocol", PROTOCOL)
    run_ip(*flush)
    try:
        for words in rule_words(paths):
            run_ip("rule", "add", *words, "protocol", PROTOCOL)
        yield
    finally:
        run_ip(*flush, check=False)


def carry(tun: int, raw: socket.socket, line: Line, stop: int) -> None:
    """Move packets from the device through the line to the raw socket until `stop` can be read."""
    while True:
        now = time.monotonic()
        send(raw, line, now)
        due = line.next_due()
        # select() takes microseconds, where epoll and poll round up to milliseconds.
        readable, _, _ = select.select([tun, stop], [], [], None if due is None else max(0.0, due - now))
        if stop in readable:
            return
        read_packets(tun, line)


def send(raw: socket.socket, line: Line, now: float) -> None:
    """Send the packets that are due."""
    for packet in line.due(now):
        try:
            raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
            line.counters["sent"] += 1
        except OSError:
            # No route any more, or a full socket buffer: a wire would have lost it too.
            line.counters["refused"] += 1


def read_packets(tun: int, line: Line) -> None:
    """Hand the packets that have come in to the line, at most as many as one turn may take."""
    for _ in range(READ_PACKETS_MAX):
        try:
            packet = os.read(tun, PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        # The kernel speaks IPv6 to every new device (router solicitations); that has no place to go.
        if len(packet) >= IPV4_HEADER_BYTES and packet[0] >> 4 == 4:
            line.take(packet, time.monotonic())


def network_of(text: str) -> str:
    """Return a network or "any" as `ip rule` reads it."""
    return "any" if text == "any" else str(ipaddress.IPv4Network(text))


def _say(facts: dict[str, object]) -> None:
    # At once: the program that started this one waits for the line.
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Impair until a signal ends it."""
    parser = argparse.ArgumentParser(prog="impair", description=(__doc__ or "").partition("\n")[0])
    settings = [field.name for field in fields(Impairment)]
    for name in settings:
        parser.add_argument("--" + name.replace("_", "-"), type=float, default=0.0)
    parser.add_argument("--path", nargs=2, action="append", type=network_of, metavar=("FROM", "TO"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        line = Line(Impairment(**{name: getattr(options, name) for name in settings}), options.seed)
    except ValueError as trouble:
        parser.error(str(trouble))
    # From here on a signal is a byte in a pipe: it cannot come between a rule and the plan to remove it.
    stop, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        tun = open_device()
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
            raw.setblocking(False)
            with rules_in_place(options.path or [("any", "any")]):
                _say({"event": "up"})
                carry(tun, raw, line, stop)
            # The end loses nothing: packets that still wait leave at once.
            read_packets(tun, line)
            send(raw, line, math.inf)
    except OSError as trouble:
        sys.stderr.write(f"impair: error: {trouble}\n")
        return 1
    _say({"event": "down", "counters": line.counters})
    return 0


if __name__ == "__main__":
    sys.exit(main())
