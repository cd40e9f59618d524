"""The scenario `lifetimes`: a few machines for more than a day, to see how long an item lives.

First the publishers are up, and must put their zones again before eight hours are over. Then all machines but one that
stores an item go away for a day; when the others come back, without the publishers, no machine may store or serve the
item any more. Guarantees: the verdict is bad if a rule was broken. Does not know how it is shown; as it measures
nothing, it is none of the scenarios of the command line.
"""

from __future__ import annotations

import asyncio

from p2pdns.clock import boot_now
from p2pdns.dht.storage import RETENTION_S
from p2pdns.publishing.cycle import CYCLE_S_MAX
from p2pdns.sim.churn import HOUR_S, MINUTE_S
from p2pdns.sim.network import Weather
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.story import told
from p2pdns.sim.world import Progress, World

SETTLE_S = 600.0
LOOK_EVERY_S = 10 * MINUTE_S
PUBLISHED_S = CYCLE_S_MAX + HOUR_S  # A whole cycle of looks, the put at its end, and then some.
BACK_S = 60.0  # From the return of the machines to the last look: they have found each other by then.
PUBLISHERS = 1


def lifetimes(scale: Scale, progress: Progress) -> Report:
    """Publish in a tiny world, leave it alone for a day, and see that nothing is left; `scale.minutes` is not used."""

    async def story(world: World, report: Report) -> None:
        await world.grow(scale.nodes)
        await asyncio.sleep(SETTLE_S)
        publishers = world.honest[-PUBLISHERS:]
        await world.publish(scale.zones, at=publishers)
        for step in range(round(PUBLISHED_S / LOOK_EVERY_S)):
            await asyncio.sleep(LOOK_EVERY_S)
            report.findings += world.findings()
            progress("republishing", step + 1, round(PUBLISHED_S / LOOK_EVERY_S))
        report.findings += await _left_alone(world)
        report.findings += world.findings()

    return told(Report("lifetimes", scale), Weather(), progress, story)


async def _left_alone(world: World) -> list[str]:
    """Leave one holder alone for a day, let the others come back, and return what is still stored or served."""
    owner = world.owners[0]
    holders = [one for one in world.honest if one is not owner.engine and world.seq_held(one, owner.target) is not None]
    if not holders:
        return [f"{owner.key}: no other machine has stored it"]
    alone = world.random.choice(holders)
    away = [one for one in world.living if one is not alone]
    for engine in away:
        await engine.stop()
    gone_at = boot_now() + RETENTION_S
    await asyncio.sleep(gone_at - boot_now() + MINUTE_S)
    findings = _stored(world, [alone.address[0]])
    publishers = {owner.engine.address: None for owner in world.owners}
    back = [engine for engine in away if engine.address not in publishers]
    for engine in back:
        engine.begin()
    await asyncio.sleep(BACK_S)
    findings += _stored(world, [engine.address[0] for engine in back])
    for engine in world.honest:
        look = await world.look_up_at(engine, owner)
        if look.shown_seq is not None:
            findings.append(f"{engine.address[0]} finds {owner.key}, which nobody has put for a day")
    return findings


def _stored(world: World, hosts: list[str]) -> list[str]:
    """Return a finding for each machine that still stores an item."""
    now = boot_now()
    return [
        f"{engine.address[0]} stores {owner.key}, which nobody has put for a day"
        for engine in world.honest
        for owner in world.owners
        if engine.address[0] in hosts and engine.node.storage.held(owner.target, now) is not None
    ]
