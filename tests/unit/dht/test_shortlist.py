"""Who may be asked in a look-up, and who counts: what hosts, prefixes and sources may take of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.lookup.search import Lookup
from p2pdns.dht.lookup.shortlist import (
    HOST_CONTACTS_MAX,
    HOST_DATAGRAMS_MAX,
    HOST_SILENT_MAX,
    PREFIX_CONTACTS_MAX,
    SECOND_CHANCES_MAX,
    SHORTLIST_MAX,
    SOURCE_CONTACTS_MAX,
    SOURCE_SILENT_MAX,
    Request,
    Shortlist,
)
from p2pdns.dht.lookup.sought import Sought
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.routing.contact import Contact
from p2pdns.dht.routing.ids import id_for
from tests.unit.dht.test_lookup import EIGHT, KEY, OWN, TARGET, finish, item, near, new_lookup, reply

PEER = ("10.9.9.9", 7)


def at(host: str, number: int, port: int = 1) -> krpc.NodeInfo:
    """Return a contact with an id that BEP 42 allows at a public host; the lower the number, the nearer to a target."""
    node_id = id_for(host, bytes(17) + number.to_bytes(2) + b"\x01")
    return krpc.NodeInfo(node_id, (host, port))


def lookup_near(contact: krpc.NodeInfo, *, k: int = 20) -> Lookup:
    """Return a look-up whose target is the id of a contact."""
    return Lookup(contact.node_id, OWN, Sought(KEY), k=k)


def search(*, k: int = 20) -> Lookup:
    """Return a look-up for contacts, which asks the nearest first and nobody else."""
    return Lookup(TARGET, OWN, k=k)


def told_by(lookup: Lookup, source: Address, contacts: Sequence[krpc.NodeInfo]) -> None:
    """Put contacts on the shortlist that a peer has named."""
    lookup.add(contacts, source)


def asked_in(lookup: Lookup, answer: Callable[[Request], krpc.Reply | None]) -> list[krpc.NodeInfo]:
    """Finish a look-up and return whom it asked, in order; retransmits left out."""
    asked: list[krpc.NodeInfo] = []

    def noted(request: Request) -> krpc.Reply | None:
        if request.candidate.contact not in asked:
            asked.append(request.candidate.contact)
        return answer(request)

    finish(lookup, noted)
    return asked


def says_yes(request: Request) -> krpc.Reply:
    """Answer."""
    return reply(request.candidate)


def nobody(request: Request) -> None:
    """Say nothing."""


# Hosts and prefixes


@pytest.mark.parametrize("host", ["9.9.9.9", "10.0.0.1", "2600::1", "fd00::1"])
def test_two_contacts_of_a_host_are_asked_and_count(host: str) -> None:
    contacts = [at(host, number, port=number + 1) for number in range(9)]
    lookup = lookup_near(contacts[0])
    lookup.add(contacts)
    assert asked_in(lookup, says_yes) == contacts[:HOST_CONTACTS_MAX]
    assert len(lookup.shortlist.counted()) == HOST_CONTACTS_MAX


def test_the_addresses_of_one_64_are_one_host_in_public_space() -> None:
    contacts = [at(f"2600::{number}", number) for number in range(1, 10)]
    lookup = lookup_near(contacts[0])
    lookup.add(contacts)
    assert len(asked_in(lookup, says_yes)) == HOST_CONTACTS_MAX


def test_ids_that_bep_42_allows_count_before_nearer_ones_of_the_same_prefix() -> None:
    forbidden = [krpc.NodeInfo(TARGET[:-1] + bytes([n]), (f"9.9.9.{n}", 1)) for n in range(1, 6)]
    allowed = [at(f"9.9.9.{n}", 1) for n in range(11, 16)]
    lookup = Lookup(TARGET, OWN, Sought(KEY))
    lookup.add([*forbidden, *allowed])
    finish(lookup, says_yes)
    answered = [one.contact for one in lookup.answered()]
    assert set(forbidden[:2]) < set(answered), "the nearer ones were asked"
    assert len(lookup.shortlist.counted()) == PREFIX_CONTACTS_MAX
    assert {one.contact for one in lookup.shortlist.counted()} <= set(allowed)


@pytest.mark.parametrize("hosts", [[f"9.9.9.{n}" for n in range(1, 12)], [f"2600:0:0:{n}::1" for n in range(1, 12)]])
def test_four_contacts_of_a_public_prefix_count(hosts: list[str]) -> None:
    lookup = Lookup(TARGET, OWN, Sought(KEY))
    lookup.add([at(host, 1) for host in hosts])
    finish(lookup, says_yes)
    assert len(lookup.shortlist.counted()) == PREFIX_CONTACTS_MAX
    assert lookup.shortlist.counted() == sorted(lookup.answered(), key=lambda one: one.distance)[:PREFIX_CONTACTS_MAX]


def test_a_private_network_is_no_prefix() -> None:
    lookup = new_lookup()
    lookup.add([near(number, host=f"10.0.0.{number}") for number in range(1, 16)])
    finish(lookup, says_yes)
    assert len(lookup.shortlist.counted()) == 15


def test_the_nearest_two_of_a_host_count_even_if_farther_ones_answered_first() -> None:
    lookup = new_lookup()
    lookup.add([near(number, host="10.0.0.1") for number in (100, 200)])
    first = lookup.requests_to_send()
    told = [near(number, host="10.0.0.1") for number in (1, 2, 3)]
    for request in first:
        lookup.reply_received(request, reply(request.candidate, nodes=told))
    finish(lookup, says_yes)
    assert [candidate.distance for candidate in lookup.shortlist.counted()] == [1, 2]


def test_one_address_counts_once_whatever_ids_it_answers_under() -> None:
    lookup = new_lookup()
    lookup.add([near(1, port=7), near(2, port=7), near(3, port=8)])
    finish(lookup, says_yes)
    assert [candidate.contact.address[1] for candidate in lookup.shortlist.counted()] == [7, 8]


def test_invented_contacts_at_a_host_do_not_keep_ours_there_waiting() -> None:
    lookup = new_lookup()
    lookup.add([near(1, host="10.0.0.1", port=1), near(2, host="10.0.0.1", port=2)], PEER)
    assert len(lookup.requests_to_send()) == 2
    ours = near(900, host="10.0.0.1", port=3)
    lookup.add([ours])
    assert [request.candidate.contact for request in lookup.requests_to_send()] == [ours]


def test_silent_inventions_at_a_host_do_not_use_up_the_places_of_one_that_several_name() -> None:
    lookup = new_lookup()
    lookup.add([near(number, host="10.0.0.1", port=number) for number in range(1, 20)], PEER)
    asked = asked_in(lookup, nobody)
    assert len(asked) == HOST_SILENT_MAX
    real = near(900, host="10.0.0.1", port=99)
    lookup.add([real], ("10.1.1.1", 1))
    lookup.add([real], ("10.1.1.2", 1))
    assert asked_in(lookup, says_yes) == [real]
    assert [one.contact for one in lookup.shortlist.counted()] == [real]


def test_one_host_gets_few_datagrams_whoever_names_it() -> None:
    lookup = new_lookup()
    datagrams = 0
    for number in range(60):
        source = (f"10.1.{number}.1", 1)
        lookup.add([near(1000 * number + n + 1, host="10.0.0.1") for n in range(20)], source)
        lookup.add([near(1000 * number + n + 1, host="10.0.0.1") for n in range(20)], PEER)
        under_way = lookup.requests_to_send()
        datagrams += len(under_way)
        while under_way:
            request = under_way.pop(0)
            if lookup.timed_out(request):
                datagrams += 1
                under_way.append(request)
            more = lookup.requests_to_send()
            datagrams += len(more)
            under_way += more
    assert datagrams <= HOST_DATAGRAMS_MAX


def test_further_datagrams_count_too() -> None:
    lookup = new_lookup()
    lookup.add([near(1, host="10.0.0.1")])
    candidate = lookup.requests_to_send()[0].candidate
    assert [lookup.may_send(candidate) for _ in range(HOST_DATAGRAMS_MAX)] == [True] * (HOST_DATAGRAMS_MAX - 1) + [
        False
    ]


def test_a_host_that_has_had_its_datagrams_is_not_asked_under_another_id() -> None:
    lookup = new_lookup()
    lookup.add([near(2, host="10.0.0.1")])
    candidate = lookup.requests_to_send()[0].candidate
    while lookup.may_send(candidate):
        pass
    lookup.add([near(1, host="10.0.0.1", port=9), near(3, host="10.0.0.2")])
    assert [request.candidate.contact.address[0] for request in lookup.requests_to_send()] == ["10.0.0.2"]


def test_sources_take_turns_at_the_nearest_of_the_farther_half_of_what_each_has_named() -> None:
    shortlist = Shortlist()
    for number in range(1, 9):
        source = shortlist.source_of(("10.1.0.1", 1) if number % 2 else ("10.1.0.2", 1))
        shortlist.add(near(number), number, source)
    picked = [shortlist.fair_pick(20) for _ in range(3)]
    assert [one.distance for one in picked if one is not None] == [5, 6, 5]


def test_requests_to_one_id_of_a_host_are_padded() -> None:
    lookup = new_lookup()
    lookup.add([near(1, host="10.0.0.1"), near(2, host="10.0.0.1", port=9), near(3, host="10.0.0.2")])
    padded = [lookup.shortlist.may_pad(request.candidate) for request in lookup.requests_to_send()]
    assert padded == [True, False, True]


# BEP 42


def forbidden(number: int) -> krpc.NodeInfo:
    """Return a contact at a public host with an id that BEP 42 does not allow there."""
    return near(number, host=f"9.{number % 200}.0.1")


def test_ids_that_bep_42_forbids_are_asked_last_and_do_not_count() -> None:
    lookup = new_lookup(k=3)
    good = [at(f"8.{number}.0.1", 1) for number in range(1, 7)]
    bad = [forbidden(number) for number in range(1, 30)]
    lookup.add([*bad, *good])
    asked = asked_in(lookup, says_yes)
    assert set(asked[:3]) < set(good), "the nearest that are allowed come first"
    assert set(asked[3:]) <= set(bad)
    assert {one.contact for one in lookup.shortlist.counted()} <= set(good)
    assert lookup.verdict(None) is Verdict.COMPLETE


def test_ids_that_bep_42_forbids_are_not_asked_where_the_others_had_the_item() -> None:
    lookup = new_lookup(k=3)
    lookup.add([forbidden(number) for number in range(1, 30)])
    lookup.add([at(f"8.{number}.0.1", 1) for number in range(1, 7)])
    asked = asked_in(lookup, lambda request: reply(request.candidate, nodes=EIGHT, found=item()))
    assert all(contact.address[0].startswith("8.") for contact in asked)


def test_where_nobody_has_an_allowed_id_the_others_stand_in_but_a_large_network_has_allowed_ones() -> None:
    lookup = new_lookup()
    lookup.add([forbidden(number) for number in range(1, 30)])
    finish(lookup, says_yes)
    assert len(lookup.shortlist.counted()) == 20
    assert lookup.verdict(None) is Verdict.COMPLETE
    assert lookup.verdict(2**159) is Verdict.IDS_FORBIDDEN


# Sources


def invented(count: int, first: int = 1) -> list[krpc.NodeInfo]:
    """Return contacts that nobody is at."""
    return [near(first + number, port=first + number) for number in range(count)]


def test_a_source_whose_contacts_stay_silent_has_few_of_them_asked() -> None:
    lookup = new_lookup(k=3)
    lookup.add([near(10_000 + number) for number in range(3)])
    told_by(lookup, ("127.0.0.1", 7), invented(28))
    real = {near(10_000 + number) for number in range(3)}
    asked = asked_in(lookup, lambda request: says_yes(request) if request.candidate.contact in real else None)
    assert len(asked) == 3 + SOURCE_SILENT_MAX
    assert lookup.rpc_count == len(asked), "and none of them twice"
    assert lookup.verdict(None) is Verdict.COMPLETE


def test_a_crowd_that_names_the_same_contacts_has_no_more_asked_than_each_alone() -> None:
    lookup = new_lookup(k=3, rpc_max=1000)
    real = [near(10_000 + number) for number in range(3)]
    lookup.add(real)
    crowd = 4
    for number in range(crowd):
        told_by(lookup, ("127.0.0.1", 100 + number), invented(28))
    asked = asked_in(lookup, lambda request: says_yes(request) if request.candidate.contact in real else None)
    assert len(asked) <= 3 + crowd * SOURCE_SILENT_MAX
    assert lookup.verdict(None) is Verdict.COMPLETE


@pytest.fixture
def no_second_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test in which the sources would have to begin anew."""
    monkeypatch.setattr(Shortlist, "give_second_chance", lambda self: pytest.fail("a source was not believed"))


