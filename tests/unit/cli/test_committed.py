"""The commitment beside a key file: what is a commitment of this key, and what is written where."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from p2pdns.cli import committed
from p2pdns.cli.made import memory_of
from p2pdns.cli.main import main
from p2pdns.cli.tables import TableMemory
from p2pdns.errors import KeyFileError, Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet
from p2pdns.items.succession import commitment_to, with_commitment
from p2pdns.publishing.memory import Origin
from p2pdns.publishing.stored import Stored

SECRET, NEXT, OTHER = (SecretKey.generate(bytes([number]) * 32) for number in (1, 2, 3))
KEY = SECRET.zone_key
COMMITMENT = commitment_to(KEY, NEXT)


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    """Return the path of a key file."""
    path = tmp_path / "alice.key"
    path.write_bytes(SECRET.key_file(None))
    path.chmod(0o600)
    return str(path)


def names(tmp_path: Path) -> list[str]:
    """Return the names of the files."""
    return sorted(path.name for path in tmp_path.iterdir())


def test_keygen_next_makes_a_key_and_the_commitment_to_it(tmp_path: Path, key_file: str) -> None:
    assert main(["keygen", "--next", key_file, "-o", str(tmp_path / "next.key")]) == 0
    made = SecretKey.read((tmp_path / "next.key").read_bytes(), None, "next.key")
    assert committed.read(key_file, KEY) == commitment_to(KEY, made)
    assert (tmp_path / "next.key").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["alice.key", "alice.key.next", "next.key"]
    # Neither value, and not the next key, can be told from what lies beside the old key.
    text = (tmp_path / "alice.key.next").read_text()
    assert str(made.zone_key) not in text
    assert made.zone_key.raw.hex() not in text


def test_a_key_commits_itself_once(tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    committed.write(key_file, KEY, COMMITMENT)
    assert main(["keygen", "--next", key_file, "-o", str(tmp_path / "next.key")]) == 1
    assert "has committed itself to a next key already" in capsys.readouterr().err
    assert names(tmp_path) == ["alice.key", "alice.key.next"]
    with pytest.raises(KeyFileError, match="already"):
        committed.write(key_file, KEY, commitment_to(KEY, OTHER))
    assert committed.read(key_file, KEY) == COMMITMENT


def test_the_next_key_goes_again_where_its_commitment_cannot_be_written(
    tmp_path: Path, key_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: str, _target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    assert main(["keygen", "--next", key_file, "-o", str(tmp_path / "next.key")]) == 1
    assert names(tmp_path) == ["alice.key"]


def test_a_key_with_a_passphrase_needs_none_for_its_next_one(tmp_path: Path) -> None:
    path = tmp_path / "alice.key"
    path.write_bytes(SECRET.key_file(b"secret"))
    path.chmod(0o600)
    assert main(["keygen", "--next", str(path), "-o", str(tmp_path / "next.key")]) == 0
    assert committed.read(str(path), KEY) is not None
    path.write_bytes(SECRET.write(b"secret"))
    with pytest.raises(KeyFileError, match="does not say its zone key"):
        committed.public_key_of(str(path))


@pytest.mark.parametrize(
    "output", ["-", "alice.key.next", "alice.key"], ids=["standard output", "the commitment", "the old key"]
)
def test_no_output_takes_the_place_of_the_old_key_or_of_the_commitment(
    tmp_path: Path, key_file: str, output: str
) -> None:
    path = "-" if output == "-" else str(tmp_path / output)
    assert main(["keygen", "--next", key_file, "-o", path]) == {"-": 0, "alice.key.next": 2, "alice.key": 1}[output]
    assert Path(key_file).read_bytes() == SECRET.key_file(None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no commitment"),
        ("zone x\n", "no commitment"),
        (f"zone {KEY}\ncommitment {'0' * 143}\n", "no commitment"),
        (f"zone {KEY}\ncommitment {'g' * 144}\n", "no commitment"),
        (f"zone {OTHER.zone_key}\ncommitment {'0' * 144}\n", "of another zone"),
        (f"commitment {'0' * 144}\n", "of another zone"),
        ("\xff" * 9_000, "too large"),
    ],
)
def test_any_other_file_in_its_place_is_an_error_and_not_a_missing_commitment(
    key_file: str, text: str, words: str
) -> None:
    Path(committed.path_of(key_file)).write_text(text, "latin-1")
    with pytest.raises(Exception, match=words):
        committed.read(key_file, KEY)


def test_a_damaged_file_is_named_as_such_or_says_the_same(key_file: str) -> None:
    committed.write(key_file, KEY, COMMITMENT)
    path = Path(committed.path_of(key_file))
    data = path.read_bytes()
    begin = data.index(b"\nzone ")
    damaged = [
        data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)
    ]
    damaged += [data[:cut] for cut in range(len(data))]
    refused: list[str] = []
    for one in damaged:
        path.write_bytes(one)
        try:
            assert committed.read(key_file, KEY) == COMMITMENT
        except KeyFileError as trouble:
            refused.append(str(trouble))
    assert {next(word for word in ("damaged", "no commitment", "of another zone") if word in one) for one in refused}
    # All bits of the lines but those of the last line end, which can be another blank.
    assert len(refused) >= 8 * (len(data) - begin - 2)


def test_a_damaged_file_is_met_before_anything_is_signed(
    tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    committed.write(key_file, KEY, COMMITMENT)
    path = Path(committed.path_of(key_file))
    other = "0" if COMMITMENT.rdata.hex()[5] != "0" else "1"
    text = path.read_text().replace(
        COMMITMENT.rdata.hex(), COMMITMENT.rdata.hex()[:5] + other + COMMITMENT.rdata.hex()[6:]
    )
    path.write_text(text)
    zone = tmp_path / "a.zone"
    zone.write_text("www 60 A 192.0.2.1\n")
    assert main(["publish", "-k", key_file, str(zone), "--network", "test", "--bootstrap", "127.0.0.1:9"]) == 1
    assert 'alice.key.next": this file is damaged: it does not fit its digest' in capsys.readouterr().err
    assert names(tmp_path) == ["a.zone", "alice.key", "alice.key.next"]


def test_a_file_whose_digest_is_no_digest_any_more_is_not_taken_for_one_without(key_file: str) -> None:
    committed.write(key_file, KEY, COMMITMENT)
    path = Path(committed.path_of(key_file))
    path.write_text(path.read_text().replace("digest ", "digost ").replace(COMMITMENT.rdata.hex()[:4], "0000"))
    with pytest.raises(KeyFileError, match="damaged"):
        committed.read(key_file, KEY)


def test_a_file_of_the_first_form_which_had_no_digest_is_read(key_file: str) -> None:
    path = Path(committed.path_of(key_file))
    path.write_text(f"{committed.HEAD}zone {KEY}\ncommitment {COMMITMENT.rdata.hex()}\n")
    assert committed.read(key_file, KEY) == COMMITMENT


def test_a_missing_file_and_a_key_of_standard_input_have_none(key_file: str) -> None:
    assert committed.read(key_file, KEY) is None
    assert committed.read("-", KEY) is None


def stored(key: ZoneKey, *, is_committed: bool) -> Stored:
    """Return the end of a publication."""
    value = compose_packet((), key.apex)
    if is_committed:
        value = with_commitment(value, key, COMMITMENT)
    return Stored(1, 1, 1, item=MutableItem.signed(SECRET, 1, value))


def test_what_a_publication_has_carried_is_written_back(
    tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    committed.keep(key_file, KEY, stored(KEY, is_committed=False))
    assert names(tmp_path) == ["alice.key"]
    committed.keep(key_file, KEY, stored(KEY, is_committed=True))
    assert committed.read(key_file, KEY) == COMMITMENT
    assert "alice.key.next: written again" in capsys.readouterr().err
    # A second time there is nothing to say.
    committed.keep(key_file, KEY, stored(KEY, is_committed=True))
    assert capsys.readouterr().err == ""
    committed.keep("-", KEY, stored(KEY, is_committed=True))
    assert names(tmp_path) == ["alice.key", "alice.key.next"]


def test_a_folder_that_takes_no_file_costs_a_warning_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    committed.keep(str(tmp_path / "none" / "alice.key"), KEY, stored(KEY, is_committed=True))
    assert "is carried without it" in capsys.readouterr().err


def closed_folder(path: str) -> None:
    """Stand for `os.lstat` in a folder that this user may not enter."""
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def test_a_file_that_the_system_does_not_tell_of_is_an_error_and_not_a_missing_commitment(
    key_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "lstat", closed_folder)
    with pytest.raises(Unavailable, match=r"alice\.key\.next"):
        committed.read(key_file, KEY)
    with pytest.raises(Unavailable, match=r"alice\.key\.next"):
        committed.refuse_second(key_file)
    committed.keep(key_file, KEY, stored(KEY, is_committed=True))
    assert "is carried without it" in capsys.readouterr().err


def test_a_pipe_in_its_place_is_refused_and_not_waited_for(key_file: str) -> None:
    os.mkfifo(committed.path_of(key_file))
    with pytest.raises(Unavailable, match="not a regular file"):
        committed.read(key_file, KEY)


def test_the_file_can_be_read_by_the_user_of_a_server_whatever_the_umask(key_file: str) -> None:
    before = os.umask(0o077)
    try:
        committed.write(key_file, KEY, COMMITMENT)
    finally:
        os.umask(before)
    assert os.stat(committed.path_of(key_file)).st_mode & 0o777 == committed.FILE_MODE


def test_a_link_to_a_key_file_has_the_commitment_and_the_memory_of_the_file(tmp_path: Path, key_file: str) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "link.key"
    link.symlink_to(key_file)
    committed.write(key_file, KEY, COMMITMENT)
    assert committed.read(str(link), KEY) == COMMITMENT
    with pytest.raises(KeyFileError, match="already"):
        committed.refuse_second(str(link))
    item = MutableItem.signed(SECRET, 1, compose_packet((), KEY.apex))
    memory_of(str(link)).signed(item)
    assert memory_of(key_file).origin_of(item) is Origin.HERE
    TableMemory(str(link), KEY, tmp_path / "state").stored(item)
    assert [path.name for path in folder.iterdir()] == ["link.key"]
    assert names(tmp_path) == ["alice.key", "alice.key.next", "alice.key.published", "links"]
