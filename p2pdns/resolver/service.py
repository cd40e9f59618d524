"""The service that answers questions: it drives a resolution between the overlay and the upstreams.

Guarantees: every question of every door and of the simulator goes through `Service.resolve`; forwarded questions never
hold more than their share, nor those of one client prefix more than half of the rest, and a caller that can put a
question again gets the excess back; an answer that is invalidated while it is made is made again. Does not know frames
or sockets; `link_server` does.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from p2pdns.addresses import give_back, is_over_share
from p2pdns.dns.message import Question
from p2pdns.items.keys import ZoneId
from p2pdns.limits import FORWARDED_MAX, QUESTION_S_MAX
from p2pdns.link import Ask, ClientClass
from p2pdns.resolver.names import ResolverSettings, tag_of_petname, tag_of_setting
from p2pdns.resolver.resolution import Resolution
from p2pdns.resolver.steps import (
    Answered,
    Budget,
    Fetch,
    FetchPinned,
    Forward,
    NoReply,
    Outcome,
    Resolved,
    UpstreamOutcome,
    ZoneOutcome,
)
from p2pdns.timing import Clock
from p2pdns.values import replace

ATTEMPTS_MAX = 2  # An answer that is outdated twice before it is ready is given, but not cached.
INVALIDATIONS_MAX = 4_096  # Tags remembered with their generation: more than change while a question lives.

Narrate = Callable[[Fetch | FetchPinned, ZoneOutcome], Iterable[str]]
"""A function that describes the outcome of a fetch in lines for the trace."""


class Zones(Protocol):
    """The source of zones; `p2pdns.overlay.finder.Overlay`."""

    async def zone(self, zone_id: ZoneId, settled: bool, budget: Budget) -> ZoneOutcome:
        """Return a zone as far as a question needs it."""

    async def pinned(self, step: FetchPinned, budget: Budget) -> ZoneOutcome:
        """Find pinned items of a divided zone, and return the zone with them; NotFound where one is missing."""


class Resolvers(Protocol):
    """The upstreams, which answer names that are not ours; `p2pdns.net.upstream.Upstream`."""

    on_return: Callable[[], None]  # Called when an upstream that was silent answers again.

    async def ask(self, question: Question, *, rd: bool, do: bool, cd: bool, deadline: float) -> UpstreamOutcome:
        """Return the outcome of a forwarded question."""

    def came_back(self, question: Question) -> bool:
        """Return whether a question to be forwarded is one of ours, sent to find upstreams that ask us in turn."""

    def close(self) -> None:
        """Close the sockets that no question waits for."""


class NoPlace(Exception):
    """A question must be forwarded, but its client's places for that are taken: put the question again later."""


