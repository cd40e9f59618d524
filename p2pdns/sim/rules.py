"""Kinds of trouble on the network: cuts in one direction, partitions, hosts behind an address translator.

Guarantees: each decides by the two ends of a datagram and by earlier datagrams, never by the content. Does not
know nodes.
"""

from __future__ import annotations

from collections import OrderedDict
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
        return LOST if datagram.sender[0] in self._senders and datagram.receiver[0] in self._receivers else None


class Partition:
    """Each group of hosts hears only itself; hosts in no group are one more group."""

    def __init__(self, *groups: Iterable[str]) -> None:
        self._group_of = {host: number for number, group in enumerate(groups) for host in group}

    def __call__(self, datagram: Datagram) -> Fate | None:
        ends = (self._group_of.get(host) for host in (datagram.sender[0], datagram.receiver[0]))
        return LOST if len({*ends}) == 2 else None


class Translator:
    """Hosts behind address translators: they hear only addresses that they have sent to a moment ago."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._sent_at: dict[str, OrderedDict[object, float]] = {host: OrderedDict() for host in hosts}

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
