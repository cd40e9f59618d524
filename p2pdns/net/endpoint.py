"""The DHT's socket around a node: datagrams in and out, one timer, futures instead of events.

Guarantees: at most 8 datagrams a wakeup, so that nothing else in the engine waits long; network errors are not
errors here; every future ends, at the latest when the endpoint closes. Does not know what a datagram means.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from p2pdns.addresses import Address
from p2pdns.clock import boot_now, unix_now
from p2pdns.dht import krpc
from p2pdns.dht.lookup import Item
from p2pdns.dht.node import (
    FindDone,
    GetDone,
    GetOutcome,
    GetPatient,
    ItemArrived,
    ItemFound,
    Joined,
    Node,
    PutDone,
    PutOutcome,
    PutProgress,
    Wanted,
)
from p2pdns.errors import Unavailable
from p2pdns.items.item import Present
from p2pdns.net.batch import read_batch, send_batch
from p2pdns.net.sockets import address_of, open_udp

DATAGRAMS_PER_WAKEUP_MAX = 8  # Some millisecond of work, then it is the turn of the questions.
# Taken from the socket at once, so that those with an item can be worked on first; taking one costs a fiftieth of that.
DATAGRAMS_TAKEN_MAX = 32
# Datagrams that timers wait for because they have come already: more than all replies in flight. No time, because a
# process that was not let run would have none left; and bounded, because a flood must not stop the timers.
BEHIND_DATAGRAMS_MAX = 256
DATAGRAM_BYTES_READ = 2_049  # One byte more than any message has, so that the node sees what is too long.
TIMER_S_MIN = 0.001  # What is due within a millisecond is done together.

T = TypeVar("T")


class _Sibling:
    """An endpoint as the node of the other family knows it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @property
    def wants_contacts(self) -> bool:
        """Whether it knows few."""
        return self._endpoint.node.wants_contacts

    def contacts_near(self, target: bytes, asker: Address) -> tuple[krpc.NodeInfo, ...]:
        """Return its contacts nearest to a target."""
        return self._endpoint.node.contacts_near(target, asker)

    def contacts_heard(self, contacts: tuple[krpc.NodeInfo, ...], source: Address, now: float) -> None:
        """Have it ask them."""
        self._endpoint.contacts_heard(contacts, source, now)


