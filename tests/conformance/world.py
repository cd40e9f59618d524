"""One daemon for all modules: `p2pdns serve` over a small overlay on loopback, zones in it, an upstream that obeys.

What can be asked about a clock is asked of a funnel in this process, to which the test tells the time.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pdns.addresses import Address, read_address
from p2pdns.admin.publishing import publish_through
from p2pdns.demo.swarm import Swarm, SwarmNode
from p2pdns.dns.zonefile import reader
from p2pdns.items.item import VALUE_BYTES_WRITE_MAX
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from tests.conformance import wire
from tests.conformance.upstream import Upstream
from tests.conformance.wire import Response
from tests.live.front_process import GUARD_S

NODES_COUNT = 2  # Beside the resolver: enough for an item to come from somebody else.
SECRETS = {
    name: SecretKey.generate(bytes([number]) * 32) for number, name in enumerate(("one", "two", "gone", "three"), 71)
}
KEY, OTHER_KEY, GONE_KEY, THIRD_KEY = (str(secret.zone_key) for secret in SECRETS.values())
UNREACHED_ID = 0xFEED
REACHED_ID = UNREACHED_ID - 1
SETTLED_BY = "nothing-of-this-name"
SETTLED_S = 60.0  # Half of the lowest TTL: whatever a test does, it ends before that.

ZONE = f"""$TTL 300
@        SOA ns host 1 3600 600 2592000 60
@        MX 10 mail
www      A 192.0.2.80
www      AAAA 2001:db8::80
mail     A 192.0.2.25
alias    CNAME www
chain    CNAME alias
away     CNAME www.{OTHER_KEY}.
outside  CNAME a-0.upstream.example.
dead     CNAME nowhere
loop     CNAME back
back     CNAME loop
*.wild   A 192.0.2.7
x.empty  TXT "below"
tree     DNAME {OTHER_KEY}.
friend   NS {OTHER_KEY}.
host     NS ns.upstream.example.
_s._tcp  SRV 0 1 443 www
unknown  TYPE65280 \\# 5 C00C00FF41
nothing  TYPE65281 \\# 0
web      HTTPS 1 . alpn=h2 ipv4hint=192.0.2.80
mand     SVCB 2 www mandatory=alpn alpn=h3 port=8443 key65333=ab
bits     A 192.0.2.1
bits     A 192.0.2.2
\\000\\255.bin A 192.0.2.9
a\\.b    A 192.0.2.10
private  A 10.0.0.1
short 2  A 192.0.2.11
"""
LONG = "".join(f'long TXT "{letter * 200}"\n' for letter in "abc")
OTHER_ZONE = f"$TTL 120\n@ A 192.0.2.90\nwww A 192.0.2.91\n{LONG}"
# Addresses beside the answer that a small client has no room for, while it has room for the answer.
THIRD_ZONE = "".join(f"@ MX 10 h{n}\nh{n} A 192.0.2.{n}\nh{n} AAAA 2001:db8::{n}\n" for n in range(10, 18))
BLOCKED = "ads.upstream.example"
LOCAL_DATA = ("router.home.example. 120 IN A 192.168.1.1", "box.home.example. CNAME router.home.example.")


class World:
    """The daemon, where it answers, and its upstream."""

    def __init__(self, resolver: SwarmNode, upstream: Upstream) -> None:
        self.resolver = resolver
        self.upstream = upstream
        self.address: Address = read_address(resolver.status()["dns_addresses"][0])
        self._settled_until = 0.0

    def settle(self) -> None:
        """Have every zone looked up to the end, unless that was done a moment ago: nothing is provisional then.

        Once the lowest TTL is over, the next answer would be the first one that is found, for five seconds.
        """
        if time.monotonic() < self._settled_until:
            return
        self._settled_until = time.monotonic() + SETTLED_S
        for key in (KEY, OTHER_KEY, THIRD_KEY):
            self.resolver.control.call("flush", zone=key)
            # An absence needs the complete look-up.
            self.resolver.control.call("trace", name=f"{SETTLED_BY}.{key}")

    def connect(self) -> socket.socket:
        """Return a TCP connection."""
        return socket.create_connection(self.address, timeout=GUARD_S)

    def publish(self, owner: str, text: str) -> None:
        """Publish a zone through the daemon."""
        publish(self.resolver, owner, text)


class Client:
    """A client over one transport, which asks in bytes."""

    def __init__(self, world: World, transport: str) -> None:
        self.world = world
        self.transport = transport
        self.is_stream = transport == "tcp"

    def __call__(self, query: bytes) -> Response:
        """Return the response to a query."""
        return Response(self._exchange(query))

    def ask(self, qname: str | bytes, qtype: int = wire.A, **options: object) -> Response:
        """Return the response to an ordinary query for a name."""
        return self(wire.query(qname, qtype, **options))  # type: ignore[arg-type]

    def is_silent_about(self, message: bytes) -> bool:
        """Return whether a message is dropped: the response that comes is that of the sane query behind it."""
        last = wire.query("version.bind", wire.TXT, qclass=wire.CH, number=UNREACHED_ID)
        if not self.is_stream:
            return Response(self._exchange(message, last)).id == UNREACHED_ID
        # A connection whose first message is no query is closed, so another query goes before it.
        first = wire.query("version.bind", wire.TXT, qclass=wire.CH, number=REACHED_ID)
        with self.world.connect() as sock:
            sock.sendall(b"".join(map(framed, (first, message, last))))
            return {Response(read_framed(sock)).id for _ in range(2)} == {REACHED_ID, UNREACHED_ID}

    def _exchange(self, *messages: bytes) -> bytes:
        if not self.is_stream:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(GUARD_S)
                sock.connect(self.world.address)
                for message in messages:
                    sock.send(message)
                return sock.recv(65_535)
        with self.world.connect() as sock:
            sock.sendall(b"".join(map(framed, messages)))
            return read_framed(sock)


def framed(message: bytes) -> bytes:
    """Return a message as it travels over TCP."""
    return struct.pack("!H", len(message)) + message


def read_framed(sock: socket.socket) -> bytes:
    """Return the next message of a stream."""
    return read_exactly(sock, int.from_bytes(read_exactly(sock, 2)))


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Return so many bytes of a stream; an end before that is an error."""
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, "the server closed the connection"
        data += piece
    return data


