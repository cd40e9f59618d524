"""Addresses by which a node enters the public Mainline DHT without looking up a name.

Public sources of 2026 give them for two host names that BitTorrent clients begin with: `dht.transmissionbt.com` (of
Transmission) and `dht.libtorrent.org` (of libtorrent). They report the IPv4 addresses as answering in July and August;
the IPv6 ones rest on a single document. We have asked none of them. `router.bittorrent.com`, `router.utorrent.com` and
`dht.aelitis.com`, which the same sources report as dead, are left out. Such addresses change their owners within years,
so they are asked only when no saved and no listed contact answers; a find_node to the wrong host does no harm.

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
