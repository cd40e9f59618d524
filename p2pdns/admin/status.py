"""The facts of `status`: what an engine knows of itself.

Guarantees: every fact can be written as JSON, and none of them costs a look-up. Does not know how they are shown.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import p2pdns
from p2pdns.addresses import write_address
from p2pdns.admin.problems import kept_of, problems_of
from p2pdns.admin.public_address import family_of
from p2pdns.clock import boot_now
from p2pdns.directory import shown
from p2pdns.net.endpoint import Endpoint

if TYPE_CHECKING:
    from p2pdns.admin.commands import EngineParts


def status_of(engine: EngineParts, hint: str | None) -> dict[str, Any]:
    """Return the facts of an engine; `hint` says what to do where no contact is known."""
    state, node = engine.state, engine.node
    endpoints, commits = engine.endpoint.endpoints, state.reader.commits
    kept = kept_of(engine)
    return {
        "version": p2pdns.__version__,
        "pid": os.getpid(),
        "supervisor_pid": engine.supervisor_pid,
        "uptime_s": round(boot_now() - engine.started_at, 1),
        "state": state.directory and shown(state.directory),
        "network": node.network,
        "node_id": node.node_id.hex(),
        "dht_address": write_address(engine.endpoint.address),
        "dht_address_seen": node.address and write_address(node.address),
        "dns_addresses": list(engine.dns_addresses),
        "dht_addresses": [write_address(endpoint.address) for endpoint in endpoints],
        "families": {family_of(endpoint): _facts_of(endpoint) for endpoint in endpoints},
        "contacts": engine.contact_count,
        "contacts_hint": hint,
        "read_only": node.is_read_only,
        "read_only_reason": node.read_only_reason,
        "items_held": len(node.storage),
        "items_held_bytes": node.storage.size_bytes,
        "reader": {"keys": state.reader.mark_count, "kept_alive": len(kept)},
        "marks": {
            "with_items": state.reader.item_count,
            "commits": commits.count,
            "commits_ms": round(1000 * commits.seconds, 3),
            "commit_ms": round(1000 * commits.seconds / max(1, commits.count), 3),
        },
        "successions": {
            "commitments": state.reader.facts.commitment_count,
            "succeeded": state.reader.commitments.succeeded_count,
        },
        "zones_unconfirmed": engine.overlay.unconfirmed_count,
        "shards_at_hand": dict(zip(("items", "bytes"), engine.overlay.shards_at_hand, strict=True)),
        "publications_under_way": engine.publisher.waiting_count,
        "roll_back_protection": state.reader.roll_back_protection,
        "blocked_names": len(engine.block_lists.names),
        "front_connected": bool(engine.front_count),
        "upstream": {
            "setting": engine.config.upstream.servers,
            "servers": [write_address(server) for server in engine.upstreams.current.servers],
        },
        "zones": list(map(asdict, kept)),
        "tables": list(engine.tables.rows),
        "problems": list(map(asdict, problems_of(engine, kept))),
        "warnings": [
            *filter(None, [engine.clock_watch.warning, engine.upstreams.problem]),
            *state.warnings,
            *engine.block_lists.warnings,
            *engine.publisher.warnings,
        ],
        "counters": engine.counters,
    }


def _facts_of(endpoint: Endpoint) -> dict[str, Any]:
    node = endpoint.node
    return {
        "node_id": node.node_id.hex(),
        "address": write_address(endpoint.address),
        "address_seen": node.address and write_address(node.address),
        "public_address": node.public_report.address,
        "contacts": node.contact_count,
        "read_only": node.is_read_only,
        "read_only_reason": node.read_only_reason,
    }
