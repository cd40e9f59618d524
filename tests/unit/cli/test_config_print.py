"""`config print`: what it prints means the same configuration, and says of each setting where it comes from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from p2pdns import config as configuration
from p2pdns.cli.config import facts_of, toml_value
from p2pdns.cli.main import main
from p2pdns.config import TABLES, Config
from p2pdns.items.keys import SecretKey

ROOT = Path(__file__).resolve().parents[3]
KEY = str(SecretKey.generate(bytes(range(32))).zone_key)
TEXT = f"""[dns]
listen = ["127.0.0.1:0"]
local_data = ['router.lan. 300 IN TXT "a \\\\ b" "c"']

[names]
alice = "{KEY}"

[dht]
lan_discovery = false
bootstrap = []
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a configuration, and work where no other is."""
    monkeypatch.chdir(tmp_path)
    for variable in ("P2PDNS_CONFIG", "XDG_CONFIG_HOME", "STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("a.toml").write_text(TEXT)
    return "a.toml"


def test_what_is_printed_reads_back_as_the_same_configuration(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "print", "-c", path]) == 0
    assert configuration.parse(capsys.readouterr().out, "printed") == configuration.read(path)


def test_the_example_reads_back_too(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "print", "-c", str(ROOT / "deploy" / "p2pdns.example.toml")]) == 0
    assert configuration.parse(capsys.readouterr().out, "printed") == Config()


def test_every_setting_is_there_with_its_source(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "print", "-c", path, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    tables = facts["settings"]
    assert {table: list(entries) for table, entries in tables.items() if table not in ("names", "publish")} == {
        table: [entry.name for entry in dataclasses.fields(kind)] for table, kind in TABLES.items()
    }
    assert tables["dns"]["listen"] == {"value": ["127.0.0.1:0"], "from": "a.toml:2"}
    assert tables["names"]["alice"] == {"value": KEY, "from": "a.toml:6"}
    # Written, although it is what the default would be.
    assert tables["dht"]["bootstrap"] == {"value": [], "from": "a.toml:10"}
    assert tables["dht"]["network"] == {"value": "mainline", "from": "default"}
    assert (facts["file"], facts["file_from"]) == ("a.toml", "named by -c")


def test_the_file_and_the_reason_for_it_are_told(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["config", "print"])
    assert "# configuration: there is none: every setting has its default" in capsys.readouterr().out
    own = Path("home/.config/p2pdns/p2pdns.toml")
    own.parent.mkdir(parents=True)
    own.write_text(TEXT)
    main(["config", "print"])
    assert f"# configuration: {own.resolve()} (the user's own)" in capsys.readouterr().out
    monkeypatch.setenv("P2PDNS_CONFIG", path)
    main(["config", "print"])
    assert "# configuration: a.toml (named by $P2PDNS_CONFIG)" in capsys.readouterr().out


def test_the_state_directory_and_the_reason_for_it_are_told(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["config", "print", "--state", "here"])
    assert "# state directory: here (named by --state)" in capsys.readouterr().out
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/p2pdns")
    main(["config", "print"])
    assert "# state directory: /var/lib/p2pdns (named by $STATE_DIRECTORY)" in capsys.readouterr().out


def test_a_bad_configuration_is_refused_as_serve_would(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(path).write_text("[dns]\nlisen = []\n")
    assert main(["config", "print", "-c", path]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "a.toml:2: [dns] lisen: unknown setting" in said.err


def test_a_setting_in_a_line_of_its_own_form_keeps_its_file_as_source(path: str) -> None:
    Path(path).write_text('dht.network = "mine"\ncache = {ttl_s_max = 9}\n')
    facts = facts_of(configuration.read(path), path)
    assert facts["dht"]["network"]["value"] == "mine"
    assert facts["dht"]["network"]["from"].startswith("a.toml")
    assert facts["cache"]["ttl_s_max"]["from"].startswith("a.toml")


@pytest.mark.parametrize("value", ['a"b', "a\\b", "tab\there", "ü💩", "", ("x", "y"), (), True, False, 7])
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    import tomllib

    read = tomllib.loads(f"x = {toml_value(value)}")["x"]
    assert (tuple(read) if isinstance(read, list) else read) == value
