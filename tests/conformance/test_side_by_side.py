"""The bench that asks us, unbound and BIND the same: its questions, its judgement, and the table that explains.

The bench itself needs two servers that `make test` does not install.
"""

from __future__ import annotations

import fnmatch
import importlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.outside.forwarders import NAMED

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "conformance.md").read_text()
PROBES_MIN = 60
OTHERS = {"unbound", "BIND"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bench as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("conformance")


def questions_of(bench: Any) -> list[str]:
    """Return the name of each question as the table has it."""
    return [f"{probe.name}/{transport}" for probe in bench.PROBES for transport in probe.transports]


def difference(bench: Any, probe: str, fields: tuple[str, ...], name: str = "unbound") -> Any:
    """Return a difference as the bench finds it."""
    return bench.Difference(probe, name, fields, {}, {})


TABLE = (
    "| probe | differs | why |\n|---|---|---|\n| `a/*`, `b/udp` | unbound: flags, rcode; BIND: edns | for a reason |\n"
)


def test_there_are_enough_probes_and_each_has_a_name_of_its_own(bench: Any) -> None:
    names = [probe.name for probe in bench.PROBES]
    assert len(names) == len(set(names)) >= PROBES_MIN


def test_every_row_of_the_table_is_about_something_and_says_why(bench: Any) -> None:
    rows = bench.read_table(TEXT)
    assert rows
    for row in rows:
        assert row.why.endswith(".")
        assert row.differs.keys() <= OTHERS
        for pattern in row.probes:
            assert fnmatch.filter(questions_of(bench), pattern), pattern


def test_a_difference_is_explained_by_a_row_for_its_probe_its_server_and_its_fields(bench: Any) -> None:
    rows = bench.read_table(TABLE)
    found = [
        difference(bench, "a/tcp", ("rcode", "flags")),
        difference(bench, "b/udp", ("rcode", "flags")),
        difference(bench, "a/udp", ("edns",), "BIND"),
    ]
    assert bench.judged(found, rows) == ([], [])


@pytest.mark.parametrize(
    ("probe", "fields", "name"),
    [
        ("c/udp", ("flags", "rcode"), "unbound"),
        ("b/tcp", ("flags", "rcode"), "unbound"),
        ("a/udp", ("rcode",), "unbound"),
        ("a/udp", ("flags", "rcode", "answer"), "unbound"),
        ("a/udp", ("flags", "rcode"), "BIND"),
    ],
)
def test_any_other_difference_is_not(bench: Any, probe: str, fields: tuple[str, ...], name: str) -> None:
    found = [difference(bench, probe, fields, name)]
    assert bench.judged(found, bench.read_table(TABLE))[0] == found


def test_an_explanation_without_a_difference_is_reported(bench: Any) -> None:
    found = [difference(bench, "a/tcp", ("rcode", "flags"))]
    assert bench.judged(found, bench.read_table(TABLE)) == ([], ["a/*, b/udp | BIND: edns"])


OURS_WRONG = {"p2pdns": ["a/tcp: wanted NOERROR, is SERVFAIL"]}


@pytest.mark.parametrize(
    ("fields", "wrong", "status"),
    [
        (("rcode", "flags"), {}, 0),
        (("rcode", "answer"), {}, 1),
        (("rcode", "flags"), {"unbound": ["a/tcp: as others see it"]}, 0),
        (("rcode", "flags"), OURS_WRONG, 1),
    ],
    ids=["explained", "unexplained", "another's fault", "a fault of ours"],
)
def test_the_bench_ends_with_status_1_for_what_nobody_explains_and_for_a_wrong_reply_of_ours(
    bench: Any, monkeypatch: pytest.MonkeyPatch, fields: tuple[str, ...], wrong: dict[str, list[str]], status: int
) -> None:
    resolved = [SimpleNamespace(name=name, version="0") for name in ("p2pdns", "unbound")]
    found = [difference(bench, "a/tcp", fields)]
    unwanted = {name: wrong.get(name, []) for name in ("p2pdns", "unbound")}
    monkeypatch.setattr(bench, "measured", lambda *_: (found, unwanted, 1))
    assert bench.report(resolved, bench.PROBES, bench.read_table(TABLE), verbose=False) == status


def test_replies_differ_in_what_counts_and_not_in_ttl_case_or_order(bench: Any) -> None:
    from tests.conformance import wire

    asked = wire.query("x.example", number=5)
    records = [wire.record(b"\xc0\x0c", wire.A, bytes([192, 0, 2, n]), ttl=n) for n in (1, 2)]
    other_ttls = [wire.record(b"\x01X\x07EXAMPLE\x00", wire.A, bytes([192, 0, 2, n]), ttl=9) for n in (2, 1)]

    def reply(flags: int, answer: list[bytes]) -> Any:
        return bench.normalised(asked, wire.query("x.example", number=5, flags=flags, answer=answer))

    ours = reply(0x8180, records)
    assert bench.fields_that_differ(ours, reply(0x8180, other_ttls)) == ("owner",)
    assert bench.fields_that_differ(ours, reply(0x8100, records)) == ("flags",)
    assert bench.fields_that_differ(ours, reply(0x8182, records)) == ("rcode",)
    assert bench.fields_that_differ(ours, reply(0x8180, records[:1])) == ("answers", "answer")
    assert bench.fields_that_differ(ours, {"outcome": "silence"}) == ("outcome",)


def test_no_server_of_the_bench_can_send_beyond_loopback(bench: Any) -> None:
    servers = importlib.import_module("resolvers")
    for conf in (servers.UNBOUND, NAMED, servers.NAMED_OPTIONS):
        assert all(address.startswith("127.") for address in re.findall(r"\d+\.\d+\.\d+\.\d+", conf))
    assert "outgoing-interface: 127.0.0.1" in servers.UNBOUND
    assert "query-source address 127.0.0.1" in servers.NAMED_OPTIONS


def test_the_document_names_every_module_of_the_suite() -> None:
    named = set(re.findall(r"`(tests/conformance/test_rfc\d+\.py)`", TEXT))
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "conformance").glob("test_rfc*.py")}
    assert named == there
