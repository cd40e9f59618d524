"""One reader for each kind of setting: it takes the value of the TOML file and returns the value of the `Config`.

Guarantees: a value that a reader returns is valid; otherwise it raises a `ConfigError` that says what is wrong and what
to write instead. `Mistakes` adds the place. Does not know which setting it reads.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from p2pdns.addresses import read_address, read_network, write_address
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import MISTAKES_MAX, ConfigError, did_you_mean, together
from p2pdns.naming import is_plain_name, is_zone_key_text, read_petname, read_suffix

LIST_COUNT_MAX = 1024  # Some lists are scanned for each question; a longer one would slow all of them down.
NAMES_COUNT_MAX = 10_000  # Petnames typed or imported by one person.
ZONE_LINE_CHARACTERS_MAX = 4_096  # A TXT record of some strings; a longer one belongs in a zone.

_NETWORK_NAME = re.compile(r"[!-~]([ -~]{0,62}[!-~])?")

Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Spot:
    """The place of a mistake: in words, and as a line number where the text has lines."""

    text: str
    line: int | None = None


Place = Callable[[str | None, str | None], Spot]
"""Returns the place of a table or a setting. It walks over the file, so it is called for mistakes only."""


class Mistakes:
    """The mistakes found in a configuration so far; `end` raises them together."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._found: list[ConfigError] = []
        self._all: ConfigError | None = None

    @contextlib.contextmanager
    def at(self, table: str | None, word: str | None) -> Iterator[None]:
        """Collect every ConfigError raised inside, with the setting's place; raise them when there are too many."""
        try:
            yield
        except ConfigError as trouble:
            if trouble is self._all:
                raise
            spot = self._place(table, word)
            self._found += [
                ConfigError(mistake.what, place=spot.text, line=spot.line, hint=mistake.hint)
                for mistake in trouble.mistakes
            ]
        if len(self._found) > MISTAKES_MAX:
            self.end()

    def end(self) -> None:
        """Raise the mistakes that were found, if any."""
        if self._found:
            self._all = together(self._found)
            raise self._all


def read_upstream(text: str) -> str | tuple[str, ...]:
    """Return the servers that `--upstream` names: `system`, `none`, or one `ADDR[:PORT]`."""
    return text if text in ("system", "none") else (write_address(read_address(text, DNS_PORT)),)


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a fraction",
    str: "text",
    list: "a list",
    dict: "a table",
}
_WRITTEN = {
    "true or false": "write it without quotes",
    "a whole number": "write digits only, without quotes",
    "text": 'write it in quotes, as "…"',
    "a list": 'write it in square brackets, as ["…"]',
    "a table": "write [names] on a line of its own",
}


def _wrong_type(value: object, wanted: str) -> ConfigError:
    return ConfigError(f"must be {wanted}, not {_KINDS.get(type(value), 'a date')}", hint=_WRITTEN.get(wanted))


def integer(low: int, high: int) -> Reader:
    """Read a whole number within bounds."""

    def read_integer(value: Any) -> int:
        # `isinstance` would take True for a number.
        if type(value) is not int:
            raise _wrong_type(value, "a whole number")
        if not low <= value <= high:
            raise ConfigError(f"{value} is out of bounds", hint=f"from {low} to {high}")
        return value

    return read_integer


def text_value(value: Any) -> str:
    """Return a text as it is."""
    if type(value) is not str:
        raise _wrong_type(value, "text")
    return value


def flag(value: Any) -> bool:
    """Return true or false."""
    if type(value) is not bool:
        raise _wrong_type(value, "true or false")
    return value


def auto_or_flag(value: Any) -> str | bool:
    """Return true, false, or "auto", which lets the node find out by itself."""
    if type(value) is bool or value == "auto":
        return value  # type: ignore[no-any-return]
    hint = 'true, false or "auto"; only the last one has quotes'
    if type(value) is str:
        raise ConfigError(f'"{value}" is not a choice', hint=hint)
    raise ConfigError(_wrong_type(value, 'true, false or "auto"').what, hint=hint)


def choice(*words: str) -> Reader:
    """Read one of the words."""

    def read_choice(value: Any) -> str:
        if text_value(value) not in words:
            hint = did_you_mean(value, words) or f"one of {', '.join(words)}"
            raise ConfigError(f'"{value}" is not a choice', hint=hint)
        return str(value)

    return read_choice


