"""The commitment to a next key in a publication: it is carried, it is never dropped, and nobody is locked out."""

from __future__ import annotations

import asyncio

import pytest

from p2pdns.errors import Unavailable, ZoneFileError
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.items.succession import Commitment, commitment_of, commitment_to, with_commitment
from p2pdns.publishing.editions import Found
from p2pdns.publishing.memory import Made, Memory
from p2pdns.publishing.publication import Plan
from tests.overlay_doubles import rrsets
from tests.unit.publishing.test_publication import (
    APEX,
    FTP,
    LATER,
    MAIL,
    NOW,
    OLD,
    SECRET,
    WWW,
    Nodes,
    item,
    names,
    publication,
    published,
    seq_at,
    zone,
)

KEY = SECRET.zone_key
FIRST, SECOND, THIEF = (commitment_to(KEY, SecretKey.generate(bytes([number]) * 32)) for number in (7, 8, 9))


def committed(commitment: Commitment, *lines: str, seq: int = OLD.seq) -> MutableItem:
    """Return an item with these lines and a commitment."""
    return MutableItem.signed(SECRET, seq, with_commitment(zone(*lines), KEY, commitment))


def made(*items: MutableItem) -> Made:
    """Return a memory of these items as stored from here."""
    memory = Made()
    for one in items:
        memory.signed(one)
        memory.stored(one)
    return memory


def everywhere(nodes: Nodes) -> set[Commitment | None]:
    """Return the commitments of all that the nodes hold."""
    return {commitment_of(one) for one in nodes.held if one is not None}


def test_the_first_commitment_is_added_and_the_zone_keeps_its_records() -> None:
    plans: list[Plan] = []
    nodes = Nodes([OLD] * 5)
    done = published(nodes, WWW, FTP, memory=made(OLD), commitment=FIRST, approve=plans.append)
    assert done.is_done
    assert done.overruled == ()
    assert everywhere(nodes) == {FIRST}
    assert names(done.item) == {"www", "ftp"}
    assert plans[0].is_first_commitment
    assert plans[0].trouble is None


def test_a_publisher_without_the_commitment_carries_that_of_the_zone() -> None:
    plans: list[Plan] = []
    nodes = Nodes([committed(FIRST, WWW)] * 5)
    done = published(nodes, FTP, memory=made(committed(FIRST, WWW)), approve=plans.append)
    assert done.is_done
    assert everywhere(nodes) == {FIRST}
    assert names(done.item) == {"ftp"}
    assert not plans[0].is_first_commitment


def test_an_unchanged_zone_is_published_again_with_its_commitment() -> None:
    current = committed(FIRST, WWW)
    nodes = Nodes([current] * 5)
    done = published(nodes, WWW, memory=made(current), commitment=FIRST)
    assert done.item is not None
    assert done.item.value == current.value


@pytest.mark.parametrize("is_made_here", [True, False])
def test_another_commitment_than_that_of_the_zone_is_refused_with_the_way_out(is_made_here: bool) -> None:
    current = committed(FIRST, WWW)
    nodes = Nodes([current] * 5)
    memory: Memory = made(current) if is_made_here else Made()
    with pytest.raises(Unavailable, match="another next key than alice") as caught:
        published(nodes, WWW, memory=memory, commitment=SECOND, commitment_file="alice.key.next")
    assert "move alice.key.next away" in str(caught.value.hint)
    assert "--force" in str(caught.value.hint)
    assert nodes.puts == []
    # The way out: without the second commitment the first one is carried.
    forced = {} if is_made_here else {"is_forced": True}
    done = published(nodes, FTP, memory=memory, **forced)
    assert done.is_done
    assert everywhere(nodes) == {FIRST}


def test_force_goes_above_the_commitment_of_a_thief_and_says_so() -> None:
    stolen = committed(THIEF, MAIL, seq=LATER)
    nodes = Nodes([stolen] * 5)
    done = published(nodes, WWW, memory=Made(), commitment=FIRST, is_forced=True)
    assert done.is_done
    assert everywhere(nodes) == {FIRST}
    assert done.overruled == (stolen.seq,)
    assert names(done.item) == {"www"}


