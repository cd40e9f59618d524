"""Datagrams read and written many at a time, on sockets of loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from p2pdns.net.batch import DATAGRAM_BYTES_MAX, read_batch, reader_of, send_batch, send_datagram
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
        ((data, sender, ancillary),), is_empty = read_batch(reader_of(door), 2)
        assert is_empty
        assert data == b"question"
        assert send_datagram(door, b"answer", sender, ancillary)
        reply, replier = client.recvfrom(100)
    assert (reply, replier[0]) == (b"answer", asked)
    door.close()


def test_a_batch_ends_at_its_limit_and_where_the_socket_is_empty_and_says_which() -> None:
    door = open_udp(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for i in range(5):
            client.sendto(bytes([i]), address_of(door))
    # On loopback a datagram is there when sendto returns.
    batches = [read_batch(reader_of(door), 3) for _ in range(3)]
    assert [([data for data, _, _ in batch], is_empty) for batch, is_empty in batches] == [
        ([b"\0", b"\1", b"\2"], False),
        ([b"\3", b"\4"], True),
        ([], True),
    ]
    door.close()


def test_a_datagram_beyond_the_limit_shows_that_it_was_cut() -> None:
    door = open_udp(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(bytes(DATAGRAM_BYTES_MAX), address_of(door))
        client.sendto(bytes(9000), address_of(door))
    batch, _ = read_batch(reader_of(door), 3)
    assert [len(data) for data, _, _ in batch] == [DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX + 1]
    door.close()


def test_an_error_of_the_network_is_passed_over_and_counts_as_one_of_the_batch() -> None:
    came: Iterator[bytes | OSError] = iter([b"1", ConnectionRefusedError(), b"2", OSError(), b"3"])

    def read() -> bytes:
        one = next(came)
        if isinstance(one, OSError):
            raise one
        return one

    assert read_batch(read, 4) == ([b"1", b"2"], False)


def test_what_cannot_be_sent_keeps_nothing_behind_it_from_being_sent() -> None:
    door = open_udp(("127.0.0.1", 0))
    with open_udp(("127.0.0.1", 0)) as receiver:
        address = address_of(receiver)
        assert send_batch(door, [(b"1", address), (bytes(70_000), address), (b"2", address)]) == 2
        assert [receiver.recv(10) for _ in range(2)] == [b"1", b"2"]
    door.close()


def test_what_cannot_be_sent_is_no_exception() -> None:
    door = open_udp(("127.0.0.1", 0))
    assert not send_datagram(door, bytes(70_000), ("127.0.0.1", 9))
    door.close()
