"""IPv4 and IPv6 as two DHTs behind one face (BEP 32): puts go to both, gets race both.

Guarantees: the first valid item of either family is handed out at once, and later only what supersedes it; an outcome
speaks for every family that has contacts, so that one without a network holds up and spoils nothing. Does not know
datagrams: each family has an endpoint and a node of its own, and both share one storage.
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
from p2pdns.dht.lookup import Item, Verdict
from p2pdns.dht.node import GetOutcome, PutOutcome, Wanted
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem, Present
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.sockets import open_udp

PORTS_TRIED_MAX = 100  # Above the default port; a machine with a hundred nodes names its ports.

T = TypeVar("T")


class Families:
    """The endpoints of one node, one a family; the first is the one whose address the node is known by."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        for one in self.endpoints:
            for other in self.endpoints:
                if one is not other:
                    one.pair_with(other)

    @property
    def address(self) -> Address:
        """Where the first family's socket is bound."""
        return self.endpoints[0].address

    @property
    def on_arrival(self) -> Callable[[bytes, Item], None] | None:
        """Who hears of valid puts of strangers, in either family."""
        return self.endpoints[0].on_arrival

    @on_arrival.setter
    def on_arrival(self, hear: Callable[[bytes, Item], None] | None) -> None:
        """Have this heard."""
        for endpoint in self.endpoints:
            endpoint.on_arrival = hear

    def close(self) -> None:
        """Close the sockets; whoever still waits gets `Unavailable`."""
        for endpoint in self.endpoints:
            endpoint.close()

    def get(
        self,
        wanted: Wanted,
        *,
        on_item: Callable[[Item], None],
        on_patient: Callable[[], None] | None = None,
    ) -> asyncio.Future[GetOutcome]:
        """Look an item up in both families at once, within one budget; see `Endpoint.get`."""
        asked = self._of_use()
        present = wanted.present or Present(unix_now())
        part = replace(wanted, present=present, rpc_max=max(1, wanted.rpc_max // len(asked)))
        hand_out = _only_better(on_item, present)
        urgent = set(range(len(asked)))

        def is_patient(index: int) -> None:
            urgent.discard(index)
            if not urgent and on_patient is not None:
                on_patient()

        def ended(index: int, _: asyncio.Future[GetOutcome]) -> None:
            is_patient(index)

        gets = [
            endpoint.get(part, on_item=hand_out, on_patient=partial(is_patient, index))
            for index, endpoint in enumerate(asked)
        ]
        for index, get in enumerate(gets):
            get.add_done_callback(partial(ended, index))

        async def both() -> GetOutcome:
            return merged_get(await asyncio.gather(*gets), present)

        return _started(both())

    def put(
        self,
        item: Item,
        *,
        cas: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        deadline: float | None = None,
    ) -> asyncio.Future[PutOutcome]:
        """Put an item in both families; see `Endpoint.put`.

        Progress is that of the family where more others were asked, as `merged_put` has it for the outcome.
        """
        told: dict[int, tuple[int, int]] = {}

        def tell(index: int, sent: int, stored: int) -> None:
            told[index] = sent, stored
            if on_progress is not None:
                on_progress(*max(told.values()))

        parts = [
            endpoint.put(item, cas=cas, on_progress=partial(tell, index), deadline=deadline)
            for index, endpoint in enumerate(self._of_use())
        ]

        async def both() -> PutOutcome:
            return merged_put(await asyncio.gather(*parts))

        return _started(both())

    def find(self, target: bytes) -> asyncio.Future[int]:
        """Look for the contacts nearest to a target; the future gets how many answered, in both families."""
        parts = [endpoint.find(target) for endpoint in self._of_use()]

        async def both() -> int:
            return sum(await asyncio.gather(*parts))

        return _started(both())

    def bootstrap(self, addresses: Sequence[Address] = ()) -> asyncio.Future[int]:
        """Join by these addresses; the future gets the number of contacts once one family has its neighbours."""
        parts = [endpoint.bootstrap(addresses) for endpoint in self.endpoints]

        async def first() -> int:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            return sum(endpoint.node.contact_count for endpoint in self.endpoints)

        return _started(first())

    def _of_use(self) -> tuple[Endpoint, ...]:
        # A machine without IPv6 has an IPv6 node that never meets anybody; it has nothing to say about any item.
        return tuple(e for e in self.endpoints if e.node.contact_count) or self.endpoints[:1]


def socket_beside(listen: str, first: Address) -> socket.socket | None:
    """Return the bound socket of the IPv6 DHT, None where there is none; `first` is where the other socket is.

    `auto` takes the same port of every address where the other one does, and a machine without IPv6 goes without.
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
    items = [outcome.item for outcome in outcomes if outcome.item is not None]
    firsts = [outcome for outcome in outcomes if outcome.first_s is not None]
    quickest = min(firsts, key=lambda outcome: outcome.first_s or 0.0, default=outcomes[0])
    best = None
    for item in items:
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
    )


def merged_put(outcomes: Sequence[PutOutcome]) -> PutOutcome:
    """Return the outcome of one put out of those of the families.

    The others are those of the family where more are known: most nodes are in both, and none shall count twice. The
    storage is one: where either family has put the item into it, it is kept, whatever the other was told.
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


def _started(work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    task = asyncio.get_running_loop().create_task(work)
    # Who no longer waits must not be blamed for not having looked.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def dht_socket(listen: str, last_port: int | None) -> socket.socket:
    """Return the bound socket of the DHT.

    Where any port will do, it is that of the last run, which others remember; where the default is taken, the next one.
    """
    host, port = read_address(listen)
    is_default = listen == DHT_LISTEN_DEFAULT
    ports = [port]
    if port == 0:
        ports = [0] if last_port is None else [last_port, 0]
    elif is_default:
        ports += [*([] if last_port is None else [last_port]), *range(port + 1, port + PORTS_TRIED_MAX)]
    trouble: Unavailable | None = None
    for candidate in ports:
        try:
            return open_udp((host, candidate))
        except Unavailable as error:
            # The first port is the one that was asked for, so its trouble is the one to tell.
            trouble = trouble or error
    assert trouble is not None, "at least one port was tried"
    raise trouble
