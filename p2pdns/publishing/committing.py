"""The commitment of a zone to its next key, as a publication carries it from edition to edition.

What leaves here is a value to be signed: that of the only item, or that of the head where the zone has to be divided.

Guarantees: no value that leaves here lacks the commitment that the zone has; where the zone has committed itself to
another next key than the one at hand, the publication goes on by force alone, and keeps nothing of editions with the
other one. Does not know where a commitment is kept, nor the next key.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem, P2pdnsError, Unavailable, ZoneFileError
from p2pdns.items.item import VALUE_BYTES_WRITE_MAX, MutableItem
from p2pdns.items.keys import ZoneKey
from p2pdns.items.succession import Commitment, breaks_commitment, commitment_of, with_commitment
from p2pdns.publishing.changes import Conflict, Content
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.divided import DividedEditions
from p2pdns.publishing.editions import Draft, Found, draft_of, item_of
from p2pdns.timing import UnixClock

SIZE_BYTES_MAX = VALUE_BYTES_WRITE_MAX  # Of a zone with its commitment, where nobody asks for less.
COMMITMENT_FILE = "KEYFILE.next"  # What errors call the file, where nobody has said its path.


class Committing:
    """A content with the commitment that it has to carry: the `own` one, else the one that the zone has."""

    def __init__(
        self,
        content: Content,
        key: ZoneKey,
        own: Commitment | None,
        place: str,
        force_command: str,
        size_bytes_max: int,
        editions: DividedEditions,
        unix_clock: UnixClock,
    ) -> None:
        self.commitment = own
        # The seqs of editions that break the commitment.
        self.overruled: dict[int, None] = {}
        self._is_published = False  # Whether the zone that the first look-up found has a commitment.
        self._content = content
        self._key = key
        self._own = own
        self._place = place
        self._force_command = force_command
        self._size_bytes_max = size_bytes_max
        self._editions = editions
        self._unix_clock = unix_clock

    def begin(
        self, current: MutableItem | None, seen: Sequence[MutableItem], *, is_made_here: bool
    ) -> Unavailable | None:
        """Take in what the first look-up has found; return why the publication may go on by force alone.

        `seen` is every version, `current` the newest one, which `is_made_here` or elsewhere.
        """
        if current is None:
            return None
        published = commitment_of(current)
        if not is_made_here and self._own is None:
            # A thief's edition may lack the commitment, or have another one. Readers keep the first one, and so do we.
            # Below an edition from here that says nothing: a thief can put any older one.
            published = _first_of(seen)
        if self._own is None:
            self.commitment = published
        self._is_published = published is not None
        if published in (None, self.commitment):
            return None
        self.overruled[current.seq] = None
        return self._other(current.seq)

    def begin_again(self, missed: MutableItem) -> Unavailable | None:
        """Take in an own edition that the first look-up has missed; return why to go on above it by force alone."""
        published = commitment_of(missed)
        if published is None:
            return None
        self._is_published = True
        if self.commitment is None:
            self.commitment = published
        if published == self.commitment:
            return None
        self.overruled[missed.seq] = None
        return self._other(missed.seq)

    def overrules(self, item: MutableItem) -> bool:
        """Return whether an edition that came in between breaks the commitment of the zone; nothing of it is kept."""
        if not self._is_published or not breaks_commitment(item, self.commitment):
            return False
        self.overruled[item.seq] = None
        return True

    def carried(self, draft: Draft, former: Found | None) -> bytes:
        """Return the value of a draft with the commitment; `former` is the edition that its items go on from."""
        if isinstance(draft, bytes):
            large = self._packed(draft)
            if isinstance(large, bytes):
                return large
            draft = large
        made = () if self.commitment is None else (self.commitment.record_of(self._key),)
        size_max, now = self._size_bytes_max, self._unix_clock()
        return self._editions.value_of(draft, former, made=made, size_bytes_max=size_max, unix_now=now)

    def _packed(self, value: bytes) -> Draft:
        """Return a value with the commitment, or its content, if that does not fit one item any more."""
        if self.commitment is None:
            return value
        size_max, place = self._size_bytes_max, str(self._key)
        try:
            return with_commitment(value, self._key, self.commitment, size_bytes_max=size_max, path=place)
        except ZoneFileError:
            rrsets, made = Zone.verified(self._key.apex, value, 0).rrsets, [self.commitment.record_of(self._key)]
            return draft_of(rrsets.values(), self._key.apex, made=made, size_bytes_max=size_max, path=place)
        except BadItem as trouble:
            what = f"what is to be published is no zone ({trouble}), and cannot carry the commitment to the next key"
            raise Unavailable(what, place=place, hint=f"p2pdns inspect {self._key} shows the zone") from None

    def value_above(self, current: Found | None) -> bytes:
        """Return the content above an edition, with the commitment."""
        return self.carried(self._content.value_above(current), current)

    def value_above_other(self, other: Found) -> bytes:
        """Return the content above another publisher's edition, with the commitment; Conflict if it does not fit."""
        theirs = commitment_of(item_of(other))
        if self.commitment is None:
            self.commitment = theirs
        elif theirs not in (None, self.commitment):
            raise Conflict("the other publication commits the zone to another next key", place=str(self._key))
        draft = self._content.value_above(other)
        try:
            return self.carried(draft, other)
        except P2pdnsError as error:
            raise Conflict(f"the changes of both do not fit together: {error}", place=str(self._key)) from None

    def value_again(self, missed: Found) -> bytes:
        """Return the content above an own edition that was missed, with the commitment."""
        return self.carried(self._content.value_again(missed), missed)

    def _other(self, seq: int) -> Unavailable:
        what = f"the zone has committed itself to another next key than {self._place} (seq {seq} of {date_of(seq)})"
        hint = f"if you made a second next key, move {self._place} away: the first one counts, and is taken over. "
        hint += f"If a thief of the key did this, {self._force_command} goes above it"
        return Unavailable(what, place=str(self._key), hint=hint)


def _first_of(seen: Sequence[MutableItem]) -> Commitment | None:
    found = (commitment_of(item) for item in sorted(seen, key=lambda item: (item.seq, item.value)))
    return next((one for one in found if one is not None), None)
