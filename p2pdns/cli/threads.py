"""Work that blocks, beside a loop of asyncio.

Guarantees: the end of the process does not wait for it. Does not know what the work is.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(function: Callable[[], Result]) -> Result:
    """Return the result of a function that blocks."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def tell(set_it: Callable[[], None]) -> None:
        # The loop may have ended while the function ran.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if future.done() else set_it())

    def run() -> None:
        try:
            result = function()
        except BaseException as trouble:
            error = trouble
            tell(lambda: future.set_exception(error))
        else:
            tell(lambda: future.set_result(result))

    threading.Thread(target=run, name="publish", daemon=True).start()
    return await future
