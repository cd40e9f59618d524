"""Which configuration and which state directory a verb works with, and what its flags change in them.

Guarantees: a flag wins over the file, and is checked by the same rules; the daemon of the system is found where the
user has none, and only in a directory that root has made. Does not know what the settings do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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

# Where a daemon of the system has its control socket: RuntimeDirectory=p2pdns, else StateDirectory=p2pdns.
SYSTEM_DIRECTORIES = (Path("/run/p2pdns"), Path("/var/lib/p2pdns"))

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """Add `-c FILE`."""
    help_text = "Configuration (default: $P2PDNS_CONFIG, else ~/.config/p2pdns/p2pdns.toml)."
    return click.option("-c", "--config", "config_flag", metavar="FILE", help=help_text)(command)


def state_option(command: Command) -> Command:
    """Add `--state DIR`."""
    help_text = (
        "State directory of the daemon (default: $STATE_DIRECTORY, else yours, else that of the system's daemon)."
    )
    return click.option("--state", "state_flag", metavar="DIR", help=help_text)(command)


def overlay_options(command: Command) -> Command:
    """Add `--network` and `--bootstrap`: which overlay, and whom to ask first."""
    command = click.option(
        "--bootstrap", multiple=True, metavar="ADDR:PORT", help="A node to begin with; may be given several times."
    )(command)
    return click.option(
        "--network", metavar="NAME", help="The overlay: mainline (the default), unnamed, or a name of your own."
    )(command)


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON with the same facts.")(command)


def usual_options(command: Command) -> Command:
    """Add `-c FILE`, `--state DIR` and `--json`."""
    for option in (json_option, state_option, config_option):
        command = option(command)
    return command


def load(config_flag: str | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of the flag, the environment or the user; the defaults where there is none."""
    path = configuration.resolve_config_path(config_flag, environ)
    return Config() if path is None else configuration.read(path)


def state_dir(
    state_flag: str | None, environ: Mapping[str, str] = os.environ, system: Sequence[Path] = SYSTEM_DIRECTORIES
) -> Path:
    """Return the directory of the daemon to ask: that of the flag, the environment or the user, else the system's.

    The system's is taken where no daemon of the user runs and that one lets this user ask.
    """
    trouble: ConfigError | None = None
    try:
        own = configuration.resolve_state_dir(state_flag, environ)
    except ConfigError as error:
        trouble = error
    else:
        if _is_named(state_flag, environ) or _has_daemon(own):
            return own
    directory, _ = _of_system(environ, system)
    if directory is not None:
        return directory
    if trouble is not None:
        raise trouble
    return own


def daemon(
    state_flag: str | None, environ: Mapping[str, str] = os.environ, system: Sequence[Path] = SYSTEM_DIRECTORIES
) -> ControlClient:
    """Return the way to the daemon, for a verb that is of no use without one.

    Unavailable where there is none but one of the system that does not let this user ask.
    """
    if not _is_named(state_flag, environ):
        directory, refusal = _of_system(environ, system)
        if directory is None and refusal is not None:
            try:
                own = configuration.resolve_state_dir(state_flag, environ)
            except ConfigError:
                raise refusal from None
            if not _has_daemon(own):
                raise refusal
    return _client(state_dir(state_flag, environ, system))


def _client(directory: Path) -> ControlClient:
    # Loaded late: `serve` needs no client, and is to mark its directory before a command typed behind it looks there.
    from p2pdns.admin.control import ControlClient

    return ControlClient(directory)


def _is_named(state_flag: str | None, environ: Mapping[str, str]) -> bool:
    return bool(state_flag or environ.get("STATE_DIRECTORY"))


def _has_daemon(directory: Path) -> bool:
    """Return whether a daemon runs or starts in a directory, or something is there that is to be told of."""
    try:
        return _client(directory).is_running() or is_marked(directory)
    except Unavailable:
        return True


def _of_system(environ: Mapping[str, str], system: Sequence[Path]) -> tuple[Path | None, Unavailable | None]:
    """Return the directory of the daemon of the system, or the first reason for which it cannot be asked."""
    runtime = runtime_directory(environ)
    refusal: Unavailable | None = None
    for directory in dict.fromkeys([*([] if runtime is None else [runtime]), *system]):
        if not _is_made_by_root(directory):
            continue
        try:
            if _client(directory).is_running():
                return directory, None
        except Unavailable as error:
            refusal = refusal or error
    return None, refusal


def _is_made_by_root(directory: Path) -> bool:
    """Return whether nobody but root, and this user, can have put a directory in its place."""
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
    """Return the configuration with what the flags say; ConfigError or UsageError names the flag at fault."""
    if dns:
        config = replace(config, dns=replace(config.dns, listen=_setting("--dns", "dns", "listen", list(dns))))
    if dht is not None:
        config = replace(config, dht=replace(config.dht, listen=_setting("--dht", "dht", "listen", dht)))
    if dht6 is not None:
        config = replace(config, dht=replace(config.dht, listen_ipv6=_setting("--dht6", "dht", "listen_ipv6", dht6)))
    if network is not None:
        config = replace(config, dht=replace(config.dht, network=_setting("--network", "dht", "network", network)))
    if bootstrap:
        nodes = _setting("--bootstrap", "dht", "bootstrap", list(bootstrap))
        config = replace(config, dht=replace(config.dht, bootstrap=nodes))
    if upstream is not None:
        try:
            servers = read_upstream(upstream)
        except ConfigError as trouble:
            raise UsageError(trouble.what, place="--upstream", hint="system, none or ADDR[:PORT]") from None
        config = replace(config, upstream=replace(config.upstream, servers=servers))
    return config


def _setting(flag: str, table: str, name: str, value: object) -> Any:
    # The readers of the file read the flag too, so that both mean the same.
    import json

    try:
        read = Config.from_json(json.dumps({table: {name: value}}))
    except ConfigError as trouble:
        raise UsageError(trouble.what, place=flag, hint=trouble.hint) from None
    return getattr(getattr(read, table), name)
