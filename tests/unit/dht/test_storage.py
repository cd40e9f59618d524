"""Storage: who may write what, with which error code otherwise; how long it stays, and what goes first."""

from __future__ import annotations

import contextlib
import hashlib
from bisect import bisect_left
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.addresses import Address, prefix_of
from p2pdns.dht import storage as module
from p2pdns.dht.bencode import encode
from p2pdns.dht.krpc import PutImmutable, PutMutable
from p2pdns.dht.storage import RETENTION_S, Storage
from p2pdns.dht.stored import Holding, Kept, StoredItem, StoredRow
from p2pdns.errors import BadRequest
from p2pdns.items.item import SALT_BYTES_MAX, ImmutableItem, MutableItem, Present
from p2pdns.items.keys import L, SecretKey
from p2pdns.values import replace

SECRETS = [SecretKey.generate(hashlib.sha256(b"key %d" % n).digest()) for n in range(4)]
SECRET = SECRETS[0]
ALICE: Address = ("11.0.1.7", 6881)
BOB: Address = ("11.0.2.7", 6881)
LOCAL: Address = ("127.0.0.1", 6881)
NOW, UNIX = 5_000.0, 1_800_000_000.0


def request(item: MutableItem | ImmutableItem, cas: int | None = None) -> PutMutable | PutImmutable:
    """Return the put that a node sends for `item`."""
    if isinstance(item, ImmutableItem):
        return PutImmutable(encode(item.value), b"token")
    return PutMutable(item.key.raw, item.seq, encode(item.value), item.signature, b"token", item.salt, cas)


def mutable(seq: int = 1, value: bytes = b"value", salt: bytes = b"", secret: SecretKey = SECRET) -> MutableItem:
    return MutableItem.signed(secret, seq, value, salt)


def put(
    storage: Storage,
    item: MutableItem | ImmutableItem | PutMutable | PutImmutable,
    address: Address = ALICE,
    now: float = NOW,
    cas: int | None = None,
) -> Kept:
    asked = request(item, cas) if isinstance(item, MutableItem | ImmutableItem) else item
    return storage.put(asked, address, now, has_token=True)


def put_unless_superseded(storage: Storage, item: MutableItem) -> None:
    try:
        put(storage, item)
    except BadRequest as error:
        if error.code != 302:
            raise


def kept_in(storage: Storage) -> tuple[list[StoredItem], list[Holding]]:
    """Return all that is kept, and since when the items of others are, without a change to any of it."""
    return list(storage.everything(NOW)), list(storage.holdings(NOW))


def rows_of(storage: Storage, now: float = NOW, unix_now: float = UNIX) -> dict[bytes, StoredRow | None]:
    """Return the rows that the disk is due, None for what is gone."""
    return {change.target: change.row for change in storage.take_changes(now, unix_now)}


def row_at(storage: Storage, target: bytes) -> StoredRow:
    """Return the row of an item that has changed since this was last asked for."""
    row = rows_of(storage)[target]
    assert row is not None
    return row


def refusal(storage: Storage, item: MutableItem | PutMutable | PutImmutable, cas: int | None = None) -> tuple[int, str]:
    """Return code and reason with which a put is refused, after checking that nothing but a counter moved."""
    before, size = kept_in(storage), storage.size_bytes
    with pytest.raises(BadRequest) as caught:
        put(storage, item, cas=cas)
    assert (kept_in(storage), storage.size_bytes) == (before, size)
    assert storage.counters[f"put-refused-{caught.value.reason}"] >= 1
    return caught.value.code, caught.value.reason


def foreign(value: bytes, seq: int = 1, salt: bytes = b"") -> PutMutable:
    """Return a signed put whose value is no byte string, as BEP 46 has it."""
    head = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    signature = SECRET.sign(head + b"3:seqi%de1:v%b" % (seq, value))
    return PutMutable(SECRET.zone_key.raw, seq, value, signature, b"token", salt)


# What is kept is handed out


@pytest.mark.parametrize("salt", [b"", b"salt", b"x" * 64])
@pytest.mark.parametrize("value", [b"", b"value", b"v" * 1000])
def test_a_signed_value_is_kept_and_handed_out_with_its_proof(value: bytes, salt: bytes) -> None:
    storage = Storage()
    signature = SECRET.sign(
        (b"4:salt%d:%b" % (len(salt), salt) if salt else b"") + b"3:seqi7e1:v%d:%b" % (len(value), value)
    )
    item = MutableItem.verified(SECRET.zone_key, 7, value, signature, salt)
    kept = put(storage, item)
    assert kept.is_news
    assert kept.stored.item == item
    assert storage.select(item.target, None, BOB, NOW) == (item.key.raw, item.signature, 7, encode(value))
    assert len(storage) == 1


def test_an_immutable_value_is_kept_and_handed_out_bare() -> None:
    storage = Storage()
    item = ImmutableItem(b"Hello World!")
    kept = put(storage, item)
    assert kept.stored.item == item
    assert storage.select(item.target, None, BOB, NOW) == (None, None, None, b"12:Hello World!")
    assert not put(storage, item).is_news


def test_values_that_are_no_byte_strings_are_kept_but_are_no_items() -> None:
    storage = Storage()
    for asked in (foreign(b"d2:ih20:" + b"h" * 20 + b"e"), foreign(b"i7e", salt=b"n"), PutImmutable(b"li1ee", b"t")):
        kept = put(storage, asked)
        assert kept.stored.item is None
        selected = storage.select(asked.target, None, BOB, NOW)
        assert selected is not None
        assert selected.value == asked.value


def test_a_getter_that_knows_the_seq_gets_the_seq_alone() -> None:
    storage = Storage()
    item = mutable(seq=5)
    put(storage, item)
    assert storage.select(item.target, 5, BOB, NOW) == (None, None, 5, None)
    assert storage.select(item.target, 6, BOB, NOW) == (None, None, 5, None)
    known_older = storage.select(item.target, 4, BOB, NOW)
    assert known_older is not None
    assert known_older.value == b"5:value"


def test_what_is_not_there_is_none() -> None:
    storage = Storage()
    assert storage.select(b"t" * 20, None, ALICE, NOW) is None
    assert storage.held(b"t" * 20, NOW) is None
    assert storage.counters["get-missed"] == 1


# The error codes of BEP 44


def test_203_a_put_without_a_valid_token() -> None:
    storage = Storage()
    with pytest.raises(BadRequest) as caught:
        storage.put(request(mutable()), ALICE, NOW, has_token=False)
    assert (caught.value.code, caught.value.reason) == (203, "bad-token")
    assert len(storage) == 0


