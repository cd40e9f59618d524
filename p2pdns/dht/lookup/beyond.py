"""Behind the dead: whom a look-up asks for the living contacts that no reply to it has named.

A node names the k nearest to a target that it knows, those that died a moment ago among them. So where many are dead,
all replies name the same living few, and a living node that is among the k nearest by now may be named by none. With
30 of 100 nodes dead a put missed up to 7 of 100 of the nodes that should hold the item, and misses 3 of 1,000 with this
(`p2pdns sim --scenario scale`).

Guarantees: only contacts that have answered are named, a bounded number. Does not know requests.
"""

from __future__ import annotations

from functools import partial

from p2pdns.dht.lookup.shortlist import Candidate, CandidateState, Shortlist
from p2pdns.dht.routing.ids import distance

# Contacts asked in each range of ids: one that died meanwhile, and two that know their range.
ASKED = 3
# Ranges, nearest first: where half are dead, the k-th place that was named and the k-th that answered are one apart.
RANGES_MAX = 3


def behind_the_dead(shortlist: Shortlist, target: bytes, k: int) -> list[tuple[Candidate, bytes]]:
    """Return who is to be asked for contacts near which place; nobody where none of the nearest is dead.

    The dead hide the living in the range of ids where the k-th contact was named, in that of the k-th that answered,
    or between. Near the target with one bit turned are those of a range, in the order of their nearness to the target.
    """
    answered = shortlist.counted()[:k]
    if len(answered) < k:
        return []
    last = answered[-1]
    named = [one for one in shortlist if one.distance <= last.distance and one.is_allowed is last.is_allowed]
    if all(one.state is not CandidateState.DEAD for one in named):
        return []
    first = named[k - 1].distance.bit_length()
    asked: list[tuple[Candidate, bytes]] = []
    for bits in range(max(first, 1), min(last.distance.bit_length(), first + RANGES_MAX - 1) + 1):
        place = (int.from_bytes(target) ^ 1 << bits - 1).to_bytes(len(target))
        near = sorted(answered, key=partial(_distance_to, place))
        asked += [(one, place) for one in near[:ASKED]]
    return asked


def _distance_to(place: bytes, candidate: Candidate) -> int:
    return distance(candidate.contact.node_id, place)
