"""A clock that is behind what was adopted is told; what a clock that was ahead has left can be cleared."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from p2pdns.admin import upkeep as upkeep_module
from p2pdns.admin.commands import Commands, EngineParts
from p2pdns.errors import UsageError
from p2pdns.items.item import CLOCK_STEP_S_MAX, Present
from p2pdns.items.keys import ZoneId
from p2pdns.state import State
from p2pdns.state import clockwatch as module
from p2pdns.state import marks as reader_module
from p2pdns.state.clockwatch import ClockWatch
from tests.unit.state.test_state import ALICE, BOB, adopt, item_of, mark_seq

DAY = 86_400.0
UNIX = 1_800_000_000.0


def test_a_clock_that_is_behind_is_logged_when_it_is_found_so_and_told_while_it_lasts() -> None:
    clock = [UNIX - 40 * DAY]
    watch = ClockWatch(SimpleNamespace(newest_seq=int((UNIX - 2 * DAY) * 1_000_000)), lambda: clock[0])
    with capture_logs() as said:
        for _ in range(3):
            watch.look()
    warning = watch.warning
    assert warning is not None
    assert [(line["log_level"], line["event"]) for line in said] == [("warning", warning)]
    assert "shows 2026-12-06 08:00:00 UTC" in warning
    assert "signed at 2027-01-13 08:00:00 UTC" in warning
    # A day is how far ahead a signature may lie, and a time server may set a clock back a little.
    clock[0] = UNIX - 3 * DAY - CLOCK_STEP_S_MAX
    with capture_logs() as said:
        watch.look()
        watch.look()
    assert watch.warning is None
    (line,) = said
    assert "no longer behind" in line["event"]


def test_storage_is_told_the_present_at_once_and_at_every_look() -> None:
    told: list[Present] = []
    state = SimpleNamespace(newest_seq=None)
    watch = ClockWatch(state, lambda: UNIX, told.append)
    state.newest_seq = 7
    watch.look()
    assert told == [Present(UNIX), Present(UNIX, 7)]


def test_who_has_adopted_nothing_knows_nothing_of_the_time() -> None:
    assert ClockWatch(SimpleNamespace(newest_seq=None), lambda: 0.0).warning is None
    assert module.__doc__


def test_forget_ahead_clears_what_a_clock_that_was_ahead_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    state = State.open(None)
    forgotten: dict[str, list[Any]] = {"overlay": [], "publisher": []}
    engine = SimpleNamespace(
        state=state,
        overlay=SimpleNamespace(forget_above=forgotten["overlay"].append),
        publisher=SimpleNamespace(forget=forgotten["publisher"].append),
        clock_watch=ClockWatch(state.reader, lambda: UNIX),
    )
    commands = Commands(cast("EngineParts", engine))
    with contextlib.closing(state):
        monkeypatch.setattr(reader_module, "unix_now", lambda: UNIX + 40 * DAY)
        ahead = item_of(int((UNIX + 40 * DAY) * 1_000_000))
        adopt(state, ahead, own=True)
        adopt(state, item_of(int(UNIX * 1_000_000), secret=BOB), own=True)
        monkeypatch.setattr(reader_module, "unix_now", lambda: UNIX)
        monkeypatch.setattr(upkeep_module, "unix_now", lambda: UNIX)
        assert engine.clock_watch.warning is not None
        request = {"verb": "forget", "ahead": True}
        assert asyncio.run(commands.forget(request, lambda facts: None)) == {"forgotten": 1}
        assert (mark_seq(state), mark_seq(state, BOB)) == (None, int(UNIX * 1_000_000))
        assert forgotten == {"overlay": [int((UNIX + DAY) * 1_000_000)], "publisher": [ZoneId.of_key(ALICE.zone_key)]}
        assert engine.clock_watch.warning is None
        with pytest.raises(UsageError):
            asyncio.run(commands.forget({"verb": "forget"}, lambda facts: None))