@pytest.mark.parametrize(
    "asked",
    [
        PutImmutable(encode(b"v" * 1001), b"token"),
        replace(foreign(b"i1e"), value=encode(b"v" * 1001)),
        PutImmutable(encode([b"v" * 995]), b"token"),
        foreign(encode([b"v" * 995])),
    ],
)
def test_205_a_value_that_is_too_big(asked: PutMutable | PutImmutable) -> None:
    assert refusal(Storage(), asked) == (205, "value-too-big")


def test_a_form_of_1000_bytes_that_is_no_string_is_kept() -> None:
    assert put(Storage(), foreign(encode([b"v" * 994]))).is_news


@pytest.mark.parametrize("place", ["seq", "value", "signature", "salt", "key"])
def test_206_a_signature_that_does_not_hold(place: str) -> None:
    storage = Storage()
    asked = request(mutable(seq=3, salt=b"salt"))
    assert isinstance(asked, PutMutable)
    forged: dict[str, PutMutable] = {
        "seq": replace(asked, seq=4),
        "value": replace(asked, value=b"5:other"),
        "signature": replace(asked, signature=bytes([asked.signature[0] ^ 1]) + asked.signature[1:]),
        "salt": replace(asked, salt=b"pepper"),
        "key": replace(asked, key=SECRETS[1].zone_key.raw),
    }
    assert refusal(storage, forged[place]) == (206, "bad-signature")
    assert sum(count for reason, count in storage.counters.items() if reason.startswith("item-")) == 1


@pytest.mark.parametrize("key", [bytes([1]) + bytes(31), bytes(32), b"\xff" * 32])
def test_206_a_key_that_is_no_good_point(key: bytes) -> None:
    asked = request(mutable())
    assert isinstance(asked, PutMutable)
    assert refusal(Storage(), replace(asked, key=key)) == (206, "bad-signature")


def test_206_a_foreign_value_under_a_wrong_signature() -> None:
    assert refusal(Storage(), replace(foreign(b"i7e"), value=b"i8e")) == (206, "bad-signature")


def test_207_a_salt_that_is_too_big() -> None:
    asked = request(mutable())
    assert isinstance(asked, PutMutable)
    assert refusal(Storage(), replace(asked, salt=b"x" * 65)) == (207, "salt-too-big")


def test_301_a_cas_that_is_not_the_held_seq() -> None:
    storage = Storage()
    put(storage, mutable(seq=5))
    assert refusal(storage, mutable(seq=6, value=b"new"), cas=4) == (301, "cas-mismatch")
    assert put(storage, mutable(seq=6, value=b"new"), cas=5).is_news


def test_a_cas_where_nothing_is_held_decides_nothing() -> None:
    assert put(Storage(), mutable(), cas=99).is_news


def test_a_put_sent_again_because_its_reply_was_lost_does_not_fail_its_own_cas() -> None:
    storage = Storage()
    put(storage, mutable(seq=5))
    put(storage, mutable(seq=6), cas=5)
    assert not put(storage, mutable(seq=6), cas=5).is_news


def test_302_a_lower_seq() -> None:
    storage = Storage()
    put(storage, mutable(seq=5))
    assert refusal(storage, mutable(seq=4)) == (302, "seq-too-low")


def test_302_an_equal_seq_with_another_value() -> None:
    storage = Storage()
    put(storage, mutable(seq=5, value=b"a"))
    assert refusal(storage, mutable(seq=5, value=b"b")) == (302, "seq-taken")


SANE, AHEAD = int(UNIX * 1e6), int((UNIX + 90_000) * 1e6)


def timed(unix: float = UNIX, newest_seq: int | None = None) -> Storage:
    """Return a storage that knows the time."""
    storage = Storage()
    storage.precedence.tell_time(NOW, Present(unix, newest_seq))
    return storage


@pytest.mark.parametrize("cas", [None, 7, AHEAD])
def test_an_item_from_the_future_gives_way_to_a_saner_one_whatever_the_cas(cas: int | None) -> None:
    storage = timed()
    put(storage, mutable(AHEAD))
    assert put(storage, mutable(SANE), cas=cas).is_news
    assert [stored.seq for stored in storage.everything(NOW)] == [SANE]


@pytest.mark.parametrize("cas", [None, SANE])
def test_203_an_item_from_the_future_where_a_saner_one_is_held(cas: int | None) -> None:
    storage = timed()
    put(storage, mutable(SANE))
    assert refusal(storage, mutable(AHEAD), cas=cas) == (203, "seq-from-the-future")
    with pytest.raises(BadRequest, match="seq-from-the-future"):
        storage.put_own(mutable(AHEAD), NOW)
    assert not storage.adopt(mutable(AHEAD), NOW)


def test_of_two_items_from_the_future_the_higher_seq_counts() -> None:
    storage = timed()
    put(storage, mutable(AHEAD))
    assert put(storage, mutable(AHEAD + 1)).is_news
    assert refusal(storage, mutable(AHEAD)) == (302, "seq-too-low")
    assert refusal(storage, mutable(AHEAD + 2), cas=AHEAD) == (301, "cas-mismatch")


def test_our_own_put_and_what_a_look_finds_replace_an_item_from_the_future() -> None:
    for replace_it in (Storage.put_own, Storage.adopt):
        storage = timed()
        put(storage, mutable(AHEAD))
        assert replace_it(storage, mutable(SANE), NOW)
        assert storage.select(mutable().target, None, ALICE, NOW) == (
            SECRET.zone_key.raw,
            mutable(SANE).signature,
            SANE,
            encode(b"value"),
        )


def test_a_getter_that_knows_an_item_from_the_future_gets_the_saner_one() -> None:
    storage = timed()
    put(storage, mutable(SANE))
    for known_seq, has_value in ((AHEAD, True), (SANE + 1, False), (SANE, False), (SANE - 1, True)):
        selected = storage.select(mutable().target, known_seq, ALICE, NOW)
        assert selected is not None
        assert (selected.value is not None) is has_value, known_seq


def test_a_day_ahead_is_no_future_and_nobody_is_judged_without_a_clock() -> None:
    for storage in (Storage(), timed(1_700_000_000.0)):
        put(storage, mutable(AHEAD))
        assert refusal(storage, mutable(SANE)) == (302, "seq-too-low")
    storage = timed()
    put(storage, mutable(SANE + 86_400 * 10**6))
    assert refusal(storage, mutable(SANE)) == (302, "seq-too-low")


def written_down(storage: Storage) -> Storage:
    """Let the storage load what an earlier run wrote when the clock was right."""
    past = timed()
    put(past, mutable(7, secret=SECRETS[1]))
    [change] = past.take_changes(NOW, UNIX)
    assert change.row is not None
    assert storage.load(change.row, NOW, UNIX - 40 * 86_400)
    return storage


