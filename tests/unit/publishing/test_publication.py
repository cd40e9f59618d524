"""One publication: what it refuses, what it replaces, when it is done, and what becomes of those that came in between.

The overlay here is a list of nodes that each hold one item or none, and that keep to `cas` as BEP 44 says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht.node.storing import cas_for
from p2pdns.dht.node.values import Others
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.publishing.changes import Content, EmptyZone, WholeZone, rrsets_of
from p2pdns.publishing.divided import Dividing
from p2pdns.publishing.editions import Found
from p2pdns.publishing.memory import Made, Memory, NoMemory, Origin
from p2pdns.publishing.publication import ROUNDS_MAX, Plan, Publication, Rules
from p2pdns.publishing.replicas import PublishStage, Seen, Tried, Version
from p2pdns.publishing.stored import Stored, chosen_seq
from tests.overlay_doubles import A, rrsets

NOW = 1_790_000_000.0
HOUR = 3600.0
SECRET = SecretKey.generate(b"\x01" * 32)
APEX = A.signed_by.apex


def zone(*lines: str) -> bytes:
    """Return the value of a zone with these lines."""
    return compose_packet(rrsets(APEX, *lines), APEX)


def item(seq: int, *lines: str) -> MutableItem:
    """Return an item of the key."""
    return MutableItem.signed(SECRET, seq, zone(*lines))


def seq_at(unix: float) -> int:
    """Return a seq of that time."""
    return int(unix * 1_000_000)


WWW, FTP, MAIL, TXT = "www 300 A 192.0.2.1", "ftp 300 A 192.0.2.2", "mail 300 A 192.0.2.3", "@ 300 TXT hello"
OLD = item(seq_at(NOW - 60), WWW)
LATER = seq_at(NOW - 30)


@dataclass
class Nodes:
    """The overlay, as one publisher uses it."""

    held: list[MutableItem | None]
    unix: float = NOW
    mark_seq: int | None = None
    silent: set[int] = field(default_factory=set)  # They take no put, and answer no look after it.
    lost_replies: set[int] = field(default_factory=set)  # Their word of having stored an item is lost.
    liars: set[int] = field(default_factory=set)  # They refuse every put for something that they do not show.
    is_complete: bool = True
    blind_looks: int = 0  # So many looks return nothing.
    before_put: list[Callable[[], None]] = field(default_factory=list)
    before_read: list[Callable[[], None]] = field(default_factory=list)
    puts: list[tuple[MutableItem, tuple[int, ...]]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    forgotten: int = 0

    def unix_now(self) -> float:
        """Return the time."""
        return self.unix

    def jitter(self) -> float:
        """Draw from [0, 1)."""
        return 0.5

    async def wait(self, seconds: float) -> None:
        """Note it."""
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def seen(self) -> Seen:
        """Return what all nodes that answer hold."""
        counts: dict[tuple[int, bytes], int] = {}
        items: dict[tuple[int, bytes], MutableItem] = {}
        for number, one in enumerate(self.held):
            if one is not None and number not in self.silent:
                counts[one.seq, one.value] = counts.get((one.seq, one.value), 0) + 1
                items[one.seq, one.value] = one
        versions = tuple(Version(items[name], counts[name]) for name in sorted(items, reverse=True))
        return Seen(versions, self.is_complete, self.mark_seq)

    async def look_up(self) -> Seen:
        """Look."""
        await asyncio.sleep(0)
        if self.blind_looks:
            self.blind_looks -= 1
            return Seen((), False, self.mark_seq)
        return self.seen()

    async def forget(self) -> None:
        """Clear the mark."""
        self.forgotten += 1
        self.mark_seq = None

    async def put(self, one: MutableItem, cas: tuple[int, ...]) -> Tried:
        """Put at every node in turn, and look at them."""
        self.puts.append((one, cas))
        if self.before_put:
            self.before_put.pop(0)()
        named = [held.seq if held is not None else None for held in self.held]
        refused: dict[int, int] = {}
        stored = 0
        for number in range(len(self.held)):
            await asyncio.sleep(0)
            code = 0 if number in self.silent else self._refusal(number, one, cas_for(cas, named[number]))
            if number in self.silent or code:
                refused[number] = code
                continue
            self.held[number] = one
            if number in self.lost_replies:
                # It is sent again, and refused by a node that compares seqs before values.
                refused[number] = 302
            else:
                stored += 1
        if self.before_read:
            self.before_read.pop(0)()
        held_at = [number for number, code in refused.items() if code]
        held = [self.held[number] for number in held_at]
        own = held.count(one)
        seqs = tuple(None if other is None else other.seq for other in held if other != one)
        reasons = {str(code or "timeout"): list(refused.values()).count(code) for code in set(refused.values())}
        return Tried(Others(len(self.held), stored + own), reasons, seqs, self.seen())

    def _refusal(self, number: int, one: MutableItem, cas: int) -> int:
        held = self.held[number]
        if number in self.liars:
            return 301
        if held is None or held == one:
            return 0
        if held.seq != cas:
            return 301
        return 0 if one.seq > held.seq else 302

    def everywhere(self, one: MutableItem) -> None:
        """Have every node hold an item."""
        self.held = [one] * len(self.held)


def publication(
    nodes: Nodes,
    content: Content | bytes,
    memory: Memory | None = None,
    told: list[str] | None = None,
    dividing: Dividing | None = None,
    **rules: Any,
) -> Publication:
    """Return a publication in an overlay."""
    return Publication(
        SECRET.zone_key,
        lambda seq, value: MutableItem.signed(SECRET, seq, value),
        WholeZone(APEX, content) if isinstance(content, bytes) else content,
        nodes,
        memory=memory,
        rules=Rules(**rules),
        tell=lambda progress: None if told is None else told.append(str(progress)),
        dividing=dividing,
    )


def published(nodes: Nodes, *lines: str, memory: Memory | None = None, **rules: Any) -> Stored:
    """Publish a zone with these lines."""
    return asyncio.run(publication(nodes, zone(*lines), memory, **rules).run())


def names(one: Found | None) -> set[str]:
    """Return the first labels of an item's owners, as text; the apex is "@"."""
    return {owner.text_in(APEX) for owner, _ in rrsets_of(one)}


