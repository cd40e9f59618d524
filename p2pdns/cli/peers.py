"""`peers`: shows the contacts of the running daemon, each as a block, in the form of `wg show`.

Guarantees: text and `--json` have the same facts. Does not know why a node is a contact.
"""

from __future__ import annotations

from typing import Any

import click

from p2pdns.cli import settings, ui
from p2pdns.cli.verbs import Verb
from p2pdns.errors import counted

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def length_text(seconds: float) -> str:
    """Return a length of time in its two largest units.

    >>> length_text(93784.5), length_text(61), length_text(3600), length_text(0.4)
    ('1 day, 2 hours', '1 minute, 1 second', '1 hour', 'less than a second')
    """
    left = int(seconds)
    parts: list[str] = []
    for name, size in _UNITS:
        count, left = divmod(left, size)
        if count and len(parts) < 2:
            parts.append(counted(count, name))
        elif parts:
            break
    return ", ".join(parts) or "less than a second"


def _show_peer(peer: dict[str, Any]) -> None:
    ui.result(f"peer: {peer['node_id']}")
    pairs = {
        "address:": peer["address"],
        "last answer:": f"{length_text(peer['silent_s'])} ago",
        "round trip:": "not measured yet" if peer["rtt_ms"] is None else f"{peer['rtt_ms']:g} ms",
        "known for:": length_text(peer["known_s"]),
    }
    if peer["failures"]:
        pairs["unanswered:"] = f"{peer['failures']} since then"
    if not peer["id_allowed"]:
        pairs["id:"] = "does not fit the address (BEP 42)"
    ui.fields(pairs, indent="  ")


@click.command(cls=Verb)
@settings.state_option
@settings.json_option
def peers(state_flag: str | None, as_json: bool) -> None:
    """Show the contacts of the running daemon, as "wg show" does: the one that answered last comes first."""
    found = settings.daemon(state_flag).call("peers")
    facts = {"families": found["families"], "peers": found["peers"]}
    if as_json:
        ui.json_result(facts)
        return
    for family, node in facts["families"].items():
        ui.result(f"node: {node['node_id']}")
        pairs = {"network:": node["network"], "address:": node["address"], "contacts:": str(node["contacts"])}
        ui.fields({"family:": family, **pairs}, indent="  ")
    for peer in facts["peers"]:
        ui.result()
        _show_peer(peer)
    if not facts["peers"]:
        ui.note("no contacts yet; p2pdns status says what to do")
