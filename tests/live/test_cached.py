"""What is remembered, through both processes: over a restart without any peer, and until the moment it is untrue."""

from __future__ import annotations

import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import pytest

from p2pdns.dns.zonefile import reader
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.link import SOCKET_NAME, Frame, FrameReader, Hello, Invalidate
from p2pdns.net.sockets import reachable
from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import KEY, SECRET, WWW_ADDRESS, ZONE, Served
from tests.live.test_no_leak import Listener

PROVISIONAL_S_MAX = 5
OLD = SecretKey.generate(b"\x2b" * 32)
OLD_DAYS = 40  # Past the 30 days that a zone holds whose publisher says nothing else.
DAY_S = 86_400
EDE_STALE = 3
# One question may be read in the same turn of the front as the word of the engine, and before it; no second one.
QUESTIONS_MAX = 2
# A node of another test may get the port of a node that has ended here, and must not be taken for it.
APART = ("--network", "yesterday")


def item_of(secret: SecretKey, zone: str, unix: float | None = None) -> str:
    """Return the signed item of a zone as the control socket takes it."""
    rrsets = reader.reading(zone, apex=secret.zone_key.apex, path="test.zone").rrsets
    value = compose_packet(rrsets, secret.zone_key.apex, size_bytes_max=940, path="test.zone")
    seq = int((time.time() if unix is None else unix) * 1_000_000)
    return MutableItem.signed(secret, seq, value).to_bytes().hex()


def ede_codes(reply: dns.message.Message) -> list[int]:
    """Return the codes of the extended errors."""
    return [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)]


def is_settled(daemon: Served, name: str) -> bool:
    """Return whether an answer is one that its daemon relies upon."""
    answer = daemon.ask(name).answer
    return bool(answer) and answer[0].ttl > PROVISIONAL_S_MAX


def test_a_restart_without_any_peer_answers_yesterdays_names_and_nothing_of_an_upstream(tmp_path: Path) -> None:
    upstream = Listener()
    server = f"{upstream.address[0]}:{upstream.address[1]}"
    publisher = Served(tmp_path / "publisher", "--no-dns", *APART)
    there = publisher.status()["dht_address"]
    reader = Served(tmp_path / "state", "--bootstrap", there, "--upstream", server, *APART)
    old_name = f"www.{OLD.zone_key}"
    try:
        wait_until(lambda: reader.status()["contacts"] > 0, "a contact")
        publisher.control.call("publish", item=item_of(SECRET, ZONE))
        publisher.control.call("publish", item=item_of(OLD, ZONE, time.time() - OLD_DAYS * DAY_S))
        wait_until(lambda: is_settled(reader, f"www.{KEY}"), "a settled answer")
        wait_until(lambda: bool(reader.ask(old_name).answer), "the old zone")
        assert reader.ask("look-alike.example").rcode() == dns.rcode.NOERROR
        assert upstream.asked
    finally:
        codes = [publisher.end(), reader.end()]
        upstream.close()
    assert codes == [0, 0]
    # A zone that was asked for twice is on the disk with its confirmation, which counts for half a minute; yesterday's
    # does not.
    with closing(sqlite3.connect(tmp_path / "state" / "reader.sqlite")) as kept, kept:
        kept.execute("UPDATE marks SET confirmed_unix = confirmed_unix - ? WHERE confirmed_unix > ?", (DAY_S, DAY_S))

    # The publisher is gone, and so is the upstream.
    alone = Served(tmp_path / "state", "--upstream", server, *APART)
    try:
        reply = alone.ask(f"www.{KEY}")
        assert str(reply.answer[0][0]) == WWW_ADDRESS
        # Nobody is there to confirm it, however fresh it is.
        assert EDE_STALE in ede_codes(reply)
        assert reply.answer[0].ttl <= 30
        stale = alone.ask(old_name)
        assert str(stale.answer[0][0]) == WWW_ADDRESS
        assert EDE_STALE in ede_codes(stale)
        assert stale.answer[0].ttl <= 30
        assert alone.ask("look-alike.example").rcode() == dns.rcode.SERVFAIL
    finally:
        assert alone.end() == 0


class Configured(Served):
    """A daemon, the file of its configuration, and the node that it knows."""

    def __init__(self, folder: Path, other: Served) -> None:
        self.config = folder / "p2pdns.toml"
        self.config.write_text("")
        self.other = other
        super().__init__(folder / "state", "-c", str(self.config), "--bootstrap", other.status()["dht_address"])

    def configure(self, text: str) -> None:
        """Write another configuration and have it read."""
        self.config.write_text(text)
        self.control.call("reload")

    def publish_address(self, address: str, *, elsewhere: bool = False) -> None:
        """Publish a zone with this address at www, here or at the other node, from where it is put to this one."""
        control = self.other.control if elsewhere else self.control
        control.call("publish", item=item_of(SECRET, f"$TTL 3600\nwww A {address}\n"))


