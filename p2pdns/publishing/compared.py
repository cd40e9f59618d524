"""The difference of two editions of a divided zone, without reading what both have.

Guarantees: what is returned is the difference of the whole zones (`changes`). Does not know where editions come from.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.items.dividing import Division, ShardKey
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.shard import Shard
from p2pdns.publishing.changes import Changes, RRsets, changes_of, in_order


def changes_of_divisions(old: Division, new: Division) -> Changes | None:
    """Return what one division changes in another; None where that must be found out from the whole zones.

    A shard with the same message at the same place has the same records, if no directory came or went.
    """
    if old.directories.keys() != new.directories.keys():
        return None
    same = dict.fromkeys(key for key in new.shards if _is_same(old, new, key))
    changes = changes_of(_rrsets(old, same), _rrsets(new, same), new.apex)
    # In shards that both have is at least one RRset each, if any: enough to say that most of the zone stays.
    stays = changes.before_count + sum(old.shards[key].message != _EMPTY for key in same)
    if 2 * len(changes.removed) > stays:
        return None
    return Changes(changes.added, changes.removed, changes.changed, stays)


_EMPTY = bytes.fromhex("000080000000000000000000")


def _is_same(old: Division, new: Division, key: ShardKey) -> bool:
    owner, index = key
    one, other = old.directories[owner], new.directories[owner]
    # What counts of an own shard depends on the head.
    if index is None or (one.epoch, one.bits) != (other.epoch, other.bits):
        return False
    edition = old.shards.get(key)
    return edition is not None and edition.message == new.shards[key].message


def _rrsets(division: Division, but: dict[ShardKey, None]) -> RRsets:
    """Return the RRsets of a division without those of some shards."""
    head = Head.verified(division.apex, division.head, 0)
    return in_order(_all_rrsets(division, head, but))


def _all_rrsets(division: Division, head: Head, but: dict[ShardKey, None]) -> Iterator[tuple[tuple[Name, int], RRset]]:
    yield from head.zone.rrsets.items()
    for (owner, index), edition in division.shards.items():
        if (owner, index) not in but:
            shard = Shard.verified(head, division.directories[owner], index, edition.message)
            for name, rrsets in shard.nodes.items():
                yield from (((name, rtype), rrset) for rtype, rrset in rrsets.items())
