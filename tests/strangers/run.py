"""Put our nodes and those of the Rust crates together, both ways, and compare what each finds with what was put.

    python -m tests.strangers.run PROGRAM

PROGRAM is the built crate beside this file (`make strangers` builds it). Everything is on loopback. Prints a table of
what was compared, and every mismatch; the exit status is 1 if there is one, or if a goal is missed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from p2pdns.clock import boot_now
from p2pdns.demo.swarm import Swarm
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings, PutOutcome, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.items.item import ImmutableItem, Item, MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.net.endpoint import Endpoint
from tests.live.served import p2pdns
from tests.strangers.crates import Crates, Held, RefusedError
from tests.strangers.zones import ZONES

VERSIONS = (5, 8)
READERS = ("c5", "c8")
AT_ONCE = 3  # Commands of ours that run at the same time; more only wait for each other on two cores.
PAUSE_S = 0.5  # Between reads of values up to 1000 bytes from three nodes, which ration read-only strangers.
SEQ = 1_700_000_000_000_000
READ_COUNT, READS_PER_SECOND, READ_BYTES = 40, 5.0, 300


def seed_of(number: int) -> bytes:
    """Return what one of the keys grows from, the same in each run."""
    return number.to_bytes(32, "big")


def secret_of(number: int) -> SecretKey:
    """Return that key."""
    return SecretKey.generate(seed_of(number))


@dataclass
class Report:
    """What was compared, and what was not as it should be."""

    rows: list[tuple[str, int, int]] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)

    def row(
        self, what: str, trials: Iterable[tuple[str, Callable[[], object], object]], *, pause_s: float = 0.0
    ) -> None:
        """Compare what each trial brings with what it should; what it raises is a mismatch too."""
        count, bad_count, began = 0, 0, time.monotonic()
        for name, trial, wanted in trials:
            count += 1
            time.sleep(pause_s)
            try:
                found = trial()
            except RefusedError as error:
                found = f"refused: {error}"
            if found != wanted:
                bad_count += 1
                self.mismatches.append(f"{what}, {name}: {found!r}\n    in place of {wanted!r}")
        self.rows.append((what, count, bad_count))
        print(f"{what:68}{count:6}{bad_count:6}   {time.monotonic() - began:5.1f} s", flush=True)


def held(item: MutableItem | None) -> Held | None:
    """Return an item of ours as the crates tell theirs."""
    return None if item is None else Held(item.seq, item.value, item.signature)


class Place:
    """A directory with keys and zone files, and the commands that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "empty.toml").write_text('[dht]\nlisten = "127.0.0.1:0"\n\n[upstream]\nservers = "none"\n')

    def publish(self, number: int, text: str, *flags: str) -> str:
        """Publish a zone and return what went wrong, nothing if all is well."""
        key, zone = self.folder / f"{number}.key", self.folder / f"{number}.zone"
        if not key.exists():
            key.write_bytes(secret_of(number).write(None))
            key.chmod(0o600)
        zone.write_text(f"$TTL 300\n{text}\n")
        done = p2pdns("publish", "-k", key, "--size-max", "996", *self._flags(flags), zone)
        return "" if done.returncode == 0 else done.stderr

    def inspect(self, number: int, *flags: str) -> MutableItem | None:
        """Return what we find of a zone."""
        found = self.folder / f"{number}.{time.monotonic_ns()}.item"
        done = p2pdns("inspect", str(secret_of(number).zone_key), "-o", found, *self._flags(flags))
        return MutableItem.read_file(found.read_bytes()) if done.returncode == 0 else None

    def _flags(self, flags: tuple[str, ...]) -> tuple[str, ...]:
        return ("-c", str(self.folder / "empty.toml"), *flags)


def new_folder(parent: Path, name: str) -> Path:
    """Return a new directory."""
    folder = parent / name
    folder.mkdir(mode=0o700)
    return folder