def publish(node: SwarmNode, owner: str, text: str) -> None:
    """Publish the zone of an owner through a node."""
    secret = SECRETS[owner]
    apex = secret.zone_key.apex
    rrsets = reader.reading(text, apex=apex, path=owner).rrsets
    value = compose_packet(rrsets, apex, size_bytes_max=VALUE_BYTES_WRITE_MAX)
    assert publish_through(node.control, secret, value).sent


@contextmanager
def running(folder: Path) -> Iterator[World]:
    """Start the overlay, publish, and start the daemon; nothing of it is left at the end."""
    upstream = Upstream()
    try:
        with Swarm(folder, "conformance") as swarm:
            bootstrap = [facts["dht_address"] for facts in swarm.grow(NODES_COUNT)]
            publish(swarm.nodes[0], "one", ZONE)
            publish(swarm.nodes[1], "two", OTHER_ZONE)
            publish(swarm.nodes[1], "three", THIRD_ZONE)
            # Only the resolver reads this: the others run already.
            with (folder / "p2pdns.toml").open("a") as config:
                config.write(f'\n[dns]\nblock = ["{folder / "blocked"}"]\nlocal_data = {list(LOCAL_DATA)!r}\n')
            (folder / "blocked").write_text(f"0.0.0.0 {BLOCKED}\n")
            flags = ["--dns", "127.0.0.1:0", "--upstream", f"{upstream.host}:{upstream.port}"]
            resolver = swarm.start("resolver", *flags, bootstrap=bootstrap)
            swarm.wait_until_ready(resolver, contact_count_min=NODES_COUNT)
            yield World(resolver, upstream)
    finally:
        upstream.close()
