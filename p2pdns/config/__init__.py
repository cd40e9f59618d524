"""The configuration: a TOML file, or nothing at all, becomes one frozen `Config`.

Guarantees: a `Config` has only known settings, each of the right type and within its limits; a missing file means
`Config()`. An unknown setting, a wrong type or a value out of bounds is a `ConfigError` that names the file, the line
and the fix, and that carries all other mistakes of the file. `from_json` is the inverse of `to_json`.
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

from p2pdns.config import published, readers
from p2pdns.config.published import PublishTable
from p2pdns.config.readers import Mistakes, Place, Reader, Spot, integer, list_of, setting
from p2pdns.dns.life import NEGATIVE_TTL_S_MAX
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

FILE_BYTES_MAX = 1_048_576  # A megabyte holds ten thousand petnames; a larger file is not a configuration.
DHT_PORT = 6881  # The port that BEP 5 names first; the next free one is taken where it is in use.
DHT_LISTEN_DEFAULT = f"0.0.0.0:{DHT_PORT}"
MEBIBYTE = 1_048_576
JSON_BYTES_MAX = 16 * MEBIBYTE  # Ten thousand petnames and all lists full take less than two.


# The tables. Each setting here is read by a room; the example file explains it.


@dataclass(frozen=True)
class DnsTable:
    """The DNS server, and the names that p2pdns answers itself."""

    listen: tuple[str, ...] = setting(("127.0.0.1:5300",), readers.listen_addresses(DNS_PORT))
    suffixes: tuple[str, ...] = setting(DEFAULT_SUFFIXES, list_of(readers.suffix))
    allow: tuple[str, ...] = setting(("127.0.0.0/8", "::1/128"), list_of(readers.network_block))
    trusted_clients: tuple[str, ...] = setting((), list_of(readers.network_block))
    udp_size_bytes_max: int = setting(1232, integer(512, 4096))
    require_cookies: bool = setting(False, readers.flag)
    local_data: tuple[str, ...] = setting((), list_of(readers.zone_line))
    block: tuple[str, ...] = setting((), list_of(readers.file_path))
    block_except: tuple[str, ...] = setting((), list_of(readers.file_path))
    block_answer: str = setting("nxdomain", readers.choice("nxdomain", "zero"))
    forward_local: tuple[str, ...] = setting((), list_of(readers.forwarded_name))
    browser_doh: str = setting("allow", readers.choice("allow", "keep-off"))


@dataclass(frozen=True)
class DhtTable:
    """The overlay: its name, the addresses that this node binds, and its bootstrap contacts."""

    network: str = setting("mainline", readers.network_name)
    listen: str = setting(DHT_LISTEN_DEFAULT, readers.address(DHT_PORT))
    listen_ipv6: str = setting("auto", readers.ipv6_listen(DHT_PORT))
    bootstrap: tuple[str, ...] = setting((), list_of(readers.bootstrap_address))
    timeout_ms: int = setting(1_000, integer(10, 5_000))
    lan_discovery: str | bool = setting("auto", readers.auto_or_flag)
    read_only: str | bool = setting("auto", readers.auto_or_flag)
    far_bucket_sizes: tuple[int, ...] = setting((), list_of(integer(1, 1_024)))


@dataclass(frozen=True)
class CacheTable:
    """How many answers are cached, and for how long."""

    answers_bytes_max: int = setting(64 * MEBIBYTE, integer(MEBIBYTE, 16_384 * MEBIBYTE))
    ttl_s_min: int = setting(0, integer(0, 3_600))
    ttl_s_max: int = setting(86_400, integer(1, 604_800))
    negative_ttl_s_max: int = setting(NEGATIVE_TTL_S_MAX, integer(1, 86_400))
    stale_s_max: int = setting(86_400, integer(0, 259_200))


@dataclass(frozen=True)
class UpstreamTable:
    """The resolvers that answer ordinary names."""

    servers: str | tuple[str, ...] = setting("system", readers.upstream_servers)
    trust_ad: bool = setting(False, readers.flag)
    withhold_private: bool = setting(False, readers.flag)


@dataclass(frozen=True)
class StatusTable:
    """The log."""

    log_level: str = setting("info", readers.choice("debug", "info", "warning", "error"))


@dataclass(frozen=True)
class LimitsTable:
    """Bounds on the resources that clients and other nodes may take."""

    tcp_connections_max: int = setting(150, integer(1, 10_000))
    tcp_connections_per_client_max: int = setting(20, integer(1, 10_000))
    tcp_idle_ms: int = setting(10_000, integer(100, 600_000))
    store_items_max: int = setting(16_384, integer(100, 1_000_000))
    store_bytes_max: int = setting(12 * MEBIBYTE, integer(MEBIBYTE, 1_024 * MEBIBYTE))


@dataclass(frozen=True)
class ControlTable:
    """The group that may use the control socket."""

    group: str = setting("", readers.text_value)


@dataclass(frozen=True)
class ProcessTable:
    """The user that the daemon becomes where root starts it."""

    user: str = setting("", readers.text_value)


@dataclass(frozen=True)
class ZonesTable:
    """Exceptions for single zones."""

    private_zones: tuple[str, ...] = setting((), list_of(readers.private_zone))


@dataclass(frozen=True)
class Config:
    """Every setting of a daemon, with a value. `Config()` has the defaults."""

    dns: DnsTable = field(default_factory=DnsTable)
    dht: DhtTable = field(default_factory=DhtTable)
    cache: CacheTable = field(default_factory=CacheTable)
    upstream: UpstreamTable = field(default_factory=UpstreamTable)
    status: StatusTable = field(default_factory=StatusTable)
    limits: LimitsTable = field(default_factory=LimitsTable)
    control: ControlTable = field(default_factory=ControlTable)
    process: ProcessTable = field(default_factory=ProcessTable)
    zones: ZonesTable = field(default_factory=ZonesTable)
    publish: tuple[PublishTable, ...] = ()
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> str:
        """Return the text that hands this configuration to a child process."""
        tables = {name: dataclasses.asdict(getattr(self, name)) for name in TABLES}
        published = [dataclasses.asdict(table) for table in self.publish]
        return json.dumps({**tables, "publish": published, "names": dict(self.names)}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Config:
        """Return the Config that `to_json` wrote."""
        try:
            document = json.loads(text)
        except ValueError:
            raise ConfigError("not JSON", place="configuration from the supervisor") from None
        return _config(document, lambda table, name: Spot("configuration from the supervisor"))


# The settings of each table, in the order of the classes above.
TABLES: dict[str, Any] = {
    entry.name: entry.default_factory
    for entry in dataclasses.fields(Config)
    if entry.name not in ("names", published.TABLE)
}


def from_descriptor(fd: int) -> Config:
    """Return the Config that `to_json` wrote to a descriptor: the first line of a file, or all bytes of a pipe."""
    return Config.from_json(_read_all(fd).partition("\n")[0])


class RefusedConfig(ConfigError):
    """A reload was refused, and `in_force` stays; the command that asked for the reload is told why."""

    def __init__(self, in_force: Config, what: str, *, place: str | None, hint: str | None) -> None:
        self.in_force = in_force
        super().__init__(what, place=place, hint=hint)


def newest_from_descriptor(fd: int) -> Config:
    """Return the same Config; RefusedConfig where the supervisor has refused a newer one."""
    text, _, refusal = _read_all(fd).partition("\n")
    config = Config.from_json(text)
    try:
        facts = json.loads(refusal)
        what, place, hint = facts["what"], facts["place"], facts["hint"]
    except (ValueError, KeyError, TypeError):
        # There is no second line, or the supervisor is just writing over a longer text.
        return config
    raise RefusedConfig(config, what, place=place, hint=hint)


def with_refusal(config: Config, refusal: P2pdnsError) -> str:
    """Return the text that hands a configuration to a child process, with the reason why a newer one was refused."""
    facts = {"what": refusal.what, "place": refusal.place, "hint": refusal.hint}
    return f"{config.to_json()}\n{json.dumps(facts)}"


def _read_all(fd: int) -> str:
    try:
        data = os.pread(fd, JSON_BYTES_MAX, 0)
    except OSError:
        with open(fd, "rb", closefd=False) as file:
            data = file.read(JSON_BYTES_MAX)
    return data.decode("utf-8", "replace")


def _config(document: Any, place: Place) -> Config:
    mistakes = Mistakes(place)
    with mistakes.at(None, None):
        if type(document) is not dict:
            raise ConfigError("not a table")
    mistakes.end()
    values: dict[str, Any] = {}
    for table, content in document.items():
        if table == "names":
            values[table] = readers.petnames(content, mistakes)
        elif table == published.TABLE:
            values[table] = published.read_tables(content, mistakes)
        elif table in TABLES:
            values[table] = _table(table, content, mistakes)
        elif home := _home_of(table):
            with mistakes.at(None, table):
                raise ConfigError("belongs in a table", hint=f"write it below [{home}]")
        else:
            with mistakes.at(table, None):
                known = [*TABLES, published.TABLE, "names"]
                hint = did_you_mean(table, known) or f"the tables are {', '.join(known[:-1])} and names"
                raise ConfigError("unknown table or setting", hint=hint)
    config = Config(**{table: value for table, value in values.items() if value is not None})
    cache = config.cache
    with mistakes.at("cache", "ttl_s_min"):
        if cache.ttl_s_min > cache.ttl_s_max:
            what = f"{cache.ttl_s_min} is more than ttl_s_max, {cache.ttl_s_max}"
            raise ConfigError(what, hint="lower this one, or raise the other")
    for name in config.names:
        with mistakes.at("names", name):
            # Where [dns] has a mistake, its suffixes are not known: a check against the defaults would be wrong.
            refuse_suffix_word(name, config.dns.suffixes if values.get("dns", config.dns) is not None else ())
    mistakes.end()
    return config


def _home_of(word: str) -> str | None:
    """Return the table that has a setting: people write settings above all tables, or into the wrong one."""
    return next((table for table, kind in TABLES.items() if word in kind.__dataclass_fields__), None)


def _table(table: str, content: Any, mistakes: Mistakes) -> Any:
    """Return the settings of a table; None where one of them is a mistake."""
    kind = TABLES[table]
    known: dict[str, Reader] = {entry.name: entry.metadata["read"] for entry in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    with mistakes.at(table, None):
        if type(content) is not dict:
            raise ConfigError("must be a table", hint=f"write [{table}] on a line of its own")
        for word, value in content.items():
            with mistakes.at(table, word):
                if word not in known:
                    home = _home_of(word)
                    elsewhere = f"it belongs in [{home}]" if home else f"[{table}] has {', '.join(known)}"
                    raise ConfigError("unknown setting", hint=did_you_mean(word, known) or elsewhere)
                values[word] = known[word](value)
        return kind(**values) if len(values) == len(content) else None
    return None


def _line_of(text: str, table: str | None, word: str | None) -> int | None:
    """Return the line of a table or setting, None where the beginnings of the lines do not tell it."""
    inside: str | None = None
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[?)\[\s*\"?([^]\"]*?)\"?\s*\]", line)
        if header:
            inside = header[2]
            if header[1]:
                # The tables of a list are told apart by their numbers.
                counts[inside] = counts.get(inside, 0) + 1
                if word is None and inside == table:
                    return number
                inside = f"{inside} {counts[inside]}"
            if word is None and inside == table:
                return number
            continue
        entry = re.match(r"\s*[\"']?([^\"'=.\s]+)[\"']?\s*[=.]", line)
        if entry and (entry[1], inside) in ((word, table), (table if word is None else word, None)):
            return number
    return None


def lines_of(path: str) -> dict[tuple[str, str], int | None]:
    """Return the settings of a file without mistakes, by table and name, each with its line where `_line_of` knows."""
    text = Path(path).read_text("utf-8")
    document = tomllib.loads(text)
    tables: dict[str, Any] = {}
    for name, content in document.items():
        if name == published.TABLE:
            tables.update({published.table_name(number): entry for number, entry in enumerate(content, 1)})
        else:
            tables[name] = content
    return {(table, word): _line_of(text, table, word) for table, content in tables.items() for word in content}


def parse(text: str, path: str) -> Config:
    """Return the Config of a TOML text; errors call the text `path`."""
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
