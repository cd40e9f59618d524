"""Where the public Mainline DHT can be entered without a name being looked up.

These are addresses that public sources of 2026 give for two host names that BitTorrent clients begin with,
`dht.transmissionbt.com` (Transmission's) and `dht.libtorrent.org` (libtorrent's). The IPv4 ones were reported there as
answering in July and August; the IPv6 ones rest on a single document. Nobody here has asked any of them. Left out are
`router.bittorrent.com`, `router.utorrent.com` and `dht.aelitis.com`, which the same sources reported as dead. Such
addresses change hands within years; therefore they are asked only when neither a saved nor a listed contact answers,
and a find_node that goes to the wrong host does no harm.

Guarantees: literals of public addresses only. Does not know when they are asked (`Discovery` does).
"""

from __future__ import annotations

from p2pdns.addresses import Address

BUILT_IN: tuple[Address, ...] = (
    ("212.129.33.59", 6881),  # dht.transmissionbt.com
    ("87.98.162.88", 6881),  # dht.transmissionbt.com
    ("185.157.221.247", 25401),  # dht.libtorrent.org, which listens on this port alone
    ("2001:41d0:203:4cca:5::", 6881),  # dht.transmissionbt.com
    ("2a02:752:0:18::128", 25401),  # dht.libtorrent.org
)
