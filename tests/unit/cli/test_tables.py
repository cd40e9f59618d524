"""`publish` of tables: what a dry run tells, and a key that two tables have."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pdns.cli import tables
from p2pdns.cli.main import main
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.publishing.changes import Changes
from p2pdns.publishing.editions import Draft
from p2pdns.publishing.publication import Plan, Rules
from p2pdns.publishing.stored import Stored

SECRET = SecretKey.generate(bytes([1]) * 32)
OLD = MutableItem.signed(SECRET, 5, compose_packet((), SECRET.zone_key.apex))
ELSEWHERE = Plan(OLD, Changes(("www A",), (), (), 4), False, "seq 5 was not made by this key file")
MOST_GONE = Plan(OLD, Changes((), ("a A", "b A", "c A"), (), 4), True)
FINE = Plan(OLD, Changes(("www A",), (), (), 4), True)


@dataclass
class Overlay:
    """An overlay that has a plan for each publication, and notes what was put."""

    plan: Plan = FINE
    put: list[Draft] = field(default_factory=list)

    def daemon(self, _config: object, _given: object) -> Any:
        """Stand in for the daemon."""
        book = SimpleNamespace(name_of=lambda key: None)
        return nullcontext(SimpleNamespace(book=lambda: book, addresses=None, publish=self.publish))

    def publish(
        self, _secret: object, value: Draft, _memory: object, rules: Rules, _told: object, _journal: object
    ) -> Stored:
        """Put a value, if the plan is approved."""
        rules.approve(self.plan)
        self.put.append(value)
        return Stored(9, 4, 4)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch) -> Overlay:
    """Return an overlay that tables are published to."""
    found = Overlay()
    monkeypatch.setattr(tables, "Daemon", found.daemon)
    return found


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that publishes the tables of some key files, and returns status, output and error output."""
    key = tmp_path / "alice.key"
    key.write_bytes(SECRET.key_file(None))
    key.chmod(0o600)

    def publish(*flags: str, keys: tuple[Path, ...] = (key,)) -> tuple[int, str, str]:
        text = ""
        for number, path in enumerate(keys):
            zone = tmp_path / f"{number}.zone"
            zone.write_text("www A 192.0.2.1\n")
            text += f'[[publish]]\nzone = "{zone}"\nkey = "{path}"\n'
        (tmp_path / "p.toml").write_text(text)
        status = main(["publish", "-c", str(tmp_path / "p.toml"), "--state", str(tmp_path), *flags])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return publish


@pytest.mark.parametrize(
    ("plan", "flag", "words"),
    [
        (ELSEWHERE, "--force", "seq 5 was not made by this key file"),
        (MOST_GONE, "--yes", "3 of 4 RRsets of the published zone would go"),
    ],
    ids=["from elsewhere", "most would go"],
)
def test_a_dry_run_tells_what_would_be_refused_and_which_flag_does_it(
    overlay: Overlay, run: Run, plan: Plan, flag: str, words: str
) -> None:
    overlay.plan = plan
    status, output, errors = run("--dry-run")
    assert (status, overlay.put) == (0, [])
    assert f"{words}: without {flag} this zone is refused" in errors
    assert "would be refused" in output
    row = json.loads(run("--dry-run", "--json")[1])["tables"][0]
    assert (row["ok"], row["error"]) == (False, words)
    assert flag in row["hint"]
    # With the flag nothing stands against it.
    status, output, errors = run("--dry-run", flag)
    assert "refused" not in output + errors
    assert json.loads(run("--dry-run", "--json", flag)[1])["tables"][0]["ok"]


def test_a_dry_run_of_a_zone_that_nothing_stands_against_warns_of_nothing(overlay: Overlay, run: Run) -> None:
    status, output, errors = run("--dry-run")
    assert (status, overlay.put) == (0, [])
    assert "1 RRset added" in output
    assert "refused" not in output + errors


def test_a_key_that_two_tables_have_by_different_paths_publishes_the_first_zone_alone(
    overlay: Overlay, run: Run, tmp_path: Path
) -> None:
    key, link = tmp_path / "alice.key", tmp_path / "link.key"
    link.symlink_to(key)
    status, output, errors = run(keys=(key, link))
    assert (status, len(overlay.put)) == (1, 1)
    assert "link.key" in errors
    assert "the key of table 1 in another file" in errors
    assert [line.split()[-1] for line in output.splitlines()[1:]] == ["ok", "above"]
