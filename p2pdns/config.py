"""The configuration: a TOML file, or nothing at all, becomes one frozen `Config`.

Guarantees: a `Config` that exists has only known settings, each of the right type and within its limits, and
`Config()` is what a missing file means; an unknown setting, a wrong type or a value out of bounds is a
`ConfigError` that names the file, the line and the fix. `to_json` and `from_json` are each other's inverse.
Does not know what a setting is for (deploy/p2pdns.example.toml says it), nor whether a zone key is a point of the
curve: keys and names stay text here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from p2pdns.addresses import Address, read_network
from p2pdns.errors import ConfigError

FILE_BYTES_MAX = 1_048_576  # A megabyte holds ten thousand petnames; more is somebody else's file.
LIST_COUNT_MAX = 1024  # No list here is scanned cheaply enough to be longer.
NAMES_COUNT_MAX = 10_000  # Petnames typed or imported by one person.
DNS_PORT = 53
DHT_PORT = 6881  # The port that BEP 5 names first; the next free one is taken where it is in use.
DHT_LISTEN_DEFAULT = f"0.0.0.0:{DHT_PORT}"
MEBIBYTE = 1_048_576

_ZONE_KEY = re.compile(r"[ybndrfg8ejkmcpqxot1uwisza345h769]{52}", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_NETWORK_NAME = re.compile(r"[!-~]([ -~]{0,62}[!-~])?")


def read_address(text: str, default_port: int | None = None) -> Address:
    """Return the (host, port) of `127.0.0.1:5300` or `[::1]:5300`; the port may be left out where there is a default.

    >>> read_address("[::1]:5300")
    ('::1', 5300)
    >>> read_address("192.0.2.1", 53)
    ('192.0.2.1', 53)
    """
    match = re.fullmatch(r"\[([^\]]*)\](?::([^:]*))?|([^:]*)(?::([^:]*))?", text)
    if match is None:
        # Two colons and no bracket: an IPv6 address alone is clear, one with a port would be a guess.
        host, port_text = text, None
        if default_port is None:
            raise ConfigError(f'"{text}" has no port', hint=f"write an IPv6 address as [{text}]:PORT")
    else:
        host = match[1] if match[1] is not None else match[3]
        port_text = match[2] if match[1] is not None else match[4]
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(f'"{text}" is not an address', hint="write ADDR:PORT, as 127.0.0.1:5300") from None
    if port_text is None:
        if default_port is None:
            raise ConfigError(f'"{text}" has no port', hint=f"write ADDR:PORT, as {text}:5300")
        return str(parsed), default_port
    if not re.fullmatch(r"[0-9]{1,5}", port_text) or int(port_text) > 65535:
        raise ConfigError(f'"{text}": "{port_text}" is not a port', hint="a port is a number from 0 to 65535")
    return str(parsed), int(port_text)


def write_address(address: Address) -> str:
    """Return the text that `read_address` reads back.

    >>> write_address(("::1", 53))
    '[::1]:53'
    """
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_upstream(text: str) -> str | tuple[str, ...]:
    """Return what `--upstream` means: `system`, `none`, or one `ADDR[:PORT]`."""
    return text if text in ("system", "none") else (write_address(read_address(text, DNS_PORT)),)


# --- One reader a kind of setting: the TOML value in, the value of the Config out, or a ConfigError without a place.

Reader = Callable[[Any], Any]
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a table"}


Place = Callable[[str | None, str | None], str]
"""Where a table or a setting is written, for an error."""


def _wrong_type(value: object, wanted: str) -> ConfigError:
    return ConfigError(f"must be {wanted}, not {_KINDS.get(type(value), 'a date')}")


def _integer(low: int, high: int) -> Reader:
    def read_integer(value: Any) -> int:
        # In Python, True is an int; in a configuration it is a mistake.
        if type(value) is not int:
            raise _wrong_type(value, "a whole number")
        if not low <= value <= high:
            raise ConfigError(f"{value} is out of bounds", hint=f"from {low} to {high}")
        return value

    return read_integer


def _near(word: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f'did you mean "{near[0]}"?' if near else None


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _wrong_type(value, "text")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong_type(value, "true or false")
    return value


def _choice(*words: str) -> Reader:
    def read_choice(value: Any) -> str:
        if _text(value) not in words:
            raise ConfigError(f'"{value}" is not a choice', hint=_near(value, words) or f"one of {', '.join(words)}")
        return str(value)

    return read_choice


def _list_of(read_one: Reader) -> Reader:
    def read_list(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _wrong_type(value, "a list")
        if len(value) > LIST_COUNT_MAX:
            raise ConfigError(f"{len(value)} entries, {LIST_COUNT_MAX} allowed")
        return tuple(read_one(entry) for entry in value)

    return read_list


def _address(default_port: int | None = None) -> Reader:
    return lambda value: write_address(read_address(_text(value), default_port))


def _bootstrap(value: Any) -> str:
    host, port = read_address(_text(value))
    if port == 0:
        raise ConfigError(f'"{value}" has port 0', hint="write the port that the other node listens on")
    return write_address((host, port))


def _network(value: Any) -> str:
    return str(read_network(_text(value)))


def _upstream(value: Any) -> str | tuple[str, ...]:
    if type(value) is str:
        if value in ("system", "none"):
            return value
        raise ConfigError(
            f'"{value}" is not a choice', hint=f'"system", "none" or a list of addresses, as ["{value or "192.0.2.1"}"]'
        )
    servers: tuple[str, ...] = _list_of(_address(DNS_PORT))(value)
    return servers or "none"


def _suffix(value: Any) -> str:
    text = _text(value).strip(".").lower()
    labels = text.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or len(text) > 100:
        raise ConfigError(f'"{value}" is not a suffix', hint='labels of letters, digits and "-", as p2p.alt')
    if _ZONE_KEY.fullmatch(labels[-1]):
        raise ConfigError(f'"{value}" ends in a zone key', hint="zone keys are answered without a suffix")
    return text


def _network_name(value: Any) -> str:
    if not _NETWORK_NAME.fullmatch(_text(value)):
        raise ConfigError(
            f'"{value}" is not a network', hint="mainline, unnamed, or a name of 1 to 64 ASCII characters"
        )
    return str(value)


def _zone_key(value: Any) -> str:
    text = _text(value).rstrip(".")
    if not _ZONE_KEY.fullmatch(text):
        raise ConfigError(f'"{value}" is not a zone key', hint="52 characters of z-base-32, as p2pdns pubkey prints")
    return text.lower()


def _trusted(value: Any) -> str:
    text = _text(value).rstrip(".").lower()
    if not _LABEL.fullmatch(text):
        raise ConfigError(f'"{value}" is neither a zone key nor a petname', hint="a petname is a name under [names]")
    return text


def read_petname(text: str) -> str:
    """Return a petname as it is kept: one label, lower case, not the shape of a zone key."""
    if not _LABEL.fullmatch(text):
        raise ConfigError(f'"{text}" is not a petname', hint='one label of letters, digits, "-" and "_", 63 at most')
    if _ZONE_KEY.fullmatch(text):
        raise ConfigError(f'"{text}" looks like a zone key', hint="a petname must be told from a zone key at a glance")
    return text.lower()


def _names(content: Any, place: Place) -> Mapping[str, str]:
    with _at(place("names", None)):
        if type(content) is not dict:
            raise _wrong_type(content, "a table")
        if len(content) > NAMES_COUNT_MAX:
            raise ConfigError(f"{len(content)} names, {NAMES_COUNT_MAX} allowed")
    names: dict[str, str] = {}
    for text, key in content.items():
        with _at(place("names", text)):
            petname = read_petname(text)
            if petname in names:
                raise ConfigError("there twice", hint="letter case does not make another name")
            names[petname] = _zone_key(key)
    return MappingProxyType(names)


def _setting(default: Any, read: Reader) -> Any:
    return field(default=default, metadata={"read": read})


# --- The tables. A setting is here because a room reads it; the example file says what for.


@dataclass(frozen=True)
class Dns:
    """What clients see: the front and the names that are ours."""

    listen: tuple[str, ...] = _setting(("127.0.0.1:5300",), _list_of(_address(DNS_PORT)))
    suffixes: tuple[str, ...] = _setting(("p2p.alt", "p2pdns.internal"), _list_of(_suffix))
    allow: tuple[str, ...] = _setting(("127.0.0.0/8", "::1/128"), _list_of(_network))
    udp_size_bytes_max: int = _setting(1232, _integer(512, 4096))


@dataclass(frozen=True)
class Dht:
    """The overlay: which one, where from, and with whom to begin."""

    network: str = _setting("mainline", _network_name)
    listen: str = _setting(DHT_LISTEN_DEFAULT, _address(DHT_PORT))
    bootstrap: tuple[str, ...] = _setting((), _list_of(_bootstrap))
    timeout_ms: int = _setting(1_000, _integer(10, 5_000))


@dataclass(frozen=True)
class Cache:
    """How much is remembered, and for how long."""

    answers_bytes_max: int = _setting(64 * MEBIBYTE, _integer(MEBIBYTE, 16_384 * MEBIBYTE))
    ttl_s_max: int = _setting(86_400, _integer(1, 604_800))
    stale_s_max: int = _setting(86_400, _integer(0, 259_200))


@dataclass(frozen=True)
class Upstream:
    """Who answers the names that are not ours."""

    servers: str | tuple[str, ...] = _setting("system", _upstream)
    trust_ad: bool = _setting(False, _flag)


@dataclass(frozen=True)
class Status:
    """What the daemon says about itself."""

    log_level: str = _setting("info", _choice("debug", "info", "warning", "error"))


@dataclass(frozen=True)
class Limits:
    """Bounds on what clients and strangers may take."""

    tcp_connections_max: int = _setting(150, _integer(1, 10_000))
    tcp_connections_per_client_max: int = _setting(20, _integer(1, 10_000))
    tcp_idle_ms: int = _setting(10_000, _integer(100, 600_000))
    store_items_max: int = _setting(16_384, _integer(100, 1_000_000))
    store_bytes_max: int = _setting(12 * MEBIBYTE, _integer(MEBIBYTE, 1_024 * MEBIBYTE))


@dataclass(frozen=True)
class Control:
    """Who may use the control socket."""

    group: str = _setting("", _text)


@dataclass(frozen=True)
class Zones:
    """What single zones may do."""

    trusted: tuple[str, ...] = _setting((), _list_of(_trusted))


_NO_NAMES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Config:
    """Every setting of a daemon, with a value. `Config()` has the defaults."""

    dns: Dns = field(default_factory=Dns)
    dht: Dht = field(default_factory=Dht)
    cache: Cache = field(default_factory=Cache)
    upstream: Upstream = field(default_factory=Upstream)
    status: Status = field(default_factory=Status)
    limits: Limits = field(default_factory=Limits)
    control: Control = field(default_factory=Control)
    zones: Zones = field(default_factory=Zones)
    names: Mapping[str, str] = field(default_factory=lambda: _NO_NAMES)

    def to_json(self) -> str:
        """Return the text that hands this configuration to a child process."""
        tables = {name: dataclasses.asdict(getattr(self, name)) for name in TABLES}
        return json.dumps({**tables, "names": dict(self.names)}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Config:
        """Return the Config that `to_json` wrote."""
        try:
            document = json.loads(text)
        except ValueError:
            raise ConfigError("not JSON", place="configuration from the supervisor") from None
        return _config(document, lambda table, name: "configuration from the supervisor")


TABLES: dict[str, Any] = {
    "dns": Dns,
    "dht": Dht,
    "cache": Cache,
    "upstream": Upstream,
    "status": Status,
    "limits": Limits,
    "control": Control,
    "zones": Zones,
}


def _config(document: Any, place: Place) -> Config:
    if type(document) is not dict:
        raise ConfigError("not a table", place=place(None, None))
    values: dict[str, Any] = {}
    for table, content in document.items():
        if table == "names":
            values[table] = _names(content, place)
        elif table in TABLES:
            values[table] = _table(table, content, place)
        else:
            raise _unknown_at_top(table, place)
    return Config(**values)


def _unknown_at_top(word: str, place: Place) -> ConfigError:
    # A setting written above every table is a frequent slip, and its table is known.
    home = [table for table, kind in TABLES.items() if word in {entry.name for entry in dataclasses.fields(kind)}]
    if home:
        return ConfigError("belongs in a table", place=place(None, word), hint=f"write it below [{home[0]}]")
    hint = _near(word, [*TABLES, "names"]) or f"the tables are {', '.join(TABLES)} and names"
    return ConfigError("unknown table or setting", place=place(word, None), hint=hint)


def _table(table: str, content: Any, place: Place) -> Any:
    kind = TABLES[table]
    if type(content) is not dict:
        raise ConfigError("must be a table", place=place(table, None), hint=f"write [{table}] on a line of its own")
    readers: dict[str, Reader] = {entry.name: entry.metadata["read"] for entry in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for word, value in content.items():
        if word not in readers:
            hint = _near(word, readers) or _elsewhere(word) or f"[{table}] has {', '.join(readers)}"
            raise ConfigError("unknown setting", place=place(table, word), hint=hint)
        with _at(place(table, word)):
            values[word] = readers[word](value)
    return kind(**values)


def _elsewhere(word: str) -> str | None:
    for table, kind in TABLES.items():
        if any(entry.name == word for entry in dataclasses.fields(kind)):
            return f"it belongs in [{table}]"
    return None


@contextlib.contextmanager
def _at(place: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as trouble:
        raise ConfigError(trouble.what, place=place, hint=trouble.hint) from None


def _line_of(text: str, table: str | None, word: str | None) -> int | None:
    """Return the line where a table or setting stands, as far as a look at line beginnings tells."""
    inside: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*\"?([^]\"]*?)\"?\s*\]", line)
        if header:
            inside = header[1]
            if word is None and inside == table:
                return number
            continue
        entry = re.match(r"\s*[\"']?([^\"'=.\s]+)[\"']?\s*[=.]", line)
        if entry and (entry[1], inside) in ((word, table), (table if word is None else word, None)):
            return number
    return None


def parse(text: str, path: str) -> Config:
    """Return the Config that a TOML text says; `path` is what errors call it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as trouble:
        words = str(trouble)
        where = re.search(r" \(at line (\d+), column \d+\)$", words)
        what = words[: where.start()] if where else words.replace(" (at end of document)", " at the end")
        place = f"{path}:{where[1]}" if where else path
        raise ConfigError(what[:1].lower() + what[1:], place=place, hint="the file is TOML") from None
    except RecursionError:
        raise ConfigError("nested too deeply", place=path) from None

    def place_of(table: str | None, word: str | None) -> str:
        line = _line_of(text, table, word)
        setting = " ".join(part for part in (f"[{table}]" if table else "", word or "") if part)
        return ": ".join(part for part in (f"{path}:{line}" if line else path, setting) if part)

    return _config(document, place_of)


