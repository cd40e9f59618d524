"""The copies of a zone that somebody publishes through this daemon, by the daemon's node and publisher.

Guarantees: what is put is kept alive from then on; a mark and an item of this machine count as seen. Does not know the
control socket, nor the publication.
"""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

from p2pdns.admin.control import Progress
from p2pdns.clock import boot_now, unix_now
from p2pdns.items.keys import ZoneId
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.families import Families
from p2pdns.publishing.pacing import Standing
from p2pdns.publishing.partkeeping import PartKeeper
from p2pdns.publishing.replicas import HeldHere, NodeReplicas, PublishStage
from p2pdns.publishing.upkeep import Publisher
from p2pdns.state import State


class PublishingParts(Protocol):
    """The engine as a publication uses it."""

    state: State
    endpoint: Endpoint | Families
    publisher: Publisher
    part_keeper: PartKeeper


def replicas_of(engine: PublishingParts, zone_id: ZoneId, report: Progress) -> NodeReplicas:
    """Return the copies of a zone; each stage of a put is reported."""
    publisher, reader = engine.publisher, engine.state.reader

    def tell(stage: PublishStage) -> None:
        report(stage.to_json())

    def rationed(standing: Standing) -> None:
        tell(PublishStage("rationed", standing._asdict()))

    def known() -> HeldHere:
        mark, held = reader.mark(zone_id), reader.held(zone_id)
        return HeldHere(None if mark is None else mark.seq, None if held is None else held.item)

    return NodeReplicas(
        zone_id,
        engine.endpoint,
        lambda item, cas, on_progress: publisher.publish(item, on_progress, rationed, cas=cas),
        clock=boot_now,
        unix_clock=unix_now,
        jitter=random.random,
        sleep=asyncio.sleep,
        known=known,
        tell=tell,
    )