def test_a_backup_without_its_files_carries_the_first_commitment_and_not_that_of_a_thief() -> None:
    # The thief's edition is the newest. Readers have kept the first commitment, and some nodes still show it.
    stolen = committed(THIEF, MAIL, seq=LATER)
    nodes = Nodes([*[stolen] * 4, committed(FIRST, WWW)])
    with pytest.raises(Unavailable, match="was not made by this key file"):
        published(nodes, WWW, memory=Made())
    assert published(nodes, WWW, memory=Made(), is_forced=True).is_done
    assert everywhere(nodes) == {FIRST}


def test_a_thief_without_a_commitment_does_not_make_the_owner_drop_it() -> None:
    nodes = Nodes([*[item(LATER, MAIL)] * 4, committed(FIRST, WWW)])
    assert published(nodes, WWW, memory=Made(), is_forced=True).is_done
    assert everywhere(nodes) == {FIRST}


def test_an_older_edition_with_a_commitment_says_nothing_below_one_from_here() -> None:
    # A thief can sign any old seq, and put it where ours is not.
    nodes = Nodes([*[OLD] * 4, committed(THIEF, MAIL, seq=1)])
    assert published(nodes, FTP, memory=made(OLD)).is_done
    assert everywhere(nodes) == {None}


def test_a_backup_with_an_older_memory_goes_on_by_force_and_keeps_the_commitment() -> None:
    current = committed(FIRST, WWW, seq=LATER)
    nodes = Nodes([current] * 5)
    with pytest.raises(Unavailable, match="was not made by this key file"):
        published(nodes, FTP, memory=made(OLD), commitment=FIRST)
    done = published(nodes, FTP, memory=made(OLD), commitment=FIRST, is_forced=True)
    assert done.is_done
    assert done.overruled == ()
    assert everywhere(nodes) == {FIRST}


def test_a_change_that_came_in_between_is_merged_and_both_keep_the_commitment() -> None:
    base = committed(FIRST, WWW)
    nodes = Nodes([base] * 5)
    nodes.before_put.append(lambda: nodes.everywhere(committed(FIRST, WWW, MAIL, seq=seq_at(NOW) + 5)))
    done = published(nodes, WWW, FTP, memory=made(base), commitment=FIRST)
    assert done.is_done
    assert len(done.rebased) == 1
    assert done.overruled == ()
    assert names(done.item) == {"www", "ftp", "mail"}
    assert everywhere(nodes) == {FIRST}


def test_a_first_commitment_that_came_in_between_is_kept() -> None:
    nodes = Nodes([OLD] * 5)
    nodes.before_put.append(lambda: nodes.everywhere(committed(FIRST, WWW, MAIL, seq=seq_at(NOW) + 5)))
    done = published(nodes, WWW, FTP, memory=made(OLD))
    assert done.is_done
    assert names(done.item) == {"www", "ftp", "mail"}
    assert everywhere(nodes) == {FIRST}


def test_a_first_commitment_is_not_lost_where_another_change_came_in_between() -> None:
    nodes = Nodes([OLD] * 5)
    nodes.before_put.append(lambda: nodes.everywhere(item(seq_at(NOW) + 5, WWW, MAIL)))
    done = published(nodes, WWW, FTP, memory=made(OLD), commitment=FIRST)
    assert done.is_done
    assert names(done.item) == {"www", "ftp", "mail"}
    assert everywhere(nodes) == {FIRST}


@pytest.mark.parametrize("commitment", [None, THIEF])
def test_nothing_is_kept_of_an_edition_in_between_that_breaks_the_commitment(commitment: Commitment | None) -> None:
    base = committed(FIRST, WWW)
    seq = seq_at(NOW) + 5
    stolen = item(seq, MAIL) if commitment is None else committed(commitment, MAIL, seq=seq)
    nodes = Nodes([base] * 5)
    nodes.before_put.append(lambda: nodes.everywhere(stolen))
    done = published(nodes, WWW, FTP, memory=made(base), commitment=FIRST)
    assert done.is_done
    assert (done.rebased, done.overruled) == ((), (stolen.seq,))
    assert names(done.item) == {"www", "ftp"}
    assert everywhere(nodes) == {FIRST}


def test_two_first_commitments_at_once_end_with_one_and_an_error() -> None:
    theirs = committed(SECOND, WWW, seq=seq_at(NOW) + 5)
    nodes = Nodes([OLD] * 5)
    nodes.before_put.append(lambda: nodes.everywhere(theirs))
    with pytest.raises(Unavailable, match="commits the zone to another next key"):
        published(nodes, WWW, memory=made(OLD), commitment=FIRST)
    assert everywhere(nodes) == {SECOND}


