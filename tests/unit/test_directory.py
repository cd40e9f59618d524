"""The state directory: what is refused, and that the descriptor counts and not the name."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pdns.directory import (
    StateDirectory,
    give_runtime_directory,
    peer_user_of,
    refuse_if_taken,
    runtime_directory,
    shown,
)
from p2pdns.errors import Unavailable
from p2pdns.state import State

STRANGER = 12_345  # A user id that no machine of ours gives to anybody.

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")


def closed(directory: StateDirectory) -> None:
    directory.close()


def refused(path: Path) -> str:
    with pytest.raises(Unavailable) as caught:
        closed(StateDirectory.open(path))
    assert caught.value.hint
    return str(caught.value)


def test_a_missing_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    directory = StateDirectory.open(path)
    assert path.stat().st_mode & 0o777 == 0o700
    assert directory.path.samefile(path)
    assert shown(directory.path / "lock") == str(path / "lock")
    assert shown(path) == str(path)
    directory.close()


@as_root
def test_a_directory_of_another_user_is_refused_whatever_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(0o777)
    os.chown(path, STRANGER, STRANGER)
    assert f"state: belongs to uid {STRANGER}, and this is root" in refused(path)
    path.chmod(0o700)
    assert "belongs to uid" in refused(path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707, 0o720, 0o702, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    assert f"others may write to it (mode {mode:04o})" in refused(path)
    path.chmod(0o750)
    closed(StateDirectory.open(path))


def test_a_link_in_the_place_of_the_directory_is_refused_and_names_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "real")
    with pytest.raises(Unavailable, match="state: a symbolic link") as caught:
        StateDirectory.open(tmp_path / "state")
    assert str(tmp_path / "real") in str(caught.value.hint)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert "dangling: a symbolic link" in refused(tmp_path / "dangling")
    assert not (tmp_path / "nowhere").exists()


@as_root
def test_the_link_that_systemd_makes_for_a_dynamic_user_is_followed(tmp_path: Path) -> None:
    (tmp_path / "private" / "p2pdns").mkdir(parents=True)
    (tmp_path / "p2pdns").symlink_to("private/p2pdns")
    directory = StateDirectory.open(tmp_path / "p2pdns")
    assert directory.path.samefile(tmp_path / "private" / "p2pdns")
    directory.close()
    os.chown(tmp_path / "p2pdns", STRANGER, STRANGER, follow_symlinks=False)
    assert "a symbolic link" in refused(tmp_path / "p2pdns")


def test_a_directory_below_one_that_everybody_may_write_to_is_refused_unless_that_is_sticky(tmp_path: Path) -> None:
    path = tmp_path / "open" / "state"
    path.mkdir(parents=True)
    path.parent.chmod(0o777)
    assert "others may put another directory in its place" in refused(path)
    path.parent.chmod(0o1777)
    closed(StateDirectory.open(path))


@as_root
def test_a_directory_below_a_strangers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs" / "state"
    path.mkdir(parents=True)
    os.chown(path.parent, STRANGER, STRANGER)
    assert "others may put another directory in its place" in refused(path)


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _second_name(path: Path, victim: Path) -> None:
    os.link(victim, path)


def _fifo(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, victim: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [_link, _second_name, _fifo, _folder])
@pytest.mark.parametrize("name", ["lock", "reader.sqlite", "reader.sqlite-wal", "reader.anew", "store.probe"])
def test_a_file_of_ours_that_is_not_ours_alone_is_refused_and_what_it_leads_to_is_left_alone(
    tmp_path: Path, name: str, spoil: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("what somebody needs\n" * 10)
    path = tmp_path / "state"
    path.mkdir(0o700)
    spoil(path / name, victim)
    with pytest.raises(Unavailable, match=f"state/{name}: "):
        State.open(path).close()
    assert victim.read_text() == "what somebody needs\n" * 10


@as_root
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    State.open(tmp_path).close()
    os.chown(tmp_path / "reader.sqlite", STRANGER, STRANGER)
    with pytest.raises(Unavailable, match=f"reader.sqlite: belongs to uid {STRANGER}"):
        State.open(tmp_path)


def test_files_that_are_not_ours_may_be_anything(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "notes").symlink_to("/nowhere")
    State.open(tmp_path).close()


def test_everything_is_reached_through_the_directory_that_was_checked(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(0o700)
    directory = StateDirectory.open(tmp_path / "state")
    (tmp_path / "state").rename(tmp_path / "moved")
    (tmp_path / "trap").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "trap")
    State.open(directory).close()
    assert (tmp_path / "moved" / "reader.sqlite").exists()
    assert not list((tmp_path / "trap").iterdir())


def test_a_lock_that_was_swapped_for_a_link_is_not_written_through(tmp_path: Path) -> None:
    """The files are looked at when the directory is opened; the lock is opened without following links all the same."""
    victim = tmp_path / "victim"
    victim.write_text("x" * 100)
    (tmp_path / "state").mkdir(0o700)
    directory = StateDirectory.open(tmp_path / "state")
    (tmp_path / "state" / "lock").symlink_to(victim)
    with pytest.raises(Unavailable):
        directory.lock()
    (tmp_path / "state" / "lock").unlink()
    os.link(victim, tmp_path / "state" / "lock")
    with pytest.raises(Unavailable, match="no ordinary file"):
        directory.lock()
    directory.close()
    assert victim.read_text() == "x" * 100


def test_the_lock_tells_who_holds_it_and_a_strange_text_in_it_tells_nothing(tmp_path: Path) -> None:
    directory = StateDirectory.open(tmp_path)
    lock = directory.lock()
    with pytest.raises(Unavailable, match=rf"another p2pdns runs in this state directory \(pid {os.getpid()}\)"):
        refuse_if_taken(tmp_path)
    os.close(lock)
    refuse_if_taken(tmp_path)
    (tmp_path / "lock").write_text("\x1b[31mboo\n")
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match=r"\(pid unknown\)"):
            directory.lock()
    directory.close()


def test_the_user_at_the_other_end_of_a_socket_is_known() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_user_of(ours) == os.geteuid()


FULL = """
import os, sys
from pathlib import Path
from p2pdns import log
from p2pdns.state import State
from p2pdns.state.store import SavedNode

