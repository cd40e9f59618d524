"""The public address at which contacts see this node, and the id that fits it (BEP 42).

Guarantees: a prefix has one vote, and only a public address that was told from a public one is a vote; only a majority
over at least five prefixes moves the id, at most once an hour. Does not know how contacts are found again under a new
id, nor what the address is used for.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pdns.addresses import Address, AddressClass, class_of, prefix_of
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.values import PublicReport
from p2pdns.dht.node.votes import Votes
from p2pdns.dht.routing.ids import ID_BYTES, id_for, is_id_allowed

VOTES_MIN = 5  # Distinct prefixes: one neighbour, or one network, must not be able to choose our id.
VOTERS_MAX = 64  # The latest prefixes that told us our address.
CHANGE_S_MIN = 3_600.0  # A new id leaves the items of the old place behind; an address that flaps must not cost that.


class Identity:
    """The votes on our address, and our id by them. `on_change` is called after each change of the id."""

    def __init__(self, core: Core, on_change: Callable[[float], None]) -> None:
        self._core = core
        self._on_change = on_change
        self._votes: Votes[str] = Votes(VOTERS_MAX)
        self._changed_at = float("-inf")

    @property
    def public_report(self) -> PublicReport:
        """The public address that most prefixes report."""
        if not self._votes:
            return PublicReport()
        host, count = self._votes.leader()
        return PublicReport(host, count, len(self._votes))

    def told(self, voter: Address, ours: Address, now: float) -> None:
        """Note at which address a contact sees us, and take an id that fits once enough of them agree."""
        core = self._core
        host = ours[0]
        # A voter in our own network does not see our public address.
        if class_of(host) is not AddressClass.PUBLIC or class_of(voter[0]) is not AddressClass.PUBLIC:
            return
        if (":" in host) != core.settings.is_ipv6:
            return
        self._votes.note(prefix_of(voter), host)
        seen_at, count = self._votes.leader()
        if len(self._votes) < VOTES_MIN or 2 * count <= len(self._votes) or is_id_allowed(core.node_id, seen_at):
            return
        if now - self._changed_at < CHANGE_S_MIN:
            core.counters["id-change-too-soon"] += 1
            return
        self._changed_at = now
        core.counters["id-changed"] += 1
        core.change_id(id_for(seen_at, core.entropy(ID_BYTES)), now)
        self._on_change(now)