# What is signed


def test_the_seq_is_the_time_or_one_more_than_the_last() -> None:
    assert chosen_seq(None, NOW) == seq_at(NOW)
    assert chosen_seq(seq_at(NOW) - 5, NOW) == seq_at(NOW)
    assert chosen_seq(seq_at(NOW), NOW) == seq_at(NOW) + 1
    assert chosen_seq(seq_at(NOW + HOUR / 2), NOW) == seq_at(NOW + HOUR / 2) + 1


def test_a_last_seq_from_the_future_is_not_followed() -> None:
    with pytest.raises(Unavailable, match="more than an hour ahead"):
        chosen_seq(seq_at(NOW + 2 * HOUR), NOW)


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [
        (1.5 * HOUR, "publish again after 14:44 UTC, in 31 min"),
        (20 * HOUR - 30, "publish again after 09:13 UTC, in 19 h 0 min"),
        (25 * HOUR, "publish again after 2026-09-22 14:14 UTC, in 1 d 0 h 1 min"),
        (24 * HOUR * 40 + 2 * HOUR, "publish again after 2026-10-31 15:14 UTC, in 40 d 1 h 1 min"),
    ],
)
def test_a_refusal_says_when_to_publish_again_and_names_a_command(ahead_s: float, words: str) -> None:
    last = seq_at(NOW + ahead_s)
    with pytest.raises(Unavailable) as caught:
        chosen_seq(last, NOW, command="p2pdns publish --take-back -k a.key a.zone")
    assert words in str(caught.value)
    assert "p2pdns publish --take-back -k a.key a.zone" in str(caught.value.hint)
    # It is allowed then.
    assert chosen_seq(last, NOW + ahead_s - HOUR + 60) == last + 1


def test_what_is_taken_back_lies_just_above_and_never_where_readers_see_the_future() -> None:
    last = seq_at(NOW + 20 * HOUR)
    assert chosen_seq(last, NOW, takes_back=True) == last + 1
    assert chosen_seq(None, NOW, takes_back=True) == seq_at(NOW)
    with pytest.raises(Unavailable, match="more than an hour ahead"):
        chosen_seq(seq_at(NOW + 25 * HOUR), NOW, takes_back=True)


def test_a_clock_before_the_program_was_made_signs_nothing() -> None:
    with pytest.raises(Unavailable, match="before this program was made"):
        chosen_seq(None, 0.0)
    nodes = Nodes([OLD] * 3, unix=0.0)
    with pytest.raises(Unavailable, match="before this program was made"):
        published(nodes, WWW)
    assert nodes.puts == []


# The end


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_a_publication_is_stored_at_all_read_back_and_above_the_last(count: int) -> None:
    nodes = Nodes([OLD] * count)
    done = published(nodes, WWW, FTP)
    assert (done.is_done, done.sent, done.stored, done.read_back) == (True, count, count, count)
    assert (done.seq, done.rebased) == (seq_at(NOW), ())
    assert nodes.puts[0][1] == (OLD.seq,)
    assert {one and one.seq for one in nodes.held} == {done.seq}


def test_alone_nothing_is_stored_and_a_hint_says_what_is_missing() -> None:
    done = published(Nodes([]), WWW)
    assert (done.is_done, str(done)) == (False, f"stored at 0 other nodes, seq {done.seq}")
    assert "--bootstrap ADDR:PORT" in str(done.failure("KEY").hint)


