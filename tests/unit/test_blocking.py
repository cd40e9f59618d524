"""Block lists: the lines, the set, and the files, whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.name import Name
from p2pdns.engine import blocking
from p2pdns.engine.blocking import LINE_BYTES_MAX, WARNINGS_PER_FILE_MAX, BlockLists
from p2pdns.errors import ConfigError
from p2pdns.resolver import blocking as names_module
from p2pdns.resolver.blocking import BlockedNames, read_line
from tests.front_messages import CALM

LABELS = st.text("ab0-_", min_size=1, max_size=3)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ads.example", ["ads.example"]),
        ("  Ads.Example.  # a comment\r", ["ads.example"]),
        ("*.ads.example", ["ads.example"]),
        ("0.0.0.0 ads.example", ["ads.example"]),
        ("127.0.0.1\tads.example\tb.example", ["ads.example", "b.example"]),
        ("::1 ads.example", ["ads.example"]),
        ("_dmarc.x-1.example", ["_dmarc.x-1.example"]),
        ("127.0.0.1 localhost localhost.localdomain local", []),
        ("0.0.0.0 0.0.0.0", []),
        ("::1 ip6-localhost ip6-loopback", []),
        ("# nothing", []),
        ("", []),
        ("0.0.0.0", []),
    ],
)
def test_a_line_is_a_name_or_one_of_a_hosts_file(line: str, names: list[str]) -> None:
    assert read_line(line) == (names, "")


@pytest.mark.parametrize(
    ("line", "names", "fault"),
    [
        ("ads example", [], "neither a name alone nor an address and names"),
        ("192.168.1.5 nas", [], "192.168.1.5 is an address that leads somewhere"),
        ("192.0.2.1", [], "192.0.2.1 is an address that leads somewhere"),
        ("||ads.example^", [], '"||ads.example^" is not a name'),
        ("0.0.0.0 a.example b..example c.example", ["a.example"], '"b..example" is not a name'),
        ("bücher.example", [], '"bücher.example" is not a name'),
        (f"{'x' * 64}.example", [], "is not a name"),
        ("x." * 130 + "example", [], "is not a name"),
        ("!comment", [], '"!comment" is not a name'),
    ],
)
def test_a_line_that_is_neither_says_what_is_wrong(line: str, names: list[str], fault: str) -> None:
    found, said = read_line(line)
    assert found == names
    assert fault in said


@CALM
@given(st.text(max_size=100))
def test_any_line_ends_in_names_that_can_be_added_or_in_words(line: str) -> None:
    names, _ = read_line(line)
    for name in names:
        assert BlockedNames([name]).covering(Name.read(name)) == Name.read(name)


@CALM
@given(st.lists(NAMES, max_size=30), NAMES)
def test_a_name_is_blocked_when_it_or_one_above_it_is_on_the_list(listed: list[str], asked: str) -> None:
    blocked = BlockedNames(listed)
    assert len(blocked) == len(set(listed))
    labels = asked.split(".")
    above = [".".join(labels[depth:]) for depth in range(len(labels))]
    longest = next((name for name in above if name in listed), None)
    assert blocked.covering(Name.read(asked.upper())) == (None if longest is None else Name.read(longest))


def test_what_begins_in_the_midst_of_another_entry_is_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = {b"a": b"\0\0abcabc", b"b": b"\0\0xyzxyz", b"c": b"\0\0abcxyz"}
    monkeypatch.setattr(names_module, "_hash_of", hashes.__getitem__)
    blocked = BlockedNames(["a", "b"])
    assert blocked.covering(Name.read("b")) is not None
    assert blocked.covering(Name.read("c")) is None


def test_a_hundred_thousand_names_take_less_than_eight_megabytes() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        blocked = BlockedNames(f"host-{number}.tracker.example" for number in range(100_000))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(blocked) == 100_000
    # Mostly the buckets, which are there for the first hundred thousand as for the first million.
    assert after - before < 8_000_000, f"{after - before} bytes"


def lists_of(*paths: Path) -> BlockLists:
    """Return the block lists of some files."""
    lists = BlockLists()
    asyncio.run(lists.load([str(path) for path in paths]))
    return lists


def test_lists_are_read_together_and_their_faults_named_by_line(tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("# a list\nads.example\nads example\n")
    other.write_text("0.0.0.0 tracker.example\n0.0.0.0 ads.example")
    lists = lists_of(one, other)
    assert len(lists.names) == 2
    assert lists.warnings == [f"{one}:3: neither a name alone nor an address and names"]


def test_a_list_of_another_format_is_told_in_ten_lines(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text("||ads.example^\n" * 1000)
    warnings = lists_of(path).warnings
    assert len(warnings) == WARNINGS_PER_FILE_MAX + 1
    assert warnings[-1] == f"{path}: {1000 - WARNINGS_PER_FILE_MAX} more lines that cannot be read"


def test_lines_are_whole_wherever_the_disk_cuts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "SLICE_BYTES", 7)
    path = tmp_path / "list.txt"
    wanted = [f"n{number}.example" for number in range(200)]
    path.write_text("\r\n".join(wanted))
    lists = lists_of(path)
    assert (len(lists.names), lists.warnings) == (200, [])
    assert all(lists.names.covering(Name.read(name)) is not None for name in wanted)


def test_too_many_names_are_left_out_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "NAMES_MAX", 3)
    monkeypatch.setattr(blocking, "NAMES_MAX", 3)
    path = tmp_path / "list.txt"
    path.write_text("".join(f"n{number}.example\n" for number in range(9)))
    lists = lists_of(path)
    assert len(lists.names) == 3
    assert lists.warnings == [f"{path}:3: more than 3 names, the rest is left out"]


def _a_folder(path: Path) -> None:
    path.mkdir()


def _a_pipe(path: Path) -> None:
    os.mkfifo(path)


def _a_binary(path: Path) -> None:
    path.write_bytes(bytes(LINE_BYTES_MAX + 1))


def _nothing(path: Path) -> None:
    return None


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (_nothing, "no such file"),
        (_a_folder, "not a file"),
        (_a_pipe, "not a file"),
        (_a_binary, f"line 1 has more than {LINE_BYTES_MAX} bytes"),
    ],
)
def test_what_is_no_list_is_a_config_error_that_names_it(tmp_path: Path, make: object, what: str) -> None:
    path = tmp_path / "list.txt"
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=what) as caught:
        lists_of(path)
    assert str(caught.value).startswith(f"[dns] block: {path}: ")
    # Paths of lists are absolute, so no other folder is looked into.
    assert caught.value.hint
    assert "current folder" not in caught.value.hint


def test_a_reading_that_breaks_off_leaves_the_lists_as_they_were(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("ads.example\n")
    bad.write_bytes(b"tracker.example\n" + bytes(LINE_BYTES_MAX + 1))

    async def story() -> None:
        lists = BlockLists()
        await lists.load([str(good)])
        before = lists.names
        lists.begin([str(good), str(bad)], lambda: pytest.fail("nothing was read"))
        with pytest.raises(ConfigError, match="line 2"):
            await lists.finished()
        assert lists.names is before
        assert lists.is_outdated([str(good), str(bad)])
        # The old files are back in the configuration, there is nothing to read, and nothing to complain about.
        assert not lists.is_outdated([str(good)])
        await lists.finished()

    asyncio.run(story())


def test_files_are_read_again_only_when_they_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("ads.example\n")

    async def story() -> None:
        lists = BlockLists()
        assert lists.is_outdated([str(path)])
        await lists.load([str(path)])
        assert not lists.is_outdated([str(path)])
        path.write_text("ads.example\ntracker.example\n")
        assert lists.is_outdated([str(path)])
        assert lists.is_outdated([])

    asyncio.run(story())


def test_who_takes_a_change_back_while_it_is_read_keeps_the_old_lists(tmp_path: Path) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("ads.example\n")
    new.write_text("tracker.example\nads.example\n")

    async def story() -> None:
        lists = BlockLists()
        await lists.load([str(old)])
        lists.begin([str(new)], lambda: pytest.fail("the change was taken back"))
        assert lists.is_outdated([str(old)])
        lists.begin([str(old)], lambda: None)
        await lists.finished()
        assert len(lists.names) == 1
        assert not lists.is_outdated([str(old)])

    asyncio.run(story())


def test_a_disk_that_fails_in_the_midst_of_a_list_is_a_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list.txt"
    path.write_text("ads.example\n")

    def failing(fd: int, size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    async def story() -> None:
        lists = BlockLists()
        with monkeypatch.context() as broken:
            broken.setattr(os, "read", failing)
            lists.begin([str(path)], lambda: pytest.fail("nothing was read"))
            await asyncio.wait({lists._reading})  # type: ignore[type-var]
        with pytest.raises(ConfigError, match="input/output error"):
            await lists.finished()

    asyncio.run(story())


def test_while_a_long_list_is_read_others_have_their_turn(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("".join(f"host-{number}.example\n" for number in range(20_000)))

    async def story() -> int:
        lists, turns = BlockLists(), 0
        lists.begin([str(path)], lambda: None)
        while not len(lists.names):
            turns += 1
            await asyncio.sleep(0)
        return turns

    # Half a megabyte in slices of 16 kB.
    assert asyncio.run(story()) >= path.stat().st_size // blocking.SLICE_BYTES


def test_a_deep_name_and_a_short_one_are_both_blocked() -> None:
    names = BlockedNames(["a.b.c.d.e.example", "short.example"])
    assert names.covering(Name.read("x.a.b.c.d.e.example")) == Name.read("a.b.c.d.e.example")
    assert names.covering(Name.read("x.short.example")) == Name.read("short.example")
    assert names.covering(Name.read("b.c.d.e.example")) is None
    names.add("b.c.d.e.example")
    assert names.covering(Name.read("b.c.d.e.example")) is not None
