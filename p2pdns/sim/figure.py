"""The picture of a simulated world: one look-up on the circle of ids, how long look-ups took, what was there when.

Guarantees: the same report gives the same picture; a panel without figures says so. Does not know what was measured.
It needs matplotlib, which the extra `sim` brings.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2pdns.errors import UsageError
from p2pdns.sim.network import RTT_S_MEDIAN
from p2pdns.sim.report import Report, Ring

INCHES = (13.5, 7.2)
DPI = 160
INK, ALIVE, FAINT, PALE, ACCENT, ALARM = "#22303c", "#5c7080", "#8795a1", "#d3dce4", "#0b7285", "#d9480f"
# From all alive to half dead: one colour that gets warmer.
SHADES = ("#0b7285", "#4c9a2a", "#e0a106", "#d9480f", "#8a1c7c", "#495057")
RTTS_MARKED = (1, 2, 4)
TICKS_MS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "grid.color": PALE,
    "legend.frameon": False,
}


def check(path: Path) -> None:
    """Raise `UsageError` if no picture can be drawn into this file: a world takes minutes, and this is known before."""
    if importlib.util.find_spec("matplotlib") is None:
        hint = "pip install 'p2pdns[sim]'"
        raise UsageError("a figure needs matplotlib, which is not installed", place="--figure", hint=hint)
    if not path.absolute().parent.is_dir():
        raise UsageError("no such directory", place=str(path.parent))


def draw(report: Report, path: Path) -> None:
    """Write the picture of a report as PNG; `UsageError` when the file cannot be written."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with mpl.rc_context(STYLE):
        figure = pyplot.figure(figsize=INCHES)
        grid = figure.add_gridspec(2, 2, width_ratios=(1.08, 1), hspace=0.42, wspace=0.16)
        grid.update(left=0.02, right=0.975, top=0.86, bottom=0.09)
        scale, verdict = report.scale, "every rule held" if not report.findings else "a rule was broken"
        figure.text(
            0.025, 0.945, f"{report.scenario}: {scale.nodes} machines, seed {scale.seed}", size=17, weight="bold"
        )
        drawn = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in report.draw.items())
        figure.text(0.025, 0.905, f"{drawn}. {report.datagrams:,} datagrams, {verdict}.", color=FAINT)
        _ring(figure.add_subplot(grid[:, 0]), report.picture.ring)
        _curves(figure.add_subplot(grid[0, 1]), report.picture.first_s)
        below = figure.add_subplot(grid[1, 1])
        if report.picture.availability:
            _availability(below, report.picture.availability)
        else:
            _ends(below, report.picture.first_s, report.picture.done_s)
        try:
            figure.savefig(path, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        except OSError as error:
            raise UsageError(f"cannot be written: {error.strerror}", place=str(path)) from None
        finally:
            pyplot.close(figure)


def _at(place: float, radius: float = 1.0) -> tuple[float, float]:
    """Return the point of a place on the circle, 0 at the top and on with the clock."""
    angle = math.tau * place
    return radius * math.sin(angle), radius * math.cos(angle)


def _ring(axes: Any, ring: Ring | None) -> None:
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title("One look-up on the circle of ids", pad=2)
    if ring is None:
        axes.text(0.5, 0.5, "no look-up was followed", ha="center", color=FAINT, transform=axes.transAxes)
        return
    axes.set_xlim(-1.28, 1.28)
    axes.set_ylim(-1.3, 1.22)
    for places, colour, label in (
        (ring.alive, ALIVE, f"alive ({len(ring.alive)})"),
        (ring.dead, PALE, f"dead ({len(ring.dead)})"),
    ):
        xs, ys = zip(*map(_at, places), strict=True) if places else ((), ())
        axes.scatter(xs, ys, s=14, color=colour, label=label, zorder=2)
    axes.plot(*zip(*(_at(step / 240) for step in range(241)), strict=True), color=PALE, linewidth=1, zorder=0)
    dead = set(ring.dead)
    start = _at(ring.reader)
    for number, (place, _) in enumerate(ring.asked):
        is_first, is_dead = number < ring.first, place in dead
        colour = ALARM if is_dead else ACCENT if is_first else FAINT
        _hop(axes, start, _at(place), colour, 1.8 if is_first else 0.6, 0.95 if is_first else 0.5)
        if is_first:
            axes.text(*_at(place, 1.09), str(number + 1), color=colour, ha="center", va="center", size=8)
    axes.scatter(*start, s=90, color=INK, zorder=4, label="the reader")
    # Outside of the circle, because the nearest machines are all round it.
    axes.scatter(*_at(ring.target, 1.17), s=150, marker="*", color=ALARM, zorder=4, label="the target")
    handles, labels = axes.get_legend_handles_labels()
    line = type(axes.plot([], [])[0])
    handles += [line([], [], color=colour) for colour in (ACCENT, FAINT, ALARM)]
    labels += [f"asked before the first answer ({ring.first})", f"asked after it ({len(ring.asked) - ring.first})"]
    axes.legend(
        handles, [*labels, "asked in vain"], loc="lower center", ncol=2, fontsize=8.5, bbox_to_anchor=(0.5, -0.1)
    )


def _hop(
    axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str, width: float, alpha: float
) -> None:
    """Draw a curve between two points that bends towards the middle, so that near ones can be told apart."""
    steps = [step / 24 for step in range(25)]
    middle = (0.25 * (start[0] + end[0]), 0.25 * (start[1] + end[1]))
    xs, ys = (
        [(1 - t) ** 2 * start[axis] + 2 * t * (1 - t) * middle[axis] + t * t * end[axis] for t in steps]
        for axis in (0, 1)
    )
    axes.plot(xs, ys, color=colour, linewidth=width, alpha=alpha, zorder=3 if width > 1 else 1)


def _curves(axes: Any, first_s: dict[str, list[float]]) -> None:
    axes.set_title("Time to the first valid item")
    axes.grid(axis="y")
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("share of the look-ups that found it")
    axes.set_xscale("log")
    if not any(first_s.values()):
        axes.text(0.5, 0.5, "nothing was looked up", ha="center", color=FAINT, transform=axes.transAxes)
        return
    for colour, (label, values) in zip(SHADES, first_s.items(), strict=False):
        xs, ys = _steps(values)
        axes.step(xs, ys, where="post", color=colour, linewidth=1.8, label=label)
    for rtts in RTTS_MARKED:
        axes.axvline(rtts * RTT_S_MEDIAN * 1000, color=PALE, linewidth=1, zorder=0)
        axes.text(rtts * RTT_S_MEDIAN * 1000, 1.02, f"{rtts} RTT", color=FAINT, size=8, ha="center")
    axes.set_ylim(0, 1.0)
    axes.set_xticks(TICKS_MS, map(str, TICKS_MS))
    axes.minorticks_off()
    longest = max(max(values) for values in first_s.values() if values) * 1000
    axes.set_xlim(TICKS_MS[0], max(1.2 * longest, 1.2 * RTTS_MARKED[-1] * RTT_S_MEDIAN * 1000))
    axes.legend(loc="lower right", fontsize=9)


def _steps(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the curve of seconds as milliseconds, and the share of them that was not longer."""
    ordered = [value * 1000 for value in sorted(values)]
    return ordered, [(number + 1) / len(ordered) for number in range(len(ordered))]


def _availability(axes: Any, slices: dict[str, list[tuple[float, float]]]) -> None:
    axes.set_title("Availability over time")
    axes.grid(axis="y")
    axes.set_xlabel("hours")
    axes.set_ylabel("found, %")
    lowest = 100.0
    for colour, (label, points) in zip(SHADES, slices.items(), strict=False):
        shares = [100 * share for _, share in points]
        lowest = min(lowest, *shares)
        axes.plot([hour for hour, _ in points], shares, color=colour, linewidth=1.8, label=label)
    axes.set_ylim(max(0.0, lowest - 2.0), 100.3)
    axes.legend(loc="lower left", fontsize=9)


def _ends(axes: Any, first_s: dict[str, list[float]], done_s: dict[str, list[float]]) -> None:
    axes.set_title("First valid item, and end of the look-up")
    axes.grid(axis="x")
    axes.set_xlabel("milliseconds: median, and the range from the 5th to the 95th percentile")
    for number, (colour, label) in enumerate(zip(SHADES, done_s, strict=False)):
        for values, height, alpha in ((first_s.get(label, []), 0.17, 1.0), (done_s[label], -0.17, 0.45)):
            ordered = sorted(value * 1000 for value in values)
            if not ordered:
                continue
            low, middle, high = (ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.05, 0.5, 0.95))
            axes.plot(
                [low, high], [number - height] * 2, color=colour, alpha=alpha, linewidth=5, solid_capstyle="round"
            )
            axes.scatter([middle], [number - height], s=34, color="white", edgecolor=colour, zorder=3)
    axes.set_yticks(range(len(done_s)), list(done_s))
    axes.tick_params(axis="y", colors=INK, length=0)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.text(1, 1.03, "full: the item, pale: the end", color=FAINT, size=9, ha="right", transform=axes.transAxes)
