"""What the configuration says of a node, as the node takes it.

Guarantees: the bounds of a timeout stay in order, however small the configured one is. Does not know the defaults of
anything else: they are the node's.
"""

from __future__ import annotations

from dataclasses import replace

from p2pdns.config import Dht
from p2pdns.dht.node import NodeSettings


def node_settings(config: Dht, bind_host: str) -> NodeSettings:
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