@pytest.mark.parametrize(
    ("sent", "stored", "is_enough"),
    [
        (0, 0, False),
        (1, 0, False),
        (1, 1, True),
        (2, 1, False),
        (3, 1, False),
        (3, 2, True),
        (8, 5, True),
        (8, 4, False),
    ],
)
def test_a_publication_counts_when_more_than_half_of_the_others_hold_it(
    sent: int, stored: int, is_enough: bool
) -> None:
    assert Stored(1, sent, stored, "a node of its own").is_enough is is_enough


@pytest.mark.parametrize(("silent_count", "is_done"), [(0, True), (9, True), (10, False), (20, False)])
def test_with_half_of_the_puts_failing_it_is_not_done(silent_count: int, is_done: bool) -> None:
    nodes = Nodes([OLD] * 20, silent=set(range(silent_count)))
    done = published(nodes, WWW)
    assert (done.is_done, done.stored) == (is_done, 20 - silent_count)
    assert done.refused == ({"timeout": silent_count} if silent_count else {})
    if not is_done:
        assert "more than half are needed" in str(done.failure("KEY"))


def test_what_cannot_be_read_back_is_not_done() -> None:
    nodes = Nodes([OLD] * 20)
    # Nodes that say that they store it, and return it to nobody.
    nodes.before_read.append(lambda: setattr(nodes, "held", [nodes.held[0]] * 2 + [None] * 18))
    done = published(nodes, WWW)
    assert (done.is_enough, done.read_back, done.is_done) == (True, 2, False)
    assert "only 2 of 3 have returned it" in str(done.failure("KEY"))
    nodes = Nodes([OLD] * 20, is_complete=False)
    assert not published(nodes, WWW).is_done


@pytest.mark.parametrize("lines", [(WWW,), (WWW, MAIL, FTP), (TXT,)])
def test_what_an_incomplete_first_look_missed_is_neither_merged_nor_taken_for_the_outcome(
    lines: tuple[str, ...],
) -> None:
    before = item(LATER, WWW, MAIL)
    nodes = Nodes([before] * 20, blind_looks=1)
    with pytest.raises(Unavailable, match=f"the look-up was not complete, and seq {LATER} .* came to light") as caught:
        published(nodes, *lines)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("publish again")
    assert nodes.held == [before] * 20
    # With nobody there is nothing to miss.
    assert not published(Nodes([], blind_looks=1), *lines).is_done


def test_the_mark_of_a_publication_from_the_future_is_cleared_only_when_somebody_has_agreed() -> None:
    nodes = Nodes([OLD] * 3, mark_seq=seq_at(NOW + 30 * HOUR))

    def refuse(plan: Plan) -> None:
        raise Unavailable("not published")

    with pytest.raises(Unavailable, match="not published"):
        published(nodes, FTP, takes_back=True, approve=refuse)
    assert (nodes.forgotten, nodes.puts) == (0, [])
    assert published(nodes, FTP, takes_back=True).is_done
    assert nodes.forgotten == 1


@pytest.mark.parametrize("lost_count", [1, 19, 20])
def test_a_302_of_a_node_that_has_our_own_item_counts_as_stored(lost_count: int) -> None:
    nodes = Nodes([OLD] * 20, lost_replies=set(range(lost_count)))
    done = published(nodes, WWW)
    assert (done.is_done, done.stored, len(nodes.puts)) == (True, 20, 1)


@pytest.mark.parametrize(
    ("done", "words", "warning"),
    [
        (Stored(7, 0, 0, "the running daemon", is_kept_here=True), "kept here, at 0 other nodes, seq 7", None),
        (Stored(7, 0, 0, "a node of its own"), "stored at 0 other nodes, seq 7", None),
        (Stored(7, 3, 1, "", is_kept_here=True), "stored at 1 of 3 nodes, seq 7", None),
        (Stored(7, 1, 1, ""), "stored at 1 of 1 nodes, seq 7", "only 1 other node keeps this zone, 20 are wanted"),
        (Stored(7, 4, 4, ""), "stored at 4 of 4 nodes, seq 7", "only 4 other nodes keep this zone, 20 are wanted"),
        (Stored(7, 5, 5, ""), "stored at 5 of 5 nodes, seq 7", None),
    ],
)
def test_what_is_said_of_a_publication(done: Stored, words: str, warning: str | None) -> None:
    assert (str(done), done.warning) == (words, warning)


