"""What the engine keeps of a signer's report about the `[[publish]]` tables."""

from __future__ import annotations

from typing import Any

import pytest

from p2pdns.admin.problems import of_tables
from p2pdns.admin.tables import TEXT_CHARACTERS_MAX, PublishedTables
from p2pdns.config.published import TABLES_MAX
from p2pdns.errors import UsageError

ROW: dict[str, Any] = {
    "file": "/z/alice.zone",
    "key_file": "/k/alice.key",
    "key": "k",
    "watch": True,
    "seq": 7,
    "trouble": None,
}


def test_the_last_report_is_what_is_known() -> None:
    tables = PublishedTables()
    assert not tables.rows
    tables.take({"tables": [ROW, {**ROW, "file": "/z/bob.zone", "key": None, "seq": None, "trouble": "no such file"}]})
    assert [str(row["file"]) for row in tables.rows] == ["/z/alice.zone", "/z/bob.zone"]
    (problem,) = of_tables(tables.troubles)
    assert (problem.about, problem.cause) == ("publish", "/z/bob.zone: no such file")
    tables.take({"tables": [{**ROW, "more": "x" * 9}]})
    assert tables.rows == (ROW,)
    assert list(of_tables(tables.troubles)) == []


@pytest.mark.parametrize(
    "tables",
    [
        None,
        {},
        [3],
        [ROW] * (TABLES_MAX + 1),
        [{**ROW, "seq": True}],
        [{**ROW, "watch": 1}],
        [{**ROW, "file": None}],
        [{**ROW, "trouble": "x" * (TEXT_CHARACTERS_MAX + 1)}],
        [{name: value for name, value in ROW.items() if name != "file"}],
    ],
)
def test_a_report_of_another_form_or_without_bound_is_refused_and_changes_nothing(tables: Any) -> None:
    known = PublishedTables()
    known.take({"tables": [ROW]})
    with pytest.raises(UsageError, match="not a list of"):
        known.take({"tables": tables})
    assert known.rows == (ROW,)
