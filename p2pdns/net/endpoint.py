"""The DHT's socket around a node: datagrams in and out, one timer, futures in place of the node's events.

Guarantees: at most 8 datagrams a wakeup, so that nothing else in the engine waits long; a network error counts as a
lost datagram; every future ends, at the latest when the endpoint closes. Does not know what a datagram means.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from p2pdns.addresses import Address
from p2pdns.clock import boot_now, unix_now
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import may_hold_item
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import (
    Cas,
    Event,
    GetDone,
    GetOutcome,
    GetPatient,
    Inquiry,
    InquiryDone,
    InquiryOutcome,
    ItemArrived,
    ItemFound,
    Joined,
    PutDone,
    PutOutcome,
    PutProgress,
    Wanted,
)
from p2pdns.errors import Unavailable
from p2pdns.items.item import Item, Present
from p2pdns.net.batch import read_batch, send_batch
from p2pdns.net.sockets import address_of, open_udp
from p2pdns.timing import UnixClock

DATAGRAMS_PER_WAKEUP_MAX = 8  # About a millisecond of work; then the engine's questions have their turn.
# Datagrams read from the socket at once, to work on those with an item first; reading costs a fiftieth of the work.
DATAGRAMS_TAKEN_MAX = 32
# Due timers wait for so many datagrams that came before: more than all replies in flight. A count and not a time,
# because a process that was not scheduled would have no time left; bounded, because a flood must not stop the timers.
BEHIND_DATAGRAMS_MAX = 256
DATAGRAM_BYTES_READ = 2_049  # One byte more than any message has, so that the node sees that a datagram is too long.
TIMER_S_MIN = 0.001  # Timers that are due within a millisecond are handled together.


def _nothing(*_: object) -> None:
    return None


class _Operation(NamedTuple):
    """A get, put or inquiry under way: the future of its caller, and the callbacks that the caller gave."""

    future: asyncio.Future[Any]
    on_item: Callable[[Item], None] = _nothing
    on_patient: Callable[[], None] = _nothing
    on_progress: Callable[[int, int], None] = _nothing

    def handle(self, event: Event) -> None:
        match event:
            case ItemFound(_, item):
                self.on_item(item)
            case GetPatient():
                self.on_patient()
            case PutProgress(_, sent, stored):
                self.on_progress(sent, stored)
            case GetDone() | PutDone() | InquiryDone():
                _resolve(self.future, event.outcome)


class Endpoint:
    """A node on the network, with a bound, non-blocking socket, which the endpoint owns.

    To the node of the other address family it is a `Sibling`.
    """

    def __init__(self, node: Node, sock: socket.socket, unix_clock: UnixClock = unix_now) -> None:
        self.node = node
        self.on_arrival: Callable[[bytes, Item], None] | None = None
        self.on_joined: Callable[[], None] = _nothing  # Called each time there are contacts after a time without any.
        self._sock = sock
        self._unix_clock = unix_clock
        self._read_one = partial(sock.recvfrom, DATAGRAM_BYTES_READ)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        # A list, as an empty deque takes 760 bytes, and at most `DATAGRAMS_TAKEN_MAX` wait here.
        self._inbox: list[tuple[bytes, Address]] = []
        self._is_empty = True
        self._is_behind = False
        self._behind_count = 0
        self._is_receiving = False
        self._operations: dict[int, _Operation] = {}
        self._joins: list[asyncio.Future[int]] = []
        self._is_closed = False
        self._loop.add_reader(sock, self._readable)
        self._flush(boot_now())

    @classmethod
    async def open(cls, node: Node, bind: Address) -> Endpoint:
        """Return the endpoint of a node at an address; `Unavailable` when the address cannot be bound."""
        return cls(node, open_udp(bind))

    @property
    def address(self) -> Address:
        return address_of(self._sock)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoint itself; `Families` has one endpoint a family."""
        return (self,)

    @property
    def wants_contacts(self) -> bool:
        return self.node.wants_contacts

    def contacts_near(self, target: bytes, asker: Address) -> tuple[krpc.NodeInfo, ...]:
        """Return the node's contacts nearest to a target, as far as the asker may be told of them."""
        return self.node.contacts_near(target, asker)

    def contacts_heard(self, contacts: tuple[krpc.NodeInfo, ...], source: Address, now: float) -> None:
        """Have the node ask contacts that a node of the other family named."""
        self.node.contacts_heard(contacts, source, now)
        self._flush(now)

    def close(self) -> None:
        """Close the socket; a future that has not ended gets `Unavailable`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._sock)
        self._sock.close()
        if self._timer is not None:
            self._timer.cancel()
        for future in [*(operation.future for operation in self._operations.values()), *self._joins]:
            if not future.done():
                future.set_exception(Unavailable("the overlay was closed"))
                # The exception of an abandoned operation is retrieved, so that asyncio does not log it.
                future.exception()

    # Operations

    def get(
        self, wanted: Wanted, *, on_item: Callable[[Item], None], on_patient: Callable[[], None] | None = None
    ) -> asyncio.Future[GetOutcome]:
        """Look an item up: `on_item` gets the first valid item at once and each better one, the future the outcome.

        `on_patient` is called if nothing was found so far and the rest of the look-up loads the node no more. Deadlines
        are times of `p2pdns.clock.boot_now`. Without `wanted.present`, the clock alone judges seqs. Cancelling the
        future stops the look-up.
        """
        future = self._new_future()
        now = boot_now()
        if wanted.present is None:
            wanted = replace(wanted, present=Present(self._unix_clock()))
        number = self.node.start_get(wanted, now, tells_patience=on_patient is not None)
        return self._begun(number, _Operation(future, on_item=on_item, on_patient=on_patient or _nothing), now)

    def put(
        self, item: Item, *, cas: Cas | None = None, on_progress: Callable[[int, int], None] | None = None
    ) -> asyncio.Future[PutOutcome]:
        """Have the nearest nodes keep an item; `on_progress` gets how many others were asked and how many keep it."""
        future = self._new_future()
        now = boot_now()
        number = self.node.start_put(item, now, cas=cas)
        return self._begun(number, _Operation(future, on_progress=on_progress or _nothing), now)

    def inquire(self, inquiry: Inquiry) -> asyncio.Future[InquiryOutcome]:
        """Ask one node whether it still has an item, and have it keep the item again where the inquiry says so."""
        future = self._new_future()
        now = boot_now()
        return self._begun(self.node.start_inquiry(inquiry, now), _Operation(future), now)

    def bootstrap(self, addresses: Sequence[Address] = ()) -> asyncio.Future[int]:
        """Join by these addresses; the future gets the number of contacts once our neighbourhood is known."""
        future = self._new_future()
        now = boot_now()
        self.node.add_bootstrap(addresses, now)
        if self.node.has_joined:
            future.set_result(self.node.contact_count)
        else:
            self._joins.append(future)
        self._flush(now)
        return future

    def network_changed(self) -> None:
        """Ask silent contacts again, because this machine's way to the network has changed."""
        now = boot_now()
        self.node.network_changed(now)
        self._flush(now)

    def _new_future(self) -> asyncio.Future[Any]:
        if self._is_closed:
            raise Unavailable("the overlay is closed")
        return self._loop.create_future()

    def _begun(self, number: int, operation: _Operation, now: float) -> asyncio.Future[Any]:
        self._operations[number] = operation
        operation.future.add_done_callback(partial(self._stop, number))
        self._flush(now)
        return operation.future

    def _stop(self, number: int, future: asyncio.Future[Any]) -> None:
        if future.cancelled() and not self._is_closed:
            self.node.cancel(number, boot_now())
            self._flush(boot_now())
        self._operations.pop(number, None)

    # Datagrams and time

    def _readable(self) -> None:
        """Receive after all callbacks that are ready by now.

        An item found in the last datagrams reaches its question in two steps of the loop. So the question's answer
        leaves before the next datagrams are worked on.
        """
        if not self._is_receiving:
            self._is_receiving = True
            self._loop.call_soon(self._receive)

    def _receive(self) -> None:
        """Work on received datagrams, run due timers, and send the datagrams that follow from both."""
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
            # The loop wakes us for datagrams in the socket, but not for those in the inbox.
            self._readable()

    def _work_on_datagrams(self, now: float) -> int:
        """Work on a few datagrams, those that may hold an item first; return how many."""
        inbox, node = self._inbox, self.node
        has_looked = not inbox
        if has_looked:
            self._take()
        count = 0
        # A question that waits for an item found here does not wait for the datagrams behind it.
        while inbox and count < DATAGRAMS_PER_WAKEUP_MAX and not node.has_event:
            node.receive_datagram(*inbox.pop(0), now)
            count += 1
        self._is_behind = bool(inbox) or not (has_looked and self._is_empty)
        return count

    def _run_timers(self, now: float, count: int) -> None:
        """Run due timers after the datagrams that came before: a contact whose reply is in our socket is not silent."""
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
            (self._inbox if may_hold_item(data) else others).append((data, sender[:2]))
        self._inbox += others

    def _timer_fired(self) -> None:
        self._timer = None
        self._timer_due = float("inf")
        if self._is_receiving:
            self._set_timer()
        else:
            self._readable()

    def _flush(self, now: float) -> None:
        """Send the node's datagrams, handle its events, and set the timer."""
        if self._is_closed:
            return
        node = self.node
        self._transmit(now)
        if node.has_event:
            event = node.next_event()
            while event is not None:
                self._handle(event)
                event = node.next_event()
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
        datagrams = self.node.datagrams_to_send(now)
        if datagrams:
            # A datagram that the system does not take is a lost datagram to the look-up.
            send_batch(self._sock, datagrams)

    def _handle(self, event: Event) -> None:
        if isinstance(event, ItemArrived):
            if self.on_arrival is not None:
                self.on_arrival(event.target, event.item)
        elif isinstance(event, Joined):
            self.on_joined()
            joins, self._joins = self._joins, []
            for future in joins:
                _resolve(future, event.contact_count)
        elif (operation := self._operations.get(event.operation)) is not None:
            operation.handle(event)


def _resolve(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)