@pytest.mark.parametrize(
    ("done", "what", "hint"),
    [
        (Stored(1, 0, 0, "", is_kept_here=True), "no other node is known", "--bootstrap ADDR:PORT, or wait"),
        (Stored(1, 0, 0, ""), "no other node is known", "name one with --bootstrap ADDR:PORT"),
        (
            Stored(1, 3, 2, "", is_kept_here=True),
            "only 2 of 3 other nodes hold the zone; 3 are needed",
            "goes on trying",
        ),
        (Stored(1, 2, 1, ""), "only 1 of 2 other nodes hold the zone; more than half are needed", "publish again"),
        (Stored(1, 3, 3, read_back=1, is_read_back=False), "said that they store the zone, and only 1 of 3", "again"),
        (Stored(1, 20, 9, "", {"rationed": 11}, True), "only 9 of 20 other nodes", "the daemon goes on trying"),
        (Stored(1, 20, 9, "", {"rationed": 11}), "only 9 of 20 other nodes", "few new zones at a time"),
        (Stored(1, 20, 0, "", {"302": 20}), "no other node holds", "another publication of this key"),
        (Stored(1, 20, 0, "", {"302": 20}, ahead=9), "no other node holds", "publish again in some hours"),
    ],
)
def test_a_publication_that_failed_says_what_to_do(done: Stored, what: str, hint: str) -> None:
    trouble = done.failure("KEY")
    assert what in str(trouble)
    assert hint in (trouble.hint or "")


# What was made elsewhere


def test_an_item_that_was_not_made_here_is_shown_and_refused() -> None:
    nodes = Nodes([item(LATER, WWW, MAIL, TXT)] * 3)
    memory = Made()
    memory.stored(OLD)
    with pytest.raises(Unavailable) as caught:
        published(nodes, WWW, FTP, memory=memory, force_command="p2pdns publish --force -k a.key a.zone")
    said = f"{caught.value} {caught.value.hint}"
    assert f"seq {LATER} of 2026-09-21 14:12:50 UTC was not made by this key file; 3 RRsets differ" in said
    assert "p2pdns publish --force -k a.key a.zone goes above it" in said
    assert nodes.puts == []


def test_force_goes_above_it_and_the_next_one_needs_no_force() -> None:
    nodes, memory = Nodes([item(LATER, WWW, MAIL)] * 3), Made()
    assert published(nodes, WWW, FTP, memory=memory, is_forced=True).is_done
    assert names(nodes.held[0]) == {"www", "ftp"}
    nodes.unix += 5
    assert published(nodes, WWW, TXT, memory=memory).is_done


def test_the_first_publication_of_a_key_and_the_same_content_are_no_conflict() -> None:
    assert published(Nodes([None] * 3), WWW, memory=Made()).is_done
    nodes = Nodes([item(LATER, WWW)] * 3)
    done = published(nodes, WWW, memory=Made())
    assert done.is_done
    assert done.seq > LATER


def test_what_a_kill_has_left_unfinished_is_known_as_made_here() -> None:
    nodes, memory = Nodes([OLD] * 3), Made()
    memory.stored(OLD)
    memory.signed(item(LATER, WWW, FTP))
    nodes.held[0] = item(LATER, WWW, FTP)
    assert published(nodes, WWW, TXT, memory=memory).is_done
    nodes.held = [item(seq_at(NOW) + 7, MAIL)] * 3
    with pytest.raises(Unavailable, match="was not made by this key file"):
        published(nodes, WWW, memory=memory)


def test_what_came_from_elsewhere_and_is_older_than_ours_is_no_conflict() -> None:
    memory = Made()
    memory.stored(item(LATER, WWW, FTP))
    # The newer one was lost, and a node that slept has the older one.
    assert published(Nodes([OLD] * 3), WWW, memory=memory).is_done


def test_who_approves_sees_what_is_replaced_and_can_stop_it() -> None:
    plans: list[Plan] = []

    def stop(plan: Plan) -> None:
        plans.append(plan)
        raise Unavailable("no")

    nodes = Nodes([item(LATER, WWW, FTP, MAIL)] * 3)
    with pytest.raises(Unavailable):
        published(nodes, "www 300 A 192.0.2.9", TXT, approve=stop)
    assert nodes.puts == []
    (plan,) = plans
    assert plan.current is not None
    assert str(plan.changes) == "1 RRset added, 2 RRsets removed, 1 RRset changed"
    assert (plan.changes.added, plan.changes.changed) == (("@ TXT",), ("www A",))
    assert plan.changes.is_mostly_gone


# Those who come in between


def test_another_that_came_after_the_look_up_keeps_its_change_beside_ours() -> None:
    nodes = Nodes([OLD] * 20)
    theirs = item(LATER, WWW, MAIL)
    nodes.before_put.append(lambda: nodes.everywhere(theirs))
    # A node names what it holds when it is asked, so only a refusal by cas tells.
    done = published(nodes, WWW, FTP, memory=_copy(OLD))
    assert done.is_done
    assert done.rebased == (LATER,)
    assert names(nodes.held[0]) == {"www", "ftp", "mail"}


