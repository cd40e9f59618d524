"""The items kept for others: which puts are accepted, what a get is answered, and which items go first.

Guarantees: every item kept is verified; a put is refused with the code that BEP 44 gives its fault, the cheap checks
before the dear ones; the number of items, their bytes, the share of one prefix once the store is half full, the half
that immutable items may take, the items of one key, and the signature checks a second are bounded, whatever arrives.
An item that two prefixes have put, or that is here for a day, is *established*: it is never evicted for one that is
neither, but for one of its own key. Does not know
sockets, tokens (the caller says whether one is valid), the disk (`take_changes` and `load` serve it), or zones.

Mutable values need not be byte strings (BEP 46 keeps a dictionary there). Such an item is kept and served like any
other, but its `StoredItem.item` is None: no other part of p2pdns reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from p2pdns.addresses import Address, is_non_public, storage_prefix_of
from p2pdns.dht import krpc
from p2pdns.dht.keyed import ITEMS_OF_KEY_MAX, KeyedItems
from p2pdns.dht.precedence import Precedence
from p2pdns.dht.shares import OWN, Shares
from p2pdns.dht.stored import (
    Holding,
    Kept,
    Selected,
    StoredChange,
    StoredItem,
    StoredRow,
    check_sizes,
    is_same,
    stored_of,
    verified_immutable,
    verified_mutable,
)
from p2pdns.errors import BadItem, BadRequest
from p2pdns.items.item import (
    Item,
    MutableItem,
)
from p2pdns.rates import PrefixRates, RateLimit

RETENTION_S = 86_400.0  # BEP 44 suggests 2 h; publishers that re-put once a day are the common case.
ITEMS_MAX = 16_384  # At 20 copies an item, 1,000 nodes keep 800,000 zones; loading them takes 4 s.
BYTES_MAX = 12 * 2**20  # Of values and salts; with Python's overhead about 40 MB.
# A prefix, once the store is half full: a publisher's first day, not a flood. Before that there is room, and checks of
# signatures bound what comes; but for immutable items, which have none.
NEW_KEYS_PER_SECOND, NEW_KEYS_BURST = 1.0, 64.0
CHECKS_PER_SECOND, CHECKS_BURST = 16.0, 256.0  # A prefix: signature checks, that is updates and new keys.
ALL_CHECKS_PER_SECOND = 1_400.0  # A check takes 212 µs: this is 30 % of one core.
ALL_CHECKS_BURST = 350.0  # A quarter of a second's worth: with a whole one the first second would take 60 %.
ESTABLISHED_AFTER_S = 86_400.0  # A flood of today's must not drive out what was here yesterday.
EVICTED_PART = 64  # A 64th of a full store goes at once.
FULL_S = 10.0  # How long it is remembered that no item may go: a search looks at all items, some 30 ms.
GET_NOTED_AFTER_S = 3_600.0  # A get moves the expiry by that much before the disk hears of it.


@dataclass(slots=True)
class _Held:
    stored: StoredItem
    prefix: str
    put_at: float
    new_at: float
    first_at: float
    other_prefix: str = ""
    got_at: float | None = None
    getter: str | None = None
    getter_at: float = 0.0
    noted_at: float = 0.0
    distance: int = 0

    @property
    def expires_at(self) -> float:
        return max(self.put_at, self.put_at if self.got_at is None else self.got_at) + RETENTION_S

    @property
    def size_bytes(self) -> int:
        return self.stored.size_bytes

    @property
    def worth(self) -> tuple[float, int]:
        # Items that were never asked for go first, and of them those that are far from our ids.
        return float("-inf") if self.got_at is None else self.got_at, -self.distance

    def is_established(self, now: float) -> bool:
        return bool(self.other_prefix) or now - self.first_at >= ESTABLISHED_AFTER_S


class Storage:
    """The items of one node, shared by its address families."""

    def __init__(
        self,
        *,
        items_max: int = ITEMS_MAX,
        bytes_max: int = BYTES_MAX,
        heeds_commitments: bool = True,
        items_of_key_max: int = ITEMS_OF_KEY_MAX,
    ) -> None:
        """Make an empty one; nodes of other programs do not heed commitments, nor do theirs in the simulator."""
        self._heeds_commitments = heeds_commitments
        self.node_ids: tuple[bytes, ...] = ()  # The ids this store is near to; the far items go first.
        self.precedence = Precedence()
        self.counters: Counter[str] = Counter()
        self._measured_from: tuple[bytes, ...] = ()
        self._held: dict[bytes, _Held] = {}
        self._shares = Shares(items_max, bytes_max)
        self._of_keys = KeyedItems(items_of_key_max)
        # Until when no item goes for a prefix that takes so much of the store: by (immutable, established).
        self._full: dict[tuple[bool, bool], tuple[float, float]] = {}
        self._changed: dict[bytes, None] = {}
        self._new_keys = PrefixRates(NEW_KEYS_PER_SECOND, NEW_KEYS_BURST)
        self._checks = PrefixRates(CHECKS_PER_SECOND, CHECKS_BURST)
        self._all_checks = RateLimit(ALL_CHECKS_PER_SECOND, ALL_CHECKS_BURST, 0.0)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size_bytes(self) -> int:
        return self._shares.total.size_bytes

    # Put

    def put(self, request: krpc.Put, address: Address, now: float, *, has_token: bool) -> Kept:
        """Keep the item that a stranger at `address` puts, or raise the BadRequest whose code is owed to it."""
        try:
            return self._put(request, address, now, has_token)
        except BadRequest as refusal:
            self.counters[f"put-refused-{refusal.reason}"] += 1
            raise

    def put_own(self, item: Item, now: float) -> Kept:
        """Keep an item that this node itself is putting; the same rules of seq, but neither rate nor quota."""
        stored = stored_of(item)
        held = self._live(stored.target, now)
        if held is not None:
            if isinstance(item, MutableItem):
                self.precedence.check(item.seq, stored.value, held.stored.seq, held.stored.value, None, now)
                if held.prefix == OWN:
                    # What a stranger has put here first must not keep an owner from his own node.
                    self._refuse_dropped(stored, held.stored)
            if (held.stored.seq, held.stored.value) == (stored.seq, stored.value):
                self._refresh(held, OWN, now)
                return Kept(held.stored, False)
        self._admit(stored, OWN, now)
        return Kept(stored, True)

    def _put(self, request: krpc.Put, address: Address, now: float, has_token: bool) -> Kept:
        # Sizes first, then the look-ups in tables: a signature check costs more than all of these together, and the
        # sender has proven nothing but an address.
        check_sizes(request)
        if not has_token:
            raise BadRequest("bad-token", krpc.PROTOCOL_ERROR)
        prefix = storage_prefix_of(address)
        held = self._live(request.target, now)
        if held is None:
            self._check_room(request, prefix, now)
        elif held.stored.key != (request.key if isinstance(request, krpc.PutMutable) else None):
            # The bytes of a key and a salt may spell a bencoded value. The first item stays.
            raise BadRequest("other-kind", krpc.PROTOCOL_ERROR)
        elif isinstance(request, krpc.PutImmutable) or is_same(held.stored, request):
            # The same item may come with a cas that has become true: its first copy was accepted, the reply lost.
            self._refresh(held, prefix, now)
            return Kept(held.stored, False)
        else:
            stored = held.stored
            self.precedence.check(request.seq, request.value, stored.seq, stored.value, request.cas, now)
        stored = self._verified(request, prefix, now)
        if held is not None and held.stored.seq == stored.seq:
            self._refresh(held, prefix, now)
            return Kept(held.stored, False)
        if held is not None:
            self._refuse_dropped(stored, held.stored)
        self._admit(stored, prefix, now)
        return Kept(stored, True)

    def _drops(self, stored: StoredItem, held: StoredItem) -> bool:
        return self._heeds_commitments and stored.drops_commitment_of(held)

    def _refuse_dropped(self, stored: StoredItem, held: StoredItem) -> None:
        if self._drops(stored, held):
            raise BadRequest("commitment-dropped", krpc.PROTOCOL_ERROR, f"it lacks the commitment of seq {held.seq}")

    def _check_room(self, request: krpc.Put, prefix: str, now: float) -> None:
        size_bytes = len(request.value) + (len(request.salt) if isinstance(request, krpc.PutMutable) else 0)
        if self._shares.is_half_full and self._shares.is_over_quota(prefix, 1, size_bytes):
            raise BadRequest("quota", krpc.SERVER_ERROR)
        if not self._is_cheap(request) and not self._new_keys.take(prefix, now):
            raise BadRequest("rate", krpc.SERVER_ERROR)
        self._leaving(size_bytes, prefix, now, is_immutable=isinstance(request, krpc.PutImmutable))

    def _is_cheap(self, request: krpc.Put) -> bool:
        """Return whether a new item costs its prefix a check of a signature alone, and none of its new keys."""
        if isinstance(request, krpc.PutImmutable):
            return False
        return not self._shares.is_half_full or bool(request.salt and self._of_keys.has(request.key))

    def _verified(self, request: krpc.Put, prefix: str, now: float) -> StoredItem:
        if isinstance(request, krpc.PutImmutable):
            return verified_immutable(request.value)
        if not self._checks.take(prefix, now) or not self._all_checks.take(now):
            raise BadRequest("busy", krpc.SERVER_ERROR)
        try:
            return verified_mutable(request)
        except BadItem as error:
            self.counters[f"item-{error.reason}"] += 1
            raise BadRequest("bad-signature", krpc.BAD_SIGNATURE) from None

    # Get

    def select(self, target: bytes, known_seq: int | None, address: Address, now: float) -> Selected | None:
        """Return the part of the item at `target` to send to `address`: a seq alone if it knows one as new (BEP 44)."""
        held = self._live(target, now)
        if held is None:
            self.counters["get-missed"] += 1
            return None
        self.counters["get-found"] += 1
        self._note_get(held, address, now)
        stored = held.stored
        if stored.key is None:
            return Selected(None, None, None, stored.value)
        # For a getter that knows an item from the future, a saner one with a lower seq is newer.
        is_newer = known_seq is None or self.precedence.is_newer(stored.seq, known_seq, now)
        # An older item with a commitment is sent all the same: the newer one may lack it, and a reader that has seen
        # neither before has to be shown both (docs/spec.md §3, Succession).
        is_committed = self._heeds_commitments and stored.commitment is not None
        is_evidence = is_committed and known_seq is not None and stored.seq < known_seq
        if not is_newer and not is_evidence:
            return Selected(None, None, stored.seq, None)
        return Selected(stored.key, stored.signature, stored.seq, stored.value)

    def held(self, target: bytes, now: float) -> StoredItem | None:
        """Return the item at `target` for this node's own use; it does not count as a get."""
        held = self._live(target, now)
        return None if held is None else held.stored

    def _live(self, target: bytes, now: float) -> _Held | None:
        held = self._held.get(target)
        return held if held is not None and held.expires_at > now else None

    def _note_get(self, held: _Held, address: Address, now: float) -> None:
        prefix = storage_prefix_of(address)
        has_second = held.getter not in (None, prefix) and held.getter_at + RETENTION_S > now
        # One prefix that asks again and again could keep junk alive; in a LAN or on loopback there may be no other.
        if has_second or is_non_public(address[0]):
            held.got_at = now
            if now - held.noted_at > GET_NOTED_AFTER_S:
                held.noted_at = now
                self._changed[held.stored.target] = None
        held.getter, held.getter_at = prefix, now

    def holdings(self, now: float) -> Iterator[Holding]:
        """Yield the items kept for others: put by another node, or asked for from two prefixes, within a day."""
        for held in self._held.values():
            if held.prefix != OWN and held.expires_at > now:
                yield Holding(held.stored, held.put_at, held.new_at)

    def everything(self, now: float) -> Iterator[StoredItem]:
        """Yield every item kept, this node's own included."""
        return (held.stored for held in self._held.values() if held.expires_at > now)

    def adopt(self, item: Item, now: float) -> bool:
        """Take a newer item in the place of one that is kept for others; return whether that was done."""
        stored = stored_of(item)
        held = self._live(stored.target, now)
        if held is None or held.stored.key is None:
            return False
        if not self.precedence.is_newer(stored.seq, held.stored.seq, now) or self._drops(stored, held.stored):
            return False
        try:
            self._admit(stored, held.prefix, now)
        except BadRequest:
            # The newer item is larger, and no other may go for it.
            return False
        return True

    # Room

    def _refresh(self, held: _Held, prefix: str, now: float) -> None:
        self.counters["put-refreshed"] += 1
        held.put_at = now
        self._changed[held.stored.target] = None
        _note_prefix(held, prefix)
        self._note_put(held)
        # An item belongs to the first prefix within its quota that put it. If it stayed with one over its quota,
        # putting strangers' items first would be a way to have them evicted.
        shares = self._shares
        if prefix == OWN or (shares.is_over_quota(held.prefix) and not shares.is_over_quota(prefix, 1)):
            self._charge(held, -1)
            if held.prefix not in (OWN, prefix):
                held.other_prefix = held.prefix
            held.prefix = prefix
            self._charge(held, 1)

    def _admit(self, stored: StoredItem, prefix: str, now: float) -> None:
        old = self._held.get(stored.target)
        if old is not None and old.expires_at <= now:
            self._remove(old)
            old = None
        if old is None:
            held = _Held(stored, prefix, put_at=now, new_at=now, first_at=now)
        else:
            # A newer value stays charged to the prefix of the older one, and its gets still count.
            held = replace(old, stored=stored, put_at=now, new_at=now)
            _note_prefix(held, prefix)
            held.prefix = OWN if prefix == OWN else old.prefix
        if old is None and prefix != OWN and stored.key is not None:
            self._make_room_of_key(stored.key)
        for leaving in self._leaving(stored.size_bytes, held.prefix, now, is_immutable=stored.key is None, old=old):
            self._remove(leaving)
            self.counters["evicted"] += 1
        if old is not None:
            self._remove(old)
        self._insert(held)
        self._changed[stored.target] = None
        self.counters["put-stored"] += 1

    def _make_room_of_key(self, key: bytes) -> None:
        """Have a key give up the item that was put longest ago, if it has as many as it may."""
        target = self._of_keys.leaving(key)
        if target is not None:
            self._remove(self._held[target])
            self.counters["evicted-of-key"] += 1

    def _note_put(self, held: _Held) -> None:
        if held.stored.key is not None and held.prefix != OWN:
            self._of_keys.put(held.stored.key, held.stored.target)

    def _insert(self, held: _Held) -> None:
        self._held[held.stored.target] = held
        # Measured once for each item, and not each time that all items are ranked.
        self._measure(held)
        self._charge(held, 1)

    def _remove(self, held: _Held) -> None:
        del self._held[held.stored.target]
        self._charge(held, -1)
        self._changed[held.stored.target] = None

    def _charge(self, held: _Held, sign: int) -> None:
        self._shares.charge(held.prefix, held.size_bytes, sign, is_immutable=held.stored.key is None)
        if sign > 0:
            self._note_put(held)
        elif held.stored.key is not None:
            self._of_keys.remove(held.stored.key, held.stored.target)

    def _leaving(
        self, size_bytes: int, prefix: str, now: float, *, is_immutable: bool, old: _Held | None = None
    ) -> list[_Held]:
        """Return the items that go for one of `prefix`, which takes the place of `old` if there is one.

        BadRequest "full" if no item may go for it.
        """
        items, more_bytes = (1, size_bytes) if old is None else (0, size_bytes - old.size_bytes)
        is_own, shares = prefix == OWN, self._shares
        # Immutable items that fill their half make room among themselves.
        is_half = is_immutable and not is_own and not shares.fits_as_immutable(items, more_bytes)
        if not is_half and shares.fits(items, more_bytes):
            return []
        is_established = is_own or (old is not None and old.is_established(now))
        level = shares.level(prefix, 1, size_bytes) if old is None and not is_own else 0.0
        until, free_level = self._full.get((is_half, is_established), (now, 0.0))
        if now < until and level >= free_level and not is_own:
            raise BadRequest("full", krpc.SERVER_ERROR)
        self.expire(now)
        # To rank all items costs milliseconds, so room is made for many puts at a time.
        spare_items, spare_bytes = shares.items_max // EVICTED_PART, shares.bytes_max // EVICTED_PART
        limits = (shares.fits, shares.fits_as_immutable) if is_half else (shares.fits,)
        leaving: list[_Held] = []
        free_level = 0.0
        for held, held_level in self._in_order(old, now, is_established=is_established, is_immutable=is_half):
            if all(fits(items + spare_items, more_bytes + spare_bytes) for fits in limits):
                break
            if held_level <= level:
                free_level = held_level
                break
            leaving.append(held)
            items, more_bytes = items - 1, more_bytes - held.size_bytes
        if not is_own and not all(fits(items, more_bytes) for fits in limits):
            self._full[is_half, is_established] = (now + FULL_S, free_level)
            raise BadRequest("full", krpc.SERVER_ERROR)
        return leaving

    def _in_order(
        self, old: _Held | None, now: float, *, is_established: bool, is_immutable: bool
    ) -> Iterator[tuple[_Held, float]]:
        """Yield the items that may go, in order; established ones only if the new item is established."""
        if self._measured_from != self.node_ids:
            self._measured_from = self.node_ids
            for held in self._held.values():
                self._measure(held)
        here = [held for held in self._held.values() if held.prefix != OWN and held is not old]
        if is_immutable:
            here = [held for held in here if held.stored.key is None]
        shares = self._shares
        established = [held for held in here if held.is_established(now)]
        above = shares.above_the_established(established)
        yield from shares.in_order([*(held for held in here if not held.is_established(now)), *above])
        if is_established:
            gone = {held.stored.target for held in above}
            yield from shares.in_order(held for held in established if held.stored.target not in gone)

    def _measure(self, held: _Held) -> None:
        target = int.from_bytes(held.stored.target)
        held.distance = min((target ^ int.from_bytes(node_id) for node_id in self._measured_from), default=0)

    def expire(self, now: float) -> int:
        """Drop the items that were neither put nor wanted for a day; return how many."""
        gone = [held for held in self._held.values() if held.expires_at <= now]
        for held in gone:
            self._remove(held)
        self.counters["expired"] += len(gone)
        return len(gone)

    # The disk

    def take_changes(self, now: float, unix_now: float) -> list[StoredChange]:
        """Return what has changed since the last call; `now` and `unix_now` are the same moment on two clocks."""
        changed, self._changed = self._changed, {}
        skew = self.precedence.unix_skew = unix_now - now
        return [StoredChange(target, self._row(self._held.get(target), skew)) for target in changed]

    @staticmethod
    def _row(held: _Held | None, skew: float) -> StoredRow | None:
        if held is None:
            return None
        stored = held.stored
        return StoredRow(
            target=stored.target,
            key=stored.key or b"",
            salt=stored.salt,
            seq=stored.seq,
            value=stored.value,
            signature=stored.signature,
            prefix=held.prefix,
            put_unix=held.put_at + skew,
            got_unix=0.0 if held.got_at is None else held.got_at + skew,
            new_unix=held.new_at + skew,
            other_prefix=held.other_prefix,
            first_unix=held.first_at + skew,
        )

    def load(self, row: StoredRow, now: float, unix_now: float) -> bool:
        """Take back a row of an earlier run, verified anew; return whether it is kept (else its deletion is due).

        Rows are given in the order of their last puts.
        """
        try:
            request: krpc.Put = krpc.PutImmutable(row.value, b"")
            if row.key:
                request = krpc.PutMutable(row.key, row.seq, row.value, row.signature, b"", row.salt)
            check_sizes(request)
            stored = (
                verified_mutable(request) if isinstance(request, krpc.PutMutable) else verified_immutable(row.value)
            )
            if stored.target != row.target:
                raise BadItem("target-wrong")
        except (BadItem, BadRequest) as error:
            self.counters[f"load-refused-{error.reason}"] += 1
            self._changed[row.target] = None
            return False

        self.precedence.latest_unix = max(self.precedence.latest_unix, row.put_unix)

        def at(unix: float) -> float:
            # A wall clock that was set back must not make an item live longer than if it came now.
            return now - max(0.0, unix_now - unix)

        got_at = at(row.got_unix) if row.got_unix else None
        first_at = at(row.first_unix or row.new_unix)
        held = _Held(stored, row.prefix, at(row.put_unix), at(row.new_unix), first_at, row.other_prefix, got_at)
        if held.expires_at <= now or row.target in self._held or not self._shares.fits(1, stored.size_bytes):
            self.counters["load-expired"] += 1
            self._changed[row.target] = None
            return False
        self._insert(held)
        if stored.key is not None and held.prefix != OWN:
            self._of_keys.load(stored.key, stored.target)
        return True


def _note_prefix(held: _Held, prefix: str) -> None:
    """Note that `prefix` has put an item, if it is the second one that did."""
    if prefix not in (OWN, held.prefix) and not held.other_prefix:
        held.other_prefix = prefix
