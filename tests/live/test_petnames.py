"""Petnames in a running daemon: what they lead to, and how soon a change is seen through the front's fast path."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pdns.addresses import read_address
from p2pdns.admin.publishing import publish_through
from p2pdns.cli.zones import read_zone
from p2pdns.demo.client import DigClient, client_for
from p2pdns.demo.swarm import Swarm, SwarmNode
from p2pdns.dns.message import Question
from p2pdns.dns.message.wire import parse
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.errors import Unavailable
from p2pdns.items.keys import SecretKey

NODE_COUNT = 3
CHANGE_S_MAX = 10.0  # A change takes effect within a second; the guard is ten times as long.
ALICE = SecretKey.generate(b"\x0a" * 32)
BOB = SecretKey.generate(b"\x0b" * 32)
KEYS = {"bob": str(BOB.zone_key)}
ZONES = {
    "alice": (ALICE, "www A 192.0.2.1\nbob NS {zone:bob}.\nold DNAME {zone:bob}.\nprinter A 192.168.0.9\n"),
    "bob": (BOB, "www A 192.0.2.2\nprinter A 192.168.0.10\n"),
}


@dataclass
class World:
    """A swarm that has both zones, and a daemon with DNS that has asked for neither."""

    resolver: SwarmNode
    client: DigClient
    config: Path
    settings: str

    def configure(self, more: str) -> None:
        """Write the daemon's configuration; it is read when somebody says so."""
        self.config.write_text(self.settings + more)

    def ask(self, query: bytes) -> bytes:
        """Return the response to one datagram."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(CHANGE_S_MAX)
            sock.connect(self.client.server)
            sock.send(query)
            return sock.recv(4096)

    def ask_until(self, query: bytes, is_wanted: Callable[[bytes], bool]) -> bytes:
        """Ask the same bytes again and again, so that the fast path has them, until the response is another."""
        deadline = time.monotonic() + CHANGE_S_MAX
        while not is_wanted(response := self.ask(query)):
            assert time.monotonic() < deadline, parse(response)
        return response


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start it once for all tests here; each leaves no petname behind."""
    folder = tmp_path_factory.mktemp("petnames")
    with Swarm(folder, "petnames") as swarm:
        statuses = swarm.grow(NODE_COUNT)
        for name, (secret, text) in ZONES.items():
            path = folder / f"{name}.zone"
            path.write_text(text)
            zone = read_zone(str(path), secret.zone_key, origin=None, size_bytes_max=940, keys=lambda: KEYS)
            assert publish_through(swarm.nodes[0].control, secret, zone.value).is_enough
        resolver = swarm.start("resolver", "--dns", "127.0.0.1:0", bootstrap=[statuses[0]["dht_address"]])
        facts = swarm.wait_until_ready(resolver, contact_count_min=NODE_COUNT)
        client = client_for(read_address(facts["dns_addresses"][0]))
        assert isinstance(client, DigClient)
        config = folder / "p2pdns.toml"
        yield World(resolver, client, config, config.read_text())


def query_for(name: str) -> bytes:
    """Return a question for addresses as a datagram."""
    return b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + Question(Name.read(name), int(Type.A)).wire()


def has_answer(raw: bytes) -> Callable[[bytes], bool]:
    """Return whether a response has this one address."""
    return lambda response: [rr.rdata for rr in parse(response).answer] == [raw]


def is_nothing(response: bytes) -> bool:
    """Return whether a response says that there is no such name."""
    return parse(response).rcode == Rcode.NXDOMAIN


def test_petnames_and_delegations_below_them_resolve_in_the_form_they_were_asked_in(world: World) -> None:
    control = world.resolver.control
    control.call("name-add", name="alice", key=str(ALICE.zone_key))
    bob = f"{BOB.zone_key}.p2p.alt."

    def answer(name: str) -> list[tuple[str, str, str]]:
        reply = world.client.ask(name, "A", transport="udp", udp_size_bytes=1232)
        assert reply.rcode == "NOERROR", reply
        return [(record.owner, record.type, record.data) for record in reply.answer]

    assert answer("www.alice.p2p.alt") == [("www.alice.p2p.alt.", "A", "192.0.2.1")]
    assert answer("www.bob.alice.p2p.alt") == [
        ("www.bob.alice.p2p.alt.", "CNAME", f"www.{bob}"),
        (f"www.{bob}", "A", "192.0.2.2"),
    ]
    assert answer("www.old.alice.p2p.alt") == [
        ("old.alice.p2p.alt.", "DNAME", bob),
        ("www.old.alice.p2p.alt.", "CNAME", f"www.{bob}"),
        (f"www.{bob}", "A", "192.0.2.2"),
    ]
    control.call("name-remove", name="alice")
    assert world.client.ask("www.alice.p2p.alt", "A", transport="udp", udp_size_bytes=1232).rcode == "NXDOMAIN"


def test_the_answer_to_the_same_datagram_changes_with_the_petname(world: World) -> None:
    control, query = world.resolver.control, query_for("www.carol.p2p.alt.")
    world.ask_until(query, is_nothing)
    control.call("name-add", name="carol", key=str(ALICE.zone_key))
    world.ask_until(query, has_answer(bytes([192, 0, 2, 1])))
    control.call("name-remove", name="carol")
    world.ask_until(query, is_nothing)
    control.call("name-import", names={"carol": str(BOB.zone_key)})
    world.ask_until(query, has_answer(bytes([192, 0, 2, 2])))
    control.call("name-remove", name="carol")
    world.ask_until(query, is_nothing)


def test_names_of_the_configuration_come_and_go_with_sighup_and_reload(world: World) -> None:
    query = query_for("www.dora.p2p.alt.")
    world.ask_until(query, is_nothing)
    world.configure(f'\n[names]\ndora = "{ALICE.zone_key}"\n')
    world.resolver.process.send_signal(signal.SIGHUP)
    world.ask_until(query, has_answer(bytes([192, 0, 2, 1])))
    world.configure(f'\n[names]\ndora = "{BOB.zone_key}"\n')
    assert world.resolver.control.call("reload")["changed"] == ["names"]
    world.ask_until(query, has_answer(bytes([192, 0, 2, 2])))
    world.configure("")
    world.resolver.process.send_signal(signal.SIGHUP)
    world.ask_until(query, is_nothing)


def test_a_zone_is_trusted_by_its_petname_and_only_while_the_configuration_says_so(world: World) -> None:
    control, query = world.resolver.control, query_for("printer.eve.p2p.alt.")
    control.call("name-add", name="eve", key=str(BOB.zone_key))
    assert parse(world.ask_until(query, lambda response: not is_nothing(response))).answer == ()
    world.configure('\n[zones]\nprivate_zones = ["eve"]\n')
    control.call("reload")
    world.ask_until(query, has_answer(bytes([192, 168, 0, 10])))
    # A name that the configuration leans on stays, or the daemon would not start again.
    with pytest.raises(Unavailable, match="trusts this name"):
        control.call("name-remove", name="eve")
    world.configure("")
    control.call("reload")
    world.ask_until(query, lambda response: not parse(response).answer)
    control.call("name-remove", name="eve")


def test_a_trusted_name_that_stands_for_nothing_is_refused_with_words(world: World) -> None:
    world.configure('\n[zones]\nprivate_zones = ["nobody"]\n')
    with pytest.raises(Unavailable, match="neither a petname nor a zone key"):
        world.resolver.control.call("reload")
    world.configure("")
    assert world.resolver.control.call("reload")["changed"] == []
