"""The guard of tests/conftest.py: no way of sending leads away from this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

ELSEWHERE = ("192.0.2.1", 53)
WAYS: dict[str, Callable[[socket.socket], object]] = {
    "connect": lambda sock: sock.connect(ELSEWHERE),
    "connect_ex": lambda sock: sock.connect_ex(ELSEWHERE),
    "sendto": lambda sock: sock.sendto(b"x", ELSEWHERE),
    "sendto with flags": lambda sock: sock.sendto(b"x", 0, ELSEWHERE),
    "sendmsg": lambda sock: sock.sendmsg([b"x"], (), 0, ELSEWHERE),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_test_can_send_elsewhere(way: str) -> None:
    # A Unix socket takes no such address at all: should the guard fail one day, nothing leaves even then.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, pytest.raises(AssertionError, match="a test tried"):
        WAYS[way](sock)


def test_a_message_to_loopback_or_to_a_connected_peer_goes_through() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        sender.sendmsg([b"by ", b"address"], (), 0, receiver.getsockname())
        assert receiver.recv(100) == b"by address"
        sender.connect(receiver.getsockname())
        sender.sendmsg([b"connected"])
        assert receiver.recv(100) == b"connected"