@pytest.mark.parametrize(
    "storage",
    [timed(UNIX - 40 * 86_400, newest_seq=SANE), written_down(timed(UNIX - 40 * 86_400))],
    ids=["what its reader adopted", "what it wrote down"],
)
def test_a_clock_that_is_behind_makes_no_item_of_today_one_from_the_future(storage: Storage) -> None:
    put(storage, mutable(SANE))
    assert refusal(storage, mutable(int((UNIX - 50 * 86_400) * 1e6))) == (302, "seq-too-low")


def test_203_the_reserved_seq() -> None:
    assert refusal(Storage(), foreign(b"5:value", seq=2**63 - 1)) == (203, "seq-reserved")


def test_203_a_mutable_item_where_an_immutable_one_is() -> None:
    storage = Storage()
    value = b"x" * 29
    twin = put(storage, ImmutableItem(value))
    # The first bytes of a key can be ground until key and salt spell a bencoded string.
    asked = PutMutable(encode(value), 1, encode(b"value"), bytes(64), b"token")
    assert asked.target == twin.stored.target
    assert refusal(storage, asked) == (203, "other-kind")


def test_cheap_faults_are_found_before_a_signature_is_checked() -> None:
    storage = Storage()
    put(storage, mutable(seq=5))
    wrong = request(mutable(seq=9))
    assert isinstance(wrong, PutMutable)
    wrong = replace(wrong, signature=bytes(64))
    for asked, code in [
        (replace(wrong, value=encode(b"v" * 1001)), 205),
        (replace(wrong, salt=b"x" * 65), 207),
        (replace(wrong, seq=4), 302),
        (replace(wrong, cas=4), 301),
    ]:
        assert refusal(storage, asked)[0] == code
    with pytest.raises(BadRequest, match="bad-token"):
        storage.put(wrong, ALICE, NOW, has_token=False)
    assert refusal(storage, wrong)[0] == 206


def test_a_malleated_signature_is_kept_in_its_canonical_form() -> None:
    storage = Storage()
    item = mutable()
    s = int.from_bytes(item.signature[32:], "little") + L
    asked = request(item)
    assert isinstance(asked, PutMutable)
    twin = replace(asked, signature=item.signature[:32] + s.to_bytes(32, "little"))
    assert put(storage, twin).stored.signature == item.signature
    assert not put(storage, item).is_news
    assert not put(storage, twin).is_news
    twin_foreign = foreign(b"i7e", salt=b"f")
    s = int.from_bytes(twin_foreign.signature[32:], "little") + L
    stored = put(
        storage, replace(twin_foreign, signature=twin_foreign.signature[:32] + s.to_bytes(32, "little"))
    ).stored
    assert stored.signature == twin_foreign.signature


@given(st.permutations([(seq, value) for seq in (1, 2, 3) for value in (b"a", b"b")]))
def test_any_order_of_arrival_ends_at_the_highest_seq(order: list[tuple[int, bytes]]) -> None:
    storage = Storage()
    for seq, value in order:
        put_unless_superseded(storage, ITEMS[seq, value])
    selected = storage.select(ITEMS[1, b"a"].target, None, BOB, NOW)
    first_of_3 = next(value for seq, value in order if seq == 3)
    assert selected is not None
    assert (selected.seq, selected.value) == (3, encode(first_of_3))
    assert storage.size_bytes == 3


ITEMS = {(seq, value): mutable(seq, value) for seq in (1, 2, 3) for value in (b"a", b"b")}


def test_own_puts_follow_the_rules_of_seq_but_have_no_quota() -> None:
    storage = Storage(items_max=4)
    assert storage.put_own(mutable(seq=5), NOW).is_news
    assert not storage.put_own(mutable(seq=5), NOW).is_news
    assert storage.put_own(mutable(seq=6), NOW).is_news
    with pytest.raises(BadRequest) as caught:
        storage.put_own(mutable(seq=5), NOW)
    assert caught.value.code == 302
    for n in range(20):
        with_own = len(storage)
        try:
            put(storage, ImmutableItem(b"%d" % n), (f"11.1.{n}.1", 1))
        except BadRequest:
            continue
        assert len(storage) <= max(4, with_own)
    assert storage.held(mutable().target, NOW) is not None
    assert storage.put_own(ImmutableItem(b"own"), NOW).is_news


# How long


def test_an_item_is_kept_for_a_day_after_its_last_put() -> None:
    storage = Storage()
    item = mutable()
    put(storage, item)
    assert not put(storage, item, BOB, NOW + 1_000).is_news
    assert storage.expire(NOW + RETENTION_S) == 0
    assert storage.held(item.target, NOW + RETENTION_S + 999) is not None
    assert storage.held(item.target, NOW + RETENTION_S + 1_000) is None
    assert storage.select(item.target, None, BOB, NOW + RETENTION_S + 1_000) is None
    assert storage.expire(NOW + RETENTION_S + 1_000) == 1
    assert (len(storage), storage.size_bytes) == (0, 0)


def test_an_expired_item_binds_nobody_to_its_seq() -> None:
    storage = Storage()
    put(storage, mutable(seq=9))
    assert put(storage, mutable(seq=2), now=NOW + RETENTION_S).is_news
    assert len(storage) == 1


def test_an_item_that_comes_back_when_it_has_just_expired_is_a_new_one() -> None:
    storage, item, then = Storage(), mutable(), NOW + RETENTION_S
    put(storage, item, ALICE)
    put(storage, item, BOB, then)
    row = rows_of(storage, then, UNIX + RETENTION_S)[item.target]
    assert row is not None
    assert (row.prefix, row.first_unix) == (prefix_of(BOB), UNIX + RETENTION_S)


def test_gets_from_two_prefixes_keep_an_item_and_gets_from_one_do_not() -> None:
    storage = Storage()
    item, other = mutable(), mutable(salt=b"other")
    put(storage, item)
    put(storage, other)
    later = NOW + 10_000
    for n in range(9):
        storage.select(item.target, None, (f"11.0.1.{n}", 1), later)
        storage.select(other.target, None, (f"11.0.{n}.1", 1), later)
    assert storage.expire(NOW + RETENTION_S) == 1
    assert storage.held(other.target, later + RETENTION_S - 1) is not None
    assert storage.expire(later + RETENTION_S) == 1


def test_two_gets_more_than_a_day_apart_are_not_two_at_a_time() -> None:
    storage = Storage()
    item = mutable()
    put(storage, item)
    storage.select(item.target, None, ALICE, NOW)
    put(storage, item, now=NOW + RETENTION_S - 1)
    storage.select(item.target, None, BOB, NOW + RETENTION_S + 10)
    assert storage.expire(NOW + 2 * RETENTION_S) == 1


def test_on_loopback_one_getter_is_enough() -> None:
    storage = Storage()
    item = mutable()
    put(storage, item, LOCAL)
    storage.select(item.target, None, LOCAL, NOW + 100)
    assert storage.expire(NOW + RETENTION_S) == 0


