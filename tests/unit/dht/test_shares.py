"""What a store has room for: the limits are reached, and not passed."""

from __future__ import annotations

import pytest

from p2pdns.dht.shares import IMMUTABLE_SHARE_MAX, Shares

ITEMS_MAX, BYTES_MAX = 8, 800


@pytest.mark.parametrize(
    ("items", "size_bytes", "has_room"), [(5, 500, True), (6, 500, False), (5, 501, False), (0, 0, True)]
)
def test_there_is_room_up_to_the_last_item_and_the_last_byte(items: int, size_bytes: int, has_room: bool) -> None:
    shares = Shares(ITEMS_MAX, BYTES_MAX)
    for _ in range(3):
        shares.charge("10.0.0.1", 100, 1, is_immutable=False)
    assert shares.fits(items, size_bytes) is has_room


@pytest.mark.parametrize(("items", "size_bytes", "has_room"), [(1, 100, True), (2, 100, False), (1, 101, False)])
def test_immutable_items_have_room_up_to_their_share(items: int, size_bytes: int, has_room: bool) -> None:
    shares = Shares(ITEMS_MAX, BYTES_MAX)
    for _ in range(int(ITEMS_MAX * IMMUTABLE_SHARE_MAX) - 1):
        shares.charge("10.0.0.1", 100, 1, is_immutable=True)
    assert shares.fits_as_immutable(items, size_bytes) is has_room
    assert shares.fits(items, size_bytes)
