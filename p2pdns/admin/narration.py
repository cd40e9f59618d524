"""The lines of a trace about the items behind an answer: their sources, the nodes asked, and what was verified.

Guarantees: nothing is said twice; the counts of a look-up are told when it has ended, the time of its first item at
once. Does not know how a look-up works, nor what follows from a zone: the resolution says that in lines of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from p2pdns.addresses import write_address
from p2pdns.clock import boot_now
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.errors import counted
from p2pdns.items.keys import ZoneId
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.ports import LookupReport
from p2pdns.publishing.dates import date_of
from p2pdns.resolver.steps import Fetch, FetchPinned, Found, NotFound, ZoneOutcome
from p2pdns.timing import Clock

PAST_THE_FRONT = "this is the engine's own resolution; the answers that the front has in its cache are not used"
ADDRESSES_MAX = 20  # As many nodes hold an item; more would hide the rest of a trace.

_VERDICTS = {
    Verdict.COMPLETE: "complete",
    Verdict.FOUND: "over with the pinned item",
    Verdict.DEADLINE: "not complete, its time was over,",
    Verdict.BUDGET: "not complete, it had used up its requests,",
    Verdict.SPARSE: "not complete, nearer nodes than those that answered must exist,",
    Verdict.IDS_FORBIDDEN: "not complete, only nodes with ids that BEP 42 forbids answered,",
    Verdict.NO_CONTACTS: "without anybody to ask",
    Verdict.NO_ANSWER: "without any answer",
}
# The reasons of docs/spec.md for leaving a record of an item out.
_LEFT_OUT = {
    "class": "of a class other than IN",
    "foreign-owner": "whose owner is not in the zone",
    "meta-type": "of a type that belongs to messages",
    "dnssec-type": "of DNSSEC, which the signature of the item replaces",
    "soa-below-apex": "that are an SOA below the apex",
    "wildcard-ns": "that delegate a wildcard",
    "bad-rdata": "whose data their type does not allow",
    "svcb-params": "whose service parameters do not hold",
    "other-section": "outside the answer section",
    "duplicate": "that were there twice",
    "second-cname": "that are a second CNAME",
    "second-soa": "that are a second SOA",
    "second-dname": "that are a second DNAME",
    "beside-cname": "beside a CNAME",
    "occluded": "hidden by a delegation or a DNAME",
    "foreign-cell": "that belong in another shard",
    "head-only": "that only the head may have",
    "in-head": "of a type that the head has too",
    "above-directory": "that would hide a directory",
    "directory-too-deep": "that are a fourth directory above a name",
    "second-directory": "that are a second directory at one name",
    "directory-version": "that are a directory of another version",
    "directory-bits": "that are a directory of too many shards",
    "directory-flags": "that are a directory with unknown flags",
    "directory-pins": "that are a directory with too few or too many pins",
}


class Narration:
    """The part of one trace that the engine tells."""

    def __init__(
        self,
        overlay: Overlay,
        copies_trouble: Callable[[ZoneId], str | None] = lambda zone_id: None,
        *,
        clock: Clock = boot_now,
    ) -> None:
        """Begin; `copies_trouble` says in words why others may not find a zone that this machine publishes."""
        self._overlay = overlay
        self._copies_trouble = copies_trouble
        self._clock = clock
        self._shown: set[bytes] = set()
        self._left_out: dict[tuple[str, int], None] = {}
        self._reported: set[int] = set()
        self._open: dict[int, int | None] = {}

    def fetched(self, step: Fetch | FetchPinned, outcome: ZoneOutcome) -> Iterator[str]:
        """Yield the source of an item, what was verified and what was left out; or how the search for it failed."""
        if isinstance(step, FetchPinned):
            yield from self._pinned(step, outcome)
            return
        if step.looks_again:
            yield f"the head of {step.zone_id} is looked up again: a newer one may pin other items"
        wanted = "its newest item" if step.settled else "any valid item of it"
        yield f"the zone of {step.zone_id} is needed: {wanted}"
        yield from self._source(outcome)
        if isinstance(outcome, NotFound):
            if (seconds := outcome.retry_at - self._clock()) > 0:
                yield f"nobody is asked for it again in the next {seconds:.0f} s, unless it is published here"
            return
        if outcome.item.signature in self._shown:
            return
        self._shown.add(outcome.item.signature)
        size, date = len(outcome.item.value), date_of(outcome.item.seq)
        yield f"verified: the key has signed these {size} bytes, {date}"
        if (trouble := self._copies_trouble(step.zone_id)) is not None:
            yield trouble
        yield from self._told_left_out(outcome)

    def _pinned(self, step: FetchPinned, outcome: ZoneOutcome) -> Iterator[str]:
        """Yield how pinned items were found or missed, and what came with them."""
        needed = step.needed
        if not outcome.earlier:
            yield f"{needed}: {'it is at hand' if isinstance(outcome, Found) else 'nobody is asked now'}"
        for number, _ in outcome.earlier:
            yield from self._source_of(number, outcome)
        if isinstance(outcome, NotFound):
            if (seconds := outcome.retry_at - self._clock()) > 0:
                yield f"nobody is asked for it again in the next {seconds:.0f} s, unless it is put here"
            return
        yield from self._told_left_out(outcome)

    def _told_left_out(self, outcome: Found) -> Iterator[str]:
        for reason, count in outcome.zone.dropped.items():
            if (reason, count) not in self._left_out:
                self._left_out[reason, count] = None
                yield f"left out of the zone: {counted(count, 'record')} {_LEFT_OUT.get(reason, '')} ({reason})"

    def _source(self, outcome: ZoneOutcome) -> Iterator[str]:
        number = outcome.lookup
        if not number:
            held = isinstance(outcome, Found)
            yield "the engine holds it: nobody is asked" if held else "nobody is asked now"
            return
        yield from self._source_of(number, outcome)

    def _source_of(self, number: int, outcome: ZoneOutcome) -> Iterator[str]:
        if number in self._reported:
            return
        report = self._overlay.report_of(number)
        if report is not None:
            self._reported.add(number)
            self._open.pop(number, None)
            yield from _told(report, f"look-up {number}{f' for {report.pinned}' if report.pinned else ''}")
            if report.first_ms is not None and not report.was_stored_here:
                yield f"the first valid item came after {report.first_ms:.1f} ms"
            return
        lookup = self._overlay.under_way(number)
        if lookup is not None and lookup.first_s is not None and number not in self._open:
            yield f"look-up {number} had a first valid item after {lookup.first_s * 1000:.1f} ms and goes on"
        self._open[number] = outcome.item.seq if isinstance(outcome, Found) else None

    async def afterwards(self, seconds_max: float) -> list[str]:
        """Wait for the look-ups that went on after the answer, and return how they ended."""
        lookups = [lookup for number in self._open if (lookup := self._overlay.under_way(number)) is not None]
        if lookups:
            await asyncio.wait([lookup.done for lookup in lookups], timeout=seconds_max)
        lines: list[str] = []
        for number, seq in self._open.items():
            report = self._overlay.report_of(number)
            if report is None:
                lines.append(f"look-up {number} still goes on")
                continue
            lines += _told(report, f"after the answer, look-up {number}")
            if seq is None or report.seq is None:
                continue
            if report.seq > seq:
                lines.append(f"it found a newer item, seq {report.seq}: ask again")
            else:
                settled = ": from now on the answer is settled" if report.is_confirmed else ""
                lines.append(f"it found nothing newer{settled}")
        return lines


def _told(report: LookupReport, name: str) -> Iterator[str]:
    verdict = _VERDICTS[report.verdict]
    again = f" ({report.retransmits} sent again)" if report.retransmits else ""
    yield (
        f"{name} was {verdict} after {report.complete_ms:.1f} ms: {counted(report.rpcs, 'request')}{again} "
        f"to {counted(report.peers, 'node')}, of which {len(report.answered)} answered"
    )
    if report.was_stored_here:
        yield "this node itself stores an item of the key"
    if report.verdict is Verdict.COMPLETE and report.is_confirmed is False:
        yield "no contact confirmed the item: none returned it, and too few named its seq"
    if report.answered:
        shown = ", ".join(map(write_address, report.answered[:ADDRESSES_MAX]))
        more = len(report.answered) - ADDRESSES_MAX
        yield f"who answered, nearest first: {shown}{f' and {more} more' if more > 0 else ''}"
    for reason, count in report.dropped.items():
        yield f"dropped: {counted(count, 'item')} that did not verify ({reason})"
