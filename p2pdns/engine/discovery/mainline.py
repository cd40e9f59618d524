"""Where the public Mainline DHT can be entered without a name being looked up.

These are the addresses behind three host names that BitTorrent clients begin with, as public sources gave them in
2026: `dht.transmissionbt.com` (Transmission's) and `dht.libtorrent.org` (libtorrent's), both reported as answering in
May and August 2026. Left out are `router.bittorrent.com`, `router.utorrent.com` and `dht.aelitis.com`, which were
reported as dead in the same places. Such addresses change hands within years; therefore they are asked only when
neither a saved nor a listed contact answers, and nobody is harmed by a find_node that goes to the wrong host.

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
