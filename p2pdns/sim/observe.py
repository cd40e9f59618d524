"""The events of a machine that its checkers see: each item of a get, the end of each get, the end of each question.

Guarantees: an observed network is the network itself; its calls and callbacks are reported, and neither changed nor
delayed. Does not know what a checker makes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from p2pdns.dht.node.values import Cas, GetOutcome, Inquiry, InquiryOutcome, PutOutcome, Wanted
from p2pdns.dns.message import Question
from p2pdns.items.item import Item
from p2pdns.items.keys import ZoneId
from p2pdns.net.endpoint import Endpoint
from p2pdns.overlay.ports import OnProgress
from p2pdns.resolver.steps import Resolved, ZoneOutcome


@dataclass(frozen=True)
class Fetched:
    """A zone as the overlay gave it to a question, and the machine's mark of the zone at that moment."""

    zone_id: ZoneId
    outcome: ZoneOutcome
    mark_seq: int | None


@dataclass(frozen=True)
class AnswerGiven:
    """A question that has ended, with the zones that it was answered from."""

    question: Question
    resolved: Resolved
    fetched: tuple[Fetched, ...]
    took_s: float


class Observer(Protocol):
    """The checkers of a world, as a machine sees them; `host` is the machine."""

    def get_begins(self, host: str, wanted: Wanted) -> object:
        """Hear of a get that begins; what is returned comes back at its end."""

    def item_shown(self, host: str, wanted: Wanted, item: Item) -> None:
        """Hear of an item that a get has handed out."""

    def get_ended(self, host: str, wanted: Wanted, began: object, outcome: GetOutcome) -> None:
        """Hear of the end of a get."""

    def put_begins(self, host: str, item: Item) -> None:
        """Hear of a put that begins, whatever comes of it."""

    def question_ended(self, host: str, answered: AnswerGiven) -> None:
        """Hear of the answer to a question."""

    def state_lost(self, host: str) -> None:
        """Hear that a machine has lost all that it had on its disk."""


class ObservedNetwork:
    """The network of a machine, `Gets` and `Puts`, under the eyes of an observer."""

    def __init__(self, endpoint: Endpoint, host: str, observer: Observer) -> None:
        self._endpoint = endpoint
        self._host = host
        self._observer = observer

    def get(
        self, wanted: Wanted, *, on_item: Callable[[Item], None], on_patient: Callable[[], None] | None = None
    ) -> asyncio.Future[GetOutcome]:
        """Look an item up; see `Endpoint.get`."""
        began = self._observer.get_begins(self._host, wanted)

        def shown(item: Item) -> None:
            self._observer.item_shown(self._host, wanted, item)
            on_item(item)

        future = self._endpoint.get(wanted, on_item=shown, on_patient=on_patient)
        future.add_done_callback(partial(self._ended, wanted, began))
        return future

    def _ended(self, wanted: Wanted, began: object, future: asyncio.Future[GetOutcome]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._observer.get_ended(self._host, wanted, began, future.result())

    def put(
        self, item: Item, *, cas: Cas | None = None, on_progress: OnProgress | None = None
    ) -> asyncio.Future[PutOutcome]:
        """Have the nearest nodes keep an item; see `Endpoint.put`."""
        self._observer.put_begins(self._host, item)
        return self._endpoint.put(item, cas=cas, on_progress=on_progress)

    def inquire(self, inquiry: Inquiry) -> asyncio.Future[InquiryOutcome]:
        """Ask one node whether it still has an item; see `Endpoint.inquire`."""
        return self._endpoint.inquire(inquiry)
