"""The `[[publish]]` tables of a configuration: what is read, what is refused and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pdns import config as configuration
from p2pdns.cli.main import main
from p2pdns.config import Config, parse
from p2pdns.config.published import TABLES_MAX, PublishTable
from p2pdns.engine.settings import changed_settings, in_force, needs_restart
from p2pdns.errors import ConfigError
from tests.house.rules import ROOT

ALICE = '[[publish]]\nzone = "/z/alice.zone"\nkey = "/k/alice.key"\n'
BOB = '[[publish]]\nzone = "/z/bob.zone"\nkey = "/k/bob.key"\nwatch = true\n'
TABLES = (
    PublishTable("/z/alice.zone", "/k/alice.key"),
    PublishTable("/z/bob.zone", "/k/bob.key", watch=True),
)


def test_tables_are_read_in_their_order_and_watch_is_off_unless_it_is_said() -> None:
    assert parse(ALICE + BOB, "p.toml").publish == TABLES
    assert parse("", "p.toml").publish == ()


def test_tables_survive_the_way_to_a_child_process() -> None:
    config = parse(ALICE + BOB, "p.toml")
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[publish]\nzone = "/z"\n', "p.toml:1: [publish]: must be a list of tables"),
        ("publish = 3\n", "p.toml:1: [publish]: must be a list of tables"),
        ("publish = [3]\n", "p.toml:1: [publish]: must be a list of tables"),
        (ALICE + '[[publish]]\nzone = "/z/b.zone"\n', "p.toml:4: [publish 2]: has no key"),
        (ALICE + '[[publish]]\nkey = "/k/b.key"\n', "p.toml:4: [publish 2]: has no zone"),
        (ALICE + "watch = 1\n", "p.toml:4: [publish 1] watch: must be true or false, not a whole number"),
        (ALICE + 'keys = "/k"\n', "p.toml:4: [publish 1] keys: unknown setting"),
        ('[[publish]]\nzone = "a.zone"\nkey = "/k"\n', 'p.toml:2: [publish 1] zone: "a.zone" is not an absolute path'),
        (
            ALICE + '[[publish]]\nzone = "/z/c.zone"\nkey = "/k/alice.key"\n',
            'p.toml:6: [publish 2] key: "/k/alice.key" is the key of table 1 already',
        ),
        (
            ALICE + '[[publish]]\nzone = "/z/alice.zone"\nkey = "/k/c.key"\n',
            'p.toml:5: [publish 2] zone: "/z/alice.zone" is the zone of table 1 already',
        ),
    ],
)
def test_a_mistake_is_named_with_the_number_of_its_table_and_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "p.toml")
    assert str(caught.value) == message
    assert caught.value.hint


def test_the_number_of_tables_is_bounded() -> None:
    def tables(count: int) -> str:
        return "".join(f'[[publish]]\nzone = "/z/{at}"\nkey = "/k/{at}"\n' for at in range(count))

    assert len(parse(tables(TABLES_MAX), "p.toml").publish) == TABLES_MAX
    with pytest.raises(ConfigError, match=f"{TABLES_MAX + 1} tables, {TABLES_MAX} allowed"):
        parse(tables(TABLES_MAX + 1), "p.toml")


def test_other_tables_are_published_after_a_restart_and_a_reload_says_so_each_time() -> None:
    old, new = parse(ALICE, "p.toml"), parse(ALICE + BOB, "p.toml")
    for _ in range(2):
        assert changed_settings(old, new) == ["publish"]
        assert needs_restart("publish")
        old = in_force(old, new)
    assert old == parse(ALICE, "p.toml")


def test_the_tables_are_printed_with_their_sources_and_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(ALICE + BOB)
    assert main(["config", "print", "-c", str(path)]) == 0
    printed = capsys.readouterr().out
    assert f'key = "/k/bob.key"  # {path}:6' in printed
    assert "watch = false  # default" in printed
    assert parse(printed, "printed") == configuration.read(str(path))


def test_the_tables_of_the_example_are_some() -> None:
    lines = (ROOT / "deploy" / "p2pdns.example.toml").read_text().splitlines()
    first = lines.index("##   [[publish]]")
    text = "\n".join(line.removeprefix("##   ") for line in lines[first : first + 4])
    assert parse(text, "example").publish == (
        PublishTable("/etc/p2pdns/alice.zone", "/etc/p2pdns/alice.key", watch=True),
    )
