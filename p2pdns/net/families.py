"""The IPv4 and the IPv6 DHT of one node behind one interface (BEP 32): puts go to both, gets race both.

Guarantees: the first valid item of either family is handed out at once, and after it only items that supersede it; an
outcome joins the families that have contacts, so that a family without a network delays nothing and spoils nothing.
Does not know datagrams: each family has an endpoint and a node of its own, and both share one storage.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from p2pdns import log
from p2pdns.addresses import Address, read_address
from p2pdns.clock import unix_now
from p2pdns.config import DHT_LISTEN_DEFAULT
from p2pdns.dht.confirmation import Confirmation
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import Cas, GetOutcome, Inquiry, InquiryOutcome, PutOutcome, Wanted
from p2pdns.errors import Unavailable
from p2pdns.items.item import Item, MutableItem, Present
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.sockets import open_udp

PORTS_TRIED_MAX = 100  # Above the default port; a machine with a hundred nodes names its ports.

T = TypeVar("T")
U = TypeVar("U")


class Families:
    """The endpoints of one node, one a family. The node is known by the address of the first."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        for one in self.endpoints:
            for other in self.endpoints:
                if one is not other:
                    one.node.pair_with(other)

    @property
    def address(self) -> Address:
        return self.endpoints[0].address

    @property
    def on_arrival(self) -> Callable[[bytes, Item], None] | None:
        """The callback for valid puts of strangers, in either family."""
        return self.endpoints[0].on_arrival

    @on_arrival.setter
    def on_arrival(self, hear: Callable[[bytes, Item], None] | None) -> None:
        """Set the callback in each family."""
        for endpoint in self.endpoints:
            endpoint.on_arrival = hear

    def close(self) -> None:
        """Close the sockets; a future that has not ended gets `Unavailable`."""
        for endpoint in self.endpoints:
            endpoint.close()

    def get(
        self, wanted: Wanted, *, on_item: Callable[[Item], None], on_patient: Callable[[], None] | None = None
    ) -> asyncio.Future[GetOutcome]:
        """Look an item up in both families at once, within one budget; see `Endpoint.get`."""
        asked = self._of_use()
        present = wanted.present or Present(unix_now())
        part = replace(wanted, present=present, rpc_max=max(1, wanted.rpc_max // len(asked)))
        hand_out = _only_better(on_item, present)
        urgent = set(range(len(asked)))

        def is_patient(index: int, _ended: object = None) -> None:
            urgent.discard(index)
            if not urgent and on_patient is not None:
                on_patient()

        gets = [
            endpoint.get(part, on_item=hand_out, on_patient=partial(is_patient, index))
            for index, endpoint in enumerate(asked)
        ]
        for index, get in enumerate(gets):
            get.add_done_callback(partial(is_patient, index))
        if wanted.pinned is not None:
            return _started(_first_found(gets, present))
        return _joined(gets, partial(merged_get, present=present))

    def put(
        self, item: Item, *, cas: Cas | None = None, on_progress: Callable[[int, int], None] | None = None
    ) -> asyncio.Future[PutOutcome]:
        """Put an item in both families; see `Endpoint.put`.

        `on_progress` is told of the family where more others were asked, as `merged_put` counts it in the outcome.
        """
        told: dict[int, tuple[int, int]] = {}

        def tell(index: int, sent: int, stored: int) -> None:
            told[index] = sent, stored
            if on_progress is not None:
                on_progress(*max(told.values()))

        parts = [
            endpoint.put(item, cas=cas, on_progress=partial(tell, index))
            for index, endpoint in enumerate(self._of_use())
        ]
        return _joined(parts, merged_put)

    def inquire(self, inquiry: Inquiry) -> asyncio.Future[InquiryOutcome]:
        """Ask one node whether it still has an item, in the family of its address; without that family it is silent."""
        is_ipv6 = ":" in inquiry.contact.address[0]
        for endpoint in self.endpoints:
            if endpoint.node.settings.is_ipv6 == is_ipv6:
                return endpoint.inquire(inquiry)
        future: asyncio.Future[InquiryOutcome] = asyncio.get_running_loop().create_future()
        future.set_result(InquiryOutcome())
        return future

    def bootstrap(self, addresses: Sequence[Address] = ()) -> asyncio.Future[int]:
        """Join by these addresses; the future gets the number of contacts once one family has its neighbours."""
        parts = [endpoint.bootstrap(addresses) for endpoint in self.endpoints]

        async def first() -> int:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            return sum(endpoint.node.contact_count for endpoint in self.endpoints)

        return _started(first())

    def _of_use(self) -> tuple[Endpoint, ...]:
        # On a machine without IPv6, the IPv6 node has no contacts, and its outcomes say nothing about an item.
        return tuple(e for e in self.endpoints if e.node.contact_count) or self.endpoints[:1]


def socket_beside(listen: str, first: Address) -> socket.socket | None:
    """Return the bound socket of the IPv6 DHT, or None where there is none; `first` is the IPv4 socket's address.

    `auto` binds the port of the IPv4 socket at every IPv6 address if the IPv4 socket is bound to every address. On a
    machine without IPv6 there is then no socket.
    """
    if listen == "off" or (listen == "auto" and first[0] != "0.0.0.0"):
        return None
    if listen != "auto":
        return open_udp(read_address(listen))
    try:
        return open_udp(("::", first[1]))
    except Unavailable as trouble:
        log.get_logger("dht").info("IPv4 only", reason=str(trouble))
        return None


def merged_get(outcomes: Sequence[GetOutcome], present: Present) -> GetOutcome:
    """Return the outcome of one get out of those of the families; it is complete when all of them are."""
    firsts = [outcome for outcome in outcomes if outcome.first_s is not None]
    quickest = min(firsts, key=lambda outcome: outcome.first_s or 0.0, default=outcomes[0])
    best = None
    for item in [outcome.item for outcome in outcomes if outcome.item is not None]:
        best = item if best is None or _is_better(item, best, present) else best
    dropped: Counter[str] = Counter()
    for outcome in outcomes:
        dropped.update(outcome.dropped)
    return replace(
        quickest,
        item=best,
        verdict=_worst(outcome.verdict for outcome in outcomes),
        rpc_count=sum(outcome.rpc_count for outcome in outcomes),
        retransmit_count=sum(outcome.retransmit_count for outcome in outcomes),
        peer_count=sum(outcome.peer_count for outcome in outcomes),
        answered_count=sum(outcome.answered_count for outcome in outcomes),
        done_s=max(outcome.done_s for outcome in outcomes),
        bytes_sent=sum(outcome.bytes_sent for outcome in outcomes),
        bytes_received=sum(outcome.bytes_received for outcome in outcomes),
        answered=tuple(address for outcome in outcomes for address in outcome.answered),
        dropped=dict(dropped),
        # Copies of an older item confirm nothing.
        confirmed_count=sum(outcome.confirmed_count for outcome in outcomes if outcome.item == best),
        confirmation=Confirmation.merged(outcome.confirmation for outcome in outcomes),
        editions=_editions_of(outcomes),
        copies={address: item for outcome in outcomes for address, item in outcome.copies.items()},
        nearest=tuple(contact for outcome in outcomes for contact in outcome.nearest),
    )


async def _first_found(gets: Sequence[asyncio.Future[GetOutcome]], present: Present) -> GetOutcome:
    """Return the outcome of a get of a pinned item: that of the first family that has it, else that of all of them."""
    try:
        for get in asyncio.as_completed(gets):
            outcome = await get
            if outcome.item is not None:
                # A family that is stopped tells no count. It has been at work for as long as the other one.
                return replace(outcome, rpc_count=outcome.rpc_count * len(gets))
        return merged_get([get.result() for get in gets], present)
    finally:
        for part in gets:
            part.cancel()


def _editions_of(outcomes: Sequence[GetOutcome]) -> tuple[MutableItem, ...]:
    """Return the editions that were met in any family, the oldest first."""
    met = {(item.seq, item.value): item for outcome in outcomes for item in outcome.editions}
    return tuple(item for _, item in sorted(met.items()))


def merged_put(outcomes: Sequence[PutOutcome]) -> PutOutcome:
    """Return the outcome of one put out of those of the families.

    The counts are those of the family where more others were asked: most nodes are in both families, and no node may
    count twice. The families share one storage: the item is kept here if either family stored it, whatever the other
    was told.
    """
    refused: Counter[int | str] = Counter()
    for outcome in outcomes:
        refused.update(outcome.refused)
    larger = max(outcomes, key=lambda outcome: outcome.others)
    is_kept_here = any(outcome.is_kept_here for outcome in outcomes)
    refusals = [outcome.refused_here for outcome in outcomes if outcome.refused_here is not None]
    return replace(
        larger,
        refused=dict(refused),
        is_kept_here=is_kept_here,
        refused_here=None if is_kept_here else next(iter(refusals), None),
        seq_seen=max((outcome.seq_seen for outcome in outcomes if outcome.seq_seen is not None), default=None),
        verdict=_worst(outcome.verdict for outcome in outcomes),
        rpc_count=sum(outcome.rpc_count for outcome in outcomes),
        done_s=max(outcome.done_s for outcome in outcomes),
        asked=tuple(address for outcome in outcomes for address in outcome.asked),
        held_at=tuple(address for outcome in outcomes for address in outcome.held_at),
        storers=tuple(contact for outcome in outcomes for contact in outcome.storers),
    )


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return complete where all are, else the first that is not."""
    return next((verdict for verdict in verdicts if verdict is not Verdict.COMPLETE), Verdict.COMPLETE)


def _only_better(on_item: Callable[[Item], None], present: Present) -> Callable[[Item], None]:
    best: list[Item] = []

    def hand_out(item: Item) -> None:
        if not best or _is_better(item, best[-1], present):
            best.append(item)
            on_item(item)

    return hand_out


def _is_better(item: Item, other: Item, present: Present) -> bool:
    return isinstance(item, MutableItem) and isinstance(other, MutableItem) and present.prefers(item, other)


def _joined(parts: Sequence[asyncio.Future[T]], join: Callable[[Sequence[T]], U]) -> asyncio.Future[U]:
    """Return a future of the joined results of the families."""

    async def all_of() -> U:
        return join(await asyncio.gather(*parts))

    return _started(all_of())


def _started(work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    task = asyncio.get_running_loop().create_task(work)
    # The exception of an abandoned operation is retrieved, so that asyncio does not log it.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def dht_socket(listen: str, last_port: int | None) -> socket.socket:
    """Return the bound socket of the DHT.

    For port 0 the port of the last run is tried first, because other nodes remember it. If the default port is taken,
    that of the last run is tried, and then the next ones.
    """
    host, port = read_address(listen)
    ports = [port]
    if port == 0:
        ports = [0] if last_port is None else [last_port, 0]
    elif listen == DHT_LISTEN_DEFAULT:
        ports += [*([] if last_port is None else [last_port]), *range(port + 1, port + PORTS_TRIED_MAX)]
    trouble: Unavailable | None = None
    for candidate in ports:
        try:
            return open_udp((host, candidate))
        except Unavailable as error:
            # The first port is the configured one, so its error is the one to report.
            trouble = trouble or error
    assert trouble is not None, "at least one port was tried"
    raise trouble
