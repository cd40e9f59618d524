"""What a reload changes: which settings differ, and which of them only a restart takes over.

Does not know how a setting is taken over: the front and `engine.main` do that.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from p2pdns.config import Config

# What the process was started with, and its sockets and stores opened with.
AT_START_ONLY = ("dht.", "control.", "process.", "dns.listen", "limits.store_")


def needs_restart(setting: str) -> bool:
    """Return whether a setting takes effect at a start only; the others are taken over by the front or here."""
    return setting.startswith(AT_START_ONLY)


def in_force(old: Config, new: Config) -> Config:
    """Return the new configuration with what only a restart takes over as it was; the next reload says so again."""
    kept: dict[str, dict[str, Any]] = {}
    for setting in filter(needs_restart, changed_settings(old, new)):
        table, name = setting.split(".")
        kept.setdefault(table, {})[name] = getattr(getattr(old, table), name)
    tables: dict[str, Any] = {table: replace(getattr(new, table), **values) for table, values in kept.items()}
    return replace(new, **tables)


def changed_settings(old: Config, new: Config) -> list[str]:
    """Return the settings that differ, as `table.setting`."""
    changed = []
    for table in fields(Config):
        before, after = getattr(old, table.name), getattr(new, table.name)
        if table.name == "names":
            changed += ["names"] if before != after else []
            continue
        changed += [
            f"{table.name}.{entry.name}"
            for entry in fields(before)
            if getattr(before, entry.name) != getattr(after, entry.name)
        ]
    return changed
