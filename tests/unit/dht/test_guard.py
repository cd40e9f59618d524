"""The guard: tokens bound to address, target and time; proven addresses; the arithmetic of the reply budgets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.addresses import Address
from p2pdns.dht import guard as module
from p2pdns.dht.guard import Answering, Guard

ALICE: Address = ("203.0.113.7", 6881)
TARGET = b"t" * 20
START = 1_000_000.0


def made(label: bytes = b"one", now: float = START) -> Guard:
    return Guard(lambda size: hashlib.sha256(label).digest()[:size], now)


def stranger(n: int) -> Address:
    """Return an address in a prefix of its own."""
    return (f"11.{n // 256 % 256}.{n % 256}.1", 6881)


def test_a_token_has_8_bytes_and_holds() -> None:
    guard = made()
    token = guard.token(ALICE, TARGET, START)
    assert len(token) == 8
    assert guard.is_token_valid(token, ALICE, TARGET, START)


@pytest.mark.parametrize(
    ("address", "target"),
    [
        (("203.0.113.8", 6881), TARGET),
        (("203.0.113.7", 6882), TARGET),
        (("203.0.113.76", 881), TARGET),
        (ALICE, b"u" * 20),
    ],
)
def test_a_token_of_another_address_or_target_is_refused(address: Address, target: bytes) -> None:
    guard = made()
    token = guard.token(ALICE, TARGET, START)
    assert not guard.is_token_valid(token, address, target, START)
    assert not guard.is_proven(address, START)
    assert guard.counters["token-refused"] == 1


def test_a_token_of_another_node_is_refused() -> None:
    assert not made(b"two").is_token_valid(made(b"one").token(ALICE, TARGET, START), ALICE, TARGET, START)


@pytest.mark.parametrize("token", [b"", b"12345678", bytes(64)])
def test_a_made_up_token_is_refused(token: bytes) -> None:
    assert not made().is_token_valid(token, ALICE, TARGET, START)


@given(st.floats(min_value=0, max_value=1e7), st.floats(min_value=0, max_value=2_000))
def test_a_token_holds_for_five_minutes_and_never_for_more_than_ten(given_at: float, age: float) -> None:
    guard = made(now=given_at)
    token = guard.token(ALICE, TARGET, given_at)
    is_valid = guard.is_token_valid(token, ALICE, TARGET, given_at + age)
    if age < module.TOKEN_PERIOD_S - 1:
        assert is_valid
    if age > 2 * module.TOKEN_PERIOD_S + 1:
        assert not is_valid


@pytest.mark.parametrize(("age", "is_valid"), [(0, True), (299, True), (598, True), (601, False), (-301, False)])
def test_a_token_of_the_first_second_of_a_period_holds_to_the_end_of_the_next(age: float, is_valid: bool) -> None:
    guard, given_at = made(), 3_000 * module.TOKEN_PERIOD_S + 1
    token = guard.token(ALICE, TARGET, given_at)
    assert guard.is_token_valid(token, ALICE, TARGET, given_at + age) is is_valid


def test_a_token_shown_later_proves_its_address_and_a_wrong_one_nothing() -> None:
    guard = made()
    token = guard.token(ALICE, TARGET, START)
    assert not guard.show(b"wrong", ALICE, TARGET, START)
    assert not guard.show(token, stranger(1), TARGET, START)
    assert not guard.is_proven(ALICE, START)
    assert guard.show(token, ALICE, TARGET, START)
    assert guard.is_proven(ALICE, START)
    assert not guard.counters, "to show a token is no attempt to put"


def test_a_valid_token_proves_its_address() -> None:
    guard = made()
    assert not guard.is_proven(ALICE, START)
    guard.is_token_valid(guard.token(ALICE, TARGET, START), ALICE, TARGET, START)
    assert guard.is_proven(ALICE, START)


def test_an_address_is_proven_for_ten_minutes() -> None:
    guard = made()
    guard.prove(ALICE, START)
    assert guard.is_proven(ALICE, START + 599)
    assert not guard.is_proven(ALICE, START + 600)
    assert not guard.is_proven(("203.0.113.7", 6882), START)


def test_proven_addresses_are_bounded_and_the_oldest_go_first() -> None:
    guard = made()
    for port in range(1, module.PROVEN_ADDRESSES_MAX + 1):
        guard.prove(("203.0.113.7", port), START)
    guard.prove(("203.0.113.7", 1), START)
    guard.prove(("203.0.113.9", 1), START)
    ports = range(1, module.PROVEN_ADDRESSES_MAX + 1)
    assert [port for port in ports if not guard.is_proven(("203.0.113.7", port), START)] == [2]
    assert guard.is_proven(("203.0.113.9", 1), START)


def test_a_proven_address_gets_whole_replies_without_end() -> None:
    guard = made()
    guard.prove(ALICE, START)
    for _ in range(1_000):
        assert guard.allowance(ALICE, 100, 1_232, START).answering is Answering.FULL
    assert guard.allowance(ALICE, 100, 1_232, START + 600).answering is Answering.FULL
    assert guard.counters["unproven-full"] == 1


def told(guard: Guard, address: Address, request_bytes: int, reply_bytes: int, now: float) -> Answering:
    """Return how a query of a read-only node is answered."""
    return guard.allowance(address, request_bytes, reply_bytes, now).answering


def test_a_prefix_gets_two_values_a_second_then_contacts_then_nothing() -> None:
    guard = made()
    answers = [told(guard, (f"203.0.113.{n}", 6881), 100, 600, START) for n in range(9)]
    # 3,000 bytes: two of 600 leave 1,800, which six of 300 use up.
    assert answers == [Answering.FULL] * 2 + [Answering.NODES_ONLY] * 6 + [Answering.SILENT]
    assert told(guard, stranger(1), 100, 400, START) is Answering.FULL


def test_modest_replies_are_not_rationed_by_number() -> None:
    guard = made()
    assert {told(guard, ALICE, 100, 300, START) for _ in range(6)} == {Answering.FULL}


def test_nodes_only_stays_within_three_times_the_request_and_a_short_reply() -> None:
    guard = made()
    for _ in range(2):
        guard.allowance(ALICE, 90, 500, START)
    assert guard.allowance(ALICE, 90, 1_000, START) == (Answering.NODES_ONLY, 270)
    assert guard.allowance(ALICE, 411, 1_232, START) == (Answering.FULL, 1_232)
    # What the prefix has left is less than that reply and more than a short one.
    assert guard.allowance(ALICE, 411, 1_232, START) == (Answering.NODES_ONLY, module.SHORT_REPLY_BYTES)


def test_values_stop_at_the_reserve_contacts_go_on_and_the_other_pools_keep_their_halves() -> None:
    guard = made()
    answers = [told(guard, stranger(n), 100, 1_000, START) for n in range(12)]
    # 2,600 bytes and half of both others: three of 1,000 leave 2,200, which seven of 300 use up.
    assert answers == [Answering.FULL] * 3 + [Answering.NODES_ONLY] * 7 + [Answering.SILENT] * 2
    assert told(guard, stranger(11), 100, 300, START) is Answering.FULL, "who asks again has a pool of its own"
    assert told(guard, stranger(11), 100, 300, START) is Answering.FULL, "and so has who was served"
    assert told(guard, stranger(12), 100, 300, START) is Answering.SILENT


def test_below_the_reserve_who_can_is_challenged() -> None:
    guard = made()
    answers = [guard.allowance(stranger(n), 100, 1_000, START, can_challenge=True) for n in range(30)]
    challenges = [answer for answer in answers if answer.answering is Answering.CHALLENGE]
    assert [answer.answering for answer in answers[:4]] == [Answering.FULL] * 3 + [Answering.CHALLENGE]
    assert len(challenges) == 2_200 // module.CHALLENGE_BYTES
    assert challenges[0].bytes_max == module.CHALLENGE_BYTES
    assert answers[-1].answering is Answering.SILENT
    assert guard.counters["unproven-challenge"] == len(challenges)


def test_asking_back_for_the_tables_sake_stops_at_the_reserve() -> None:
    guard = made()
    asked = [guard.may_ask_back(stranger(n), START) for n in range(60)]
    assert asked == sorted(asked, reverse=True)
    assert sum(asked) == 3 * 1_300 // module.CHALLENGE_BYTES
    guard.prove(stranger(60), START)
    assert guard.may_ask_back(stranger(60), START)


def test_who_would_get_nothing_is_known_before_a_reply_is_composed() -> None:
    guard = made()
    assert not guard.is_spent(ALICE, START)
    while told(guard, ALICE, 100, 300, START) is not Answering.SILENT:
        pass
    assert guard.is_spent(ALICE, START)
    assert not guard.is_spent(stranger(1), START)
    guard.prove(ALICE, START)
    assert not guard.is_spent(ALICE, START)


def test_what_says_nothing_without_its_value_is_sent_whole_or_not_at_all() -> None:
    guard = made()
    answers = [
        guard.allowance((f"203.0.113.{n}", 6881), 100, 800, START, is_whole_only=True).answering for n in range(7)
    ]
    # Of 3,000 bytes 600 are left, enough for contacts.
    assert answers == [Answering.FULL] * 3 + [Answering.SILENT] * 4
    assert guard.counters["unproven-silent"] == 4


@pytest.mark.parametrize(
    ("nearer_count", "kept_bytes"),
    [(0, 0), (1, 375), (2, 750), (3, 750), (4, 1_500), (7, 1_500), (8, 2_250), (20, 2_250)],
)
def test_of_a_prefix_budget_a_share_is_kept_for_targets_that_we_are_nearer_to(
    nearer_count: int, kept_bytes: int
) -> None:
    guard, size = made(), 125

    def is_sent(nearer_count: int) -> bool:
        allowance = guard.allowance(ALICE, 100, size, START, nearer_count=nearer_count, is_whole_only=True)
        return allowance.answering is Answering.FULL

    count = 0
    while is_sent(nearer_count):
        count += 1
    assert count == (3_000 - kept_bytes) // size
    assert is_sent(0) == (kept_bytes > 0)


def test_a_full_budget_is_enough_for_a_value_of_any_size_and_rank() -> None:
    assert made().allowance(ALICE, 100, 1_232, START, nearer_count=20, is_whole_only=True).answering is Answering.FULL


def test_of_the_pools_a_share_is_kept_for_targets_that_we_are_nearer_to() -> None:
    guard = made()

    def sent(nearer_count: int, first: int) -> int:
        asked = [
            guard.allowance(stranger(first + n), 100, 100, START, nearer_count=nearer_count, is_whole_only=True)
            for n in range(60)
        ]
        return sum(allowance.answering is Answering.FULL for allowance in asked)

    # Of 3,900 bytes for values a quarter each, and of the last quarter half for the very nearest.
    assert [sent(nearer, 100 * nearer) for nearer in (20, 4, 2, 1, 0)] == [9, 10, 10, 5, 5]


SOURCES: dict[str, Callable[[int], Address]] = {
    "one victim": lambda n: ALICE,
    "100 victims": lambda n: stranger(n % 100),
    "ever new sources": lambda n: (f"{12 + n // 65_536}.{n // 256 % 256}.{n % 256}.1", 6881),
    "victims and new sources": lambda n: stranger(n % 64) if n % 2 else SOURCES["ever new sources"](n),
}


@pytest.mark.parametrize("can_challenge", [True, False])
@pytest.mark.parametrize("sources", SOURCES)
@pytest.mark.parametrize(("request_bytes", "reply_bytes"), [(97, 1_221), (97, 320), (56, 80), (400, 1_200), (150, 60)])
def test_a_spoofed_flood_of_four_seconds_reflects_no_more_than_8_kilobytes_a_second(
    request_bytes: int, reply_bytes: int, sources: str, can_challenge: bool
) -> None:
    guard = made()
    seconds, sent_bytes = 4, 0
    for n in range(2_000 * seconds):
        source, now = SOURCES[sources](n), START + n / 2_000
        sent_bytes += guard.may_ask_back(source, now) * module.CHALLENGE_BYTES
        sent_bytes += guard.allowance(source, request_bytes, reply_bytes, now, can_challenge=can_challenge).bytes_max
    assert sent_bytes <= module.REFLECTED_BYTES_PER_SECOND_MAX * seconds
    if sources == "one victim":
        assert sent_bytes <= module.PREFIX_BURST_BYTES + module.PREFIX_BYTES_PER_SECOND * seconds


@pytest.mark.parametrize("sources", SOURCES)
def test_under_a_flood_a_newcomer_is_answered_at_the_latest_when_it_asks_again(sources: str) -> None:
    guard = made()
    answered = 0
    for n in range(2_000 * 20):
        now = START + n / 2_000
        guard.allowance(SOURCES[sources](n), 97, 280, now)
        # In the first ten seconds every victim has been served once.
        if n >= 2_000 * 10 and n % 2_000 == 1_999:
            newcomer = (f"198.18.{n // 2_000}.1", 6881)
            answers = [told(guard, newcomer, 97, 280, now + later) for later in (0.0, 0.0001)]
            answered += Answering.FULL in answers
    assert answered == 10


def test_one_victim_does_not_use_up_what_others_are_owed() -> None:
    guard = made()
    for n in range(20_000):
        guard.allowance(ALICE, 97, 1_221, START + n / 2_000)
    assert told(guard, stranger(1), 97, 600, START + 10) is Answering.FULL


def test_prefixes_noted_are_bounded_and_forgotten() -> None:
    lately = module.Lately(10.0, START)
    for n in range(3 * module.LATELY_MAX):
        lately.has(str(n), START)
        lately.note(str(n))
    assert len(lately) <= 2 * module.LATELY_MAX
    assert not lately.has("one", START)
    lately.note("one")
    assert lately.has("one", START + 10)
    assert not lately.has("one", START + 21)
    lately.note("one")
    assert not lately.has("one", START + 60), "after a long silence both generations are old"


@given(
    st.lists(
        st.tuples(
            st.integers(min_value=0, max_value=40),
            st.integers(min_value=20, max_value=600),
            st.integers(min_value=20, max_value=1_232),
            st.floats(min_value=0, max_value=3),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_no_history_sends_more_than_the_budget(history: list[tuple[int, int, int, float, bool]]) -> None:
    guard, now, sent_bytes = made(), START, 0
    for n, request_bytes, reply_bytes, pause, can_challenge in history:
        now += pause
        allowance = guard.allowance(stranger(n), request_bytes, reply_bytes, now, can_challenge=can_challenge)
        sent_bytes += allowance.bytes_max
        if allowance.answering is Answering.NODES_ONLY:
            assert allowance.bytes_max <= 3 * request_bytes
        if allowance.answering is Answering.FULL:
            assert allowance.bytes_max == reply_bytes
        assert can_challenge or allowance.answering is not Answering.CHALLENGE
    assert sent_bytes <= 3 * module.POOL_BYTES_PER_SECOND * (now - START) + 3 * module.POOL_BURST_BYTES + 1
