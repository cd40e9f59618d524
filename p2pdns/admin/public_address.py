"""The public address of this machine as contacts report it: the daemon's reply, and the command's reading of it.

Guarantees: an address that is not public, or of the other family, is never taken for one. Does not know what the
address is used for, nor how many prefixes must agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2pdns.addresses import AddressClass, class_of
from p2pdns.admin.control import ControlClient
from p2pdns.dht.node.values import PUBLIC_PREFIXES_MIN
from p2pdns.errors import FormatError

if TYPE_CHECKING:
    # A command that publishes through the daemon needs no event loop.
    from p2pdns.net.endpoint import Endpoint

FAMILIES = ("ipv4", "ipv6")


def family_of(endpoint: Endpoint) -> str:
    """Return the name of an endpoint's family."""
    return "IPv6" if endpoint.node.settings.is_ipv6 else "IPv4"


def reports_of(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return, for each family that a node has, what prefixes report.

    `address` is null until enough of them agree; `host` is what `count` of `prefixes` report so far.
    """
    reports = {family_of(endpoint).lower(): endpoint.node.public_report for endpoint in endpoints}
    return {
        family: {"address": one.address, "host": one.host, "count": one.vote_count, "prefixes": one.prefix_count}
        for family, one in reports.items()
    }


@dataclass(frozen=True)
class Reported:
    """A public address, or why there is none yet."""

    address: str | None = None
    known: str = ""


def ask_daemon(client: ControlClient) -> dict[str, Reported]:
    """Return what the daemon knows of the public address in each family; Unavailable when no daemon runs."""
    reply = client.call("public-address")
    return {family: _read(family, reply.get(family)) for family in FAMILIES}


def _read(family: str, facts: Any) -> Reported:
    if not isinstance(facts, dict):
        return Reported(known=f"the daemon has no {family.replace('ip', 'IP')} node")
    address, host, count = facts.get("address"), facts.get("host"), facts.get("count")
    if isinstance(address, str) and is_public(address, family):
        return Reported(address)
    if not isinstance(host, str) or not is_public(host, family):
        return Reported(known="no contact in another network has reported one so far")
    prefixes = facts.get("prefixes")
    if isinstance(count, int) and isinstance(prefixes, int) and count >= PUBLIC_PREFIXES_MIN:
        return Reported(known=f"only {count} of {prefixes} prefixes report {host}, and more than half must")
    return Reported(known=f"{count} of {PUBLIC_PREFIXES_MIN} prefixes report {host} so far")


def is_public(text: str, family: str) -> bool:
    """Return whether a text is a public address of a family.

    >>> is_public("93.184.216.34", "ipv4"), is_public("10.0.0.1", "ipv4"), is_public("93.184.216.34", "ipv6")
    (True, False, False)
    """
    try:
        return (":" in text) == (family == "ipv6") and class_of(text) is AddressClass.PUBLIC
    except (FormatError, ValueError):
        return False