class Service:
    """The one place where questions are resolved."""

    def __init__(self, overlay: Zones, upstream: Resolvers, settings: ResolverSettings, *, clock: Clock) -> None:
        self.counters: Counter[str] = Counter()
        self.generation = 0
        self.on_invalidate: Callable[[tuple[bytes, ...] | None], None] = lambda tags: None
        self._overlay = overlay
        self._upstream = upstream
        self._upstream.on_return = self._upstream_returned
        self.settings = settings
        self._clock = clock
        self._forwarded_count = 0
        self._forwarded_of: Counter[str] = Counter()
        self._all_invalidated = 0
        self._invalidated: OrderedDict[bytes, int] = OrderedDict()

    async def trace(self, question: Question, narrate: Narrate = lambda step, outcome: ()) -> Resolved:
        """Return the answer to a question from the control socket, with the way to it in its `trace`.

        The lines of `narrate` about each fetch are put in their place in the trace.
        """
        ask = Ask(self._clock() + QUESTION_S_MAX, client_prefix="control")
        return await self.resolve(question, ask, narrate=narrate)

    async def resolve(
        self,
        question: Question,
        ask: Ask,
        on_forward: Callable[[], None] | None = None,
        *,
        narrate: Narrate | None = None,
    ) -> Resolved:
        """Return the answer to a question; see `trace` for `narrate`.

        `on_forward` is called when the question begins to wait for an upstream. A caller that gives it can put the
        question again later: NoPlace is raised when the upstreams have no place for it.
        """
        self.counters["questions"] += 1
        for _ in range(ATTEMPTS_MAX):
            generation = self.generation
            resolved = await self._resolved_once(question, ask, on_forward, narrate)
            if not self._is_outdated(resolved, generation):
                break
            self.counters["answers-outdated"] += 1
        else:
            resolved = replace(resolved, cacheable=False)
        self.counters["failures" if resolved.failure else "answers"] += 1
        return resolved

    def invalidate(self, tags: tuple[bytes, ...] | None) -> None:
        """Declare untrue the answers with one of these tags, both in the making and cached; None means all answers."""
        self.generation += 1
        if tags is None:
            self._all_invalidated = self.generation
            self._invalidated.clear()
        else:
            for tag in tags:
                self._invalidated[tag] = self.generation
                self._invalidated.move_to_end(tag)
            while len(self._invalidated) > INVALIDATIONS_MAX:
                # A forgotten tag counts as invalidated: better make an answer twice than give an untrue one.
                _, self._all_invalidated = self._invalidated.popitem(last=False)
        self.on_invalidate(tags)

    def change_settings(self, settings: ResolverSettings, upstream: Resolvers | None = None) -> None:
        """Use other settings from now on, and invalidate the answers that depend on a change."""
        before, self.settings = self.settings, settings
        if upstream is not None:
            self._upstream.close()
            self._upstream = upstream
            self._upstream.on_return = self._upstream_returned
        if upstream is not None or dataclasses.replace(settings, petnames=before.petnames) != before:
            self.invalidate(None)
            return
        labels = sorted({*before.petnames, *settings.petnames})
        changed = [label for label in labels if before.petnames.get(label) != settings.petnames.get(label)]
        if changed:
            self.invalidate(tuple(tag_of_petname(label) for label in changed))

    def close(self) -> None:
        """Close the upstreams."""
        self._upstream.close()

    def _upstream_returned(self) -> None:
        self.invalidate((tag_of_setting("silence"),))

    async def _resolved_once(
        self, question: Question, ask: Ask, on_forward: Callable[[], None] | None, narrate: Narrate | None
    ) -> Resolved:
        told: list[str] = []
        told_count = 0
        now = self._clock()
        resolution = Resolution(
            question, settings=self.settings, now=now, deadline=ask.deadline, is_traced=narrate is not None
        )
        step = resolution.next_step(now)
        while not isinstance(step, Answered):
            outcome: Outcome
            if not isinstance(step, Forward):
                outcome = await self._fetched(step, _budget(resolution, ask))
                if narrate is not None:
                    told += [*resolution.trace[told_count:], *narrate(step, outcome)]
                    told_count = len(resolution.trace)
            else:
                outcome = await self._asked(step.question, ask, resolution.deadline, on_forward)
            step = resolution.step_done(outcome, self._clock())
        return replace(step.answer, trace=(*told, *step.answer.trace[told_count:])) if told else step.answer

    async def _fetched(self, step: Fetch | FetchPinned, budget: Budget) -> ZoneOutcome:
        if isinstance(step, FetchPinned):
            return await self._overlay.pinned(step, budget)
        budget = replace(budget, looks_again=True) if step.looks_again else budget
        return await self._overlay.zone(step.zone_id, step.settled, budget)

    async def _asked(
        self, question: Question, ask: Ask, deadline: float, on_forward: Callable[[], None] | None
    ) -> UpstreamOutcome:
        # Before anything is refused: the server that sends our questions back takes places of others too.
        if self._upstream.came_back(question):
            self.counters["probes-came-back"] += 1
        # A prefetch is charged to no client; the front bounds prefetches.
        prefix = "" if ask.is_prefetch else ask.client_prefix
        free = FORWARDED_MAX - self._forwarded_count
        if not free or (prefix and is_over_share(self._forwarded_of[prefix], free)):
            can_be_postponed = on_forward is not None
            self.counters["forwards-postponed" if can_be_postponed else "forwards-refused"] += 1
            if can_be_postponed:
                # A question that waits here would take a place on the link, which a question of the overlay may need.
                raise NoPlace
            return NoReply("too many questions wait for the upstreams")
        self._forwarded_count += 1
        self._forwarded_of[prefix] += 1
        if on_forward is not None:
            on_forward()
        try:
            return await self._upstream.ask(question, rd=ask.rd, do=ask.do, cd=ask.cd, deadline=deadline)
        finally:
            self._forwarded_count -= 1
            give_back(self._forwarded_of, prefix)

    def _is_outdated(self, resolved: Resolved, generation: int) -> bool:
        if self.generation == generation:
            return False
        latest = max((self._invalidated.get(tag, 0) for tag in resolved.tags), default=0)
        return max(latest, self._all_invalidated) > generation


def _budget(resolution: Resolution, ask: Ask) -> Budget:
    return Budget(
        deadline=resolution.deadline,
        rpc_max=resolution.rpcs_left,
        cold_get_max=resolution.cold_gets_left,
        client_prefix=ask.client_prefix,
        is_privileged=ask.client_class is not ClientClass.OTHER,
        is_prefetch=ask.is_prefetch,
        client_seat=ask.client_seat,
    )