def kept_by_crates(report: Report, program: Path, folder: Path, version: int) -> None:
    """Publish to nodes of one version alone, and read there with nobody of ours alive."""
    place = Place(folder)
    with Crates(program) as crates:
        bootstrap: list[str] = []
        for number in range(4):
            bootstrap.append(crates.node(f"s{number}", version, "server", bootstrap[:1]))
        crates.node("reader", version, "client", bootstrap)
        crates.tell("pkarr", "pkarr", ",".join(bootstrap))
        flags = ["--network", "unnamed", "--bootstrap", bootstrap[0]]
        keys = dict(enumerate(ZONES, start=100 * version))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            published = dict(zip(keys, pool.map(lambda n: place.publish(n, ZONES[keys[n]], *flags), keys), strict=True))
        report.row(
            f"published by p2pdns, nodes of mainline {version} alone: acknowledged",
            [(keys[n], partial(str, said), "") for n, said in published.items()],
        )
        with ThreadPoolExecutor(AT_ONCE) as pool:
            items = dict(zip(keys, pool.map(lambda n: place.inspect(n, *flags), keys), strict=True))
        raw = {n: secret_of(n).zone_key.raw for n in keys}
        report.row(
            f"  read by mainline {version}, by no node of ours",
            [(keys[n], partial(crates.get, "reader", raw[n]), held(item) or "item") for n, item in items.items()],
        )
        if version == 5:
            # mainline 5 reads transactions of two bytes only, pkarr 8 of four only: they never speak to each other.
            return
        report.row(
            "  read by pkarr 8",
            [(keys[n], partial(pkarr, crates, n), held(item) or "item") for n, item in items.items()],
        )


def pkarr(crates: Crates, number: int) -> Held:
    """Return what a client of pkarr resolves."""
    return Held.read(crates.tell("pkarr-resolve", "pkarr", secret_of(number).zone_key))


def kept_by_us(report: Report, program: Path, folder: Path) -> None:
    """Publish packets of every kind by pkarr to nodes started by `serve`, and read through a daemon."""
    place = Place(folder)
    with Swarm(new_folder(folder, "swarm"), "unnamed") as swarm, Crates(program) as crates:
        bootstrap = [str(facts["dht_address"]) for facts in swarm.grow(3)]
        state = str(swarm.nodes[0].state)
        crates.tell("pkarr", "pkarr", ",".join(bootstrap))
        for version in VERSIONS:
            crates.node(f"reader{version}", version, "client", bootstrap)
        kinds = dict(enumerate(crates.tell("kinds").split(), start=1_000))
        packets: dict[int, Held | str] = {}
        for number, kind in kinds.items():
            try:
                packets[number] = Held.read(crates.tell("pkarr-publish", "pkarr", seed_of(number).hex(), kind))
            except RefusedError as error:
                packets[number] = f"refused: {error}"
        report.row(
            "published by pkarr 8, nodes of p2pdns alone: acknowledged",
            [(kinds[n], partial(isinstance, made, Held), True) for n, made in packets.items()],
        )
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(zip(kinds, pool.map(lambda n: held(place.inspect(n, "--state", state)), kinds), strict=True))
        report.row(
            "  read through a daemon",
            [(kinds[n], partial(found.get, n), made) for n, made in packets.items()],
        )
        for version in VERSIONS:
            report.row(
                f"  read by mainline {version}, from nodes of ours",
                [
                    (kinds[n], partial(crates.get, f"reader{version}", secret_of(n).zone_key.raw), made)
                    for n, made in packets.items()
                ],
                pause_s=PAUSE_S,
            )


