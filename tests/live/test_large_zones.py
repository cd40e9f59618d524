"""Zones of several items between real processes: published, edited, killed in between, and read from the overlay."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pdns.admin.publishing import whole_through
from p2pdns.demo.swarm import Swarm, SwarmNode
from p2pdns.dns.message import Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.items.dividing import Division
from p2pdns.items.item import MutableItem, mutable_target
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.partial import Needed, PartialZone
from p2pdns.publishing.editions import DividedItem
from tests.live.front_process import wait_until
from tests.live.served import Finished, environment, p2pdns

HOSTS = 200
NODES = 6


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Return a network of a few nodes."""
    with Swarm(tmp_path_factory.mktemp("large"), f"large zones {os.getpid()}") as swarm:
        swarm.grow(NODES)
        yield swarm


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return a folder with a key."""
    (tmp_path / "a.key").write_bytes(SecretKey.generate(os.urandom(32)).key_file(None))
    (tmp_path / "a.key").chmod(0o600)
    return tmp_path


def key_of(desk: Path) -> ZoneKey:
    """Return the zone key of a desk."""
    return ZoneKey.read(p2pdns("pubkey", desk / "a.key").stdout.strip())


def write(desk: Path, count: int, *more: str) -> None:
    """Write a zone file with so many hosts."""
    lines = [f"host{number} 300 A 192.0.2.{number % 250}" for number in range(count)]
    (desk / "a.zone").write_text("\n".join([*lines, *more]) + "\n")


def command(verb: str, desk: Path, node: SwarmNode) -> list[str]:
    """Return the words of a verb about the zone of a desk."""
    config = str(node.state.parent / "p2pdns.toml")
    return [verb, "-k", str(desk / "a.key"), str(desk / "a.zone"), "-c", config, "--state", str(node.state)]


def published(desk: Path, node: SwarmNode) -> Finished:
    """Publish the zone of a desk through a node."""
    done = p2pdns(*command("publish", desk, node))
    assert done.returncode == 0, done.stderr
    return done


def found_at(desk: Path, node: SwarmNode) -> DividedItem:
    """Return the edition of a desk's zone as a node finds it in the overlay."""
    item = MutableItem.read_file(bytes.fromhex(node.control.call("item", key=str(key_of(desk)), settled=True)["item"]))
    found = whole_through(node.control, item, lambda stage: None)
    assert isinstance(found, DividedItem)
    return found


def names_of(division: Division) -> int:
    """Return how many RRsets a division has."""
    return len(division.zone(0).rrsets)


def asked(division: Division, apex: Name, text: str) -> tuple[int, int]:
    """Return rcode and count of answers of a name, as a reader takes them from the head and the shards it needs."""
    values = {pinned.salt: value for pinned, value in division.items()}
    zone = PartialZone(Head.verified(apex, division.head, 1))
    while isinstance(answer := zone.answer(Question(Name.read(f"{text}.{apex}"), Type.A)), Needed):
        for pinned in answer.items:
            zone = zone.with_value(pinned, values[pinned.salt])
    return int(answer.rcode), len(answer.answer)


def test_all_items_of_a_published_zone_lie_in_the_overlay_and_answer(swarm: Swarm, desk: Path) -> None:
    write(desk, HOSTS)
    done = published(desk, swarm.nodes[0])
    assert re.match(r"stored at (\d+) of \1 nodes", done.stdout)
    found = found_at(desk, swarm.nodes[3])
    key = key_of(desk)
    targets = {mutable_target(key.raw, pinned.salt).hex() for pinned, _ in found.division.items()}
    for node in swarm.nodes:
        assert targets <= {one["target"] for one in node.control.call("stored")["stored"]}, node.name
    assert asked(found.division, key.apex, "host7") == (Rcode.NOERROR, 1)
    assert asked(found.division, key.apex, "host999") == (Rcode.NXDOMAIN, 0)
    assert not (desk / "a.key.edit").exists()


def test_an_edit_puts_two_items_and_the_others_see_it(swarm: Swarm, desk: Path) -> None:
    write(desk, HOSTS)
    published(desk, swarm.nodes[0])
    before = found_at(desk, swarm.nodes[1]).division
    write(desk, HOSTS - 1, "new 300 A 192.0.2.9")
    published(desk, swarm.nodes[0])
    after = found_at(desk, swarm.nodes[2]).division
    assert 1 <= len(after.fresh_items(before)) <= 2
    assert asked(after, key_of(desk).apex, "new") == (Rcode.NOERROR, 1)
    assert p2pdns(*command("diff", desk, swarm.nodes[4])).returncode == 0


def test_a_publisher_that_is_killed_anywhere_leaves_the_old_zone_whole_and_goes_on(swarm: Swarm, desk: Path) -> None:
    write(desk, HOSTS)
    published(desk, swarm.nodes[0])
    old = found_at(desk, swarm.nodes[0]).division
    write(desk, 3 * HOSTS)
    program = [sys.executable, "-m", "p2pdns", *command("publish", desk, swarm.nodes[0])]
    killed = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment({}))
    # The file is there before the first item is put, and goes with the head.
    wait_until(lambda: (desk / "a.key.edit").exists() or killed.poll() is not None, "no edit was begun")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    seen = found_at(desk, swarm.nodes[5]).division
    assert names_of(seen) in (names_of(old), 3 * HOSTS)
    published(desk, swarm.nodes[0])
    assert names_of(found_at(desk, swarm.nodes[5]).division) == 3 * HOSTS
    assert not (desk / "a.key.edit").exists()


def test_a_daemon_that_is_killed_keeps_all_items_alive_after_its_restart(swarm: Swarm, desk: Path) -> None:
    node = swarm.start("restarted", "--no-dns", bootstrap=[swarm.nodes[0].status()["dht_address"]])
    swarm.wait_until_ready(node, contact_count_min=3)
    write(desk, HOSTS)
    published(desk, node)
    count = found_at(desk, node).division.item_count
    swarm.kill(node)
    swarm.nodes.remove(node)
    again = swarm.start_verb("restarted", "serve", "--no-dns", "--state", str(node.state), "--dht", "127.0.0.1:0")
    swarm.wait_until_ready(again)
    (row,) = [one for one in again.control.call("zones")["zones"] if one["key"] == str(key_of(desk))]
    assert (row["items"], row["records"]) == (count, HOSTS)
