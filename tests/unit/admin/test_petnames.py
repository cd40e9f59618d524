"""Petnames: who may have which, what is kept, and what they mean on a command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2pdns.admin import petnames
from p2pdns.admin.commands import Commands, EngineParts
from p2pdns.admin.petnames import Petname
from p2pdns.cli import petnames as book_of
from p2pdns.cli.main import main
from p2pdns.cli.name import IMPORT_BYTES_MAX
from p2pdns.cli.petnames import Book
from p2pdns.config import Config
from p2pdns.errors import ConfigError, P2pdnsError, Unavailable, UsageError
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.succession import Succession
from p2pdns.state import State
from tests.committed import COMMITTED, NEXT_ID, OLD, OLD_ID, VALUES

ALICE = ZoneId.of_key(SecretKey.generate(b"\x01" * 32).zone_key)
BOB = ZoneId.of_key(SecretKey.generate(b"\x02" * 32).zone_key)
CONFIG = replace(Config(), names={"carol": str(ALICE)})
BOOK = Book({"alice": Petname(str(ALICE), "state"), "bob": Petname(str(BOB), "state")}, Config().dns.suffixes)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without configuration and state."""
    for name in ("P2PDNS_CONFIG", "STATE_DIRECTORY", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_whoever_looks_names_up_hears_of_every_change() -> None:
    heard: list[list[str]] = []
    state = State.open(None)

    def names_changed() -> None:
        heard.append(sorted(petnames.in_use(CONFIG, state.reader.names.read())))

    engine = SimpleNamespace(state=state, config=CONFIG, names_changed=names_changed)
    commands = Commands(cast("EngineParts", engine))

    async def story() -> None:
        await commands.name_add({"verb": "name-add", "name": "alice", "key": str(ALICE)}, lambda _: None)
        await commands.name_import({"verb": "name-import", "names": {"bob": str(BOB)}}, lambda _: None)
        await commands.name_remove({"verb": "name-remove", "name": "alice"}, lambda _: None)

    asyncio.run(story())
    assert heard == [["alice", "carol"], ["alice", "bob", "carol"], ["bob", "carol"]]


def test_a_petname_never_changes_hands_without_being_removed() -> None:
    state = State.open(None)
    assert petnames.add(state, CONFIG, {"Alice": ALICE}) == ["alice"]
    assert petnames.add(state, CONFIG, {"alice": ALICE}) == []
    with pytest.raises(Unavailable, match="stands for") as caught:
        petnames.add(state, CONFIG, {"alice": BOB})
    assert "name remove alice" in (caught.value.hint or "")
    assert petnames.remove(state, CONFIG, "ALICE") == "alice"
    assert petnames.add(state, CONFIG, {"alice": BOB}) == ["alice"]
    assert state.reader.names.read() == {"alice": str(BOB)}
    state.close()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a.b", "not a petname"),
        ("", "not a petname"),
        ("älice", "not a petname"),
        ("a" * 64, "not a petname"),
        (str(BOB), "looks like a zone key"),
        (str(BOB).upper(), "looks like a zone key"),
        ("alt", "a word of the suffix p2p.alt"),
        ("P2P", "a word of the suffix p2p.alt"),
        ("internal", "a word of the suffix p2pdns.internal"),
        ("carol", "the configuration has it"),
    ],
)
def test_a_name_that_means_something_else_is_refused(name: str, what: str) -> None:
    state = State.open(None)
    with pytest.raises(P2pdnsError, match=what) as caught:
        petnames.add(state, CONFIG, {"dora": BOB, name: BOB})
    assert caught.value.hint
    assert state.reader.names.read() == {}
    state.close()


def test_two_spellings_of_one_name_are_refused() -> None:
    state = State.open(None)
    with pytest.raises(UsageError, match="twice"):
        petnames.add(state, CONFIG, {"dora": BOB, "Dora": ALICE})
    state.close()


def test_petnames_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(petnames, "PETNAMES_MAX", 2)
    state = State.open(None)
    petnames.add(state, CONFIG, {"a": ALICE, "b": BOB})
    with pytest.raises(Unavailable, match="more than 2 petnames"):
        petnames.add(state, CONFIG, {"c": ALICE})
    assert list(state.reader.names.read()) == ["a", "b"]
    state.close()


