"""The network of a simulated world: datagram sockets in memory, delays and losses drawn from a seed, and rules.

Guarantees: no datagram leaves the process; the same seed and the same calls give the same history; each datagram is
in the trace before its fate is drawn. Does not know what datagrams mean.
"""

from __future__ import annotations

import hashlib
import math
import random
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TextIO, cast

from p2pdns.addresses import Address
from p2pdns.remembered import remembered
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.trace import Trace
from p2pdns.values import Value

FIRST_FILENO = 1 << 20  # Above all descriptors of the process itself.
SOCKET_DATAGRAMS_MAX = 512  # A receive buffer of the usual size holds about so many.
RTT_S_MEDIAN = 0.082
# Saroiu, Gummadi and Gribble (A Measurement Study of Peer-to-Peer File Sharing Systems, 2002) measured the round trips
# to peers of Gnutella: a fifth of them were below 70 ms, and a fifth above 280 ms. A log-normal law with these fifths
# has a sigma of ln(280 / 70) / (2 * 0.8416). With our median, one pair in twenty is above 318 ms, one in a hundred
# above 557 ms.
RTT_SIGMA = 0.824
PAIRS_REMEMBERED_MAX = 16_384  # Pairs of hosts whose round-trip time is kept; about 4 MB.
JITTER = 0.1  # Of a delay: datagrams sent within a tenth of it overtake each other.


class Datagram(Value, frozen=True):
    """A datagram that was just sent."""

    data: bytes
    sender: Address
    receiver: Address
    sent_at: float


Fate = tuple[float, ...]
"""For each copy, the seconds that it takes beyond the network's own delay; empty: the datagram is lost."""

Rule = Callable[[Datagram], Fate | None]
"""A kind of trouble: it returns the fate of a datagram, or None to leave it to the next rule."""

LOST: Fate = ()
ONCE: Fate = (0.0,)
TWICE: Fate = (0.0, 0.0)

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Weather:
    """For datagrams that no rule decides on. Loss, duplication and jitter (of a delay) are shares from 0 to 1."""

    loss: float = 0.0
    duplication: float = 0.0
    rtt_s_median: float = RTT_S_MEDIAN
    rtt_sigma: float = RTT_SIGMA
    jitter: float = JITTER


class VirtualSocket:
    """A bound datagram socket of the simulated network, as far as an endpoint uses one."""

    __slots__ = ("_address", "_fileno", "_network", "inbox")

    def __init__(self, network: VirtualNetwork, address: Address, fileno: int) -> None:
        # A list, because an empty deque takes 700 bytes, and more than one datagram seldom waits.
        self.inbox: list[tuple[bytes, Address]] = []
        self._network = network
        self._address = address
        self._fileno = fileno

    def fileno(self) -> int:
        """Return a number that no descriptor of the process has."""
        return self._fileno

    def getsockname(self) -> Address:
        """Return where it is bound."""
        return self._address

    def recvfrom(self, size_bytes: int) -> tuple[bytes, Address]:
        """Return the oldest datagram, cut to a size."""
        if not self.inbox:
            raise BlockingIOError
        data, sender = self.inbox.pop(0)
        return data[:size_bytes], sender

    def sendto(self, data: bytes, address: Address) -> int:
        """Send a datagram."""
        self._network.send(data, self._address, address)
        return len(data)

    def close(self) -> None:
        """Leave the network; what waits is lost."""
        self._network.closed(self._address)
        self.inbox.clear()


