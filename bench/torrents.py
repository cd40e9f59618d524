"""libtorrent as a peer of the benches: sessions on loopback that put items and get them, some of them dead.

It hands out the first value that it sees, and a value that it calls authoritative once every node it asked has
answered or is given up, fifteen seconds after the first silence; both are timed.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import libtorrent

from p2pdns.items.keys import SecretKey

VALUE = b"as many bytes as one of our packed zones has".ljust(200, b".")
SETTLE_S = 3.0
POLL_S, POLL_MS = 0.0005, 50
GET_S_MAX = 40.0
PUT_S_MAX = 40.0
AT_ONCE = 10  # Gets that wait beside each other: fifteen seconds each, one after the other, would take all day.


@dataclass
class Times:
    """Milliseconds to the first value and to the authoritative one; `lost` had no value."""

    first_ms: list[float] = field(default_factory=list)
    done_ms: list[float] = field(default_factory=list)
    lost: int = 0


# What makes a session's DHT work on loopback and go nowhere else; its limits stay.
ON_LOOPBACK = {
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_bootstrap_nodes": "",
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_prefer_verified_node_ids": False,
    "dht_enforce_node_id": False,
    "dht_ignore_dark_internet": False,
}
# Here all nodes are one address, which it would take for a flood.
WITHOUT_LIMITS = {
    "dht_block_ratelimit": 1_000_000,
    "dht_upload_rate_limit": 1_000_000_000,
    "alert_queue_size": 100_000,
    "alert_mask": libtorrent.alert.category_t.dht_notification,
}


def new_session(more: Mapping[str, object] = WITHOUT_LIMITS) -> libtorrent.session:
    """Return a session whose DHT works on loopback, with `more` settings."""
    settings = cast("libtorrent.settings_pack", {**libtorrent.default_settings(), **ON_LOOPBACK, **more})
    return libtorrent.session(settings)


def measure(nodes: int, gets: int, percent: int, seed: int) -> Times:
    """Have that many mutable items put, silence a share of the sessions, and get the items from living ones."""
    rng = random.Random(seed)
    sessions = [new_session() for _ in range(nodes)]
    ports = [session.listen_port() for session in sessions]
    for session, own in zip(sessions, ports, strict=True):
        for port in ports:
            if port != own:
                session.add_dht_node(("127.0.0.1", port))
    _settle(sessions)
    keys = [_put(rng.choice(sessions), rng.randbytes(32)) for _ in range(gets)]
    rng.shuffle(sessions)
    dead = nodes * percent // 100
    for session in sessions[:dead]:
        # Without its sockets it is as silent as a machine that was switched off.
        session.apply_settings({"enable_dht": False, "listen_interfaces": ""})
    _settle(sessions)
    times = Times()
    for start in range(0, gets, AT_ONCE):
        _get([(rng.choice(sessions[dead:]), key) for key in keys[start : start + AT_ONCE]], times)
    return times


def _settle(sessions: Sequence[libtorrent.session]) -> None:
    """Let pings and their answers come and go; there is no alert that says that they have."""
    time.sleep(SETTLE_S)
    for session in sessions:
        session.pop_alerts()


def _put(session: libtorrent.session, seed: bytes) -> bytes:
    """Have an item signed and put; return its key."""
    key = SecretKey.generate(seed).zone_key.raw
    scalar = bytearray(hashlib.sha512(seed).digest())
    scalar[0] &= 248
    scalar[31] = scalar[31] & 63 | 64
    session.dht_put_mutable_item(bytes(scalar), key, VALUE, b"")
    give_up = time.monotonic() + PUT_S_MAX
    while time.monotonic() < give_up:
        session.wait_for_alert(POLL_MS)
        if any(isinstance(alert, libtorrent.dht_put_alert) for alert in session.pop_alerts()):
            break
    return key


def _get(asked: Sequence[tuple[libtorrent.session, bytes]], times: Times) -> None:
    """Get items beside each other, each by a session, and wait for all of their ends."""
    began: dict[bytes, float] = {}
    waited_for = {key for _, key in asked}
    seen: set[bytes] = set()
    for session, key in asked:
        began[key] = time.perf_counter()
        session.dht_get_mutable_item(key, b"")
    sessions = {id(session): session for session, _ in asked}.values()
    give_up = time.monotonic() + GET_S_MAX
    while waited_for and time.monotonic() < give_up:
        time.sleep(POLL_S)
        for session in sessions:
            for alert in session.pop_alerts():
                if not isinstance(alert, libtorrent.dht_mutable_item_alert) or alert.key not in waited_for:
                    continue
                key, took_ms = bytes(alert.key), (time.perf_counter() - began[alert.key]) * 1000
                if alert.item == VALUE and key not in seen:
                    seen.add(key)
                    times.first_ms.append(took_ms)
                if alert.authoritative:
                    waited_for.discard(key)
                    times.done_ms.append(took_ms)
    times.lost += len(asked) - len(seen)