class Endpoint:
    """A node on the network."""

    def __init__(self, node: Node, sock: socket.socket) -> None:
        self.node = node
        self.on_arrival: Callable[[bytes, Item], None] | None = None
        # Called each time there are contacts after a time without any.
        self.on_joined: Callable[[], None] = _nothing
        self._sock = sock
        self._read_one = partial(sock.recvfrom, DATAGRAM_BYTES_READ)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        self._inbox: deque[tuple[bytes, Address]] = deque()
        self._is_empty = True
        self._is_behind = False
        self._behind_count = 0
        self._is_receiving = False
        self._gets: dict[int, tuple[asyncio.Future[GetOutcome], Callable[[Item], None]]] = {}
        self._patience: dict[int, Callable[[], None]] = {}
        self._puts: dict[int, tuple[asyncio.Future[PutOutcome], Callable[[int, int], None] | None]] = {}
        self._finds: dict[int, asyncio.Future[int]] = {}
        self._joins: list[asyncio.Future[int]] = []
        self._is_closed = False
        self._loop.add_reader(sock, self._readable)
        self._flush(boot_now())

    @classmethod
    async def open(cls, node: Node, bind: Address) -> Endpoint:
        """Return the endpoint of a node at an address; `Unavailable` when it cannot be bound."""
        return cls(node, open_udp(bind))

    @classmethod
    async def adopt(cls, node: Node, sock: socket.socket) -> Endpoint:
        """Return the endpoint of a node on a bound, non-blocking socket, which it then owns."""
        return cls(node, sock)

    @property
    def address(self) -> Address:
        """Where the socket is bound."""
        return address_of(self._sock)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Itself, where a node of both families has two."""
        return (self,)

    def pair_with(self, sibling: Endpoint) -> None:
        """Let the same node in the other address family tell of our contacts, and us hear of those that it is told."""
        self.node.pair_with(_Sibling(sibling))

    def contacts_heard(self, contacts: tuple[krpc.NodeInfo, ...], source: Address, now: float) -> None:
        """Hear of contacts that a node of the other family has told of."""
        self.node.contacts_heard(contacts, source, now)
        self._flush(now)

    def close(self) -> None:
        """Close the socket; whoever still waits gets `Unavailable`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._sock)
        self._sock.close()
        if self._timer is not None:
            self._timer.cancel()
        waiting: list[asyncio.Future[GetOutcome] | asyncio.Future[PutOutcome] | asyncio.Future[int]] = [
            *(future for future, _ in self._gets.values()),
            *(future for future, _ in self._puts.values()),
            *self._finds.values(),
            *self._joins,
        ]
        for future in waiting:
            if not future.done():
                future.set_exception(Unavailable("the overlay was closed"))
                # Who no longer waits must not be blamed for not having looked.
                future.exception()

    # Operations

    def get(
        self,
        wanted: Wanted,
        *,
        on_item: Callable[[Item], None],
        on_patient: Callable[[], None] | None = None,
    ) -> asyncio.Future[GetOutcome]:
        """Look an item up: `on_item` gets the first valid one at once and each better one, the future the outcome.

        `on_patient` is called where nothing was found and what follows loads the node no more. Deadlines are times of
        `p2pdns.clock.boot_now`. Where no present is given, the clock alone judges seqs. A cancelled future stops the
        look-up.
        """
        future = self._new_future(GetOutcome)
        now = boot_now()
        if wanted.present is None:
            wanted = replace(wanted, present=Present(unix_now()))
        number = self.node.start_get(wanted, now, tells_patience=on_patient is not None)
        self._gets[number] = (future, on_item)
        if on_patient is not None:
            self._patience[number] = on_patient
        future.add_done_callback(lambda done: self._stop(number, done))
        self._flush(now)
        return future

    def put(
        self,
        item: Item,
        *,
        cas: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        deadline: float | None = None,
    ) -> asyncio.Future[PutOutcome]:
        """Have the nearest nodes keep an item; `on_progress` gets how many others were asked and how many keep it."""
        future = self._new_future(PutOutcome)
        now = boot_now()
        number = self.node.start_put(item, now, cas=cas, deadline=deadline)
        self._puts[number] = (future, on_progress)
        future.add_done_callback(lambda done: self._stop(number, done))
        self._flush(now)
        return future

    def find(self, target: bytes) -> asyncio.Future[int]:
        """Look for the contacts nearest to a target; the future gets how many answered."""
        future = self._new_future(int)
        now = boot_now()
        number = self.node.start_find(target, now)
        self._finds[number] = future
        future.add_done_callback(lambda done: self._stop(number, done))
        self._flush(now)
        return future

    def bootstrap(self, addresses: Sequence[Address] = ()) -> asyncio.Future[int]:
        """Join by these addresses; the future gets the number of contacts once our neighbourhood is known."""
        future = self._new_future(int)
        now = boot_now()
        self.node.add_bootstrap(addresses, now)
        if self.node.has_joined:
            future.set_result(self.node.contact_count)
        else:
            self._joins.append(future)
        self._flush(now)
        return future

    def network_changed(self) -> None:
        """Ask again those that were silent, because this machine has another way to the network."""
        now = boot_now()
        self.node.network_changed(now)
        self._flush(now)

    def _new_future(self, kind: type[T]) -> asyncio.Future[T]:
        if self._is_closed:
            raise Unavailable("the overlay is closed")
        return self._loop.create_future()

    def _stop(
        self, number: int, future: asyncio.Future[GetOutcome] | asyncio.Future[PutOutcome] | asyncio.Future[int]
    ) -> None:
        if future.cancelled() and not self._is_closed:
            self.node.cancel(number, boot_now())
            self._flush(boot_now())
        self._gets.pop(number, None)
        self._patience.pop(number, None)
        self._puts.pop(number, None)
        self._finds.pop(number, None)

    # Datagrams and time

    def _readable(self) -> None:
        """Receive behind everything that is ready to run by now.

        What was found in the last datagrams is on its way to whoever waits for it in two steps of the loop, and so it
        leaves before the next datagrams are worked on.
        """
        if not self._is_receiving:
            self._is_receiving = True
            self._loop.call_soon(self._receive)

    def _receive(self) -> None:
        """Work on what has come, have done what is due, and send what follows from both."""
        if self._is_closed:
            return
        now = boot_now()
        try:
            count = self._work_on_datagrams(now)
            self._run_timers(now, count)
            self._flush(now)
        finally:
            self._loop.call_soon(self._received)

    def _received(self) -> None:
        self._is_receiving = False
        if self._is_behind:
            # What is in the socket would wake us up, but not what is in the inbox.
            self._readable()

    def _work_on_datagrams(self, now: float) -> int:
        """Work on a few datagrams, those that may hold an item before others that came with them; return how many."""
        inbox, node = self._inbox, self.node
        has_looked = not inbox
        if has_looked:
            self._take()
        count = 0
        # Whoever waits for what is found need not wait for what the others behind it bring.
        while inbox and count < DATAGRAMS_PER_WAKEUP_MAX and not node.has_event:
            node.receive_datagram(*inbox.popleft(), now)
            count += 1
        self._is_behind = bool(inbox) or not (has_looked and self._is_empty)
        return count

    def _run_timers(self, now: float, count: int) -> None:
        """Do what is due once the datagrams that came before are worked on: a reply in our own socket is no silence."""
        due = self.node.get_timer()
        if due is None or due > now:
            self._behind_count = 0
        elif self._is_behind and self._behind_count < BEHIND_DATAGRAMS_MAX:
            self._behind_count += max(count, 1)
        else:
            self._behind_count = 0
            self.node.handle_timer(now)

    def _take(self) -> None:
        others: list[tuple[bytes, Address]] = []
        batch, self._is_empty = read_batch(self._read_one, DATAGRAMS_TAKEN_MAX)
        for data, sender in batch:
            (self._inbox if krpc.may_hold_item(data) else others).append((data, sender[:2]))
        self._inbox += others

    def _timer_fired(self) -> None:
        self._timer = None
        self._timer_due = float("inf")
        if self._is_receiving:
            self._set_timer()
        else:
            self._readable()

    def _flush(self, now: float) -> None:
        """Send what is to be sent, hand out what happened, and set the timer."""
        if self._is_closed:
            return
        self._transmit(now)
        event = self.node.next_event()
        while event is not None:
            self._handle(event)
            event = self.node.next_event()
        if self._is_closed:
            return
        # Callbacks may have started operations of their own.
        self._transmit(now)
        self._set_timer()

    def _set_timer(self) -> None:
        due = self.node.get_timer()
        if due is not None and due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._loop.call_later(max(due - boot_now(), 0.0) + TIMER_S_MIN, self._timer_fired)

    def _transmit(self, now: float) -> None:
        # To the look-up, what the system does not take is a lost datagram like any other.
        send_batch(self._sock, self.node.datagrams_to_send(now))

    def _handle(self, event: object) -> None:
        match event:
            case ItemFound(number, item):
                found = self._gets.get(number)
                if found is not None:
                    found[1](item)
            case GetPatient(number):
                if (tell := self._patience.pop(number, None)) is not None:
                    tell()
            case GetDone(number, outcome):
                self._resolve(self._gets.get(number, (None, None))[0], outcome)
            case PutProgress(number, sent, stored):
                put = self._puts.get(number)
                if put is not None and put[1] is not None:
                    put[1](sent, stored)
            case PutDone(number, put_outcome):
                self._resolve(self._puts.get(number, (None, None))[0], put_outcome)
            case FindDone(number, _, answered_count):
                self._resolve(self._finds.get(number), answered_count)
            case ItemArrived(target, item):
                if self.on_arrival is not None:
                    self.on_arrival(target, item)
            case Joined(contact_count):
                self.on_joined()
                joins, self._joins = self._joins, []
                for future in joins:
                    self._resolve(future, contact_count)

    @staticmethod
    def _resolve(future: asyncio.Future[T] | None, result: T) -> None:
        if future is not None and not future.done():
            future.set_result(result)


def _nothing() -> None:
    return None