# How much


def test_a_prefix_may_bring_64_new_keys_and_then_one_a_second() -> None:
    storage = Storage()
    for n in range(64):
        put(storage, ImmutableItem(b"%d" % n), (f"11.0.1.{n}", 1))
    assert refusal(storage, PutImmutable(b"4:late", b"t")) == (202, "rate")
    assert put(storage, ImmutableItem(b"late"), BOB).is_news
    assert not put(storage, ImmutableItem(b"7")).is_news
    assert put(storage, ImmutableItem(b"later"), now=NOW + 1).is_news
    assert refusal(storage, PutImmutable(b"6:latest", b"t"))[1] == "rate"


def test_below_half_full_new_keys_cost_a_check_and_above_it_they_are_rationed() -> None:
    secrets = [SecretKey.generate(n.to_bytes(32)) for n in range(1, 300)]
    storage = Storage(items_max=400)
    for secret in secrets[:100]:
        assert put(storage, mutable(secret=secret)).is_news
    for secret in secrets[100:200]:
        put(storage, mutable(secret=secret), BOB)
    # The store is half full now. Nobody has more than his share of it but these two.
    fresh = ("11.7.7.7", 1)
    kept = 0
    for secret in secrets[200:]:
        with contextlib.suppress(BadRequest):
            kept += put(storage, mutable(secret=secret), fresh).is_news
    assert kept == 20, "a twentieth of the store"
    assert storage.counters["put-refused-quota"]


def half_full() -> Storage:
    """Return a store that is just half full of items of many prefixes, one each."""
    storage = Storage(items_max=2_000)
    for n in range(1_000):
        put(storage, ImmutableItem(b"%d" % n), (f"11.{100 + n // 256}.{n % 256}.1", 1))
    return storage


def test_salted_items_of_a_key_that_is_here_cost_no_new_key() -> None:
    storage = half_full()
    put(storage, mutable())
    for n in range(90):
        assert put(storage, mutable(salt=b"s%d" % n)).is_news
    # Each new key costs one of the 64, with a salt too.
    secrets = [SecretKey.generate(n.to_bytes(32)) for n in range(1, 90)]
    refusals = Counter[str]()
    for n, secret in enumerate(secrets):
        try:
            put(storage, mutable(secret=secret, salt=b"s" * (n % 2)), BOB)
        except BadRequest as refused:
            refusals[refused.reason] += 1
    assert refusals == {"rate": len(secrets) - 64}


def test_salted_items_cost_the_checks_of_their_prefix() -> None:
    storage = Storage()
    put(storage, mutable())
    reasons = Counter[str]()
    for n in range(300):
        try:
            put(storage, mutable(salt=b"s%d" % n))
        except BadRequest as refused:
            reasons[refused.reason] += 1
    assert reasons == {"busy": 300 - int(module.CHECKS_BURST) + 1}


def test_of_too_many_items_of_one_key_the_one_that_was_put_longest_ago_goes() -> None:
    storage = Storage(items_of_key_max=10)
    items = [mutable(salt=b"s%d" % n) for n in range(10)]
    for n, item in enumerate(items):
        put(storage, item, now=NOW + n)
    put(storage, items[0], BOB, NOW + 20)
    other = mutable(secret=SECRETS[1])
    put(storage, other, now=NOW + 21)
    put(storage, mutable(salt=b"more"), now=NOW + 22)
    assert storage.held(items[0].target, NOW + 22) is not None, "it was put again"
    assert storage.held(items[1].target, NOW + 22) is None
    assert storage.held(other.target, NOW + 22) is not None
    assert (len(storage), storage.counters["evicted-of-key"]) == (11, 1)
    # A newer value of an item that is here needs no room.
    put(storage, mutable(seq=2, salt=b"s5"), now=NOW + 23)
    assert len(storage) == 11


def test_after_a_restart_the_items_of_a_key_go_in_the_order_of_their_puts_and_loaded_ones_first() -> None:
    before = Storage()
    items = [mutable(salt=b"s%d" % n) for n in range(4)]
    for n, item in enumerate(items):
        put(before, item, now=NOW + n)
    first, *others = rows_of(before, NOW + 10, UNIX + 10).values()
    storage = Storage(items_of_key_max=6)
    assert first is not None
    assert storage.load(first, NOW, UNIX + 20)
    # Puts come while the rest is still loading.
    fresh = [mutable(salt=b"fresh%d" % n) for n in range(2)]
    for item in fresh:
        put(storage, item)
    for row in others:
        assert row is not None
        assert storage.load(row, NOW, UNIX + 20)
    put(storage, items[0], now=NOW + 1)
    for n, gone in enumerate([*items[1:], *fresh, items[0]]):
        assert storage.held(gone.target, NOW + 2) is not None
        put(storage, mutable(salt=b"more%d" % n), now=NOW + 2)
        assert storage.held(gone.target, NOW + 2) is None
    assert (len(storage), storage.counters["evicted-of-key"]) == (6, 6)


def test_this_nodes_own_items_neither_count_nor_go_for_others_of_their_key() -> None:
    storage = Storage(items_of_key_max=5)
    own = [mutable(salt=b"own%d" % n) for n in range(20)]
    for item in own:
        storage.put_own(item, NOW)
    for n in range(8):
        put(storage, mutable(salt=b"s%d" % n))
    assert all(storage.held(item.target, NOW) for item in own)
    assert len(storage) == 25


