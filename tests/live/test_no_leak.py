"""Names of ours never leave: thousands of them against upstreams that write down what they are asked, and loops."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import socket
import string
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import dns.rcode
import pytest

from p2pdns.addresses import Address, read_address
from p2pdns.admin.control import ControlClient
from p2pdns.clock import boot_now, unix_now
from p2pdns.demo.swarm import Swarm
from p2pdns.dns.message import Message, Question
from p2pdns.dns.message.wire import compose, parse
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.errors import Unavailable
from p2pdns.link import Ask
from p2pdns.net.sockets import open_dns
from p2pdns.net.upstream.asking import Upstream
from p2pdns.overlay.finder import Overlay
from p2pdns.resolver.local import PROBE_SUFFIX
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.service import Service
from tests.live.front_process import GUARD_S, wait_until
from tests.overlay_doubles import KEYS, UNIX, A, FakeDht, FakeState, Told, item_of, rrsets

NAMES_COUNT = 10_000
PROCESS_NAMES_COUNT = 400  # Through three real processes each costs some milliseconds.
AT_ONCE = 50
ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
LOOKALIKE = "look-alike"  # Begins each name that is none of ours.
LETTERS = string.ascii_lowercase + string.digits + "-_"
TYPES = [Type.A, Type.AAAA, Type.HTTPS, Type.TXT, Type.NS, Type.DS, Type.CNAME, Type.ANY]
SEARCH = "search.example"
SETTINGS = ResolverSettings.of(petnames={"alice": str(A)}, search_domains=[SEARCH])


class Names:
    """Random names, whose they are known by how they were made."""

    def __init__(self, seed: int, search: str = "lan") -> None:
        self.rng = random.Random(seed)
        self.search = search

    def label(self) -> str:
        """Return a label of any sort."""
        return "".join(self.rng.choices(LETTERS, k=self.rng.randint(1, 12)))

    def cased(self, text: str) -> str:
        """Return the text in any case."""
        return "".join(self.rng.choice([char, char.upper()]) for char in text) if self.rng.random() < 0.3 else text

    def key(self) -> str:
        """Return a zone key, or what has the shape of one."""
        if self.rng.random() < 0.5:
            return str(self.rng.choice(list(KEYS.values())))
        return "".join(self.rng.choices(ZBASE32, k=51)) + self.rng.choice("yo" + ZBASE32)

    def ours(self) -> str:
        """Return a name that no one else may hear of."""
        real, suffix = str(self.rng.choice(list(KEYS.values()))), self.rng.choice(["p2p.alt", "p2pdns.internal"])
        ending = self.rng.choice(
            [
                self.key(),
                f"{self.key()}.{suffix}",
                f"{self.rng.choice(['alice', 'nobody', self.label()])}.{suffix}",
                suffix,
                f"{self.label()}.alt",
                "alt",
                f"{real}.lan",
                f"{real}.{self.label()}.example",
                f"{real}.{suffix}.corp.example",
                f"alice.{suffix}.lan",
                f"{self.label()}.onion",
                f"{self.label()}.localhost",
                "1.168.192.in-addr.arpa",
                "local",
                f"{self.label()}.local",
                self.mistyped(real),
                f"{self.mistyped(real)}.{self.rng.choice(['lan', 'home', suffix, self.search])}",
            ]
        )
        labels = [self.label() for _ in range(self.rng.randint(0, 3))]
        return self.cased(".".join([*labels, ending])) + "."

    def mistyped(self, key: str) -> str:
        """Return a zone key as people mistype and dress it."""
        at = self.rng.randrange(1, 51)
        return self.rng.choice(
            [
                key[:at] + key[at + 1 :],
                key[: at - 1] + key[at + 1 :],
                key[:at] + key[at] + key[at:],
                key[:at] + key[at] * 2 + key[at:],
                key[:at] + self.rng.choice("lv02-_") + key[at + 1 :],
                f"{key[:at]}.{key[at:]}",
                f"pk:{key}",
                f"https://{key}/",
                f"https://www.{key}/",
                f"{key}:443",
                f"{key}/index.html",
                f"{key}_",
            ]
        )

    def foreign(self) -> str:
        """Return a name of others that looks like one of ours."""
        key = "".join(self.rng.choices(ZBASE32, k=52))
        at = self.rng.randrange(52)
        ending = self.rng.choice(
            [
                f"{key[:51]}.example",
                f"{key}y.example",
                f"{key[:at]}{self.rng.choice('lv02-')}{key[at + 1 :]}.example",
                f"{key[:20]}.{key[20:]}.example",
                key[:49],
                key + "yyy",
                f"{key[:at]}--{key[at + 2 :]}" if at < 50 else key[:49],
                f"{'y' * 52}.example",
                "alternative",
                "p2p-alt",
                "p2palt",
                "alt.example",
                "alt.p2p.example",
                "xp2pdns.internal",
                "internal.p2pdns.example",
                "internal.example",
                "alice.example",
            ]
        )
        return f"{LOOKALIKE}-{self.label()}.{ending}."


def is_ours(name: Name) -> bool:
    """Return whether a name that an upstream was asked for is none of its business."""
    return not name.labels or not name.labels[0].lower().startswith(LOOKALIKE.encode())


class Listener:
    """An upstream on loopback that writes down what it is asked; every third answer leads into the overlay."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.address: Address = self._sock.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, sender = self._sock.recvfrom(4096)
            if not data:
                return
            query = parse(data)
            assert query.question is not None
            self.asked.append(query.question)
            self._sock.sendto(self._reply(query, query.question), sender)

    def _reply(self, query: Message, question: Question) -> bytes:
        number = len(self.asked)
        target = [f"www.{A}.", f"www.{'y' * 52}.p2p.alt.", "192.0.2.1"][number % 3]
        line = f"{question.name} 60 {'A' if number % 3 == 2 else 'CNAME'} {target}"
        answer = tuple(rr for rrset in rrsets(Name.root(), line) for rr in rrset.records())
        return compose(Message(query.id, 0x8180, question, answer))

    def close(self) -> None:
        """Stop."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self.address)
        self._thread.join(GUARD_S)
        self._sock.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Open an upstream for one test."""
    double = Listener()
    yield double
    double.close()