def test_one_refusal_alone_is_reason_enough_to_look_again() -> None:
    nodes = Nodes([OLD] * 20)
    theirs = item(LATER, WWW, MAIL)

    def at_one() -> None:
        nodes.held[7] = theirs

    nodes.before_put.append(at_one)
    done = published(nodes, WWW, FTP)
    assert (done.is_done, done.rebased, len(nodes.puts)) == (True, (LATER,), 2)
    assert names(nodes.held[0]) == {"www", "ftp", "mail"}
    assert len(nodes.pauses) == 1


def test_another_that_came_between_look_up_and_put_is_not_replaced_unseen() -> None:
    nodes = Nodes([OLD] * 20)
    theirs = item(LATER, WWW, MAIL)
    done = published(nodes, WWW, FTP, approve=lambda plan: nodes.everywhere(theirs))
    assert (done.is_done, done.rebased) == (True, (LATER,))
    assert names(nodes.held[0]) == {"www", "ftp", "mail"}


def test_a_refusal_of_a_node_that_then_falls_silent_is_reason_enough() -> None:
    nodes = Nodes([OLD] * 20)
    theirs = item(LATER, WWW, MAIL)

    def at_one() -> None:
        nodes.held[7] = theirs

    async def awake(seconds: float) -> None:
        nodes.silent.clear()

    nodes.before_put.append(at_one)
    nodes.before_read.append(lambda: nodes.silent.add(7))
    nodes.wait = awake  # type: ignore[method-assign]
    done = published(nodes, WWW, FTP)
    assert (done.is_done, done.rebased) == (True, (LATER,))
    assert names(nodes.held[0]) == {"www", "ftp", "mail"}


@pytest.mark.parametrize(("liar_count", "is_done"), [(1, True), (9, True), (10, False)])
def test_a_node_that_refuses_everything_costs_one_look_and_stops_nobody(liar_count: int, is_done: bool) -> None:
    nodes = Nodes([OLD] * (20 - liar_count) + [None] * liar_count, liars=set(range(20 - liar_count, 20)))
    if is_done:
        done = published(nodes, WWW, FTP)
        assert (done.is_done, done.stored, len(nodes.puts)) == (True, 20 - liar_count, 1)
        return
    with pytest.raises(Unavailable, match="came in between"):
        published(nodes, WWW, FTP)


def test_of_several_in_between_the_one_that_most_hold_is_gone_above() -> None:
    nodes = Nodes([OLD] * 20)
    most, newest = item(LATER, WWW, MAIL), item(LATER + 1, WWW, TXT)

    def come() -> None:
        nodes.held[:] = [most] * 15 + [newest] * 5

    nodes.before_put.append(come)
    done = published(nodes, WWW, FTP)
    # Who has the newest is below half, and sees that.
    assert done.is_done
    assert names(nodes.held[0]) == {"www", "ftp", "mail"}


@pytest.mark.parametrize("after_s", [-1.0, 1.0])
def test_an_item_below_or_above_ours_in_the_reading_back_is_reason_enough(after_s: float) -> None:
    nodes = Nodes([OLD] * 20)
    theirs = item(seq_at(NOW + after_s), WWW, MAIL)

    def at_one() -> None:
        nodes.held[7] = theirs

    nodes.before_read.append(at_one)
    done = published(nodes, WWW, FTP)
    assert (done.is_done, done.rebased) == (True, (theirs.seq,))
    assert done.seq > theirs.seq
    assert {frozenset(names(one)) for one in nodes.held} == {frozenset({"www", "ftp", "mail"})}


def test_where_both_change_one_rrset_the_winner_stands_again_above_ours() -> None:
    nodes = Nodes([OLD] * 20)
    theirs = item(LATER, "www 300 A 192.0.2.7", MAIL)
    memory = Made()
    memory.stored(OLD)

    def at_most() -> None:
        nodes.held[:12] = [theirs] * 12

    nodes.before_put.append(at_most)
    with pytest.raises(Unavailable) as caught:
        published(nodes, "www 300 A 192.0.2.8", memory=memory)
    assert "both publications change www A" in str(caught.value)
    assert f"seq {LATER} was there first, and stands again as seq " in str(caught.value)
    assert {one and one.value for one in nodes.held} == {theirs.value}
    assert len({one and one.seq for one in nodes.held}) == 1
    # It is not ours, whoever has signed it.
    nodes.unix += 60
    with pytest.raises(Unavailable, match="was not made by this key file"):
        published(nodes, "www 300 A 192.0.2.8", memory=memory)


def test_where_both_change_one_rrset_and_most_hold_ours_the_other_gives_way() -> None:
    nodes = Nodes([OLD] * 20)
    theirs = item(seq_at(NOW + 1), "www 300 A 192.0.2.7", MAIL)

    def at_some() -> None:
        nodes.held[:5] = [theirs] * 5

    nodes.before_read.append(at_some)
    done = published(nodes, "www 300 A 192.0.2.8")
    assert (done.is_done, done.stored, done.rebased) == (True, 20, ())
    assert done.seq > theirs.seq
    assert {one and one.seq for one in nodes.held} == {done.seq}


