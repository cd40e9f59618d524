"""What a signal does to the story: it ends, and the end is not interrupted.

Guarantees: any signal that ends programs is Ctrl-C to the story, until it is told to ignore them; then neither it nor
what it starts hears one. Does not know what is to be done at the end.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deploy.testbed.faults import ENDING_SIGNALS


@contextmanager
def ending_by_signals() -> Iterator[Callable[[], None]]:
    """Make any signal that ends programs a Ctrl-C in the block; yield what makes it deaf to them.

    What takes the containers away must itself not be interrupted, nor the commands that it starts: they inherit it.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING_SIGNALS}

    def ignore() -> None:
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    try:
        yield ignore
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
