"""The hostile neighbour of the testbed: it sends the packets that it was told to send, and stops."""

from __future__ import annotations

import contextlib
import random
import socket

import pytest

from deploy import hostile
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.errors import FormatError
from p2pdns.items.item import mutable_target
from p2pdns.items.keys import SecretKey

KEY = SecretKey.generate(b"\x07" * 32).zone_key
VICTIM = "10.91.2.99"


def packets(seed: int, *, spoofed: int = 0, garbage: int = 0) -> list[bytes]:
    """Return the packets that are sent to an unused loopback address."""
    with contextlib.closing(hostile.Flood(("127.0.0.1", 6881), "testbed", random.Random(seed))) as flood:
        return [*flood.garbage(garbage), *flood.spoofed_gets(spoofed, VICTIM, KEY)]


def test_a_spoofed_get_is_a_whole_packet_from_the_victim() -> None:
    assert len(set(packets(1, spoofed=5))) == 5
    for packet in packets(1, spoofed=5):
        assert packet[9] == socket.IPPROTO_UDP
        assert (socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])) == (VICTIM, "127.0.0.1")
        assert int.from_bytes(packet[24:26]) == len(packet) - 20
        query = parse(packet[28:])
        assert isinstance(query, krpc.RequestMessage)
        assert query.request == krpc.Get(mutable_target(KEY.raw))
        assert query.network == krpc.network_of("testbed")


def test_garbage_is_mostly_nothing_that_a_node_understands() -> None:
    understood = 0
    for data in packets(1, garbage=400):
        assert 0 < len(data) < 1_400
        with contextlib.suppress(FormatError):
            parse(data)
            understood += 1
    assert understood < 40


def test_the_same_seed_floods_alike() -> None:
    assert packets(1, spoofed=50, garbage=50) == packets(1, spoofed=50, garbage=50)
    assert packets(1, spoofed=50, garbage=50) != packets(2, spoofed=50, garbage=50)


@pytest.mark.parametrize("wrong", ["", "--puts=-1", "--gets=100001", "--key=x", "--item=00"])
def test_a_wrong_command_line_is_refused(wrong: str) -> None:
    with pytest.raises(SystemExit) as refused:
        hostile.read_arguments([wrong, "127.0.0.1:1"] if wrong else [])
    assert refused.value.code == 2
