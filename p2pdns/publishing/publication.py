"""One publication: look up, compare, sign, put with `cas`, read back, and sign again above an item that came between.

Guarantees: an item that came from elsewhere is not replaced unseen: it is refused, unless it is forced; a publication
is reported done only if more than half of the others hold its content, a complete look-up has read it back, and nothing
in that look-up was published by somebody else without this publication knowing; where another publisher came in
between, its change is kept, or its zone is signed again above ours. Does not know sockets, files, the terminal, or
where the secret key is: it is given a function that signs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from p2pdns.dht.node.values import Others
from p2pdns.errors import Unavailable, counted
from p2pdns.items.item import SEQ_PER_SECOND, MutableItem, Present
from p2pdns.items.keys import ZoneKey
from p2pdns.items.succession import Commitment, commitment_of
from p2pdns.publishing.changes import Changes, Conflict, Content, few_of
from p2pdns.publishing.committing import COMMITMENT_FILE, SIZE_BYTES_MAX, Committing
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.divided import DividedEditions, Dividing
from p2pdns.publishing.editions import Found
from p2pdns.publishing.memory import Memory, NoMemory, Origin
from p2pdns.publishing.replicas import HOLDERS_MIN, PublishStage, Seen, Tell, Tried, Version
from p2pdns.publishing.stored import TAKE_BACK_COMMAND, Stored, chosen_seq

ROUNDS_MAX = 8  # Puts of one publication while others come in between; two publishers need two or three.
BACKOFF_S = 0.5  # The longest pause after the first conflict; each further one may be twice as long.
BACKOFF_S_MAX = 8.0
FORCE_COMMAND = "p2pdns publish --force -k KEYFILE ZONEFILE"

Sign = Callable[[int, bytes], MutableItem]
"""Signs a value under a seq."""


class Replicas(Protocol):
    """The overlay and the outside as one publication uses them."""

    def unix_now(self) -> float:
        """Return the time."""

    def jitter(self) -> float:
        """Draw from [0, 1)."""

    async def wait(self, seconds: float) -> None:
        """Let time pass."""

    async def look_up(self) -> Seen:
        """Return what a complete look-up has seen of the key."""

    async def forget(self) -> None:
        """Clear this machine's mark of the key."""

    async def put(self, item: MutableItem, cas: tuple[int, ...]) -> Tried:
        """Put an item in the place of items with these seqs, and look at the copies afterwards."""


@dataclass(frozen=True)
class Plan:
    """The item that a publication is about to replace, and the changes, before anything is signed."""

    current: MutableItem | None
    changes: Changes
    is_made_here: bool
    trouble: str | None = None  # Why it is refused, unless it is forced.
    is_first_commitment: bool = False


@dataclass(frozen=True)
class Rules:
    """How a publication is meant. `approve` sees what is about to be replaced, and may raise to stop that.

    With `keeps_merged`, what another publisher has changed, and an earlier publication from here has merged, is refused
    to be taken out as well. `verb` is the command that hints name. `commitment` is the one to a next key that is known
    here, from `commitment_file`; the one that the zone has is carried in any case, and fits into `size_bytes_max` too.
    """

    is_forced: bool = False
    takes_back: bool = False
    keeps_merged: bool = False
    commitment: Commitment | None = None
    commitment_file: str = COMMITMENT_FILE
    size_bytes_max: int = SIZE_BYTES_MAX
    approve: Callable[[Plan], None] = lambda plan: None
    take_back_command: str = TAKE_BACK_COMMAND
    force_command: str = FORCE_COMMAND
    verb: str = "publish"


