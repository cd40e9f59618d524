"""The targets of fuzzing: for each part that reads what strangers write, one function of bytes and bytes to begin with.

Guarantees: a target returns for any bytes, unless a promise of that part is broken; the same bytes always do the same,
so that what was found once can be replayed for ever. Does not know who chooses the bytes: a file, hypothesis, atheris.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import frames, front, items, messages, shards

FOUND = Path(__file__).with_name("found")
VECTORS = Path(__file__).parents[1] / "vectors"


@dataclass(frozen=True)
class Target:
    """A function that must return, and what it is tried with first."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _messages_of_vectors() -> list[bytes]:
    wires = json.loads((VECTORS / "messages.json").read_text("utf-8"))
    zones = json.loads((VECTORS / "zones.json").read_text("utf-8"))
    found = [bytes.fromhex(vector["wire"]) for vector in wires["good"] + wires["bad"]]
    return [
        data for data in found + [bytes.fromhex(vector["value"]) for vector in zones["vectors"]] if len(data) < 2000
    ]


def _shards_of_vectors() -> list[bytes]:
    vectors = json.loads((VECTORS / "shards.json").read_text("utf-8"))
    return shards.inputs(_messages_of_vectors(), vectors)


TARGETS: dict[str, Target] = {
    "gate": Target(front.converse, front.conversations),
    "compose": Target(front.be_answered, front.answerings),
    "link": Target(frames.read, frames.streams),
    "message": Target(messages.read, _messages_of_vectors),
    "item": Target(items.read, lambda: items.inputs(_messages_of_vectors())),
    "shards": Target(shards.read, _shards_of_vectors),
}


def found_inputs() -> list[tuple[str, Path]]:
    """Return (target, file) of everything that once broke a target; the file's name begins with the target's."""
    return [(path.name.partition("-")[0], path) for path in sorted(FOUND.iterdir()) if not path.name.startswith(".")]
