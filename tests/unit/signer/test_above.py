"""The change that the signer publishes on top of what others have put there."""

from __future__ import annotations

import pytest

from p2pdns.items.item import MutableItem
from p2pdns.items.packet import compose_packet
from p2pdns.publishing.changes import Conflict, rrsets_of
from p2pdns.signer.above import OwnChange
from p2pdns.signer.last import Last
from tests.overlay_doubles import rrsets
from tests.unit.publishing.test_changes import APEX, SECRET, SEQ, item


def lines_after(base: list[str], own: list[str], *found: list[str]) -> tuple[set[str], list[str]]:
    """Return the owners and data that are signed above each of the items found, and the conflicts that were told."""
    told: list[str] = []
    value = compose_packet(rrsets(APEX, *own), APEX)
    change = OwnChange(APEX, Last(SEQ, item(*base).value), value, lambda conflict: told.append(conflict.what))
    for lines in found:
        draft = change.value_above(item(*lines))
        assert isinstance(draft, bytes)
        value = draft
    signed = rrsets_of(MutableItem.signed(SECRET, SEQ, value))
    return {f"{owner.text_in(APEX)} {rrset.rdatas[0][-1]}" for (owner, _), rrset in signed.items()}, told


WWW, NEW, THEIRS, OTHER = (f"{name} 300 A 192.0.2.{number}" for number, name in enumerate(["www", "new", "x", "y"]))


def test_a_record_of_another_publisher_stays_when_a_later_change_is_published() -> None:
    assert lines_after([WWW], [WWW, NEW], [WWW, THEIRS]) == ({"www 0", "new 1", "x 2"}, [])
    # One that came earlier and one that comes in between.
    assert lines_after([WWW], [WWW, NEW], [WWW, THEIRS], [WWW, THEIRS, OTHER])[0] == {"www 0", "new 1", "x 2", "y 3"}


def test_without_others_it_is_the_zone_as_it_is() -> None:
    assert lines_after([WWW], [WWW, NEW], [WWW]) == ({"www 0", "new 1"}, [])
    assert lines_after([WWW, NEW], [WWW], [WWW, NEW]) == ({"www 0"}, [])


def test_where_both_have_changed_one_rrset_that_of_the_signer_is_published_and_it_is_told() -> None:
    signed, told = lines_after([WWW], ["www 300 A 192.0.2.7"], ["www 300 A 192.0.2.8"])
    assert signed == {"www 7"}
    assert told == ["both publications change www A"]


def test_an_edition_older_than_the_last_one_from_here_takes_nothing_back() -> None:
    last = Last(SEQ + 1, item(WWW, NEW).value)
    for own in ([WWW, NEW], [NEW, OTHER]):
        value = compose_packet(rrsets(APEX, *own), APEX)
        assert OwnChange(APEX, last, value, lambda conflict: None).value_above(item(WWW)) == value


def test_a_conflict_with_one_that_comes_in_between_is_the_publications() -> None:
    change = OwnChange(APEX, Last(SEQ, item(WWW).value), item("www 300 A 192.0.2.7").value, lambda conflict: None)
    change.value_above(item(WWW))
    with pytest.raises(Conflict, match="both publications change www A"):
        change.value_above(item("www 300 A 192.0.2.8"))
