"""The results of a simulated world: rows of figures, broken rules, missed goals, and the data of its figure.

Guarantees: the same report has the same facts as text and as JSON. Does not know what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

FINDINGS_KEPT_MAX = 20  # So many are enough to find out what is wrong.


@dataclass(frozen=True)
class Scale:
    """How large a world is and what is asked of it, with the seed that decides the rest.

    `gets` is the number of look-ups of a row; `minutes` is how long the world is watched, where a scenario watches it.
    With `is_placed` the scenarios `lookup` and `scale` place a world of any size; without it they grow a small one.
    """

    seed: int
    nodes: int = 100
    gets: int = 200
    zones: int = 20
    minutes: float = 60.0
    is_placed: bool = False


class ReportRow(Protocol):
    """One line of a report's table; the fields of the dataclass are what `--json` shows."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""


@dataclass(frozen=True)
class Ring:
    """One look-up on the circle of ids, where 0 is the top and 1 the top again.

    `asked` has the machines that were asked, in this order, and after how many seconds; `first` of them were asked
    before the first valid item came.
    """

    alive: list[float]
    dead: list[float]
    target: float
    reader: float
    asked: list[tuple[float, float]]
    first: int


@dataclass
class Picture:
    """The data of a figure: a curve of times for each label, one of availability by hours, one look-up."""

    first_s: dict[str, list[float]] = field(default_factory=dict)
    done_s: dict[str, list[float]] = field(default_factory=dict)
    availability: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    ring: Ring | None = None


@dataclass
class Report:
    """The results of a world.

    `checked` has how many gets, items and answers were held against the rules; `notes` says in words what this run was
    too short to judge, and whether its world was placed; `lived_s` is how long all machines together were up.
    """

    scenario: str
    scale: Scale
    draw: dict[str, float] = field(default_factory=dict)
    rows: list[ReportRow] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    trace_sha256: str = ""
    virtual_s: float = 0.0
    lived_s: float = 0.0
    cpu_s: float = 0.0
    datagrams: int = 0
    picture: Picture = field(default_factory=Picture)

    @property
    def is_good(self) -> bool:
        """Whether every rule held and every goal was met."""
        return not (self.findings or self.missed)

    @property
    def node_hours_per_cpu_minute(self) -> float:
        """Simulated node hours per CPU minute; a machine that is down counts for nothing."""
        return self.lived_s / 60 / max(self.cpu_s, 1e-9)

    def must_not_exceed(self, name: str, value: float, most: float, unit: str = "") -> None:
        """Note a missed goal if a figure is above it."""
        if value > most:
            self.missed.append(f"{name}: {value:.4g}{unit}, {most:.4g}{unit} allowed")

    def must_reach(self, name: str, value: float, least: float, unit: str = "") -> None:
        """Note a missed goal if a figure is below it."""
        if value < least:
            self.missed.append(f"{name}: {value:.4g}{unit}, {least:.4g}{unit} wanted")


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the 95th and the 98th percentile; zeros where there is nothing.

    >>> quantiles([3.0, 1.0, 2.0])
    (2.0, 3.0, 3.0)
    """
    ordered = sorted(values) or [0.0]
    half, most, nearly_all = (ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.95, 0.98))
    return half, most, nearly_all


def ms_text(values: Sequence[float]) -> str:
    """Return seconds as milliseconds.

    >>> ms_text((0.05, 0.1))
    '50 / 100'
    """
    return " / ".join(f"{value * 1000:.0f}" for value in values)
