"""What floods of puts do to one node: honest items that stay, the database, refusals, and the CPU that signatures take.

    python bench/flood.py [--items 100000] [--seconds 10] [--quick]

A node as `p2pdns serve --no-dns` runs it keeps honest items. Then come validly signed items of one key, with salts that
are ground so that their targets are the nearest to the node's own id: many from one prefix (on loopback an address with
its port), as many as a node keeps of a key from one prefix, and as many from 24. After each of these floods the honest
items are counted, and a few strangers bring a new key each. Last come forged updates of an honest key from 128 prefixes
at once, as fast as the node takes them, of which each would cost a check of its signature. The share of signatures is
the checks made times what a check takes here, over the time passed.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from p2pdns.addresses import read_address
from p2pdns.admin.control import ControlClient
from p2pdns.dht import krpc
from p2pdns.dht.bencode import encode
from p2pdns.dht.keyed import ITEMS_OF_KEY_MAX
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.items.item import MutableItem, mutable_target
from p2pdns.items.keys import SecretKey

NETWORK = "flood"
HONEST = 30
PREFIXES = 128  # At 16 checks a second each they ask for more than the node gives to all.
WINDOW = 48  # Requests on their way, so that the node always has some and its socket holds all.
PREFIXES_OF_KEY = 24
NEWCOMERS = 5
SALTS_TRIED = 16  # For each key; more would measure the grinder.
CHECKS_TIMED = 500
REPLY_S_MAX = 5.0
RETRY_S, TRIES_MAX = 0.25, 80
SEQ = 1_800_000_000_000_000
SIGNATURE_SHARE_MAX = 0.30
DATABASE_BYTES_MAX = 64 * 2**20  # 12 MB of values by default, their rows, indices and journal.


class Node:
    """A node as a process."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        words = ["--no-dns", "--state", str(self.state), "--network", NETWORK, "--dht", "127.0.0.1:0"]
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "p2pdns", "serve", *words, "--upstream", "none"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "P2PDNS_CONFIG": os.devnull},
        )
        self._control = ControlClient(self.state)
        while not self._control.is_running():
            assert self._process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        status = self.status()
        self.address = read_address(status["dht_address"])
        self.node_id = bytes.fromhex(status["node_id"])

    def status(self) -> dict[str, Any]:
        """Return what it says of itself."""
        status: dict[str, Any] = self._control.call("status")["status"]
        return status

    def counters(self) -> Counter[str]:
        """Return what its DHT has counted."""
        return Counter(self.status()["counters"]["dht"])

    def cpu_s(self) -> float:
        """Return what it has spent."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Stop it and wait."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        self._log.close()


class Stranger:
    """Somebody with a socket, which on loopback is a prefix of its own."""

    def __init__(self, node: Node) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(REPLY_S_MAX)
        self.sock.connect(node.address)

    def send(self, request: krpc.Request, transaction: bytes) -> None:
        """Send a query."""
        query = krpc.RequestMessage(
            transaction=transaction,
            node_id=b"\x55" * 20,
            request=request,
            read_only=True,
            network=krpc.network_of(NETWORK),
        )
        self.sock.send(compose(query))

    def ask(self, request: krpc.Request) -> krpc.Message:
        """Return the answer to one query, asked until the node has budget for an address that it does not know."""
        for _ in range(TRIES_MAX):
            self.send(request, b"one!")
            if select.select([self.sock], [], [], RETRY_S)[0]:
                return parse(self.sock.recv(2_048))
        raise AssertionError("the node does not answer")

    def token(self, target: bytes) -> bytes:
        """Return the right to put there."""
        reply = self.ask(get_of(target))
        assert isinstance(reply, krpc.Reply)
        assert reply.token is not None
        return reply.token


def get_of(target: bytes) -> krpc.Get:
    """Return a get with so much pad that no budget decides about the reply."""
    return krpc.Get(target, None, None, 400)


def put_of(item: MutableItem, token: bytes) -> krpc.PutMutable:
    """Return a put of an item."""
    return krpc.PutMutable(item.key.raw, item.seq, encode(item.value), item.signature, token, item.salt)


def ground(secret: SecretKey, node_id: bytes) -> Iterator[MutableItem]:
    """Yield signed items of one publisher whose salts are ground: each target is the nearest to the node of many."""
    own, number = int.from_bytes(node_id), 0

    def distance(salt: bytes) -> int:
        return int.from_bytes(mutable_target(secret.zone_key.raw, salt)) ^ own

    while True:
        salts = [b"%d" % n for n in range(number, number + SALTS_TRIED)]
        number += SALTS_TRIED
        yield MutableItem.signed(secret, SEQ, b"flood", min(salts, key=distance))


def of_one_key(node: Node, count: int, prefix_count: int) -> tuple[Counter[str], float]:
    """Put that many new items of one key from so many prefixes; return the answers by kind and the seconds."""
    strangers = [Stranger(node) for _ in range(prefix_count)]
    items = ground(SecretKey.generate(os.urandom(32)), node.node_id)
    for stranger in strangers:
        # Who has presented a token is no longer rationed as a forged address would be.
        first = next(items)
        stranger.ask(put_of(first, stranger.token(first.target)))
    under_way: dict[bytes, MutableItem] = {}
    answers: Counter[str] = Counter()
    began, begun = time.monotonic(), 0
    while sum(answers.values()) < count:
        while begun < count and len(under_way) < WINDOW:
            item = next(items)
            transaction = begun.to_bytes(4)
            under_way[transaction] = item
            strangers[begun % prefix_count].send(get_of(item.target), transaction)
            begun += 1
        ready = select.select([stranger.sock for stranger in strangers], [], [], REPLY_S_MAX)[0]
        if not ready:
            # What was lost in a full buffer is not sent again: an attacker would not care.
            answers["no answer"] += len(under_way)
            under_way.clear()
            continue
        for stranger in strangers:
            if stranger.sock not in ready:
                continue
            reply = parse(stranger.sock.recv(2_048))
            found = under_way.get(reply.transaction)
            if found is None:
                continue
            if isinstance(reply, krpc.Reply) and reply.token is not None:
                stranger.send(put_of(found, reply.token), reply.transaction)
                continue
            del under_way[reply.transaction]
            answers[f"refused, {reply.text}" if isinstance(reply, krpc.Error) else "kept"] += 1
    return answers, time.monotonic() - began


def takes_newcomers(node: Node) -> int:
    """Return how many of a few strangers with a new key each are served."""
    count = 0
    for _ in range(NEWCOMERS):
        stranger, item = Stranger(node), MutableItem.signed(SecretKey.generate(os.urandom(32)), SEQ, b"newcomer")
        count += isinstance(stranger.ask(put_of(item, stranger.token(item.target))), krpc.Reply)
    return count


def many_prefixes(node: Node, item: MutableItem, seconds: float) -> tuple[int, float]:
    """Forge updates of an honest item from many prefixes for a while; return how many and the seconds."""
    strangers = [Stranger(node) for _ in range(PREFIXES)]
    tokens = [stranger.token(item.target) for stranger in strangers]
    sent = under_way = 0
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        while under_way < WINDOW:
            put = krpc.PutMutable(
                item.key.raw, SEQ + 1 + sent, encode(b"forged"), bytes(63) + b"\x01", tokens[sent % PREFIXES]
            )
            strangers[sent % PREFIXES].send(put, b"put!")
            sent += 1
            under_way += 1
        ready = select.select([stranger.sock for stranger in strangers], [], [], 1.0)[0]
        for sock in ready:
            sock.recv(2_048)
        under_way = under_way - len(ready) if ready else 0
    return sent, time.monotonic() - began


def check_s() -> float:
    """Return what a check of a signature costs here, in seconds of CPU."""
    item = MutableItem.signed(SecretKey.generate(b"\x05" * 32), SEQ, b"checked")
    began = time.process_time()
    for _ in range(CHECKS_TIMED):
        MutableItem.verified(item.key, item.seq, item.value, item.signature)
    return (time.process_time() - began) / CHECKS_TIMED


def print_flood(title: str, node: Node, before: Counter[str], cpu_before: float, seconds: float) -> bool:
    """Print what one flood has done; return whether signatures kept within their share."""
    counters = node.counters()
    counters.subtract(before)
    refused = {name.removeprefix("put-refused-"): n for name, n in counters.items() if name.startswith("put-refused-")}
    checks = counters["put-stored"] + refused.get("bad-signature", 0)
    cost = check_s()
    share = checks * cost / seconds
    met = share <= SIGNATURE_SHARE_MAX
    print(f"{title}: {seconds:.0f} s, load {os.getloadavg()[0]:.1f}")
    print(
        "    refused: " + (", ".join(f"{name} {count}" for name, count in sorted(refused.items()) if count) or "none")
    )
    print(
        f"    signatures: {checks} checks of {cost * 1e6:.0f} us, {100 * share:.1f} % of one core "
        f"(goal {100 * SIGNATURE_SHARE_MAX:.0f} %: {'met' if met else 'MISSED'}); "
        f"the node's CPU in all {100 * (node.cpu_s() - cpu_before) / seconds:.0f} %",
        flush=True,
    )
    return met


def honest_left(node: Node, items: Sequence[MutableItem]) -> int:
    """Return how many of the honest items a reader gets."""
    reader = Stranger(node)
    replies = [reader.ask(get_of(item.target)) for item in items]
    return sum(isinstance(r, krpc.Reply) and r.value == encode(i.value) for r, i in zip(replies, items, strict=True))


def main() -> int:
    """Run the floods and print what they did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true", help="5,000 items in the first flood, 3 seconds of the last")
    options = parser.parse_args()
    if options.quick:
        options.items, options.seconds = min(options.items, 5_000), min(options.seconds, 3.0)
    with tempfile.TemporaryDirectory(prefix="p2pdns-bench-") as folder:
        node = Node(Path(folder))
        try:
            honest = [MutableItem.signed(SecretKey.generate(os.urandom(32)), SEQ, b"honest") for _ in range(HONEST)]
            for item in honest:
                stranger = Stranger(node)
                assert isinstance(stranger.ask(put_of(item, stranger.token(item.target))), krpc.Reply)
            met = True
            for count, prefix_count in ((options.items, 1), (ITEMS_OF_KEY_MAX, 1), (ITEMS_OF_KEY_MAX, PREFIXES_OF_KEY)):
                before, cpu = node.counters(), node.cpu_s()
                answers, seconds = of_one_key(node, count, prefix_count)
                met &= print_flood(f"{count} items of one key from {prefix_count} prefixes", node, before, cpu, seconds)
                print("    answers: " + ", ".join(f"{kind} {count}" for kind, count in answers.most_common()))
                served, left = takes_newcomers(node), honest_left(node, honest)
                print(
                    f"    honest items left: {left} of {HONEST}; newcomers served: {served} of {NEWCOMERS}", flush=True
                )
                met &= served == NEWCOMERS and left == HONEST
            before, cpu = node.counters(), node.cpu_s()
            sent, seconds = many_prefixes(node, honest[0], options.seconds)
            met &= print_flood(f"{sent} forged updates from {PREFIXES} prefixes", node, before, cpu, seconds)
            left, held = honest_left(node, honest), node.status()["items_held"]
        finally:
            node.end()
        size = sum(path.stat().st_size for path in node.state.glob("store.sqlite*"))
    met &= left == HONEST and size <= DATABASE_BYTES_MAX
    print(f"honest items left: {left} of {HONEST}; items held {held}; database {size / 2**20:.2f} MB")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
