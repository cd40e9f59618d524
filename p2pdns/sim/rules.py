"""Kinds of trouble on the network: cuts in one direction, partitions, hosts behind an address translator; and a tap.

Guarantees: each decides by the two ends of a datagram and by earlier datagrams, never by the content. Does not
know nodes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

from p2pdns.sim.network import LOST, Datagram, Fate

# Less than the two minutes that RFC 4787 §4.3 asks for: a world should not be kinder than the network.
MAPPING_S = 30.0
MAPPINGS_MAX = 1_024  # Of one host, as cheap routers have; the oldest goes.


class Cut:
    """Loses all datagrams from senders to receivers; the other way is open."""

    def __init__(self, senders: Iterable[str], receivers: Iterable[str]) -> None:
        self._senders = frozenset(senders)
        self._receivers = frozenset(receivers)

    def __call__(self, datagram: Datagram) -> Fate | None:
        return LOST if self.parts(datagram.sender[0], datagram.receiver[0]) else None

    def parts(self, sender: str, receiver: str) -> bool:
        """Return whether nothing gets from one host to the other."""
        return sender in self._senders and receiver in self._receivers


class Partition:
    """Each group of hosts hears only itself; hosts in no group are one more group."""

    def __init__(self, *groups: Iterable[str]) -> None:
        self._group_of = {host: number for number, group in enumerate(groups) for host in group}

    def __call__(self, datagram: Datagram) -> Fate | None:
        return LOST if self.parts(datagram.sender[0], datagram.receiver[0]) else None

    def parts(self, sender: str, receiver: str) -> bool:
        """Return whether nothing gets from one host to the other."""
        return self._group_of.get(sender) != self._group_of.get(receiver)


class Slow:
    """Delays all datagrams from and to some hosts, as a train in a tunnel does; none is lost."""

    def __init__(self, hosts: Iterable[str], extra_s: float) -> None:
        self._hosts = frozenset(hosts)
        self._extra_s = extra_s

    def __call__(self, datagram: Datagram) -> Fate | None:
        return (self._extra_s,) if self.parts(datagram.sender[0], datagram.receiver[0]) else None

    def parts(self, sender: str, receiver: str) -> bool:
        """Return whether a reply may come after its asker has stopped waiting."""
        return sender in self._hosts or receiver in self._hosts


class Translator:
    """Hosts behind address translators: they hear only addresses that they have sent to a moment ago."""

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        self._sent_at: dict[str, OrderedDict[object, float]] = {host: OrderedDict() for host in hosts}

    def add(self, host: str) -> None:
        """Put one more host behind a translator of its own."""
        self._sent_at[host] = OrderedDict()

    def __call__(self, datagram: Datagram) -> Fate | None:
        mappings = self._sent_at.get(datagram.sender[0])
        if mappings is not None:
            mappings[datagram.receiver] = datagram.sent_at
            mappings.move_to_end(datagram.receiver)
            while len(mappings) > MAPPINGS_MAX:
                mappings.popitem(last=False)
        opened = self._sent_at.get(datagram.receiver[0])
        if opened is None:
            return None
        sent_at = opened.get(datagram.sender)
        return LOST if sent_at is None or datagram.sent_at - sent_at > MAPPING_S else None


class Tap:
    """Decides nothing, and counts the datagrams and bytes on their way to each host."""

    def __init__(self) -> None:
        self.datagrams: Counter[str] = Counter()
        self.size_bytes: Counter[str] = Counter()

    def __call__(self, datagram: Datagram) -> Fate | None:
        self.datagrams[datagram.receiver[0]] += 1
        self.size_bytes[datagram.receiver[0]] += len(datagram.data)
        return None


Trouble = Cut | Partition | Slow


def is_parted(rules: Iterable[object], one: str, other: str) -> bool:
    """Return whether some rule keeps two hosts from exchanging a request and its reply in time."""
    cuts = [rule for rule in rules if isinstance(rule, Trouble)]
    return any(cut.parts(one, other) or cut.parts(other, one) for cut in cuts)
