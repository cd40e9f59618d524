"""The vectors of divided zones: pins and salts, cells, directories, values, heads, shards, and answers from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pdns.dns.message import Question, RRset, type_of
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.answer import ZoneAnswer
from p2pdns.dns.zonefile import writing
from p2pdns.errors import BadItem, FormatError
from p2pdns.items.shards.directory import Directory, index_of
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.partial import PartialZone
from p2pdns.items.shards.pinned import Pinned, SaltLetter
from p2pdns.items.shards.shard import Shard
from p2pdns.items.shards.values import verified
from tests.unit.items.divisions import asked

Vector = dict[str, Any]
VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "shards.json").read_text("utf-8"))
APEX = Name.read(VECTORS["apex"])
SEQ = VECTORS["seq"]
LISTS = ("pins", "cells", "directories", "values", "heads", "shards", "answers")


def at(text: str) -> Name:
    """Return a name of the zone."""
    return APEX if text == "@" else Name.read(text).under(APEX)


def each(part: str) -> pytest.MarkDecorator:
    """Return the parameters of one list."""
    return pytest.mark.parametrize("vector", VECTORS[part], ids=lambda vector: str(vector["name"]))


def pinned_of(vector: Vector, owner: Name, pin: bytes) -> Pinned:
    """Return what a vector wants; a further part is one of the shard with the same index."""
    place, number = SaltLetter(vector["letter"].encode()), vector["number"]
    epoch = vector.get("epoch", 1)
    if number:
        whole = SaltLetter.SHARD if place is SaltLetter.PART else SaltLetter.OWN
        return Pinned(whole, owner, epoch, vector["bits"], b"none", vector["index"]).part(number, pin)
    return Pinned(place, owner, epoch, vector["bits"], pin, vector["index"])


def lines(rrsets: list[RRset]) -> list[str]:
    """Return RRsets as lines of a zone file."""
    return writing.write(Zone.of(APEX, rrsets, SEQ)).splitlines()


def test_every_vector_names_the_bug_it_would_catch() -> None:
    assert VECTORS["about"]
    for part in LISTS:
        assert len({vector["name"] for vector in VECTORS[part]}) == len(VECTORS[part])
        assert all(vector["bug"] for vector in VECTORS[part])
    assert {name for name, found in VECTORS.items() if isinstance(found, list)} == set(LISTS)


@each("pins")
def test_salt_is_the_vectors(vector: Vector) -> None:
    wanted = pinned_of(vector, at(vector["owner"]), bytes.fromhex(vector["pin"]))
    assert wanted.salt.hex() == vector["salt"], vector["bug"]


def test_no_two_places_share_a_salt() -> None:
    # The name in capitals is the same place as the one in small letters.
    salts = [vector["salt"] for vector in VECTORS["pins"] if vector["name"] != "a name in capitals"]
    assert len(set(salts)) == len(salts)


@each("cells")
def test_index_is_the_vectors(vector: Vector) -> None:
    label, owner = bytes.fromhex(vector["label"]), at(vector["owner"])
    directory = Directory(
        owner, vector["bits"], vector["epoch"], (bytes(4),) * max(1, 2 ** (vector["bits"] - 7)), None, False, True
    )
    for name in (owner.child(label), owner.child(label).child(b"x")):
        assert directory.index_of(directory.cell_of(name)) == vector["index"], vector["bug"]
    assert index_of(owner, vector["epoch"], vector["bits"], label.lower()) == vector["index"]


@each("directories")
def test_directory_is_read_or_refused_for_its_reason(vector: Vector) -> None:
    rdata = bytes.fromhex(vector["rdata"])
    if "reason" in vector:
        with pytest.raises(FormatError) as caught:
            Directory.parse(APEX, rdata)
        assert caught.value.reason == vector["reason"], vector["bug"]
        return
    found = Directory.parse(APEX, rdata)
    assert (found.bits, found.epoch, len(found.pins)) == (vector["bits"], vector["epoch"], vector["pins"])
    said = (found.own_pin is not None, found.has_wildcard, found.by_manifests)
    assert said == (vector["own"], vector["wildcard"], vector["manifests"]), vector["bug"]
    assert found.compose() == rdata


@each("values")
def test_value_is_read_or_refused_for_its_reason(vector: Vector) -> None:
    wanted = pinned_of(vector, APEX, bytes.fromhex(vector["pin"]))
    value = bytes.fromhex(vector["value"])
    if "reason" in vector:
        with pytest.raises(BadItem) as caught:
            verified(wanted, value)
        assert caught.value.reason == vector["reason"], vector["bug"]
        return
    said = verified(wanted, value)
    assert type(said).__name__.lower() == vector["kind"], vector["bug"]
    assert said.compose() == value


@each("heads")
def test_head_says_what_the_vector_says(vector: Vector) -> None:
    head = Head.verified(APEX, bytes.fromhex(vector["value"]), SEQ)
    found = {
        owner.text_in(APEX): f"{directory.bits} bits" if isinstance(directory, Directory) else directory.reason
        for owner, directory in head.directories.items()
    }
    assert found == vector["directories"], vector["bug"]
    assert writing.write(head.zone).splitlines() == vector["zone"], vector["bug"]
    assert dict(head.dropped) == vector["dropped"]


@each("shards")
def test_shard_says_what_the_vector_says(vector: Vector) -> None:
    head = Head.verified(APEX, bytes.fromhex(vector["head"]), SEQ)
    directory = head.directories[at(vector["owner"])]
    assert isinstance(directory, Directory)
    message = bytes.fromhex(vector["message"])
    shard = Shard.verified(head, directory, vector["index"], message)
    found = [rrset for rrsets in shard.nodes.values() for rrset in rrsets.values()]
    assert lines(found) == vector["zone"], vector["bug"]
    assert dict(shard.dropped) == vector["dropped"], vector["bug"]


@each("answers")
def test_answer_is_the_vectors_after_as_many_rounds(vector: Vector) -> None:
    zone = PartialZone(Head.verified(APEX, bytes.fromhex(vector["head"]), SEQ))
    owner, rtype = vector["question"]
    question = Question(at(owner), type_of(rtype))
    if vector["kind"] == "needed":
        outcome = zone.answer(question)
        assert str(outcome) == vector["needs"], vector["bug"]
        return
    values = {bytes.fromhex(salt): bytes.fromhex(value) for salt, value in vector["values"].items()}
    said, _, rounds = asked(zone, question, values)
    assert isinstance(said, ZoneAnswer)
    assert (said.kind.value, rounds) == (vector["kind"], vector["rounds"]), vector["bug"]