def test_a_commitment_that_does_not_fit_is_refused_with_its_size() -> None:
    nodes = Nodes([OLD] * 5)
    with pytest.raises(ZoneFileError, match="with 84 of the commitment to the next key"):
        asyncio.run(publication(nodes, zone(WWW, FTP), made(OLD), commitment=FIRST, size_bytes_max=120).run())
    assert nodes.puts == []


def test_a_value_that_is_no_zone_is_refused_where_a_commitment_has_to_be_carried() -> None:
    class Junk:
        """A content that is no zone."""

        def value_above(self, current: Found | None) -> bytes:
            """Return it."""
            return b"junk"

        def value_again(self, missed: Found) -> bytes:
            """Return it."""
            return b"junk"

    nodes = Nodes([committed(FIRST, WWW)] * 5)
    with pytest.raises(Unavailable, match="no zone"):
        asyncio.run(publication(nodes, Junk(), made(committed(FIRST, WWW))).run())
    assert nodes.puts == []


def test_an_empty_zone_carries_the_commitment_too() -> None:
    current = committed(FIRST, WWW)
    nodes = Nodes([current] * 5)
    assert asyncio.run(publication(nodes, compose_packet((), APEX), made(current)).run()).is_done
    assert everywhere(nodes) == {FIRST}


def test_the_records_of_a_zone_are_the_same_with_a_commitment() -> None:
    value = compose_packet(rrsets(APEX, WWW, FTP), APEX)
    once = with_commitment(value, KEY, FIRST)
    assert with_commitment(once, KEY, FIRST) == once
    assert with_commitment(with_commitment(value, KEY, SECOND), KEY, FIRST) == once


def missed_edition(commitment: Commitment) -> tuple[Nodes, Made, MutableItem]:
    """Return nodes of which one shows an own edition with a commitment after the first put only, and the memory."""
    missed = committed(commitment, WWW, FTP, seq=LATER)
    nodes, memory = Nodes([OLD] * 20), made(OLD)
    memory.signed(missed)

    def wakes() -> None:
        nodes.held[3] = missed

    nodes.before_read.append(wakes)
    return nodes, memory, missed


def most_held(nodes: Nodes) -> list[MutableItem]:
    """Return what the nodes hold, but for the one that slept."""
    return [one for number, one in enumerate(nodes.held) if one is not None and number != 3]


def test_the_commitment_of_an_own_edition_that_was_missed_is_carried() -> None:
    nodes, memory, _ = missed_edition(FIRST)
    done = published(nodes, WWW, memory=memory)
    assert done.is_done
    assert {commitment_of(one) for one in most_held(nodes)} == {FIRST}
    assert names(done.item) == {"www"}


def test_what_breaks_the_commitment_of_an_own_edition_that_was_missed_is_not_merged() -> None:
    nodes, memory, _ = missed_edition(FIRST)
    stolen = item(LATER + 5, WWW, FTP, MAIL)

    wakes = nodes.before_read.pop()

    def both_come() -> None:
        wakes()
        nodes.held[4] = stolen

    nodes.before_read.append(both_come)
    done = published(nodes, WWW, memory=memory)
    assert (done.rebased, done.overruled) == ((), (stolen.seq,))
    assert names(done.item) == {"www"}
    assert {commitment_of(one) for one in most_held(nodes) if one.seq == done.seq} == {FIRST}


def test_another_commitment_than_that_of_a_missed_own_edition_is_refused_and_that_edition_stands_again() -> None:
    nodes, memory, missed = missed_edition(FIRST)
    with pytest.raises(Unavailable, match="another next key") as caught:
        published(nodes, WWW, memory=memory, commitment=SECOND)
    assert "--force" in str(caught.value.hint)
    assert {one.value for one in most_held(nodes)} == {missed.value}
    # The way out: the first commitment is taken over, and nothing else stands against it.
    assert published(nodes, WWW, memory=memory).is_done
    assert {commitment_of(one) for one in most_held(nodes)} == {FIRST}


def test_force_goes_above_the_commitment_of_a_missed_own_edition() -> None:
    nodes, memory, missed = missed_edition(FIRST)
    done = published(nodes, WWW, memory=memory, commitment=SECOND, is_forced=True)
    assert done.is_done
    assert done.overruled == (missed.seq,)
    assert {commitment_of(one) for one in most_held(nodes)} == {SECOND}
