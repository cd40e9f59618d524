"""Datagrams read and written many at a time, on sockets of loopback."""

from __future__ import annotations

import socket

import pytest

from p2pdns.net.batch import DATAGRAM_BYTES_MAX, read_datagrams, send_datagram
from p2pdns.net.sockets import address_of, open_udp


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_reply_leaves_from_the_address_that_was_asked(host: str) -> None:
    door = open_udp((host, 0))
    asked = {"127.0.0.1": "127.0.0.1", "0.0.0.0": "127.0.0.9", "::1": "::1", "::": "::1"}[host]
    with socket.socket(door.family, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"question", (asked, door.getsockname()[1]))
        door.setblocking(True)
        # Blocking once is the wait for the datagram; reading itself never blocks.
        door.recv(100, socket.MSG_PEEK)
        door.setblocking(False)
        ((data, sender, ancillary),) = list(read_datagrams(door))
        assert data == b"question"
        assert send_datagram(door, b"answer", sender, ancillary)
        reply, replier = client.recvfrom(100)
    assert (reply, replier[0]) == (b"answer", asked)
    door.close()


def test_reading_stops_at_the_limit_of_a_wakeup_and_at_the_end() -> None:
    door = open_udp(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for i in range(5):
            client.sendto(bytes([i]), address_of(door))
    # On loopback a datagram is there when sendto returns.
    assert [data for data, _, _ in read_datagrams(door, 3)] == [b"\0", b"\1", b"\2"]
    assert [data for data, _, _ in read_datagrams(door)] == [b"\3", b"\4"]
    assert list(read_datagrams(door)) == []
    door.close()


def test_a_datagram_beyond_the_limit_shows_that_it_was_cut() -> None:
    door = open_udp(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(bytes(DATAGRAM_BYTES_MAX), address_of(door))
        client.sendto(bytes(9000), address_of(door))
    sizes = [len(data) for data, _, _ in read_datagrams(door)]
    assert sizes == [DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX + 1]
    door.close()


def test_what_cannot_be_sent_is_no_exception() -> None:
    door = open_udp(("127.0.0.1", 0))
    assert not send_datagram(door, bytes(70_000), ("127.0.0.1", 9))
    door.close()
