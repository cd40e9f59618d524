"""Zones that are divided into many items, held against NSD serving the same zones whole.

Each question begins with the head alone or with what the questions before it have brought, as a reader's does.
`make test` asks a sample about zones of 200 and 1,000 names; `make oracle` asks more, and about 10,000 names.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from p2pdns.dns.message import Question
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.answer import Kind, ZoneAnswer
from p2pdns.dns.zonefile import writing
from p2pdns.items.dividing import Division, divide
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.partial import Needed, PartialZone
from tests.oracle.comparing import assert_equal
from tests.oracle.grown import SEQ, Grown, contents, zone_of
from tests.oracle.large import large_zone
from tests.oracle.nsd import running_nsd
from tests.oracle.test_oracle import BATCHES, FULL, SAMPLE_A_GROWN_ZONE, apex_of

# (names, whether one label has 3,000 more below it)
ZONES = ((200, False), (1_000, True), *(((10_000, False),) if FULL else ()))
OWNERS_MAX, SAMPLE = (4_000, 6_000) if FULL else (250, 500)
ROUNDS_MAX = 8  # A question needs head, manifest, shard and its parts, and as much for a wildcard and an alias.
SMALL_VALUE_BYTES = 140  # So that most zones of some records are divided too.
UNIX_NOW = 1_790_000_000.0


class Divided:
    """A divided zone as a reader sees it, with a store in the place of look-ups."""

    def __init__(self, division: Division) -> None:
        self._values = {pinned.salt: value for pinned, value in division.items()}
        self._zone = PartialZone(Head.verified(division.apex, division.head, SEQ))

    def answer(self, question: Question) -> ZoneAnswer:
        """Return the answer, with what it needs fetched for it."""
        for _ in range(ROUNDS_MAX * 9):
            said = self._zone.answer(question)
            if isinstance(said, ZoneAnswer):
                return said
            assert isinstance(said, Needed)
            for wanted in said.items:
                self._zone = self._zone.with_value(wanted, self._values[wanted.salt])
        raise AssertionError(f"{question} is answered by no number of items")


def division_of(zone: Zone, value_bytes_max: int = VALUE_BYTES_WRITE_DEFAULT) -> Division:
    """Return a zone as items."""
    entropy = hashlib.sha256(zone.apex.wire()).digest()
    return divide(zone, entropy=entropy, unix_now=UNIX_NOW, value_bytes_max=value_bytes_max)


@pytest.fixture(scope="module")
def large() -> list[Zone]:
    """The zones of many names."""
    return [large_zone(apex_of(index), count, is_crowded=crowd) for index, (count, crowd) in enumerate(ZONES)]


@pytest.fixture(scope="module")
def port(large: list[Zone], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """NSD with all of them."""
    texts = {str(zone.apex): writing.write(zone) for zone in large}
    with running_nsd(texts, tmp_path_factory.mktemp("nsd")) as port:
        yield port


def test_every_answer_about_zones_of_many_names_equals_the_oracles(large: list[Zone], port: int) -> None:
    divided = [division_of(zone) for zone in large]
    assert all(len(division.shards) > 1 for division in divided)
    assert_equal(
        [(zone, Divided(division).answer) for zone, division in zip(large, divided, strict=True)],
        port,
        SAMPLE,
        OWNERS_MAX,
    )


def test_the_large_zones_have_what_divides_them_badly(large: list[Zone]) -> None:
    for zone in large:
        division = division_of(zone)
        editions = division.shards.values()
        assert max(len(edition.values) for edition in editions) > 20, "an RRset of 20 kB is one shard in parts"
        assert any(index is None for _, index in division.shards), "an apex of 30 TXT does not fit the head"
    crowded = division_of(large[1])
    assert len(crowded.directories) > 1, "one label with 3,000 names below it has a directory of its own"
    assert crowded.manifests
    apex = large[0].apex
    names = [apex.child(b"host1"), apex.child(b"host1").child(b"x"), apex.child(b"sub"), apex.child(b"ent")]
    kinds = [large[0].answer(Question(name, Type.A)).kind for name in names]
    assert kinds == [Kind.ANSWER, Kind.NXDOMAIN, Kind.DELEGATED, Kind.NODATA]


# No shrinking: see test_oracle.
@settings(
    max_examples=BATCHES,
    deadline=None,
    derandomize=not FULL,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(batch=st.lists(contents, min_size=8, max_size=16))
def test_every_answer_about_small_zones_in_tiny_items_equals_the_oracles(batch: list[list[Grown]]) -> None:
    zones = [zone_of(apex_of(index), rows) for index, rows in enumerate(batch)]
    divided = [division_of(zone, SMALL_VALUE_BYTES) for zone in zones]
    with tempfile.TemporaryDirectory() as folder:
        texts = {str(zone.apex): writing.write(zone) for zone in zones}
        answering = [(zone, Divided(division).answer) for zone, division in zip(zones, divided, strict=True)]
        with running_nsd(texts, Path(folder)) as port:
            assert_equal(answering, port, SAMPLE_A_GROWN_ZONE)