@pytest.mark.parametrize("prefix_count", [1, 24])
def test_a_flood_of_items_of_one_key_takes_no_room_that_others_need(prefix_count: int) -> None:
    storage = Storage(items_max=800, items_of_key_max=400)
    honest = [mutable(secret=SecretKey.generate(n.to_bytes(32))) for n in range(1, 101)]
    for n, item in enumerate(honest):
        put(storage, item, (f"11.1.{n}.1", 1))
    ends = flood_of_zones(storage, [f"11.9.{n}.1" for n in range(prefix_count)], 1_200 // prefix_count, NOW, FLOOD)
    later = NOW + 1_300
    assert all(storage.held(item.target, later) for item in honest)
    here = sum(item.key == SECRET.zone_key.raw for item in storage.everything(later))
    assert here <= 400
    # One prefix has half of the store at the most, and then a twentieth of it: it may bring no more.
    assert ends["quota"] or prefix_count > 1
    newcomers = [mutable(secret=SecretKey.generate(n.to_bytes(32))) for n in range(1_001, 1_101)]
    for n, item in enumerate(newcomers):
        put(storage, item, (f"11.3.{n}.1", 1), later)
    assert all(storage.held(item.target, later) for item in [*honest, *newcomers])


def test_loopback_ports_are_prefixes_of_their_own() -> None:
    storage = Storage()
    for n in range(200):
        put(storage, ImmutableItem(b"%d" % n), ("127.0.0.1", 7_000 + n // 50))
    assert len(storage) == 200


def test_signature_checks_of_a_prefix_are_bounded() -> None:
    storage = Storage()
    put(storage, mutable(seq=1))
    forged = request(mutable(seq=2, value=b"new"))
    assert isinstance(forged, PutMutable)
    forged = replace(forged, signature=bytes(64))
    reasons = [refusal(storage, forged)[1] for _ in range(270)]
    checked = int(module.CHECKS_BURST) - 1
    assert reasons == ["bad-signature"] * checked + ["busy"] * (270 - checked)
    assert put(storage, mutable(seq=2), BOB).is_news


def test_the_same_item_again_costs_no_check() -> None:
    storage = Storage()
    item = mutable()
    for _ in range(300):
        put(storage, item)
    assert storage.counters["put-refreshed"] == 299


def test_a_prefix_keeps_5_percent_once_the_store_is_half_full() -> None:
    storage = Storage(items_max=100)
    for n in range(40):
        put(storage, mutable(salt=b"alice %d" % n))
    for n in range(10):
        put(storage, ImmutableItem(b"others %d" % n), (f"11.1.{n}.1", 1))
    assert refusal(storage, PutImmutable(b"4:more", b"t")) == (202, "quota")
    for n in range(5):
        put(storage, ImmutableItem(b"bob %d" % n), BOB)
    with pytest.raises(BadRequest, match="quota"):
        put(storage, ImmutableItem(b"bob 5"), BOB)


def test_a_prefix_keeps_5_percent_of_the_bytes_too() -> None:
    storage = Storage(bytes_max=40_000)
    for n in range(25):
        put(storage, mutable(salt=b"%d" % n, value=b"x" * 900), (f"11.1.{n}.1", 1))
    put(storage, ImmutableItem(b"a" * 990))
    put(storage, ImmutableItem(b"b" * 990))
    assert refusal(storage, PutImmutable(encode(b"c" * 990), b"t")) == (202, "quota")


def test_the_prefix_with_the_most_gives_room_and_of_its_items_what_is_unread_then_what_is_far() -> None:
    storage = Storage(items_max=64)
    storage.node_ids = (bytes(20),)
    greedy = [mutable(salt=b"greedy %d" % n) for n in range(8)]
    for item in greedy:
        put(storage, item)
    read = sorted(greedy, key=lambda item: item.target)[4:]
    for n, item in enumerate(read):
        storage.select(item.target, None, ALICE, NOW)
        storage.select(item.target, None, BOB, NOW + n)
    others = [mutable(salt=b"other %d" % n) for n in range(56)]
    for n, item in enumerate(others):
        put(storage, item, (f"11.1.{n}.1", 1))
    order = [
        *sorted((item.target for item in greedy if item not in read), reverse=True),
        *(item.target for item in read),
    ]
    # A 64th of the store goes at once: one item beside the one that has to.
    put(storage, mutable(salt=b"new"), ("11.3.1.1", 1))
    assert [target for target in order if not storage.held(target, NOW)] == order[:2]
    assert storage.counters["evicted"] == 2
    for n in range(3):
        put(storage, mutable(salt=b"newer %d" % n), (f"11.3.{2 + n}.1", 1))
    assert [target for target in order if not storage.held(target, NOW)] == order[:4]
    assert all(storage.held(item.target, NOW) for item in others)


def test_an_item_of_a_prefix_over_quota_is_rescued_by_one_within() -> None:
    storage = Storage(items_max=40)
    items = [ImmutableItem(b"%d" % n) for n in range(6)]
    for item in items:
        put(storage, item)
    put(storage, items[0], BOB)
    assert row_at(storage, items[0].target).prefix == "11.0.2.0/24"
    # Within its quota nobody loses an item to somebody who puts it again.
    put(storage, items[0], LOCAL)
    assert row_at(storage, items[0].target).prefix == "11.0.2.0/24"


def test_a_flood_of_ground_keys_from_one_prefix_leaves_the_honest_items() -> None:
    storage = Storage(items_max=400)
    honest = [ImmutableItem(b"honest %d" % n) for n in range(100)]
    for n, item in enumerate(honest):
        put(storage, item, (f"11.1.{n}.1", 1))
    refused = 0
    for n in range(100_000):
        try:
            put(storage, PutImmutable(b"i%de" % n, b"t"), now=NOW + n / 1_000)
        except BadRequest:
            refused += 1
    assert refused > 99_000
    assert all(storage.held(item.target, NOW + 100) for item in honest)
    assert len(storage) <= 400


def test_a_patient_flood_of_keys_ground_to_lie_near_us_takes_a_twentieth_and_no_honest_item() -> None:
    storage = Storage(items_max=1_000)
    storage.node_ids = (bytes(20),)
    honest = [mutable(salt=b"honest %d" % n) for n in range(300)]
    for n, item in enumerate(honest):
        put(storage, item, (f"11.1.{n % 256}.{n // 256}", 1))
    # Within its rate for 23 hours, with keys nearer to us than half of all others: neither helps beyond the quota.
    candidates = (PutImmutable(b"i%de" % n, b"t") for n in range(10**6))
    ground = (asked for asked in candidates if asked.target[0] < 128)
    for n in range(100_000):
        with contextlib.suppress(BadRequest):
            put(storage, next(ground), now=NOW + n * 0.828)
    later = NOW + 82_800
    assert all(storage.held(item.target, later) for item in honest)
    refused = storage.counters["put-refused-quota"] + storage.counters["put-refused-rate"]
    assert storage.counters["put-stored"] + refused == 100_300
    assert len(storage) == 500, "up to half of the store, room that nobody wants is anybody's"
    newcomers = [mutable(salt=b"newcomer %d" % n) for n in range(650)]
    for n, item in enumerate(newcomers):
        put(storage, item, (f"11.{2 + n // 256}.{n % 256}.1", 1), later + n / 100)
    assert all(storage.held(item.target, later) for item in [*honest, *newcomers])
    assert len(storage) <= 1_000
    assert Counter(row.prefix for row in rows_of(storage, later).values() if row)["11.0.1.0/24"] <= 50


# Many prefixes of one attacker


def flood(storage: Storage, hosts: list[str], each: int, now: float) -> Counter[str]:
    """Have every host put as many new items of its own; return how the puts ended."""
    ends: Counter[str] = Counter()
    for n in range(each):
        for number, host in enumerate(hosts):
            # Values that are no strings need no key and no signature, and every one is a new target.
            asked = PutImmutable(b"i%de" % (n * len(hosts) + number), b"t")
            try:
                put(storage, asked, (host, 1 + n), now + n)
            except BadRequest as refused:
                ends[refused.reason] += 1
            else:
                ends["kept"] += 1
    return ends


def flood_of_zones(storage: Storage, hosts: list[str], each: int, now: float, items: list[MutableItem]) -> Counter[str]:
    """Do the same with signed items, as few a second as the signature checks allow."""
    ends: Counter[str] = Counter()
    for n in range(each):
        for number, host in enumerate(hosts):
            try:
                put(storage, items[n * len(hosts) + number], (host, 1 + n), now + n + number / 1_000)
            except BadRequest as refused:
                ends[refused.reason] += 1
            else:
                ends["kept"] += 1
    return ends


ULA = {
    "of one link": [f"fd00::{n:x}" for n in range(1, 301)],
    "of a link each": [f"fd00:0:0:{n:x}::1" for n in range(1, 301)],
    "of a site each": [f"fd00:0:{n:x}::1" for n in range(1, 301)],
    "link-local": [f"fe80::{n:x}" for n in range(1, 301)],
    "10/8": [f"10.{n % 256}.{n // 256}.1" for n in range(300)],
    "100.64/10": [f"100.{64 + n % 64}.{n // 64}.1" for n in range(300)],
    "mapped": [f"::ffff:10.{n % 256}.{n // 256}.1" for n in range(300)],
    "6to4": [f"2002:b00:{n:x}::1" for n in range(1, 301)],
    "24 networks": [f"11.9.{n}.1" for n in range(24)],
}
FLOOD = [mutable(salt=b"flood %d" % n) for n in range(1_200)]


@pytest.mark.parametrize("hosts", ULA.values(), ids=ULA)
@pytest.mark.parametrize("is_signed", [False, True], ids=["immutable", "signed"])
def test_one_machine_with_many_addresses_drives_out_no_honest_item(hosts: list[str], is_signed: bool) -> None:
    storage = Storage(items_max=400)
    honest = [mutable(salt=b"honest %d" % n) for n in range(60)]
    for n, item in enumerate(honest):
        put(storage, item, (f"11.1.{n}.1", 1))
    if is_signed:
        flood_of_zones(storage, hosts, 1_200 // len(hosts), NOW, FLOOD)
    else:
        flood(storage, hosts, 1_800 // len(hosts), NOW)
    assert [n for n, item in enumerate(honest) if storage.held(item.target, NOW) is None] == []
    assert len(storage) <= 400
    # And what honest publishers bring while the flood lasts finds room too, as long as they take less than he does.
    late = mutable(salt=b"late")
    if len(hosts) < 300:
        assert put(storage, late, ("11.8.8.8", 1), NOW + 100).is_news


def test_private_space_counts_by_the_network_where_items_are_kept() -> None:
    for hosts in (
        ["fd00::1", "fd00::2"],
        ["fe80::1", "fe80::2"],
        ["10.1.2.3", "10.1.2.4"],
        ["100.64.1.1", "100.64.1.2"],
    ):
        storage = Storage(items_max=400)
        ends = flood(storage, hosts, 40, NOW)
        assert (ends["kept"], ends["rate"]) == (80, 0)
        ends = flood_of_zones(storage, hosts, 100, NOW + 40, FLOOD)
        assert ends["quota"], f"{hosts} are one place"
        assert len({row.prefix for row in rows_of(storage, NOW).values() if row}) == 1


def test_immutable_items_have_half_of_the_store_and_make_room_among_themselves() -> None:
    storage = Storage(items_max=100)
    zones = [mutable(salt=b"zone %d" % n) for n in range(50)]
    for n, item in enumerate(zones):
        put(storage, item, (f"11.1.{n}.1", 1))
    for n in range(300):
        with contextlib.suppress(BadRequest):
            put(storage, ImmutableItem(b"%d" % n), (f"11.2.{n // 10}.1", 1))
    assert sum(stored.key is None for stored in storage.everything(NOW)) <= 50
    assert all(storage.held(item.target, NOW) for item in zones)
    # The store is full. The next zone is still taken, for those who have the most are the others.
    for n in range(10):
        assert put(storage, mutable(salt=b"more %d" % n), (f"11.3.{n}.1", 1)).is_news
    assert all(storage.held(item.target, NOW) for item in zones)
    storage = Storage(items_max=100)
    for n in range(60):
        with contextlib.suppress(BadRequest):
            put(storage, ImmutableItem(b"%d" % n), (f"11.2.{n}.1", 1))
    assert len(storage) == 50, "in an empty store too"


def test_immutable_items_beyond_their_half_drive_out_no_zone_whoever_has_the_most() -> None:
    storage = Storage(items_max=100)
    zones = [mutable(salt=b"zone %d" % n) for n in range(50)]
    for item in zones:
        put(storage, item)
    for n in range(300):
        with contextlib.suppress(BadRequest):
            put(storage, ImmutableItem(b"%d" % n), (f"11.2.{n // 5}.1", 1))
    assert storage.counters["evicted"], "they made room among themselves"
    assert all(storage.held(item.target, NOW) for item in zones)


def test_immutable_items_have_half_of_the_bytes() -> None:
    storage = Storage(bytes_max=40_000)
    for n in range(40):
        with contextlib.suppress(BadRequest):
            put(storage, ImmutableItem(b"%03d" % n + b"x" * 900), (f"11.1.{n}.1", 1))
    assert 19_000 < storage.size_bytes <= 20_000


@pytest.mark.parametrize("seq", [1, 2], ids=["the same item", "a newer value"])
def test_what_two_prefixes_have_put_is_not_evicted_for_what_one_has(seq: int) -> None:
    storage = Storage(items_max=100)
    honest = [mutable(salt=b"honest %d" % n) for n in range(40)]
    for item in honest:
        put(storage, item)
        put(storage, mutable(seq, salt=item.salt), BOB)
    # Alice has the most of all, so without that rule hers would be the first to go.
    for n in range(400):
        with contextlib.suppress(BadRequest):
            put(storage, FLOOD[n], (f"11.2.{n % 250}.{n // 250}", 1), NOW + n)
    assert all(storage.held(item.target, NOW) for item in honest)
    assert len(storage) == 100


@pytest.mark.parametrize("seq", [1, 2], ids=["the same item", "a newer value"])
def test_what_is_here_for_a_day_is_not_evicted_for_what_came_today(seq: int) -> None:
    storage = Storage(items_max=100)
    honest = [mutable(salt=b"honest %d" % n) for n in range(40)]
    for item in honest:
        put(storage, item)
    later = NOW + RETENTION_S - 1
    for item in honest:
        put(storage, mutable(seq, salt=item.salt), now=later)
    young = [mutable(salt=b"young %d" % n) for n in range(10)]
    for n, item in enumerate(young):
        put(storage, item, BOB, later + n)
    later += 2
    for n in range(400):
        with contextlib.suppress(BadRequest):
            put(storage, FLOOD[n], (f"11.2.{n % 250}.{n // 250}", 1), later + n)
    assert all(storage.held(item.target, later) for item in honest)
    assert not all(storage.held(item.target, later) for item in young), "one prefix with many, all of today"


def test_a_newer_value_stays_as_established_as_the_older_was() -> None:
    storage = Storage()
    put(storage, mutable(seq=1))
    put(storage, mutable(seq=2), BOB, NOW + 10)
    assert row_at(storage, mutable().target).other_prefix == "11.0.2.0/24"
    storage = Storage()
    put(storage, mutable(seq=1))
    put(storage, mutable(seq=1), now=NOW + RETENTION_S - 1)
    put(storage, mutable(seq=2), now=NOW + RETENTION_S - 1)
    row = row_at(storage, mutable().target)
    assert (row.other_prefix, row.first_unix) == ("", UNIX), "one prefix has put it, a day ago"


def test_established_items_of_an_attacker_leave_an_eighth_to_newcomers() -> None:
    storage = Storage(items_max=400)
    honest = [mutable(salt=b"honest %d" % n) for n in range(20)]
    for n, item in enumerate(honest):
        put(storage, item, (f"11.1.{n}.1", 1))
        put(storage, item, (f"11.4.{n}.1", 1))
    for n in range(800):
        for host in (f"11.2.{n % 24}.1", f"11.2.{(n + 1) % 24}.1"):
            with contextlib.suppress(BadRequest):
                put(storage, FLOOD[n], (host, 1), NOW + n)
    newcomers = [mutable(salt=b"newcomer %d" % n) for n in range(20)]
    for n, item in enumerate(newcomers):
        assert put(storage, item, (f"11.3.{n}.1", 1), NOW + 900).is_news
    assert all(storage.held(item.target, NOW) for item in [*honest, *newcomers])


def test_an_item_that_is_here_can_be_put_again_whatever_else_is_refused() -> None:
    storage = Storage(items_max=60)
    honest = [mutable(seq=1, salt=b"honest %d" % n) for n in range(60)]
    for n, item in enumerate(honest):
        put(storage, item, (f"11.1.{n}.1", 1))
    with pytest.raises(BadRequest, match="full"):
        put(storage, mutable(salt=b"new"), BOB)
    assert storage.counters["put-refused-full"] == 1
    for n, item in enumerate(honest):
        assert not put(storage, item, (f"11.1.{n}.1", 1), NOW + n).is_news
        newer = mutable(seq=2, salt=b"honest %d" % n, value=b"a longer value")
        assert put(storage, newer, (f"11.1.{n}.1", 1), NOW + n).is_news
    # Own items go before everything.
    own = mutable(salt=b"own")
    assert storage.put_own(own, NOW).is_news
    assert len(storage) == 60
    for n in range(100):
        with contextlib.suppress(BadRequest):
            put(storage, FLOOD[n], (f"11.2.{n}.1", 1), NOW + n)
    assert storage.held(own.target, NOW) is not None


def test_that_nothing_may_go_is_found_out_once_in_a_while() -> None:
    looked = 0

    class Looking(Storage):
        def expire(self, now: float) -> int:
            nonlocal looked
            looked += 1
            return super().expire(now)

    storage = Looking(items_max=60)
    for n in range(60):
        put(storage, mutable(salt=b"honest %d" % n), (f"11.1.{n}.1", 1))
    for n in range(300):
        with pytest.raises(BadRequest, match="full"):
            put(storage, FLOOD[n], (f"11.2.{n % 250}.{n // 250}", 1), NOW + n / 1_000)
    assert looked == 1, "whether there is room is asked of every item once"
    with pytest.raises(BadRequest, match="full"):
        put(storage, FLOOD[0], BOB, NOW + module.FULL_S + 1)
    assert looked == 2


def test_signature_work_of_all_prefixes_together_is_bounded() -> None:
    storage = Storage()
    put(storage, mutable(seq=1))
    forged = request(mutable(seq=2, value=b"new"))
    assert isinstance(forged, PutMutable)
    forged = replace(forged, signature=bytes(64))
    for n in range(4_000):
        with pytest.raises(BadRequest):
            put(storage, forged, (f"11.{n % 250}.{n // 250}.1", 1), NOW + n / 4_000)
    checked = storage.counters["item-signature-wrong"]
    assert checked <= module.ALL_CHECKS_PER_SECOND + module.ALL_CHECKS_BURST
    assert storage.counters["put-refused-busy"] == 4_000 - checked
    # 212 µs is what a check took on the slowest machine measured; the goal is 30 % of a core.
    assert module.ALL_CHECKS_PER_SECOND * 212e-6 <= 0.30


@pytest.mark.parametrize(("items_max", "bytes_max", "digits"), [(20, 3_000, 100), (400, 600, 10)])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "get", "expire", "update"]),
            st.integers(min_value=0, max_value=30),
            st.integers(min_value=0, max_value=6),
            st.floats(min_value=0, max_value=50_000),
        ),
        max_size=80,
    )
)
def test_no_history_breaks_the_bounds_or_the_books(
    items_max: int, bytes_max: int, digits: int, history: list[tuple[str, int, int, float]]
) -> None:
    storage, now = Storage(items_max=items_max, bytes_max=bytes_max), NOW
    for action, what, who, pause in history:
        now += pause
        address = (f"11.0.{who}.1", 1)
        try:
            if action == "put":
                put(storage, PutImmutable(encode(b"%d" % what * digits), b"t"), address, now)
            elif action == "update":
                put(storage, ITEMS[1 + what % 3, b"a"], address, now)
            elif action == "get":
                storage.select(ITEMS[1, b"a"].target, None, address, now)
            else:
                storage.expire(now)
        except BadRequest:
            pass
        assert len(storage) <= items_max
        held = list(storage.everything(NOW))
        assert len(storage) == len(held)
        assert storage.size_bytes == sum(one.size_bytes for one in held) <= bytes_max
        immutable = [one for one in held if one.key is None]
        assert len(immutable) <= items_max // 2
        assert sum(one.size_bytes for one in immutable) <= bytes_max // 2
    # The books of every prefix are those of a store that has the same items and no history.
    storage.expire(now)
    rows = rows_of(storage, now, UNIX + now)
    again = Storage(items_max=items_max, bytes_max=bytes_max)
    for stored in storage.everything(now):
        row = rows[stored.target]
        assert row is not None
        assert again.load(row, now, UNIX + now)
    for one in (storage, again):
        others = iter(range(items_max))
        while 2 * len(one) < items_max and 2 * one.size_bytes < bytes_max:
            put(one, FLOOD[n := next(others)], (f"11.9.{n}.1", 1), now)
    for who in range(7):
        assert left_of_quota(storage, who, now) == left_of_quota(again, who, now)


