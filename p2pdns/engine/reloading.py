"""The settings that differ between two configurations, and those of them that only a restart takes over.

Does not know how a setting is taken over: the front and `engine.main` do that.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from p2pdns.config import Config

# The settings that the process was started with, and that its sockets and stores were opened with.
AT_START_ONLY = ("dht.", "control.", "process.", "dns.listen", "limits.store_")


def needs_restart(setting: str) -> bool:
    """Return whether a setting takes effect only at a start; the front or the engine takes over the others."""
    return setting.startswith(AT_START_ONLY)


def in_force(old: Config, new: Config) -> Config:
    """Return the new configuration, but with the old values of what only a restart takes over.

    So the next reload says again that these need a restart.
    """
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
        names = [entry.name for entry in fields(before)]
        changed += [f"{table.name}.{name}" for name in names if getattr(before, name) != getattr(after, name)]
    return changed
