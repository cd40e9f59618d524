"""Questions to ordinary resolvers: which ones, in what order, and what of their replies is believed.

`servers` says which resolvers are meant, `system` follows those of the machine, `current` has those in force,
`standing` is what is known of each, `exchange` carries one query, `asking` says who is asked when, and `waiting` calls
it when that is. Guarantees: packets go to the configured servers and nowhere else. Does not know which names are ours:
its caller has decided that.
"""

from __future__ import annotations

from p2pdns.net.upstream.asking import ATTEMPTS_MAX, Upstream
from p2pdns.net.upstream.current import PROBE_AGAIN_S, Upstreams
from p2pdns.net.upstream.exchange import REPLY_RECORDS_MAX, Asking
from p2pdns.net.upstream.servers import (
    SEARCH_DOMAINS_MAX,
    SERVERS_MAX,
    read_server,
    servers_of,
    system_search_domains,
    system_servers,
)
from p2pdns.net.upstream.standing import FAILURES_MAX
from p2pdns.net.upstream.system import SystemServers

__all__ = [
    "ATTEMPTS_MAX",
    "FAILURES_MAX",
    "PROBE_AGAIN_S",
    "REPLY_RECORDS_MAX",
    "SEARCH_DOMAINS_MAX",
    "SERVERS_MAX",
    "Asking",
    "SystemServers",
    "Upstream",
    "Upstreams",
    "read_server",
    "servers_of",
    "system_search_domains",
    "system_servers",
]