@pytest.mark.usefixtures("no_second_chance")
def test_honest_sources_that_name_the_same_dead_contacts_are_still_believed() -> None:
    lookup = search(k=10)
    dead, alive = invented(10), invented(10, first=500)
    for number in range(4):
        told_by(lookup, ("127.0.0.1", 100 + number), [*dead, *alive])
    asked = asked_in(lookup, lambda request: None if request.candidate.contact in dead else says_yes(request))
    assert set(alive) <= set(asked)


@pytest.mark.usefixtures("no_second_chance")
def test_contacts_that_answer_earn_their_source_more() -> None:
    lookup = search(k=28)
    told = invented(SOURCE_CONTACTS_MAX)
    told_by(lookup, ("127.0.0.1", 7), told)
    asked = asked_in(lookup, lambda request: says_yes(request) if request.candidate.distance % 2 else None)
    assert set(asked) == set(told), "half of them dead is an unlucky source, and no liar"


def test_one_source_names_so_many_and_no_more() -> None:
    lookup = new_lookup(k=500)
    told_by(lookup, ("127.0.0.1", 7), invented(200))
    assert len(asked_in(lookup, says_yes)) == SOURCE_CONTACTS_MAX


def test_where_too_few_answered_the_silent_ones_sources_get_a_second_chance_and_not_for_ever() -> None:
    lookup = search()
    told = invented(28)
    told_by(lookup, ("127.0.0.1", 7), told)
    asked = asked_in(lookup, lambda request: says_yes(request) if request.candidate.distance > 8 else None)
    assert set(asked) == set(told)
    lookup = search()
    told_by(lookup, ("127.0.0.1", 7), told)
    assert len(asked_in(lookup, nobody)) == SOURCE_SILENT_MAX * (1 + SECOND_CHANCES_MAX)


