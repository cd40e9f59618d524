#!/usr/bin/env python
"""A hostile neighbour: floods nodes of the testbed with items of made-up keys, questions in another's name, and noise.

    hostile [--puts 300] [--gets 2000] [--garbage 2000] [--rate 2000] [--victim 10.91.2.99] [--key KEY] ADDR:PORT...
    hostile --item HEX --puts 1 --gets 0 --garbage 0 ADDR:PORT...     an item of somebody else's, whatever its age

It needs CAP_NET_RAW, for a packet with a forged source address. Guarantees: it sends to the addresses it is given and
to no others, a bounded number of packets, and ends by itself; the same seed sends the same packets but for
tokens and times. Prints one line of JSON: what it sent, and what the nodes said to it. Does not know what they should
say.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

from p2pdns.addresses import Address, read_address
from p2pdns.dht import bencode, krpc
from p2pdns.dht.krpc.compact import ID_BYTES
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.errors import ConfigError, FormatError, StrangerError
from p2pdns.items.item import MutableItem, mutable_target
from p2pdns.items.keys import SecretKey, ZoneKey

COUNT_MAX = 100_000  # Of each kind: an hour's flood is for a simulator.
REPLY_S_MAX = 2.0  # A node on the next bridge answers in a hundredth of it, or not at all.
VALUE_BYTES = 900  # As large as honest items get.
BURST = 50  # Packets between two looks at the clock; a receiver's buffer holds some hundred.
WRONG_SIGNATURE = b"\x00" * krpc.SIGNATURE_BYTES


class Flood:
    """One run against one node."""

    def __init__(self, target: Address, network: str, rng: random.Random) -> None:
        self.target = target
        self.said: Counter[str] = Counter()
        self._network = krpc.network_of(network)
        self._rng = rng
        self._node_id = rng.randbytes(ID_BYTES)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(REPLY_S_MAX)
        self._socket.connect(target)

    def _query(self, request: krpc.Request, transaction: bytes) -> bytes:
        query = krpc.RequestMessage(
            transaction=transaction, node_id=self._node_id, request=request, network=self._network
        )
        return compose(query)

    def _asked(self, request: krpc.Request) -> krpc.Reply | krpc.Error | None:
        transaction = self._rng.randbytes(4)
        self._socket.send(self._query(request, transaction))
        deadline = time.monotonic() + REPLY_S_MAX
        # The node asks us back as it would any newcomer; such a query is not the reply.
        while time.monotonic() < deadline:
            try:
                message = parse(self._socket.recv(krpc.DATAGRAM_BYTES_MAX))
            except (OSError, FormatError):
                break
            if not isinstance(message, krpc.RequestMessage) and message.transaction == transaction:
                return message
        return None

    def put(self, count: int, given: MutableItem | None) -> None:
        """Put an item `count` times, or as many of made-up keys, each signed; every tenth signature is wrong."""
        for number in range(1, count + 1):
            item = given or self._made_up()
            reply = self._asked(krpc.Get(item.target, pad_bytes=400))
            token = reply.token if isinstance(reply, krpc.Reply) else None
            if token is None:
                self.said["get without token"] += 1
                continue
            signature = WRONG_SIGNATURE if number % 10 == 0 else item.signature
            value = bencode.encode(item.value)
            answer = self._asked(krpc.PutMutable(item.key.raw, item.seq, value, signature, token))
            match answer:
                case krpc.Reply():
                    self.said["put stored"] += 1
                case krpc.Error(code=code, text=text):
                    self.said[f"put refused: {code} {text}"] += 1
                case _:
                    self.said["put unanswered"] += 1

    def _made_up(self) -> MutableItem:
        secret = SecretKey.generate(self._rng.randbytes(32))
        return MutableItem.signed(secret, int(time.time() * 1e6), self._rng.randbytes(VALUE_BYTES))

    def spoofed_gets(self, count: int, victim: str, key: ZoneKey | None) -> Iterator[bytes]:
        """Yield IP packets from the victim's address, each a short get: of an item that is there, if a key is given."""
        for number in range(count):
            target = self._rng.randbytes(ID_BYTES) if key is None else mutable_target(key.raw)
            data = self._query(krpc.Get(target), number.to_bytes(4))
            udp = struct.pack("!HHHH", 1024 + number % 60_000, self.target[1], 8 + len(data), 0)
            addresses = socket.inet_aton(victim), socket.inet_aton(self.target[0])
            # Length, number and sum of the header are the kernel's to fill in.
            yield struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, *addresses) + udp + data

    def garbage(self, count: int) -> Iterator[bytes]:
        """Yield datagrams that no node can understand: noise, and honest queries with some bytes changed or missing."""
        for number in range(count):
            if number % 2:
                yield self._rng.randbytes(self._rng.randrange(1, 1_400))
                continue
            data = bytearray(self._query(krpc.FindNode(self._rng.randbytes(ID_BYTES)), self._rng.randbytes(4)))
            for _ in range(self._rng.randrange(1, 8)):
                data[self._rng.randrange(len(data))] = self._rng.randrange(256)
            yield bytes(data[: self._rng.randrange(1, len(data) + 1)])

    def send_garbage(self, count: int, rate: float) -> int:
        """Send that much noise from our own address; return how much was sent."""
        return _paced(self.garbage(count), rate, self._socket.send)

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def _paced(packets: Iterator[bytes], rate: float, send: Callable[[bytes], object]) -> int:
    sent, began = 0, time.monotonic()
    for packet in packets:
        try:
            send(packet)
        except OSError:
            # A full queue, or the answer of a machine that has had enough: part of the weather out there.
            continue
        sent += 1
        if sent % BURST == 0:
            time.sleep(max(0.0, began + sent / rate - time.monotonic()))
    return sent


