"""Whether strangers can reach this node, and at which address (BEP 42's `ip`, BEP 43's `ro`).

Guarantees: a public address is believed when contacts in three prefixes agree on it; a node behind a NAT stays
read-only until a query arrived from an address that it had not written to. Does not know the queries.
"""

from __future__ import annotations

from collections import Counter

from p2pdns.addresses import NON_PUBLIC, Address, AddressClass, class_of, is_non_public, prefix_of
from p2pdns.dht.node.votes import Votes

VOTES_MIN = 3  # Distinct prefixes that must agree; one where all of them are non-public, for a LAN is one place.
VOTERS_MAX = 64  # The latest prefixes that told us our address; an address that changed wins within so many.


class NatDetector:
    """Our address as the contacts see it, and whether we are read-only; `forced` decides the latter."""

    def __init__(self, bind_host: str, forced: bool | None) -> None:
        self._forced = forced
        self._bind_class = class_of(bind_host)
        self._votes: Votes[Address] = Votes(VOTERS_MAX)
        self._has_unsolicited = False
        self._reached_at: Address | None = None
        self.address: Address | None = None

    def told(self, voter: Address, ours: Address) -> None:
        """Note what address of ours a contact sees."""
        if class_of(ours[0]) in (AddressClass.UNUSABLE, AddressClass.DOCUMENTATION):
            return
        # Only a contact in private space can see us at a private address.
        if is_non_public(ours[0]) and not is_non_public(voter[0]):
            return
        if self._bind_class in NON_PUBLIC:
            # No vote is needed, and every address and port on loopback would have a vote of its own.
            self.address = ours
            return
        prefix = prefix_of(voter)
        if self._votes.word_of(prefix) == ours:
            return
        self._votes.note(prefix, ours)
        address, count = self._votes.leader()
        needed = 1 if is_non_public(address[0]) else VOTES_MIN
        if count < needed:
            self.address = None
            return
        if self._reached_at not in (None, address):
            # The machine moved, or its line has another address: queries at the old one show nothing about this one.
            self._reached_at, self._has_unsolicited = None, False
        self.address = address
        if self._has_unsolicited:
            self._reached_at = address

    def unsolicited_query_came(self) -> None:
        """Note a query from an address that we had not written to."""
        self._has_unsolicited = True
        self._reached_at = self.address

    @property
    def is_read_only(self) -> bool:
        """Whether our queries say `ro`: others should not put us into their tables."""
        if self._forced is not None:
            return self._forced
        if self._bind_class in NON_PUBLIC:
            return False
        if self.address is None:
            return True
        return not (self._has_unsolicited or is_non_public(self.address[0]))

    @property
    def reason(self) -> str:
        """Why the node is read-only, or why not, in words."""
        if self._forced is not None:
            return "the settings say so"
        if self._bind_class in NON_PUBLIC:
            return f"bound to a {self._bind_class.value} address"
        if self.address is None:
            hosts: Counter[str] = Counter()
            for (host, _), count in self._votes.counts().items():
                hosts[host] += count
            most_seen = hosts.most_common(1)
            if most_seen and most_seen[0][1] >= VOTES_MIN:
                return f"contacts see us at {most_seen[0][0]}, but not at one port: a NAT that lets no stranger in"
            return f"fewer than {VOTES_MIN} contacts in different networks agree on our address"
        host = self.address[0]
        if is_non_public(host):
            return f"contacts see us at {host}, a {class_of(host).value} address"
        if not self._has_unsolicited:
            return f"contacts see us at {host}, but no query of a stranger has arrived there yet"
        return f"contacts see us at {host}, and queries of strangers arrive there"
