"""An hour of fifty production nodes in virtual time: names resolve through loss, and a seed is a history."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from p2pdns.sim import loop as virtual
from tests.sim_smoke.world import HOUR, LOSS

ROOT = Path(__file__).resolve().parents[2]
HASH_SEEDS = ("0", "1", "4242")
GUARD_S = 600.0  # About twelve seconds each on a quiet core.


def runs_of(*words: str) -> list[dict[str, Any]]:
    """Return what came of one seed in three processes, in each of which sets have an order of their own."""
    command = [sys.executable, "-m", "tests.sim_smoke.world", "--seed", "1", *words]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in HASH_SEEDS
    ]
    try:
        outputs = [process.communicate(timeout=GUARD_S)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads(output) for output in outputs]


# One test, because the hours are dear and pytest-xdist would run them once in each of its processes.
def test_an_hour_with_loss_and_a_power_cut_keeps_every_promise_and_is_the_same_three_times() -> None:
    done = runs_of()
    for each in done:
        sys.stdout.write(f"{each['trace']} {each['datagrams']} datagrams, {each['cpu_s']:.1f} s\n")
    hour = done[0]
    assert LOSS / 2 < hour["lost"] / hour["datagrams"] < LOSS * 2, "the network lost what it should"
    assert hour["told"] == [], "nothing went wrong on any machine"
    assert hour["unresolved"] == [], "every zone resolves whenever it is asked for"
    assert hour["missed_updates"] == [], "the reader ends with the last edition of every zone"
    assert hour["went_back"] == [], "nobody is shown less than he has seen, before a power cut or after it"
    assert hour["newest_after_restart"] == HOUR.zones, "a machine that comes back shows the newest editions at once"
    assert hour["stored_at_few"] == [], "more than half of the others keep each edition"
    assert hour["kept_after_restart"] == HOUR.zones // 2, "a publisher that comes back keeps its zones alive"
    assert len({each["trace"] for each in done}) == 1, "the same seed gives the same trace whatever order sets have"


def test_five_minutes_of_a_small_world_are_the_same_whatever_order_sets_have() -> None:
    done = runs_of("--short")
    assert len({each["trace"] for each in done}) == 1
    assert done[0]["unresolved"] == []


def test_virtual_time_passes_when_nothing_can_run_and_only_then() -> None:
    async def story(loop: virtual.VirtualLoop) -> list[float]:
        began = loop.time()
        for _ in range(100):
            await asyncio.sleep(0)
        turned = loop.time() - began
        await asyncio.gather(asyncio.sleep(3_600.0), asyncio.sleep(60.0))
        return [turned, loop.time() - began]

    assert virtual.run(story) == [0.0, 3_600.0]