class Publication:
    """One publication of a key; `run` returns how it ended."""

    def __init__(
        self,
        key: ZoneKey,
        sign: Sign,
        content: Content,
        replicas: Replicas,
        *,
        memory: Memory | None = None,
        rules: Rules | None = None,
        tell: Tell = lambda progress: None,
        dividing: Dividing | None = None,
    ) -> None:
        """Make a publication; without `dividing` none of a zone that does not fit one item."""
        self._key = key
        self._sign = sign
        self._replicas = replicas
        self._memory = memory or NoMemory()
        self._rules = rules or Rules()
        self._editions = DividedEditions(key, dividing, tell)
        self._content = Committing(
            content,
            key,
            self._rules.commitment,
            self._rules.commitment_file,
            self._rules.force_command,
            self._rules.size_bytes_max,
            self._editions,
            replicas.unix_now,
        )
        self._tell = tell
        self._ahead: int | None = None
        self._changes: Changes | None = None
        self._mark_seq: int | None = None
        self._last: int | None = None
        self._own: dict[int, MutableItem] = {}
        # The seqs that this publication takes the place of knowingly: found at first, its own, and those gone above.
        self._accounted: dict[int, None] = {}
        self._base_seq = -1
        self._begun_seq = 0  # The time of the beginning, as a seq.
        self._base_value: bytes | None = None
        self._own_value = b""  # Without the changes that others have made in between.
        # The first look-up was not complete: an item that it missed is older, and did not come in between.
        self._is_blind = False
        self._rebased: dict[int, None] = {}
        self._built_on: MutableItem | None = None

    async def run(self) -> Stored:
        """Publish. Unavailable where it is refused, or another publication has won for good."""
        self._begun_seq = int(self._now() * SEQ_PER_SECOND)
        value = await self._begun()
        for round_number in range(ROUNDS_MAX):
            item, tried = await self._tried(value)
            if not self._has_conflict(tried):
                if tried.others.known:
                    await self._editions.place_again(value)
                done = self._ended(item, tried)
                if done.is_done:
                    await self._editions.renew(item)
                return done
            pause_s = min(BACKOFF_S_MAX, BACKOFF_S * 2.0**round_number) * self._replicas.jitter()
            await self._replicas.wait(pause_s)
            seen = await self._looked()
            self._check_unseen(seen, tried)
            try:
                value = await self._value_above(seen, tried, value)
            except Conflict as conflict:
                # If most other nodes hold our item, the other publication has fewer than half and gives way itself.
                if not Others(tried.others.known, seen.holders_of(value)).is_enough:
                    raise await self._given_way(conflict) from None
                self._overrule()
            settled = await self._settled(seen, tried, value)
            if settled is not None:
                return settled
        raise self._outrun()

    # The beginning

    async def _begun(self) -> bytes:
        """Look the key up, compare, and return the value to sign."""
        seen = await self._looked()
        mark_seq = seen.mark_seq
        takes_back = self._rules.takes_back and mark_seq is not None and Present(self._now()).is_ahead(mark_seq)
        if takes_back:
            # This machine has a mark at that seq, and goes below a mark only after it was cleared.
            seen = replace(seen, mark_seq=None)
            self._mark_seq, self._last, self._ahead = None, None, None
            self._note(seen)
            self._ahead = mark_seq
        self._is_blind = not seen.is_complete
        current = self._newest(seen)
        origin = Origin.HERE if current is None else self._memory.origin_of(current)
        found = [one.item for one in self._counting(seen)]
        refused = self._content.begin(current, found, is_made_here=origin in (Origin.HERE, Origin.MERGED))
        before = None if current is None else await self._before(current, origin)
        value = self._own_value = self._content.value_above(before)
        self._changes = self._editions.changes(before, value)
        if refused is None and current is not None and current.value != value:
            refused = self._refused(current, origin, self._changes)
        if refused is not None and not self._rules.is_forced:
            raise refused
        for version in seen.versions:
            self._accounted[version.item.seq] = None
        self._base_seq = -1 if current is None else current.seq
        self._base_value = None if current is None else current.value
        # A clock that is wrong is a reason not to ask.
        self._next_seq()
        is_made_here = origin in (Origin.HERE, Origin.UNTOLD)
        is_first = self._content.commitment is not None and (current is None or commitment_of(current) is None)
        trouble = None if refused is None else refused.what
        self._rules.approve(Plan(current, self._changes, is_made_here, trouble, is_first))
        if takes_back:
            # Only after the user has agreed: without the mark, this machine accepts older items.
            await self._replicas.forget()
        return value

    async def _before(self, current: MutableItem, origin: Origin) -> Found:
        """Return the edition that was found, with all that it pins."""
        unknown = await self._editions.gather(current)
        if unknown is not None and not self._rules.is_forced and origin in (Origin.ELSEWHERE, Origin.MERGED):
            # What another publisher has changed must not go unseen.
            raise unknown
        return self._editions.found(current)

    def _refused(self, current: MutableItem, origin: Origin, changes: Changes) -> Unavailable | None:
        """Return why an item may be replaced by force alone; None where it may be replaced."""
        what, hint = f"seq {current.seq} of {date_of(current.seq)}", f"p2pdns inspect {self._key} shows it"
        if origin is Origin.ELSEWHERE:
            differ = f"{counted(changes.count, 'RRset')} {'differs' if changes.count == 1 else 'differ'}"
            what += f" was not made by this key file; {differ}"
            hint += f"; {self._rules.force_command} goes above it"
            return Unavailable(what, place=str(self._key), hint=hint)
        if origin is Origin.MERGED and self._rules.keeps_merged and changes.taken:
            what += " has what another publisher changed, and this one would take out or change "
            what += few_of(changes.taken)
            hint += f": add that to the zone file, or {self._rules.force_command} goes above it"
            return Unavailable(what, place=str(self._key), hint=hint)
        return None

    # Looking

    def _now(self) -> float:
        return self._replicas.unix_now()

    async def _looked(self) -> Seen:
        self._tell(PublishStage("look-up"))
        seen = await self._replicas.look_up()
        self._note(seen)
        return seen

    def _note(self, seen: Seen) -> None:
        if seen.mark_seq is not None:
            self._mark_seq = max(seen.mark_seq, self._mark_seq or 0)
        for version in seen.versions:
            if self._is_ahead(version.item.seq):
                self._ahead = max(version.item.seq, self._ahead or 0)
            if version.item.seq < self._base_seq:
                # A node that has slept; the item that the look-up found has taken the place of this one before.
                self._accounted[version.item.seq] = None
        seqs = [version.item.seq for version in self._counting(seen)]
        known = [seq for seq in (self._last, self._mark_seq) if seq is not None]
        self._last = max([*seqs, *known], default=None)

    def _is_ahead(self, seq: int) -> bool:
        return Present(self._now(), mark_seq=self._mark_seq).is_ahead(seq)

    def _counting(self, seen: Seen) -> list[Version]:
        return [version for version in seen.versions if not self._is_ahead(version.item.seq)]

    def _newest(self, seen: Seen) -> MutableItem | None:
        items = [version.item for version in self._counting(seen)]
        return max(items, key=lambda item: (item.seq, item.value), default=None)

    def _next_seq(self) -> int:
        rules = self._rules
        return chosen_seq(self._last, self._now(), takes_back=rules.takes_back, command=rules.take_back_command)

    # Putting

    async def _tried(self, value: bytes, *, is_made_here: bool = True) -> tuple[MutableItem, Tried]:
        await self._editions.place(value, self._next_seq(), self._base_value)
        # Items of a large zone take their time, and a seq is the time of its head.
        seq = self._next_seq()
        item = self._sign(seq, value)
        if is_made_here:
            self._memory.signed(item, is_merged=value != self._own_value)
        tried = await self._replicas.put(item, tuple(sorted(self._accounted)))
        self._own[seq] = item
        self._accounted[seq] = None
        self._note(tried.seen)
        return item, tried

    def _is_own(self, item: MutableItem) -> bool:
        return self._own.get(item.seq) == item

    def _strangers(self, seen: Seen) -> list[Version]:
        """Return the versions of others that this publication does not take the place of knowingly."""
        return [one for one in self._counting(seen) if one.item.seq not in self._accounted]

    def _has_conflict(self, tried: Tried) -> bool:
        taken = [one for one in self._counting(tried.seen) if one.item.seq in self._own and not self._is_own(one.item)]
        # An item from the future is not counted: nodes of ours drop it, and others refuse our item until it is gone.
        refused = [seq for seq in tried.held if seq is None or not self._is_ahead(seq)]
        return bool(refused or taken or self._strangers(tried.seen))

    def _ended(self, item: MutableItem, tried: Tried) -> Stored:
        known, stored = tried.others
        done = Stored(
            item.seq,
            known,
            stored,
            refused=dict(tried.refused),
            ahead=self._ahead,
            read_back=tried.seen.holders_of(item.value),
            is_read_back=tried.is_read_back(item),
            changes=self._changes,
            rebased=tuple(self._rebased),
            overruled=tuple(self._content.overruled),
            item=item,
            extent=self._editions.extent_of(item.value),
        )
        if done.is_done:
            self._note_stored(item)
        return done

    def _note_stored(self, item: MutableItem) -> None:
        self._editions.stored(item.value)
        if item.value == self._own_value:
            self._memory.stored(item)
        elif self._memory.origin_of(item) is Origin.ELSEWHERE:
            # It has our change and another's, and that one is not done with.
            self._memory.signed(item, is_merged=True)

    # Another publisher came in between

    def _others(self, seen: Seen, tried: Tried) -> list[Version]:
        """Return the versions of others that are newer than what was found at the beginning."""
        versions = {(one.item.seq, one.item.value): one for one in (*self._counting(tried.seen), *self._counting(seen))}
        return [one for one in versions.values() if one.item.seq > self._base_seq and not self._is_own(one.item)]

    def _check_unseen(self, seen: Seen, tried: Tried) -> None:
        """Raise Unavailable for an item that the first look-up missed: it is to be compared, and not to be merged."""
        others = self._others(seen, tried)
        if self._is_blind and others:
            newest = max(one.item.seq for one in others)
            what = f"the look-up was not complete, and seq {newest} of {date_of(newest)} came to light only afterwards"
            hint = f"{self._rules.verb} again: then the zone is compared with that one first"
            raise Unavailable(what, place=str(self._key), hint=hint)

    async def _value_above(self, seen: Seen, tried: Tried, value: bytes) -> bytes:
        """Return the value to sign above what others have published since the beginning."""
        value = await self._value_again(seen, tried, value)
        others = self._others(seen, tried)
        for one in others:
            self._accounted[one.item.seq] = None
        others = [one for one in others if not self._content.overrules(one.item)]
        for one in others:
            self._rebased[one.item.seq] = None
        if not others:
            return value
        # The item that most nodes hold has won. A publication below half sees that, and signs again above this one.
        winner = max(others, key=lambda one: (one.holders, one.item.seq, one.item.value)).item
        if winner == self._built_on or winner.value == value:
            return value
        self._built_on = winner
        self._tell(PublishStage("rebase", {"seq": winner.seq}))
        self._base_value = winner.value
        if unknown := await self._editions.gather(winner):
            # Its change cannot be told from its absence.
            raise Conflict(unknown.what, place=str(self._key))
        return self._content.value_above_other(self._editions.found(winner))

    async def _value_again(self, seen: Seen, tried: Tried, value: bytes) -> bytes:
        """Return the value to sign where the first look-up has missed an own edition that is older than this one."""
        others = self._others(seen, tried)
        missed = [one.item for one in others if self._is_done_with(one.item)]
        if not missed:
            return value
        newest = max(missed, key=lambda item: item.seq)
        self._base_seq = newest.seq
        for one in others:
            if one.item.seq <= newest.seq:
                self._accounted[one.item.seq] = None
        if (refused := self._content.begin_again(newest)) and not self._rules.is_forced:
            # Ours hides the first commitment by now: the edition that has it stands again.
            self._own_value = newest.value
            await self._tried(newest.value)
            raise refused
        self._base_value = newest.value
        self._own_value = value = self._content.value_again(await self._whole(newest))
        if self._built_on is not None and self._built_on.seq > newest.seq:
            value = self._content.value_above_other(await self._whole(self._built_on))
        return value

    async def _whole(self, item: MutableItem) -> Found:
        """Return an edition of ours with all that it pins; Unavailable where that cannot be found."""
        if unknown := await self._editions.gather(item):
            raise unknown
        return self._editions.found(item)

    def _is_done_with(self, item: MutableItem) -> bool:
        """Return whether an item was made here before this publication, so that nothing in it is another's change."""
        # One of this very time is of another process with the same key file: that one is a race.
        return item.seq < self._begun_seq and self._memory.origin_of(item) is Origin.HERE

    def _overrule(self) -> None:
        """Go above the item that came in between without its change."""
        assert self._built_on is not None, "there is no conflict with nothing"
        self._rebased.pop(self._built_on.seq, None)
        self._built_on = None

    async def _settled(self, seen: Seen, tried: Tried, value: bytes) -> Stored | None:
        """Return the end, if what most others hold, and nothing newer, has all changes by now."""
        newest = self._newest(seen)
        if newest is None or newest.value != value or not seen.is_complete or newest.seq < min(self._own):
            return None
        holders, known = seen.holders_of(value), tried.others.known
        if not Others(known, holders).is_enough or holders < min(HOLDERS_MIN, known):
            return None
        await self._editions.place_again(value)
        self._note_stored(newest)
        await self._editions.renew(newest)
        return Stored(
            newest.seq,
            known,
            min(known, holders),
            ahead=self._ahead,
            read_back=holders,
            changes=self._changes,
            rebased=tuple(self._rebased),
            overruled=tuple(self._content.overruled),
            item=newest,
            extent=self._editions.extent_of(newest.value),
        )

    async def _given_way(self, conflict: Conflict) -> Unavailable:
        """Sign the winner's value again above ours, so that ours hides nothing, and return the error to raise."""
        winner, own = self._built_on, max(self._own)
        assert winner is not None, "there is no conflict with nothing"
        # The content is not from here, so the next publication from here is refused until the user has seen it.
        item, tried = await self._tried(winner.value, is_made_here=False)
        hint = f"{self._rules.verb} again when you have seen it: p2pdns inspect shows it"
        if Others(*tried.others).is_enough and not self._strangers(tried.seen):
            what = f"{conflict.what}; seq {winner.seq} was there first, and stands again as seq {item.seq}"
        else:
            what = f"{conflict.what}; seq {own} of this publication may hide seq {winner.seq}, which was there first"
        return Unavailable(what, place=str(self._key), hint=hint)

    def _outrun(self) -> Unavailable:
        seqs = ", ".join(map(str, self._rebased)) or "unknown"
        what = f"other publications of this key came in between {ROUNDS_MAX} times (seq {seqs})"
        hint = f"{self._rules.verb} again when no other publisher is at work"
        return Unavailable(what, place=str(self._key), hint=hint)
