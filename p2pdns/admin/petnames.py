"""Petnames: the rules for new ones, and the list of those in use.

Guarantees: a petname changes its key only after it was removed; a name that the configuration gives or trusts is
changed there alone; several are kept together or not at all. Does not know its caller: the control socket where a
daemon runs, the command line where none does.
"""

from __future__ import annotations

import contextlib
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
    from p2pdns.state.marks import Reader

PETNAMES_MAX = 5_000  # Their list is one line at the control socket, which has a mebibyte.


@dataclass(frozen=True)
class Petname:
    """The key that a name stands for; `source` is "state" or "configuration".

    `succeeded_by` is the key whose zone answers for it, where others have followed it.
    """

    key: str
    source: str
    succeeded_by: str | None = None


def in_use(config: Config, kept: Mapping[str, str], reader: Reader | None = None) -> dict[str, Petname]:
    """Return the petnames of configuration and state, sorted by name; the configuration wins.

    `reader` is where the keys that have followed others are kept.
    """
    names = {name: Petname(key, "state", last_of(reader, key)) for name, key in kept.items()}
    names |= {name: Petname(key, "configuration", last_of(reader, key)) for name, key in config.names.items()}
    return dict(sorted(names.items()))


def last_of(reader: Reader | None, key: str) -> str | None:
    """Return the last key that is known to follow a key; None where none does."""
    if reader is None:
        return None
    # Loaded by the state already, where there is one.
    from p2pdns.items.keys import ZoneId

    last = str(reader.commitments.chain(ZoneId.read(key))[-1])
    return None if last == key else last


def in_use_at(config: Config, directory: Path) -> dict[str, Petname]:
    """Return the petnames of configuration and state directory; Unavailable where another process uses that."""
    if not (directory / "reader.sqlite").exists():
        return in_use(config, {})
    # This is loaded late: most commands find no petnames in a state directory, or ask a daemon for them.
    from p2pdns.state import State

    with contextlib.closing(State.open(directory)) as state:
        return in_use(config, state.reader.names.read(), state.reader)


def refuse(text: str, zone_id: ZoneId, *, config: Config, kept: Mapping[str, str]) -> str:
    """Return the petname as it is kept; an error when it may not stand for this zone."""
    name = read_petname(text)
    refuse_suffix_word(name, config.dns.suffixes)
    place = f'"{name}"'
    if config.names.get(name, str(zone_id)) != str(zone_id):
        hint = "change it under [names] there"
        raise Unavailable(f"the configuration has it for {config.names[name]}", place=place, hint=hint)
    if kept.get(name, str(zone_id)) != str(zone_id):
        # People rely on a petname as on a key, so giving it to another key takes two steps.
        hint = f"p2pdns name remove {name}, and then add it again"
        raise Unavailable(f"stands for {kept[name]} already", place=place, hint=hint)
    return name


def add(state: State, config: Config, names: Mapping[str, ZoneId]) -> list[str]:
    """Keep petnames, all or none; return the new ones."""
    kept = state.reader.names.read()
    wanted = {refuse(text, zone_id, config=config, kept=kept): zone_id for text, zone_id in names.items()}
    if len(wanted) < len(names):
        raise UsageError("a name is there twice", hint="letter case does not make another name")
    new = {name: zone_id for name, zone_id in wanted.items() if name not in kept and name not in config.names}
    if len(kept) + len(new) > PETNAMES_MAX:
        raise Unavailable(f"more than {PETNAMES_MAX} petnames", hint="remove some with p2pdns name remove NAME")
    state.reader.names.keep(new)
    return list(new)


def remove(state: State, config: Config, text: str) -> str:
    """Remove a petname and return it; an error when the state has none of this name, or may not lose it."""
    name = read_petname(text)
    place = f'"{name}"'
    if name in config.names:
        raise Unavailable("a name of the configuration", place=place, hint="remove it under [names] there")
    if name in config.zones.private_zones:
        # A configuration that trusts an unknown name is refused, so the daemon would not start again.
        hint = "remove it from [zones] private_zones first"
        raise Unavailable("the configuration trusts this name", place=place, hint=hint)
    if not state.reader.names.remove(name):
        raise Unavailable("no such petname", place=place, hint="p2pdns name list shows them")
    return name
