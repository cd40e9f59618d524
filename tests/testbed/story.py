"""What the story has seen: rows of expected and seen, and what is made of them: a table, a JSON file, a picture.

Guarantees: every row of every scenario is in the report, those that did not hold first of all; the picture is drawn
without a screen. Does not know how anything was measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CELL_CHARACTERS_MAX = 60


@dataclass(frozen=True)
class Row:
    """One claim: what was expected, what was seen, and after how many seconds of its scenario."""

    scenario: str
    name: str
    expected: str
    seen: str
    held: bool
    seconds: float
    details: Any = None


@dataclass
class Story:
    """The rows so far, and facts about the whole run."""

    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _scenario: str = ""
    _scenario_began: float = 0.0

    @contextmanager
    def scenario(self, name: str) -> Iterator[None]:
        """Name what comes; at its end AssertionError when a row did not hold, KeyboardInterrupt after a signal."""
        self._scenario, self._scenario_began = name, time.monotonic()
        first = len(self.rows)
        try:
            yield
        except BaseException as trouble:
            words = str(trouble).splitlines()
            self.row("the scenario comes to its end", "it does", words[0] if words else type(trouble).__name__, False)
            if isinstance(trouble, SystemExit):
                # A signal ended a block of faults so; to pytest it would be the failure of one test.
                raise KeyboardInterrupt from trouble
            raise
        failed = [row for row in self.rows[first:] if not row.held]
        words = [f"{row.name}: expected {row.expected}, seen {row.seen}; {row.details}"[:1500] for row in failed]
        assert not failed, "\n".join(words)

    def row(self, name: str, expected: str, seen: object, held: bool, details: Any = None) -> None:
        """Add a row to the scenario."""
        seconds = round(time.monotonic() - self._scenario_began, 1)
        self.rows.append(Row(self._scenario, name, expected, str(seen), held, seconds, details))

    def count(self, name: str, right: int, total: int, details: Any = None) -> None:
        """Add a row that holds if all of them are right."""
        self.row(name, f"{total} of {total}", f"{right} of {total}", right == total and total > 0, details)

    @property
    def held(self) -> bool:
        """Whether every row held, and there is one."""
        return bool(self.rows) and all(row.held for row in self.rows)

    def table(self) -> list[str]:
        """Return the report as lines of text."""
        heads = ("scenario", "what", "expected", "seen", "s", "")
        cells = [heads] + [
            (row.scenario, row.name, row.expected, row.seen, f"{row.seconds:.1f}", "held" if row.held else "FAILED")
            for row in self.rows
        ]
        short = [[_short(cell) for cell in line] for line in cells]
        widths = [max(len(line[column]) for line in short) for column in range(len(heads))]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in short
        ]

    def write(self, folder: Path) -> None:
        """Write report.json and report.png into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        seconds = round(time.monotonic() - self._began, 1)
        report = {"held": self.held, "seconds": seconds, **self.facts, "rows": [asdict(row) for row in self.rows]}
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        draw(self.rows, self.facts, folder / "report.png")


def _short(text: str) -> str:
    return text if len(text) <= CELL_CHARACTERS_MAX else text[: CELL_CHARACTERS_MAX - 1] + "…"


def draw(rows: list[Row], facts: dict[str, Any], path: Path) -> None:
    """Draw how long each scenario took and what held, and which answers came when over bad links."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(14, 1 + 0.55 * max(6, len(scenarios))), width_ratios=(3, 2), layout="constrained"
    )
    for place, scenario in enumerate(reversed(scenarios)):
        own = [row for row in rows if row.scenario == scenario]
        seconds, held = max(row.seconds for row in own), sum(row.held for row in own)
        colour = "#3b7d4f" if held == len(own) else "#b03a3a"
        left.barh(place, max(seconds, 0.3), color=colour)
        left.text(max(seconds, 0.3), place, f"  {held} of {len(own)} held, {seconds:.0f} s", va="center", fontsize=8)
    left.set_yticks(range(len(scenarios)), list(reversed(scenarios)), fontsize=8)
    left.set_xlabel("seconds")
    left.set_title("what the story tells")
    left.margins(x=0.25)
    for label, values in facts.get("answer_ms", {}).items():
        ordered = sorted(values)
        share = [(index + 1) / len(ordered) for index in range(len(ordered))]
        right.step(ordered, share, where="post", label=f"{label} ({len(ordered)})")
    right.set_xscale("log")
    right.set_xlabel("ms until the answer of a cold name")
    right.set_ylabel("share of answers")
    right.set_title("good links and bad ones")
    if facts.get("answer_ms"):
        right.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
