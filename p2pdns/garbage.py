"""The collector of cyclic garbage, set up for a process that makes many values for each question and few cycles.

Guarantees: what was imported is never looked through again. Does not know what the process does.
"""

from __future__ import annotations

import gc

# Objects made before the collector looks for cycles among them, some megabytes. A cold question makes about a hundred,
# and nearly all go with their last reference: at Python's 700 the search took a tenth of the CPU of such a question
# (`bench/forward.py`).
YOUNG_OBJECTS_MAX = 10_000


def collect_seldom() -> None:
    """Let the collector pass over all that is there now, and look at new objects seldom.

    To look through what was imported for what has gone would halt all clients, for 20 ms at worst.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX)
