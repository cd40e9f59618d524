"""The rows of the story, expected and seen, and their reports: a table, a JSON file, a picture.

Guarantees: every row of every scenario is in the report; the picture is drawn without a screen. Does not know how
anything was measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from p2pdns.cli.ui import Column, table_lines

COLUMNS = [*map(Column, ("scenario", "what", "expected", "seen")), Column("s", "right"), Column("")]
CELL_CHARACTERS_MAX = 60
DETAILS_CHARACTERS_MAX = 1500


@dataclass(frozen=True)
class Row:
    """One claim: its expected and its seen value, and after how many seconds of its scenario."""

    scenario: str
    name: str
    expected: str
    seen: str
    held: bool
    seconds: float
    details: Any = None


@dataclass
class Story:
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _scenario: str = ""
    _scenario_began: float = 0.0

    @contextmanager
    def scenario(self, name: str) -> Iterator[Self]:
        """Name the next rows; at its end AssertionError when one did not hold, KeyboardInterrupt after a signal."""
        self._scenario, self._scenario_began = name, time.monotonic()
        first = len(self.rows)
        try:
            yield self
        except BaseException as trouble:
            words = str(trouble).splitlines()
            self.row("the scenario comes to its end", "it does", words[0] if words else type(trouble).__name__, False)
            if isinstance(trouble, SystemExit):
                # A signal ended a block of faults so; to pytest it would be the failure of one test.
                raise KeyboardInterrupt from trouble
            raise
        failed = [row for row in self.rows[first:] if not row.held]
        words = [f"{row.name}: expected {row.expected}, seen {row.seen}; {row.details}" for row in failed]
        assert not failed, "\n".join(line[:DETAILS_CHARACTERS_MAX] for line in words)

    def row(self, name: str, expected: str, seen: object, held: bool, details: Any = None) -> None:
        seconds = round(time.monotonic() - self._scenario_began, 1)
        self.rows.append(Row(self._scenario, name, expected, str(seen), held, seconds, details))

    def count(self, name: str, right: int, total: int, details: Any = None) -> None:
        self.row(name, f"{total} of {total}", f"{right} of {total}", right == total and total > 0, details)

    def same(self, name: str, expected: object, seen: object, details: Any = None) -> None:
        self.row(name, str(expected), seen, seen == expected, details)

    def none(self, name: str, found: Iterable[str], details: Any = None) -> None:
        self.same(name, "none", ", ".join(found) or "none", details)

    @property
    def held(self) -> bool:
        return bool(self.rows) and all(row.held for row in self.rows)

    def table(self) -> list[str]:
        lines = [
            (row.scenario, row.name, row.expected, row.seen, f"{row.seconds:.1f}", "held" if row.held else "FAILED")
            for row in self.rows
        ]
        most = CELL_CHARACTERS_MAX
        short = [[cell if len(cell) <= most else cell[: most - 1] + "…" for cell in line] for line in lines]
        return table_lines(COLUMNS, short)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        seconds = round(time.monotonic() - self._began, 1)
        report = {"held": self.held, "seconds": seconds, **self.facts, "rows": [asdict(row) for row in self.rows]}
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        draw(self.rows, self.facts.get("answer_ms", {}), folder / "report.png")


def draw(rows: list[Row], answer_ms: dict[str, list[float]], path: Path) -> None:
    """Draw the time and the rows of each scenario, and the times of answers over bad links."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    size = (14, 1 + 0.55 * max(6, len(scenarios)))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=size, width_ratios=(3, 2), layout="constrained")
    for scenario in reversed(scenarios):
        own = [row for row in rows if row.scenario == scenario]
        seconds, held = max(row.seconds for row in own), sum(row.held for row in own)
        bar = left.barh(scenario, max(seconds, 0.3), color="#3b7d4f" if held == len(own) else "#b03a3a")
        left.bar_label(bar, [f"  {held} of {len(own)} held, {seconds:.0f} s"], fontsize=8)
    left.set(xlabel="seconds", title="what the story tells")
    left.margins(x=0.25)
    for label, values in answer_ms.items():
        if values:
            right.ecdf(values, label=f"{label} ({len(values)})")
    right.set(xscale="log", xlabel="ms until the answer of a cold name", ylabel="share of answers")
    right.set_title("good links and bad ones")
    if answer_ms:
        right.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
