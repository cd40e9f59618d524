"""What can happen in a simulated world: one module a scenario, each a function of a scale and a progress line."""

from __future__ import annotations

from collections.abc import Callable

from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.eclipse import eclipse
from p2pdns.sim.scenarios.lookup import lookup
from p2pdns.sim.scenarios.replay import replay
from p2pdns.sim.world import Progress

SCENARIOS: dict[str, Callable[[Scale, Progress], Report]] = {"lookup": lookup, "replay": replay, "eclipse": eclipse}