def test_where_the_winner_cannot_be_put_again_the_seq_that_hides_it_is_named() -> None:
    nodes = Nodes([OLD] * 20)
    theirs = item(LATER, "www 300 A 192.0.2.7")

    def at_most() -> None:
        nodes.held[:12] = [theirs] * 12

    nodes.before_put += [at_most, lambda: nodes.silent.update(range(11))]
    with pytest.raises(Unavailable, match=rf"seq \d+ of this publication may hide seq {LATER}"):
        published(nodes, "www 300 A 192.0.2.8")


def test_another_who_has_our_change_too_ends_it() -> None:
    nodes = Nodes([OLD] * 20)
    theirs, both = item(LATER, WWW, MAIL), item(seq_at(NOW + 1), WWW, FTP, MAIL)

    def at_some() -> None:
        nodes.held[:5] = [theirs] * 5

    async def merged_meanwhile(seconds: float) -> None:
        nodes.everywhere(both)

    nodes.before_put.append(at_some)
    nodes.wait = merged_meanwhile  # type: ignore[method-assign]
    done = published(nodes, WWW, FTP)
    assert (done.is_done, done.seq, len(nodes.puts)) == (True, both.seq, 1)


def test_an_old_item_of_a_node_that_slept_is_nobodys_change() -> None:
    asleep = item(OLD.seq - 9, MAIL)
    nodes = Nodes([OLD] * 20)

    def wakes() -> None:
        nodes.held[3] = asleep

    nodes.before_put.append(wakes)
    done = published(nodes, WWW, FTP)
    assert (done.is_done, done.rebased) == (True, ())
    assert names(nodes.held[0]) == {"www", "ftp"}


def test_a_race_without_end_ends_after_some_rounds_with_pauses_that_grow() -> None:
    nodes = Nodes([OLD] * 20)

    def another() -> None:
        nodes.unix += 1
        nodes.everywhere(item(seq_at(nodes.unix), WWW, MAIL, f"x{int(nodes.unix)} 300 A 192.0.2.1"))

    nodes.before_put += [another] * ROUNDS_MAX
    with pytest.raises(Unavailable, match=f"came in between {ROUNDS_MAX} times"):
        published(nodes, WWW, FTP)
    assert len(nodes.puts) == ROUNDS_MAX
    assert nodes.pauses == sorted(nodes.pauses)
    assert nodes.pauses[0] < nodes.pauses[-1]


def test_the_stages_are_told_in_order() -> None:
    told: list[str] = []
    asyncio.run(publication(Nodes([OLD] * 3), zone(WWW), None, told).run())
    assert told == ["looking up"]
    assert str(PublishStage("rebase", {"seq": 7})) == "another publication came in between, going above seq 7"
    assert PublishStage.of_json(PublishStage("put", {"sent": 3, "stored": 2}).to_json()) == PublishStage(
        "put", {"sent": 3, "stored": 2}
    )


def test_one_from_the_future_hides_nothing_and_is_named() -> None:
    ahead = item(seq_at(NOW + 30 * HOUR), MAIL)
    nodes = Nodes([OLD, ahead, OLD])
    done = published(nodes, WWW, memory=Made(), is_forced=True)
    assert done.ahead == ahead.seq
    assert done.seq == seq_at(NOW)


@given(st.lists(st.sampled_from(["ours", "theirs", "wait"]), max_size=12), st.integers(3, 20))
def test_whatever_the_order_of_two_publishers_no_update_is_stored_and_lost(order: list[str], count: int) -> None:
    nodes = Nodes([OLD] * count)
    others = Nodes([])
    others.held = nodes.held

    async def both() -> tuple[Stored | BaseException, Stored | BaseException]:
        turns = iter(order)

        async def pause(seconds: float) -> None:
            for _ in range(1 + int(seconds * 20) if next(turns, "ours") == "wait" else 3):
                await asyncio.sleep(0)

        nodes.wait = pause  # type: ignore[method-assign]

        async def later() -> Stored:
            for _ in range(sum(4 for turn in order if turn == "theirs")):
                await asyncio.sleep(0)
            return await publication(others, zone(WWW, MAIL), _copy(OLD)).run()

        return await asyncio.gather(
            publication(nodes, zone(WWW, FTP), _copy(OLD)).run(), later(), return_exceptions=True
        )

    ours, theirs = asyncio.run(both())
    newest = max((one for one in nodes.held if one is not None), key=lambda one: (one.seq, one.value))
    for done, name in ((ours, "ftp"), (theirs, "mail")):
        assert isinstance(done, Stored | Unavailable), done
        assert isinstance(done, Unavailable) or not done.is_done or name in names(newest)
    assert "www" in names(newest)