def left_of_quota(storage: Storage, who: int, now: float) -> int:
    """Return how many bytes more a prefix may bring in one item to a store that is half full."""

    def is_refused(salt_bytes: int) -> bool:
        # Nothing is kept of it, for it is not signed.
        asked = PutMutable(SECRET.zone_key.raw, 1, b"0:", bytes(64), b"t", b"s" * salt_bytes)
        with pytest.raises(BadRequest) as caught:
            put(storage, asked, (f"11.0.{who}.1", 1), now)
        return caught.value.reason == "quota"

    return bisect_left(range(SALT_BYTES_MAX), True, key=is_refused)


# The disk


def test_changes_carry_everything_to_the_next_run() -> None:
    storage = Storage()
    put(storage, mutable(salt=b"salt"))
    put(storage, ImmutableItem(b"immutable"))
    put(storage, foreign(b"i7e"))
    rows = rows_of(storage, NOW + 60, UNIX + 60)
    assert rows_of(storage) == {}
    again = Storage()
    for row in rows.values():
        assert row is not None
        assert row.put_unix == UNIX
        assert again.load(row, 10.0, UNIX + 3_600)
    assert rows_of(again) == {}
    for target in rows:
        assert again.select(target, None, BOB, 10.0) == storage.select(target, None, BOB, NOW)
    # An hour of the day has passed while nobody ran.
    assert again.expire(10.0 + RETENTION_S - 3_601) == 0
    assert again.expire(10.0 + RETENTION_S - 3_599) == 3


