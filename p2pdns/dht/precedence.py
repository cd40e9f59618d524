"""Which of two items of one target a storing node keeps.

Guarantees: the rule is that of readers. A saner item takes the place of one from the future whatever the seqs and `cas`
say, and never the reverse. Does not know the store.
"""

from __future__ import annotations

from p2pdns.dht.krpc import CAS_MISMATCH, PROTOCOL_ERROR, SEQ_TOO_LOW
from p2pdns.errors import BadRequest
from p2pdns.items.item import Present


class Precedence:
    """The rule with the time that it needs. Until the time is known, no seq is from the future.

    With a clock that is behind, every item of today would be from the future, and old ones would take their places. So
    the time is never earlier than `latest_unix`, the last put of an earlier run, nor than a day before `newest_seq`,
    the newest seq that the reader of this node has adopted.
    """

    def __init__(self) -> None:
        self.unix_skew: float | None = None  # Unix time minus `now`.
        self.newest_seq: int | None = None
        self.latest_unix = 0.0

    def tell_time(self, now: float, present: Present) -> None:
        """Take note of the present at `now`."""
        self.unix_skew, self.newest_seq = present.clock_unix - now, present.newest_seq

    def present(self, now: float) -> Present | None:
        """Return the present, None while it is not known."""
        if self.unix_skew is None:
            return None
        return Present(max(now + self.unix_skew, self.latest_unix), self.newest_seq)

    def is_ahead(self, seq: int, now: float) -> bool:
        """Return whether a seq is from the future."""
        present = self.present(now)
        return present is not None and present.is_ahead(seq)

    def is_newer(self, seq: int, held_seq: int, now: float) -> bool:
        """Return whether an item with this seq takes the place of one with `held_seq`."""
        is_new_ahead, is_held_ahead = self.is_ahead(seq, now), self.is_ahead(held_seq, now)
        return is_held_ahead if is_new_ahead != is_held_ahead else seq > held_seq

    def check(self, seq: int, value: bytes, held_seq: int, held_value: bytes, cas: int | None, now: float) -> None:
        """Raise the BadRequest for a put that cannot take the place of the held item."""
        if self.is_ahead(seq, now) != self.is_ahead(held_seq, now):
            if self.is_newer(seq, held_seq, now):
                # As if none were held: an item from the future is a mistake of its publisher, and hides no other.
                return
            # Code 302 would be wrong, and would make a publisher look for a higher seq.
            raise BadRequest("seq-from-the-future", PROTOCOL_ERROR, f"seq {seq} lies more than a day ahead")
        if cas is not None and cas != held_seq:
            raise BadRequest("cas-mismatch", CAS_MISMATCH, f"seq is {held_seq}")
        if seq < held_seq:
            raise BadRequest("seq-too-low", SEQ_TOO_LOW, f"seq is {held_seq}")
        if seq == held_seq and value != held_value:
            raise BadRequest("seq-taken", SEQ_TOO_LOW, f"seq {seq} has another value")
