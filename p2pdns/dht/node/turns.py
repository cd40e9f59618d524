"""The turns of look-ups to send (ADR 8): those without an answer send in turn, one turn for each datagram received.

Guarantees: the number of requests in flight is bounded; urgent look-ups go first without ending the patient ones; a
look-up that waits gets its turn by time if no datagram comes. Does not know requests, nor the content of a datagram.
"""

from __future__ import annotations

from typing import Protocol

REQUESTS_IN_FLIGHT_MAX = 128  # Replies of 1.3 kB that a default socket buffer holds (208 kB, with kernel overhead).
PATIENT_IN_FLIGHT_MIN = 16  # Of them, the share of look-ups that have an item already, whatever else is in flight.

# If no datagram comes, so many turns are given after such a pause: the first requests of fifty questions bring most
# answers, unless the other 150 requests are in their way.
TURNS_PER_PAUSE_MAX = 16
TURN_PAUSE_S = 0.005


class TurnTaker(Protocol):
    """A sender with more requests than there is room for; a young one has sent few so far."""

    @property
    def is_young(self) -> bool: ...

    def pump(self, now: float) -> None:
        """Send what may be sent now."""


class Turns:
    """The senders that wait, and the count of requests in flight."""

    def __init__(self) -> None:
        self.in_flight_count = 0
        self._patient_count = 0
        self._waiting: dict[int, TurnTaker] = {}
        self._waiting_urgent: dict[int, TurnTaker] = {}
        self._is_giving_turns = False
        self._turn_count = 0
        self._quiet_since = 0.0

    def count_in_flight(self, change: int, *, is_urgent: bool) -> None:
        """Count a request that was sent (1), or whose wait is over (-1)."""
        self.in_flight_count += change
        if not is_urgent:
            self._patient_count += change

    def room(self, *, is_urgent: bool = True) -> int:
        """Return how many requests may be sent before their replies could overflow a socket buffer.

        A look-up without an item is urgent: fifty questions at once get their first answers before any of them is
        refined. The others keep a small share in any case, or a flood of absent keys would end refinement.
        """
        left = REQUESTS_IN_FLIGHT_MAX - self.in_flight_count
        share = PATIENT_IN_FLIGHT_MIN - self._patient_count
        if is_urgent:
            return max(0, left - max(0, min(share, len(self._waiting))))
        return max(0, left - REQUESTS_IN_FLIGHT_MAX // 2, min(left, share))

    def turn_of(self, *, is_urgent: bool, is_first: bool = False, own_count: int = 0) -> int:
        """Return how many requests a look-up may send now, before it waits for its next turn.

        Urgent look-ups send one after another, one request each: so a later question does not wait for all requests of
        the earlier ones, and the first replies make most of the rest less urgent. The first request of each waits for
        no turn, nor does a look-up that is alone, with `own_count` requests in flight.
        """
        room = self.room(is_urgent=is_urgent)
        if not is_urgent:
            # If the urgent wait for their turn, and not for room, it will come soon; else the others have their share.
            return 0 if self._waiting_urgent and self.room() and not self._is_giving_turns else room
        if self._waiting_urgent and not (is_first or self._is_giving_turns):
            return 0
        is_alone = self.in_flight_count - self._patient_count <= own_count and not self._waiting_urgent
        return room if is_alone else min(room, 1)

    def wait_for_room(self, waiter: TurnTaker, now: float, *, is_urgent: bool = True) -> None:
        """Have `waiter.pump` called when it is its turn and there is room.

        In order of arrival, but young ones before older ones: an answer that is a few requests away does not wait for
        look-ups that find none. No look-up is young for long, and an older one soon stops being urgent.
        """
        if not (self._waiting_urgent or self._waiting):
            self._quiet_since = now
        waiting = self._waiting_urgent if is_urgent else self._waiting
        waiting.setdefault(id(waiter), waiter)

    def waits_no_more(self, waiter: TurnTaker) -> None:
        """Forget a sender that has ended; while others are urgent its turn might not come for long."""
        self._waiting_urgent.pop(id(waiter), None)
        self._waiting.pop(id(waiter), None)

    def datagram_received(self, now: float) -> None:
        """Give one turn: the datagram made room, and may have made others less urgent."""
        self._turn_count += 1
        self._quiet_since = now

    def get_timer(self) -> float | None:
        """Return when senders get turns although no datagram has come; None if none can send."""
        if (self._waiting_urgent and self.room()) or (self._waiting and self.turn_of(is_urgent=False)):
            return self._quiet_since + TURN_PAUSE_S
        return None

    def handle_timer(self, now: float) -> None:
        """Give some turns if the pause is over."""
        due = self.get_timer()
        if due is not None and due <= now:
            self._turn_count += TURNS_PER_PAUSE_MAX
            self._quiet_since = now

    def give_turns(self, now: float) -> None:
        """Have the senders whose turn has come send, as far as there is room, the urgent first."""
        # Turns that are not used now are not kept.
        left, self._turn_count = self._turn_count, 0
        if not (left and (self._waiting_urgent or self._waiting)):
            return
        self._is_giving_turns = True
        try:
            for waiting, is_urgent in ((self._waiting_urgent, True), (self._waiting, False)):
                while left and waiting and self.turn_of(is_urgent=is_urgent):
                    left -= 1
                    first = next((key for key, one in waiting.items() if one.is_young), next(iter(waiting)))
                    waiting.pop(first).pump(now)
        finally:
            self._is_giving_turns = False