log.configure()
directory = Path(sys.argv[1])
state = State.open(directory)
state.store.save_node("demo", SavedNode(b"n" * 20, 6881))
state.close()
with open(directory / "filler", "wb", buffering=0) as filler:
    try:
        while filler.write(bytes(512)):
            pass
    except OSError:
        pass
for name in sys.argv[2:]:
    (directory / name).unlink()
    with open(directory / "filler", "ab", buffering=0) as filler:
        try:
            while filler.write(bytes(512)):
                pass
        except OSError:
            pass
state = State.open(directory)
for text in state.warnings:
    print(text)
print("node", state.store.load_node("demo"))
state.store.save_node("later", SavedNode(b"m" * 20, 6882))
print("later", state.store.load_node("later") is not None)
state.close()
print(sorted(path.name for path in directory.iterdir() if path.name != "lock"))
"""


def on_a_full_disk(tmp_path: Path, *gone: str) -> list[str]:
    """Run `FULL` on a file system of its own that is full when the state is opened again; return its lines."""
    script = tmp_path / "full.py"
    script.write_text(FULL)
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    mount = f"mount -t tmpfs -o size=512k,mode=0700 none {disk}"
    program = f"exec {sys.executable} {script} {disk} {' '.join(gone)}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} && {program}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@as_root
def test_a_full_disk_at_the_start_is_told_and_what_is_there_is_read(tmp_path: Path) -> None:
    lines = on_a_full_disk(tmp_path)
    assert [": no space; what is new is not kept beyond this run" in line for line in lines[:3]] == [True] * 3
    assert "6881" in lines[3]
    assert lines[4] == "later True"
    assert "corrupt" not in lines[4], "nothing was set aside"


@as_root
def test_a_full_disk_without_the_files_is_no_end_either(tmp_path: Path) -> None:
    lines = on_a_full_disk(tmp_path, "reader.sqlite", "store.sqlite", "lock")
    assert "no space" in lines[0]
    assert lines[3:5] == ["node None", "later True"]


# The runtime directory of a service


@pytest.mark.parametrize(
    ("value", "path"),
    [("", None), ("/run/p2pdns", "/run/p2pdns"), ("/run/a:/run/b", "/run/a"), (":/run/b", None)],
)
def test_the_first_of_the_runtime_directories_is_ours(value: str, path: str | None) -> None:
    assert runtime_directory({"RUNTIME_DIRECTORY": value}) == (None if path is None else Path(path))
    assert runtime_directory({}) is None


@as_root
def test_root_gives_its_runtime_directory_to_the_user_it_becomes_and_nobody_elses(tmp_path: Path) -> None:
    environ = {"RUNTIME_DIRECTORY": f"{tmp_path}:/run/b"}
    give_runtime_directory(environ, 0, 0)
    assert tmp_path.stat().st_uid == 0
    give_runtime_directory(environ, 65534, 65534)
    assert (tmp_path.stat().st_uid, tmp_path.stat().st_gid) == (65534, 65534)
    give_runtime_directory(environ, 1, 1)
    assert tmp_path.stat().st_uid == 65534
    give_runtime_directory({}, 1, 1)
