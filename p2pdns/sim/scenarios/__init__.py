"""The scenarios of simulated worlds: one module each, with a function of a scale and a progress line."""

from __future__ import annotations

from collections.abc import Callable

from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.churn import churn
from p2pdns.sim.scenarios.eclipse import eclipse
from p2pdns.sim.scenarios.flash import flash
from p2pdns.sim.scenarios.history import history
from p2pdns.sim.scenarios.lookup import lookup
from p2pdns.sim.scenarios.partition import partition
from p2pdns.sim.scenarios.race import race
from p2pdns.sim.scenarios.replay import replay
from p2pdns.sim.scenarios.scale import scale
from p2pdns.sim.scenarios.theft import theft
from p2pdns.sim.world import Progress

SCENARIOS: dict[str, Callable[[Scale, Progress], Report]] = {
    "lookup": lookup,
    "churn": churn,
    "partition": partition,
    "replay": replay,
    "eclipse": eclipse,
    "flash": flash,
    "race": race,
    "theft": theft,
    "scale": scale,
    "history": history,
}