def _copy(stored: MutableItem) -> Memory:
    memory = Made()
    memory.stored(stored)
    return memory


# Own editions that come to light late, and changes of others that were merged


def test_an_own_edition_that_comes_to_light_after_the_put_is_nobodys_change() -> None:
    # It had reached one node when its publication was killed, and the file has no "ftp" since.
    missed = item(LATER, WWW, FTP)
    nodes, memory = Nodes([OLD] * 20), Made()
    memory.stored(OLD)
    memory.signed(missed)

    def wakes() -> None:
        nodes.held[3] = missed

    nodes.before_read.append(wakes)
    done = published(nodes, WWW, TXT, memory=memory)
    assert (done.is_done, done.rebased) == (True, ())
    assert {frozenset(names(one)) for one in nodes.held if one != missed} == {frozenset({"www", "@"})}
    assert memory.origin_of(nodes.held[0] or OLD) is Origin.HERE


def test_without_a_memory_nobody_knows_that_it_is_ones_own() -> None:
    missed = item(LATER, WWW, FTP)
    nodes = Nodes([OLD] * 20)

    def wakes() -> None:
        nodes.held[3] = missed

    nodes.before_read.append(wakes)
    done = published(nodes, WWW, TXT)
    assert (done.is_done, done.rebased) == (True, (LATER,))
    assert "ftp" in names(nodes.held[0])


def test_an_own_edition_of_a_publication_that_runs_beside_this_one_is_a_race() -> None:
    # Two commands with one key file at a time: neither may be reported stored and be lost.
    beside = item(seq_at(NOW + 1), WWW, FTP)
    nodes, memory = Nodes([OLD] * 20), Made()
    memory.stored(OLD)

    def comes() -> None:
        memory.signed(beside)
        nodes.held[3] = beside

    nodes.before_read.append(comes)
    done = published(nodes, WWW, TXT, memory=memory)
    assert (done.is_done, done.rebased) == (True, (beside.seq,))
    assert {"www", "ftp", "@"} == names(nodes.held[0])


def test_what_another_has_changed_above_an_own_edition_that_was_missed_is_merged_without_that_edition() -> None:
    missed, theirs = item(LATER, WWW, FTP), item(LATER + 5, WWW, FTP, MAIL)
    nodes, memory = Nodes([OLD] * 20), Made()
    memory.stored(OLD)
    memory.signed(missed)

    def come() -> None:
        nodes.held[3], nodes.held[4] = missed, theirs

    nodes.before_read.append(come)
    done = published(nodes, WWW, TXT, memory=memory)
    assert (done.is_done, done.rebased) == (True, (theirs.seq,))
    assert {frozenset(names(one)) for one in nodes.held} == {frozenset({"www", "mail", "@"})}


def test_a_change_is_made_on_top_of_an_own_edition_that_was_missed() -> None:
    class More:
        """One record more than whatever is published."""

        def value_above(self, current: Found | None) -> bytes:
            """Return the zone of an item with a record more."""
            return zone(WWW, FTP, TXT) if "ftp" in names(current) else zone(WWW, TXT)

        def value_again(self, missed: Found) -> bytes:
            """Return the zone of an own edition with a record more."""
            return self.value_above(missed)

    missed = item(LATER, WWW, FTP)
    nodes, memory = Nodes([OLD] * 20), Made()
    memory.stored(OLD)
    memory.signed(missed)

    def wakes() -> None:
        nodes.held[3] = missed

    nodes.before_read.append(wakes)
    done = asyncio.run(publication(nodes, More(), memory).run())
    assert (done.is_done, done.rebased) == (True, ())
    assert names(nodes.held[0]) == {"www", "ftp", "@"}
    assert memory.origin_of(nodes.held[0] or OLD) is Origin.HERE


def merged_nodes() -> tuple[Nodes, Made]:
    """Return nodes that hold our change (ftp) and another publisher's (mail), and what was made here."""
    nodes, memory = Nodes([OLD] * 20), Made()
    memory.stored(OLD)
    nodes.before_put.append(lambda: nodes.everywhere(item(LATER, WWW, MAIL)))
    assert published(nodes, WWW, FTP, memory=memory, keeps_merged=True).rebased == (LATER,)
    nodes.unix += 60
    return nodes, memory


def test_what_was_merged_is_not_taken_out_by_the_next_publication_unless_it_is_forced() -> None:
    nodes, memory = merged_nodes()
    with pytest.raises(Unavailable) as caught:
        published(nodes, WWW, FTP, TXT, memory=memory, keeps_merged=True, force_command="p2pdns publish --force X")
    said = f"{caught.value} {caught.value.hint}"
    assert "has what another publisher changed, and this one would take out or change mail A" in said
    assert "add that to the zone file, or p2pdns publish --force X goes above it" in said
    assert names(nodes.held[0]) == {"www", "ftp", "mail"}
    assert published(nodes, WWW, FTP, TXT, memory=memory, keeps_merged=True, is_forced=True).is_done
    assert names(nodes.held[0]) == {"www", "ftp", "@"}
    # From then on it is as any other.
    nodes.unix += 60
    assert published(nodes, WWW, memory=memory, keeps_merged=True).is_done


