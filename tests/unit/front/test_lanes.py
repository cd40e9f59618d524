"""What waits for a place: in whose turn it is put, for how long it waits, and that nobody is lost or starved."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.life import CLIENT_TIMER_S
from p2pdns.front.gate import ClientQuery
from p2pdns.front.lanes import LOOKED_AT_MAX, Lanes
from p2pdns.front.pending import (
    DATAGRAMS_PER_CLIENT_MAX,
    GRACE_S,
    QUEUED_S_MAX,
    WAITERS_MAX,
    Ending,
    OpenQuestion,
    Questions,
)
from p2pdns.limits import FORWARDED_MAX, QUESTION_S_MAX, QUESTIONS_MAX
from p2pdns.link import QuestionFrame
from tests.front_messages import CALM, crowd
from tests.front_questions import (
    GREEDY,
    add,
    connected,
    end,
    fill,
    has_place,
    put_next,
    waiter,
)


def forward(table: Questions, host: str, count: int) -> list[int]:
    """Let so many questions of a host have a place at the upstreams; return their numbers."""
    numbers = [add(table, waiter(f"u{len(table)}.example", host=host, stream=True), 0.0) for _ in range(count)]
    for number in numbers:
        table.forwarded(number)
    return numbers


def test_what_the_engine_gives_back_waits_for_a_place_at_the_upstreams_and_holds_none_of_the_table() -> None:
    table = connected()
    forwarded = forward(table, GREEDY, FORWARDED_MAX // 2)
    late = [add(table, waiter(f"late{i}.example", host=GREEDY, stream=True), 0.0) for i in range(2)]
    assert [table.postponed(number) for number in late] == [None, None]
    assert table.put_count == len(forwarded)
    # A place of the table is none at the upstreams.
    assert put_next(table, has_upstream_place=False) == []
    assert put_next(table) == []
    assert end(table, forwarded[0]) == ["late0"]
    # It counts as forwarded from the moment it is put: a second one is not put for the same place.
    assert put_next(table) == []
    assert end(table, forwarded[1]) == ["late1"]


def test_of_what_waits_for_the_upstreams_the_prefixes_take_turns() -> None:
    table = connected()
    hosts = ["192.168.1.1", "192.168.1.2"]
    blockers = [number for i in range(4) for number in forward(table, crowd(i), FORWARDED_MAX // 4)]
    late = [add(table, waiter(f"{host[-1]}-{i}.example", host=host), 0.0) for host in hosts for i in range(3)]
    for number in late:
        assert table.postponed(number) is None
    put = [name for number in blockers for name in end(table, number)]
    assert put == ["1-0", "2-0", "1-1", "2-1", "1-2", "2-2"]


def test_what_is_given_back_when_it_may_wait_no_longer_is_released() -> None:
    table = connected()
    number = add(table, waiter(), 0.0)
    table.due(QUEUED_S_MAX)
    pending = table.postponed(number)
    assert pending is not None
    assert len(table.released(pending)) == 1
    assert (len(table), table.holder_count) == (0, 0)


def test_a_new_engine_has_forwarded_nothing_yet() -> None:
    table = connected()
    forward(table, GREEDY, 3)
    before = table.holder_count
    table.engine_connected()
    assert table.holder_count == before - 1


def test_those_that_wait_for_a_place_are_put_in_turns_of_the_hosts_and_then_of_the_sockets() -> None:
    table = connected()
    numbers = [add(table, waiter(f"n{i}.example", host=crowd(i)), 0.0) for i in range(QUESTIONS_MAX)]
    clients = [("::1", 1), ("::1", 1), ("::1", 1), ("::1", 2), (GREEDY, 1), (GREEDY, 2), ("192.168.1.2", 1)]
    for i, (host, port) in enumerate(clients):
        assert not has_place(table, waiter(f"q{i}.example", host=host, port=port))
    put = [name for number in numbers for name in end(table, number)]
    assert put == ["q0", "q4", "q6", "q3", "q5", "q1", "q2"]


def test_a_lane_is_put_in_the_order_of_arrival() -> None:
    """What comes when a place is just free is not put before what waits for it."""
    table = connected()
    fill(table, [(GREEDY, 4000)])
    for name in ("early.example", "late.example"):
        assert not has_place(table, waiter(name, host=GREEDY))
    pending = table.answered(1)
    assert pending is not None
    assert not has_place(table, waiter("latest.example", host=GREEDY))
    # The one that filled the places and found none was the first.
    assert put_next(table) == [f"f{DATAGRAMS_PER_CLIENT_MAX}"]


def test_nobody_waits_behind_what_another_has_asked() -> None:
    """A host that joins a question that waits brings it a place of its own, at once or in its own turn."""
    table = connected()
    fill(table, [(GREEDY, 4000)])
    for i in range(20):
        assert not has_place(table, waiter(f"popular{i}.example", host=GREEDY))
    assert has_place(table, waiter("popular19.example", host="192.168.1.2"))
    others = range(QUESTIONS_MAX - table.put_count)
    numbers = [add(table, waiter(f"n{i}.example", host=crowd(i)), 0.0) for i in others]
    assert not has_place(table, waiter("popular18.example", host="192.168.1.3"))
    assert end(table, numbers[0]) == ["popular18"]


def test_a_question_that_several_wait_for_is_put_once() -> None:
    table = connected()
    fill(table, [(GREEDY, 4000)])
    assert not has_place(table, waiter("shared.example", host=GREEDY))
    assert has_place(table, waiter("shared.example", host="192.168.1.2"))
    put_count = table.put_count
    assert end(table, 1) == [f"f{DATAGRAMS_PER_CLIENT_MAX}"]
    assert end(table, 2) == []
    assert table.put_count == put_count - 1


def test_a_question_waits_so_long_for_a_place_and_no_longer() -> None:
    table = connected()
    fill(table, [(GREEDY, 4000)])
    beyond = waiter("beyond.example", host=GREEDY)
    table.add(beyond.key, beyond, 1.0)
    table.due(QUEUED_S_MAX)
    assert table.pending(beyond.key) is not None
    due = [pending for pending, ending in table.due(1.0 + QUEUED_S_MAX) if ending is Ending.NO_PLACE]
    assert beyond.key in [pending.key for pending in due]
    assert table.pending(beyond.key) is None
    for pending in due:
        assert table.released(pending)


def test_a_question_whose_clients_have_stale_answers_waits_for_no_place_any_more() -> None:
    table = connected()
    fill(table, [(GREEDY, 4000)])
    who = waiter("beyond.example", host=GREEDY)
    assert not has_place(table, who)
    pending = table.pending(who.key)
    assert pending is not None
    assert table.released(pending) == [who]
    assert table.pending(who.key) is None


def test_no_answer_is_taken_for_a_question_without_a_place() -> None:
    table = connected()
    fill(table, [(GREEDY, 4000)])
    number = add(table, waiter("beyond.example", host=GREEDY), 0.0)
    table.forwarded(number)
    assert table.answered(number) is None
    assert table.postponed(number) is None


def test_a_search_for_a_place_goes_on_where_the_last_one_ended() -> None:
    """Thousands of addresses that have had their share stand before the one that has not."""
    lanes: Lanes[str] = Lanes()
    for number in range(3 * LOOKED_AT_MAX):
        lanes.add(crowd(number), "udp", b"key", crowd(number))
    looked: list[str] = []

    def may_host(host: str) -> bool:
        looked.append(host)
        return host == crowd(3 * LOOKED_AT_MAX - 1)

    found = [lanes.take(may_host, lambda what: True) for _ in range(3)]
    assert found == [None, None, (b"key", crowd(3 * LOOKED_AT_MAX - 1))]
    assert looked == [crowd(number) for number in range(3 * LOOKED_AT_MAX)]


def test_what_is_fetched_ahead_and_given_back_is_forgotten() -> None:
    table = connected()
    who = waiter()
    asked = table.prefetch(who.key, who.client, 0.0)
    assert asked is not None
    pending = table.postponed(asked.id)
    assert pending is not None
    assert table.released(pending) == []
    assert (len(table), table.put_count, table.holder_count) == (0, 0, 0)


HOSTS = ["127.0.0.1", "::1", "192.168.1.1", "192.168.1.2", "fd00::1", "fd00::2", "192.168.9.9"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 40), st.sampled_from(HOSTS), st.integers(1, 60)),
        st.tuples(st.just("answer"), st.integers(0, 1_000), st.just(""), st.integers(1, 60)),
        st.tuples(st.just("forward"), st.integers(0, 1_000), st.just(""), st.integers(1, 60)),
        st.tuples(st.just("postpone"), st.integers(0, 1_000), st.just(""), st.integers(1, 60)),
        st.tuples(st.just("engine"), st.integers(0, 1), st.just(""), st.just(1)),
        st.tuples(st.just("wait"), st.integers(0, 30), st.just(""), st.just(1)),
    ),
    max_size=25,
)


class Drive:
    """A table as the funnel drives it, and who is owed a release."""

    def __init__(self) -> None:
        self.table = Questions(0.0)
        self.owed: Counter[int] = Counter()
        self.waiters: dict[int, ClientQuery] = {}
        self.at_engine: dict[int, None] = {}
        self.now = 0.0

    def sent(self, *queries: QuestionFrame | None) -> None:
        """Note what is put."""
        for asked in filter(None, queries):
            assert asked.id not in self.at_engine
            self.at_engine[asked.id] = None

    def release(self, pending: OpenQuestion | None) -> None:
        """Release the waiters of a question, each of which must be owed that."""
        for who in self.table.released(pending) if pending is not None else ():
            self.owed[id(who)] -= 1
            assert self.owed[id(who)] == 0

    def step(self, what: str, number: int, host: str, count: int) -> None:
        """Let something happen."""
        table = self.table
        some = list(self.at_engine)[number % max(1, len(self.at_engine)) :][:count]
        if what == "ask":
            for i in range(count):
                stream = number % 2 == 0
                who = waiter(f"n{number + i}", host=host, port=4000 + i % 3, stream=stream, number=len(self.owed))
                asked = table.add(who.key, who, self.now)
                if not isinstance(asked, Ending):
                    self.owed[id(who)] += 1
                    self.waiters[id(who)] = who
                    self.sent(asked)
        elif what == "engine" and number:
            self.at_engine.clear()
            queries, given_up = table.engine_connected()
            self.sent(*queries)
            for pending in given_up:
                self.release(pending)
            self.sent(*table.next_queries())
        elif what == "engine":
            self.at_engine.clear()
            table.engine_lost(self.now)
        elif what == "wait":
            self.now += number / 10
            self.pass_time()
        for one in some if what in ("answer", "forward", "postpone") else ():
            if what == "forward":
                table.forwarded(one)
                continue
            del self.at_engine[one]
            self.release(table.answered(one) if what == "answer" else table.postponed(one))
            self.sent(*table.next_queries(has_upstream_place=what == "answer"))

    def pass_time(self) -> None:
        """Do what is due."""
        timer, due = self.table.get_timer(), self.table.due(self.now)
        assert not due or (timer is not None and timer <= self.now)
        for pending, ending in due:
            if ending is not Ending.SLOW:
                self.at_engine.pop(pending.id, None)
                self.release(pending)
        self.sent(*self.table.next_queries())
        timer = self.table.get_timer()
        assert timer is None or timer > self.now


@CALM
@given(STEPS)
def test_every_waiter_is_released_exactly_once_and_no_bound_is_passed(steps: list[tuple[str, int, str, int]]) -> None:
    drive = Drive()
    table = drive.table
    for step in steps:
        drive.step(*step)
        assert table.put_count <= QUESTIONS_MAX
        assert not table.is_connected or len(drive.at_engine) == table.put_count
        assert sum(drive.owed.values()) <= WAITERS_MAX
    for later in (CLIENT_TIMER_S, QUEUED_S_MAX, QUESTION_S_MAX + GRACE_S):
        drive.now += later
        drive.pass_time()
    assert not any(drive.owed.values())
    assert (len(table), table.put_count, table.holder_count, table.get_timer()) == (0, 0, 0, None)


@settings(CALM, max_examples=10)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(200, 300), st.booleans())
def test_no_host_is_starved_by_what_others_ask(hosts: int, sockets: int, count: int, stream: bool) -> None:
    """For each question that another host has put meanwhile a newcomer has one put, whatever waits already."""
    table = connected()
    at_engine: deque[int] = deque()
    theirs = [(crowd(n % hosts), 4000 + n % sockets) for n in range(count * hosts)]
    put: Counter[str] = Counter()
    for n, (host, port) in enumerate([*theirs, *[(GREEDY, 4000)] * count]):
        who = waiter(f"n{n}", host=host, port=port, stream=stream)
        asked = table.add(who.key, who, 0.0)
        if isinstance(asked, QuestionFrame):
            at_engine.append(asked.id)
            put[host] += 1
    # It has some at once, and the others in turns with those that waited before.
    assert put[GREEDY] > 0
    put_before = put.copy()
    while put[GREEDY] < count:
        number = at_engine.popleft()
        pending = table.answered(number)
        assert pending is not None
        table.released(pending)
        for asked in table.next_queries():
            at_engine.append(asked.id)
            put[asked.ask.client_prefix] += 1
    assert max((put - put_before).values(), default=0) <= count
