"""The `[[publish]]` tables carry the commitment beside their key too."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pdns.cli import committed, tables
from p2pdns.cli.daemon_or_node import Daemon
from p2pdns.config.published import PublishTable
from p2pdns.errors import KeyFileError
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.succession import commitment_of, commitment_to

SECRET, NEXT = (SecretKey.generate(bytes([number]) * 32) for number in (1, 2))
KEY = SECRET.zone_key


@pytest.fixture
def table(tmp_path: Path) -> PublishTable:
    """Return a table whose key is in a folder of the test."""
    fields: Any = {"zone": str(tmp_path / "a.zone"), "key": str(tmp_path / "alice.key")}
    return PublishTable(**fields)


def test_the_zone_and_the_rules_of_a_table_have_the_commitment_beside_its_key(table: PublishTable) -> None:
    daemon = cast(Daemon, SimpleNamespace(book=None, addresses=None))
    assert tables.rules_for(table, KEY).commitment is None
    committed.write(table.key, KEY, commitment_to(KEY, NEXT))
    rules = tables.rules_for(table, KEY)
    assert (rules.commitment, rules.commitment_file) == (commitment_to(KEY, NEXT), f"{table.key}.next")
    zone = tables.read_table_zone(table, KEY, daemon, "www A 192.0.2.1\n")
    assert isinstance(zone.value, bytes)
    assert commitment_of(MutableItem.signed(SECRET, 1, zone.value)) == commitment_to(KEY, NEXT)


def test_a_broken_file_beside_the_key_of_a_table_publishes_nothing(table: PublishTable) -> None:
    Path(committed.path_of(table.key)).write_text("junk\n")
    with pytest.raises(KeyFileError, match="no commitment"):
        tables.rules_for(table, KEY)