def test_of_ten_thousand_names_an_upstream_hears_none_that_is_ours(listener: Listener) -> None:
    names = Names(4, SEARCH)
    lost: list[str] = []

    async def story() -> None:
        dht = FakeDht({A: item_of("a", "* 300 CNAME x.{b}", "@ 300 A 192.0.2.1", "friend 300 NS {c}")})
        overlay = Overlay(dht, FakeState(), clock=boot_now, unix_clock=unix_now, tell=Told())
        service = Service(overlay, Upstream([listener.address], clock=boot_now), SETTINGS, clock=boot_now)

        async def ask(count: int) -> None:
            for _ in range(count):
                mine = names.rng.random() < 0.9
                text = names.ours() if mine else names.foreign()
                before = len(listener.asked)
                question = Question(Name.read(text), names.rng.choice(TYPES))
                answer = await service.resolve(question, Ask(boot_now() + 4))
                if not mine and len(listener.asked) == before:
                    lost.append(text)
                assert answer.rcode in (0, 2, 3, 6), text

        await asyncio.gather(*(ask(NAMES_COUNT // AT_ONCE) for _ in range(AT_ONCE)))
        await overlay.close()

    asyncio.run(asyncio.wait_for(story(), 10 * GUARD_S))
    assert [str(asked.name) for asked in listener.asked if is_ours(asked.name)] == []
    assert len(listener.asked) > NAMES_COUNT // 20
    assert lost == []


# Real processes.


@contextmanager
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    """Open a swarm without nodes."""
    with Swarm(tmp_path, "no leak") as nodes:
        yield nodes


def dns_address(control: ControlClient) -> Address:
    """Return where a daemon answers DNS."""
    addresses: list[str] = control.call("status")["status"]["dns_addresses"]
    return read_address(addresses[0])


def counter(control: ControlClient, name: str) -> int:
    """Return a counter of the upstreams; 0 while the daemon starts."""
    try:
        return int(control.call("status")["status"]["counters"]["upstream"].get(name, 0))
    except Unavailable:
        return 0


def asked(address: Address, name: str, rtype: str = "A") -> dns.message.Message:
    """Return the response to a question."""
    query = dns.message.make_query(name, rtype, use_edns=0)
    return dns.query.udp(query, address[0], timeout=GUARD_S, port=address[1])


def ede_texts(response: dns.message.Message) -> str:
    """Return the texts of the extended errors."""
    options = [option for option in response.options if isinstance(option, dns.edns.EDEOption)]
    return " ".join(option.text or "" for option in options)


def test_through_real_processes_an_upstream_hears_nothing_of_ours_either(tmp_path: Path, listener: Listener) -> None:
    names = Names(5)
    with swarm(tmp_path) as nodes:
        host, port = listener.address
        node = nodes.start("resolver", "--dns", "127.0.0.1:0", "--upstream", f"{host}:{port}")
        nodes.wait_until_ready(node)
        address = dns_address(node.control)
        for number in range(PROCESS_NAMES_COUNT):
            text = names.foreign() if number % 10 == 0 else names.ours()
            response = asked(address, text, names.rng.choice(["A", "AAAA", "HTTPS", "TXT"]))
            assert response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL)
    # The probe for loops is meant for it.
    heard = [question.name for question in listener.asked]
    probes = [name for name in heard if name.is_at_or_below(PROBE_SUFFIX)]
    assert [str(name) for name in heard if is_ours(name) and name not in probes] == []
    assert len(heard) >= PROCESS_NAMES_COUNT // 10
    assert len(probes) == 1


LAUNCHER = """
import os, sys
for index, number in enumerate(map(int, sys.argv[1:3])):
    os.dup2(number, 3 + index)
    os.set_inheritable(3 + index, True)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "p2pdns", *sys.argv[3:]])
"""


@contextmanager
def asks_itself(state: Path) -> Iterator[tuple[Address, ControlClient]]:
    """Start a daemon whose upstream is the address that it answers at, handed to it as systemd would."""
    sockets = open_dns(("127.0.0.1", 0))
    host, port = sockets.address
    # Descriptors above those that the launcher puts in place; a fixed number may be somebody's in this process.
    handed = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 5) for sock in (sockets.udp, sockets.tcp)]
    sockets.close()
    words = ["serve", "--dht", "127.0.0.1:0", "--network", "loop", "--upstream", f"{host}:{port}"]
    command = [sys.executable, "-c", LAUNCHER, *map(str, handed), *words, "--state", str(state)]
    environ = {**os.environ, "P2PDNS_CONFIG": os.devnull}
    process = subprocess.Popen(command, pass_fds=handed, env=environ, stderr=subprocess.DEVNULL)
    for descriptor in handed:
        os.close(descriptor)
    try:
        yield (host, port), ControlClient(state)
    finally:
        process.terminate()
        process.wait(GUARD_S)