def list_of(read_one: Reader) -> Reader:
    """Read a list; `read_one` reads each entry."""

    def read_list(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _wrong_type(value, "a list")
        if len(value) > LIST_COUNT_MAX:
            raise ConfigError(f"{len(value)} entries, {LIST_COUNT_MAX} allowed", hint="leave some out")
        entries, mistakes = [], []
        for entry in value:
            try:
                entries.append(read_one(entry))
            except ConfigError as trouble:
                mistakes.append(trouble)
        if mistakes:
            raise together(mistakes)
        return tuple(entries)

    return read_list


def address(default_port: int | None = None) -> Reader:
    """Read ADDR:PORT; the port may be left out where there is a default."""
    return lambda value: write_address(read_address(text_value(value), default_port))


def listen_addresses(default_port: int) -> Reader:
    """Read a list of ADDR:PORT. Port 0 may be there more than once: each stands for another free port."""

    def read(value: Any) -> tuple[str, ...]:
        found: tuple[str, ...] = list_of(address(default_port))(value)
        taken: set[str] = set()
        for text in found:
            # Without this check the system would report that another program uses the port.
            if text in taken:
                raise ConfigError(f'"{text}" is there twice', hint="leave one of them out")
            if not text.endswith(":0"):
                taken.add(text)
        return found

    return read


def ipv6_listen(default_port: int) -> Reader:
    """Read `auto`, `off`, or an IPv6 address as [ADDR]:PORT."""

    def read(value: Any) -> str:
        text = text_value(value)
        if text in ("auto", "off"):
            return text
        host, port = read_address(text, default_port)
        if ":" not in host:
            raise ConfigError(f'"{value}" is not an IPv6 address', hint=f'"auto", "off" or "[::]:{default_port}"')
        return write_address((host, port))

    return read


def bootstrap_address(value: Any) -> str:
    """Return the address of another node, which has a port."""
    host, port = read_address(text_value(value))
    if port == 0:
        raise ConfigError(f'"{value}" has port 0', hint="write the port that the other node listens on")
    return write_address((host, port))


def network_block(value: Any) -> str:
    """Return the canonical text of a block of addresses."""
    return str(read_network(text_value(value)))


def upstream_servers(value: Any) -> str | tuple[str, ...]:
    """Return `system`, `none`, or the addresses of a list."""
    if type(value) is str:
        if value in ("system", "none"):
            return value
        hint = f'"system", "none" or a list of addresses, as ["{value or "192.0.2.1"}"]'
        raise ConfigError(f'"{value}" is not a choice', hint=hint)
    servers: tuple[str, ...] = list_of(address(DNS_PORT))(value)
    if zero := next((text for text in servers if text.endswith(":0")), None):
        raise ConfigError(f'"{zero}": no server has port 0', hint=f"leave the port out for {DNS_PORT}")
    return servers or "none"


def suffix(value: Any) -> str:
    """Return a suffix in lower case, without dots at its ends."""
    return read_suffix(text_value(value))


def forwarded_name(value: Any) -> str:
    """Return a name in lower case, without a final dot; the resolver decides whether it is one that is kept here."""
    text = text_value(value).removesuffix(".")
    if not is_plain_name(text):
        hint = 'labels of letters, digits and "-", as home.arpa or 168.192.in-addr.arpa'
        raise ConfigError(f'"{value}" is not a name', hint=hint)
    return text.lower()


def network_name(value: Any) -> str:
    """Return the name of an overlay network."""
    if not _NETWORK_NAME.fullmatch(text_value(value)):
        hint = "mainline, unnamed, or a name of 1 to 64 ASCII characters"
        raise ConfigError(f'"{value}" is not a network', hint=hint)
    return str(value)


def _zone_key(value: Any) -> str:
    text = text_value(value).rstrip(".")
    if not is_zone_key_text(text):
        raise ConfigError(f'"{value}" is not a zone key', hint="52 characters of z-base-32, as p2pdns pubkey prints")
    return text.lower()


def private_zone(value: Any) -> str:
    """Return a zone key, a petname, or a name with a dot, in lower case; a zone key comes back without a final dot."""
    text = text_value(value)
    name = text.removesuffix(".")
    if not is_plain_name(name):
        hint = 'a petname is a name under [names]; a name of the ordinary DNS has a dot, as "lan."'
        raise ConfigError(f'"{value}" is neither a zone key, a petname nor a name', hint=hint)
    return (name if is_zone_key_text(name) else text).lower()


def file_path(value: Any) -> str:
    """Return an absolute path: a relative one would depend on the folder in which the daemon was started."""
    text = text_value(value)
    if not text.startswith("/") or "\0" in text:
        raise ConfigError(f'"{value}" is not an absolute path', hint="write it from / on, as /etc/p2pdns/ads.txt")
    return text


def zone_line(value: Any) -> str:
    """Return a line of a zone file; the resolver reads the record in it."""
    text = text_value(value)
    if not text.strip() or "\n" in text or len(text) > ZONE_LINE_CHARACTERS_MAX:
        hint = "one line of a zone file an entry, as router.lan. 300 IN A 192.168.1.1"
        raise ConfigError(f'"{text[:60]}" is not one line of a zone file', hint=hint)
    return text


def petnames(content: Any, mistakes: Mistakes) -> Mapping[str, str]:
    """Return the table of names: petname to zone key, both in lower case."""
    names: dict[str, str] = {}
    with mistakes.at("names", None):
        if type(content) is not dict:
            raise _wrong_type(content, "a table")
        if len(content) > NAMES_COUNT_MAX:
            raise ConfigError(f"{len(content)} names, {NAMES_COUNT_MAX} allowed", hint="leave some out")
        for text, key in content.items():
            with mistakes.at("names", text):
                petname = read_petname(text)
                if petname in names:
                    raise ConfigError("there twice", hint="letter case does not make another name")
                names[petname] = _zone_key(key)
    return MappingProxyType(names)


def setting(default: Any, read: Reader) -> Any:
    """Return a field of a table with its default and its reader."""
    return field(default=default, metadata={"read": read})
