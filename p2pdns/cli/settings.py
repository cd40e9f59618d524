"""The flags that verbs share, and the configuration, state directory and daemon that they name.

Guarantees: a flag wins over the file, and is checked by the same rules; the system's daemon is found where the user has
none, and only in a directory that root has made. Does not know what the settings do.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pdns import config as configuration
from p2pdns.config import Config
from p2pdns.config.readers import read_upstream
from p2pdns.directory import is_marked, runtime_directory
from p2pdns.errors import ConfigError, Unavailable, UsageError

if TYPE_CHECKING:
    from p2pdns.admin.control import ControlClient

# The system's daemon has its control socket in RuntimeDirectory=p2pdns, else in StateDirectory=p2pdns.
SYSTEM_DIRECTORIES = (Path("/run/p2pdns"), Path("/var/lib/p2pdns"))

Command = TypeVar("Command", bound=Callable[..., Any])
ClientOf = Callable[[Path], "ControlClient"]
"""Returns the client of the daemon of a directory."""


_CONFIG_HELP = "Configuration (default: $P2PDNS_CONFIG, else ~/.config/p2pdns/p2pdns.toml)."
_STATE_HELP = "State directory of the daemon (default: $STATE_DIRECTORY, else yours, else that of the system's daemon)."
_NETWORK_HELP = "The overlay: mainline (the default), unnamed, or a name of your own."
_BOOTSTRAP_HELP = "A node to begin with; may be given several times."
config_option = click.option("-c", "--config", "config_flag", metavar="FILE", help=_CONFIG_HELP)
state_option = click.option("--state", "state_flag", metavar="DIR", help=_STATE_HELP)
network_option = click.option("--network", metavar="NAME", help=_NETWORK_HELP)
bootstrap_option = click.option("--bootstrap", multiple=True, metavar="ADDR:PORT", help=_BOOTSTRAP_HELP)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON with the same facts.")


@dataclass(frozen=True)
class Given:
    """The shared flags of one call; the flags that a verb does not have are as if they were not given."""

    config_flag: str | None = None
    state_flag: str | None = None
    network: str | None = None
    bootstrap: tuple[str, ...] = ()
    as_json: bool = False

    @property
    def names_an_overlay(self) -> bool:
        return self.network is not None or bool(self.bootstrap)

    def config(self) -> Config:
        """Return the configuration, with what the flags change in it."""
        return with_flags(load(self.config_flag), network=self.network, bootstrap=self.bootstrap)

    def state(self, client_of: ClientOf | None = None) -> Path:
        """Return the state directory of the daemon to ask."""
        return state_dir(self.state_flag, client_of=client_of)


def _taking_given(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def called(**values: Any) -> Any:
        shared = {name: values.pop(name) for name in Given.__dataclass_fields__ if name in values}
        return command(given=Given(**shared), **values)

    return called


def usual_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-c FILE`, `--state DIR` and `--json`; the verb gets them as one value, `given`."""
    return config_option(state_option(json_option(_taking_given(command))))


def overlay_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the usual options, and `--network` and `--bootstrap` before `--json`."""
    command = network_option(bootstrap_option(json_option(_taking_given(command))))
    return config_option(state_option(command))


def load(config_flag: str | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of the flag, the environment or the user; the defaults where there is none."""
    path = configuration.resolve_config_path(config_flag, environ)
    return Config() if path is None else configuration.read(path)


def state_dir(
    state_flag: str | None,
    environ: Mapping[str, str] = os.environ,
    system: Sequence[Path] = SYSTEM_DIRECTORIES,
    client_of: ClientOf | None = None,
) -> Path:
    """Return the directory of the daemon to ask: that of the flag, the environment or the user, else the system's.

    The system's daemon is asked only if it lets this user ask, and no daemon of the user runs. `client_of` makes the
    clients that ask who is there.
    """
    client_of = client_of or _client
    trouble: ConfigError | None = None
    try:
        own = configuration.resolve_state_dir(state_flag, environ)
    except ConfigError as error:
        trouble = error
    else:
        if _is_named(state_flag, environ) or _has_daemon(own, client_of):
            return own
    directory, _ = _of_system(environ, system, client_of)
    if directory is not None:
        return directory
    if trouble is not None:
        raise trouble
    return own