def test_a_daemon_that_is_its_own_upstream_finds_out_at_its_start(tmp_path: Path) -> None:
    with asks_itself(tmp_path / "state") as (address, control):
        # Whatever is asked before that ends too.
        assert asked(address, "early.example").rcode() in (dns.rcode.SERVFAIL, dns.rcode.REFUSED)
        wait_until(lambda: counter(control, "servers-dropped") == 1, "the loop is found")
        response = asked(address, "late.example")
        assert (response.rcode(), "this resolver itself" in ede_texts(response)) == (dns.rcode.REFUSED, True)
        assert asked(address, "db.localhost").answer
        assert asked(address, f"www.{A}").rcode() == dns.rcode.SERVFAIL


def test_two_daemons_that_ask_each_other_find_out_when_the_loop_is_closed(tmp_path: Path) -> None:
    with swarm(tmp_path) as nodes:
        # From its start on it finds no loop, because there is none yet.
        first = nodes.start("first", "--dns", "127.0.0.1:0")
        nodes.wait_until_ready(first)
        host, port = dns_address(first.control)
        second = nodes.start("second", "--dns", "127.0.0.1:0", "--upstream", f"{host}:{port}")
        nodes.wait_until_ready(second)
        assert asked(dns_address(second.control), "www.example").rcode() == dns.rcode.SERVFAIL
        back = ":".join(map(str, dns_address(second.control)))
        config = tmp_path / "p2pdns.toml"
        config.write_text(config.read_text().replace('"none"', f'["{back}"]'))
        assert first.control.call("reload")["changed"] == ["upstream.servers"]
        wait_until(lambda: counter(first.control, "servers-dropped") == 1, "the loop is found")
        response = asked((host, port), "other.example")
        assert (response.rcode(), "this resolver itself" in ede_texts(response)) == (dns.rcode.REFUSED, True)


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_dead_upstream_delays_neither_the_start_nor_an_overlay_name(tmp_path: Path, kind: str) -> None:
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    holder.bind(("127.0.0.1", 0))
    host, port = holder.getsockname()
    if kind == "closed":
        holder.close()
    with holder, swarm(tmp_path) as nodes:
        node = nodes.start("resolver", "--dns", "127.0.0.1:0", "--upstream", f"{host}:{port}")
        nodes.wait_until_ready(node)
        lines = ("www 300 A 192.0.2.1", "out 300 CNAME www.example.")
        item = item_of("a", *lines, age_s=UNIX - unix_now())
        node.control.call("publish", item=item.to_bytes().hex())
        address = dns_address(node.control)
        done: list[str] = []
        waiting = threading.Thread(target=_noted(done, "other", lambda: asked(address, "www.example")))
        waiting.start()
        # Twenty overlay names are answered before the first other name has failed; closed ports fail at once.
        for number in range(20):
            assert asked(address, f"www.{A}", "A" if number % 2 else "AAAA").rcode() == dns.rcode.NOERROR
        done.append("ours")
        waiting.join(GUARD_S)
        assert done[0] == ("ours" if kind == "silent" else done[0])
        failed = asked(address, "www.example")
        assert failed.rcode() == dns.rcode.SERVFAIL
        before = counter(node.control, "queries")
        assert asked(address, f"out.{A}").rcode() == dns.rcode.SERVFAIL
        # RFC 9520: the same question is not put to a dead server again.
        assert counter(node.control, "queries") == before


def _noted(done: list[str], word: str, action: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        action()
        done.append(word)

    return run
