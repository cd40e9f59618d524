"""The answer cache."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p2pdns.config import CacheTable
from p2pdns.dns.life import FAILURE_S_MAX, PROVISIONAL_TTL_S
from p2pdns.front.cache import ENTRY_OVERHEAD_BYTES, AnswerCache, cost_of, is_negative
from p2pdns.link import Answer
from p2pdns.values import replace
from tests.front_messages import CALM, answer, cache, failure

KEY = b"key"
TAG, OTHER_TAG = b"tag-one.", b"tag-two."


def kept(store: AnswerCache, given_answer: Answer, now: float = 0.0, key: bytes = KEY) -> Answer:
    """Put an answer of the engine into the cache, as the funnel does; return it as accepted."""
    accepted = store.accepted(given_answer, now)
    store.put(key, accepted, now)
    return accepted


def ttl_of(given_answer: Answer) -> int:
    """Return the first TTL of an answer."""
    at = given_answer.ttl_offsets[0]
    return int.from_bytes(given_answer.message[at : at + 4], "big")


def test_an_answer_is_fresh_until_its_expiry_and_stale_until_its_end() -> None:
    store = cache()
    kept(store, answer(ttl=60, stale_until=1000.0))
    assert store.fresh(KEY, 59.9) is not None
    assert store.fresh(KEY, 60.0) is None
    assert store.stale(KEY, 60.0) is not None
    assert store.stale(KEY, 999.9) is not None
    assert store.stale(KEY, 1000.0) is None
    assert store.counters == {"hit": 1, "miss": 1, "insert": 1}


@CALM
@given(st.integers(0, 2**32 - 1), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_nothing_is_given_past_its_time(ttl: int, expiry: float, stale_until: float, now: float) -> None:
    store = AnswerCache(CacheTable(answers_bytes_max=1 << 20, ttl_s_max=3600, stale_s_max=600))
    kept(store, answer(ttl=ttl, expiry=expiry, stale_until=stale_until))
    limit = min(expiry, 3600)
    if store.fresh(KEY, now) is not None:
        assert now < limit
    if store.stale(KEY, now) is not None:
        assert now < max(limit, min(stale_until, limit + 600))


def test_a_ttl_above_the_limit_is_capped_and_one_with_the_top_bit_is_nothing() -> None:
    store = AnswerCache(CacheTable(answers_bytes_max=1 << 20, ttl_s_max=3600, stale_s_max=600))
    assert ttl_of(store.accepted(answer(ttl=604_800), 0.0)) == 3600
    assert ttl_of(store.accepted(answer(ttl=60), 0.0)) == 60
    assert ttl_of(store.accepted(answer(ttl=2**31), 0.0)) == 0


def test_a_provisional_answer_lives_five_seconds_and_is_never_stale() -> None:
    store = cache()
    accepted = kept(store, answer(ttl=300, provisional=True, made_at=10.0), 10.0)
    assert ttl_of(accepted) == PROVISIONAL_TTL_S
    assert store.fresh(KEY, 14.9) is not None
    assert store.fresh(KEY, 15.0) is None
    assert store.stale(KEY, 15.0) is None


def test_an_answer_from_the_future_counts_from_now() -> None:
    assert cache().accepted(answer(made_at=500.0, ttl=60), 100.0).made_at == 100.0


def test_a_failure_never_takes_the_place_of_what_can_be_given_stale() -> None:
    store = cache()
    kept(store, answer(ttl=60))
    failed = kept(store, failure(now=100.0, lasts_s=5.0), 100.0)
    stale = store.stale(KEY, 101.0)
    assert stale is not None
    assert not stale.failure
    # While the failure lasts nobody needs to ask again.
    assert store.held_stale(KEY, 104.9) == (stale, failed)
    assert store.held_stale(KEY, 105.0) is None


def test_a_failure_does_take_the_place_of_what_is_beyond_stale() -> None:
    store = cache()
    kept(store, answer(ttl=60, stale_until=90.0))
    kept(store, failure(now=100.0), 100.0)
    found = store.fresh(KEY, 101.0)
    assert found is not None
    assert found.failure
    assert store.stale(KEY, 101.0) is None


def test_a_failure_is_remembered_as_long_as_the_engine_says_and_five_minutes_at_most() -> None:
    store = cache()
    assert store.accepted(failure(now=50.0, lasts_s=5.0), 50.0).expiry == 55.0
    assert store.accepted(failure(now=50.0, lasts_s=5000.0), 50.0).expiry == 50.0 + FAILURE_S_MAX


def test_a_good_answer_takes_the_place_of_a_failure() -> None:
    store = cache()
    kept(store, failure(now=0.0))
    kept(store, answer(made_at=1.0), 1.0)
    found = store.fresh(KEY, 2.0)
    assert found is not None
    assert not found.failure


def test_an_uncacheable_answer_is_not_kept_and_neither_is_one_without_time() -> None:
    store = cache()
    kept(store, answer(cacheable=False))
    kept(store, answer(ttl=0, stale_until=0.0))
    assert len(store) == 0


def test_an_older_generation_does_not_replace_a_newer_one_within_an_epoch() -> None:
    store = cache()
    kept(store, answer(generation=5, rdatas=[b"\x05" * 4]))
    kept(store, answer(generation=4, rdatas=[b"\x04" * 4]))
    found = store.fresh(KEY, 1.0)
    assert found is not None
    assert found.generation == 5
    store.new_epoch(9)
    kept(store, answer(generation=1))
    found = store.fresh(KEY, 1.0)
    assert found is not None
    assert found.generation == 1


def test_invalidation_takes_what_has_the_tag_and_nothing_else() -> None:
    store = cache()
    kept(store, answer(tags=(TAG,)), key=b"a")
    kept(store, answer(tags=(TAG, OTHER_TAG)), key=b"b")
    kept(store, answer(tags=(OTHER_TAG,)), key=b"c")
    kept(store, answer(), key=b"d")
    store.invalidate((TAG, b"unknown."))
    assert [key for key in (b"a", b"b", b"c", b"d") if store.fresh(key, 1.0)] == [b"c", b"d"]
    assert store.counters["invalidated"] == 2
    store.invalidate(None)
    assert (len(store), store.size_bytes) == (0, 0)


def test_a_tag_of_a_replaced_answer_takes_nothing_any_more() -> None:
    store = cache()
    kept(store, answer(tags=(TAG,)))
    kept(store, answer(tags=(OTHER_TAG,)))
    store.invalidate((TAG,))
    assert store.fresh(KEY, 1.0) is not None


def test_a_new_epoch_forgets_provisional_negative_and_failed_answers_only() -> None:
    store = cache()
    kept(store, answer(), key=b"positive")
    kept(store, answer(provisional=True), key=b"provisional")
    kept(store, answer(rdatas=(), rcode=3), key=b"nxdomain")
    kept(store, answer(rdatas=()), key=b"nodata")
    kept(store, failure(), key=b"failure")
    store.new_epoch(7)
    keys = (b"positive", b"provisional", b"nxdomain", b"nodata", b"failure")
    assert [key for key in keys if store.fresh(key, 1.0)] == [b"positive"]
    store.new_epoch(7)
    assert len(store) == 1


def test_the_hold_of_a_failure_ends_with_what_the_failure_depended_on_and_the_stale_answer_stays() -> None:
    store = cache()
    stale = kept(store, answer(ttl=60, stale_until=1000.0, tags=(TAG,)))
    kept(store, replace(failure(now=100.0, lasts_s=30.0), tags=(TAG, OTHER_TAG)), now=100.0)
    store.invalidate((OTHER_TAG,))
    assert store.held_stale(KEY, 101.0) is None
    assert store.stale(KEY, 101.0) == stale
    # The next failure holds again, and what the last one depended on takes nothing any more.
    kept(store, failure(now=110.0, lasts_s=30.0), now=110.0)
    store.invalidate((OTHER_TAG,))
    assert store.held_stale(KEY, 111.0) is not None
    store.invalidate((TAG,))
    assert store.stale(KEY, 111.0) is None


def test_a_new_epoch_ends_the_hold_of_a_failure() -> None:
    store = cache()
    kept(store, answer(ttl=60))
    kept(store, failure(now=100.0), 100.0)
    store.new_epoch(1)
    assert store.held_stale(KEY, 101.0) is None
    assert store.stale(KEY, 101.0) is not None


def test_negative_answers_are_told_from_others() -> None:
    assert is_negative(answer(rdatas=(), rcode=3))
    assert is_negative(answer(rdatas=()))
    assert not is_negative(answer())
    assert not is_negative(failure())


def test_the_least_recently_used_makes_room() -> None:
    one = answer()
    cost = cost_of(b"a", one)
    store = cache(bytes_max=3 * cost)
    for key in (b"a", b"b", b"c"):
        kept(store, one, key=key)
    assert store.fresh(b"a", 1.0) is not None
    kept(store, one, key=b"d")
    assert [key for key in (b"a", b"b", b"c", b"d") if store.fresh(key, 1.0)] == [b"a", b"c", b"d"]
    assert store.counters["evict"] == 1


def test_an_answer_larger_than_the_cache_is_not_kept_and_evicts_nothing() -> None:
    store = cache(bytes_max=2 * ENTRY_OVERHEAD_BYTES)
    kept(store, answer(), key=b"small")
    kept(store, answer(rdatas=[bytes(200)] * 20), key=b"large")
    assert store.fresh(b"small", 1.0) is not None
    assert len(store) == 1


def test_whatever_could_make_an_earlier_response_wrong_moves_the_version() -> None:
    store = cache()
    kept(store, answer(tags=(TAG,)))
    seen = [store.version]
    for change in (
        lambda: kept(store, answer(tags=(TAG,), made_at=1.0), 1.0),
        lambda: store.invalidate((TAG,)),
        lambda: store.new_epoch(1),
        lambda: store.invalidate(None),
    ):
        change()
        assert store.version > seen[-1]
        seen.append(store.version)


def test_an_answer_to_another_question_leaves_the_version_alone() -> None:
    store = cache()
    version = store.version
    kept(store, answer(), key=b"another")
    assert store.version == version


class CacheMachine(RuleBasedStateMachine):
    """Any order of puts, invalidations and epochs keeps the books right."""

    def __init__(self) -> None:
        super().__init__()
        self.store = cache(bytes_max=12_000)
        self.now = 0.0

    def entries(self) -> dict[Any, Any]:
        """Return what is kept."""
        return self.store._entries

    @rule(
        key=st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"]),
        tags=st.lists(st.sampled_from([TAG, OTHER_TAG, b"tag-iii."]), unique=True).map(tuple),
        kind=st.sampled_from(["answer", "negative", "provisional", "failure", "large"]),
    )
    def put(self, key: bytes, tags: tuple[bytes, ...], kind: str) -> None:
        """Put an answer."""
        made = answer(
            tags=tags,
            made_at=self.now,
            rdatas=() if kind in ("negative", "failure") else [bytes(4)] * (60 if kind == "large" else 1),
            rcode={"negative": 3, "failure": 2}.get(kind, 0),
            provisional=kind == "provisional",
            failure=kind == "failure",
        )
        kept(self.store, made, self.now, key)

    @rule(tags=st.one_of(st.none(), st.sampled_from([(TAG,), (OTHER_TAG, TAG)])))
    def invalidate(self, tags: tuple[bytes, ...] | None) -> None:
        """Invalidate; nothing with the tag is left."""
        self.store.invalidate(tags)
        for entry in self.entries().values():
            assert tags is not None
            assert not set(tags) & set(entry.answer.tags)

    @rule(epoch=st.integers(0, 3))
    def new_epoch(self, epoch: int) -> None:
        """Change the engine."""
        self.store.new_epoch(epoch)

    @rule(step=st.floats(0, 400))
    def wait(self, step: float) -> None:
        """Let time pass."""
        self.now += step

    @invariant()
    def the_books_are_right(self) -> None:
        """Size, limit and tag index agree with the entries."""
        entries = self.entries()
        assert self.store.size_bytes == sum(entry.cost_bytes for entry in entries.values()) <= 12_000
        by_tag = self.store._keys_of_tag
        index = {(tag, key) for tag, keys in by_tag.items() for key in keys}
        tagged = [(key, kept) for key, entry in entries.items() for kept in (entry.answer, entry.failure)]
        assert index == {(tag, key) for key, kept in tagged if kept is not None for tag in kept.tags}
        assert all(by_tag.values())


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = CALM
