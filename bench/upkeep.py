"""What it costs to keep a zone alive, and how often it is found: looks, and a put an hour as it was before.

    python bench/upkeep.py [--nodes 100] [--hours 96] [--zones 4] [--seed 7]

Simulated worlds with sessions of an hour, in which 0, 50 and 100 % of the machines forget an item after two hours, each
with 20 % that claim what they have not; each takes a quarter of an hour of CPU. Half of the zones are kept alive by
the production code, the others are put again every hour, in the same world. It prints the datagrams of a zone a day:
those of the publisher, and those that other machines sent about it by themselves (readers are left out). The first
day is dearer than the others: a cycle has yet to learn what its storers do, and the publication itself is one put
more. Exit status 1 when hourly puts cost the publisher less than four times as many datagrams, or when the zones are
found less often than by hourly puts, beyond chance.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from p2pdns.sim.report import Scale
from p2pdns.sim.scenarios.keeping import Conditions, KeepingRow, keeping

SHARES = (0.0, 0.5, 1.0)
LIARS = 0.2
RATIO_MIN = 4.0
GETS_AN_HOUR = 12
MISSED_MORE_MAX = 0.005  # Of the look-ups: with 288 of them, one or two more that were lost on the way.


def main() -> int:
    """Run the worlds, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--hours", type=float, default=96.0)
    parser.add_argument("--zones", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    gets = round(given.hours * GETS_AN_HOUR)
    scale = Scale(nodes=given.nodes, seed=given.seed, zones=given.zones, gets=gets, minutes=given.hours * 60)
    is_good = True
    print(
        f"{given.nodes} living machines, {given.hours:g} h, {given.zones} zones, {LIARS:.0%} liars, seed {given.seed}"
    )
    for share in SHARES:
        report = keeping(scale, lambda what, done, of: None, Conditions(share, LIARS))
        now, before = report.rows
        assert isinstance(now, KeepingRow)
        assert isinstance(before, KeepingRow)
        ratio = before.own / max(1.0, now.own)
        is_good &= ratio >= RATIO_MIN and now.availability >= before.availability - MISSED_MORE_MAX
        is_good &= not report.findings
        print(f"\n{share:.0%} forget after two hours: {ratio:.2f} times fewer datagrams of the publisher")
        for row in (now, before):
            print("  " + ", ".join(f"{name} {text}" for name, text in row.cells().items()), flush=True)
        for finding in report.findings:
            print(f"  finding: {finding}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