def test_nobody_is_blamed_for_naming_one_that_answers_with_an_error() -> None:
    lookup = new_lookup(k=12)
    told_by(lookup, ("127.0.0.1", 7), invented(28))
    asked = 0
    under_way = lookup.requests_to_send()
    while under_way:
        request = under_way.pop(0)
        asked += 1
        lookup.refused(request)
        under_way += lookup.requests_to_send()
    assert asked == 28


def test_inventions_push_nothing_off_the_list_that_our_table_or_several_name() -> None:
    lookup = new_lookup()
    ours = near(50_000)
    lookup.add([ours])
    for number in range(SHORTLIST_MAX // SOURCE_CONTACTS_MAX + 5):
        told_by(lookup, ("127.0.0.1", 100 + number), invented(SOURCE_CONTACTS_MAX, first=1 + number * 100))
    assert ours in asked_in(lookup, nobody)


def test_every_second_request_passes_those_by_who_are_nearest() -> None:
    lookup = new_lookup()
    lookup.begin_with([Contact(near(number), 0.0) for number in range(1, 21)])
    lookup.is_late(lookup.requests_to_send()[0])
    lookup.requests_to_send()
    distances = sorted(candidate.distance for candidate in lookup.shortlist if candidate.state)
    assert distances == [1, 2, 3, 11, 12]


def first_of(lookup: Lookup, distances: Sequence[int], k_distance: int) -> list[int]:
    """Return the distances of the first contacts that are asked, of those in our own table."""
    lookup.begin_with([Contact(near(number), 0.0) for number in distances], typical_s=0.1, k_distance=k_distance)
    lookup.is_late(lookup.requests_to_send()[0])
    lookup.requests_to_send()
    return sorted(candidate.distance for candidate in lookup.shortlist if candidate.state)


def test_contacts_too_far_away_for_a_crowd_round_the_key_are_not_passed_by() -> None:
    far = range(1_000, 1_020)
    assert first_of(new_lookup(), far, k_distance=1_000) == [*far][:5]


def test_past_a_crowd_round_the_key_goes_the_nearest_contact_that_is_too_far_away_for_it() -> None:
    crowd, far = range(1, 5), range(1_000, 1_020)
    assert first_of(new_lookup(), [*crowd, *far], k_distance=1_000) == [1, 2, 3, 1_000, 1_001]


def test_every_other_request_past_a_crowd_stays_within_the_distance_where_a_crowd_would_be() -> None:
    crowd, far = range(1, 13), range(1_000, 1_020)
    assert first_of(new_lookup(), [*crowd, *far], k_distance=1_000) == [1, 2, 3, 11, 1_000]


def test_with_an_item_in_hand_the_nearest_come_first_again() -> None:
    lookup = new_lookup()
    lookup.item_found(item())
    lookup.begin_with([Contact(near(number), 0.0) for number in range(1, 21)])
    assert [request.candidate.distance for request in lookup.requests_to_send()] == [1, 2, 3, 4]
