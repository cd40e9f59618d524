"""The settings of node and resolver, from configuration and state: for a daemon, and for one command; and the settings
in which a new configuration differs.

Guarantees: the bounds of a timeout stay in order, however small the configured one is. Does not know the other defaults
(the node does), nor how a changed setting is taken over (the front and `engine.main` do that).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from p2pdns.config import Config, DhtTable
from p2pdns.dht.node.values import NodeSettings
from p2pdns.net.upstream.system import system_search_domains
from p2pdns.resolver.blocking import BlockedNames
from p2pdns.resolver.names import ResolverSettings

# The settings that the process was started with, and that its sockets, stores and key files were opened with.
AT_START_ONLY = ("dht.", "control.", "process.", "dns.listen", "limits.store_", "publish")


def node_settings(config: DhtTable, bind_host: str) -> NodeSettings:
    """Return the settings of a node that is bound to an address of this host."""
    timeout_s = config.timeout_ms / 1000
    usual = NodeSettings(
        bind_host=bind_host,
        # None lets the node find out.
        read_only=None if config.read_only == "auto" else bool(config.read_only),
        far_sizes=config.far_bucket_sizes,
    )
    return replace(
        usual,
        timeout_s_max=timeout_s,
        timeout_s_first=min(usual.timeout_s_first, timeout_s),
        timeout_s_min=min(usual.timeout_s_min, timeout_s),
    )


def short_lived_settings(config: DhtTable, bind_host: str) -> NodeSettings:
    """Return the settings of a node that looks up or puts for one command, and keeps nothing for others."""
    usual = node_settings(config, bind_host)
    return replace(usual, read_only=True, store=False, fills_table=False, far_sizes=())


def resolver_settings(config: Config, kept_names: Mapping[str, str], blocked: BlockedNames) -> ResolverSettings:
    """Return the resolver's settings. `kept_names` are the petnames of the state; those of the configuration win."""
    read = ResolverSettings.of(
        suffixes=config.dns.suffixes,
        petnames={**kept_names, **config.names},
        private_zones=config.zones.private_zones,
        local_data=config.dns.local_data,
        search_domains=system_search_domains(),
        forward_local=config.dns.forward_local,
    )
    return replace(
        read,
        stale_s=float(config.cache.stale_s_max),
        ttl_s_min=config.cache.ttl_s_min,
        withholds_upstreams=config.upstream.withhold_private,
        blocked=blocked,
        blocks_with_zeros=config.dns.block_answer == "zero",
        keeps_browsers=config.dns.browser_doh == "keep-off",
    )


def needs_restart(setting: str) -> bool:
    """Return whether a setting takes effect only at a start; the front or the engine takes over the others."""
    return setting.startswith(AT_START_ONLY)


def in_force(old: Config, new: Config) -> Config:
    """Return the new configuration, but with the old values of what only a restart takes over.

    So the next reload says again that these need a restart.
    """
    kept: dict[str, dict[str, Any]] = {}
    new = replace(new, publish=old.publish)
    for setting in filter(needs_restart, changed_settings(old, new)):
        table, name = setting.split(".")
        kept.setdefault(table, {})[name] = getattr(getattr(old, table), name)
    tables: dict[str, Any] = {table: replace(getattr(new, table), **values) for table, values in kept.items()}
    return replace(new, **tables)


def changed_settings(old: Config, new: Config) -> list[str]:
    """Return the settings that differ, as `table.setting`."""
    changed = []
    for table in fields(Config):
        before, after = getattr(old, table.name), getattr(new, table.name)
        if table.name in ("names", "publish"):
            changed += [table.name] if before != after else []
            continue
        names = [entry.name for entry in fields(before)]
        changed += [f"{table.name}.{name}" for name in names if getattr(before, name) != getattr(after, name)]
    return changed