class Ours:
    """A node of ours in this process, for items that no command puts: with a salt, with cas, immutable."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> None:
        self._loop = loop
        self._endpoint = endpoint

    @classmethod
    def joined(cls, loop: asyncio.AbstractEventLoop, bootstrap: list[str]) -> Ours:
        """Return a node that knows the others."""
        addresses = [(host, int(port)) for host, port in (text.split(":") for text in bootstrap)]

        async def join() -> Endpoint:
            node = Node(
                node_id=None,
                network="unnamed",
                entropy=os.urandom,
                storage=Storage(),
                settings=NodeSettings(bind_host="127.0.0.1", read_only=True, store=False),
                now=boot_now(),
            )
            endpoint = await Endpoint.open(node, ("127.0.0.1", 0))
            await endpoint.bootstrap(addresses)
            return endpoint

        return cls(loop, loop.run_until_complete(join()))

    def put(self, item: Item, cas: int | None = None) -> PutOutcome:
        """Put an item."""

        async def put() -> PutOutcome:
            return await self._endpoint.put(item, cas=None if cas is None else (cas,))

        return self._loop.run_until_complete(put())

    def get(self, secret: SecretKey, salt: bytes = b"") -> Held | None:
        """Return the best mutable item found."""
        wanted = MutableItem.signed(secret, SEQ, b"", salt)

        async def get() -> Item | None:
            return (
                await self._endpoint.get(Wanted(wanted.target, wanted.key, salt=salt), on_item=lambda item: None)
            ).item

        found = self._loop.run_until_complete(get())
        return held(found) if isinstance(found, MutableItem) else None

    def get_immutable(self, target: bytes) -> bytes | None:
        """Return the value under a target."""

        async def get() -> Item | None:
            return (await self._endpoint.get(Wanted(target), on_item=lambda item: None)).item

        found = self._loop.run_until_complete(get())
        return found.value if isinstance(found, ImmutableItem) else None

    def close(self) -> None:
        """Leave."""
        self._endpoint.close()


def mixed(report: Report, program: Path, folder: Path) -> None:
    """Have all three in one network: plain items, salts, immutable ones, cas, and updates at the same time."""
    loop = asyncio.new_event_loop()
    with Swarm(new_folder(folder, "swarm"), "unnamed") as swarm, Crates(program) as crates:
        bootstrap = [str(facts["dht_address"]) for facts in swarm.grow(4)]
        for version in VERSIONS:
            bootstrap += [crates.node(f"s{version}{n}", version, "server", bootstrap) for n in range(2)]
        for version in VERSIONS:
            crates.node(f"c{version}", version, "client", bootstrap)
        crates.tell("pkarr", "pkarr", ",".join(bootstrap))
        ours = Ours.joined(loop, bootstrap)
        try:
            _each_to_each(report, crates, ours)
            _cas(report, crates, ours)
            _at_once(report, crates, ours)
        finally:
            ours.close()
            loop.close()


def _each_to_each(report: Report, crates: Crates, ours: Ours) -> None:
    trials: list[tuple[str, Callable[[], object], object]] = []
    for number, writer in enumerate(("ours", "c5", "c8"), start=2_000):
        for salt in (b"", b"s", b"salt" * 16):
            # Each item is of another key, so that nobody's memory helps.
            key_number = number + 10 * len(salt)
            secret = secret_of(key_number)
            item = MutableItem.signed(secret, SEQ, writer.encode() + b"\x00\xff" * 40, salt)
            if writer == "ours":
                ours.put(item)
            else:
                crates.put(writer, seed_of(key_number), item.seq, item.value, salt=salt)
            name = f"{writer}, salt of {len(salt)}"
            trials.append((f"{name}, by ours", partial(ours.get, secret, salt), held(item)))
            trials += [
                (f"{name}, by {reader}", partial(crates.get, reader, item.key.raw, salt), held(item))
                for reader in READERS
            ]
    report.row("mixed network, each writer to each reader, with and without salt", trials)
    trials = []
    for writer in ("ours", "c5", "c8"):
        value = ImmutableItem(b"immutable of " + writer.encode())
        if writer == "ours":
            ours.put(value)
        else:
            crates.tell("put-immutable", writer, value.value.hex())
        target = value.target
        trials.append((f"{writer}, by ours", partial(ours.get_immutable, target), value.value))
        for reader in ("c5", "c8"):
            trials.append(
                (
                    f"{writer}, by {reader}",
                    partial(crates.tell, "get-immutable", reader, target.hex()),
                    value.value.hex(),
                )
            )
    report.row("  immutable items", trials)


def _cas(report: Report, crates: Crates, ours: Ours) -> None:
    """Update with the right seq named and with a wrong one, from all sides."""
    seed, secret = seed_of(3_000), secret_of(3_000)
    crates.put("c8", seed, SEQ, b"one")

    def by_ours(seq: int, value: bytes, cas: int) -> str:
        outcome = ours.put(MutableItem.signed(secret, seq, value), cas)
        if outcome.stored_count > outcome.sent_count / 2:
            return "kept"
        return "301" if outcome.refused.get(301, 0) > outcome.sent_count / 2 else repr(outcome)

    def by(name: str, seq: int, value: bytes, cas: int) -> str:
        try:
            crates.put(name, seed, seq, value, cas=cas)
        except RefusedError as error:
            return "301" if "CasFailed" in str(error) else str(error)
        return "kept"

    report.row(
        "  cas: right and wrong, by turns",
        [
            ("ours, right", lambda: by_ours(SEQ + 1, b"two", SEQ), "kept"),
            ("ours, wrong", lambda: by_ours(SEQ + 9, b"no", SEQ), "301"),
            ("mainline 8, right", lambda: by("c8", SEQ + 2, b"three", SEQ + 1), "kept"),
            ("mainline 8, wrong", lambda: by("c8", SEQ + 9, b"no", SEQ + 1), "301"),
            ("mainline 5, right", lambda: by("c5", SEQ + 3, b"four", SEQ + 2), "kept"),
            ("mainline 5, wrong", lambda: by("c5", SEQ + 9, b"no", SEQ + 2), "301"),
            ("seen by ours", lambda: ours.get(secret), held(MutableItem.signed(secret, SEQ + 3, b"four"))),
            (
                "seen by mainline 8",
                lambda: crates.get("c8", secret.zone_key.raw),
                held(MutableItem.signed(secret, SEQ + 3, b"four")),
            ),
        ],
    )


def _at_once(report: Report, crates: Crates, ours: Ours) -> None:
    """Have all sides update the same keys at the same time; the highest seq must be what everybody reads then."""
    trials: list[tuple[str, Callable[[], object], object]] = []
    for number in range(4_000, 4_008):
        secret = secret_of(number)
        best = MutableItem.signed(secret, SEQ + 2 + number % 3, b"best")

        def by_crates(secret: SecretKey = secret, number: int = number, best: MutableItem = best) -> None:
            for turn, name in enumerate(("c8", "c5")):
                seq = SEQ + (number + turn) % 3
                item = best if number % 3 == turn else MutableItem.signed(secret, seq, name.encode())
                # A lower seq than what is held already is refused, and that is right.
                try:
                    crates.put(name, seed_of(number), item.seq, item.value)
                except RefusedError as error:
                    if "NotMostRecent" not in str(error):
                        raise

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(by_crates)
            ours.put(best if number % 3 == 2 else MutableItem.signed(secret, SEQ + 1, b"ours"))
            waiting.result()
        trials.append((f"key {number} by ours", partial(ours.get, secret), held(best)))
        trials += [
            (f"key {number} by {reader}", partial(crates.get, reader, secret.zone_key.raw), held(best))
            for reader in READERS
        ]
    report.row("  updates from all sides at the same time", trials)


def at_a_pace(report: Report, program: Path, folder: Path) -> None:
    """Have a read-only client of pkarr on one address read 40 keys, five a second, from eight nodes of ours."""
    loop = asyncio.new_event_loop()
    with Swarm(new_folder(folder, "swarm"), "unnamed") as swarm, Crates(program) as crates:
        bootstrap = [str(facts["dht_address"]) for facts in swarm.grow(8)]
        ours = Ours.joined(loop, bootstrap)
        keys = []
        for number in range(5_000, 5_000 + READ_COUNT):
            # A packet with nothing in it but its size: an answer section of no RRs, and what follows is not read.
            packet = b"\x00\x00\x80\x00" + bytes(8)
            outcome = ours.put(MutableItem.signed(secret_of(number), SEQ + number, packet + bytes(READ_BYTES - 12)))
            assert outcome.stored_count == 8, outcome
            keys.append(str(secret_of(number).zone_key))
        ours.close()
        loop.close()
        crates.tell("pkarr", "pkarr", ",".join(bootstrap))
        told: list[str] = []

        def read() -> int:
            told.extend(crates.tell("pkarr-read", "pkarr", READS_PER_SECOND, *keys).split())
            return sum(word != "-" for word in told)

        what = f"read by pkarr 8: {READ_COUNT} keys of {READ_BYTES} bytes, {READS_PER_SECOND:g} a second, 8 nodes"
        report.row(what, [("keys found", read, READ_COUNT)])
        times = sorted(int(word) for word in told if word != "-")
        if times:
            print(f"  {len(times)} of {READ_COUNT} found, median {times[len(times) // 2]} ms, last {times[-1]} ms")


def main() -> None:
    """Run everything and say how it went."""
    program = Path(sys.argv[1])
    only = sys.argv[2:]
    report = Report()
    print(f"{'':68}{'tried':>6}{'bad':>6}")
    with tempfile.TemporaryDirectory(prefix="p2pdns-strangers-") as name:
        folder = Path(name)
        parts: dict[str, Callable[[], None]] = {
            "kept5": lambda: kept_by_crates(report, program, new_folder(folder, "5"), 5),
            "kept8": lambda: kept_by_crates(report, program, new_folder(folder, "8"), 8),
            "ours": lambda: kept_by_us(report, program, new_folder(folder, "ours")),
            "mixed": lambda: mixed(report, program, new_folder(folder, "mixed")),
            "pace": lambda: at_a_pace(report, program, new_folder(folder, "pace")),
        }
        for part in only or parts:
            parts[part]()
    for mismatch in report.mismatches:
        print(f"mismatch: {mismatch}")
    print(f"{len(report.mismatches)} mismatches in {sum(row[1] for row in report.rows)} comparisons")
    sys.exit(1 if report.mismatches else 0)


if __name__ == "__main__":
    main()
