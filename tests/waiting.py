"""How tests wait: until something holds, or until nothing more can happen. Nothing here counts rounds of the loop.

`until` is for what has no event of its own; where there is a future or an event, a test awaits that. `at_rest` is for
the claim that nothing more happens, and for all that follows at once from what the test has just done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

GUARD_S = 30.0  # What a test waits for takes milliseconds; this is ten times what it takes on a busy machine.
ROUNDS_MAX = 100_000  # The longest chain of tasks that wake one another has a few thousand.


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until a condition holds; raise TimeoutError if it never does."""
    async with asyncio.timeout(GUARD_S):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0)


async def at_rest(look: Callable[[], None] = lambda: None) -> None:
    """Let the loop turn until every other task waits for a timer, a socket or the test; `look` is called each turn.

    Nothing is ready, and a look at the sockets has made nothing ready. Only one task at a time may wait for this. It
    does not wait for other threads or processes: `until` does.
    """
    loop = asyncio.get_running_loop()
    quiet_count = 0
    for _ in range(ROUNDS_MAX):
        await asyncio.sleep(0)
        look()
        # What is ready, the loop tells nobody. What was written to a socket just now is ready in the round after this.
        quiet_count = 0 if loop._ready else quiet_count + 1  # type: ignore[attr-defined]
        if quiet_count == 2:
            return
    raise AssertionError("the loop never comes to rest")
