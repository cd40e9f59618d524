"""Safe publishing between real processes: races, refusals, few other nodes, and one control connection."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from p2pdns.addresses import Address, write_address
from p2pdns.clock import boot_now
from p2pdns.dht import krpc
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.storage import Storage
from p2pdns.dht.stored import Kept
from p2pdns.errors import BadRequest
from p2pdns.net.endpoint import Endpoint
from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import KEY, NETWORK, Finished, Served, p2pdns
from tests.live.test_publishing import zone_files


class Refusing(Storage):
    """A store that takes nothing from anybody."""

    def put(self, request: krpc.Put, address: Address, now: float, *, has_token: bool) -> Kept:
        """Refuse."""
        raise BadRequest("busy", krpc.PROTOCOL_ERROR)


@contextmanager
def refusing_node() -> Iterator[str]:
    """Run a node that answers everybody and keeps nothing; yield its address."""
    loop = asyncio.new_event_loop()
    address: list[str] = []
    is_open = threading.Event()

    async def run() -> None:
        node = Node(
            node_id=None,
            network=NETWORK,
            entropy=os.urandom,
            storage=Refusing(),
            settings=NodeSettings(bind_host="127.0.0.1", read_only=False),
            now=boot_now(),
        )
        endpoint = await Endpoint.open(node, ("127.0.0.1", 0))
        address.append(write_address(endpoint.address))
        is_open.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            endpoint.close()

    def live() -> None:
        asyncio.set_event_loop(loop)
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    task = loop.create_task(run())
    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        assert is_open.wait(GUARD_S)
        yield address[0]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(GUARD_S)


@contextmanager
def daemons(folder: Path, *names: str, bootstrap: str | None = None) -> Iterator[list[Served]]:
    """Start daemons that know each other; all must end well."""
    served: list[Served] = []
    try:
        for name in names:
            first = served[0].status()["dht_address"] if served else bootstrap
            served.append(Served(folder / name, *(["--bootstrap", first] if first else [])))
        count = len(names) - (bootstrap is None)
        wait_until(lambda: all(one.status()["contacts"] >= count for one in served), "contacts")
        yield served
    finally:
        codes = [one.end() for one in served]
    assert codes == [0] * len(names)


@pytest.mark.parametrize("other_count", [0, 1, 2, 3])
def test_with_none_one_two_and_three_others_it_says_how_many_hold_and_return_it(
    tmp_path: Path, other_count: int
) -> None:
    key, path = zone_files(tmp_path)
    with daemons(tmp_path, "state", *[f"other{number}" for number in range(other_count)]) as (daemon, *_):
        done = p2pdns("publish", "-k", key, path, "--state", daemon.state, "--json")
        facts = json.loads(done.stdout)
        assert (facts["sent"], facts["stored"], facts["read_back"]) == (other_count,) * 3, done.stderr
        assert done.returncode == (0 if other_count else 1)
        if other_count:
            keeps = "node keeps" if other_count == 1 else "nodes keep"
            assert facts["warning"] == f"only {other_count} other {keeps} this zone, 20 are wanted"
        else:
            assert facts["error"] == f"{KEY}: no other node is known to store the zone at"
            assert "it is put as soon as there are others" in facts["hint"]
        stages = [json.loads(line)["progress"]["stage"] for line in done.stderr.splitlines() if line.startswith("{")]
        assert (stages[0], stages[-1]) == ("look-up", "read-back" if other_count else "put")


def test_with_half_of_the_puts_failing_it_fails_and_nothing_is_lost(tmp_path: Path) -> None:
    key, path = zone_files(tmp_path)
    with refusing_node() as refusing, daemons(tmp_path, "state", "other", bootstrap=refusing) as (daemon, _):
        done = daemon.publish(tmp_path)
        assert done.returncode == 1
        assert done.stdout.startswith("stored at 1 of 2 nodes, seq "), done.stdout
        assert f"p2pdns: error: {KEY}: only 1 of 2 other nodes hold the zone; more than half are needed" in done.stderr
        assert "p2pdns: hint: the daemon goes on trying" in done.stderr
        assert daemon.address_of(f"www.{KEY}")
        # It is known as made here, though it was never stored at enough.
        path.write_text("$TTL 300\nwww A 192.0.2.80\n* A 192.0.2.99\n")
        again = p2pdns("publish", "-k", key, path, "--state", daemon.state)
        assert "was not made by this key file" not in again.stderr


def test_of_three_others_two_are_too_few_and_that_is_said(tmp_path: Path) -> None:
    zone_files(tmp_path)
    with refusing_node() as refusing, daemons(tmp_path, "state", "one", "two", bootstrap=refusing) as (daemon, *_):
        done = daemon.publish(tmp_path)
        assert done.returncode == 1
        assert done.stdout.startswith("stored at 2 of 3 nodes, seq "), done.stdout
        what = "only 2 of 3 other nodes hold the zone; 3 are needed where so few are known"
        assert f"p2pdns: error: {KEY}: {what}" in done.stderr, done.stderr
        assert "p2pdns: hint: the daemon goes on trying" in done.stderr
        assert daemon.address_of(f"www.{KEY}")


@pytest.mark.parametrize("other_count", [1, 2])
def test_a_node_of_its_own_counts_the_same_others(tmp_path: Path, other_count: int) -> None:
    key, path = zone_files(tmp_path)
    with daemons(tmp_path, *[f"other{number}" for number in range(other_count)]) as others:
        address = others[0].status()["dht_address"]
        flags = ("--network", NETWORK, "--bootstrap", address, "--state", tmp_path / "none", "--json")
        done = p2pdns("publish", "-k", key, path, *flags)
        facts = json.loads(done.stdout)
        assert (done.returncode, facts["sent"], facts["stored"], facts["read_back"]) == (0, *[other_count] * 3), done


def copy_of(key: Path, folder: Path) -> Path:
    """Copy a key with what stands beside it."""
    folder.mkdir()
    for path in (key, Path(f"{key}.published")):
        shutil.copy(path, folder)
    return folder / key.name


def test_two_publishers_with_copies_of_one_key_lose_no_update(tmp_path: Path) -> None:
    key, path = zone_files(tmp_path)
    path.write_text("base A 192.0.2.1\n")
    with daemons(tmp_path, "one", "two", "reader") as (one, two, reader):
        assert p2pdns("publish", "-k", key, path, "--state", one.state).returncode == 0

        def published(daemon: Served, name: str) -> Finished:
            zone = tmp_path / f"{name}.txt"
            zone.write_text(f"base A 192.0.2.1\n{name} A 192.0.2.2\n")
            return p2pdns("publish", "-k", copy_of(key, tmp_path / f"copy of {name}"), zone, "--state", daemon.state)

        with ThreadPoolExecutor(2) as pool:
            ends = dict(zip(("first", "second"), pool.map(published, (one, two), ("first", "second")), strict=True))
        assert any(done.returncode == 0 for done in ends.values()), ends
        assert p2pdns("flush", "--all", "--state", reader.state).returncode == 0
        for name, done in ends.items():
            assert done.returncode in (0, 1), done
            assert done.returncode == 0 or len([line for line in done.stderr.splitlines() if "error:" in line]) == 1
            if done.returncode == 0:
                assert reader.address_of(f"{name}.{KEY}") == "192.0.2.2", ends
        assert reader.address_of(f"base.{KEY}") == "192.0.2.1"


def test_a_publication_opens_one_control_connection(tmp_path: Path) -> None:
    key, path = zone_files(tmp_path)
    path.write_text("www A 192.0.2.1\nfriend NS {zone:friend}.\n")
    with daemons(tmp_path, "state", "other") as (daemon, _):
        assert p2pdns("name", "add", "friend", KEY, "--state", daemon.state).returncode == 0
        with counted_connections(tmp_path / "proxy", daemon.state / "control.sock") as counts:
            done = p2pdns("publish", "-k", key, path, "--state", tmp_path / "proxy")
            assert done.returncode == 0, done.stderr
            assert counts == [1]


@contextmanager
def counted_connections(folder: Path, target: Path) -> Iterator[list[int]]:
    """Pass the connections to a control socket on; yield their count in a list."""
    counts = [0]
    folder.mkdir(mode=0o700)
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        server.bind(str(folder / "control.sock"))
        server.listen()

        def passed(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(65_536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                return

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                counts[0] += 1
                there = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                there.connect(str(target))
                for ends in ((connection, there), (there, connection)):
                    stack.enter_context(ends[0])
                    threading.Thread(target=passed, args=ends, daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield counts
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(GUARD_S)