T = TypeVar("T")


def _argument(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return a reader of words for argparse, which prints the reason why a word is wrong."""

    def read_word(text: str) -> T:
        try:
            return read(text)
        except (ConfigError, StrangerError, ValueError) as trouble:
            raise argparse.ArgumentTypeError(str(trouble)) from None

    return read_word


def _read_item(text: str) -> MutableItem:
    return MutableItem.read_file(bytes.fromhex(text))


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Return the options and nodes of the command line."""
    parser = argparse.ArgumentParser(prog="hostile", description="flood nodes of the testbed")
    parser.add_argument("--network", default="testbed")
    for kind, count in (("puts", 300), ("gets", 2_000), ("garbage", 2_000)):
        parser.add_argument(f"--{kind}", type=int, default=count, choices=range(COUNT_MAX + 1), metavar="COUNT")
    parser.add_argument("--rate", type=float, default=2_000.0, metavar="PACKETS", help="a second")
    parser.add_argument("--victim", default="10.91.2.99", metavar="ADDR")
    parser.add_argument("--key", type=_argument(ZoneKey.read), metavar="KEY", help="whose item the gets ask for")
    parser.add_argument("--item", type=_argument(_read_item), metavar="HEX", help="put this instead of made-up items")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("nodes", nargs="+", type=_argument(read_address), metavar="ADDR:PORT")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Flood every node in turn, print the counts, and return the exit status."""
    options = read_arguments(arguments)
    rng = random.Random(options.seed)
    results = []
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for node in options.nodes:
            flood = Flood(node, options.network, rng)
            flood.put(options.puts, options.item)
            gets = flood.spoofed_gets(options.gets, options.victim, options.key)
            raw.connect((node[0], 0))
            sent_gets = _paced(gets, options.rate, raw.send)
            sent_garbage = flood.send_garbage(options.garbage, options.rate)
            flood.close()
            sent = {"puts": options.puts, "gets": sent_gets, "garbage": sent_garbage}
            results.append({"node": f"{node[0]}:{node[1]}", "sent": sent, "said": dict(sorted(flood.said.items()))})
    sys.stdout.write(json.dumps(results) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
