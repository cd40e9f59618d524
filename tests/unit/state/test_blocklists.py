"""Block lists: the lines, the set, and the files, whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.name import Name
from p2pdns.errors import ConfigError
from p2pdns.resolver import blocking as names_module
from p2pdns.resolver.blocking import BlockedNames, read_line
from p2pdns.state import blocklists
from p2pdns.state.blocklists import LINE_BYTES_MAX, WARNINGS_PER_FILE_MAX, BlockLists, ListFile
from tests.front_messages import CALM
from tests.waiting import until

LABELS = st.text("ab0-_", min_size=1, max_size=3)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
# So few that one is often above another.
FEW = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(".".join)


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
        ("fe80::1%lo0 localhost", []),
        ("255.255.255.255 broadcasthost", []),
        ("ff02::1 ip6-allnodes", []),
        ("# nothing", []),
        ("", []),
        ("0.0.0.0", []),
        ("! comment", []),
        ("[Adblock Plus 2.0]", []),
        ("||ads.example^", ["ads.example"]),
        ("||ads.example^$important", ["ads.example"]),
        ("||ads.example", ["ads.example"]),
        ("address=/ads.example/", ["ads.example"]),
        ("address=/ads.example/b.example/0.0.0.0", ["ads.example", "b.example"]),
        ("address=/ads.example/#", ["ads.example"]),
        ("address=/ads.example/::", ["ads.example"]),
        ("local=/ads.example/", ["ads.example"]),
        ("server=/ads.example/", ["ads.example"]),
    ],
)
def test_a_line_of_any_of_the_four_forms_names_what_is_blocked(line: str, names: list[str]) -> None:
    assert read_line(line) == (names, [], "")


@pytest.mark.parametrize("line", ["@@||cdn.example^", "@@||CDN.example^|", "server=/cdn.example/#"])
def test_a_line_may_be_an_exception(line: str) -> None:
    assert read_line(line) == ([], ["cdn.example"], "")


@pytest.mark.parametrize(
    ("line", "names", "fault"),
    [
        ("ads example", [], "neither a name alone nor an address and names"),
        ("192.168.1.5 nas", [], "192.168.1.5 is an address that leads somewhere"),
        ("192.0.2.1", [], "192.0.2.1 is an address that leads somewhere"),
        ("||ads.example/banner.gif", [], "a rule for parts of pages"),
        ("||ads.example^$script,third-party", [], "a rule for parts of pages"),
        ("@@ads", [], "a rule for parts of pages"),
        ("||*.ads.*^", [], "a rule for parts of pages"),
        ("news.example##.banner", [], "is not a name"),
        ("address=/ads.example/192.0.2.1", [], "192.0.2.1 leads somewhere"),
        ("address=/#/", [], "is not a name"),
        ("server=/ads.example/192.0.2.1", [], "a server for names"),
        ("0.0.0.0 a.example b..example c.example", ["a.example"], '"b..example" is not a name'),
        ("bücher.example", [], '"bücher.example" is not a name'),
        (f"{'x' * 64}.example", [], "is not a name"),
        ("x." * 130 + "example", [], "is not a name"),
    ],
)
def test_a_line_that_is_neither_says_what_is_wrong(line: str, names: list[str], fault: str) -> None:
    found = read_line(line)
    assert found.names == names
    assert fault in found.fault


@CALM
@given(st.text(max_size=100))
def test_any_line_ends_in_names_that_can_be_added_or_in_words(line: str) -> None:
    found = read_line(line)
    for name in found.names + found.exceptions:
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


@CALM
@given(st.lists(FEW, max_size=5), st.lists(FEW, max_size=3), FEW)
def test_nothing_at_or_below_an_exception_is_blocked(listed: list[str], excepted: list[str], asked: str) -> None:
    blocked, without = BlockedNames(listed), BlockedNames(listed)
    for name in excepted:
        blocked.add_exception(name)
    labels = asked.split(".")
    above = [".".join(labels[depth:]) for depth in range(len(labels))]
    wanted = None if set(above) & set(excepted) else without.covering(Name.read(asked))
    for _ in range(2):
        assert blocked.covering(Name.read(asked)) == wanted


def test_an_exception_that_comes_after_the_question_holds_for_the_next_one() -> None:
    blocked = BlockedNames(["ads.example"])
    assert blocked.covering(Name.read("cdn.ads.example")) is not None
    blocked.add_exception("ads.example")
    assert blocked.covering(Name.read("cdn.ads.example")) is None


def files(*paths: Path | str) -> list[ListFile]:
    """Return block lists by their paths."""
    return [ListFile(str(path)) for path in paths]


def lists_of(*paths: Path) -> BlockLists:
    """Return the block lists of some files."""
    lists = BlockLists()
    asyncio.run(lists.load(files(*paths)))
    return lists


# The head of a list as its keepers write it, in each of the four forms.
HEADS = {
    "hosts": "\ufeff# Title: a hosts file\n#\n\n127.0.0.1 localhost\n127.0.0.1 localhost.localdomain\n127.0.0.1 local\n"
    "255.255.255.255 broadcasthost\n::1 localhost\n::1 ip6-localhost\n::1 ip6-loopback\nfe80::1%lo0 localhost\n"
    "ff00::0 ip6-localnet\nff00::0 ip6-mcastprefix\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
    "ff02::3 ip6-allhosts\n0.0.0.0 0.0.0.0\n\n# Start\n0.0.0.0 ads.example # a comment\n0.0.0.0 tracker.example\n",
    "names": "# Title: names\n\nads.example\n*.tracker.example\n",
    "browsers": "[Adblock Plus]\n! Title: rules\n! Expires: 1 day\n||ads.example^\n||tracker.example^$important\n",
    "dnsmasq": "\ufeff# Title: dnsmasq\r\nlocal=/ads.example/\r\naddress=/tracker.example/0.0.0.0\r\n",
}


@pytest.mark.parametrize("form", HEADS)
def test_the_four_forms_of_lists_are_read_without_a_warning(tmp_path: Path, form: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(HEADS[form], "utf-8")
    lists = lists_of(path)
    assert (len(lists.names), lists.warnings) == (2, [])
    for name in ("ads.example", "x.tracker.example"):
        assert lists.names.covering(Name.read(name)) is not None


def test_a_file_of_exceptions_is_stronger_than_every_list(tmp_path: Path) -> None:
    one, exceptions = tmp_path / "one.txt", tmp_path / "exceptions.txt"
    one.write_text("||example^\n@@||good.example^\n")
    exceptions.write_text("shop.example\n@@||bank.example^\n")
    lists = BlockLists()
    asyncio.run(lists.load([ListFile(str(exceptions), is_exceptions=True), *files(one)]))
    assert lists.warnings == []
    asked = {word: lists.names.covering(Name.read(f"www.{word}.example")) for word in ("good", "shop", "bank", "bad")}
    assert {word for word, covering in asked.items() if covering is not None} == {"bad"}


def test_too_many_exceptions_are_left_out_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "EXCEPTIONS_MAX", 3)
    monkeypatch.setattr(blocklists, "EXCEPTIONS_MAX", 3)
    path = tmp_path / "list.txt"
    path.write_text("".join(f"@@||n{number}.example^\n" for number in range(9)))
    lists = lists_of(path)
    assert lists.names.exception_count == 3
    assert lists.warnings == [f"{path}:4: more than 3 exceptions, the rest is left out"]


# The last good copy


def started(directory: Path, *wanted: ListFile) -> BlockLists:
    """Return the block lists of a daemon that has just started with this state directory."""
    lists = BlockLists(directory)
    asyncio.run(lists.start(wanted))
    return lists


def _gone(path: Path) -> None:
    path.unlink()


def _a_page(path: Path) -> None:
    path.write_text("<html>\n<head><title>Moved</title></head>\n<body>Moved to another place.</body>\n</html>\n")


def _broken_off(path: Path) -> None:
    path.write_bytes(b"0.0.0.0 other.example\n" + bytes(LINE_BYTES_MAX + 1))


def _unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [_gone, _a_page, _broken_off, _unreadable])
@pytest.mark.parametrize("is_exceptions", [False, True])
def test_a_list_that_cannot_be_read_at_the_start_is_a_warning_and_its_last_good_copy(
    tmp_path: Path, spoil: Callable[[Path], None], is_exceptions: bool
) -> None:
    state, bad, good = tmp_path / "state", tmp_path / "bad.txt", tmp_path / "good.txt"
    state.mkdir(0o700)
    bad.write_text("||ads.example^\n@@||cdn.ads.example^\n")
    good.write_text("tracker.example\nads.example\n")
    wanted = [ListFile(str(bad), is_exceptions), *files(good)]
    before = started(state, *wanted)
    assert before.warnings == []
    spoil(bad)
    after = started(state, *wanted)
    assert len(after.warnings) == 1
    assert after.warnings[0].startswith(f"[dns] {wanted[0].setting}: {bad}: ")
    assert after.warnings[0].endswith("; its last good copy is used")
    for name in ("ads.example", "cdn.ads.example", "tracker.example", "other.example"):
        assert after.names.covering(Name.read(name)) == before.names.covering(Name.read(name))
    # Once the list is there again, a reload reads it.
    with contextlib.suppress(OSError):
        bad.rmdir()
    bad.write_text("new.example\n")
    assert after.is_outdated(wanted)


def test_without_a_whole_copy_a_list_is_left_out_with_a_warning(tmp_path: Path) -> None:
    state, path = tmp_path / "state", tmp_path / "list.txt"
    state.mkdir(0o700)
    assert started(state, *files(path)).warnings == [f"[dns] block: {path}: no such file; it is left out"]
    path.write_text("ads.example\n")
    started(state, *files(path))
    path.unlink()
    (copy,) = state.iterdir()
    assert len(started(state, *files(path)).names) == 1
    # As a power cut leaves it.
    copy.write_bytes(copy.read_bytes()[:-3])
    lists = started(state, *files(path))
    assert (len(lists.names), lists.warnings) == (0, [f"[dns] block: {path}: no such file; it is left out"])


def test_a_copy_is_of_the_last_list_that_was_whole_and_goes_with_the_setting(tmp_path: Path) -> None:
    state, path = tmp_path / "state", tmp_path / "list.txt"
    state.mkdir(0o700)
    path.write_text("ads.example\n")
    lists = started(state, *files(path))

    async def reloaded() -> None:
        lists.begin(files(path), lambda: pytest.fail("nothing was read"))
        with pytest.raises(ConfigError):
            await lists.finished()

    path.write_bytes(b"other.example\n" + bytes(LINE_BYTES_MAX + 1))
    asyncio.run(reloaded())
    again = started(state, *files(path))
    assert again.names.covering(Name.read("ads.example")) is not None
    assert again.names.covering(Name.read("other.example")) is None
    assert len(list(state.iterdir())) == 1
    started(state)
    assert list(state.iterdir()) == []


def test_a_link_in_the_place_of_a_copy_is_not_written_through(tmp_path: Path) -> None:
    state, path, victim = tmp_path / "state", tmp_path / "list.txt", tmp_path / "victim"
    state.mkdir(0o700)
    path.write_text("ads.example\n")
    victim.write_text("what somebody needs\n")
    started(state, *files(path))
    (copy,) = state.iterdir()
    copy.unlink()
    copy.with_name(f"{copy.name}.new").symlink_to(victim)
    lists = started(state, *files(path))
    assert len(lists.names) == 1
    assert victim.read_text() == "what somebody needs\n"


def test_lists_are_read_together_and_their_faults_named_by_line(tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("# a list\nads.example\nads example\n")
    other.write_text("0.0.0.0 tracker.example\n0.0.0.0 ads.example")
    lists = lists_of(one, other)
    assert len(lists.names) == 2
    assert lists.warnings == [f"{one}:3: neither a name alone nor an address and names"]


def test_a_list_of_another_format_is_told_in_ten_lines(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text("||ads.example^$script\n" * 1000 + "||ads.example^\n")
    warnings = lists_of(path).warnings
    assert len(warnings) == WARNINGS_PER_FILE_MAX + 1
    assert warnings[-1] == f"{path}: {1000 - WARNINGS_PER_FILE_MAX} more lines that cannot be read"


def test_lines_are_whole_wherever_the_disk_cuts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocklists, "SLICE_BYTES", 7)
    path = tmp_path / "list.txt"
    wanted = [f"n{number}.example" for number in range(200)]
    path.write_text("\r\n".join(wanted))
    lists = lists_of(path)
    assert (len(lists.names), lists.warnings) == (200, [])
    assert all(lists.names.covering(Name.read(name)) is not None for name in wanted)


def test_too_many_names_are_left_out_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "NAMES_MAX", 3)
    monkeypatch.setattr(blocklists, "NAMES_MAX", 3)
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
        await lists.load(files(good))
        before = lists.names
        lists.begin(files(good, bad), lambda: pytest.fail("nothing was read"))
        with pytest.raises(ConfigError, match="line 2"):
            await lists.finished()
        assert lists.names is before
        assert lists.is_outdated(files(good, bad))
        # The old files are back in the configuration, there is nothing to read, and nothing to complain about.
        assert not lists.is_outdated(files(good))
        await lists.finished()

    asyncio.run(story())


def test_files_are_read_again_only_when_they_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("ads.example\n")

    async def story() -> None:
        lists = BlockLists()
        assert lists.is_outdated(files(path))
        await lists.load(files(path))
        assert not lists.is_outdated(files(path))
        path.write_text("ads.example\ntracker.example\n")
        assert lists.is_outdated(files(path))
        assert lists.is_outdated(files())

    asyncio.run(story())


def test_who_takes_a_change_back_while_it_is_read_keeps_the_old_lists(tmp_path: Path) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("ads.example\n")
    new.write_text("tracker.example\nads.example\n")

    async def story() -> None:
        lists = BlockLists()
        await lists.load(files(old))
        lists.begin(files(new), lambda: pytest.fail("the change was taken back"))
        assert lists.is_outdated(files(old))
        lists.begin(files(old), lambda: None)
        await lists.finished()
        assert len(lists.names) == 1
        assert not lists.is_outdated(files(old))

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
            lists.begin(files(path), lambda: pytest.fail("nothing was read"))
            with pytest.raises(ConfigError, match="input/output error"):
                await lists.finished()

    asyncio.run(story())


def test_while_a_long_list_is_read_others_have_their_turn(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("".join(f"host-{number}.example\n" for number in range(20_000)))

    async def story() -> int:
        lists, turns = BlockLists(), 0
        lists.begin(files(path), lambda: None)

        def is_read() -> bool:
            nonlocal turns
            turns += 1
            return len(lists.names) > 0

        await until(is_read)
        return turns

    # Half a megabyte in slices of 16 kB.
    assert asyncio.run(story()) >= path.stat().st_size // blocklists.SLICE_BYTES


def test_a_deep_name_and_a_short_one_are_both_blocked() -> None:
    names = BlockedNames(["a.b.c.d.e.example", "short.example"])
    assert names.covering(Name.read("x.a.b.c.d.e.example")) == Name.read("a.b.c.d.e.example")
    assert names.covering(Name.read("x.short.example")) == Name.read("short.example")
    assert names.covering(Name.read("b.c.d.e.example")) is None
    names.add("b.c.d.e.example")
    assert names.covering(Name.read("b.c.d.e.example")) is not None