def test_who_has_put_an_item_and_since_when_it_is_here_survives_a_restart() -> None:
    storage = Storage()
    for salt in (b"two", b"old", b"neither"):
        put(storage, mutable(salt=salt))
    rows_of(storage)
    put(storage, mutable(salt=b"two"), BOB)
    put(storage, mutable(salt=b"old"), now=NOW + RETENTION_S - 10)
    changed = rows_of(storage, NOW + RETENTION_S - 10, UNIX + RETENTION_S - 10)
    assert list(changed) == [mutable(salt=salt).target for salt in (b"two", b"old")]
    for row in changed.values():
        assert row is not None
        again = Storage()
        assert again.load(row, 10.0, row.put_unix + 20)
        # Only what has changed since is written.
        put(again, mutable(salt=row.salt), now=30.0)
        (kept,) = rows_of(again, 30.0, row.put_unix + 40).values()
        assert kept is not None
        assert kept.other_prefix == row.other_prefix
        assert kept.first_unix == pytest.approx(row.first_unix, abs=1e-3)
    two, old = changed.values()
    assert two is not None
    assert old is not None
    assert (two.other_prefix, old.other_prefix) == ("11.0.2.0/24", "")
    assert old.put_unix - old.first_unix == RETENTION_S - 10


def test_what_is_gone_is_deleted_from_the_disk() -> None:
    storage = Storage()
    item = mutable()
    put(storage, item)
    rows_of(storage)
    storage.expire(NOW + RETENTION_S)
    assert rows_of(storage) == {item.target: None}


