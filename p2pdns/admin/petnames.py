"""Petnames: which may be kept, and the list of those in use.

Guarantees: a petname never comes to stand for another key unless somebody has removed it before; what the configuration
names or trusts is changed there alone; several are kept together or not at all. Does not know who asks: the control
socket where a daemon runs, the command line where none does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2pdns.config import Config
from p2pdns.errors import Unavailable, UsageError
from p2pdns.naming import read_petname, refuse_suffix_word

if TYPE_CHECKING:
    from p2pdns.items.keys import ZoneId
    from p2pdns.state import State

PETNAMES_MAX = 5_000  # Their list is one line at the control socket, which has a mebibyte.


@dataclass(frozen=True)
class Petname:
    """The key that a name stands for, and where that is written."""

    key: str
    source: str


def in_use(config: Config, kept: Mapping[str, str]) -> dict[str, Petname]:
    """Return the petnames of configuration and state, in order of the names; the configuration wins."""
    names = {name: Petname(key, "state") for name, key in kept.items()}
    names |= {name: Petname(key, "configuration") for name, key in config.names.items()}
    return dict(sorted(names.items()))


def kept_in(directory: Path) -> dict[str, str]:
    """Return the petnames in a state directory that no process uses; Unavailable where one does."""
    if not (directory / "reader.sqlite").exists():
        return {}
    # Loaded late: most commands find no petnames of a state directory, or ask a daemon for them.
    from p2pdns.state import State

    state = State.open(directory)
    try:
        return state.names()
    finally:
        state.close()


def refuse(text: str, zone_id: ZoneId, *, config: Config, kept: Mapping[str, str]) -> str:
    """Return the petname as it is kept; an error when it may not stand for this zone here."""
    name = read_petname(text)
    refuse_suffix_word(name, config.dns.suffixes)
    place = f'"{name}"'
    if config.names.get(name, str(zone_id)) != str(zone_id):
        hint = "change it under [names] there"
        raise Unavailable(f"the configuration has it for {config.names[name]}", place=place, hint=hint)
    if kept.get(name, str(zone_id)) != str(zone_id):
        # Whoever types a petname relies on it as on a key, so it changes hands in two steps.
        hint = f"p2pdns name remove {name}, and then add it again"
        raise Unavailable(f"stands for {kept[name]} already", place=place, hint=hint)
    return name


def add(state: State, config: Config, names: Mapping[str, ZoneId]) -> list[str]:
    """Keep petnames, all or none; return those that were not there before."""
    kept = state.names()
    wanted = {refuse(text, zone_id, config=config, kept=kept): zone_id for text, zone_id in names.items()}
    if len(wanted) < len(names):
        raise UsageError("a name is there twice", hint="letter case does not make another name")
    new = {name: zone_id for name, zone_id in wanted.items() if name not in kept and name not in config.names}
    if len(kept) + len(new) > PETNAMES_MAX:
        raise Unavailable(f"more than {PETNAMES_MAX} petnames", hint="remove some with p2pdns name remove NAME")
    state.set_names(new)
    return list(new)


def remove(state: State, config: Config, text: str) -> str:
    """Take a petname away and return it; an error when it is not there to be taken."""
    name = read_petname(text)
    place = f'"{name}"'
    if name in config.names:
        raise Unavailable("a name of the configuration", place=place, hint="remove it under [names] there")
    if name in config.zones.private_zones:
        # Without the name the configuration would mean nothing, and the daemon would not start again.
        raise Unavailable(
            "the configuration trusts this name", place=place, hint="remove it from [zones] private_zones first"
        )
    if not state.remove_name(name):
        raise Unavailable("no such petname", place=place, hint="p2pdns name list shows them")
    return name