def daemon(
    state_flag: str | None, environ: Mapping[str, str] = os.environ, system: Sequence[Path] = SYSTEM_DIRECTORIES
) -> ControlClient:
    """Return the client of the daemon, for a verb that needs one.

    Unavailable if the only daemon is the system's, and it does not let this user ask.
    """
    if not _is_named(state_flag, environ):
        directory, refusal = _of_system(environ, system, _client)
        if directory is None and refusal is not None:
            try:
                own = configuration.resolve_state_dir(state_flag, environ)
            except ConfigError:
                raise refusal from None
            if not _has_daemon(own, _client):
                raise refusal
    return _client(state_dir(state_flag, environ, system))


def _client(directory: Path) -> ControlClient:
    # Loaded late: `serve` needs no client, and has to mark its directory before the next command looks there.
    from p2pdns.admin.control import ControlClient
    from p2pdns.cli import ui

    return ControlClient(directory, on_silence=ui.note)


def _is_named(state_flag: str | None, environ: Mapping[str, str]) -> bool:
    return bool(state_flag or environ.get("STATE_DIRECTORY"))


def _has_daemon(directory: Path, client_of: ClientOf) -> bool:
    """Return whether a daemon runs or starts in a directory; True too where the client reports a problem with it."""
    try:
        return client_of(directory).is_running() or is_marked(directory)
    except Unavailable:
        return True


def _of_system(
    environ: Mapping[str, str], system: Sequence[Path], client_of: ClientOf
) -> tuple[Path | None, Unavailable | None]:
    """Return the directory of the system's daemon, or the first reason why it cannot be asked."""
    runtime = runtime_directory(environ)
    refusal: Unavailable | None = None
    for directory in dict.fromkeys([*([] if runtime is None else [runtime]), *system]):
        if not _is_made_by_root(directory):
            continue
        try:
            if client_of(directory).is_running():
                return directory, None
        except Unavailable as error:
            refusal = refusal or error
    return None, refusal


def _is_made_by_root(directory: Path) -> bool:
    """Return whether only root or this user can have made a directory."""
    try:
        about = directory.parent.stat()
    except OSError:
        return False
    return about.st_uid in (0, os.geteuid()) and not about.st_mode & 0o022


def with_flags(
    config: Config,
    *,
    dns: Sequence[str] = (),
    dht: str | None = None,
    dht6: str | None = None,
    network: str | None = None,
    bootstrap: Sequence[str] = (),
    upstream: str | None = None,
) -> Config:
    """Return the configuration with the settings of the flags; ConfigError or UsageError names the flag at fault."""
    given = (
        ("--dns", "dns", "listen", list(dns) or None),
        ("--dht", "dht", "listen", dht),
        ("--dht6", "dht", "listen_ipv6", dht6),
        ("--network", "dht", "network", network),
        ("--bootstrap", "dht", "bootstrap", list(bootstrap) or None),
    )
    for flag, table, name, value in given:
        if value is not None:
            changed = replace(getattr(config, table), **{name: _setting(flag, table, name, value)})
            config = replace(config, **{table: changed})
    if upstream is not None:
        try:
            servers = read_upstream(upstream)
        except ConfigError as trouble:
            raise UsageError(trouble.what, place="--upstream", hint="system, none or ADDR[:PORT]") from None
        config = replace(config, upstream=replace(config.upstream, servers=servers))
    return config


def _setting(flag: str, table: str, name: str, value: object) -> Any:
    # The readers of the file read the flag too, so both have the same rules.
    import json

    try:
        read = Config.from_json(json.dumps({table: {name: value}}))
    except ConfigError as trouble:
        raise UsageError(trouble.what, place=flag, hint=trouble.hint) from None
    return getattr(getattr(read, table), name)