def test_a_row_that_does_not_hold_is_refused_and_deleted() -> None:
    storage = Storage()
    put(storage, mutable(salt=b"salt"))
    put(storage, ImmutableItem(b"immutable"))
    mutable_row, immutable_row = rows_of(storage).values()
    assert mutable_row is not None
    assert immutable_row is not None
    for bad in (
        mutable_row._replace(value=b"3:bad"),
        mutable_row._replace(seq=2),
        mutable_row._replace(target=b"t" * 20),
        mutable_row._replace(salt=b"x" * 65),
        immutable_row._replace(value=b"3:bad"),
        mutable_row._replace(key=b"k" * 32),
    ):
        again = Storage()
        assert not again.load(bad, NOW, UNIX)
        assert len(again) == 0
        assert rows_of(again) == {bad.target: None}


def test_an_old_row_is_not_loaded_and_a_row_from_the_future_gains_nothing() -> None:
    storage = Storage()
    put(storage, mutable())
    (row,) = rows_of(storage).values()
    assert row is not None
    again = Storage()
    assert not again.load(row, NOW, UNIX + RETENTION_S)
    assert again.load(row._replace(put_unix=UNIX + 10**9), NOW, UNIX)
    assert again.expire(NOW + RETENTION_S) == 1


def test_gets_reach_the_disk_once_an_hour() -> None:
    storage = Storage()
    item = mutable()
    put(storage, item, LOCAL)
    rows_of(storage)
    for n in range(100):
        storage.select(item.target, None, LOCAL, NOW + n)
    assert len(rows_of(storage)) == 1
    for n in range(100):
        storage.select(item.target, None, LOCAL, NOW + 200 + n)
    assert rows_of(storage) == {}
    storage.select(item.target, None, LOCAL, NOW + 4_000)
    (row,) = rows_of(storage, NOW + 4_000, UNIX + 4_000).values()
    assert row is not None
    assert row.got_unix == UNIX + 4_000


def test_a_full_store_loads_no_more() -> None:
    storage = Storage()
    for n in range(3):
        put(storage, ImmutableItem(b"%d" % n))
    small = Storage(items_max=2)
    loaded = [small.load(row, NOW, UNIX) for row in rows_of(storage).values() if row]
    assert loaded == [True, True, False]


def test_what_came_while_the_rest_was_still_loading_counts_against_the_bytes() -> None:
    storage = Storage()
    put(storage, mutable(value=b"x" * 900))
    (row,) = rows_of(storage).values()
    assert row is not None
    busy = Storage(bytes_max=1_500)
    put(busy, mutable(value=b"y" * 900, salt=b"other"))
    assert not busy.load(row, NOW, UNIX)
    assert busy.size_bytes <= 1_500


def test_arrivals_in_every_order_leave_the_same_row() -> None:
    seen = set()
    for order in permutations([1, 2, 3]):
        storage = Storage()
        for seq in order:
            put_unless_superseded(storage, ITEMS[seq, b"a"])
        seen.add(tuple(rows_of(storage).items()))
    assert len(seen) == 1


def test_everything_kept_is_shown_until_it_expires() -> None:
    storage = Storage()
    storage.put_own(mutable(), NOW)
    put(storage, mutable(secret=SECRETS[1]), now=NOW + 1)
    assert [entry.item for entry in storage.everything(NOW + 1)] == [mutable(), mutable(secret=SECRETS[1])]
    assert [entry.item for entry in storage.everything(NOW + RETENTION_S)] == [mutable(secret=SECRETS[1])]