@pytest.mark.parametrize(
    ("name", "what"),
    [("carol", "a name of the configuration"), ("dora", "trusts this name"), ("eve", "no such petname")],
)
def test_what_the_configuration_says_and_what_is_not_there_cannot_be_removed(name: str, what: str) -> None:
    config = replace(CONFIG, zones=replace(CONFIG.zones, private_zones=("dora",)))
    state = State.open(None)
    petnames.add(state, config, {"dora": BOB})
    with pytest.raises(Unavailable, match=what) as caught:
        petnames.remove(state, config, name)
    assert caught.value.hint
    assert state.reader.names.read() == {"dora": str(BOB)}
    state.close()


def test_a_suffix_word_in_the_configuration_is_found_with_its_place() -> None:
    from p2pdns import config as configuration

    text = f'[dns]\nsuffixes = ["our.home"]\n[names]\nalt = "{BOB}"\nhome = "{BOB}"\n'
    with pytest.raises(ConfigError, match=r"a word of the suffix our\.home") as caught:
        configuration.parse(text, "p.toml")
    assert caught.value.place == "p.toml:5: [names] home"


@pytest.mark.parametrize(
    ("text", "name", "bare"),
    [
        ("alice", "alice.p2p.alt", "{alice}"),
        ("www.Alice", "www.Alice.p2p.alt", "www.{alice}"),
        ("www.bob.alice", "www.bob.alice.p2p.alt", "www.bob.{alice}"),
        ("www.alice.P2P.alt", "www.alice.P2P.alt", "www.{alice}"),
        ("alice.p2pdns.internal", "alice.p2pdns.internal", "{alice}"),
        ("alice.", "alice.", "alice."),
        ("alice.example.com", "alice.example.com", "alice.example.com"),
        ("www.malice", "www.malice", "www.malice"),
        (f"www.{BOB}", f"www.{BOB}", f"www.{BOB}"),
        (f"www.{BOB}.p2p.alt.", f"www.{BOB}.p2p.alt.", f"www.{BOB}"),
        ("p2p.alt", "p2p.alt", "p2p.alt"),
    ],
)
def test_a_word_that_ends_in_a_petname_means_a_name_of_that_zone(text: str, name: str, bare: str) -> None:
    assert BOOK.full_name(text) == name
    assert BOOK.bare_name(text) == bare.replace("{alice}", str(ALICE))


def test_a_server_of_others_is_asked_for_the_key() -> None:
    assert BOOK.full_name("www.alice", by_key=True) == f"www.{ALICE}"
    assert BOOK.full_name("www.alice.p2p.alt", by_key=True) == "www.alice.p2p.alt"
    assert Book(BOOK.names, ()).full_name("www.alice") == f"www.{ALICE}"


def test_a_key_is_shown_with_its_petname() -> None:
    assert BOOK.shown(str(ALICE)) == f"{ALICE} (alice)"
    assert Book({}, ()).shown(str(ALICE)) == str(ALICE)


def test_without_a_daemon_names_go_to_the_state_and_come_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["name", "list"]) == 0
    assert not (home / ".local").exists(), "a look makes nothing"
    assert main(["name", "add", "Alice", str(ALICE)]) == 0
    said = capsys.readouterr()
    assert said.out == f"alice {ALICE}\n"
    assert "no daemon runs" in said.err
    assert main(["name", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"alice": {"key": str(ALICE), "from": "state", "succeeded_by": None}}
    assert main(["name", "remove", "alice"]) == 0
    assert main(["name", "remove", "alice"]) == 1


@pytest.mark.parametrize(
    ("suffixes", "told"),
    [
        ('["p2p.alt", "p2pdns.internal"]', "alice.p2pdns.internal"),
        ('["house.internal", "p2pdns.internal"]', "alice.house.internal"),
        ('["p2p.alt", "example"]', "alice.p2p.alt"),
    ],
)
def test_a_new_petname_is_told_in_the_form_that_browsers_open_where_there_is_one(
    suffixes: str, told: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "p.toml").write_text(f"[dns]\nsuffixes = {suffixes}\n")
    assert main(["name", "add", "-c", "p.toml", "alice", str(ALICE)]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"p2pdns: its zone is at {told}"


def test_what_list_prints_import_reads(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "p.toml").write_text(f'[names]\ncarol = "{BOB}"\n')
    main(["name", "add", "-c", "p.toml", "alice", str(ALICE)])
    capsys.readouterr()
    main(["name", "list", "-c", "p.toml"])
    listed = capsys.readouterr().out
    assert listed.splitlines()[1].endswith("# from the configuration")
    (home / "names").write_text(listed)
    assert main(["name", "import", "--state", "other", "names"]) == 0
    main(["name", "list", "--state", "other"])
    assert capsys.readouterr().out.split()[-4:] == ["alice", str(ALICE), "carol", str(BOB)]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("bob", "cannot read"),
        (f"bob {BOB} friend", "cannot read"),
        ("bob xyz", "not a zone key"),
        (f"b.ob {BOB}", "not a petname"),
        (f"alice {BOB}", "already"),
        (f"alt {BOB}", "a word of the suffix"),
        (f"dora {ALICE}", "another key in line 1"),
    ],
)
def test_one_bad_line_keeps_the_whole_import_out(
    line: str, what: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["name", "add", "alice", str(ALICE)])
    (home / "names").write_text(f"dora {BOB} # a friend\n\n{line}\neve {BOB}\n")
    assert main(["name", "import", "names"]) == 1
    said = capsys.readouterr().err
    assert "p2pdns: error: names:3: " in said
    assert what in said
    assert "nothing was taken over" in said
    main(["name", "list"])
    assert capsys.readouterr().out == f"alice {ALICE}\n"