class Witness:
    """Another front at the engine, which hears right after the daemon's own what is untrue from now on."""

    def __init__(self, daemon: Served) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(GUARD_S)
        with reachable(daemon.state / SOCKET_NAME) as path:
            self._sock.connect(path)
        self._frames = FrameReader()
        self._hear(Hello)

    def hear(self) -> None:
        """Wait until the engine says that something is untrue."""
        self._hear(Invalidate)

    def close(self) -> None:
        """Hear no more."""
        self._sock.close()

    def _hear(self, kind: type[Frame]) -> None:
        while True:
            data = self._sock.recv(65_536)
            assert data, "the engine has closed the connection"
            if any(isinstance(frame, kind) for frame in self._frames.feed(data)):
                return


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """Start a daemon with a configuration, and a node to publish to."""
    folder = tmp_path_factory.mktemp("cached")
    other = Served(folder / "other", "--no-dns")
    served = Configured(folder, other)
    wait_until(lambda: served.status()["contacts"] > 0, "a contact")
    yield served
    assert [served.end(), other.end()] == [0, 0]


def shown(daemon: Served, name: str) -> str:
    """Return what a name has here, in a word."""
    return in_a_word(daemon.ask(name))


def in_a_word(reply: dns.message.Message) -> str:
    """Return what a reply says."""
    return str(reply.answer[0][0]) if reply.answer else dns.rcode.to_text(reply.rcode())


def _emil(daemon: Configured) -> None:
    daemon.control.call("name-add", name="emil", key=KEY)
    daemon.publish_address("192.0.2.4")


Act = Callable[[Configured], object]
CHANGES: dict[str, tuple[str, Act, str, Act, str]] = {
    "a new seq": (
        f"www.{KEY}",
        lambda daemon: daemon.publish_address("192.0.2.1"),
        "192.0.2.1",
        lambda daemon: daemon.publish_address("192.0.2.2"),
        "192.0.2.2",
    ),
    "a new seq from elsewhere": (
        f"www.{KEY}",
        lambda daemon: daemon.publish_address("192.0.2.5"),
        "192.0.2.5",
        lambda daemon: daemon.publish_address("192.0.2.6", elsewhere=True),
        "192.0.2.6",
    ),
    "a petname": (
        "www.dora.p2p.alt",
        lambda daemon: daemon.publish_address("192.0.2.3"),
        "NXDOMAIN",
        lambda daemon: daemon.control.call("name-add", name="dora", key=KEY),
        "192.0.2.3",
    ),
    "a petname that goes": (
        "www.emil.p2p.alt",
        _emil,
        "192.0.2.4",
        lambda daemon: daemon.control.call("name-remove", name="emil"),
        "NXDOMAIN",
    ),
    "local data": (
        "router.lan",
        lambda daemon: daemon.configure('[dns]\nlocal_data = ["router.lan A 192.168.1.1"]\n'),
        "192.168.1.1",
        lambda daemon: daemon.configure('[dns]\nlocal_data = ["router.lan A 192.168.1.2"]\n'),
        "192.168.1.2",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_at_the_door_with_the_question_after_the_engines_word(daemon: Configured, change: str) -> None:
    name, prepare, before, act, after = CHANGES[change]
    prepare(daemon)
    wait_until(lambda: shown(daemon, name) == before, before)
    wait_until(lambda: is_from_the_front(daemon, name), "an answer of the front alone")
    asked = dns.message.make_query(name, "A").to_wire()
    replies: list[tuple[float, bytes]] = []
    with (
        closing(Witness(daemon)) as witness,
        ThreadPoolExecutor(1) as pool,
        socket.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(GUARD_S)
        sock.connect(("127.0.0.1", daemon.port))
        acting = pool.submit(act, daemon)
        witness.hear()
        began = time.perf_counter()
        for _ in range(QUESTIONS_MAX):
            sock.send(asked)
            reply = sock.recv(65_535)
            replies.append((time.perf_counter() - began, reply))
        acting.result(GUARD_S)
    answers = [in_a_word(dns.message.from_wire(reply)) for _, reply in replies]
    assert answers[-1] == after
    assert set(answers) <= {before, after}
    passed_s, _ = replies[answers.index(after)]
    sys.stdout.write(f"\n{change}: at the door {passed_s * 1000:.1f} ms after the engine's word\n")


def is_from_the_front(daemon: Configured, name: str) -> bool:
    """Return whether a question is answered without the engine."""

    def asked_count() -> int:
        count: int = daemon.status()["counters"]["link"]["queries"]
        return count

    before = asked_count()
    daemon.ask(name)
    return asked_count() == before
