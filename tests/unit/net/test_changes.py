"""What the kernel tells of addresses and routes, and what any other process may send in its place."""

from __future__ import annotations

import signal
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.net.changes import RTM_NEWADDR, RTM_NEWROUTE, is_news
from tests.front_messages import CALM

LOOP_S_MAX = 3.0  # To read it takes a millisecond.
RTM_NEWLINK, RTM_DELADDR, RTM_NEWNEIGH = 16, 21, 28


def message(kind: int, body: bytes = bytes(20)) -> bytes:
    """Return a netlink message, padded as the kernel does."""
    size = 16 + len(body)
    return struct.pack("=IHHII", size, kind, 0, 0, 0) + body + bytes(-size % 4)


@pytest.mark.parametrize("kind", [RTM_NEWADDR, RTM_NEWROUTE])
@pytest.mark.parametrize("before", [[], [RTM_NEWLINK], [RTM_NEWNEIGH, RTM_DELADDR]])
def test_an_address_or_a_route_that_has_come_is_news(kind: int, before: list[int]) -> None:
    others = b"".join(message(other, bytes(21)) for other in before)
    assert is_news(others + message(kind))
    assert not is_news(others)


@CALM
@given(st.binary(max_size=100))
def test_any_bytes_are_read_to_their_end(data: bytes) -> None:
    assert is_news(data) in (True, False)


def test_a_message_of_no_length_ends_too() -> None:
    # The guard that every test has, sooner: a loop without an end is what is tested here.
    signal.setitimer(signal.ITIMER_REAL, LOOP_S_MAX)
    assert not is_news(bytes(64_000))
