"""The tidy rules: nothing too long, everything public explained, one file prints, errors read alike.

And tests go by what everybody can see: a ceiling on the private names of others that they read.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house import rules

# A private name that a test reads is a claim about how something is written. It is lowered when one of them goes.
PRIVATE_READS_MAX = 30

MODULES = [*rules.modules(), *rules.tools()]
IDS = [name or "p2pdns" for name, _ in MODULES]


@pytest.mark.parametrize(("module", "path"), MODULES, ids=IDS)
def test_a_module_is_short_documented_and_silent(module: str, path: Path) -> None:
    assert rules.tidy_findings(module, path.read_text()) == []


@pytest.mark.parametrize(("module", "path"), MODULES, ids=IDS)
def test_error_messages_read_alike(module: str, path: Path) -> None:
    assert rules.message_findings(module, path.read_text()) == []


@pytest.mark.parametrize(("module", "path"), rules.modules(), ids=[name or "p2pdns" for name, _ in rules.modules()])
def test_zone_key_and_item_are_one_in_one_module_alone(module: str, path: Path) -> None:
    assert rules.zone_findings(module, path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("overlay.finder", "key = zone_id.signed_by", 1),
        ("state.marks", "held(ZoneId.of_key(item.key), ZoneId(item.key))", 2),
        ("cli.inspect", "node.look_up(ZoneId.of_key(key))", 0),
        ("cli.inspect", "key = zone_id.signed_by", 1),
        ("overlay.parts", "ZoneId.of_key(item.key).signed_by", 0),
    ],
)
def test_a_zone_id_taken_for_a_key_is_found(module: str, source: str, count: int) -> None:
    assert len(rules.zone_findings(module, source)) == count


def test_no_two_classes_of_the_package_share_a_name() -> None:
    assert rules.namesake_findings({module: path.read_text() for module, path in rules.modules()}) == []


def test_classes_that_share_a_name_are_found_with_their_places() -> None:
    sources = {
        "dht.node": "class _Reader: ...",
        "dns.name": "def f():\n    class _Reader: ...",
        "link": "class Frame: ...",
    }
    assert rules.namesake_findings(sources) == ["_Reader: dht.node:1, dns.name:2"]


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("x = 1\n", "docstring at the head"),
        ('"""Head."""\n' + "x = 1\n" * 500, "lines"),
        ('"""Head."""\ndef f():\n    """Do."""\n' + "    x = 1\n" * 60, "f has 62 lines"),
        ('"""Head."""\ndef f():\n    pass\n', "public f"),
        ('"""Head."""\nclass C:\n    """C."""\n    def m(self):\n        pass\n', "public C.m"),
        (
            '"""Head."""\nclass C:\n    """C."""\n    @property\n    def p(self):\n        x = 1\n        y = 2\n'
            "        return x + y\n",
            "public C.p",
        ),
        ('"""Head."""\nprint(1)\n', "prints"),
    ],
)
def test_an_untidy_module_is_found(source: str, word: str) -> None:
    assert any(word in finding for finding in rules.tidy_findings("dns.zone", source))


def test_a_property_of_two_lines_and_a_dunder_method_need_no_docstring() -> None:
    source = (
        '"""Head."""\nclass C:\n    """C."""\n    @property\n    def p(self):\n        x = 1\n        return x\n'
        "    def __str__(self):\n        return str(self.p)\n"
    )
    assert rules.tidy_findings("dns.zone", source) == []


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


def test_tests_read_hardly_any_private_name_of_another_object() -> None:
    found = [
        f"{path.relative_to(rules.ROOT)}:{line}"
        for path in sorted((rules.ROOT / "tests").rglob("*.py"))
        for line in rules.private_reads(path.read_text())
    ]
    assert len(found) <= PRIVATE_READS_MAX, found


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("storage._held", 1),
        ("node._core.guard._tokens", 2),
        ("from p2pdns.state.tables import _VERSION_1", 1),
        ("monkeypatch.setattr(reader, '_write', write)", 1),
        ("monkeypatch.setattr('p2pdns.directory._open_lock', full)", 1),
        ("getattr(endpoint, '_timer_fired')", 1),
        ("self._world", 0),
        ("super()._held", 0),
        ("row._replace(seq=2)", 0),
        ("os._exit(0)", 0),
        ("stored.__class__", 0),
        ("_ = storage.held", 0),
    ],
)
def test_a_private_name_is_one_of_another_object(source: str, count: int) -> None:
    assert len(rules.private_reads(source)) == count
