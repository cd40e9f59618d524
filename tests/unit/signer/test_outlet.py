"""The way of changes out: once a second at most, nothing lost, and again where too few nodes hold it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from p2pdns.errors import Unavailable
from p2pdns.publishing.editions import Draft
from p2pdns.signer.outlet import INTERVAL_S, RETRY_S_MAX, RETRY_S_MIN, Outlet, ZonePublished
from tests.signing import Signing
from tests.waiting import at_rest, until


class Overlay:
    """A publisher whose ends a test decides, and a clock with it."""

    def __init__(self, signing: Signing) -> None:
        self.signing = signing
        self.values: list[Draft] = []
        self.ends: list[bool | str] = []
        self.holds: asyncio.Event | None = None
        self.now = 0.0
        self.sleeps: list[tuple[float, asyncio.Event]] = []
        self.notified = 0

    async def publish(self, value: Draft) -> ZonePublished:
        """Note a value, and end as the test has said."""
        self.values.append(value)
        if self.holds is not None:
            await self.holds.wait()
        end = self.ends.pop(0) if self.ends else True
        if isinstance(end, str):
            raise Unavailable(end)
        return ZonePublished(end, "some nodes")

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test lets time pass."""
        done = asyncio.Event()
        self.sleeps.append((seconds, done))
        await done.wait()

    def notify(self) -> None:
        """Count."""
        self.notified += 1

    def pass_time(self) -> float:
        """Let the last sleep end and return its length."""
        seconds, done = self.sleeps.pop()
        self.now += seconds
        done.set()
        return seconds


def run(tmp_path: Path, story: Callable[[Overlay, Outlet], Coroutine[Any, Any, None]]) -> Overlay:
    """Tell a story with a running outlet."""
    overlay = Overlay(Signing(tmp_path))

    async def main() -> None:
        outlet = Outlet(
            overlay.signing.zone,
            overlay,
            overlay.notify,
            clock=lambda: overlay.now,
            tell=overlay.signing.lines,
            sleep=overlay.sleep,
        )
        task = asyncio.ensure_future(outlet.run())
        try:
            await story(overlay, outlet)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    return overlay


def change(overlay: Overlay, outlet: Outlet, number: int) -> None:
    """Change the zone as an UPDATE does."""
    assert overlay.signing.add("www", 100 + number, "A", "192.0.2.9") == "NOERROR"
    outlet.wake()


def test_many_changes_in_a_second_are_one_publication_of_the_last_content(tmp_path: Path) -> None:
    async def story(overlay: Overlay, outlet: Outlet) -> None:
        change(overlay, outlet, 0)
        await at_rest()
        for number in range(1, 20):
            change(overlay, outlet, number)
            await at_rest()
        assert len(overlay.values) == 1
        assert overlay.pass_time() == INTERVAL_S
        await at_rest()
        assert overlay.values[-1] == overlay.signing.zone.value()
        assert len(overlay.values) == 2

    overlay = run(tmp_path, story)
    assert overlay.notified == 2
    assert "www 119 A 192.0.2.9" in overlay.signing.path.read_text()


def test_a_change_during_a_publication_is_published_after_it(tmp_path: Path) -> None:
    async def story(overlay: Overlay, outlet: Outlet) -> None:
        overlay.holds = asyncio.Event()
        change(overlay, outlet, 0)
        await until(lambda: overlay.values)
        change(overlay, outlet, 1)
        overlay.holds.set()
        await until(lambda: overlay.sleeps)
        overlay.pass_time()
        await until(lambda: len(overlay.values) == 2)
        assert overlay.values[-1] == overlay.signing.zone.value()

    run(tmp_path, story)


@pytest.mark.parametrize("end", [False, "no daemon runs here"])
def test_a_publication_that_fails_is_tried_again_less_and_less_often(tmp_path: Path, end: bool | str) -> None:
    async def story(overlay: Overlay, outlet: Outlet) -> None:
        overlay.ends = [end] * 12
        change(overlay, outlet, 0)
        waits = []
        for _ in range(12):
            await at_rest()
            waits.append(overlay.pass_time())
            await at_rest()
        assert waits[:3] == [RETRY_S_MIN, 2 * RETRY_S_MIN, 4 * RETRY_S_MIN]
        assert max(waits) == RETRY_S_MAX
        await until(lambda: len(overlay.values) == 13)
        await at_rest()
        assert not outlet.is_due

    overlay = run(tmp_path, story)
    assert sum(event.startswith("not published yet") for _, event, _ in overlay.signing.lines.kept) == 12
    assert overlay.notified == 1


def test_a_change_ends_the_waiting_for_another_try(tmp_path: Path) -> None:
    async def story(overlay: Overlay, outlet: Outlet) -> None:
        overlay.ends = [False]
        change(overlay, outlet, 0)
        await until(lambda: overlay.sleeps)
        overlay.now += INTERVAL_S
        change(overlay, outlet, 1)
        await until(lambda: len(overlay.values) == 2)

    run(tmp_path, story)


def test_an_end_during_a_publication_leaves_it_due(tmp_path: Path) -> None:
    outlets = []

    async def story(overlay: Overlay, outlet: Outlet) -> None:
        overlay.holds = asyncio.Event()
        change(overlay, outlet, 0)
        outlets.append(outlet)
        await until(lambda: overlay.values)
        assert not outlet.is_due

    run(tmp_path, story)
    assert outlets[0].is_due


def test_a_file_with_a_mistake_does_not_keep_the_zone_from_the_overlay(tmp_path: Path) -> None:
    async def story(overlay: Overlay, outlet: Outlet) -> None:
        change(overlay, outlet, 0)
        overlay.signing.path.write_text("www A mistake\n")
        await until(lambda: overlay.values)
        assert overlay.values == [overlay.signing.zone.value()]

    overlay = run(tmp_path, story)
    assert overlay.signing.path.read_text() == "www A mistake\n"
    assert any("is not an IPv4 address" in reason for reason in overlay.signing.lines.reasons())
