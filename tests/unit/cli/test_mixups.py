"""Files of the wrong kind: told by what is in them, with the call that was meant, and nothing of them shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pdns.cli import mixups
from p2pdns.cli.files import nearest_name
from p2pdns.cli.main import main
from p2pdns.errors import UsageError
from p2pdns.items.keys import SecretKey

SECRET = SecretKey.generate(bytes(range(32)))
KEY = str(SECRET.zone_key)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with two keys, a zone and a note."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PDNS_CONFIG", "/dev/null")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    for name, secret in (("alice.key", SECRET), ("bob.key", SecretKey.generate(bytes(32)))):
        Path(name).write_bytes(secret.key_file(None))
        Path(name).chmod(0o600)
    Path("example.zone").write_text("www A 192.0.2.1\n")
    Path("notes.txt").write_text("hello\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-k", "example.zone", "alice.key"], "did you mean: p2pdns publish -k alice.key example.zone"),
        (["alice.key", "example.zone"], "p2pdns publish -k alice.key example.zone"),
        (["example.zone", "alice.key"], "p2pdns publish -k alice.key example.zone"),
        (["-k", "alice.key", "bob.key"], "p2pdns publish -k alice.key ZONEFILE"),
        (["-k", "example.zone", "nosuch.zone"], "p2pdns publish -k KEYFILE example.zone"),
        (["-k", KEY, "example.zone"], 'did you mean "alice.key"? it is the file of this key'),
        (["-k", f"pk:{KEY}", "example.zone"], 'did you mean "alice.key"? it is the file of this key'),
        (["alice.key"], "p2pdns publish -k KEYFILE ZONEFILE"),
    ],
)
def test_publish_says_the_call_that_was_meant(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", *words]) == 2
    assert f"hint: {hint}\n" in capsys.readouterr().err


def test_the_right_order_passes() -> None:
    mixups.refuse_swapped("alice.key", "example.zone")
    mixups.refuse_key_for_file("alice.key")
    mixups.refuse_key_for_file("nosuch.key")


def test_a_file_that_is_named_like_a_key_is_a_file() -> None:
    Path(KEY).write_bytes(SECRET.key_file(None))
    mixups.refuse_key_for_file(KEY)


def test_a_key_whose_file_is_not_here_gets_another_hint() -> None:
    other = str(SecretKey.generate(b"\x07" * 32).zone_key)
    with pytest.raises(UsageError) as caught:
        mixups.refuse_key_for_file(other)
    assert caught.value.hint == "name the file that p2pdns keygen -o FILE has written"


def test_a_file_that_holds_no_key_is_told_so_whatever_its_mode(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").chmod(0o644)
    assert main(["pubkey", "notes.txt"]) == 1
    assert '"notes.txt": not a PEM key file' in capsys.readouterr().err


def test_a_key_file_that_others_may_open_is_refused_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    Path("alice.key").chmod(0o640)
    assert main(["pubkey", "alice.key"]) == 1
    assert "other users may open this key file (mode 0640)" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["inspect", "put", "pin", "check --key", "name add x", "flush --zone"])
def test_a_key_file_where_an_item_or_a_zone_key_belongs_shows_nothing_of_itself(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["example.zone"] if verb.startswith("check") else []
    assert main([*verb.split(), "alice.key", *more]) == 2
    said = "".join(capsys.readouterr())
    assert "a key file, and" in said
    assert "p2pdns pubkey alice.key" in said
    assert not any(line in said for line in SECRET.write(None).decode().splitlines())


def test_the_keys_of_a_folder_are_those_of_its_comments() -> None:
    Path("old.key").write_bytes(SECRET.write(None))
    Path("odd.key").write_bytes(b"\xff\xfe")
    Path("folder.key").mkdir()
    assert mixups.keys_in_folder()[KEY] == "alice.key"
    assert len(mixups.keys_in_folder()) == 2


@pytest.mark.parametrize(
    ("name", "names", "near"),
    [
        ("exmaple.zone", ["example.zone", "mail.zone"], "example.zone"),
        ("xyz.zone", ["web.zone", "mail.zone"], None),
        ("example", ["example.zone"], "example.zone"),
        ("Example.zone", ["example.zone"], "example.zone"),
        ("alice.zone", ["alice.key", "alice.zone.bak"], "alice.key"),
        ("example.zone", ["example.key", "example.zone~", "exampl.zone"], "example.key"),
        ("alcie.key", ["alice.zone", "alice.key"], "alice.key"),
        ("x", [], None),
    ],
)
def test_the_nearest_file_is_the_nearest_by_its_stem(name: str, names: list[str], near: str | None) -> None:
    assert nearest_name(name, names) == near
