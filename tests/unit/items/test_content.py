"""What an item says of its zone: a divided one is never taken for a whole one."""

from __future__ import annotations

import pytest

from p2pdns.dns.message import RR, Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import COMMITMENT, Class, Rcode, Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.answer import Kind, ZoneAnswer
from p2pdns.errors import BadItem
from p2pdns.items.item import MutableItem
from p2pdns.items.packet import zone_of
from p2pdns.items.shards.content import MovedZone, content_of, moved
from p2pdns.items.shards.partial import Needed, PartialZone
from p2pdns.items.succession import commitment_of
from tests.committed import COMMITTED
from tests.overlay_doubles import KEYS, SECRETS
from tests.unit.items.divisions import SEQ, Items, Made, asked, divided, packet

SECRET = SECRETS["a"]
APEX = SECRET.zone_key.apex
OTHER = KEYS["b"].signed_by.apex


def zone(count: int = 12) -> Zone:
    """Return a zone of hosts, an alias from one shard to another, and an MX that names one of them."""
    rrsets = [RRset(APEX.child(b"n%d" % n), Type.A, 300, (bytes([192, 0, 2, n]),)) for n in range(count)]
    rrsets.append(RRset(APEX.child(b"alias"), Type.CNAME, 300, (APEX.child(b"n3").wire(),)))
    rrsets.append(RRset(APEX, Type.MX, 300, (b"\0\1" + APEX.child(b"n4").wire(),)))
    rrsets.append(RRset(APEX.child(b"away"), Type.CNAME, 300, (Name.read("www.example.").wire(),)))
    return Zone.of(APEX, rrsets, SEQ)


def head_item(items: Items) -> MutableItem:
    """Return the head as an item."""
    return MutableItem.signed(SECRET, SEQ, items.head)


DIVIDED = divided(zone(), [Made(APEX, 3)])
HEAD = head_item(DIVIDED)


def test_a_head_is_no_whole_zone() -> None:
    with pytest.raises(BadItem) as refusal:
        zone_of(HEAD)
    assert refusal.value.reason == "zone-divided"
    content = content_of(HEAD)
    assert isinstance(content, PartialZone)
    absent = content.answer(Question(APEX.child(b"absent"), Type.A))
    assert isinstance(absent, Needed), "the head alone denies nothing"
    assert not content.is_empty


def test_an_item_without_directories_is_the_whole_zone() -> None:
    whole = zone(2)
    item = MutableItem.signed(SECRET, SEQ, packet([rr for rrset in whole.rrsets.values() for rr in rrset.records()]))
    assert content_of(item) == zone_of(item) == whole


def test_an_empty_item_is_an_empty_zone_and_a_directory_is_not() -> None:
    empty = MutableItem.signed(SECRET, SEQ, packet([]))
    assert content_of(empty).is_empty
    assert not content_of(head_item(divided(Zone.of(APEX, (), SEQ), [Made(APEX)]))).is_empty


def test_a_head_carries_the_commitment_of_its_zone() -> None:
    commitment = RR(APEX, COMMITMENT, Class.IN, 0, COMMITTED.rdata)
    head = list(content_of(HEAD).answer(Question(APEX, Type.MX)).answer)  # type: ignore[union-attr]
    items = divided(zone(), [Made(APEX, 3)], copies=[RRset(APEX, COMMITMENT, 0, (commitment.rdata,))])
    assert commitment_of(head_item(items)) == COMMITTED
    assert commitment_of(HEAD) is None
    assert head[0].rtype == Type.MX


@pytest.mark.parametrize(
    ("name", "rtype"),
    [("n3", Type.A), ("alias", Type.A), ("absent", Type.A), ("n3", Type.AAAA), ("away", Type.A), ("@", Type.MX)],
)
def test_a_divided_zone_under_the_key_before_answers_as_the_whole_one_does(name: str, rtype: Type) -> None:
    here = OTHER if name == "@" else OTHER.child(name.encode())
    there = APEX if name == "@" else APEX.child(name.encode())
    _, partial, _ = asked(DIVIDED.partial(), Question(there, rtype), DIVIDED.values)
    _, partial, _ = asked(partial, Question(APEX.child(b"n4"), Type.A), DIVIDED.values)
    expected = zone().at(OTHER).answer(Question(here, rtype))
    said = moved(partial, OTHER).answer(Question(here, rtype))
    assert said == expected
    assert list(moved(partial, OTHER).types_at(here)) == list(zone().at(OTHER).types_at(here))


def test_a_divided_zone_under_the_key_before_needs_the_same_items() -> None:
    shown = moved(DIVIDED.partial(), OTHER)
    assert isinstance(shown, MovedZone)
    assert shown.answer(Question(OTHER.child(b"n3"), Type.A)) == DIVIDED.partial().answer(
        Question(APEX.child(b"n3"), Type.A)
    )


def test_the_types_of_a_name_are_those_at_hand_and_no_made_soa() -> None:
    partial = DIVIDED.partial()
    assert partial.types_at(APEX.child(b"n3")) == ()
    said, partial, _ = asked(partial, Question(APEX.child(b"n3"), Type.AAAA), DIVIDED.values)
    assert isinstance(said, ZoneAnswer)
    assert (said.kind, said.rcode) == (Kind.NODATA, Rcode.NOERROR)
    assert list(partial.types_at(APEX.child(b"n3"))) == [Type.A]
    assert list(partial.types_at(APEX)) == list(zone().types_at(APEX)) == [Type.MX]


def test_of_the_items_at_hand_the_least_recently_used_go_first() -> None:
    partial = DIVIDED.partial()
    for n in range(12):
        _, partial, _ = asked(partial, Question(APEX.child(b"n%d" % n), Type.A), DIVIDED.values)
    first = Question(APEX.child(b"n0"), Type.A)
    kept = partial.answer(first)
    smaller = partial.smaller(partial.item_count - 2, partial.size_bytes)
    assert smaller.item_count == partial.item_count - 2
    assert smaller.answer(first) == kept, "it was asked last"
    assert partial.smaller(partial.item_count, partial.size_bytes - 1).item_count == partial.item_count - 1
    assert partial.smaller(0, 0).item_count == partial.smaller(0, 0).size_bytes == 0
    # The zone itself is as it was.
    assert isinstance(partial.answer(Question(APEX.child(b"n5"), Type.A)), ZoneAnswer)


def test_manifests_and_begun_shards_count_among_the_items_at_hand() -> None:
    items = divided(zone(40), [Made(APEX, 1, by_manifests=True, part_bytes=60)])
    partial = items.partial()
    needed = partial.answer(Question(APEX.child(b"n3"), Type.A))
    sizes: list[int] = []
    while isinstance(needed, Needed) and len(sizes) < 3:
        partial = partial.with_value(needed.items[0], items.values[needed.items[0].salt])
        sizes.append(partial.size_bytes)
        needed = partial.answer(Question(APEX.child(b"n3"), Type.A))
    # The two pins of the manifest, then the first slice of the shard, then a further one.
    assert sizes == [8, 8 + 60, 8 + 60 + 60]
    assert partial.item_count == 2
    assert partial.smaller(2, 8 + 60).item_count < 2