def test_an_import_that_would_not_fit_a_request_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "names").write_text("#" * IMPORT_BYTES_MAX + "\n")
    assert main(["name", "import", "names"]) == 2
    assert "more than" in capsys.readouterr().err


def test_a_state_that_somebody_uses_does_not_stop_other_verbs(home: Path) -> None:
    directory = home / "state"
    state = State.open(directory)
    petnames.add(state, CONFIG, {"alice": ALICE})
    assert book_of.load(CONFIG, directory).keys == {"carol": str(ALICE)}
    with pytest.raises(Unavailable, match="another p2pdns runs"):
        book_of.load_strictly(CONFIG, directory)
    state.close()
    assert book_of.load_strictly(CONFIG, directory).keys == {"alice": str(ALICE), "carol": str(ALICE)}
    assert book_of.load(CONFIG, directory).keys["alice"] == str(ALICE)


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("bob", "no key is given"),
        ("bob=xyz", "not a zone key"),
        (f"b.b={BOB}", "not a petname"),
        (f"bob={ALICE}", "two"),
    ],
)
def test_a_zone_flag_that_means_nothing_is_refused(
    word: str, what: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "a.zone").write_text("www CNAME www.{zone:bob}.\n")
    assert main(["check", "--zone", f"bob={BOB}", "--zone", word, "a.zone"]) == 2
    assert what in capsys.readouterr().err


def test_zone_flags_and_petnames_fill_a_zone_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "a.zone").write_text("; a\nwww CNAME www.{zone:bob}.\nc NS {zone:carol}.\n")
    (home / "p.toml").write_text(f'[names]\ncarol = "{ALICE}"\n')
    assert main(["check", "-c", "p.toml", "a.zone"]) == 1
    assert "p2pdns: error: a.zone:2: {zone:bob} is not filled" in capsys.readouterr().err
    assert main(["check", "-c", "p.toml", "--zone", f"Bob={BOB}", "--json", "a.zone"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["zones"] == {"bob": str(BOB), "carol": str(ALICE)}
    main(["name", "add", "-c", "p.toml", "bob", str(BOB)])
    assert main(["check", "-c", "p.toml", "a.zone"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("points to bob, carol")


def test_a_petname_whose_key_was_succeeded_says_by_which(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["name", "add", "alice", str(OLD_ID), "--state", "state"]) == 0
    with contextlib.closing(State.open(home / "state")) as state:
        asyncio.run(state.reader.commitments.keep(OLD_ID, COMMITTED))
        succession = Succession.verified(OLD.zone_key, COMMITTED, VALUES[0].value)
        asyncio.run(state.reader.commitments.succeed(OLD_ID, succession))
        names = petnames.in_use(CONFIG, state.reader.names.read(), state.reader)
        assert names["alice"] == Petname(str(OLD_ID), "state", str(NEXT_ID))
    capsys.readouterr()
    assert main(["name", "list", "--state", "state"]) == 0
    assert capsys.readouterr().out == f"alice {OLD_ID}  # succeeded by {NEXT_ID}\n"
    assert main(["name", "list", "--json", "--state", "state"]) == 0
    assert json.loads(capsys.readouterr().out)["alice"]["succeeded_by"] == str(NEXT_ID)
