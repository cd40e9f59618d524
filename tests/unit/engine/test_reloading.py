"""What a reload changes, and what only a restart takes over."""

from __future__ import annotations

from dataclasses import fields, replace

from p2pdns.config import Config
from p2pdns.engine.settings import changed_settings, in_force, needs_restart
from p2pdns.items.keys import SecretKey

ALICE = SecretKey.generate(b"\x01" * 32).zone_key


def test_what_differs_between_two_configurations_is_named_by_table_and_setting() -> None:
    old = Config()
    new = replace(
        old,
        dht=replace(old.dht, network="demo"),
        names={"a": str(ALICE)},
        upstream=replace(old.upstream, trust_ad=True),
    )
    assert changed_settings(old, old) == []
    assert changed_settings(old, new) == ["dht.network", "upstream.trust_ad", "names"]


def test_what_neither_process_takes_over_while_running_needs_a_restart() -> None:
    tables = [table.name for table in fields(Config) if table.name not in ("names", "publish")]
    settings = [f"{table}.{entry.name}" for table in tables for entry in fields(getattr(Config(), table))]
    late = {setting for setting in settings if needs_restart(setting)}
    assert late == {
        "dns.listen",
        *(f"dht.{entry.name}" for entry in fields(Config().dht)),
        "limits.store_items_max",
        "limits.store_bytes_max",
        "control.group",
        "process.user",
    }
    assert not needs_restart("names")
    assert needs_restart("publish")


def test_what_needs_a_restart_is_told_again_by_every_reload_and_the_rest_is_in_force() -> None:
    old = Config()
    new = replace(
        old,
        dns=replace(old.dns, listen=("127.0.0.1:5454",), suffixes=("zone.alt",)),
        dht=replace(old.dht, network="demo"),
        control=replace(old.control, group="staff"),
        process=replace(old.process, user="nobody"),
        limits=replace(old.limits, store_items_max=7),
        names={"a": str(ALICE)},
    )
    taken = in_force(old, new)
    assert set(changed_settings(taken, new)) == set(filter(needs_restart, changed_settings(old, new)))
    assert set(changed_settings(old, taken)) == {"dns.suffixes", "names"}
