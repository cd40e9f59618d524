"""The key files of the tables: how descriptors are handed on, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pdns.config.published import PublishTable
from p2pdns.errors import KeyFileError, Unavailable
from p2pdns.items.keys import SecretKey
from p2pdns.signer import handing
from p2pdns.signer.keyfiles import read_key

SECRET = SecretKey.generate(b"\x0c" * 32)


def key_file(folder: Path, content: bytes = SECRET.write(None), mode: int = 0o600) -> Path:
    """Write a key file."""
    path = folder / "some.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_is_read_by_its_path_and_by_a_descriptor_again_and_again(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    assert read_key(str(path)).zone_key == SECRET.zone_key
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()
    for _ in range(2):
        assert read_key(str(path), descriptor).zone_key == SECRET.zone_key
    os.close(descriptor)


@pytest.mark.parametrize("by_descriptor", [False, True])
@pytest.mark.parametrize(
    ("content", "mode", "what"),
    [
        (SECRET.write(None), 0o640, "other users may open this key file"),
        (SECRET.write(b"word"), 0o600, "the key has a passphrase"),
        (b"-----BEGIN PRIVATE KEY-----\nbroken\n", 0o600, "a damaged PKCS#8 PEM file"),
        (b"", 0o600, "not a PEM key file"),
        (b"x" * 100_000, 0o600, "bytes, a key file has at most"),
    ],
)
def test_a_key_that_is_no_secret_or_cannot_be_read_is_one_line(
    tmp_path: Path, content: bytes, mode: int, what: str, by_descriptor: bool
) -> None:
    path = key_file(tmp_path, content, mode)
    descriptor = os.open(path, os.O_RDONLY) if by_descriptor else None
    with pytest.raises(KeyFileError, match=what) as caught:
        read_key(str(path), descriptor)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    if descriptor is not None:
        os.close(descriptor)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="not a file"):
        read_key(str(tmp_path / "pipe"))
    with pytest.raises(Unavailable, match="no such file"):
        read_key(str(tmp_path / "missing"))


def test_a_file_that_was_handed_over_is_found_by_what_it_is(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    handed, stray = os.open(path, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(handed, True)
    tables = [PublishTable("/z/missing.zone", str(tmp_path / "missing")), PublishTable("/z/a.zone", str(path))]
    assert handing.opened(tables, [handed, stray]) == {1: handed}
    assert not os.get_inheritable(handed)
    assert [handing.is_file(handed), handing.is_file(stray)] == [True, False]
    os.close(handed)
    os.close(stray)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root opens for others")
def test_root_opens_the_files_and_other_users_leave_that_to_the_signer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_file(tmp_path)
    tables = [PublishTable("/z/a.zone", str(path))]
    found = handing.opened(tables, [])
    assert list(found) == [0]
    assert not os.get_inheritable(found[0])
    os.close(found[0])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert handing.opened(tables, []) == {}
