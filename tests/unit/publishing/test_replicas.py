"""The copies of an item: what a look has seen, where the look after a put begins, and what crosses the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from p2pdns.addresses import Address
from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import GetOutcome, PutOutcome, Wanted
from p2pdns.errors import FormatError
from p2pdns.items.item import Item, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.publishing.replicas import (
    LOOKS_MAX,
    HeldHere,
    NodeReplicas,
    PublishStage,
    Seen,
    Tried,
    Version,
    read_back,
    seen_in,
)
from tests.overlay_doubles import UNIX, ended

SECRET = SecretKey.generate(b"\x01" * 32)
ZONE_ID = ZoneId.of_key(SECRET.zone_key)
SEQ = int(UNIX * 1e6)
HOSTS: list[Address] = [("192.0.2.1", 1), ("192.0.2.2", 1), ("192.0.2.3", 1), ("192.0.2.4", 1)]


def item(number: int, value: bytes = b"value") -> MutableItem:
    """Return an item of the key."""
    return MutableItem.signed(SECRET, SEQ + number, value)


NEW, OLD = item(5), item(1)


def outcome(
    copies: dict[Address, MutableItem], *, verdict: Verdict = Verdict.COMPLETE, answered: int = 4
) -> GetOutcome:
    """Return the outcome of a look-up."""
    return ended(None, copies=copies, verdict=verdict, answered_count=answered)


@dataclass
class Network:
    """Look-ups that end as they are told; the last one ends all further ones."""

    outcomes: list[GetOutcome]
    wanted: list[Wanted] = field(default_factory=list)

    def get(
        self, wanted: Wanted, *, on_item: Callable[[Item], None], on_patient: Callable[[], None] | None = None
    ) -> Awaitable[GetOutcome]:
        """Look up."""
        self.wanted.append(wanted)
        future: asyncio.Future[GetOutcome] = asyncio.get_running_loop().create_future()
        future.set_result(self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0])
        return future


def read(network: Network, put: PutOutcome, told: list[str] | None = None) -> Tried:
    """Read the new item back."""

    def tell(progress: PublishStage) -> None:
        if told is not None:
            told.append(str(progress))

    return asyncio.run(read_back(network, NEW, put, clock=lambda: 0.0, tell=tell))


def test_the_versions_are_counted_newest_first_and_a_node_of_both_families_once() -> None:
    copies: dict[Address, MutableItem] = {HOSTS[0]: OLD, HOSTS[1]: NEW, HOSTS[2]: OLD, ("2001:db8::1", 1): NEW}
    seen = seen_in(outcome(copies), 7)
    assert seen == Seen((Version(NEW, 1), Version(OLD, 2)), True, 7)
    assert (seen.holders_of(NEW.value), seen.holders_of(b"other")) == (3, 0)
    assert not seen_in(outcome({}, verdict=Verdict.DEADLINE)).is_complete


def test_a_look_asks_for_every_version_and_an_item_in_our_own_storage_is_one() -> None:
    network = Network([ended(NEW, copies={HOSTS[0]: OLD})])
    copies = _copies(network)
    seen = asyncio.run(copies.look_up())
    assert [(version.item, version.holders) for version in seen.versions] == [(NEW, 0), (OLD, 1)]
    assert network.wanted[0].wants_copies


def test_what_this_machine_holds_itself_is_a_version_and_its_mark_counts() -> None:
    seen = asyncio.run(_copies(Network([outcome({HOSTS[0]: OLD})]), HeldHere(NEW.seq, NEW)).look_up())
    assert seen == Seen((Version(NEW, 0), Version(OLD, 1)), True, NEW.seq)


def test_a_look_that_was_cut_is_made_again_a_few_times() -> None:
    network = Network([outcome({}, verdict=Verdict.DEADLINE)])
    assert not asyncio.run(_copies(network).look_up()).is_complete
    assert len(network.wanted) == LOOKS_MAX
    network = Network([outcome({}, verdict=Verdict.NO_CONTACTS, answered=0)])
    asyncio.run(_copies(network).look_up())
    assert len(network.wanted) == 1


def _copies(network: Network, known: HeldHere | None = None) -> NodeReplicas:
    async def nothing(*_: object) -> PutOutcome:
        return PutOutcome(0, 0)

    async def sleep(seconds: float) -> None:
        del seconds

    return NodeReplicas(
        ZONE_ID,
        network,
        nothing,
        clock=lambda: 0.0,
        unix_clock=lambda: UNIX,
        jitter=lambda: 0.5,
        sleep=sleep,
        known=lambda: known or HeldHere(),
    )


def test_the_look_after_a_put_begins_at_others_and_at_the_same_where_there_are_none() -> None:
    everywhere = outcome(dict.fromkeys(HOSTS, NEW))
    put = PutOutcome(4, 4, asked=tuple(HOSTS))
    network = Network([everywhere])
    assert read(network, put).is_read_back(NEW)
    assert [wanted.avoided for wanted in network.wanted] == [frozenset(HOSTS)]
    network = Network([outcome({}, verdict=Verdict.NO_ANSWER, answered=0), everywhere])
    told: list[str] = []
    assert read(network, put, told).is_read_back(NEW)
    assert [wanted.avoided for wanted in network.wanted] == [frozenset(HOSTS), frozenset()]
    assert told == ["read back from 0", "read back from 4"]


def test_what_most_looks_miss_is_added_up_and_the_looks_end() -> None:
    looks = [outcome({host: NEW}) for host in HOSTS[:3]]
    network = Network(looks)
    tried = read(network, PutOutcome(4, 4))
    assert tried.is_read_back(NEW)
    assert len(network.wanted) == 3
    network = Network([outcome({HOSTS[0]: NEW})])
    assert not read(network, PutOutcome(4, 4)).is_read_back(NEW)
    assert len(network.wanted) == LOOKS_MAX


def test_a_newer_one_needs_no_further_look() -> None:
    network = Network([outcome({HOSTS[0]: item(9)})])
    tried = read(network, PutOutcome(4, 4))
    assert (len(network.wanted), tried.seen.versions) == (1, (Version(item(9), 1),))


def test_a_node_that_refuses_what_it_holds_already_counts_as_stored() -> None:
    copies: dict[Address, MutableItem] = {HOSTS[0]: NEW, HOSTS[1]: NEW, HOSTS[2]: item(3)}
    put = PutOutcome(4, 1, {302: 3}, held_at=tuple(HOSTS[1:]), storers=contacts(HOSTS[0]))
    tried = read(Network([outcome(copies)]), put)
    assert tried.others == (4, 2)
    assert tried.held == (item(3).seq, None)


def test_a_node_of_both_families_that_holds_it_already_counts_once() -> None:
    both = [("2001:db8::1", 1), ("2001:db8::2", 1)]
    copies: dict[Address, MutableItem] = dict.fromkeys([*HOSTS[:2], *both], NEW)
    # The first has stored it, and its other address refuses it; the second refuses it at both.
    put = PutOutcome(4, 1, {302: 3}, held_at=(HOSTS[1], *both), storers=contacts(HOSTS[0]))
    assert read(Network([outcome(copies)]), put).others == (4, 2)
    # In the other family more were reached.
    more = [*both, ("2001:db8::3", 1)]
    put = PutOutcome(4, 1, storers=contacts(HOSTS[0], *more))
    assert read(Network([outcome({})]), put).others == (4, 3)


def contacts(*addresses: Address) -> tuple[NodeInfo, ...]:
    """Return nodes at these addresses."""
    return tuple(NodeInfo(bytes([number]) * 20, address) for number, address in enumerate(addresses))


@pytest.mark.parametrize(("refused_here", "held"), [(None, ()), (301, (None,)), (302, (None,)), (202, ())])
def test_our_own_storage_that_holds_something_else_is_a_sign_too(
    refused_here: int | None, held: tuple[int | None, ...]
) -> None:
    assert read(Network([outcome({})]), PutOutcome(4, 4, refused_here=refused_here)).held == held


def test_a_put_without_cas_replaces_anything_older_and_nobody_looks() -> None:
    network = Network([outcome({})])
    tried = asyncio.run(_copies(network).put(NEW, None))
    assert (tried, network.wanted) == (Tried(PutOutcome(0, 0).others, {}, (), Seen()), [])


def test_alone_nothing_is_looked_for() -> None:
    network = Network([outcome({})])
    tried = read(network, PutOutcome(0, 0))
    assert (tried.others, network.wanted) == ((0, 0), [])


def test_what_crosses_the_control_socket_comes_back_as_it_was() -> None:
    seen = Seen((Version(NEW, 2), Version(OLD, 1)), True, 7)
    tried = Tried(PutOutcome(4, 3).others, {"301": 1}, (3, None), seen)
    assert Seen.of_json(seen.to_json()) == seen
    assert Tried.of_json(tried.to_json()) == tried
    with pytest.raises(FormatError):
        Seen.of_json({"versions": [{"item": "xyz", "holders": 1}], "complete": True, "mark": None})


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (PublishStage("look-up"), "looking up"),
        (PublishStage("put", {"sent": 20, "stored": 12}), "at 12 of 20"),
        (PublishStage("read-back", {"holders": 3}), "read back from 3"),
        (PublishStage("rationed", {"done": 1, "of": 3, "seconds_left": 2.4}), "rationed, about 2 s left"),
    ],
)
def test_each_stage_has_its_words_and_its_table(progress: PublishStage, words: str) -> None:
    assert str(progress) == words
    assert progress.share == (0.6 if progress.stage == "put" else None)
    assert PublishStage.of_json(progress.to_json()) == progress
