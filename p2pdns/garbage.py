"""Python's collector of cyclic garbage, set for a process that makes many values for each question and few cycles.

Guarantees: the collector never looks through imported modules again. Does not know what the process does.
"""

from __future__ import annotations

import gc

# New objects after which the collector looks for cycles: some megabytes. A cold question makes about a hundred, and
# nearly all go with their last reference: at Python's 700 the search took a tenth of the CPU of such a question
# (`bench/forward.py`).
YOUNG_OBJECTS_MAX = 10_000


def collect_seldom() -> None:
    """Make the collector pass over all present objects, and look at new ones seldom.

    A search through all imported modules would halt every client, for 20 ms at worst.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX)
