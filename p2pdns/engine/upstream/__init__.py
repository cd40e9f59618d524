"""Questions to ordinary resolvers: which ones, in what order, and what of their replies is believed.

`servers` says which resolvers are meant, `asking` asks them. Guarantees: packets go to the configured servers and
nowhere else. Does not know which names are ours: whoever asks here has decided that.
"""

from __future__ import annotations

from p2pdns.engine.upstream.asking import (
    ATTEMPTS_MAX,
    FAILURES_MAX,
    REPLY_RECORDS_MAX,
    Asking,
    Upstream,
)
from p2pdns.engine.upstream.servers import (
    SEARCH_DOMAINS_MAX,
    SERVERS_MAX,
    read_server,
    servers_of,
    system_search_domains,
    system_servers,
)

__all__ = [
    "ATTEMPTS_MAX",
    "FAILURES_MAX",
    "REPLY_RECORDS_MAX",
    "SEARCH_DOMAINS_MAX",
    "SERVERS_MAX",
    "Asking",
    "Upstream",
    "read_server",
    "servers_of",
    "system_search_domains",
    "system_servers",
]
