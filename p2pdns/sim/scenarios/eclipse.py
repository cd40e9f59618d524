"""The scenario `eclipse`: an attacker surrounds keys with its nodes, and new readers look these keys up.

Guarantees: the figures have no goal; they are what later work has to beat. Only a broken rule makes the verdict bad.
Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.routing.table import K
from p2pdns.items.item import mutable_target
from p2pdns.items.keys import SecretKey
from p2pdns.sim.attackers import Answers, Attack, Ids, sybil_contacts
from p2pdns.sim.intervals import Shared, shared
from p2pdns.sim.places import HOSTILE_OCTETS, INVENTED_OCTETS, Estate, drawn_hosts
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.replay import is_stale, is_stale_and_settled
from p2pdns.sim.scenarios.story import drawn_weather, one_after_another
from p2pdns.sim.world import Look, Owner, Progress, World

QUIET_S = 30.0  # Between two editions.
PREFIXES, HOSTS_PER_PREFIX = 256, 16  # 4,096 addresses, as in what is published of attacks on Mainline.
INVENTED_PREFIXES = 4_096  # One address in each belongs to nobody.
ANNOUNCE_PARTS = 10  # A second each: a crowd that writes at once is not answered by those that are strangers to it.
ANNOUNCE_ROUNDS = 2
CROWDS = (20, 40, 100)


@dataclass(frozen=True)
class Case:
    """One attack: how the ids are chosen, and how many nodes there are round each key."""

    ids: Ids
    sybils: int


# With more nodes than a region can have unnoticed, a spaced attacker has no more of them in it.
CASES = (
    *(Case(Ids.BEP_42, sybils) for sybils in CROWDS),
    *(Case(Ids.FREE, sybils) for sybils in CROWDS),
    Case(Ids.SPACED, CROWDS[1]),
)


class Put(Enum):
    """When the newest edition was put; the values are the words of the report."""

    BEFORE = "before"  # Before the attacker came.
    UPDATE = "update"  # While it was there; the edition before that is at honest machines too.
    FIRST = "first"  # While it was there, and no other edition exists.


ROWS = (
    (Put.BEFORE, Answers.OWN),
    (Put.BEFORE, Answers.INVENTED),
    (Put.BEFORE, Answers.OLDER),
    (Put.UPDATE, Answers.NOBODY),
    (Put.UPDATE, Answers.OLDER),
    (Put.FIRST, Answers.OWN),
)


@dataclass(frozen=True)
class EclipseRow:
    """The new readers of one key that is surrounded.

    `put`: when the newest edition was put. `answers`: what the attacker says of the key. `near`: how many of the 20
    nearest that answered a reader are the attacker's, on average.
    """

    ids: str
    sybils: int
    put: str
    answers: str
    gets: int
    nothing: Shared
    older_settled: Shared
    older: int
    newest: int
    near: float
    rpcs: float

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "ids": self.ids,
            "nodes": str(self.sybils),
            "put": self.put,
            "answer": self.answers,
            "nothing": str(self.nothing),
            "older as settled": str(self.older_settled),
            "older": f"{self.older} of {self.gets}",
            "newest": f"{self.newest} of {self.gets}",
            "of 20": f"{self.near:.1f}",
            "RPCs": f"{self.rpcs:.0f}",
        }


def eclipse(scale: Scale, progress: Progress, cases: Sequence[Case] = CASES) -> Report:
    """Grow the same world once for each attack; publish before and after it begins, and look up."""
    _, weather, draw = drawn_weather(scale.seed)
    draws = random.Random(f"{scale.seed}/addresses")
    estate = Estate(drawn_hosts(draws, HOSTILE_OCTETS, PREFIXES, HOSTS_PER_PREFIX))
    inventions = Estate(drawn_hosts(draws, INVENTED_OCTETS, INVENTED_PREFIXES, 1))
    stories = [partial(_story, case, estate, inventions, progress) for case in cases]
    return one_after_another(Report("eclipse", scale, draw), weather, progress, stories)


async def _story(
    case: Case, estate: Estate, inventions: Estate, progress: Progress, world: World, report: Report
) -> None:
    scale = report.scale
    world.checkers.has_liars = True
    await world.grow(scale.nodes)
    await world.publish(1)
    (known,) = world.owners
    older = known.engine.state.kept_alive()[0].item
    await asyncio.sleep(QUIET_S)
    await _publish(known)
    draws = random.Random(f"{scale.seed}/{case}")
    new = Owner(SecretKey.generate(draws.randbytes(32)), draws.choice(world.honest))
    attack = Attack(world.loop, world.network, inventions, draws)
    attack.honest = [krpc.NodeInfo(engine.node.node_id, engine.address) for engine in world.honest]
    for key, item in ((known.key, older), (new.key, None)):
        target = mutable_target(key.raw)
        contacts = sybil_contacts(case.ids, target, case.sybils, estate, attack.honest, draws)
        attack.surround(target, contacts, item)
    await _announce(attack)
    put = Put.BEFORE
    for number, (wanted, answers) in enumerate(ROWS):
        owner = new if wanted is Put.FIRST else known
        if wanted is not put:
            put = wanted
            await _publish(owner)
        attack.answers = answers
        looks = [await world.look_up(owner) for _ in range(scale.gets)]
        progress(f"{case.sybils} hostile nodes, ids {case.ids.value}: row", number + 1, len(ROWS))
        report.rows.append(row_of(case, put, answers, looks, attack.addresses))
        report.findings += world.findings()
    attack.close()


async def _publish(owner: Owner) -> None:
    await owner.engine.publisher.publish(owner.next_item())


async def _announce(attack: Attack) -> None:
    for part in [*range(ANNOUNCE_PARTS)] * ANNOUNCE_ROUNDS:
        attack.announce(part, ANNOUNCE_PARTS)
        await asyncio.sleep(1.0)


def row_of(case: Case, put: Put, answers: Answers, looks: Sequence[Look], hostile: frozenset[Address]) -> EclipseRow:
    """Return the figures of new readers."""
    nearest = [look.outcome.answered[:K] for look in looks]
    return EclipseRow(
        ids=case.ids.value,
        sybils=case.sybils,
        put=put.value,
        answers=answers.value,
        gets=len(looks),
        nothing=shared(sum(look.shown_seq is None for look in looks), len(looks)),
        older_settled=shared(sum(map(is_stale_and_settled, looks)), len(looks)),
        older=sum(is_stale(look.shown_seq, look) for look in looks),
        newest=sum(look.shown_seq == look.wanted_seq for look in looks),
        near=sum(address in hostile for answered in nearest for address in answered) / max(1, len(looks)),
        rpcs=sum(look.outcome.rpc_count for look in looks) / max(1, len(looks)),
    )
