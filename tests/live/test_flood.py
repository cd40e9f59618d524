"""A flood of keys against one engine with its database: honest items stay, and status counts what was refused."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2pdns.addresses import Address, read_address
from p2pdns.dht import krpc
from p2pdns.dht.bencode import encode
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import SecretKey
from tests.live.test_engine import READY_S_MAX, EngineProcess, config_of

NETWORK = krpc.network_of("test engines")
ITEMS_MAX, BYTES_MAX = 200, 1024 * 1024
SEQ = 1_800_000_000_000_000


class Stranger:
    """Somebody with a socket, which on loopback is a prefix of its own."""

    def __init__(self, engine: Address) -> None:
        self._engine = engine
        self._id = os.urandom(20)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(READY_S_MAX)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, request: krpc.Request) -> krpc.Reply | krpc.Error:
        """Return the answer to a query."""
        transaction = os.urandom(4)
        query = krpc.RequestMessage(
            transaction=transaction, node_id=self._id, request=request, read_only=True, network=NETWORK
        )
        self._socket.sendto(compose(query), self._engine)
        while True:
            message = parse(self._socket.recv(2_048))
            if message.transaction == transaction:
                assert isinstance(message, krpc.Reply | krpc.Error)
                return message

    def token(self, target: bytes) -> bytes:
        """Return the right to put at a target."""
        # The pad keeps the reply within three times the request; a token once shown lifts every ration.
        reply = self.ask(krpc.Get(target, None, None, 400))
        assert isinstance(reply, krpc.Reply)
        assert reply.token is not None
        return reply.token

    def put(self, item: ImmutableItem | MutableItem, *, token: bytes | None = None, forge: bool = False) -> int:
        """Put an item; return 0 or the error's code."""
        token = self.token(item.target) if token is None else token
        request: krpc.Request = krpc.PutImmutable(encode(item.value), token)
        if isinstance(item, MutableItem):
            signature = bytes(64) if forge else item.signature
            request = krpc.PutMutable(item.key.raw, item.seq, encode(item.value), signature, token, item.salt)
        answer = self.ask(request)
        return answer.code if isinstance(answer, krpc.Error) else 0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    """Run an engine whose store is small."""
    config = config_of()
    config = replace(config, limits=replace(config.limits, store_items_max=ITEMS_MAX, store_bytes_max=BYTES_MAX))
    process = EngineProcess(tmp_path / "flooded", config)
    process.wait_for_line("dht: listening on")
    yield process
    process.end()


@pytest.fixture
def stranger(engine: EngineProcess) -> Iterator[Callable[[], Stranger]]:
    """Make strangers that go with the test."""
    address = read_address(engine.status()["dht_address"])
    with contextlib.ExitStack() as stack:

        def make() -> Stranger:
            return stack.enter_context(contextlib.closing(Stranger(address)))

        yield make


def test_a_flood_against_an_engine_leaves_the_honest_items_and_a_bounded_database(
    engine: EngineProcess, stranger: Callable[[], Stranger]
) -> None:
    honest = [MutableItem.signed(SecretKey.generate(bytes([n]) * 32), SEQ, b"honest") for n in range(1, 31)]
    for item in honest:
        assert stranger().put(item) == 0
    flooders = [stranger(), stranger()]
    began = time.monotonic()
    codes = [flooder.put(ImmutableItem(b"ground %d" % n)) for flooder in flooders for n in range(600)]
    sys.stdout.write(f"\n1,200 puts in {time.monotonic() - began:.2f} s: {codes.count(0)} kept\n")
    assert set(codes) == {0, krpc.SERVER_ERROR}
    # Faults of every kind beside the flood.
    newer = MutableItem.signed(SecretKey.generate(b"\x01" * 32), SEQ + 1, b"newer")
    older = MutableItem.signed(SecretKey.generate(b"\x01" * 32), SEQ - 1, b"older")
    token = flooders[0].token(newer.target)
    forgeries = [flooders[0].put(newer, token=token, forge=True) for _ in range(400)]
    assert set(forgeries) == {krpc.BAD_SIGNATURE, krpc.SERVER_ERROR}
    assert flooders[0].put(older) == krpc.SEQ_TOO_LOW
    assert flooders[0].put(newer, token=b"no token") == krpc.PROTOCOL_ERROR
    status = engine.status()
    counters = status["counters"]["dht"]
    for reason in ("rate", "quota", "bad-signature", "busy", "seq-too-low", "bad-token"):
        assert counters[f"put-refused-{reason}"] >= 1, reason
    refused = sum(count for name, count in counters.items() if name.startswith("put-refused-"))
    assert refused == sum(code != 0 for code in codes) + 400 + 2
    assert len(honest) < status["items_held"] <= ITEMS_MAX // 2
    reader = stranger()
    shown = reader.token(newer.target)
    for item in honest:
        reply = reader.ask(krpc.Get(item.target, None, shown, 0, newer.target))
        assert isinstance(reply, krpc.Reply)
        assert reply.value == encode(b"honest")
    engine.end()
    database = engine.state / "store.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        targets = {row[0] for row in connection.execute("SELECT target FROM items")}
    assert {item.target for item in honest} <= targets
    assert len(targets) == status["items_held"]
    assert sum(path.stat().st_size for path in engine.state.glob("store.sqlite*")) < 2 * BYTES_MAX
