"""The rules for every world, whatever happens in it: safety, after every step.

Guarantees: each check reads public data of the production code, and puts a fault into words; `Checkers` sees every
item, get and question of every machine. Does not know the cause of a fault, nor what happens when all trouble has
stopped (`liveness` does).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from p2pdns.addresses import AddressClass, class_of
from p2pdns.clock import boot_now
from p2pdns.dht.node.values import GetOutcome, Peer, Wanted
from p2pdns.dht.routing.ids import ID_BITS, distance, is_id_allowed
from p2pdns.dht.routing.table import K
from p2pdns.dht.storage import BYTES_MAX, ITEMS_MAX
from p2pdns.dht.stored import StoredItem
from p2pdns.dns.registry import Rcode
from p2pdns.items.item import ImmutableItem, Item, MutableItem, signing_buffer, signing_buffer_of_form
from p2pdns.items.keys import ZoneKey
from p2pdns.limits import QUESTION_LOOKUPS_MAX, QUESTION_RPCS_MAX, QUESTION_S_MAX
from p2pdns.net.endpoint import TIMER_S_MIN
from p2pdns.resolver.steps import Found
from p2pdns.sim.observe import AnswerGiven

FINDINGS_MAX = 100  # Lines; so many are enough to find out what is wrong.
# Ranges of ids that may hold contacts. N random ids make N²/2 pairs, and the nearest pair shares 2·log₂ N - 1 bits; one
# world in a thousand has a pair that shares ten more, and each machine that takes another id is one more draw.
DEPTH_FACTOR, DEPTH_SPARE = 2, 10
# A machine adopts what it has published a moment after the world has noted it, and clocks are added and subtracted.
CONFIRMED_SPARE_S = 1.0
# Of the nearest nodes, by a get that is complete. Nearly always they are all but one or two; minutes after cuts have
# ended, 12 of 20 were seen.
ANSWERED_SHARE_MIN = 0.5
GET_LATE_S_MAX = 2 * TIMER_S_MIN  # One for the timer of the deadline, one for the rounding of the clock.


@dataclass(frozen=True)
class Beginning:
    """The seqs held by the living nodes nearest to a target that the asker can reach, when its get began; by host.

    In a world that was never troubled, or not for long, every machine can know of all that are near. At the end of the
    get `gone` has those of them that the asker cannot reach any more: they may have been silent to it.
    """

    held: Mapping[str, int | None] = field(default_factory=dict)
    is_calm: bool = False
    gone: tuple[str, ...] = ()


# Single values


def item_findings(wanted: Wanted, item: Item) -> Iterator[str]:
    """Yield what is wrong with an item that a get has handed out: it must be the one wanted, and signed."""
    if item.target != wanted.target:
        yield "a get handed out an item of another target"
    if isinstance(item, MutableItem):
        if wanted.key is not None and (item.key, item.salt) != (wanted.key, wanted.salt):
            yield "a get handed out an item of another key or salt"
        if not item.key.verify(item.signature, signing_buffer(item.seq, item.value, item.salt)):
            yield "a get handed out an item whose signature does not hold"
    elif wanted.key is not None:
        yield "a get for a key handed out an immutable item"


def get_findings(wanted: Wanted, outcome: GetOutcome, *, late_s: float = 0.0, has_liars: bool = False) -> Iterator[str]:
    """Yield the faults of a get that no trouble of the network excuses; it ended `late_s` after its deadline."""
    rpcs_max = min(wanted.rpc_max, QUESTION_RPCS_MAX)
    if outcome.rpc_count > rpcs_max:
        yield f"a look-up sent {outcome.rpc_count} RPCs, {rpcs_max} allowed"
    if wanted.deadline is not None and late_s > GET_LATE_S_MAX:
        yield f"a look-up ended {late_s:.3f} s after its deadline"
    if outcome.dropped and not has_liars:
        yield f"in a world without liars items did not verify: {dict(outcome.dropped)}"


def settled_seq(wanted: Wanted, outcome: GetOutcome) -> int | None:
    """Return the seq that a get has settled on; None where it settled nothing."""
    if not outcome.complete:
        return None
    if isinstance(outcome.item, MutableItem) and outcome.confirmation.is_of(outcome.item):
        return outcome.item.seq
    known = wanted.known_seq
    return known if outcome.item is None and known is not None and outcome.confirmation.is_of_seq(known) else None


def age_findings(
    wanted: Wanted, beginning: Beginning, outcome: GetOutcome, *, has_liars: bool = False
) -> Iterator[str]:
    """Yield what a get settled on although it could have known better.

    A holder that answered cannot have been overlooked. One that did not may have lost two datagrams; that all of the
    majority that makes an item published did so is no accident, unless liars have led the look-up away from them.
    """
    seq = settled_seq(wanted, outcome)
    if seq is None:
        return
    present = wanted.present
    newer = {
        host: held
        for host, held in beginning.held.items()
        if held is not None and held > seq and not (present is not None and present.is_ahead(held))
    }
    answered = [host for host, _ in outcome.answered if host in newer]
    if answered:
        yield f"a get settled on seq {seq}, and {answered[0]}, which answered it, held {newer[answered[0]]} before"
        return
    overlooked = [host for host in newer if host not in beginning.gone]
    if 2 * len(overlooked) > len(beginning.held) and not has_liars:
        yield f"a get settled on seq {seq}, and {len(overlooked)} of the {len(beginning.held)} nearest held a newer one"


def region_findings(host: str, beginning: Beginning, outcome: GetOutcome) -> Iterator[str]:
    """Yield whether a get calls itself complete although too few of the nodes nearest to the target have answered it.

    It is a rule only in worlds without liars, which can lead a look-up away from these nodes, and without machines that
    are still cut off, which do not know all of them. Even there, nodes that came a moment ago may be unknown.
    """
    near = [one for one in beginning.held if one != host and one not in beginning.gone]
    answered = {one: None for one, _ in outcome.answered}
    count = sum(one in answered for one in near)
    if beginning.is_calm and outcome.complete and count < ANSWERED_SHARE_MIN * len(near):
        yield f"a get is complete, and {count} of the {len(near)} nearest have answered it"


def answer_findings(given: AnswerGiven) -> Iterator[str]:
    """Yield what is wrong with an answer, whatever was answered before."""
    resolved = given.resolved
    if given.took_s > QUESTION_S_MAX + TIMER_S_MIN:
        yield f"an answer took {given.took_s:.3f} s, {QUESTION_S_MAX:g} s allowed"
    if resolved.rpc_count > QUESTION_RPCS_MAX:
        yield f"a question cost {resolved.rpc_count} RPCs, {QUESTION_RPCS_MAX} allowed"
    lookups = {one.outcome.lookup for one in given.fetched if one.outcome.lookup}
    if len(lookups) > QUESTION_LOOKUPS_MAX:
        yield f"a question waited for {len(lookups)} look-ups, {QUESTION_LOOKUPS_MAX} allowed"
    apexes = [one.zone_id.apex for one in given.fetched]
    for rr in (*resolved.answer, *resolved.authority):
        if not any(rr.owner.is_at_or_below(apex) for apex in apexes):
            yield f"an answer has a record of {rr.owner}, which is in none of its zones"
    for one in given.fetched:
        found = one.outcome
        is_kept = one.mark_seq is not None and isinstance(found, Found) and one.mark_seq >= found.item.seq
        if isinstance(found, Found) and not found.notes and not is_kept:
            yield f"seq {found.item.seq} of {one.zone_id} was shown before it was its mark"


def is_negative(given: AnswerGiven) -> bool:
    """Return whether an answer says that a name or a type does not exist."""
    resolved = given.resolved
    return resolved.rcode == Rcode.NXDOMAIN or (resolved.rcode == Rcode.NOERROR and not resolved.answer)


def stored_findings(stored: StoredItem) -> Iterator[str]:
    """Yield what is wrong with an item that a node stores for others, and would serve."""
    if stored.key is None:
        if isinstance(stored.item, ImmutableItem) and stored.item.target != stored.target:
            yield "a node stores an item under the target of another one"
        return
    key = ZoneKey.verified(stored.key)
    if not key.verify(stored.signature, signing_buffer_of_form(stored.seq, stored.value, stored.salt)):
        yield "a node stores an item whose signature does not hold"


def table_findings(own_id: bytes, peers: list[Peer], machine_count: int) -> Iterator[str]:
    """Yield what is wrong with a routing table: at most K contacts of each range of ids, and no range too deep."""
    depths = Counter(ID_BITS - distance(own_id, peer.node_id).bit_length() for peer in peers)
    fullest, count = max(depths.items(), key=lambda pair: pair[1], default=(0, 0))
    if count > K:
        yield f"a table has {count} contacts that share {fullest} bits with its own id, {K} allowed"
    depth_max = DEPTH_FACTOR * math.log2(max(2, machine_count)) + DEPTH_SPARE
    if depths and max(depths) > depth_max:
        yield f"a table of a world of {machine_count} has a contact that shares {max(depths)} bits"
    if len({peer.address for peer in peers}) < len(peers):
        yield "a table has two contacts of one address"


def identity_findings(host: str, node_id: bytes, *, is_settled: bool) -> Iterator[str]:
    """Yield whether a node that knows its public address has an id that BEP 42 forbids there."""
    if is_settled and class_of(host) is AddressClass.PUBLIC and not is_id_allowed(node_id, host):
        yield f"the id of {host} is none that BEP 42 allows there"


class Checkers:
    """The observations of all machines of a world so far; an `Observer`.

    `beginning_of` looks at the holders of a get, and `left_of` says at its end what a machine can still reach of them.
    """

    def __init__(
        self, beginning_of: Callable[[str, Wanted], Beginning], left_of: Callable[[str, Beginning], Beginning]
    ) -> None:
        self.findings: list[str] = []
        self.counters: Counter[str] = Counter()
        self.has_liars = False
        self._beginning_of = beginning_of
        self._left_of = left_of
        self._shown: dict[tuple[str, bytes], int] = {}
        self._settled: dict[tuple[str, bytes], int] = {}
        self._settled_at: dict[tuple[str, bytes], float] = {}
        self._published: dict[tuple[str, bytes], None] = {}
        self._put_at: dict[tuple[str, bytes], float] = {}
        self._verified: dict[bytes, None] = {}

    def get_begins(self, host: str, wanted: Wanted) -> object:
        """Note what the holders have that the get should find."""
        self.counters["gets"] += 1
        return self._beginning_of(host, wanted)

    def item_shown(self, host: str, wanted: Wanted, item: Item) -> None:
        """Check an item that a get has handed out."""
        self.counters["items"] += 1
        self.note(host, item_findings(wanted, item))

    def get_ended(self, host: str, wanted: Wanted, began: object, outcome: GetOutcome) -> None:
        """Check the end of a get."""
        assert isinstance(began, Beginning)
        began = self._left_of(host, began)
        late_s = 0.0 if wanted.deadline is None else boot_now() - wanted.deadline
        self.note(host, get_findings(wanted, outcome, late_s=late_s, has_liars=self.has_liars))
        self.note(host, age_findings(wanted, began, outcome, has_liars=self.has_liars))
        if not self.has_liars:
            self.note(host, region_findings(host, began, outcome))
        seq = settled_seq(wanted, outcome)
        if seq is not None and wanted.key is not None:
            self.settled(host, wanted.key, seq)

    def settled(self, host: str, key: ZoneKey, seq: int) -> None:
        """Note that a machine knows for certain what the newest item of a key is: it looked, or it has published it."""
        at = host, key.raw
        self._settled[at] = max(seq, self._settled.get(at, -1))
        self._settled_at[at] = boot_now()

    def published(self, host: str, key: ZoneKey, seq: int) -> None:
        """Note that a machine publishes an item, which needs no confirmation by others."""
        self._published[host, key.raw] = None
        self.settled(host, key, seq)

    def put_begins(self, host: str, item: Item) -> None:
        """Note when a machine put an item of a key last."""
        if isinstance(item, MutableItem):
            self._put_at[host, item.key.raw] = boot_now()

    def put_at(self, host: str, key: ZoneKey) -> float | None:
        """Return when a machine put an item of a key last; None if it never did."""
        return self._put_at.get((host, key.raw))

    def question_ended(self, host: str, given: AnswerGiven) -> None:
        """Check an answer by itself and by what this machine has shown before."""
        self.counters["answers"] += 1
        self.note(host, answer_findings(given))
        self.note(host, self._mark_findings(host, given))
        self.note(host, self._confirmation_findings(host, given))
        if is_negative(given):
            self.counters["negative"] += 1
            self.note(host, self._denial_findings(host, given))

    def _mark_findings(self, host: str, given: AnswerGiven) -> Iterator[str]:
        # An item that was not enough for the answer was not shown: the question has waited for the next one.
        for one in {one.zone_id.raw: one for one in given.fetched}.values():
            if not isinstance(one.outcome, Found):
                continue
            at, seq = (host, one.zone_id.raw), one.outcome.item.seq
            before = self._shown.get(at, -1)
            if seq < before:
                yield f"seq {seq} of {one.zone_id} was shown after {before}"
            # An item with a note is shown without a mark: from the future, or where the disk refuses.
            if not one.outcome.notes:
                self._shown[at] = max(before, seq)

    def _confirmation_findings(self, host: str, given: AnswerGiven) -> Iterator[str]:
        """Yield the items that pass for confirmed later than a look-up of this machine has confirmed them."""
        for one in given.fetched:
            at = host, one.zone_id.raw
            if not isinstance(one.outcome, Found) or not one.outcome.settled or at in self._published:
                continue
            later_s = one.outcome.confirmed_at - self._settled_at.get(at, -math.inf)
            if later_s > CONFIRMED_SPARE_S:
                yield f"{one.zone_id} passes for confirmed {later_s:.0f} s after the last look-up that confirmed it"

    def _denial_findings(self, host: str, given: AnswerGiven) -> Iterator[str]:
        found = [one for one in given.fetched if isinstance(one.outcome, Found)]
        if not found:
            yield f"{given.question.name} was denied without a verified zone"
        for one in found:
            if (host, one.zone_id.raw) not in self._settled:
                yield f"{given.question.name} was denied, and no look-up of its zone was ever complete here"

    def state_lost(self, host: str) -> None:
        """Forget what a machine knew that has lost its disk."""
        for known in (self._shown, self._settled, self._settled_at, self._published, self._put_at):
            for at in [at for at in known if at[0] == host]:
                del known[at]

    def stored(self, host: str, stored: StoredItem) -> None:
        """Check an item that a node stores; the same bytes are checked once."""
        name = b"%d" % stored.seq + stored.target + stored.signature + stored.value
        if name not in self._verified:
            self._verified[name] = None
            self.note(host, stored_findings(stored))

    def note(self, host: str, findings: Iterator[str]) -> None:
        """Keep findings about a machine."""
        for text in findings:
            self.counters["findings"] += 1
            if len(self.findings) < FINDINGS_MAX:
                self.findings.append(f"{host}: {text}")


def store_size_findings(count: int, size_bytes: int) -> Iterator[str]:
    """Yield whether a store is beyond its bounds."""
    if count > ITEMS_MAX or size_bytes > BYTES_MAX:
        yield f"a node stores {count} items of {size_bytes} bytes, {ITEMS_MAX} and {BYTES_MAX} allowed"