def test_a_file_that_has_what_was_merged_is_published_and_is_free_afterwards() -> None:
    nodes, memory = merged_nodes()
    assert published(nodes, WWW, FTP, MAIL, TXT, memory=memory, keeps_merged=True).is_done
    nodes.unix += 60
    assert published(nodes, WWW, memory=memory, keeps_merged=True).is_done
    assert names(nodes.held[0]) == {"www"}


def test_another_serial_alone_takes_nothing_out_of_what_was_merged() -> None:
    soa = "@ 300 SOA 0000{:08x}" + 4 * "00000e10"
    nodes, memory = Nodes([item(LATER, soa.format(1), WWW)] * 3), Made()
    memory.signed(item(LATER, soa.format(1), WWW), is_merged=True)
    assert published(nodes, soa.format(2), WWW, memory=memory, keeps_merged=True).is_done


def test_a_publisher_whose_changes_do_not_come_from_a_file_goes_on_after_a_merge() -> None:
    # The signer: nobody is there who could put the records of the other into its journal by hand.
    nodes, memory = merged_nodes()
    assert published(nodes, WWW, FTP, TXT, memory=memory).is_done


def test_a_merged_edition_that_comes_to_light_late_keeps_what_another_has_changed_in_it() -> None:
    merged = item(LATER, WWW, FTP, MAIL)
    nodes, memory = Nodes([item(LATER - 1, WWW, FTP)] * 20), Made()
    memory.signed(item(LATER - 1, WWW, FTP))
    memory.signed(merged, is_merged=True)

    def wakes() -> None:
        nodes.held[3] = merged

    nodes.before_read.append(wakes)
    done = published(nodes, WWW, TXT, memory=memory, keeps_merged=True)
    assert (done.is_done, done.rebased) == (True, (LATER,))
    assert names(nodes.held[0]) == {"www", "mail", "@"}


def test_who_approves_is_told_what_force_would_go_above() -> None:
    plans: list[Plan] = []
    nodes, memory = merged_nodes()
    assert published(nodes, WWW, memory=memory, keeps_merged=True, is_forced=True, approve=plans.append).is_done
    nodes.unix += 60
    assert published(nodes, WWW, FTP, memory=memory, keeps_merged=True, approve=plans.append).is_done
    assert [plan.is_made_here for plan in plans] == [False, True]
    assert "has what another publisher changed" in (plans[0].trouble or "")
    assert plans[1].trouble is None


def test_without_a_memory_nothing_is_told() -> None:
    assert NoMemory().origin_of(OLD) is Origin.UNTOLD


# A zone that is taken down


def unpublished(nodes: Nodes, memory: Memory, **rules: Any) -> Stored:
    """Publish the empty zone."""
    return asyncio.run(publication(nodes, EmptyZone(APEX), memory, keeps_merged=True, verb="unpublish", **rules).run())


def test_a_zone_that_was_not_made_here_is_taken_down_by_force_alone() -> None:
    nodes = Nodes([item(LATER, WWW, MAIL)] * 3)
    with pytest.raises(Unavailable, match="was not made by this key file; 2 RRsets differ"):
        unpublished(nodes, Made())
    assert unpublished(nodes, Made(), is_forced=True).is_done
    assert names(nodes.held[0]) == set()


def test_what_comes_in_between_is_not_taken_down_unseen_and_stands_again() -> None:
    nodes = Nodes([OLD] * 20)
    theirs = item(LATER, WWW, MAIL)
    nodes.before_put.append(lambda: nodes.everywhere(theirs))
    with pytest.raises(
        Unavailable, match=f"another publication came in between; seq {LATER} was there first"
    ) as caught:
        unpublished(nodes, _copy(OLD))
    assert "unpublish again when you have seen it" in str(caught.value.hint)
    assert {one and one.value for one in nodes.held} == {theirs.value}


def test_two_who_take_a_zone_down_are_no_conflict() -> None:
    nodes = Nodes([OLD] * 20)
    nodes.before_put.append(lambda: nodes.everywhere(item(LATER)))
    assert unpublished(nodes, _copy(OLD)).is_done
    assert names(nodes.held[0]) == set()


def test_a_zone_that_could_not_be_taken_down_is_to_be_unpublished_again_and_not_published() -> None:
    for done in (Stored(1, 20, 9), Stored(1, 20, 0, refused={"302": 20}), Stored(1, 20, 9, refused={"rationed": 11})):
        hint = done.failure("KEY", "unpublish").hint or ""
        assert "unpublish again" in hint
        assert " publish again" not in hint
