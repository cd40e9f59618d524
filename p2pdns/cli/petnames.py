"""The petnames that hold here, as the words of a command line mean them.

Guarantees: where a daemon runs its own list counts, else that of the state directory; the configuration's names are
among them either way; a word with a final dot is never a petname. Does not know how petnames are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from p2pdns.admin import petnames
from p2pdns.admin.control import CALL_S_MAX, ControlClient
from p2pdns.admin.petnames import Petname
from p2pdns.config import Config
from p2pdns.errors import Unavailable, did_you_mean


@dataclass(frozen=True)
class Book:
    """Petnames, and the suffixes below which zones are found."""

    names: Mapping[str, Petname]
    suffixes: tuple[str, ...]

    @property
    def keys(self) -> dict[str, str]:
        """Every petname with its key."""
        return {name: entry.key for name, entry in self.names.items()}

    def name_of(self, key: str) -> str | None:
        """Return the first petname of a key, or None."""
        return next((name for name, entry in self.names.items() if entry.key == key), None)

    def shown(self, key: str) -> str:
        """Return the key, with its petname where it has one."""
        name = self.name_of(key)
        return key if name is None else f"{key} ({name})"

    def hint_for(self, text: str) -> str | None:
        """Return the hint that names the petname nearest to a word, or None when nothing is near.

        >>> Book({"alice": Petname("tkrq", "state")}, ()).hint_for("alise")
        'did you mean the petname "alice"?'
        """
        return did_you_mean(text.lower(), self.names, shown='the petname "{}"')

    def petname_in(self, text: str) -> str | None:
        """Return the petname that a word ends in, without a suffix or below one; None where it ends in none."""
        if text.endswith("."):
            return None
        last = self.without_suffix(text).rpartition(".")[2].lower()
        return last if last in self.names else None

    def without_suffix(self, text: str) -> str:
        """Return the word without the suffix that it ends in."""
        folded = text.lower().rstrip(".")
        suffix = max((s for s in self.suffixes if folded.endswith("." + s)), key=len, default=None)
        return text if suffix is None else text[: len(folded) - len(suffix) - 1]

    def full_name(self, text: str, *, by_key: bool = False) -> str:
        """Return the name to ask for: a petname gets a suffix, or with `by_key` its key, which every resolver knows.

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


def load(config: Config, state: Path, *, timeout_s: float = CALL_S_MAX) -> Book:
    """Return the petnames that hold here; those of a daemon or state that is not ours to ask are left out."""
    try:
        return load_strictly(config, state, timeout_s=timeout_s)
    except Unavailable:
        # The verb that asks has something else to do, and says what it misses when it misses it.
        return configured(config)


def configured(config: Config) -> Book:
    """Return the petnames that the configuration gives."""
    return Book(petnames.in_use(config, {}), config.dns.suffixes)


def load_strictly(config: Config, state: Path, *, timeout_s: float = CALL_S_MAX) -> Book:
    """Return the petnames that hold here; Unavailable when they cannot be known."""
    client = ControlClient(state, timeout_s=timeout_s)
    if client.is_running():
        found = client.call("names")["names"]
        names = {name: Petname(entry["key"], entry["from"]) for name, entry in found.items()}
        return Book(names, config.dns.suffixes)
    return Book(petnames.in_use(config, petnames.kept_in(state)), config.dns.suffixes)


def merged(config: Config, book: Book) -> Config:
    """Return the configuration with every petname of the book, for a node of our own."""
    return replace(config, names=book.keys)
