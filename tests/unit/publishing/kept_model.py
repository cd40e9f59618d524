"""Machines that come and go, forget and lie, as numbers: what a cycle costs and keeps, for days in a second."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.node.values import InquiryOutcome
from p2pdns.dht.routing.table import K
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.cycle import FORGET_S, KEEP_S, Cycle, LookEnd, Task

ITEM = MutableItem.signed(SecretKey.generate(b"\x01" * 32), 1_000, b"v")
# Half of the sessions are shorter than an hour; see `p2pdns.sim.churn`.
SHAPE, SCALE_S = 0.5, 3_600.0 / math.log(2) ** 2
PUT_DATAGRAMS = 98  # A look-up of 29 requests and 20 puts, each with its reply, as the simulator measured them.
HOUR_S, DAY_S, LOOK_EVERY_S = 3_600.0, 86_400.0, 300.0
STATE_LOST = 0.1
NEVER = float("-inf")


class Machine:
    """A machine that could store the item; the lower its number, the nearer it is."""

    def __init__(self, drawn: random.Random, number: int, forgetful: float, liars: float) -> None:
        self.contact = NodeInfo(bytes([number]) * 20, (f"10.0.{number}.1", 6_881))
        self.put_at = NEVER
        self._drawn = drawn
        self._is_up = drawn.random() < 0.5
        self._changes_at = drawn.weibullvariate(SCALE_S, SHAPE) * drawn.random()
        self._forgets = drawn.random() < forgetful
        self._lies = drawn.random() < liars

    def is_up(self, now: float) -> bool:
        """Return whether it is up; one that forgets has what it stores in memory only."""
        while self._changes_at <= now:
            self._is_up = not self._is_up
            self._changes_at += self._drawn.weibullvariate(SCALE_S, SHAPE)
            if (not self._is_up and self._forgets) or (self._is_up and self._drawn.random() < STATE_LOST):
                self.put_at = NEVER
        return self._is_up

    def has_it(self, now: float) -> bool:
        """Return whether it would show the item."""
        return not self._lies and now - self.put_at < (FORGET_S if self._forgets else KEEP_S)


@dataclass
class Upkept:
    """What some days of upkeep have cost, and how often a reader found the item."""

    datagrams_a_day: float
    availability: float


class Model:
    """A world of machines, and one item in it."""

    def __init__(self, seed: int, forgetful: float, liars: float, count: int = 120) -> None:
        self._drawn = random.Random(seed)
        self._machines = [Machine(self._drawn, number, forgetful, liars) for number in range(count)]
        self._of = {machine.contact: machine for machine in self._machines}
        self.datagrams = 0
        self.is_partitioned = False

    def put(self, now: float) -> list[NodeInfo]:
        """Put the item at the nearest machines; return those that acknowledge it."""
        self.datagrams += PUT_DATAGRAMS
        nearest = self._nearest(now)
        for machine in nearest:
            machine.put_at = now
        return [machine.contact for machine in nearest]

    def _nearest(self, now: float) -> list[Machine]:
        return [machine for machine in self._machines if machine.is_up(now)][:K]

    def ask(self, contact: NodeInfo, now: float, *, renews: bool) -> InquiryOutcome:
        """Return what a machine says to an inquiry."""
        machine = self._of[contact]
        if not machine.is_up(now):
            self.datagrams += 1
            return InquiryOutcome(request_count=1)
        self.datagrams += 4 if renews else 2
        item = ITEM if machine.has_it(now) else None
        if renews:
            machine.put_at = now
        return InquiryOutcome(has_answered=True, item=item, is_kept=renews, request_count=1 + renews)

    def is_found(self, now: float) -> bool:
        """Return whether a reader that asks the nearest machines finds the item."""
        return any(machine.has_it(now) for machine in self._nearest(now))

    def looked(self, cycle: Cycle, now: float) -> LookEnd:
        """Let a cycle look at its copies, as `Cycles.look` does."""
        finding = self._looked(cycle, now)
        return self._looked(cycle, now) if finding is LookEnd.FORGOTTEN else finding

    def _looked(self, cycle: Cycle, now: float) -> LookEnd:
        look = cycle.look()
        while asked := look.next():
            for one in asked:
                look.note(one, self.ask(one.contact, now, renews=look.renews(one)), ITEM, now)
        return look.conclude()

    def kept(self, days: float, *, by_looks: bool) -> Upkept:
        """Keep the item alive for some days: by the production code, or by a put an hour as it was before."""
        cycle = Cycle(self._drawn.random)
        cycle.begin(ITEM.seq, self.put(0.0), 0.0)
        due, reading_at, found = (cycle.pause_s(0.0) if by_looks else HOUR_S), LOOK_EVERY_S, []
        while due < days * DAY_S:
            while reading_at < due:
                found.append(self.is_found(reading_at))
                reading_at += LOOK_EVERY_S
            now = due
            if not by_looks:
                self.put(now)
                due = now + HOUR_S * (0.9 + 0.2 * self._drawn.random())
                continue
            if cycle.take(ITEM.seq) is Task.PUT or self.looked(cycle, now) is not LookEnd.ENOUGH:
                cycle.begin(ITEM.seq, self.put(now), now)
            due = now + cycle.pause_s(now)
        return Upkept(self.datagrams / days, sum(found) / len(found))
