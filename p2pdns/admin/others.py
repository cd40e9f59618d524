"""The verbs about other nodes and other publishers: `peers` and `put`.

Guarantees: an item that is put was signed by its key and is not older than the newest known of that key; it is put
once, and neither adopted as our own nor kept alive. Does not know sockets, nor where the item was saved.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from p2pdns.addresses import write_address
from p2pdns.admin.control import Handler, Progress
from p2pdns.clock import boot_now, unix_now
from p2pdns.errors import Unavailable, UsageError
from p2pdns.items.item import MutableItem, Present
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.families import Families

PEERS_SHOWN_MAX = 2_048  # At 250 bytes each they fit into a line; a full table of both families has some hundreds.


class HasEndpoint(Protocol):
    """The engine as these verbs use it; `p2pdns.engine.main.Engine`."""

    endpoint: Endpoint | Families


def family_of(endpoint: Endpoint) -> str:
    """Return the name of the one of the two DHTs that an endpoint is in (BEP 32)."""
    return "IPv6" if endpoint.node.settings.is_ipv6 else "IPv4"


def peers_of(engine: HasEndpoint) -> Handler:
    """Return the verb `peers`: every contact, the one that answered last first, by family."""

    async def peers(request: dict[str, Any], report: Progress) -> dict[str, Any]:
        now = boot_now()
        found, families = [], {}
        for endpoint in engine.endpoint.endpoints:
            node, family = endpoint.node, family_of(endpoint)
            families[family] = {
                "network": node.network,
                "node_id": node.node_id.hex(),
                "address": write_address(endpoint.address),
                "contacts": node.contact_count,
            }
            found += [
                {
                    "node_id": peer.node_id.hex(),
                    "address": write_address(peer.address),
                    "family": family,
                    "rtt_ms": None if peer.rtt_s is None else round(1_000 * peer.rtt_s, 1),
                    "silent_s": round(peer.silent_s, 1),
                    "known_s": round(peer.known_s, 1),
                    "failures": peer.failures,
                    "id_allowed": peer.is_allowed,
                }
                for peer in node.peers(now)
            ]
        return {"families": families, "peers": found[:PEERS_SHOWN_MAX]}

    return peers


def refuse_older(item: MutableItem, newest_seq: int | None, now: float) -> None:
    """Raise Unavailable for an item that must not be put: older than what is known of its key, or from the future."""
    place = str(item.key)
    if newest_seq is not None and item.seq < newest_seq:
        what = f"seq {item.seq} is lower than {newest_seq}, the newest known of this key"
        raise Unavailable(what, place=place, hint=f"the newer publication stands; p2pdns inspect {place} shows it")
    # The clock does not judge a seq that was adopted before.
    if Present(now, mark_seq=newest_seq).is_ahead(item.seq):
        hint = "set the clock if it is wrong; nodes refuse the item until its time has come"
        raise Unavailable("signed more than a day ahead of this machine's clock", place=place, hint=hint)


def put_of(engine: HasEndpoint, newest: Callable[[dict[str, Any], Progress], Awaitable[dict[str, Any]]]) -> Handler:
    """Return the verb `put`: puts somebody's signed item once; `newest` is the verb that tells a key's highest seq."""

    async def put(request: dict[str, Any], report: Progress) -> dict[str, Any]:
        text = request.get("item")
        try:
            item = MutableItem.read_file(bytes.fromhex(text if isinstance(text, str) else "-"))
        except ValueError:
            raise UsageError("missing, or not hexadecimal", place='put: "item"') from None
        known = await newest({"verb": "put", "key": str(item.key)}, report)
        refuse_older(item, known["seq"], unix_now())
        outcome = await engine.endpoint.put(
            item, on_progress=lambda sent, stored: report({"sent": sent, "stored": stored})
        )
        sent, stored = outcome.others
        return {"sent": sent, "stored": stored, "seq": item.seq, "refused": outcome.reasons}

    return put
