"""Which configuration and which state directory a verb works with, and what its flags change in them.

Guarantees: a flag wins over the file, and is checked by the same rules. Does not know what the settings do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from p2pdns import config as configuration
from p2pdns.config import Config
from p2pdns.errors import ConfigError, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """Add `-c FILE`."""
    help_text = "Configuration (default: $P2PDNS_CONFIG, else ~/.config/p2pdns/p2pdns.toml)."
    return click.option("-c", "--config", "config_flag", metavar="FILE", help=help_text)(command)


def state_option(command: Command) -> Command:
    """Add `--state DIR`."""
    help_text = "State directory of the daemon (default: $STATE_DIRECTORY, else ~/.local/state/p2pdns)."
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


def state_dir(state_flag: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the state directory of the flag, the environment or the user."""
    return configuration.resolve_state_dir(state_flag, environ)


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
            servers = configuration.read_upstream(upstream)
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
