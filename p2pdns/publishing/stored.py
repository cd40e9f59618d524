"""How a publication ended, in numbers and in words, and the seq that it signs.

Guarantees: what is stored at too few nodes is never called done; a seq is never signed that readers take for one from
the future. Does not know how a publication goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pdns.dht.node.values import RATIONED, Others
from p2pdns.errors import Unavailable
from p2pdns.items.item import BUILD_UNIX, SEQ_PER_SECOND, SIGN_AHEAD_S_MAX, MutableItem, Present, next_seq
from p2pdns.publishing.changes import Changes
from p2pdns.publishing.dates import date_of, publish_again_after
from p2pdns.publishing.editions import Extent
from p2pdns.publishing.replicas import HOLDERS_MIN
from p2pdns.publishing.upkeep import OTHERS_FEW, OTHERS_WANTED

TAKE_BACK_COMMAND = "p2pdns publish --take-back -k KEYFILE ZONEFILE"


@dataclass(frozen=True)
class Stored:
    """The end of a publication: `stored` of `sent` other nodes hold it; with `is_kept_here` a daemon keeps it too.

    `read_back` others have returned it afterwards. `rebased` are the seqs of others that came in between; of those in
    `overruled`, which break the commitment of the zone to its next key, nothing was kept. `extent` is how much room the
    zone takes, where it takes several items.
    """

    seq: int
    sent: int
    stored: int
    through: str = ""
    refused: dict[str, int] = field(default_factory=dict)
    is_kept_here: bool = False
    ahead: int | None = None
    read_back: int = 0
    is_read_back: bool = True
    changes: Changes | None = None
    rebased: tuple[int, ...] = ()
    overruled: tuple[int, ...] = ()
    item: MutableItem | None = None
    extent: Extent | None = None

    @property
    def is_enough(self) -> bool:
        return Others(self.sent, self.stored).is_enough

    @property
    def is_done(self) -> bool:
        return self.is_enough and self.is_read_back

    @property
    def warning(self) -> str | None:
        """The warning about a publication that is enough, but held by few other nodes."""
        if not self.is_enough or self.stored >= OTHERS_FEW:
            return None
        keeps = "node keeps" if self.stored == 1 else "nodes keep"
        return f"only {self.stored} other {keeps} this zone, {OTHERS_WANTED} are wanted"

    def failure(self, key: str, verb: str = "publish") -> Unavailable:
        """Return the error of a publication that is not done; the hint names the command that made it."""
        if self.sent == 0:
            hint = "name one with --bootstrap ADDR:PORT"
            if self.is_kept_here:
                hint = "start p2pdns serve with --bootstrap ADDR:PORT, or wait: it is put as soon as there are others"
            return Unavailable("no other node is known to store the zone at", place=key, hint=hint)
        wanted = min(HOLDERS_MIN, self.sent)
        if self.is_enough and wanted <= self.stored:
            what = f"{self.stored} of {self.sent} other nodes said that they store the zone, and only {self.read_back} "
            what += f"of {wanted} have returned it to a complete look-up"
            return Unavailable(what, place=key, hint=f"{verb} again; p2pdns doctor shows how well nodes are reached")
        hint = f"{verb} again; p2pdns status shows the contacts"
        if self.is_kept_here:
            hint = "the daemon goes on trying; p2pdns status shows how far it is"
        elif self.refused.get(RATIONED):
            hint = (
                f"they take few new zones at a time: {verb} again later, or through p2pdns serve, which waits for them"
            )
        if self.refused.get("302") and self.ahead is not None:
            hint = (
                f"nodes of other programs refuse it until they have dropped the later one: {verb} again in some hours"
            )
        elif self.refused.get("302") or self.refused.get("301"):
            hint = f"some nodes hold another publication of this key: {verb} again from where it was made"
        what = f"only {self.stored} of {self.sent} other nodes hold the zone"
        if not self.stored:
            what = "no other node holds the zone"
        needed = "more than half are needed"
        if self.is_enough:
            # Half of three or four is fewer copies than it takes to trust a look-up.
            needed = f"{wanted} are needed where so few are known"
        return Unavailable(f"{what}; {needed}", place=key, hint=hint)

    def __str__(self) -> str:
        if not self.sent:
            where = "kept here, at" if self.is_kept_here else "stored at"
            return f"{where} 0 other nodes, seq {self.seq}"
        return f"stored at {self.stored} of {self.sent} nodes, seq {self.seq}"


def chosen_seq(last: int | None, now: float, *, takes_back: bool = False, command: str = TAKE_BACK_COMMAND) -> int:
    """Return the seq to sign; Unavailable when it would be more than an hour ahead of the clock.

    With `takes_back` it may be further ahead, just above the last one, as long as readers do not take it for a seq from
    the future: they would refuse a lower one. The hint names `command`, which takes a publication back.
    """
    if now < BUILD_UNIX:
        what = f"the clock says {date_of(int(now) * SEQ_PER_SECOND)}, which is before this program was made"
        hint = "set the clock: what is signed now would be expired for every reader"
        raise Unavailable(what, place="clock", hint=hint)
    seq = next_seq(now, last)
    if seq > (now + SIGN_AHEAD_S_MAX) * SEQ_PER_SECOND and not (takes_back and not Present(now).is_ahead(seq)):
        what = f"the last publication under this key is dated {date_of(seq - 1)}, more than an hour ahead"
        hint = f"set the clock; if it is right now and was wrong then, {command} replaces that publication"
        raise Unavailable(f"{what}: {publish_again_after(seq - 1, now)}", place="clock", hint=hint)
    return seq
