"""The tidy rules: nothing too long, everything public explained, one file prints, errors read alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house import rules

MODULES = [*rules.modules(), *rules.tools()]
IDS = [name or "p2pdns" for name, _ in MODULES]


@pytest.mark.parametrize(("module", "path"), MODULES, ids=IDS)
def test_a_module_is_short_documented_and_silent(module: str, path: Path) -> None:
    assert rules.tidy_findings(module, path.read_text()) == []


@pytest.mark.parametrize(("module", "path"), MODULES, ids=IDS)
def test_error_messages_read_alike(module: str, path: Path) -> None:
    assert rules.message_findings(module, path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("x = 1\n", "docstring at the head"),
        ('"""Head."""\n' + "x = 1\n" * 500, "lines"),
        ('"""Head."""\ndef f():\n    """Do."""\n' + "    x = 1\n" * 60, "f has 62 lines"),
        ('"""Head."""\ndef f():\n    pass\n', "public f"),
        ('"""Head."""\nclass C:\n    """C."""\n    def m(self):\n        pass\n', "public C.m"),
        ('"""Head."""\nprint(1)\n', "prints"),
    ],
)
def test_an_untidy_module_is_found(source: str, word: str) -> None:
    assert any(word in finding for finding in rules.tidy_findings("dns.zone", source))


@pytest.mark.parametrize(
    "source",
    [
        'UsageError("Failed to do it")',
        'KeyFileError("no such file.")',
        'Unavailable("failed")',
        'raise FormatError("The name is too long")',
        'ConfigError(f"Unknown key {x}")',
    ],
)
def test_an_ill_worded_error_is_found(source: str) -> None:
    assert rules.message_findings("cli.keys", source)


@pytest.mark.parametrize(
    "source", ['KeyFileError("Ed25519 only")', 'UsageError("CNAME beside data")', 'BadItem("bad-key")']
)
def test_a_well_worded_error_passes(source: str) -> None:
    assert rules.message_findings("cli.keys", source) == []
