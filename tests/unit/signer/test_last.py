"""The file of what a signer has published last: whole, or an error that ends nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.errors import BadItem, Unavailable
from p2pdns.items.item import SEQ_RESERVED, VALUE_BYTES_WRITE_MAX
from p2pdns.publishing.editions import LargeZone, compose_draft, parse_draft
from p2pdns.signer.last import Last, LastPublished

LAST = Last(1_790_000_000_000_000, b"a value\n" * 9)
LARGE = LargeZone(
    (
        RRset(Name.of(b"a", b"key"), 1, 300, (b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02")),
        RRset(Name.of(b"b", b"key"), 16, 2**32 - 1, (bytes(60_000),)),
    ),
    (RRset(Name.of(b"key"), 65_311, 0, (b"",)),),
)


def test_what_was_written_last_is_read_and_nothing_else_lies_there(tmp_path: Path) -> None:
    last = LastPublished(tmp_path / "a.zone")
    assert last.read() is None
    for one in (Last(0, b""), LAST, Last(SEQ_RESERVED, b"x" * VALUE_BYTES_WRITE_MAX), Last(7, LARGE)):
        last.write(one)
        assert LastPublished(tmp_path / "a.zone").read() == one
    assert [path.name for path in tmp_path.iterdir()] == ["a.zone.last"]
    assert last.path.stat().st_mode & 0o777 == 0o600


def test_a_file_with_any_other_byte_is_damaged(tmp_path: Path) -> None:
    last = LastPublished(tmp_path / "a.zone")
    last.write(LAST)
    data = last.path.read_bytes()
    others = [data[:cut] for cut in range(len(data))]
    others += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]
    others += [data + b"x", bytes(9_000)]
    for other in others:
        last.path.write_bytes(other)
        with pytest.raises(Unavailable, match=r"a\.zone\.last: damaged"):
            last.read()


def test_half_a_large_zone_is_none() -> None:
    data = compose_draft(LARGE)
    short = [data[:cut] for cut in range(1, 100)] + [data[:-1]]
    parsed = 0
    for one in (*short, data + b"x", b"", b"\x02"):
        try:
            # Where the cut is between two RRsets only the digest of the file tells.
            parsed += isinstance(parse_draft(one), LargeZone)
        except BadItem:
            continue
    assert parsed <= 2
    assert parse_draft(data) == LARGE


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    last = LastPublished(tmp_path / "a.zone")
    LastPublished(tmp_path / "b.zone").write(LAST)
    last.path.symlink_to("b.zone.last")
    with pytest.raises(Unavailable):
        last.read()
    last.write(Last(2, b"mine"))
    assert (last.read(), LastPublished(tmp_path / "b.zone").read()) == (Last(2, b"mine"), LAST)


def test_a_disk_that_takes_nothing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = LastPublished(tmp_path / "a.zone")
    last.write(LAST)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="no space left"):
        last.write(Last(3, b"new"))
    assert last.read() == LAST
    assert len(list(tmp_path.iterdir())) == 1
