"""Each rule for every world, shown a fault that is planted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pdns.clock import boot_now
from p2pdns.dht.confirmation import Confirmation
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import GetOutcome, Peer, Wanted
from p2pdns.dht.routing.table import K
from p2pdns.dht.storage import BYTES_MAX, ITEMS_MAX
from p2pdns.dht.stored import StoredItem
from p2pdns.dns.message import RR, Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Rcode, Type
from p2pdns.items.item import ImmutableItem, Item, MutableItem, Present, SignatureMemo, mutable_target
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.packet import compose_packet, zone_of
from p2pdns.limits import QUESTION_LOOKUPS_MAX, QUESTION_RPCS_MAX, QUESTION_S_MAX
from p2pdns.resolver.steps import Found, Missing, NotFound, Resolved
from p2pdns.sim.checkers import (
    DEPTH_FACTOR,
    DEPTH_SPARE,
    Beginning,
    Checkers,
    age_findings,
    answer_findings,
    get_findings,
    identity_findings,
    item_findings,
    store_size_findings,
    stored_findings,
    table_findings,
)
from p2pdns.sim.observe import AnswerGiven, Fetched

HOST = "11.0.0.1"
SECRET = SecretKey.generate(bytes(range(32)))
KEY = SECRET.zone_key
ZONE_ID = ZoneId.of_key(KEY)
OTHER = SecretKey.generate(bytes(32))
UNIX = 1_800_000_000
SEQ = UNIX * 1_000_000
ITEM = MutableItem.signed(SECRET, SEQ, compose_packet((), KEY.apex))
WANTED = Wanted(mutable_target(KEY.raw), KEY, present=Present(float(UNIX)))
OUTCOME = GetOutcome(None, Verdict.COMPLETE, 20, 0, 20, 20, 0.1, 0.5, 1_000, 1_000, 4)
WWW = KEY.apex.child(b"www")
QUESTION = Question(WWW, Type.A)


def item(seq: int) -> MutableItem:
    """Return an edition of the zone."""
    return MutableItem.signed(SECRET, seq, compose_packet((), KEY.apex))


def found(
    edition: MutableItem = ITEM, lookup: int = 1, notes: tuple[str, ...] = (), confirmed_at: float = float("-inf")
) -> Found:
    """Return an edition as the overlay gives it to a question."""
    return Found(edition, zone_of(edition), True, confirmed_at, True, lookup=lookup, notes=notes)


def given(
    *fetched: Fetched, rcode: int = Rcode.NOERROR, owner: Name | None = WWW, took_s: float = 0.1, rpc_count: int = 20
) -> AnswerGiven:
    """Return an answer with a record of an owner, or with none."""
    answer = () if owner is None else (RR(owner, Type.A, Class.IN, 60, bytes(4)),)
    resolved = Resolved(
        question=QUESTION,
        rcode=rcode,
        is_authoritative=True,
        answer=answer,
        authority=(),
        additional=(),
        ede=(),
        ad_eligible=False,
        provisional=False,
        failure=False,
        cacheable=True,
        made_at=0.0,
        expiry=60.0,
        stale_until=60.0,
        tags=(),
        trace=(),
        rpc_count=rpc_count,
    )
    return AnswerGiven(QUESTION, resolved, fetched or (Fetched(ZONE_ID, found(), SEQ),), took_s)


def settled(seq: int, *answered: str) -> GetOutcome:
    """Return a complete get that returned an edition, with the hosts that answered."""
    edition, confirmation = item(seq), Confirmation()
    confirmation.item_returned(("11.0.0.9", 1), edition)
    return replace(OUTCOME, item=edition, confirmation=confirmation, answered=tuple((one, 1) for one in answered))


def checkers(held: Beginning | None = None, left: Beginning | None = None) -> Checkers:
    """Return new checkers of a world in which the holders have something; `left` of it lasts, all by default."""
    return Checkers(lambda host, wanted: held or Beginning(), lambda host, began: left or began)


class Credulous(SignatureMemo):
    """A memory that takes every signature for one that it has verified: the fault that lets a forged item through."""

    def has(self, digest: bytes) -> bool:
        """Return that it was verified."""
        return True


FORGED = MutableItem.verified(
    KEY, SEQ, ITEM.value, MutableItem.signed(SECRET, SEQ + 1, b"").signature, b"", Credulous()
)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (ITEM, ""),
        (FORGED, "signature does not hold"),
        (MutableItem.signed(OTHER, SEQ, b""), "another target"),
        (MutableItem.signed(OTHER, SEQ, b""), "another key"),
        (MutableItem.signed(SECRET, SEQ, b"", b"salt"), "another key or salt"),
        (ImmutableItem(b"value"), "immutable"),
    ],
    ids=["good", "forged", "target", "key", "salt", "immutable"],
)
def test_an_item_that_is_not_the_one_wanted_or_not_signed_is_a_finding(shown: Item, text: str) -> None:
    seen = checkers()
    seen.item_shown(HOST, WANTED, shown)
    assert any(text in one for one in seen.findings) is bool(text)
    assert bool(seen.findings) is bool(text)
    assert list(item_findings(WANTED, ITEM)) == []


def test_a_get_beyond_its_budget_is_a_finding() -> None:
    assert list(get_findings(WANTED, OUTCOME)) == []
    dear = replace(OUTCOME, rpc_count=QUESTION_RPCS_MAX + 1)
    assert list(get_findings(WANTED, dear)) == [f"a look-up sent {QUESTION_RPCS_MAX + 1} RPCs, 250 allowed"]
    assert list(get_findings(replace(WANTED, rpc_max=19), OUTCOME)) == ["a look-up sent 20 RPCs, 19 allowed"]


def test_items_that_do_not_verify_are_a_finding_where_nobody_lies() -> None:
    dropped = replace(OUTCOME, dropped={"signature-wrong": 1})
    assert len(list(get_findings(WANTED, dropped))) == 1
    assert list(get_findings(WANTED, dropped, has_liars=True)) == []


HOLDERS = [f"12.0.0.{number}" for number in range(K)]


@pytest.mark.parametrize(
    ("newer", "answered", "is_finding"),
    [
        ([], HOLDERS, False),
        (HOLDERS[:1], HOLDERS[1:], False),
        (HOLDERS[:1], HOLDERS, True),
        (HOLDERS[:11], HOLDERS[11:], True),
        (HOLDERS[:10], HOLDERS[10:], False),
    ],
    ids=["nobody has a newer one", "one silent holder", "one that answered", "the majority, silent", "half, silent"],
)
def test_what_is_settled_is_no_older_than_what_the_holders_have(
    newer: list[str], answered: list[str], is_finding: bool
) -> None:
    seen = checkers(Beginning({host: SEQ + (host in newer) for host in HOLDERS}))
    seen.get_ended(HOST, WANTED, seen.get_begins(HOST, WANTED), settled(SEQ, *answered))
    assert bool(seen.findings) is is_finding


def test_a_majority_that_was_cut_off_during_a_get_is_not_what_it_overlooked_but_a_holder_that_answered_is() -> None:
    beginning = Beginning({host: SEQ + (host in HOLDERS[:11]) for host in HOLDERS})
    # One of the eleven is out of reach at the end, and ten are no majority.
    ended = replace(beginning, gone=(HOLDERS[0],))
    for answered, is_finding in ((HOLDERS[11:], False), (HOLDERS[:1], True)):
        seen = checkers(beginning, ended)
        seen.get_ended(HOST, WANTED, seen.get_begins(HOST, WANTED), settled(SEQ, *answered))
        assert bool(seen.findings) is is_finding


def test_nothing_is_settled_by_a_get_that_is_not_complete_and_an_item_from_the_future_makes_nothing_old() -> None:
    newer = Beginning(dict.fromkeys(HOLDERS, SEQ + 1))
    outcome = settled(SEQ, *HOLDERS)
    assert list(age_findings(WANTED, newer, outcome))
    assert not list(age_findings(WANTED, newer, replace(outcome, verdict=Verdict.DEADLINE)))
    ahead = Beginning(dict.fromkeys(HOLDERS, SEQ + 2 * 86_400 * 1_000_000))
    assert not list(age_findings(WANTED, ahead, outcome))


def test_a_refresh_that_confirms_a_seq_settles_it() -> None:
    confirmation = Confirmation()
    confirmation.item_returned(("11.0.0.9", 1), ITEM)
    outcome = replace(OUTCOME, confirmation=confirmation, answered=((HOLDERS[0], 1),))
    wanted = replace(WANTED, known_seq=SEQ)
    assert list(age_findings(wanted, Beginning({HOLDERS[0]: SEQ + 1}), outcome))
    assert not list(age_findings(wanted, Beginning({HOLDERS[0]: SEQ}), outcome))


LOOKUPS = [Fetched(ZONE_ID, NotFound(Missing.ABSENT, lookup=number), SEQ) for number in range(1, 8)]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (given(), ""),
        (given(took_s=QUESTION_S_MAX + 0.1), "4 s allowed"),
        (given(rpc_count=QUESTION_RPCS_MAX + 1), "RPCs"),
        (given(Fetched(ZONE_ID, found(), SEQ), *LOOKUPS[:QUESTION_LOOKUPS_MAX]), ""),
        (given(Fetched(ZONE_ID, found(), SEQ), *LOOKUPS), "7 look-ups"),
        (given(owner=OTHER.zone_key.apex), "in none of its zones"),
        (given(Fetched(ZONE_ID, found(), None)), "before it was its mark"),
        (given(Fetched(ZONE_ID, found(), SEQ - 1)), "before it was its mark"),
        (given(Fetched(ZONE_ID, found(notes=("the disk refuses",)), None)), ""),
    ],
    ids=["good", "late", "dear", "six look-ups", "seven", "foreign", "no mark", "an older mark", "with a note"],
)
def test_an_answer_within_its_limits_of_its_own_zones_and_with_its_mark_is_no_finding(
    answer: AnswerGiven, text: str
) -> None:
    found_out = list(answer_findings(answer))
    assert any(text in one for one in found_out) is bool(text)
    assert bool(found_out) is bool(text)


def test_a_reader_that_is_shown_less_than_before_is_a_finding_unless_it_has_lost_its_disk() -> None:
    newer, older = Fetched(ZONE_ID, found(item(SEQ + 1)), SEQ + 1), Fetched(ZONE_ID, found(), SEQ + 1)
    seen = checkers()
    for one in (newer, newer):
        seen.question_ended(HOST, given(one))
    seen.question_ended("11.0.0.2", given(older))
    assert seen.findings == []
    seen.question_ended(HOST, given(older))
    assert seen.findings == [f"{HOST}: seq {SEQ} of {ZONE_ID} was shown after {SEQ + 1}"]
    seen.findings.clear()
    seen.state_lost(HOST)
    seen.question_ended(HOST, given(older))
    assert seen.findings == []


def test_an_item_that_was_shown_with_a_note_is_no_mark() -> None:
    seen = checkers()
    ahead = found(item(SEQ + 1), notes=("from the future",))
    seen.question_ended(HOST, given(Fetched(ZONE_ID, ahead, None)))
    seen.question_ended(HOST, given())
    assert seen.findings == []


@pytest.mark.parametrize("rcode", [Rcode.NXDOMAIN, Rcode.NOERROR])
def test_a_denial_without_a_complete_look_up_of_its_zone_is_a_finding(rcode: int) -> None:
    denial = given(rcode=rcode, owner=None)
    seen = checkers()
    seen.question_ended(HOST, denial)
    assert len(seen.findings) == 1
    seen.findings.clear()
    seen.get_ended(HOST, WANTED, Beginning(), settled(SEQ))
    seen.question_ended(HOST, denial)
    assert seen.findings == []
    seen.question_ended(HOST, given(Fetched(ZONE_ID, NotFound(Missing.ABSENT), None), rcode=rcode, owner=None))
    assert seen.findings == [f"{HOST}: {WWW} was denied without a verified zone"]


def test_a_failure_denies_nothing() -> None:
    seen = checkers()
    seen.question_ended(HOST, given(rcode=Rcode.SERVFAIL, owner=None))
    assert seen.findings == []


def test_a_stored_item_that_does_not_verify_is_a_finding() -> None:
    good = StoredItem(ITEM.target, b"%d:%s" % (len(ITEM.value), ITEM.value), KEY.raw, SEQ, ITEM.signature)
    assert list(stored_findings(good)) == []
    assert list(stored_findings(replace(good, seq=SEQ + 1)))
    value = ImmutableItem(b"value")
    assert list(stored_findings(StoredItem(value.target, b"5:value", item=value))) == []
    assert list(stored_findings(StoredItem(ITEM.target, b"5:value", item=value)))
    seen = checkers()
    for stored in (good, replace(good, seq=SEQ + 1)):
        seen.stored(HOST, stored)
    assert len(seen.findings) == 1, "one that differs in a byte is checked too"


def peers(count: int, first: int, last: int = 19) -> list[Peer]:
    """Return contacts whose ids differ from zero in one byte at a place and in another one farther on."""
    ids = [
        bytes(first) + b"\x80" + bytes(last - first - 1) + bytes([number]) + bytes(19 - last) for number in range(count)
    ]
    return [Peer(one, (f"12.0.0.{number}", 1), 0.1, 1.0, 1.0, 0, True) for number, one in enumerate(ids)]


def test_a_table_with_too_many_contacts_in_a_range_or_too_deep_a_range_is_a_finding() -> None:
    own = bytes(20)
    assert list(table_findings(own, peers(K, 0), 1_000)) == []
    assert len(list(table_findings(own, peers(K + 1, 0), 1_000))) == 1
    depth = DEPTH_SPARE + DEPTH_FACTOR
    assert depth < 16, "the range of the third byte is too deep for a world of two"
    assert list(table_findings(own, peers(1, 1), 2)) == []
    assert len(list(table_findings(own, peers(1, 2), 2))) == 1
    twice = [peers(2, 0)[0], peers(2, 0)[1]._replace(address=("12.0.0.0", 1))]
    assert len(list(table_findings(own, twice, 1_000))) == 1


def test_the_nearest_of_all_pairs_of_a_world_is_no_finding() -> None:
    # A thousand machines make half a million pairs: one world in ten has a pair that shares 22 bits or more.
    near = Peer(bytes(2) + b"\x01" + bytes(17), ("11.0.0.1", 1), 0.1, 0.0, 0.0, 0, True)
    assert list(table_findings(bytes(20), [near], 1_000)) == []
    assert list(table_findings(bytes(20), [near], 100)) == []
    assert len(list(table_findings(bytes(20), [near], 50))) == 1


def test_an_id_that_bep_42_forbids_is_a_finding_once_the_node_knows_where_it_is() -> None:
    assert list(identity_findings("11.0.0.1", bytes(20), is_settled=True))
    assert not list(identity_findings("11.0.0.1", bytes(20), is_settled=False))
    assert not list(identity_findings("10.0.0.1", bytes(20), is_settled=True))


@pytest.mark.parametrize(("count", "size"), [(ITEMS_MAX + 1, 0), (0, BYTES_MAX + 1)])
def test_a_store_beyond_its_bounds_is_a_finding(count: int, size: int) -> None:
    assert list(store_size_findings(count, size))
    assert not list(store_size_findings(ITEMS_MAX, BYTES_MAX))


def test_a_look_up_that_ends_after_its_deadline_is_a_finding() -> None:
    wanted = replace(WANTED, deadline=10.0)
    assert len(list(get_findings(wanted, OUTCOME, late_s=0.01))) == 1
    assert list(get_findings(wanted, OUTCOME, late_s=-1.0)) == []
    assert list(get_findings(WANTED, OUTCOME, late_s=1.0)) == []


@pytest.mark.parametrize(
    ("answered", "verdict", "is_calm", "is_finding"),
    [
        (HOLDERS, Verdict.COMPLETE, True, False),
        (HOLDERS[:10], Verdict.COMPLETE, True, False),
        (HOLDERS[:9], Verdict.COMPLETE, True, True),
        (HOLDERS[:9], Verdict.SPARSE, True, False),
        (HOLDERS[:9], Verdict.COMPLETE, False, False),
    ],
    ids=["all", "half", "too few", "not complete", "some are cut off"],
)
def test_a_get_is_not_complete_while_too_few_of_the_nearest_have_answered(
    answered: list[str], verdict: Verdict, is_calm: bool, is_finding: bool
) -> None:
    outcome = replace(OUTCOME, verdict=verdict, answered=tuple((one, 1) for one in answered))
    # The machine that asks need not ask itself.
    beginning = Beginning(dict.fromkeys([*HOLDERS, HOST]), is_calm)
    seen = checkers(beginning)
    seen.get_ended(HOST, WANTED, beginning, outcome)
    assert bool(seen.findings) is is_finding
    seen = checkers(beginning)
    seen.has_liars = True
    seen.get_ended(HOST, WANTED, beginning, outcome)
    assert seen.findings == []


@pytest.mark.parametrize(
    ("left", "is_finding"),
    [
        (Beginning(dict.fromkeys(HOLDERS), is_calm=True), True),
        (Beginning(dict.fromkeys(HOLDERS), is_calm=False), False),
        (Beginning(dict.fromkeys(HOLDERS), is_calm=True, gone=tuple(HOLDERS[17:])), False),
        (Beginning(dict.fromkeys(HOLDERS), is_calm=True, gone=(HOLDERS[0], HOLDERS[19])), True),
    ],
    ids=["calm to the end", "parted before the end", "three stopped", "two stopped, one after its answer"],
)
def test_a_get_in_calm_is_held_against_the_nearest_that_outlast_it_and_only_if_the_calm_does(
    left: Beginning, is_finding: bool
) -> None:
    beginning = Beginning(dict.fromkeys(HOLDERS), is_calm=True)
    seen = checkers(beginning, left)
    outcome = replace(OUTCOME, answered=tuple((one, 1) for one in HOLDERS[:9]))
    seen.get_ended(HOST, WANTED, seen.get_begins(HOST, WANTED), outcome)
    assert bool(seen.findings) is is_finding


def test_an_item_that_passes_for_confirmed_without_a_look_up_is_a_finding_but_with_its_publisher() -> None:
    answer = given(Fetched(ZONE_ID, found(confirmed_at=boot_now() + 10.0), SEQ))
    for seen, is_finding in ((checkers(), True), (checkers(), False)):
        if not is_finding:
            seen.published(HOST, KEY, SEQ)
        seen.question_ended(HOST, answer)
        assert bool(seen.findings) is is_finding
    seen = checkers()
    seen.settled(HOST, KEY, SEQ)
    seen.question_ended(HOST, given(Fetched(ZONE_ID, found(confirmed_at=boot_now()), SEQ)))
    assert seen.findings == []
    seen.question_ended(HOST, answer)
    assert len(seen.findings) == 1


def test_an_item_that_was_not_enough_for_an_answer_was_not_shown() -> None:
    older, newer = Fetched(ZONE_ID, found(), SEQ + 1), Fetched(ZONE_ID, found(item(SEQ + 1)), SEQ + 1)
    seen = checkers()
    seen.question_ended(HOST, given(newer))
    seen.question_ended(HOST, given(older, newer))
    assert seen.findings == []
    seen.question_ended(HOST, given(newer, older))
    assert len(seen.findings) == 1


def test_when_a_machine_has_put_a_zone_is_known_until_it_loses_its_disk() -> None:
    seen = checkers()
    assert seen.put_at(HOST, KEY) is None
    seen.put_begins(HOST, ITEM)
    assert seen.put_at(HOST, KEY) is not None
    assert seen.put_at("11.0.0.2", KEY) is None
    seen.state_lost(HOST)
    assert seen.put_at(HOST, KEY) is None
