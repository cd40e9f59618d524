"""Which contacts of our own table a search begins with: near ones, and quick ones."""

from __future__ import annotations

from collections.abc import Sequence

from p2pdns.dht.lookup.promise import BITS_PER_ROUND_TRIP
from p2pdns.dht.lookup.search import FAIR_SHARE, Lookup
from p2pdns.dht.lookup.width import ALPHA_FIRST
from p2pdns.dht.routing.contact import Contact
from tests.unit.dht.test_lookup import OWN, TARGET, near, new_lookup, reply

TYPICAL_S = 0.1
NEAREST = ALPHA_FIRST - ALPHA_FIRST // FAIR_SHARE  # Requests of the first ones that no fair share is taken of.


def known(distance: int, rtt_s: float | None) -> Contact:
    """Return a contact of our table at a distance from the target, which has answered after such a time."""
    contact = Contact(near(distance), 0.0)
    contact.answered(rtt_s, 0.0)
    return contact


def asked_first(lookup: Lookup, contacts: Sequence[Contact]) -> list[int]:
    """Return the distances of those that are asked first, in order, without the fair share."""
    lookup.begin_with(contacts, typical_s=TYPICAL_S)
    return [request.candidate.distance for request in lookup.requests_to_send() if not request.is_fair][:NEAREST]


# In the 24 bits of these, and farther away than a farther half of twenty begins.
SLOW = [known(number, TYPICAL_S) for number in range(1 << 20, (1 << 20) + 10)]


def test_a_quick_contact_is_asked_before_one_that_is_a_little_nearer() -> None:
    quick = known(1 << 20 + BITS_PER_ROUND_TRIP - 2, TYPICAL_S / 10)
    assert asked_first(new_lookup(), [*SLOW, quick])[0] == near_distance(quick)


def test_a_contact_that_is_much_nearer_is_asked_before_a_quick_one() -> None:
    quick = known(1 << 20 + BITS_PER_ROUND_TRIP + 1, TYPICAL_S / 10)
    assert asked_first(new_lookup(), [*SLOW, quick]) == [
        contact.long_id ^ int.from_bytes(TARGET) for contact in SLOW[:2]
    ]


def test_a_contact_that_was_not_measured_counts_as_usual() -> None:
    unmeasured = known(1, None)
    assert asked_first(new_lookup(), [unmeasured, *SLOW])[0] == 1


def test_a_search_for_contacts_begins_with_the_nearest() -> None:
    quick = known(1 << 21, TYPICAL_S / 10)
    assert asked_first(Lookup(TARGET, OWN), [*SLOW, quick])[0] == near_distance(SLOW[0])


def test_once_a_contact_has_answered_the_nearest_come_first() -> None:
    lookup = new_lookup()
    quick = [known(number, TYPICAL_S / 10) for number in range(1 << 22, (1 << 22) + 10)]
    lookup.begin_with([*SLOW, *quick], typical_s=TYPICAL_S)
    first = lookup.requests_to_send()
    lookup.reply_received(first[-1], reply(first[-1].candidate, nodes=[near(1)]))
    assert 1 in [request.candidate.distance for request in lookup.requests_to_send()]


def near_distance(contact: Contact) -> int:
    """Return how far a contact is from the target."""
    return contact.long_id ^ int.from_bytes(TARGET)