def read(path: str) -> Config:
    """Return the Config of a file."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        near = _near(Path(path).name, _neighbours(path))
        raise ConfigError("no such file", place=path, hint=near or "leave out -c to run with the defaults") from None
    except OSError as trouble:
        raise ConfigError((trouble.strerror or "cannot be read").lower(), place=path) from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"over {FILE_BYTES_MAX} bytes", place=path)
    try:
        return parse(content.decode("utf-8"), path)
    except UnicodeDecodeError as trouble:
        line = content[: trouble.start].count(b"\n") + 1
        raise ConfigError("not UTF-8", place=f"{path}:{line}") from None


def _neighbours(path: str) -> list[str]:
    try:
        return sorted(entry.name for entry in Path(path).parent.iterdir())
    except OSError:
        return []


def resolve_config_path(flag: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the file to read: `-c`, else $P2PDNS_CONFIG, else the user's own where it exists, else None."""
    named = flag or environ.get("P2PDNS_CONFIG")
    if named:
        return named
    home = _home(environ)
    usual = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "p2pdns" / "p2pdns.toml" if home else None
    return str(usual) if usual and usual.exists() else None


def resolve_state_dir(flag: str | None, environ: Mapping[str, str]) -> Path:
    """Return the state directory: `--state`, else $STATE_DIRECTORY, else the user's own."""
    if flag:
        return Path(flag)
    # systemd gives a colon-separated list where a unit asks for several; the first is ours.
    if given := environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    if given := environ.get("XDG_STATE_HOME"):
        return Path(given) / "p2pdns"
    home = _home(environ)
    if home is None:
        raise ConfigError("no state directory is known: $HOME is not set", hint="say --state DIR")
    return home / ".local" / "state" / "p2pdns"


def _home(environ: Mapping[str, str]) -> Path | None:
    return Path(environ["HOME"]) if environ.get("HOME") else None
