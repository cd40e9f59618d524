"""Nodes in a process of their own, for benches whose subject is another process: one request and one reply a line.

    python bench/swarm.py    (started by the benches; JSON on standard input and output)

`build`, `put`, `kill`, `holders`, `copies` and `spent` are the verbs. `Swarm` is the other end, for whoever measures.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lookup import DATAGRAMS, World, count_datagrams

from p2pdns import log
from p2pdns.addresses import write_address
from p2pdns.clock import boot_now
from p2pdns.dht.stored import StoredItem
from p2pdns.items.dividing import Division, gathered
from p2pdns.items.item import MutableItem, mutable_target
from p2pdns.items.keys import ZoneKey
from p2pdns.items.shards.pinned import Pinned

NETWORK = "bench"


class Answers:
    """What this process does for the one who measures."""

    def __init__(self) -> None:
        self.world = World(random.Random(0))

    async def build(self, count: int, seed: int) -> dict[str, Any]:
        """Start nodes and let them find each other."""
        self.world.rng.seed(seed)
        await self.world.build(count)
        # Each would be a process of its own, which looks through a fiftieth of all this for what has gone.
        gc.collect()
        gc.freeze()
        return {"addresses": [write_address(endpoint.address) for endpoint in self.world.live]}

    async def put(self, count: int) -> dict[str, Any]:
        """Have items put, and return their keys."""
        before = len(self.world.items)
        await self.world.put(count)
        return {"keys": [str(item.key) for item in self.world.items[before:]]}

    async def kill(self, percent: int) -> dict[str, Any]:
        """Close sockets without a word."""
        self.world.kill(percent)
        return {"living": len(self.world.live)}

    async def holders(self, target: str) -> dict[str, Any]:
        """Return the ids of all living nodes, and whether each holds the target."""
        key, now = bytes.fromhex(target), boot_now()
        nodes = [endpoint.node for endpoint in self.world.live]
        return {"nodes": {node.node_id.hex(): node.storage.held(key, now) is not None for node in nodes}}

    async def copies(self, key: str) -> dict[str, Any]:
        """Return target, seq and count of copies of each item of a zone, the head first; none where it is not whole."""
        zone_key, now = ZoneKey.read(key), boot_now()

        def held(target: bytes) -> list[StoredItem]:
            found = [endpoint.node.storage.held(target, now) for endpoint in self.world.live]
            return [stored for stored in found if stored is not None]

        def newest(target: bytes) -> MutableItem | None:
            items = [stored.item for stored in held(target) if isinstance(stored.item, MutableItem)]
            return max(items, key=lambda item: item.seq, default=None)

        head = newest(mutable_target(zone_key.raw, b""))
        if head is None:
            return {"items": []}
        wanted: dict[bytes, MutableItem] = {}

        def value_of(pinned: Pinned) -> bytes | None:
            item = newest(pinned.target(zone_key))
            if item is not None:
                wanted[item.target] = item
            return None if item is None else item.value

        division = gathered(zone_key.apex, head.value, value_of)
        if not isinstance(division, Division):
            return {"items": [], "missing": len(division)}
        items = [head, *wanted.values()]
        return {"items": [[item.target.hex(), item.seq, len(held(item.target))] for item in items]}

    async def spent(self) -> dict[str, Any]:
        """Return datagrams sent and CPU seconds so far."""
        return {"datagrams": DATAGRAMS[0], "cpu_s": time.process_time()}


async def serve() -> None:
    """Answer requests until the input ends."""
    answers = Answers()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        verb, arguments = json.loads(line)
        reply = await getattr(answers, verb)(**arguments)
        print(json.dumps(reply), flush=True)


class Swarm:
    """The end of the one who measures; it ends the process when it is left."""

    def __init__(self) -> None:
        program = [sys.executable, str(Path(__file__).resolve())]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *trouble: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Have something done and return what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([verb, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the nodes have ended"
        reply: dict[str, Any] = json.loads(line)
        return reply


if __name__ == "__main__":
    log.configure("error")
    count_datagrams()
    asyncio.run(serve())
