"""The petnames of this machine, as they are used in the words of a command line.

Guarantees: the list is that of the running daemon, else that of the state directory, with the configuration's names in
both cases; a word with a final dot is never a petname. Does not know how petnames are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from p2pdns.admin import petnames
from p2pdns.admin.control import CALL_S_MAX, ControlClient
from p2pdns.admin.petnames import Petname
from p2pdns.config import Config
from p2pdns.errors import Unavailable, did_you_mean


@dataclass(frozen=True)
class Book:
    """The petnames, and the suffixes of the names of zones."""

    names: Mapping[str, Petname]
    suffixes: tuple[str, ...]

    @property
    def keys(self) -> dict[str, str]:
        return {name: entry.key for name, entry in self.names.items()}

    def name_of(self, key: str) -> str | None:
        """Return the first petname of a key, or None."""
        return next((name for name, entry in self.names.items() if entry.key == key), None)

    def shown(self, key: str) -> str:
        """Return the key, with its petname if it has one."""
        name = self.name_of(key)
        return key if name is None else f"{key} ({name})"

    def hint_for(self, text: str) -> str | None:
        """Return the hint that names the petname nearest to a word, or None when no petname is near.

        >>> Book({"alice": Petname("tkrq", "state")}, ()).hint_for("alise")
        'did you mean the petname "alice"?'
        """
        return did_you_mean(text.lower(), self.names, shown='the petname "{}"')

    def petname_in(self, text: str) -> str | None:
        """Return the petname at the end of a word or before its suffix; None if there is none."""
        if text.endswith("."):
            return None
        last = self.without_suffix(text).rpartition(".")[2].lower()
        return last if last in self.names else None

    def without_suffix(self, text: str) -> str:
        """Return the word without the suffix at its end."""
        folded = text.lower().rstrip(".")
        suffix = max((s for s in self.suffixes if folded.endswith("." + s)), key=len, default=None)
        return text if suffix is None else text[: len(folded) - len(suffix) - 1]

    def full_name(self, text: str, *, by_key: bool = False) -> str:
        """Return the full form of a name that ends in a petname: with a suffix, or with `by_key` with its zone key.

        >>> book = Book({"alice": Petname("tkrq", "state")}, ("p2p.alt",))
        >>> book.full_name("www.Alice"), book.full_name("www.alice", by_key=True), book.full_name("www.alice.")
        ('www.Alice.p2p.alt', 'www.tkrq', 'www.alice.')
        """
        if self.petname_in(text) is None or self.without_suffix(text) != text:
            return text
        return self.bare_name(text) if by_key or not self.suffixes else f"{text}.{self.suffixes[0]}"

    def bare_name(self, text: str) -> str:
        """Return the name without a suffix, and with the key in the place of a petname."""
        name, bare = self.petname_in(text), self.without_suffix(text)
        return bare if name is None else bare[: len(bare) - len(name)] + self.names[name].key


def load(config: Config, state: Path, *, timeout_s: float = CALL_S_MAX, client: ControlClient | None = None) -> Book:
    """Return the petnames; only the configuration's if this user may ask neither the daemon nor the state directory."""
    try:
        return load_strictly(config, state, timeout_s=timeout_s, client=client)
    except Unavailable:
        # The verb may not need a petname at all; if it does, its own error says which one.
        return configured(config)


def configured(config: Config) -> Book:
    """Return the petnames of the configuration."""
    return Book(petnames.in_use(config, {}), config.dns.suffixes)


def load_strictly(
    config: Config, state: Path, *, timeout_s: float = CALL_S_MAX, client: ControlClient | None = None
) -> Book:
    """Return the petnames; Unavailable when they cannot be read."""
    client = client or ControlClient(state, timeout_s=timeout_s)
    if client.is_running():
        found = client.call("names")["names"]
        names = {name: Petname(entry["key"], entry["from"], entry.get("succeeded_by")) for name, entry in found.items()}
        return Book(names, config.dns.suffixes)
    return Book(petnames.in_use_at(config, state), config.dns.suffixes)
