"""The configuration: a TOML file, or nothing at all, becomes one frozen `Config`.

Guarantees: a `Config` that exists has only known settings, each of the right type and within its limits, and
`Config()` is what a missing file means; an unknown setting, a wrong type or a value out of bounds is a
`ConfigError` that names the file, the line and the fix, and has all others of the file with it. `to_json` and
`from_json` are each other's inverse.
Does not know what a setting is for (deploy/p2pdns.example.toml says it), nor whether a zone key is a point of the
curve: keys and names stay text here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from p2pdns.addresses import read_address, write_address
from p2pdns.config.readers import (
    LIST_COUNT_MAX,
    Mistakes,
    Place,
    Reader,
    Spot,
    address,
    auto_or_flag,
    bootstrap_address,
    choice,
    file_path,
    flag,
    forwarded_name,
    integer,
    ipv6_listen,
    list_of,
    listen_addresses,
    network_block,
    network_name,
    petnames,
    private_zone,
    read_upstream,
    setting,
    suffix,
    text_value,
    upstream_servers,
    zone_line,
)
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import (
    KEY_FILE_HINT,
    KEY_FILE_MARK,
    KEY_FILE_TEXT,
    ConfigError,
    P2pdnsError,
    abridged,
    did_you_mean,
    hint_of,
    words_of,
)
from p2pdns.naming import DEFAULT_SUFFIXES, refuse_suffix_word

__all__ = [
    "DHT_LISTEN_DEFAULT",
    "DHT_PORT",
    "DNS_PORT",
    "FILE_BYTES_MAX",
    "LIST_COUNT_MAX",
    "TABLES",
    "Cache",
    "Config",
    "Control",
    "Dht",
    "Dns",
    "Limits",
    "Process",
    "RefusedConfig",
    "Status",
    "Upstream",
    "Zones",
    "from_descriptor",
    "lines_of",
    "newest_from_descriptor",
    "parse",
    "read",
    "read_address",
    "read_upstream",
    "resolve_config_path",
    "resolve_state_dir",
    "with_refusal",
    "write_address",
]

FILE_BYTES_MAX = 1_048_576  # A megabyte holds ten thousand petnames; more is somebody else's file.
DHT_PORT = 6881  # The port that BEP 5 names first; the next free one is taken where it is in use.
DHT_LISTEN_DEFAULT = f"0.0.0.0:{DHT_PORT}"
MEBIBYTE = 1_048_576
JSON_BYTES_MAX = 16 * MEBIBYTE  # Ten thousand petnames and all lists full take less than two.


# The tables. A setting is here because a room reads it; the example file says what for.


@dataclass(frozen=True)
class Dns:
    """What clients see: the front and the names that are ours."""

    listen: tuple[str, ...] = setting(("127.0.0.1:5300",), listen_addresses(DNS_PORT))
    suffixes: tuple[str, ...] = setting(DEFAULT_SUFFIXES, list_of(suffix))
    allow: tuple[str, ...] = setting(("127.0.0.0/8", "::1/128"), list_of(network_block))
    trusted_clients: tuple[str, ...] = setting((), list_of(network_block))
    udp_size_bytes_max: int = setting(1232, integer(512, 4096))
    require_cookies: bool = setting(False, flag)
    local_data: tuple[str, ...] = setting((), list_of(zone_line))
    block: tuple[str, ...] = setting((), list_of(file_path))
    block_except: tuple[str, ...] = setting((), list_of(file_path))
    block_answer: str = setting("nxdomain", choice("nxdomain", "zero"))
    forward_local: tuple[str, ...] = setting((), list_of(forwarded_name))
    browser_doh: str = setting("allow", choice("allow", "keep-off"))


@dataclass(frozen=True)
class Dht:
    """The overlay: which one, where from, and with whom to begin."""

    network: str = setting("mainline", network_name)
    listen: str = setting(DHT_LISTEN_DEFAULT, address(DHT_PORT))
    listen_ipv6: str = setting("auto", ipv6_listen(DHT_PORT))
    bootstrap: tuple[str, ...] = setting((), list_of(bootstrap_address))
    timeout_ms: int = setting(1_000, integer(10, 5_000))
    lan_discovery: str | bool = setting("auto", auto_or_flag)
    read_only: str | bool = setting("auto", auto_or_flag)
    far_bucket_sizes: tuple[int, ...] = setting((), list_of(integer(1, 1_024)))


@dataclass(frozen=True)
class Cache:
    """How much is remembered, and for how long."""

    answers_bytes_max: int = setting(64 * MEBIBYTE, integer(MEBIBYTE, 16_384 * MEBIBYTE))
    ttl_s_min: int = setting(0, integer(0, 3_600))
    ttl_s_max: int = setting(86_400, integer(1, 604_800))
    negative_ttl_s_max: int = setting(3_600, integer(1, 86_400))
    stale_s_max: int = setting(86_400, integer(0, 259_200))


@dataclass(frozen=True)
class Upstream:
    """Who answers the names that are not ours."""

    servers: str | tuple[str, ...] = setting("system", upstream_servers)
    trust_ad: bool = setting(False, flag)
    withhold_private: bool = setting(False, flag)


@dataclass(frozen=True)
class Status:
    """What the daemon says about itself."""

    log_level: str = setting("info", choice("debug", "info", "warning", "error"))


@dataclass(frozen=True)
class Limits:
    """Bounds on what clients and strangers may take."""

    tcp_connections_max: int = setting(150, integer(1, 10_000))
    tcp_connections_per_client_max: int = setting(20, integer(1, 10_000))
    tcp_idle_ms: int = setting(10_000, integer(100, 600_000))
    store_items_max: int = setting(16_384, integer(100, 1_000_000))
    store_bytes_max: int = setting(12 * MEBIBYTE, integer(MEBIBYTE, 1_024 * MEBIBYTE))


@dataclass(frozen=True)
class Control:
    """Who may use the control socket."""

    group: str = setting("", text_value)


@dataclass(frozen=True)
class Process:
    """As which user the daemon runs where root starts it."""

    user: str = setting("", text_value)


@dataclass(frozen=True)
class Zones:
    """What single zones may do."""

    private_zones: tuple[str, ...] = setting((), list_of(private_zone))


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
    process: Process = field(default_factory=Process)
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
        return _config(document, lambda table, name: Spot("configuration from the supervisor"))


def from_descriptor(fd: int) -> Config:
    """Return the Config that `to_json` wrote to a descriptor: a file, from its first byte, or a pipe, to its end."""
    return Config.from_json(_read_all(fd).partition("\n")[0])


class RefusedConfig(ConfigError):
    """What was to come after `in_force` was refused, which whoever has asked for it must hear."""

    def __init__(self, in_force: Config, what: str, *, place: str | None, hint: str | None) -> None:
        self.in_force = in_force
        super().__init__(what, place=place, hint=hint)


def newest_from_descriptor(fd: int) -> Config:
    """Return the same; `RefusedConfig` where a newer one was refused."""
    text, _, refusal = _read_all(fd).partition("\n")
    config = Config.from_json(text)
    try:
        facts = json.loads(refusal)
        what, place, hint = facts["what"], facts["place"], facts["hint"]
    except (ValueError, KeyError, TypeError):
        # Nothing, or the end of a longer text that is just being written over.
        return config
    raise RefusedConfig(config, what, place=place, hint=hint)


def with_refusal(config: Config, refusal: P2pdnsError) -> str:
    """Return the text that hands a configuration to a child process, and why no newer one came of a reload."""
    facts = {"what": refusal.what, "place": refusal.place, "hint": refusal.hint}
    return f"{config.to_json()}\n{json.dumps(facts)}"


def _read_all(fd: int) -> str:
    try:
        data = os.pread(fd, JSON_BYTES_MAX, 0)
    except OSError:
        with open(fd, "rb", closefd=False) as file:
            data = file.read(JSON_BYTES_MAX)
    return data.decode("utf-8", "replace")


TABLES: dict[str, Any] = {
    "dns": Dns,
    "dht": Dht,
    "cache": Cache,
    "upstream": Upstream,
    "status": Status,
    "limits": Limits,
    "control": Control,
    "process": Process,
    "zones": Zones,
}


def _config(document: Any, place: Place) -> Config:
    mistakes = Mistakes(place)
    with mistakes.at(None, None):
        if type(document) is not dict:
            raise ConfigError("not a table")
    mistakes.end()
    values: dict[str, Any] = {}
    for table, content in document.items():
        if table == "names":
            values[table] = petnames(content, mistakes)
        elif table in TABLES:
            values[table] = _table(table, content, mistakes)
        else:
            is_setting, what, hint = _unknown_at_top(table)
            with mistakes.at(*((None, table) if is_setting else (table, None))):
                raise ConfigError(what, hint=hint)
    config = Config(**{table: value for table, value in values.items() if value is not None})
    cache = config.cache
    with mistakes.at("cache", "ttl_s_min"):
        if cache.ttl_s_min > cache.ttl_s_max:
            what = f"{cache.ttl_s_min} is more than ttl_s_max, {cache.ttl_s_max}"
            raise ConfigError(what, hint="lower this one, or raise the other")
    for name in config.names:
        with mistakes.at("names", name):
            # Suffixes that are no suffixes were told, and the default ones are not those that were meant.
            refuse_suffix_word(name, config.dns.suffixes if values.get("dns", config.dns) is not None else ())
    mistakes.end()
    return config


def _unknown_at_top(word: str) -> tuple[bool, str, str]:
    """Return whether a word is a setting, what is wrong with it, and a hint."""
    # A setting written above every table is a frequent slip, and its table is known.
    home = [table for table, kind in TABLES.items() if word in {entry.name for entry in dataclasses.fields(kind)}]
    if home:
        return True, "belongs in a table", f"write it below [{home[0]}]"
    hint = did_you_mean(word, [*TABLES, "names"]) or f"the tables are {', '.join(TABLES)} and names"
    return False, "unknown table or setting", hint


def _table(table: str, content: Any, mistakes: Mistakes) -> Any:
    """Return what a table says; None where a setting of it does not hold."""
    kind = TABLES[table]
    readers: dict[str, Reader] = {entry.name: entry.metadata["read"] for entry in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    with mistakes.at(table, None):
        if type(content) is not dict:
            raise ConfigError("must be a table", hint=f"write [{table}] on a line of its own")
        for word, value in content.items():
            with mistakes.at(table, word):
                if word not in readers:
                    hint = did_you_mean(word, readers) or _elsewhere(word) or f"[{table}] has {', '.join(readers)}"
                    raise ConfigError("unknown setting", hint=hint)
                values[word] = readers[word](value)
        return kind(**values) if len(values) == len(content) else None
    return None


def _elsewhere(word: str) -> str | None:
    for table, kind in TABLES.items():
        if any(entry.name == word for entry in dataclasses.fields(kind)):
            return f"it belongs in [{table}]"
    return None


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


def lines_of(path: str) -> dict[tuple[str, str], int | None]:
    """Return the settings that a good file has, by table and name, each with its line where that is plain to see."""
    with Path(path).open("rb") as file:
        text = file.read(FILE_BYTES_MAX).decode("utf-8")
    document = tomllib.loads(text)
    return {(table, word): _line_of(text, table, word) for table, content in document.items() for word in content}


def parse(text: str, path: str) -> Config:
    """Return the Config that a TOML text says; `path` is what errors call it."""
    try:
        return _parsed(text, path)
    except ConfigError as trouble:
        if KEY_FILE_MARK in text:
            what = f"not a configuration; {KEY_FILE_TEXT}"
            raise ConfigError(what, place=path, hint=KEY_FILE_HINT) from None
        raise trouble from None


def _parsed(text: str, path: str) -> Config:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as trouble:
        words = str(trouble)
        where = re.search(r" \((?:at line (\d+), column \d+|at end of document)\)$", words)
        what = words[: where.start()] if where else words
        line = where[1] if where and where[1] else max(1, len(text.splitlines()))
        place = f"{path}:{line}"
        hint = "the file is TOML"
        raise ConfigError(what[:1].lower() + what[1:], place=place, line=int(line), hint=hint) from None
    except RecursionError:
        raise ConfigError("nested too deeply", place=path, hint="is it the right file?") from None

    def place_of(table: str | None, word: str | None) -> Spot:
        line = _line_of(text, table, word)
        setting = abridged(" ".join(part for part in (f"[{table}]" if table else "", word or "") if part))
        return Spot(": ".join(part for part in (f"{path}:{line}" if line else path, setting) if part), line)

    return _config(document, place_of)


def read(path: str) -> Config:
    """Return the Config of a file."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        near = did_you_mean(Path(path).name, _neighbours(path))
        raise ConfigError("no such file", place=path, hint=near or "leave out -c to run with the defaults") from None
    except OSError as trouble:
        raise ConfigError(words_of(trouble), place=path, hint=hint_of(trouble)) from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"over {FILE_BYTES_MAX} bytes", place=path, hint="is it the right file?")
    try:
        return parse(content.decode("utf-8"), path)
    except UnicodeDecodeError as trouble:
        line = content[: trouble.start].count(b"\n") + 1
        raise ConfigError("not UTF-8", place=f"{path}:{line}", hint="TOML is UTF-8; save it as that") from None


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
