"""Engines as real processes on loopback: they join, publish, read, restart, and lose nothing to a kill."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pdns.admin.control import ControlClient
from p2pdns.config import Config, with_refusal
from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.errors import ConfigError, P2pdnsError, Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet

READY_S_MAX = 30.0  # A start takes half a second; this only ends a test that hangs.
ALICE = SecretKey.generate(b"\x0a" * 32)
WWW = Name.of(b"www", str(ALICE.zone_key).encode())


def zone_item(last_byte: int, seq: int | None = None) -> MutableItem:
    """Return a zone of Alice's with one address."""
    rrsets = [RRset(WWW, int(Type.A), 60, (bytes([203, 0, 113, last_byte]),))]
    value = compose_packet(rrsets, ALICE.zone_key.apex)
    return MutableItem.signed(ALICE, int(time.time() * 1e6) if seq is None else seq, value)


def config_of(bootstrap: Sequence[str] = (), **settings: Any) -> Config:
    """Return the configuration of a node in a network of its own, on loopback."""
    config = Config()
    dht = replace(config.dht, network="test engines", listen="127.0.0.1:0", bootstrap=tuple(bootstrap), timeout_ms=200)
    return replace(config, dht=dht, upstream=replace(config.upstream, servers="none"), **settings)


class EngineProcess:
    """One engine of its own process and state directory."""

    def __init__(self, state: Path, config: Config, *, alive: bool = False) -> None:
        self.state = state
        self.client = ControlClient(state, timeout_s=READY_S_MAX)
        self.lines: list[str] = []
        self.config_file = tempfile.TemporaryFile()  # noqa: SIM115  (`end` closes it)
        self.set_config(config)
        command = ["-m", "p2pdns.engine.main", "--config-fd", str(self.config_file.fileno()), "--state", str(state)]
        fds = [self.config_file.fileno()]
        self.alive_write: int | None = None
        if alive:
            alive_read, self.alive_write = os.pipe()
            command += ["--alive-fd", str(alive_read)]
            fds.append(alive_read)
        self.process = subprocess.Popen(
            # Unbuffered: what a buffer here held would be invisible to `select`.
            [sys.executable, *command],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        if alive:
            os.close(alive_read)

    def set_config(self, config: Config, refusal: P2pdnsError | None = None) -> None:
        """Write what the engine reads at its start and on SIGHUP."""
        text = config.to_json() if refusal is None else with_refusal(config, refusal)
        self.config_file.seek(0)
        self.config_file.truncate()
        self.config_file.write(text.encode())
        self.config_file.flush()

    def wait_for_line(self, words: str) -> str:
        """Return the first line of standard error from here on that has these words."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + READY_S_MAX
        while select.select([self.process.stderr], [], [], max(0.0, deadline - time.monotonic()))[0]:
            line = self.process.stderr.readline().decode()
            if not line:
                break
            self.lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"no line with {words!r}: {self.lines}")

    def status(self) -> dict[str, Any]:
        """Return what `status` says."""
        status: dict[str, Any] = self.client.call("status")["status"]
        return status

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and return exit status and the rest of standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=READY_S_MAX)
        self.config_file.close()
        if self.alive_write is not None:
            os.close(self.alive_write)
            self.alive_write = None
        return self.process.returncode, "".join(self.lines) + rest.decode()


Start = Callable[..., EngineProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start engines that end with the test."""
    started: list[EngineProcess] = []

    def start_one(name: str, config: Config, *, is_ready: bool = True, alive: bool = False) -> EngineProcess:
        engine = EngineProcess(tmp_path / name, config, alive=alive)
        started.append(engine)
        if is_ready:
            # Each line is read as it comes, and the pipe holds the rest: an engine writes a few lines a day.
            engine.wait_for_line("dht: listening on")
        return engine

    yield start_one
    for engine in started:
        if not engine.config_file.closed:
            engine.end(signal.SIGKILL)


def start_swarm(start: Start, count: int) -> list[EngineProcess]:
    """Start that many engines, each knowing the first."""
    engines = [start("node0", config_of())]
    contact = engines[0].status()["dht_address"]
    engines += [start(f"node{number}", config_of([contact])) for number in range(1, count)]
    return engines


def publish(engine: EngineProcess, item: MutableItem) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Publish through an engine; return the reply and the progress."""
    progress: list[dict[str, Any]] = []
    reply = engine.client.call("publish", on_progress=progress.append, item=item.to_bytes().hex())
    return reply, progress


def read(engine: EngineProcess) -> MutableItem:
    """Return Alice's item as an engine finds it, settled."""
    reply = engine.client.call("item", key=str(ALICE.zone_key), settled=True)
    assert reply["settled"] is True
    return MutableItem.read_file(bytes.fromhex(reply["item"]))


def test_what_one_engine_publishes_another_reads_after_the_first_was_killed(start: Start) -> None:
    engines = start_swarm(start, 3)
    item = zone_item(7)
    assert engines[0].client.call("seq", key=str(ALICE.zone_key))["seq"] is None
    reply, progress = publish(engines[0], item)
    assert (reply["stored"], reply["sent"], reply["seq"]) == (2, 2, item.seq), "the others; our own copy is none"
    assert progress[-1] == {"stage": "put", "sent": 2, "stored": 2}
    assert engines[0].client.call("seq", key=str(ALICE.zone_key))["seq"] == item.seq
    engines[0].end(signal.SIGKILL)
    assert read(engines[2]) == item
    traced = engines[1].client.call("trace", name=f"www.{ALICE.zone_key}.p2p.alt", type="A")
    assert traced["answer"]["rcode"] == "NOERROR"
    assert [record["data"] for record in traced["answer"]["answer"]] == ["203.0.113.7"]
    assert any(str(item.seq) in line for line in traced["trace"])
    lookups = engines[2].client.call("lookups")["lookups"]
    assert lookups[-1]["key"] == str(ALICE.zone_key)
    assert lookups[-1]["verdict"] == "complete"


def test_every_node_says_what_it_keeps_for_the_overlay(start: Start) -> None:
    engines = start_swarm(start, 3)
    item = zone_item(7)
    publish(engines[0], item)
    for engine in engines:
        reply = engine.client.call("stored")
        (entry,) = reply["stored"]
        assert (entry["key"], entry["seq"], entry["target"]) == (str(ALICE.zone_key), item.seq, item.target.hex())
        assert reply["items_held"] == 1


def test_a_killed_engine_has_lost_nothing_that_was_published_and_keeps_its_port(start: Start) -> None:
    alone = start("alone", config_of())
    address = alone.status()["dht_address"]
    item = zone_item(8)
    publish(alone, item)
    alone.end(signal.SIGKILL)
    # The lock died with the process, and the socket that it left behind is replaced.
    again = start("alone", config_of())
    status = again.status()
    assert status["reader"] == {"keys": 1, "kept_alive": 1}
    # Others remember it at this port.
    assert status["dht_address"] == address
    assert status["warnings"] == []
    reply = again.client.call("item", key=str(ALICE.zone_key))
    assert MutableItem.read_file(bytes.fromhex(reply["item"])) == item
    with pytest.raises(Unavailable, match=r"seq \d+ is lower than \d+, the newest known of this key"):
        publish(again, zone_item(9, seq=item.seq - 1))


def test_a_restarted_publisher_puts_its_items_again_without_being_asked(start: Start) -> None:
    alone = start("publisher", config_of())
    item = zone_item(8)
    publish(alone, item)
    alone.end()
    holder = start("holder", config_of())
    assert holder.status()["items_held"] == 0
    start("publisher", config_of([holder.status()["dht_address"]]))
    give_up_at = time.monotonic() + 2 * READY_S_MAX
    while holder.status()["items_held"] == 0:
        assert time.monotonic() < give_up_at, "the item never came"
        threading.Event().wait(0.05)
    assert read(holder) == item


def test_what_is_kept_for_others_survives_a_restart(start: Start) -> None:
    first, second = start_swarm(start, 2)
    item = zone_item(8)
    publish(first, item)
    second.end()
    first.end()
    # Its contact is gone, so the item can come from its own store only.
    again = start("node1", config_of())
    assert any("items kept for others are back" in line for line in again.lines)
    assert again.status()["items_held"] == 1
    reply = again.client.call("item", key=str(ALICE.zone_key))
    assert MutableItem.read_file(bytes.fromhex(reply["item"])) == item


def test_contacts_and_node_id_survive_a_clean_end(start: Start) -> None:
    first, second = start_swarm(start, 2)
    address, node_id = first.status()["dht_address"], second.status()["node_id"]
    code, stderr = second.end()
    assert (code, "Traceback" in stderr) == (0, False)
    assert not (second.state / "control.sock").exists()
    assert not (second.state / "link.sock").exists()
    # No bootstrap address this time: what was saved is the way in.
    back = start("node1", config_of())
    assert back.status()["contacts"] == 1
    assert back.status()["node_id"] == node_id
    assert first.status()["dht_address"] == address


def test_an_engine_without_contacts_says_so_with_a_hint(start: Start) -> None:
    alone = start("alone", config_of())
    assert any("0 contacts; name a node of this network with --bootstrap" in line for line in alone.lines)
    status = alone.status()
    assert status["contacts"] == 0
    assert "--bootstrap" in status["contacts_hint"]
    with pytest.raises(Unavailable, match="no node answered") as caught:
        alone.client.call("item", key=str(ALICE.zone_key), settled=True)
    assert "--bootstrap" in str(caught.value.hint)


def test_a_second_engine_in_the_state_directory_is_refused_in_two_lines(start: Start) -> None:
    first = start("shared", config_of())
    second = start("shared", config_of(), is_ready=False)
    second.process.wait(READY_S_MAX)
    code, stderr = second.end()
    lines = stderr.splitlines()
    assert code == 1
    assert lines[0].endswith(f"another p2pdns runs in this state directory (pid {first.process.pid})")
    assert lines[0].startswith("p2pdns: error: ")
    assert lines[1].startswith("p2pdns: hint: ")
    assert len(lines) == 2
    # The first one is none the worse for it.
    assert first.status()["pid"] == first.process.pid


def test_a_dht_port_in_use_is_one_line_and_a_hint(start: Start) -> None:
    first = start("first", config_of())
    busy = config_of()
    busy = replace(busy, dht=replace(busy.dht, listen=first.status()["dht_address"]))
    second = start("second", busy, is_ready=False)
    second.process.wait(READY_S_MAX)
    code, stderr = second.end()
    assert code == 1
    assert [line.split(":")[1] for line in stderr.splitlines()] == [" error", " hint"]
    assert first.status()["dht_address"] in stderr


def test_a_configuration_that_means_nothing_ends_with_exit_2(start: Start) -> None:
    config = config_of()
    bad = start("bad", replace(config, zones=replace(config.zones, private_zones=("nobody",))), is_ready=False)
    bad.process.wait(READY_S_MAX)
    code, stderr = bad.end()
    assert code == 2
    assert "nobody" in stderr
    assert "Traceback" not in stderr


def test_the_end_of_the_supervisor_ends_the_engine(start: Start) -> None:
    engine = start("child", config_of(), alive=True)
    assert engine.status()["supervisor_pid"] == os.getpid()
    assert engine.alive_write is not None
    os.close(engine.alive_write)
    engine.alive_write = None
    assert engine.process.wait(READY_S_MAX) == 0


def test_sighup_takes_over_new_names_and_says_what_needs_a_restart(start: Start) -> None:
    engine = start("reloading", config_of())
    publish(engine, zone_item(7))
    answer = engine.client.call("trace", name="www.alice.p2p.alt", type="A")["answer"]
    assert answer["rcode"] == "NXDOMAIN"
    changed = config_of(names={"alice": str(ALICE.zone_key)})
    engine.set_config(replace(changed, dht=replace(changed.dht, network="elsewhere")))
    engine.process.send_signal(signal.SIGHUP)
    line = engine.wait_for_line("configuration taken over")
    assert "needs_restart=dht.network" in line
    answer = engine.client.call("trace", name="www.alice.p2p.alt", type="A")["answer"]
    assert [record["owner"] for record in answer["answer"]] == ["www.alice.p2p.alt."]
    assert engine.client.call("names")["names"]["alice"]["from"] == "configuration"
    engine.set_config(replace(config_of(), dns=replace(Config().dns, listen=("127.0.0.1:5", "[::1]:5"))))
    for changed_too in (["names"], []):
        # What waits for a restart is said every time, not only when it was written.
        reply = engine.client.call("reload")
        assert reply["changed"] == ["dns.listen", *changed_too]
        assert reply["needs_restart"] == ["dns.listen"]


def test_a_mistake_after_a_good_reload_takes_nothing_of_it_back(start: Start) -> None:
    engine = start("mistaken", config_of())
    # Two signals that come together are one: the engine hears of the names and of the mistake at once.
    named = config_of(names={"alice": str(ALICE.zone_key)})
    engine.set_config(named, ConfigError('no setting "petname"', place="p2pdns.toml:3"))
    engine.process.send_signal(signal.SIGHUP)
    assert "p2pdns.toml:3" in engine.wait_for_line("configuration not taken over")
    assert engine.client.call("names")["names"]["alice"]["from"] == "configuration"


def test_a_broken_reader_file_is_said_in_status_and_on_standard_error(start: Start) -> None:
    engine = start("spoilt", config_of())
    publish(engine, zone_item(7))
    engine.end()
    (engine.state / "reader.sqlite").write_bytes(b"not a database at all" * 400)
    engine = start("spoilt", config_of())
    assert any("set aside as reader.sqlite.corrupt-1" in line for line in engine.lines)
    status = engine.status()
    assert "starts anew" in status["roll_back_protection"]
    assert status["reader"]["keys"] == 0
    publish(engine, zone_item(8))


def test_petnames_pins_and_marks_are_managed_through_control(start: Start) -> None:
    publisher, other = start_swarm(start, 2)
    item = zone_item(7)
    publish(publisher, item)
    key = str(ALICE.zone_key)
    other.client.call("name-add", name="Alice", key=key)
    assert other.client.call("names")["names"] == {"alice": {"key": key, "from": "state", "succeeded_by": None}}
    answer = other.client.call("trace", name="www.alice.p2p.alt", type="A")["answer"]
    assert [record["owner"] for record in answer["answer"]] == ["www.alice.p2p.alt."]
    assert other.client.call("name-remove", name="alice")["removed"] == "alice"
    assert other.client.call("trace", name="www.alice.p2p.alt", type="A")["answer"]["rcode"] == "NXDOMAIN"
    assert other.client.call("pin", key=key)["seq"] == item.seq
    assert other.status()["reader"] == {"keys": 1, "kept_alive": 1}
    assert other.client.call("flush", zone=key)["flushed"] == key
    assert other.client.call("flush", name="www.example.org")["flushed"] == "everything"
    assert other.client.call("forget", key=key)["forgotten"] is True
    assert other.status()["reader"] == {"keys": 0, "kept_alive": 0}


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("publish", {"item": "zz"}, "not hexadecimal"),
        ("publish", {"item": "00" * 20}, "item-file-too-short"),
        ("publish", {}, "missing, or not text"),
        ("item", {"key": "x"}, "not a zone key"),
        ("seq", {"key": 7}, "missing, or not text"),
        ("trace", {"name": "a..b"}, "not a name"),
        ("trace", {"name": "www.example.org", "type": "NONSENSE"}, "not a type"),
        ("flush", {}, "is needed"),
        ("name-add", {"name": "a.b", "key": str(ALICE.zone_key)}, "not a petname"),
        ("pin", {"key": str(ALICE.zone_key)}, "no item is known"),
        ("dance", {}, "no verb"),
    ],
)
def test_a_wrong_request_is_refused_with_words(
    shared_engine: EngineProcess, verb: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(Unavailable, match=words):
        shared_engine.client.call(verb, **arguments)
    assert shared_engine.status()["pid"] == shared_engine.process.pid


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """Start one engine for the tests that change nothing."""
    engine = EngineProcess(tmp_path_factory.mktemp("shared") / "state", config_of())
    engine.wait_for_line("dht: listening on")
    yield engine
    engine.end()