class VirtualNetwork:
    """Datagrams on their way. `rules` are asked in order, and the first that decides is followed."""

    def __init__(self, loop: VirtualLoop, seed: int, weather: Weather | None = None) -> None:
        self.rules: list[Rule] = []
        self.trace = Trace()
        # Compare these to find where two runs differ.
        self.lines: TextIO | None = None
        self.counters: Counter[str] = Counter()
        self.bytes_sent = 0
        self._loop = loop
        self._seed = seed
        self._random = random.Random(f"{seed}/network")
        self._sockets: dict[Address, VirtualSocket] = {}
        self._opened_count = 0
        self.weather = weather or Weather()

    @property
    def weather(self) -> Weather:
        """What holds for datagrams that no rule decides on; new weather holds from the next datagram on."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        """Change the weather."""
        self._weather = weather
        self._jitter = weather.jitter
        # The pairs that were remembered had their round trips from the old weather.
        self._rtt_s_of = remembered(PAIRS_REMEMBERED_MAX)(self._pair_rtt_s)

    def open(self, address: Address) -> socket.socket:
        """Return a socket that is bound to an address of this network."""
        assert address not in self._sockets, "the port is in use"
        self._sockets[address] = VirtualSocket(self, address, FIRST_FILENO + self._opened_count)
        self._opened_count += 1
        return cast(socket.socket, self._sockets[address])

    def closed(self, address: Address) -> None:
        """Deliver nothing to an address any more."""
        self._sockets.pop(address, None)

    def rtt_s(self, one: Address, other: Address) -> float:
        """Return the round-trip time between two hosts, which is the same each time and in both directions."""
        low, high = one[0], other[0]
        return self._rtt_s_of((low, high) if low < high else (high, low))

    def _pair_rtt_s(self, pair: tuple[str, str]) -> float:
        digest = hashlib.blake2s(f"{self._seed}/{pair[0]}/{pair[1]}".encode(), digest_size=8).digest()
        # Neither 0 nor 1, where the quantile would be infinite.
        share = (int.from_bytes(digest) + 0.5) / 2**64
        return self.weather.rtt_s_median * math.exp(self.weather.rtt_sigma * _NORMAL.inv_cdf(share))

    def send(self, data: bytes, sender: Address, receiver: Address) -> None:
        """Take a datagram, and let it arrive later, twice or never."""
        loop, random_share = self._loop, self._random.random
        now = loop.now
        self.counters["sent"] += 1
        self.bytes_sent += len(data)
        self.trace.add_datagram(now, sender, receiver, data)
        if self.lines is not None:
            self._write_line("datagram", sender, receiver, hashlib.blake2s(data).hexdigest())
        delay_s = self.rtt_s(sender, receiver) / 2
        for extra_s in self._fate(data, sender, receiver, now):
            jitter_s = delay_s * self._jitter * random_share()
            loop.happen_at(now + delay_s + jitter_s + extra_s, self._arrive, data, sender, receiver)

    def _fate(self, data: bytes, sender: Address, receiver: Address, now: float) -> Fate:
        rules = self.rules
        if rules:
            datagram = Datagram(data, sender, receiver, now)
            for rule in rules:
                fate = rule(datagram)
                if fate is not None:
                    self.counters["lost-by-rule"] += not fate
                    return fate
        # Both are drawn each time, so that a share of 0 changes nothing for other datagrams.
        weather, random_share = self._weather, self._random.random
        is_lost = random_share() < weather.loss
        is_doubled = random_share() < weather.duplication
        if is_lost:
            self.counters["lost"] += 1
            return LOST
        if is_doubled:
            self.counters["doubled"] += 1
            return TWICE
        return ONCE

    def _arrive(self, data: bytes, sender: Address, receiver: Address) -> None:
        there = self._sockets.get(receiver)
        if there is None or len(there.inbox) >= SOCKET_DATAGRAMS_MAX:
            self.counters["nobody-there" if there is None else "overrun"] += 1
            return
        there.inbox.append((data, sender))
        self._loop.arrived(there)

    def note(self, *facts: object) -> None:
        """Add something that happened now to the trace."""
        self.trace.add_fact(self._loop.now, facts)
        if self.lines is not None:
            self._write_line(*facts)

    def _write_line(self, *facts: object) -> None:
        if self.lines is not None:
            self.lines.write(repr((self._loop.now, *facts)) + "\n")
