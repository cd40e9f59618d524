"""Every answer of a zone, held against NSD serving the same zone: rcode, answer RRsets, negative SOA.

`make test` asks a fixed sample; `make oracle` (ORACLE=full) asks everything and grows more zones.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.name
import dns.rdata
import dns.rdatatype
import dns.zone
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from p2pdns.dns.message import Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.answer import Kind
from p2pdns.dns.zonefile import writing
from tests.oracle.comparing import SEED, assert_equal
from tests.oracle.grown import SEQ, Grown, contents, zone_of
from tests.oracle.nsd import running_nsd
from tests.oracle.questions import questions_about

FULL = os.environ.get("ORACLE") == "full"
SAMPLE_A_ZONE = None if FULL else 400
SAMPLE_A_GROWN_ZONE = 150
BATCHES = 60 if FULL else 4  # one start of the oracle each
HAND_WRITTEN = sorted(Path(__file__).with_name("zones").glob("*.zone"))
ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"


def apex_of(index: int) -> Name:
    """Return a name with the shape of a zone key."""
    return Name.of((ALPHABET[index % 32] * 50 + ALPHABET[index // 32 % 32] + "y").encode())


def read_raw(text: str, apex: Name) -> tuple[RRset, ...]:
    """Return what a zone file says, what the product's own reader would refuse (occluded data) included."""
    origin = dns.name.from_text(str(apex))
    zone = dns.zone.from_text(text, origin=origin, relativize=False, check_origin=False)
    return tuple(
        RRset(
            Name.parse(owner.to_wire() or b"")[0],
            int(rdataset.rdtype),
            int(rdataset.ttl),
            tuple(bytes(rdata.to_wire() or b"") for rdata in rdataset),
        )
        for owner, node in zone.nodes.items()
        for rdataset in node
    )


@dataclass(frozen=True)
class Served:
    """A zone, and the text from which the oracle serves it."""

    zone: Zone
    text: str


@pytest.fixture(scope="module")
def served() -> list[Served]:
    """The hand-written zones as they stand, each under an apex of its own."""
    found: list[Served] = []
    for path in HAND_WRITTEN:
        apex, text = apex_of(len(found)), path.read_text()
        found.append(Served(Zone.of(apex, read_raw(text, apex), SEQ), text))
    return found


@pytest.fixture(scope="module")
def port(served: list[Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """NSD with all of them."""
    texts = {str(one.zone.apex): one.text for one in served}
    with running_nsd(texts, tmp_path_factory.mktemp("nsd")) as port:
        yield port


def test_every_answer_about_the_hand_written_zones_equals_the_oracles(served: list[Served], port: int) -> None:
    assert_equal([(one.zone, one.zone.answer) for one in served], port, SAMPLE_A_ZONE)


# No shrinking: one try asks thousands of questions, and the finding names the one that differs.
@settings(
    max_examples=BATCHES,
    deadline=None,
    derandomize=not FULL,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(batch=st.lists(contents, min_size=8, max_size=16))
def test_every_answer_about_grown_zones_equals_the_oracles(batch: list[list[Grown]]) -> None:
    zones = [zone_of(apex_of(index), rows) for index, rows in enumerate(batch)]
    with tempfile.TemporaryDirectory() as folder:
        texts = {str(zone.apex): writing.write(zone) for zone in zones}
        with running_nsd(texts, Path(folder)) as port:
            assert_equal([(zone, zone.answer) for zone in zones], port, SAMPLE_A_GROWN_ZONE)


def test_the_questions_reach_every_kind_of_answer(served: list[Served]) -> None:
    chance = random.Random(SEED)
    kinds: Counter[Kind] = Counter()
    for zone in [one.zone for one in served]:
        kinds.update(zone.answer(Question(n, t)).kind for n, t in questions_about(zone, chance, SAMPLE_A_ZONE))
    assert all(kinds[kind] > 0 for kind in (Kind.ANSWER, Kind.NODATA, Kind.NXDOMAIN, Kind.ALIAS, Kind.DELEGATED)), kinds
